package testbed

import (
	"net/netip"

	"vrouter/pkg/pkt"
)

// Packet describes an IP packet to build; the zero values are good.
type Packet struct {
	Src, Dst string
	Proto    uint8 // 0: UDP
	SPort    uint16
	DPort    uint16
	TTL      uint8 // 0: 64
	TOS      uint8
	DF       bool
	Len      int // of the IP packet; at least its headers
	// Payload replaces what stands behind the IP header.
	Payload []byte
	Options []byte // IPv4, a multiple of four bytes
}

// IP builds the packet.
func (p Packet) IP() []byte {
	src, dst := netip.MustParseAddr(p.Src), netip.MustParseAddr(p.Dst)
	ttl, proto := p.TTL, p.Proto
	if ttl == 0 {
		ttl = 64
	}
	if proto == 0 {
		proto = pkt.ProtoUDP
	}
	hl := pkt.IPv4Len + len(p.Options)
	if src.Is6() {
		hl = pkt.IPv6Len
	}
	body := p.Payload
	if body == nil {
		n := max(p.Len-hl, pkt.UDPLen)
		if proto == pkt.ProtoTCP {
			n = max(n, pkt.TCPLen)
		}
		body = make([]byte, n)
		for i := range body {
			body[i] = byte(i)
		}
		switch proto {
		case pkt.ProtoUDP, pkt.ProtoTCP:
			body[0], body[1], body[2], body[3] = byte(p.SPort>>8), byte(p.SPort), byte(p.DPort>>8), byte(p.DPort)
			if proto == pkt.ProtoUDP {
				body[4], body[5] = byte(n>>8), byte(n)
				body[6], body[7] = 0, 0
			} else {
				body[12] = 5 << 4
			}
		}
	}
	b := make([]byte, hl+len(body))
	copy(b[hl:], body)
	if src.Is4() {
		ip := pkt.IPv4(b)
		ip.Set(src.As4(), dst.As4(), proto, ttl, p.TOS, len(b))
		if len(p.Options) > 0 {
			b[0] = 0x40 | byte(hl/4)
			copy(b[pkt.IPv4Len:], p.Options)
		}
		ip.SetFrag(p.DF, false, 0)
		ip.SetID(0x1234)
		ip.SetChecksum()
	} else {
		pkt.IPv6(b).Set(src.As16(), dst.As16(), proto, ttl, p.TOS, len(body))
	}
	return b
}

// Echo builds an echo request of n bytes (IP header included) with a right
// checksum.
func Echo(src, dst string, n int) Packet {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		m := pkt.ICMP(make([]byte, max(n-pkt.IPv4Len, 8)))
		m.Set(pkt.ICMPv4Echo, 0, 0x00070001, 0)
		return Packet{Src: src, Dst: dst, Proto: pkt.ProtoICMP, Payload: m}
	}
	m := pkt.ICMP(make([]byte, max(n-pkt.IPv6Len, 8)))
	m.Set(pkt.ICMPv6Echo, 0, 0x00070001, pkt.Pseudo6(s.As16(), d.As16(), pkt.ProtoICMPv6, len(m)))
	return Packet{Src: src, Dst: dst, Proto: pkt.ProtoICMPv6, Payload: m}
}

// Frame puts an Ethernet header in front of an IP packet.
func Frame(dst, src pkt.MAC, ip []byte) []byte {
	typ := uint16(pkt.TypeIPv4)
	if ip[0]>>4 == 6 {
		typ = pkt.TypeIPv6
	}
	b := make([]byte, pkt.EthernetLen+len(ip))
	pkt.Ethernet(b).Set(dst, src, typ)
	copy(b[pkt.EthernetLen:], ip)
	return b
}

// From builds a frame from station src to interface dst (both by number).
func (p Packet) From(src, dst byte) []byte { return Frame(MAC(dst), MAC(src), p.IP()) }
