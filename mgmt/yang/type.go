package yang

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Base is a built-in type of RFC 7950 section 9.
type Base uint8

// The built-in types. Any is no type of RFC 7950: it stands for the content of
// anydata and anyxml, kept as XML text.
const (
	Binary Base = iota
	Bits
	Boolean
	Decimal64
	Empty
	Enumeration
	IdentityRef
	InstanceIdentifier
	Int8
	Int16
	Int32
	Int64
	LeafRef
	String
	Uint8
	Uint16
	Uint32
	Uint64
	Union
	Any
)

var baseNames = [...]string{"binary", "bits", "boolean", "decimal64", "empty", "enumeration", "identityref",
	"instance-identifier", "int8", "int16", "int32", "int64", "leafref", "string", "uint8", "uint16", "uint32", "uint64",
	"union", "anydata"}

// String gives the name of the built-in type.
func (b Base) String() string { return baseNames[b] }

var bases = func() map[string]Base {
	m := map[string]Base{}
	for i, n := range baseNames[:Any] {
		m[n] = Base(i)
	}
	return m
}()

// anyType is the type of every anydata and anyxml node: its values are XML
// that declares all prefixes it uses.
var anyType = &Type{Base: Any, Name: "anydata"}

// A Type parses and canonicalises values of one resolved type.
type Type struct {
	Base    Base
	Name    string // the typedef's "module:name", or the built-in's name
	Default string // of the typedef, as written
	Units   string // of the typedef
	Enums   []string
	Bit     []string // in position order
	BitPos  []uint32 // their positions
	Digits  int      // fraction-digits
	Members []*Type  // of a union, in declaration order
	Target  *Node    // of a leafref
	NoInst  bool     // require-instance false
	// Wild tells RFC 8341's node-instance-identifier from other
	// instance-identifiers: keys may be left out, $USER may stand for a value,
	// and / is everything.
	Wild  bool
	Bases []*Identity

	// Range, Length and Patterns are what this very type statement says, not
	// the typedefs below it: for tools that show or compare schemas.
	Range, Length string
	Patterns      []Pattern

	spans    []span // of numbers; biased so that signed order is kept
	lengths  []span
	patterns []pattern
	native   func(string) (string, bool) // replaces the patterns of a well-known typedef
	canon    func(string) string         // the canonical form, where a pattern checks
	enum     map[string]int
	// enumValue holds the integer of each enum name
	enumValue map[string]int64
	ref       *Expr
	abs       bool
	defCtx    *Module // whose prefixes Default uses
}

// A Pattern is a pattern statement as written.
type Pattern struct {
	Text   string
	Invert bool // modifier invert-match
}

// EnumValue gives the integer assigned to an enum name, written or implied
// (RFC 7950 section 9.6.4.2).
func (t *Type) EnumValue(name string) (int64, bool) {
	v, ok := t.enumValue[name]
	return v, ok
}

// RefPath gives the path of a leafref, or nil.
func (t *Type) RefPath() *Expr { return t.ref }

// RefAbsolute tells whether the leafref is an absolute path without
// predicates: one set of values for all its instances.
func (t *Type) RefAbsolute() bool { return t.abs }

type span struct{ lo, hi uint64 }

type pattern struct {
	re     *regexp.Regexp
	invert bool
	src    string
}

type typeKey struct{ st *stmt }

