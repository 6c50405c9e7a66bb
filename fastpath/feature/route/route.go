package route

import (
	"fmt"
	"net/netip"
	"slices"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/lpm"
)

// The files: route.go commits, fib.go the tables and who must ask again,
// group.go several next hops, stage.go what workers ask, source.go whether a way
// leads back to the source, local.go packets to the vRouter itself, icmp.go what
// senders are told.
//
// Not done: redirects; multicast.

// Feature is the FIB. All methods but Path4, Path6 and those of its stages and
// sinks are called under the engine's lock.
type Feature struct {
	env *pipeline.Env
	v4  *lpm.V4
	v6  *lpm.V6
	max int

	receive map[recvKey]uint32 // adjacencies of own addresses
	special [2][Prohibit + 1]uint32
	perIf   map[pipeline.IfIndex]int // routes that name an interface
	own     *filter
	limits  []*limiter
	groups  *groups
	checks  [2]int // interfaces that check sources, by family

	// Lookup finds the route of each packet, Sources asks for the way back to its
	// source, Local takes what is for the vRouter itself and what may not be
	// forwarded, Stage what leads nowhere.
	Lookup, Sources, Local, Stage pipeline.Stage
}

type recvKey struct {
	i  pipeline.IfIndex
	v6 bool
}

// New makes an empty FIB for so many routes of each family and sets Env.FIB.
func New(env *pipeline.Env, routes int) (*Feature, error) {
	f := &Feature{env: env, max: routes, receive: map[recvKey]uint32{}, perIf: map[pipeline.IfIndex]int{}}
	// A FIB that may grow large gets huge pages at once: some 10 MiB more for
	// look-ups that are a fifth faster.
	o := lpm.Options{Routes: routes, Huge: routes >= 1<<16}
	var err error
	if f.v4, err = lpm.NewV4(env.Grace, o); err != nil {
		return nil, fmt.Errorf("IPv4 FIB: %w", err)
	}
	if f.v6, err = lpm.NewV6(env.Grace, o); err != nil {
		return nil, fmt.Errorf("IPv6 FIB: %w", err)
	}
	if f.own, err = newFilter(); err != nil {
		return nil, err
	}
	kinds := map[Kind]pipeline.AdjKind{Blackhole: pipeline.AdjBlackhole, Unreachable: pipeline.AdjUnreachable, Prohibit: pipeline.AdjProhibit}
	for k, a := range kinds {
		for v := range f.special {
			h, ok := env.Adj.Alloc(pipeline.AdjSpec{Kind: a, V6: v == pipeline.V6})
			if !ok {
				return nil, fmt.Errorf("no adjacency left for %v", k)
			}
			f.special[v][k] = h
		}
	}
	if f.limits, err = newLimiters(); err != nil {
		return nil, err
	}
	if f.groups, err = newGroups(env.Grace); err != nil {
		return nil, fmt.Errorf("groups of next hops: %w", err)
	}
	f.Lookup, f.Sources, f.Local, f.Stage = lookup{f}, sources{f}, local{}, reach{}
	env.FIB = f
	return f, nil
}

// prepared is a change that is ready.
type prepared struct {
	f      *Feature
	set    []target
	del    []netip.Prefix
	gone   []pipeline.IfIndex
	made   []recvKey
	groups map[groupKey]*group // that this change has asked for
	// dead are the prefixes whose route goes or is replaced, freed their number
	// by the interface of that route. See unused.
	dead  map[netip.Prefix]bool
	freed map[pipeline.IfIndex]int
	// checks is what becomes of Feature.checks.
	checks [2]int
}

type target struct {
	prefix netip.Prefix
	adj    uint32
	held   bool // by neigh
	group  *group
}

