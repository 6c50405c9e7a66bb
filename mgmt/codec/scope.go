package codec

import (
	"slices"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Scope is the namespace declarations in force at some place of a message.
// With it a part of the message can be read on its own. It holds slices of
// the message.
type Scope struct{ ns []binding }

// Scope gives the declarations in force where the Lexer stands: after a Start,
// those of the element and of all around it.
func (l *Lexer) Scope() Scope { return Scope{slices.Clone(l.ns)} }

// Pos gives the offset of the byte that Next reads next. After a Start it is
// the first byte of the content; of <x/> the first byte after it.
func (l *Lexer) Pos() int { return l.pos }

// NewLexerIn is NewLexer for a part of a message that stood in scope sc.
func NewLexerIn(b []byte, sc Scope, modules func(ns []byte) *yang.Module) (*Lexer, error) {
	l, err := NewLexer(b, modules)
	if err != nil {
		return nil, err
	}
	l.ns = slices.Clip(sc.ns)
	if modules != nil {
		l.ns = slices.Clone(sc.ns)
		for i := range l.ns {
			l.ns[i].mod = modules(l.ns[i].uri)
		}
	}
	return l, nil
}

// EditIn is Edit for a <config> element that stood in scope sc.
func EditIn(s *yang.Schema, root *data.Container, config []byte, sc Scope, def data.Op) (*data.Container, error) {
	lx, err := NewLexerIn(config, sc, s.ModuleByNS)
	if err != nil {
		return nil, err
	}
	r := &reader{Lexer: lx, schema: s, edit: data.Begin(root)}
	if t, err := r.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	if err := r.children(s.Root, def); err != nil {
		return nil, err
	}
	if t, err := r.Next(); err != nil || t != EOF {
		return nil, malformed(err)
	}
	return r.edit.Done(), nil
}

// ParseFilterIn is ParseFilter for a <filter> element that stood in scope sc.
func ParseFilterIn(s *yang.Schema, b []byte, sc Scope) (*Filter, error) {
	lx, err := NewLexerIn(b, sc, s.ModuleByNS)
	if err != nil {
		return nil, err
	}
	r := &reader{Lexer: lx, schema: s, edit: data.Begin(data.New(s))}
	if t, err := r.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	f := &Filter{s: s.Root}
	_, err = r.filter(f)
	return f, err
}
