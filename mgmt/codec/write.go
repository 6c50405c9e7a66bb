package codec

import (
	"slices"
	"strings"
	"unicode/utf8"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Mode is a with-defaults mode (RFC 6243 section 3).
type Mode uint8

// The modes. Explicit is the server's basic mode: what a client set is
// reported, also where it equals the default.
const (
	Explicit Mode = iota
	ReportAll
	Trim
	ReportAllTagged
)

var modeNames = [...]string{"explicit", "report-all", "trim", "report-all-tagged"}

// String gives the mode's name in the with-defaults parameter.
func (m Mode) String() string { return modeNames[m] }

// ParseMode reads the with-defaults parameter.
func ParseMode(s string) (Mode, bool) {
	for i, n := range modeNames {
		if s == n {
			return Mode(i), true
		}
	}
	return 0, false
}

// all tells whether defaults in use are written.
func (m Mode) all() bool { return m == ReportAll || m == ReportAllTagged }

// A Writer appends trees as XML. It is a value: use it from any goroutine.
type Writer struct {
	Schema *yang.Schema
	Mode   Mode
	// Hide leaves out the nodes for which it is true, with all below them, and
	// keeps filters from matching on them. Keys of entries that are shown are
	// always shown. May be nil.
	Hide func(n *yang.Node) bool
	// When tells whether the conditions (when) of node n hold below the
	// container or entry at parent. It is asked for nodes that are not there
	// and have defaults below them, before these are written; nil means that
	// defaults under conditions are left out.
	When func(parent *data.Path, n *yang.Node) bool
	// Flush, when set, is given what was written so far each time that has
	// become long, so that the text of a large tree need not be in memory at
	// once. It gives the buffer to go on with, as a rule b[:0]. What Append and
	// AppendFiltered give is then the rest.
	Flush func(b []byte) []byte
	// ConfigOnly leaves state out.
	ConfigOnly bool
	// Indent, when not empty, writes one element a line, each level indented by
	// it: for people.
	Indent string
	// Level is the level to begin with, where Indent is set.
	Level int
}

// Append writes the children of a container, each top one with its namespace.
func (w Writer) Append(b []byte, c *data.Container) []byte {
	x := xmlWriter{Writer: w, b: b, level: w.Level}
	x.kids(c, c.S, nil)
	return x.b
}

// AppendNode writes one node with all below it: a leaf, an entry of a
// leaf-list or list, or a container. in is the module whose namespace is the
// default one where the node will stand; nil where there is none.
func (w Writer) AppendNode(b []byte, n data.Node, in *yang.Module) []byte {
	x := xmlWriter{Writer: w, b: b, level: w.Level}
	x.node(n, in)
	return x.b
}

// xmlWriter is one run of a Writer.
type xmlWriter struct {
	Writer
	b     []byte
	level int
	done  int        // bytes that Flush was given
	at    *data.Path // where it stands; kept for When only
}

// long is when a Flush is due, in bytes.
const long = 64 << 10

// pos counts all that was written.
func (w *xmlWriter) pos() int { return w.done + len(w.b) }

// flush is called behind a list entry: nothing that came before it is taken
// back.
func (w *xmlWriter) flush() {
	if w.Flush != nil && len(w.b) >= long {
		w.done += len(w.b)
		w.b = w.Flush(w.b)
	}
}

// room doubles a buffer that is about to be full. (append itself grows long ones
// by a quarter, and so copies a text of megabytes five times.)
func (w *xmlWriter) room() {
	if w.Flush == nil && cap(w.b)-len(w.b) < 2<<10 {
		w.b = slices.Grow(w.b, len(w.b))
	}
}

// step goes into a child or entry and gives the way back.
func (w *xmlWriter) step(s *yang.Node, key string) (up *data.Path) {
	if up = w.at; w.When != nil && w.Mode.all() {
		w.at = &data.Path{Up: up, Schema: s, Key: key, Entry: s.Kind == yang.List}
	}
	return up
}

func (w *xmlWriter) hidden(n *yang.Node) bool {
	return w.ConfigOnly && !n.Config || w.Hide != nil && w.Hide(n) && !n.IsKey()
}

// kids writes the children of a container; in is the default namespace.
func (w *xmlWriter) kids(c *data.Container, s *yang.Node, in *yang.Module) {
	if w.Mode.all() && (c == nil || !c.Partial()) {
		w.all(c, s, in)
		return
	}
	for _, k := range c.Kids() {
		w.node(k, in)
	}
}

// all writes the children with the defaults in use. c is nil for a container
// without presence that is not there.
func (w *xmlWriter) all(c *data.Container, s *yang.Node, in *yang.Module) {
	for _, d := range s.Data {
		if n := c.Child(d); n != nil {
			w.node(n, in)
		} else if d.Config && !w.hidden(d) {
			w.defaults(c, d, in)
		}
	}
}

// holdsWhen tells whether the conditions of a node that is not there hold.
func (w *xmlWriter) holdsWhen(d *yang.Node) bool {
	return !d.Conditional || w.When != nil && w.When(w.at, d)
}

// defaults writes what is in use of a child that is not there.
func (w *xmlWriter) defaults(c *data.Container, d *yang.Node, in *yang.Module) {
	switch {
	case d.Kind == yang.Leaf && d.Defaults != nil:
		if v, _, ok := c.Value(d); ok && w.holdsWhen(d) {
			w.leaf(d, v, in, w.Mode == ReportAllTagged)
		}
	case d.Kind == yang.LeafList && d.Defaults != nil:
		v, _ := c.Values(d)
		if len(v) > 0 && !w.holdsWhen(d) {
			return
		}
		for _, x := range v {
			w.leaf(d, x, in, w.Mode == ReportAllTagged)
		}
	case d.Kind == yang.Container && !d.Presence && d.HasDefaults && c.CaseInUse(d) && w.holdsWhen(d):
		up := w.step(d, "")
		m := w.start(d, in)
		w.all(nil, d, d.Module)
		w.end(d, m, true)
		w.at = up
	}
}

func (w *xmlWriter) node(n data.Node, in *yang.Module) {
	s := n.Schema()
	if w.hidden(s) {
		return
	}
	switch n := n.(type) {
	case *data.Leaf:
		if w.Mode != Trim || !isDefault(s, n.Value) {
			w.leaf(s, n.Value, in, false)
		}
	case *data.Implied: // asked for by name, so written in every mode but trim
		if w.Mode != Trim {
			w.leaf(s, n.Value, in, w.Mode == ReportAllTagged)
		}
	case *data.Container:
		up := w.at
		if s.Kind == yang.Container {
			w.step(s, "")
		}
		m := w.start(s, in)
		w.kids(n, s, s.Module)
		w.end(s, m, s.Kind == yang.Container && !s.Presence)
		w.at = up
	case *data.List:
		if w.Mode == Trim && s.Kind == yang.LeafList && allDefault(n) {
			return
		}
		n.Each(func(key string, e data.Node) bool {
			if l, ok := e.(*data.Leaf); ok {
				w.leaf(s, l.Value, in, false)
				return true
			}
			up := w.step(s, key)
			w.room()
			w.node(e, in)
			w.flush()
			w.at = up
			return true
		})
	}
}

// isDefault tells whether a leaf has its schema default.
func isDefault(s *yang.Node, v yang.Value) bool {
	return len(s.Defaults) == 1 && s.Kind == yang.Leaf && s.Defaults[0] == v
}

// allDefault tells whether a leaf-list has its schema defaults.
func allDefault(l *data.List) bool {
	if l.Len() != len(l.S.Defaults) {
		return false
	}
	i, same := 0, true
	l.Each(func(_ string, n data.Node) bool {
		same = n.(*data.Leaf).Value == l.S.Defaults[i]
		i++
		return same
	})
	return same
}

// start writes a start tag and gives what end needs to take it back.
func (w *xmlWriter) start(s *yang.Node, in *yang.Module) (m tagMark) {
	m.from = w.pos()
	w.line()
	w.b = open(w.b, s, in)
	w.level++
	m.body = w.pos()
	return m
}

// tagMark is where a start tag begins and where the text behind it.
type tagMark struct{ from, body int }

// end writes an end tag. Where nothing was written since start, the element
// goes away if it may, else it becomes an empty one.
func (w *xmlWriter) end(s *yang.Node, m tagMark, optional bool) {
	w.level--
	if w.pos() > m.body {
		w.line()
		w.b = append(w.b, s.Close...)
		return
	}
	if optional {
		w.b = w.b[:m.from-w.done]
		return
	}
	w.b = append(w.b[:len(w.b)-1], "/>"...)
}

// line begins a line of indented output.
func (w *xmlWriter) line() {
	if w.Indent == "" {
		return
	}
	if w.pos() > 0 {
		w.b = append(w.b, '\n')
	}
	for range w.level {
		w.b = append(w.b, w.Indent...)
	}
}

func open(b []byte, s *yang.Node, in *yang.Module) []byte {
	if s.Module == in {
		return append(b, s.Open...)
	}
	return append(b, s.OpenNS...)
}

func (w *xmlWriter) leaf(s *yang.Node, v yang.Value, in *yang.Module, tag bool) {
	w.line()
	b := open(w.b, s, in)
	if tag {
		b = append(b[:len(b)-1], ` xmlns:wd="`+NSWithDefaults+`" wd:default="true">`...)
	}
	switch v.Type.Base {
	case yang.IdentityRef:
		if id := w.Schema.Identity(v.Text); id != nil {
			b = append(append(b[:len(b)-1], id.Attr...), '>')
			b = append(b, id.XML...)
			w.b = append(b, s.Close...)
			return
		}
	case yang.InstanceIdentifier: // module names serve as prefixes
		b = append(AppendPrefixes(b[:len(b)-1], w.Schema, v.Text), '>')
	case yang.Any:
		w.b = append(append(b, v.Text...), s.Close...)
		return
	}
	if v.Text == "" {
		w.b = append(b[:len(b)-1], "/>"...)
		return
	}
	w.b = append(escape(b, v.Text), s.Close...)
}

// AppendPrefixes declares the module names that a path in module-name form
// (data.Path, data.Error.Path) uses as prefixes: ` xmlns:m="…"` for each, in
// the order of their first use.
func AppendPrefixes(b []byte, s *yang.Schema, path string) []byte {
	var done []string
	for i := 0; i < len(path); {
		if c := path[i]; c == '\'' || c == '"' { // literals hold no prefixes
			j := strings.IndexByte(path[i+1:], c)
			if j < 0 {
				break
			}
			i += j + 2
			continue
		}
		j := i
		for j < len(path) && !nameEnd[path[j]] {
			j++
		}
		if j > i && j < len(path) && path[j] == ':' {
			name := path[i:j]
			if m := s.Modules[name]; m != nil && !contains(done, name) {
				done = append(done, name)
				b = append(append(append(b, " xmlns:"...), name...), '=', '"')
				b = append(AppendAttr(b, m.Namespace), '"')
			}
		}
		i = max(j, i+1)
	}
	return b
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// AppendText writes character data. What XML cannot carry becomes U+FFFD, so
// that text from outside (a device's name) never breaks a reply.
func AppendText(b []byte, s string) []byte { return escape(b, s) }

func escape(b []byte, s string) []byte {
	from := 0
	for i := 0; i < len(s); i++ {
		var r string
		switch c := s[i]; {
		case c == '&':
			r = "&amp;"
		case c == '<':
			r = "&lt;"
		case c == '>':
			r = "&gt;"
		case c == '\r':
			r = "&#13;"
		case c < 0x20 && c != '\n' && c != '\t':
			r = "\uFFFD"
		case c >= 0x80:
			n, size := utf8.DecodeRuneInString(s[i:])
			if n != 0xFFFE && n != 0xFFFF && (n != utf8.RuneError || size > 1) {
				i += size - 1
				continue
			}
			b = append(append(b, s[from:i]...), "\uFFFD"...)
			i += size - 1
			from = i + 1
			continue
		default:
			continue
		}
		b = append(append(b, s[from:i]...), r...)
		from = i + 1
	}
	return append(b, s[from:]...)
}

// AppendAttr writes the value of an attribute, for double quotes, so that a
// reader gets it back as it was.
func AppendAttr(b []byte, s string) []byte {
	for _, c := range []byte(string(escape(nil, s))) {
		switch c {
		case '"':
			b = append(b, "&quot;"...)
		case '\n':
			b = append(b, "&#10;"...)
		case '\t':
			b = append(b, "&#9;"...)
		default:
			b = append(b, c)
		}
	}
	return b
}
