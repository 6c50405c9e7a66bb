// Package data is the immutable data tree: datastores are pointers to a root
// Container, edits copy only the path to what they change, a diff skips what
// two trees share.
package data

import (
	"strings"
	"sync/atomic"

	"vrouter/mgmt/yang"
)

// A Node is a *Leaf, *Container or *List. Nodes reachable from a finished
// tree never change, so readers need no lock.
type Node interface{ Schema() *yang.Node }

// A Leaf is a leaf instance or a leaf-list entry. A leaf that stands in the
// tree was set explicitly, even where it equals its default.
type Leaf struct {
	S     *yang.Node
	Value yang.Value
}

// A Container is the root, a container, or an entry of a list.
type Container struct {
	S       *yang.Node
	edit    uint64
	kids    []Node // in slot order
	partial bool   // see Partial
}

// A List holds all entries of a list or leaf-list by canonical key: the key
// values joined by NUL, which XML cannot carry. Entries of a state list
// without keys have the numbers that the Edit gives them; the second of two
// equal values in a state leaf-list has a number after its NUL (RFC 7950
// sections 7.7 and 7.8.2).
type List struct {
	S     *yang.Node
	edit  uint64
	tree  tree[Node] // *Container, or *Leaf for a leaf-list
	order *order     // ordered-by user
}

func (l *Leaf) Schema() *yang.Node      { return l.S }
func (c *Container) Schema() *yang.Node { return c.S }
func (l *List) Schema() *yang.Node      { return l.S }

// New gives an empty datastore.
func New(s *yang.Schema) *Container { return NewAt(s.Root) }

// NewAt gives an empty tree whose root is any schema node with children: the
// input of an RPC, a notification.
func NewAt(n *yang.Node) *Container { return &Container{S: n} }

// Under gives a tree whose root, a node of schema root, holds c alone: the
// notification in the tree that a filter is asked about.
func Under(root *yang.Node, c *Container) *Container {
	return &Container{S: root, kids: []Node{c}}
}

var edits atomic.Uint64

func (c *Container) find(slot int) (int, bool) {
	for i, k := range c.kids {
		if s := k.Schema().Slot; s >= slot {
			return i, s == slot
		}
	}
	return len(c.kids), false
}

// Child gives the instance of a data child, or nil.
func (c *Container) Child(s *yang.Node) Node {
	if c != nil {
		if i, ok := c.find(s.Slot); ok {
			return c.kids[i]
		}
	}
	return nil
}

// Kids gives the children in schema order, keys first. Not to be changed.
func (c *Container) Kids() []Node { return c.kids }

// Sub gives a child container, nil when absent.
func (c *Container) Sub(s *yang.Node) *Container {
	k, _ := c.Child(s).(*Container)
	return k
}

// List gives a child list, nil when empty.
func (c *Container) List(s *yang.Node) *List {
	k, _ := c.Child(s).(*List)
	return k
}

// Value reads a leaf: what is set, else the default in use (RFC 7950 7.6.1).
func (c *Container) Value(s *yang.Node) (v yang.Value, explicit, ok bool) {
	if l, is := c.Child(s).(*Leaf); is {
		return l.Value, true, true
	}
	if len(s.Defaults) == 0 || s.Kind != yang.Leaf || !c.CaseInUse(s) || c.hides(s) {
		return v, false, false
	}
	return s.Defaults[0], false, true
}

// Values reads a leaf-list: what is set, in its order, else the defaults in
// use (RFC 7950 section 7.7.2).
func (c *Container) Values(s *yang.Node) (v []yang.Value, explicit bool) {
	if l := c.List(s); l != nil {
		v = make([]yang.Value, 0, l.Len())
		l.Each(func(_ string, n Node) bool {
			v = append(v, n.(*Leaf).Value)
			return true
		})
		return v, true
	}
	if len(s.Defaults) == 0 || !c.CaseInUse(s) || c.hides(s) {
		return nil, false
	}
	return s.Defaults, false
}

// CaseInUse tells whether the cases around s allow its default: a node of the
// case is there, or it is the default case and the choice is empty (RFC 7950
// sections 7.6.1 and 7.9.3). c may be nil, an empty container.
func (c *Container) CaseInUse(s *yang.Node) bool {
	for p := s.Parent; p != nil && p != s.Up; p = p.Parent {
		if p.Kind != yang.Case {
			continue
		}
		mine, any := false, false
		if c != nil {
			for _, k := range c.kids {
				mine = mine || within(k.Schema(), p)
				any = any || within(k.Schema(), p.Parent)
			}
		}
		if !mine && (any || p.Parent.DefaultCase != p) {
			return false
		}
	}
	return true
}

func within(n, a *yang.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == a {
			return true
		}
	}
	return false
}

// Len gives the number of entries.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return l.tree.n
}

// Get finds an entry by its canonical key.
func (l *List) Get(key string) Node {
	if l == nil {
		return nil
	}
	n, _ := l.tree.get(key)
	return n
}

// Each visits the entries: in user order, or in key order.
func (l *List) Each(f func(key string, n Node) bool) {
	if l == nil {
		return
	}
	if l.order == nil {
		l.tree.each(f)
		return
	}
	l.order.at.each(func(_, key string) bool {
		n, _ := l.tree.get(key)
		return f(key, n)
	})
}

// Key joins canonical key values.
func Key(v ...yang.Value) string {
	if len(v) == 1 {
		return v[0].Text
	}
	var b strings.Builder
	for i, x := range v {
		if i > 0 {
			b.WriteByte(0)
		}
		b.WriteString(x.Text)
	}
	return b.String()
}

// KeyValues gives the key values of a list entry.
func (c *Container) KeyValues() []yang.Value {
	v := make([]yang.Value, len(c.S.Keys))
	for i, k := range c.S.Keys {
		v[i], _, _ = c.Value(k)
	}
	return v
}
