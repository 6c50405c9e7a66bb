package route

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"vrouter/fastpath/feature/route"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/schema/interfaces"
	"vrouter/mgmt/internal/schema/routing4"
	"vrouter/mgmt/internal/schema/routing6"
	"vrouter/mgmt/internal/touch"
)

// Translate implements binding.Binding.
func (b *Binding) Translate(c *binding.Commit) error {
	now := time.Now().UnixNano()
	links := touch.Entries(c, b.ifList)
	statics := [2][]touch.Entry{touch.Entries(c, b.lists[0]), touch.Entries(c, b.lists[1])}
	routes := 2*len(links) + len(statics[0]) + len(statics[1])
	r, old := b.rib, b.rib
	if c.Full {
		r = newRIB(len(links), routes)
	}
	ch := begin(r, now, c.Full, len(links), routes)
	if c.Full { // what did not change keeps its time
		ch.keep = func(p netip.Prefix, n *candidate) int64 {
			o := old.dests[p].find(n.source, n.name)
			if o != nil && o.want == n.want && o.sameWay(n) {
				return o.since
			}
			return now
		}
	}
	b.last = ch
	for _, e := range links {
		if e.New == nil {
			ch.setIface(e.Key(), nil)
		} else {
			ch.setIface(e.Key(), b.iface(e.New))
		}
	}
	var errs data.Errors
	for f := range statics {
		for _, e := range statics[f] {
			r := id{netip.MustParsePrefix(e.Key()), instance(e.Path)}
			if e.New == nil {
				ch.setStatic(r, nil)
				continue
			}
			w, err := b.want(f, r.prefix, e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			ch.setStatic(r, w)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	ch.settle(&c.Out.Route)
	c.OnPublish(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		ch.apply()
		b.rib = r
	})
	return nil
}

// instance names the protocol instance of a static route's path:
// …/control-plane-protocol[type,name]/static-routes/ipv4/route.
func instance(route *data.Path) string {
	_, name, _ := strings.Cut(route.Up.Up.Up.Key, "\x00")
	return name
}

// iface makes what routing needs of an interface's entry.
func (b *Binding) iface(c *data.Container) *iface {
	v := b.ifaces.Fill(c)
	out := &iface{loop: v.Type == interfaces.Interfaces_InterfaceType_softwareLoopback}
	if !*v.Enabled {
		return out
	}
	if v.Ipv4 != nil && *v.Ipv4.Enabled {
		out.up[0] = true
		for _, a := range v.Ipv4.Address {
			out.addrs = append(out.addrs, netip.PrefixFrom(netip.MustParseAddr(*a.Ip), int(*a.PrefixLength)))
		}
	}
	if v.Ipv6 != nil && *v.Ipv6.Enabled {
		out.up[1] = true
		out.router = *v.Ipv6.Forwarding
		for _, a := range v.Ipv6.Address {
			if ip := netip.MustParseAddr(*a.Ip); !ip.IsLinkLocalUnicast() {
				out.addrs = append(out.addrs, netip.PrefixFrom(ip, int(*a.PrefixLength)))
			}
		}
	}
	return out
}

var (
	special4 = map[routing4.E_Routing4_Route_NextHop_SpecialNextHop]route.Kind{
		routing4.Routing4_Route_NextHop_SpecialNextHop_blackhole:   route.Blackhole,
		routing4.Routing4_Route_NextHop_SpecialNextHop_unreachable: route.Unreachable,
		routing4.Routing4_Route_NextHop_SpecialNextHop_prohibit:    route.Prohibit,
		routing4.Routing4_Route_NextHop_SpecialNextHop_receive:     route.Receive,
	}
	special6 = map[routing6.E_Routing6_Route_NextHop_SpecialNextHop]route.Kind{
		routing6.Routing6_Route_NextHop_SpecialNextHop_blackhole:   route.Blackhole,
		routing6.Routing6_Route_NextHop_SpecialNextHop_unreachable: route.Unreachable,
		routing6.Routing6_Route_NextHop_SpecialNextHop_prohibit:    route.Prohibit,
		routing6.Routing6_Route_NextHop_SpecialNextHop_receive:     route.Receive,
	}
)

// want reads a static route, and refuses what could never be forwarded by.
func (b *Binding) want(f int, p netip.Prefix, e touch.Entry) (*want, *data.Error) {
	var w want
	var link, hop *string
	var hops []entry
	if f == 0 {
		n := b.fill4.Fill(e.New).NextHop
		w.kind, link, hop = special4[n.SpecialNextHop], n.OutgoingInterface, n.NextHopAddress
		if n.NextHopList != nil {
			for _, h := range n.NextHopList.NextHop {
				hops = append(hops, entry{*h.Index, h.OutgoingInterface, h.NextHopAddress, h.Weight})
			}
		}
	} else {
		n := b.fill6.Fill(e.New).NextHop
		w.kind, link, hop = special6[n.SpecialNextHop], n.OutgoingInterface, n.NextHopAddress
		if n.NextHopList != nil {
			for _, h := range n.NextHopList.NextHop {
				hops = append(hops, entry{*h.Index, h.OutgoingInterface, h.NextHopAddress, h.Weight})
			}
		}
	}
	bad := func(leaf, msg string) (*want, *data.Error) {
		return nil, &data.Error{Tag: "invalid-value", Path: e.Path.String() + leaf, Msg: msg}
	}
	switch a := p.Addr(); {
	case a.IsMulticast():
		return bad("/destination-prefix", "multicast is not forwarded by unicast routes")
	case a.IsLinkLocalUnicast() && a.Is6() && p.Bits() >= 10:
		return bad("/destination-prefix", "link-local addresses are on their link and not routed (RFC 4291 section 2.5.6)")
	case a.Is4In6() && p.Bits() >= 96:
		return bad("/destination-prefix", "IPv4-mapped addresses are not routed")
	}
	if link != nil {
		w.link = *link
	}
	if hop != nil {
		w.hop = netip.MustParseAddr(*hop)
		if why := notRouter(w.hop, link); why != "" {
			return bad("/next-hop/next-hop-address", why)
		}
	}
	var l []route.Hop
	for _, h := range hops {
		at := "/next-hop/next-hop-list/next-hop[index=" + quoted(h.index) + "]"
		x := route.Hop{Weight: uint16(*h.weight)}
		switch {
		case h.link == nil && h.hop == nil:
			return bad(at, "a next hop needs outgoing-interface, next-hop-address, or both")
		case h.hop != nil:
			x.NextHop = netip.MustParseAddr(*h.hop)
			if why := notRouter(x.NextHop, h.link); why != "" {
				return bad(at+"/next-hop-address", why)
			}
		}
		if h.link != nil {
			x.Iface = *h.link
		}
		l = append(l, x)
	}
	w.hops = route.MakeHops(l)
	return &w, nil
}

// entry is one of several next hops as it is configured.
type entry struct {
	index     string
	link, hop *string
	weight    *uint8
}

// notRouter says why an address cannot be a next hop, "" when it can.
func notRouter(a netip.Addr, link *string) string {
	switch {
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6():
		return fmt.Sprintf("%v is not the address of a router", a)
	case a.Is6() && a.IsLinkLocalUnicast() && link == nil:
		return "a link-local next hop needs outgoing-interface: the address alone does not say on which link"
	}
	return ""
}

// quoted is a text as it stands in a path.
func quoted(s string) string {
	if strings.Contains(s, "'") {
		return `"` + s + `"`
	}
	return "'" + s + "'"
}
