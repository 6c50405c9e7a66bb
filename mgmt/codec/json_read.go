package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// EditJSON is Edit for a JSON object of top-level nodes (RFC 7951): it merges.
// Errors are *data.Error.
func EditJSON(s *yang.Schema, root *data.Container, text []byte) (*data.Container, error) {
	return readJSON(root, text, false)
}

// ReadJSON reads a tree, state included, from a JSON object.
func ReadJSON(s *yang.Schema, text []byte) (*data.Container, error) {
	return readJSON(data.New(s), text, true)
}

func readJSON(root *data.Container, text []byte, state bool) (*data.Container, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, malformed(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &data.Error{Type: "rpc", Tag: "malformed-message", Msg: "text behind the JSON object"}
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, &data.Error{Type: "rpc", Tag: "malformed-message", Msg: "a JSON object is wanted"}
	}
	r := &jsonReader{edit: data.Begin(root), state: state}
	if err := r.object(root.S, o); err != nil {
		return nil, err
	}
	return r.edit.Done(), nil
}

type jsonReader struct {
	edit  *data.Edit
	state bool
}

func (r *jsonReader) fail(p *data.Path, tag, msg, bad string) error {
	e := &data.Error{Tag: tag, Msg: msg, Path: p.String()}
	if bad != "" {
		e.Info = []data.Info{{Name: "bad-element", Value: bad}}
	}
	return e
}

// object merges the members of a JSON object, in schema order, so that errors
// do not depend on the order of a map.
func (r *jsonReader) object(n *yang.Node, o map[string]any) error {
	type member struct {
		n *yang.Node
		v any
	}
	var members []member
	for name, v := range o {
		mod, local, ok := strings.Cut(name, ":")
		m := n.Module
		if ok {
			m = r.module(n, mod)
		} else {
			local = name
		}
		if strings.HasPrefix(name, "@") { // metadata (RFC 7952)
			continue
		}
		var c *yang.Node
		if m != nil {
			c = n.Child(m, []byte(local))
		}
		if c == nil {
			return r.fail(r.edit.Path(), "unknown-element", name+" is not defined here", name)
		}
		members = append(members, member{c, v})
	}
	slices.SortFunc(members, func(a, b member) int { return a.n.Slot - b.n.Slot })
	for i, m := range members {
		for _, o := range members[:i] {
			if slices.Contains(m.n.Rivals, o.n.Slot) {
				return r.fail(r.edit.PathOf(m.n), "bad-element", m.n.Name+" and "+o.n.Name+" are of different cases", m.n.Name)
			}
		}
		if err := r.member(m.n, m.v); err != nil {
			return err
		}
	}
	return nil
}

// module finds a module by name among those of n's children.
func (r *jsonReader) module(n *yang.Node, name string) *yang.Module {
	for _, d := range n.Data {
		if d.Module.Name == name {
			return d.Module
		}
	}
	return nil
}

func (r *jsonReader) member(n *yang.Node, v any) error {
	at := func() *data.Path { return r.edit.PathOf(n) }
	if !n.Config && !r.state {
		return r.fail(at(), "invalid-value", n.Name+" is state and cannot be written", "")
	}
	switch n.Kind {
	case yang.Container:
		o, ok := v.(map[string]any)
		if !ok {
			return r.fail(at(), "invalid-value", n.Name+" is a JSON object", "")
		}
		if err := r.edit.Enter(n, data.Merge); err != nil {
			return err
		}
		if err := r.object(n, o); err != nil {
			return err
		}
		r.edit.Leave()
	case yang.List, yang.LeafList:
		list, ok := v.([]any)
		if !ok {
			return r.fail(at(), "invalid-value", n.Name+" is a JSON array", "")
		}
		for _, e := range list {
			if err := r.entry(n, e); err != nil {
				return err
			}
		}
	default:
		if n.IsKey() {
			return nil
		}
		val, err := r.value(n, v, at)
		if err != nil {
			return err
		}
		return r.edit.Leaf(n, val, data.Merge, data.Where{})
	}
	return nil
}

