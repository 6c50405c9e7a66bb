package xpath

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Select evaluates a client's filter and gives the tree to print: the selected
// nodes with all below them, their ancestors, and the keys of the list entries
// on the way (RFC 6241 section 8.9.5.1). It shares what is selected whole with
// root. With defaults, selected defaults in use are there as *data.Implied;
// without, they are left out. Containers that were not selected themselves are
// Partial. An empty result is an empty tree. Errors are ErrSteps only.
func (g *Engine) Select(root *data.Container, x *Expr, defaults bool) (*data.Container, error) {
	e := g.On(root)
	p := data.Pick(root)
	err := e.Each(x, e.root, func(n *Instance) bool {
		if n.text {
			n = n.Up
		}
		if !n.Implied() {
			p.Add(n.Path())
		} else if defaults {
			e.pickDefaults(p, n)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return p.Tree(), nil
}

func (e *Eval) pickDefaults(p *data.Picker, n *Instance) {
	if v, ok := e.Value(n); ok {
		p.AddImplied(n.Path(), v)
		return
	}
	e.children(n, func(k *Instance) bool {
		e.pickDefaults(p, k)
		return true
	})
}

// maxTouched bounds what Touches tells apart.
const maxTouched = 64

// Touches tells beforehand where in a tree a filter may look or select: each
// path names a node that matters with all below it; a list step without Entry
// means any entry. The nil Path is the whole tree. Keys come from predicates
// with literals. State that no path covers need not be built: the evaluation
// gives the same result without it. It is for filters, whose context node is
// the root.
func (x *Expr) Touches() []*data.Path {
	t := &toucher{x: x}
	ends := t.expr(x.root, []*data.Path{nil}, true)
	for _, p := range ends {
		t.add(p)
	}
	return t.out
}

type toucher struct {
	x   *Expr
	out []*data.Path
}

// add keeps a path unless another covers it, and drops those that it covers.
func (t *toucher) add(p *data.Path) {
	keep := t.out[:0]
	for _, q := range t.out {
		if covers(q, p) {
			return
		}
		if !covers(p, q) {
			keep = append(keep, q)
		}
	}
	if t.out = append(keep, p); len(t.out) > maxTouched {
		t.out = []*data.Path{nil}
	}
}

// covers tells whether everything at and below b is at or below a.
func covers(a, b *data.Path) bool {
	for ; b != nil; b = b.Up {
		if matches(a, b) {
			return true
		}
	}
	return a == nil
}

func matches(a, b *data.Path) bool {
	for ; a != nil && b != nil; a, b = a.Up, b.Up {
		if a.Schema != b.Schema || a.Entry && (!b.Entry || a.Key != b.Key) {
			return false
		}
	}
	return a == nil && b == nil
}

// expr notes what an expression looks at from the paths in. Of a node set it
// gives the paths of the nodes; when whole, the caller takes them with all
// below, else only whether they are there matters.
func (t *toucher) expr(x expr, in []*data.Path, whole bool) []*data.Path {
	all := func(xs ...expr) {
		for _, y := range xs {
			for _, p := range t.expr(y, in, true) {
				t.add(p)
			}
		}
	}
	switch x := x.(type) {
	case *path:
		return t.path(x, in)
	case *union:
		var out []*data.Path
		for _, y := range x.of {
			out = append(out, t.expr(y, in, whole)...)
		}
		return out
	case currentX:
		return []*data.Path{nil}
	case *deref: // leads anywhere
		t.add(nil)
		return nil
	case *logic:
		all(x.l, x.r)
	case *arith:
		all(x.l, x.r)
	case *compare:
		all(x.l, x.r)
	case *negate:
		all(x.of)
	case *call:
		if len(x.args) == 0 && x.f.context && !x.f.existence {
			for _, p := range in {
				t.add(p)
			}
		}
		all(x.args...)
	}
	return nil
}

func (t *toucher) path(x *path, in []*data.Path) []*data.Path {
	switch {
	case x.abs:
		in = []*data.Path{nil}
	case x.start != nil:
		in = t.expr(x.start, in, true)
		for _, p := range x.startPreds {
			t.preds([]expr{p}, in)
		}
	}
	for _, s := range x.steps {
		if s.dyn || len(in) > maxTouched {
			t.add(nil)
			return nil
		}
		var out []*data.Path
		switch s.axis {
		case axNone:
			return nil
		case axSelf:
			out = in
			t.preds(s.preds, out)
		case axChild:
			for _, p := range in {
				out = append(out, t.child(s, p)...)
			}
		case axParent:
			for _, p := range in {
				t.add(p) // it must be there to be left
				if p != nil {
					out = append(out, p.Up)
				}
			}
			t.preds(s.preds, out)
		case axDescendant, axDescendantOrSelf:
			for _, p := range in {
				if s.axis == axDescendantOrSelf {
					out = append(out, p)
				}
				out = append(out, t.below(s, p)...)
			}
			t.preds(s.preds, out)
		default:
			t.add(nil)
			return nil
		}
		in = out
	}
	return in
}

func (t *toucher) child(s *step, p *data.Path) (out []*data.Path) {
	at := t.x.At
	if p != nil {
		at = p.Schema
	}
	if leafy(at) { // its text
		if s.test == testText || s.test == testNode {
			return []*data.Path{p}
		}
		return nil
	}
	for _, d := range s.to[at] {
		q := &data.Path{Up: p, Schema: d}
		preds := s.preds
		if l := s.planOf(d); l != nil && !s.pos {
			if key, ok := literalKey(l); ok {
				q.Key, q.Entry, preds = key, true, l.rest
			}
		}
		t.preds(preds, []*data.Path{q})
		out = append(out, q)
	}
	return out
}

// literalKey gives the key of a lookup whose parts are all literals.
func literalKey(l *lookup) (string, bool) {
	v := make([]yang.Value, len(l.keys))
	for i, k := range l.keys {
		lit, ok := k.(*strLit)
		if !ok {
			return "", false
		}
		v[i].Text = lit.s
	}
	return data.Key(v...), true
}

func (t *toucher) preds(preds []expr, at []*data.Path) {
	for _, x := range preds {
		if positional(x) { // counts its fellows
			for _, p := range at {
				if p != nil {
					p = &data.Path{Up: p.Up, Schema: p.Schema}
				}
				t.add(p)
			}
		}
		for _, p := range t.expr(x, at, true) {
			t.add(p)
		}
	}
}

// below gives the schema nodes below p that a descendant step can meet.
func (t *toucher) below(s *step, p *data.Path) (out []*data.Path) {
	at := t.x.At
	if p != nil {
		at = p.Schema
	}
	if leafy(at) { // its text
		return []*data.Path{p}
	}
	for _, d := range at.Data {
		if !s.via[d] {
			continue
		}
		q := &data.Path{Up: p, Schema: d}
		if s.matches(place{s: d}) || leafy(d) { // or its text
			out = append(out, q)
		}
		out = append(out, t.below(s, q)...)
	}
	return out
}
