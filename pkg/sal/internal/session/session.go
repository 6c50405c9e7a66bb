// Package session is what engines on this machine have in common: applications
// that have one open, alone or with others; groups; handles of SAs; and the
// waiting until nobody can be using the record of an SA that was deleted. An
// engine adds its records (Records) and its queues.
//
//	host.go     an engine and who has it open
//	session.go  one application's groups and SAs
//	lane.go     what is known of a queue, and queues that work within the call
package session

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vrouter/pkg/sal"
)

// Records keeps the SAs of one session, by handle. A Session calls one method at
// a time; jobs look at records meanwhile.
type Records interface {
	// Check holds a config against what the engine can do.
	Check(*sal.SAConfig) error
	// Room makes memory for the record of a handle that was never given out; they
	// come in order, from 1. It fails with sal.ErrFull.
	Room(sal.SA) error
	// Install makes a record of the config, whose keys it copies, and lets jobs use
	// it. When it fails, nothing is left of the keys.
	Install(sal.SA, *sal.SAConfig) error
	// Stop makes a record unusable: no job that begins after it returns uses the
	// key. Jobs must look at this after Lane.Enter, both by atomic operations.
	Stop(sal.SA)
	// Wipe forgets what is in a record that was stopped, and that no job uses.
	Wipe(sal.SA)
	// Stats reads the counters of a record.
	Stats(sal.SA) sal.SAStats
	// Queue makes queue i over the buffers of pool. It is used until its Forget is
	// called.
	Queue(i int, pool *sal.Pool) (Queue, error)
	// Close wipes all records and gives their memory back; no job is under way.
	Close()
}

// Keeper is Records of an engine that has sal.ModeProtocol as well. The handles are
// those of SAs that are there; of one in sal.ModeCrypto Keep is InCrypto.
type Keeper interface {
	Records
	// Modify is sal.Session.ModSA.
	Modify(sal.SA, *sal.SAMod) error
	// Keep is sal.Session.State, or with hold sal.Session.Hold.
	Keep(h sal.SA, hold bool) (sal.SAState, error)
}

// Queue is a queue as its session sees it.
type Queue interface {
	sal.Queue
	// State is the queue's own Lane.
	State() *Lane
	// Forget gives back what the queue has, when no call can be in it. It may be
	// called more than once.
	Forget()
}

// Session is one application's use of an engine: sal.Session. Control methods
// lock mu; queues never do.
type Session struct {
	h    *Host
	app  string
	recs Records
	gone atomic.Bool

	mu     sync.Mutex
	closed bool
	queues []Queue // by number, nil where none was opened
	groups map[sal.Group]*group
	names  map[string]sal.Group
	nextG  sal.Group
	sas    map[sal.SA]*sal.SAInfo
	next   sal.SA   // never given out
	reuse  []sal.SA // given back, oldest first
	limbo  []parted // deleted, waiting for the queues
	timer  *time.Timer

	told   sync.Mutex // of events, which may be closed
	deaf   bool
	events chan sal.Event
}

type group struct {
	name string
	sas  []sal.SA // in handle order
}

// parted is a deleted SA that queues may still be working on, or whose
// completions nobody has polled yet.
type parted struct {
	sa    sal.SA
	until []*mark
}

// mark is the point that a queue must have passed.
type mark struct {
	l      *Lane
	turn   uint64 // odd: it was inside a call
	submit uint64 // jobs submitted
}

func newSession(h *Host, app string) *Session {
	return &Session{
		h: h, app: app, next: 1, nextG: 1,
		queues: make([]Queue, h.Queues),
		groups: map[sal.Group]*group{0: {}},
		names:  map[string]sal.Group{"": 0},
		sas:    map[sal.SA]*sal.SAInfo{},
		events: make(chan sal.Event, 64),
	}
}

// Gone tells whether the engine is lost or the session closed.
func (s *Session) Gone() bool { return s.gone.Load() }

