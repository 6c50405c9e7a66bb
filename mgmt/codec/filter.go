package codec

import (
	"bytes"
	"slices"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Filter is a compiled subtree filter (RFC 6241 section 6). Names that the
// schema does not have select nothing. A Filter never changes and serves any
// number of trees and goroutines; a nil *Filter selects everything.
//
// It is a binding.Want: Subtree and Keys say what it may select.
type Filter struct {
	node  *yang.Node
	parts []part // by slot
	match []part // those of parts that are content match nodes
	all   bool   // nothing but content matches inside: all siblings are selected
	void  bool   // matches no data: an attribute match, or an unknown value
	key   string // set when match names all keys of a list
	keyed bool
}

// A part is one child of a filter node: a containment or selection node (kid),
// or a content match of a leaf or leaf-list entry.
type part struct {
	node  *yang.Node
	kid   *Filter
	value yang.Value
}

// ParseFilter reads a <filter> element with its content.
func ParseFilter(s *yang.Schema, b []byte) (*Filter, error) {
	return ParseFilterIn(s, b, Scope{})
}

// ParseFilterRaw is ParseFilter for a <filter> element of a message.
func ParseFilterRaw(s *yang.Schema, f Raw) (*Filter, error) { return ParseFilterIn(s, f.XML, f.Scope) }

// ParseFilterIn is ParseFilter for a <filter> element that stood in scope sc.
func ParseFilterIn(s *yang.Schema, b []byte, sc Scope) (*Filter, error) {
	lx, err := NewLexerIn(b, sc, s.ModuleByNS)
	if err != nil {
		return nil, malformed(err)
	}
	if t, err := lx.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	f := &Filter{node: s.Root}
	p := filterParser{lx}
	if err := p.children(f); err != nil {
		return nil, malformed(err)
	}
	f.all = false // an empty filter selects nothing (RFC 6241 section 6.4.2)
	if t, err := lx.Next(); err != nil || t != EOF {
		return nil, malformed(err)
	}
	return f, nil
}

type filterParser struct{ *Lexer }

// children reads what stands in a filter node up to its End.
func (p *filterParser) children(f *Filter) error {
	f.all = true
	for {
		t, err := p.Next()
		if err != nil {
			return err
		}
		switch t {
		case End:
			p.seal(f)
			return nil
		case Start:
			if err := p.child(f); err != nil {
				return err
			}
		}
	}
}

// child reads one element: as a part for each schema node that it may mean.
// Without a namespace it means those of any module (RFC 6241 section 6.2.1).
func (p *filterParser) child(f *Filter) error {
	_, mod, bound := p.Bound(p.Prefix)
	var n *yang.Node
	if mod != nil || !bound {
		n = f.node.Child(mod, p.Local)
	}
	void := len(p.Attr) > 0 // data in the datastores has no attributes
	if n == nil {
		f.all = false
		_, err := p.Skip()
		return err
	}
	m := p.mark()
	for {
		if err := p.part(f, n, void); err != nil {
			return err
		}
		for n = n.Twin(); n != nil && mod != nil && n.Module != mod; {
			n = n.Twin()
		}
		if n == nil {
			return nil
		}
		p.reset(m)
	}
}

func (p *filterParser) part(f *Filter, n *yang.Node, void bool) error {
	if n.Kind != yang.Leaf && n.Kind != yang.LeafList {
		kid := &Filter{node: n, void: void}
		err := p.children(kid)
		f.all = false
		f.add(kid)
		return err
	}
	v, found, err := p.content(n)
	if err != nil {
		return err
	}
	if found {
		x := part{node: n, value: v}
		f.void = f.void || v.Type == nil || void
		f.parts, f.match = append(f.parts, x), append(f.match, x)
		return nil
	}
	f.all = false
	f.add(&Filter{node: n, void: void, all: true})
	return nil
}

// content reads a leaf's content up to its End: found is false where there is
// none, and v has no type where no instance can have that value.
func (p *filterParser) content(n *yang.Node) (v yang.Value, found bool, err error) {
	var text []byte
	depth, plain := len(p.open), true
	for {
		m := p.mark()
		t, err := p.Next()
		if err != nil {
			return v, false, err
		}
		switch {
		case t == Text:
			text = append(text, p.Data...)
		case t == Start:
			plain = false
		case len(p.open) < depth:
			if text = bytes.TrimSpace(text); len(text) == 0 && plain {
				return v, false, nil
			}
			if plain && !m.closing { // the declarations of the very element count
				p.open, p.ns = p.open[:m.open], p.ns[:m.ns]
				v, err = n.Type.Parse(string(text), p)
				p.pop()
				if err != nil {
					v = yang.Value{}
				}
			}
			return v, true, nil
		}
	}
}

// add takes a kid in; one that asks the same as another without conditions
// goes into it, so that siblings that overlap select each node once.
func (f *Filter) add(kid *Filter) {
	if len(kid.match) == 0 && !kid.void {
		for _, p := range f.parts {
			if k := p.kid; k != nil && k.node == kid.node && len(k.match) == 0 && !k.void {
				if k.all = k.all || kid.all; !k.all {
					k.parts = append(k.parts, kid.parts...)
					k.sort()
				}
				return
			}
		}
	}
	f.parts = append(f.parts, part{node: kid.node, kid: kid})
}

func (f *Filter) sort() {
	slices.SortStableFunc(f.parts, func(a, b part) int { return a.node.Slot - b.node.Slot })
}

// seal notices a list filter that names one entry.
func (p *filterParser) seal(f *Filter) {
	f.sort()
	if f.node.Kind != yang.List || len(f.node.Keys) == 0 || len(f.match) < len(f.node.Keys) {
		return
	}
	keys := make([]yang.Value, len(f.node.Keys))
	n := 0
	for _, m := range f.match {
		if !m.node.IsKey() {
			continue
		}
		if keys[m.node.Slot].Type == nil {
			n++
		} else if keys[m.node.Slot].Text != m.value.Text {
			f.void = true // all content matches must hold
		}
		keys[m.node.Slot] = m.value
	}
	if f.keyed = n == len(keys); f.keyed {
		f.key = data.Key(keys...)
	}
}

// reach gives the filter nodes that stand at n. all says that everything at n
// is selected by them or from above, match that n is matched on.
func (f *Filter) reach(n *yang.Node) (at []*Filter, all, match bool) {
	if n == f.node {
		return []*Filter{f}, f.all, false
	}
	if n.Up == nil {
		return nil, false, false
	}
	up, all, _ := f.reach(n.Up)
	if all {
		return nil, true, false
	}
	for _, u := range up {
		for _, p := range u.parts {
			switch {
			case p.node != n:
			case p.kid == nil:
				match = true
			case !p.kid.void:
				at, all = append(at, p.kid), all || p.kid.all
			}
		}
		match = match || n.IsKey()
	}
	return at, all, match
}

// Subtree tells whether the filter may select n or anything below it, or
// needs n to decide.
func (f *Filter) Subtree(n *yang.Node) bool {
	if f == nil {
		return true
	}
	at, all, match := f.reach(n)
	return all || match || len(at) > 0
}

// Keys gives the entries of list n that the filter may select, as canonical
// keys (data.Key); all means any, and keys counts for nothing.
func (f *Filter) Keys(n *yang.Node) (keys []string, all bool) {
	if f == nil {
		return nil, true
	}
	if n.Up != nil {
		if _, all, _ := f.reach(n.Up); all {
			return nil, true
		}
	}
	at, _, _ := f.reach(n)
	for _, k := range at {
		if !k.keyed {
			return nil, true
		}
		if !slices.Contains(keys, k.key) {
			keys = append(keys, k.key)
		}
	}
	return keys, false
}
