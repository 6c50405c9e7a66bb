package route

import (
	"encoding/binary"
	"net/netip"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Deliver is the sink of packets to own addresses: the vRouter answers echo
// requests, hands neighbour discovery on, and tells senders of anything else
// that nobody is there.
//
// Timestamp requests (ICMPv4 type 13) are not answered. RFC 1812 section 4.3.3.8
// leaves it open; what the reply tells, the clock to the millisecond, is of use to
// nobody who has NTP and to who guesses what was made from the clock, and scanners
// report a router that sends it (CVE-1999-0524).
type Deliver struct{}

// Burst implements pipeline.Sink.
func (Deliver) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	for _, i := range idx {
		i &= 255
		if v.V6 {
			deliver6(c, v, i)
		} else {
			deliver4(c, v, i)
		}
	}
}

func deliver4(c *pipeline.Ctx, v *pipeline.Vec, i uint16) {
	d, in := v.IP(i), v.In[i]
	b := c.Pool.Bytes(d)
	o, bad := pkt.ParseIP(b)
	switch {
	case o.Has(pkt.FirstFragment) || o.Has(pkt.LaterFragment):
		fragment4(c, d, in, v.From[i], o)
	case o.Proto == pkt.ProtoESP: // the inbound stage of IPsec knew no SA for it
		c.Drop(d, in, drop.ESPNoSA)
	case o.Proto == pkt.ProtoICMP:
		if bad != pkt.OK || pkt.Checksum(b[o.L4:o.End]) != 0 {
			c.Drop(d, in, drop.ICMPBad)
		} else if b[o.L4] == pkt.ICMPv4Unreachable && b[o.L4+1] == pkt.ICMPv4FragNeeded {
			c.Env.Tunnels.TooBig(c, d, in, o)
		} else if pkt.EchoReplyV4(&o, pkt.IPv4(b)) {
			c.Reinject(d, in, v.From[i].Answer())
		} else {
			c.Drop(d, in, drop.ICMPIgnored)
		}
	case o.Proto == pkt.ProtoTCP:
		c.Drop(d, in, drop.LocalTCP)
	case o.Proto == pkt.ProtoUDP:
		c.Reject(d, in, v.From[i], pipeline.RejectPort, 0)
	default:
		c.Reject(d, in, v.From[i], pipeline.RejectProtocol, 0)
	}
}

func deliver6(c *pipeline.Ctx, v *pipeline.Vec, i uint16) {
	d, in := v.IP(i), v.In[i]
	b := c.Pool.Bytes(d)
	o, bad := pkt.ParseIP(b)
	if t := c.Env.Tentative.Load(); t != nil && !nd(v, i) {
		if hi, lo := v.DstIP6(i); linkLocal(hi) && t.Has(in, hi, lo) || !linkLocal(hi) && t.HasAny(hi, lo) {
			c.Drop(d, in, drop.AddrTentative)
			return
		}
	}
	if o.Has(pkt.HasOptions) {
		if k, at, code := pkt.Object6(pkt.IPv6(b), true); k != pkt.NoObjection {
			object6(c, d, in, v.From[i], k, at, code)
			return
		}
	}
	switch {
	case o.Has(pkt.FirstFragment) || o.Has(pkt.LaterFragment):
		fragment6(c, d, in, v.From[i], o)
	case o.Proto == pkt.ProtoESP: // the inbound stage of IPsec knew no SA for it
		c.Drop(d, in, drop.ESPNoSA)
	case o.Proto == pkt.ProtoICMPv6:
		if bad != pkt.OK {
			c.Drop(d, in, drop.ICMPBad)
			return
		}
		ip := pkt.IPv6(b)
		switch t := b[o.L4]; {
		case t == pkt.ICMPv6NeighborSol || t == pkt.ICMPv6NeighborAdv:
			if _, through := v.From[i].SA(); through {
				c.Drop(d, in, drop.NDIgnored) // a link's affair, and this came through a tunnel
				return
			}
			c.ToControl(v.Desc[i], in, pipeline.CtlND, 0)
		case t == pkt.ICMPv6RouterSol && v.From[i] == pipeline.FromIface(in):
			c.ToControl(v.Desc[i], in, pipeline.CtlRS, 0)
		case t >= pkt.ICMPv6RouterSol && t <= pkt.ICMPv6Redirect:
			c.Drop(d, in, drop.NDIgnored)
		case t == pkt.ICMPv6TooBig:
			c.Env.Tunnels.TooBig(c, d, in, o)
		case t == pkt.ICMPv6Echo:
			if o.Has(pkt.HasOptions) {
				d = bare6(c, d, &o)
				ip = pkt.IPv6(c.Pool.Bytes(d))
			}
			if from, ok := speaker6(c, ip); !ok {
				c.Drop(d, in, drop.AddrTentative)
			} else if pkt.EchoReplyV6(&o, ip, from) {
				c.Reinject(d, in, v.From[i].Answer())
			} else {
				c.Drop(d, in, drop.ICMPBad)
			}
		default:
			c.Drop(d, in, drop.ICMPIgnored)
		}
	case o.Proto == pkt.ProtoTCP:
		c.Drop(d, in, drop.LocalTCP)
	case o.Proto == pkt.ProtoUDP:
		c.Reject(d, in, v.From[i], pipeline.RejectPort, 0)
	case o.Proto == pkt.ProtoNone:
		c.Drop(d, in, drop.LocalProtocol)
	default:
		c.Reject(d, in, v.From[i], pipeline.RejectProtocol, 0)
	}
}

