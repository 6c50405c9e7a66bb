package codec

import (
	"strings"
	"unicode/utf8"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// AppendJSON writes a container as a JSON object (RFC 7951), with the Mode's
// defaults and without what is hidden; Indent makes it one member a line.
// Tagged defaults carry no metadata here. The content of anydata stands as a
// string of XML: without a schema it has no other form.
func (w Writer) AppendJSON(b []byte, c *data.Container) []byte {
	x := jsonWriter{xmlWriter{Writer: w, b: b, level: w.Level}}
	x.object(c, c.S)
	return x.b
}

// jsonWriter writes what xmlWriter writes, as JSON.
type jsonWriter struct{ xmlWriter }

func (w *jsonWriter) line() {
	if w.Indent != "" {
		w.b = append(w.b, '\n')
		for range w.level {
			w.b = append(w.b, w.Indent...)
		}
	}
}

// object writes the members of a container; c is nil where it stands for its
// defaults only.
func (w *jsonWriter) object(c *data.Container, s *yang.Node) {
	w.b = append(w.b, '{')
	w.level++
	from := len(w.b)
	if w.Mode.all() && (c == nil || !c.Partial()) {
		for _, d := range s.Data {
			if n := c.Child(d); n != nil {
				w.member(n, s, from)
			} else if d.Config && !w.hidden(d) {
				w.implied(c, d, s, from)
			}
		}
	} else {
		for _, k := range c.Kids() {
			w.member(k, s, from)
		}
	}
	w.close('}', from)
}

func (w *jsonWriter) close(end byte, from int) {
	if w.level--; len(w.b) > from {
		w.line()
	}
	w.b = append(w.b, end)
}

// name begins a member; the module is named where it is not the parent's.
func (w *jsonWriter) name(n, up *yang.Node, first int) {
	w.comma(first)
	w.b = append(w.b, '"')
	if n.Module != up.Module {
		w.b = append(append(w.b, n.Module.Name...), ':')
	}
	w.b = append(append(w.b, n.Name...), '"', ':')
	if w.Indent != "" {
		w.b = append(w.b, ' ')
	}
}

func (w *jsonWriter) comma(first int) {
	if len(w.b) > first {
		w.b = append(w.b, ',')
	}
	w.line()
}

func (w *jsonWriter) member(n data.Node, up *yang.Node, first int) {
	s := n.Schema()
	if w.hidden(s) {
		return
	}
	switch n := n.(type) {
	case *data.Leaf:
		if w.Mode != Trim || !isDefault(s, n.Value) {
			w.name(s, up, first)
			w.value(s, n.Value)
		}
	case *data.Implied:
		if w.Mode != Trim {
			w.name(s, up, first)
			w.value(s, n.Value)
		}
	case *data.Container:
		before := len(w.b)
		at := w.step(s, "")
		w.name(s, up, first)
		w.object(n, s)
		w.at = at
		if !s.Presence && strings.HasSuffix(string(w.b[max(before, len(w.b)-2):]), "{}") {
			w.b = w.b[:before] // an empty container says nothing
		}
	case *data.List:
		if w.Mode == Trim && s.Kind == yang.LeafList && allDefault(n) {
			return
		}
		w.name(s, up, first)
		w.b = append(w.b, '[')
		w.level++
		from := len(w.b)
		n.Each(func(key string, e data.Node) bool {
			w.comma(from)
			if l, ok := e.(*data.Leaf); ok {
				w.value(s, l.Value)
				return true
			}
			at := w.step(s, key)
			w.object(e.(*data.Container), s)
			w.at = at
			return true
		})
		w.close(']', from)
	}
}

// implied writes the defaults in use of a child that is not there.
func (w *jsonWriter) implied(c *data.Container, d, up *yang.Node, first int) {
	if !d.HasDefaults || !c.CaseInUse(d) || !w.holdsWhen(d) {
		return
	}
	switch d.Kind {
	case yang.Leaf:
		w.name(d, up, first)
		w.value(d, d.Defaults[0])
	case yang.LeafList:
		w.name(d, up, first)
		w.b = append(w.b, '[')
		w.level++
		from := len(w.b)
		for _, v := range d.Defaults {
			w.comma(from)
			w.value(d, v)
		}
		w.close(']', from)
	case yang.Container:
		before := len(w.b)
		at := w.step(d, "")
		w.name(d, up, first)
		w.object(nil, d)
		w.at = at
		if strings.HasSuffix(string(w.b[max(before, len(w.b)-2):]), "{}") {
			w.b = w.b[:before]
		}
	}
}

// value writes a value by the type that it was parsed as (RFC 7951 section 6).
func (w *jsonWriter) value(s *yang.Node, v yang.Value) {
	switch v.Type.Base {
	case yang.Boolean, yang.Int8, yang.Int16, yang.Int32, yang.Uint8, yang.Uint16, yang.Uint32:
		w.b = append(w.b, v.Text...)
	case yang.Empty:
		w.b = append(w.b, "[null]"...)
	case yang.IdentityRef: // named by its module only where that is not the leaf's
		text := v.Text
		if local, ok := strings.CutPrefix(text, s.Module.Name+":"); ok {
			text = local
		}
		w.b = appendQuoted(w.b, text)
	case yang.InstanceIdentifier:
		w.b = appendQuoted(w.b, shortPath(v.Text))
	default:
		w.b = appendQuoted(w.b, v.Text)
	}
}

// shortPath drops the module names of a path that repeat the one before, as
// RFC 7951 section 6.11 wants it. Names in predicates stand for themselves.
func shortPath(path string) string {
	var b strings.Builder
	last := ""
	for l := (pathLexer{path: path}); ; {
		word, name := l.next()
		switch {
		case word == "":
			return b.String()
		case !name || !l.module():
			b.WriteString(word)
			continue
		case word != last:
			b.WriteString(word + ":")
		}
		if l.depth == 0 {
			last = word
		}
	}
}

// pathLexer takes a path apart into string literals, names and single other
// bytes.
type pathLexer struct {
	path      string
	at, depth int // depth counts open predicates
}

// next gives a word, "" at the end and at a literal that has none.
func (l *pathLexer) next() (word string, name bool) {
	rest := l.path[l.at:]
	if rest == "" {
		return "", false
	}
	n := 1
	switch c := rest[0]; c {
	case '\'', '"':
		if n = strings.IndexByte(rest[1:], c) + 2; n == 1 {
			return "", false
		}
	case '[':
		l.depth++
	case ']':
		l.depth--
	default:
		for n = 0; n < len(rest) && !nameEnd[rest[n]]; n++ {
		}
		name, n = n > 0, max(n, 1)
	}
	l.at += n
	return rest[:n], name
}

// module tells whether the name that was given is that of a module, and takes
// the colon behind it.
func (l *pathLexer) module() bool {
	if l.at == len(l.path) || l.path[l.at] != ':' {
		return false
	}
	l.at++
	return true
}

// appendQuoted writes a JSON string; what is not UTF-8 becomes U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
