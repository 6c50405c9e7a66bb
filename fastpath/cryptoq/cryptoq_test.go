package cryptoq

import (
	"slices"
	"testing"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// engine is a queue that takes so many jobs and completes them when told to.
type engine struct {
	depth, ready int
	held         []sal.Job
	did          int
}

func (e *engine) Do(jobs []sal.Job) {
	e.did += len(jobs)
	for i := range jobs {
		jobs[i].Status = sal.StatusOK
	}
}

func (e *engine) Submit(jobs []sal.Job) int {
	n := min(len(jobs), e.depth-len(e.held))
	e.held = append(e.held, jobs[:n]...)
	return n
}

func (e *engine) Poll(jobs []sal.Job) int {
	n := min(len(jobs), e.ready, len(e.held))
	copy(jobs, e.held[:n])
	e.held, e.ready = e.held[n:], e.ready-n
	return n
}

func (e *engine) InFlight() int { return len(e.held) }
func (e *engine) Close() error  { return nil }

type resumer struct{ done, full []uint64 }

func (r *resumer) Done(_ *pipeline.Ctx, jobs []sal.Job) {
	for _, j := range jobs {
		r.done = append(r.done, j.Cookie)
	}
}

func (r *resumer) Full(_ *pipeline.Ctx, jobs []sal.Job) {
	for _, j := range jobs {
		r.full = append(r.full, j.Cookie)
	}
}

func jobs(from, n int) (l []sal.Job) {
	for i := range n {
		l = append(l, sal.Job{Cookie: uint64(from + i)})
	}
	return l
}

func TestSync(t *testing.T) {
	e, r := &engine{}, &resumer{}
	q := New(e, true, r)
	q.Run(nil, jobs(0, 3))
	q.Run(nil, nil)
	if !slices.Equal(r.done, []uint64{0, 1, 2}) || e.did != 3 || q.Busy(nil) || q.Poll(nil) != 0 || q.InFlight() != 0 {
		t.Errorf("done %v", r.done)
	}
}

// TestAsync: jobs come back in order, in the turns in which the engine has them
// ready; what it does not take comes back at once as not begun.
func TestAsync(t *testing.T) {
	e, r := &engine{depth: 4}, &resumer{}
	q := New(e, false, r)
	q.Run(nil, jobs(0, 3))
	q.Run(nil, jobs(3, 3))
	if !slices.Equal(r.full, []uint64{4, 5}) || len(r.done) != 0 || !q.Busy(nil) || q.InFlight() != 4 {
		t.Fatalf("full %v, done %v, in flight %d", r.full, r.done, q.InFlight())
	}
	e.ready = 3
	if n := q.Poll(nil); n != 3 || !slices.Equal(r.done, []uint64{0, 1, 2}) {
		t.Errorf("%d polled, done %v", n, r.done)
	}
	e.ready = 9
	if n := q.Poll(nil); n != 1 || !slices.Equal(r.done, []uint64{0, 1, 2, 3}) || q.Busy(nil) {
		t.Errorf("%d polled, done %v", n, r.done)
	}
}

// ringing is an engine that rings.
type ringing struct {
	engine
	bell *sal.Bell
}

func (r *ringing) RingAt(b *sal.Bell) { r.bell = b }

// TestRings: an engine rings the bell of the worker that submits, also when that is
// another than before; one that cannot ring makes the worker wait awake.
func TestRings(t *testing.T) {
	jobs := []sal.Job{{Cookie: 1}}
	e := &ringing{engine: engine{depth: 8}}
	q := New(e, false, &resumer{})
	for range 2 {
		c := &pipeline.Ctx{Bell: &sal.Bell{}}
		if q.Run(c, jobs); e.bell != c.Bell || !q.Busy(c) || !q.Rings(c) {
			t.Error("the engine does not ring the worker's bell")
		}
		if other := (&pipeline.Ctx{Bell: &sal.Bell{}}); q.Rings(other) {
			t.Error("it is said to ring a bell that it does not know")
		}
	}
	mute := New(&engine{depth: 8}, false, &resumer{})
	c := &pipeline.Ctx{Bell: &sal.Bell{}}
	if !mute.Rings(c) {
		t.Error("with nothing under way a worker may sleep")
	}
	if mute.Run(c, jobs); mute.Rings(c) {
		t.Error("an engine that cannot ring is said to")
	}
}
