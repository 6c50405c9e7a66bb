// Package codec reads edits, filters and operations from XML and writes trees
// as XML, driven by the schema and without a document in between; trees also go
// out as JSON and come back.
//
// A message is read with a Lexer. Parts of it that wait for their turn (the
// config and filter of an operation) are Raws: slices that know the namespaces
// around them. Errors are *data.Error, with what RFC 6241 wants in error-info.
package codec

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"vrouter/mgmt/yang"
)

// Token kinds of Lexer.Next.
type Token uint8

// What Next found.
const (
	EOF Token = iota
	Start
	End
	Text
)

// A Lexer reads namespace-aware XML 1.0 from a whole message in memory. It
// checks nesting, refuses document type declarations, and gives slices of the
// message wherever nothing had to be decoded.
type Lexer struct {
	Prefix, Local []byte // of the last Start
	Data          []byte // of the last Text; valid until the next call
	Attr          []Attr // of the last Start, without xmlns; valid until the next call
	modules       func(ns []byte) *yang.Module

	b       []byte
	pos     int
	closing bool // the last Start was <x/>
	open    []elem
	ns      []binding
	scratch []byte
}

// An Attr is one attribute with its value decoded.
type Attr struct{ Prefix, Local, Value []byte }

type elem struct{ from, to, ns int }

type binding struct {
	prefix, uri []byte
	mod         *yang.Module
}

// Limits of what a Lexer reads: nesting of elements, attributes of one element,
// and namespace declarations in scope. They keep its cost linear in the size
// of the message; that size itself is for the framing to bound.
const (
	MaxDepth      = 256
	maxAttrs      = 64
	maxNamespaces = 1024
)

var errSyntax = errors.New("not well-formed")

// NewLexer reads message b, which must not change while it is read. modules
// finds the module of a namespace; it may be nil.
func NewLexer(b []byte, modules func(ns []byte) *yang.Module) (*Lexer, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", errSyntax)
	}
	return &Lexer{b: b, modules: modules}, nil
}

// mark and reset let a reader look ahead within an element.
type mark struct {
	pos, open, ns int
	closing       bool
}

func (l *Lexer) mark() mark { return mark{l.pos, len(l.open), len(l.ns), l.closing} }
func (l *Lexer) reset(m mark) {
	l.pos, l.closing = m.pos, m.closing
	l.open, l.ns = l.open[:m.open], l.ns[:m.ns]
}

// Bound finds a namespace prefix in scope.
func (l *Lexer) Bound(prefix []byte) (uri []byte, mod *yang.Module, ok bool) {
	for i := len(l.ns) - 1; i >= 0; i-- {
		if b := &l.ns[i]; bytes.Equal(b.prefix, prefix) {
			return b.uri, b.mod, len(b.uri) > 0
		}
	}
	if string(prefix) == "xml" {
		return xmlNS, nil, true
	}
	return nil, nil, false
}

var xmlNS = []byte("http://www.w3.org/XML/1998/namespace")

// ModuleOf makes a Lexer the yang.Prefixes of the values it reads. It must be
// asked before the element's End is read.
func (l *Lexer) ModuleOf(prefix string) *yang.Module {
	_, m, _ := l.Bound([]byte(prefix))
	return m
}

func (l *Lexer) bad(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errSyntax, what, l.pos)
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// nameEnd marks the bytes that end a name.
var nameEnd = func() (t [256]bool) {
	for c := 0; c < 0x80; c++ {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
		t[c] = !ok
	}
	return t
}()

// name reads [prefix:]local.
func (l *Lexer) name() (prefix, local []byte, ok bool) {
	b, i := l.b, l.pos
	from := i
	for i < len(b) && !nameEnd[b[i]] {
		i++
	}
	if i < len(b) && b[i] == ':' && i > from {
		prefix = b[from:i]
		i++
		from = i
		for i < len(b) && !nameEnd[b[i]] {
			i++
		}
	}
	local = b[from:i]
	l.pos = i
	ok = len(local) > 0 && (local[0] > '9' || local[0] == '_') && local[0] != '-'
	return prefix, local, ok && isName(prefix) && isName(local)
}

// isName tells whether bytes that nameEnd let pass are a name. Names beyond
// ASCII are rare (no YANG name is one, anydata may have them): the standard
// library judges them.
func isName(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			t, err := xml.NewDecoder(strings.NewReader("<" + string(b) + "/>")).RawToken()
			e, ok := t.(xml.StartElement)
			return err == nil && ok && e.Name.Local == string(b)
		}
	}
	return true
}

func (l *Lexer) skipSpace() {
	for l.pos < len(l.b) && space(l.b[l.pos]) {
		l.pos++
	}
}

