package xpath

import "slices"

// kind is the type of an expression's value. XPath without variables is
// statically typed, so each expression knows its kind.
type kind uint8

const (
	kBool kind = iota
	kNumber
	kString
	kNodes
)

// An expr is a compiled part of an expression. Besides it implements one of
// boolX, numX, strX and setX, as its kind says.
type expr interface {
	kind() kind
	// shape gives the schema nodes that the value can hold and notes what the
	// evaluation reads.
	shape(a *analysis, in shape, use use) shape
}

// cx is the context of an evaluation: node, position and size.
type cx struct {
	node      *Instance
	pos, size int
}

type (
	boolX interface{ bool(*Eval, cx) bool }
	numX  interface{ num(*Eval, cx) float64 }
	strX  interface{ str(*Eval, cx) string }
	// each visits nodes until yield says false, and then says so. A node may
	// come twice and the order is any; nodes() sorts.
	setX interface {
		each(*Eval, cx, func(*Instance) bool) bool
	}
)

type axis uint8

const (
	axChild axis = iota
	axDescendant
	axDescendantOrSelf
	axParent
	axAncestor
	axAncestorOrSelf
	axFollowing
	axPreceding
	axFollowingSibling
	axPrecedingSibling
	axSelf
	axNone // attribute and namespace: a data tree has neither
)

var axes = map[string]axis{"child": axChild, "descendant": axDescendant, "descendant-or-self": axDescendantOrSelf,
	"parent": axParent, "ancestor": axAncestor, "ancestor-or-self": axAncestorOrSelf, "following": axFollowing,
	"preceding": axPreceding, "following-sibling": axFollowingSibling, "preceding-sibling": axPrecedingSibling,
	"self": axSelf, "attribute": axNone, "namespace": axNone}

type testKind uint8

const (
	testName testKind = iota // an element by name, or any with "*"
	testNode                 // node()
	testText                 // text()
	testNone                 // comment() and processing-instruction(): never there
)

type parser struct {
	c     *compiler
	tok   []token
	i     int
	depth int
	nodes int
}

func (p *parser) peek() *token { return &p.tok[p.i] }

func (p *parser) is(k tokenKind, text string) bool {
	t := p.peek()
	return t.kind == k && t.text == text
}

func (p *parser) take(k tokenKind, text string) bool {
	if p.is(k, text) {
		p.i++
		return true
	}
	return false
}

func (p *parser) want(text string) *Error {
	if !p.take(tSign, text) {
		return p.fail("%q is wanted", text)
	}
	return nil
}

func (p *parser) fail(f string, a ...any) *Error { return bad(p.c.text, p.peek().at, f, a...) }

func (p *parser) count() *Error {
	if p.nodes++; p.nodes > maxNodes {
		return p.fail("more than %d parts", maxNodes)
	}
	return nil
}

// levels are the binary operators, loosest first; all associate to the left.
var levels = [][]string{{"or"}, {"and"}, {"=", "!="}, {"<", "<=", ">", ">="}, {"+", "-"}, {"*", "div", "mod"}}

func (p *parser) expr() (expr, *Error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail("nested deeper than %d", maxDepth)
	}
	x, err := p.binary(0)
	p.depth--
	return x, err
}

func (p *parser) binary(level int) (expr, *Error) {
	if level == len(levels) {
		return p.unary()
	}
	l, err := p.binary(level + 1)
	for err == nil && p.peek().kind == tOp && slices.Contains(levels[level], p.peek().text) {
		op := p.peek().text
		p.i++
		var r expr
		if r, err = p.binary(level + 1); err != nil {
			break
		}
		if err = p.count(); err == nil {
			l = newBinary(op, l, r)
		}
	}
	return l, err
}

func (p *parser) unary() (expr, *Error) {
	minus := 0
	for p.take(tOp, "-") {
		minus++
	}
	x, err := p.union()
	if err != nil || minus == 0 {
		return x, err
	}
	if minus%2 == 0 {
		return &arith{op: "+", l: numLit(0), r: x}, p.count() // still a number
	}
	return &negate{x}, p.count()
}

func (p *parser) union() (expr, *Error) {
	first, err := p.path()
	if err != nil || !p.is(tOp, "|") {
		return first, err
	}
	u := &union{of: []expr{first}}
	for p.take(tOp, "|") {
		x, err := p.path()
		if err != nil {
			return nil, err
		}
		if err := p.count(); err != nil {
			return nil, err
		}
		u.of = append(u.of, x)
	}
	for _, x := range u.of {
		if x.kind() != kNodes {
			return nil, p.fail("both sides of | must be node sets")
		}
	}
	return u, nil
}

