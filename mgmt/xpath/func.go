package xpath

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// function is one of the library: XPath 1.0 section 4 and RFC 7950 section 10.
type function struct {
	name      string
	min, max  int
	kind      kind
	nodes     int  // how many of the first arguments must be node sets
	context   bool // without arguments it uses the context
	existence bool // it does not read values

	b func(e *Eval, c cx, x *call) bool
	n func(e *Eval, c cx, x *call) float64
	s func(e *Eval, c cx, x *call) string
}

// call is a function with its arguments.
type call struct {
	f    *function
	args []expr
	c    *compiler
	id   *yang.Identity // the identity argument, where it is a literal
}

func (x *call) bool(e *Eval, c cx) bool   { return x.f.b(e, c, x) }
func (x *call) num(e *Eval, c cx) float64 { return x.f.n(e, c, x) }
func (x *call) str(e *Eval, c cx) string  { return x.f.s(e, c, x) }

// arg gives an argument as a string; the context node when it is left out.
func (x *call) arg(e *Eval, c cx, i int) string {
	if i >= len(x.args) {
		return e.text(c.node)
	}
	return e.string(x.args[i], c)
}

// node gives the first node of an argument, or the context node.
func (x *call) node(e *Eval, c cx) *Instance {
	if len(x.args) == 0 {
		return c.node
	}
	return e.first(x.args[0], c)
}

const many = 1 << 20

var functions = library()

func library() map[string]*function {
	m := map[string]*function{}
	for _, f := range []*function{
		{name: "last", kind: kNumber, context: true, existence: true, n: func(_ *Eval, c cx, _ *call) float64 { return float64(c.size) }},
		{name: "position", kind: kNumber, context: true, existence: true, n: func(_ *Eval, c cx, _ *call) float64 { return float64(c.pos) }},
		{name: "count", min: 1, max: 1, kind: kNumber, nodes: 1, existence: true, n: func(e *Eval, c cx, x *call) float64 { return float64(len(e.nodes(x.args[0], c))) }},
		{name: "local-name", max: 1, kind: kString, nodes: 1, context: true, existence: true, s: func(e *Eval, c cx, x *call) string { return nameOf(x.node(e, c), localPart) }},
		{name: "namespace-uri", max: 1, kind: kString, nodes: 1, context: true, existence: true, s: func(e *Eval, c cx, x *call) string { return nameOf(x.node(e, c), namespace) }},
		{name: "name", max: 1, kind: kString, nodes: 1, context: true, existence: true, s: func(e *Eval, c cx, x *call) string { return nameOf(x.node(e, c), qualified) }},
		{name: "string", max: 1, kind: kString, context: true, s: func(e *Eval, c cx, x *call) string { return x.arg(e, c, 0) }},
		{name: "concat", min: 2, max: many, kind: kString, s: concat},
		{name: "starts-with", min: 2, max: 2, kind: kBool, b: func(e *Eval, c cx, x *call) bool { return strings.HasPrefix(x.arg(e, c, 0), x.arg(e, c, 1)) }},
		{name: "contains", min: 2, max: 2, kind: kBool, b: func(e *Eval, c cx, x *call) bool { return strings.Contains(x.arg(e, c, 0), x.arg(e, c, 1)) }},
		{name: "substring-before", min: 2, max: 2, kind: kString, s: func(e *Eval, c cx, x *call) string {
			head, _, ok := strings.Cut(x.arg(e, c, 0), x.arg(e, c, 1))
			return given(ok, head)
		}},
		{name: "substring-after", min: 2, max: 2, kind: kString, s: func(e *Eval, c cx, x *call) string {
			_, tail, ok := strings.Cut(x.arg(e, c, 0), x.arg(e, c, 1))
			return given(ok, tail)
		}},
		{name: "substring", min: 2, max: 3, kind: kString, s: substring},
		{name: "string-length", max: 1, kind: kNumber, context: true, n: func(e *Eval, c cx, x *call) float64 { return float64(utf8.RuneCountInString(x.arg(e, c, 0))) }},
		{name: "normalize-space", max: 1, kind: kString, context: true, s: func(e *Eval, c cx, x *call) string {
			return strings.Join(strings.FieldsFunc(x.arg(e, c, 0), space), " ")
		}},
		{name: "translate", min: 3, max: 3, kind: kString, s: translate},
		{name: "boolean", min: 1, max: 1, kind: kBool, existence: true, b: func(e *Eval, c cx, x *call) bool { return e.boolean(x.args[0], c) }},
		{name: "not", min: 1, max: 1, kind: kBool, existence: true, b: func(e *Eval, c cx, x *call) bool { return !e.boolean(x.args[0], c) }},
		{name: "true", kind: kBool, b: func(*Eval, cx, *call) bool { return true }},
		{name: "false", kind: kBool, b: func(*Eval, cx, *call) bool { return false }},
		// no node of a data tree has an xml:lang
		{name: "lang", min: 1, max: 1, kind: kBool, b: func(*Eval, cx, *call) bool { return false }},
		{name: "number", max: 1, kind: kNumber, context: true, n: func(e *Eval, c cx, x *call) float64 {
			if len(x.args) == 0 {
				return e.nodeNumber(c.node)
			}
			return e.number(x.args[0], c)
		}},
		{name: "sum", min: 1, max: 1, kind: kNumber, nodes: 1, n: func(e *Eval, c cx, x *call) (sum float64) {
			for _, n := range e.nodes(x.args[0], c) {
				sum += e.nodeNumber(n)
			}
			return sum
		}},
		{name: "floor", min: 1, max: 1, kind: kNumber, n: func(e *Eval, c cx, x *call) float64 { return math.Floor(e.number(x.args[0], c)) }},
		{name: "ceiling", min: 1, max: 1, kind: kNumber, n: func(e *Eval, c cx, x *call) float64 { return math.Ceil(e.number(x.args[0], c)) }},
		{name: "round", min: 1, max: 1, kind: kNumber, n: func(e *Eval, c cx, x *call) float64 { return round(e.number(x.args[0], c)) }},

		{name: "re-match", min: 2, max: 2, kind: kBool, b: reMatch},
		{name: "derived-from", min: 2, max: 2, kind: kBool, nodes: 1, b: func(e *Eval, c cx, x *call) bool { return x.derived(e, c, false) }},
		{name: "derived-from-or-self", min: 2, max: 2, kind: kBool, nodes: 1, b: func(e *Eval, c cx, x *call) bool { return x.derived(e, c, true) }},
		{name: "enum-value", min: 1, max: 1, kind: kNumber, nodes: 1, n: enumValue},
		{name: "bit-is-set", min: 2, max: 2, kind: kBool, nodes: 1, b: bitIsSet},
		// these three are node sets and have types of their own
		{name: "id", min: 1, max: 1, kind: kNodes},
		{name: "current", kind: kNodes},
		{name: "deref", min: 1, max: 1, kind: kNodes, nodes: 1},
	} {
		m[f.name] = f
	}
	return m
}

