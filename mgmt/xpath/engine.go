// Package xpath evaluates XPath 1.0 with the functions of YANG 1.1 on the data
// tree: must and when conditions, leafref paths, and the filters of clients
// (RFC 7950 sections 6.4 and 10, RFC 6241 section 8.9).
//
// An expression is compiled once. Compiling walks it over the schema, which
// resolves its names, tells what it reads, and finds predicates that name all
// keys of a list, so that evaluation looks entries up instead of scanning.
//
// The tree seen is the accessible tree of RFC 7950 section 6.4.1: defaults in
// use are there, and containers without presence too. It has elements, the
// text below leaves, and no attributes, comments or instructions: those axes
// and tests find nothing.
//
// Hostile expressions are bounded: in length, nesting and number of parts when
// compiled, in steps when evaluated.
package xpath

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"vrouter/mgmt/yang"
)

// An Engine holds what the expressions of one schema share. It does not change
// after New, so any number of goroutines may use it.
type Engine struct {
	schema *yang.Schema
	refs   map[refKey]*Expr
	busy   map[refKey]bool
	guards map[*yang.Node][]*Guard
}

type refKey struct {
	leaf *yang.Node
	t    *yang.Type
}

// A Guard is a compiled when statement.
type Guard struct {
	Node *yang.Node // the data node, choice or case that has it
	Expr *Expr      // its context is Node, or the data node above when OnParent
	// OnParent tells a condition of a choice, case, uses or augment: while it
	// is evaluated the nodes that depend on it count as absent. Otherwise the
	// node itself counts as there, but empty (RFC 7950 section 7.21.5).
	OnParent bool

	hides []*yang.Node
}

// A Dep is a schema node that an expression reads. Instances of Node matter
// only to those context nodes that stand below the same instance of Anchor,
// which is Node or above it.
type Dep struct{ Node, Anchor *yang.Node }

// An Expr is a compiled expression. It does not change.
type Expr struct {
	Text string
	At   *yang.Node // the schema node of its context node
	// Reads lists what a result depends on, in schema order: nodes whose
	// existence or value it looks at. Conditions that make defaults on the
	// way vanish are not part of it.
	Reads    []Dep
	ReadsAll bool // it may read nodes that only the data tells: Reads is not all
	// Unknown lists names that no schema node on their path has. That is no
	// error (a feature may be off), but such a step never finds anything.
	Unknown []string

	root   expr
	result shape
	eng    *Engine
}

// New compiles the when statements and leafref paths of a schema. An error
// names the node that has the bad expression.
func New(s *yang.Schema) (*Engine, error) {
	g := &Engine{schema: s, refs: map[refKey]*Expr{}, busy: map[refKey]bool{}, guards: map[*yang.Node][]*Guard{}}
	if err := g.prepare(s.Root); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Engine) prepare(n *yang.Node) error {
	if n.Type != nil {
		for _, t := range g.members(n.Type) {
			if t.Base == yang.LeafRef && t.RefPath() != nil {
				if _, err := g.refPath(n, t); err != nil {
					return fmt.Errorf("leafref of %s: %w", Name(n), err)
				}
			}
		}
	}
	for _, w := range n.When {
		gd := &Guard{Node: n, OnParent: w.OnParent || n.Kind == yang.Choice || n.Kind == yang.Case}
		at := n
		if gd.OnParent {
			at = n.Up
			gd.hides = hidden(n, w)
		}
		var err error
		if gd.Expr, err = g.Statement(w, at); err != nil {
			return fmt.Errorf("when of %s: %w", Name(n), err)
		}
		g.guards[n] = append(g.guards[n], gd)
	}
	for _, k := range n.Kids {
		if err := g.prepare(k); err != nil {
			return err
		}
	}
	return nil
}

// hidden gives the data nodes that a condition on their parent covers: those
// of the same uses or augment carry the same condition.
func hidden(n *yang.Node, w yang.Expr) (out []*yang.Node) {
	var data func(n *yang.Node)
	data = func(n *yang.Node) {
		if n.Kind != yang.Choice && n.Kind != yang.Case {
			out = append(out, n)
			return
		}
		for _, k := range n.Kids {
			data(k)
		}
	}
	if !w.OnParent || n.Parent == nil {
		data(n)
		return out
	}
	for _, k := range n.Parent.Kids {
		if slices.ContainsFunc(k.When, func(x yang.Expr) bool { return x.OnParent && x.Text == w.Text && x.Ctx == w.Ctx }) {
			data(k)
		}
	}
	return out
}

// Name gives the path of any schema node for messages, choices included.
func Name(n *yang.Node) string {
	if n.Kind == yang.Choice || n.Kind == yang.Case {
		if n.Parent != nil {
			return Name(n.Parent) + "/(" + n.Name + ")"
		}
	}
	return n.Path()
}

// Guards gives the conditions of a data node, choice or case itself.
func (g *Engine) Guards(n *yang.Node) []*Guard { return g.guards[n] }

