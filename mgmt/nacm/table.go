package nacm

import (
	"math/bits"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A table says for one kind of access what holds for the instances of each
// schema node of data, by its ID.
type table struct {
	of []verdict
	// looks tells that some verdict depends on keys, denies that some node is
	// not permitted.
	looks, denies bool
	// plain is the table without the rules that look at keys: what holds for
	// entries that none of them names.
	plain *table
	conds []*userRule // those rules
}

// A verdict is what the rules say of the instances of a schema node.
type verdict struct {
	permit bool // where none of the rules in look holds
	// clear tells that everything here and below is permitted.
	clear bool
	// keys tells that of a list's keys not all are just permitted: the entry is
	// hidden with any of them.
	keys bool
	look []*userRule // in order; the first that holds decides
}

// table gives that of one kind of access.
func (v *View) table(a Access) *table {
	x := &v.tables[bits.TrailingZeros8(uint8(a))]
	x.once.Do(func() {
		x.t = v.build(a, true)
		if !x.t.looks {
			return
		}
		x.t.plain = v.build(a, false)
		for _, r := range v.rules {
			if r.access&a != 0 && len(r.conds) > 0 {
				x.t.conds = append(x.t.conds, r)
			}
		}
	})
	return x.t
}

// build makes a table, with or without the rules that look at keys.
func (v *View) build(a Access, looking bool) *table {
	t := &table{of: make([]verdict, v.schema.N)}
	var walk func(n *yang.Node) (clear bool)
	walk = func(n *yang.Node) bool {
		x := v.decide(n, a, looking)
		x.clear = true
		for _, k := range n.Data {
			if !walk(k) {
				x.clear = false
			}
		}
		if a == Read && n.Kind == yang.List {
			for _, k := range n.Keys {
				y := &t.of[k.ID]
				x.keys = x.keys || len(y.look) > 0 || !y.permit
				if !y.permit && len(y.look) == 0 {
					x.permit, x.look = false, nil
				}
			}
		}
		x.clear = x.clear && x.permit && len(x.look) == 0 && !x.keys
		t.looks = t.looks || len(x.look) > 0
		t.denies = t.denies || !x.permit
		t.of[n.ID] = x
		return x.clear
	}
	for _, k := range v.schema.Root.Data {
		walk(k)
	}
	return t
}

// decide asks the rules in order, and then the defaults (RFC 8341 section
// 3.4.5).
func (v *View) decide(n *yang.Node, a Access, looking bool) (x verdict) {
	if v.closed {
		return x
	}
	for _, r := range v.rules {
		if r.access&a == 0 || !r.about(n) || !r.covers(n) {
			continue
		}
		if len(r.conds) == 0 {
			x.permit = r.permit
			return x
		}
		if looking {
			x.look = append(x.look, r)
		}
	}
	switch {
	case v.admin:
		x.permit = true
	case a == Read:
		x.permit = !n.Secret() && v.p.readPermit
	case n.Guarded():
	default:
		x.permit = v.writer || v.p.writePermit
	}
	return x
}

// permits tells whether the access is permitted at a path.
func (t *table) permits(at *data.Path) bool {
	x := &t.of[at.Schema.ID]
	if !x.decides(at) {
		return false
	}
	if x.keys && at.Entry {
		for _, k := range at.Schema.Keys {
			if !t.of[k.ID].decides(at) {
				return false
			}
		}
	}
	return true
}

// decides is permits for a node at a path, or for a key of the entry there.
func (x *verdict) decides(at *data.Path) bool {
	for _, r := range x.look {
		if r.holds(at) {
			return r.permit
		}
	}
	return x.permit
}

// narrow gives of the rules that look at keys those that an entry does not rule
// out.
func narrow(live []*userRule, n *yang.Node, key string) []*userRule {
	for i, r := range live {
		if r.excludes(n, key) {
			out := append([]*userRule(nil), live[:i]...)
			for _, r := range live[i+1:] {
				if !r.excludes(n, key) {
					out = append(out, r)
				}
			}
			return out
		}
	}
	return live
}

func (r *userRule) excludes(n *yang.Node, key string) bool {
	for i := range r.conds {
		if c := &r.conds[i]; c.node == n && !c.holds(key) {
			return true
		}
	}
	return false
}
