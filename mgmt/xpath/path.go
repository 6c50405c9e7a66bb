package xpath

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// path is a location path, or a filter expression with steps behind it.
type path struct {
	abs        bool
	start      expr // a node set, nil for a plain location path
	startPreds []expr
	steps      []*step
	ordered    bool // each() gives document order without duplicates
	// cuts are the steps behind which nodes that were reached more than once
	// are made one, lest "a/../a/../a" multiplies the work.
	cuts []int
}

type step struct {
	axis     axis
	test     testKind
	name     string // "*" for any
	mod, alt *yang.Module
	preds    []expr

	// found over the schema:
	pos  bool // a predicate depends on the position
	dyn  bool // nodes unknown to the schema walk may come: compare names
	to   map[*yang.Node][]*yang.Node
	via  map[*yang.Node]bool // schema nodes on the way to those that match
	plan []*lookup
}

// addStep appends a step; "//name" becomes one step down where the position
// cannot tell the difference.
func (x *path) addStep(s *step) {
	if n := len(x.steps); n > 0 && s.axis == axChild && !slices.ContainsFunc(s.preds, positional) {
		if l := x.steps[n-1]; l.axis == axDescendantOrSelf && l.test == testNode && l.preds == nil {
			s.axis = axDescendant
			x.steps[n-1] = s
			return
		}
	}
	x.steps = append(x.steps, s)
}

func (x *path) each(e *Eval, c cx, yield func(*Instance) bool) bool {
	if len(x.cuts) == 0 {
		return x.from(e, c, func(n *Instance) bool { return x.walk(e, 0, len(x.steps), n, yield) })
	}
	var set []*Instance
	at := 0
	e.held(func() {
		x.from(e, c, func(n *Instance) bool { set = append(set, n); return true })
		for _, cut := range x.cuts {
			var out []*Instance
			for _, n := range set {
				x.walk(e, at, cut+1, n, func(m *Instance) bool {
					if len(out) == 0 || !same(out[len(out)-1], m) {
						out = append(out, m)
					}
					return true
				})
			}
			set, at = e.sorted(out), cut+1
		}
	})
	for _, n := range set {
		if !x.walk(e, at, len(x.steps), n, yield) {
			return false
		}
	}
	return true
}

// from visits the nodes that the steps begin with.
func (x *path) from(e *Eval, c cx, yield func(*Instance) bool) bool {
	switch {
	case x.abs:
		return yield(e.root)
	case x.start == nil:
		return yield(c.node)
	case len(x.startPreds) == 0 && len(x.steps) > 0:
		return x.start.(setX).each(e, c, yield)
	}
	for _, n := range e.keep(x.startPreds, e.nodes(x.start, c)) {
		if !yield(n) {
			return false
		}
	}
	return true
}

// walk takes the steps from k to end. Steps that lead to one node at most need
// no closure.
func (x *path) walk(e *Eval, k, end int, n *Instance, yield func(*Instance) bool) bool {
	for ; k < end; k++ {
		s := x.steps[k]
		if len(s.preds) > 0 {
			break
		}
		switch s.axis {
		case axSelf:
			if !s.meets(n) {
				return true
			}
		case axParent:
			if n.Up == nil || !s.meets(n.Up) {
				return true
			}
			n = n.Up
		case axNone:
			return true
		default:
			return s.each(e, n, func(m *Instance) bool { return x.walk(e, k+1, end, m, yield) })
		}
	}
	if k == end {
		return yield(n)
	}
	return x.steps[k].each(e, n, func(m *Instance) bool { return x.walk(e, k+1, end, m, yield) })
}

// sole finds the one node of a path that leads from node to node, as "../type"
// does, nil when it is not there. Most conditions of models are such, and need
// no closure then. ok is false for a path that may find several.
func (x *path) sole(e *Eval, c cx) (n *Instance, ok bool) {
	if x.start != nil || len(x.cuts) > 0 {
		return nil, false
	}
	if n = c.node; x.abs {
		n = e.root
	}
	for _, s := range x.steps {
		if len(s.preds) > 0 {
			return nil, false
		}
		switch s.axis {
		case axSelf:
		case axParent:
			if n = n.Up; n == nil {
				return nil, true
			}
		case axChild:
			to := s.to[n.Schema]
			if s.dyn || n.text || leafy(n.Schema) || len(to) != 1 || to[0].Kind == yang.List || to[0].Kind == yang.LeafList {
				return nil, false
			}
			if n = e.kid(n, to[0]); n == nil {
				return nil, true
			}
			continue
		default:
			return nil, false
		}
		if !s.meets(n) {
			return nil, true
		}
	}
	return n, true
}

