package afxdp

import (
	"encoding/binary"

	"vrouter/pkg/pkt"
)

var be = binary.BigEndian

// finish completes the checksum of a frame whose sender left that to its
// device. The kernel does not tell AF_XDP of it, but such a frame can be known:
// its checksum field holds the plain sum over the pseudo-header (Virtio 1.3
// section 5.1.6.2 describes the same), which completes to what the sender
// meant.
//
// A finished frame whose checksum happens to be that very value is not harmed:
// where the sum over everything is right, completing it gives the same value
// again. So only a frame that was damaged on its way, and of those one in
// 65536, would be taken for good; and the devices for which this is done have
// no wire.
//
// Done: TCP and UDP in IPv4 and IPv6, behind one or two VLAN tags, behind
// hop-by-hop and destination options. Not done: what a sender has put into a
// tunnel of its own (VXLAN, GRE, IP in IP), SCTP.
func finish(f []byte) {
	typ, at := be.Uint16(f[12:]), 14
	for range 2 {
		if typ != pkt.TypeVLAN && typ != 0x88a8 || len(f) < at+4 {
			break
		}
		typ = be.Uint16(f[at+2:])
		at += 4
	}
	var pseudo pkt.Sum
	var proto uint8
	p := f[at:]
	switch {
	case typ == pkt.TypeIPv4 && len(p) >= 20 && p[0]>>4 == 4:
		head, total := int(p[0]&15)*4, int(be.Uint16(p[2:]))
		if head < 20 || total < head || total > len(p) || be.Uint16(p[6:])&0x3fff != 0 { // a fragment has its sum
			return
		}
		proto = p[9]
		pseudo = pkt.Pseudo4([4]byte(p[12:]), [4]byte(p[16:]), proto, total-head)
		p = p[head:total]
	case typ == pkt.TypeIPv6 && len(p) >= 40 && p[0]>>4 == 6:
		total := 40 + int(be.Uint16(p[4:]))
		if total > len(p) {
			return
		}
		ip := p
		proto = p[6]
		for p = p[40:total]; proto == 0 || proto == 60; {
			if len(p) < 8 || len(p) < 8+int(p[1])*8 {
				return
			}
			proto, p = p[0], p[8+int(p[1])*8:]
		}
		pseudo = pkt.Pseudo6([16]byte(ip[8:]), [16]byte(ip[24:]), proto, len(p))
	default:
		return
	}
	field := 0
	switch {
	case proto == 6 && len(p) >= 20:
		field = 16
	case proto == 17 && len(p) >= 8:
		field = 6
	default:
		return
	}
	if be.Uint16(p[field:]) != pseudo.Fold() {
		return
	}
	sum := pkt.Sum(0).Add(p).Checksum()
	if sum == 0 {
		sum = 0xffff // 0 is "no checksum" in UDP (RFC 768), and in TCP both are zero
	}
	be.PutUint16(p[field:], sum)
}
