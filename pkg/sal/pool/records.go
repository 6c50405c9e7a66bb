package pool

import (
	"fmt"
	"slices"
	"sync/atomic"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// Handles find the inner engine's through a table of two levels.
const (
	leafSAs   = 4096
	maxLeaves = 256
	maxHandle = leafSAs*maxLeaves - 1
)

// leaf is a part of the table: the inner engine's handle, 0 where there is no SA, with
// protocol beside it for an SA in sal.ModeProtocol, and what is kept of such a one.
type leaf struct {
	inner [leafSAs]atomic.Uint32
	keep  [leafSAs]atomic.Pointer[keeper]
}

const protocol = 1 << 31

// records are the SAs of a session, over a session of the inner engine: it has all of
// them in its group 0.
type records struct {
	e     *Engine
	s     *session.Session
	inner sal.Session
	table [maxLeaves]atomic.Pointer[leaf]
	of    map[sal.SA]sal.SA // the inner engine's handles, also of SAs that are stopped
}

// newRecords opens the inner engine for a session.
func (e *Engine) newRecords(s *session.Session) (session.Records, error) {
	in, err := e.inner.Open(e.Name, false)
	if err != nil {
		return nil, err
	}
	go e.watch(in)
	return &records{e: e, s: s, inner: in, of: map[sal.SA]sal.SA{}}, nil
}

// watch ends the engine when the inner one is lost: the threads can do nothing
// without it.
func (e *Engine) watch(in sal.Session) {
	for ev := range in.Events() {
		if ev.Kind == sal.EventGone {
			_ = e.Close()
		}
	}
}

// Check holds a config against Caps; the rest is for the inner engine to say.
func (r *records) Check(c *sal.SAConfig) error {
	if c.Mode != sal.ModeCrypto && c.Mode != sal.ModeProtocol {
		return fmt.Errorf("mode %d: %w", c.Mode, sal.ErrNotSupported)
	}
	return nil
}

// Room makes the leaf of a handle.
func (r *records) Room(h sal.SA) error {
	if l := &r.table[h/leafSAs]; l.Load() == nil {
		l.Store(new(leaf))
	}
	return nil
}

// Install gives the SA to the inner engine. In sal.ModeProtocol that has it in
// sal.ModeCrypto, and the rest is kept here.
func (r *records) Install(h sal.SA, cfg *sal.SAConfig) error {
	var keep *keeper
	c, way := *cfg, uint32(0)
	if c.Mode == sal.ModeProtocol {
		var err error
		if keep, err = newKeeper(cfg); err != nil {
			return err
		}
		c.Mode, way = sal.ModeCrypto, protocol
	}
	in, err := r.inner.AddSA(0, &c)
	if err != nil {
		return err
	}
	r.of[h] = in
	l, at := r.slot(h)
	l.keep[at].Store(keep)
	l.inner[at].Store(uint32(in) | way)
	return nil
}

// Stop takes the SA out of the table, and waits for the threads that may have read it.
func (r *records) Stop(h sal.SA) {
	l, at := r.slot(h)
	l.inner[at].Store(0)
	l.keep[at].Store(nil)
	r.e.pass()
	_ = r.inner.DelSA(r.of[h]) // it is there, or the engine is lost
	delete(r.of, h)
}

// Wipe has nothing to do: the inner engine has been told.
func (r *records) Wipe(sal.SA) {}

// Stats reads an SA's counters.
func (r *records) Stats(h sal.SA) sal.SAStats {
	if k := r.keeperOf(h); k != nil {
		k.hold()
		defer k.release()
		return k.done
	}
	st, _ := r.inner.Stats(r.of[h]) // it is there, or the engine is lost
	return st
}

// Modify changes an SA in sal.ModeProtocol.
func (r *records) Modify(h sal.SA, m *sal.SAMod) error {
	k := r.keeperOf(h)
	if k == nil {
		return session.InCrypto(h)
	}
	k.hold()
	defer k.release()
	if m.State != nil {
		if !k.held {
			return fmt.Errorf("SA %d is not held, and so its state is its own: %w", h, sal.ErrInvalid)
		}
		if err := k.set(m.State); err != nil {
			return err
		}
		k.held = false
	}
	if m.SeqLimit != nil && !k.inbound {
		k.allow(*m.SeqLimit)
	}
	return nil
}

// Keep reads what is kept of an SA in sal.ModeProtocol.
func (r *records) Keep(h sal.SA, hold bool) (sal.SAState, error) {
	k := r.keeperOf(h)
	if k == nil {
		return sal.SAState{}, session.InCrypto(h)
	}
	k.hold()
	defer k.release()
	k.held = k.held || hold
	return k.state(), nil
}

// slot is a handle's place in the table; h must have been given out once.
func (r *records) slot(h sal.SA) (l *leaf, at int) {
	return r.table[h/leafSAs].Load(), int(h % leafSAs)
}

// innerOf is the inner engine's handle; 0, which is none, for an SA that is not
// there, or not in sal.ModeProtocol as it should be, or in it as it should not be: of
// such a one nobody else may seal with the key, nor open what no window has seen.
func (r *records) innerOf(h sal.SA, kept bool) sal.SA {
	if h/leafSAs >= maxLeaves {
		return 0
	}
	l := r.table[h/leafSAs].Load()
	if l == nil {
		return 0
	}
	x := l.inner[h%leafSAs].Load()
	if x&protocol != 0 != kept {
		return 0
	}
	return sal.SA(x &^ protocol)
}

// keeperOf is what is kept of an SA in sal.ModeProtocol, nil for any other.
func (r *records) keeperOf(h sal.SA) *keeper {
	if h/leafSAs >= maxLeaves {
		return nil
	}
	l := r.table[h/leafSAs].Load()
	if l == nil {
		return nil
	}
	return l.keep[h%leafSAs].Load()
}

// Queue opens queue i over the buffers of pool, with one of the inner engine for every
// thread.
func (r *records) Queue(i int, pool *sal.Pool) (session.Queue, error) {
	q := &queue{r: r, i: i, pool: pool}
	q.Init(r.s)
	for k := range r.e.threads {
		in, err := r.inner.Queue(i*len(r.e.threads)+k, pool)
		if err != nil {
			q.closeInner()
			return nil, fmt.Errorf("crypto thread %d: %w", k, err)
		}
		q.inner = append(q.inner, in)
	}
	if err := r.e.enlist(q); err != nil {
		q.closeInner()
		return nil, err
	}
	return q, nil
}

// Close closes the inner session, which wipes all keys.
func (r *records) Close() { _ = r.inner.Close() }

// enlist has the threads look at one more queue, and starts them at the first.
func (e *Engine) enlist(q *queue) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop.Load() {
		return fmt.Errorf("engine %s: %w", e.Name, sal.ErrGone)
	}
	l := append(slices.Clone(*e.queues.Load()), q)
	e.queues.Store(&l)
	if !e.running {
		e.running = true
		for _, t := range e.threads {
			e.wg.Go(t.run)
		}
	}
	return nil
}
