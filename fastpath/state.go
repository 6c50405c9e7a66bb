package fastpath

import (
	"context"
	"os"
	"strconv"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// Inventory implements Engine.
func (e *Local) Inventory(context.Context) (*Inventory, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	v := &Inventory{Label: e.label, Objects: map[string]map[string]Digest{}}
	for f, m := range e.kept {
		o := make(map[string]Digest, len(m))
		for k, d := range m {
			o[k] = d
		}
		v.Objects[f] = o
	}
	for f, objects := range map[string]func(func(string, any)){
		"iface": e.f.iface.Objects, "neigh": e.f.neigh.Objects, "route": e.f.route.Objects,
	} {
		o := map[string]Digest{}
		objects(func(key string, cfg any) { o[key] = DigestOf(e.key, cfg) })
		v.Objects[f] = o
	}
	return v, nil
}

// State implements Engine.
func (e *Local) State(_ context.Context, q *Query) (*State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	s := &State{}
	if q.Ifaces != nil {
		s.Ifaces = e.f.iface.State(q.Ifaces)
	}
	if q.Neighbours != nil {
		s.Neighbours = e.f.neigh.State(q.Neighbours)
	}
	if q.Routes {
		s.Routes = e.f.route.State()
	}
	if q.SAs != nil {
		s.SAs = e.f.ipsec.States(q.SAs)
	}
	if q.Policies != nil {
		s.Policies = e.f.ipsec.PolicyStates(q.Policies)
	}
	if q.Groups != nil {
		s.Groups = e.f.ipsec.GroupStates(q.Groups)
	}
	if q.Drops {
		s.Drops = e.drops()
	}
	if q.Process {
		s.Process = e.process()
	}
	return s, nil
}

// Events implements Engine.
func (e *Local) Events(ctx context.Context, after uint64) (*Events, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-e.quit:
			stop(ErrClosed)
		case <-ctx.Done():
		}
	}()
	b, err := e.env.Events.Read(ctx, after)
	if err != nil {
		return nil, context.Cause(ctx)
	}
	return b, nil
}

// sum adds up what workers and control side counted on an interface.
func (e *Local) sum(i pipeline.IfIndex) (c pipeline.IfCount, d pipeline.Drops) {
	add := func(t *pipeline.IfTables) {
		c.Add(t.Count.At(uint32(i)))
		d.Add(t.Drop.At(uint32(i)))
	}
	for _, w := range e.workers {
		add(w.Ctx().Ifs())
	}
	add(e.env.Control.Ifs())
	return c, d
}

// drops are all reasons under which a packet has died, in total since the
// process began and on the interfaces that are there since they are.
func (e *Local) drops() []Drop {
	l := make([]Drop, drop.N)
	for i := range e.f.iface.Indices() {
		_, d := e.sum(pipeline.IfIndex(i))
		for r, n := range d {
			l[r].Packets += n
		}
	}
	e.f.iface.Drops(func(name string, d *pipeline.Drops) {
		for r, n := range d {
			if n > 0 {
				l[r].Ifaces = append(l[r].Ifaces, IfaceDrop{name, n})
			}
		}
	})
	k := 0
	for r := range l {
		if l[r].Packets == 0 {
			continue
		}
		i := drop.Reason(r).Info()
		l[r].Reason, l[r].Severity, l[r].Description = i.Name, i.Severity.String(), i.Text
		l[k] = l[r]
		k++
	}
	return l[:k]
}

func (e *Local) process() *Process {
	p := &Process{PID: os.Getpid(), StartedAt: e.started, Label: e.label, Engines: e.engines(), Events: e.env.Events.Stats(), Neigh: e.f.neigh.Stats()}
	waiting := e.f.neigh.Waiting() + e.f.reass.Held() + e.env.Mesh.Len(-1)
	p.Changes = e.crew.changes
	for i, w := range e.workers {
		s := w.Stats()
		if i < e.crew.n {
			p.Workers = append(p.Workers, e.worker(i, &s))
		}
		p.Flows.Size += s.FlowSize
		p.Flows.Used += s.FlowUsed
		p.Flows.Hits += s.Hits
		p.Flows.Misses += s.Misses
		waiting += s.ToControl + s.FromControl
	}
	b := e.pool.Stats()
	p.Buffers = Buffers{Total: b.Total, Free: b.Free, Cached: b.Cached, Ports: e.f.iface.Held(), Waiting: waiting, InFlight: e.f.ipsec.InFlight(), Large: b.Large}
	return p
}

// engines describes the crypto engines.
func (e *Local) engines() (l []EngineInfo) {
	e.f.ipsec.Engines(func(i sal.DeviceInfo, c sal.Caps, st ipsec.EngineState) {
		x := EngineInfo{Name: i.Name, Driver: i.Driver, ISA: i.ISA, Ready: i.Ready, NUMANode: i.NUMANode, Queues: c.Queues, QueueDepth: c.QueueDepth,
			ESN: c.ESN, MaxSAs: c.MaxSAs, WindowMax: c.WindowMax, EngineState: st, Kind: [...]string{"software", "look-aside", "inline"}[i.Kind]}
		for _, m := range c.Modes {
			x.Modes = append(x.Modes, [...]string{"crypto", "protocol", "full"}[m])
		}
		for _, a := range c.Algorithms {
			for _, b := range a.KeyBits {
				name := a.Algorithm.String()
				if b > 0 {
					name += "-" + strconv.Itoa(b)
				}
				x.Algorithms = append(x.Algorithms, name)
			}
		}
		for _, a := range c.Integrity {
			x.Algorithms = append(x.Algorithms, a.String())
		}
		l = append(l, x)
	})
	return l
}
