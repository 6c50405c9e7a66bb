package iface

import (
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
)

// Objects gives every interface's configuration.
func (f *Feature) Objects(yield func(key string, cfg any)) {
	for n, e := range f.byN {
		yield(n, &e.cfg)
	}
}

// State is the interfaces named, all when names is empty, in order of index.
func (f *Feature) State(names []string) []State {
	var l []State
	if len(names) > 0 {
		for _, n := range names {
			if e := f.byN[n]; e != nil {
				l = append(l, f.state(e))
			}
		}
		return l
	}
	l = make([]State, 0, len(f.byN))
	for _, e := range f.byI {
		if e != nil {
			l = append(l, f.state(e))
		}
	}
	return l
}

// Name is the name of an index, "" when there is none.
func (f *Feature) Name(i pipeline.IfIndex) string {
	if int(i) < len(f.byI) && f.byI[i] != nil {
		return f.byI[i].cfg.Name
	}
	return ""
}

// Drops are the packets that came in on an interface and died, since it exists.
func (f *Feature) Drops(yield func(name string, d *pipeline.Drops)) {
	for _, e := range f.byI {
		if e == nil {
			continue
		}
		_, d := f.counted(e)
		yield(e.cfg.Name, &d)
	}
}

// rxErrors are the reasons that count as errors of the interface, unknown those
// that RFC 8343 counts as unknown protocols. Other reasons are decisions of
// later features about packets that were received well.
var (
	rxErrors   = []drop.Reason{drop.RxTooShort, drop.RxTooBig}
	rxDiscards = []drop.Reason{drop.FamilyOff, drop.NoBuffer, drop.NoLargeBuffer, drop.ControlFull}
	unknown    = []drop.Reason{drop.RxEtherType, drop.RxVLAN}
)

func (f *Feature) state(e *entry) State {
	c, d := f.counted(e)
	add := func(l []drop.Reason) (n uint64) {
		for _, r := range l {
			n += d[r]
		}
		return n
	}
	x := e.compile(true)
	s := State{Name: e.cfg.Name, Driver: e.cfg.Driver, Device: device(&e.cfg), IfIndex: int(e.index), Admin: e.cfg.Enabled,
		LastChange: e.changed, MAC: x.MAC, MTU: e.cfg.MTU}
	n := &s.Counters
	n.CreatedAt = e.created
	n.RxPackets, n.RxOctets, n.RxMulticast, n.RxBroadcast = c.RxPackets, c.RxOctets, c.RxMulticast, c.RxBroadcast
	n.TxPackets, n.TxOctets, n.TxMulticast, n.TxBroadcast = c.TxPackets, c.TxOctets, c.TxMulticast, c.TxBroadcast
	// The counters are read one after another while packets pass.
	n.RxUnicast = c.RxPackets - min(c.RxPackets, c.RxMulticast+c.RxBroadcast)
	n.TxUnicast = c.TxPackets - min(c.TxPackets, c.TxMulticast+c.TxBroadcast)
	n.RxErrors, n.RxDiscards, n.RxUnknownProtos = add(rxErrors), add(rxDiscards), add(unknown)
	n.TxDiscards = c.TxDiscards
	if e.cfg.Loopback {
		s.Device, s.Link = "", e.cfg.Enabled
	}
	s.Tentative, s.Duplicate = f.env.Tentative.Load().Of(e.index)
	if e.port != nil {
		s.Link = e.cfg.Enabled && e.port.Link()
		s.Speed = e.info.Speed
		s.Queues, s.Mode, s.Why, s.Shared = e.info.Queues, e.info.Mode, e.info.Why, e.info.Shared
	}
	p := e.stats()
	// A super-frame that cannot be cut to the MTU is too large for it.
	n.RxErrors += p.RxErrors + p.RxUncut
	n.RxUncut = p.RxUncut
	n.RxDiscards += p.RxDropped
	n.TxErrors += p.TxErrors
	n.TxDiscards += p.TxDropped
	return s
}

// Index is the index of a name, 0 when there is none.
func (f *Feature) Index(name string) pipeline.IfIndex {
	if e := f.byN[name]; e != nil {
		return e.index
	}
	return 0
}

// admit is the stage: an interface takes packets of the families that are
// enabled on it.
type admit struct{}

// Walk implements pipeline.Stage.
func (admit) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	fam := pipeline.V4
	if v.V6 {
		fam = pipeline.V6
	}
	if i := idx[0] & 255; v.Same && v.From[i] == pipeline.FromIface(v.In[i]) {
		if x := c.Snap.Ifaces.At(v.In[i]); x != nil && x.Enabled[fam] {
			return idx
		}
	}
	k := 0
	var last pipeline.IfIndex
	open := false
	for _, i := range idx {
		i &= 255
		if v.From[i] == pipeline.FromIface(v.In[i]) {
			if v.In[i] != last || k == 0 {
				last = v.In[i]
				x := c.Snap.Ifaces.At(last)
				open = x != nil && x.Enabled[fam]
			}
			if !open {
				v.Drop(i, drop.FamilyOff)
				continue
			}
		}
		idx[k&255] = i
		k++
	}
	return idx[:k]
}

// Held counts the buffers that ports hold.
func (f *Feature) Held() (n int) {
	for _, e := range f.byI {
		if e != nil && e.port != nil {
			for q := range e.info.Queues {
				n += e.port.Queue(q).Held()
			}
		}
	}
	for _, p := range f.lost {
		for q := range p.Info().Queues {
			n += p.Queue(q).Held()
		}
	}
	return n
}

// Indices is one more than the largest index that was ever given.
func (f *Feature) Indices() int { return len(f.byI) }
