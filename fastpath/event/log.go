package event

import (
	"context"
	"sync"
	"time"
)

// Keep is how many events a Log keeps.
const Keep = 4096

// most is how many events are given at a time.
const most = 256

// Log keeps the newest events, for readers that come when they like. Its methods
// may be called from any goroutine and wait for nobody, Read excepted.
type Log struct {
	now func() int64

	mu    sync.Mutex
	ring  []Event // of number n at n % Keep, once it is full
	stats Stats
	limit [kinds]*Limit
	alike [kinds]uint64
	more  chan struct{} // closed when there is another event
}

// NewLog makes a Log; now gives Unix nanoseconds.
func NewLog(now func() int64) *Log {
	l := &Log{now: now, more: make(chan struct{})}
	l.limit[BadSPI] = &Limit{Every: 100 * time.Millisecond, Burst: 10}
	// A lost engine moves thousands of SAs at once, which must not push everything
	// else out of the log.
	l.limit[SAMigrated] = &Limit{Every: 100 * time.Millisecond, Burst: 64}
	l.limit[ICVAlarm] = &Limit{Every: 100 * time.Millisecond, Burst: 64}
	l.limit[ReplayAlarm] = &Limit{Every: 100 * time.Millisecond, Burst: 64}
	l.limit[SASeqReport] = &Limit{Every: 100 * time.Millisecond, Burst: 64}
	l.limit[OffloadNotMet] = &Limit{Every: 100 * time.Millisecond, Burst: 64}
	return l
}

// Add appends an event, whose number and time it fills in. Of the kinds that
// outsiders can bring about, what is too much is counted only.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Time = l.now()
	if x := l.limit[e.Kind]; x != nil {
		if !x.Allow(e.Time) {
			l.alike[e.Kind]++
			l.stats.Limited++
			return
		}
		e.Alike, l.alike[e.Kind] = l.alike[e.Kind], 0
	}
	l.stats.Last++
	e.Number = l.stats.Last
	if len(l.ring) < Keep {
		l.ring = append(l.ring, e)
	} else {
		if gone := e.Number - Keep; gone > l.stats.Taken {
			l.stats.Lost++
		}
		l.ring[(e.Number-1)%Keep] = e
	}
	close(l.more)
	l.more = make(chan struct{})
}

// TooMany tells whether an event of a kind would be too much now, and then counts it as
// Add would: whoever has thousands to tell of need not make them all.
func (l *Log) TooMany(k Kind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.limit[k]
	if x == nil || !x.full(l.now()) {
		return false
	}
	l.alike[k]++
	l.stats.Limited++
	return true
}

// Batch is events in order.
type Batch struct {
	Events []Event
	// Lost is how many events before the first of these the reader has missed.
	Lost uint64
}

// Resume as the number to read from: go on behind what was taken last, by
// whomever.
const Resume = ^uint64(0)

// Read gives the events after a number, some hundreds at most, and waits until
// there is one or ctx is done. Asking for what comes after a number says that
// everything up to it was taken: a reader that comes later, with Resume, is not
// given it again.
func (l *Log) Read(ctx context.Context, after uint64) (*Batch, error) {
	for {
		b, more := l.take(&after)
		if b != nil {
			return b, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take gives what there is after a number, or what will tell that there is more.
func (l *Log) take(after *uint64) (*Batch, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *after > l.stats.Last { // Resume, or a number of an earlier process
		*after = l.stats.Taken
	}
	l.stats.Taken = max(l.stats.Taken, *after)
	if *after == l.stats.Last {
		return nil, l.more
	}
	b := &Batch{}
	first := *after + 1
	if oldest := l.stats.Last - uint64(len(l.ring)) + 1; first < oldest {
		b.Lost, first = oldest-first, oldest
	}
	for n := first; n <= l.stats.Last && len(b.Events) < most; n++ {
		b.Events = append(b.Events, l.ring[(n-1)%Keep])
	}
	return b, nil
}

// Stats tells how the Log does.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Limit is a token bucket: one event in each Every, and Burst at once. It begins
// full.
type Limit struct {
	Every time.Duration
	Burst int

	// free is when all tokens are there again.
	free int64
}

// Allow takes a token, if there is one at the time now (nanoseconds).
func (l *Limit) Allow(now int64) bool {
	if l.full(now) {
		return false
	}
	l.free = max(l.free, now) + int64(l.Every)
	return true
}

// full tells whether no token is there.
func (l *Limit) full(now int64) bool { return l.free-now > int64(l.Every)*int64(l.Burst-1) }
