package saltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"vrouter/pkg/sal"
)

// Faults say how an engine misbehaves within the contract. The zero value is a
// well-behaved look-aside engine.
type Faults struct {
	Seed uint64
	// Delay is for how many polls a completion is held back, at most.
	Delay int
	// Reorder completes jobs of different SAs in any order; those of one SA
	// stay in theirs.
	Reorder bool
	// Refuse: one submit in so many takes only a part of its jobs, none
	// perhaps, as if the queue were full. 0: never.
	Refuse int
	// Lose: one job in so many is not done; it comes back with StatusDevice as
	// if the engine had reported it lost. 0: never.
	Lose int
	// Depth of a queue in jobs; 0: the engine's.
	Depth int
}

// Faulty is an engine around another that delays, reorders, refuses, loses,
// dies and comes back, as Faults and its methods say. It is asynchronous: Do
// fails every job. It allocates.
//
// Deterministic for one goroutine: the same calls meet the same faults.
type Faulty struct {
	d sal.Device

	mu       sync.Mutex
	f        Faults
	r        *rand.Rand
	dead     bool
	closed   bool
	sessions map[*faultySession]struct{}
}

// NewFaulty wraps an engine that has Caps.Sync. It is closed with the Faulty.
func NewFaulty(d sal.Device, f Faults) *Faulty {
	return &Faulty{d: d, f: f, r: rand.New(rand.NewPCG(f.Seed, 0)), sessions: map[*faultySession]struct{}{}}
}

// Set changes the faults from now on.
func (e *Faulty) Set(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.f = f
}

// Die loses the engine: EventGone, jobs under way and new ones fail with
// StatusDevice, control calls with ErrGone.
func (e *Faulty) Die() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return
	}
	e.dead = true
	for s := range e.sessions {
		s.report(sal.EventGone)
		for _, q := range s.queues {
			for i := range q.held {
				q.held[i].job.Status = sal.StatusDevice
				q.held[i].ready, q.held[i].wait = true, 0
			}
		}
	}
}

// Revive brings a dead engine back: EventBack. Sessions, groups and queues are
// there, SAs are not.
func (e *Faulty) Revive() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.dead || e.closed {
		return
	}
	e.dead = false
	for s := range e.sessions {
		for g := range s.groups {
			_ = s.s.Flush(g)
		}
		clear(s.sas)
		s.report(sal.EventBack)
	}
}

// SAs is how many SAs all sessions have.
func (e *Faulty) SAs() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		n += len(s.sas)
	}
	return n
}

// Info is the inner engine's, as a look-aside device.
func (e *Faulty) Info() sal.DeviceInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.d.Info()
	i.Name += "-faulty"
	i.Driver = "faulty"
	i.Kind = sal.LookAside
	i.Ready = i.Ready && !e.dead
	return i
}

// Caps are the inner engine's, without Sync.
func (e *Faulty) Caps() sal.Caps {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.d.Caps()
	c.Sync = false
	if e.f.Depth > 0 {
		c.QueueDepth = e.f.Depth
	}
	return c
}

func (e *Faulty) gone() error { return fmt.Errorf("faulty engine: %w", sal.ErrGone) }

// Open opens the inner engine.
func (e *Faulty) Open(app string, exclusive bool) (sal.Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return nil, e.gone()
	}
	s, err := e.d.Open(app, exclusive)
	if err != nil {
		return nil, err
	}
	x := &faultySession{e: e, s: s, groups: map[sal.Group]bool{0: true}, sas: map[sal.SA]*faultySA{}, events: make(chan sal.Event, 64)}
	e.sessions[x] = struct{}{}
	return x, nil
}

// Close ends both engines.
func (e *Faulty) Close() error {
	e.Die()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return e.d.Close()
}

// faultySession translates handles: its own are never given out twice.
type faultySession struct {
	e      *Faulty
	s      sal.Session
	closed bool
	groups map[sal.Group]bool
	sas    map[sal.SA]*faultySA
	next   sal.SA
	queues []*faultyQueue
	events chan sal.Event
}

