package ipsec

import (
	"fmt"
	"slices"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// prepared is a checked change: policies compiled, SAs known to their engines,
// nothing live.
type prepared struct {
	f      *Feature
	spd    *spd
	delPol []string
	setPol []*policy
	delSA  []*sa
	setSA  []*sa
	added  []*sa // those whose engine SA is new
	taken  map[uint32]bool
}

// Prepare checks and compiles a change. Nothing is live and nothing has
// changed when it fails; the error is a *pipeline.Refusal where the change is
// at fault.
func (f *Feature) Prepare(b *pipeline.Builder, ch Change) (pipeline.Prepared, error) {
	p := &prepared{f: f, spd: f.spd.Load(), taken: map[uint32]bool{}}
	if err := p.policies(ch); err != nil {
		p.Abort()
		return nil, err
	}
	if err := p.sas(ch); err != nil {
		p.Abort()
		return nil, err
	}
	if len(ch.SetPolicy)+len(ch.DeletePolicy)+len(ch.SetSA)+len(ch.DeleteSA) > 0 {
		b.FlushFlows()
	}
	return p, nil
}

func (p *prepared) policies(ch Change) error {
	f := p.f
	gone := map[string]bool{}
	for _, name := range ch.DeletePolicy {
		e := f.policies[name]
		if e == nil {
			return &pipeline.Refusal{Feature: "policy", Object: name, Reason: "there is no such SPD entry to delete"}
		}
		p.spd = p.spd.with(e.p, false)
		p.delPol = append(p.delPol, name)
		gone[name] = true
	}
	for i := range ch.SetPolicy {
		c := &ch.SetPolicy[i]
		sel, err := compileSelector(&c.Selector)
		if err != nil {
			return &pipeline.Refusal{Feature: "policy", Object: c.Name, Field: "Selector", Reason: err.Error()}
		}
		if c.LocalTunnel.IsValid() != c.RemoteTunnel.IsValid() {
			return &pipeline.Refusal{Feature: "policy", Object: c.Name, Field: "LocalTunnel", Reason: "both tunnel addresses or none"}
		}
		if e := f.policies[c.Name]; e != nil && !gone[c.Name] {
			p.spd = p.spd.with(e.p, false)
		}
		q := &policy{Policy: *c, sel: sel, noTunnel: !c.LocalTunnel.IsValid()}
		if !q.noTunnel {
			q.tunLocal, q.tunRemote, q.tunV6 = addrOf(c.LocalTunnel), addrOf(c.RemoteTunnel), c.LocalTunnel.Is6()
		}
		p.spd = p.spd.with(q, true)
		p.setPol = append(p.setPol, q)
	}
	return nil
}

func (p *prepared) sas(ch Change) error {
	f := p.f
	gone := map[*sa]bool{}
	for _, name := range ch.DeleteSA {
		s := f.sas[name]
		if s == nil {
			return &pipeline.Refusal{Feature: "sa", Object: name, Reason: "there is no such SA to delete"}
		}
		gone[s] = true
		p.delSA = append(p.delSA, s)
	}
	for i := range ch.SetSA {
		if s := f.sas[ch.SetSA[i].Name]; s != nil {
			gone[s] = true
		}
	}
	spis := map[uint32]string{}
	for i := range ch.SetSA {
		c := &ch.SetSA[i]
		refuse := func(field, reason string) error {
			return &pipeline.Refusal{Feature: "sa", Object: c.Name, Field: field, Reason: reason}
		}
		if field, err := checkSA(c); err != nil {
			return refuse(field, err.Error())
		}
		sel, err := compileSelector(&c.Selector)
		if err != nil {
			return refuse("Selector", err.Error())
		}
		if c.Direction == sal.Inbound {
			if o := f.inSPI[c.SPI]; o != nil && !gone[o] {
				return refuse("SPI", fmt.Sprintf("SPI %d belongs to inbound SA %q already", c.SPI, o.Name))
			}
			if o, twice := spis[c.SPI]; twice {
				return refuse("SPI", fmt.Sprintf("SPI %d belongs to inbound SA %q of the same change", c.SPI, o))
			}
			spis[c.SPI] = c.Name
		}
		s := &sa{SA: *c, tag: tagOf(c), sel: &sel}
		s.Key = nil
		if err := p.install(s, c, gone, refuse); err != nil {
			return err
		}
		p.setSA = append(p.setSA, s)
	}
	return nil
}

// install finds slot, record handle and engine of an SA. Where the slot is the
// SA's own of before, sequence numbers and window go on; where the engine has
// it too, it keeps it.
func (p *prepared) install(s *sa, c *SA, gone map[*sa]bool, refuse func(field, reason string) error) error {
	f := p.f
	inUse := func(i uint32) bool { return f.bySlot[i] != nil || p.taken[i] }
	slot, known, stale, err := f.sad.live.take(s.tag, inUse)
	if err != nil {
		return refuse("", err.Error())
	}
	old := f.bySlot[slot]
	if p.taken[slot] || known && old != nil && !gone[old] {
		return refuse("Key", "another SA has the same SPI, direction and key: they would use each sequence number twice")
	}
	p.taken[slot] = true
	s.slot, s.stale = slot, stale
	e, mode, reason, err := f.place(c)
	if err != nil {
		return refuse("Offload", err.Error())
	}
	s.engine, s.mode, s.reason = e, mode, reason
	if known && old != nil && old.engine == e && old.ESN == c.ESN {
		s.id = old.id
	} else {
		s.id, err = e.session.AddSA(0, &sal.SAConfig{SPI: c.SPI, Direction: c.Direction, Mode: sal.ModeCrypto, Algorithm: c.Algorithm, Key: c.Key, ESN: c.ESN})
		if err != nil {
			return refuse("Offload", fmt.Sprintf("engine %s: %v", e.dev.Info().Name, err))
		}
		p.added = append(p.added, s)
	}
	h, ok := f.slots.Alloc()
	if !ok {
		return refuse("", "no room for one more SA")
	}
	s.handle = h
	return nil
}

// Abort undoes what Prepare did.
func (p *prepared) Abort() {
	for _, s := range p.added {
		_ = s.engine.session.DelSA(s.id) // just added: it is there
	}
	for _, s := range p.setSA {
		p.f.slots.Free(s.handle)
	}
}

// Publish makes the change live: new SAs first, then the policies that use
// them; what went away is freed once all workers have passed.
func (p *prepared) Publish() {
	f := p.f
	touched := map[reqKey]bool{}
	kept := map[sal.SA]bool{}
	for _, s := range p.setSA {
		kept[s.id] = true
	}
	for _, s := range p.delSA {
		f.remove(s, touched, kept)
	}
	for _, s := range p.setSA {
		if old := f.sas[s.Name]; old != nil {
			f.remove(old, touched, kept)
		}
	}
	for _, s := range p.setSA {
		f.add(s, touched)
	}
	for _, name := range p.delPol {
		f.removePolicy(f.policies[name].p)
	}
	for _, q := range p.setPol {
		if e := f.policies[q.Name]; e != nil {
			q.counter, e.p.counter = e.p.counter, 0 // it goes on counting
			f.removePolicy(e.p)
		}
		f.addPolicy(q)
	}
	for k := range touched {
		f.relink(k)
	}
	f.spd.Store(p.spd)
}

func (f *Feature) add(s *sa, touched map[reqKey]bool) {
	l := f.sad.live
	id := l.ident(s.slot)
	if id.Use != slotFree && id.Tag == s.tag {
		_ = f.sad.openWindow(s.slot, &s.SA, true)
		id.Use, id.Window = slotInUse, s.ReplayWindow
		l.line(s.slot).Limit = limitOf(&s.SA)
	} else {
		l.begin(s.slot, s.tag, &s.SA, limitOf(&s.SA))
		*f.sad.errs.At(s.slot) = saErrors{}
		if s.Direction == sal.Inbound {
			_ = f.sad.openWindow(s.slot, &s.SA, false)
		}
	}
	s.added = id.AddedAt
	f.sad.at(s.handle).fill(s)
	(*f.sels.Load())[s.handle] = s.sel
	f.sas[s.Name], f.bySlot[s.slot] = s, s
	k := reqKey{s.ReqID, s.Direction}
	f.chains[k] = append(f.chains[k], s)
	touched[k] = true
	if s.Direction == sal.Inbound {
		f.inSPI[s.SPI] = s
		f.sad.bySPI.set(s.SPI, s.handle)
	}
}

// remove takes an SA out. Its slot stays, so that its numbers stay used.
func (f *Feature) remove(s *sa, touched map[reqKey]bool, kept map[sal.SA]bool) {
	delete(f.sas, s.Name)
	if f.bySlot[s.slot] == s {
		delete(f.bySlot, s.slot)
	}
	if f.inSPI[s.SPI] == s {
		delete(f.inSPI, s.SPI)
		f.sad.bySPI.set(s.SPI, 0)
	}
	k := reqKey{s.ReqID, s.Direction}
	f.chains[k] = slices.DeleteFunc(f.chains[k], func(x *sa) bool { return x == s })
	touched[k] = true
	f.sad.live.end(s.slot)
	drop := !kept[s.id]
	f.env.Grace.Retire(func() {
		f.slots.Free(s.handle)
		if drop {
			_ = s.engine.session.DelSA(s.id) // a lost engine has forgotten it already
		}
	})
}

// relink orders the SAs of a ReqID, newest first, and points policies at the
// newest. A worker in the middle of a chain sees the old or the new successor,
// each of them older than where it stands: it comes to an end.
func (f *Feature) relink(k reqKey) {
	c := f.chains[k]
	slices.SortStableFunc(c, func(a, b *sa) int {
		switch {
		case a.added > b.added:
			return -1
		case a.added < b.added:
			return 1
		}
		return 0
	})
	next := uint32(0)
	for i := len(c) - 1; i >= 0; i-- {
		atomic.StoreUint32(&f.sad.at(c[i].handle).next, next)
		next = c[i].handle
	}
	if len(c) == 0 {
		delete(f.chains, k)
	}
	if k.dir == sal.Outbound {
		for q := range f.byReq[k.reqid] {
			q.sa.Store(next)
		}
	}
}

func (f *Feature) addPolicy(q *policy) {
	f.policies[q.Name] = &entry{q}
	if q.counter == 0 {
		q.counter, _ = f.env.Counters.Alloc() // without one it is not counted
	}
	if q.Direction == sal.Outbound && q.Action == Protect {
		m := f.byReq[q.ReqID]
		if m == nil {
			m = map[*policy]bool{}
			f.byReq[q.ReqID] = m
		}
		m[q] = true
		if c := f.chains[reqKey{q.ReqID, sal.Outbound}]; len(c) > 0 {
			q.sa.Store(c[0].handle)
		}
	}
}

func (f *Feature) removePolicy(q *policy) {
	if f.policies[q.Name].p == q {
		delete(f.policies, q.Name)
	}
	if m := f.byReq[q.ReqID]; m != nil {
		delete(m, q)
		if len(m) == 0 {
			delete(f.byReq, q.ReqID)
		}
	}
	if q.counter != 0 {
		f.env.Counters.Retire(q.counter)
	}
}
