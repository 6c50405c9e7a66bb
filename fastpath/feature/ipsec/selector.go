package ipsec

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"vrouter/pkg/pkt"
)

// addr is an address of either family, left-aligned, so that prefixes of both
// mask the same way: IPv4 fills the upper half of hi.
type addr struct{ hi, lo uint64 }

func addrOf(a netip.Addr) addr {
	if a.Is4() {
		b := a.As4()
		return addr{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0}
	}
	b := a.As16()
	return addr{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// netip is the address as others have it.
func (a addr) netip(v6 bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	if v6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

func (a addr) mask(bits uint8) addr {
	if bits <= 64 {
		return addr{a.hi &^ (^uint64(0) >> bits), 0}
	}
	return addr{a.hi, a.lo &^ (^uint64(0) >> (bits - 64))}
}

// ends are the outer addresses of an SA.
type ends struct {
	local, remote addr
	v6            bool
}

func endsOf(local, remote netip.Addr) ends {
	return ends{addrOf(local), addrOf(remote), local.Is6()}
}

// scope is what policy asks of an SA: its selectors and mode, and its outer
// addresses as they are configured. (Where the peer is at present, the record has.)
type scope struct {
	compiled
	ends ends
	mode Mode
}

// packet is what selectors look at, seen from the vRouter: the source of an
// outbound packet is local, the source of an inbound one is remote.
type packet struct {
	local, remote addr
	lport, rport  uint16 // ICMP: both 256 * type + code
	proto         uint8
	v6            bool
	// noPorts: a fragment, or a packet whose ports cannot be read.
	noPorts bool
	// noProto: a fragment that does not tell its upper protocol.
	noProto bool
	// ike: IKE from or to the vRouter itself.
	ike bool
}

// isIKE tells whether a packet is from or to a port of IKE of this side: 500, or
// 4500 where it is not ESP (RFC 7296 section 2.23). The peer's may be any, behind
// a NAT.
func (p *packet) isIKE() bool {
	return p.proto == protoUDP && !p.noPorts && (p.lport == 500 || p.lport == 4500)
}

// compiled is a Selector made for matching.
type compiled struct {
	local, remote  addr
	lbits, rbits   uint8
	v6             bool
	proto          int16
	lports, rports []PortRange
}

func compileSelector(s *Selector) (compiled, error) {
	l, r := s.Local, s.Remote
	switch {
	case !l.IsValid() || !r.IsValid():
		return compiled{}, fmt.Errorf("local and remote prefix are both needed")
	case l.Addr().Is4() != r.Addr().Is4():
		return compiled{}, fmt.Errorf("local prefix %v and remote prefix %v are of different families", l, r)
	case l.Masked() != l || r.Masked() != r:
		return compiled{}, fmt.Errorf("host bits are set in %v or %v", l, r)
	case s.Proto > 255:
		return compiled{}, fmt.Errorf("protocol %d does not exist", s.Proto)
	}
	lports, err := compilePorts(s.LocalPorts)
	if err != nil {
		return compiled{}, err
	}
	rports, err := compilePorts(s.RemotePorts)
	if err != nil {
		return compiled{}, err
	}
	if len(lports)+len(rports) > 0 && (s.Proto == protoICMP && l.Addr().Is6() || s.Proto == protoICMPv6 && l.Addr().Is4()) {
		return compiled{}, fmt.Errorf("protocol %d has no message types between %v and %v", s.Proto, l, r)
	}
	return compiled{local: addrOf(l.Addr()), remote: addrOf(r.Addr()), lbits: uint8(l.Bits()), rbits: uint8(r.Bits()),
		v6: l.Addr().Is6(), proto: s.Proto, lports: lports, rports: rports}, nil
}

// compilePorts checks ranges; one that has all ports in it means the same as
// none at all.
func compilePorts(l []PortRange) ([]PortRange, error) {
	all := false
	for _, p := range l {
		if p.First > p.Last {
			return nil, fmt.Errorf("port range %d to %d is empty", p.First, p.Last)
		}
		all = all || p.First == 0 && p.Last == math.MaxUint16
	}
	if all {
		return nil, nil
	}
	return slices.Clone(l), nil
}

// matches tells whether a packet is inside the selector. A packet that does not
// show what the selector asks for (ports of a fragment) is inside it only when
// loose: so Protect and Discard catch it, and Bypass does not let it through
// (RFC 4301 section 7: never weaker than the treatment of the whole packet).
func (c *compiled) matches(p *packet, loose bool) bool {
	if c.v6 != p.v6 || p.local.mask(c.lbits) != c.local || p.remote.mask(c.rbits) != c.remote {
		return false
	}
	if c.proto >= 0 && c.proto != int16(p.proto) && !(p.noProto && loose) {
		return false
	}
	if !c.ports() {
		return true
	}
	// The types of ICMP are meant only where ICMP is: not every protocol.
	shown := pkt.HasPorts(p.proto) || c.proto >= 0 && isICMP(p.proto, p.v6)
	if p.noPorts {
		return loose && (p.noProto || shown)
	}
	return shown && inRanges(c.lports, p.lport) && inRanges(c.rports, p.rport)
}

// namesUDP tells whether the selector is of UDP ports by name.
func (c *compiled) namesUDP() bool { return c.proto == protoUDP && c.ports() }

const (
	protoICMP   = 1
	protoUDP    = 17
	protoICMPv6 = 58
)

// isICMP tells whether packets of a protocol have type and code.
func isICMP(proto uint8, v6 bool) bool {
	return proto == protoICMP && !v6 || proto == protoICMPv6 && v6
}

// ports tells whether the selector names some, or types of ICMP.
func (c *compiled) ports() bool { return len(c.lports)|len(c.rports) != 0 }

func inRanges(l []PortRange, port uint16) bool {
	for _, r := range l {
		if port >= r.First && port <= r.Last {
			return true
		}
	}
	return len(l) == 0
}
