package pkt

// Neighbor discovery for IPv6 (RFC 4861): the two messages that resolve
// addresses. Solicitation and advertisement share one layout.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	| Type 135, 136 |    Code 0     |           Checksum            |
//	+-+-+-+---------+---------------+-------------------------------+
//	|R|S|O|          Reserved (R, S, O: advertisement only)         |
//	+-+-+-+---------------------------------------------------------+
//	|                   Target address (16 bytes)                   |
//	+---------------+---------------+-------------------------------+
//	| Option type   | Length in 8 B |  Link-layer address …         |
const ndLen = 24

// Flags of a neighbor advertisement (RFC 4861 section 4.4), as in ND.Flags.
const (
	NDRouter    = 0x80 // the sender is a router
	NDSolicited = 0x40 // answers a solicitation, so it proves reachability
	NDOverride  = 0x20 // replaces a cached address
)

// ND option types (RFC 4861 section 4.6).
const (
	NDSourceLinkAddr = 1
	NDTargetLinkAddr = 2
)

// ND is what a neighbor solicitation or advertisement says.
type ND struct {
	Type     uint8    // ICMPv6NeighborSol or ICMPv6NeighborAdv
	Flags    uint8    // of an advertisement
	Target   [16]byte // the address asked for, or advertised
	Src      [16]byte // IPv6 source; zero when checking for duplicates
	Dst      [16]byte // IPv6 destination
	LinkAddr MAC      // source (solicitation) or target (advertisement) address
	HasLink  bool     // the option with LinkAddr was there
}

// DAD says whether a solicitation checks for a duplicate address (RFC 4862).
func (n *ND) DAD() bool { return n.Type == ICMPv6NeighborSol && n.Src == [16]byte{} }

// ParseND reads a neighbor solicitation or advertisement out of a frame with
// its offsets, and validates it as RFC 4861 sections 7.1.1 and 7.1.2 demand:
// hop limit 255, checksum, code, length, target, options. It reports false for
// anything else; such a message is to be dropped.
func ParseND(frame []byte, o *Offsets) (n ND, ok bool) {
	if o.Type != TypeIPv6 || o.Proto != ProtoICMPv6 || o.Flags&(FirstFragment|LaterFragment) != 0 {
		return n, false
	}
	ip, m := IPv6(frame[o.L3:]), ICMP(frame[o.L4:o.End])
	if len(m) < ndLen || m.Code() != 0 || ip.HopLimit() != 255 {
		return n, false
	}
	n.Type, n.Src, n.Dst = m.Type(), ip.Src(), ip.Dst()
	n.Target = [16]byte(m[8:24])
	want := uint8(NDSourceLinkAddr)
	switch n.Type {
	case ICMPv6NeighborSol:
	case ICMPv6NeighborAdv:
		n.Flags = m[4] & (NDRouter | NDSolicited | NDOverride)
		want = NDTargetLinkAddr
		if n.Dst[0] == 0xff && n.Flags&NDSolicited != 0 {
			return n, false
		}
	default:
		return n, false
	}
	if n.Target[0] == 0xff || n.Src[0] == 0xff || Pseudo6(n.Src, n.Dst, ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff {
		return n, false
	}
	for b := m[ndLen:]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || 8*int(b[1]) > len(b) {
			return n, false
		}
		if b[0] == want && b[1] == 1 && !n.HasLink {
			n.LinkAddr, n.HasLink = MAC(b[2:8]), true
		}
		b = b[8*int(b[1]):]
	}
	if n.HasLink && !n.LinkAddr.IsUnicast() {
		return n, false
	}
	if n.DAD() && (n.HasLink || n.Dst != SolicitedNode(n.Target)) {
		return n, false
	}
	return n, true
}

// NeighborSolicitation writes a frame that asks for the owner of target. With
// dst nil it goes to the target's solicited-node group, else to the MAC dst,
// to see whether a known neighbour is still there. With ip zero it checks for
// a duplicate address and carries no option (RFC 4862 section 5.4.2).
func NeighborSolicitation(buf []byte, dst *MAC, src MAC, ip, target [16]byte) int {
	to, toMAC := SolicitedNode(target), MAC{}
	if dst != nil {
		to, toMAC = target, *dst
	} else {
		toMAC = MulticastMAC6(to)
	}
	n := ndLen + 8
	if ip == ([16]byte{}) {
		n = ndLen
	}
	return ndFrame(buf, toMAC, src, ip, to, n, ICMPv6NeighborSol, 0, target, NDSourceLinkAddr)
}

// NeighborAdvertisement writes the frame that answers sol: its target is at
// mac. The answer goes to who asked, to everybody when that was a check for a
// duplicate. flags is NDRouter or 0; solicited and override are set as RFC
// 4861 section 7.2.4 has them. to is the MAC address of who asked. from is what
// to answer from: sol.Target, or where that is an anycast address, which overrides
// no other router's answer, an own address beside it.
func NeighborAdvertisement(buf []byte, sol *ND, from [16]byte, to, mac MAC, flags uint8) int {
	if sol.Type != ICMPv6NeighborSol {
		return 0
	}
	dst := sol.Src
	flags |= NDSolicited
	if from == sol.Target {
		flags |= NDOverride
	}
	if sol.DAD() {
		dst = allNodes
		to = MulticastMAC6(dst)
		flags &^= NDSolicited
	}
	return ndFrame(buf, to, mac, from, dst, ndLen+8, ICMPv6NeighborAdv, flags, sol.Target, NDTargetLinkAddr)
}

// NeighborAnnouncement writes an advertisement that nobody asked for, to all
// nodes: ip is at mac now (RFC 4861 section 7.2.6).
func NeighborAnnouncement(buf []byte, mac MAC, ip [16]byte, flags uint8) int {
	return ndFrame(buf, MulticastMAC6(allNodes), mac, ip, allNodes, ndLen+8, ICMPv6NeighborAdv, flags&^NDSolicited|NDOverride, ip, NDTargetLinkAddr)
}

var allNodes = [16]byte{0: 0xff, 1: 0x02, 15: 1}

// ndFrame writes a frame with a message of n bytes; its link-layer address
// option is there when n has room for it, and holds src.
func ndFrame(buf []byte, dst, src MAC, ip, to [16]byte, n int, typ, flags uint8, target [16]byte, opt uint8) int {
	const head = EthernetLen + IPv6Len
	if len(buf) < head+n {
		return 0
	}
	Ethernet(buf).Set(dst, src, TypeIPv6)
	IPv6(buf[EthernetLen:]).Set(ip, to, ProtoICMPv6, 255, 0, n)
	m := ICMP(buf[head : head+n])
	copy(m[8:24], target[:])
	if n > ndLen {
		m[24], m[25] = opt, 1
		copy(m[26:32], src[:])
	}
	m.Set(typ, 0, uint32(flags)<<24, Pseudo6(ip, to, ProtoICMPv6, n))
	return head + n
}