// Next reads the next token. Comments and processing instructions are skipped.
func (l *Lexer) Next() (Token, error) {
	if l.closing {
		l.closing = false
		l.pop()
		return End, nil
	}
	for {
		if l.pos >= len(l.b) {
			if len(l.open) > 0 {
				return EOF, l.bad("end inside an element")
			}
			return EOF, nil
		}
		if l.b[l.pos] != '<' || bytes.HasPrefix(l.b[l.pos:], []byte("<![CDATA[")) {
			if err := l.text(); err != nil {
				return EOF, err
			}
			if len(l.open) == 0 {
				if len(bytes.TrimSpace(l.Data)) > 0 {
					return EOF, l.bad("text outside the root element")
				}
				continue
			}
			return Text, nil
		}
		if l.pos+1 >= len(l.b) {
			return EOF, l.bad("lone <")
		}
		switch l.b[l.pos+1] {
		case '/':
			l.pos += 2
			if len(l.open) == 0 {
				return EOF, l.bad("end tag without start")
			}
			e := l.open[len(l.open)-1]
			n := e.to - e.from
			if l.pos+n > len(l.b) || !bytes.Equal(l.b[l.pos:l.pos+n], l.b[e.from:e.to]) {
				return EOF, l.bad("end tag of another element")
			}
			l.pos += n
			l.skipSpace()
			if l.pos >= len(l.b) || l.b[l.pos] != '>' {
				return EOF, l.bad("end tag")
			}
			l.pos++
			l.pop()
			return End, nil
		case '!':
			if !bytes.HasPrefix(l.b[l.pos:], []byte("<!--")) {
				return EOF, l.bad("declaration refused")
			}
			i := bytes.Index(l.b[l.pos+4:], []byte("--"))
			if i < 0 || l.pos+4+i+2 >= len(l.b) || l.b[l.pos+4+i+2] != '>' {
				return EOF, l.bad("comment")
			}
			l.pos += 4 + i + 3
		case '?':
			i := bytes.Index(l.b[l.pos:], []byte("?>"))
			if i < 0 {
				return EOF, l.bad("processing instruction")
			}
			l.pos += i + 2
		default:
			return Start, l.start()
		}
	}
}

func (l *Lexer) pop() {
	e := l.open[len(l.open)-1]
	l.open, l.ns = l.open[:len(l.open)-1], l.ns[:e.ns]
}

func (l *Lexer) start() error {
	l.pos++
	e := elem{from: l.pos, ns: len(l.ns)}
	var ok bool
	if l.Prefix, l.Local, ok = l.name(); !ok {
		return l.bad("name")
	}
	e.to = l.pos
	if len(l.open) == MaxDepth {
		return l.bad("nested too deep")
	}
	l.open = append(l.open, e)
	l.Attr = l.Attr[:0]
	for {
		at := l.pos
		l.skipSpace()
		if l.pos >= len(l.b) {
			return l.bad("tag")
		}
		switch l.b[l.pos] {
		case '>':
			l.pos++
			return l.declared()
		case '/':
			if l.pos+1 >= len(l.b) || l.b[l.pos+1] != '>' {
				return l.bad("tag")
			}
			l.pos += 2
			l.closing = true
			return l.declared()
		}
		if at == l.pos {
			return l.bad("tag")
		}
		if err := l.attr(e.ns); err != nil {
			return err
		}
	}
}

// declared refuses prefixes without a declaration in scope.
func (l *Lexer) declared() error {
	ok := l.Prefix == nil
	if !ok {
		_, _, ok = l.Bound(l.Prefix)
	}
	for _, a := range l.Attr {
		if a.Prefix != nil && ok {
			_, _, ok = l.Bound(a.Prefix)
		}
	}
	if !ok {
		return l.bad("prefix not declared")
	}
	return nil
}

