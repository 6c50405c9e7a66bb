package codec

import (
	"bytes"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

const (
	nsNetconf = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsYang    = "urn:ietf:params:xml:ns:yang:1"
)

var ops = map[string]data.Op{"merge": data.Merge, "replace": data.Replace, "create": data.Create, "delete": data.Delete, "remove": data.Remove}

type reader struct {
	*Lexer
	schema *yang.Schema
	edit   *data.Edit
	keys   []yang.Value
}

// Edit applies the content of a <config> element, given with that element or
// any other root around it, to a tree. The result shares with root all that
// did not change; on an error nothing happened.
func Edit(s *yang.Schema, root *data.Container, config []byte, def data.Op) (*data.Container, error) {
	lx, err := NewLexer(config, s.ModuleByNS)
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

func malformed(err error) error {
	msg := "one root element is wanted"
	if err != nil {
		msg = err.Error()
	}
	return &data.Error{Tag: "malformed-message", Msg: msg}
}

func (r *reader) fail(tag, msg string) error {
	return &data.Error{Tag: tag, Msg: msg, Path: r.edit.Path().String()}
}

// children reads up to the End of the element that was just entered.
func (r *reader) children(p *yang.Node, op data.Op) error {
	for {
		t, err := r.Next()
		if err != nil {
			return malformed(err)
		}
		switch t {
		case End:
			return nil
		case Text:
			if len(bytes.TrimSpace(r.Data)) > 0 {
				return r.fail("invalid-value", "text where elements are wanted")
			}
		case Start:
			if err := r.element(p, op); err != nil {
				return err
			}
		}
	}
}

// child finds the schema node of the element just read.
func (r *reader) child(p *yang.Node) (*yang.Node, error) {
	_, mod, bound := r.Bound(r.Prefix)
	if mod == nil {
		if len(r.Prefix) > 0 && !bound {
			return nil, malformed(errSyntax)
		}
		return nil, r.fail("unknown-namespace", "no module has the namespace of <"+string(r.Local)+">")
	}
	n := p.Child(mod, r.Local)
	if n == nil {
		return nil, r.fail("unknown-element", "<"+string(r.Local)+"> is not defined here")
	}
	return n, nil
}

func (r *reader) element(p *yang.Node, op data.Op) error {
	n, err := r.child(p)
	if err != nil {
		return err
	}
	if !n.Config {
		return r.fail("invalid-value", "<"+n.Name+"> is state and cannot be written")
	}
	var where data.Where
	for _, a := range r.Attr {
		uri, _, _ := r.Bound(a.Prefix)
		switch {
		case a.Prefix == nil:
			return r.fail("unknown-attribute", "attribute "+string(a.Local))
		case string(uri) == nsNetconf && string(a.Local) == "operation":
			o, ok := ops[string(a.Value)]
			if !ok {
				return r.fail("bad-attribute", "operation "+string(a.Value))
			}
			op = o
		case string(uri) == nsYang && n.UserOrder:
			switch string(a.Local) {
			case "insert":
				where.Insert = string(a.Value)
			case "value": // of a leaf-list entry
				v, err := n.Type.Parse(string(a.Value), r)
				if err != nil {
					return r.fail("bad-attribute", "value "+string(a.Value))
				}
				where.Key = v.Text
			case "key":
				if where.Key, err = r.keyPredicates(n, string(a.Value)); err != nil {
					return err
				}
			}
		default:
			return r.fail("unknown-attribute", "attribute "+string(a.Local))
		}
	}
	switch n.Kind {
	case yang.Leaf, yang.LeafList:
		v, err := r.value(n)
		if de, ok := err.(*data.Error); ok && de.Tag == "invalid-value" && n.Kind == yang.Leaf && (op == data.Delete || op == data.Remove) {
			err = nil // a leaf may be deleted without its value
		}
		if err != nil || n.IsKey() {
			return err
		}
		return r.edit.Leaf(n, v, op, where)
	case yang.Container:
		if err := r.edit.Enter(n, op); err != nil {
			return err
		}
	case yang.List:
		keys, err := r.entryKeys(n)
		if err != nil {
			return err
		}
		if err := r.edit.EnterEntry(n, keys, op, where); err != nil {
			return err
		}
	default:
		return r.fail("operation-not-supported", n.Name+": anydata is not supported")
	}
	if err := r.children(n, op); err != nil {
		return err
	}
	r.edit.Leave()
	return nil
}

// value reads a leaf's text up to its End and parses it while the namespace
// declarations of that very element are in scope.
func (r *reader) value(n *yang.Node) (yang.Value, error) {
	v, err := r.leaf(n)
	if err != nil {
		if _, ok := err.(*data.Error); !ok {
			err = &data.Error{Tag: "invalid-value", Msg: err.Error(), Path: r.edit.PathOf(n).String()}
		}
	}
	return v, err
}

func (l *reader) leaf(n *yang.Node) (v yang.Value, err error) {
	if l.closing {
		v, err = n.Type.ParseBytes(nil, l)
		l.Next()
		return v, err
	}
	t, e := l.Next()
	if e != nil {
		return v, malformed(e)
	}
	if t == End { // its declarations are gone; only the empty value is left
		return n.Type.ParseBytes(nil, l)
	}
	if t == Text {
		text := l.Data
		if l.pos < len(l.b) && l.b[l.pos] == '<' && l.pos+1 < len(l.b) && l.b[l.pos+1] != '/' { // a comment inside the value
			text = bytes.Clone(text)
			for t == Text {
				m := l.mark()
				if t, e = l.Next(); e != nil {
					return v, malformed(e)
				}
				if t == Text {
					text = append(text, l.Data...)
				} else if t == End {
					l.open, l.ns = l.open[:m.open], l.ns[:m.ns]
					v, err = n.Type.ParseBytes(text, l)
					l.pop()
					return v, err
				}
			}
			return v, l.fail("bad-element", n.Name+" holds an element")
		}
		v, err = n.Type.ParseBytes(text, l)
		if t, e = l.Next(); e != nil {
			return v, malformed(e)
		}
		if t == End {
			return v, err
		}
	}
	return v, l.fail("bad-element", n.Name+" holds an element")
}

// entryKeys reads the keys of the entry just entered. They come first in
// well-made XML (RFC 7950 7.8.5) and are consumed; where they do not, the
// entry is read twice.
func (r *reader) entryKeys(n *yang.Node) ([]yang.Value, error) {
	r.keys = r.keys[:0]
	m := r.mark()
	for !r.closing && len(r.keys) < len(n.Keys) {
		t, err := r.Next()
		if err != nil {
			return nil, malformed(err)
		}
		if t == Text && len(bytes.TrimSpace(r.Data)) == 0 {
			continue
		}
		if t != Start || len(r.Attr) > 0 {
			break
		}
		k := n.Keys[len(r.keys)]
		if _, mod, _ := r.Bound(r.Prefix); mod != k.Module || string(r.Local) != k.Name {
			break
		}
		v, err := r.value(k)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, v)
	}
	if len(r.keys) == len(n.Keys) {
		return r.keys, nil
	}
	r.reset(m)
	keys := make([]yang.Value, len(n.Keys))
	seen := 0
	for depth := 0; !r.closing || depth > 0; {
		t, err := r.Next()
		if err != nil {
			return nil, malformed(err)
		}
		if t == End {
			if depth--; depth < 0 {
				break
			}
		}
		if t != Start {
			continue
		}
		if depth == 0 {
			if c, err := r.child(n); err == nil && c.IsKey() {
				v, err := r.value(c)
				if err != nil {
					return nil, err
				}
				if keys[c.Slot].Type == nil {
					seen++
				}
				keys[c.Slot] = v
				continue
			}
		}
		depth++
	}
	r.reset(m)
	if seen < len(keys) {
		return nil, r.fail("missing-element", "an entry of "+n.Name+" lacks a key")
	}
	return keys, nil
}

// keyPredicates reads [p:name='value']… of the yang:key attribute.
func (r *reader) keyPredicates(n *yang.Node, s string) (string, error) {
	keys := make([]yang.Value, len(n.Keys))
	bad := r.fail("bad-attribute", "key "+s)
	for len(s) > 0 {
		i := bytes.IndexByte([]byte(s), '=')
		if s[0] != '[' || i < 0 || i+2 > len(s) {
			return "", bad
		}
		name, q := s[1:i], s[i+1]
		j := bytes.IndexByte([]byte(s[i+2:]), q)
		if j < 0 || i+2+j+1 >= len(s) || s[i+2+j+1] != ']' {
			return "", bad
		}
		val := s[i+2 : i+2+j]
		s = s[i+2+j+2:]
		mod := n.Module
		if k := bytes.IndexByte([]byte(name), ':'); k >= 0 {
			mod, name = r.ModuleOf(name[:k]), name[k+1:]
		}
		c := n.Child(mod, []byte(name))
		if mod == nil || c == nil || !c.IsKey() {
			return "", bad
		}
		v, err := c.Type.Parse(val, r)
		if err != nil {
			return "", bad
		}
		keys[c.Slot] = v
	}
	return data.Key(keys...), nil
}
