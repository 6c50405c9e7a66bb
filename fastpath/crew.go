package fastpath

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/fastpath/pipeline"
	"vrouter/fastpath/worker"
)

// How many workers there are, on which processors, and who works on what, may
// change while packets flow. A change goes like this:
//
//	prepareCrew  before anything is live: can it be? Workers to come are made
//	recrew    0  ports get queues for workers to come, those that can: what comes
//	             into them waits
//	          1  nobody receives from ports: packets wait there
//	          2  all that is inside comes out: hand-offs, engines, messages
//	          3  workers to come start
//	          4  the new order is published: queues and flows have their workers
//	          5  workers that are not in it end, and give back buffers and flows
//
// Between 1 and 4 a queue is nobody's, so none has two workers, no packet of a
// flow overtakes another (0 is where one could, if a worker is far behind), and SAs
// turn from a single worker's to shared ones. What
// a worker counted stays in all sums when it has ended, and it goes on there when
// it is back.
//
// An engine that keeps packets for longer than drainFor does not hold up the
// change: a worker to end stays without queues until it has them back (reap).

// drainFor is how long a change waits for what is inside.
const drainFor = 500 * time.Millisecond

// crew is the workers as the engine runs them. Under the engine's lock.
type crew struct {
	n       int
	spread  Spreading
	cores   []int
	usable  []int
	free    unix.CPUSet // of a worker that is not bound
	runs    [pipeline.MaxWorkers]*run
	changes uint64
}

// run is a worker's goroutine.
type run struct {
	stop atomic.Bool
	done chan struct{} // nil: it is turned by hand
}

// initCrew makes the first workers.
func (e *Local) initCrew() error {
	o, k := &e.opt, &e.crew
	k.n, k.cores, k.usable = o.Workers, o.CPUs, o.Usable
	if k.n < 1 || k.n > pipeline.MaxWorkers {
		return fmt.Errorf("%d workers: 1 to %d are possible", k.n, pipeline.MaxWorkers)
	}
	if err := unix.SchedGetaffinity(0, &k.free); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	if k.usable == nil {
		for i := range 64 * len(k.free) {
			if k.free.IsSet(i) {
				k.usable = append(k.usable, i)
			}
		}
	}
	if err := e.makeWorkers(k.n); err != nil {
		return err
	}
	e.publishCrew(&pipeline.Crew{N: k.n, Shared: k.n > 1})
	return nil
}

