package nacm

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Hidden tells which schema nodes the user may not read, whatever the keys; nil
// when there are none. looks tells that some are readable or not by their keys:
// then Prune is needed before a tree is shown.
func (v *View) Hidden() (hidden func(*yang.Node) bool, looks bool) {
	if v.all {
		return nil, false
	}
	t := v.table(Read)
	if !t.denies && !t.looks {
		return nil, false
	}
	return func(n *yang.Node) bool {
		x := &t.of[n.ID]
		return !x.permit && len(x.look) == 0
	}, t.looks
}

// Prune gives a tree without what the user may not read (RFC 8341 section
// 3.2.4), as far as w wants it; nil wants all. It shares what is readable, and
// a tree that is readable whole comes back as it is. The cost follows the
// number of entries in which rules have a say.
//
// With marks, data.Hidden stands for nodes that would otherwise be taken for
// having their defaults: for a tree that is shown. Without, it is a tree as
// for a datastore.
func (v *View) Prune(tree *data.Container, w binding.Want, marks bool) *data.Container {
	if v.all {
		return tree
	}
	t := v.table(Read)
	if !t.denies && !t.looks {
		return tree
	}
	p := &pruner{t: t, e: data.Begin(tree), want: w, marks: marks}
	p.kids(tree, tree.S, nil, t.conds)
	return p.e.Done()
}

type pruner struct {
	t     *table
	e     *data.Edit
	want  binding.Want
	marks bool
}

// table is the one for where none of the rules of live is ruled out yet.
func (p *pruner) table(live []*userRule) *table {
	if len(live) == 0 && p.t.plain != nil {
		return p.t.plain
	}
	return p.t
}

// kids prunes what stands in a container or entry, at which the edit stands. c
// is nil for a container without presence that is not there.
func (p *pruner) kids(c *data.Container, s *yang.Node, at *data.Path, live []*userRule) {
	t := p.table(live)
	if !p.marks {
		for _, k := range c.Kids() {
			if d := k.Schema(); !t.of[d.ID].clear && p.wants(d) {
				p.child(t, c, d, k, at, live)
			}
		}
		return
	}
	for _, d := range s.Data {
		if !t.of[d.ID].clear && p.wants(d) {
			p.child(t, c, d, c.Child(d), at, live)
		}
	}
}

func (p *pruner) wants(d *yang.Node) bool { return p.want == nil || p.want.Subtree(d) }

func (p *pruner) child(t *table, c *data.Container, d *yang.Node, n data.Node, up *data.Path, live []*userRule) {
	if n == nil && !(d.Config && d.HasDefaults && c.CaseInUse(d)) {
		return
	}
	x := &t.of[d.ID]
	entries := d.Kind == yang.List || d.Kind == yang.LeafList
	switch {
	case !x.permit && len(x.look) == 0,
		len(x.look) > 0 && (!entries || n == nil) && !t.permits(&data.Path{Up: up, Schema: d}):
		if p.marks && d.Config && d.HasDefaults {
			p.e.Hide(d)
		} else {
			p.e.Drop(d)
		}
	case d.Kind == yang.Container:
		if n == nil && d.Presence {
			return
		}
		sub, _ := n.(*data.Container)
		if p.e.Enter(d, data.None) == nil {
			p.kids(sub, d, &data.Path{Up: up, Schema: d}, live)
			p.e.Leave()
		}
	case entries:
		if l, ok := n.(*data.List); ok {
			p.entries(l, up, live)
		}
	}
}

func (p *pruner) entries(l *data.List, up *data.Path, live []*userRule) {
	left := l.Len()
	at := &data.Path{Up: up, Schema: l.S, Entry: true}
	l.Each(func(key string, n data.Node) bool {
		live := narrow(live, l.S, key)
		t := p.table(live)
		if t.of[l.S.ID].clear {
			return true
		}
		at.Key = key
		if !t.permits(at) {
			p.e.DropEntry(l.S, key)
			left--
			return true
		}
		e, ok := n.(*data.Container)
		if ok && p.e.EnterEntry(l.S, e.KeyValues(), data.None, data.Where{}) == nil {
			p.kids(e, l.S, &data.Path{Up: up, Schema: l.S, Key: key, Entry: true}, live)
			p.e.Leave()
		}
		return true
	})
	if left == 0 && p.marks && l.S.Kind == yang.LeafList && len(l.S.Defaults) > 0 {
		p.e.Hide(l.S)
	}
}
