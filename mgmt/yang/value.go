package yang

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Value is a canonical value and the member type it was parsed as.
// Identityrefs are "module:name"; instance-identifiers have module names for
// prefixes.
type Value struct {
	Text string
	Type *Type
}

// Prefixes resolves a prefix at the place where a value was written. The
// empty prefix is the default namespace.
type Prefixes interface{ ModuleOf(prefix string) *Module }

type modPrefixes struct{ m *Module }

func (p modPrefixes) ModuleOf(prefix string) *Module {
	if prefix == "" {
		return p.m
	}
	return p.m.imports[prefix]
}

// parseModule parses a value written in a module: there, integers may also be
// hexadecimal or octal (RFC 7950 section 9.2.1).
func (t *Type) parseModule(s string, ns Prefixes) (Value, error) {
	switch t.Base {
	case Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64:
		s = plainInt(strings.TrimSpace(s))
	case LeafRef:
		if t.Target != nil {
			return t.Target.Type.parseModule(s, ns)
		}
	case Union:
		for _, m := range t.Members {
			if v, err := m.parseModule(s, ns); err == nil {
				return v, nil
			}
		}
	}
	return t.Parse(s, ns)
}

// plainInt turns a hexadecimal or octal integer into a decimal one, and leaves
// anything else as it is.
func plainInt(s string) string {
	digits := strings.TrimLeft(s, "+-")
	if len(digits) < 2 || digits[0] != '0' {
		return s
	}
	base, rest := 8, digits[1:]
	if rest[0] == 'x' || rest[0] == 'X' {
		base, rest = 16, rest[1:]
	}
	n, err := strconv.ParseUint(rest, base, 64)
	if err != nil {
		return s
	}
	return s[:len(s)-len(digits)] + strconv.FormatUint(n, 10)
}

// ParseBytes is Parse without an allocation where the canonical text is one
// that the schema already holds.
func (t *Type) ParseBytes(b []byte, ns Prefixes) (Value, error) {
	switch t.Base {
	case Boolean:
		switch string(bytes.TrimSpace(b)) {
		case "true":
			return Value{"true", t}, nil
		case "false":
			return Value{"false", t}, nil
		}
	case Enumeration:
		if i, ok := t.enum[string(b)]; ok {
			return Value{t.Enums[i], t}, nil
		}
	}
	return t.Parse(string(b), ns)
}

// Parse checks s and gives its canonical value. Numbers in instance data are
// decimal only; hexadecimal and octal stand in modules alone (RFC 7950 9.2.1).
func (t *Type) Parse(s string, ns Prefixes) (Value, error) {
	switch t.Base {
	case String:
		if err := t.checkString(&s, utf8.RuneCountInString); err != nil {
			return Value{}, err
		}
		return Value{s, t}, nil
	case Union:
		for _, m := range t.Members {
			if v, err := m.Parse(s, ns); err == nil {
				return v, nil
			}
		}
		return Value{}, fmt.Errorf("no member of union %s accepts it", t.Name)
	case LeafRef:
		if t.Target == nil {
			return Value{s, t}, nil
		}
		return t.Target.Type.Parse(s, ns)
	case Any:
		return Value{s, t}, nil
	}
	s = strings.TrimSpace(s)
	switch t.Base {
	case Boolean:
		if s == "true" {
			return Value{"true", t}, nil
		} else if s == "false" {
			return Value{"false", t}, nil
		}
		return Value{}, fmt.Errorf("not true or false")
	case Enumeration:
		if i, ok := t.enum[s]; ok {
			return Value{t.Enums[i], t}, nil
		}
		return Value{}, fmt.Errorf("not one of its enum values")
	case Bits:
		var set []string
		words := strings.Fields(s)
		for _, w := range words {
			if _, ok := t.enum[w]; !ok || slices.Contains(set, w) {
				return Value{}, fmt.Errorf("not a set of its bits")
			}
			set = append(set, w)
		}
		slices.SortFunc(set, func(a, b string) int { return t.enum[a] - t.enum[b] })
		return Value{strings.Join(set, " "), t}, nil
	case Empty:
		if s != "" {
			return Value{}, fmt.Errorf("must be empty")
		}
		return Value{"", t}, nil
	case IdentityRef:
		px, name := split(s)
		m := ns.ModuleOf(px)
		if m == nil {
			return Value{}, fmt.Errorf("prefix %q is not declared", px)
		}
		if id := m.ids[name]; id != nil && !id.off && id.derivedFromAll(t.Bases) {
			return Value{id.Text, t}, nil
		}
		return Value{}, fmt.Errorf("not an identity derived from %s", t.Bases[0].Text)
	case InstanceIdentifier:
		if t.Wild {
			if s == "/" {
				return Value{s, t}, nil
			}
			if !isPath(s, wildPredicate) {
				return Value{}, fmt.Errorf("not a path of prefixed names with keys as predicates")
			}
		} else if !isPath(s, predicate) {
			return Value{}, fmt.Errorf("not an instance-identifier")
		}
		r, err := toModuleNames(s, ns)
		return Value{r, t}, err
	case Binary:
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			return Value{}, fmt.Errorf("not base64")
		}
		if !in(t.lengths, uint64(len(raw))) {
			return Value{}, fmt.Errorf("length %d is not allowed", len(raw))
		}
		return Value{base64.StdEncoding.EncodeToString(raw), t}, nil
	case Decimal64:
		text, n, err := decimal(s, t.Digits)
		if err == nil && !in(t.spans, n) {
			err = fmt.Errorf("out of range")
		}
		return Value{text, t}, err
	}
	if s == "" {
		return Value{}, errInt
	}
	text, n, err := integer(t.Base, s)
	if err == nil && !in(t.spans, n) {
		err = fmt.Errorf("out of range")
	}
	return Value{text, t}, err
}

