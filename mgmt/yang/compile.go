package yang

import (
	"strconv"
	"strings"
)

// A pending augment or deviation with the scope it was written in.
type pending struct {
	s  *stmt
	sc *scope
}

// compile builds the schema tree: the nodes that modules define, then what
// augments add, then what deviations change; nodes of features that are off
// are built like all others and pruned last, so that what hangs on them goes
// with them instead of failing.
func (s *Schema) compile() {
	mods := s.Sorted()
	for _, m := range mods {
		if old := s.byNS[m.Namespace]; old != nil {
			fail(m, nil, "has the namespace of %s", old.Name)
		}
		s.byNS[m.Namespace] = m
		m.ids, m.Deviations = nil, nil
	}
	s.setFeatures()
	for _, m := range mods {
		s.addIdentities(m)
	}
	s.linkIdentities()
	var augments, deviations []pending
	for _, m := range mods {
		if !m.Implemented {
			continue
		}
		for _, p := range m.parts {
			s.add(s.Root, p, m.top, m, &s.Root.Kids)
			for _, a := range all(p, "augment") {
				augments = append(augments, pending{a, m.top})
			}
			for _, d := range all(p, "deviation") {
				deviations = append(deviations, pending{d, m.top})
			}
		}
	}
	for len(augments) > 0 { // augments may target what other augments add
		var left []pending
		for _, a := range augments {
			if t := s.target(a.sc, a.s); t != nil {
				s.graft(t, a.s, a.sc, a.sc.mod)
			} else {
				left = append(left, a)
			}
		}
		if len(left) == len(augments) {
			fail(left[0].sc.mod, left[0].s, "augment target not found")
		}
		augments = left
	}
	s.deviate(deviations)
	s.prune(s.Root)
	s.finish(s.Root, nil, true)
	s.gatherEvents()
	s.resolveRefs()
	s.setDefaults(s.Root)
	s.mark(s.Root)
}

// target walks an absolute schema node identifier. A node of a module that is
// only imported makes that module implemented.
func (s *Schema) target(sc *scope, a *stmt) *Node {
	id := strings.ReplaceAll(norm(a.Argument), " ", "")
	if !strings.HasPrefix(id, "/") {
		fail(sc.mod, a, "an absolute schema node identifier is wanted")
	}
	n := s.Root
	for _, p := range strings.Split(id[1:], "/") {
		px, name := split(p)
		m := sc.module(px, a)
		if !m.Implemented {
			if a.Keyword == "deviation" {
				fail(sc.mod, a, "module %s is not implemented", m.Name)
			}
			panic(needs{m})
		}
		if n = n.kid(m, name); n == nil {
			return nil
		}
	}
	return n
}

func (n *Node) kid(m *Module, name string) *Node {
	for _, k := range n.Kids {
		if k.Name == name && (m == nil || k.Module == m) {
			return k
		}
	}
	return nil
}

// add compiles the data definitions of st as children of parent. Nodes of a
// grouping belong to the module that uses it (owner); their prefixes are
// resolved where the grouping was written (sc).
func (s *Schema) add(parent *Node, st *stmt, sc *scope, owner *Module, out *[]*Node) {
	for _, c := range st.SubStatements() {
		if k, ok := kinds[c.Keyword]; ok {
			n := s.node(parent, c, k, sc, owner)
			if parent.Kind == Choice && k != Case { // shorthand case
				cs := &Node{Kind: Case, Name: n.Name, Module: owner, Parent: parent, Implied: true, sc: sc, st: c,
					Kids: []*Node{n}, off: n.off}
				n.Parent = cs
				n = cs
			}
			*out = append(*out, n)
		} else if c.Keyword == "uses" {
			s.uses(parent, c, sc, owner, out)
		}
	}
}

func (s *Schema) uses(parent *Node, c *stmt, sc *scope, owner *Module, out *[]*Node) {
	g, d := sc.find(c.Argument, true, c)
	if g == nil {
		fail(sc.mod, c, "unknown grouping")
	}
	tmp := &Node{Kind: parent.Kind, Name: parent.Name, Module: parent.Module, Parent: parent.Parent}
	s.add(tmp, g, inner(d, g), owner, &tmp.Kids)
	off := !s.on(c, sc)
	for _, k := range tmp.Kids {
		k.Parent = parent
		k.off = k.off || off
		if w := sub(c, "when"); w != nil {
			k.When = append(k.When, Expr{Text: norm(w.Argument), Ctx: sc.mod, OnParent: true})
		}
	}
	for _, r := range all(c, "refine") {
		s.refine(tmp.descend(r, sc), r, sc)
	}
	for _, a := range all(c, "augment") {
		s.graft(tmp.descend(a, sc), a, sc, owner)
	}
	*out = append(*out, tmp.Kids...)
}

func (n *Node) descend(at *stmt, sc *scope) *Node {
	for _, p := range strings.Split(at.Argument, "/") {
		_, name := split(strings.TrimSpace(p))
		k := n.kid(nil, name)
		if k == nil {
			fail(sc.mod, at, "no node %q here", name)
		}
		n = k
	}
	return n
}

