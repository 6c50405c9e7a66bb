package pkt

import "net/netip"

// IP protocol numbers (IANA), which are also IPv6 next headers.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoIGMP     = 2
	ProtoIPv4     = 4
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoIPv6     = 41
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoGRE      = 47
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
	ProtoOSPF     = 89
	ProtoSCTP     = 132
	ProtoMobility = 135
	ProtoUDPLite  = 136
	ProtoHIP      = 139
	ProtoShim6    = 140
)

// IPv4Len is the length of a header without options.
const IPv4Len = 20

// IPv4 is an IPv4 packet (RFC 791).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------+---------------+-------------------------------+
//	|Version|  IHL  |   DSCP    |ECN|         Total length          |
//	+-------+-------+---------------+-----+-------------------------+
//	|        Identification         |Flags|     Fragment offset     |
//	+---------------+---------------+-----+-------------------------+
//	| Time to live  |   Protocol    |        Header checksum        |
//	+---------------+---------------+-------------------------------+
//	|                        Source address                         |
//	+---------------------------------------------------------------+
//	|                     Destination address                       |
//	+---------------------------------------------------------------+
type IPv4 []byte

// Version is 4 in a valid packet.
func (h IPv4) Version() int { return int(h[0] >> 4) }

// HeaderLen is the header's length in bytes, options included.
func (h IPv4) HeaderLen() int { return int(h[0]&15) * 4 }

// TOS is DSCP and ECN (RFC 2474, RFC 3168).
func (h IPv4) TOS() uint8 { return h[1] }

// TotalLen is the length of header and data in bytes.
func (h IPv4) TotalLen() int { return int(be.Uint16(h[2:])) }

// ID is the identification.
func (h IPv4) ID() uint16 { return be.Uint16(h[4:]) }

// DF is the flag "don't fragment".
func (h IPv4) DF() bool { return h[6]&0x40 != 0 }

// MF is the flag "more fragments".
func (h IPv4) MF() bool { return h[6]&0x20 != 0 }

// FragOffset is the fragment's place in bytes.
func (h IPv4) FragOffset() int { return int(be.Uint16(h[6:])&0x1fff) * 8 }

// IsFragment says whether this is only a part of a datagram.
func (h IPv4) IsFragment() bool { return be.Uint16(h[6:])&0x3fff != 0 }

// TTL is the time to live.
func (h IPv4) TTL() uint8 { return h[8] }

// Proto is the protocol of the data.
func (h IPv4) Proto() uint8 { return h[9] }

// HeaderChecksum is the checksum field.
func (h IPv4) HeaderChecksum() uint16 { return be.Uint16(h[10:]) }

// Src is the source address.
func (h IPv4) Src() [4]byte { return [4]byte(h[12:16]) }

// Dst is the destination address.
func (h IPv4) Dst() [4]byte { return [4]byte(h[16:20]) }

// SrcAddr is the source address.
func (h IPv4) SrcAddr() netip.Addr { return netip.AddrFrom4(h.Src()) }

// DstAddr is the destination address.
func (h IPv4) DstAddr() netip.Addr { return netip.AddrFrom4(h.Dst()) }

// Payload is the data, without what a link appended behind it.
func (h IPv4) Payload() []byte { return h[h.HeaderLen():h.TotalLen()] }

// ChecksumOK says whether the header checksum is right.
func (h IPv4) ChecksumOK() bool { return Sum(0).Add(h[:h.HeaderLen()]).Fold() == 0xffff }

// SetTOS sets DSCP and ECN; the checksum is left.
func (h IPv4) SetTOS(v uint8) { h[1] = v }

// SetTotalLen sets the total length; the checksum is left.
func (h IPv4) SetTotalLen(n int) { be.PutUint16(h[2:], uint16(n)) }

// SetID sets the identification; the checksum is left.
func (h IPv4) SetID(v uint16) { be.PutUint16(h[4:], v) }

// SetFrag sets the flags and the fragment offset in bytes (a multiple of 8);
// the checksum is left.
func (h IPv4) SetFrag(df, mf bool, offset int) {
	v := uint16(offset / 8 & 0x1fff)
	if df {
		v |= 0x4000
	}
	if mf {
		v |= 0x2000
	}
	be.PutUint16(h[6:], v)
}

// SetTTL sets the time to live; the checksum is left.
func (h IPv4) SetTTL(v uint8) { h[8] = v }

// SetProto sets the protocol; the checksum is left.
func (h IPv4) SetProto(v uint8) { h[9] = v }

// SetSrc sets the source address; the checksum is left.
func (h IPv4) SetSrc(a [4]byte) { copy(h[12:16], a[:]) }

// SetDst sets the destination address; the checksum is left.
func (h IPv4) SetDst(a [4]byte) { copy(h[16:20], a[:]) }

// SetChecksum computes and sets the header checksum.
func (h IPv4) SetChecksum() {
	be.PutUint16(h[10:], 0)
	be.PutUint16(h[10:], Checksum(h[:h.HeaderLen()]))
}

// DecTTL lowers a TTL above 0 by one and adjusts the checksum (RFC 1624).
func (h IPv4) DecTTL() {
	old := be.Uint16(h[8:])
	h[8]--
	be.PutUint16(h[10:], Update16(be.Uint16(h[10:]), old, old-0x100))
}

// Set writes a header without options: version, lengths, DF set and
// identification 0 as RFC 6864 wants it of an atomic datagram, checksum.
func (h IPv4) Set(src, dst [4]byte, proto, ttl, tos uint8, totalLen int) {
	h[0] = 0x45
	h[1] = tos
	h.SetTotalLen(totalLen)
	be.PutUint32(h[4:], 0x4000)
	h[8], h[9] = ttl, proto
	h.SetSrc(src)
	h.SetDst(dst)
	h.SetChecksum()
}
