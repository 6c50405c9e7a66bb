// Package data is the immutable data tree: datastores are pointers to a root
// Container, edits copy only the path to what they change, a diff skips what
// two trees share.
package data

import (
	"encoding/binary"
	"fmt"
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
// values joined by NUL, which XML cannot carry.
type List struct {
	S     *yang.Node
	edit  uint64
	tree  tree[Node] // *Container, or *Leaf for a leaf-list
	order *order     // ordered-by user
}

// order keeps the places of a user-ordered list's entries.
type order struct {
	at  tree[string] // place to key
	pos tree[string] // key to place
}

func (l *Leaf) Schema() *yang.Node      { return l.S }
func (c *Container) Schema() *yang.Node { return c.S }
func (l *List) Schema() *yang.Node      { return l.S }

// New gives an empty datastore.
func New(s *yang.Schema) *Container { return &Container{S: s.Root} }

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
	if len(s.Default) == 0 || !c.caseInUse(s) {
		return v, false, false
	}
	return yang.Value{Text: s.Default[0], Type: s.Type}, false, true
}

// caseInUse tells whether the cases around s allow its default: a node of the
// case is there, or it is the default case and the choice is empty.
func (c *Container) caseInUse(s *yang.Node) bool {
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
		if d := p.Parent.Default; !mine && (any || len(d) == 0 || d[0] != p.Name) {
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

// A Path names an instance; the nil Path is the root.
type Path struct {
	Up     *Path
	Schema *yang.Node
	Key    string // of a list entry or leaf-list entry
	Entry  bool
}

// String gives an instance-identifier with module names as prefixes.
func (p *Path) String() string {
	if p == nil {
		return ""
	}
	n := p.Schema
	s := "/" + n.Name
	if n.Up == nil || n.Up.Module != n.Module {
		s = "/" + n.Module.Name + ":" + n.Name
	}
	if p.Entry {
		if n.Kind == yang.LeafList {
			s += "[.=" + quote(p.Key) + "]"
		} else {
			for i, k := range strings.Split(p.Key, "\x00") {
				s += "[" + n.Keys[i].Name + "=" + quote(k) + "]"
			}
		}
	}
	return p.Up.String() + s
}

func quote(s string) string {
	if strings.Contains(s, "'") {
		return `"` + s + `"`
	}
	return "'" + s + "'"
}

// Get finds a node by a path of child schema nodes; each string is the key of
// the list before it. It is for code that knows the schema; text paths belong
// to an XPath package.
func Get(root *Container, steps ...any) Node {
	var n Node = root
	for _, s := range steps {
		switch s := s.(type) {
		case *yang.Node:
			c, _ := n.(*Container)
			n = c.Child(s)
		case string:
			l, _ := n.(*List)
			n = l.Get(s)
		default:
			panic(fmt.Sprintf("data.Get: step %T", s))
		}
		if n == nil {
			return nil
		}
	}
	return n
}

func place(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
func number(p string) uint64 {
	return binary.BigEndian.Uint64([]byte(p))
}

const gap = 1 << 32

// Where says where a user-ordered entry goes.
type Where struct {
	Insert string // "", first, last, before, after
	Key    string // of the entry before or after which
}

// put places key; false when the anchor does not exist.
func (o *order) put(edit uint64, key string, w Where) bool {
	old, had := o.pos.get(key)
	if had && w.Insert == "" {
		return true
	}
	var lo, hi uint64 // the new place lies between, both excluded
	switch w.Insert {
	case "first":
		hi = number(o.edge(true))
		lo = before(hi)
	case "before", "after":
		a, ok := o.pos.get(w.Key)
		if !ok || w.Key == key {
			return false
		}
		prev, next := o.around(a)
		if lo, hi = prev, number(a); w.Insert == "after" {
			lo, hi = number(a), next
		}
	default:
		lo = number(o.edge(false))
		hi = lo + 2*gap
	}
	if had {
		o.at.del(edit, old)
	}
	if hi-lo < 2 {
		o.spread(edit)
		return o.put(edit, key, w)
	}
	p := place(lo + (hi-lo)/2)
	o.at.set(edit, p, key)
	o.pos.set(edit, key, p)
	return true
}

func (o *order) edge(first bool) string {
	n := o.at.root
	if n == nil {
		return place(1 << 62)
	}
	for n.kids != nil {
		if first {
			n = n.kids[0]
		} else {
			n = n.kids[len(n.kids)-1]
		}
	}
	if first {
		return n.keys[0]
	}
	return n.keys[len(n.keys)-1]
}

// around gives the places next to p; beyond the ends there is room.
func (o *order) around(p string) (prev, next uint64) {
	l, r := o.at.near(p)
	if prev = before(number(p)); l != "" {
		prev = number(l)
	}
	if next = number(p) + 2*gap; r != "" {
		next = number(r)
	}
	return prev, next
}

func before(n uint64) uint64 {
	if n < 2*gap {
		return 0
	}
	return n - 2*gap
}

// spread renumbers everything when a gap is used up.
func (o *order) spread(edit uint64) {
	at := o.at
	o.at, o.pos = tree[string]{}, tree[string]{}
	n := uint64(1 << 62)
	at.each(func(_, key string) bool {
		o.at.set(edit, place(n), key)
		o.pos.set(edit, key, place(n))
		n += gap
		return true
	})
}

func (o *order) remove(edit uint64, key string) {
	if p, ok := o.pos.get(key); ok {
		o.at.del(edit, p)
		o.pos.del(edit, key)
	}
}
