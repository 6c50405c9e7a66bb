package codec

import (
	"bytes"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Namespaces that attributes and envelopes use.
const (
	NSNetconf      = "urn:ietf:params:xml:ns:netconf:base:1.0"
	NSYang         = "urn:ietf:params:xml:ns:yang:1"              // insert, key, value, action
	NSWithDefaults = "urn:ietf:params:xml:ns:netconf:default:1.0" // the attribute default
)

var ops = map[string]data.Op{"merge": data.Merge, "replace": data.Replace, "create": data.Create, "delete": data.Delete, "remove": data.Remove}

type reader struct {
	*Lexer
	edit  *data.Edit
	keys  []yang.Value
	state bool // config false nodes are welcome: replies, RPC input
	rpc   *Input
}

// Edit applies the content of a <config> element, given with that element or
// any other root around it, to a tree. The result shares with root all that
// did not change; on an error nothing happened. An error is a *data.Error.
//
// def is the default-operation (RFC 6241 section 7.2): with data.Replace what
// config does not name goes.
func Edit(s *yang.Schema, root *data.Container, config []byte, def data.Op) (*data.Container, error) {
	return EditIn(s, root, config, Scope{}, def)
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

// EditRaw is Edit for a <config> element of a message, with the namespaces
// declared around it.
func EditRaw(s *yang.Schema, root *data.Container, config Raw, def data.Op) (*data.Container, error) {
	return EditIn(s, root, config.XML, config.Scope, def)
}

// EditLexer is Edit for the element whose Start was just read from a Lexer
// that knows the schema's modules; it reads up to the element's End.
func EditLexer(lx *Lexer, root *data.Container, def data.Op) (*data.Container, error) {
	from, op := root, def
	if def == data.Replace {
		from, op = data.NewAt(root.S), data.Merge
	}
	r := &reader{Lexer: lx, edit: data.Begin(from)}
	if err := r.children(root.S, op); err != nil {
		return nil, err
	}
	tree := r.edit.Done()
	if def == data.Replace && same(root, tree) {
		return root, nil
	}
	return tree, nil
}

func same(a, b *data.Container) bool {
	equal := true
	data.Diff(a, b, func(data.Change) { equal = false })
	return equal
}

// Read reads a tree from the content of an element, given with that element:
// a reply's <data>, a file. State is read as well as configuration. What the
// writer tagged as default (RFC 6243 section 6) is left out.
func Read(s *yang.Schema, text []byte) (*data.Container, error) {
	return ReadRaw(s, Raw{XML: text})
}

// ReadRaw is Read for an element of a message.
func ReadRaw(s *yang.Schema, e Raw) (*data.Container, error) {
	lx, err := NewLexerIn(e.XML, e.Scope, s.ModuleByNS)
	if err != nil {
		return nil, malformed(err)
	}
	r := &reader{Lexer: lx, edit: data.Begin(data.New(s)), state: true}
	if t, err := r.Next(); err != nil || t != Start {
		return nil, malformed(err)
	}
	if err := r.children(s.Root, data.Merge); err != nil {
		return nil, err
	}
	if t, err := r.Next(); err != nil || t != EOF {
		return nil, malformed(err)
	}
	return r.edit.Done(), nil
}

// malformed is the error of a message that is not XML, or not one element.
func malformed(err error) error {
	msg := "one root element is wanted"
	if err != nil {
		msg = err.Error()
	}
	return &data.Error{Type: "rpc", Tag: "malformed-message", Msg: msg}
}

// fail makes an error where the edit stands; info is names and values.
func (r *reader) fail(tag, msg string, info ...string) error {
	return r.failAt(r.edit.Path(), tag, msg, info...)
}

func (r *reader) failAt(p *data.Path, tag, msg string, info ...string) error {
	e := &data.Error{Tag: tag, Msg: msg, Path: p.String()}
	for i := 0; i+1 < len(info); i += 2 {
		e.Info = append(e.Info, data.Info{Name: info[i], Value: info[i+1]})
	}
	if r.rpc != nil {
		e.Type, e.Path = "protocol", r.rpc.path(e.Path)
	}
	return e
}

// slots is a set of small numbers that costs nothing for the first 64.
type slots struct {
	low  uint64
	high map[int]bool
}

// add tells whether n was not there.
func (s *slots) add(n int) bool {
	if n < 64 {
		was := s.low>>n&1 != 0
		s.low |= 1 << n
		return !was
	}
	if s.high == nil {
		s.high = map[int]bool{}
	}
	was := s.high[n]
	s.high[n] = true
	return !was
}

func (s *slots) has(n int) bool {
	if n < 64 {
		return s.low>>n&1 != 0
	}
	return s.high[n]
}

// frame is what the children of one element have in common.
type frame struct {
	node    *yang.Node
	op      data.Op
	leaves  slots // leaves met
	written slots // nodes of choices written
}

// children reads up to the End of the element that was just entered.
func (r *reader) children(n *yang.Node, op data.Op) error {
	return r.rest(&frame{node: n, op: op})
}

func (r *reader) rest(f *frame) error {
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
				return r.fail("bad-element", "text where elements are wanted", "bad-element", elementName(f.node))
			}
		case Start:
			if err := r.element(f); err != nil {
				return err
			}
		}
	}
}

