package pkt

// ICMPLen is the length of the part of an ICMP message that all have.
const ICMPLen = 8

// ICMPv4 types (RFC 792) and the codes that a router sends.
const (
	ICMPv4EchoReply    = 0
	ICMPv4Unreachable  = 3
	ICMPv4Redirect     = 5
	ICMPv4Echo         = 8
	ICMPv4TimeExceeded = 11
	ICMPv4ParamProblem = 12 // rest holds the offset of the culprit in its upper byte

	ICMPv4NetUnreachable   = 0  // of Unreachable: no route
	ICMPv4HostUnreachable  = 1  // of Unreachable: the neighbour does not answer
	ICMPv4ProtoUnreachable = 2  // of Unreachable
	ICMPv4PortUnreachable  = 3  // of Unreachable
	ICMPv4FragNeeded       = 4  // of Unreachable: rest holds the MTU (RFC 1191)
	ICMPv4AdminProhibited  = 13 // of Unreachable: filtered (RFC 1812 section 5.2.7.1)
	ICMPv4TTLExceeded      = 0  // of TimeExceeded: in transit

	ICMPv4ReassemblyExceeded = 1 // of TimeExceeded: fragments missing
)

// ICMPv6 types (RFC 4443, RFC 4861) and the codes that a router sends.
const (
	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2 // rest holds the MTU
	ICMPv6TimeExceeded = 3
	ICMPv6ParamProblem = 4 // rest holds the offset of the culprit
	ICMPv6Echo         = 128
	ICMPv6EchoReply    = 129
	ICMPv6RouterSol    = 133
	ICMPv6RouterAdv    = 134
	ICMPv6NeighborSol  = 135
	ICMPv6NeighborAdv  = 136
	ICMPv6Redirect     = 137

	ICMPv6NoRoute            = 0 // of Unreachable
	ICMPv6AdminProhibited    = 1 // of Unreachable
	ICMPv6BeyondScope        = 2 // of Unreachable: a link-local source would leave its link
	ICMPv6AddrUnreachable    = 3 // of Unreachable: the neighbour does not answer
	ICMPv6PortUnreachable    = 4 // of Unreachable
	ICMPv6HopLimitExceeded   = 0 // of TimeExceeded: in transit
	ICMPv6ReassemblyExceeded = 1 // of TimeExceeded: fragments missing
	ICMPv6BadHeader          = 0 // of ParamProblem
	ICMPv6UnknownNextHeader  = 1 // of ParamProblem
	ICMPv6UnknownOption      = 2 // of ParamProblem
)

// ICMP is an ICMP message of either version.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|     Type      |     Code      |           Checksum            |
//	+---------------+---------------+-------------------------------+
//	|     Rest of header: identifier and sequence, MTU, pointer     |
//	+---------------------------------------------------------------+
//	|                             Body                              |
type ICMP []byte

// Type is the type.
func (h ICMP) Type() uint8 { return h[0] }

// Code is the code.
func (h ICMP) Code() uint8 { return h[1] }

// Checksum is the checksum field.
func (h ICMP) Checksum() uint16 { return be.Uint16(h[2:]) }

// Rest is bytes 4 to 7.
func (h ICMP) Rest() uint32 { return be.Uint32(h[4:]) }

// ID is the identifier of an echo.
func (h ICMP) ID() uint16 { return be.Uint16(h[4:]) }

// Seq is the sequence number of an echo.
func (h ICMP) Seq() uint16 { return be.Uint16(h[6:]) }

// Body is what follows the first eight bytes.
func (h ICMP) Body() []byte { return h[ICMPLen:] }

// Set writes type, code and rest, and the checksum over all of h. pseudo is 0
// for ICMPv4 (RFC 792) and [Pseudo6] for ICMPv6 (RFC 4443 section 2.3).
func (h ICMP) Set(typ, code uint8, rest uint32, pseudo Sum) {
	h[0], h[1] = typ, code
	be.PutUint32(h[4:], rest)
	be.PutUint16(h[2:], 0)
	be.PutUint16(h[2:], pseudo.Add(h).Checksum())
}

// icmpTTL is the TTL and hop limit of the messages made here.
const icmpTTL = 64

const (
	// icmpv4Max bounds an ICMPv4 error: as much of the original as fits into
	// 576 bytes (RFC 1812 section 4.3.2.3).
	icmpv4Max = 576
	// icmpv6Max bounds an ICMPv6 error: the minimum MTU (RFC 4443 section 2.4 c).
	icmpv6Max = 1280
)

// MayErrorV4 says whether an ICMP error about packet ip may be sent (RFC 1812
// section 4.3.2.7): not about an ICMP error, nor a fragment other than the
// first, nor to or about a group. o are the packet's offsets ([Parse] without
// a problem), ip begins at o.L3. That the frame was not a link-layer broadcast
// is the caller's to know.
func MayErrorV4(o *Offsets, ip IPv4) bool {
	if o.Has(LaterFragment) || !unicast4(ip.Src()) || !unicast4(ip.Dst()) {
		return false
	}
	if o.Proto == ProtoICMP {
		switch l4 := ip[o.L4-o.L3:]; ICMP(l4).Type() {
		case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43: // queries and replies
		default:
			return false
		}
	}
	return true
}

