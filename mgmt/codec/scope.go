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
	if err != nil || len(sc.ns) == 0 {
		return l, err
	}
	l.ns = slices.Clone(sc.ns)
	for i := range l.ns {
		l.ns[i].mod = nil
		if modules != nil {
			l.ns[i].mod = modules(l.ns[i].uri)
		}
	}
	return l, nil
}

// EditIn is Edit for a <config> element that stood in scope sc.
func EditIn(s *yang.Schema, root *data.Container, config []byte, sc Scope, def data.Op) (*data.Container, error) {
	lx, err := NewLexerIn(config, sc, s.ModuleByNS)
	if err != nil {
		return nil, malformed(err)
	}
	if t, err := lx.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	tree, err := EditLexer(lx, root, def)
	if err != nil {
		return nil, err
	}
	if t, err := lx.Next(); err != nil || t != EOF {
		return nil, malformed(err)
	}
	return tree, nil
}
