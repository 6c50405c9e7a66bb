package ipsec

import (
	"errors"
	"fmt"
	"time"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// prepared is a checked change: policies compiled, SAs known to their engines,
// nothing live.
type prepared struct {
	f      *Feature
	spd    *spd
	delPol []*policy
	setPol []*policy
	delSA  []*sa
	setSA  []*sa
	// Groups: those that go, and by name those that are set.
	delGroup []*group
	group    map[string]*group

	// What Abort gives back.
	entered    []entry
	counters   []uint32
	handles    []uint32
	slots      []*sa
	groupSlots []uint32
}

// Prepare checks and compiles a change. Nothing is live and nothing has
// changed when it fails; the error is a *pipeline.Refusal where the change is
// at fault.
func (f *Feature) Prepare(b *pipeline.Builder, ch Change) (pipeline.Prepared, error) {
	f.Tick() // before an engine that is back gives handles
	p := &prepared{f: f}
	if err := p.policies(&ch); err != nil {
		p.Abort()
		return nil, err
	}
	if err := p.groups(&ch); err != nil {
		p.Abort()
		return nil, err
	}
	if err := p.sas(&ch); err != nil {
		p.Abort()
		return nil, err
	}
	if len(ch.SetPolicy)+len(ch.DeletePolicy)+len(ch.SetSA)+len(ch.DeleteSA) > 0 {
		b.FlushFlows()
	}
	return p, nil
}

// Abort undoes what Prepare did.
func (p *prepared) Abort() {
	f := p.f
	for _, x := range p.entered {
		_ = x.e.session.DelSA(x.id) // just added: it is there, or the engine is lost
	}
	for _, h := range p.handles {
		f.handles.Free(h)
	}
	for _, h := range p.groupSlots {
		f.groupSlots.Free(h)
	}
	for _, h := range p.counters {
		f.env.Counters.Free(h)
	}
	for i := len(p.slots) - 1; i >= 0; i-- {
		f.sad.live.undo(p.slots[i].slot, p.slots[i].fresh)
	}
}

func (p *prepared) policies(ch *Change) error {
	f := p.f
	edit := f.spd.Load().edit()
	gone := map[string]bool{}
	for _, name := range ch.DeletePolicy {
		q := f.policies[name]
		switch {
		case q == nil:
			return &pipeline.Refusal{Feature: "policy", Object: name, Reason: "there is no such SPD entry to delete"}
		case gone[name]:
			return &pipeline.Refusal{Feature: "policy", Object: name, Reason: "deleted twice in one change"}
		}
		edit.remove(q)
		p.delPol = append(p.delPol, q)
		gone[name] = true
	}
	seen := map[string]bool{}
	for i := range ch.SetPolicy {
		c := &ch.SetPolicy[i]
		if seen[c.Name] {
			return &pipeline.Refusal{Feature: "policy", Object: c.Name, Reason: "set twice in one change"}
		}
		seen[c.Name] = true
		q, field, err := compilePolicy(c)
		if err != nil {
			return &pipeline.Refusal{Feature: "policy", Object: c.Name, Field: field, Reason: err.Error()}
		}
		if old := f.policies[c.Name]; old != nil && !gone[c.Name] {
			edit.remove(old)
			q.counter = old.counter // it goes on counting
		} else {
			h, ok := f.env.Counters.Alloc()
			if !ok {
				return &pipeline.Refusal{Feature: "policy", Object: c.Name, Reason: "no counter is left for it"}
			}
			p.counters = append(p.counters, h)
			q.counter = h
		}
		edit.add(q)
		p.setPol = append(p.setPol, q)
	}
	p.spd = edit.done()
	return nil
}

func compilePolicy(c *Policy) (q *policy, field string, err error) {
	q = &policy{Policy: *c, noTunnel: !c.LocalTunnel.IsValid()}
	switch {
	case c.Name == "":
		return nil, "Name", fmt.Errorf("an SPD entry needs a name")
	case c.Direction != sal.Inbound && c.Direction != sal.Outbound:
		return nil, "Direction", fmt.Errorf("direction %d does not exist", c.Direction)
	case c.Action > Discard:
		return nil, "Action", fmt.Errorf("action %d does not exist", c.Action)
	case c.Mode > Transport:
		return nil, "Mode", fmt.Errorf("mode %d does not exist", c.Mode)
	case c.Mode == Transport && c.LocalTunnel.IsValid():
		return nil, "LocalTunnel", fmt.Errorf("transport mode has no tunnel addresses")
	case c.LocalTunnel.IsValid() != c.RemoteTunnel.IsValid():
		return nil, "LocalTunnel", fmt.Errorf("both tunnel addresses or none")
	case !q.noTunnel && c.LocalTunnel.Is4() != c.RemoteTunnel.Is4():
		return nil, "RemoteTunnel", fmt.Errorf("tunnel addresses %v and %v are of different families", c.LocalTunnel, c.RemoteTunnel)
	}
	if q.sel, err = compileSelector(&c.Selector); err != nil {
		return nil, "Selector", err
	}
	if !q.noTunnel {
		q.ends = endsOf(c.LocalTunnel, c.RemoteTunnel)
	}
	return q, "", nil
}

func (p *prepared) sas(ch *Change) error {
	f := p.f
	gone := map[*sa]bool{}
	for _, name := range ch.DeleteSA {
		s := f.sas[name]
		switch {
		case s == nil:
			return &pipeline.Refusal{Feature: "sa", Object: name, Reason: "there is no such SA to delete"}
		case gone[s]:
			return &pipeline.Refusal{Feature: "sa", Object: name, Reason: "deleted twice in one change"}
		}
		gone[s] = true
		p.delSA = append(p.delSA, s)
	}
	for i := range ch.SetSA {
		if s := f.sas[ch.SetSA[i].Name]; s != nil && !gone[s] {
			gone[s] = true
			p.delSA = append(p.delSA, s)
		}
	}
	seen, spis, tags, inbound := map[string]bool{}, map[uint32]string{}, map[[32]byte]string{}, 0
	for i := range ch.SetSA {
		c := &ch.SetSA[i]
		refuse := func(field, reason string) error {
			return &pipeline.Refusal{Feature: "sa", Object: c.Name, Field: field, Reason: reason}
		}
		if field, err := checkSA(c); err != nil {
			return refuse(field, err.Error())
		}
		if seen[c.Name] {
			return refuse("", "set twice in one change")
		}
		seen[c.Name] = true
		sel, err := compileSelector(&c.Selector)
		if err != nil {
			return refuse("Selector", err.Error())
		}
		s := &sa{SA: *c, tag: tagOf(c), keys: keysOf(c), sel: &scope{sel, endsOf(c.Local, c.Remote), c.Mode}, timer: -1}
		s.layout, _ = sal.LayoutOf(c.Algorithm, c.Integrity) // checked
		s.Key, s.IntegrityKey = nil, nil
		if c.TenantGroup != "" {
			s.group = p.find(c.TenantGroup, nil).index // countSAs has seen that it is there
		}
		if c.Direction == sal.Inbound {
			if o := f.inSPI[c.SPI]; o != nil && !gone[o] {
				return refuse("SPI", fmt.Sprintf("SPI %d belongs to inbound SA %q already", c.SPI, o.Name))
			}
			if o, twice := spis[c.SPI]; twice {
				return refuse("SPI", fmt.Sprintf("SPI %d belongs to inbound SA %q of the same change", c.SPI, o))
			}
			spis[c.SPI] = c.Name
			inbound++
		}
		if o, twice := tags[s.tag]; twice {
			return refuse(sameKey(c, o))
		}
		tags[s.tag] = c.Name
		if err := p.install(s, c, gone, refuse); err != nil {
			return err
		}
		p.setSA = append(p.setSA, s)
	}
	if err := f.sad.bySPI.reserve(inbound); err != nil {
		return err
	}
	return f.sad.outSPI.reserve(len(ch.SetSA) - inbound)
}

// sameKey is why an SA cannot be beside another.
func sameKey(c *SA, other string) (field, reason string) {
	if shape, _ := c.Algorithm.Shape(); !shape.Counter {
		return "SPI", fmt.Sprintf("%s SA %q has the same SPI and keys: what one sends could be replayed as the other's", direction(c.Direction), other)
	}
	return "Key", fmt.Sprintf("%s SA %q has the same key and salt: the two would use each nonce twice (RFC 4106 section 3.1)", direction(c.Direction), other)
}

func direction(d sal.Direction) string {
	if d == sal.Inbound {
		return "inbound"
	}
	return "outbound"
}

// install finds slot, engine, counter and record handle of an SA. Where the slot
// is the SA's own of before, sequence numbers and window go on; where the engine
// has it too, it keeps it.
func (p *prepared) install(s *sa, c *SA, gone map[*sa]bool, refuse func(field, reason string) error) (err error) {
	f := p.f
	l := f.sad.live
	f.patiently(func() bool {
		s.slot, s.fresh, err = l.take(s.tag)
		return !errors.Is(err, errFull)
	})
	if err != nil {
		return refuse("", err.Error())
	}
	p.slots = append(p.slots, s)
	var old *sa
	if !s.fresh {
		if l.slots.stale[s.slot] {
			s.stale = staleBoot
		}
		if old = f.bySlot[s.slot]; old != nil && !gone[old] {
			return refuse(sameKey(c, old.Name))
		}
	}
	if err := p.place(s, c, old); err != nil {
		return refuse("Offload", err.Error())
	}
	if old != nil {
		s.mismatch = old.mismatch
	} else if s.Direction == sal.Inbound {
		h, ok := f.env.Counters.Alloc()
		if !ok {
			return refuse("", "no counter is left for it")
		}
		p.counters = append(p.counters, h)
		s.mismatch = h
	}
	ok := false
	f.patiently(func() bool {
		s.handle, ok = f.handles.Alloc()
		return ok
	})
	if !ok {
		return refuse("", errFull.Error())
	}
	p.handles = append(p.handles, s.handle)
	f.keys.put(s.handle, c.Key, c.IntegrityKey)
	return nil
}

const staleBoot = "its sequence numbers were lost with the last boot; replace its key"

// patiently tries until it succeeds or waiting for the workers does not help:
// slots and records that were given up a moment ago may be all there are. (There
// are two records for each SA, so that all can be replaced at once.)
func (f *Feature) patiently(try func() bool) {
	for n := 0; !try() && n < graceTurns; n++ {
		f.env.Grace.Synchronize(100 * time.Millisecond)
	}
}