// resolve compiles a type statement: its typedef chain, then its own
// restrictions. One statement gives one Type.
func (s *Schema) resolve(st *stmt, sc *scope) *Type {
	if t := s.types[typeKey{st}]; t != nil {
		if t.Name == "" {
			fail(sc.mod, st, "the type is defined by itself")
		}
		return t
	}
	s.types[typeKey{st}] = &Type{} // while it is being built
	t := s.baseType(st, sc)
	t.Range, t.Length, t.Patterns = "", "", nil
	if d := arg(st, "fraction-digits"); d != "" {
		n, err := strconv.Atoi(d)
		if err != nil || n < 1 || n > 18 {
			fail(sc.mod, st, "fraction-digits is 1 to 18")
		}
		t.Digits = n
	}
	s.names(t, st, sc)
	for _, c := range st.SubStatements() {
		switch c.Keyword {
		case "range":
			t.Range = norm(c.Argument)
			t.spans = restrict(t.spans, c, sc, func(v string) (uint64, error) {
				if t.Base == Decimal64 {
					_, n, err := decimal(v, t.Digits)
					return n, err
				}
				_, n, err := integer(t.Base, plainInt(v))
				return n, err
			})
		case "length":
			t.Length = norm(c.Argument)
			l := t.lengths
			if l == nil {
				l = []span{{0, math.MaxUint64}}
			}
			t.lengths = restrict(l, c, sc, func(v string) (uint64, error) { return strconv.ParseUint(plainInt(v), 10, 64) })
		case "pattern":
			re, err := xsdPattern(c.Argument)
			if err != nil {
				fail(sc.mod, c, "%v", err)
			}
			p := Pattern{c.Argument, arg(c, "modifier") == "invert-match"}
			t.Patterns = append(t.Patterns, p)
			t.patterns = append(slices.Clip(t.patterns), pattern{re, p.Invert, p.Text})
		case "base":
			t.Bases = append(slices.Clip(t.Bases), s.findIdentity(c, sc))
		case "path":
			t.ref = &Expr{Text: norm(c.Argument), Ctx: sc.mod}
		case "require-instance":
			t.NoInst = c.Argument == "false"
		case "type":
			t.Members = append(slices.Clip(t.Members), s.resolve(c, sc))
		}
	}
	s.complete(t, st, sc)
	s.types[typeKey{st}] = t
	return t
}

// baseType gives a copy of what a type statement names, to be restricted.
func (s *Schema) baseType(st *stmt, sc *scope) *Type {
	if b, ok := bases[st.Argument]; ok {
		return &Type{Base: b, Name: st.Argument, spans: limits(b)}
	}
	d, dsc := sc.find(st.Argument, false, st)
	if d == nil {
		fail(sc.mod, st, "unknown type")
	}
	under := sub(d, "type")
	if under == nil {
		fail(dsc.mod, d, "no type")
	}
	t := *s.resolve(under, inner(dsc, d))
	t.Name = dsc.mod.Name + ":" + d.Argument
	if v := sub(d, "default"); v != nil {
		t.Default, t.defCtx = v.Argument, dsc.mod
	}
	if v := sub(d, "units"); v != nil {
		t.Units = v.Argument
	}
	if t.Name == nodeInstance { // a string by its definition; but its prefixes are those in scope (RFC 8341 section 3.5.2)
		t.Base, t.NoInst, t.Wild = InstanceIdentifier, true, true
	}
	if f := natives[t.Name]; f != nil {
		t.native, t.patterns = f, nil
	}
	if f := canons[t.Name]; f != nil {
		t.canon = f
	}
	return &t
}

// complete refuses types that lack what their base must have.
func (s *Schema) complete(t *Type, st *stmt, sc *scope) {
	lacks := ""
	switch {
	case t.Base == Enumeration && len(t.Enums) == 0:
		lacks = "an enum"
	case t.Base == Bits && len(t.Bit) == 0:
		lacks = "a bit"
	case t.Base == IdentityRef && len(t.Bases) == 0:
		lacks = "a base"
	case t.Base == LeafRef && t.ref == nil:
		lacks = "a path"
	case t.Base == Union && len(t.Members) == 0:
		lacks = "a type"
	case t.Base == Decimal64 && t.Digits == 0:
		lacks = "fraction-digits"
	default:
		return
	}
	fail(sc.mod, st, "%s needs %s", t.Base, lacks)
}

