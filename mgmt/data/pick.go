package data

import "vrouter/mgmt/yang"

// Implied is a default in use that somebody asked for by name. It stands only
// in picked trees; in a datastore a default is not a node. Code that does not
// know the type sees nothing there.
type Implied struct {
	S     *yang.Node
	Value yang.Value
}

// Schema gives the leaf.
func (l *Implied) Schema() *yang.Node { return l.S }

// Partial tells whether c holds only what was picked of a container: a writer
// must not fill in the defaults of the rest.
func (c *Container) Partial() bool { return c.partial }

// A Picker builds the tree of some chosen nodes: each with all below it, with
// its ancestors, and with the keys of the list entries on the way, as answers
// to a filter need it (RFC 6241 sections 6.2.5 and 8.9.5). What is taken whole
// is shared with the source. A Picker is for one goroutine.
type Picker struct {
	id        uint64
	src, tree *Container
}

// Pick begins to pick from a tree.
func Pick(root *Container) *Picker {
	id := edits.Add(1)
	return &Picker{id, root, &Container{S: root.S, edit: id, partial: true}}
}

// Add picks a node and all below it. A path that leads nowhere picks nothing.
// Entries of a user-ordered list keep the order in which they were added.
func (p *Picker) Add(at *Path) {
	if at == nil {
		p.tree = p.src
		return
	}
	src, dst := p.open(at.Up)
	if src == nil || src == dst {
		return
	}
	n := src.Child(at.Schema)
	if l, ok := n.(*List); ok && at.Entry {
		if e := l.Get(at.Key); e != nil {
			p.list(dst, l.S).put(p.id, at.Key, e)
		}
	} else if n != nil {
		dst.put(n)
	}
}

// AddImplied picks a leaf or leaf-list entry that is not there for the default
// in use.
func (p *Picker) AddImplied(at *Path, v yang.Value) {
	src, dst := p.open(at.Up)
	switch {
	case dst == nil || src == dst:
	case at.Schema.Kind == yang.LeafList:
		p.list(dst, at.Schema).put(p.id, v.Text, &Implied{at.Schema, v})
	default:
		dst.put(&Implied{at.Schema, v})
	}
}

// Tree gives what was picked; the Picker is used up.
func (p *Picker) Tree() *Container {
	p.id = 0
	return p.tree
}

// open gives a container or entry and what was picked of it so far: the same
// pointer when all of it was. Containers that stand for defaults only have no
// source.
func (p *Picker) open(at *Path) (src, dst *Container) {
	if at == nil {
		return p.src, p.tree
	}
	up, into := p.open(at.Up)
	if into == nil {
		return nil, nil
	}
	if up != nil && up == into {
		c := childAt(up, at)
		return c, c
	}
	if src = childAt(up, at); src == nil && (at.Entry || at.Schema.Presence) {
		return nil, nil
	}
	if dst = childAt(into, at); dst != nil {
		return src, dst
	}
	dst = &Container{S: at.Schema, edit: p.id, partial: true}
	if !at.Entry {
		into.put(dst)
		return src, dst
	}
	dst.kids = append(dst.kids, src.kids[:len(at.Schema.Keys)]...)
	p.list(into, at.Schema).put(p.id, at.Key, dst)
	return src, dst
}

func childAt(c *Container, at *Path) *Container {
	if !at.Entry {
		return c.Sub(at.Schema)
	}
	e, _ := c.List(at.Schema).Get(at.Key).(*Container)
	return e
}

// list gives the list of a picked container that takes entries of s.
func (p *Picker) list(c *Container, s *yang.Node) *List {
	if d := c.List(s); d != nil {
		return d
	}
	d := &List{S: s, edit: p.id}
	if s.UserOrder {
		d.order = &order{}
	}
	c.put(d)
	return d
}

func (l *List) put(id uint64, key string, e Node) {
	l.tree.set(id, key, e)
	if l.order != nil {
		l.order.put(id, key, Where{})
	}
}

// Place gives a text that sorts as the entry stands among the others of its
// list: the key, or a place in the order of the user.
func (l *List) Place(key string) string {
	if l == nil || l.order == nil {
		return key
	}
	p, _ := l.order.pos.get(key)
	return p
}