func (s *step) meets(i *Instance) bool { return s.matches(place{i.Schema, i.text}) }

// each visits what the step finds from one node.
func (s *step) each(e *Eval, n *Instance, yield func(*Instance) bool) bool {
	switch {
	case len(s.preds) == 0:
		return s.along(e, n, yield)
	case s.plan != nil && !n.text && s.planned(e, n):
		return s.lookUp(e, n, yield)
	case !s.pos:
		return s.along(e, n, func(m *Instance) bool { return !e.holds(s.preds, m) || yield(m) })
	}
	var all []*Instance
	e.held(func() {
		s.along(e, n, func(m *Instance) bool {
			all = append(all, m)
			return true
		})
	})
	for _, m := range e.keep(s.preds, all) {
		if !yield(m) {
			return false
		}
	}
	return true
}

// holds evaluates predicates that do not depend on the position.
func (e *Eval) holds(preds []expr, n *Instance) bool {
	for _, p := range preds {
		if !e.boolean(p, cx{n, 1, 1}) {
			return false
		}
	}
	return true
}

// keep evaluates predicates one after the other, each with the positions that
// the one before left.
func (e *Eval) keep(preds []expr, all []*Instance) []*Instance {
	for _, p := range preds {
		size := len(all)
		var out []*Instance
		for i, n := range all {
			if !e.spend(0) {
				return nil
			}
			c := cx{n, i + 1, size}
			if p.kind() == kNumber && e.number(p, c) == float64(i+1) || p.kind() != kNumber && e.boolean(p, c) {
				out = append(out, n)
			}
		}
		all = out
	}
	return all
}

// along visits the nodes of the axis that pass the test, in the axis's own
// order.
func (s *step) along(e *Eval, n *Instance, yield func(*Instance) bool) bool {
	filter := func(m *Instance) bool { return !s.meets(m) || yield(m) }
	switch s.axis {
	case axChild:
		if leafy(n.Schema) && !n.text && !n.dummy {
			return s.test != testNode && s.test != testText || e.textOf(n, yield)
		}
		if n.text {
			return true
		}
		if s.dyn {
			return e.children(n, filter)
		}
		for _, d := range s.to[n.Schema] {
			if !e.kids(n, d, yield) {
				return false
			}
		}
		return true
	case axDescendantOrSelf:
		return filter(n) && s.down(e, n, yield)
	case axDescendant:
		return s.down(e, n, yield)
	case axSelf:
		return filter(n)
	case axParent:
		return n.Up == nil || filter(n.Up)
	case axAncestorOrSelf:
		return filter(n) && up(n, filter)
	case axAncestor:
		return up(n, filter)
	case axFollowingSibling:
		return siblings(e, n, filter)
	case axPrecedingSibling:
		return backwards(e, func(f func(*Instance) bool) bool { return siblingsBefore(e, n, f) }, filter)
	case axFollowing:
		for m := n; m != nil; m = m.Up {
			if !siblings(e, m, func(k *Instance) bool { return filter(k) && e.descend(k, filter) }) {
				return false
			}
		}
		return true
	case axPreceding:
		return backwards(e, func(f func(*Instance) bool) bool {
			chain := []*Instance{}
			for m := n; m != nil; m = m.Up {
				chain = append(chain, m)
			}
			for _, m := range slices.Backward(chain) {
				if !siblingsBefore(e, m, func(k *Instance) bool { return f(k) && e.descend(k, f) }) {
					return false
				}
			}
			return true
		}, filter)
	}
	return true
}

func (e *Eval) textOf(n *Instance, yield func(*Instance) bool) bool {
	if v, ok := e.Value(n); !ok || v.Text == "" || !e.spend(0) {
		return true // XPath has no empty text nodes
	}
	t := e.make(n, n.Schema, n.Node, "")
	t.text = true
	return yield(t)
}

// down visits the descendants that pass the test, looking only where the
// schema has any.
func (s *step) down(e *Eval, n *Instance, yield func(*Instance) bool) bool {
	if n.text || n.dummy {
		return true
	}
	if leafy(n.Schema) {
		return s.test != testNode && s.test != testText || e.textOf(n, yield)
	}
	for _, d := range n.Schema.Data {
		if !s.dyn && !s.via[d] {
			continue
		}
		if !e.kids(n, d, func(k *Instance) bool { return (!s.meets(k) || yield(k)) && s.down(e, k, yield) }) {
			return false
		}
	}
	return true
}

