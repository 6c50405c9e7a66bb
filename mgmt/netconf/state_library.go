package netconf

import (
	"context"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/yang"
)

// library is the state of ietf-yang-library (RFC 8525): one set of modules,
// in one schema, for all datastores. Operational is not listed, as there is no
// operation that reads it by name (RFC 8526).
type library struct{ schema *yang.Schema }

// set names the module set and the schema.
const setName = "complete"

// State adds /yang-library.
func (l library) State(_ context.Context, w binding.Want, edit *data.Edit) error {
	e := &stateEdit{schema: l.schema, want: w, edit: edit, at: l.schema.Root}
	e.in("ietf-yang-library:yang-library", func() {
		e.entry("module-set", []string{setName}, func() {
			for _, m := range l.schema.Sorted() {
				if m.Implemented {
					e.entry("module", []string{m.Name}, func() {
						if m.Revision != "" {
							e.set("revision", m.Revision)
						}
						l.module(e, m)
						for _, f := range m.Features {
							e.set("feature", f)
						}
						for _, d := range m.Deviations {
							e.set("deviation", d)
						}
					})
				} else {
					e.entry("import-only-module", []string{m.Name, m.Revision}, func() { l.module(e, m) })
				}
			}
		})
		e.entry("schema", []string{setName}, func() { e.set("module-set", setName) })
		for _, ds := range []datastore.Name{datastore.Running, datastore.Candidate, datastore.Startup} {
			e.entry("datastore", []string{"ietf-datastores:" + ds.String()}, func() { e.set("schema", setName) })
		}
		e.set("content-id", l.schema.ID())
	})
	return e.err
}

func (l library) module(e *stateEdit, m *yang.Module) {
	e.set("namespace", m.Namespace)
	for _, sub := range m.Submodules {
		e.entry("submodule", []string{sub.Name}, func() {
			if sub.Revision != "" {
				e.set("revision", sub.Revision)
			}
		})
	}
}
