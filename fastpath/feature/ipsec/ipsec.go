package ipsec

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"

	"vrouter/fastpath/cryptoq"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// Options of New.
type Options struct {
	MaxSAs uint32 // 0: 65536
	BootID string // what tells one boot of the machine from another
}

// A Feature is IPsec in one fast path. All methods belong to the control side,
// under the engine's lock; workers use what In, Out, Seal and Open return.
type Feature struct {
	env     *pipeline.Env
	sad     *sad
	slots   *mem.Slots
	engines []*engine
	workers []*worker

	spd      atomic.Pointer[spd]
	sels     atomic.Pointer[[]*compiled] // by record handle
	sas      map[string]*sa
	bySlot   map[uint32]*sa
	inSPI    map[uint32]*sa // inbound, by SPI
	chains   map[reqKey][]*sa
	policies map[string]*entry
	byReq    map[uint64]map[*policy]bool // outbound Protect entries
}

type reqKey struct {
	reqid uint64
	dir   sal.Direction
}

// entry is an installed policy with its counter.
type entry struct {
	p *policy
}

// engine is an opened crypto engine.
type engine struct {
	index   uint32
	dev     sal.Device
	session sal.Session
	caps    sal.Caps
}

// New opens the SA state and every crypto engine of the registry.
func New(env *pipeline.Env, o Options) (*Feature, error) {
	if o.MaxSAs == 0 {
		o.MaxSAs = defaultSAs
	}
	f := &Feature{env: env, sas: map[string]*sa{}, bySlot: map[uint32]*sa{}, inSPI: map[uint32]*sa{},
		chains: map[reqKey][]*sa{}, policies: map[string]*entry{}, byReq: map[uint64]map[*policy]bool{}}
	f.spd.Store(&spd{seed: burst.NewSeed()[0]})
	path := ""
	if env.StateDir != "" {
		path = filepath.Join(env.StateDir, "sa-state")
	}
	d := &sad{}
	var err error
	if d.live, err = openLive(path, o.MaxSAs, o.BootID); err != nil {
		return nil, err
	}
	// Records outnumber SAs: a replaced one waits for the workers.
	n := int(o.MaxSAs) + int(o.MaxSAs)/4 + 1024
	if d.rec, err = mem.NewTable[record](n, mem.Options{}); err != nil {
		return nil, err
	}
	if d.errs, err = mem.NewTable[saErrors](int(o.MaxSAs), mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	if d.bySPI, err = newSPITable(int(o.MaxSAs)); err != nil {
		return nil, err
	}
	f.sad = d
	f.slots = mem.NewSlots(uint32(n), env.Grace, nil)
	sels := make([]*compiled, n)
	f.sels.Store(&sels)

	for _, dev := range env.Registry.Devices() {
		s, err := dev.Open("vrouter fast path", false)
		if err != nil {
			env.Log.Warn("crypto engine left out", "engine", dev.Info().Name, "err", err)
			continue
		}
		f.engines = append(f.engines, &engine{index: uint32(len(f.engines)), dev: dev, session: s, caps: dev.Caps()})
	}
	for i := range env.Workers {
		w, err := f.newWorker(i, n)
		if err != nil {
			return nil, err
		}
		f.workers = append(f.workers, w)
	}
	return f, nil
}

func (f *Feature) newWorker(i, records int) (*worker, error) {
	w := &worker{f: f}
	paths, err := mem.NewTable[path](records, mem.Options{})
	if err != nil {
		return nil, err
	}
	w.paths = paths
	for _, e := range f.engines {
		if i >= e.caps.Queues {
			return nil, fmt.Errorf("engine %s has %d queues, worker %d needs one", e.dev.Info().Name, e.caps.Queues, i)
		}
		q, err := e.session.Queue(i, f.env.Pool)
		if err != nil {
			return nil, fmt.Errorf("engine %s: %w", e.dev.Info().Name, err)
		}
		w.lanes = append(w.lanes, &lane{q: cryptoq.New(q, e.caps.Sync, w), raw: q})
	}
	return w, nil
}

// Close writes the SA state down and gives the engines back. No worker runs
// any more.
func (f *Feature) Close() error {
	var errs []error
	for _, w := range f.workers {
		for _, l := range w.lanes {
			errs = append(errs, l.raw.Close())
		}
		errs = append(errs, w.paths.Unmap())
	}
	for _, e := range f.engines {
		errs = append(errs, e.session.Close())
	}
	errs = append(errs, f.sad.live.close(), f.sad.rec.Unmap(), f.sad.errs.Unmap(), f.sad.bySPI.tab.Unmap())
	return errors.Join(errs...)
}

// InFlight is how many buffers engines hold.
func (f *Feature) InFlight() (n int) {
	for _, w := range f.workers {
		for _, l := range w.lanes {
			n += l.q.InFlight()
		}
	}
	return n
}

// place finds the engine for an SA and says why that one.
func (f *Feature) place(s *SA) (e *engine, mode, reason string, err error) {
	want := s.Offload.Mode
	if want == "" {
		want = "software"
	}
	var why string
	kind := sal.Software
	if want != "software" {
		kind = sal.LookAside
	}
	for _, x := range f.engines {
		info := x.dev.Info()
		switch {
		case s.Offload.Engine != "" && info.Name != s.Offload.Engine:
		case !info.Ready:
			why = "engine " + info.Name + " is not ready"
		case want == "protocol" || want == "full":
			why = "engine " + info.Name + " does not offer mode " + want
		case info.Kind != kind || !x.caps.Has(sal.ModeCrypto):
			why = "engine " + info.Name + " does not offer mode " + want
		case !x.takes(s):
			why = "engine " + info.Name + " does not take the SA's algorithm, key length or ESN"
		default:
			return x, want, "as configured: " + want, nil
		}
	}
	if why == "" {
		why = "no engine offers mode " + want
		if s.Offload.Engine != "" {
			why = fmt.Sprintf("there is no engine %q", s.Offload.Engine)
		}
	}
	if s.Offload.Policy == Require {
		return nil, "", "", fmt.Errorf("offload is required, and %s", why)
	}
	for _, x := range f.engines {
		if i := x.dev.Info(); i.Kind == sal.Software && i.Ready && x.caps.Has(sal.ModeCrypto) && x.takes(s) {
			return x, "software", "fallback to software: " + why, nil
		}
	}
	return nil, "", "", fmt.Errorf("no engine takes the SA: %s", why)
}

func (e *engine) takes(s *SA) bool {
	if s.ESN && !e.caps.ESN {
		return false
	}
	for _, a := range e.caps.Algorithms {
		if a.Algorithm == s.Algorithm && slices.Contains(a.KeyBits, (len(s.Key)-4)*8) {
			return true
		}
	}
	return false
}

// States reads SAs by name, all for an empty list.
func (f *Feature) States(names []string) []SAState {
	var out []SAState
	each(names, f.sas, func(name string, s *sa) {
		l, id := f.sad.live.line(s.slot), f.sad.live.ident(s.slot)
		st := SAState{Name: name, SPI: s.SPI, Direction: s.Direction, AddedAt: id.AddedAt,
			UsedAt: atomic.LoadInt64(&l.UsedAt), Packets: atomic.LoadUint64(&l.Packets), Bytes: atomic.LoadUint64(&l.Bytes),
			Seq: atomic.LoadUint64(&l.Seq), Window: s.ReplayWindow, Replayed: atomic.LoadUint64(&l.Replayed),
			Failed: atomic.LoadUint64(&l.Failed), Engine: s.engine.dev.Info().Name, Mode: s.mode, Reason: s.reason}
		if s.stale {
			st.Reason = "carries nothing: its sequence numbers were lost with the last boot; replace its key"
		}
		if s.Direction == sal.Inbound {
			w := replay.View(f.sad.live.window(s.slot))
			st.Seq = w.Top()
			for i := uint64(0); i < 64 && i < st.Seq; i++ {
				if w.Seen(st.Seq - i) {
					st.Bitmap |= 1 << i
				}
			}
		}
		for i, n := range f.sad.errs.At(s.slot) {
			if n > 0 {
				st.Errors = append(st.Errors, Error{saErrorNames[i], n})
			}
		}
		out = append(out, st)
	})
	return out
}

// PolicyStates reads SPD entries by name, all for an empty list.
func (f *Feature) PolicyStates(names []string) []PolicyState {
	var out []PolicyState
	each(names, f.policies, func(name string, e *entry) {
		st := PolicyState{Name: name}
		if e.p.counter != 0 {
			c := f.env.Counters.Read(e.p.counter)
			st.Packets, st.Bytes = c.Packets, c.Bytes
		}
		out = append(out, st)
	})
	return out
}

func each[T any](names []string, m map[string]T, do func(string, T)) {
	if len(names) == 0 {
		for n := range m {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	for _, n := range names {
		if x, ok := m[n]; ok {
			do(n, x)
		}
	}
}

// Engines describes the crypto engines: what they are, what they can do, how
// many of their own failures were counted.
func (f *Feature) Engines(do func(info sal.DeviceInfo, caps sal.Caps, sas int, failures uint64)) {
	for _, e := range f.engines {
		n, failures := 0, uint64(0)
		for _, s := range f.sas {
			if s.engine == e {
				n++
				failures += f.sad.errs.At(s.slot)[errDevice]
			}
		}
		do(e.dev.Info(), e.caps, n, failures)
	}
}
