package xpath

import (
	"cmp"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// An Instance is a node of the accessible tree: one of the data tree, a
// default in use, a container without presence that holds nothing, or the text
// below a leaf. Two Instances can mean the same node.
type Instance struct {
	Up     *Instance // nil for the root
	Schema *yang.Node
	Node   data.Node // nil when implied: a default or an empty container
	Key    string    // of a list entry; of a leaf-list entry its value
	text   bool
	dummy  bool // there, but without value and children
}

// Implied tells whether the node is not in the data tree itself.
func (i *Instance) Implied() bool { return i.Node == nil }

// Path names the instance, the root as nil. Text has the path of its leaf.
func (i *Instance) Path() *data.Path {
	if i.text {
		i = i.Up
	}
	if i.Up == nil {
		return nil
	}
	entry := i.Schema.Kind == yang.List || i.Schema.Kind == yang.LeafList
	return &data.Path{Up: i.Up.Path(), Schema: i.Schema, Key: i.Key, Entry: entry}
}

// container gives what holds the children, nil when there is nothing.
func (i *Instance) container() *data.Container {
	c, _ := i.Node.(*data.Container)
	return c
}

// same tells whether two instances are one node.
func same(a, b *Instance) bool {
	for a != b {
		if a == nil || b == nil || a.Schema != b.Schema || a.Key != b.Key || a.text != b.text {
			return false
		}
		if a.Node != nil && a.Node == b.Node && !a.text {
			return true
		}
		a, b = a.Up, b.Up
	}
	return true
}

func (i *Instance) level() int {
	n := 0
	for ; i.Up != nil; i = i.Up {
		n++
	}
	return n
}

// order compares in document order: by schema order, entries as their list
// has them, a node before what is in it.
func order(a, b *Instance) int {
	la, lb := a.level(), b.level()
	x, y := a, b
	for n := la; n > lb; n-- {
		x = x.Up
	}
	for n := lb; n > la; n-- {
		y = y.Up
	}
	if r := peers(x, y); r != 0 {
		return r
	}
	return cmp.Compare(la, lb)
}

// peers compares two nodes of one level by their first difference from the
// root.
func peers(a, b *Instance) int {
	if a == b || a.Up == nil {
		return 0
	}
	if r := peers(a.Up, b.Up); r != 0 {
		return r
	}
	if a.text || a.Schema == b.Schema && a.Key == b.Key {
		return 0
	}
	if a.Schema != b.Schema {
		return cmp.Compare(a.Schema.Slot, b.Schema.Slot)
	}
	l := a.Up.container().List(a.Schema)
	return strings.Compare(l.Place(a.Key), l.Place(b.Key))
}

// Value gives the value of a leaf or of a leaf-list entry; for other nodes and
// a leaf that stands only to be tested for, ok is false.
func (e *Eval) Value(i *Instance) (v yang.Value, ok bool) {
	if i.text {
		i = i.Up
	}
	if l, is := i.Node.(*data.Leaf); is && !i.dummy {
		return l.Value, true
	}
	if !leafy(i.Schema) || i.dummy {
		return v, false
	}
	for _, d := range i.Schema.Defaults {
		if i.Schema.Kind == yang.Leaf || d.Text == i.Key {
			return d, true
		}
	}
	return v, false
}

// leafy tells whether nodes of s have a value and nothing below but text.
// Content of anydata has no schema and is out of reach of expressions.
func leafy(s *yang.Node) bool { return s.Kind == yang.Leaf || s.Kind == yang.LeafList }

// text gives the string value of XPath 1.0 section 5.
func (e *Eval) text(i *Instance) string {
	if leafy(i.Schema) {
		v, _ := e.Value(i)
		return v.Text
	}
	var b strings.Builder
	e.appendText(&b, i)
	return b.String()
}

func (e *Eval) appendText(b *strings.Builder, i *Instance) {
	e.children(i, func(k *Instance) bool {
		if leafy(k.Schema) {
			v, _ := e.Value(k)
			b.WriteString(v.Text)
			return e.spend(len(v.Text) / 64)
		}
		e.appendText(b, k)
		return true
	})
}

func (e *Eval) nodeNumber(i *Instance) float64 { return toNumber(e.text(i)) }
