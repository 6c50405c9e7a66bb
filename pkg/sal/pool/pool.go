// Package pool is a look-aside engine in software: threads of its own do what
// an engine of sal.Caps.Sync does for its caller, so that crypto moves to other
// cores. It offers what that engine offers, and sal.ModeProtocol on top: whole IP
// packets in, whole ESP packets out, and back, with numbers, replay windows and
// lifetimes kept here.
//
//	pool.go     the engine and its end
//	records.go  SAs, over those of the engine inside
//	queue.go    the packet path: submit, work, poll
//	keeper.go   what is kept of an SA in sal.ModeProtocol
//	thread.go   the threads: how they look for work, sleep and wake
//
// # Order, and one SA on many cores
//
// A queue is one ring of jobs in the order of Submit. Its user writes at one end
// and takes at the other; in between the threads claim runs of neighbouring jobs,
// whichever thread is free the next run, and do them where they lie. Poll gives
// back what is done from the oldest on, and stops at the first job that is not.
// So all jobs of a queue come back as they were submitted, however many threads
// shared the work on one SA, and no thread waits while another has a backlog.
// Nothing takes a lock; a run costs a thread one compare-and-swap.
//
// # What a thread may hold
//
// A thread's look at the queues is a turn. Within it the thread may be using a
// queue, a bell, or the inner engine's handle of an SA; between turns it has
// nothing. Whoever takes one of these away makes it unreachable and waits for the
// turns that have begun (Engine.pass): a turn is at most one run from each queue.
package pool

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// Options of an engine.
type Options struct {
	// Threads is how many threads do the work; 0: one.
	Threads int
	// CPUs are the processors of the threads, in order; a thread that has none
	// here runs where the system puts it.
	CPUs []int
}

// maxThreads leaves each worker of a fast path a queue of the inner engine for
// every thread.
const maxThreads = 16

// Engine implements sal.Device.
type Engine struct {
	session.Host
	inner   sal.Device
	threads []*thread
	cpus    []int

	queues atomic.Pointer[[]*queue] // what the threads look at
	stop   atomic.Bool
	wg     sync.WaitGroup

	mu      sync.Mutex
	running bool // the threads are there
}

// New makes an engine around another, which must do its work on the calling core
// (sal.Caps.Sync) and is closed with it. The threads begin when the first queue is
// opened. It fails with ErrInvalid when that cannot be.
func New(name string, inner sal.Device, o Options) (*Engine, error) {
	n := max(o.Threads, 1)
	switch {
	case !inner.Caps().Sync:
		return nil, fmt.Errorf("threads around engine %s, which is asynchronous itself: %w", inner.Info().Name, sal.ErrInvalid)
	case n > maxThreads:
		return nil, fmt.Errorf("%d crypto threads, at most %d: %w", n, maxThreads, sal.ErrInvalid)
	case len(o.CPUs) > n:
		return nil, fmt.Errorf("%d processors for %d crypto threads: %w", len(o.CPUs), n, sal.ErrInvalid)
	}
	e := &Engine{inner: inner, cpus: slices.Clone(o.CPUs)}
	e.Host = session.Host{Name: name, Queues: inner.Caps().Queues / n, MaxSAs: maxHandle, Records: e.newRecords}
	if m := inner.Caps().MaxSAs; m != 0 {
		e.MaxSAs = min(m, maxHandle)
	}
	e.queues.Store(new([]*queue))
	for i := range n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			e.closeBells()
			return nil, fmt.Errorf("eventfd of a crypto thread: %w", err)
		}
		t := &thread{e: e, i: i, bell: fd, cpu: -1}
		if i < len(e.cpus) {
			t.cpu = e.cpus[i]
		}
		e.threads = append(e.threads, t)
	}
	return e, nil
}

// Info describes the engine.
func (e *Engine) Info() sal.DeviceInfo {
	i := e.inner.Info()
	i.Driver, i.Kind, i.Threads = "pool", sal.LookAside, len(e.threads)
	return e.Fill(i)
}

// Caps are the inner engine's with sal.ModeProtocol, but asynchronous: each queue takes one of its for
// every thread.
func (e *Engine) Caps() sal.Caps {
	c := e.inner.Caps()
	c.Modes = []sal.Mode{sal.ModeCrypto, sal.ModeProtocol}
	c.Sync, c.WindowMax = false, replay.MaxSize
	c.Queues, c.MaxSAs, c.Groups = e.Queues, e.MaxSAs, true
	c.QueueDepth = depth
	return c
}

// Close ends the engine: sessions get EventGone, the threads end, and what they
// had not begun comes back from Poll with StatusDevice.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop.Swap(true) {
		return nil
	}
	_ = e.Host.Close() // tells the sessions
	for _, t := range e.threads {
		t.ring()
	}
	e.wg.Wait()
	e.closeBells()
	for _, q := range *e.queues.Load() {
		q.dead.Store(true)
		q.tell()
	}
	return e.inner.Close()
}

func (e *Engine) closeBells() {
	for _, t := range e.threads {
		unix.Close(t.bell)
	}
}

// discharge takes queues away from the threads. When it returns, none is using
// them.
func (e *Engine) discharge(away func(*queue) bool) {
	e.mu.Lock()
	l := slices.DeleteFunc(slices.Clone(*e.queues.Load()), away)
	e.queues.Store(&l)
	e.mu.Unlock()
	e.pass()
}

// pass waits until every thread has ended the turn that it may be in.
func (e *Engine) pass() {
	for _, t := range e.threads {
		was := t.turn.Load()
		for n := 0; was&1 == 1 && t.turn.Load() == was; n++ {
			if n < 100 {
				runtime.Gosched()
			} else {
				time.Sleep(20 * time.Microsecond) // it has lost its core to somebody
			}
		}
	}
}

// Pin puts the threads on their processors, again where somebody has moved them:
// who restricts all threads of the process calls it afterwards.
func (e *Engine) Pin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running && !e.stop.Load() {
		for _, t := range e.threads {
			t.pin()
		}
	}
}