// room gives the runtime a processor beside those that workers and threads of
// engines hardly ever leave.
func (e *Local) room(workers int) {
	n := workers + 1
	for _, d := range e.opt.Registry.Devices() {
		n += d.Info().Threads
	}
	if runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// stop tells all workers to end.
func (k *crew) stop() {
	for _, r := range k.runs {
		if r != nil {
			r.stop.Store(true)
		}
	}
}

// makeWorkers makes workers until there are n, each ready to run.
func (e *Local) makeWorkers(n int) error {
	for i := len(e.workers); i < n; i++ {
		if err := e.f.ipsec.Grow(i + 1); err != nil {
			return err
		}
		w, err := worker.New(e.env, worker.Config{ID: i, Order: e.order, Flows: [2]int{e.opt.Flows4, e.opt.Flows6}, Notify: e.wake})
		if err != nil {
			return err
		}
		wakes := make([]func(), 0, i+1)
		for _, x := range e.workers {
			wakes = append(wakes, x.Kick)
		}
		if err := e.env.Mesh.Join(i, append(wakes, w.Kick)); err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		_, to := w.Ctx().Control()
		e.env.Control.AddWorker(to)
		e.workers = append(e.workers, w)
	}
	for i := range n {
		if e.crew.runs[i] == nil {
			if err := e.workers[i].Ready(); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareCrew checks what a change says about workers, and makes those to come.
func (e *Local) prepareCrew(b *pipeline.Builder, g *Global) error {
	if g == nil {
		return nil
	}
	n := e.wanted(g)
	refuse := func(field, format string, a ...any) error {
		return &Refusal{Feature: "global", Field: field, Reason: fmt.Sprintf(format, a...)}
	}
	switch have := e.pool.Size(); {
	case n < 1 || n > pipeline.MaxWorkers:
		return refuse("Workers", "%d workers: 1 to %d are possible", n, pipeline.MaxWorkers)
	case n > e.opt.Workers && have < n*hoard+hoard:
		return refuse("Workers", "%d workers keep %d packet buffers at hand, and there are %d in all (fastpathd -buffers)", n, n*hoard, have)
	case len(g.Cores) > n:
		return refuse("Cores", "%d processors for %d workers", len(g.Cores), n)
	}
	for i, c := range g.Cores {
		switch {
		case !slices.Contains(e.crew.usable, c):
			return refuse("Cores", "processor %d is not there, or not for the fast path to use", c)
		case slices.Contains(g.Cores[:i], c):
			return refuse("Cores", "processor %d stands there twice", c)
		}
	}
	if g.Spread > SpreadQueues {
		return refuse("Spread", "no such way to spread packets")
	}
	if err := e.makeWorkers(n); err != nil {
		return refuse("Workers", "%v", err)
	}
	b.Workers = n
	return nil
}

// hoard is how many free buffers a worker may keep for itself.
const hoard = 4 * pipeline.Burst

func (e *Local) wanted(g *Global) int {
	if g.Workers == 0 {
		return e.opt.Workers
	}
	return g.Workers
}

// recrew makes the workers as g wants them.
func (e *Local) recrew(g *Global) {
	k := &e.crew
	n, was, cores := e.wanted(g), k.n, g.Cores
	if cores == nil {
		cores = e.opt.CPUs
	}
	moved := n != was || g.Spread != k.spread
	pinned := !slices.Equal(cores, k.cores)
	if !moved && !pinned {
		return
	}
	k.changes++
	if pinned {
		k.cores = slices.Clone(cores)
		e.pin()
	}
	if !moved {
		return
	}
	began := time.Now()
	grown := e.f.iface.AddQueues(n)
	if len(grown) > 0 {
		// What came into the old queues before is taken by those who work now, as
		// far as a turn or two will do: flows may come by another queue from here on.
		e.quiesce()
		e.quiesce()
	}
	e.env.Workers, k.n, k.spread = n, n, g.Spread
	e.env.Control.SetWorkers(n)
	e.publishCrew(&pipeline.Crew{N: n, Spread: g.Spread, Paused: true, Shared: n > 1 || was > 1 || e.running() > 1})
	out := e.drain()
	for i := range n {
		if k.runs[i] == nil {
			e.launch(i)
		}
	}
	e.publishPorts(&pipeline.Crew{N: n, Spread: g.Spread, Shared: e.running() > 1}, grown)
	if !out {
		e.opt.Log.Warn("workers were changed with packets inside", "workers", n)
	}
	e.dismiss(out)
	e.opt.Log.Info("workers were changed", "from", was, "to", n, "took", time.Since(began))
}

// publishCrew lets all workers take over a crew.
func (e *Local) publishCrew(c *pipeline.Crew) { e.publishPorts(c, nil) }

// publishPorts is publishCrew, and some interfaces have other queues than before.
func (e *Local) publishPorts(c *pipeline.Crew, set map[pipeline.IfIndex]*pipeline.Iface) {
	c.Made = len(e.workers)
	snap := *e.env.Snap.Load()
	snap.Crew = c
	if len(set) > 0 {
		snap.Ifaces = snap.Ifaces.With(set)
	}
	e.env.Snap.Store(&snap)
	e.env.Control.SetWorkers(c.N)
	e.quiesce()
	e.kickAll()
}

// running is how many workers run, those included that are to end.
func (e *Local) running() (n int) {
	for _, r := range e.crew.runs {
		if r != nil {
			n++
		}
	}
	return n
}

// launch starts worker i.
func (e *Local) launch(i int) {
	r := &run{}
	e.crew.runs[i] = r
	if e.opt.Manual {
		return
	}
	e.room(i + 1)
	r.done = make(chan struct{})
	e.done.Add(1)
	w, cpu := e.workers[i], e.crew.cpu(i)
	go func() {
		defer e.done.Done()
		defer close(r.done)
		w.Run(&r.stop, cpu)
	}()
}

// cpu is the processor of worker i, -1: any.
func (k *crew) cpu(i int) int {
	if i < len(k.cores) {
		return k.cores[i]
	}
	return -1
}

// pin binds the running workers to their processors.
func (e *Local) pin() {
	if e.opt.Reserve != nil {
		if err := e.opt.Reserve(e.crew.cores); err != nil {
			e.opt.Log.Warn("other threads may run on the workers' processors", "err", err)
		}
		_ = unix.SchedGetaffinity(0, &e.crew.free)
	}
	for i, r := range e.crew.runs {
		if r == nil || e.opt.Manual {
			continue
		}
		set := e.crew.free
		if c := e.crew.cpu(i); c >= 0 {
			set.Zero()
			set.Set(c)
		}
		if id := e.workers[i].Thread(); id != 0 {
			if err := unix.SchedSetaffinity(id, &set); err != nil {
				e.opt.Log.Warn("a worker could not be bound to its processor", "worker", i, "err", err)
			}
		}
	}
}

// drain waits until no worker has a packet inside, and says whether that is so.
func (e *Local) drain() bool {
	for end := time.Now().Add(drainFor); ; {
		if e.opt.Manual {
			for i, r := range e.crew.runs {
				if r != nil {
					e.Turn(i)
				}
			}
		}
		if e.calm(-1) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		if !e.opt.Manual {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// dismiss ends the workers that are not at work any more, those that have nothing
// inside. With wait it gives them the time to say so.
func (e *Local) dismiss(wait bool) {
	for end := time.Now().Add(drainFor); ; time.Sleep(20 * time.Microsecond) {
		if e.reap(); !wait || e.running() == e.crew.n || time.Now().After(end) {
			return
		}
		for i := e.crew.n; e.opt.Manual && i < len(e.workers); i++ {
			if e.crew.runs[i] != nil {
				e.Turn(i)
			}
		}
	}
}

// calm tells whether worker only, or all that run if that is below 0, have
// nothing inside, nor anything on its way to them.
func (e *Local) calm(only int) bool {
	look := func() (calm bool, moved uint64) {
		calm = true
		for i, r := range e.crew.runs {
			if r == nil || only >= 0 && i != only {
				continue
			}
			c, m := e.workers[i].Calm()
			calm, moved = calm && c, moved+m
		}
		return calm, moved
	}
	// What a worker has taken off a ring shows when its turn ends, so the second
	// look waits for the turns that were under way at the first.
	calm, before := look()
	if !calm || e.env.Mesh.Len(only) > 0 {
		return false
	}
	for i, w := range e.workers {
		if _, from := w.Ctx().Control(); (only < 0 || i == only) && from.Len() > 0 {
			return false
		}
	}
	if !e.env.Grace.Synchronize(drainFor) {
		return false
	}
	calm, after := look()
	return calm && before == after
}

// reap ends the workers that are not at work any more and have nothing inside.
func (e *Local) reap() {
	ended := false
	for i, r := range e.crew.runs {
		if r == nil || i < e.crew.n || !e.calm(i) {
			continue
		}
		if r.done != nil {
			r.stop.Store(true)
			e.workers[i].Kick()
			<-r.done // within a turn
		}
		e.crew.runs[i] = nil
		if err := e.workers[i].Park(); err != nil {
			e.opt.Log.Error("the memory of a worker's flows", "worker", i, "err", err)
		}
		ended = true
	}
	if c := e.env.Snap.Load().Crew; ended && c.Shared && e.running() == 1 {
		e.publishCrew(&pipeline.Crew{N: c.N, Spread: c.Spread})
	}
}

// worker is the state of worker i.
func (e *Local) worker(i int, s *worker.Stats) Worker {
	x := Worker{ID: i, CPU: e.crew.cpu(i), RunsOn: -1, Packets: s.Packets, Bursts: s.Bursts, Turns: s.Turns, Idles: s.Idles, Busy: s.Busy, Load: s.Load,
		Flows: s.FlowUsed, Given: s.Given, Taken: s.Taken, Sent: s.Sent}
	if id := e.workers[i].Thread(); id != 0 {
		x.RunsOn = runsOn(id)
	}
	snap := e.env.Snap.Load()
	snap.Ifaces.All(func(f *pipeline.Iface) {
		if f.Port == nil {
			return
		}
		for q := i; q < f.Receive; q += e.crew.n {
			x.Queues = append(x.Queues, WorkerQueue{f.Name, q, snap.Crew.Spreads(f)})
		}
	})
	return x
}

// runsOn is the processor that a thread of this process was last on, -1 when
// nobody knows (proc_pid_stat(5), field 39).
func runsOn(thread int) int {
	b, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(thread) + "/stat")
	if err != nil {
		return -1
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // from field 3 on
	if len(f) < 37 {
		return -1
	}
	if n, err := strconv.Atoi(string(f[36])); err == nil {
		return n
	}
	return -1
}
