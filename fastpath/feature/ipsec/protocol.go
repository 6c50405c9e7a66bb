package ipsec

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// An SA in offload mode protocol (sal.ModeProtocol): an engine makes its ESP packets
// and takes them apart. Policy, the way to the peer, what fits and where a packet is
// cut stay here.
//
// # Outbound: who gives the numbers
//
// One at a time does: a live line, or an engine. Which, and by which record packets go,
// the slot's limits say; whoever hands an SA over (hand) holds the line, and so does
// every worker that takes a number at the Limit. So:
//
//   - to an engine: the Limit is 0 from a grace period earlier on (firm), so that no
//     worker takes a number without holding the line. Who comes with the record of
//     before finds that numbers are given elsewhere, and goes by the new record.
//   - from an engine: Hold ends its giving of numbers and tells the last one. Packets
//     that meet the SA held come back untouched, in their order, and go by the new
//     record.
//
// No number is left out, none used twice, no packet is lost.
//
// The engine may die, and this process. Seq in the live line is what the engine may use
// (sal.SAState.SeqLimit): stored before the engine is told, so that numbers go on beyond
// all it can have used. It is leash ahead at the most, and moved when half of that is used.
//
// # Inbound: who enters them
//
// The engine has a window and drops what it has seen; the live table's window is kept as
// well, and has the last word. It is what a killed process leaves and what other engines
// go on with, so that nothing is accepted twice whoever the packets are worked on by.

// leash is how many numbers an engine may use without asking; so many are lost when it
// dies. At 10 million packets a second, half of it lasts 52 ms. (Tests shorten it.)
var leash = uint64(1 << 20)

// lead is how far beyond a number an engine may go with an SA's: the leash, but of an SA
// that lives for few packets no more than a part of its life.
func (s *sa) lead(seq uint64) uint64 {
	n := leash
	if life := first(s.Soft.Packets, s.Hard.Packets); life != 0 {
		n = min(n, max(life/16, 1024))
	}
	return min(n, seqMaxOf(&s.SA)-seq)
}

const (
	// askEvery is how often a worker tells the control side of one SA, nanoseconds.
	askEvery = int64(time.Millisecond)
	// steadyFor is how long is waited for workers when an engine is to give numbers; they
	// pass within microseconds.
	steadyFor = 100 * time.Millisecond
)

// whole tells whether an engine in mode protocol has the SA.
func (s *held) whole() bool { return s.mode == modeProtocol }

// numbered tells whether an engine gives the SA's numbers.
func (s *sa) numbered() bool { return s.whole() && s.Direction == sal.Outbound }

// encap gives a packet to the SA's engine as it is; it has been seen to fit.
func (w *worker) encap(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, h uint32, r *record, how cookie) {
	if !r.fits(c.Pool, p) {
		w.drop(c, p, in, r, drop.ESPNoRoom)
		return
	}
	if why := w.may(c, r); why != drop.None {
		w.drop(c, p, in, r, why)
		return
	}
	if r.group != 0 && !w.late && !w.afford(c, r, r.Head()+r.TextLen(uint32(p.Len()))+uint32(r.ICV)) {
		w.drop(c, p, in, r, drop.ESPQuota)
		return
	}
	w.give(c, r, sal.Job{SA: r.sa, Op: sal.Encap, Desc: p, Cookie: uint64(makeCookie(h, 0, in, 0) | how)})
}

// give adds a job to those that go to the SA's engine.
func (w *worker) give(c *pipeline.Ctx, r *record, job sal.Job) {
	l := w.lanes[r.engine]
	*l.job() = job
	if l.n == sal.Burst {
		l.run(c)
	}
}

