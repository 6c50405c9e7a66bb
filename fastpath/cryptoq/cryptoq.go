// Package cryptoq is a worker's way to a SAL engine and back: park packets as
// jobs, submit, poll, resume. With an engine that works on the calling core
// (Caps.Sync) the jobs of a burst are done within the call; with any other
// they come back in a later turn, those of one SA in the order submitted. The
// resuming side is the same.
//
// A parked packet's buffer belongs to the engine; what is needed to go on is in
// the job's Cookie.
package cryptoq

import (
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// Resumer goes on with packets whose jobs are over. It owns their buffers
// again. One call per burst of completions.
type Resumer interface {
	// Done: the engine has finished the jobs; each Status says how.
	Done(c *pipeline.Ctx, jobs []sal.Job)
	// Full: the engine's queue took no more; these jobs were not begun.
	Full(c *pipeline.Ctx, jobs []sal.Job)
}

// Queue is one worker's queue into one engine. It implements pipeline.Poller.
type Queue struct {
	q    sal.Queue
	sync bool
	r    Resumer
	ring sal.Ringer // nil: the engine wakes nobody
	bell *sal.Bell  // that it rings
	done [sal.Burst]sal.Job
}

// New makes a queue over an engine's queue. sync: the engine has Caps.Sync.
func New(q sal.Queue, sync bool, r Resumer) *Queue {
	ring, _ := q.(sal.Ringer)
	return &Queue{q: q, sync: sync, r: r, ring: ring}
}

// Run hands jobs (at most sal.Burst) to the engine. The slice may be used again
// on return.
func (q *Queue) Run(c *pipeline.Ctx, jobs []sal.Job) {
	if len(jobs) == 0 {
		return
	}
	if q.sync {
		q.q.Do(jobs)
		q.r.Done(c, jobs)
		return
	}
	if q.ring != nil && q.bell != c.Bell {
		q.bell = c.Bell
		q.ring.RingAt(c.Bell)
	}
	if n := q.q.Submit(jobs); n < len(jobs) {
		q.r.Full(c, jobs[n:])
	}
}

// Poll resumes what the engine has finished.
func (q *Queue) Poll(c *pipeline.Ctx) int {
	if q.sync {
		return 0
	}
	n := q.q.Poll(q.done[:])
	if n > 0 {
		q.r.Done(c, q.done[:n])
	}
	return n
}

// Busy tells whether jobs are under way.
func (q *Queue) Busy(*pipeline.Ctx) bool { return !q.sync && q.q.InFlight() > 0 }

// Rings tells whether jobs that are under way ring the worker's bell when they are
// done. Without any under way it is true.
func (q *Queue) Rings(c *pipeline.Ctx) bool {
	return q.ring != nil && q.bell == c.Bell && c.Bell != nil || !q.Busy(c)
}

// InFlight is how many buffers the engine holds.
func (q *Queue) InFlight() int {
	if q.sync {
		return 0
	}
	return q.q.InFlight()
}
