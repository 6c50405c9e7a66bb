package ipsec

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"vrouter/fastpath/cryptoq"
	"vrouter/pkg/sal"
)

// engine is an opened crypto engine.
type engine struct {
	index   int
	name    string
	dev     sal.Device
	session sal.Session
	caps    sal.Caps
	sas     int  // of Feature.sas
	drained bool // an operator wants no SA there
	health
}

// openEngines opens every crypto engine of the registry, with a queue for each
// worker. One that cannot be had is left out: SAs say so when they are placed.
func (f *Feature) openEngines() {
	for _, dev := range f.env.Registry.Devices() {
		if err := f.openEngine(dev); err != nil {
			f.env.Log.Warn("crypto engine left out", "engine", dev.Info().Name, "err", err)
		}
	}
}

func (f *Feature) openEngine(dev sal.Device) error {
	caps := dev.Caps()
	if caps.Queues < f.made {
		return fmt.Errorf("it has %d queues for %d workers", caps.Queues, f.made)
	}
	if len(f.engines) == maxEngines {
		return fmt.Errorf("more than %d engines", maxEngines)
	}
	s, err := dev.Open("vrouter fast path", false)
	if err != nil {
		return err
	}
	e := &engine{index: len(f.engines), name: dev.Info().Name, dev: dev, session: s, caps: caps}
	var lanes []*lane
	for i, w := range f.workers[:f.made] {
		l, err := e.lane(f, i, w)
		if err != nil {
			_ = s.Close() // and its queues
			return err
		}
		lanes = append(lanes, l)
	}
	for i, w := range f.workers[:f.made] {
		w.lanes = append(w.lanes, lanes[i])
	}
	f.engines = append(f.engines, e)
	return nil
}

// maxEngines is what a record can name.
const maxEngines = 256

// place finds the engine for an SA, makes the SA known to it, and notes why it
// is that one. old is the SA that had the slot before, nil if none: where its
// engine has the same key already, it keeps it; and where an operator has placed
// it, it stays for as long as the same is wanted of it.
func (p *prepared) place(s *sa, c *SA, old *sa) (err error) {
	enter := func(e *engine, mode string) error { return p.enter(s, c, old, e, mode) }
	if old != nil && old.pinned && old.Offload == c.Offload && old.engine.offers(old.mode, c) == nil && enter(old.engine, old.mode) == nil {
		s.mode, s.reason, s.pinned = old.mode, old.reason, true
		return nil
	}
	s.mode, s.reason, err = p.f.place(c, enter)
	return err
}

// modeProtocol is the mode in which the engine makes whole packets.
const modeProtocol = "protocol"

// fallback are the modes for an SA that cannot have the one it prefers, the best first.
func fallback(mode string) []string {
	if mode == modeProtocol {
		return []string{"crypto", "software"}
	}
	return []string{"software"}
}

// wanted is the mode that an SA asks for.
func (o *Offload) wanted() string {
	if o.Mode == "" {
		return "software"
	}
	return o.Mode
}

// place goes through the engines that an SA may have, the one it wants most first,
// until enter takes one. It says in which mode that is, and why there.
func (f *Feature) place(c *SA, enter func(e *engine, mode string) error) (mode, reason string, err error) {
	want := c.Offload.wanted()
	var no refusals
	for _, e := range f.engines {
		if c.Offload.Engine != "" && e.name != c.Offload.Engine {
			continue
		}
		err := e.offers(want, c)
		if err == nil {
			err = enter(e, want)
		}
		if err == nil {
			return want, asConfigured[want], nil
		}
		no.add(e, err)
	}
	if c.Offload.Policy == Require {
		return "", "", fmt.Errorf("offload is required, and %s", no.words(c))
	}
	for _, mode := range fallback(want) {
		for _, e := range f.engines {
			if mode != "software" && c.Offload.Engine != "" && e.name != c.Offload.Engine {
				continue
			}
			if e.offers(mode, c) == nil && enter(e, mode) == nil {
				return mode, f.fellBack(mode, &no, c), nil
			}
		}
	}
	return "", "", fmt.Errorf("no engine takes the SA: %s", no.words(c))
}

