package fastpath

import (
	"context"
	"fmt"
	"time"

	"vrouter/fastpath/pipeline"
)

// The control side of the fast path: one goroutine that takes what workers hand
// over (ARP, neighbour discovery, packets whose next hop is unknown), runs the
// timers of neighbours, looks at links and frees what was retired. It shares
// the engine's lock with commits and queries.

const (
	// slowEvery is how often links are looked at.
	slowEvery = 100 * time.Millisecond
	// perStep bounds how many messages are taken with the lock held.
	perStep = 256
)

// control runs until the engine is closed.
func (e *Local) control() {
	timer := time.NewTimer(slowEvery)
	defer timer.Stop()
	for {
		select {
		case <-e.quit:
			return
		case <-e.notify:
		case <-timer.C:
		}
		next := e.step()
		timer.Reset(next)
	}
}

// message hands what a worker has put to the feature that it is for.
func (e *Local) message(worker int, m pipeline.CtlMsg, now int64) {
	switch m.Op {
	case pipeline.CtlLife, pipeline.CtlSPI, pipeline.CtlPathMTU, pipeline.CtlPeer:
		e.f.ipsec.Message(m, e.f.iface.Name(m.In))
	default:
		e.f.neigh.Handle(worker, m, now)
	}
}

// Operate implements Engine.
func (e *Local) Operate(ctx context.Context, o *Operation) error {
	select {
	case e.slot <- struct{}{}: // what is prepared counts on where SAs are
	case <-ctx.Done():
		return fmt.Errorf("a change is being prepared: %w", ctx.Err())
	case <-e.quit:
		return ErrClosed
	}
	defer func() { <-e.slot }()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	defer e.wake() // there may be something to wait for
	switch o.What {
	case DrainEngine:
		return e.f.ipsec.Drain(o.Engine)
	case UndrainEngine:
		return e.f.ipsec.Undrain(o.Engine)
	case MigrateSA:
		return e.f.ipsec.Migrate(o.SA, o.Engine)
	}
	return fmt.Errorf("operation %d does not exist", o.What)
}

// Step does what is to be done on the control side now (Options.Manual).
func (e *Local) Step() { e.step() }

// step does what is to be done now and says how long nothing will be, unless
// somebody wakes it.
func (e *Local) step() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return slowEvery
	}
	now := e.opt.Now()
	for i, w := range e.workers {
		to, _ := w.Ctx().Control()
		for n := 0; ; n++ {
			m, ok := to.Get()
			if !ok {
				break
			}
			e.message(i, m, now)
			if n == perStep {
				e.wake() // the others, the timers, and then again
				break
			}
		}
	}
	e.f.neigh.Tick(now)
	if now >= e.slow {
		e.slow = now + int64(slowEvery)
		e.replace(e.f.iface.Tick(now, e.f.neigh.LinkUp))
		e.f.reass.Tick(now)
		e.f.ipsec.Tick()
		e.env.Grace.Poll()
		e.reap()
	}
	wait := e.slow - now
	wait = min(wait, e.f.ipsec.Timers())
	if n := e.f.neigh.Next(); n != 0 {
		wait = min(wait, n-now)
	}
	return max(time.Duration(wait), 0)
}
