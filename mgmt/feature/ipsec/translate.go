package ipsec

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strconv"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/touch"
	"vrouter/mgmt/yang"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// Translate implements binding.Binding. SPD entries come first, as they say
// which way SAs go.
func (b *Binding) Translate(c *binding.Commit) error {
	dbs := b.known
	if c.Full {
		dbs = newDatabases()
	}
	t := &translation{b: b, c: c, ch: begin(dbs, c.Full), spd: listOf(c.New, b.spd), sad: listOf(c.New, b.sad)}
	t.def = b.defaultOffload(c.New)
	if !c.Full {
		t.oldSPD, t.oldDef = listOf(c.Old, b.spd), b.defaultOffload(c.Old)
	}
	t.groups()
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
	// The lists of the new tree, and the SPD as it was, nil in a Full commit.
	spd, sad, oldSPD *data.List
	// How SAs are served that do not say it.
	def, oldDef ipsec.Offload
	// What was looked at, by name.
	policies, sas []string
}

func (t *translation) bad(e *data.Error) { t.errs = append(t.errs, e) }

// groups translates the tenant groups that the commit touches.
func (t *translation) groups() {
	for _, e := range touch.Entries(t.c, t.b.groups) {
		if e.New == nil {
			t.c.Out.IPsec.DeleteGroup = append(t.c.Out.IPsec.DeleteGroup, e.Key())
			continue
		}
		if g := t.b.group(e.New); e.Old == nil || t.b.group(e.Old) != g {
			t.c.Out.IPsec.SetGroup = append(t.c.Out.IPsec.SetGroup, g)
		}
	}
}

// group reads a tenant group.
func (b *Binding) group(c *data.Container) ipsec.Group {
	get := func(name string) (n uint64) {
		if v, _, ok := c.Value(b.groups.ChildByName(name)); ok {
			n, _ = strconv.ParseUint(v.Text, 10, 64) // the type was checked
		}
		return n
	}
	name, _, _ := c.Value(b.groups.ChildByName("name"))
	return ipsec.Group{Name: name.Text, MaxSAs: uint32(get("max-sas")), Packets: get("packets-per-second"), Bytes: get("bytes-per-second")}
}

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
		t.policy(name, e.Old, e.New)
	}
	// Another place in the SPD is another Order, whatever gave it: the entry was
	// moved, or others were so often that places were spread anew.
	if t.spd != t.oldSPD {
		t.spd.Displaced(t.oldSPD, func(name string) {
			if !done[name] {
				t.policy(name, entry(t.oldSPD, name), entry(t.spd, name))
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
		t.sa(name, e.Old, e.New)
	}
	if !t.c.Full && t.def != t.oldDef {
		t.sad.Each(func(name string, n data.Node) bool {
			if !again[name] {
				again[name] = true
				t.sa(name, entry(t.sad, name), entry(t.sad, name))
			}
			return true
		})
	}
	turned := t.ch.turned()
	slices.Sort(turned)
	for _, name := range turned {
		if !again[name] {
			t.sa(name, entry(t.sad, name), entry(t.sad, name))
		}
	}
}

// policy translates an SPD entry. old is what it was, nil where it was not.
func (t *translation) policy(name string, old, c *data.Container) {
	p, about, errs := t.b.policy(c)
	if t.errs = append(t.errs, errs...); len(errs) > 0 {
		return
	}
	p.Order = order(t.spd, name)
	t.ch.setPolicy(name, about)
	t.policies = append(t.policies, name)
	if old != nil {
		was, _, _ := t.b.policy(old)
		if was.Order = order(t.oldSPD, name); reflect.DeepEqual(was, p) {
			return // what changed is between it and its SAs
		}
	}
	t.c.Out.IPsec.SetPolicy = append(t.c.Out.IPsec.SetPolicy, p)
}

// order is the place of an SPD entry as a number: that of one entry does not
// depend on how many stand before it.
func order(spd *data.List, name string) uint64 {
	return binary.BigEndian.Uint64([]byte(spd.Place(name)))
}

// sa translates an SAD entry. old is what it was, nil where it was not.
func (t *translation) sa(name string, old, c *data.Container) {
	s, about, errs := t.b.sa(c, t.def)
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
		about.dir = dir
	}
	orient(&s, about.dir)
	if s.Direction == sal.Inbound && s.ESN && s.ReplayWindow == replay.Off {
		t.bad(&data.Error{Tag: "invalid-value", Path: t.b.pathOf(t.b.sad, name) + saConfig + "/anti-replay-window-size",
			Msg: "extended sequence numbers need a window: it tells the half that is not on the wire (RFC 4303 section 3.3.3); set ext-seq-num to false"})
		return
	}
	known, _ := t.ch.sas.Get(name)
	t.ch.setSA(name, about)
	t.sas = append(t.sas, name)
	if old != nil && known != nil {
		was, _, _ := t.b.sa(old, t.oldDef)
		if orient(&was, known.dir); reflect.DeepEqual(was, s) {
			return
		}
	}
	t.c.Out.IPsec.SetSA = append(t.c.Out.IPsec.SetSA, s)
}

// entry gives an entry of a list, nil when it has none of that key.
func entry(l *data.List, key string) *data.Container {
	c, _ := l.Get(key).(*data.Container)
	return c
}

// listOf gives the SPD or the SAD of a tree, nil when it has no entries.
func listOf(tree *data.Container, list *yang.Node) *data.List {
	l, _ := data.Get(tree, list.Up.Up, list.Up, list).(*data.List)
	return l
}
