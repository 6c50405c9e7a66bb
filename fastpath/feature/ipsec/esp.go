package ipsec

import (
	"math/bits"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/pkg/mem"
)

// ESP in tunnel mode around an IP packet (RFC 4303 section 2), and in UDP (RFC
// 3948 section 2.1); transport.go has the other mode:
//
//	| outer IP | UDP | SPI | sequence | IV | inner IP … | pad | pad length | next header | ICV |
//	                                       '------------ encrypted ---------------------'
//
// How long IV and ICV are, and to what the text is padded, the SA's record says.
// An IV of 8 is a counter (AES-GCM, AES-CTR, ChaCha20-Poly1305): the 64-bit
// sequence number, never repeated under a key. One of 16 (AES-CBC) the engine
// writes.
const (
	espHeader  = 8 // SPI, sequence number
	espTrailer = 2
	nextIPv4   = 4
	nextIPv6   = 41
	nextDummy  = 59 // RFC 4303 section 2.6
	protoESP   = 50
	udpLen     = 8
)

// innerMTU is the largest inner packet whose ESP packet fits into mtu, 0 when
// none does. In transport mode it is the largest packet without options.
func (r *record) innerMTU(mtu uint32) uint32 {
	head, mask := uint32(r.hdrLen)+uint32(r.prefix)+uint32(r.icv), uint32(r.mask)
	if mtu < head+mask+1 {
		return 0
	}
	n := (mtu-head)&^mask - espTrailer
	if r.flags&recTransport != 0 {
		n += uint32(r.hdrLen - r.udp) // the header is the packet's own
	}
	return n
}

// textLen is the length of the text around a packet of n bytes: with padding and
// trailer a multiple of 4, or of the cipher's block (RFC 4303 section 2.4).
func (r *record) textLen(n uint32) uint32 {
	mask := uint32(r.mask)
	return (n + espTrailer + mask) &^ mask
}

// tail is the most that encapsulation adds behind a packet.
func (r *record) tail() uint32 { return uint32(r.mask) + espTrailer + uint32(r.icv) }

// encap puts trailer, ESP header, IV and outer header around the inner packet
// of n bytes at l3, in these steps:
//
//  1. trailer: padding 1, 2, 3, …, pad length, next header
//  2. SPI, low half of the sequence number, IV if it is a counter
//  3. UDP, where it is wanted: ports, length, and no checksum, as over IPv4 it
//     should be (RFC 3948 section 2.1); over IPv6 sum6 makes one later
//  4. outer header from the record's template: length, ECN of the inner packet
//     (RFC 6040 normal mode) and its DSCP, unless another is to stand for it, for
//     IPv4 also identification, DF and the checksum, for IPv6 the flow label
//
// It gives the outer header's address. Head and tail room have been checked.
func (r *record) encap(l3 unsafe.Pointer, n uint32, v6 bool, seq uint64) (outer unsafe.Pointer) {
	next, tos, df := uint16(nextIPv4)<<8, uint32(mem.Load8(l3, 1)), uint32(mem.Load8(l3, 6))&flagDF
	if v6 {
		next, df = nextIPv6<<8, flagDF
		tos = bits.ReverseBytes32(mem.Load32(l3, 0)) >> 20 & 0xff
	}
	df = df&uint32(r.dfAnd) | uint32(r.dfOr)
	if r.mapped != 0 {
		tos = uint32(r.dscp[tos>>2&63])<<2 | tos&3
	}
	prefix, icv := uint32(r.prefix), uint32(r.icv)
	text := r.textLen(n)
	pad := text - espTrailer - n
	if r.mask == 3 {
		mem.Store32(l3, uintptr(n), 0x00030201)
	} else {
		mem.Store64(l3, uintptr(n), 0x0807060504030201)
		mem.Store64(l3, uintptr(n)+8, 0x100f0e0d0c0b0a09)
	}
	mem.Store16(l3, uintptr(n+pad), uint16(pad)|next)

	esp := unsafe.Add(l3, -int(prefix))
	be := bits.ReverseBytes64(seq)
	mem.Store32(esp, 0, r.spiBE)
	mem.Store32(esp, 4, uint32(be>>32))
	if prefix == espHeader+8 {
		mem.Store64(esp, 8, be)
	}

	total := uint32(r.hdrLen) + prefix + text + icv
	if r.udp != 0 {
		esp = unsafe.Add(esp, -udpLen)
		mem.Store32(esp, 0, r.ports)
		mem.Store32(esp, 4, uint32(bits.ReverseBytes16(uint16(udpLen+prefix+text+icv))))
	}
	if r.flags&recV6 != 0 {
		h := unsafe.Pointer(&r.hdr6)
		o := unsafe.Add(esp, -40)
		payload := bits.ReverseBytes16(uint16(total - 40))
		mem.Store32(o, 0, bits.ReverseBytes32(6<<28|tos<<20|flowLabel(l3, v6)))
		mem.Store32(o, 4, mem.Load32(h, 4)&^0xffff|uint32(payload))
		mem.Store64(o, 8, mem.Load64(h, 8))
		mem.Store64(o, 16, mem.Load64(h, 16))
		mem.Store64(o, 24, mem.Load64(h, 24))
		mem.Store64(o, 32, mem.Load64(h, 32))
		return o
	}
	h := unsafe.Pointer(&r.hdr4)
	o := unsafe.Add(esp, -20)
	// Words as they lie in memory: the sum does not care about byte order.
	length := uint32(bits.ReverseBytes16(uint16(total)))
	id := uint32(uint16(seq))
	sum := r.sum + tos<<8 + length + id + df
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	mem.Store64(o, 0, mem.Load64(h, 0)|uint64(tos)<<8|uint64(length)<<16|uint64(id)<<32|uint64(df)<<48)
	mem.Store64(o, 8, mem.Load64(h, 8)|uint64(^uint16(sum))<<16)
	mem.Store32(o, 16, mem.Load32(h, 16))
	return o
}

