package data

import "vrouter/mgmt/yang"

// Hidden stands in a tree that was pruned for a reader in the place of a node
// that the reader may not see, there or not: so that no default is taken for
// its value. It never stands in a datastore. Code that does not know the type
// sees nothing there.
type Hidden struct{ S *yang.Node }

// Schema gives the node that is hidden.
func (h *Hidden) Schema() *yang.Node { return h.S }

// Hide replaces a child of where the edit stands, all entries of a list or
// leaf-list together, or takes the place of one that is not there.
func (e *Edit) Hide(s *yang.Node) {
	i := len(e.stack) - 1
	if !e.stack[i].dead {
		e.own(i).put(&Hidden{s})
	}
}

// Drop removes a child, there or not: all entries of a list or leaf-list
// together.
func (e *Edit) Drop(s *yang.Node) {
	i := len(e.stack) - 1
	if p := &e.stack[i]; !p.dead && p.c.Child(s) != nil {
		e.own(i).drop(s)
	}
}

// hides tells whether a reader may not see a child.
func (c *Container) hides(s *yang.Node) bool {
	_, is := c.Child(s).(*Hidden)
	return is
}

// DropEntry removes an entry of a list or leaf-list by its key, if it is there.
func (e *Edit) DropEntry(s *yang.Node, key string) {
	i := len(e.stack) - 1
	if p := &e.stack[i]; !p.dead && p.c.List(s).Get(key) != nil {
		e.delEntry(i, s, key)
	}
}
