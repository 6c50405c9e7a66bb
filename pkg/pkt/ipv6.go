package pkt

import "net/netip"

// IPv6Len is the length of the fixed header.
const IPv6Len = 40

// IPv6 is an IPv6 packet (RFC 8200).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+---------------+---------------------------------------+
//	|Version| Traffic class |              Flow label               |
//	+-------+---------------+-------+---------------+---------------+
//	|        Payload length         |  Next header  |   Hop limit   |
//	+-------------------------------+---------------+---------------+
//	|                   Source address (16 bytes)                   |
//	+---------------------------------------------------------------+
//	|                 Destination address (16 bytes)                |
//	+---------------------------------------------------------------+
type IPv6 []byte

// Version is 6 in a valid packet.
func (h IPv6) Version() int { return int(h[0] >> 4) }

// TrafficClass is DSCP and ECN.
func (h IPv6) TrafficClass() uint8 { return uint8(be.Uint16(h) >> 4) }

// FlowLabel is the flow label, 20 bits.
func (h IPv6) FlowLabel() uint32 { return be.Uint32(h) & 0xfffff }

// PayloadLen is the length in bytes of what follows the fixed header.
func (h IPv6) PayloadLen() int { return int(be.Uint16(h[4:])) }

// NextHeader is the type of what follows the fixed header.
func (h IPv6) NextHeader() uint8 { return h[6] }

// HopLimit is the hop limit.
func (h IPv6) HopLimit() uint8 { return h[7] }

// Src is the source address.
func (h IPv6) Src() [16]byte { return [16]byte(h[8:24]) }

// Dst is the destination address.
func (h IPv6) Dst() [16]byte { return [16]byte(h[24:40]) }

// SrcAddr is the source address.
func (h IPv6) SrcAddr() netip.Addr { return netip.AddrFrom16(h.Src()) }

// DstAddr is the destination address.
func (h IPv6) DstAddr() netip.Addr { return netip.AddrFrom16(h.Dst()) }

// Payload is what follows the fixed header, without what a link appended.
func (h IPv6) Payload() []byte { return h[IPv6Len : IPv6Len+h.PayloadLen()] }

// SetTrafficClass sets DSCP and ECN.
func (h IPv6) SetTrafficClass(v uint8) {
	be.PutUint16(h, be.Uint16(h)&0xf00f|uint16(v)<<4)
}

// SetFlowLabel sets the flow label.
func (h IPv6) SetFlowLabel(v uint32) { be.PutUint32(h, be.Uint32(h)&0xfff00000|v&0xfffff) }

// SetPayloadLen sets the payload length.
func (h IPv6) SetPayloadLen(n int) { be.PutUint16(h[4:], uint16(n)) }

// SetNextHeader sets the type of what follows.
func (h IPv6) SetNextHeader(v uint8) { h[6] = v }

// SetHopLimit sets the hop limit.
func (h IPv6) SetHopLimit(v uint8) { h[7] = v }

// SetSrc sets the source address.
func (h IPv6) SetSrc(a [16]byte) { copy(h[8:24], a[:]) }

// SetDst sets the destination address.
func (h IPv6) SetDst(a [16]byte) { copy(h[24:40], a[:]) }

// Set writes the whole header with flow label 0.
func (h IPv6) Set(src, dst [16]byte, next, hopLimit, class uint8, payloadLen int) {
	be.PutUint32(h, 6<<28|uint32(class)<<20)
	h.SetPayloadLen(payloadLen)
	h[6], h[7] = next, hopLimit
	h.SetSrc(src)
	h.SetDst(dst)
}

// SolicitedNode is the multicast address on which the owner of a is asked for
// (RFC 4291 section 2.7.1).
func SolicitedNode(a [16]byte) [16]byte {
	return [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
}

// SubnetRouter is the anycast address that all routers of an interface's subnet
// have, p being one of its addresses with the prefix length (RFC 4291 section
// 2.6.1). There is none on links with two ends (RFC 6164 section 5.1: /127) nor
// for a single address, nor where p itself is that address. That of fe80::/64 is
// left out: who asks on a link has the routers' group.
func SubnetRouter(p netip.Prefix) (a netip.Addr, ok bool) {
	a = p.Masked().Addr()
	return a, p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() && p.Bits() < 127 && a != p.Addr()
}

// MulticastMAC6 is the Ethernet address of an IPv6 multicast group (RFC 2464
// section 7).
func MulticastMAC6(a [16]byte) MAC { return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]} }

// LinkLocal6 is the link-local address made of a MAC address by the modified
// EUI-64 (RFC 4291 appendix A).
func LinkLocal6(m MAC) [16]byte {
	return [16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}
}
