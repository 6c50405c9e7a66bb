package pool

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"vrouter/pkg/sal"
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

// session is one application's use of the engine, and of the inner one. Control
// methods lock mu; queues and threads never do.
type session struct {
	e     *Engine
	inner sal.Session
	table [maxLeaves]atomic.Pointer[leaf]
	gone  atomic.Bool

	mu     sync.Mutex
	closed bool
	queues []*queue
	groups map[sal.Group][]sal.SA // in handle order
	sas    map[sal.SA]*sa
	next   sal.SA   // never given out
	reuse  []sal.SA // given back, oldest first
	limbo  []parted // deleted, oldest first: jobs may still name them

	told   sync.Mutex // of events, which may be closed
	deaf   bool
	events chan sal.Event
}

type sa struct {
	sal.SAInfo
	inner sal.SA
}

// parted are SAs deleted together, and how far each queue had been submitted to.
type parted struct {
	sas   []sal.SA
	until []mark
}

type mark struct {
	q  *queue
	at uint64
}

func newSession(e *Engine, inner sal.Session) *session {
	return &session{e: e, inner: inner, next: 1, groups: map[sal.Group][]sal.SA{0: nil}, sas: map[sal.SA]*sa{}, events: make(chan sal.Event, 64)}
}

// watch ends the engine when the inner one is lost: the threads can do nothing
// without it.
func (s *session) watch() {
	for ev := range s.inner.Events() {
		if ev.Kind == sal.EventGone {
			_ = s.e.Close()
		}
	}
}

// check is why a control call cannot be served; s.mu is held.
func (s *session) check() error {
	if s.closed || s.gone.Load() || s.e.gone.Load() {
		return s.e.lost()
	}
	return nil
}

func (s *session) group(g sal.Group) error {
	if _, ok := s.groups[g]; !ok {
		return fmt.Errorf("group %d: %w", g, sal.ErrNotFound)
	}
	return nil
}

// NewGroup makes a group; names are unique in the session.
func (s *session) NewGroup(name string) (sal.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	g, err := s.inner.NewGroup(name)
	if err == nil {
		s.groups[g] = nil
	}
	return g, err
}

// DeleteGroup flushes a group and removes it. Group 0 stays.
func (s *session) DeleteGroup(g sal.Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if err := s.group(g); err != nil {
		return err
	}
	if g == 0 {
		return fmt.Errorf("group 0 cannot be deleted: %w", sal.ErrInvalid)
	}
	s.part(s.groups[g])
	delete(s.groups, g)
	return s.inner.DeleteGroup(g)
}

