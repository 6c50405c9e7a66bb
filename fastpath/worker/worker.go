// Package worker is the poll loop: a packet's whole life, told in loop.go.
//
//	loop.go      a turn: receive, parse, look up, forward, the rest, send
//	forward.go   the transform of cached flows, one loop for each family
//	tally.go     counters of flows
//	slow.go      what the transform did not do: other kinds, misses, the odd
//	walk.go      the walk of packets that missed the cache, and its result
//	odd.go       packets that the quick parse did not accept
//	loopback.go  packets that go round: decrypted, or made by the vRouter
//	ports.go     which ports are polled
//	crew.go      beginning and ending while others work
//	handoff.go   spreading what was received, and what other workers hand over
//	idle.go      sleeping, and being woken
package worker

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// Config of a worker.
type Config struct {
	ID    int
	Order *pipeline.Order
	// Flows is the size of the flow caches by family; 0: no cache, every packet
	// walks.
	Flows [2]int
	// Notify tells the control side that there are messages. It must not block.
	Notify func()
}

// Worker is one poll loop. Turn, Run and Close belong to one goroutine; Kick
// and Stats may be called by any.
type Worker struct {
	id     int
	ctx    *pipeline.Ctx
	env    *pipeline.Env
	order  *pipeline.Order
	notify func()
	grace  *mem.Worker

	flows  [2]*flow.Table
	seed   burst.Seed
	tick   uint16
	ifaces *pipeline.Ifaces // as adopted
	crew   *pipeline.Crew   // the same

	vec   mem.Table[pipeline.Vec]
	rx    *pipeline.Vec // what was received
	six   *pipeline.Vec // the IPv6 part of a mixed burst
	loop  *pipeline.Vec // packets that go round
	class burst.Classes
	round loopBatch

	slow  [pipeline.Burst]uint16 // not done by the transform
	nslow int
	// Of the burst that forward4 and forward6 have before them: its origin (see
	// list), and how many packets they put on lists.
	from   pipeline.Origin
	clamps bool // something clamps the segment sizes of TCP
	far    bool // there are so many flows that their lines are asked for
	listed int
	walks  [pipeline.Burst]uint16 // misses
	kinds  [action.Kinds]kindList

	ports   []rxQueue
	touched [pipeline.MaxIfaces / 64]uint64 // interfaces whose ports adopt is about
	cold    int
	epoll   int
	wake    int // eventfd
	bell    sal.Bell
	waking  int // ports that wake a sleeping worker: in epoll, or by the bell
	events  []unix.EpollEvent
	asleep  atomic.Bool
	tid     atomic.Int32

	peers []peer
	hand  handing

	sizes   [2]int      // of the flow caches, when there are
	met     bool        // the last turn met work
	leaving bool        // it says when it has nothing inside
	calmed  atomic.Bool // see calm
	since   weighed

	tally    tally
	stats    *counts
	counters unsafe.Pointer // of the context, by handle
	quiet    int64          // since when there is nothing to do, 0: there is
}

type kindList struct {
	n    int
	list [pipeline.Burst]uint16
}

// counts are what a worker counts about itself: mapped, one writer.
type counts struct {
	packets, bursts, turns, idles, hits, misses, inserted, used uint64
	busy, load, given, taken, moved                             uint64
}

// Stats are a worker's counters.
type Stats struct {
	Packets, Bursts, Turns, Idles  uint64
	Hits, Misses, Inserted         uint64
	FlowSize, FlowUsed             int
	FromControl, ToControl, Looped int
	// Busy is the time of turns that met work, in nanoseconds; Load the percentage
	// of it in the second or so before the last.
	Busy uint64
	Load int
	// Given are packets handed to other workers to work on, Taken those that others
	// have handed over, Sent frames handed over to be sent.
	Given, Taken, Sent uint64
}