func (t *Type) checkString(s *string, size func(string) int) error {
	if t.lengths != nil && !in(t.lengths, uint64(size(*s))) {
		return fmt.Errorf("length %d is not allowed", size(*s))
	}
	if t.native != nil {
		c, ok := t.native(*s)
		if !ok {
			return fmt.Errorf("not a %s", t.Name)
		}
		*s = c
	}
	for _, p := range t.patterns {
		if p.re.MatchString(*s) == p.invert {
			return fmt.Errorf("does not match pattern %s", p.src)
		}
	}
	if t.canon != nil {
		*s = t.canon(*s)
	}
	return nil
}

// nodeInstance is the type of paths in access rules.
const nodeInstance = "ietf-netconf-acm:node-instance-identifier"

// isPath checks the shape of an instance-identifier (RFC 7950 section 9.13):
// steps with prefixes, predicates in brackets.
func isPath(s string, predicate *regexp.Regexp) bool {
	i, steps := 0, 0
	name := func() bool {
		from := i
		for i < len(s) && (nameStart(s[i]) || i > from && (s[i] == '-' || s[i] == '.' || s[i] >= '0' && s[i] <= '9')) {
			i++
		}
		return i > from
	}
	for ; i < len(s); steps++ {
		if s[i] != '/' {
			return false
		}
		if i++; !name() || i == len(s) || s[i] != ':' {
			return false
		}
		if i++; !name() {
			return false
		}
		for i < len(s) && s[i] == '[' {
			open := i
			for quote := byte(0); i < len(s) && (quote != 0 || s[i] != ']'); i++ {
				switch {
				case s[i] == quote:
					quote = 0
				case quote == 0 && (s[i] == '\'' || s[i] == '"'):
					quote = s[i]
				}
			}
			if i == len(s) || !predicate.MatchString(s[open+1:i]) {
				return false
			}
			i++
		}
	}
	return steps > 0
}

// predicate is what stands in the brackets of an instance-identifier: a place,
// or a key or the value itself compared with a literal.
var predicate = regexp.MustCompile(`^\s*(?:[1-9][0-9]*|(?:\.|[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?)\s*=\s*(?:'[^']*'|"[^"]*"))\s*$`)

// wildPredicate is what stands in those of a node-instance-identifier: a key or
// the value itself compared with a literal or with the name of the user.
var wildPredicate = regexp.MustCompile(`^\s*(?:\.|[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?)\s*=\s*(?:'[^']*'|"[^"]*"|\$USER)\s*$`)

// Legal tells whether a text has only the characters that YANG strings have,
// which are those of XML (RFC 7950 section 9.4). An XML reader has seen to it
// already; texts from elsewhere are checked before they become values.
func Legal(s string) bool {
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return utf8.ValidString(s)
}

func (i *Identity) derivedFromAll(bases []*Identity) bool {
	for _, b := range bases {
		if !i.up[b] {
			return false
		}
	}
	return true
}

// toModuleNames rewrites the prefixes of a path outside its literals.
func toModuleNames(s string, ns Prefixes) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if c == '\'' || c == '"' {
			j := strings.IndexByte(s[i+1:], c)
			if j < 0 {
				return "", fmt.Errorf("open literal")
			}
			b.WriteString(s[i : i+j+2])
			i += j + 2
			continue
		}
		if !nameStart(c) {
			b.WriteByte(c)
			i++
			continue
		}
		j := i
		for j < len(s) && (nameStart(s[j]) || s[j] == '-' || s[j] == '.' || s[j] >= '0' && s[j] <= '9') {
			j++
		}
		w := s[i:j]
		if strings.HasPrefix(s[j:], "::") { // an axis of XPath
			w, j = s[i:j+2], j+2
		} else if j < len(s) && s[j] == ':' {
			m := ns.ModuleOf(w)
			if m == nil {
				return "", fmt.Errorf("prefix %q is not declared", w)
			}
			w = m.Name
		}
		b.WriteString(w)
		i = j
	}
	return b.String(), nil
}

func nameStart(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func integer(b Base, s string) (text string, n uint64, err error) {
	if b >= Uint8 && b <= Uint64 {
		if n, err = strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64); err != nil {
			return "", 0, errInt
		}
		if canonicalInt(s) {
			return s, n, nil
		}
		return strconv.FormatUint(n, 10), n, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return "", 0, errInt
	}
	if canonicalInt(s) {
		return s, bias(v), nil
	}
	return strconv.FormatInt(v, 10), bias(v), nil
}

var errInt = fmt.Errorf("not an integer of this type")

func canonicalInt(s string) bool {
	if s == "0" {
		return true
	}
	return s[0] >= '1' && s[0] <= '9' || s[0] == '-' && len(s) > 1 && s[1] >= '1' && s[1] <= '9'
}

// decimal gives the canonical form and the biased scaled value.
func decimal(s string, digits int) (string, uint64, error) {
	bad := fmt.Errorf("not a decimal64 with %d fraction digits", digits)
	body := strings.TrimLeft(s, "+-")
	if len(s)-len(body) > 1 {
		return "", 0, bad
	}
	whole, frac, dot := strings.Cut(body, ".")
	frac = strings.TrimRight(frac, "0")
	if whole == "" || dot && strings.HasSuffix(body, ".") || len(frac) > digits {
		return "", 0, bad
	}
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign = "-"
	}
	v, err := strconv.ParseInt(sign+whole+frac+strings.Repeat("0", digits-len(frac)), 10, 64)
	if err != nil || strings.ContainsAny(whole+frac, "+-_") {
		return "", 0, bad
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if frac == "" {
		frac = "0"
	}
	if v == 0 {
		sign = ""
	}
	return sign + whole + "." + frac, bias(v), nil
}
