package yang

import (
	"slices"
	"strings"
)

// setFeatures lists the supported features of every module.
func (s *Schema) setFeatures() {
	for _, m := range s.Modules {
		m.Features = nil
		for name := range m.features {
			if s.feature(m, name) {
				m.Features = append(m.Features, name)
			}
		}
		slices.Sort(m.Features)
	}
}

type featKey struct {
	m    *Module
	name string
}

// feature tells whether a feature is supported: switched on, and what it
// depends on as well.
func (s *Schema) feature(m *Module, name string) bool {
	k := featKey{m, name}
	v, known := s.onCache[k]
	if !known {
		f := m.features[name]
		s.onCache[k] = false // a feature that depends on itself is off
		v = f != nil && (s.enabled == nil || s.enabled(m.Name, name)) && s.on(f, m.top)
		s.onCache[k] = v
	}
	return v
}

// on evaluates the if-feature statements of st.
func (s *Schema) on(st *stmt, sc *scope) bool {
	for _, f := range all(st, "if-feature") {
		p := &featExpr{s: s, sc: sc, at: f, tok: featTokens(f)}
		if !p.or() {
			return false
		}
		if p.peek() != "" {
			fail(sc.mod, f, "bad if-feature")
		}
	}
	return true
}

func featTokens(f *stmt) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(f.Argument))
}

// featText gives an if-feature as written, with module names for prefixes.
func featText(f *stmt, sc *scope) string {
	s := norm(f.Argument)
	for _, t := range featTokens(f) {
		if px, name := split(t); px != "" {
			s = strings.ReplaceAll(s, t, sc.module(px, f).Name+":"+name)
		}
	}
	return s
}

// featExpr is the grammar of RFC 7950 section 7.20.2.
type featExpr struct {
	s   *Schema
	sc  *scope
	at  *stmt
	tok []string
}

func (p *featExpr) peek() string {
	if len(p.tok) == 0 {
		return ""
	}
	return p.tok[0]
}

func (p *featExpr) next() string {
	t := p.peek()
	if t == "" {
		fail(p.sc.mod, p.at, "bad if-feature")
	}
	p.tok = p.tok[1:]
	return t
}

func (p *featExpr) or() bool {
	v := p.and()
	for p.peek() == "or" {
		p.next()
		r := p.and()
		v = v || r
	}
	return v
}

func (p *featExpr) and() bool {
	v := p.unary()
	for p.peek() == "and" {
		p.next()
		r := p.unary()
		v = v && r
	}
	return v
}

func (p *featExpr) unary() bool {
	switch t := p.next(); t {
	case "not":
		return !p.unary()
	case "(":
		v := p.or()
		if p.next() != ")" {
			fail(p.sc.mod, p.at, "bad if-feature")
		}
		return v
	default:
		px, name := split(t)
		m := p.sc.module(px, p.at)
		if m.features[name] == nil {
			fail(p.sc.mod, p.at, "unknown feature %s", t)
		}
		return p.s.feature(m, name)
	}
}