// New makes a worker. It takes no port before its first turn.
func New(env *pipeline.Env, cfg Config) (*Worker, error) {
	ctx, err := pipeline.NewCtx(env, cfg.ID)
	if err != nil {
		return nil, err
	}
	w := &Worker{id: cfg.ID, ctx: ctx, env: env, order: cfg.Order, notify: cfg.Notify, seed: burst.NewSeed(), epoll: -1, wake: -1,
		counters: ctx.Counts().Base(), sizes: cfg.Flows, hand: newHanding()}
	if w.vec, err = mem.NewTable[pipeline.Vec](3, mem.Options{}); err != nil {
		return nil, fmt.Errorf("worker %d: %w", cfg.ID, err)
	}
	w.rx, w.six, w.loop = w.vec.At(0), w.vec.At(1), w.vec.At(2)
	w.six.V6 = true
	stats, err := mem.NewTable[counts](1, mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("worker %d: %w", cfg.ID, err)
	}
	w.stats = stats.At(0)
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(w.wake)}
	if err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.wake, &ev); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	w.bell.Init(w.wake)
	ctx.Bell = &w.bell
	w.events = make([]unix.EpollEvent, 64)
	w.grace = env.Grace.Register()
	return w, w.Ready()
}

// Ctx is the worker's context, for the engine's readers of counters.
func (w *Worker) Ctx() *pipeline.Ctx { return w.ctx }

// Stats reads the worker's counters; close to exact while it runs.
func (w *Worker) Stats() Stats {
	s := w.stats
	to, from := w.ctx.Control()
	get := func(p *uint64) uint64 { return atomic.LoadUint64(p) }
	r := Stats{Packets: get(&s.packets), Bursts: get(&s.bursts), Turns: get(&s.turns), Idles: get(&s.idles), Hits: get(&s.hits),
		Misses: get(&s.misses), Inserted: get(&s.inserted), FlowUsed: int(get(&s.used)), FromControl: from.Len(), ToControl: to.Len(),
		Busy: get(&s.busy), Load: int(get(&s.load)), Given: get(&s.given), Taken: get(&s.taken), Sent: w.ctx.HandedTx()}
	for _, t := range w.flows {
		if t != nil {
			r.FlowSize += t.Size()
		}
	}
	return r
}

// Held counts the buffers that the queues of the worker's ports hold, and those
// that go round. Only while the worker rests.
func (w *Worker) Held() (ports, inside int) {
	for i := range w.ports {
		ports += w.ports[i].q.Held()
	}
	return ports, w.ctx.Loop.N + w.ctx.Tx.N + w.ctx.Error.N
}

// Drain ends what the worker still has inside once its goroutine has ended:
// completions of engines for at most a second, packets that go round, messages
// in both directions.
func (w *Worker) Drain(control *pipeline.Control) {
	c := w.ctx
	if c.Cache == nil {
		w.drainRings(control)
		return
	}
	for end := time.Now().Add(time.Second); w.pending() && time.Now().Before(end); {
		for _, p := range w.order.Pollers {
			p.Poll(c)
		}
		time.Sleep(10 * time.Microsecond)
	}
	for i := range c.Loop.N {
		c.Drop(c.Loop.Desc[i], c.Loop.In[i], drop.Shutdown)
	}
	for i := range c.Error.N {
		c.Free(c.Error.Desc[i])
	}
	c.Loop.N, c.Error.N = 0, 0
	c.FlushTx()
	w.drainRings(control)
	c.FlushFree()
	w.ports = nil
	for i := range pipeline.IfIndex(pipeline.MaxIfaces) {
		c.SetPort(i, nil)
	}
}

func (w *Worker) drainRings(control *pipeline.Control) {
	to, from := w.ctx.Control()
	for _, r := range []pipeline.CtlRing{to, from} {
		for m, ok := r.Get(); ok; m, ok = r.Get() {
			if m.Desc != pipeline.NoBuf {
				control.Drop(m.Desc, m.In, drop.Shutdown)
			}
		}
	}
}

// Close gives up everything the worker has; its goroutine must have ended and
// its ports be closed.
func (w *Worker) Close() error {
	w.grace.Unregister()
	unix.Close(w.epoll)
	unix.Close(w.wake)
	if err := w.Park(); err != nil {
		return err
	}
	if err := w.vec.Unmap(); err != nil {
		return err
	}
	return w.ctx.Close()
}