// check is why a control call cannot be served; s.mu is held.
func (s *Session) check() error {
	if s.closed || s.gone.Load() {
		return fmt.Errorf("engine %s: %w", s.h.Name, sal.ErrGone)
	}
	return nil
}

func (s *Session) group(g sal.Group) (*group, error) {
	if x := s.groups[g]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("group %d: %w", g, sal.ErrNotFound)
}

// NewGroup makes a group; names are unique in the session.
func (s *Session) NewGroup(name string) (sal.Group, error) {
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
func (s *Session) DeleteGroup(g sal.Group) error {
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
func (s *Session) AddSA(g sal.Group, cfg *sal.SAConfig) (sal.SA, error) {
	if err := s.recs.Check(cfg); err != nil {
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
	if err := s.recs.Install(h, cfg); err != nil {
		s.reuse = append(s.reuse, h)
		return 0, err
	}
	s.sas[h] = &sal.SAInfo{
		SA: h, Group: g, SPI: cfg.SPI, Direction: cfg.Direction, Mode: cfg.Mode, Algorithm: cfg.Algorithm,
		Integrity: cfg.Integrity, KeyBits: cfg.KeyBits(), ESN: cfg.ESN,
	}
	at, _ := slices.BinarySearch(x.sas, h)
	x.sas = slices.Insert(x.sas, at, h)
	return h, nil
}

// CheckCrypto is Records.Check of engines that have sal.ModeCrypto and all
// algorithms.
func CheckCrypto(c *sal.SAConfig) error {
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
func (s *Session) handle() (sal.SA, error) {
	if len(s.reuse) > 0 {
		h := s.reuse[0]
		s.reuse = s.reuse[1:]
		return h, nil
	}
	if int(s.next) > s.h.MaxSAs {
		return 0, fmt.Errorf("%d SAs: %w", s.h.MaxSAs, sal.ErrFull)
	}
	if err := s.recs.Room(s.next); err != nil {
		return 0, err
	}
	s.next++
	return s.next - 1, nil
}

// ModSA has nothing to change in sal.ModeCrypto: sequence number and window are the
// caller's.
func (s *Session) ModSA(h sal.SA, m *sal.SAMod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.find(h); err != nil || *m == (sal.SAMod{}) {
		return err
	}
	if k, ok := s.recs.(Keeper); ok {
		return k.Modify(h, m)
	}
	return InCrypto(h)
}

// State reads what packets have changed of an SA in sal.ModeProtocol.
func (s *Session) State(h sal.SA) (sal.SAState, error) { return s.keep(h, false) }

// Hold is State, and the SA's end for now.
func (s *Session) Hold(h sal.SA) (sal.SAState, error) { return s.keep(h, true) }

func (s *Session) keep(h sal.SA, hold bool) (sal.SAState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.find(h); err != nil {
		return sal.SAState{}, err
	}
	if k, ok := s.recs.(Keeper); ok {
		return k.Keep(h, hold)
	}
	return sal.SAState{}, InCrypto(h)
}

// find is why a control call about an SA cannot be served; s.mu is held.
func (s *Session) find(h sal.SA) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.sas[h] == nil {
		return fmt.Errorf("SA %d: %w", h, sal.ErrNotFound)
	}
	return nil
}

// InCrypto is why what packets change of an SA is not for the engine to say.
func InCrypto(h sal.SA) error {
	return fmt.Errorf("SA %d is in mode crypto, where the caller keeps its state: %w", h, sal.ErrNotSupported)
}

// DelSA removes an SA: no job that begins after it returns uses the key. The
// record is wiped once no queue can be inside a job of it, the handle is free
// once the completions are polled as well.
func (s *Session) DelSA(h sal.SA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.find(h); err != nil {
		return err
	}
	x := s.sas[h]
	l := &s.groups[x.Group].sas
	if i, ok := slices.BinarySearch(*l, h); ok {
		*l = slices.Delete(*l, i, i+1)
	}
	s.part(h)
	s.reclaim()
	return nil
}

// Flush removes all SAs of a group.
func (s *Session) Flush(g sal.Group) error {
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

func (s *Session) flush(x *group) {
	for _, h := range x.sas {
		s.part(h)
	}
	x.sas = nil
	s.reclaim()
}

// part makes an SA unusable and notes what the queues are doing now. Stop comes
// before the loads of the turns, and a queue stores its turn before it looks at
// a record: so either the queue sees the SA stopped, or this sees the queue
// inside a call.
func (s *Session) part(h sal.SA) {
	s.recs.Stop(h)
	delete(s.sas, h)
	p := parted{sa: h}
	for _, q := range s.queues {
		if q != nil {
			l := q.State()
			p.until = append(p.until, &mark{l, l.turn.Load(), l.submitted.Load()})
		}
	}
	s.limbo = append(s.limbo, p)
}

// reclaim wipes records and frees handles that nobody uses any more; what
// remains is looked at again in a moment.
func (s *Session) reclaim() {
	rest := s.limbo[:0]
	for _, p := range s.limbo {
		p.until = slices.DeleteFunc(p.until, (*mark).passed)
		if len(p.until) > 0 {
			rest = append(rest, p)
			continue
		}
		s.recs.Wipe(p.sa)
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

func (s *Session) again() {
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
		if m.l.turn.Load() == m.turn {
			return false
		}
		m.turn, m.submit = 0, m.l.submitted.Load() // with what the call submitted
	}
	return m.l.closed.Load() || m.l.polled.Load() >= m.submit
}

// SAs lists SAs of a group by handle.
func (s *Session) SAs(g sal.Group, after sal.SA, max int) ([]sal.SAInfo, error) {
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
		l = append(l, *s.sas[h])
	}
	return l, nil
}

// Stats reads an SA's counters. While a queue runs they may be one packet
// apart from one another.
func (s *Session) Stats(h sal.SA) (sal.SAStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.find(h); err != nil {
		return sal.SAStats{}, err
	}
	return s.recs.Stats(h), nil
}

// Queue opens queue i over the buffers of pool. A number may be opened again
// after its queue was closed.
func (s *Session) Queue(i int, pool *sal.Pool) (sal.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	if i < 0 || i >= len(s.queues) || pool == nil {
		return nil, fmt.Errorf("queue %d of %d: %w", i, len(s.queues), sal.ErrInvalid)
	}
	if q := s.queues[i]; q != nil && !q.State().closed.Load() {
		return nil, fmt.Errorf("queue %d: %w", i, sal.ErrBusy)
	}
	q, err := s.recs.Queue(i, pool)
	if err != nil {
		return nil, fmt.Errorf("queue %d: %w", i, err)
	}
	s.queues[i] = q
	return q, nil
}

// Events delivers EventGone, and what an engine with sal.ModeProtocol reports.
func (s *Session) Events() <-chan sal.Event { return s.events }

// Report sends an event, which is lost if nobody reads them in time. It may be called
// from anywhere.
func (s *Session) Report(e sal.Event) {
	s.told.Lock()
	defer s.told.Unlock()
	if s.deaf {
		return
	}
	select {
	case s.events <- e:
	default:
	}
}

// lose is the end of the engine.
func (s *Session) lose() {
	s.gone.Store(true)
	s.Report(sal.Event{Kind: sal.EventGone})
}

// Close wipes all SAs and gives their memory back. A queue that is in use
// finishes its call first and fails every further job.
func (s *Session) Close() error {
	s.h.leave(s)
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
			l := q.State()
			l.closed.Store(true)
			for t := l.turn.Load(); t&1 == 1 && l.turn.Load() == t; { // at most a burst
				runtime.Gosched()
			}
			q.Forget()
		}
	}
	s.recs.Close()
	s.sas, s.groups, s.limbo, s.reuse = nil, nil, nil, nil
	s.told.Lock()
	defer s.told.Unlock()
	s.deaf = true
	close(s.events)
	return nil
}
