package yang

import (
	"slices"
	"strings"
)

// An Identity of some module.
type Identity struct {
	Module *Module
	Name   string
	Text   string // canonical: module:name
	Attr   []byte // ready XML:  xmlns:prefix="…"
	XML    []byte // ready XML: prefix:name
	up     map[*Identity]bool
	off    bool // its feature is off, or its module only imported: no value of a leaf
	st     *stmt
}

// DerivedFrom tells whether i is derived from b, not counting itself.
func (i *Identity) DerivedFrom(b *Identity) bool { return i.up[b] }

// Identity finds an identity by canonical text, also one that no leaf may
// have for a value; nil when there is none.
func (s *Schema) Identity(text string) *Identity { return s.identities[text] }

func (s *Schema) addIdentities(m *Module) {
	m.ids = map[string]*Identity{}
	for _, p := range m.parts {
		for _, st := range all(p, "identity") {
			i := &Identity{Module: m, Name: st.Argument, Text: m.Name + ":" + st.Argument, st: st}
			// Values are restricted to the modules that the server implements
			// (RFC 7950 section 9.10.2).
			i.off = !m.Implemented || !s.on(st, m.top)
			i.Attr = []byte(` xmlns:` + m.Prefix + `="` + m.Namespace + `"`)
			i.XML = []byte(m.Prefix + ":" + i.Name)
			if m.ids[i.Name] != nil {
				fail(m, st, "identity stands twice")
			}
			m.ids[i.Name] = i
			s.identities[i.Text] = i
		}
	}
}

// linkIdentities finds what each identity is derived from, over all modules.
func (s *Schema) linkIdentities() {
	var link func(i *Identity) map[*Identity]bool
	link = func(i *Identity) map[*Identity]bool {
		if i.up != nil {
			return i.up
		}
		i.up = map[*Identity]bool{}
		for _, b := range all(i.st, "base") {
			base := s.findIdentity(b, i.Module.top)
			i.up[base] = true
			for x := range link(base) {
				i.up[x] = true
			}
		}
		return i.up
	}
	for _, i := range s.identities {
		link(i)
	}
}

// findIdentity resolves a base statement.
func (s *Schema) findIdentity(b *stmt, sc *scope) *Identity {
	px, name := split(b.Argument)
	i := sc.module(px, b).ids[name]
	if i == nil {
		fail(sc.mod, b, "unknown identity")
	}
	return i
}

// Identities gives the values that an identityref with these bases can have,
// in the order of their texts.
func (s *Schema) Identities(bases []*Identity) []*Identity {
	var r []*Identity
	for _, i := range s.identities {
		if !i.off && i.derivedFromAll(bases) {
			r = append(r, i)
		}
	}
	slices.SortFunc(r, func(a, b *Identity) int { return strings.Compare(a.Text, b.Text) })
	return r
}