// whole goes on with a packet that an engine in mode protocol has worked on.
func (l *lane) whole(c *pipeline.Ctx, j *sal.Job, r *record) {
	w, x := l.w, cookie(j.Cookie)
	switch {
	case j.Status == sal.StatusHeld:
		w.again(c, j, r)
		return
	case j.Status != sal.StatusOK:
		if j.Status == sal.StatusExpired || j.Status == sal.StatusSeqOverflow {
			w.ask(c, r.live)
		}
		l.failed(c, j, r)
		return
	case j.Op == sal.Encap:
		w.sent(c, j, r)
		w.emit(c, j.Desc, x, r)
		return
	}
	d, n := w.f.sad, uint32(j.Len)
	head := c.Pool.Bytes(sal.MakeDesc(j.Desc.Buf(), j.Off, espHeader))
	v, late := w.acceptFit(r, uint64(j.SeqHi)<<32|uint64(binary.BigEndian.Uint32(head[4:])))
	if v != replay.OK {
		w.drop(c, j.Desc, x.in(), r, replayed[v])
		return
	}
	live := d.live.line(r.live)
	if _, why := w.count(c, r.live, live, &live.Packets, uint64(n), c.Now-w.f.clock.base.Load()); why != drop.None {
		w.drop(c, j.Desc, x.in(), r, why)
		return
	}
	if late != 0 {
		d.late.At(r.live).accepted(late)
	}
	if c.Loop.N == len(c.Loop.Desc) {
		c.Drop(j.Desc, x.in(), drop.LoopFull)
		return
	}
	at := c.Pool.Addr(j.Desc)
	c.Loop.Add(j.Desc, at, x.in(), pipeline.FromSA(x.handle()), mem.Load8(mem.At(at), 0)>>4 == 6)
}

// acceptFit is accept for numbers that no check has come before.
func (w *worker) acceptFit(r *record, seq uint64) (v replay.Verdict, late uint64) {
	if w.shared {
		return w.accept(r, seq)
	}
	x := w.window(r)
	late = x.Behind(seq)
	return x.Accept(seq), late
}

// sent counts an outbound packet that has its number from an engine.
func (w *worker) sent(c *pipeline.Ctx, j *sal.Job, r *record) {
	live := w.f.sad.live.line(r.live)
	used := c.Now - w.f.clock.base.Load()
	if w.shared {
		atomic.AddUint64(&live.Packets, 1)
		atomic.AddUint64(&live.Bytes, uint64(j.Len))
		atomic.StoreInt64(&live.UsedAt, used)
	} else {
		live.Packets++
		live.Bytes += uint64(j.Len)
		live.UsedAt = used
	}
	if j.Flags&sal.SeqLow != 0 || j.Flags&sal.Soft != 0 && atomic.LoadUint32(&live.State)&(softBytes|softPackets) == 0 {
		w.ask(c, r.live)
	}
}

// ask has the control side look at an SA whose numbers an engine gives.
func (w *worker) ask(c *pipeline.Ctx, slot uint32) {
	x := w.f.sad.seen.At(slot)
	if last := atomic.LoadInt64(&x.asked); c.Now-last < askEvery && last != 0 || !atomic.CompareAndSwapInt64(&x.asked, last, c.Now) {
		return
	}
	if !c.ToControl(pipeline.NoBuf, 0, pipeline.CtlLife, slot) {
		w.missed.Store(true)
	}
}

// again sends a packet, which an engine has not touched since it holds the SA, the way
// that packets of it go now.
//
//go:noinline
func (w *worker) again(c *pipeline.Ctx, j *sal.Job, r *record) {
	x := cookie(j.Cookie)
	h := w.home(r.live)
	switch {
	case j.Op != sal.Encap || h == 0:
		w.drop(c, j.Desc, x.in(), r, drop.ESPNoSA)
	case h == x.handle(): // it is at SeqLimit
		w.ask(c, r.live)
		w.drop(c, j.Desc, x.in(), r, drop.SALQueueFull)
	default:
		// What is under way in the engine before is what is being polled.
		w.late = true
		w.seal(c, j.Desc, x.in(), mem.Load8(mem.At(c.Pool.Addr(j.Desc)), 0)>>4 == 6, h, w.f.sad.at(h), x&cuttable)
		w.late = false
		w.resealed = true
	}
}

// home is the record by which packets of a slot's SA go now, 0 if there is none.
func (w *worker) home(slot uint32) uint32 {
	live := w.f.sad.live.line(slot)
	live.hold()
	h := w.f.sad.limits[slot].Load().handle
	live.release()
	return h
}

// steady has no number of some outbound SAs be taken any more but by who holds the
// line: before an engine is to give them.
func (f *Feature) steady(l []*sa) {
	n := 0
	for _, s := range l {
		if s == nil || s.Direction != sal.Outbound || s.whole() {
			continue
		}
		n++
		live := f.sad.live.line(s.slot)
		live.hold()
		lim := *f.sad.limits[s.slot].Load()
		lim.firm = true
		f.sad.limits[s.slot].Store(&lim)
		atomic.StoreUint64(&live.Limit, 0)
		live.release()
	}
	f.gap = 0
	if n == 0 || f.env.Grace.Await(steadyFor) {
		return
	}
	// A worker stands still, perhaps between looking at the Limit and storing a number. The
	// engine leaves that one out, and the line is written again when the worker has passed.
	f.gap = pipeline.MaxWorkers
	f.env.Log.Warn("a worker has not passed for long; SAs go to an engine in mode protocol all the same", "sas", n)
	f.env.Grace.Retire(func() {
		for _, s := range f.sas {
			f.refresh(s)
		}
	})
}

