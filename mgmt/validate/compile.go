package validate

import (
	"fmt"
	"slices"
	"strings"

	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

type ruleKind uint8

const (
	ruleMust  ruleKind = iota
	ruleGuard          // a when
	ruleRef            // a reference that cannot be counted
)

// A rule is a condition that is evaluated at every instance of its context.
type rule struct {
	id   int
	kind ruleKind
	ctx  *yang.Node // of a guard: the data node above the guarded one
	expr *xpath.Expr
	text yang.Expr // of a must

	guard   *xpath.Guard
	covers  []*yang.Node // the data nodes that a guard decides on
	demands bool         // something among them is mandatory
	lowest  int          // level of the highest anchor

	ref *reference
}

// A reader tells that a rule reads a schema node: a change there can matter to
// the instances of the rule below the instance of the anchor.
type reader struct {
	rule   *rule
	anchor *yang.Node
	level  int          // of the anchor; the root's is 0
	down   []*yang.Node // from the anchor to the rule's context
	own    bool         // the node is the context itself or what the guard guards
	sole   bool         // own, and each instance of the context has one such node
	id     string       // tells the readers of one rule apart
}

// info is what the validator knows of a schema node.
type info struct {
	guardReaders []*reader
	allReaders   []*reader

	ref      *reference   // of a leaf
	targetOf []*reference // leaves that point here
	unique   []*uniqueRule
	lists    []*uniqueRule // of a list
	fellows  []*yang.Node  // nodes of the same choice whose defaults depend on this one
	siblings []*yang.Node  // those of them where there is something to do
	demands  bool          // of a container, list, choice or case: it has to hold something

	// here or below there is something to do: in the first pass, in any
	worthGuards, worthAny bool
	kidsGuards, kidsAny   []*yang.Node // the data children where there is
}

func (i *info) readers(guards bool) []*reader {
	if guards {
		return i.guardReaders
	}
	return i.allReaders
}

func (i *info) worth(guards bool) bool {
	if guards {
		return i.worthGuards
	}
	return i.worthAny
}

func (i *info) kids(guards bool) []*yang.Node {
	if guards {
		return i.kidsGuards
	}
	return i.kidsAny
}

// implicit tells whether an instance of d can be there without being set.
func implicit(d *yang.Node) bool {
	switch d.Kind {
	case yang.Leaf, yang.LeafList:
		return len(d.Defaults) > 0
	case yang.Container:
		return !d.Presence
	}
	return false
}

// compile gathers the rules of n and of what is below it.
func (v *Validator) compile(n *yang.Node) error {
	if !n.Config {
		return nil
	}
	for _, g := range v.xp.Guards(n) {
		x := v.add(&rule{kind: ruleGuard, ctx: n.Up, expr: g.Expr, guard: g, covers: dataNodes(n)})
		x.demands = needs(n)
		for _, d := range x.covers {
			v.read(x, xpath.Dep{Node: d, Anchor: n.Up}, true)
		}
		v.readAll(x, n)
	}
	for _, m := range n.Must {
		expr, err := v.xp.Statement(m, n)
		if err != nil {
			return fmt.Errorf("must of %s: %w", n.Path(), err)
		}
		x := v.add(&rule{kind: ruleMust, ctx: n, expr: expr, text: m})
		v.read(x, xpath.Dep{Node: n, Anchor: n}, true)
		v.readAll(x, n)
	}
	v.compileRef(n)
	if err := v.compileUnique(n); err != nil {
		return err
	}
	in := &v.info[n.ID]
	in.demands = needs(n)
	if n.Kind != yang.Choice && n.Kind != yang.Case {
		in.demands = slices.ContainsFunc(n.Kids, func(k *yang.Node) bool { return needs(k) || k.Max > 0 })
	}
	if n.Kind != yang.Root && n.Parent != n.Up && n.Kind != yang.Choice && n.Kind != yang.Case {
		in.fellows = fellows(n)
	}
	for _, k := range n.Kids {
		switch k.Kind {
		case yang.RPC, yang.Action, yang.Notification:
			continue
		}
		if err := v.compile(k); err != nil {
			return err
		}
	}
	return nil
}

func (v *Validator) add(x *rule) *rule {
	x.id = v.nRules
	x.lowest = maxLevel
	v.nRules++
	return x
}

// readAll registers what the expression of a rule reads. n is where the
// statement stands, for messages.
func (v *Validator) readAll(x *rule, n *yang.Node) {
	for _, u := range x.expr.Unknown {
		v.unknown = append(v.unknown, xpath.Name(n)+": "+u)
	}
	for _, d := range x.expr.Reads {
		if d.Anchor == n && x.ctx == n.Up { // the dummy of a when is all there is of it
			d.Anchor = n.Up
		}
		v.read(x, d, false)
	}
	if x.expr.ReadsAll {
		v.always = append(v.always, x)
	}
}

func (v *Validator) read(x *rule, d xpath.Dep, own bool) {
	if d.Node.Kind == yang.Root || !d.Node.Config {
		return
	}
	rd := &reader{rule: x, anchor: d.Anchor, level: depth(d.Anchor), down: chain(d.Anchor, x.ctx), own: own,
		id: fmt.Sprint(d.Anchor.ID, own)}
	rd.sole = own && (x.kind != ruleGuard || len(x.covers) == 1 && d.Node.Kind != yang.List && d.Node.Kind != yang.LeafList)
	x.lowest = min(x.lowest, rd.level)
	in := &v.info[d.Node.ID]
	in.allReaders = append(in.allReaders, rd)
	if x.kind == ruleGuard {
		in.guardReaders = append(in.guardReaders, rd)
	}
}

func depth(n *yang.Node) int {
	d := 0
	for n = n.Up; n != nil; n = n.Up {
		d++
	}
	return d
}

// chain gives the data nodes from below a down to n.
func chain(a, n *yang.Node) (out []*yang.Node) {
	for ; n != a; n = n.Up {
		out = append(out, n)
	}
	slices.Reverse(out)
	return out
}

// dataNodes gives n itself, or the data nodes of a choice or case.
func dataNodes(n *yang.Node) (out []*yang.Node) {
	if n.Kind != yang.Choice && n.Kind != yang.Case {
		return []*yang.Node{n}
	}
	for _, k := range n.Kids {
		out = append(out, dataNodes(k)...)
	}
	return out
}

// fellows gives the nodes of the outermost choice around n that have defaults.
func fellows(n *yang.Node) (out []*yang.Node) {
	c := n
	for c.Parent != n.Up {
		c = c.Parent
	}
	for _, d := range dataNodes(c) {
		if d != n && d.Config && implicit(d) {
			out = append(out, d)
		}
	}
	return out
}

// needs tells whether something has to be there for n to be valid where its
// parent is: itself, or something in it that its absence does not excuse.
func needs(n *yang.Node) bool {
	if !n.Config {
		return false
	}
	switch n.Kind {
	case yang.Leaf, yang.AnyData:
		return n.Mandatory && !n.IsKey()
	case yang.List, yang.LeafList:
		return n.Min > 0
	case yang.Container:
		return !n.Presence && slices.ContainsFunc(n.Kids, needs)
	case yang.Choice:
		return n.Mandatory || slices.ContainsFunc(n.Kids, needs)
	case yang.Case:
		return slices.ContainsFunc(n.Kids, needs)
	}
	return false
}

// mark notes bottom-up where there is something to do.
func (v *Validator) mark(n *yang.Node) {
	in := &v.info[n.ID]
	in.worthGuards = len(in.guardReaders) > 0
	in.worthAny = len(in.allReaders) > 0 || in.ref != nil || len(in.targetOf) > 0 || len(in.unique) > 0 || len(in.lists) > 0 || in.demands
	for _, k := range n.Data {
		if !k.Config {
			continue
		}
		v.mark(k)
		if v.info[k.ID].worthGuards {
			in.worthGuards = true
			in.kidsGuards = append(in.kidsGuards, k)
		}
		if v.info[k.ID].worthAny {
			in.worthAny = true
			in.kidsAny = append(in.kidsAny, k)
		}
	}
	for _, k := range n.Data { // now that all of them are marked
		in := &v.info[k.ID]
		in.siblings = slices.DeleteFunc(slices.Clone(in.fellows), func(d *yang.Node) bool { return !v.info[d.ID].worthAny })
	}
}

// members gives the types of a union, unions in it seen through.
func members(t *yang.Type) []*yang.Type {
	if t.Base != yang.Union {
		return []*yang.Type{t}
	}
	var out []*yang.Type
	for _, m := range t.Members {
		out = append(out, members(m)...)
	}
	return out
}

// compileUnique resolves the unique statements of a list.
func (v *Validator) compileUnique(n *yang.Node) error {
	for _, u := range n.Unique {
		x := &uniqueRule{list: n, id: v.nRules}
		v.nRules++
		for _, path := range u {
			at := n
			var steps []*yang.Node
			for _, name := range strings.Split(path, "/") {
				if at = descendant(n, at, name); at == nil {
					return fmt.Errorf("unique of %s: no node %s", n.Path(), path)
				}
				steps = append(steps, at)
			}
			if at.Kind != yang.Leaf {
				return fmt.Errorf("unique of %s: %s is not a leaf", n.Path(), path)
			}
			x.leaves = append(x.leaves, steps)
			v.info[at.ID].unique = append(v.info[at.ID].unique, x)
		}
		v.info[n.ID].lists = append(v.info[n.ID].lists, x)
	}
	return nil
}

// descendant finds a child by the name in a unique statement. The prefix is
// known only in the module's text; a name that the list's module lacks is
// looked for in the others.
func descendant(list, at *yang.Node, name string) *yang.Node {
	if _, local, ok := strings.Cut(name, ":"); ok {
		name = local
	}
	if k := at.Child(list.Module, []byte(name)); k != nil {
		return k
	}
	return at.Child(nil, []byte(name))
}
