package iface

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"vrouter/fastpath/event"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// The limits of an interface's MTU: what IPv4 and IPv6 demand (RFC 791, RFC
// 8200 section 5), and what frames may have. A driver may stop before.
const (
	MinMTU4 = 68
	MinMTU6 = 1280
	MaxMTU  = sal.MaxMTU
)

// Feature is the interfaces. All methods but those of its stage are called
// under the engine's lock.
type Feature struct {
	env  *pipeline.Env
	byN  map[string]*entry
	byI  []*entry // by index
	free []pipeline.IfIndex
	sum  Sums
	// lost are ports without a device that workers may still be using, and
	// pending counts the changes that are prepared and not yet live.
	lost    []sal.Port
	pending int
	// Stage admits packets by family.
	Stage pipeline.Stage
}

// Sums reads what all workers counted on an interface, since the process began.
type Sums func(i pipeline.IfIndex) (pipeline.IfCount, pipeline.Drops)

// entry is one interface.
type entry struct {
	cfg     Config
	index   pipeline.IfIndex
	port    sal.Port // nil: lost, could not be opened again
	info    sal.PortInfo
	created int64
	before  *counts       // what its index had counted before it had it; nil: nothing
	past    sal.PortStats // of ports that it had before
	link    bool
	changed int64
}

// counts is what was counted on an interface.
type counts struct {
	pipeline.IfCount
	drops pipeline.Drops
}

// counted is what was counted on an interface since it exists.
func (f *Feature) counted(e *entry) (pipeline.IfCount, pipeline.Drops) {
	c, d := f.sum(e.index)
	if e.before != nil {
		c.Sub(&e.before.IfCount)
		for r := range d {
			d[r] -= e.before.drops[r]
		}
	}
	return c, d
}

// New makes the feature.
func New(env *pipeline.Env, sum Sums) *Feature {
	return &Feature{env: env, byN: map[string]*entry{}, byI: make([]*entry, 1), sum: sum, Stage: admit{}}
}

// prepared is a change that is ready.
type prepared struct {
	f    *Feature
	set  []*entry // as they will be
	gone []*entry
	// reopen are those of set whose port must be closed and opened anew, which
	// can only be done when no worker uses it any more.
	reopen []*entry
	opened []*entry
	// freed are the devices of the interfaces that go: they can only be opened
	// again behind the snapshot as well.
	freed map[string]bool
	ready bool // it counts in pending
	// workers is how many there will be.
	workers int
}

// MTUSetter is a port whose MTU can be changed while it is open. Others are
// closed and opened again.
type MTUSetter interface{ SetMTU(mtu int) error }

// Prepare checks a change, opens the ports of new interfaces and puts the
// interfaces as they will be into b.
func (f *Feature) Prepare(b *pipeline.Builder, c *Change) (_ pipeline.Prepared, err error) {
	p := &prepared{f: f, freed: map[string]bool{}, workers: b.Workers}
	defer func() {
		if err != nil {
			p.Abort()
		}
	}()
	after := map[string]*entry{} // nil: deleted
	swap := map[pipeline.IfIndex]*pipeline.Iface{}
	for _, name := range c.Delete {
		e := f.byN[name]
		if e == nil || hasKey(after, name) {
			return nil, refuse(name, "", "no such interface")
		}
		after[name] = nil
		swap[e.index] = nil
		p.gone = append(p.gone, e)
		if !e.cfg.Loopback {
			p.freed[e.cfg.Driver+" "+device(&e.cfg)] = true
		}
		b.FlushFlows()
	}
	for i := range c.Set {
		cfg := &c.Set[i]
		if hasKey(after, cfg.Name) && after[cfg.Name] != nil {
			return nil, refuse(cfg.Name, "", "set twice in one change")
		}
		if err := f.check(cfg); err != nil {
			return nil, err
		}
		old := f.byN[cfg.Name]
		if hasKey(after, cfg.Name) {
			old = nil // deleted and made again: a new interface
		}
		e, err := p.one(old, cfg)
		if err != nil {
			return nil, err
		}
		after[cfg.Name] = e
		swap[e.index] = e.compile(!slices.Contains(p.reopen, e))
		if was := b.Snap.Ifaces.At(e.index); policyDiffers(was, swap[e.index]) {
			b.FlushFlows()
		}
		p.set = append(p.set, e)
	}
	b.Names = func(name string) pipeline.IfIndex {
		if e, ok := after[name]; ok {
			if e == nil {
				return 0
			}
			return e.index
		}
		if e := f.byN[name]; e != nil {
			return e.index
		}
		return 0
	}
	if len(swap) > 0 {
		b.Snap.Ifaces = b.Snap.Ifaces.With(swap)
	}
	p.ready = true
	f.pending++
	return p, nil
}