type faultySA struct {
	g     sal.Group
	inner sal.SA
}

// lock takes the engine's lock for a control call, if it can be served.
func (s *faultySession) lock() error {
	s.e.mu.Lock()
	if s.e.dead || s.closed {
		s.e.mu.Unlock()
		return s.e.gone()
	}
	return nil
}

func (s *faultySession) report(k sal.EventKind) {
	if s.closed {
		return
	}
	select {
	case s.events <- sal.Event{Kind: k}:
	default:
	}
}

func (s *faultySession) NewGroup(name string) (sal.Group, error) {
	if err := s.lock(); err != nil {
		return 0, err
	}
	defer s.e.mu.Unlock()
	g, err := s.s.NewGroup(name)
	if err == nil {
		s.groups[g] = true
	}
	return g, err
}

func (s *faultySession) DeleteGroup(g sal.Group) error {
	if err := s.lock(); err != nil {
		return err
	}
	defer s.e.mu.Unlock()
	err := s.s.DeleteGroup(g)
	if err == nil {
		delete(s.groups, g)
		s.forget(g)
	}
	return err
}

// forget drops the handles of a group.
func (s *faultySession) forget(g sal.Group) {
	for h, x := range s.sas {
		if x.g == g {
			delete(s.sas, h)
		}
	}
}

func (s *faultySession) AddSA(g sal.Group, c *sal.SAConfig) (sal.SA, error) {
	if err := s.lock(); err != nil {
		return 0, err
	}
	defer s.e.mu.Unlock()
	inner, err := s.s.AddSA(g, c)
	if err != nil {
		return 0, err
	}
	s.next++
	s.sas[s.next] = &faultySA{g, inner}
	return s.next, nil
}

// inner finds the inner handle; 0 for one that is not there.
func (s *faultySession) inner(h sal.SA) sal.SA {
	if x := s.sas[h]; x != nil {
		return x.inner
	}
	return 0
}

func (s *faultySession) ModSA(h sal.SA, m *sal.SAMod) error {
	if err := s.lock(); err != nil {
		return err
	}
	defer s.e.mu.Unlock()
	return s.s.ModSA(s.inner(h), m)
}

func (s *faultySession) State(h sal.SA) (sal.SAState, error) {
	if err := s.lock(); err != nil {
		return sal.SAState{}, err
	}
	defer s.e.mu.Unlock()
	return s.s.State(s.inner(h))
}

func (s *faultySession) Hold(h sal.SA) (sal.SAState, error) {
	if err := s.lock(); err != nil {
		return sal.SAState{}, err
	}
	defer s.e.mu.Unlock()
	return s.s.Hold(s.inner(h))
}

// DelSA deletes at once: jobs held back find no SA when their time comes.
func (s *faultySession) DelSA(h sal.SA) error {
	if err := s.lock(); err != nil {
		return err
	}
	defer s.e.mu.Unlock()
	err := s.s.DelSA(s.inner(h))
	if err == nil {
		delete(s.sas, h)
	}
	return err
}

func (s *faultySession) Flush(g sal.Group) error {
	if err := s.lock(); err != nil {
		return err
	}
	defer s.e.mu.Unlock()
	err := s.s.Flush(g)
	if err == nil {
		s.forget(g)
	}
	return err
}

func (s *faultySession) SAs(g sal.Group, after sal.SA, max int) ([]sal.SAInfo, error) {
	if err := s.lock(); err != nil {
		return nil, err
	}
	defer s.e.mu.Unlock()
	all, err := s.s.SAs(g, 0, len(s.sas))
	if err != nil {
		return nil, err
	}
	outer := map[sal.SA]sal.SA{}
	for h, x := range s.sas {
		outer[x.inner] = h
	}
	var l []sal.SAInfo
	for _, x := range all {
		if x.SA = outer[x.SA]; x.SA > after {
			l = append(l, x)
		}
	}
	slices.SortFunc(l, func(a, b sal.SAInfo) int { return int(a.SA) - int(b.SA) })
	return l[:min(max, len(l))], nil
}

