package ipsec

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/event"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// An SA goes to another engine while packets flow: because an operator wants it
// (Migrate, Drain), because its engine has failed, or because the one is back that
// it wants. In mode crypto sequence numbers, window and counters are in the live
// table, which engines know nothing of; so what an SA needs is
//
//	1  its keys in the other engine (keyring),
//	2  a record that names both the engine and the handle there, over the same live
//	   line: workers find the old one or the new one, whole in either case,
//	3  the packets that are under way in the old engine to go first (follow),
//	4  its end in the old engine, once no job there names it.
//
// So no number is used twice and no packet is lost. A worker keeps the order of its
// packets: on meeting the new record for the first time it waits until the old
// engine has given back what the worker has there. It does not wait for an engine
// that has failed, nor for longer than followFor; packets that come out of such a
// one are late. Packets of other workers are no later than they are at any time
// with an engine that takes its time.

// followFor is how long a worker waits in one go.
const followFor = time.Millisecond

// may says why an SA carries nothing, None when it does, and sees to the order of
// its packets where it has just come from another engine.
func (w *worker) may(c *pipeline.Ctx, r *record) drop.Reason {
	if atomic.LoadUint32(&r.down)&recMoved != 0 && !w.late {
		w.follow(c, w.lanes[r.was])
	}
	return r.idle()
}

// follow lets an engine finish what this worker has in it. There must be room for
// what comes out of it.
//
//go:noinline
func (w *worker) follow(c *pipeline.Ctx, l *lane) {
	if l.n > 0 {
		l.run(c)
	}
	if l.sync || !l.q.Busy(c) {
		l.tired = false
		return
	}
	for end := time.Now().Add(followFor); !l.tired && l.q.Busy(c) && c.Loop.N <= len(c.Loop.Desc)-2*pipeline.Burst; {
		pipeline.Add(&l.asked, 1)
		if l.q.Poll(c) == 0 {
			l.tired = time.Now().After(end)
		}
	}
}

// shift is an SA's way to an engine, which knows it already.
type shift struct {
	s            *sa
	e            *engine
	id           sal.SA
	mode, reason string
	pinned       bool
}

// whole is an SA with its keys, for as long as the record lives.
func (f *Feature) whole(s *sa) SA {
	c := s.SA
	c.Key, c.IntegrityKey = f.keys.get(s.handle)
	return c
}

// enter makes a live SA known to an engine.
func (x *shift) enter(e *engine, mode string, c *SA) (err error) {
	if x.e, x.mode = e, mode; x.stays() {
		x.id = x.s.id
		return nil
	}
	if x.id, err = e.session.AddSA(0, c.engineConfig(mode)); err != nil {
		return fmt.Errorf("refuses it: %w", err)
	}
	return nil
}

// stays tells whether the SA is there already.
func (x *shift) stays() bool { return x.e == x.s.engine && x.mode == x.s.mode && x.s.there() }

// forget takes back enter.
func (x *shift) forget() {
	if !x.stays() {
		_ = x.e.session.DelSA(x.id) // just added: it is there, or the engine is lost
	}
}

// find enters a live SA into the engine that it should have now.
func (f *Feature) find(s *sa) (x shift, err error) {
	x.s = s
	f.keyed(s, func(c *SA) {
		x.mode, x.reason, err = f.place(c, func(e *engine, mode string) error { return x.enter(e, mode, c) })
	})
	return x, err
}

// best is the engine that a live SA should have now, and the mode, nil if there is none.
func (f *Feature) best(s *sa) (best *engine, mode string) {
	f.keyed(s, func(c *SA) {
		var err error
		if mode, _, err = f.place(c, func(e *engine, _ string) error { best = e; return nil }); err != nil {
			best = nil
		}
	})
	return best, mode
}

// keyed lends an SA its keys.
func (f *Feature) keyed(s *sa, do func(*SA)) {
	s.Key, s.IntegrityKey = f.keys.get(s.handle)
	do(&s.SA)
	s.Key, s.IntegrityKey = nil, nil
}

// errNoRecord: so many SAs have moved of late that no record is left.
var errNoRecord = fmt.Errorf("no record is free: try again in a moment")