func hasKey(m map[string]*entry, k string) bool { _, ok := m[k]; return ok }

// one is an interface as it will be.
func (p *prepared) one(old *entry, cfg *Config) (*entry, error) {
	f := p.f
	e := &entry{cfg: *cfg}
	e.cfg.Addrs = slices.Clone(cfg.Addrs)
	if old != nil {
		e.index, e.created, e.before = old.index, old.created, old.before
		e.port, e.info, e.link, e.changed = old.port, old.info, old.link, old.changed
		e.past = old.past
		if cfg.Loopback {
			if old.port != nil {
				p.freed[old.cfg.Driver+" "+device(&old.cfg)] = true
			}
			e.port, e.info, e.link = nil, sal.PortInfo{}, false
			return e, nil
		}
		if old.port != nil && samePort(old, cfg) {
			return e, nil
		}
		if !old.cfg.Loopback && device(&old.cfg) == device(cfg) && old.cfg.Driver == cfg.Driver {
			p.reopen = append(p.reopen, e)
			return e, nil
		}
	} else {
		if e.index = f.takeIndex(); e.index == 0 {
			return nil, refuse(cfg.Name, "", fmt.Sprintf("all %d interfaces are in use", pipeline.MaxIfaces-1))
		}
		p.opened = append(p.opened, e) // its index goes back on Abort
		e.created = f.env.Now()
		e.changed = e.created
		if c, d := f.sum(e.index); c != (pipeline.IfCount{}) || d != (pipeline.Drops{}) {
			e.before = &counts{c, d} // rarely: most interfaces have an index that is new too
		}
	}
	if cfg.Loopback {
		return e, nil
	}
	if p.freed[cfg.Driver+" "+device(cfg)] {
		p.reopen = append(p.reopen, e)
		return e, nil
	}
	if err := e.open(f.env, p.workers); err != nil {
		return nil, refuse(cfg.Name, openField(cfg, err), err.Error())
	}
	if old != nil {
		p.opened = append(p.opened, e)
	}
	return e, nil
}

// open opens the interface's port, with a queue for each worker if it has as
// many. With fewer, workers hand packets to each other.
func (e *entry) open(env *pipeline.Env, workers int) error {
	d, err := env.Registry.Driver(e.cfg.Driver)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	cfg := sal.PortConfig{Name: e.cfg.Name, Device: device(&e.cfg), Queues: max(e.cfg.Queues, workers),
		MTU: int(e.cfg.MTU), MAC: e.cfg.MAC, Params: e.cfg.Params}
	port, err := d.Open(cfg, env.Pool)
	if err != nil && cfg.Queues > e.cfg.Queues && (errors.Is(err, sal.ErrNotSupported) || errors.Is(err, sal.ErrInvalid)) {
		cfg.Queues = e.cfg.Queues
		port, err = d.Open(cfg, env.Pool)
	}
	if err != nil {
		return err
	}
	e.port, e.info = port, port.Info()
	return nil
}

// openField is the field that an error of a driver is about, as far as can be
// told.
func openField(c *Config, err error) string {
	switch {
	case c.Params.Read != "" || c.Params.Write != "":
		return "Params"
	case errors.Is(err, sal.ErrNotFound), errors.Is(err, sal.ErrBusy), errors.Is(err, sal.ErrExists):
		return "Device"
	case errors.Is(err, sal.ErrNotSupported):
		return "Queues"
	}
	return "Driver"
}

