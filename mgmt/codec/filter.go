package codec

import (
	"bytes"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Filter is a compiled subtree filter (RFC 6241 section 6). Names that the
// schema does not have select nothing.
type Filter struct {
	s     *yang.Node
	match []data.Leaf // content match nodes
	kids  []*Filter
	key   string // set when match names all keys of a list
	keyed bool
}

// ParseFilter reads a <filter> element with its content.
func ParseFilter(s *yang.Schema, b []byte) (*Filter, error) {
	lx, err := NewLexer(b, s.ModuleByNS)
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

// filter reads children up to End and gives the text met on the way.
func (r *reader) filter(f *Filter) (text []byte, err error) {
	for {
		t, err := r.Next()
		if err != nil {
			return nil, malformed(err)
		}
		switch t {
		case End, EOF:
			f.seal()
			return text, nil
		case Text:
			text = append(text, bytes.TrimSpace(r.Data)...)
		case Start:
			_, mod, bound := r.Bound(r.Prefix)
			kid := &Filter{}
			if f.s != nil && (mod != nil || !bound) { // no namespace is a wildcard
				kid.s = f.s.Child(mod, r.Local)
			}
			if kid.s != nil && kid.s.Type != nil {
				v, perr := yang.Value{}, error(nil)
				if !r.closing {
					m := r.mark()
					if t, err := r.Next(); err != nil {
						return nil, malformed(err)
					} else if t == Text && len(bytes.TrimSpace(r.Data)) > 0 {
						v, perr = kid.s.Type.Parse(string(bytes.TrimSpace(r.Data)), r)
						if perr != nil {
							v.Text = "\x00" // equals nothing
						}
						f.match = append(f.match, data.Leaf{S: kid.s, Value: v})
						kid = nil
					}
					r.reset(m)
				}
			}
			if kid == nil {
				if _, err := r.filter(&Filter{}); err != nil {
					return nil, err
				}
				continue
			}
			if _, err := r.filter(kid); err != nil {
				return nil, err
			}
			f.kids = append(f.kids, kid)
		}
	}
}

// seal notices a list filter that names one entry.
func (f *Filter) seal() {
	if f.s == nil || f.s.Kind != yang.List || len(f.s.Keys) == 0 {
		return
	}
	keys := make([]yang.Value, len(f.s.Keys))
	n := 0
	for _, m := range f.match {
		if m.S.IsKey() {
			keys[m.S.Slot] = m.Value
			n++
		}
	}
	if f.keyed = n == len(keys); f.keyed {
		f.key = data.Key(keys...)
	}
}

// AppendFiltered writes what a filter selects of a tree.
func (w Writer) AppendFiltered(b []byte, root *data.Container, f *Filter) []byte {
	return w.selected(b, root, f, nil)
}

// selected writes the part of one container or entry that f selects.
func (w Writer) selected(b []byte, c *data.Container, f *Filter, in *yang.Module) []byte {
	if len(f.kids) == 0 && f.s.Kind != yang.Root { // content match alone selects all siblings
		return w.kids(b, c, f.s, in)
	}
	for _, k := range f.s.Keys {
		b = w.node(b, c.Child(k), in)
	}
	for _, m := range f.match {
		if !m.S.IsKey() {
			v, _, _ := c.Value(m.S)
			if m.S.Kind == yang.LeafList {
				v = m.Value
			}
			b = w.leaf(b, m.S, v, in)
		}
	}
	for _, k := range f.kids {
		if k.s == nil || k.s.IsKey() {
			continue
		}
		switch n := c.Child(k.s).(type) {
		case *data.Leaf:
			b = w.node(b, n, in)
		case *data.Container:
			b = w.match(b, n, k, in)
		case *data.List:
			if k.s.Kind == yang.LeafList {
				b = w.node(b, n, in)
			} else if k.keyed {
				if e, ok := n.Get(k.key).(*data.Container); ok {
					b = w.match(b, e, k, in)
				}
			} else {
				n.Each(func(_ string, e data.Node) bool {
					b = w.match(b, e.(*data.Container), k, in)
					return true
				})
			}
		case nil:
			if w.Defaults && k.s.Kind == yang.Leaf {
				if v, _, ok := c.Value(k.s); ok {
					b = w.leaf(b, k.s, v, in)
				}
			}
		}
	}
	return b
}

// match writes a container or entry with its tags if f's content matches and
// something is selected.
func (w Writer) match(b []byte, c *data.Container, f *Filter, in *yang.Module) []byte {
	for _, m := range f.match {
		if m.S.Kind == yang.LeafList {
			if c.List(m.S).Get(m.Value.Text) == nil {
				return b
			}
		} else if v, _, ok := c.Value(m.S); !ok || v.Text != m.Value.Text {
			return b
		}
	}
	from := len(b)
	b = open(b, f.s, in)
	body := len(b)
	if b = w.selected(b, c, f, f.s.Module); len(b) == body && len(f.kids) > 0 {
		return b[:from]
	}
	return append(b, f.s.Close...)
}