// shift has SAs served by other engines from now on, and tells of it. It gives those for
// which there was no record; they are where they were.
func (f *Feature) shift(l []shift) (left []shift) {
	touched := make(map[reqKey]bool, len(l))
	f.parted = slices.Grow(f.parted, len(l))
	var away []*sa
	for i := range l {
		if x := &l[i]; x.mode == modeProtocol && !x.stays() {
			away = append(away, x.s)
		}
	}
	f.steady(away)
	for i := range l {
		x := &l[i]
		s := x.s
		if x.stays() {
			if s.lost {
				s.lost = false
				atomic.AndUint32(&f.sad.at(s.handle).down, ^recLost)
			}
			s.mode, s.reason, s.pinned = x.mode, x.reason, x.pinned
			continue
		}
		h, ok := f.handles.Alloc()
		if !ok {
			x.forget()
			f.pass(s, &s.held) // steady
			left = append(left, *x)
			continue
		}
		old := s.held
		f.part(s)
		s.handle, s.engine, s.id, s.losses, s.lost = h, x.e, x.id, x.e.losses, false
		s.mode, s.reason, s.pinned = x.mode, x.reason, x.pinned
		old.engine.sas--
		s.engine.sas++
		f.renew(s, &old)
		r := f.sad.at(h)
		r.down &^= recLost | recMoved
		s.moving = old.there() && !old.engine.down
		if s.moving {
			r.down |= recMoved
			r.was = uint8(old.engine.index)
		}
		f.pass(s, &old) // from here on workers know the record
		if s.Direction == sal.Inbound {
			f.sad.bySPI.set(s.SPI, h)
		}
		f.join(s)
		touched[reqKey{s.ReqID, s.Direction}] = true
		f.parted = append(f.parted, parting{held: old, ends: true, now: s, under: h})
		f.moved(s, &old)
	}
	for k := range touched {
		f.relink(k)
	}
	f.release()
	f.hurry = f.env.Now() + shiftFor
	f.short = f.short || len(left) > 0
	return left
}

// moved tells that an SA has gone to another engine.
func (f *Feature) moved(s *sa, old *held) {
	if f.env.Events != nil && !f.env.Events.TooMany(event.SAMigrated) {
		about := f.about(s)
		f.env.Events.Add(event.Event{Kind: event.SAMigrated, Object: s.Name, Engine: s.engine.name, Before: old.engine.name, Text: s.reason, SA: &about})
	}
	f.unmet(s)
}

// met tells whether an SA is where it wants to be.
func (s *sa) met() bool {
	return s.mode == s.Offload.wanted() && (s.Offload.Engine == "" || s.Offload.Engine == s.engine.name)
}

// unmet tells that an SA is not served as it wants to be, if so.
func (f *Feature) unmet(s *sa) {
	if s.pinned || s.lost || s.met() {
		return
	}
	if f.env.Events != nil && !f.env.Events.TooMany(event.OffloadNotMet) {
		about := f.about(s)
		f.env.Events.Add(event.Event{Kind: event.OffloadNotMet, Object: s.Name, Engine: s.engine.name, Text: s.reason, SA: &about})
	}
}

// follow has the SAs of a change where those have gone, between Prepare and Publish,
// whose handles in engines they were given.
func (p *prepared) follow() (lost bool) {
	for _, s := range p.setSA {
		o := s.kept
		if o != nil && (o.engine != s.engine || o.id != s.id || o.losses != s.losses) {
			s.engine, s.id, s.losses, s.mode, s.reason, s.pinned = o.engine, o.id, o.losses, o.mode, o.reason, o.pinned
		}
		s.kept = nil
		if s.lost = !s.there() || s.engine.down || o != nil && s.whole() && !s.alike(&o.SA); s.lost {
			p.f.lost++
			lost = true
		}
	}
	return lost
}

// shiftAtOnce is how many SAs that carry nothing are found another engine for before those
// found so far carry packets again: whoever comes first should not wait for ten thousand.
const shiftAtOnce = 1024

// rescue finds engines for SAs that have lost theirs, as far as there are any that
// may serve them, and says how many it has found one for.
func (f *Feature) rescue() int {
	if f.lost == 0 {
		return 0
	}
	f.lost = 0
	l := make([]shift, 0, min(len(f.sas), shiftAtOnce))
	found, left := 0, 0
	for _, s := range f.sas {
		if !s.lost {
			continue
		}
		x, err := f.find(s)
		if err != nil {
			s.reason = fmt.Sprintf("engine %s was lost: %v", s.engine.name, err)
			f.lost++
			continue
		}
		if l = append(l, x); len(l) == shiftAtOnce {
			found, left = found+len(l), left+len(f.shift(l))
			l = l[:0]
		}
	}
	found, left = found+len(l), left+len(f.shift(l))
	f.lost += left
	return found - left
}

// settleIn has SAs go to the engine that they want most, where they are not there:
// it was lost, or drained. It says how many went.
func (f *Feature) settleIn() int {
	var l []shift
	for _, s := range f.sas {
		if s.lost || s.pinned || s.moving {
			continue
		}
		if best, mode := f.best(s); best == nil || best == s.engine && mode == s.mode {
			continue
		}
		if x, err := f.find(s); err == nil {
			l = append(l, x)
		}
	}
	return len(l) - len(f.shift(l))
}

