package ipsec

import (
	"slices"
	"sync/atomic"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// States reads SAs by name, all for an empty list.
func (f *Feature) States(names []string) []SAState {
	var out []SAState
	each(names, f.sas, func(name string, s *sa) { out = append(out, f.state(name, s)) })
	return out
}

func (f *Feature) state(name string, s *sa) SAState {
	l := f.sad.live.line(s.slot)
	age, idle := f.ages(s, f.clock.boot())
	state := atomic.LoadUint32(&l.State)
	st := SAState{Name: name, SPI: s.SPI, Direction: s.Direction, AddedAt: f.clock.unix(s.added), UsedAt: f.clock.unix(atomic.LoadInt64(&l.UsedAt)),
		Age: time.Duration(age), Idle: time.Duration(idle), Expired: expired(state), Ended: state&s.ended() != 0, Packets: atomic.LoadUint64(&l.Packets), Bytes: atomic.LoadUint64(&l.Bytes),
		Seq: f.number(s), Window: s.ReplayWindow, Engine: s.engine.name, Mode: s.mode, Reason: s.reason}
	st.AsWanted = s.met() && !s.lost
	if s.UDP != (UDP{}) {
		st.Peer = s.at()
		if s.peer != nil {
			st.MovedAt = f.clock.unix(s.peer.moved)
		}
	}
	switch {
	case s.stale != "":
		st.Reason = "carries nothing: " + s.stale
	case s.over:
		st.Reason = "carries nothing: " + f.why(s)
	case s.lost:
		st.Reason = "carries nothing: " + s.reason
	}
	if s.Direction == sal.Inbound {
		st.Seq, st.Bitmap = f.window(s.slot)
		st.Late = f.sad.late.At(s.slot).counts(st.Packets)
	} else {
		st.OuterMTU, st.InnerMTU, st.PathMTU, st.PathLeft = f.mtus(s)
	}
	for r, n := range f.errors(s) {
		if n == 0 {
			continue
		}
		st.Errors = append(st.Errors, Error{drop.Reason(r).String(), n})
		switch drop.Reason(r) {
		case drop.ESPReplay, drop.ESPLate:
			st.Replayed += n
		case drop.ESPBadICV:
			st.Failed = n
		}
	}
	return st
}

// window reads a replay window beside the worker that moves it: by a copy, which
// may mix two moments but is in itself as good as any.
func (f *Feature) window(slot uint32) (top, bitmap uint64) {
	var c [replay.MaxWords]uint64
	for i, w := range f.sad.live.window(slot) {
		c[i] = w
	}
	w := replay.View(c[:])
	top = w.Top()
	for i := uint64(0); i < 64 && i < top; i++ {
		if w.Seen(top - i) {
			bitmap |= 1 << i
		}
	}
	return top, bitmap
}

// errors are an SA's dead packets by reason.
func (f *Feature) errors(s *sa) (e [drop.N]uint64) {
	t := f.sad.errs.At(s.slot)
	for i, r := range saReasons {
		if r != drop.None {
			e[r] = atomic.LoadUint64(&t[i])
		}
	}
	if s.mismatch != 0 {
		e[drop.IPsecPolicyMismatch] = f.env.Counters.Read(s.mismatch).Packets
	}
	return e
}

// PolicyStates reads SPD entries by name, all for an empty list.
func (f *Feature) PolicyStates(names []string) []PolicyState {
	var out []PolicyState
	each(names, f.policies, func(name string, q *policy) {
		c := f.env.Counters.Read(q.counter)
		out = append(out, PolicyState{name, c.Packets, c.Bytes})
	})
	return out
}

func each[T any](names []string, m map[string]T, do func(string, T)) {
	if len(names) == 0 {
		for n := range m {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	for _, n := range names {
		if x, ok := m[n]; ok {
			do(n, x)
		}
	}
}

// EngineState is how a crypto engine does, since the process began.
type EngineState struct {
	SAs int // that it serves, or served when it was lost
	// Drained: an operator wants no SA there. Failed: it has failed, and nothing
	// is placed there until it has proved that it works.
	Drained, Failed bool
	// Jobs are those that workers had for it; of them, Full found its queue full,
	// Errors failed by its own fault, and InFlight are in it now. All others are done.
	Jobs, Full, Errors, InFlight uint64
	Losses                       uint64 // times it was gone
	Trips                        uint64 // times the watchdog has found it wanting
	LastFailure                  string // in words
	FailedAt                     int64  // Unix nanoseconds, 0: never
}

// Engines describes the crypto engines: what they are, what they can do, how they
// do.
func (f *Feature) Engines(do func(info sal.DeviceInfo, caps sal.Caps, st EngineState)) {
	for _, e := range f.engines {
		st := EngineState{SAs: e.sas, Drained: e.drained, Failed: e.down, Losses: e.losses, Trips: e.trips, LastFailure: e.lastFailure, FailedAt: e.failedAt}
		for _, w := range f.workers[:f.made] {
			l := w.lanes[e.index]
			st.Jobs += atomic.LoadUint64(&l.taken)
			st.Full += atomic.LoadUint64(&l.full)
			st.Errors += atomic.LoadUint64(&l.fails)
			back := l.back.Load()
			st.InFlight += l.out.Load() - back
		}
		do(e.dev.Info(), e.caps, st)
	}
}
