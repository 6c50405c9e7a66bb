package ipsec

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"

	"vrouter/pkg/sal"
)

// Publish makes the change live: new SAs first, then the policies that use
// them. What went away stays usable for workers until all of them have passed,
// and what takes its place does so by single stores: no packet of an SA finds
// it missing because it is changed.
func (p *prepared) Publish() {
	f := p.f
	p.begin()
	p.publishGroups()
	lost := p.follow()
	had := map[uint32]*sa{} // by slot: who has had those of new SAs
	var away []*sa
	for _, s := range p.setSA {
		had[s.slot] = f.bySlot[s.slot]
		if s.numbered() {
			away = append(away, had[s.slot])
		}
	}
	f.steady(away)
	touched := map[reqKey]bool{}
	for _, s := range p.delSA {
		f.remove(s, touched)
		if _, goesOn := had[s.slot]; !goesOn {
			f.leaveLine(s)
		}
	}
	p.recall()
	for _, s := range p.setSA {
		f.add(s, had[s.slot], touched)
	}
	for _, q := range p.setPol {
		f.link(q)
	}
	for k := range touched {
		f.relink(k)
	}
	for _, s := range p.delSA {
		if s.Direction == sal.Inbound && f.inSPI[s.SPI] == nil {
			f.sad.bySPI.set(s.SPI, 0)
		}
	}
	f.unused(p.delSA)
	p.settle()
	f.spd.Store(p.spd)
	f.few.Store(len(f.sas) <= fewSAs)
	p.retire()
	p.retireGroups()
	if lost {
		f.rescue()
	}
	for _, s := range p.setSA {
		f.tell(s)
		f.unmet(s)
	}
}

// begin writes the beginning of new SAs, and to the disk that their keys are in
// use, before any packet can be.
func (p *prepared) begin() {
	l := p.f.sad.live
	for _, s := range p.setSA {
		if s.fresh {
			l.begin(s.slot, s.tag, &s.SA)
			*p.f.sad.errs.At(s.slot) = saErrors{}
			*p.f.sad.late.At(s.slot) = lateness{}
		}
		s.added = l.ident(s.slot).AddedAt
	}
	if err := l.sync(); err != nil {
		p.f.env.Log.Error("new SAs will carry nothing: that their keys are in use cannot be written down", "err", err)
		for _, s := range p.setSA {
			if l.unwritten[s.slot] {
				s.stale = "that its key is in use could not be written down: " + err.Error()
			}
		}
	}
}

// add enters an SA in the writer's books; old is who had its slot, nil if nobody.
func (f *Feature) add(s, old *sa, touched map[reqKey]bool) {
	f.sad.live.resume(s.slot)
	f.meet(s)
	f.sad.at(s.handle).fill(s)
	f.sels[s.handle] = s.sel
	f.lives(s, old)
	f.sas[s.Name], f.bySlot[s.slot] = s, s
	s.engine.sas++
	f.regroup(s, 1)
	s.alarm.seen = f.suspicious(s)
	if s.SeqReport != 0 {
		f.reports++
	}
	f.order++
	s.order = f.order
	k := reqKey{s.ReqID, s.Direction}
	f.chains[k] = append(f.chains[k], s)
	touched[k] = true
	if s.Direction == sal.Inbound {
		f.inSPI[s.SPI] = s
		f.sad.bySPI.set(s.SPI, s.handle)
	}
	f.join(s)
}

// remove takes an SA out of the writer's books. Workers go on finding it until
// something else is in its place.
func (f *Feature) remove(s *sa, touched map[reqKey]bool) {
	delete(f.sas, s.Name)
	if s.SeqReport != 0 {
		f.reports--
	}
	s.engine.sas--
	f.regroup(s, -1)
	f.miss(s)
	delete(f.bySlot, s.slot)
	f.timers.set(s, math.MaxInt64)
	if f.inSPI[s.SPI] == s {
		delete(f.inSPI, s.SPI)
	}
	f.part(s)
	k := reqKey{s.ReqID, s.Direction}
	f.chains[k] = slices.DeleteFunc(f.chains[k], func(x *sa) bool { return x == s })
	touched[k] = true
}

// relink orders the SAs of a ReqID, newest first, and points policies at the
// newest. A worker in the middle of a chain sees the old or the new successor,
// each of them older than where it stands: it comes to an end.
func (f *Feature) relink(k reqKey) {
	c := f.chains[k]
	if len(c) == 0 {
		delete(f.chains, k)
	}
	slices.SortStableFunc(c, func(a, b *sa) int { return cmp.Or(cmp.Compare(b.added, a.added), cmp.Compare(b.order, a.order)) })
	next := uint32(0)
	for i := len(c) - 1; i >= 0; i-- {
		atomic.StoreUint32(&f.sad.at(c[i].handle).next, next)
		next = c[i].handle
	}
	if k.dir == sal.Outbound {
		for q := range f.byReq[k.reqid] {
			q.sa.Store(next)
		}
	}
}

// link enters a policy, which workers do not see yet.
func (f *Feature) link(q *policy) {
	if old := f.policies[q.Name]; old != nil {
		f.unlink(old)
	}
	f.policies[q.Name] = q
	if q.Direction != sal.Outbound || q.Action != Protect {
		return
	}
	m := f.byReq[q.ReqID]
	if m == nil {
		m = map[*policy]bool{}
		f.byReq[q.ReqID] = m
	}
	m[q] = true
	if c := f.chains[reqKey{q.ReqID, sal.Outbound}]; len(c) > 0 {
		q.sa.Store(c[0].handle) // the newest, or relink comes
	}
}

func (f *Feature) unlink(q *policy) {
	delete(f.policies, q.Name)
	if m := f.byReq[q.ReqID]; m != nil {
		delete(m, q)
		if len(m) == 0 {
			delete(f.byReq, q.ReqID)
		}
	}
}

// retire gives back what nobody finds any more.
func (p *prepared) retire() {
	f := p.f
	for _, q := range p.delPol {
		if f.policies[q.Name] == q {
			f.unlink(q)
		}
		f.env.Counters.Retire(q.counter)
	}
	kept, counted := map[entry]bool{}, map[uint32]bool{}
	for _, s := range p.setSA {
		kept[entry{s.engine, s.id}], counted[s.mismatch] = true, true
	}
	for _, s := range p.delSA {
		if f.bySlot[s.slot] == nil {
			f.sad.live.end(s.slot)
		}
		if s.mismatch != 0 && !counted[s.mismatch] {
			f.env.Counters.Retire(s.mismatch)
		}
		switch del := !kept[entry{s.engine, s.id}]; {
		case del && f.bySlot[s.slot] != nil:
			// The SA itself goes on, in another engine: what is under way in this one is
			// to come out of it.
			f.leave(s.engine, false, parting{held: s.held, ends: true})
		default:
			f.leave(s.engine, del, parting{held: s.held})
		}
	}
}