func elementName(n *yang.Node) string {
	switch n.Kind {
	case yang.Root:
		return "config"
	case yang.Input:
		return n.Up.Name
	}
	return n.Name
}

// child finds the schema node of the element just read.
func (r *reader) child(p *yang.Node) (*yang.Node, error) {
	uri, mod, bound := r.Bound(r.Prefix)
	if mod != nil {
		if n := p.Child(mod, r.Local); n != nil {
			return n, nil
		}
	} else if len(r.Prefix) > 0 && !bound {
		return nil, malformed(errSyntax)
	}
	// Some clients write parameters of other modules' operations in NETCONF's
	// namespace: ncclient the filter of create-subscription.
	if p.Kind == yang.Input && string(uri) == NSNetconf {
		if n := p.Child(p.Module, r.Local); n != nil {
			return n, nil
		}
	}
	name := string(r.Local)
	// An element without a namespace of its own inherits that of the envelope.
	if mod == nil || !mod.Implemented || string(uri) == NSNetconf && r.rpc == nil {
		return nil, r.fail("unknown-namespace", "no data of <"+name+">'s namespace is known here",
			"bad-element", name, "bad-namespace", string(uri))
	}
	return nil, r.fail("unknown-element", "<"+name+"> is not defined here", "bad-element", name)
}

// attrs is what the attributes of an element say.
type attrs struct {
	op       data.Op
	where    data.Where
	implied  bool // wd:default: the value is the default, not set by the client
	explicit bool // an operation is written
}

func (r *reader) attributes(n *yang.Node, op data.Op) (a attrs, err error) {
	a.op = op
	if len(r.Attr) == 0 {
		return a, nil
	}
	var anchor string // key or value, as written
	for _, x := range r.Attr {
		uri, local := []byte(nil), string(x.Local)
		if x.Prefix != nil {
			uri, _, _ = r.Bound(x.Prefix)
		}
		known := false
		switch string(uri) {
		case NSNetconf:
			if known = local == "operation" && !r.state; known {
				if a.op, a.explicit = ops[string(x.Value)]; !a.explicit {
					return a, r.badAttr(n, local, "operation "+string(x.Value)+" is not known")
				}
			}
		case NSYang:
			if known = n.UserOrder && (local == "insert" || local == "key" && n.Kind == yang.List || local == "value" && n.Kind == yang.LeafList); known {
				if local == "insert" {
					a.where.Insert = string(x.Value)
				} else if a.where.Key, err = r.anchor(n, string(x.Value)); err != nil {
					return a, err
				} else {
					anchor = local
				}
			}
		case NSWithDefaults:
			if known = local == "default" && n.Type != nil; known {
				v := string(x.Value)
				if a.implied = v == "true" || v == "1"; !a.implied && v != "false" && v != "0" {
					return a, r.badAttr(n, local, "true or false is wanted")
				}
			}
		}
		if !known {
			return a, r.failAt(r.edit.PathOf(n), "unknown-attribute", "attribute "+local+" is not known here", "bad-attribute", local, "bad-element", n.Name)
		}
	}
	return a, r.checkInsert(n, a.where, anchor)
}

// checkInsert keeps the rules of RFC 7950 sections 7.7.9 and 7.8.6.
func (r *reader) checkInsert(n *yang.Node, w data.Where, anchor string) error {
	wanted := "key"
	if n.Kind == yang.LeafList {
		wanted = "value"
	}
	switch w.Insert {
	case "before", "after":
		if anchor == "" {
			return r.failAt(r.edit.PathOf(n), "missing-attribute", "insert "+w.Insert+" needs "+wanted, "bad-attribute", wanted, "bad-element", n.Name)
		}
	case "", "first", "last":
		if anchor != "" {
			return r.badAttr(n, anchor, anchor+" goes with insert before and after")
		}
	default:
		return r.badAttr(n, "insert", "insert "+w.Insert+" is not known")
	}
	return nil
}

func (r *reader) badAttr(n *yang.Node, attr, msg string) error {
	return r.failAt(r.edit.PathOf(n), "bad-attribute", msg, "bad-attribute", attr, "bad-element", n.Name)
}

