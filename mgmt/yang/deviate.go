package yang

import (
	"slices"
	"strings"
)

// deviate applies deviation statements (RFC 7950 section 7.20.3). All targets
// are found before any node goes, so that one deviation may change what stands
// below a node that another takes away.
func (s *Schema) deviate(list []pending) {
	targets := make([]*Node, len(list))
	for i, d := range list {
		if targets[i] = s.target(d.sc, d.s); targets[i] == nil {
			fail(d.sc.mod, d.s, "deviation target not found")
		}
	}
	for i, d := range list {
		t := targets[i]
		if m := t.Module; m != d.sc.mod && !slices.Contains(m.Deviations, d.sc.mod.Name) {
			m.Deviations = append(m.Deviations, d.sc.mod.Name)
		}
		for _, v := range all(d.s, "deviate") {
			s.deviateOne(t, v, d.sc)
		}
	}
}

func (s *Schema) deviateOne(n *Node, v *stmt, sc *scope) {
	switch v.Argument {
	case "not-supported":
		n.off = true
		if n.Parent.Implied {
			n.Parent.off = true
		}
	case "add":
		for _, c := range v.SubStatements() {
			switch c.Keyword {
			case "default":
				if len(n.Default) > 0 && n.Kind != LeafList {
					fail(sc.mod, c, "the node has a default")
				}
				n.Default, n.defCtx = append(slices.Clip(n.Default), c.Argument), sc.mod
			case "must":
				n.Must = append(slices.Clip(n.Must), mustExpr(c, sc))
			case "unique":
				n.unique = append(slices.Clip(n.unique), norm(c.Argument))
			default:
				s.property(n, c, sc)
			}
		}
	case "replace":
		fresh := true
		for _, c := range v.SubStatements() {
			switch c.Keyword {
			case "type":
				if n.Kind != Leaf && n.Kind != LeafList {
					fail(sc.mod, c, "the node has no type")
				}
				n.Type = s.resolve(c, sc)
			case "default":
				if len(n.Default) == 0 {
					fail(sc.mod, c, "the node has no default")
				}
				if fresh {
					n.Default, fresh = nil, false
				}
				n.Default, n.defCtx = append(n.Default, c.Argument), sc.mod
			default:
				s.property(n, c, sc)
			}
		}
	case "delete":
		for _, c := range v.SubStatements() {
			s.deviateDelete(n, c, sc)
		}
	default:
		fail(sc.mod, v, "unknown deviate argument")
	}
}

func (s *Schema) deviateDelete(n *Node, c *stmt, sc *scope) {
	found := false
	switch c.Keyword {
	case "must":
		want := mustExpr(c, sc).Qualified()
		n.Must = slices.DeleteFunc(slices.Clone(n.Must), func(x Expr) bool {
			hit := x.Qualified() == want
			found = found || hit
			return hit
		})
	case "unique":
		n.unique = slices.DeleteFunc(slices.Clone(n.unique), func(u string) bool {
			hit := sameUnique(u, norm(c.Argument))
			found = found || hit
			return hit
		})
	case "default":
		i := slices.Index(n.Default, c.Argument)
		if found = i >= 0; found {
			n.Default = slices.Delete(slices.Clone(n.Default), i, i+1)
		}
	case "units":
		if found = n.Units == c.Argument; found {
			n.Units = ""
		}
	default:
		if strings.Contains(c.Keyword, ":") {
			found = true // an extension's own matter
		}
	}
	if !found {
		fail(sc.mod, c, "the node has no such property to delete")
	}
}

// sameUnique compares two unique arguments without their prefixes.
func sameUnique(a, b string) bool {
	strip := func(s string) (r []string) {
		for _, w := range strings.Fields(s) {
			var path []string
			for _, p := range strings.Split(w, "/") {
				_, name := split(p)
				path = append(path, name)
			}
			r = append(r, strings.Join(path, "/"))
		}
		return r
	}
	return slices.Equal(strip(a), strip(b))
}