func (c *compiler) function(t *token, args []expr) (expr, *Error) {
	f := functions[t.text]
	if f == nil || t.prefix != "" {
		return nil, bad(c.text, t.at, "no function %q", t.text)
	}
	if len(args) < f.min || len(args) > f.max {
		return nil, bad(c.text, t.at, "%s() does not take %d arguments", f.name, len(args))
	}
	for i, x := range args {
		if i < f.nodes && x.kind() != kNodes {
			return nil, bad(c.text, t.at, "argument %d of %s() must be a node set", i+1, f.name)
		}
	}
	switch f.name {
	case "id":
		return emptySet{}, nil
	case "current":
		return currentX{}, nil
	case "deref":
		return &deref{args[0]}, nil
	}
	x := &call{f: f, args: args, c: c}
	if len(args) != 2 {
		return x, nil
	}
	if lit, ok := args[1].(*strLit); ok {
		switch f.name {
		case "derived-from", "derived-from-or-self":
			if x.id = c.identity(lit.s); x.id == nil {
				c.unknown = append(c.unknown, lit.s)
			}
		case "re-match":
			if _, err := yang.CompilePattern(lit.s); err != nil {
				return nil, bad(c.text, t.at, "%v", err)
			}
		}
	}
	return x, nil
}

type namePart uint8

const (
	localPart namePart = iota
	namespace
	qualified
)

// nameOf gives a part of a node's expanded name, "" for the root and for text.
// The prefix of a qualified name is that of the module.
func nameOf(n *Instance, part namePart) string {
	if n == nil || n.text || n.Schema.Module == nil {
		return ""
	}
	switch part {
	case namespace:
		return n.Schema.Module.Namespace
	case qualified:
		return n.Schema.Module.Prefix + ":" + n.Schema.Name
	}
	return n.Schema.Name
}

func given(ok bool, s string) string {
	if ok {
		return s
	}
	return ""
}