func (r *reader) element(f *frame) error {
	n, err := r.child(f.node)
	if err != nil {
		return err
	}
	if !n.Config && !r.state {
		return r.failAt(r.edit.PathOf(n), "invalid-value", "<"+n.Name+"> is state and cannot be written")
	}
	a := attrs{op: f.op}
	if n.Kind != yang.AnyData || r.rpc == nil { // a filter's attributes are its own
		if a, err = r.attributes(n, f.op); err != nil {
			return err
		}
	}
	gone := a.op == data.Delete || a.op == data.Remove
	if n.Kind == yang.Leaf && !f.leaves.add(n.Slot) {
		return r.failAt(r.edit.PathOf(n), "bad-element", "<"+n.Name+"> stands twice", "bad-element", n.Name)
	}
	if n.Rivals != nil && !gone && a.op != data.None {
		for _, slot := range n.Rivals {
			if f.written.has(slot) {
				return r.failAt(r.edit.PathOf(n), "bad-element", "<"+n.Name+"> and <"+f.node.Data[slot].Name+"> are of different cases", "bad-element", n.Name)
			}
		}
		f.written.add(n.Slot)
	}
	inside := frame{node: n, op: a.op}
	switch n.Kind {
	case yang.Leaf, yang.LeafList:
		return r.leafElement(n, a, gone)
	case yang.AnyData:
		return r.anydata(n, a.op)
	case yang.Container, yang.Notification:
		if err := r.edit.Enter(n, a.op); err != nil {
			return err
		}
	case yang.List:
		keys, read, err := r.entryKeys(n)
		if err != nil {
			return err
		}
		if err := r.edit.EnterEntry(n, keys, a.op, a.where); err != nil {
			return err
		}
		if read {
			inside.leaves.low = 1<<len(keys) - 1
		}
	}
	if err := r.rest(&inside); err != nil {
		return err
	}
	r.edit.Leave()
	return nil
}

func (r *reader) leafElement(n *yang.Node, a attrs, gone bool) error {
	v, err := r.value(n)
	if de, ok := err.(*data.Error); ok && de.Tag == "invalid-value" && n.Kind == yang.Leaf && gone {
		err = nil // a leaf may be deleted without its value
	}
	if err != nil {
		return err
	}
	if n.IsKey() {
		if a.explicit && gone {
			return r.badAttr(n, "operation", "a key goes with its entry only")
		}
		return nil
	}
	if a.implied && !gone {
		return r.implied(n, v, a.op)
	}
	return r.edit.Leaf(n, v, a.op, a.where)
}

// implied takes a leaf that the client says is default data: it must be the
// default, and then it is not set (RFC 6243 section 4.5.1).
func (r *reader) implied(n *yang.Node, v yang.Value, op data.Op) error {
	if r.state {
		return nil
	}
	is := false
	for _, d := range n.Defaults {
		is = is || d == v
	}
	if !is {
		return r.failAt(r.edit.PathOf(n), "invalid-value", "not the default of <"+n.Name+">")
	}
	if n.Kind == yang.LeafList {
		return nil
	}
	if op == data.Create {
		if err := r.edit.Leaf(n, v, data.Create, data.Where{}); err != nil {
			return err
		}
	}
	return r.edit.Leaf(n, v, data.Remove, data.Where{})
}

func (r *reader) anydata(n *yang.Node, op data.Op) error {
	if r.rpc != nil { // kept as it stands in the message
		raw, err := r.Skip()
		if err != nil {
			return malformed(err)
		}
		r.rpc.raw = append(r.rpc.raw, rawNode{n, raw})
		return r.edit.Leaf(n, yang.Value{Type: n.Type}, op, data.Where{})
	}
	text, err := r.content()
	if err != nil {
		return malformed(err)
	}
	return r.edit.Leaf(n, yang.Value{Text: string(text), Type: n.Type}, op, data.Where{})
}

// value reads a leaf's text up to its End and parses it while the namespace
// declarations of that very element are in scope. The error names no value.
func (r *reader) value(n *yang.Node) (yang.Value, error) {
	v, err := r.leaf(n)
	if err != nil {
		if _, ok := err.(*data.Error); !ok {
			err = r.failAt(r.edit.PathOf(n), "invalid-value", n.Name+": "+err.Error())
		}
	}
	return v, err
}

func (r *reader) leaf(n *yang.Node) (v yang.Value, err error) {
	if r.closing {
		v, err = n.Type.ParseBytes(nil, r)
		r.Next()
		return v, err
	}
	t, e := r.Next()
	if e != nil {
		return v, malformed(e)
	}
	if t == End { // its declarations are gone; only the empty value is left
		return n.Type.ParseBytes(nil, r)
	}
	if t == Text {
		text := r.Data
		if r.pos+1 < len(r.b) && r.b[r.pos] == '<' && r.b[r.pos+1] != '/' { // a comment inside the value
			text = bytes.Clone(text)
			for t == Text {
				m := r.mark()
				if t, e = r.Next(); e != nil {
					return v, malformed(e)
				}
				if t == Text {
					text = append(text, r.Data...)
				} else if t == End {
					r.open, r.ns = r.open[:m.open], r.ns[:m.ns]
					v, err = n.Type.ParseBytes(text, r)
					r.pop()
					return v, err
				}
			}
			return v, r.holds(n)
		}
		v, err = n.Type.ParseBytes(text, r)
		if t, e = r.Next(); e != nil {
			return v, malformed(e)
		}
		if t == End {
			return v, err
		}
	}
	return v, r.holds(n)
}

