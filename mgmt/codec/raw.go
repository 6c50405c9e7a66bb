package codec

import (
	"bytes"
	"slices"

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

// A Raw is an element that was not read yet: its text in the message and the
// namespace declarations around it. It shares memory with the message.
type Raw struct {
	XML   []byte // from the < of its start tag to the > of its end tag
	Scope Scope  // in force around it
}

// Skip passes over the element whose Start was just read, up to its End, and
// gives it whole. What is inside is checked for being well-formed.
func (l *Lexer) Skip() (Raw, error) {
	e := l.open[len(l.open)-1]
	from, depth := e.from-1, len(l.open)
	scope := Scope{slices.Clone(l.ns[:e.ns])}
	for len(l.open) >= depth {
		if _, err := l.Next(); err != nil {
			return Raw{}, err
		}
	}
	return Raw{l.b[from:l.pos], scope}, nil
}

// enter reads the Start of the element.
func (r Raw) enter(modules func(ns []byte) *yang.Module) (*Lexer, error) {
	l, err := NewLexerIn(r.XML, r.Scope, modules)
	if err != nil {
		return nil, malformed(err)
	}
	if t, err := l.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	return l, nil
}

// Attr gives the value of an attribute of the element itself, decoded; ns ""
// is an attribute without a prefix.
func (r Raw) Attr(ns, local string) (value string, ok bool) {
	l, err := r.enter(nil)
	if err != nil {
		return "", false
	}
	return l.attribute(ns, local)
}

// attribute finds an attribute of the last Start.
func (l *Lexer) attribute(ns, local string) (value string, ok bool) {
	for _, a := range l.Attr {
		uri := ""
		if a.Prefix != nil {
			u, _, _ := l.Bound(a.Prefix)
			uri = string(u)
		}
		if string(a.Local) == local && uri == ns {
			return string(a.Value), true
		}
	}
	return "", false
}

// Prefixes gives the namespaces of all prefixes in scope inside the element,
// its own declarations counted; "" is the default namespace. XPath expressions
// in attributes are read with them.
func (r Raw) Prefixes() map[string]string {
	m := map[string]string{}
	if l, err := r.enter(nil); err == nil {
		for _, b := range l.ns {
			m[string(b.prefix)] = string(b.uri)
		}
	}
	return m
}

// Content gives what stands inside the element as XML that can stand anywhere:
// each of its elements declares all prefixes in scope.
func (r Raw) Content() (string, error) {
	l, err := r.enter(nil)
	if err != nil {
		return "", err
	}
	s, err := l.content()
	return string(s), err
}

// content reads the rest of the element whose Start was just read and gives it
// as XML that can stand anywhere.
func (l *Lexer) content() ([]byte, error) {
	if l.closing {
		_, err := l.Next()
		return nil, err
	}
	var out []byte
	depth := len(l.open)
	var decl []byte
	from := l.pos
	for {
		t, err := l.Next()
		if err != nil {
			return nil, err
		}
		switch {
		case t == End && len(l.open) < depth:
			end := bytes.LastIndexByte(l.b[:l.pos], '<')
			return append(out, l.b[from:end]...), nil
		case t == Start && len(l.open) == depth+1:
			e := l.open[depth]
			if decl == nil {
				decl = declarations(l.ns[:e.ns])
			}
			out = append(out, l.b[from:e.to]...)
			if len(l.ns) == e.ns {
				out = append(out, decl...)
			} else {
				out = append(out, declarations(l.ns[:e.ns], l.ns[e.ns:]...)...)
			}
			from = e.to
		}
	}
}

// declarations writes the bindings in force, the innermost of each prefix,
// but for those that are declared again.
func declarations(ns []binding, again ...binding) []byte {
	var out []byte
	var done [][]byte
	for _, b := range again {
		done = append(done, b.prefix)
	}
	known := func(prefix []byte) bool {
		return slices.ContainsFunc(done, func(p []byte) bool { return bytes.Equal(p, prefix) })
	}
	for i := len(ns) - 1; i >= 0; i-- {
		b := ns[i]
		if known(b.prefix) {
			continue
		}
		done = append(done, b.prefix)
		out = append(out, " xmlns"...)
		if len(b.prefix) > 0 {
			out = append(append(out, ':'), b.prefix...)
		}
		out = append(out, '=', '"')
		out = append(AppendAttr(out, string(b.uri)), '"')
	}
	if !known(nil) { // what it stands in later may have a default namespace
		out = append(out, ` xmlns=""`...)
	}
	return out
}
