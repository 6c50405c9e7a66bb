package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vrouter/mgmt/yang"
)

// A Path names an instance; the nil Path is the root.
type Path struct {
	Up     *Path
	Schema *yang.Node
	Key    string // of a list entry or leaf-list entry
	Entry  bool
}

// String gives an instance-identifier with module names as prefixes, the form
// that ParsePath reads. In the input or output of an operation it begins with
// the operation, as its elements do in a message. An entry without keys is named by its number.
func (p *Path) String() string {
	if p == nil {
		return ""
	}
	return string(p.append(make([]byte, 0, 128)))
}

func (p *Path) append(b []byte) []byte {
	n := p.Schema
	switch {
	case p.Up != nil:
		b = p.Up.append(b)
	case n.Up != nil && (n.Up.Kind == yang.Input || n.Up.Kind == yang.Output):
		b = append(b, n.Up.Up.Path()...)
	case n.Up != nil:
		b = append(b, n.Up.Path()...)
	}
	b = append(b, '/')
	if n.Up == nil || n.Up.Module != n.Module {
		b = append(append(b, n.Module.Name...), ':')
	}
	b = append(b, n.Name...)
	if !p.Entry {
		return b
	}
	switch {
	case n.Kind == yang.LeafList:
		text, _, _ := strings.Cut(p.Key, "\x00")
		b = append(quote(append(b, "[.="...), text), ']')
	case len(n.Keys) == 0:
		b = append(b, '[')
		b = append(strconv.AppendUint(b, serial(p.Key), 10), ']')
	default:
		rest := p.Key
		for _, k := range n.Keys {
			var v string
			v, rest, _ = strings.Cut(rest, "\x00")
			b = append(append(append(b, '['), k.Name...), '=')
			b = append(quote(b, v), ']')
		}
	}
	return b
}

// quote appends an XPath literal. One with both kinds of quotes, for which
// XPath has no literal, becomes a call of concat.
func quote(b []byte, s string) []byte {
	if !strings.Contains(s, "'") {
		return append(append(append(b, '\''), s...), '\'')
	}
	if !strings.Contains(s, `"`) {
		return append(append(append(b, '"'), s...), '"')
	}
	b = append(b, "concat("...)
	for i, part := range strings.Split(s, "'") {
		if i > 0 {
			b = append(b, `,"'",`...)
		}
		b = append(append(append(b, '\''), part...), '\'')
	}
	return append(b, ')')
}

// In gives the node that p names in a tree, or nil.
func (p *Path) In(root *Container) Node {
	if p == nil {
		return root
	}
	c, _ := p.Up.In(root).(*Container)
	n := c.Child(p.Schema)
	if p.Entry {
		l, _ := n.(*List)
		n = l.Get(p.Key)
	}
	return n
}

// Find gives the node that a text path names in a tree: a leaf, a container,
// an entry, or a whole list where the last step has no predicate. It gives nil
// when there is no such node, and an error when there cannot be: an unknown
// name, a bad key. For tests and tools; code that knows the schema uses Get.
func Find(root *Container, path string) (Node, error) {
	p, err := ParsePath(root.S, path)
	if err != nil {
		return nil, err
	}
	return p.In(root), nil
}

// Text gives the value of the leaf that a text path names, set or default in
// use; "" when there is none. For tests and tools.
func Text(root *Container, path string) string {
	p, err := ParsePath(root.S, path)
	if err != nil || p == nil || p.Schema.Kind != yang.Leaf {
		return ""
	}
	c, _ := p.Up.In(root).(*Container)
	v, _, _ := c.Value(p.Schema)
	return v.Text
}

// ParsePath reads a path as Path.String writes it: module names for prefixes,
// needed where the module changes, and all keys of each list on the way, in
// any order. Relative to from, the root of a tree.
func ParsePath(from *yang.Node, text string) (*Path, error) {
	s := pathScanner{text: text, rest: text}
	var p *Path
	at := from
	for s.rest != "" && s.rest != "/" {
		if p != nil && p.Schema.Kind == yang.List && !p.Entry {
			return nil, s.fail("an entry of " + p.Schema.Name + " is wanted: all its keys")
		}
		if !s.take("/") {
			return nil, s.fail("/ is wanted")
		}
		n, err := s.step(at)
		if err != nil {
			return nil, err
		}
		p = &Path{Up: p, Schema: n}
		at = n
		if strings.HasPrefix(s.rest, "[") {
			if p.Key, err = s.predicates(n); err != nil {
				return nil, err
			}
			p.Entry = true
		}
	}
	return p, nil
}