func space(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

func concat(e *Eval, c cx, x *call) string {
	var b strings.Builder
	for i := range x.args {
		s := x.arg(e, c, i)
		if !e.spend(len(s) / 64) {
			return ""
		}
		b.WriteString(s)
	}
	return b.String()
}

// substring counts characters from 1 and rounds its numbers, infinities and
// NaN included (XPath 1.0 section 4.2).
func substring(e *Eval, c cx, x *call) string {
	s := x.arg(e, c, 0)
	from := round(e.number(x.args[1], c))
	to := math.Inf(1)
	if len(x.args) == 3 {
		to = from + round(e.number(x.args[2], c))
	}
	e.spend(len(s) / 64)
	var b strings.Builder
	pos := 1.0
	for _, r := range s {
		if pos >= from && pos < to {
			b.WriteRune(r)
		}
		pos++
	}
	return b.String()
}

func translate(e *Eval, c cx, x *call) string {
	s, from, to := x.arg(e, c, 0), x.arg(e, c, 1), []rune(x.arg(e, c, 2))
	if !e.spend((len(s) + len(from)) / 64) {
		return ""
	}
	m := map[rune]rune{}
	for i, r := range []rune(from) {
		if _, ok := m[r]; ok {
			continue
		}
		if m[r] = -1; i < len(to) {
			m[r] = to[i]
		}
	}
	return strings.Map(func(r rune) rune {
		if t, ok := m[r]; ok {
			return t
		}
		return r
	}, s)
}

// reMatch caches compiled patterns per evaluation session: a pattern is mostly
// a literal, but data may hold one too.
func reMatch(e *Eval, c cx, x *call) bool {
	s, p := x.arg(e, c, 0), x.arg(e, c, 1)
	re, ok := e.patterns[p]
	if !ok {
		if !e.spend(100 + 10*len(p)) {
			return false
		}
		re, _ = yang.CompilePattern(p) // one that cannot be compiled matches nothing
		if e.patterns == nil {
			e.patterns = map[string]*regexp.Regexp{}
		}
		e.patterns[p] = re
	}
	return re != nil && e.spend(len(s)) && re.MatchString(s)
}

// derived is derived-from() and derived-from-or-self() (RFC 7950 section
// 10.4): true when any node of the set is such an identityref.
func (x *call) derived(e *Eval, c cx, self bool) bool {
	base := x.id
	if _, lit := x.args[1].(*strLit); !lit {
		base = x.c.identity(x.arg(e, c, 1))
	}
	if base == nil {
		return false
	}
	if n, ok := e.sole(x.args[0], c); ok {
		return n != nil && e.derives(n, base, self)
	}
	return e.any(x.args[0], c, func(n *Instance) bool { return e.derives(n, base, self) })
}

// derives tells whether the identity that n holds is derived from base; with
// self, or is it.
func (e *Eval) derives(n *Instance, base *yang.Identity, self bool) bool {
	v, ok := e.Value(n)
	if !ok || v.Type.Base != yang.IdentityRef {
		return false
	}
	id := e.eng.schema.Identity(v.Text)
	return id != nil && (self && id == base || id.DerivedFrom(base))
}

// enumValue gives the number of an enum, NaN for everything else (RFC 7950
// section 10.5.1).
func enumValue(e *Eval, c cx, x *call) float64 {
	if n := e.first(x.args[0], c); n != nil {
		if v, ok := e.Value(n); ok && v.Type.Base == yang.Enumeration {
			if k, ok := v.Type.EnumValue(v.Text); ok {
				return float64(k)
			}
		}
	}
	return math.NaN()
}

func bitIsSet(e *Eval, c cx, x *call) bool {
	n := e.first(x.args[0], c)
	if n == nil {
		return false
	}
	v, ok := e.Value(n)
	return ok && v.Type.Base == yang.Bits && slices.Contains(strings.Fields(v.Text), x.arg(e, c, 1))
}

// each of deref() follows the first node of its argument: to the instances
// that a leafref may mean, or to what an instance-identifier names (RFC 7950
// section 10.3.1).
func (x *deref) each(e *Eval, c cx, yield func(*Instance) bool) bool {
	n := e.first(x.of, c)
	if n == nil {
		return true
	}
	if n.text {
		n = n.Up
	}
	v, ok := e.Value(n)
	if !ok {
		return true
	}
	for _, t := range e.eng.members(n.Schema.Type) {
		switch t.Base {
		case yang.InstanceIdentifier:
			if v.Type.Base != yang.InstanceIdentifier {
				continue
			}
			p, err := data.ParsePath(e.eng.schema.Root, v.Text)
			if err != nil {
				continue
			}
			var m *Instance
			e.held(func() { m = e.at(p) })
			if m != nil && !yield(m) {
				return false
			}
		case yang.LeafRef:
			r := e.eng.refs[refKey{n.Schema, t}]
			if r == nil {
				continue
			}
			old := e.current
			e.current = n
			more := r.root.(setX).each(e, cx{n, 1, 1}, func(m *Instance) bool { return e.text(m) != v.Text || yield(m) })
			if e.current = old; !more {
				return false
			}
		}
	}
	return true
}

// toNumber reads a number as XPath writes it: no exponent, no plus sign.
func toNumber(s string) float64 {
	s = strings.TrimFunc(s, space)
	body := strings.TrimPrefix(s, "-")
	digits := 0
	for i := range len(body) {
		if digit(body[i]) {
			digits++
		} else if body[i] != '.' {
			return math.NaN()
		}
	}
	if digits == 0 || digits < len(body)-1 {
		return math.NaN()
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && f == 0 {
		return math.NaN()
	}
	return f
}

func fromNumber(f float64) string {
	switch {
	case f == 0:
		return "0" // not -0
	case f != f:
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// round goes to the nearest integer, halves upwards.
func round(f float64) float64 {
	if f != f || math.IsInf(f, 0) || f == math.Trunc(f) {
		return f
	}
	return math.Floor(f + 0.5)
}
