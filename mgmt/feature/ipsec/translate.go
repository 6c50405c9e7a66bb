package ipsec

import (
	"encoding/binary"
	"slices"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/touch"
	"vrouter/mgmt/yang"
)

// Translate implements binding.Binding. SPD entries come first, as they say
// which way SAs go.
func (b *Binding) Translate(c *binding.Commit) error {
	dbs := b.known
	if c.Full {
		dbs = newDatabases()
	}
	t := &translation{b: b, c: c, ch: begin(dbs, c.Full), spd: listOf(c.New, b.spd), sad: listOf(c.New, b.sad)}
	t.entries()
	t.join()
	if len(t.errs) > 0 {
		return t.errs
	}
	c.OnPublish(func() {
		t.ch.apply()
		b.known = dbs
	})
	return nil
}

// translation is one Translate.
type translation struct {
	b    *Binding
	c    *binding.Commit
	ch   *change
	errs data.Errors
	// The lists of the new tree.
	spd, sad *data.List
	// What was looked at, by name.
	policies, sas []string
}

func (t *translation) bad(e *data.Error) { t.errs = append(t.errs, e) }

// entries translates the SPD and SAD entries that the commit touches.
func (t *translation) entries() {
	done := map[string]bool{}
	for _, e := range touch.Entries(t.c, t.b.spd) {
		name := e.Key()
		done[name] = true
		if e.New == nil {
			t.ch.setPolicy(name, nil)
			t.c.Out.IPsec.DeletePolicy = append(t.c.Out.IPsec.DeletePolicy, name)
			continue
		}
		t.policy(name, e.New)
	}
	// Another place in the SPD is another Order, whatever gave it: the entry was
	// moved, or others were so often that places were spread anew.
	var old *data.List
	if !t.c.Full {
		old = listOf(t.c.Old, t.b.spd)
	}
	if t.spd != old {
		t.spd.Displaced(old, func(name string) {
			if !done[name] {
				t.policy(name, t.spd.Get(name).(*data.Container))
			}
		})
	}
	again := map[string]bool{}
	for _, e := range touch.Entries(t.c, t.b.sad) {
		name := e.Key()
		again[name] = true
		if e.New == nil {
			t.ch.setSA(name, nil)
			t.c.Out.IPsec.DeleteSA = append(t.c.Out.IPsec.DeleteSA, name)
			continue
		}
		t.sa(name, e.New)
	}
	turned := t.ch.turned()
	slices.Sort(turned)
	for _, name := range turned {
		if !again[name] {
			t.sa(name, t.sad.Get(name).(*data.Container))
		}
	}
}

// policy translates an SPD entry.
func (t *translation) policy(name string, c *data.Container) {
	p, about, errs := t.b.policy(c)
	if t.errs = append(t.errs, errs...); len(errs) > 0 {
		return
	}
	p.Order = binary.BigEndian.Uint64([]byte(t.spd.Place(name)))
	t.ch.setPolicy(name, about)
	t.policies = append(t.policies, name)
	t.c.Out.IPsec.SetPolicy = append(t.c.Out.IPsec.SetPolicy, p)
}

// sa translates an SAD entry.
func (t *translation) sa(name string, c *data.Container) {
	s, about, errs := t.b.sa(c)
	if t.errs = append(t.errs, errs...); len(errs) > 0 {
		return
	}
	if about.derived {
		dirs, _ := t.ch.dirs.Get(about.reqid)
		dir, ok := dirs.only()
		if !ok {
			t.bad(undirected(t.b.pathOf(t.b.sad, name), about.reqid, dirs))
			return
		}
		about.dir, s.Direction = dir, dir
	}
	t.ch.setSA(name, about)
	t.sas = append(t.sas, name)
	t.c.Out.IPsec.SetSA = append(t.c.Out.IPsec.SetSA, s)
}

// listOf gives the SPD or the SAD of a tree, nil when it has no entries.
func listOf(tree *data.Container, list *yang.Node) *data.List {
	l, _ := data.Get(tree, list.Up.Up, list.Up, list).(*data.List)
	return l
}