type pathScanner struct{ text, rest string }

func (s *pathScanner) fail(msg string) error {
	return fmt.Errorf("path %s at byte %d: %s", s.text, len(s.text)-len(s.rest), msg)
}

func (s *pathScanner) take(what string) bool {
	var ok bool
	s.rest, ok = strings.CutPrefix(s.rest, what)
	return ok
}

func (s *pathScanner) spaces() { s.rest = strings.TrimLeft(s.rest, " \t\n\r") }

// name reads [prefix:]name.
func (s *pathScanner) name() string {
	i := strings.IndexFunc(s.rest, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' || r == ':')
	})
	if i < 0 {
		i = len(s.rest)
	}
	n := s.rest[:i]
	s.rest = s.rest[i:]
	return n
}

func (s *pathScanner) step(at *yang.Node) (*yang.Node, error) {
	q := s.name()
	n := at.ChildByName(q)
	if n == nil || !strings.Contains(q, ":") && n.Module != at.Module {
		return nil, s.fail("unknown node " + q)
	}
	return n, nil
}

// predicates reads the key of an entry.
func (s *pathScanner) predicates(n *yang.Node) (string, error) {
	keys := make([]yang.Value, len(n.Keys))
	for s.take("[") {
		s.spaces()
		if n.Kind == yang.List && len(n.Keys) == 0 {
			end := strings.IndexByte(s.rest, ']')
			no, err := strconv.ParseUint(strings.TrimSpace(s.rest[:max(end, 0)]), 10, 64)
			if err != nil {
				return "", s.fail("the number of the entry is wanted")
			}
			s.rest = s.rest[end+1:]
			return place(no), nil
		}
		k := n
		if !(n.Kind == yang.LeafList && s.take(".")) {
			name := s.name()
			if k = n.ChildByName(name); n.Kind != yang.List || k == nil || !k.IsKey() {
				return "", s.fail("no key " + name)
			}
		}
		s.spaces()
		if !s.take("=") {
			return "", s.fail("= is wanted")
		}
		s.spaces()
		text, err := s.literal()
		if err != nil {
			return "", err
		}
		v, err := k.Type.Parse(text, k.Module.Names())
		if err != nil {
			return "", s.fail("key " + k.Name + ": " + err.Error())
		}
		s.spaces()
		if !s.take("]") {
			return "", s.fail("] is wanted")
		}
		if n.Kind == yang.LeafList {
			return v.Text, nil
		}
		keys[k.Slot] = v
	}
	if i := slices.IndexFunc(keys, func(v yang.Value) bool { return v.Type == nil }); i >= 0 {
		return "", s.fail("key " + n.Keys[i].Name + " is missing")
	}
	return Key(keys...), nil
}

// literal reads what quote writes.
func (s *pathScanner) literal() (string, error) {
	if s.take("concat(") {
		var b strings.Builder
		for {
			s.spaces()
			part, err := s.literal()
			if err != nil {
				return "", err
			}
			b.WriteString(part)
			s.spaces()
			if s.take(")") {
				return b.String(), nil
			}
			if !s.take(",") {
				return "", s.fail(", or ) is wanted")
			}
		}
	}
	if s.rest != "" && (s.rest[0] == '\'' || s.rest[0] == '"') {
		if i := strings.IndexByte(s.rest[1:], s.rest[0]); i >= 0 {
			v := s.rest[1 : 1+i]
			if !yang.Legal(v) {
				return "", s.fail("a character that YANG strings do not have")
			}
			s.rest = s.rest[i+2:]
			return v, nil
		}
	}
	return "", s.fail("a quoted text is wanted")
}

// Get finds a node by a path of child schema nodes; each string is the key of
// the list before it. It is for code that knows the schema.
func Get(root *Container, steps ...any) Node {
	var n Node = root
	for _, s := range steps {
		switch s := s.(type) {
		case *yang.Node:
			c, _ := n.(*Container)
			n = c.Child(s)
		case string:
			l, _ := n.(*List)
			n = l.Get(s)
		default:
			panic(fmt.Sprintf("data.Get: step %T", s))
		}
		if n == nil {
			return nil
		}
	}
	return n
}
