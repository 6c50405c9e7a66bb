package ipsec

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"vrouter/fastpath/event"
	"vrouter/pkg/sal"
)

// Engines fail in three ways. One says that it is gone (EventGone, or it is not
// ready any more); it has forgotten its SAs. One says nothing: it takes jobs and
// gives none back. And one gives them back as failed. Whichever it is, its SAs go
// to other engines as far as they may, and carry nothing where they must not;
// what was in it is lost under sal-device when it comes back, and its numbers are
// not used again. That goes for what comes back in order as well, but later than lateFor:
// so many packets that were sent after it have overtaken it that the peer would take
// it for replayed. When the engine works again, those SAs return that want it.

const (
	// stuckFor is for how long an engine may give nothing back while it has jobs.
	stuckFor = int64(50 * time.Millisecond)
	// asksLeast is how often a worker must have asked meanwhile.
	asksLeast = 16
	// watchEvery is how often that is looked at, where an engine takes its time and
	// has SAs.
	watchEvery = int64(10 * time.Millisecond)
	// shiftEvery is how often it is looked, for shiftFor, whether engines have given back
	// what SAs had in them that have moved: until then their packets take the longer
	// way. Later it is seen within the time that all else takes which waits for workers.
	shiftEvery = int64(time.Millisecond)
	shiftFor   = int64(100 * time.Millisecond)
	// lateFor is for how long what was in an engine when it failed may still come back:
	// threads that had no processor for a moment have done nothing wrong.
	lateFor = int64(50 * time.Millisecond)
	// Within failWindow, so many jobs must have failed, and more than half of all.
	failWindow = int64(100 * time.Millisecond)
	failLeast  = 32
	// proveFor is how long an engine that the watchdog has tripped over gets no SAs, at
	// the least: it must have given all back as well. Each time it is twice as long, up
	// to proveMost; after so long without a failure it is short again, since an engine
	// of threads that had no processor for a moment is not a broken one.
	proveFor  = int64(100 * time.Millisecond)
	proveMost = int64(64 * time.Second)
)

// health is how an engine does.
type health struct {
	gone, down  bool   // down: it is not used, be it gone or found wanting
	losses      uint64 // how often it was gone, and has forgotten its SAs
	trips       uint64 // of the watchdog
	row         uint64 // those of them that came soon after one another
	lastFailure string
	failure     error // it in the words of offers
	failedAt    int64 // Unix nanoseconds
	until       int64 // when it is tried again, once it has given all back

	// The beginning of the failWindow.
	from               int64
	fromJobs, fromFail uint64
}

// watched is what the watchdog has last seen of a lane.
type watched struct {
	back, asked uint64
	since       int64
	// looks are at times of their own, looked the last: whoever has had no processor
	// finds that much time has passed at a single look, and so it has for the engine's
	// threads, which had none either.
	looks  int
	looked int64
}

// looksLeast is how often it must have been looked at within stuckFor.
const looksLeast = int(stuckFor/watchEvery) - 1

// Tick looks at what engines report, and at what can be forgotten.
func (f *Feature) Tick() {
	f.forget()
	f.watch()
	f.alarm(f.env.Now())
	if f.short {
		f.short = false
		f.rescue()
		f.settleIn()
	}
}

// watch looks at all engines, and says within which time it wants to do so again.
func (f *Feature) watch() (wait int64) {
	now := f.env.Now()
	wait = math.MaxInt64
	for _, e := range f.engines {
		for more := true; more; {
			select {
			case ev, open := <-e.session.Events():
				more = open
				switch {
				case !open:
				case ev.Kind == sal.EventGone:
					f.lose(e, now, "it is gone")
				case ev.Kind == sal.EventBack && e.gone:
					f.back(e)
				}
			default:
				more = false
			}
		}
		// What nobody read in time is lost, and Ready tells (sal.Session.Events).
		switch ready := e.dev.Info().Ready; {
		case !ready && !e.gone:
			f.lose(e, now, "it is not ready")
		case ready && e.gone:
			f.back(e)
		}
		if e.caps.Sync {
			continue
		}
		f.guard(e, now)
		if e.sas > 0 || e.down {
			wait = min(wait, watchEvery)
		}
	}
	if now < f.hurry {
		f.env.Grace.Poll()
		wait = min(wait, shiftEvery)
	}
	return wait
}

