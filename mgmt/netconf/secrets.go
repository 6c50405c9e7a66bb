package netconf

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// secretPaths marks the schema nodes that are default-deny-all or have such a
// node below them.
func secretPaths(root *yang.Node) map[*yang.Node]bool {
	m := map[*yang.Node]bool{}
	var walk func(n *yang.Node) bool
	walk = func(n *yang.Node) bool {
		has := n.DenyAll
		for _, d := range n.Data {
			has = walk(d) || has
		}
		if has {
			m[n] = true
		}
		return has
	}
	walk(root)
	return m
}

// withoutSecrets gives a tree without what is default-deny-all (RFC 8341
// section 3.2.3), as far as w wants it. Its cost follows the number of entries
// that have secrets; a tree without any comes back as it is.
func (s *Server) withoutSecrets(tree *data.Container, w binding.Want) *data.Container {
	e := data.Begin(tree)
	s.strip(e, tree, w)
	return e.Done()
}

func (s *Server) strip(e *data.Edit, c *data.Container, w binding.Want) {
	for _, k := range c.Kids() {
		n := k.Schema()
		if !s.secret[n] || !w.Subtree(n) {
			continue
		}
		switch k := k.(type) {
		case *data.Leaf:
			if n.DenyAll && !n.IsKey() {
				e.Leaf(n, k.Value, data.Remove, data.Where{})
			}
		case *data.Container:
			if n.DenyAll {
				e.Enter(n, data.Remove)
			} else {
				e.Enter(n, data.Merge)
				s.strip(e, k, w)
			}
			e.Leave()
		case *data.List:
			k.Each(func(_ string, entry data.Node) bool {
				switch entry := entry.(type) {
				case *data.Leaf:
					e.Leaf(n, entry.Value, data.Remove, data.Where{})
				case *data.Container:
					op := data.Merge
					if n.DenyAll {
						op = data.Remove
					}
					e.EnterEntry(n, keysOf(entry), op, data.Where{})
					if op == data.Merge {
						s.strip(e, entry, w)
					}
					e.Leave()
				}
				return true
			})
		}
	}
}

// keysOf gives the key values of a list entry.
func keysOf(c *data.Container) []yang.Value {
	v := make([]yang.Value, len(c.S.Keys))
	for i, k := range c.S.Keys {
		v[i], _, _ = c.Value(k)
	}
	return v
}
