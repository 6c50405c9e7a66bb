package ipsec

import (
	"fmt"

	"vrouter/fastpath/cryptoq"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// Grow makes what IPsec keeps for each worker, up to n of them, with a queue
// into each engine. An engine that has too few is the error. Workers that are
// there already may be running.
func (f *Feature) Grow(n int) error {
	for f.made < n {
		w := &worker{f: f, ident: burst.NewSeed()[0]}
		var err error
		if w.paths, err = mem.NewTable[path16](f.sad.rec.Len(), mem.Options{}); err != nil {
			return err
		}
		if w.purses, err = newPurses(); err != nil {
			_ = w.paths.Unmap()
			return err
		}
		for _, e := range f.engines {
			l, err := e.lane(f, f.made, w)
			if err != nil {
				for _, l := range w.lanes {
					_ = l.raw.Close()
				}
				_, _ = w.paths.Unmap(), w.purses.Unmap()
				return fmt.Errorf("crypto engine %s: %w", e.name, err)
			}
			w.lanes = append(w.lanes, l)
		}
		f.workers[f.made] = w
		f.made++
	}
	return nil
}

// lane opens worker i's queue into the engine.
func (e *engine) lane(f *Feature, i int, w *worker) (*lane, error) {
	if i >= e.caps.Queues {
		return nil, fmt.Errorf("it has %d queues, one for each worker", e.caps.Queues)
	}
	q, err := e.session.Queue(i, f.env.Pool)
	if err != nil {
		return nil, fmt.Errorf("queue %d: %w", i, err)
	}
	l := &lane{w: w, raw: q, sync: e.caps.Sync}
	l.q = cryptoq.New(q, e.caps.Sync, l)
	return l, nil
}

// worker is that of a context, told whether it is alone.
func (f *Feature) worker(c *pipeline.Ctx) *worker {
	w := f.workers[c.Worker]
	w.shared = c.Shared
	return w
}