// compile is the interface as workers see it.
func (e *entry) compile(usable bool) *pipeline.Iface {
	c := &e.cfg
	x := &pipeline.Iface{Index: e.index, Name: c.Name, MAC: e.info.MAC, Addrs: e.cfg.Addrs}
	if c.MAC != ([6]byte{}) {
		x.MAC = c.MAC
	}
	x.MACWord = burst.MACWord(x.MAC)
	x.FrameMax = c.MTU + pkt.EthernetLen
	x.MSS = c.MSS
	for f, ip := range [2]IP{c.V4, c.V6} {
		x.Enabled[f] = c.Enabled && ip.Enabled
		x.Forward[f] = x.Enabled[f] && ip.Forwarding
		x.Sources[f] = ip.Sources
		x.MTU[f] = c.MTU
		if ip.MTU != 0 {
			x.MTU[f] = min(ip.MTU, c.MTU)
		}
	}
	for _, a := range c.Addrs {
		f := pipeline.V4
		if a.Addr().Is6() {
			f = pipeline.V6
			if a.Addr().IsLinkLocalUnicast() {
				continue
			}
		}
		if !x.Src[f].IsValid() {
			x.Src[f] = a.Addr()
		}
	}
	if !c.Loopback { // nobody else could have its addresses
		x.DAD = c.V6.DAD
	}
	if c.Enabled && c.V6.Enabled {
		x.RA = c.RA
	}
	if c.V6.Enabled && !c.Loopback {
		x.LinkLocal = netip.AddrFrom16(pkt.LinkLocal6(x.MAC))
		if !x.Src[pipeline.V6].IsValid() {
			x.Src[pipeline.V6] = x.LinkLocal
		}
	}
	if c.Enabled && usable && e.port != nil {
		x.Port, x.Queues, x.Receive = e.port, e.info.Queues, e.info.Queues
		if n := e.info.RxQueues; n > 0 {
			x.Receive = n
		}
	}
	return x
}

// policyDiffers tells whether flows that were decided with one may be decided
// differently with the other.
func policyDiffers(a, b *pipeline.Iface) bool {
	if a == nil || b == nil {
		return a != b
	}
	return a.MACWord != b.MACWord || a.Enabled != b.Enabled || a.Forward != b.Forward || a.Sources != b.Sources || !slices.Equal(a.Addrs, b.Addrs) || a.LinkLocal != b.LinkLocal
}

func device(c *Config) string {
	if c.Device != "" {
		return c.Device
	}
	return c.Name
}

// samePort tells whether the port of an interface serves another configuration.
func samePort(e *entry, b *Config) bool {
	a := &e.cfg
	if a.MTU != b.MTU {
		if _, ok := e.port.(MTUSetter); !ok {
			return false
		}
	}
	return a.Driver == b.Driver && device(a) == device(b) && a.Queues == b.Queues && a.MAC == b.MAC && a.Params == b.Params
}

// check looks at an interface by itself.
func (f *Feature) check(c *Config) error {
	switch {
	case c.Name == "":
		return refuse(c.Name, "Name", "an interface needs a name")
	case c.Loopback && (c.Driver != "" || c.Device != "" || c.MAC != [6]byte{} || c.RA != nil):
		return refuse(c.Name, "Loopback", "a loopback interface has no port")
	case c.Queues < 1 && !c.Loopback:
		return refuse(c.Name, "Queues", "at least one queue is needed")
	case c.MTU < MinMTU4 || c.MTU > MaxMTU:
		return refuse(c.Name, "MTU", fmt.Sprintf("MTU %d is not within %d to %d", c.MTU, MinMTU4, MaxMTU))
	case c.V6.Enabled && mtu(c.V6.MTU, c.MTU) < MinMTU6:
		return refuse(c.Name, "V6.MTU", fmt.Sprintf("IPv6 needs an MTU of %d (RFC 8200 section 5), this is %d", MinMTU6, mtu(c.V6.MTU, c.MTU)))
	case c.V4.Enabled && mtu(c.V4.MTU, c.MTU) < MinMTU4:
		return refuse(c.Name, "V4.MTU", fmt.Sprintf("IPv4 needs an MTU of %d (RFC 791)", MinMTU4))
	case c.MAC[0]&1 != 0:
		return refuse(c.Name, "MAC", "a group address cannot be an interface's own")
	}
	if !c.Loopback {
		d, err := f.env.Registry.Driver(c.Driver)
		if err != nil {
			return refuse(c.Name, "Driver", err.Error())
		}
		if l, ok := d.(sal.MTULimiter); ok && int(c.MTU) > l.MaxMTU() {
			return refuse(c.Name, "MTU", fmt.Sprintf("MTU %d: with %s the largest is %d", c.MTU, c.Driver, l.MaxMTU()))
		}
	}
	for i, a := range c.Addrs {
		switch ip := a.Addr(); {
		case !a.IsValid() || ip.Is4In6() || ip.Zone() != "":
			return refuse(c.Name, "Addrs", fmt.Sprintf("%v is no address with prefix length", a))
		case ip.IsMulticast() || ip.IsUnspecified() || ip.IsLoopback() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return refuse(c.Name, "Addrs", fmt.Sprintf("%v cannot be an interface's address", ip))
		case slices.ContainsFunc(c.Addrs[:i], func(b netip.Prefix) bool { return b.Addr() == ip }):
			return refuse(c.Name, "Addrs", fmt.Sprintf("%v stands there twice", ip))
		}
	}
	return nil
}