// names reads enum and bit statements. A restriction of an enumeration or
// bits names some of what its base has and keeps the numbers (RFC 7950
// sections 9.6.4 and 9.7.4).
func (s *Schema) names(t *Type, st *stmt, sc *scope) {
	kw, tag, lowest := "enum", "value", int64(math.MinInt32)
	if t.Base == Bits {
		kw, tag, lowest = "bit", "position", 0
	}
	list := all(st, kw)
	if len(list) == 0 {
		return
	}
	if t.Base != Enumeration && t.Base != Bits {
		fail(sc.mod, list[0], "the type has no such names")
	}
	inherited := t.enumValue
	values, used := map[string]int64{}, map[int64]bool{}
	next := int64(0)
	first := true
	for _, c := range list {
		v, known := inherited[c.Argument]
		if inherited != nil && !known {
			fail(sc.mod, c, "not in the type restricted")
		}
		if !known {
			v = next
		}
		if w := arg(c, tag); w != "" {
			n, err := strconv.ParseInt(plainInt(w), 10, 64)
			if err != nil || n < lowest || n > math.MaxUint32 || kw == "enum" && n > math.MaxInt32 || known && n != v {
				fail(sc.mod, c, "bad %s %s", tag, w)
			}
			v = n
		}
		if _, twice := values[c.Argument]; twice || used[v] {
			fail(sc.mod, c, "%s or its %s stands twice", kw, tag)
		}
		values[c.Argument], used[v] = v, true
		if first || v >= next {
			next = v + 1
		}
		first = false
		if !s.on(c, sc) {
			delete(values, c.Argument)
		}
	}
	t.Enums, t.Bit, t.BitPos, t.enumValue, t.enum = nil, nil, nil, values, map[string]int{}
	for _, c := range list {
		if _, ok := values[c.Argument]; !ok {
			continue
		}
		if kw == "enum" {
			t.enum[c.Argument] = len(t.Enums)
			t.Enums = append(t.Enums, c.Argument)
		} else {
			t.Bit = append(t.Bit, c.Argument)
		}
	}
	slices.SortStableFunc(t.Bit, func(a, b string) int { return int(values[a] - values[b]) })
	for i, b := range t.Bit {
		t.enum[b] = i
		t.BitPos = append(t.BitPos, uint32(values[b]))
	}
}

func limits(b Base) []span {
	bits := map[Base]uint{Int8: 8, Int16: 16, Int32: 32, Int64: 64, Uint8: 8, Uint16: 16, Uint32: 32, Uint64: 64, Decimal64: 64}[b]
	switch b {
	case Int8, Int16, Int32, Int64, Decimal64:
		return []span{{bias(-1 << (bits - 1)), bias(1<<(bits-1) - 1)}}
	case Uint8, Uint16, Uint32, Uint64:
		return []span{{0, math.MaxUint64 >> (64 - bits)}}
	}
	return nil
}

func bias(v int64) uint64 { return uint64(v) ^ 1<<63 }

// restrict parses a range or length argument; min and max are those of the
// type restricted, which must hold the new spans, and these ascend.
func restrict(old []span, c *stmt, sc *scope, num func(string) (uint64, error)) (r []span) {
	if len(old) == 0 {
		fail(sc.mod, c, "type has no range")
	}
	end := func(v string) uint64 {
		switch v = strings.TrimSpace(v); v {
		case "min":
			return old[0].lo
		case "max":
			return old[len(old)-1].hi
		}
		n, err := num(v)
		if err != nil {
			fail(sc.mod, c, "%v", err)
		}
		return n
	}
	for _, p := range strings.Split(c.Argument, "|") {
		lo, hi, two := strings.Cut(p, "..")
		sp := span{lo: end(lo)}
		if sp.hi = sp.lo; two {
			sp.hi = end(hi)
		}
		inside := false
		for _, o := range old {
			inside = inside || sp.lo >= o.lo && sp.hi <= o.hi
		}
		if !inside || sp.lo > sp.hi || len(r) > 0 && sp.lo <= r[len(r)-1].hi {
			fail(sc.mod, c, "%s is not within the type restricted, or not ascending", strings.TrimSpace(p))
		}
		r = append(r, sp)
	}
	return r
}

func in(spans []span, v uint64) bool {
	for _, s := range spans {
		if v >= s.lo && v <= s.hi {
			return true
		}
	}
	return len(spans) == 0
}
