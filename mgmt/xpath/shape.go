package xpath

import (
	"slices"

	"vrouter/mgmt/yang"
)

// The compiler walks an expression once over the schema, as an evaluation
// would walk the tree. That tells which schema nodes each step can meet, so
// that evaluation need not compare names, and what the expression reads.

// use says what of a node set is wanted.
type use uint8

const (
	existence use = iota
	content       // the string value
)

// place is a schema node, or the text below a leaf.
type place struct {
	s    *yang.Node
	text bool
}

// A shape is the set of places that a node set can hold. Each has its anchor:
// the lowest schema node known to have one instance that stands above both
// the context node and the nodes of the place. The root is everyone's anchor.
type shape struct {
	list   []place
	anchor map[place]*yang.Node
	any    bool // nodes that the schema cannot tell, too
}

func (sh *shape) add(p place, anchor *yang.Node) {
	old, ok := sh.anchor[p]
	switch {
	case !ok:
		if sh.anchor == nil {
			sh.anchor = map[place]*yang.Node{}
		}
		sh.list = append(sh.list, p)
		sh.anchor[p] = anchor
	case depth(anchor) < depth(old):
		sh.anchor[p] = anchor
	}
}

func (sh *shape) merge(o shape) {
	sh.any = sh.any || o.any
	for _, p := range o.list {
		sh.add(p, o.anchor[p])
	}
}

func depth(n *yang.Node) int {
	d := 0
	for n = n.Up; n != nil; n = n.Up {
		d++
	}
	return d
}

func higher(a, b *yang.Node) *yang.Node {
	if depth(a) < depth(b) {
		return a
	}
	return b
}

type analysis struct {
	c      *compiler
	ctx    *yang.Node
	reads  map[*yang.Node]*yang.Node // to the highest anchor
	any    bool
	budget int // schema nodes that may still be looked at
}

// maxShape bounds the work of an analysis; an expression beyond it counts as
// reading everything.
const maxShape = 2_000_000

func (a *analysis) spend() bool {
	a.budget--
	if a.budget < 0 {
		a.any = true
	}
	return a.budget >= 0
}

func (a *analysis) read(s, anchor *yang.Node) {
	if old, ok := a.reads[s]; !ok || depth(anchor) < depth(old) {
		a.reads[s] = anchor
	}
}

// wanted notes what the use of a finished node set reads beyond existence.
func (a *analysis) wanted(sh shape, u use) shape {
	a.any = a.any || sh.any
	if u == content {
		for _, p := range sh.list {
			a.below(p.s, sh.anchor[p])
		}
	}
	return sh
}

func (a *analysis) below(s, anchor *yang.Node) {
	if !a.spend() {
		return
	}
	a.read(s, anchor)
	for _, d := range s.Data {
		a.below(d, anchor)
	}
}

func (x *path) shape(a *analysis, in shape, u use) shape {
	cur := in
	switch {
	case x.abs:
		cur = shape{}
		cur.add(place{s: a.c.engine.schema.Root}, a.c.engine.schema.Root)
	case x.start != nil:
		cur = x.start.shape(a, in, existence)
		for _, p := range x.startPreds {
			p.shape(a, cur, existence)
		}
	}
	_, one := x.start.(currentX)
	x.ordered = x.start == nil || one || len(x.steps) == 0
	down := false
	x.cuts = nil
	many := x.start != nil && !one // several nodes may have come so far
	for i, s := range x.steps {
		cur = s.shape(a, cur)
		if many && s.axis != axChild && s.axis != axSelf && s.axis != axNone && i < len(x.steps)-1 {
			x.cuts = append(x.cuts, i)
		}
		many = many || s.many()
		switch s.axis {
		case axSelf, axNone:
		case axChild:
			down = true
		case axParent:
			x.ordered = x.ordered && !down
		case axDescendant, axDescendantOrSelf:
			x.ordered = x.ordered && i == len(x.steps)-1
		default:
			x.ordered = false
		}
		for _, l := range s.plan {
			for _, k := range l.keys {
				x.ordered = x.ordered && k.kind() != kNodes
			}
		}
	}
	return a.wanted(cur, u)
}