// Prepare checks routes and finds their adjacencies.
func (f *Feature) Prepare(b *pipeline.Builder, c *Change) (_ pipeline.Prepared, err error) {
	p := &prepared{f: f, del: c.Delete, checks: f.checks}
	defer func() {
		if err != nil {
			p.Abort()
		}
	}()
	for _, d := range c.Delete {
		if f.get(d) == 0 {
			return nil, refuse(d, "", "no such route")
		}
	}
	if n := f.v4.Len() + f.v6.Len() + len(c.Set) - len(c.Delete); n > f.max {
		return nil, refuse(c.Set[0].Prefix, "", fmt.Sprintf("%d routes, and the FIB holds %d", n, f.max))
	}
	if n := len(c.Set); n > 0 {
		p.set = make([]target, 0, n)
	}
	for i := range c.Set {
		t, err := p.one(b, &c.Set[i])
		if err != nil {
			return nil, err
		}
		p.set = append(p.set, t)
	}
	b.Snap.Ifaces.Changed(f.env.Snap.Load().Ifaces, func(i pipeline.IfIndex, was, is *pipeline.Iface) {
		p.recount(was, is)
		if is != nil {
			return
		}
		p.gone = append(p.gone, i)
		if err == nil && f.perIf[i] > 0 {
			err = p.unused(i, was.Name)
		}
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// one checks a route and finds its adjacency.
func (p *prepared) one(b *pipeline.Builder, r *Config) (t target, err error) {
	f := p.f
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6() {
		return t, refuse(r.Prefix, "Prefix", "no prefix, or its host bits are not zero")
	}
	v6 := r.Prefix.Addr().Is6()
	fam := pipeline.V4
	if v6 {
		fam = pipeline.V6
	}
	t.prefix = r.Prefix
	if r.Hops != "" {
		if t.group, err = p.hold(b, r, v6); err == nil {
			t.adj = t.group.adj
		}
		return t, err
	}
	switch r.Kind {
	case Blackhole, Unreachable, Prohibit:
		if r.NextHop.IsValid() {
			return t, refuse(r.Prefix, "NextHop", "a special route has no next hop")
		}
		t.adj = f.special[fam][r.Kind]
		return t, nil
	case Unicast, Receive:
	default:
		return t, refuse(r.Prefix, "Kind", "unknown kind of route")
	}
	x := b.Iface(r.Iface)
	if x == nil {
		return t, refuse(r.Prefix, "Iface", fmt.Sprintf("no interface %q", r.Iface))
	}
	switch {
	case r.Kind == Receive:
		k := recvKey{x.Index, v6}
		if t.adj = f.receive[k]; t.adj == 0 {
			h, ok := f.env.Adj.Alloc(pipeline.AdjSpec{Kind: pipeline.AdjReceive, If: x.Index, V6: v6})
			if !ok {
				return t, refuse(r.Prefix, "", "the adjacency table is full")
			}
			f.receive[k] = h
			p.made = append(p.made, k)
			t.adj = h
		}
	case !r.NextHop.IsValid():
		t.adj = f.env.Neigh.Glean(x, v6)
	case notHop(r.NextHop, v6) != "":
		return t, refuse(r.Prefix, "NextHop", notHop(r.NextHop, v6))
	default:
		var ok bool
		if t.adj, ok = f.env.Neigh.Hold(x, r.NextHop.WithZone("")); !ok {
			return t, refuse(r.Prefix, "NextHop", "the neighbour table is full")
		}
		t.held = true
	}
	return t, nil
}

// unused proves that no route is left that names interface i.
func (p *prepared) unused(i pipeline.IfIndex, name string) error {
	f := p.f
	if p.dead == nil { // once for all interfaces that go
		p.dead, p.freed = map[netip.Prefix]bool{}, map[pipeline.IfIndex]int{}
		die := func(d netip.Prefix) {
			if h := f.get(d); h != 0 && !p.dead[d] {
				f.ifaces(h, func(i pipeline.IfIndex) { p.freed[i]++ })
			}
			p.dead[d] = true
		}
		for _, d := range p.del {
			die(d)
		}
		for _, t := range p.set {
			die(t.prefix)
		}
	}
	left := f.perIf[i] - p.freed[i]
	if left == 0 {
		return nil
	}
	found := netip.Prefix{}
	look := func(q netip.Prefix, h uint32) bool {
		if !p.dead[q] {
			f.ifaces(h, func(k pipeline.IfIndex) {
				if k == i {
					found = q
				}
			})
		}
		return !found.IsValid()
	}
	f.v4.All()(look)
	if !found.IsValid() {
		f.v6.All()(look)
	}
	return refuse(found, "Iface", fmt.Sprintf("interface %q is deleted, and %d routes still name it", name, left))
}

// Abort gives back what Prepare took.
func (p *prepared) Abort() {
	for _, t := range p.set {
		switch {
		case t.group != nil:
			p.f.drop(t.group, false)
		case t.held:
			p.f.env.Neigh.Release(t.adj)
		}
	}
	for _, k := range p.made {
		p.f.env.Adj.Free(p.f.receive[k])
		delete(p.f.receive, k)
	}
}

// Publish changes the FIB in place: each route by itself is atomic.
func (p *prepared) Publish() {
	f := p.f
	f.checks = p.checks
	if len(p.del)+len(p.set) > 0 {
		f.env.BeginChange()
		all := len(p.del)+len(p.set) > bulk || p.wayBack()
		for _, d := range p.del {
			f.remove(d, !all)
		}
		for _, t := range p.set {
			f.install(t, !all)
		}
		if all {
			f.env.BumpFlows()
		}
		f.env.EndChange()
	}
	for _, i := range p.gone {
		for _, v6 := range []bool{false, true} {
			k := recvKey{i, v6}
			if h := f.receive[k]; h != 0 {
				f.env.Adj.Retire(h)
				delete(f.receive, k)
			}
		}
		delete(f.perIf, i)
	}
}

// bulk is from how many routes on a change makes all flows walk again, instead
// of finding out which ones must.
const bulk = 1024

// Objects gives every route's configuration.
func (f *Feature) Objects(yield func(key string, cfg any)) {
	t := f.env.Snap.Load().Ifaces
	f.each(func(p netip.Prefix, h uint32) {
		c := f.config(t, p, h)
		yield(p.String(), &c)
	})
}

// State is the whole FIB.
func (f *Feature) State() []State {
	t := f.env.Snap.Load().Ifaces
	l := make([]State, 0, f.v4.Len()+f.v6.Len())
	f.each(func(p netip.Prefix, h uint32) {
		a := f.env.Adj.At(h)
		l = append(l, State{Config: f.config(t, p, h), Resolved: f.resolved(h, a)})
	})
	return l
}

// resolved tells whether packets can leave by an adjacency at once; by one of
// several is enough.
func (f *Feature) resolved(h uint32, a *pipeline.Adj) bool {
	if g := f.groups.byAdj[h]; g != nil {
		return slices.ContainsFunc(g.members, func(m member) bool { return f.resolved(m.adj, f.env.Adj.At(m.adj)) })
	}
	return a.Kind() != pipeline.AdjNeighbour || a.Resolved()
}

// config is a route as it was configured: prefix and adjacency say all of it.
func (f *Feature) config(t *pipeline.Ifaces, p netip.Prefix, h uint32) Config {
	c := Config{Prefix: p}
	a := f.env.Adj.At(h)
	if x := t.At(a.If()); x != nil {
		c.Iface = x.Name
	}
	switch a.Kind() {
	case pipeline.AdjNeighbour:
		c.NextHop, _ = f.env.Neigh.Addr(h)
	case pipeline.AdjGroup:
		c.Hops = f.groups.byAdj[h].key.hops
	case pipeline.AdjReceive:
		c.Kind = Receive
	case pipeline.AdjBlackhole:
		c.Kind = Blackhole
	case pipeline.AdjUnreachable:
		c.Kind = Unreachable
	case pipeline.AdjProhibit:
		c.Kind = Prohibit
	}
	return c
}

// Close unmaps the tables; no worker may be running.
func (f *Feature) Close() {
	_ = f.v4.Close()
	_ = f.v6.Close()
	_ = f.groups.rows.Unmap()
	_ = f.groups.ways.Unmap()
	f.own.close()
	_ = f.limits[0].all.Unmap()
}

func refuse(p netip.Prefix, field, why string) error {
	return &pipeline.Refusal{Feature: "route", Object: p.String(), Field: field, Reason: why}
}
