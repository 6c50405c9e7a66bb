package nacm

import (
	"fmt"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A ruleList is an entry of /nacm/rule-list.
type ruleList struct {
	groups []string
	rules  []*rule
}

// kind is what a rule is about.
type kind uint8

const (
	anyKind kind = iota // no rule-type: everything
	rpcKind
	notificationKind
	dataKind
)

// A rule is an entry of /nacm/rule-list/rule, compiled.
type rule struct {
	module string // "*" is any
	kind   kind
	name   string // of the operation or notification; "*" is any
	path   *path  // of dataKind
	access Access
	permit bool
}

// about tells whether the rule is for nodes of a module.
func (r *rule) about(n *yang.Node) bool { return r.module == "*" || r.module == n.Module.Name }

// named is about for an operation or notification of a kind.
func (r *rule) named(k kind, n *yang.Node) bool {
	return r.kind == k && (r.name == "*" || r.name == n.Name)
}

// A path is a node-instance-identifier: nil steps are /, everything.
type path struct {
	target *yang.Node // nil for /; a data node, an action or a notification
	tests  []test
}

// A test wants a key of an entry on the path, or a value of a leaf-list.
type test struct {
	node  *yang.Node // the list or leaf-list
	key   *yang.Node // the key leaf; the leaf-list itself
	value string     // canonical
	user  bool       // value is the name of the user
}

// compile reads the rules. It gives a policy also where there are errors.
func (c *Control) compile(from *data.Container) (*Policy, data.Errors) {
	is := func(n *yang.Node, want string) bool {
		v, _, _ := from.Value(n)
		return v.Text == want
	}
	p := &Policy{from: from, schema: c.schema, enabled: is(c.n.enable, "true"), external: is(c.n.external, "true"),
		readPermit: is(c.n.readDefault, "permit"), writePermit: is(c.n.writeDefault, "permit"), execPermit: is(c.n.execDefault, "permit"),
		groups: map[string][]string{}, views: map[string]*View{}}
	from.Sub(c.n.groups).List(c.n.group).Each(func(name string, e data.Node) bool {
		users, _ := e.(*data.Container).Values(c.n.userName)
		for _, u := range users {
			p.groups[u.Text] = append(p.groups[u.Text], name)
		}
		return true
	})
	var errs data.Errors
	from.List(c.n.ruleList).Each(func(list string, e data.Node) bool {
		in := e.(*data.Container)
		l := ruleList{}
		groups, _ := in.Values(c.n.ruleListGroup)
		for _, g := range groups {
			l.groups = append(l.groups, g.Text)
		}
		in.List(c.n.rule).Each(func(name string, e data.Node) bool {
			r, err := c.rule(e.(*data.Container))
			if err != nil {
				at := &data.Path{Schema: c.n.nacm}
				at = &data.Path{Up: at, Schema: c.n.ruleList, Key: list, Entry: true}
				at = &data.Path{Up: at, Schema: c.n.rule, Key: name, Entry: true}
				at = &data.Path{Up: at, Schema: c.n.path}
				errs = append(errs, &data.Error{Tag: "invalid-value", Path: at.String(), Msg: err.Error()})
				return true
			}
			l.rules = append(l.rules, r)
			return true
		})
		p.lists = append(p.lists, l)
		return true
	})
	return p, errs
}

func (c *Control) rule(e *data.Container) (*rule, error) {
	text := func(n *yang.Node) string {
		v, _, _ := e.Value(n)
		return v.Text
	}
	r := &rule{module: text(c.n.module), permit: text(c.n.action) == "permit"}
	switch {
	case e.Child(c.n.rpc) != nil:
		r.kind, r.name = rpcKind, text(c.n.rpc)
	case e.Child(c.n.notification) != nil:
		r.kind, r.name = notificationKind, text(c.n.notification)
	case e.Child(c.n.path) != nil:
		r.kind = dataKind
		var err error
		if r.path, err = parsePath(c.schema, text(c.n.path)); err != nil {
			return nil, err
		}
	}
	access := text(c.n.access)
	for i, name := range accessNames {
		if access == "*" || hasWord(access, name) {
			r.access |= 1 << i
		}
	}
	return r, nil
}

func hasWord(s, w string) bool {
	for x := range strings.FieldsSeq(s) {
		if x == w {
			return true
		}
	}
	return false
}

// parsePath reads a node-instance-identifier (RFC 8341 section 3.5.2) in
// canonical form: module names for prefixes. Names in predicates may do
// without. Identities as key values may have a module's name or its own prefix.
func parsePath(s *yang.Schema, text string) (*path, error) {
	p := &path{}
	if text == "/" {
		return p, nil
	}
	at := s.Root
	rest := text
	fail := func(msg string) (*path, error) { return nil, fmt.Errorf("path %s: %s", text, msg) }
	if rest == "" {
		return fail("is empty")
	}
	for rest != "" {
		if rest[0] != '/' {
			return fail("/ is wanted at byte " + fmt.Sprint(len(text)-len(rest)))
		}
		if at.Kind == yang.Action || at.Kind == yang.Notification {
			return fail("nothing can stand below " + at.Name)
		}
		i := 1
		for i < len(rest) && rest[i] != '/' && rest[i] != '[' {
			i++
		}
		prefix, name, ok := strings.Cut(rest[1:i], ":")
		m := s.Modules[prefix]
		if !ok || m == nil {
			return fail("the name " + rest[1:i] + " needs the prefix of a module that is there")
		}
		n := at.Child(m, []byte(name))
		if n == nil {
			if n = at.Op(m, []byte(name)); n == nil || n.Kind == yang.RPC {
				return fail("there is no node " + rest[1:i])
			}
		}
		at, rest = n, rest[i:]
		for strings.HasPrefix(rest, "[") {
			t, after, err := predicate(s, n, rest[1:])
			if err != nil {
				return fail(err.Error())
			}
			for _, x := range p.tests {
				if x.key == t.key {
					return fail("key " + t.key.Name + " stands twice")
				}
			}
			p.tests, rest = append(p.tests, t), after
		}
	}
	p.target = at
	return p, nil
}

// predicate reads what follows a [, up to and with the ].
func predicate(s *yang.Schema, n *yang.Node, text string) (t test, rest string, err error) {
	name, rest, ok := strings.Cut(text, "=")
	if name = strings.TrimSpace(name); !ok {
		return t, "", fmt.Errorf("a predicate of %s is not key = value", n.Name)
	}
	t.node = n
	switch {
	case n.Kind == yang.LeafList && name == ".":
		t.key = n
	case n.Kind == yang.List:
		m := n.Module
		if prefix, local, has := strings.Cut(name, ":"); has {
			m, name = s.Modules[prefix], local
		}
		if m != nil {
			t.key = n.Child(m, []byte(name))
		}
	}
	if t.key == nil || t.key != n && !t.key.IsKey() {
		return t, "", fmt.Errorf("%s has no key %s", n.Name, name)
	}
	rest = strings.TrimLeft(rest, " \t\r\n")
	if after, is := strings.CutPrefix(rest, "$USER"); is {
		t.user, rest = true, after
	} else {
		if rest == "" || rest[0] != '\'' && rest[0] != '"' {
			return t, "", fmt.Errorf("the value of %s is neither a quoted text nor $USER", name)
		}
		value, after, closed := strings.Cut(rest[1:], rest[:1])
		if !closed {
			return t, "", fmt.Errorf("the value of %s has no end", name)
		}
		if !yang.Legal(value) {
			return t, "", fmt.Errorf("the value of %s has a character that YANG strings do not have", name)
		}
		v, err := t.key.Type.Parse(value, prefixes{s, t.key.Module})
		if err != nil {
			return t, "", fmt.Errorf("%s: %w", name, err)
		}
		t.value, rest = v.Text, after
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t\r\n"), "]")
	if !ok {
		return t, "", fmt.Errorf("] is wanted behind the value of %s", name)
	}
	return t, rest, nil
}

// prefixes resolves those of identities in key values: module names, the
// prefixes that modules give themselves, and none for the key's own module.
// What was in scope where a client wrote the path is known no more.
type prefixes struct {
	s   *yang.Schema
	own *yang.Module
}

func (p prefixes) ModuleOf(prefix string) *yang.Module {
	if prefix == "" {
		return p.own
	}
	if m := p.s.Modules[prefix]; m != nil {
		return m
	}
	for _, m := range p.s.Sorted() {
		if m.Prefix == prefix {
			return m
		}
	}
	return nil
}