func mtu(own, iface uint16) uint16 {
	if own == 0 {
		return iface
	}
	return own
}

func refuse(name, field, why string) error {
	return &pipeline.Refusal{Feature: "iface", Object: name, Field: field, Reason: why}
}

// takeIndex finds a free index; indices given back wait at the end of the
// queue, so that one is not used again soon.
func (f *Feature) takeIndex() pipeline.IfIndex {
	if n := len(f.byI); n < pipeline.MaxIfaces {
		f.byI = append(f.byI, nil)
		return pipeline.IfIndex(n)
	}
	if len(f.free) == 0 {
		return 0
	}
	i := f.free[0]
	f.free = f.free[1:]
	return i
}

// Abort closes what Prepare opened.
func (p *prepared) Abort() {
	p.done()
	for i := len(p.opened) - 1; i >= 0; i-- {
		e := p.opened[i]
		if old := p.f.byI[e.index]; (old == nil || old.port != e.port) && e.port != nil {
			_ = e.port.Close()
		}
		if p.f.byI[e.index] == nil {
			if int(e.index) == len(p.f.byI)-1 {
				p.f.byI = p.f.byI[:e.index]
			} else {
				p.f.free = append(p.f.free, e.index)
			}
		}
	}
}

// Publish makes the interfaces the configured ones; the engine stores the
// snapshot behind it.
func (p *prepared) Publish() {
	f := p.f
	p.done()
	clamps := int32(0)
	taken := map[string]bool{} // devices that ports of other drivers have by now
	for _, e := range p.set {
		if old := f.byI[e.index]; e.port != nil && (old == nil || old.port != e.port) {
			taken[device(&e.cfg)] = true
		}
	}
	for _, e := range p.gone {
		delete(f.byN, e.cfg.Name)
		f.byI[e.index] = nil
		clamps -= e.clamps()
		port, index, keep := e.port, e.index, taken[device(&e.cfg)]
		f.env.Grace.Retire(func() {
			f.closePort(port, keep)
			f.free = append(f.free, index)
		})
	}
	for _, e := range p.set {
		old := f.byI[e.index]
		clamps += e.clamps() - old.clamps()
		if old != nil && old.port != e.port {
			port, keep := old.port, taken[device(&old.cfg)]
			e.keepStats(port)
			f.env.Grace.Retire(func() { f.closePort(port, keep) })
		}
		if e.port != nil && !slices.Contains(p.reopen, e) {
			f.setUp(e, old)
		}
		if e.cfg.Loopback && old != nil && old.cfg.Enabled != e.cfg.Enabled {
			e.changed = f.env.Now()
		}
		f.byN[e.cfg.Name] = e
		f.byI[e.index] = e
	}
	f.env.Clamps.Add(clamps)
}

// clamps is 1 for an interface that clamps segment sizes.
func (e *entry) clamps() int32 {
	if e == nil || e.cfg.MSS == pipeline.NoClamp {
		return 0
	}
	return 1
}

// Reopen opens the ports anew that Publish left closed, and gives the
// interfaces that come with them, nil when there are none. The engine calls it
// after all workers have taken over the snapshot.
func (p *prepared) Reopen() map[pipeline.IfIndex]*pipeline.Iface {
	if len(p.reopen) == 0 {
		return nil
	}
	m := map[pipeline.IfIndex]*pipeline.Iface{}
	for _, e := range p.reopen {
		e.keepStats(e.port)
		p.f.closePort(e.port, false)
		e.port = nil
		if err := e.open(p.f.env, p.workers); err != nil {
			// The commit stands: the interface is down, and Tick tries again.
			p.f.env.Log.Error("port could not be opened again", "interface", e.cfg.Name, "error", err)
			p.f.tell(e, event.PortLost, "the port could not be opened again: "+err.Error())
		} else {
			p.f.setUp(e, nil)
		}
		m[e.index] = e.compile(true)
	}
	return m
}

