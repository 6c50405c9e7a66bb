package data

import (
	"slices"

	"vrouter/mgmt/yang"
)

// Op is an edit operation of RFC 6241 section 7.2.
type Op uint8

// The operations; None is only a default operation.
const (
	Merge Op = iota
	Replace
	Create
	Delete
	Remove
	None
)

// An Edit changes a tree by a walk over it: Enter a container or an entry,
// write Leaf values, Leave. It copies a node once, on its first real change,
// and then changes its own copy in place; the tree it began with stays as it
// was. State (config false) is written in the same way, by the server. An Edit
// is for one goroutine; drop it after an error.
type Edit struct {
	id    uint64
	stack []frame
}

type frame struct {
	s    *yang.Node
	c    *Container // nil: a container without presence that is not there yet
	key  string
	dead bool // deleted: what the edit says below does not count
}

// Begin starts an edit of a tree.
func Begin(root *Container) *Edit {
	return &Edit{id: edits.Add(1), stack: []frame{{s: root.S, c: root}}}
}

// Done gives the new tree: the same pointer when nothing changed. The Edit is
// used up.
func (e *Edit) Done() *Container {
	r := e.stack[0].c
	e.id = edits.Add(1) // what was built is frozen from here on
	return r
}

func (e *Edit) fail(tag, msg string, s *yang.Node, key string) error {
	return &Error{Tag: tag, Msg: msg, Path: e.path(s, key).String()}
}

// Path names where the edit stands; for errors, as it is not cheap.
func (e *Edit) Path() *Path { return e.path(nil, "") }

// PathOf names a child of where the edit stands.
func (e *Edit) PathOf(s *yang.Node) *Path { return e.path(s, "") }

func (e *Edit) path(s *yang.Node, key string) *Path {
	var p *Path
	for _, f := range e.stack[1:] {
		p = &Path{p, f.s, f.key, f.s.Kind == yang.List}
	}
	if s != nil {
		p = &Path{p, s, key, key != ""}
	}
	return p
}

// own makes frame i's container a copy of this edit, linked into its parent.
func (e *Edit) own(i int) *Container {
	f := &e.stack[i]
	if f.c != nil && f.c.edit == e.id {
		return f.c
	}
	c := &Container{S: f.s, edit: e.id}
	if f.c != nil {
		c.kids = append(make([]Node, 0, len(f.c.kids)+1), f.c.kids...)
	} else {
		e.rivals(i-1, f.s) // it comes into being
	}
	f.c = c
	if i > 0 {
		e.link(i-1, f.s, f.key, c)
	}
	return c
}

// link hangs a new container or entry into frame i.
func (e *Edit) link(i int, s *yang.Node, key string, c *Container) {
	if s.Kind == yang.List {
		e.list(i, s).tree.set(e.id, key, c)
	} else {
		e.own(i).put(c)
	}
}

func (c *Container) put(n Node) {
	i, ok := c.find(n.Schema().Slot)
	if ok {
		c.kids[i] = n
	} else {
		c.kids = slices.Insert(c.kids, i, n)
	}
}

func (c *Container) drop(s *yang.Node) {
	if i, ok := c.find(s.Slot); ok {
		c.kids = slices.Delete(c.kids, i, i+1)
	}
}

// list gives an own copy of a list of frame i, made when there is none.
func (e *Edit) list(i int, s *yang.Node) *List {
	p := e.own(i)
	l := p.List(s)
	if l == nil {
		l = &List{S: s, edit: e.id}
		if s.UserOrder {
			l.order = &order{}
		}
		p.put(l)
	} else if l.edit != e.id {
		c := *l
		c.edit = e.id
		if l.order != nil {
			o := *l.order
			c.order = &o
		}
		l = &c
		p.put(l)
	}
	return l
}

// rivals removes the nodes of other cases.
func (e *Edit) rivals(i int, s *yang.Node) {
	for _, slot := range s.Rivals {
		c := e.stack[i].c
		if c == nil {
			return
		}
		if _, ok := c.find(slot); ok {
			e.own(i).drop(s.Up.Data[slot])
		}
	}
}

func (e *Edit) push(f frame) error {
	e.stack = append(e.stack, f)
	return nil
}

// Enter goes into a container.
func (e *Edit) Enter(s *yang.Node, op Op) error {
	i := len(e.stack) - 1
	p := &e.stack[i]
	if p.dead {
		return e.push(frame{s: s, dead: true})
	}
	c := p.c.Sub(s)
	switch op {
	case Delete, Remove:
		if c == nil && op == Delete {
			return e.fail("data-missing", "does not exist", s, "")
		}
		if c != nil {
			e.own(i).drop(s)
		}
		return e.push(frame{s: s, dead: true})
	case None:
		if c == nil && s.Presence {
			return e.fail("data-missing", "does not exist", s, "")
		}
		return e.push(frame{s: s, c: c})
	case Create:
		if c != nil {
			return e.fail("data-exists", "exists already", s, "")
		}
	}
	e.push(frame{s: s, c: c})
	if op == Replace && c != nil {
		e.stack[i+1].c = nil
		if !s.Presence {
			e.own(i).drop(s) // comes back with its first child
		}
	}
	if s.Presence && e.stack[i+1].c == nil {
		e.own(i + 1)
	}
	return nil
}

