package pool

import (
	"sync"
	"sync/atomic"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
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
	session.Lane
	_     [64]byte
	r     *records
	i     int
	pool  *sal.Pool
	inner []sal.Queue // by thread
	jobs  [depth]sal.Job
	more  [depth]more // of jobs in sal.ModeProtocol
	// ends says, at the slot where a run begins, where it ended, once its jobs are
	// done; less than its position before.
	ends [depth]atomic.Uint64

	_       [64]byte
	ready   uint64 // the user's: jobs before it are done
	_       [64]byte
	claimed atomic.Uint64 // the threads'
	_       [64]byte
	bell    atomic.Pointer[sal.Bell]
	dead    atomic.Bool // no thread looks here any more
	end     sync.Once
}

// more is what there is to know of a job in sal.ModeProtocol beside what is in it. For
// other jobs nothing is written here.
type more struct {
	keeper *keeper    // of its SA, nil for jobs in sal.ModeCrypto, and without SA
	over   bool       // its Status is final already
	status sal.Status // inbound: what is wrong with the inner packet, if the ICV is right
	inner  uint32     // inbound: how long that is
	seq    uint64
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
	at := q.Submitted()
	n := min(len(jobs), depth-int(at-q.Polled()))
	if n == 0 {
		return 0
	}
	k := copy(q.jobs[at%depth:], jobs[:n])
	copy(q.jobs[:], jobs[k:n])
	q.admit(at, n)
	q.Took(n)
	// Each queue has a thread of its own to wake first, so that light work of many
	// queues is spread, and that of one stays where it is warm.
	l := q.r.e.threads
	for w := range min((int(at+uint64(n)-q.claimed.Load())+run-1)/run, len(l)) {
		l[(q.i+w)%len(l)].wake()
	}
	return n
}

// admit gives numbers to those of n jobs from a position on that are for sal.ModeProtocol.
func (q *queue) admit(at uint64, n int) {
	var held *keeper
	for i := at; i < at+uint64(n); i++ {
		j := &q.jobs[i%depth]
		m := &q.more[i%depth]
		if j.Op != sal.Encap && j.Op != sal.Decap {
			continue
		}
		k := q.r.keeperOf(j.SA)
		m.keeper, m.over = k, true
		j.Flags = 0
		if k == nil {
			j.Status = sal.StatusNoSA
			continue
		}
		if k != held {
			if held != nil {
				held.release()
			}
			k.hold()
			held = k
		}
		m.seq, j.Status = k.admit(q.r.s, j, q.pool)
		m.over = j.Status != sal.StatusPending
	}
	if held != nil {
		held.release()
	}
}

// settle ends those of n jobs from a position on that are in sal.ModeProtocol.
func (q *queue) settle(at uint64, n int) {
	var held *keeper
	for i := at; i < at+uint64(n); i++ {
		m := &q.more[i%depth]
		k := m.keeper
		if k == nil {
			if m.over {
				m.over = false
			}
			continue
		}
		m.keeper, m.over = nil, false
		if k != held {
			if held != nil {
				held.release()
			}
			k.hold()
			held = k
		}
		k.settle(q.r.s, &q.jobs[i%depth], m.inner, m.status, q.pool)
	}
	if held != nil {
		held.release()
	}
}

// work does a run, on thread t within its turn, and says how many jobs it had.
func (q *queue) work(t *thread) int {
	var at, n uint64
	for {
		at = q.claimed.Load()
		if n = min(q.Submitted()-at, run); n == 0 {
			return 0
		}
		if q.claimed.CompareAndSwap(at, at+n) {
			break
		}
	}
	from := at % depth
	if to := from + n; to <= depth {
		q.do(t, q.jobs[from:to], q.more[from:to])
	} else {
		q.do(t, q.jobs[from:], q.more[from:])
		q.do(t, q.jobs[:to-depth], q.more[:to-depth])
	}
	q.ends[from].Store(at + n)
	q.tell()
	return int(n)
}

// do has the inner engine do jobs, which come by this engine's handles.
func (q *queue) do(t *thread, jobs []sal.Job, more []more) {
	if q.Gone() || t.e.stop.Load() {
		fail(jobs)
		return
	}
	for i := range jobs {
		j, m, was := &jobs[i], &more[i], &t.was[i%run]
		*was = *j
		if m.over {
			j.SA = 0 // not for the inner engine
			continue
		}
		if j.SA = q.r.innerOf(j.SA, m.keeper != nil); m.keeper == nil || j.SA == 0 {
			continue
		}
		if j.Op == sal.Encap {
			m.keeper.encap(j, m.seq, q.pool)
		} else {
			j.Op = sal.Open
		}
	}
	q.inner[t.i].Do(jobs)
	for i := range jobs {
		j, m, was := &jobs[i], &more[i], &t.was[i%run]
		j.SA, j.Op = was.SA, was.Op
		switch {
		case m.over:
			j.Status = was.Status
		case m.keeper == nil:
		case j.Status != sal.StatusOK:
			j.Desc = was.Desc
		case j.Op == sal.Encap:
			m.keeper.sealed(j, was.Desc.Len(), q.pool)
		default:
			m.inner, m.status = m.keeper.decap(j, q.pool)
		}
	}
}

func fail(jobs []sal.Job) {
	for i := range jobs {
		jobs[i].Status = sal.StatusDevice
	}
}

// Poll takes what is done, in the order of Submit.
func (q *queue) Poll(jobs []sal.Job) int {
	at := q.Polled()
	q.look(at + uint64(len(jobs)))
	if q.ready == at && q.dead.Load() {
		q.look(at + depth) // what was done before it died
		q.abandon()
	}
	n := min(len(jobs), int(q.ready-at))
	if n == 0 {
		return 0
	}
	q.settle(at, n)
	from := at % depth
	k := copy(jobs[:n], q.jobs[from:])
	copy(jobs[k:n], q.jobs[:])
	q.Gave(n)
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
	to := q.Submitted()
	for ; q.ready < to; q.ready++ {
		q.jobs[q.ready%depth].Status = sal.StatusDevice
	}
	q.claimed.Store(to)
}

// RingAt implements sal.Ringer: the threads ring b when jobs are done, and the
// engine when it is lost with some under way. When it returns, the bell before is
// not rung any more.
func (q *queue) RingAt(b *sal.Bell) {
	if q.bell.Swap(b) != nil {
		q.r.e.pass()
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
	q.Shut()
	q.Forget()
	return nil
}

// Forget takes the queue away from the threads.
func (q *queue) Forget() {
	q.end.Do(func() {
		q.r.e.discharge(func(x *queue) bool { return x == q })
		q.dead.Store(true)
		q.closeInner()
	})
}
