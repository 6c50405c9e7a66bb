package codec

import (
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Writer appends trees as XML. It is a value: use it from any goroutine.
type Writer struct {
	Schema   *yang.Schema
	Defaults bool // report-all (RFC 6243 3.1); else explicit
}

// Append writes the children of a container, each top one with its namespace.
func (w Writer) Append(b []byte, c *data.Container) []byte {
	return w.kids(b, c, c.S, nil)
}

func (w Writer) kids(b []byte, c *data.Container, s *yang.Node, in *yang.Module) []byte {
	if w.Defaults {
		return w.all(b, c, s, in)
	}
	for _, k := range c.Kids() {
		b = w.node(b, k, in)
	}
	return b
}

// all writes the children with the defaults in use.
func (w Writer) all(b []byte, c *data.Container, s *yang.Node, in *yang.Module) []byte {
	for _, d := range s.Data {
		if n := c.Child(d); n != nil {
			b = w.node(b, n, in)
		} else if d.Kind == yang.Leaf && d.Config {
			if v, _, ok := c.Value(d); ok {
				b = w.leaf(b, d, v, in)
			}
		} else if d.Kind == yang.Container && !d.Presence && d.Config {
			from := len(b)
			b = open(b, d, in)
			body := len(b)
			if b = w.all(b, nil, d, d.Module); len(b) == body {
				b = b[:from]
			} else {
				b = append(b, d.Close...)
			}
		}
	}
	return b
}

func (w Writer) node(b []byte, n data.Node, in *yang.Module) []byte {
	switch n := n.(type) {
	case *data.Leaf:
		return w.leaf(b, n.S, n.Value, in)
	case *data.Container:
		b = open(b, n.S, in)
		b = w.kids(b, n, n.S, n.S.Module)
		return append(b, n.S.Close...)
	case *data.List:
		n.Each(func(_ string, e data.Node) bool {
			b = w.node(b, e, in)
			return true
		})
	}
	return b
}

func open(b []byte, s *yang.Node, in *yang.Module) []byte {
	if s.Module == in {
		return append(b, s.Open...)
	}
	return append(b, s.OpenNS...)
}

func (w Writer) leaf(b []byte, s *yang.Node, v yang.Value, in *yang.Module) []byte {
	b = open(b, s, in)
	switch v.Type.Base {
	case yang.IdentityRef:
		if id := w.Schema.Identity(v.Text); id != nil {
			b = append(b[:len(b)-1], id.Attr...)
			b = append(b, '>')
			b = append(b, id.XML...)
			return append(b, s.Close...)
		}
	case yang.InstanceIdentifier: // module names serve as prefixes
		b = b[:len(b)-1]
		for name, m := range w.Schema.Modules {
			if strings.Contains(v.Text, name+":") {
				b = append(b, ` xmlns:`+name+`="`+m.Namespace+`"`...)
			}
		}
		b = append(b, '>')
	}
	b = escape(b, v.Text)
	return append(b, s.Close...)
}

func escape(b []byte, s string) []byte {
	from := 0
	for i := 0; i < len(s); i++ {
		var r string
		switch s[i] {
		case '&':
			r = "&amp;"
		case '<':
			r = "&lt;"
		case '>':
			r = "&gt;"
		case '\r':
			r = "&#13;"
		default:
			continue
		}
		b = append(append(b, s[from:i]...), r...)
		from = i + 1
	}
	return append(b, s[from:]...)
}
