package pkt

import "net/netip"

// Router discovery for IPv6 (RFC 4861 sections 4.1 and 4.2).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|   Type 134    |    Code 0     |           Checksum            |
//	+---------------+-+-+-----------+-------------------------------+
//	| Cur Hop Limit |M|O| Reserved  |     Router Lifetime (s)       |
//	+---------------+-+-+-----------+-------------------------------+
//	|                      Reachable Time (ms)                      |
//	+---------------------------------------------------------------+
//	|                      Retrans Timer (ms)                       |
//	+---------------------------------------------------------------+
//	|   Options: source link-layer address, MTU, prefixes …
const raLen = 16

const (
	ndPrefix = 3 // prefix information, RFC 4861 section 4.6.2
	ndMTU    = 5 // RFC 4861 section 4.6.4
)

// RA is what a Router Advertisement says. Zero numbers say nothing.
type RA struct {
	HopLimit           uint8
	Managed, Other     bool
	Lifetime           uint16 // seconds
	Reachable, Retrans uint32 // milliseconds
	MTU                uint32
}

// RAPrefix is one of its prefixes; times are in seconds.
type RAPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool
	Valid, Preferred   uint32
}

// RouterAdvertisement writes the frame with an advertisement to all nodes, from
// the router's link-local address ip at mac. prefix is called with 0, 1, … until
// it says that there are no more. It returns the frame's length, 0 when buf is
// too small.
func RouterAdvertisement(buf []byte, mac MAC, ip [16]byte, ra *RA, prefix func(i int) (RAPrefix, bool)) int {
	const head = EthernetLen + IPv6Len
	if len(buf) < head+raLen+8+8 {
		return 0
	}
	m := buf[head:]
	clear(m[:raLen+16])
	m[4] = ra.HopLimit
	if ra.Managed {
		m[5] |= 0x80
	}
	if ra.Other {
		m[5] |= 0x40
	}
	be.PutUint16(m[6:], ra.Lifetime)
	be.PutUint32(m[8:], ra.Reachable)
	be.PutUint32(m[12:], ra.Retrans)
	n := raLen
	m[n], m[n+1] = NDSourceLinkAddr, 1
	copy(m[n+2:], mac[:])
	n += 8
	if ra.MTU != 0 {
		m[n], m[n+1] = ndMTU, 1
		be.PutUint32(m[n+4:], ra.MTU)
		n += 8
	}
	for i := 0; ; i++ {
		p, ok := prefix(i)
		if !ok {
			break
		}
		if len(m) < n+32 {
			return 0
		}
		o := m[n : n+32]
		clear(o)
		o[0], o[1], o[2] = ndPrefix, 4, uint8(p.Prefix.Bits())
		if p.OnLink {
			o[3] |= 0x80
		}
		if p.Autonomous {
			o[3] |= 0x40
		}
		be.PutUint32(o[4:], p.Valid)
		be.PutUint32(o[8:], p.Preferred)
		a := p.Prefix.Masked().Addr().As16()
		copy(o[16:], a[:])
		n += 32
	}
	Ethernet(buf).Set(MulticastMAC6(allNodes), mac, TypeIPv6)
	IPv6(buf[EthernetLen:]).Set(ip, allNodes, ProtoICMPv6, 255, 0, n)
	ICMP(m[:n]).Set(ICMPv6RouterAdv, 0, be.Uint32(m[4:]), Pseudo6(ip, allNodes, ProtoICMPv6, n))
	return head + n
}

// RS is what a Router Solicitation says.
type RS struct {
	Src      [16]byte // zero when the host has no address yet
	LinkAddr MAC
	HasLink  bool
}

// ParseRS reads a Router Solicitation out of a frame with its offsets and
// validates it as RFC 4861 section 6.1.1 demands. It reports false for anything
// else; such a message is to be dropped.
func ParseRS(frame []byte, o *Offsets) (s RS, ok bool) {
	if o.Type != TypeIPv6 || o.Proto != ProtoICMPv6 || o.Flags&(FirstFragment|LaterFragment) != 0 {
		return s, false
	}
	ip, m := IPv6(frame[o.L3:]), ICMP(frame[o.L4:o.End])
	if len(m) < 8 || m.Type() != ICMPv6RouterSol || m.Code() != 0 || ip.HopLimit() != 255 {
		return s, false
	}
	s.Src = ip.Src()
	if s.Src[0] == 0xff || Pseudo6(s.Src, ip.Dst(), ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff {
		return s, false
	}
	for b := m[8:]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || 8*int(b[1]) > len(b) {
			return s, false
		}
		if b[0] == NDSourceLinkAddr && b[1] == 1 && !s.HasLink {
			s.LinkAddr, s.HasLink = MAC(b[2:8]), true
		}
		b = b[8*int(b[1]):]
	}
	if s.HasLink && (s.Src == [16]byte{} || !s.LinkAddr.IsUnicast()) {
		return s, false
	}
	return s, true
}