func (f *Feature) engine(name string) *engine {
	for _, e := range f.engines {
		if e.name == name {
			return e
		}
	}
	return nil
}

// The features that refusals of the operations below name.
const (
	aboutSA     = "sa"
	aboutEngine = "engine"
)

func noEngine(name string) error {
	return &pipeline.Refusal{Feature: aboutEngine, Object: name, Field: "Name", Reason: fmt.Sprintf("there is no engine %q", name)}
}

// Migrate gives a live SA to another engine, where it stays until that is drained or
// lost, or the SA is set with another Offload. It fails with a *pipeline.Refusal, and
// then the SA is where it was. No change may be prepared meanwhile.
func (f *Feature) Migrate(name, engine string) error {
	f.Tick()
	s, e := f.sas[name], f.engine(engine)
	switch {
	case s == nil:
		return &pipeline.Refusal{Feature: aboutSA, Object: name, Field: "Name", Reason: fmt.Sprintf("there is no SA %q", name)}
	case e == nil:
		return noEngine(engine)
	}
	refuse := func(why string) error {
		return &pipeline.Refusal{Feature: aboutSA, Object: name, Field: "Offload", Reason: why}
	}
	if s.engine == e && !s.lost {
		return nil
	}
	if s.moving {
		return refuse("packets of it are still under way in the engine that it was in before: try again in a moment")
	}
	c := f.whole(s)
	x := shift{s: s, e: e}
	if best, err := f.find(s); err == nil && best.e == e {
		x = best // it wants to be there anyway
	} else {
		if err == nil {
			best.forget()
		}
		if x.mode, err = e.mode(&c); err != nil {
			return refuse(fmt.Sprintf("engine %s %v", engine, err))
		}
		if c.Offload.Policy == Require && (x.mode != c.Offload.wanted() || c.Offload.Engine != "" && c.Offload.Engine != engine) {
			return refuse(fmt.Sprintf("it requires mode %s%s", c.Offload.wanted(), onEngine(c.Offload.Engine)))
		}
		if err := x.enter(e, x.mode, &c); err != nil {
			return refuse(fmt.Sprintf("engine %s %v", engine, err))
		}
		x.reason, x.pinned = "placed by an operator", true
	}
	if len(f.shift([]shift{x})) > 0 {
		return refuse(errNoRecord.Error())
	}
	return nil
}

func onEngine(name string) string {
	if name == "" {
		return ""
	}
	return " on engine " + name
}

// mode is how an engine would serve an SA: as it wants, else in any way.
func (e *engine) mode(c *SA) (mode string, err error) {
	for _, mode := range []string{c.Offload.wanted(), "crypto", "software"} {
		if err = e.offers(mode, c); err == nil {
			return mode, nil
		}
	}
	return "", err
}

// Drain has the SAs of an engine go to others, and gives it none until Undrain. It
// fails with a *pipeline.Refusal when one of them cannot go; then all are where they
// were. No change may be prepared meanwhile.
func (f *Feature) Drain(name string) error {
	f.Tick()
	e := f.engine(name)
	if e == nil {
		return noEngine(name)
	}
	if e.drained {
		return nil
	}
	e.drained = true
	var l []shift
	undo := func(s *sa, why string) error {
		e.drained = false
		for i := range l {
			l[i].forget()
		}
		return &pipeline.Refusal{Feature: aboutEngine, Object: name, Reason: fmt.Sprintf("SA %q cannot leave it: %s", s.Name, why)}
	}
	for _, s := range f.sas {
		if s.engine != e || s.lost {
			continue
		}
		if s.moving {
			return undo(s, "it has only just come; try again in a moment")
		}
		x, err := f.find(s)
		if err != nil {
			return undo(s, err.Error())
		}
		l = append(l, x)
	}
	left := f.shift(l)
	f.env.Log.Info("crypto engine drained", "engine", name, "sas", len(l)-len(left))
	if len(left) > 0 {
		e.drained = false
		return &pipeline.Refusal{Feature: aboutEngine, Object: name, Reason: fmt.Sprintf("%d of its %d SAs are still there: %v", len(left), len(l), errNoRecord)}
	}
	return nil
}

// Undrain lets an engine have SAs again, and has those go there that want to be
// there more than where they are.
func (f *Feature) Undrain(name string) error {
	f.Tick()
	e := f.engine(name)
	if e == nil {
		return noEngine(name)
	}
	if e.drained {
		e.drained = false
		f.rescue()
		n := f.settleIn()
		f.env.Log.Info("crypto engine takes SAs again", "engine", name, "sas", n)
	}
	return nil
}
