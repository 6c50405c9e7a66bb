package xpath

import "math"

// logic is "and" or "or".
type logic struct {
	op   string
	l, r expr
}

// compare is one of = != < <= > >=.
type compare struct {
	op   string
	l, r expr
}

// arith is one of + - * div mod.
type arith struct {
	op   string
	l, r expr
}

type negate struct{ of expr }

type union struct{ of []expr }

type numLit float64

type strLit struct{ s string }

// emptySet is what id() finds: a data tree has no unique IDs.
type emptySet struct{}

// currentX is the function current().
type currentX struct{}

// deref is the function deref().
type deref struct{ of expr }

func newBinary(op string, l, r expr) expr {
	switch op {
	case "and", "or":
		return &logic{op, l, r}
	case "=", "!=", "<", "<=", ">", ">=":
		return &compare{op, l, r}
	}
	return &arith{op, l, r}
}

func (*logic) kind() kind   { return kBool }
func (*compare) kind() kind { return kBool }
func (*arith) kind() kind   { return kNumber }
func (*negate) kind() kind  { return kNumber }
func (*union) kind() kind   { return kNodes }
func (numLit) kind() kind   { return kNumber }
func (*strLit) kind() kind  { return kString }
func (emptySet) kind() kind { return kNodes }
func (currentX) kind() kind { return kNodes }
func (*deref) kind() kind   { return kNodes }
func (*path) kind() kind    { return kNodes }
func (x *call) kind() kind  { return x.f.kind }

func (x numLit) num(*Eval, cx) float64 { return float64(x) }
func (x *strLit) str(*Eval, cx) string { return x.s }

func (x *logic) bool(e *Eval, c cx) bool {
	l := e.boolean(x.l, c)
	if l == (x.op == "or") {
		return l
	}
	return e.boolean(x.r, c)
}

func (x *arith) num(e *Eval, c cx) float64 {
	l, r := e.number(x.l, c), e.number(x.r, c)
	switch x.op {
	case "+":
		return l + r
	case "-":
		return l - r
	case "*":
		return l * r
	case "div":
		return l / r
	}
	return math.Mod(l, r)
}

func (x *negate) num(e *Eval, c cx) float64 { return -e.number(x.of, c) }

func (u *union) each(e *Eval, c cx, yield func(*Instance) bool) bool {
	for _, x := range u.of {
		if !x.(setX).each(e, c, yield) {
			return false
		}
	}
	return true
}

func (emptySet) each(*Eval, cx, func(*Instance) bool) bool { return true }

func (currentX) each(e *Eval, _ cx, yield func(*Instance) bool) bool { return yield(e.current) }

// bool of a comparison follows XPath 1.0 section 3.4: a node set compares true
// when any of its nodes does.
func (x *compare) bool(e *Eval, c cx) bool {
	l, r, op := x.l, x.r, x.op
	if l.kind() != kNodes && r.kind() == kNodes {
		l, r, op = r, l, mirror(op)
	}
	switch {
	case l.kind() != kNodes:
		return e.compareValues(op, l, r, c)
	case r.kind() == kBool:
		return numbers(op, truth(e.boolean(l, c)), truth(e.boolean(r, c)))
	case r.kind() == kNumber || op[0] == '<' || op[0] == '>':
		if r.kind() == kNodes {
			return e.compareSets(op, l, r, c)
		}
		want := e.number(r, c)
		return e.any(l, c, func(n *Instance) bool { return numbers(op, e.nodeNumber(n), want) })
	case r.kind() == kString:
		want := e.string(r, c)
		if n, ok := e.sole(l, c); ok {
			return n != nil && (e.text(n) == want) == (op == "=")
		}
		return e.any(l, c, func(n *Instance) bool { return (e.text(n) == want) == (op == "=") })
	}
	return e.compareSets(op, l, r, c)
}

func mirror(op string) string {
	switch op {
	case "<":
		return ">"
	case "<=":
		return ">="
	case ">":
		return "<"
	case ">=":
		return "<="
	}
	return op
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *Eval) compareValues(op string, l, r expr, c cx) bool {
	if op == "=" || op == "!=" {
		switch {
		case l.kind() == kBool || r.kind() == kBool:
			return (e.boolean(l, c) == e.boolean(r, c)) == (op == "=")
		case l.kind() == kString && r.kind() == kString:
			return (e.string(l, c) == e.string(r, c)) == (op == "=")
		}
	}
	return numbers(op, e.number(l, c), e.number(r, c))
}

func numbers(op string, a, b float64) bool {
	switch op {
	case "=":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b
}

// compareSets finds a pair of nodes for which the comparison holds.
func (e *Eval) compareSets(op string, l, r expr, c cx) bool {
	if op != "=" && op != "!=" { // the extremes decide
		lo, hi := math.Inf(1), math.Inf(-1)
		seen := false
		e.any(r, c, func(n *Instance) bool {
			if v := e.nodeNumber(n); v == v {
				lo, hi, seen = min(lo, v), max(hi, v), true
			}
			return false
		})
		want := hi
		if op[0] == '>' {
			want = lo
		}
		return seen && e.any(l, c, func(n *Instance) bool { return numbers(op, e.nodeNumber(n), want) })
	}
	have := map[string]bool{}
	one := ""
	e.any(r, c, func(n *Instance) bool {
		one = e.text(n)
		have[one] = true
		return false
	})
	if len(have) == 0 {
		return false
	}
	return e.any(l, c, func(n *Instance) bool {
		t := e.text(n)
		if op == "=" {
			return have[t]
		}
		return len(have) > 1 || t != one // of two different values one differs
	})
}
