package mem

import (
	"sync"
	"sync/atomic"
	"time"
)

// Grace frees what a writer has unlinked from a structure that workers read
// without a lock, once no worker can still hold a reference: quiescent-state-
// based reclamation. The order of events is
//
//  1. the writer makes the thing unreachable (an atomic store),
//  2. the writer calls Retire,
//  3. every online worker passes a quiescent point: a moment, once a turn of
//     its loop, at which it holds no reference from an earlier look-up,
//  4. Poll runs the deferred function.
//
// A worker that is about to block says so ([Worker.Offline]) and is then not
// waited for. All methods of Grace may be called from any goroutine; those of
// a Worker only from the goroutine that works.
//
// With no worker online everything retired is free at the next Poll.
type Grace struct {
	epoch atomic.Uint64 // starts at 1; 0 in Worker.seen means offline
	_     [CacheLine - 8]byte

	mu      sync.Mutex
	workers []*Worker
	pending []retired // in order of tag

	// held: only the first before things of pending may be freed.
	held   bool
	before int
}

// Reclaimer is a structure that takes back a handle when nobody can see what
// it names any more. Reclaim runs on the goroutine that calls Poll or
// Synchronize, with no lock of the Grace held.
type Reclaimer interface{ Reclaim(handle uint32) }

type retired struct {
	tag    uint64 // free when every online worker has seen this epoch
	f      func()
	r      Reclaimer
	handle uint32
}

// Worker is one reader's side of a Grace, on cache lines of its own.
type Worker struct {
	_    [CacheLine]byte
	seen atomic.Uint64 // newest epoch seen at a quiescent point; 0: offline
	last uint64        // the worker's own copy of seen
	g    *Grace
	_    [CacheLine]byte
}

// NewGrace returns a Grace without workers.
func NewGrace() *Grace {
	g := &Grace{}
	g.epoch.Store(1)
	return g
}

// Register adds a worker. It starts offline.
func (g *Grace) Register() *Worker {
	w := &Worker{g: g}
	g.mu.Lock()
	g.workers = append(g.workers, w)
	g.mu.Unlock()
	return w
}

// Unregister removes the worker for good; it must hold no reference.
func (w *Worker) Unregister() {
	w.Offline()
	g := w.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.workers {
		if x == w {
			g.workers = append(g.workers[:i], g.workers[i+1:]...)
			return
		}
	}
}

// Quiesce says that the worker holds no reference from before this call. Once
// a turn: it costs one load, and one store when something was retired since.
func (w *Worker) Quiesce() {
	if e := w.g.epoch.Load(); e != w.last {
		w.last = e
		w.seen.Store(e)
	}
}

// Offline says that the worker holds no reference and will not look anything
// up before it calls Online: before it blocks, sleeps or ends.
func (w *Worker) Offline() {
	w.last = 0
	w.seen.Store(0)
}

// Online ends Offline. Look-ups made after it are safe.
func (w *Worker) Online() {
	for {
		e := w.g.epoch.Load()
		w.last = e
		w.seen.Store(e)
		// The second load keeps later look-ups behind the store above, also
		// where the machine may move plain loads over a releasing store.
		if w.g.epoch.Load() == e {
			return
		}
	}
}

// Retire runs f once no worker can hold a reference to what the caller has
// just made unreachable. f runs on the goroutine that polls and must not block.
func (g *Grace) Retire(f func()) { g.add(retired{f: f}) }

// RetireHandle is Retire without a closure: r.Reclaim(handle) is called. The
// cost is one append under a mutex.
func (g *Grace) RetireHandle(r Reclaimer, handle uint32) { g.add(retired{r: r, handle: handle}) }

func (g *Grace) add(x retired) {
	g.mu.Lock()
	x.tag = g.epoch.Load() + 1
	g.pending = append(g.pending, x)
	g.mu.Unlock()
}

// Pending is the number of things that wait to be freed.
func (g *Grace) Pending() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending)
}

// Poll opens a new epoch if something waits for one, and frees whatever every
// online worker has left behind. It returns how many things it freed and never
// waits. The control side calls it after changes and from a timer.
func (g *Grace) Poll() int {
	g.mu.Lock()
	if len(g.pending) == 0 {
		g.mu.Unlock()
		return 0
	}
	e := g.epoch.Load()
	if g.pending[len(g.pending)-1].tag > e {
		e = g.epoch.Add(1)
	}
	for _, w := range g.workers {
		if s := w.seen.Load(); s != 0 && s < e {
			e = s
		}
	}
	n := 0
	for n < len(g.pending) && g.pending[n].tag <= e && !(g.held && n == g.before) {
		n++
	}
	if g.held {
		g.before -= n
	}
	if n == 0 {
		g.mu.Unlock()
		return 0
	}
	free := g.pending[:n:n]
	g.pending = g.pending[n:]
	g.mu.Unlock()
	for _, x := range free {
		if x.f != nil {
			x.f()
		} else {
			x.r.Reclaim(x.handle)
		}
	}
	clear(free) // the array lives on behind pending
	return n
}

// Hold keeps what is retired from now on until Release, whatever the workers
// do. It is for a change in several steps whose last one makes the old things
// unreachable: a worker that passes between two steps can still find them.
// What was retired before is freed as ever. Holds do not nest.
func (g *Grace) Hold() {
	g.mu.Lock()
	g.held, g.before = true, len(g.pending)
	g.mu.Unlock()
}

// Release ends Hold: from here on the workers must pass once more before what
// was held is freed.
func (g *Grace) Release() {
	g.mu.Lock()
	tag := g.epoch.Load() + 1
	for i := g.before; i < len(g.pending); i++ {
		g.pending[i].tag = tag
	}
	g.held = false
	g.mu.Unlock()
}

// Await waits until every online worker has passed a quiescent point, at most for
// limit, and says whether that happened. It frees nothing, and may be called between
// Hold and Release. A worker that calls it while online waits for itself.
func (g *Grace) Await(limit time.Duration) bool {
	g.mu.Lock()
	e := g.epoch.Add(1)
	g.mu.Unlock()
	deadline := time.Now().Add(limit)
	for pause := time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		passed := true
		g.mu.Lock()
		for _, w := range g.workers {
			s := w.seen.Load()
			passed = passed && (s == 0 || s >= e)
		}
		g.mu.Unlock()
		if passed {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

// Synchronize waits until everything retired before the call has been freed,
// at most for limit, and says whether that happened. An online worker that
// neither quiesces nor goes offline makes it time out; a worker that calls it
// while online waits for itself.
func (g *Grace) Synchronize(limit time.Duration) bool {
	done := false
	var mu sync.Mutex
	g.Retire(func() { mu.Lock(); done = true; mu.Unlock() })
	deadline := time.Now().Add(limit)
	for pause := time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		g.Poll()
		mu.Lock()
		ok := done
		mu.Unlock()
		if ok {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
