package worker

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/fastpath/pipeline"
)

const (
	// spinFor is how long a worker polls in vain before it sleeps. A sleep and
	// the waking cost about 10 to 50 µs, so much less would not pay.
	spinFor = 50 * int64(time.Microsecond)
	// napFor is how long it sleeps at a time when some queue cannot wake it.
	// With thousands of queues a look at all of them takes a millisecond itself,
	// so for each manyPorts it sleeps as long again.
	napFor    = time.Millisecond
	manyPorts = 1024
	// sleepFor is how long it sleeps at most: flows age meanwhile.
	sleepFor = 250 * time.Millisecond
)

// Run polls until stop. It ties the goroutine to its thread, which ends with it;
// cpu is the core to run on, negative: any.
func (w *Worker) Run(stop *atomic.Bool, cpu int) {
	runtime.LockOSThread()
	w.tid.Store(int32(unix.Gettid()))
	defer w.tid.Store(0)
	if cpu >= 0 {
		var set unix.CPUSet
		set.Set(cpu)
		_ = unix.SchedSetaffinity(0, &set) // a hint; State tells where it runs
	}
	w.grace.Online()
	defer w.grace.Offline()
	for !stop.Load() {
		if w.Turn() > 0 {
			w.quiet = 0
			continue
		}
		switch {
		case w.env.Busy.Load() || w.pending() && !w.rings():
			w.quiet = 0
		case w.quiet == 0:
			w.quiet = w.ctx.Now
		case w.ctx.Now-w.quiet > spinFor:
			w.sleep(stop)
			w.quiet = 0
		}
	}
}

// Online and Offline announce a worker that is turned by hand.
func (w *Worker) Online() { w.grace.Online() }

// Offline is the opposite of Online.
func (w *Worker) Offline() { w.grace.Offline() }

// pending tells whether an engine has something under way.
func (w *Worker) pending() bool {
	for _, p := range w.order.Pollers {
		if p.Busy(w.ctx) {
			return true
		}
	}
	return false
}

// rings tells whether all that is under way in engines wakes the worker when it is
// done. One that waits for such gives its core away after a while, perhaps to the
// very thread that it waits for.
func (w *Worker) rings() bool {
	for _, p := range w.order.Pollers {
		if !p.Rings(w.ctx) {
			return false
		}
	}
	return true
}

// Kick wakes the worker if it sleeps.
func (w *Worker) Kick() {
	if w.asleep.Load() {
		one := [8]byte{1}
		_, _ = unix.Write(w.wake, one[:]) // full means that it is awake
	}
}

// sleep blocks until a port, the control side or the clock wants the worker.
func (w *Worker) sleep(stop *atomic.Bool) {
	if w.bell.Answer() { // since the queues were looked at last, perhaps: once more
		w.warm()
		return
	}
	wait, all := sleepFor, w.watch()
	if !all {
		wait = napFor * time.Duration(1+(len(w.ports)-w.waking)/manyPorts)
	}
	w.asleep.Store(true)
	// Whoever has something for us stores it first and looks at asleep then:
	// one of the two sides sees the other.
	_, from := w.ctx.Control()
	if stop.Load() || from.Len() > 0 || w.handed() || w.stale() || w.env.Busy.Load() {
		w.asleep.Store(false)
		return
	}
	w.grace.Offline()
	pipeline.Add(&w.stats.idles, 1)
	n, _ := unix.EpollWait(w.epoll, w.events, int(wait.Milliseconds())) // EINTR is as good as a time-out
	w.grace.Online()
	w.asleep.Store(false)
	port := !all
	for i := range max(n, 0) {
		if w.events[i].Fd != int32(w.wake) {
			port = true
			continue
		}
		var b [8]byte
		_, _ = unix.Read(w.wake, b[:])
	}
	// With thousands of queues a look at all of them costs more than what the
	// control side wakes a worker for.
	if w.bell.Answer() || port {
		w.warm()
	}
	w.age(64)
}

// watch puts the ports' descriptors into epoll and says whether all queues wake
// the worker.
func (w *Worker) watch() bool {
	if w.waking == len(w.ports) {
		return true
	}
	for i := range w.ports {
		r := &w.ports[i]
		if r.bell || r.fd >= 0 {
			continue
		}
		fd := r.q.Wake()
		if fd < 0 {
			continue
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &ev) != nil {
			continue
		}
		r.fd = fd
		w.waking++
	}
	return w.waking == len(w.ports)
}