// many tells whether a step can lead from one node to several.
func (s *step) many() bool {
	switch s.axis {
	case axSelf, axParent, axNone:
		return false
	case axChild:
		if s.dyn || s.test != testName {
			return true
		}
		for _, ds := range s.to {
			if len(ds) > 1 {
				return true
			}
			for _, d := range ds {
				l := s.planOf(d)
				if (d.Kind == yang.List || d.Kind == yang.LeafList) && (l == nil || slices.ContainsFunc(l.keys, func(k expr) bool { return k.kind() == kNodes })) {
					return true
				}
			}
		}
		return false
	}
	return true
}

// shape finds what the step meets, then lets the predicates see it.
func (s *step) shape(a *analysis, in shape) shape {
	out := s.meet(a, in)
	if s.alt != nil && len(out.list) == 0 && !in.any {
		m := s.mod
		s.mod, s.alt = s.alt, nil
		if out = s.meet(a, in); len(out.list) == 0 {
			s.mod = m
		}
	}
	s.dyn = out.any || a.any
	if len(out.list) == 0 && !out.any && s.test == testName && s.axis != axNone && len(in.list) > 0 {
		a.c.unknown = append(a.c.unknown, s.name)
	}
	for _, p := range out.list {
		if out.anchor[p] != p.s { // else it is the context node or above it, and there
			a.read(p.s, out.anchor[p])
		}
	}
	for _, p := range s.preds {
		p.shape(a, out, existence)
		s.pos = s.pos || positional(p)
	}
	if s.axis == axChild && !s.dyn {
		s.makePlans()
	}
	return out
}

// meet applies axis and test to each place of in.
func (s *step) meet(a *analysis, in shape) shape {
	out := shape{any: in.any && s.axis != axNone}
	s.to, s.via = map[*yang.Node][]*yang.Node{}, map[*yang.Node]bool{}
	add := func(p place, anchor *yang.Node) bool {
		if !s.matches(p) {
			return false
		}
		out.add(p, anchor)
		return true
	}
	var down func(p place, anchor *yang.Node) bool
	down = func(p place, anchor *yang.Node) (found bool) {
		a.each(p, func(k place) {
			hit := add(k, anchor)
			hit = down(k, anchor) || hit
			if hit && !k.text {
				s.via[k.s] = true
			}
			found = found || hit
		})
		return found
	}
	root := a.c.engine.schema.Root
	for _, p := range in.list {
		at := in.anchor[p]
		switch s.axis {
		case axChild:
			a.each(p, func(k place) {
				if add(k, at) && !k.text {
					s.to[p.s] = append(s.to[p.s], k.s)
				}
			})
		case axDescendantOrSelf:
			add(p, at)
			down(p, at)
		case axDescendant:
			down(p, at)
		case axSelf:
			add(p, at)
		case axParent:
			if up, upAt, ok := parent(p, at); ok {
				add(up, upAt)
			}
		case axAncestor, axAncestorOrSelf:
			if s.axis == axAncestorOrSelf {
				add(p, at)
			}
			for up, upAt, ok := parent(p, at); ok; up, upAt, ok = parent(up, upAt) {
				add(up, upAt)
			}
		case axFollowingSibling, axPrecedingSibling:
			if up, upAt, ok := parent(p, at); ok && !p.text {
				a.each(up, func(k place) { add(k, upAt) })
			}
		case axFollowing, axPreceding:
			down(place{s: root}, root)
		}
	}
	out.any = out.any || a.budget < 0
	return out
}

// each visits the places of the children.
func (a *analysis) each(p place, f func(place)) {
	switch {
	case p.text:
	case leafy(p.s):
		f(place{p.s, true})
	default:
		for _, d := range p.s.Data {
			if !a.spend() {
				return
			}
			f(place{s: d})
		}
	}
}

func parent(p place, anchor *yang.Node) (place, *yang.Node, bool) {
	if p.text {
		return place{s: p.s}, anchor, true
	}
	if p.s.Up == nil {
		return place{}, nil, false
	}
	return place{s: p.s.Up}, higher(p.s.Up, anchor), true
}

