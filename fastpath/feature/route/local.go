package route

import (
	"encoding/binary"
	"net/netip"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// Deliver is the sink of packets to own addresses: the vRouter answers echo
// requests, hands neighbour discovery on, and tells senders of anything else
// that nobody is there.
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
		c.Drop(d, in, fragmentOf(o.Proto))
	case o.Proto == pkt.ProtoESP: // the inbound stage of IPsec knew no SA for it
		c.Drop(d, in, drop.ESPNoSA)
	case o.Proto == pkt.ProtoICMP:
		if bad != pkt.OK || pkt.Checksum(b[o.L4:o.End]) != 0 {
			c.Drop(d, in, drop.ICMPBad)
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
	switch {
	case o.Has(pkt.FirstFragment) || o.Has(pkt.LaterFragment):
		c.Drop(d, in, fragmentOf(o.Proto))
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
		case t >= pkt.ICMPv6RouterSol && t <= pkt.ICMPv6Redirect:
			c.Drop(d, in, drop.NDIgnored)
		case t == pkt.ICMPv6Echo:
			if pkt.EchoReplyV6(&o, ip, ip.Dst()) {
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