var asConfigured = func() map[string]string {
	m := map[string]string{}
	for _, mode := range []string{"software", "crypto", modeProtocol, "full"} {
		m[mode] = "as configured: " + mode
	}
	return m
}()

// refusals are why engines do not do an SA. When thousands of SAs move, most have the
// same: they are put into words once.
type refusals struct {
	n   int
	e   [8]*engine
	err [8]error
	all []string // where there are more
}

func (r *refusals) add(e *engine, err error) {
	if r.n < len(r.e) {
		r.e[r.n], r.err[r.n] = e, err
	} else {
		r.all = append(r.all, fmt.Sprintf("engine %s %v", e.name, err))
	}
	r.n++
}

// words are the refusals in words.
func (r *refusals) words(c *SA) string {
	switch {
	case r.n > 0:
	case c.Offload.Engine != "":
		return fmt.Sprintf("there is no engine %q", c.Offload.Engine)
	default:
		return "there is no engine"
	}
	var l []string
	for i := range min(r.n, len(r.e)) {
		l = append(l, fmt.Sprintf("engine %s %v", r.e[i].name, r.err[i]))
	}
	return strings.Join(append(l, r.all...), ", ")
}

// said is what fellBack has said last.
type said struct {
	mode, text string
	no         refusals
}

// fellBack says why an SA has another mode than it prefers.
func (f *Feature) fellBack(mode string, no *refusals, c *SA) string {
	if l := &f.said; no.n > 0 && no.n <= len(no.e) && l.mode == mode && l.no.n == no.n && l.no.e == no.e && l.no.err == no.err {
		return l.text
	}
	f.said = said{mode, "fallback to " + mode + ": " + no.words(c), *no}
	return f.said.text
}

var (
	errNotReady = errors.New("is not ready")
	errDrained  = errors.New("is drained")
	errNoMode   = func() map[string]error {
		m := map[string]error{}
		for mode := range asConfigured {
			m[mode] = fmt.Errorf("does not offer mode %s", mode)
		}
		return m
	}()
)

// offers says why an engine does not do an SA in a mode, as the rest of a
// sentence about it.
func (e *engine) offers(mode string, s *SA) error {
	info := e.dev.Info()
	kind, way := sal.Software, sal.ModeCrypto
	if mode != "software" {
		kind = sal.LookAside
	}
	if mode == modeProtocol {
		way = sal.ModeProtocol
	}
	switch {
	case !info.Ready:
		return errNotReady
	case e.down:
		return e.failure
	case e.drained:
		return errDrained
	case mode == "full" || info.Kind != kind || !e.caps.Has(way):
		return errNoMode[mode]
	case mode == modeProtocol && s.Mode == Transport:
		return fmt.Errorf("does no transport mode in mode %s", mode)
	case mode == modeProtocol && s.FollowPeer:
		return fmt.Errorf("does not see where a peer is, in mode %s", mode)
	case mode == modeProtocol && s.Direction == sal.Inbound && int(s.ReplayWindow) > e.caps.WindowMax:
		return fmt.Errorf("has no anti-replay window of more than %d", e.caps.WindowMax)
	case s.ESN && !e.caps.ESN:
		return fmt.Errorf("does not do extended sequence numbers")
	}
	if bits := s.keyBits(); !e.caps.Does(s.Algorithm, bits, s.Integrity) {
		return fmt.Errorf("does not do %v with keys of %d bits, integrity %v", s.Algorithm, bits, s.Integrity)
	}
	return nil
}

