package yang

import "strings"

// resolveRefs finds the target of every leafref, giving each leaf its own
// Type: a relative path in a typedef or grouping means something else at
// each use.
func (s *Schema) resolveRefs() {
	var walk func(n *Node)
	walk = func(n *Node) {
		if n.Type != nil {
			n.Type = s.bindRef(n, n.Type)
			if n.Type.ref != nil {
				s.LeafRefs = append(s.LeafRefs, n)
			}
		}
		for _, k := range n.Kids {
			walk(k)
		}
	}
	walk(s.Root)
	s.Root.Walk(func(n *Node) bool {
		if n.Type != nil {
			noCircle(n, n.Type, 0)
		}
		return true
	})
}

func (s *Schema) bindRef(n *Node, t *Type) *Type {
	switch {
	case t.Base == LeafRef && t.ref != nil:
		c := *t
		c.Target = s.refTarget(n, t.ref, 0)
		if c.Target == nil || c.Target.Kind != Leaf && c.Target.Kind != LeafList {
			fail(n.Module, n.st, "leafref %s: no such leaf", t.ref.Text)
		}
		c.abs = strings.HasPrefix(t.ref.Text, "/") && !strings.Contains(t.ref.Text, "[")
		return &c
	case t.Base == Union:
		c := *t
		c.Members = nil
		for _, m := range t.Members {
			c.Members = append(c.Members, s.bindRef(n, m))
		}
		return &c
	}
	return t
}

// noCircle refuses leafrefs that lead back to themselves: no value could ever
// be parsed.
func noCircle(n *Node, t *Type, depth int) {
	if depth > 64 {
		fail(n.Module, n.st, "the leafref leads back to itself")
	}
	if t.Base == LeafRef {
		noCircle(n, t.Target.Type, depth+1)
	}
	for _, m := range t.Members {
		noCircle(n, m, depth+1)
	}
}

// refTarget walks a leafref path over data nodes, ignoring predicates.
func (s *Schema) refTarget(n *Node, x *Expr, depth int) *Node {
	path, ok := cutPredicates(x.Text)
	if !ok || depth > 8 {
		return nil
	}
	path = strings.TrimPrefix(strings.ReplaceAll(path, " ", ""), "current()/")
	if rest, is := strings.CutPrefix(path, "deref("); is {
		arg, after, ok := strings.Cut(rest, ")/")
		if !ok {
			return nil
		}
		via := s.walkRef(n, n, arg, x.Ctx)
		if via == nil || via.Type == nil || via.Type.ref == nil {
			return nil
		}
		return s.walkRef(n, s.refTarget(via, via.Type.ref, depth+1), after, x.Ctx)
	}
	return s.walkRef(n, n, path, x.Ctx)
}

// cutPredicates takes the predicates out of a path; a literal in one may hold
// brackets.
func cutPredicates(path string) (string, bool) {
	var b strings.Builder
	depth := 0
	quote := byte(0)
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case depth > 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String(), depth == 0 && quote == 0
}

// walkRef walks from a node; a name without a prefix is of the module of the
// leafref's leaf n (RFC 7950 section 6.4.1).
func (s *Schema) walkRef(n, cur *Node, path string, ctx *Module) *Node {
	abs := strings.HasPrefix(path, "/")
	if abs {
		cur, path = s.Root, path[1:]
	}
	for _, p := range strings.Split(path, "/") {
		if cur == nil {
			return nil
		}
		switch p {
		case "..":
			cur = cur.Up
			continue
		case ".":
			continue
		}
		px, name := split(p)
		m := n.Module
		if px != "" {
			if m = ctx.imports[px]; m == nil {
				return nil
			}
		}
		if abs && !m.Implemented {
			panic(needs{m})
		}
		// an action's input and output are not data children
		next := cur.Child(m, []byte(name))
		if next == nil {
			next = cur.kid(m, name)
		}
		cur = next
	}
	return cur
}
