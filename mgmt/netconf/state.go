package netconf

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// builtinState is the state of the server itself, for the modules that the
// schema has.
func (s *Server) builtinState() []binding.StateSource {
	var src []binding.StateSource
	if s.schema.Root.ChildByName("ietf-netconf-monitoring:netconf-state") != nil {
		src = append(src, (*monitoring)(s))
	}
	if s.schema.Root.ChildByName("ietf-yang-library:yang-library") != nil {
		src = append(src, library{s.schema})
	}
	if s.opt.Events != nil && s.schema.Root.ChildByName("nc-notifications:netconf") != nil {
		src = append(src, (*streams)(s))
	}
	return src
}

// A stateEdit writes state nodes by name. What a deviation took out of the
// schema is left out; the first error stays.
type stateEdit struct {
	schema *yang.Schema
	want   binding.Want
	edit   *data.Edit
	at     *yang.Node
	err    error
}

// child finds a child that the schema has and that is wanted.
func (e *stateEdit) child(name string) *yang.Node {
	if n := e.at.ChildByName(name); n != nil && e.err == nil && e.want.Subtree(n) {
		return n
	}
	return nil
}

// in writes a container.
func (e *stateEdit) in(name string, f func()) {
	n := e.child(name)
	if n == nil {
		return
	}
	if e.err = e.edit.Enter(n, data.Merge); e.err == nil {
		e.inside(n, f)
	}
}

// entry writes a list entry.
func (e *stateEdit) entry(name string, keys []string, f func()) {
	n := e.child(name)
	if n == nil {
		return
	}
	v := make([]yang.Value, len(keys))
	for i, k := range keys {
		if v[i], e.err = n.Keys[i].Type.Parse(k, e.schema.Names()); e.err != nil {
			return
		}
	}
	if e.err = e.edit.EnterEntry(n, v, data.Merge, data.Where{}); e.err == nil {
		e.inside(n, f)
	}
}

func (e *stateEdit) inside(n *yang.Node, f func()) {
	up := e.at
	e.at = n
	f()
	e.at = up
	e.edit.Leave()
}

// set writes a leaf or one value of a leaf-list.
func (e *stateEdit) set(name, text string) {
	if n := e.child(name); n != nil {
		e.err = e.edit.Set(n, text)
	}
}