// AddQueues gives the ports queues for so many workers, as far as they can have
// more while they are open, and returns the interfaces that have more then. The new
// queues receive nothing that anybody sees before workers have taken these over.
func (f *Feature) AddQueues(workers int) map[pipeline.IfIndex]*pipeline.Iface {
	m := map[pipeline.IfIndex]*pipeline.Iface{}
	for _, e := range f.byI {
		if e == nil || e.port == nil || e.info.Queues >= workers {
			continue
		}
		a, ok := e.port.(sal.QueueAdder)
		if !ok {
			continue
		}
		if err := a.AddQueues(workers); err != nil {
			f.env.Log.Info("a port keeps the queues it has", "interface", e.cfg.Name, "error", err)
		}
		if i := e.port.Info(); i.Queues != e.info.Queues {
			e.info = i
			m[e.index] = e.compile(true)
		}
	}
	return m
}

// Reopener is the part of iface's Prepared that the engine calls after the
// snapshot is live.
type Reopener interface {
	Reopen() map[pipeline.IfIndex]*pipeline.Iface
}

func (f *Feature) setUp(e, old *entry) {
	if old != nil && old.port == e.port && old.cfg.MTU != e.cfg.MTU {
		if err := e.port.(MTUSetter).SetMTU(int(e.cfg.MTU)); err != nil {
			f.env.Log.Error("port's MTU could not be set", "interface", e.cfg.Name, "error", err)
		}
	}
	if old != nil && old.port == e.port && old.cfg.Enabled == e.cfg.Enabled {
		return
	}
	if err := e.port.SetUp(e.cfg.Enabled); err != nil {
		f.env.Log.Error("port could not be set up", "interface", e.cfg.Name, "error", err)
	}
	e.changed = f.env.Now()
	e.link = e.port.Link()
}

// closePort closes a port. keepUp: its device is another port's, which has set it
// up.
func (f *Feature) closePort(p sal.Port, keepUp bool) {
	if p == nil {
		return
	}
	if !keepUp {
		_ = p.SetUp(false)
	}
	if err := p.Close(); err != nil {
		f.env.Log.Error("port could not be closed", "port", p.Info().Name, "error", err)
	}
}

// Tick looks at the links. It tells up for those that came up, and returns the
// interfaces whose port is gone with its device, or could be opened again.
func (f *Feature) Tick(now int64, up func(i pipeline.IfIndex)) (back map[pipeline.IfIndex]*pipeline.Iface) {
	f.closeLost()
	for _, e := range f.byI {
		if e == nil || e.cfg.Loopback {
			continue
		}
		if f.lose(e, now) {
			if back == nil {
				back = map[pipeline.IfIndex]*pipeline.Iface{}
			}
			back[e.index] = e.compile(true)
			continue
		}
		if e.port == nil {
			if f.pending > 0 || e.open(f.env, f.env.Workers) != nil {
				continue
			}
			f.env.Log.Info("port is open again", "interface", e.cfg.Name, "device", device(&e.cfg))
			f.setUp(e, nil)
			if e.link {
				f.tell(e, event.PortUp, "the port is there again")
			}
			if back == nil {
				back = map[pipeline.IfIndex]*pipeline.Iface{}
			}
			back[e.index] = e.compile(true)
		}
		if l := e.cfg.Enabled && e.port.Link(); l != e.link {
			e.link, e.changed = l, now
			switch {
			case l:
				f.tell(e, event.PortUp, "the link is there")
				up(e.index)
			case e.cfg.Enabled:
				f.tell(e, event.PortDown, "the link is gone")
			default:
				f.tell(e, event.PortDown, "the interface was shut")
			}
		}
	}
	return back
}

// tell makes an event of what has happened to an interface.
func (f *Feature) tell(e *entry, kind event.Kind, text string) {
	if f.env.Events != nil {
		f.env.Events.Add(event.Event{Kind: kind, Object: e.cfg.Name, Text: text})
	}
}

// Close closes all ports; no worker may be running.
func (f *Feature) Close() {
	for _, e := range f.byI {
		if e != nil {
			f.closePort(e.port, false)
			e.port = nil
		}
	}
}