// EnterEntry goes into a list entry. The key leaves are made here; key values
// need not be written again. w counts for user-ordered lists only. A state list
// without keys (keys is nil then) gets a new entry each time.
func (e *Edit) EnterEntry(s *yang.Node, keys []yang.Value, op Op, w Where) error {
	i := len(e.stack) - 1
	p := &e.stack[i]
	if p.dead {
		return e.push(frame{s: s, dead: true})
	}
	key := ""
	if len(s.Keys) > 0 {
		key = Key(keys...)
	} else {
		key = p.c.List(s).free("")
	}
	c, _ := p.c.List(s).Get(key).(*Container)
	switch op {
	case Delete, Remove:
		if c != nil {
			e.delEntry(i, s, key)
		} else if op == Delete {
			return e.fail("data-missing", "does not exist", s, key)
		}
		return e.push(frame{s: s, key: key, dead: true})
	case None:
		if c == nil {
			return e.fail("data-missing", "does not exist", s, key)
		}
		return e.push(frame{s: s, c: c, key: key})
	case Create:
		if c != nil {
			return e.fail("data-exists", "exists already", s, key)
		}
	}
	e.rivals(i, s)
	if c == nil || op == Replace {
		c = &Container{S: s, edit: e.id, kids: make([]Node, len(keys), len(keys)+4)}
		leaves := make([]Leaf, len(keys))
		for k := range keys {
			leaves[k] = Leaf{s.Keys[k], keys[k]}
			c.kids[k] = &leaves[k]
		}
		e.list(i, s).tree.set(e.id, key, c)
	}
	if err := e.order(i, s, key, w); err != nil {
		return err
	}
	return e.push(frame{s: s, c: c, key: key})
}

// order gives an entry its place in a user-ordered list.
func (e *Edit) order(i int, s *yang.Node, key string, w Where) error {
	if !s.UserOrder || e.stack[i].c.List(s).order.stands(key, w) {
		return nil
	}
	if !e.list(i, s).order.put(e.id, key, w) {
		return e.noAnchor(s, key)
	}
	return nil
}

// noAnchor is the error of RFC 7950 section 15.7.
func (e *Edit) noAnchor(s *yang.Node, key string) error {
	attr := "key"
	if s.Kind == yang.LeafList {
		attr = "value"
	}
	return &Error{Tag: "bad-attribute", AppTag: "missing-instance", Path: e.path(s, key).String(),
		Msg:  "the entry to insert before or after does not exist",
		Info: []Info{{"bad-attribute", attr}, {"bad-element", s.Name}}}
}

// free gives a number for a new entry: of a list without keys, or of another
// equal value in a state leaf-list.
func (l *List) free(value string) string {
	for n := uint64(l.Len()) + 1; ; n++ {
		if key := value + place(n); l.Get(key) == nil {
			return key
		}
	}
}

func (e *Edit) delEntry(i int, s *yang.Node, key string) {
	l := e.list(i, s)
	l.tree.del(e.id, key)
	if l.order != nil {
		l.order.remove(e.id, key)
	}
	if l.tree.n == 0 {
		e.own(i).drop(s)
	}
}

// Leaf writes a leaf, or an entry of a leaf-list.
func (e *Edit) Leaf(s *yang.Node, v yang.Value, op Op, w Where) error {
	i := len(e.stack) - 1
	p := &e.stack[i]
	if p.dead {
		return nil
	}
	var old Node
	key := ""
	if s.Kind == yang.LeafList {
		key = v.Text
		old = p.c.List(s).Get(key)
	} else {
		old = p.c.Child(s)
	}
	switch op {
	case Delete, Remove:
		if old == nil && op == Delete {
			return e.fail("data-missing", "does not exist", s, key)
		}
		if old != nil && s.Kind == yang.LeafList {
			e.delEntry(i, s, key)
		} else if old != nil {
			e.own(i).drop(s)
		}
		return nil
	case None:
		if old == nil {
			return e.fail("data-missing", "does not exist", s, key)
		}
		return nil
	case Create:
		if old != nil {
			return e.fail("data-exists", "exists already", s, key)
		}
	}
	e.rivals(i, s)
	if s.Kind == yang.LeafList {
		if old != nil && !s.Config { // only configuration is a set
			old, key = nil, p.c.List(s).free(key+"\x00")
		}
		if old == nil {
			e.list(i, s).tree.set(e.id, key, &Leaf{s, v})
		}
		return e.order(i, s, key, w)
	}
	if l, ok := old.(*Leaf); !ok || l.Value != v {
		e.own(i).put(&Leaf{s, v})
	}
	return nil
}

// Set writes a leaf or leaf-list entry from its text, with module names for
// prefixes, merging: the way for server code to put state into a tree.
func (e *Edit) Set(s *yang.Node, text string) error {
	v, err := s.Type.Parse(text, s.Module.Names())
	if err != nil {
		return &Error{Tag: "invalid-value", Path: e.path(s, "").String(), Msg: err.Error()}
	}
	return e.Leaf(s, v, Merge, Where{})
}

// Leave goes back to the parent. A container without presence that is now
// empty does not stay.
func (e *Edit) Leave() {
	i := len(e.stack) - 1
	f := e.stack[i]
	e.stack = e.stack[:i]
	if !f.dead && f.c != nil && f.s.Kind == yang.Container && !f.s.Presence && len(f.c.kids) == 0 {
		e.own(i - 1).drop(f.s)
	}
}