// decap finds the inner packet in a text of n decrypted bytes (from behind the
// IV to the next header byte), checks the trailer (RFC 4303 sections 2.4 and
// 3.4.4.1: padding 1, 2, 3, … as we and everyone build it) and carries the
// outer ECN mark inwards (RFC 6040 section 4.2). It gives the inner packet's
// length, or why the packet must die; bytes behind the inner packet are
// traffic-flow padding (section 2.7).
func decap(text unsafe.Pointer, n uint32, outerTOS uint8) (length uint32, why drop.Reason) {
	if n < espTrailer {
		return 0, drop.ESPShort
	}
	pad := uint32(mem.Load8(text, uintptr(n-2)))
	next := mem.Load8(text, uintptr(n-1))
	if pad+espTrailer > n {
		return 0, drop.ESPBadPad
	}
	end := n - espTrailer - pad
	for i := uint32(0); i < pad; i++ {
		if mem.Load8(text, uintptr(end+i)) != uint8(i+1) {
			return 0, drop.ESPBadPad
		}
	}
	switch next {
	case nextIPv4:
		if end < 20 {
			return 0, drop.ESPShort
		}
		if mem.Load8(text, 0)>>4 != 4 {
			return 0, drop.ESPBadNext
		}
		length = uint32(bits.ReverseBytes16(mem.Load16(text, 2)))
		if length < 20 || length > end {
			return 0, drop.ESPShort
		}
		if outerTOS&3 != 0 && !ecnIn4(text, outerTOS&3) {
			return 0, drop.ESPBadECN
		}
		return length, drop.None
	case nextIPv6:
		if end < 40 {
			return 0, drop.ESPShort
		}
		if mem.Load8(text, 0)>>4 != 6 {
			return 0, drop.ESPBadNext
		}
		length = 40 + uint32(bits.ReverseBytes16(mem.Load16(text, 4)))
		if length > end {
			return 0, drop.ESPShort
		}
		if outerTOS&3 != 0 && !ecnIn6(text, outerTOS&3) {
			return 0, drop.ESPBadECN
		}
		return length, drop.None
	case nextDummy:
		return 0, drop.ESPDummy
	}
	return 0, drop.ESPBadNext
}

// ecnNew is the inner ECN field after decapsulation (RFC 6040 figure 4), 4 for
// a packet to drop: marked outside, not ECN-capable inside.
var ecnNew = [4][4]uint8{ // [inner][outer]: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE
	0: {0, 0, 0, 4},
	1: {1, 1, 1, 3},
	2: {2, 1, 2, 3},
	3: {3, 3, 3, 3},
}

func ecnIn4(ip unsafe.Pointer, outer uint8) bool {
	old := mem.Load8(ip, 1)
	e := ecnNew[old&3][outer]
	if e == 4 {
		return false
	}
	if e != old&3 {
		// RFC 1624: HC' = ~(~HC + ~m + m'), the TOS being a word's low byte on
		// the wire.
		mem.Store8(ip, 1, old&^3|e)
		hc := uint32(^bits.ReverseBytes16(mem.Load16(ip, 10)))
		m := uint32(mem.Load8(ip, 0)) << 8
		sum := hc + uint32(^uint16(m|uint32(old))) + (m | uint32(old&^3|e))
		sum = sum&0xffff + sum>>16
		sum = sum&0xffff + sum>>16
		mem.Store16(ip, 10, bits.ReverseBytes16(^uint16(sum)))
	}
	return true
}

func ecnIn6(ip unsafe.Pointer, outer uint8) bool {
	b := mem.Load8(ip, 1) // low nibble of the version word: ECN in its bits 5, 4
	old := b >> 4 & 3
	e := ecnNew[old][outer]
	if e == 4 {
		return false
	}
	mem.Store8(ip, 1, b&^0x30|e<<4)
	return true
}