// fragment4 takes a piece of a datagram that has been found whole and is larger
// than a buffer (pipeline.Origin.Whole): all of an echo request, or the first
// piece of something else.
func fragment4(c *pipeline.Ctx, d sal.Desc, in pipeline.IfIndex, from pipeline.Origin, o pkt.Offsets) {
	ip := pkt.IPv4(c.Pool.Bytes(d))
	switch {
	case !from.Whole():
		c.Drop(d, in, fragmentOf(o.Proto))
	case o.Proto == pkt.ProtoICMP:
		if o.Has(pkt.FirstFragment) {
			echo(pkt.ICMP(ip[o.L4:]), pkt.ICMPv4EchoReply)
		}
		src, dst := ip.Src(), ip.Dst()
		ip.SetSrc(dst)
		ip.SetDst(src)
		ip.SetTTL(64)
		ip.SetChecksum()
		c.Reinject(d, in, from.Answer())
	default:
		unserved(c, d, in, from, o.Proto)
	}
}

// fragment6 is fragment4 for IPv6.
func fragment6(c *pipeline.Ctx, d sal.Desc, in pipeline.IfIndex, from pipeline.Origin, o pkt.Offsets) {
	ip := pkt.IPv6(c.Pool.Bytes(d))
	switch {
	case !from.Whole():
		c.Drop(d, in, fragmentOf(o.Proto))
	case o.Proto == pkt.ProtoICMPv6:
		if ip.NextHeader() != pkt.ProtoFragment || o.L4 != pkt.IPv6Len+8 {
			c.Drop(d, in, drop.ICMPIgnored) // more headers than ours to repeat
			return
		}
		own, ok := speaker6(c, ip)
		if !ok {
			c.Drop(d, in, drop.AddrTentative)
			return
		}
		src, dst := ip.Src(), ip.Dst()
		if o.Has(pkt.FirstFragment) {
			m := pkt.ICMP(ip[o.L4:])
			echo(m, pkt.ICMPv6EchoReply)
			if own != dst {
				sum := pkt.Sum(^m.Checksum()).Add(own[:])
				for k := 0; k < len(dst); k += 2 { // less the old one
					sum = sum.AddUint(uint32(^binary.BigEndian.Uint16(dst[k:])))
				}
				binary.BigEndian.PutUint16(m[2:], sum.Checksum())
			}
		}
		ip.SetSrc(own)
		ip.SetDst(src)
		ip.SetHopLimit(64)
		c.Reinject(d, in, from.Answer())
	default:
		unserved(c, d, in, from, o.Proto)
	}
}

