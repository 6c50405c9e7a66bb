package ipsec

import (
	"container/heap"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"

	"vrouter/fastpath/event"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// The control side of lifetimes: those in seconds, and what is told of all. What
// has happened to an SA is in its live line (State), and what of it has been
// told (Told), so that nothing is told twice or never, whoever dies in between.
//
// A worker that has changed a State says so by a message. Where there is no
// room for that it leaves a note, and all SAs are looked at.

// lives gives an SA its lifetimes: before its record is known to workers, while
// those that have an earlier one may be at work. What happened under other
// lifetimes counts no more; packets, bytes and times go on. old is who had the slot.
func (f *Feature) lives(s, old *sa) {
	l := f.sad.live.line(s.slot)
	lim, terms := limitsOf(&s.SA), termsOf(&s.SA)
	l.hold()
	var was *held
	if old != nil {
		was = &old.held
	}
	f.hand(s, was, l, &lim)
	number := f.number(s)
	keep := atomic.LoadUint32(&l.State)
	if l.Terms != terms {
		keep &= seqBits
	}
	for bit, at := range map[uint32]uint64{seqNear: lim.seqNear, seqOver: lim.seqMax} {
		if number < at {
			keep &^= bit // it was without ESN
		}
	}
	atomic.StoreUint32(&l.State, keep)
	l.Told &= keep
	l.Terms = terms
	f.sad.limits[s.slot].Store(&lim)
	atomic.StoreUint64(&l.Limit, 0) // whoever comes next, looks
	l.release()
	f.check(s)
	if f.late(s) {
		atomic.OrUint32(&f.sad.at(s.handle).down, recEnded)
		s.over = true
	}
}

// late tells whether an SA carries nothing any more for its lifetimes.
func (f *Feature) late(s *sa) bool {
	return atomic.LoadUint32(&f.sad.live.line(s.slot).State)&s.ended()&^seqOver != 0
}

// check looks at the lifetimes of an SA that are counted in seconds, and at what
// it may have passed already of the others; and says when to look again.
func (f *Feature) check(s *sa) {
	l := f.sad.live.line(s.slot)
	now := f.clock.boot()
	age, idle := f.ages(s, now)
	next := int64(math.MaxInt64)
	seconds := func(n uint32) int64 { return int64(n) * int64(time.Second) }
	l.hold()
	state := atomic.LoadUint32(&l.State)
	was := state
	ended := state&s.ended() != 0
	reach := func(limit uint32, is int64, bit uint32) {
		switch left := seconds(limit) - is; {
		case limit == 0 || state&bit != 0 || ended:
		case left <= 0:
			state |= bit
		default:
			next = min(next, now+left)
		}
	}
	if !ended && s.Soft.Idle > 0 && idle < seconds(s.Soft.Idle) {
		state &^= softIdle // it was used again
		l.Told &^= softIdle
	}
	reach(s.Hard.Time, age, hardTime)
	reach(s.Hard.Idle, idle, hardIdle)
	reach(s.Soft.Time, age, softTime)
	reach(s.Soft.Idle, idle, softIdle)
	if !ended {
		state |= f.passed(s, l)
	}
	if state&softIdle != 0 {
		next = min(next, now+seconds(s.Soft.Idle))
	}
	if state&s.ended() != 0 {
		next = math.MaxInt64
		atomic.StoreUint64(&l.Limit, 0)
	}
	if state != was {
		atomic.StoreUint32(&l.State, state)
	}
	l.release()
	if state&s.ended() == 0 {
		next = min(next, f.keepAlive(s, now))
	}
	f.timers.set(s, next)
}

// ages are the times since an SA was made and since it was last used.
func (f *Feature) ages(s *sa, now int64) (age, idle int64) {
	age = now - s.added
	idle = age
	if used := atomic.LoadInt64(&f.sad.live.line(s.slot).UsedAt); used != 0 {
		idle = max(now-used, 0) // workers may be ahead by as much as clocks are apart
	}
	return age, idle
}

// tell makes events of what has happened to an SA.
func (f *Feature) tell(s *sa) {
	f.refresh(s)
	l := f.sad.live.line(s.slot)
	state := atomic.LoadUint32(&l.State)
	if f.late(s) && !s.over {
		s.over = true
		atomic.OrUint32(&f.sad.at(s.handle).down, recEnded)
		f.env.BumpFlows() // another SA may do for it
	}
	news := state &^ l.Told
	if news == 0 {
		return
	}
	if state&s.ended() != 0 {
		f.timers.set(s, math.MaxInt64)
	}
	about := f.about(s)
	for n := news; n != 0; n &= n - 1 {
		bit := n & -n
		e := event.Event{Object: s.Name}
		x := about
		switch {
		case bit == seqNear:
			e.Kind, e.Text = event.SASeqNear, fmt.Sprintf("%d of %d sequence numbers are used", x.Seq, seqMaxOf(&s.SA))
		case bit == seqOver:
			e.Kind, e.Text = event.SASeqOverflow, "there is no sequence number left: it sends nothing any more"
		default:
			x.Cause = causes[bits.TrailingZeros32(bit)&3]
			e.Kind, e.Text = event.SASoftExpired, "the soft lifetime in "+units[x.Cause]+" is over"
			if bit&hardBits != 0 {
				e.Kind, e.Text = event.SAHardExpired, "the hard lifetime in "+units[x.Cause]+" is over"
			}
			if bit&s.ended() != 0 {
				e.Text += ": it carries nothing any more"
			}
		}
		e.SA = &x
		f.env.Log.Info("SA: "+e.Text, "sa", s.Name, "spi", fmt.Sprintf("%#x", s.SPI))
		if f.env.Events != nil {
			f.env.Events.Add(e)
		}
	}
	l.Told |= news
}

var (
	causes = [...]string{"time", "bytes", "packets", "idle"} // in the order of State's bits
	units  = map[string]string{"time": "seconds", "bytes": "bytes", "packets": "packets", "idle": "seconds idle"}
)

// about is an SA as events show it.
func (f *Feature) about(s *sa) event.SA {
	l := f.sad.live.line(s.slot)
	age, idle := f.ages(s, f.clock.boot())
	x := event.SA{SPI: s.SPI, Inbound: s.Direction == sal.Inbound, Local: s.Local, Remote: s.Remote, Age: time.Duration(age), Idle: time.Duration(idle),
		Packets: atomic.LoadUint64(&l.Packets), Bytes: atomic.LoadUint64(&l.Bytes), Seq: f.number(s)}
	if x.Inbound {
		x.Seq, _ = f.window(s.slot)
	}
	return x
}

// expired says in words what an SA has reached.
func expired(state uint32) (l []string) {
	for i, name := range [...]string{"soft-time", "soft-bytes", "soft-packets", "soft-idle", "hard-time", "hard-bytes", "hard-packets", "hard-idle",
		"sequence-numbers-low", "sequence-numbers"} {
		if state&(1<<i) != 0 {
			l = append(l, name)
		}
	}
	return l
}

// why says why an SA carries nothing for its lifetimes, "" if it does.
func (f *Feature) why(s *sa) string {
	if !s.over {
		return ""
	}
	return "its lifetime is over (" + strings.Join(expired(atomic.LoadUint32(&f.sad.live.line(s.slot).State)), ", ") + ")"
}

// Message takes a message of a worker.
func (f *Feature) Message(m pipeline.CtlMsg, iface string) {
	switch m.Op {
	case pipeline.CtlLife:
		if s := f.bySlot[m.Arg]; s != nil {
			f.tell(s)
		}
	case pipeline.CtlPathMTU:
		f.learn(f.env.Control.Bytes(m.Desc))
		f.env.Control.Free(m.Desc)
	case pipeline.CtlPeer:
		if s := f.bySlot[m.Arg]; s != nil {
			f.sighted(s)
		}
	case pipeline.CtlSPI:
		if f.env.Events != nil && f.inSPI[m.Arg] == nil {
			f.env.Events.Add(event.Event{Kind: event.BadSPI, SPI: m.Arg, Iface: iface, Text: fmt.Sprintf("ESP came for SPI %#x, which no SA has", m.Arg)})
		}
	}
}

// Timers lets time pass for SAs, and says when to call it again, in nanoseconds
// from now.
func (f *Feature) Timers() (wait int64) {
	wait = f.watch()
	f.release()
	f.clock.look()
	now := f.clock.boot()
	for range perTurn {
		s := f.timers.first(now)
		if s == nil {
			break
		}
		f.check(s)
		f.tell(s)
	}
	for _, w := range f.workers[:f.made] {
		if w.missed.CompareAndSwap(true, false) {
			for _, s := range f.sas {
				f.tell(s)
			}
		}
	}
	if len(f.timers) == 0 {
		return wait
	}
	return max(min(f.timers[0].due-now, wait), 0)
}

// perTurn bounds how many SAs are looked at with the engine's lock held.
const perTurn = 1024

// timers are the SAs that wait for their time, a heap.
type timers []*sa

// Len implements heap.Interface, as do the methods below.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = i, j
}

// Push appends.
func (t *timers) Push(x any) {
	s := x.(*sa)
	s.timer = len(*t)
	*t = append(*t, s)
}

// Pop takes the last one.
func (t *timers) Pop() any {
	old := *t
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	s.timer = -1
	return s
}

// set says when an SA is due; math.MaxInt64: never.
func (t *timers) set(s *sa, due int64) {
	s.due = due
	switch {
	case due == math.MaxInt64 && s.timer >= 0:
		heap.Remove(t, s.timer)
	case due == math.MaxInt64:
	case s.timer >= 0:
		heap.Fix(t, s.timer)
	default:
		heap.Push(t, s)
	}
}

// first takes the SA that is due, nil when none is.
func (t *timers) first(now int64) *sa {
	if len(*t) == 0 || (*t)[0].due > now {
		return nil
	}
	return heap.Pop(t).(*sa)
}
