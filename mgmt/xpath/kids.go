package xpath

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// kids visits the children of up that are instances of d, defaults in use and
// empty containers included. It says false when stopped.
func (e *Eval) kids(up *Instance, d *yang.Node, yield func(*Instance) bool) bool {
	if !e.spend(0) {
		return false
	}
	if up.dummy || leafy(up.Schema) {
		return true
	}
	var dummy *Instance
	for i := range e.hides {
		h := &e.hides[i]
		if !h.covers(up, d) {
			continue
		}
		if h.dummy == nil {
			return true
		}
		if dummy = h.dummy; d.Kind != yang.List && d.Kind != yang.LeafList {
			return yield(dummy)
		}
	}
	switch n := up.container().Child(d).(type) {
	case nil:
		return e.implied(up, d, yield)
	case *data.Hidden:
		return true
	case *data.List:
		ok, passing := true, e.passing
		n.Each(func(key string, k data.Node) bool {
			if !e.spend(0) {
				ok = false
			} else if dummy != nil && dummy.Key == key {
				ok = yield(dummy)
			} else {
				mark := e.slab.n
				ok = yield(e.make(up, d, k, key))
				if passing {
					e.slab.n = mark
				}
			}
			return ok
		})
		return ok
	default:
		return yield(e.make(up, d, n, ""))
	}
}

// kid is kids for a node of which there is one at most, nil when there is none.
func (e *Eval) kid(up *Instance, d *yang.Node) *Instance {
	if !e.spend(0) || up.dummy || leafy(up.Schema) {
		return nil
	}
	for i := range e.hides {
		if h := &e.hides[i]; h.covers(up, d) {
			return h.dummy
		}
	}
	switch n := up.container().Child(d).(type) {
	case nil:
		if e.stands(up, d) {
			return e.make(up, d, nil, "")
		}
		return nil
	case *data.Hidden:
		return nil
	default:
		return e.make(up, d, n, "")
	}
}

func (h *hide) covers(up *Instance, d *yang.Node) bool {
	for _, n := range h.nodes {
		if n == d {
			return same(h.parent, up)
		}
	}
	return false
}

// child is kids for one entry of a list.
func (e *Eval) child(up *Instance, d *yang.Node, key string, yield func(*Instance) bool) bool {
	l, ok := up.container().Child(d).(*data.List)
	if !ok || up.dummy || len(e.hides) > 0 {
		return e.kids(up, d, func(i *Instance) bool { return i.Key != key || yield(i) })
	}
	if !e.spend(0) {
		return false
	}
	if n := l.Get(key); n != nil {
		return yield(e.make(up, d, n, key))
	}
	return true
}

// stands tells whether d is there without being in the data tree. State that
// nobody reported is not made up, so only configuration is.
func (e *Eval) stands(up *Instance, d *yang.Node) bool {
	if !d.Config {
		return false
	}
	switch d.Kind {
	case yang.Container:
		if d.Presence {
			return false
		}
	case yang.Leaf, yang.LeafList:
		if len(d.Defaults) == 0 {
			return false
		}
	default:
		return false
	}
	return inUse(up.container(), d) && e.allowed(up, d)
}

// implied visits what is there without being in the data tree.
func (e *Eval) implied(up *Instance, d *yang.Node, yield func(*Instance) bool) bool {
	if !e.stands(up, d) {
		return true
	}
	if d.Kind != yang.LeafList {
		return yield(e.make(up, d, nil, ""))
	}
	for _, v := range d.Defaults {
		if !yield(e.make(up, d, nil, v.Text)) {
			return false
		}
	}
	return true
}

// inUse tells whether the cases around d allow its default: something of the
// case is there, or it is the default case and nothing of the choice is (RFC
// 7950 sections 7.6.1 and 7.9.3).
func inUse(c *data.Container, d *yang.Node) bool {
	for p := d.Parent; p != nil && p != d.Up; p = p.Parent {
		if p.Kind != yang.Case {
			continue
		}
		mine, other := false, false
		if c != nil {
			for _, k := range c.Kids() {
				mine = mine || within(k.Schema(), p)
				other = other || within(k.Schema(), p.Parent)
			}
		}
		if !mine && (other || p.Parent.DefaultCase != p) {
			return false
		}
	}
	return true
}

func within(n, a *yang.Node) bool {
	for ; n != nil && n != a.Up; n = n.Parent {
		if n == a {
			return true
		}
	}
	return false
}

// allowed evaluates the conditions of a node that is not there, its own and
// those of the choices and cases around it.
func (e *Eval) allowed(up *Instance, d *yang.Node) bool {
	for n := d; n != nil && n != d.Up; n = n.Parent {
		for _, g := range e.eng.guards[n] {
			if !e.guard(g, up, nil) {
				return false
			}
		}
	}
	return true
}

// Allowed evaluates a condition below up, which is an instance of the data
// node above g.Node. at is the instance of g.Node, nil for one that is not
// there and for a condition on the parent.
func (e *Eval) Allowed(g *Guard, up, at *Instance) (bool, error) {
	e.Count++
	e.left = e.Steps
	mark := e.slab.n
	ok := e.guard(g, up, at)
	e.slab.n = mark
	if e.left < 0 {
		return false, ErrSteps
	}
	return ok, nil
}

// maxGuards bounds conditions that depend on defaults that depend on
// conditions.
const maxGuards = 32

func (e *Eval) guard(g *Guard, up, at *Instance) bool {
	if len(e.hides) >= maxGuards {
		return false
	}
	h := hide{parent: up, nodes: g.hides}
	ctx := up
	if !g.OnParent {
		ctx = e.make(up, g.Node, nil, "")
		ctx.dummy = true
		if at != nil {
			ctx.Key = at.Key
		}
		h.nodes, h.dummy = []*yang.Node{g.Node}, ctx
	}
	old := e.current
	e.hides, e.current = append(e.hides, h), ctx
	ok := e.boolean(g.Expr.root, cx{ctx, 1, 1})
	e.hides, e.current = e.hides[:len(e.hides)-1], old
	return ok
}

// children visits all children but text, in document order.
func (e *Eval) children(i *Instance, yield func(*Instance) bool) bool {
	if i.dummy || leafy(i.Schema) {
		return true
	}
	for _, d := range i.Schema.Data {
		if !e.kids(i, d, yield) {
			return false
		}
	}
	return true
}