func (s *faultySession) Stats(h sal.SA) (sal.SAStats, error) {
	if err := s.lock(); err != nil {
		return sal.SAStats{}, err
	}
	defer s.e.mu.Unlock()
	return s.s.Stats(s.inner(h))
}

func (s *faultySession) Queue(i int, pool *sal.Pool) (sal.Queue, error) {
	if err := s.lock(); err != nil {
		return nil, err
	}
	defer s.e.mu.Unlock()
	q, err := s.s.Queue(i, pool)
	if err != nil {
		return nil, err
	}
	x := &faultyQueue{s: s, q: q}
	s.queues = append(s.queues, x)
	return x, nil
}

func (s *faultySession) Events() <-chan sal.Event { return s.events }

func (s *faultySession) Close() error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	delete(s.e.sessions, s)
	close(s.events)
	return s.s.Close()
}

// faultyQueue holds jobs back. It does them when they are polled, so that
// until then their bytes are as submitted.
type faultyQueue struct {
	s    *faultySession
	q    sal.Queue
	held []held
}

type held struct {
	job   sal.Job
	inner sal.SA // as it was at the submit
	wait  int    // polls to come
	ready bool   // Status is final
}

func (q *faultyQueue) Do(jobs []sal.Job) {
	for i := range jobs {
		jobs[i].Status = sal.StatusDevice
	}
}

func (q *faultyQueue) Submit(jobs []sal.Job) int {
	e := q.s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(jobs)
	depth := e.f.Depth
	if depth == 0 {
		depth = e.d.Caps().QueueDepth
	}
	n = min(n, depth-len(q.held))
	if n > 0 && e.one(e.f.Refuse) {
		n = e.r.IntN(n)
	}
	for _, j := range jobs[:n] {
		h := held{job: j, inner: q.s.inner(j.SA)}
		if e.f.Delay > 0 {
			h.wait = e.r.IntN(e.f.Delay + 1)
		}
		if e.dead || q.s.closed || e.one(e.f.Lose) {
			h.job.Status, h.ready = sal.StatusDevice, true
		}
		q.held = append(q.held, h)
	}
	return n
}

// one is true once in n times.
func (e *Faulty) one(n int) bool { return n > 0 && e.r.IntN(n) == 0 }

func (q *faultyQueue) Poll(jobs []sal.Job) int {
	e := q.s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range q.held {
		q.held[i].wait--
	}
	n := 0
	for n < len(jobs) {
		i := q.next()
		if i < 0 {
			break
		}
		h := &q.held[i]
		if !h.ready {
			one := [1]sal.Job{h.job}
			one[0].SA = h.inner
			if q.s.sas[h.job.SA] == nil {
				one[0].SA = 0 // deleted since
			}
			q.q.Do(one[:])
			h.job.Status, h.job.Flags = one[0].Status, one[0].Flags
		}
		jobs[n] = h.job
		n++
		q.held = slices.Delete(q.held, i, i+1)
	}
	return n
}

// next is the job to complete now, -1 when none is due: the first, or with
// Reorder any that has none of its SA before it.
func (q *faultyQueue) next() int {
	e := q.s.e
	if !e.f.Reorder {
		if len(q.held) > 0 && q.held[0].wait <= 0 {
			return 0
		}
		return -1
	}
	var due []int
	before := map[sal.SA]bool{}
	for i, h := range q.held {
		if !before[h.job.SA] && h.wait <= 0 {
			due = append(due, i)
		}
		before[h.job.SA] = true
	}
	if len(due) == 0 {
		return -1
	}
	return due[e.r.IntN(len(due))]
}

func (q *faultyQueue) InFlight() int {
	q.s.e.mu.Lock()
	defer q.s.e.mu.Unlock()
	return len(q.held)
}

func (q *faultyQueue) Close() error {
	q.s.e.mu.Lock()
	defer q.s.e.mu.Unlock()
	q.s.queues = slices.DeleteFunc(q.s.queues, func(x *faultyQueue) bool { return x == q })
	return q.q.Close()
}
