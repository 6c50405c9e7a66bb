package route

import (
	"cmp"
	"net/netip"
	"slices"

	"vrouter/fastpath/feature/route"
	"vrouter/mgmt/internal/overlay"
	"vrouter/pkg/pkt"
)

// change is what a commit does to a RIB, beside it until apply.
//
// Interfaces and static routes are put in first; settle then looks again at the
// static routes whose way may have changed, found by the indices, and compares
// what the FIB had and has for the prefixes that were touched.
type change struct {
	r    *rib
	now  int64
	keep func(p netip.Prefix, c *candidate) int64 // since, for a RIB that is built anew

	ifaces  overlay.Table[string, *iface]
	dests   overlay.Table[netip.Prefix, *dest]
	nets    overlay.Table[netip.Prefix, []string]
	lens    [2][129]int
	byHop   overlay.Sets[netip.Addr, id]
	byLink  overlay.Sets[string, id]
	receive overlay.Sets[int, id]
	via     overlay.Sets[netip.Prefix, netip.Addr]
	net     overlay.Table[netip.Addr, netip.Prefix]

	touched []netip.Prefix          // prefixes whose routes changed, sometimes twice
	before  map[netip.Prefix]*dest  // what they were; nil for a RIB that is built anew: nothing
	hops    map[netip.Addr]struct{} // next hops to look at again
	routes  map[id]struct{}         // static routes to look at again
	anyUp   bool                    // an interface came up or went down
}

// begin starts a change of about so many interfaces and routes. fresh says that
// nobody sees r yet.
func begin(r *rib, now int64, fresh bool, ifaces, routes int) *change {
	c := &change{r: r, now: now, lens: r.lens, touched: make([]netip.Prefix, 0, routes),
		hops: map[netip.Addr]struct{}{}, routes: map[id]struct{}{},
		ifaces:  overlay.NewTable(r.ifaces, fresh, ifaces),
		dests:   overlay.NewTable(r.dests, fresh, routes),
		nets:    overlay.NewTable(r.nets, fresh, ifaces),
		byHop:   overlay.NewSets(r.byHop, fresh),
		byLink:  overlay.NewSets(r.byLink, fresh),
		receive: overlay.NewSets(r.receive, fresh),
		via:     overlay.NewSets(r.via, fresh),
		net:     overlay.NewTable(r.net, fresh, 0),
	}
	if !fresh {
		c.before = make(map[netip.Prefix]*dest, routes)
	}
	return c
}

// apply makes the change real. The RIB must be locked.
func (c *change) apply() {
	c.ifaces.Apply()
	c.dests.Apply()
	c.nets.Apply()
	c.byHop.Apply()
	c.byLink.Apply()
	c.receive.Apply()
	c.via.Apply()
	c.net.Apply()
	c.r.lens = c.lens
}

// setIface gives an interface what it has now; nil takes it away.
func (c *change) setIface(name string, is *iface) {
	was, _ := c.ifaces.Get(name)
	if was != nil && is != nil && was.loop != is.loop { // another kind of interface
		c.setIface(name, nil)
		was = nil
	}
	if was == nil {
		was = &iface{}
	}
	if is == nil {
		c.ifaces.Delete(name)
		is = &iface{}
	} else {
		c.ifaces.Put(name, is)
	}
	if was.up != is.up {
		c.anyUp = true
		for _, r := range c.byLink.Members(name) {
			c.routes[r] = struct{}{}
		}
	}
	oldNets, newNets := networks(was.addrs), networks(is.addrs)
	oldOwn, newOwn := was.own(), is.own()
	for _, a := range oldOwn {
		if !slices.Contains(newOwn, a) {
			c.setRoute(host(a), local, name, nil)
			c.again(a)
		}
	}
	for _, n := range oldNets {
		if !slices.Contains(newNets, n) {
			c.setRoute(n, connected, name, nil)
			if !was.loop {
				c.setNet(n, name, false)
			}
		}
	}
	for _, a := range newOwn {
		if !slices.Contains(oldOwn, a) {
			c.setRoute(host(a), local, name, &candidate{source: local, name: name, link: name, usable: true})
			c.again(a)
		}
	}
	for _, n := range newNets {
		if !slices.Contains(oldNets, n) {
			if is.loop { // whose addresses are all there is
				c.setRoute(n, connected, name, &candidate{source: connected, name: name, want: want{kind: route.Unreachable}, usable: true})
				continue
			}
			c.setRoute(n, connected, name, &candidate{source: connected, name: name, link: name, usable: true})
			c.setNet(n, name, true)
		}
	}
}