// hand lets numbers of an SA be given by whoever has it now, its line being held, and
// packets go by its record; lim are its limits to be. old is the SA as it was, nil if
// nobody has had it since the process began.
func (f *Feature) hand(s *sa, old *held, live *liveLine, lim *limits) {
	lim.handle, lim.away, lim.firm = s.handle, s.numbered(), false
	same := old != nil && old.engine == s.engine && old.id == s.id && old.losses == s.losses && old.mode == s.mode
	if same {
		return
	}
	if old != nil {
		f.park(s.Direction, old, live)
	}
	if !s.whole() || s.stale != "" {
		return
	}
	st := sal.SAState{Packets: atomic.LoadUint64(&live.Packets), Bytes: atomic.LoadUint64(&live.Bytes)}
	if s.Direction == sal.Inbound {
		c := append([]uint64(nil), f.sad.live.window(s.slot)...)
		w := replay.View(c)
		st.Seq, st.Window = w.Top(), w.Bits(nil)
	} else {
		most := seqMaxOf(&s.SA)
		st.Seq = min(atomic.LoadUint64(&live.Seq), most)
		st.Seq += min(f.gap, most-st.Seq)
		st.SeqLimit = st.Seq + s.lead(st.Seq)
		// Written down before the engine may use it.
		atomic.StoreUint64(&live.Seq, st.SeqLimit)
	}
	if err := s.engine.session.ModSA(s.id, &sal.SAMod{State: &st}); err != nil {
		f.env.Log.Error("SA: its engine does not take it over", "sa", s.Name, "engine", s.engine.name, "err", err)
	}
}

// park takes the numbers of an outbound SA back from its engine, the line being held. Of
// an engine that is lost they are not known; then they go on beyond the leash.
func (f *Feature) park(dir sal.Direction, h *held, live *liveLine) {
	if dir != sal.Outbound || !h.whole() || !h.there() {
		return
	}
	if st, err := h.engine.session.Hold(h.id); err == nil && st.SeqLimit != 0 && st.Seq <= atomic.LoadUint64(&live.Seq) {
		atomic.StoreUint64(&live.Seq, st.Seq)
	}
}

// leaveLine ends an SA that nobody takes over: nobody gives numbers any more.
func (f *Feature) leaveLine(s *sa) {
	if !s.numbered() {
		return
	}
	live := f.sad.live.line(s.slot)
	live.hold()
	lim := *f.sad.limits[s.slot].Load()
	lim.handle, lim.away = 0, true
	f.sad.limits[s.slot].Store(&lim)
	f.park(s.Direction, &s.held, live)
	live.release()
}

// number is the last sequence number that an outbound SA has used, as far as is known.
func (f *Feature) number(s *sa) uint64 {
	live := f.sad.live.line(s.slot)
	if s.numbered() && s.there() {
		if st, err := s.engine.session.State(s.id); err == nil {
			return st.Seq
		}
	}
	return atomic.LoadUint64(&live.Seq)
}

// refresh allows the engine that gives an SA's numbers more of them, and notes what
// has happened to the SA there.
func (f *Feature) refresh(s *sa) {
	if !s.numbered() || !s.there() || s.stale != "" {
		return
	}
	st, err := s.engine.session.State(s.id)
	if err != nil {
		return // lost: watch sees to it
	}
	live := f.sad.live.line(s.slot)
	live.hold()
	defer live.release()
	lim := f.sad.limits[s.slot].Load()
	atomic.StoreUint32(&live.State, atomic.LoadUint32(&live.State)|lim.reached(st.Seq, st.Bytes, true))
	lead := s.lead(st.Seq)
	limit := max(st.Seq+lead, st.SeqLimit)
	if limit-st.SeqLimit < lead/4 && limit != seqMaxOf(&s.SA) && atomic.LoadUint64(&live.Seq) >= st.SeqLimit {
		return
	}
	atomic.StoreUint64(&live.Seq, limit) // before the engine may use it
	_ = s.engine.session.ModSA(s.id, &sal.SAMod{SeqLimit: &limit})
}