// descend visits all descendants in document order.
func (e *Eval) descend(n *Instance, f func(*Instance) bool) bool {
	if leafy(n.Schema) && !n.text {
		return e.textOf(n, f)
	}
	return e.children(n, func(k *Instance) bool { return f(k) && e.descend(k, f) })
}

func up(n *Instance, f func(*Instance) bool) bool {
	for n = n.Up; n != nil; n = n.Up {
		if !f(n) {
			return false
		}
	}
	return true
}

// siblings visits those behind n.
func siblings(e *Eval, n *Instance, f func(*Instance) bool) bool {
	if n.Up == nil || n.text {
		return true
	}
	behind := false
	return e.children(n.Up, func(k *Instance) bool {
		if behind {
			return f(k)
		}
		behind = same(k, n)
		return true
	})
}

// siblingsBefore visits those before n in document order.
func siblingsBefore(e *Eval, n *Instance, f func(*Instance) bool) bool {
	if n.Up == nil || n.text {
		return true
	}
	ok := true
	e.children(n.Up, func(k *Instance) bool {
		if same(k, n) {
			return false
		}
		ok = f(k)
		return ok
	})
	return ok
}

// backwards visits what walk finds from the end, as reverse axes count.
func backwards(e *Eval, walk func(func(*Instance) bool) bool, f func(*Instance) bool) bool {
	var all []*Instance
	e.held(func() {
		walk(func(n *Instance) bool {
			all = append(all, n)
			return e.spend(0)
		})
	})
	for _, n := range slices.Backward(all) {
		if !f(n) {
			return false
		}
	}
	return true
}

// planned tells whether lookups cover all that the step can meet below n.
func (s *step) planned(e *Eval, n *Instance) bool {
	to := s.to[n.Schema]
	if s.pos && len(to) > 1 {
		return false // positions count over all of them
	}
	for _, d := range to {
		if s.planOf(d) == nil {
			return false
		}
		for i := range e.hides {
			if e.hides[i].covers(n, d) {
				return false
			}
		}
	}
	return true
}

func (s *step) planOf(d *yang.Node) *lookup {
	for _, l := range s.plan {
		if l.list == d {
			return l
		}
	}
	return nil
}

// lookUp visits the entries that have the wanted keys.
func (s *step) lookUp(e *Eval, n *Instance, yield func(*Instance) bool) bool {
	for _, d := range s.to[n.Schema] {
		l := s.planOf(d)
		list, _ := n.container().Child(d).(*data.List)
		if list == nil { // of a leaf-list there may be defaults
			if !e.kids(n, d, func(m *Instance) bool { return !e.holds(s.preds, m) || yield(m) }) {
				return false
			}
			continue
		}
		var found []*Instance
		one := func(key string) bool {
			if entry := list.Get(key); entry != nil {
				m := e.make(n, d, entry, key)
				if s.pos {
					found = append(found, m)
				} else if e.holds(l.rest, m) && !yield(m) {
					return false
				}
			}
			return e.spend(0)
		}
		if len(l.keys) == 1 && l.keys[0].kind() == kString {
			if !one(e.string(l.keys[0], cx{n, 1, 1})) {
				return false
			}
		} else {
			keys := make([][]string, len(l.keys))
			for i, x := range l.keys {
				keys[i] = e.keyValues(x, n)
			}
			if !combine(keys, nil, one) {
				return false
			}
		}
		slices.SortFunc(found, order)
		for _, m := range e.keep(l.rest, found) {
			if !yield(m) {
				return false
			}
		}
	}
	return true
}

// keyValues computes what a key may be.
func (e *Eval) keyValues(x expr, n *Instance) []string {
	switch x.kind() {
	case kString:
		return []string{x.(strX).str(e, cx{n, 1, 1})}
	case kNumber:
		f := x.(numX).num(e, cx{n, 1, 1})
		if f != math.Trunc(f) || math.IsInf(f, 0) {
			return nil
		}
		return []string{strconv.FormatFloat(f+0, 'f', 0, 64)}
	}
	var out []string
	x.(setX).each(e, cx{n, 1, 1}, func(m *Instance) bool {
		if t := e.text(m); !slices.Contains(out, t) {
			out = append(out, t)
		}
		return e.spend(len(out))
	})
	return out
}

// combine visits every combination of key values, joined as data.Key does.
func combine(keys [][]string, got []string, f func(string) bool) bool {
	if len(keys) == len(got) {
		return f(strings.Join(got, "\x00"))
	}
	for _, k := range keys[len(got)] {
		if !combine(keys, append(got[:len(got):len(got)], k), f) {
			return false
		}
	}
	return true
}