// path reads a location path or a filter expression with steps behind it.
func (p *parser) path() (expr, *Error) {
	x := &path{}
	switch t := p.peek(); {
	case t.kind == tOp && t.text == "/":
		p.i++
		x.abs = true
		if !p.stepAhead() {
			return x, p.count()
		}
		return p.steps(x)
	case t.kind == tOp && t.text == "//":
		x.abs = true
		return p.steps(x)
	case p.stepAhead():
		return p.steps(x)
	}
	prim, err := p.primary()
	if err != nil {
		return nil, err
	}
	preds, err := p.predicates()
	if err != nil {
		return nil, err
	}
	more := p.is(tOp, "/") || p.is(tOp, "//")
	if len(preds) == 0 && !more {
		return prim, nil
	}
	if prim.kind() != kNodes {
		return nil, p.fail("only a node set can have predicates or steps")
	}
	x.start, x.startPreds = prim, preds
	if !more {
		return x, nil
	}
	p.take(tOp, "/")
	return p.steps(x)
}

// stepAhead tells whether a step of a location path comes next.
func (p *parser) stepAhead() bool {
	switch t := p.peek(); t.kind {
	case tName, tAxis:
		return true
	case tSign:
		return t.text == "." || t.text == ".." || t.text == "@"
	case tFunc:
		return nodeType(t)
	}
	return false
}

func nodeType(t *token) bool {
	return t.prefix == "" && (t.text == "node" || t.text == "text" || t.text == "comment" || t.text == "processing-instruction")
}

func (p *parser) steps(x *path) (expr, *Error) {
	for {
		if p.take(tOp, "//") {
			x.steps = append(x.steps, &step{axis: axDescendantOrSelf, test: testNode})
		}
		s, err := p.step()
		if err != nil {
			return nil, err
		}
		x.addStep(s)
		if !p.take(tOp, "/") && !p.is(tOp, "//") {
			return x, nil
		}
	}
}

func (p *parser) step() (*step, *Error) {
	if err := p.count(); err != nil {
		return nil, err
	}
	s := &step{axis: axChild}
	switch {
	case p.take(tSign, "."):
		s.axis, s.test = axSelf, testNode
		return s, nil
	case p.take(tSign, ".."):
		s.axis, s.test = axParent, testNode
		return s, nil
	case p.take(tSign, "@"):
		s.axis = axNone
	case p.peek().kind == tAxis:
		a, ok := axes[p.peek().text]
		if !ok {
			return nil, p.fail("no axis %q", p.peek().text)
		}
		s.axis = a
		p.i++
	}
	t := p.peek()
	switch {
	case t.kind == tName:
		p.i++
		if err := p.c.nameTest(s, t); err != nil {
			return nil, err
		}
	case t.kind == tFunc && nodeType(t):
		p.i += 2 // the parenthesis follows, or the lexer had not said tFunc
		s.test = map[string]testKind{"node": testNode, "text": testText}[t.text]
		if s.test == testName {
			s.test = testNone
		}
		if t.text == "processing-instruction" && p.peek().kind == tString {
			p.i++
		}
		if err := p.want(")"); err != nil {
			return nil, err
		}
	default:
		return nil, p.fail("a step is wanted")
	}
	var err *Error
	s.preds, err = p.predicates()
	return s, err
}

func (p *parser) predicates() (out []expr, err *Error) {
	for p.take(tSign, "[") {
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.want("]"); err != nil {
			return nil, err
		}
		out = append(out, conjuncts(x)...)
	}
	return out, nil
}

// conjuncts splits [a and b] into [a][b], which finds keys more often. That is
// the same unless b asks for its position or is a number.
func conjuncts(x expr) []expr {
	b, ok := x.(*logic)
	if !ok || b.op != "and" || positional(b.l) || positional(b.r) {
		return []expr{x}
	}
	return append(conjuncts(b.l), conjuncts(b.r)...)
}

func (p *parser) primary() (expr, *Error) {
	if err := p.count(); err != nil {
		return nil, err
	}
	switch t := p.peek(); {
	case t.kind == tNumber:
		p.i++
		return numLit(t.num), nil
	case t.kind == tString:
		p.i++
		return &strLit{t.text}, nil
	case t.kind == tSign && t.text == "(":
		p.i++
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		return x, p.want(")")
	case t.kind == tFunc:
		return p.call()
	}
	return nil, p.fail("an expression is wanted")
}

func (p *parser) call() (expr, *Error) {
	t := p.peek()
	p.i += 2
	var args []expr
	if !p.is(tSign, ")") {
		for {
			x, err := p.expr()
			if err != nil {
				return nil, err
			}
			args = append(args, x)
			if !p.take(tSign, ",") {
				break
			}
		}
	}
	if err := p.want(")"); err != nil {
		return nil, err
	}
	return p.c.function(t, args)
}
