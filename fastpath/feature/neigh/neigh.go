package neigh

import (
	"cmp"
	"container/heap"
	"container/list"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// The files: neigh.go tables and commits, nud.go the states of an entry, room.go
// who gives way when there are too many, message.go ARP and neighbour discovery, dad.go whether own addresses are
// unique, ra.go Router Advertisements, stage.go what workers ask, table.go where
// they look.
//
// Not done: address conflict detection for IPv4 (RFC 5227); redirects; proxy ARP.

// Feature is the neighbours. All methods but Find4, Find6 and those of its
// stage are called under the engine's lock.
type Feature struct {
	env   *pipeline.Env
	table *table
	ifs   map[pipeline.IfIndex]*link
	byAdj map[uint32]*entry
	due   dueHeap
	// statics are the configured ones.
	statics map[Key]*entry
	count   int
	// asking and failed are the entries that nothing names and of which nobody
	// has been heard, in the order in which they were last wanted.
	asking, failed *list.List

	waiting int
	stats   Stats
	warned  int64 // when a conflict of addresses was last logged

	advertising map[*link]struct{}
	checks      map[checkKey]*check // of own addresses, see dad.go
	probes      []*check            // those under way, in order of time
	checksMoved bool
	// Stage turns connected destinations into their neighbour's adjacency, and
	// ends every program that is left.
	Stage pipeline.Stage
}

// link is what an interface has here.
type link struct {
	index  pipeline.IfIndex
	glean  [2]uint32
	all    map[*entry]struct{}
	tokens float64 // of solicitations
	filled int64
	dead   bool
	ra     adverts
}

// entry is one neighbour.
type entry struct {
	link *link
	addr netip.Addr
	adj  uint32
	mac  [6]byte

	reach     Reach
	static    bool
	router    bool
	refs      int // routes that name it, and one for being static
	confirmed int64
	probes    int
	wait      []waiter

	el  *list.Element // in asking or failed, nil: in neither
	in  *list.List    // which
	at  int64         // when its state must be looked at; 0: never
	pos int           // in the heap, -1: not there
}

type waiter struct {
	worker int
	m      pipeline.CtlMsg
}

// New makes the feature and sets Env.Neigh.
func New(env *pipeline.Env) (*Feature, error) {
	t, err := newTable(env.Grace)
	if err != nil {
		return nil, fmt.Errorf("neighbours: %w", err)
	}
	f := &Feature{env: env, table: t, ifs: map[pipeline.IfIndex]*link{}, byAdj: map[uint32]*entry{}, statics: map[Key]*entry{},
		advertising: map[*link]struct{}{}, checks: map[checkKey]*check{}, asking: list.New(), failed: list.New()}
	f.Stage = &resolve{f}
	env.Neigh = f
	return f, nil
}

// prepared is a change that is ready.
type prepared struct {
	f        *Feature
	now      *pipeline.Ifaces
	links    []*link // of new interfaces
	changed  []pipeline.IfIndex
	gone     []pipeline.IfIndex
	set      []static
	unset    []Key
	announce []pipeline.IfIndex
	// advertise are interfaces whose Router Advertisements begin, change or end.
	advertise []pipeline.IfIndex
}

type static struct {
	key Key
	e   *entry
	mac [6]byte
}

// Prepare follows what iface has prepared, and checks static neighbours.
func (f *Feature) Prepare(b *pipeline.Builder, c *Change) (_ pipeline.Prepared, err error) {
	p := &prepared{f: f, now: b.Snap.Ifaces}
	defer func() {
		if err != nil {
			p.Abort()
		}
	}()
	b.Snap.Ifaces.Changed(f.env.Snap.Load().Ifaces, func(i pipeline.IfIndex, was, is *pipeline.Iface) {
		switch {
		case is == nil:
			p.gone = append(p.gone, i)
		case was == nil:
			if err == nil {
				err = p.newLink(is)
			}
			p.announce = append(p.announce, i)
			if is.RA != nil {
				p.advertise = append(p.advertise, i)
			}
		default:
			p.changed = append(p.changed, i)
			if !slices.Equal(was.Addrs, is.Addrs) || was.MAC != is.MAC {
				p.announce = append(p.announce, i)
			}
			if !reflect.DeepEqual(was.RA, is.RA) || is.RA != nil && (was.Port != is.Port || was.Forward != is.Forward) {
				p.advertise = append(p.advertise, i)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	off := map[*entry]bool{}
	for _, k := range c.Delete {
		e := f.statics[k]
		if e == nil || off[e] {
			return nil, refuse(k, "", "no such static neighbour")
		}
		off[e] = true
		p.unset = append(p.unset, k)
	}
	for i := range c.Set {
		n := &c.Set[i]
		x := b.Iface(n.Iface)
		switch {
		case x == nil:
			return nil, refuse(n.Key, "Iface", "no such interface")
		case !n.Addr.IsValid() || n.Addr.Is4In6() || n.Addr.Zone() != "" || n.Addr.IsMulticast() || n.Addr.IsUnspecified() || n.Addr.IsLoopback():
			return nil, refuse(n.Key, "Addr", "not the address of a neighbour")
		case !pkt.MAC(n.MAC).IsUnicast():
			return nil, refuse(n.Key, "MAC", "not the address of one station")
		}
		adj, ok := f.Hold(x, n.Addr)
		if !ok {
			return nil, refuse(n.Key, "", "the neighbour table is full")
		}
		p.set = append(p.set, static{n.Key, f.byAdj[adj], n.MAC})
	}
	for _, i := range p.gone {
		for e := range f.ifs[i].all {
			if e.static && !off[e] {
				return nil, refuse(Key{p.name(i), e.addr}, "Iface", "its interface is deleted")
			}
		}
	}
	return p, nil
}

func (p *prepared) name(i pipeline.IfIndex) string {
	if x := p.f.env.Snap.Load().Ifaces.At(i); x != nil {
		return x.Name
	}
	return ""
}

// newLink gives a new interface its adjacencies for connected prefixes.
func (p *prepared) newLink(x *pipeline.Iface) error {
	l := &link{index: x.Index, all: map[*entry]struct{}{}}
	for v := range l.glean {
		h, ok := p.f.env.Adj.Alloc(p.f.adjacency(x, v == pipeline.V6, pipeline.AdjGlean))
		if !ok {
			return &pipeline.Refusal{Feature: "iface", Object: x.Name, Reason: "the adjacency table is full"}
		}
		l.glean[v] = h
	}
	p.links = append(p.links, l)
	p.f.ifs[x.Index] = l
	return nil
}

// adjacency is a record for an interface, not resolved.
func (f *Feature) adjacency(x *pipeline.Iface, v6 bool, k pipeline.AdjKind) pipeline.AdjSpec {
	a := pipeline.AdjSpec{If: x.Index, Kind: k, V6: v6}
	fam, typ := pipeline.V4, uint16(pkt.TypeIPv4)
	if v6 {
		fam, typ = pipeline.V6, pkt.TypeIPv6
	}
	a.L2a, a.L2b = pipeline.EthWords([6]byte{}, x.MAC, typ)
	a.LinkMTU = x.MTU[fam] + pkt.EthernetLen
	return a
}

// Abort gives back what Prepare took.
func (p *prepared) Abort() {
	f := p.f
	for _, s := range p.set {
		f.Release(s.e.adj)
	}
	for _, l := range p.links {
		for e := range l.all {
			f.drop(e)
		}
		for _, h := range l.glean {
			if h != 0 {
				f.env.Adj.Free(h)
			}
		}
		delete(f.ifs, l.index)
	}
}

// Publish makes the change live.
func (p *prepared) Publish() {
	f := p.f
	for _, k := range p.unset {
		e := f.statics[k]
		delete(f.statics, k)
		e.static = false
		f.forget(e)
		f.Release(e.adj)
	}
	for _, s := range p.set {
		if s.e.static {
			s.e.refs-- // held already
		}
		s.e.static = true
		f.statics[s.key] = s.e
		f.confirm(s.e, s.mac, f.env.Now())
		f.schedule(s.e, 0)
	}
	now := f.env.Now()
	live := f.env.Snap.Load().Ifaces
	for _, l := range p.links {
		f.checkNew(nil, p.now.At(l.index), l.index, now)
	}
	for _, i := range p.changed {
		f.relink(p.now.At(i))
		f.checkNew(live.At(i), p.now.At(i), i, now)
	}
	for _, i := range p.gone {
		l := f.ifs[i]
		l.dead = true
		f.checkNew(live.At(i), nil, i, now)
		delete(f.advertising, l)
		for e := range l.all {
			f.forget(e)
			if e.refs == 0 {
				f.drop(e)
			}
		}
		for _, h := range l.glean {
			f.env.Adj.Retire(h)
		}
		delete(f.ifs, i)
	}
	f.settleChecks()
}

// Settle announces new addresses, now that workers can send from them.
func (p *prepared) Settle() {
	f, now := p.f, p.f.env.Now()
	for _, i := range p.announce {
		f.Announce(i)
	}
	for _, i := range p.advertise {
		if x := f.env.Snap.Load().Ifaces.At(i); x != nil {
			f.advertise(x, now)
		}
	}
}

// Changed follows an interface whose port was opened again by itself.
func (f *Feature) Changed(x *pipeline.Iface) {
	if f.ifs[x.Index] != nil {
		f.relink(x)
		if x.Port == nil { // its device is gone: behind the next one others may be
			f.forgetAll(f.ifs[x.Index])
		}
		f.advertise(x, f.env.Now())
	}
}

// forgetAll forgets what was learnt on an interface.
func (f *Feature) forgetAll(l *link) {
	for e := range l.all {
		if !e.static {
			f.forget(e)
			if e.refs == 0 {
				f.drop(e)
			}
		}
	}
}

// relink writes a changed interface's MAC and MTU into its adjacencies. An
// interface that went down forgets what it learnt.
func (f *Feature) relink(x *pipeline.Iface) {
	l := f.ifs[x.Index]
	for v, h := range l.glean {
		f.rewrite(h, f.adjacency(x, v == pipeline.V6, pipeline.AdjGlean))
	}
	for e := range l.all {
		fam := pipeline.V4
		if e.addr.Is6() {
			fam = pipeline.V6
		}
		open := f.env.Adj.At(e.adj).MTU() != 0
		f.rewrite(e.adj, f.adjacency(x, fam == pipeline.V6, pipeline.AdjNeighbour))
		switch {
		case !x.Enabled[fam] && !e.static:
			f.forget(e)
			if e.refs == 0 {
				f.drop(e)
			}
		case e.mac != [6]byte{}:
			f.env.Adj.SetMAC(e.adj, e.mac)
			if open {
				f.env.Adj.Open(e.adj)
			}
		}
	}
}

// rewrite closes an adjacency and gives it another interface's words.
func (f *Feature) rewrite(h uint32, n pipeline.AdjSpec) {
	a := f.env.Adj.At(h)
	if a.L2b() != n.L2b || a.LinkMTU() != n.LinkMTU {
		f.env.Adj.Rewrite(h, n)
	}
}

// Hold implements pipeline.Neighbours.
func (f *Feature) Hold(x *pipeline.Iface, addr netip.Addr) (uint32, bool) {
	hi, lo, in := words(x.Index, addr)
	e := f.byAdj[f.table.find(hi, lo, in)]
	if e == nil {
		if e = f.create(x, addr, named); e == nil {
			return 0, false
		}
	}
	e.refs++
	f.place(e)
	return e.adj, true
}

// Release implements pipeline.Neighbours.
func (f *Feature) Release(adj uint32) {
	e := f.byAdj[adj]
	if e == nil {
		return
	}
	if e.refs--; e.refs == 0 {
		if e.link.dead || e.mac == [6]byte{} && len(e.wait) == 0 {
			f.drop(e)
			return
		}
		if e.at == 0 {
			f.schedule(e, f.env.Now()+int64(staleFor))
		}
		f.place(e)
	}
}

// Glean implements pipeline.Neighbours.
func (f *Feature) Glean(x *pipeline.Iface, v6 bool) uint32 {
	l := f.ifs[x.Index]
	if v6 {
		return l.glean[pipeline.V6]
	}
	return l.glean[pipeline.V4]
}

// Find4 implements pipeline.Neighbours.
func (f *Feature) Find4(i pipeline.IfIndex, a uint32) uint32 {
	return f.table.find(0, uint64(a), uint32(i))
}

// Find6 implements pipeline.Neighbours.
func (f *Feature) Find6(i pipeline.IfIndex, hi, lo uint64) uint32 {
	return f.table.find(hi, lo, uint32(i)|v6bit)
}

// Addr implements pipeline.Neighbours.
func (f *Feature) Addr(adj uint32) (netip.Addr, bool) {
	e := f.byAdj[adj]
	if e == nil {
		return netip.Addr{}, false
	}
	return e.addr, true
}

// create makes an entry that nobody has asked for yet; nil: no room.
func (f *Feature) create(x *pipeline.Iface, addr netip.Addr, why wanted) *entry {
	l := f.ifs[x.Index]
	if l == nil || !f.room(why) {
		return nil
	}
	adj, ok := f.env.Adj.Alloc(f.adjacency(x, addr.Is6(), pipeline.AdjNeighbour))
	if !ok {
		return nil
	}
	e := &entry{link: l, addr: addr, adj: adj, reach: Failed, pos: -1}
	hi, lo, in := words(x.Index, addr)
	f.env.BeginChange()
	err := f.table.insert(hi, lo, in, adj)
	f.env.EndChange()
	if err != nil {
		f.env.Adj.Free(adj)
		return nil
	}
	// Whoever held the connected prefix's adjacency for this address asks anew.
	if addr.Is6() {
		f.env.Adj.Bump(l.glean[pipeline.V6])
	} else {
		f.env.Adj.Bump(l.glean[pipeline.V4])
	}
	l.all[e] = struct{}{}
	f.byAdj[adj] = e
	f.count++
	f.place(e)
	return e
}

// drop removes an entry.
func (f *Feature) drop(e *entry) {
	f.fail(e)
	hi, lo, in := words(e.link.index, e.addr)
	f.env.BeginChange()
	f.table.remove(hi, lo, in)
	f.env.Adj.Retire(e.adj)
	f.env.EndChange()
	delete(e.link.all, e)
	delete(f.byAdj, e.adj)
	f.schedule(e, 0)
	f.unlist(e)
	f.count--
}

// Objects gives the configuration of static neighbours.
func (f *Feature) Objects(yield func(key string, cfg any)) {
	for k, e := range f.statics {
		yield(k.ObjectKey(), &Config{k, e.mac})
	}
}

// State is the neighbours on the interfaces named, on all when names is empty,
// in order of interface and address.
func (f *Feature) State(names []string) []State {
	t := f.env.Snap.Load().Ifaces
	now := f.env.Now()
	var l []State
	for _, e := range f.byAdj {
		x := t.At(e.link.index)
		if x == nil || len(names) > 0 && !slices.Contains(names, x.Name) {
			continue
		}
		s := State{Key: Key{x.Name, e.addr}, MAC: e.mac, Origin: Dynamic, Reach: e.reach, IsRouter: e.router, Waiting: len(e.wait)}
		if e.static {
			s.Origin, s.Reach = Static, Reachable
		}
		if e.confirmed != 0 {
			s.Age = now - e.confirmed
		}
		l = append(l, s)
	}
	slices.SortFunc(l, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Iface, b.Iface), a.Addr.Compare(b.Addr))
	})
	return l
}

// Waiting is how many packets wait for an address.
func (f *Feature) Waiting() int { return f.waiting }

// Close ends all waiting; no worker may be running.
func (f *Feature) Close() {
	for _, e := range f.byAdj {
		for _, w := range e.wait {
			f.env.Control.Free(w.m.Desc)
		}
	}
	f.table.close()
}

func refuse(k Key, field, why string) error {
	return &pipeline.Refusal{Feature: "neigh", Object: k.ObjectKey(), Field: field, Reason: why}
}

// schedule sets when an entry's state is looked at; 0: never.
func (f *Feature) schedule(e *entry, at int64) {
	switch e.at = at; {
	case at == 0 && e.pos >= 0:
		heap.Remove(&f.due, e.pos)
	case at == 0:
	case e.pos >= 0:
		heap.Fix(&f.due, e.pos)
	default:
		heap.Push(&f.due, e)
	}
}

// dueHeap is a heap of entries by time.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.pos = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	n := len(*h) - 1
	e := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	e.pos = -1
	return e
}
