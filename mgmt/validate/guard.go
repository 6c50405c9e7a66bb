package validate

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// offNode is a node in the new tree whose condition is false.
type offNode struct {
	path *data.Path // of a list without Entry: all its entries
	why  *xpath.Guard
}

// settle takes nodes out whose condition turned false, until all that is left
// may be there. A node that the change itself brought is an error instead.
func (v *Validator) settle(old, new *data.Container) (*data.Container, data.Errors, int) {
	count := 0
	for {
		r := v.begin(old, new)
		r.guards = true
		r.walk()
		count += r.e.Count
		if len(r.errs) > 0 || len(r.off) == 0 {
			return new, r.errs, count
		}
		off := topmost(r.off)
		for _, o := range off {
			if adds(o.path.In(old), o.path.In(new)) {
				r.fail(o.path, "unknown-element", "", "only there when "+o.why.Expr.Text,
					data.Info{Name: "bad-element", Value: o.path.Schema.Name})
			}
		}
		if len(r.errs) > 0 {
			return new, r.errs, count
		}
		new = without(new, off)
	}
}

// guard checks the nodes of a condition that are there below up.
func (r *run) guard(x *rule, up *xpath.Instance) {
	c, _ := up.Node.(*data.Container)
	if !r.guards || c == nil {
		return
	}
	if !x.guard.OnParent {
		if c.Child(x.guard.Node) == nil {
			return
		}
		r.e.Kids(up, x.guard.Node, func(i *xpath.Instance) bool {
			if ok, err := r.e.Allowed(x.guard, up, i); err != nil {
				r.tooMuch(i, err)
			} else if !ok {
				r.off = append(r.off, offNode{i.Path(), x.guard})
			}
			return true
		})
		return
	}
	tested := false
	for _, d := range x.covers {
		if c.Child(d) == nil {
			continue
		}
		if !tested {
			ok, err := r.e.Allowed(x.guard, up, nil)
			if err != nil {
				r.tooMuch(up, err)
			}
			if ok || err != nil {
				return
			}
			tested = true
		}
		r.off = append(r.off, offNode{&data.Path{Up: up.Path(), Schema: d}, x.guard})
	}
}

// turned handles that a condition may have another result than before: its
// nodes may have to be there now, and their defaults come or go.
func (r *run) turned(x *rule, up *xpath.Instance) {
	for _, d := range x.covers {
		if implicit(d) {
			r.again(up, d)
		}
	}
	if x.demands && !r.guards && !r.isNew(up) {
		r.required(up)
	}
}

// topmost drops nodes inside others, and those named twice.
func topmost(off []offNode) []offNode {
	all, reported := make(map[string]bool, len(off)), map[string]bool{}
	for _, o := range off {
		all[o.path.String()] = true
	}
	var out []offNode
	for _, o := range off {
		inside := false
		for p := o.path; p != nil && !inside; p = p.Up {
			inside = p != o.path && all[p.String()]
			if p.Entry { // the whole list may be off
				inside = inside || all[(&data.Path{Up: p.Up, Schema: p.Schema}).String()]
			}
		}
		if name := o.path.String(); !inside && !reported[name] {
			reported[name] = true
			out = append(out, o)
		}
	}
	return out
}

// adds tells whether new has anything that old has not, at one place.
func adds(old, new data.Node) bool {
	if new == nil || old == new {
		return false
	}
	if old == nil {
		return true
	}
	found := false
	switch n := new.(type) {
	case *data.Leaf:
		return n.Value != old.(*data.Leaf).Value
	case *data.Container:
		data.Diff(old.(*data.Container), n, func(c data.Change) { found = found || c.Kind != data.Deleted })
	case *data.List:
		o := old.(*data.List)
		n.Each(func(key string, e data.Node) bool {
			found = adds(o.Get(key), e)
			return !found
		})
	}
	return found
}

// without removes nodes from a tree.
func without(root *data.Container, off []offNode) *data.Container {
	e := data.Begin(root)
	for _, o := range off {
		depth := 0
		if !enter(e, root, o.path.Up, &depth) {
			panic("validate: no " + o.path.String())
		}
		remove(e, o.path, o.path.In(root))
		for range depth {
			e.Leave()
		}
	}
	return e.Done()
}

// enter walks an edit to a container that is there.
func enter(e *data.Edit, root *data.Container, p *data.Path, depth *int) bool {
	if p == nil {
		return true
	}
	if !enter(e, root, p.Up, depth) {
		return false
	}
	*depth++
	if !p.Entry {
		return e.Enter(p.Schema, data.None) == nil
	}
	c, ok := p.In(root).(*data.Container)
	return ok && e.EnterEntry(p.Schema, keysOf(c), data.None, data.Where{}) == nil
}

func keysOf(c *data.Container) []yang.Value {
	v := make([]yang.Value, len(c.S.Keys))
	for i, k := range c.S.Keys {
		v[i], _, _ = c.Value(k)
	}
	return v
}

// remove takes out one node, or all entries of a list. It cannot fail: what is
// not there any more went with another.
func remove(e *data.Edit, p *data.Path, n data.Node) {
	switch n := n.(type) {
	case *data.Leaf:
		_ = e.Leaf(n.S, n.Value, data.Remove, data.Where{})
	case *data.Container:
		if p.Entry {
			_ = e.EnterEntry(n.S, keysOf(n), data.Remove, data.Where{})
		} else {
			_ = e.Enter(n.S, data.Remove)
		}
		e.Leave()
	case *data.List:
		n.Each(func(key string, k data.Node) bool {
			remove(e, &data.Path{Up: p.Up, Schema: p.Schema, Key: key, Entry: true}, k)
			return true
		})
	}
}