// again marks a next hop that is an own address now, or was, if a route has it.
// Routes that come later in this change mark theirs.
func (c *change) again(a netip.Addr) {
	if c.byHop.Any(a) {
		c.hops[a] = struct{}{}
	}
}

// networks are the connected prefixes of addresses. An address whose prefix is
// itself has none.
func networks(addrs []netip.Prefix) (nets []netip.Prefix) {
	for _, a := range addrs {
		if n := a.Masked(); !a.IsSingleIP() && !slices.Contains(nets, n) {
			nets = append(nets, n)
		}
	}
	return nets
}

// own are the addresses that packets to the router have on an interface.
func (i *iface) own() []netip.Addr {
	l := make([]netip.Addr, 0, 2*len(i.addrs))
	for _, a := range i.addrs {
		l = append(l, a.Addr())
	}
	if i.router && !i.loop {
		for _, p := range i.addrs {
			if a, ok := pkt.SubnetRouter(p); ok && !slices.Contains(l, a) {
				l = append(l, a)
			}
		}
	}
	return l
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// setNet notes that an interface stands in a connected prefix, or does so no more.
func (c *change) setNet(n netip.Prefix, name string, in bool) {
	old, _ := c.nets.Get(n)
	now := slices.Clone(old)
	if i, found := slices.BinarySearch(now, name); in && !found {
		now = slices.Insert(now, i, name)
	} else if !in && found {
		now = slices.Delete(now, i, i+1)
	}
	f := family(n.Addr())
	switch {
	case len(now) == 0:
		c.nets.Delete(n)
		c.lens[f][n.Bits()]--
	case len(old) == 0:
		c.lens[f][n.Bits()]++
		fallthrough
	default:
		c.nets.Put(n, now)
	}
	for _, h := range c.via.Members(n) { // those it led to
		c.hops[h] = struct{}{}
	}
	if len(old) > 0 {
		return
	}
	// Those it may lead to now: they had a shorter prefix, or none.
	for bits := n.Bits() - 1; bits >= 0; bits-- {
		if c.lens[f][bits] > 0 {
			q, _ := n.Addr().Prefix(bits)
			c.dirty(q, n)
		}
	}
	c.dirty(netip.Prefix{}, n)
}

// dirty marks the next hops in n that q leads to.
func (c *change) dirty(q, n netip.Prefix) {
	for _, h := range c.via.Members(q) {
		if n.Contains(h) {
			c.hops[h] = struct{}{}
		}
	}
}

// setStatic gives a static route what it was configured with; nil takes it away.
func (c *change) setStatic(r id, w *want) {
	d, _ := c.dests.Get(r.prefix)
	if old := d.find(static, r.name); old != nil {
		if w != nil && old.want == *w {
			return
		}
		c.index(r, &old.want, false)
	}
	if w == nil {
		c.setRoute(r.prefix, static, r.name, nil)
		delete(c.routes, r)
		return
	}
	c.index(r, w, true)
	c.setRoute(r.prefix, static, r.name, &candidate{source: static, name: r.name, want: *w})
	c.routes[r] = struct{}{}
}

// index puts a static route where those look who change something that it
// depends on, or takes it away from there.
func (c *change) index(r id, w *want, in bool) {
	one := func(link string, hop netip.Addr) {
		if link != "" {
			c.byLink.Change(link, r, in)
		}
		if hop.IsValid() {
			c.byHop.Change(hop, r, in)
			c.hops[hop] = struct{}{}
		}
	}
	one(w.link, w.hop)
	for _, h := range list(w.hops) {
		one(h.Iface, h.NextHop)
	}
	if w.kind == route.Receive {
		c.receive.Change(family(r.prefix.Addr()), r, in)
	}
}

// setRoute puts one route of a prefix in the place of what is there of its
// source and name.
func (c *change) setRoute(p netip.Prefix, s source, name string, n *candidate) {
	d, _ := c.dests.Get(p)
	if c.before == nil {
		if d == nil {
			c.touched = append(c.touched, p)
		}
	} else if _, seen := c.before[p]; !seen {
		c.before[p] = d
		c.touched = append(c.touched, p)
	}
	if n != nil {
		n.since = c.now
		if c.keep != nil {
			n.since = c.keep(p, n)
		}
	}
	if d = d.with(s, name, n); d == nil {
		c.dests.Delete(p)
	} else {
		c.dests.Put(p, d)
	}
}

// settle resolves what must be resolved again and adds what the FIB has to
// learn to out.
func (c *change) settle(out *route.Change) {
	for h := range c.hops {
		c.resolveHop(h)
	}
	if c.anyUp {
		for f := range 2 {
			for _, r := range c.receive.Members(f) {
				c.routes[r] = struct{}{}
			}
		}
	}
	for r := range c.routes {
		c.resolve(r)
	}
	slices.SortFunc(c.touched, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	c.touched = slices.Compact(c.touched)
	if c.before == nil {
		out.Set = slices.Grow(out.Set, len(c.touched))
	}
	for _, p := range c.touched {
		now, _ := c.dests.Get(p)
		was, is := c.before[p].active(), now.active()
		switch {
		case is == nil && was != nil:
			out.Delete = append(out.Delete, p)
		case is != nil && (was == nil || was.fib(p) != is.fib(p)):
			out.Set = append(out.Set, is.fib(p))
		}
	}
}

// resolveHop finds the connected prefix that leads to a next hop. When it is
// another one, or its interface may be another, the routes by that next hop are
// looked at again.
func (c *change) resolveHop(h netip.Addr) {
	old, known := c.net.Get(h)
	users := c.byHop.Members(h)
	if len(users) == 0 {
		if known {
			c.net.Delete(h)
			c.via.Change(old, h, false)
		}
		return
	}
	n := c.lookup(h)
	if !known || n != old {
		if known {
			c.via.Change(old, h, false)
		}
		c.net.Put(h, n)
		c.via.Change(n, h, true)
	}
	for _, r := range users {
		c.routes[r] = struct{}{}
	}
}

// lookup gives the longest connected prefix that holds an address; the zero
// Prefix when there is none.
func (c *change) lookup(a netip.Addr) netip.Prefix {
	lens := &c.lens[family(a)]
	for bits := a.BitLen(); bits >= 0; bits-- {
		if lens[bits] == 0 {
			continue
		}
		p, _ := a.Prefix(bits)
		if _, ok := c.nets.Get(p); ok {
			return p
		}
	}
	return netip.Prefix{}
}

// resolve finds out whether a static route can be used, and by which interface.
func (c *change) resolve(r id) {
	d, _ := c.dests.Get(r.prefix)
	old := d.find(static, r.name)
	if old == nil {
		return
	}
	n := *old
	n.link, n.usable = c.way(&old.want, family(r.prefix.Addr()))
	if old.want.hops != "" {
		n.ways = c.ways(&old.want, family(r.prefix.Addr()))
		n.link, n.usable = "", n.ways != ""
	}
	if !n.sameWay(old) {
		c.setRoute(r.prefix, static, r.name, &n)
	}
}

// way tells by which interface a static route leads, and whether it can.
func (c *change) way(w *want, f int) (link string, usable bool) {
	switch {
	case w.link != "":
		i, _ := c.ifaces.Get(w.link)
		return w.link, i != nil && i.up[f] && !i.loop && !c.own(w.hop)
	case w.hop.IsValid():
		n, _ := c.net.Get(w.hop)
		names, _ := c.nets.Get(n)
		if len(names) == 0 || c.own(w.hop) {
			return "", false
		}
		return names[0], true
	case w.kind == route.Receive:
		link = c.anyIface(f)
		return link, link != ""
	}
	return "", true // dropped, by whatever interface it came
}

// ways are those of several next hops that lead somewhere. The others take no
// part.
func (c *change) ways(w *want, f int) route.Hops {
	var l []route.Hop
	for _, h := range list(w.hops) {
		if link, usable := c.way(&want{link: h.Iface, hop: h.NextHop}, f); usable {
			l = append(l, route.Hop{Iface: link, NextHop: h.NextHop, Weight: h.Weight})
		}
	}
	return route.MakeHops(l)
}

// own tells whether an address is the router's own: no way leads to oneself.
func (c *change) own(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	d, _ := c.dests.Get(host(a))
	return d != nil && d.routes[0].source == local
}

// anyIface names the interface on which a route of special-next-hop receive
// takes packets in: the first that has the family.
func (c *change) anyIface(f int) string {
	first := ""
	c.ifaces.Each(func(name string, i *iface) {
		if i.up[f] && (first == "" || name < first) {
			first = name
		}
	})
	return first
}