func (s *step) matches(p place) bool {
	switch s.test {
	case testNode:
		return true
	case testText:
		return p.text
	case testName:
		return !p.text && p.s.Kind != yang.Root && (s.name == "*" || s.name == p.s.Name) && (s.mod == nil || s.mod == p.s.Module)
	}
	return false
}

func (u *union) shape(a *analysis, in shape, w use) (out shape) {
	for _, x := range u.of {
		out.merge(x.shape(a, in, w))
	}
	return out
}

func (x *logic) shape(a *analysis, in shape, _ use) shape {
	x.l.shape(a, in, existence)
	x.r.shape(a, in, existence)
	return shape{}
}

func (x *arith) shape(a *analysis, in shape, _ use) shape {
	x.l.shape(a, in, content)
	x.r.shape(a, in, content)
	return shape{}
}

func (x *negate) shape(a *analysis, in shape, _ use) shape {
	x.of.shape(a, in, content)
	return shape{}
}

func (x *compare) shape(a *analysis, in shape, _ use) shape {
	w := content
	if x.l.kind() == kBool || x.r.kind() == kBool {
		w = existence
	}
	l, r := x.l.shape(a, in, w), x.r.shape(a, in, w)
	if x.op == "=" || x.op == "!=" {
		x.r = a.canonical(l, x.r)
		x.l = a.canonical(r, x.l)
	}
	return shape{}
}

// canonical brings a literal into the canonical form of the leaves that it is
// compared with, as values in the tree have it: prefixes of identities are
// those of the expression, IPv6 addresses may be written in any way. A literal
// that is no value of the leaf stays, and equals none.
func (a *analysis) canonical(sh shape, x expr) expr {
	lit, ok := x.(*strLit)
	if !ok || sh.any || len(sh.list) == 0 {
		return x
	}
	text := ""
	for i, p := range sh.list {
		if !leafy(p.s) {
			return x
		}
		v, err := p.s.Type.Parse(lit.s, a.c.ns)
		if err != nil || i > 0 && v.Text != text {
			return x
		}
		text = v.Text
	}
	return &strLit{text}
}

func (numLit) shape(*analysis, shape, use) shape  { return shape{} }
func (*strLit) shape(*analysis, shape, use) shape { return shape{} }

func (x *call) shape(a *analysis, in shape, _ use) shape {
	w := content
	if x.f.existence {
		w = existence
	}
	for _, y := range x.args {
		y.shape(a, in, w)
	}
	if len(x.args) == 0 && x.f.context {
		a.wanted(in, w)
	}
	return shape{}
}

func (emptySet) shape(*analysis, shape, use) shape { return shape{} }

func (currentX) shape(a *analysis, _ shape, w use) (out shape) {
	out.add(place{s: a.ctx}, a.ctx)
	return a.wanted(out, w)
}

// shape of deref(): the targets of the leafrefs, and what their paths read.
func (x *deref) shape(a *analysis, in shape, w use) (out shape) {
	from := x.of.shape(a, in, content)
	out.any = from.any
	for _, p := range from.list {
		if !leafy(p.s) {
			continue
		}
		anchor := from.anchor[p]
		for _, t := range a.c.engine.members(p.s.Type) {
			switch t.Base {
			case yang.InstanceIdentifier:
				out.any = true
			case yang.LeafRef:
				r, err := a.c.engine.refPath(p.s, t)
				if err != nil {
					out.any = true
					continue
				}
				a.any = a.any || r.ReadsAll
				for _, d := range r.Reads {
					a.read(d.Node, higher(d.Anchor, anchor))
				}
				for _, q := range r.result.list {
					out.add(q, higher(r.result.anchor[q], anchor))
				}
				out.any = out.any || r.result.any
			}
		}
	}
	return a.wanted(out, w)
}

// positional tells whether a predicate depends on the position.
func positional(x expr) bool { return x.kind() == kNumber || asks(x, "position", "last") }