// holds is the error of a leaf with an element inside.
func (r *reader) holds(n *yang.Node) error {
	name := string(r.Local)
	return r.failAt(r.edit.PathOf(n), "bad-element", n.Name+" holds <"+name+">", "bad-element", name)
}

// entryKeys reads the keys of the entry just entered. They come first in
// well-made XML (RFC 7950 7.8.5), and then they have been read; where they do
// not, the reader looks ahead for them and they are met again.
func (r *reader) entryKeys(n *yang.Node) (keys []yang.Value, read bool, err error) {
	r.keys = r.keys[:0]
	if len(n.Keys) == 0 {
		return nil, false, nil
	}
	m := r.mark()
	for !r.closing && len(r.keys) < len(n.Keys) {
		t, err := r.Next()
		if err != nil {
			return nil, false, malformed(err)
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
		v, err := r.keyValue(n, k)
		if err != nil {
			return nil, false, err
		}
		r.keys = append(r.keys, v)
	}
	if len(r.keys) == len(n.Keys) && len(r.keys) < 64 {
		return r.keys, true, nil
	}
	r.reset(m)
	keys, err = r.lateKeys(n, m)
	return keys, false, err
}

// keyValue reads a key; its error names the entry's list, as there is no entry
// to name yet.
func (r *reader) keyValue(n, k *yang.Node) (yang.Value, error) {
	v, err := r.leaf(k)
	if err != nil {
		if _, ok := err.(*data.Error); !ok {
			err = r.failAt(&data.Path{Up: r.edit.PathOf(n), Schema: k}, "invalid-value", k.Name+": "+err.Error())
		}
	}
	return v, err
}

// lateKeys looks through all children for the keys.
func (r *reader) lateKeys(n *yang.Node, m mark) ([]yang.Value, error) {
	keys := make([]yang.Value, len(n.Keys))
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
			_, mod, _ := r.Bound(r.Prefix)
			if c := n.Child(mod, r.Local); mod != nil && c != nil && c.IsKey() {
				v, err := r.keyValue(n, c)
				if err != nil {
					return nil, err
				}
				if keys[c.Slot].Type != nil {
					return nil, r.failAt(r.edit.PathOf(n), "bad-element", "key <"+c.Name+"> stands twice", "bad-element", c.Name)
				}
				keys[c.Slot] = v
				continue
			}
		}
		depth++
	}
	r.reset(m)
	for i, k := range keys {
		if k.Type == nil {
			name := n.Keys[i].Name
			return nil, r.failAt(r.edit.PathOf(n), "missing-element", "an entry of "+n.Name+" lacks its key "+name, "bad-element", name)
		}
	}
	return keys, nil
}

// anchor reads the attribute yang:value (of a leaf-list) or yang:key, which is
// [p:name='value']… for all keys.
func (r *reader) anchor(n *yang.Node, s string) (string, error) {
	if n.Kind == yang.LeafList {
		v, err := n.Type.Parse(s, r)
		if err != nil {
			return "", r.badAttr(n, "value", "value: "+err.Error())
		}
		return v.Text, nil
	}
	bad := func() error { return r.badAttr(n, "key", "key "+s+" does not name an entry") }
	keys := make([]yang.Value, len(n.Keys))
	for len(s) > 0 {
		name, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "=")
		if s[0] != '[' || !ok || len(rest) < 2 || rest[0] != '\'' && rest[0] != '"' {
			return "", bad()
		}
		val, rest2, ok := strings.Cut(rest[1:], rest[:1])
		if !ok || !strings.HasPrefix(strings.TrimLeft(rest2, " "), "]") {
			return "", bad()
		}
		s = strings.TrimLeft(strings.TrimLeft(rest2, " ")[1:], " ")
		mod, name := n.Module, strings.TrimSpace(name)
		if px, local, ok := strings.Cut(name, ":"); ok {
			mod, name = r.ModuleOf(px), local
		}
		c := n.Child(mod, []byte(name))
		if mod == nil || c == nil || !c.IsKey() {
			return "", bad()
		}
		v, err := c.Type.Parse(val, r)
		if err != nil {
			return "", bad()
		}
		keys[c.Slot] = v
	}
	for _, k := range keys {
		if k.Type == nil {
			return "", bad()
		}
	}
	return data.Key(keys...), nil
}
