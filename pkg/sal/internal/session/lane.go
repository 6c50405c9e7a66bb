package session

import (
	"sync/atomic"

	"vrouter/pkg/sal"
)

// Lane is what a session knows of one of its queues. Only the queue's goroutine
// writes turn, submitted and polled.
type Lane struct {
	s *Session
	_ [64]byte
	// turn is odd while a call works on SAs; see Session.part. submitted and
	// polled count jobs.
	turn              atomic.Uint64
	submitted, polled atomic.Uint64
	closed            atomic.Bool
}

// Init ties the lane to its session.
func (l *Lane) Init(s *Session) { l.s = s }

// State is the lane itself, for queues that it is part of.
func (l *Lane) State() *Lane { return l }

// Enter begins a call, before any SA is looked at.
func (l *Lane) Enter() { l.turn.Store(l.turn.Load() + 1) }

// Leave ends it. No record may be looked at afterwards.
func (l *Lane) Leave() { l.turn.Store(l.turn.Load() + 1) }

// Gone tells whether jobs have to fail with StatusDevice.
func (l *Lane) Gone() bool { return l.s.gone.Load() || l.closed.Load() }

// Submitted counts jobs that were submitted, Polled those that came back. Others than
// the queue's goroutine may look.
func (l *Lane) Submitted() uint64 { return l.submitted.Load() }

// Polled is the counterpart of Submitted.
func (l *Lane) Polled() uint64 { return l.polled.Load() }

// Took and Gave move Submitted and Polled on. What was stored before Took is seen by
// whoever sees the jobs submitted.
func (l *Lane) Took(n int) { l.submitted.Store(l.submitted.Load() + uint64(n)) }

// Gave is the counterpart of Took.
func (l *Lane) Gave(n int) { l.polled.Store(l.polled.Load() + uint64(n)) }

// InFlight is what has been submitted and not polled.
func (l *Lane) InFlight() int { return int(l.submitted.Load() - l.polled.Load()) }

// Inline is most of a queue of an engine that does jobs on the calling core,
// within the call: sal.Caps.Sync. It is part of the engine's queue, which adds
// Forget.
type Inline struct {
	Lane
	work func([]sal.Job)
	done []sal.Job // ring of completed jobs
}

// Init gives the queue room for depth jobs, a power of two, and what does them:
// any number in a call.
func (q *Inline) Init(s *Session, depth int, work func([]sal.Job)) {
	q.Lane.Init(s)
	q.work, q.done = work, make([]sal.Job, depth)
}

// Do runs the jobs in order.
func (q *Inline) Do(jobs []sal.Job) {
	q.Enter()
	q.run(jobs)
	q.Leave()
}

func (q *Inline) run(jobs []sal.Job) {
	if !q.Gone() {
		q.work(jobs)
		return
	}
	for i := range jobs {
		jobs[i].Status = sal.StatusDevice
	}
}

// Submit works the jobs off at once; Poll hands them back in order.
func (q *Inline) Submit(jobs []sal.Job) int {
	sub := q.submitted.Load()
	n := min(len(jobs), len(q.done)-int(sub-q.polled.Load()))
	q.Enter()
	q.run(jobs[:n])
	for i := range jobs[:n] {
		q.done[(sub+uint64(i))&uint64(len(q.done)-1)] = jobs[i]
	}
	q.submitted.Store(sub + uint64(n))
	q.Leave()
	return n
}

// Poll takes completed jobs, in the order of Submit.
func (q *Inline) Poll(jobs []sal.Job) int {
	p := q.polled.Load()
	n := min(len(jobs), int(q.submitted.Load()-p))
	for i := range jobs[:n] {
		jobs[i] = q.done[(p+uint64(i))&uint64(len(q.done)-1)]
	}
	q.polled.Store(p + uint64(n))
	return n
}

// Shut gives the number free. Jobs that are done can still be polled.
func (l *Lane) Shut() { l.closed.Store(true) }