func (r *jsonReader) entry(n *yang.Node, v any) error {
	at := func() *data.Path { return r.edit.PathOf(n) }
	if n.Kind == yang.LeafList {
		val, err := r.value(n, v, at)
		if err != nil {
			return err
		}
		return r.edit.Leaf(n, val, data.Merge, data.Where{})
	}
	o, ok := v.(map[string]any)
	if !ok {
		return r.fail(at(), "invalid-value", "an entry of "+n.Name+" is a JSON object", "")
	}
	keys := make([]yang.Value, len(n.Keys))
	for i, k := range n.Keys {
		kv, ok := o[k.Name]
		if !ok {
			kv, ok = o[k.Module.Name+":"+k.Name]
		}
		if !ok {
			return r.fail(at(), "missing-element", "an entry of "+n.Name+" lacks its key "+k.Name, k.Name)
		}
		var err error
		if keys[i], err = r.value(k, kv, func() *data.Path { return &data.Path{Up: at(), Schema: k} }); err != nil {
			return err
		}
	}
	if err := r.edit.EnterEntry(n, keys, data.Merge, data.Where{}); err != nil {
		return err
	}
	if err := r.object(n, o); err != nil {
		return err
	}
	r.edit.Leave()
	return nil
}

// value parses a leaf's value.
func (r *jsonReader) value(n *yang.Node, v any, at func() *data.Path) (yang.Value, error) {
	val, err := jsonValue(n.Type, v, n.Module.Names())
	if err != nil {
		return val, r.fail(at(), "invalid-value", n.Name+": "+err.Error(), "")
	}
	return val, nil
}

var errJSONKind = errors.New("another kind of JSON value is wanted")

// jsonValue parses a value of the JSON kind that its type wants (RFC 7951
// section 6); of a union, the first member that takes it. Numbers of 64 bits
// may also stand without quotes.
func jsonValue(t *yang.Type, v any, ns yang.Prefixes) (yang.Value, error) {
	text, ok := "", false
	switch t.Base {
	case yang.Union:
		for _, m := range t.Members {
			if val, err := jsonValue(m, v, ns); err == nil {
				return val, nil
			}
		}
		return yang.Value{}, errors.New("no member of the union accepts it")
	case yang.LeafRef:
		return jsonValue(t.Target.Type, v, ns)
	case yang.Boolean:
		var b bool
		b, ok = v.(bool)
		text = strconv.FormatBool(b)
	case yang.Int8, yang.Int16, yang.Int32, yang.Uint8, yang.Uint16, yang.Uint32:
		var n json.Number
		n, ok = v.(json.Number)
		text = n.String()
	case yang.Int64, yang.Uint64, yang.Decimal64:
		if n, is := v.(json.Number); is {
			text, ok = n.String(), true
		} else {
			text, ok = v.(string)
		}
	case yang.Empty:
		a, is := v.([]any)
		ok = is && len(a) == 1 && a[0] == nil
	case yang.InstanceIdentifier:
		text, ok = v.(string)
		text = longPath(text)
	default:
		text, ok = v.(string)
	}
	if !ok {
		return yang.Value{}, errJSONKind
	}
	if t.Base == yang.Any { // only what can stand in XML as it is
		lx, err := NewLexer([]byte("<x>"+text+"</x>"), nil)
		if err != nil {
			return yang.Value{}, err
		}
		if _, err := lx.Next(); err != nil {
			return yang.Value{}, err
		}
		c, err := lx.content()
		if err != nil {
			return yang.Value{}, err
		}
		if k, err := lx.Next(); err != nil || k != EOF {
			return yang.Value{}, errSyntax
		}
		text = string(c)
	}
	if !yang.Legal(text) {
		return yang.Value{}, errors.New("holds a character that YANG strings cannot")
	}
	return t.Parse(text, ns)
}

// longPath gives every name of a path its module, which in JSON stands only
// where it changes: the inverse of shortPath.
func longPath(path string) string {
	var b strings.Builder
	last := ""
	for l := (pathLexer{path: path}); ; {
		dollar := l.at > 0 && path[l.at-1] == '$' // a variable (RFC 8341's $USER)
		word, name := l.next()
		switch {
		case word == "":
			return b.String()
		case name && l.module():
			if l.depth == 0 {
				last = word
			}
			local, _ := l.next()
			word += ":" + local
		case name && !dollar && word[0] > '9' && last != "": // a name, no number and no dot
			word = last + ":" + word
		}
		b.WriteString(word)
	}
}
