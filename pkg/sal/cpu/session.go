package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vrouter/pkg/sal"
)

// session is one application's use of the engine. Control methods lock mu;
// queues never do.
type session struct {
	e   *Engine
	app string

	chunks [maxChunks]atomic.Pointer[chunk] // SA i is record i%chunkSAs of chunk i/chunkSAs
	gone   atomic.Bool

	mu     sync.Mutex
	closed bool
	queues []*queue // by number, nil where none is open
	groups map[sal.Group]*group
	names  map[string]sal.Group
	nextG  sal.Group
	sas    map[sal.SA]*sa
	next   sal.SA   // never given out
	reuse  []sal.SA // given back, oldest first
	limbo  []parted // deleted, waiting for the queues
	timer  *time.Timer
	events chan sal.Event
}

type group struct {
	name string
	sas  []sal.SA // in handle order
}

type sa struct{ sal.SAInfo }

// parted is a deleted SA that queues may still be working on, or whose
// completions nobody has polled yet.
type parted struct {
	sa    sal.SA
	until []*mark
}

// mark is the point that a queue must have passed.
type mark struct {
	q      *queue
	turn   uint64 // odd: it was inside a call
	submit uint64 // jobs submitted
}

func newSession(e *Engine, app string) *session {
	return &session{
		e: e, app: app, next: 1, nextG: 1,
		queues: make([]*queue, maxQueues),
		groups: map[sal.Group]*group{0: {}},
		names:  map[string]sal.Group{"": 0},
		sas:    map[sal.SA]*sa{},
		events: make(chan sal.Event, 64),
	}
}

// check is why a control call cannot be served; s.mu is held.
func (s *session) check() error {
	if s.closed || s.gone.Load() {
		return fmt.Errorf("engine %s: %w", s.e.name, sal.ErrGone)
	}
	return nil
}

func (s *session) group(g sal.Group) (*group, error) {
	if x := s.groups[g]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("group %d: %w", g, sal.ErrNotFound)
}

// NewGroup makes a group; names are unique in the session.
func (s *session) NewGroup(name string) (sal.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	if _, twice := s.names[name]; twice {
		return 0, fmt.Errorf("group %q: %w", name, sal.ErrExists)
	}
	g := s.nextG
	s.nextG++
	s.groups[g] = &group{name: name}
	s.names[name] = g
	return g, nil
}

// DeleteGroup flushes a group and removes it. Group 0 stays.
func (s *session) DeleteGroup(g sal.Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	x, err := s.group(g)
	if err != nil {
		return err
	}
	if g == 0 {
		return fmt.Errorf("group 0 cannot be deleted: %w", sal.ErrInvalid)
	}
	s.flush(x)
	delete(s.groups, g)
	delete(s.names, x.name)
	return nil
}

// AddSA installs an SA.
func (s *session) AddSA(g sal.Group, cfg *sal.SAConfig) (sal.SA, error) {
	if err := supported(cfg); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	x, err := s.group(g)
	if err != nil {
		return 0, err
	}
	s.reclaim()
	h, err := s.handle()
	if err != nil {
		return 0, err
	}
	if err := s.chunks[h/chunkSAs].Load().install(int(h%chunkSAs), cfg, s.e.vector); err != nil {
		s.reuse = append(s.reuse, h)
		return 0, err
	}
	s.sas[h] = &sa{sal.SAInfo{
		SA: h, Group: g, SPI: cfg.SPI, Direction: cfg.Direction, Mode: cfg.Mode, Algorithm: cfg.Algorithm,
		Integrity: cfg.Integrity, KeyBits: cfg.KeyBits(), ESN: cfg.ESN,
	}}
	at, _ := slices.BinarySearch(x.sas, h)
	x.sas = slices.Insert(x.sas, at, h)
	return h, nil
}

// supported holds a config against Caps.
func supported(c *sal.SAConfig) error {
	switch {
	case c.Mode != sal.ModeCrypto:
		return fmt.Errorf("mode %d: %w", c.Mode, sal.ErrNotSupported)
	case c.Direction != sal.Inbound && c.Direction != sal.Outbound:
		return fmt.Errorf("direction %d: %w", c.Direction, sal.ErrInvalid)
	case c.SPI == 0:
		// RFC 4303 section 2.1: 0 never goes over the wire.
		return fmt.Errorf("SPI 0: %w", sal.ErrInvalid)
	}
	_, err := c.Layout()
	return err
}

// handle takes a free record: used ones first, so that the memory stays dense.
func (s *session) handle() (sal.SA, error) {
	if len(s.reuse) > 0 {
		h := s.reuse[0]
		s.reuse = s.reuse[1:]
		return h, nil
	}
	h := s.next
	if h > maxSAs {
		return 0, fmt.Errorf("%d SAs: %w", maxSAs, sal.ErrFull)
	}
	if k := h / chunkSAs; s.chunks[k].Load() == nil {
		c, err := newChunk()
		if err != nil {
			return 0, fmt.Errorf("memory for SAs: %v: %w", err, sal.ErrFull)
		}
		s.chunks[k].Store(c)
	}
	s.next++
	return h, nil
}