// Leafref gives the path of a leafref type of a leaf, compiled with the leaf
// as its context. t is the leaf's type or a member of its union.
func (g *Engine) Leafref(leaf *yang.Node, t *yang.Type) *Expr { return g.refs[refKey{leaf, t}] }

// members gives the types of a union, seen through unions in it, or t itself.
func (g *Engine) members(t *yang.Type) []*yang.Type {
	if t.Base != yang.Union {
		return []*yang.Type{t}
	}
	var out []*yang.Type
	for _, m := range t.Members {
		out = append(out, g.members(m)...)
	}
	return out
}

func (g *Engine) refPath(leaf *yang.Node, t *yang.Type) (*Expr, error) {
	k := refKey{leaf, t}
	if x := g.refs[k]; x != nil {
		return x, nil
	}
	if t.RefPath() == nil || g.busy[k] {
		return nil, bad("", -1, "the leafref path leads to itself")
	}
	g.busy[k] = true
	defer delete(g.busy, k)
	x, err := g.Statement(*t.RefPath(), leaf)
	if err == nil && !x.Nodes() {
		err = bad(x.Text, -1, "a leafref path must be a node set")
	}
	if err != nil {
		return nil, err
	}
	g.refs[k] = x
	return x, nil
}

// inModule resolves prefixes as the text of a module has them. A name without
// prefix belongs to the module of the current node (RFC 7950 section 6.4.1).
type inModule struct{ text, own *yang.Module }

func (p inModule) ModuleOf(prefix string) *yang.Module {
	if prefix == "" {
		return p.own
	}
	return p.text.Import(prefix)
}

// Statement compiles an expression of a module for a context node. Names
// without prefix that the module of the context node does not know are looked
// for in the module of the statement: some modules are written so.
func (g *Engine) Statement(x yang.Expr, at *yang.Node) (*Expr, error) {
	own := at.Module
	if own == nil {
		own = x.Ctx
	}
	c := &compiler{engine: g, text: x.Text, at: at, ns: inModule{x.Ctx, own}, own: own}
	if x.Ctx != own {
		c.alt = x.Ctx
	}
	return c.compile()
}

// Filter compiles the select attribute of a client's filter. The context node
// is the root. ns resolves the prefixes declared where the attribute stands.
// A name without prefix is in no namespace by XPath 1.0 and would find
// nothing; clients who leave prefixes out mean the local name, so here it
// finds the nodes of that name in any module. The result must be a node set
// (RFC 6241 section 8.9.5.1); every error is one of the client's.
func (g *Engine) Filter(text string, ns yang.Prefixes) (*Expr, error) {
	c := &compiler{engine: g, text: text, at: g.schema.Root, ns: ns, anyModule: true}
	x, err := c.compile()
	if err == nil && !x.Nodes() {
		err = bad(text, -1, "the result is not a node set")
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Nodes tells whether the value is a node set.
func (x *Expr) Nodes() bool { return x.root.kind() == kNodes }

type compiler struct {
	engine    *Engine
	text      string
	at        *yang.Node
	ns        yang.Prefixes
	own, alt  *yang.Module
	anyModule bool
	unknown   []string
}

func (c *compiler) compile() (*Expr, error) {
	tok, err := lex(c.text)
	if err != nil {
		return nil, err
	}
	p := &parser{c: c, tok: tok}
	root, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.peek().kind != tEnd {
		return nil, p.fail("unexpected %q", p.peek().text)
	}
	a := &analysis{c: c, ctx: c.at, reads: map[*yang.Node]*yang.Node{}, budget: maxShape}
	var in shape
	in.add(place{s: c.at}, c.at)
	x := &Expr{Text: c.text, At: c.at, root: root, eng: c.engine, Unknown: c.unknown}
	x.result = root.shape(a, in, content)
	x.Unknown, x.ReadsAll = c.unknown, a.any
	for _, n := range slices.SortedFunc(maps.Keys(a.reads), func(m, n *yang.Node) int { return m.ID - n.ID }) {
		x.Reads = append(x.Reads, Dep{n, a.reads[n]})
	}
	return x, nil
}

func (c *compiler) nameTest(s *step, t *token) *Error {
	s.test, s.name = testName, t.text
	switch {
	case t.prefix != "":
		if s.mod = c.ns.ModuleOf(t.prefix); s.mod == nil {
			return bad(c.text, t.at, "the prefix %q means no module here", t.prefix)
		}
	case t.text != "*" && !c.anyModule:
		s.mod, s.alt = c.own, c.alt
	}
	return nil
}

// identity finds the identity that a string names in this expression.
func (c *compiler) identity(name string) *yang.Identity {
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		prefix, local = "", name
	}
	for _, m := range []*yang.Module{c.ns.ModuleOf(prefix), c.alt} {
		if m != nil {
			if id := c.engine.schema.Identity(m.Name + ":" + local); id != nil {
				return id
			}
		}
		if prefix != "" {
			break
		}
	}
	return nil
}
