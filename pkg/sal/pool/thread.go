package pool

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// spinFor is how long a thread looks for work in vain before it sleeps, as long
// as a fast path's worker does. To sleep and be woken costs 10 to 50 µs.
const spinFor = 50 * time.Microsecond

// thread is one of an engine's.
type thread struct {
	e    *Engine
	i    int
	cpu  int // negative: any
	bell int // eventfd: a sleeping thread reads it
	tid  atomic.Int32
	buf  [8]byte
	was  [run]sal.Job // a run's jobs as they were submitted, while they are the inner engine's

	_ [64]byte
	// turn is odd while the thread may hold a queue or an SA, see Engine.pass.
	turn   atomic.Uint64
	asleep atomic.Bool
	_      [48]byte
}

// run works until the engine stops. The goroutine is tied to its thread, which
// ends with it.
func (t *thread) run() {
	runtime.LockOSThread()
	t.tid.Store(int32(unix.Gettid()))
	t.pin()
	// As top -H and perf show it. It ends with the thread.
	if name, err := unix.ByteSliceFromString(fmt.Sprintf("%.12s/%d", t.e.Name, t.i)); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	}
	// With no core to spare, spinning only keeps others from theirs.
	spin := spinFor
	if runtime.NumCPU() <= len(t.e.threads) {
		spin = 0
	}
	began := time.Now()
	quiet := time.Duration(-1) // since when there is no work, as time since began
	for !t.e.stop.Load() {
		if t.look() > 0 {
			quiet = -1
			continue
		}
		switch now := time.Since(began); {
		case quiet < 0:
			quiet = now
		case now-quiet >= spin:
			t.sleep()
			quiet = -1
		}
	}
}

// pin puts the thread on its processor. It is a hint: one that cannot be had
// leaves the thread where it is.
func (t *thread) pin() {
	if id := int(t.tid.Load()); t.cpu >= 0 && id != 0 {
		var set unix.CPUSet
		set.Set(t.cpu)
		_ = unix.SchedSetaffinity(id, &set)
	}
}

// look is a turn: a run from each queue that has one. It says how many jobs.
func (t *thread) look() (n int) {
	t.turn.Add(1) // before any queue is looked at
	for _, q := range *t.e.queues.Load() {
		n += q.work(t)
	}
	t.turn.Add(1)
	return n
}

// waiting tells whether a queue has jobs that nobody has claimed.
func (t *thread) waiting() (yes bool) {
	t.turn.Add(1)
	for _, q := range *t.e.queues.Load() {
		yes = yes || q.Submitted() != q.claimed.Load()
	}
	t.turn.Add(1)
	return yes
}

// sleep blocks until the thread is woken. Who submits stores its jobs first and
// looks at asleep then: one of the two sides sees the other.
func (t *thread) sleep() {
	t.asleep.Store(true)
	if !t.waiting() && !t.e.stop.Load() {
		_, _ = unix.Read(t.bell, t.buf[:]) // EINTR is as good as a ring
	}
	t.asleep.Store(false)
}

// wake wakes the thread if it sleeps.
func (t *thread) wake() {
	if t.asleep.Load() && t.asleep.Swap(false) {
		t.ring()
	}
}

var one = [8]byte{0: 1, 7: 1} // in either byte order far below the counter's end

func (t *thread) ring() { _, _ = unix.Write(t.bell, one[:]) }
