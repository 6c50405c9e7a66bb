package nacm

import (
	"slices"
	"strings"
	"sync"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A View is a policy as one user meets it. It is safe for concurrent use.
type View struct {
	all    bool // everything is permitted
	closed bool // nothing is
	p      *Policy
	schema *yang.Schema
	name   string
	rules  []*userRule
	admin  bool // what no rule decides is permitted
	writer bool // and what no rule decides may be written, unless guarded

	// tables[i] is that of Access 1<<i for data nodes, made when first needed.
	tables [4]struct {
		once sync.Once
		t    *table
	}
}

// A userRule is a rule with the user's name in the place of $USER.
type userRule struct {
	*rule
	conds []cond
	never bool // the user's name cannot be a value of the key
}

// A cond is what a path wants of the entries of one list.
type cond struct {
	node *yang.Node
	key  string // the whole key, where all of it is given
	part []struct {
		slot  int
		value string
	}
}

func (c *cond) holds(key string) bool {
	if c.part == nil {
		if c.node.Kind == yang.LeafList { // equal values of a state leaf-list have numbers
			key, _, _ = strings.Cut(key, "\x00")
		}
		return c.key == key
	}
	values := strings.Split(key, "\x00")
	for _, p := range c.part {
		if p.slot >= len(values) || values[p.slot] != p.value {
			return false
		}
	}
	return true
}

// holds tells whether the entries on a path are those that the rule names.
func (r *userRule) holds(at *data.Path) bool {
	for i := range r.conds {
		c := &r.conds[i]
		q := at
		for q != nil && q.Schema != c.node {
			q = q.Up
		}
		if q == nil || !q.Entry || !c.holds(q.Key) {
			return false
		}
	}
	return true
}

// view compiles what the rules say of a user (RFC 8341 section 3.4.4, steps 4
// to 6).
func (p *Policy) view(u User) *View {
	v := &View{p: p, schema: p.schema, name: u.Name}
	groups := p.groups[u.Name]
	if p.external {
		groups = append(slices.Clip(groups), u.Groups...)
		v.admin = slices.Contains(u.Groups, Admin)
		v.writer = slices.Contains(u.Groups, Operator)
	}
	if len(groups) == 0 { // not even rules for * are for who is in no group
		return v
	}
	for _, l := range p.lists {
		if !slices.ContainsFunc(l.groups, func(g string) bool { return g == "*" || slices.Contains(groups, g) }) {
			continue
		}
		for _, r := range l.rules {
			if x := r.of(p.schema, u.Name); !x.never {
				v.rules = append(v.rules, x)
			}
		}
	}
	v.all = v.admin && !slices.ContainsFunc(v.rules, func(r *userRule) bool { return !r.permit })
	return v
}

// of puts a user's name into a rule.
func (r *rule) of(s *yang.Schema, user string) *userRule {
	x := &userRule{rule: r}
	if r.path == nil {
		return x
	}
	for i := 0; i < len(r.path.tests); {
		n := r.path.tests[i].node
		c := cond{node: n}
		values := make([]string, max(1, len(n.Keys)))
		given := 0
		for ; i < len(r.path.tests) && r.path.tests[i].node == n; i++ {
			t := &r.path.tests[i]
			value := t.value
			if t.user {
				v, err := t.key.Type.Parse(user, prefixes{s, t.key.Module})
				if x.never = x.never || err != nil || !yang.Legal(user); x.never {
					continue
				}
				value = v.Text
			}
			slot := 0
			if t.key != n {
				slot = t.key.Slot
			}
			values[slot] = value
			given++
			c.part = append(c.part, struct {
				slot  int
				value string
			}{slot, value})
		}
		if given == len(values) {
			c.key, c.part = strings.Join(values, "\x00"), nil
		}
		x.conds = append(x.conds, c)
	}
	return x
}

// Unrestricted tells that the view permits everything.
func (v *View) Unrestricted() bool { return v.all }

// covers tells whether a rule for data says something of a node: of its target
// and all below.
func (r *rule) covers(n *yang.Node) bool {
	if r.kind == anyKind {
		return true
	}
	if r.kind != dataKind {
		return false
	}
	if r.path.target == nil {
		return true
	}
	for ; n != nil; n = n.Up {
		if n == r.path.target {
			return true
		}
	}
	return false
}

// MayExec tells whether the user may call an rpc (RFC 8341 section 3.4.4).
func (v *View) MayExec(op *yang.Node) bool {
	switch {
	case v.all, op.Module.Name == "ietf-netconf" && op.Name == "close-session":
		return true
	case v.closed:
		return false
	}
	for _, r := range v.rules {
		if r.access&Exec != 0 && r.about(op) && (r.kind == anyKind || r.named(rpcKind, op)) {
			return r.permit
		}
	}
	return v.execDefault(op)
}

func (v *View) execDefault(op *yang.Node) bool {
	switch {
	case v.admin:
		return true
	case op.Secret(), op.Module.Name == "ietf-netconf" && (op.Name == "kill-session" || op.Name == "delete-config"):
		return false
	}
	return v.p.execPermit
}

// MayAct tells whether the user may call an action of the node at a path: the
// way to it must be readable (RFC 8341 section 3.1.3).
func (v *View) MayAct(op *yang.Node, at *data.Path) bool {
	switch {
	case v.all:
		return true
	case v.closed || !v.MayRead(at):
		return false
	}
	for _, r := range v.rules {
		if r.access&Exec != 0 && r.about(op) && r.covers(op) && r.holds(at) {
			return r.permit
		}
	}
	return v.execDefault(op)
}

// MayNotify tells whether the user may get a notification (RFC 8341 section
// 3.4.6). at names the node that a nested notification belongs to; its way must
// be readable. It is nil for one that stands at the top of a module.
// replayComplete and notificationComplete are for everyone.
func (v *View) MayNotify(n *yang.Node, at *data.Path) bool {
	switch {
	case v.all:
		return true
	case n.Up.Kind == yang.Root && (n.Name == "replayComplete" || n.Name == "notificationComplete"):
		return true
	case v.closed || !v.MayRead(at):
		return false
	}
	for _, r := range v.rules {
		if r.access&Read == 0 || !r.about(n) {
			continue
		}
		if r.named(notificationKind, n) || r.kind == anyKind || at != nil && r.covers(n) && r.holds(at) {
			return r.permit
		}
	}
	switch {
	case v.admin:
		return true
	case n.Secret():
		return false
	}
	return v.p.readPermit
}

// MayRead tells whether the user may read the node at a path, which includes
// the way to it. The nil path is the root.
func (v *View) MayRead(at *data.Path) bool { return v.Readable(at) == at }

// Readable gives the last node on a path that the user may read; nil is the
// root. A step that means all entries of a list is readable when the list is
// not denied as such.
func (v *View) Readable(at *data.Path) *data.Path {
	if at == nil || v.all {
		return at
	}
	up := v.Readable(at.Up)
	if up != at.Up || !v.table(Read).permits(at) {
		return up
	}
	return at
}