// AddSA installs an SA in the inner engine, under a handle of this one. In
// sal.ModeProtocol the inner engine has it in sal.ModeCrypto, and the rest is kept here.
func (s *session) AddSA(g sal.Group, cfg *sal.SAConfig) (sal.SA, error) {
	var keep *keeper
	c := *cfg
	switch c.Mode {
	case sal.ModeCrypto:
	case sal.ModeProtocol:
		var err error
		if keep, err = newKeeper(cfg); err != nil {
			return 0, err
		}
		c.Mode = sal.ModeCrypto
	default:
		return 0, fmt.Errorf("mode %d: %w", c.Mode, sal.ErrNotSupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	if err := s.group(g); err != nil {
		return 0, err
	}
	h, err := s.handle()
	if err != nil {
		return 0, err
	}
	in, err := s.inner.AddSA(g, &c)
	if err != nil {
		s.reuse = append(s.reuse, h)
		return 0, err
	}
	s.sas[h] = &sa{SAInfo: sal.SAInfo{
		SA: h, Group: g, SPI: cfg.SPI, Direction: cfg.Direction, Mode: cfg.Mode, Algorithm: cfg.Algorithm,
		Integrity: cfg.Integrity, KeyBits: cfg.KeyBits(), ESN: cfg.ESN,
	}, inner: in}
	i, _ := slices.BinarySearch(s.groups[g], h)
	s.groups[g] = slices.Insert(s.groups[g], i, h)
	x := uint32(in)
	if keep != nil {
		x |= protocol
	}
	l, at := s.slot(h)
	l.keep[at].Store(keep)
	l.inner[at].Store(x)
	return h, nil
}

// handle takes a free handle: used ones first, so that the table stays dense.
func (s *session) handle() (sal.SA, error) {
	s.reclaim()
	if len(s.reuse) > 0 {
		h := s.reuse[0]
		s.reuse = s.reuse[1:]
		return h, nil
	}
	h := s.next
	if h > maxHandle {
		return 0, fmt.Errorf("%d SAs: %w", maxHandle, sal.ErrFull)
	}
	if l := &s.table[h/leafSAs]; l.Load() == nil {
		l.Store(new(leaf))
	}
	s.next++
	return h, nil
}

// slot is a handle's place in the table; h must have been given out once.
func (s *session) slot(h sal.SA) (l *leaf, at int) {
	return s.table[h/leafSAs].Load(), int(h % leafSAs)
}

// innerOf is the inner engine's handle; 0, which is none, for an SA that is not
// there, or not in sal.ModeProtocol as it should be, or in it as it should not be: of
// such a one nobody else may seal with the key, nor open what no window has seen.
func (s *session) innerOf(h sal.SA, kept bool) sal.SA {
	if h/leafSAs >= maxLeaves {
		return 0
	}
	l := s.table[h/leafSAs].Load()
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
func (s *session) keeperOf(h sal.SA) *keeper {
	if h/leafSAs >= maxLeaves {
		return nil
	}
	l := s.table[h/leafSAs].Load()
	if l == nil {
		return nil
	}
	return l.keep[h%leafSAs].Load()
}

// find is a control call's SA.
func (s *session) find(h sal.SA) (*sa, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if x := s.sas[h]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("SA %d: %w", h, sal.ErrNotFound)
}

// ModSA changes an SA in sal.ModeProtocol.
func (s *session) ModSA(h sal.SA, m *sal.SAMod) error {
	k, in, err := s.kept(h)
	switch {
	case err != nil:
		return err
	case k == nil:
		return s.inner.ModSA(in, m)
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

// State reads what is kept of an SA in sal.ModeProtocol.
func (s *session) State(h sal.SA) (sal.SAState, error) { return s.look(h, false) }

// Hold is State, and the SA's end for now.
func (s *session) Hold(h sal.SA) (sal.SAState, error) { return s.look(h, true) }

func (s *session) look(h sal.SA, hold bool) (sal.SAState, error) {
	k, in, err := s.kept(h)
	switch {
	case err != nil:
		return sal.SAState{}, err
	case k == nil:
		return s.inner.State(in)
	}
	k.hold()
	defer k.release()
	k.held = k.held || hold
	return k.state(), nil
}

// kept is what is kept of a control call's SA, nil in sal.ModeCrypto, and the inner
// engine's handle.
func (s *session) kept(h sal.SA) (*keeper, sal.SA, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(h)
	if err != nil {
		return nil, 0, err
	}
	return s.keeperOf(h), x.inner, nil
}

// DelSA removes an SA: when it returns, no thread is using the key nor will, and
// the inner engine has been told to wipe it. The handle is free once all jobs that
// may name it are polled.
func (s *session) DelSA(h sal.SA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(h)
	if err != nil {
		return err
	}
	l := s.groups[x.Group]
	if i, ok := slices.BinarySearch(l, h); ok {
		s.groups[x.Group] = slices.Delete(l, i, i+1)
	}
	s.part([]sal.SA{h})
	return nil
}

// Flush removes all SAs of a group.
func (s *session) Flush(g sal.Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if err := s.group(g); err != nil {
		return err
	}
	s.part(s.groups[g])
	s.groups[g] = nil
	return nil
}

// part takes SAs out of the table, waits for the threads that may have read it,
// and deletes them in the inner engine. Were that done before, it might give one
// of its handles to another SA while a thread is about to use it.
func (s *session) part(l []sal.SA) {
	if len(l) == 0 {
		return
	}
	for _, h := range l {
		x, at := s.slot(h)
		x.inner[at].Store(0)
		x.keep[at].Store(nil)
	}
	s.e.pass()
	p := parted{sas: slices.Clone(l)}
	for _, h := range l {
		_ = s.inner.DelSA(s.sas[h].inner) // it is there, or the engine is lost
		delete(s.sas, h)
	}
	for _, q := range s.queues {
		p.until = append(p.until, mark{q, q.submitted.Load()})
	}
	s.limbo = append(s.limbo, p)
}

// reclaim frees handles that no job names any more.
func (s *session) reclaim() {
	for len(s.limbo) > 0 {
		p := &s.limbo[0]
		p.until = slices.DeleteFunc(p.until, func(m mark) bool { return m.q.dead.Load() || m.q.polled.Load() >= m.at })
		if len(p.until) > 0 {
			return // those behind it wait for as much, or more
		}
		s.reuse = append(s.reuse, p.sas...)
		s.limbo[0] = parted{}
		s.limbo = s.limbo[1:]
	}
}

// SAs lists SAs of a group by handle.
func (s *session) SAs(g sal.Group, after sal.SA, max int) ([]sal.SAInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := s.group(g); err != nil {
		return nil, err
	}
	i, _ := slices.BinarySearch(s.groups[g], after+1)
	var l []sal.SAInfo
	for _, h := range s.groups[g][i:] {
		if len(l) >= max {
			break
		}
		l = append(l, s.sas[h].SAInfo)
	}
	return l, nil
}

// Stats reads an SA's counters.
func (s *session) Stats(h sal.SA) (sal.SAStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(h)
	if err != nil {
		return sal.SAStats{}, err
	}
	st, err := s.inner.Stats(x.inner)
	if k := s.keeperOf(h); k != nil && err == nil {
		k.hold()
		st = k.done
		k.release()
	}
	return st, err
}

// Events delivers EventGone, and what happens to SAs in sal.ModeProtocol.
func (s *session) Events() <-chan sal.Event { return s.events }

// report sends an event, if somebody reads them in time.
func (s *session) report(e sal.Event) {
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

// lose is the end of the engine; e.mu is held, so s.mu must not be.
func (s *session) lose() {
	s.gone.Store(true)
	s.report(sal.Event{Kind: sal.EventGone})
}

// drop takes a queue away from the threads; s.mu is held.
func (s *session) drop(q *queue) {
	if q.dead.Load() && !slices.Contains(s.queues, q) {
		return
	}
	s.e.discharge(func(x *queue) bool { return x == q })
	q.dead.Store(true)
	q.closeInner()
	s.queues = slices.DeleteFunc(s.queues, func(x *queue) bool { return x == q })
}

// Close wipes all SAs. What is under way comes back from Poll, done or with
// StatusDevice.
func (s *session) Close() error {
	s.e.leave(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.gone.Store(true)
	for _, q := range slices.Clone(s.queues) {
		s.drop(q)
	}
	err := s.inner.Close() // wipes
	s.sas, s.groups, s.limbo, s.reuse = nil, nil, nil, nil
	s.told.Lock()
	defer s.told.Unlock()
	s.deaf = true
	close(s.events)
	return err
}
