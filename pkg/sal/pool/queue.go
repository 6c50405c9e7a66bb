package pool

import (
	"fmt"
	"sync/atomic"

	"vrouter/pkg/sal"
)

const (
	// depth is how many jobs a queue holds, a power of two.
	depth = 4 * sal.Burst
	// run is how many jobs a thread claims at a time: enough for the inner engine
	// to work ahead, few enough that threads share a burst and that the first of
	// it come back while the last are worked on.
	run = 64
)

// queue is one goroutine's way in: a ring of jobs. Positions count for ever;
// position % depth is the slot.
//
//	polled ≤ ready ≤ claimed ≤ submitted ≤ polled + depth
type queue struct {
	s     *session
	i     int
	inner []sal.Queue // by thread
	jobs  [depth]sal.Job
	// ends says, at the slot where a run begins, where it ended, once its jobs are
	// done; less than its position before.
	ends [depth]atomic.Uint64

	_         [64]byte
	submitted atomic.Uint64 // the user's
	polled    atomic.Uint64 // the user's
	ready     uint64        // the user's: jobs before it are done
	_         [64]byte
	claimed   atomic.Uint64 // the threads'
	_         [64]byte
	bell      atomic.Pointer[sal.Bell]
	dead      atomic.Bool // no thread looks here any more
}

// Queue opens queue i over the buffers of pool.
func (s *session) Queue(i int, pool *sal.Pool) (sal.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	n := len(s.e.threads)
	if i < 0 || i >= s.e.Caps().Queues || pool == nil {
		return nil, fmt.Errorf("queue %d of %d: %w", i, s.e.Caps().Queues, sal.ErrInvalid)
	}
	q := &queue{s: s, i: i}
	for k := range n {
		in, err := s.inner.Queue(i*n+k, pool)
		if err != nil {
			q.closeInner()
			return nil, fmt.Errorf("queue %d for crypto thread %d: %w", i, k, err)
		}
		q.inner = append(q.inner, in)
	}
	if err := s.e.enlist(q); err != nil {
		q.closeInner()
		return nil, err
	}
	s.queues = append(s.queues, q)
	return q, nil
}

func (q *queue) closeInner() {
	for _, x := range q.inner {
		_ = x.Close()
	}
}

// Do is for engines that work on the calling core.
func (q *queue) Do(jobs []sal.Job) {
	for i := range jobs {
		jobs[i].Status = sal.StatusDevice
	}
}

// Submit hands jobs over and wakes as many threads as they are worth.
func (q *queue) Submit(jobs []sal.Job) int {
	at := q.submitted.Load()
	n := min(len(jobs), depth-int(at-q.polled.Load()))
	if n == 0 {
		return 0
	}
	k := copy(q.jobs[at%depth:], jobs[:n])
	copy(q.jobs[:], jobs[k:n])
	q.submitted.Store(at + uint64(n))
	// Each queue has a thread of its own to wake first, so that light work of many
	// queues is spread, and that of one stays where it is warm.
	l := q.s.e.threads
	for w := range min((int(at+uint64(n)-q.claimed.Load())+run-1)/run, len(l)) {
		l[(q.i+w)%len(l)].wake()
	}
	return n
}

// work does a run, on thread t within its turn, and says how many jobs it had.
func (q *queue) work(t *thread) int {
	var at, n uint64
	for {
		at = q.claimed.Load()
		if n = min(q.submitted.Load()-at, run); n == 0 {
			return 0
		}
		if q.claimed.CompareAndSwap(at, at+n) {
			break
		}
	}
	from := at % depth
	if to := from + n; to <= depth {
		q.do(t, q.jobs[from:to])
	} else {
		q.do(t, q.jobs[from:])
		q.do(t, q.jobs[:to-depth])
	}
	q.ends[from].Store(at + n)
	q.tell()
	return int(n)
}

// do has the inner engine do jobs, which come by this engine's handles.
func (q *queue) do(t *thread, jobs []sal.Job) {
	if q.s.gone.Load() || t.e.stop.Load() {
		fail(jobs)
		return
	}
	for i := range jobs {
		j := &jobs[i]
		t.of[i%run] = j.SA
		j.SA = q.s.innerOf(j.SA)
	}
	q.inner[t.i].Do(jobs)
	for i := range jobs {
		jobs[i].SA = t.of[i%run]
	}
}

func fail(jobs []sal.Job) {
	for i := range jobs {
		jobs[i].Status = sal.StatusDevice
	}
}

// Poll takes what is done, in the order of Submit.
func (q *queue) Poll(jobs []sal.Job) int {
	at := q.polled.Load()
	q.look(at + uint64(len(jobs)))
	if q.ready == at && q.dead.Load() {
		q.look(at + depth) // what was done before it died
		q.abandon()
	}
	n := min(len(jobs), int(q.ready-at))
	if n == 0 {
		return 0
	}
	from := at % depth
	k := copy(jobs[:n], q.jobs[from:])
	copy(jobs[k:n], q.jobs[:])
	q.polled.Store(at + uint64(n))
	return n
}

// look moves ready over runs that are done, up to a position or a little beyond.
func (q *queue) look(to uint64) {
	for q.ready < to {
		end := q.ends[q.ready%depth].Load()
		if end <= q.ready {
			return
		}
		q.ready = end
	}
}

// abandon fails what no thread has claimed and none will: whatever was claimed is
// done.
func (q *queue) abandon() {
	to := q.submitted.Load()
	for ; q.ready < to; q.ready++ {
		q.jobs[q.ready%depth].Status = sal.StatusDevice
	}
	q.claimed.Store(to)
}

// InFlight is what has been submitted and not polled.
func (q *queue) InFlight() int { return int(q.submitted.Load() - q.polled.Load()) }

// RingAt implements sal.Ringer: the threads ring b when jobs are done, and the
// engine when it is lost with some under way. When it returns, the bell before is
// not rung any more.
func (q *queue) RingAt(b *sal.Bell) {
	if q.bell.Swap(b) != nil {
		q.s.e.pass()
	}
}

// tell rings for jobs that are done.
func (q *queue) tell() {
	if b := q.bell.Load(); b != nil {
		b.Ring()
	}
}

// Close gives the number free. Jobs that are done can still be polled; what no
// thread has begun comes with StatusDevice.
func (q *queue) Close() error {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	q.s.drop(q)
	return nil
}