// unicast4 says whether a can be one host's address somewhere else: not 0/8,
// loopback, multicast, class E or broadcast.
func unicast4(a [4]byte) bool { return a[0] != 0 && a[0] != 127 && a[0] < 224 }

// ICMPv4Error writes an IPv4 packet with an ICMP error from the address src
// about the packet orig, which is answered to its source. It quotes as much of
// orig as 576 bytes allow, has precedence 6 (RFC 1812 section 4.3.2.5) and may
// not be fragmented. Whether an error may be sent at all is [MayErrorV4]'s to
// say. buf and orig must not overlap.
func ICMPv4Error(buf []byte, src [4]byte, typ, code uint8, rest uint32, orig IPv4) int {
	const head = IPv4Len + ICMPLen
	quote := min(orig.TotalLen(), len(orig), icmpv4Max-head)
	n := head + quote
	if len(buf) < n {
		return 0
	}
	copy(buf[head:], orig[:quote])
	ICMP(buf[IPv4Len:n]).Set(typ, code, rest, 0)
	IPv4(buf).Set(src, orig.Src(), ProtoICMP, icmpTTL, 0xc0, n)
	return n
}

// EchoReplyV4 turns the echo request ip, a whole packet with checked offsets,
// into its reply in place: addresses swapped, TTL new, options (if any) left
// out of account as they stand. It reports false, and changes nothing, when
// the packet is no intact echo request.
func EchoReplyV4(o *Offsets, ip IPv4) bool {
	hl, total := ip.HeaderLen(), ip.TotalLen()
	if o.Proto != ProtoICMP || o.Flags&(FirstFragment|LaterFragment|SourceRoute) != 0 || !unicast4(ip.Src()) {
		return false
	}
	m := ICMP(ip[hl:total])
	if m.Type() != ICMPv4Echo || m.Code() != 0 || Checksum(m) != 0 {
		return false
	}
	m.Set(ICMPv4EchoReply, 0, m.Rest(), 0)
	src, dst := ip.Src(), ip.Dst()
	ip.SetSrc(dst)
	ip.SetDst(src)
	ip.SetTTL(icmpTTL)
	ip.SetChecksum()
	return true
}

// MayErrorV6 says whether an ICMPv6 error about packet ip may be sent (RFC 4443
// section 2.4 e): not about an ICMPv6 error or redirect, nor to an address that
// is not one node's; about a packet to a group only where tooBig is true, for
// Packet Too Big and for unknown options. Later fragments get none either,
// because what they belong to is not known.
func MayErrorV6(o *Offsets, ip IPv6, tooBig bool) bool {
	src := ip.Src()
	if o.Has(LaterFragment) || src[0] == 0xff || src == ([16]byte{}) || ip.Dst()[0] == 0xff && !tooBig {
		return false
	}
	if o.Proto == ProtoICMPv6 {
		if t := ICMP(ip[o.L4-o.L3:]).Type(); t < 128 || t == ICMPv6Redirect {
			return false
		}
	}
	return true
}

// ICMPv6Error writes an IPv6 packet with an ICMPv6 error from src about orig,
// answered to its source, quoting as much as 1280 bytes allow. buf and orig
// must not overlap.
func ICMPv6Error(buf []byte, src [16]byte, typ, code uint8, rest uint32, orig IPv6) int {
	const head = IPv6Len + ICMPLen
	quote := min(IPv6Len+orig.PayloadLen(), len(orig), icmpv6Max-head)
	n := head + quote
	if len(buf) < n {
		return 0
	}
	copy(buf[head:], orig[:quote])
	dst := orig.Src()
	ICMP(buf[IPv6Len:n]).Set(typ, code, rest, Pseudo6(src, dst, ProtoICMPv6, n-IPv6Len))
	IPv6(buf).Set(src, dst, ProtoICMPv6, icmpTTL, 0, n-IPv6Len)
	return n
}

// EchoReplyV6 turns the echo request ip into its reply in place. from is the
// source of the reply: the address that was asked, or one of the interface
// when that was a group. It reports false, and changes nothing, when the packet
// is no intact echo request or has extension headers.
func EchoReplyV6(o *Offsets, ip IPv6, from [16]byte) bool {
	if o.Proto != ProtoICMPv6 || o.Has(HasOptions) {
		return false
	}
	src, dst := ip.Src(), ip.Dst()
	m := ICMP(ip[IPv6Len : IPv6Len+ip.PayloadLen()])
	if m.Type() != ICMPv6Echo || m.Code() != 0 || src[0] == 0xff || src == ([16]byte{}) ||
		Pseudo6(src, dst, ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff {
		return false
	}
	m.Set(ICMPv6EchoReply, 0, m.Rest(), Pseudo6(from, src, ProtoICMPv6, len(m)))
	ip.SetSrc(from)
	ip.SetDst(src)
	ip.SetHopLimit(icmpTTL)
	return true
}