func (s *Schema) graft(t *Node, a *stmt, sc *scope, owner *Module) {
	before := len(t.Kids)
	s.add(t, a, inner(sc, a), owner, &t.Kids)
	off := !s.on(a, sc)
	for _, k := range t.Kids[before:] {
		k.off = k.off || off
		if w := sub(a, "when"); w != nil {
			k.When = append(k.When, Expr{Text: norm(w.Argument), Ctx: sc.mod, OnParent: true})
		}
	}
}

func (s *Schema) node(parent *Node, c *stmt, k Kind, sc *scope, owner *Module) *Node {
	n := &Node{Kind: k, AnyXML: c.Keyword == "anyxml", Name: c.Argument, Module: owner, Parent: parent, sc: inner(sc, c), st: c}
	if k == Input || k == Output {
		n.Name = c.Keyword
	}
	n.off = !s.on(c, sc)
	n.keyArg = norm(arg(c, "key"))
	switch k {
	case Leaf, LeafList:
		t := sub(c, "type")
		if t == nil {
			fail(sc.mod, c, "no type")
		}
		n.Type = s.resolve(t, n.sc)
	case AnyData:
		n.Type = anyType
	}
	s.refine(n, c, n.sc)
	if w := sub(c, "when"); w != nil {
		n.When = append(n.When, Expr{Text: norm(w.Argument), Ctx: sc.mod})
	}
	if k != Leaf && k != LeafList {
		s.add(n, c, n.sc, owner, &n.Kids)
	}
	if k == RPC || k == Action { // input and output exist even unwritten, to be augmented
		for _, io := range []Kind{Input, Output} {
			if n.io(io) == nil {
				n.Kids = append(n.Kids, &Node{Kind: io, Name: io.String(), Module: owner, Parent: n, sc: n.sc, st: c})
			}
		}
	}
	return n
}

// refine applies the properties written in a definition or a refine.
func (s *Schema) refine(n *Node, r *stmt, sc *scope) {
	fresh := true
	for _, c := range r.SubStatements() {
		switch c.Keyword {
		case "default":
			if fresh {
				n.Default, fresh = nil, false
			}
			n.Default = append(n.Default, c.Argument)
			n.defCtx = sc.mod
		case "must":
			n.Must = append(n.Must, mustExpr(c, sc))
		case "unique":
			n.unique = append(n.unique, norm(c.Argument))
		case "if-feature":
			n.IfFeature = append(n.IfFeature, featText(c, sc))
		default:
			s.property(n, c, sc)
		}
	}
	if r.Keyword == "refine" && !s.on(r, sc) {
		n.off = true
	}
}

func mustExpr(c *stmt, sc *scope) Expr {
	return Expr{Text: norm(c.Argument), Ctx: sc.mod, AppTag: arg(c, "error-app-tag"), Message: norm(arg(c, "error-message"))}
}

// property sets one single-valued property; other statements are none of its
// business.
func (s *Schema) property(n *Node, c *stmt, sc *scope) {
	flag := func() bool {
		if c.Argument != "true" && c.Argument != "false" {
			fail(sc.mod, c, "true or false is wanted")
		}
		return c.Argument == "true"
	}
	count := func() int {
		v, err := strconv.Atoi(c.Argument)
		if err != nil || v < 0 {
			fail(sc.mod, c, "a number is wanted")
		}
		return v
	}
	switch c.Keyword {
	case "config":
		n.config = 2
		if flag() {
			n.config = 1
		}
	case "mandatory":
		n.Mandatory = flag()
	case "presence":
		n.Presence = true
	case "ordered-by":
		n.UserOrder = c.Argument == "user"
	case "min-elements":
		n.Min = count()
	case "max-elements":
		n.Max = 0
		if c.Argument != "unbounded" {
			n.Max = count()
		}
	case "units":
		n.Units = c.Argument
	case "status":
		if n.Status = c.Argument; n.Status == "current" {
			n.Status = ""
		}
	default:
		px, name := split(c.Keyword)
		if px == "" {
			return
		}
		m := sc.module(px, c)
		n.Ext = append(n.Ext, Extension{m.Name, name, c.Argument})
		if m.Name == "ietf-netconf-acm" {
			n.DenyAll = n.DenyAll || name == "default-deny-all"
			n.DenyWrite = n.DenyWrite || name == "default-deny-write"
		}
	}
}

// prune takes away the nodes that a feature or a deviation switched off, and
// choices that have no case left.
func (s *Schema) prune(n *Node) {
	kept := n.Kids[:0]
	for _, k := range n.Kids {
		if k.off {
			continue
		}
		had := len(k.Kids)
		s.prune(k)
		if k.Kind == Choice && had > 0 && len(k.Kids) == 0 || k.Implied && len(k.Kids) == 0 {
			continue
		}
		kept = append(kept, k)
	}
	n.Kids = kept
}