// guard is the watchdog.
func (f *Feature) guard(e *engine, now int64) {
	idle := true
	var jobs, fails uint64
	for _, w := range f.workers[:f.made] {
		l := w.lanes[e.index]
		jobs += atomic.LoadUint64(&l.taken)
		fails += atomic.LoadUint64(&l.fails)
		back, asked := l.back.Load(), atomic.LoadUint64(&l.asked) // before out, which then is no less
		if l.out.Load() == back {
			l.seen = watched{back: back, asked: asked, since: now, looked: now}
			continue
		}
		idle = false
		if l.seen.back != back || l.seen.since == 0 {
			l.seen = watched{back: back, asked: asked, since: now, looked: now}
		}
		if now-l.seen.looked >= watchEvery/2 {
			l.seen.looks, l.seen.looked = l.seen.looks+1, now
		}
		// A worker that has hardly asked, since others have its processor, cannot know.
		if !e.down && now-l.seen.since >= stuckFor && asked-l.seen.asked >= asksLeast && l.seen.looks >= looksLeast {
			f.trip(e, now, fmt.Sprintf("it has given nothing back for %d ms", (now-l.seen.since)/1e6))
		}
	}
	if e.down {
		if !e.gone && idle && now >= e.until {
			f.back(e)
		}
		e.from = 0
		return
	}
	if e.from == 0 || now-e.from >= failWindow {
		if n, all := fails-e.fromFail, jobs-e.fromJobs; e.from != 0 && n >= failLeast && 2*n > all {
			f.trip(e, now, fmt.Sprintf("%d of %d jobs have failed", n, all))
		}
		e.from, e.fromJobs, e.fromFail = now, jobs, fails
	}
}

// lose deals with an engine that has forgotten its SAs.
func (f *Feature) lose(e *engine, now int64, why string) {
	if !e.gone {
		e.gone = true
		e.losses++
		f.fail(e, now, why)
	}
}

// trip deals with an engine that has its SAs and does not do its work.
func (f *Feature) trip(e *engine, now int64, why string) {
	if now-e.failedAt > proveMost {
		e.row = 0
	}
	e.until = now + min(proveFor<<min(e.row, 10), proveMost)
	e.trips, e.row = e.trips+1, e.row+1
	f.fail(e, now, why)
}

func (f *Feature) fail(e *engine, now int64, why string) {
	e.down, e.lastFailure, e.failedAt = true, why, now
	e.failure = fmt.Errorf("is not used since it failed: %s", why)
	for _, w := range f.workers[:f.made] {
		l := w.lanes[e.index]
		l.until.Store(now + lateFor)
		l.given.Store(l.out.Load())
	}
	had := 0
	for _, s := range f.sas {
		if s.engine == e && !s.lost {
			had++
			s.lost = true
			f.lost++
			atomic.OrUint32(&f.sad.at(s.handle).down, recLost)
		}
	}
	saved := f.rescue()
	text := fmt.Sprintf("%s: of its %d SAs %d have gone to other engines, %d carry nothing", why, had, saved, max(had-saved, 0))
	f.env.Log.Error("crypto engine lost", "engine", e.name, "why", text)
	if f.env.Events != nil {
		f.env.Events.Add(event.Event{Kind: event.EngineLost, Object: e.name, Text: text})
	}
}

// back deals with an engine that works again.
func (f *Feature) back(e *engine) {
	e.gone, e.down = false, false
	n := f.rescue() + f.settleIn()
	text := fmt.Sprintf("it works again: %d SAs have come", n)
	f.env.Log.Info("crypto engine back", "engine", e.name, "sas", n)
	if f.env.Events != nil {
		f.env.Events.Add(event.Event{Kind: event.EngineBack, Object: e.name, Text: text})
	}
}
