package neigh

import (
	"net/netip"
	"slices"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// Handle takes a message of a worker.
func (f *Feature) Handle(worker int, m pipeline.CtlMsg, now int64) {
	switch m.Op {
	case pipeline.CtlResolve:
		f.resolve(worker, m, now)
	case pipeline.CtlARP:
		f.arp(m, now)
	case pipeline.CtlND:
		f.nd(m, now)
	case pipeline.CtlRS:
		f.solicited(m, now)
	case pipeline.CtlUsed:
		if e := f.byAdj[m.Arg]; e != nil {
			f.used(e, now)
		}
	}
}

// resolve takes a packet whose next hop has no address yet.
func (f *Feature) resolve(worker int, m pipeline.CtlMsg, now int64) {
	c := f.env.Control
	e := f.byAdj[m.Arg]
	a := f.env.Adj.At(m.Arg)
	x := f.env.Snap.Load().Ifaces.At(a.If())
	if x == nil || x.Port == nil {
		c.Drop(m.Desc, m.In, drop.TxDown)
		return
	}
	if e != nil && f.env.Adj.Tail(m.Arg) != m.Gen { // it may be another's by now
		c.Drop(m.Desc, m.In, drop.NeighFailed)
		return
	}
	if e == nil { // a connected prefix: the destination is the next hop
		dst := destination(c.Bytes(m.Desc))
		if a.Kind() != pipeline.AdjGlean || !dst.IsValid() {
			c.Drop(m.Desc, m.In, drop.NoRoute)
			return
		}
		if r, bad := notHost(x, dst); bad {
			c.Drop(m.Desc, m.In, r)
			return
		}
		hi, lo, in := words(x.Index, dst)
		if e = f.byAdj[f.table.find(hi, lo, in)]; e == nil {
			if e = f.create(x, dst, unheard); e == nil {
				f.stats.Refused++
				c.Drop(m.Desc, m.In, drop.NeighTableFull)
				return
			}
		}
	}
	f.queue(worker, e, m, now)
}

// destination is an IP packet's.
func destination(b []byte) netip.Addr {
	switch {
	case len(b) >= pkt.IPv4Len && b[0]>>4 == 4:
		return pkt.IPv4(b).DstAddr()
	case len(b) >= pkt.IPv6Len && b[0]>>4 == 6:
		return pkt.IPv6(b).DstAddr()
	}
	return netip.Addr{}
}

// notHost tells addresses on the link that no host has: own ones, the
// broadcast and network addresses of its prefixes (RFC 2644, RFC 1812 section
// 4.2.2.11).
func notHost(x *pipeline.Iface, a netip.Addr) (drop.Reason, bool) {
	for _, p := range x.Addrs {
		if p.Addr() == a {
			return drop.IPDestination, true
		}
		if a.Is4() && p.Bits() < 31 && p.Addr().Is4() && p.Contains(a) {
			host := be32(a) & (1<<(32-p.Bits()) - 1)
			if host == 0 || host == 1<<(32-p.Bits())-1 {
				return drop.IPBroadcast, true
			}
		}
	}
	return 0, a == x.LinkLocal
}

func be32(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// arp takes an ARP message that the parse has found valid (RFC 826).
func (f *Feature) arp(m pipeline.CtlMsg, now int64) {
	c := f.env.Control
	frame := c.Bytes(m.Desc)
	x := f.env.Snap.Load().Ifaces.At(m.In)
	if x == nil || x.Port == nil {
		c.Drop(m.Desc, m.In, drop.Unconfigured)
		return
	}
	a := pkt.ARP(frame[pkt.EthernetLen:])
	sender, target := netip.AddrFrom4(a.SenderIP()), netip.AddrFrom4(a.TargetIP())
	mac := a.SenderMAC()
	if mac == x.MAC {
		c.Drop(m.Desc, m.In, drop.ARPIgnored) // our own, come back
		return
	}
	if own(x, sender) {
		f.conflict(x, sender, mac, now)
		c.Drop(m.Desc, m.In, drop.ARPIgnored)
		return
	}
	forUs := own(x, target)
	if onLink(x, sender) {
		f.heard(x, sender, mac, forUs, forUs && a.Op() == pkt.ARPReplyOp, now)
	}
	if !forUs || a.Op() != pkt.ARPRequestOp {
		if forUs {
			c.Free(m.Desc) // an answer: it has done its work
			return
		}
		c.Drop(m.Desc, m.In, drop.ARPIgnored)
		return
	}
	c.Send(m.Desc, pkt.ARPReply(c.Room(m.Desc), a, x.MAC), x.Index)
}

// heard: sender says that its address is mac. An entry is made only when the
// message was for us; solicited means that it answers our question.
func (f *Feature) heard(x *pipeline.Iface, sender netip.Addr, mac [6]byte, forUs, solicited bool, now int64) {
	hi, lo, in := words(x.Index, sender)
	e := f.byAdj[f.table.find(hi, lo, in)]
	if e == nil {
		if !forUs || solicited { // an answer to a question that was never put
			return
		}
		if e = f.create(x, sender, heardOf); e == nil {
			return
		}
	}
	switch {
	case e.static:
	case solicited && (e.reach == Incomplete || e.reach == Probe || e.reach == Delay):
		f.confirm(e, mac, now)
	case e.mac != mac:
		f.learn(e, mac)
		f.stale(e, now)
	}
}

// nd takes a neighbour solicitation or advertisement (RFC 4861 section 7.2). Who
// asks for an anycast address is answered at once: waiting a random time, as
// section 7.2.7 would have it, spreads answers over the routers of a link, and
// holds up the first packet.
func (f *Feature) nd(m pipeline.CtlMsg, now int64) {
	c := f.env.Control
	frame := c.Bytes(m.Desc)
	x := f.env.Snap.Load().Ifaces.At(m.In)
	if x == nil || x.Port == nil {
		c.Drop(m.Desc, m.In, drop.Unconfigured)
		return
	}
	o, bad := pkt.Parse(frame)
	n, ok := pkt.ParseND(frame, &o)
	if bad != pkt.OK || !ok {
		c.Drop(m.Desc, m.In, drop.NDBad)
		return
	}
	target, src := netip.AddrFrom16(n.Target), netip.AddrFrom16(n.Src)
	if pkt.Ethernet(frame).Src() == x.MAC {
		c.Drop(m.Desc, m.In, drop.NDIgnored)
		return
	}
	if own(x, target) && f.tentative(x, target) {
		// Not ours yet. Another's check for it, and of course an answer, mean that
		// it never will be (RFC 4862 sections 5.4.3 and 5.4.4).
		if n.Type == pkt.ICMPv6NeighborAdv || n.DAD() {
			f.claimed(x, target, pkt.Ethernet(frame).Src())
		}
		c.Drop(m.Desc, m.In, drop.NDIgnored)
		return
	}
	if n.Type == pkt.ICMPv6NeighborAdv {
		if own(x, target) {
			f.conflict(x, target, pkt.Ethernet(frame).Src(), now)
			c.Drop(m.Desc, m.In, drop.NDIgnored)
			return
		}
		f.advertised(x, target, &n, now)
		c.Free(m.Desc)
		return
	}
	from := target
	if !own(x, target) {
		any := false
		if from, any = x.Anycast(target); !any || f.tentative(x, from) {
			c.Drop(m.Desc, m.In, drop.NDIgnored)
			return
		}
	}
	to := pkt.Ethernet(frame).Src()
	if n.HasLink && !n.DAD() {
		to = n.LinkAddr
		f.heard(x, src, n.LinkAddr, true, false, now)
	}
	c.Send(m.Desc, pkt.NeighborAdvertisement(c.Room(m.Desc), &n, from.As16(), to, x.MAC, routerFlag(x)), x.Index)
}

// conflict says that somebody else uses our address, once in a while: anybody on
// the link can send such messages as fast as he likes.
func (f *Feature) conflict(x *pipeline.Iface, a netip.Addr, mac pkt.MAC, now int64) {
	if now-f.warned < int64(10*time.Second) {
		return
	}
	f.warned = now
	f.env.Log.Warn("somebody else uses our address", "interface", x.Name, "address", a.String(), "mac", mac.String())
}

// advertised follows RFC 4861 section 7.2.5: only entries that exist learn.
func (f *Feature) advertised(x *pipeline.Iface, target netip.Addr, n *pkt.ND, now int64) {
	hi, lo, in := words(x.Index, target)
	e := f.byAdj[f.table.find(hi, lo, in)]
	if e == nil || e.static {
		return
	}
	solicited, override := n.Flags&pkt.NDSolicited != 0, n.Flags&pkt.NDOverride != 0
	switch {
	case e.reach == Incomplete || e.reach == Failed:
		if !n.HasLink || e.reach == Failed {
			return
		}
		e.router = n.Flags&pkt.NDRouter != 0
		if solicited {
			f.confirm(e, n.LinkAddr, now)
		} else {
			f.learn(e, n.LinkAddr)
			f.stale(e, now)
		}
		return
	case n.HasLink && n.LinkAddr != e.mac && !override:
		if e.reach == Reachable {
			f.stale(e, now)
		}
		return
	case n.HasLink && n.LinkAddr != e.mac:
		f.learn(e, n.LinkAddr)
		if !solicited {
			f.stale(e, now)
		}
	}
	e.router = n.Flags&pkt.NDRouter != 0
	if solicited {
		f.confirm(e, e.mac, now)
	}
}

func routerFlag(x *pipeline.Iface) uint8 {
	if x.Forward[pipeline.V6] {
		return pkt.NDRouter
	}
	return 0
}

// LinkUp begins anew on a link that came up.
func (f *Feature) LinkUp(i pipeline.IfIndex) {
	x := f.env.Snap.Load().Ifaces.At(i)
	if x == nil {
		return
	}
	f.recheck(x, f.env.Now())
	f.Announce(i)
	f.advertise(x, f.env.Now())
}

// Announce tells the link about the interface's addresses: gratuitous ARP (RFC
// 5227 section 3) and unsolicited advertisements (RFC 4861 section 7.2.6).
func (f *Feature) Announce(i pipeline.IfIndex) {
	x := f.env.Snap.Load().Ifaces.At(i)
	if x == nil || x.Port == nil || !x.Port.Link() {
		return
	}
	send := func(build func(b []byte) int) {
		if d, b, ok := f.env.Control.Frame(); ok {
			f.env.Control.Send(d, build(b), i)
		}
	}
	for _, a := range own6(x) {
		f.announceOne(x, a)
	}
	for _, p := range x.Addrs {
		if a := p.Addr(); a.Is4() && x.Enabled[pipeline.V4] {
			send(func(b []byte) int { return pkt.ARPRequest(b, pkt.Broadcast, x.MAC, a.As4(), a.As4()) })
		}
	}
}

// announceOne is Announce for one IPv6 address.
func (f *Feature) announceOne(x *pipeline.Iface, a netip.Addr) {
	if f.tentative(x, a) {
		return
	}
	if d, b, ok := f.env.Control.Frame(); ok {
		f.env.Control.Send(d, pkt.NeighborAnnouncement(b, x.MAC, a.As16(), routerFlag(x)), x.Index)
	}
}

// own tells whether an address is the interface's.
func own(x *pipeline.Iface, a netip.Addr) bool {
	return a == x.LinkLocal || slices.ContainsFunc(x.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// onLink tells whether an address lies in one of the interface's prefixes.
func onLink(x *pipeline.Iface, a netip.Addr) bool {
	return slices.ContainsFunc(x.Addrs, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
}

// source4 is the address to ask from: of the prefix that the target is in, else
// any.
func source4(x *pipeline.Iface, target netip.Addr) netip.Addr {
	for _, p := range x.Addrs {
		if p.Addr().Is4() && p.Contains(target) {
			return p.Addr()
		}
	}
	return x.Src[pipeline.V4]
}

// source6 is the address to ask from: link-local for a link-local target, else
// as source4; none that is tentative.
func (f *Feature) source6(x *pipeline.Iface, target netip.Addr) netip.Addr {
	if !target.IsLinkLocalUnicast() {
		for _, p := range x.Addrs {
			if p.Addr().Is6() && p.Contains(target) && !f.tentative(x, p.Addr()) {
				return p.Addr()
			}
		}
	}
	if f.tentative(x, x.LinkLocal) {
		return netip.Addr{}
	}
	return x.LinkLocal
}