// asks tells whether x calls one of the functions for its own context.
func asks(x expr, names ...string) bool {
	switch x := x.(type) {
	case *call:
		return slices.Contains(names, x.f.name) || slices.ContainsFunc(x.args, func(y expr) bool { return asks(y, names...) })
	case *logic:
		return asks(x.l, names...) || asks(x.r, names...)
	case *arith:
		return asks(x.l, names...) || asks(x.r, names...)
	case *compare:
		return asks(x.l, names...) || asks(x.r, names...)
	case *negate:
		return asks(x.of, names...)
	case *union:
		return slices.ContainsFunc(x.of, func(y expr) bool { return asks(y, names...) })
	case *deref:
		return asks(x.of, names...)
	case *path:
		return x.start != nil && asks(x.start, names...)
	}
	return false
}

// free tells whether x has the same value whatever node is looked at, so that
// it can be computed before the nodes are known.
func free(x expr) bool {
	switch x := x.(type) {
	case numLit, *strLit, emptySet, currentX:
		return true
	case *call:
		return !(x.f.context && len(x.args) == 0) && !slices.ContainsFunc(x.args, func(y expr) bool { return !free(y) })
	case *logic:
		return free(x.l) && free(x.r)
	case *arith:
		return free(x.l) && free(x.r)
	case *compare:
		return free(x.l) && free(x.r)
	case *negate:
		return free(x.of)
	case *union:
		return !slices.ContainsFunc(x.of, func(y expr) bool { return !free(y) })
	case *deref:
		return free(x.of)
	case *path:
		return x.abs || x.start != nil && free(x.start)
	}
	return false
}

// A lookup finds the entries of one list by their keys instead of trying all
// of them.
type lookup struct {
	list *yang.Node
	keys []expr // in key order; of a leaf-list one, the value
	rest []expr // predicates that are left
}

// makePlans looks for predicates [key = value] that name all keys of a list.
// Only predicates before the first positional one may be moved.
func (s *step) makePlans() {
	s.plan = nil
	n := 0
	for n < len(s.preds) && !positional(s.preds[n]) {
		n++
	}
	for _, ds := range s.to {
		for _, d := range ds {
			keys := d.Keys
			if d.Kind == yang.LeafList {
				keys = []*yang.Node{d}
			}
			if d.Kind != yang.List && d.Kind != yang.LeafList || len(keys) == 0 || n == 0 {
				continue
			}
			l := &lookup{list: d, keys: make([]expr, len(keys))}
			got := 0
			for _, p := range s.preds[:n] {
				k, x := keyTest(p, d)
				if k < 0 || l.keys[k] != nil {
					l.rest = append(l.rest, p)
					continue
				}
				l.keys[k] = x
				got++
			}
			if got == len(keys) {
				l.rest = append(l.rest, s.preds[n:]...)
				s.plan = append(s.plan, l)
			}
		}
	}
}

// keyTest reads a predicate as "key equals a value known beforehand".
func keyTest(p expr, list *yang.Node) (int, expr) {
	c, ok := p.(*compare)
	if !ok || c.op != "=" {
		return -1, nil
	}
	for _, o := range [][2]expr{{c.l, c.r}, {c.r, c.l}} {
		x, ok := o[0].(*path)
		if !ok || x.abs || x.start != nil || len(x.steps) != 1 || len(x.steps[0].preds) > 0 || !free(o[1]) || x.steps[0].dyn {
			continue
		}
		st, k := x.steps[0], -1
		switch {
		case list.Kind == yang.LeafList && st.axis == axSelf:
			k = 0
		case list.Kind == yang.List && st.axis == axChild && len(st.to[list]) == 1:
			k = slices.Index(list.Keys, st.to[list][0])
		}
		if k < 0 {
			continue
		}
		t := list.Type
		if list.Kind == yang.List {
			t = list.Keys[k].Type
		}
		switch o[1].kind() {
		case kString, kNodes:
			return k, o[1]
		case kNumber: // equal as numbers is equal as text for integers only
			if t.Base >= yang.Int8 && t.Base <= yang.Int64 || t.Base >= yang.Uint8 && t.Base <= yang.Uint64 {
				return k, o[1]
			}
		}
	}
	return -1, nil
}