func (l *Lexer) attr(ns int) error {
	px, name, ok := l.name()
	if !ok {
		return l.bad("attribute")
	}
	l.skipSpace()
	if l.pos >= len(l.b) || l.b[l.pos] != '=' {
		return l.bad("attribute")
	}
	l.pos++
	l.skipSpace()
	if l.pos >= len(l.b) || l.b[l.pos] != '"' && l.b[l.pos] != '\'' {
		return l.bad("attribute value")
	}
	i := bytes.IndexByte(l.b[l.pos+1:], l.b[l.pos])
	if i < 0 {
		return l.bad("attribute value")
	}
	v := l.b[l.pos+1 : l.pos+1+i]
	if bytes.IndexByte(v, '<') >= 0 {
		return l.bad("attribute value")
	}
	l.pos += i + 2
	if !plainAttr(v) {
		var err error
		if v, err = decodeAttr(v); err != nil {
			return err
		}
	}
	switch {
	case px == nil && string(name) == "xmlns":
		name = nil
	case string(px) == "xmlns":
		if len(v) == 0 {
			return l.bad("empty namespace")
		}
	default:
		if len(l.Attr) == maxAttrs {
			return l.bad("too many attributes")
		}
		for _, a := range l.Attr {
			if bytes.Equal(a.Prefix, px) && bytes.Equal(a.Local, name) {
				return l.bad("attribute twice")
			}
		}
		l.Attr = append(l.Attr, Attr{px, name, v})
		return nil
	}
	for _, b := range l.ns[ns:] {
		if bytes.Equal(b.prefix, name) {
			return l.bad("namespace declared twice")
		}
	}
	if len(l.ns) == maxNamespaces {
		return l.bad("too many namespace declarations")
	}
	b := binding{prefix: name, uri: v}
	if l.modules != nil {
		b.mod = l.modules(v)
	}
	l.ns = append(l.ns, b)
	return nil
}

func plainAttr(v []byte) bool {
	for _, c := range v {
		if c < 0x20 || c == '&' {
			return false
		}
	}
	return true
}

// decodeAttr resolves references; white space that is written as such becomes
// a space (XML 1.0 section 3.3.3).
func decodeAttr(v []byte) ([]byte, error) {
	flat := bytes.ReplaceAll(v, []byte("\r\n"), []byte(" "))
	for i, c := range flat {
		if space(c) {
			flat[i] = ' '
		}
	}
	return decode(nil, flat)
}

// text reads character data up to the next tag, joining CDATA sections.
func (l *Lexer) text() error {
	b := l.b[l.pos:]
	n := bytes.IndexByte(b, '<')
	if n < 0 {
		n = len(b)
	}
	raw := b[:n]
	plain := true
	for _, c := range raw {
		if c < 0x20 || c == '&' || c == ']' {
			if c == '&' || c == '\r' || c == ']' {
				plain = false
			} else if c != '\n' && c != '\t' {
				return l.bad("control character")
			}
		}
	}
	if plain && !bytes.HasPrefix(b[n:], []byte("<![CDATA[")) {
		l.Data = raw
		l.pos += n
		return nil
	}
	out := l.scratch[:0]
	for {
		b = l.b[l.pos:]
		if bytes.HasPrefix(b, []byte("<![CDATA[")) {
			i := bytes.Index(b, []byte("]]>"))
			if i < 0 {
				return l.bad("CDATA")
			}
			for _, c := range b[9:i] {
				if c < 0x20 && c != '\n' && c != '\t' && c != '\r' {
					return l.bad("control character")
				}
			}
			out = append(out, bytes.ReplaceAll(b[9:i], []byte("\r\n"), []byte("\n"))...)
			l.pos += i + 3
			continue
		}
		if n = bytes.IndexByte(b, '<'); n < 0 {
			n = len(b)
		}
		if n == 0 {
			break
		}
		if bytes.Contains(b[:n], []byte("]]>")) {
			return l.bad("]]> in text")
		}
		var err error
		if out, err = decode(out, b[:n]); err != nil {
			return err
		}
		l.pos += n
	}
	l.scratch, l.Data = out, out
	return nil
}

// decode appends s with references and line ends resolved.
func decode(out, s []byte) ([]byte, error) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\r':
			out = append(out, '\n')
			if i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
		case '&':
			j := bytes.IndexByte(s[i:], ';')
			if j < 0 {
				return nil, fmt.Errorf("%w: open reference", errSyntax)
			}
			switch ref := string(s[i+1 : i+j]); ref {
			case "lt":
				out = append(out, '<')
			case "gt":
				out = append(out, '>')
			case "amp":
				out = append(out, '&')
			case "quot":
				out = append(out, '"')
			case "apos":
				out = append(out, '\'')
			default:
				r, ok := charRef(ref)
				if !ok {
					return nil, fmt.Errorf("%w: reference &%s;", errSyntax, ref)
				}
				out = utf8.AppendRune(out, r)
			}
			i += j
		default:
			if c < 0x20 && c != '\n' && c != '\t' {
				return nil, fmt.Errorf("%w: control character", errSyntax)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func charRef(s string) (rune, bool) {
	base := 10
	if len(s) < 2 || s[0] != '#' {
		return 0, false
	}
	if s = s[1:]; s[0] == 'x' {
		s, base = s[1:], 16
	}
	n, err := strconv.ParseUint(s, base, 32)
	r := rune(n)
	ok := err == nil && n <= 0x10FFFF && utf8.ValidRune(r) && (n >= 0x20 || n == 9 || n == 10 || n == 13) && n != 0xFFFE && n != 0xFFFF
	return r, ok
}
