package route

import (
	"cmp"
	"net/netip"
	"slices"

	"vrouter/fastpath/feature/route"
)

// source says where a route comes from; the lower one wins.
type source uint8

const (
	local     source = iota // an own address
	connected               // the network of an own address
	static
)

// preference is the route-preference of RFC 8349, as its appendix D has it for
// direct and static routes.
func (s source) preference() uint64 {
	if s == static {
		return 5
	}
	return 0
}

// candidate is a route of the RIB, active or not. It is never changed.
type candidate struct {
	source source
	// name is the interface of a direct route, the protocol instance of a
	// static one.
	name string
	want want   // of a static route
	link string // the interface it leads out by, "" when it has none, or several
	// ways are those of several next hops that can be used, with their
	// interfaces.
	ways route.Hops
	// usable: it could be in the FIB.
	usable bool
	since  int64 // Unix nanoseconds of its last change
}

// want is what a static route was configured with.
type want struct {
	kind route.Kind // Unicast unless special
	link string     // outgoing-interface
	hop  netip.Addr // next-hop-address
	// hops are the entries of next-hop-list instead, Iface being
	// outgoing-interface or "".
	hops route.Hops
}

// fib gives the route as the FIB has it.
func (c *candidate) fib(p netip.Prefix) route.Config {
	switch {
	case c.source == local:
		return route.Config{Prefix: p, Kind: route.Receive, Iface: c.name}
	case c.source == connected && c.want.kind == route.Unreachable:
		return route.Config{Prefix: p, Kind: route.Unreachable}
	case c.source == connected:
		return route.Config{Prefix: p, Iface: c.name}
	}
	if c.want.hops != "" {
		if l := list(c.ways); len(l) == 1 {
			return route.Config{Prefix: p, Iface: l[0].Iface, NextHop: l[0].NextHop}
		}
		return route.Config{Prefix: p, Hops: c.ways}
	}
	return route.Config{Prefix: p, Kind: c.want.kind, Iface: c.link, NextHop: c.want.hop}
}

// sameWay tells whether packets by two versions of a static route go the same way.
func (c *candidate) sameWay(o *candidate) bool {
	return c.link == o.link && c.ways == o.ways && c.usable == o.usable
}

// list takes next hops apart that this package has put together.
func list(h route.Hops) []route.Hop {
	l, err := h.List()
	if err != nil {
		panic("route: " + err.Error())
	}
	return l
}

// dest is all routes to one prefix, the best first. It is never changed.
type dest struct{ routes []*candidate }

// active gives the route that the FIB has, or nil.
func (d *dest) active() *candidate {
	if d != nil {
		for _, c := range d.routes {
			if c.usable {
				return c
			}
		}
	}
	return nil
}

// with gives the routes with one put in, or taken out.
func (d *dest) with(s source, name string, c *candidate) *dest {
	var old []*candidate
	if d != nil {
		old = d.routes
	}
	i, found := slices.BinarySearchFunc(old, candidate{source: s, name: name}, func(a *candidate, b candidate) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.name, b.name))
	})
	rest := old[i:]
	if found {
		rest = rest[1:]
	}
	out := make([]*candidate, 0, i+1+len(rest))
	out = append(out, old[:i]...)
	if c != nil {
		out = append(out, c)
	}
	out = append(out, rest...)
	if len(out) == 0 {
		return nil
	}
	return &dest{out}
}

func (d *dest) find(s source, name string) *candidate {
	if d != nil {
		for _, c := range d.routes {
			if c.source == s && c.name == name {
				return c
			}
		}
	}
	return nil
}

// iface is what routing needs of an interface. It is never changed. Link-local
// addresses of IPv6 are not among its addrs: they are not a matter of routing.
type iface struct {
	up   [2]bool // by family: enabled, and so is the family
	loop bool    // a loopback interface
	// router: it forwards IPv6, and so has the subnet-router anycast addresses of
	// its prefixes (RFC 4291 section 2.6.1).
	router bool
	addrs  []netip.Prefix
}

// id names a static route.
type id struct {
	prefix netip.Prefix
	name   string // of the protocol instance
}

// rib is the routing table of both families with its indices. Its owner locks it.
type rib struct {
	ifaces map[string]*iface
	dests  map[netip.Prefix]*dest
	// nets are the interfaces that have an address in a connected prefix, in
	// order of their names.
	nets map[netip.Prefix][]string
	// lens counts nets by family and prefix length.
	lens [2][129]int

	// byHop, byLink and receive are the static routes to be looked at when the
	// way to a next hop, an interface, or the set of interfaces changes.
	byHop   map[netip.Addr]map[id]struct{}
	byLink  map[string]map[id]struct{}
	receive map[int]map[id]struct{} // by family
	// via are the next hops that each connected prefix leads to; under the zero
	// Prefix those to which none leads. net is the other way round.
	via map[netip.Prefix]map[netip.Addr]struct{}
	net map[netip.Addr]netip.Prefix
}

// newRIB makes an empty RIB for about so many interfaces and routes.
func newRIB(ifaces, routes int) *rib {
	return &rib{
		ifaces: make(map[string]*iface, ifaces), dests: make(map[netip.Prefix]*dest, routes), nets: make(map[netip.Prefix][]string, ifaces),
		byHop: map[netip.Addr]map[id]struct{}{}, byLink: map[string]map[id]struct{}{}, receive: map[int]map[id]struct{}{},
		via: map[netip.Prefix]map[netip.Addr]struct{}{}, net: map[netip.Addr]netip.Prefix{},
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