// ModSA has nothing to change in ModeCrypto: addresses, sequence number and
// window are the caller's.
func (s *session) ModSA(h sal.SA, m *sal.SAMod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if s.sas[h] == nil {
		return fmt.Errorf("SA %d: %w", h, sal.ErrNotFound)
	}
	if m.Local != nil || m.Remote != nil || m.Seq != nil || m.Window != nil {
		return fmt.Errorf("changing an SA in mode crypto: %w", sal.ErrNotSupported)
	}
	return nil
}

// DelSA removes an SA: no job that begins after it returns uses the key. The
// record is wiped once no queue can be inside a job of it, the handle is free
// once the completions are polled as well.
func (s *session) DelSA(h sal.SA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	x := s.sas[h]
	if x == nil {
		return fmt.Errorf("SA %d: %w", h, sal.ErrNotFound)
	}
	l := &s.groups[x.Group].sas
	if i, ok := slices.BinarySearch(*l, h); ok {
		*l = slices.Delete(*l, i, i+1)
	}
	s.part(h)
	s.reclaim()
	return nil
}

// Flush removes all SAs of a group.
func (s *session) Flush(g sal.Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	x, err := s.group(g)
	if err != nil {
		return err
	}
	s.flush(x)
	return nil
}

func (s *session) flush(x *group) {
	for _, h := range x.sas {
		s.part(h)
	}
	x.sas = nil
	s.reclaim()
}

// part makes an SA unusable and notes what the queues are doing now. The store
// of the state comes before the loads of the turns, and a queue stores its
// turn before it loads the state: so either the queue sees the SA deleted, or
// this sees the queue inside a call.
func (s *session) part(h sal.SA) {
	s.record(h).state.Store(deleted)
	delete(s.sas, h)
	p := parted{sa: h}
	for _, q := range s.queues {
		if q != nil {
			p.until = append(p.until, &mark{q, q.turn.Load(), q.submitted.Load()})
		}
	}
	s.limbo = append(s.limbo, p)
}

// reclaim wipes records and frees handles that nobody uses any more; what
// remains is looked at again in a moment.
func (s *session) reclaim() {
	rest := s.limbo[:0]
	for _, p := range s.limbo {
		p.until = slices.DeleteFunc(p.until, (*mark).passed)
		if len(p.until) > 0 {
			rest = append(rest, p)
			continue
		}
		s.chunks[p.sa/chunkSAs].Load().wipe(int(p.sa % chunkSAs))
		s.reuse = append(s.reuse, p.sa)
	}
	clear(s.limbo[len(rest):])
	s.limbo = rest
	if len(rest) > 0 && !s.closed {
		if s.timer == nil {
			s.timer = time.AfterFunc(reclaimEvery, s.again)
		} else {
			s.timer.Reset(reclaimEvery)
		}
	}
}

// reclaimEvery is short beside the life of an SA and long beside a burst.
const reclaimEvery = 2 * time.Millisecond

func (s *session) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.reclaim()
	}
}

// passed tells whether the queue has left the call it was in and given back
// the jobs it held.
func (m *mark) passed() bool {
	if m.turn&1 == 1 {
		if m.q.turn.Load() == m.turn {
			return false
		}
		m.turn, m.submit = 0, m.q.submitted.Load() // with what the call submitted
	}
	return m.q.closed.Load() || m.q.polled.Load() >= m.submit
}

// SAs lists SAs of a group by handle.
func (s *session) SAs(g sal.Group, after sal.SA, max int) ([]sal.SAInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	x, err := s.group(g)
	if err != nil {
		return nil, err
	}
	i, _ := slices.BinarySearch(x.sas, after+1)
	var l []sal.SAInfo
	for _, h := range x.sas[i:] {
		if len(l) >= max {
			break
		}
		l = append(l, s.sas[h].SAInfo)
	}
	return l, nil
}

// Stats reads an SA's counters. While a queue runs they may be one packet
// apart from one another.
func (s *session) Stats(h sal.SA) (sal.SAStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return sal.SAStats{}, err
	}
	if s.sas[h] == nil {
		return sal.SAStats{}, fmt.Errorf("SA %d: %w", h, sal.ErrNotFound)
	}
	return s.record(h).stats(), nil
}

// record is the SA's; h must have been given out once.
func (s *session) record(h sal.SA) *record {
	return &s.chunks[h/chunkSAs].Load().recs[h%chunkSAs]
}

// Events delivers EventGone, the one thing this engine reports.
func (s *session) Events() <-chan sal.Event { return s.events }

// lose is the end of the engine; e.mu is held, so s.mu must not be.
func (s *session) lose() {
	s.gone.Store(true)
	select {
	case s.events <- sal.Event{Kind: sal.EventGone}:
	default:
	}
}

// Close wipes all SAs and gives their memory back. A queue that is in use
// finishes its call first and fails every further job.
func (s *session) Close() error {
	s.e.leave(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.gone.Store(true)
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, q := range s.queues {
		if q != nil {
			q.closed.Store(true)
			for t := q.turn.Load(); t&1 == 1 && q.turn.Load() == t; { // at most a burst
				runtime.Gosched()
			}
			q.forget()
		}
	}
	for k := range s.chunks {
		if c := s.chunks[k].Swap(nil); c != nil {
			_ = c.region.Unmap() // wipes; memory that cannot be unmapped is no one's loss
		}
	}
	s.sas, s.groups, s.limbo, s.reuse = nil, nil, nil, nil
	close(s.events)
	return nil
}