// enter makes the SA known to an engine.
func (p *prepared) enter(s *sa, c *SA, old *sa, e *engine, mode string) (err error) {
	if old != nil && old.engine == e && old.keys == s.keys && old.there() && old.mode == mode && (mode != modeProtocol || old.alike(c)) {
		s.engine, s.id, s.losses, s.kept = e, old.id, old.losses, old
		return nil
	}
	s.id, err = e.session.AddSA(0, c.engineConfig(mode))
	if err != nil {
		return fmt.Errorf("refuses it: %w", err)
	}
	s.engine, s.losses = e, e.losses
	p.entered = append(p.entered, entry{e, s.id})
	return nil
}

// entry is an SA in an engine.
type entry struct {
	e  *engine
	id sal.SA
}

// lane is one worker's queue into one engine, with the jobs being gathered. It
// is the cryptoq.Resumer of its queue.
type lane struct {
	w    *worker
	q    *cryptoq.Queue
	raw  sal.Queue
	sync bool
	n    int
	jobs [sal.Burst]sal.Job

	// Of engines that are not sync: jobs handed over, and those that came back.
	out, back atomic.Uint64
	// So many of out had been handed over when the engine failed last; nobody waits for
	// them any longer than until.
	given atomic.Uint64
	until atomic.Int64

	// What State and the watchdog read; the worker alone writes, by pipeline.Add.
	taken uint64 // gathered, those that found the queue full included
	full  uint64 // that found the queue full
	fails uint64 // that failed by the engine's own fault
	asked uint64 // polls while jobs were under way
	seen  watched
	tired bool // follow has waited for too long
}

// A record's handle and slot may be used again when neither a worker nor a job
// can name it. Workers pass within a turn, but a packet that goes round carries
// the handle into the next turns, and a job comes back when its engine likes.

// graceTurns is how many grace periods cover packets that go round: each burst
// of them is done within a turn, and they nest but few times within 1500 bytes.
const graceTurns = 4

// parting is a record that goes.
type parting struct {
	held // as it was
	// ends: its SA in the engine ends when all is over.
	ends bool
	// now is the SA if it has come from there to another engine, under another handle.
	now   *sa
	under uint32
}

// leaving are records on their way out, of SAs of one engine.
type leaving struct {
	f     *Feature
	e     *engine
	l     []parting
	turns int
	lanes []*lane
	marks []uint64
}

// leave takes back records of SAs in one engine that no worker can find any more, and
// with del their SAs in the engine, at once.
func (f *Feature) leave(e *engine, del bool, l ...parting) {
	x := &leaving{f: f, e: e, l: l}
	f.env.Grace.Retire(func() {
		if del {
			for i := range l {
				l[i].delete()
			}
		}
		for _, w := range f.workers[:f.made] {
			if l := w.lanes[e.index]; !l.sync {
				x.lanes, x.marks = append(x.lanes, l), append(x.marks, l.out.Load())
			}
		}
		x.wait()
	})
}

func (x *leaving) wait() {
	x.turns++
	for i, l := range x.lanes {
		if l.back.Load() < x.marks[i] {
			x.turns = 0 // what comes back goes round from then on
			x.f.env.Grace.Retire(x.wait)
			return
		}
	}
	if x.turns < graceTurns {
		x.f.env.Grace.Retire(x.wait)
		return
	}
	for i := range x.l {
		x.f.gone(&x.l[i])
	}
}

// gone takes back a record that nobody can name.
func (f *Feature) gone(p *parting) {
	f.sels[p.handle] = nil
	f.handles.Free(p.handle)
	f.sad.live.done(p.slot)
	if p.ends {
		p.delete()
	}
	if s := p.now; s != nil && s.handle == p.under {
		s.moving = false
		atomic.AndUint32(&f.sad.at(s.handle).down, ^recMoved)
	}
}

// there tells whether the SA's engine has it still: one that was lost has forgotten
// it, and when it is back it may give the handle to another.
func (s *held) there() bool { return s.losses == s.engine.losses }

// delete takes the SA out of its engine.
func (s *held) delete() {
	if s.there() {
		_ = s.engine.session.DelSA(s.id) // it is there, or the engine is lost and nobody has noticed yet
	}
}