// speaker6 is the own address that a packet to the vRouter is answered from: the
// one it was sent to, or where that is an anycast address the one beside it; false
// while that is tentative.
func speaker6(c *pipeline.Ctx, ip pkt.IPv6) (from [16]byte, ok bool) {
	from = ip.Dst()
	h, _ := c.Env.FIB.Path6(binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:]))
	if x := c.Snap.Ifaces.At(c.Env.Adj.At(h).If()); x != nil && c.Env.Adj.At(h).Kind() == pipeline.AdjReceive {
		if own, any := x.Anycast(netip.AddrFrom16(from)); any {
			return own.As16(), !c.Env.Tentative.Load().HasAddr(x.Index, own)
		}
	}
	return from, true
}

// object6 ends a packet to the vRouter for its extension headers.
func object6(c *pipeline.Ctx, d sal.Desc, in pipeline.IfIndex, from pipeline.Origin, k pkt.Objection, at int, code uint8) {
	why := pipeline.RejectHeader
	if code == pkt.ICMPv6UnknownOption {
		why = pipeline.RejectOption
	}
	if k == pkt.Discard {
		c.Drop(d, in, drop.IPOption)
		return
	}
	c.Reject(d, in, from, why, uint16(at))
}

// echo turns the head of an echo request into that of its reply. The rest of the
// message may lie elsewhere: its checksum changes by what changes (RFC 1624).
// (Swapped addresses leave that of ICMPv6 as it is.)
func echo(m pkt.ICMP, reply uint8) {
	sum := pkt.Update16(m.Checksum(), uint16(m[0])<<8|uint16(m[1]), uint16(reply)<<8)
	m[0], m[1] = reply, 0
	binary.BigEndian.PutUint16(m[2:], sum)
}

// unserved ends a packet to the vRouter of a protocol that nothing serves.
func unserved(c *pipeline.Ctx, d sal.Desc, in pipeline.IfIndex, from pipeline.Origin, proto uint8) {
	switch proto {
	case pkt.ProtoTCP:
		c.Drop(d, in, drop.LocalTCP)
	case pkt.ProtoUDP:
		c.Reject(d, in, from, pipeline.RejectPort, 0)
	default:
		c.Reject(d, in, from, pipeline.RejectProtocol, 0)
	}
}

// bare6 takes the extension headers out of a packet that is going to be
// answered: none of them is repeated.
func bare6(c *pipeline.Ctx, d sal.Desc, o *pkt.Offsets) sal.Desc {
	b := c.Pool.Bytes(d)
	cut := o.L4 - pkt.IPv6Len
	copy(b[cut:], b[:pkt.IPv6Len])
	ip := pkt.IPv6(b[cut:])
	ip.SetNextHeader(o.Proto)
	ip.SetPayloadLen(int(o.End - o.L4))
	o.L4, o.End, o.Flags = pkt.IPv6Len, o.End-cut, o.Flags&^pkt.HasOptions
	return sal.MakeDesc(d.Buf(), d.Off()+cut, o.End)
}

// fragmentOf is why a fragment to the vRouter dies.
func fragmentOf(proto uint8) drop.Reason {
	if proto == pkt.ProtoESP {
		return drop.ESPFragment
	}
	return drop.LocalFragment
}

// is6 compares an address with one in two words.
func is6(a netip.Addr, hi, lo uint64) bool {
	if !a.Is6() {
		return false
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]) == hi && binary.BigEndian.Uint64(b[8:]) == lo
}

// ownIn tells whether a link-local address is configured on an interface.
func ownIn(x *pipeline.Iface, hi, lo uint64) bool {
	for _, p := range x.Addrs {
		if is6(p.Addr(), hi, lo) {
			return true
		}
	}
	return false
}
