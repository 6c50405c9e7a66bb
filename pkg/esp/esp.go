// Package esp is the bytes of ESP: what is put around an IP packet, and taken off
// again (RFC 4303 section 2; in UDP RFC 3948 section 2.1). Whoever keeps SAs, the
// fast path or a crypto engine in protocol mode, makes packets by it, so that they
// are the same. It encrypts nothing.
//
//	esp.go       taking apart: trailer, ECN
//	template.go  putting around: what an SA's packets have in common
//	label.go     the flow label of outer IPv6 headers
//
// In tunnel mode:
//
//	| outer IP | UDP | SPI | sequence | IV | inner IP … | pad | pad length | next header | ICV |
//	                                       '------------ encrypted ---------------------'
//
// An IV of 8 bytes is a counter (AES-GCM, AES-CTR, ChaCha20-Poly1305): the 64-bit
// sequence number, never repeated under a key. One of 16 (AES-CBC) is written by who
// encrypts.
package esp

import (
	"math/bits"
	"unsafe"

	"vrouter/pkg/mem"
)

// Lengths in bytes.
const (
	HeaderLen  = 8 // SPI, sequence number
	TrailerLen = 2 // pad length, next header
	UDPLen     = 8
)

// Next headers of a text.
const (
	NextIPv4  = 4
	NextIPv6  = 41
	NextDummy = 59 // RFC 4303 section 2.6
)

// Verdict is what is wrong with a decrypted text.
type Verdict uint8

// The verdicts.
const (
	OK      Verdict = iota
	Short           // too short, or shorter than the inner packet says
	BadPad          // padding is not 1, 2, 3, …
	BadNext         // next header is none that is carried, or contradicts the packet
	BadECN          // congestion mark outside, not ECN-capable inside
	Dummy           // a packet for traffic-flow confidentiality, to be thrown away
)

// Decap finds the inner packet in a text of n decrypted bytes (from behind the
// IV to the next header byte), checks the trailer (RFC 4303 sections 2.4 and
// 3.4.4.1: padding 1, 2, 3, … as we and everyone build it) and carries the
// outer ECN mark inwards (RFC 6040 section 4.2). It gives the inner packet's
// length, or why the packet must die; bytes behind the inner packet are
// traffic-flow padding (section 2.7).
func Decap(text unsafe.Pointer, n uint32, outerTOS uint8) (length uint32, why Verdict) {
	if n < TrailerLen {
		return 0, Short
	}
	pad := uint32(mem.Load8(text, uintptr(n-2)))
	next := mem.Load8(text, uintptr(n-1))
	if pad+TrailerLen > n {
		return 0, BadPad
	}
	end := n - TrailerLen - pad
	for i := uint32(0); i < pad; i++ {
		if mem.Load8(text, uintptr(end+i)) != uint8(i+1) {
			return 0, BadPad
		}
	}
	switch next {
	case NextIPv4:
		if end < 20 {
			return 0, Short
		}
		if mem.Load8(text, 0)>>4 != 4 {
			return 0, BadNext
		}
		length = uint32(bits.ReverseBytes16(mem.Load16(text, 2)))
		if length < 20 || length > end {
			return 0, Short
		}
		if outerTOS&3 != 0 && !ecnIn4(text, outerTOS&3) {
			return 0, BadECN
		}
		return length, OK
	case NextIPv6:
		if end < 40 {
			return 0, Short
		}
		if mem.Load8(text, 0)>>4 != 6 {
			return 0, BadNext
		}
		length = 40 + uint32(bits.ReverseBytes16(mem.Load16(text, 4)))
		if length > end {
			return 0, Short
		}
		if outerTOS&3 != 0 && !ecnIn6(text, outerTOS&3) {
			return 0, BadECN
		}
		return length, OK
	case NextDummy:
		return 0, Dummy
	}
	return 0, BadNext
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
