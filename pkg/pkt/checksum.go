package pkt

import "math/bits"

// Sum is a one's complement sum in progress (RFC 1071), in network order. Its
// zero value is the empty sum. Add parts of even length in any order (the last
// one added may be odd), then take Checksum.
type Sum uint64

// Add adds the 16-bit words of b; a last odd byte counts as the upper half.
func (s Sum) Add(b []byte) Sum {
	x, c := uint64(s), uint64(0)
	for len(b) >= 8 {
		x, c = bits.Add64(x, be.Uint64(b), c)
		b = b[8:]
	}
	var rest uint64
	if len(b) >= 4 {
		rest = uint64(be.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		rest += uint64(be.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		rest += uint64(b[0]) << 8
	}
	x, c = bits.Add64(x, rest, c)
	x, c = bits.Add64(x, 0, c)
	return Sum(x + c)
}

// AddUint adds a number of at most 32 bits, as two words.
func (s Sum) AddUint(v uint32) Sum {
	x, c := bits.Add64(uint64(s), uint64(v), 0)
	return Sum(x + c)
}

// Fold is the sum in 16 bits. Over bytes that include a right checksum it is
// 0xffff.
func (s Sum) Fold() uint16 {
	x := uint64(s)
	x = x>>32 + x&0xffffffff
	x = x>>16 + x&0xffff
	x = x>>16 + x&0xffff
	x = x>>16 + x&0xffff
	return uint16(x)
}

// Checksum is the complement: the value for a checksum field that was zero or
// left out while adding.
func (s Sum) Checksum() uint16 { return ^s.Fold() }

// Checksum is the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return Sum(0).Add(b).Checksum() }

// Pseudo4 begins the checksum of UDP or TCP over IPv4 (RFC 768, RFC 9293
// section 3.1): source, destination, protocol and length of the datagram.
func Pseudo4(src, dst [4]byte, proto uint8, length int) Sum {
	return Sum(0).AddUint(be.Uint32(src[:])).AddUint(be.Uint32(dst[:])).AddUint(uint32(proto)).AddUint(uint32(length))
}

// Pseudo6 begins the checksum of an upper layer over IPv6 (RFC 8200 section
// 8.1). proto is the upper layer's number, not that of an extension header.
func Pseudo6(src, dst [16]byte, proto uint8, length int) Sum {
	return Sum(0).Add(src[:]).Add(dst[:]).AddUint(uint32(length)).AddUint(uint32(proto))
}

// Update16 is the checksum after one 16-bit word of what it covers changed
// from old to new (RFC 1624 equation 3).
func Update16(sum, old, new uint16) uint16 {
	x := uint32(^sum) + uint32(^old) + uint32(new)
	x = x>>16 + x&0xffff
	x = x>>16 + x&0xffff
	return ^uint16(x)
}

// Update32 is Update16 for an aligned 32-bit field, such as an IPv4 address.
func Update32(sum uint16, old, new uint32) uint16 {
	x := uint64(^sum) + uint64(^old) + uint64(new)
	x = x>>32 + x&0xffffffff
	x = x>>16 + x&0xffff
	x = x>>16 + x&0xffff
	x = x>>16 + x&0xffff
	return ^uint16(x)
}
