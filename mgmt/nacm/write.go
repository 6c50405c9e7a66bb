package nacm

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// maxDenied bounds the errors of one write.
const maxDenied = 100

// Writes tells what of a change from one tree to another the user may not do
// (RFC 8341 sections 3.2.5, 3.2.6 and 3.2.8): one error for each topmost node
// that may not come, go or change. It names no key that the user may not read.
// Nil means that all of it is permitted.
func (v *View) Writes(old, new *data.Container) data.Errors {
	if v.all || old == new {
		return nil
	}
	w := &writes{v: v}
	data.Diff(old, new, func(c data.Change) {
		switch {
		case len(w.errs) >= maxDenied:
		case c.Kind == data.Created:
			w.node(Create, c.Path, c.New)
		case c.Kind == data.Deleted:
			if !replaced(c) {
				w.node(Delete, c.Path, c.Old)
			}
		case !v.table(Update).permits(c.Path):
			w.deny(Update, c.Path)
		}
	})
	return w.errs
}

// replaced tells whether a node went because one of another case of its choice
// came: a side effect, which needs no right.
func replaced(c data.Change) bool {
	for _, slot := range c.Path.Schema.Rivals {
		if c.Parent != nil && c.Parent.Child(c.Path.Schema.Up.Data[slot]) != nil {
			return true
		}
	}
	return false
}

type writes struct {
	v    *View
	errs data.Errors
}

// node checks what came or went, with all below it.
func (w *writes) node(a Access, at *data.Path, n data.Node) {
	t := w.v.table(a)
	s := at.Schema
	if t.of[s.ID].clear || len(w.errs) >= maxDenied {
		return
	}
	c, inner := n.(*data.Container)
	if implied := s.Kind == yang.Container && !s.Presence; !implied && !t.permits(at) {
		w.deny(a, at)
		return
	}
	if !inner {
		return
	}
	for _, k := range c.Kids() {
		d := k.Schema()
		if t.of[d.ID].clear {
			continue
		}
		l, ok := k.(*data.List)
		if !ok {
			w.node(a, &data.Path{Up: at, Schema: d}, k)
			continue
		}
		l.Each(func(key string, e data.Node) bool {
			w.node(a, &data.Path{Up: at, Schema: d, Key: key, Entry: true}, e)
			return len(w.errs) < maxDenied
		})
	}
}

var verbs = map[Access]string{Create: "create", Update: "change", Delete: "delete"}

func (w *writes) deny(a Access, at *data.Path) {
	w.errs = append(w.errs, w.v.denied(a, at))
}

// denied is the error of a write.
func (v *View) denied(a Access, at *data.Path) *data.Error {
	return &data.Error{Tag: "access-denied", Path: v.shown(at).String(), Msg: v.name + " may not " + verbs[a] + " " + at.Schema.Name}
}

// shown gives of a path what may be told of it: up to the last entry that the
// user may read. Names of the schema are no secret, keys are.
func (v *View) shown(at *data.Path) *data.Path {
	ok := v.Readable(at)
	out := at
	for p := at; p != ok; p = p.Up {
		if p.Entry {
			out = p.Up
		}
	}
	return out
}
