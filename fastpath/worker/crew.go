package worker

import (
	"fmt"

	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
)

// Workers come and go while others work. The control side makes one (New),
// starts it (Run), and publishes a Crew; of a Crew in which nobody receives each
// worker says when it has nothing inside any more, so that queues, flows and SAs
// can change hands without two packets of a flow overtaking each other.

// Ready makes what Park has given back. The worker must not be running.
func (w *Worker) Ready() error {
	for f, n := range w.sizes {
		if n == 0 || w.flows[f] != nil {
			continue
		}
		var err error
		if w.flows[f], err = flow.New(f == pipeline.V6, n); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
	if w.ctx.Cache == nil {
		w.ctx.Cache = w.ctx.Pool.NewCache()
	}
	return nil
}

// Park gives back free buffers and flows of a worker whose goroutine has ended.
// What it counted stays.
func (w *Worker) Park() error {
	if w.ctx.Cache != nil {
		w.ctx.FlushFree()
		w.ctx.Cache.Close()
		w.ctx.Cache = nil
	}
	w.stats.load, w.stats.used = 0, 0
	for f, t := range w.flows {
		w.flows[f] = nil
		if t != nil {
			if err := t.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// muster takes over a new crew: every queue may have another worker.
func (w *Worker) muster(s *pipeline.Snapshot) {
	w.ifaces.All(func(f *pipeline.Iface) {
		w.ctx.SetPort(f.Index, nil)
		w.touched[f.Index/64] |= 1 << (f.Index % 64)
	})
	w.leave()
	k := s.Crew
	w.crew, w.ctx.Shared = k, k.Shared
	w.peers = w.peers[:0]
	for i := range k.Made {
		if i != w.id {
			w.peers = append(w.peers, peer{from: w.env.Mesh.At(i, w.id), to: w.env.Mesh.At(w.id, i), id: i})
		}
	}
	w.ifaces = nil
	w.adopt(s.Ifaces)
	w.leaving = k.Paused || w.id >= k.N
	w.calmed.Store(false)
}

// stale tells whether something was published that the worker has not taken over.
func (w *Worker) stale() bool {
	s := w.env.Snap.Load()
	return s.Ifaces != w.ifaces || s.Crew != w.crew
}

// calm notes whether a turn has met anything, while the control side waits for
// the workers to have nothing inside. Both are said when the turn ends: during
// one they are those of the turn before.
func (w *Worker) calm(work int) {
	c := w.ctx
	if work > 0 {
		pipeline.Add(&w.stats.moved, 1)
	}
	w.calmed.Store(work == 0 && c.Loop.N == 0 && c.Error.N == 0 && c.Tx.N == 0 && !w.pending())
}

// Calm tells whether the worker, receiving from no port, had nothing inside when
// its last turn ended, and how many such turns met something. What it says is
// true of now only if no turn has begun since. Any goroutine.
func (w *Worker) Calm() (calm bool, moved uint64) {
	calm = w.calmed.Load()
	return calm, load(&w.stats.moved)
}

// Thread is the thread that the worker runs on, 0 when it does not.
func (w *Worker) Thread() int { return int(w.tid.Load()) }

// weighed is where weigh was last.
type weighed struct {
	at   int64
	busy uint64
}

// weigh says about once a second how busy the worker was.
func (w *Worker) weigh() {
	now, busy := w.ctx.Now, w.stats.busy
	if d := now - w.since.at; d > 0 && w.since.at > 0 {
		store(&w.stats.load, min(100, (busy-w.since.busy)*100/uint64(d)))
	}
	w.since = weighed{now, busy}
}
