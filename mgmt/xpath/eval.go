package xpath

import (
	"errors"
	"regexp"
	"slices"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// ErrSteps tells that an evaluation was stopped because it looked at too many
// nodes. For a client's filter the error-tag is resource-denied or too-big.
var ErrSteps = errors.New("XPath: the evaluation takes too many steps")

// DefaultSteps bounds the nodes that one evaluation may look at: a few seconds
// of work.
const DefaultSteps = 10_000_000

// An Eval evaluates expressions on one tree. It is for one goroutine and for a
// short time: it keeps memory for reuse.
type Eval struct {
	// Steps bounds each evaluation; New sets DefaultSteps.
	Steps int
	// Count is the number of evaluations so far, those of conditions of
	// defaults on the way not counted.
	Count int

	eng     *Engine
	root    *Instance
	current *Instance
	left    int
	hides   []hide
	slab    slab
	// passing tells that nodes are looked at and forgotten: kids may give an
	// instance back as soon as its visit is over.
	passing bool

	patterns map[string]*regexp.Regexp // of re-match()
}

// hide is a condition under evaluation: below parent the nodes it covers are
// not there, or one node counts as empty.
type hide struct {
	parent *Instance
	nodes  []*yang.Node
	dummy  *Instance
}

// On begins evaluations on a tree.
func (g *Engine) On(root *data.Container) *Eval {
	return &Eval{Steps: DefaultSteps, eng: g, root: &Instance{Schema: root.S, Node: root}}
}

// slab hands out instances that are given back all at once. Most evaluations
// need a few, some very many.
type slab struct {
	first  [12]Instance
	chunks [][]Instance
	n      int // used
}

const chunk = 256

// maxInstances bounds the instances that one evaluation holds at a time, about
// 64 MB of them: a client's filter must not take the memory of the router.
// Every node of a tree with 100 000 routes is well below.
const maxInstances = 1 << 20

func (s *slab) get() *Instance {
	n := s.n
	s.n++
	if n < len(s.first) {
		return &s.first[n]
	}
	n -= len(s.first)
	if n/chunk == len(s.chunks) {
		s.chunks = append(s.chunks, make([]Instance, chunk))
	}
	return &s.chunks[n/chunk][n%chunk]
}

func (e *Eval) make(up *Instance, s *yang.Node, n data.Node, key string) *Instance {
	if e.slab.n >= maxInstances {
		e.left = -1 // it is over, as soon as the next step is counted
	}
	i := e.slab.get()
	*i = Instance{Up: up, Schema: s, Node: n, Key: key}
	return i
}

// spend counts work; false means that the evaluation is over.
func (e *Eval) spend(n int) bool {
	e.left -= n + 1
	return e.left >= 0
}

// run evaluates with at as the context node and as current().
func (e *Eval) run(x *Expr, at *Instance, f func(cx)) error {
	if at.Schema != x.At {
		return bad(x.Text, -1, "evaluated at %s, compiled for %s", Name(at.Schema), Name(x.At))
	}
	e.Count++
	e.left = e.Steps
	mark, old := e.slab.n, e.current
	e.current = at
	f(cx{at, 1, 1})
	e.slab.n, e.current = mark, old
	if e.left < 0 {
		return ErrSteps
	}
	return nil
}

// Bool evaluates as boolean() would, with at as the context node.
func (e *Eval) Bool(x *Expr, at *Instance) (r bool, err error) {
	err = e.run(x, at, func(c cx) { r = e.boolean(x.root, c) })
	return r, err
}

// String evaluates as string() would.
func (e *Eval) String(x *Expr, at *Instance) (r string, err error) {
	err = e.run(x, at, func(c cx) { r = e.string(x.root, c) })
	return r, err
}

// Number evaluates as number() would.
func (e *Eval) Number(x *Expr, at *Instance) (r float64, err error) {
	err = e.run(x, at, func(c cx) { r = e.number(x.root, c) })
	return r, err
}

// Each visits the nodes of a node set in document order until f says false.
// The instances are valid only during the call of f.
func (e *Eval) Each(x *Expr, at *Instance, f func(*Instance) bool) error {
	if !x.Nodes() {
		return bad(x.Text, -1, "the result is not a node set")
	}
	return e.run(x, at, func(c cx) {
		for _, n := range e.nodes(x.root, c) {
			if e.left < 0 || !f(n) {
				return
			}
		}
	})
}

// Matches tells whether a node of the set satisfies f. It visits nodes in any
// order and more than once, and is therefore faster than Each.
func (e *Eval) Matches(x *Expr, at *Instance, f func(*Instance) bool) (found bool, err error) {
	if !x.Nodes() {
		return false, bad(x.Text, -1, "the result is not a node set")
	}
	err = e.run(x, at, func(c cx) {
		found = e.any(x.root, c, f)
	})
	return found, err
}

// Root gives the root of the tree.
func (e *Eval) Root() *Instance { return e.root }

// At finds an instance of the accessible tree, nil when it is not there.
func (e *Eval) At(p *data.Path) *Instance {
	e.left = e.Steps
	var i *Instance
	e.held(func() { i = e.at(p) })
	return i
}

func (e *Eval) at(p *data.Path) (found *Instance) {
	if p == nil {
		return e.root
	}
	if up := e.at(p.Up); up != nil {
		e.child(up, p.Schema, p.Key, func(i *Instance) bool {
			found = i
			return false
		})
	}
	return found
}

// Child finds a child; key is that of a list entry or the value of a leaf-list
// entry. It is nil when there is none. Like that of At, the instance is good
// until Free.
func (e *Eval) Child(up *Instance, s *yang.Node, key string) (found *Instance) {
	e.left = e.Steps
	e.held(func() {
		e.child(up, s, key, func(i *Instance) bool {
			found = i
			return false
		})
	})
	return found
}

// Kids visits the instances of one child schema node below up. An instance is
// good only during the call of f.
func (e *Eval) Kids(up *Instance, s *yang.Node, f func(*Instance) bool) {
	e.left = e.Steps
	mark := e.slab.n
	e.kids(up, s, func(i *Instance) bool {
		ok := f(i)
		e.left, e.slab.n = e.Steps, mark
		return ok
	})
}

// Mark names a moment for Free.
func (e *Eval) Mark() int { return e.slab.n }

// Free gives back the memory of all instances made since mark; none of them
// may be used any more.
func (e *Eval) Free(mark int) { e.slab.n = mark }

// held runs f while visited nodes stay valid after their visit.
func (e *Eval) held(f func()) {
	old := e.passing
	e.passing = false
	f()
	e.passing = old
}

// nodes gives a node set without duplicates in document order.
func (e *Eval) nodes(x expr, c cx) []*Instance {
	var out []*Instance
	e.held(func() {
		x.(setX).each(e, c, func(n *Instance) bool {
			out = append(out, n)
			return true
		})
	})
	if p, ok := x.(*path); ok && p.ordered {
		return out
	}
	return e.sorted(out)
}

// sorted brings nodes into document order and drops duplicates.
func (e *Eval) sorted(set []*Instance) []*Instance {
	if len(set) < 2 || !e.spend(len(set)) {
		return set
	}
	slices.SortStableFunc(set, order)
	return slices.CompactFunc(set, func(a, b *Instance) bool { return order(a, b) == 0 })
}

// first gives the first node in document order, nil for the empty set.
func (e *Eval) first(x expr, c cx) (r *Instance) {
	if p, ok := x.(*path); !ok || !p.ordered {
		if n := e.nodes(x, c); len(n) > 0 {
			return n[0]
		}
		return nil
	}
	e.held(func() {
		x.(setX).each(e, c, func(n *Instance) bool {
			r = n
			return false
		})
	})
	return r
}

// boolean, number and string leave no instance behind: what they made is given
// back.
func (e *Eval) boolean(x expr, c cx) (r bool) {
	mark := e.slab.n
	switch x.kind() {
	case kBool:
		r = x.(boolX).bool(e, c)
	case kNumber:
		n := x.(numX).num(e, c)
		r = n != 0 && n == n
	case kString:
		r = x.(strX).str(e, c) != ""
	default:
		if n, ok := e.sole(x, c); ok {
			r = n != nil
		} else {
			r = e.any(x, c, func(*Instance) bool { return true })
		}
	}
	e.slab.n = mark
	return r
}

// sole is path.sole, of other sets nothing.
func (e *Eval) sole(x expr, c cx) (n *Instance, ok bool) {
	if p, is := x.(*path); is {
		return p.sole(e, c)
	}
	return nil, false
}

// any tells whether f holds for a node of a set.
func (e *Eval) any(x expr, c cx, f func(*Instance) bool) bool {
	old := e.passing
	e.passing = true
	found := !x.(setX).each(e, c, func(n *Instance) bool { return !f(n) })
	e.passing = old
	return found
}

func (e *Eval) number(x expr, c cx) (r float64) {
	mark := e.slab.n
	switch x.kind() {
	case kBool:
		r = truth(x.(boolX).bool(e, c))
	case kNumber:
		r = x.(numX).num(e, c)
	default:
		r = toNumber(e.string(x, c))
	}
	e.slab.n = mark
	return r
}

func (e *Eval) string(x expr, c cx) (r string) {
	mark := e.slab.n
	switch x.kind() {
	case kBool:
		r = "false"
		if x.(boolX).bool(e, c) {
			r = "true"
		}
	case kNumber:
		r = fromNumber(x.(numX).num(e, c))
	case kString:
		r = x.(strX).str(e, c)
	default:
		if n := e.first(x, c); n != nil {
			r = e.text(n)
		}
	}
	e.slab.n = mark
	return r
}
