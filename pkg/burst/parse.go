package burst

import (
	"math/bits"
	"unsafe"

	"vrouter/pkg/mem"
)

// The frame as the parsers see it: Ethernet II without a VLAN tag, addresses
// at byte 0, type at byte 12, IP header at byte 14. Words are loaded in the
// machine's little-endian order, so the first byte on the wire is the lowest.

// MACWord is a MAC address as the parsers want it: the first byte on the wire
// in the lowest eight bits.
func MACWord(m [6]byte) uint64 {
	return uint64(m[0]) | uint64(m[1])<<8 | uint64(m[2])<<16 | uint64(m[3])<<24 | uint64(m[4])<<32 | uint64(m[5])<<40
}

// MaxPort is the largest port number that fits into a key.
const MaxPort = 1<<24 - 1

// portBits4 places a port number in word 0 of an IPv4 key, where TTL and
// header checksum were.
func portBits4(port uint32) uint64 { return uint64(port&0xffff)<<16 | uint64(port>>16&0xff) }

// Key4 is the key of an IPv4 flow; it is bytes 8 to 23 of the IP header, with
// what is not the flow's taken out and the port on which it came put in:
//
//	word 0  bits  0..7   port, upper 8 bits
//	        bits  8..15  protocol
//	        bits 16..31  port, lower 16 bits
//	        bits 32..63  source address, wire order
//	word 1  bits  0..31  destination address, wire order
//	        bits 32..63  by protocol: source and destination port (TCP, UDP, SCTP,
//	                     DCCP, UDP-Lite); SPI (ESP); type, code and identifier
//	                     (ICMP); else 0
type Key4 = [2]uint64

// Key6 is the key of an IPv6 flow:
//
//	words 0, 1  source address, wire order
//	words 2, 3  destination address, wire order
//	word 4      bits  0..31  ports and the like, as bits 32..63 of word 1 of Key4
//	            bits 32..39  next header
//	            bits 40..63  port on which it came
type Key6 = [5]uint64

// SrcIP4 is the source address in a key, as a number (host order).
func SrcIP4(k *Key4) uint32 { return bits.ReverseBytes32(uint32(k[0] >> 32)) }

// DstIP4 is the destination address in a key, as a number (host order).
func DstIP4(k *Key4) uint32 { return bits.ReverseBytes32(uint32(k[1])) }

// mix is the hash's step: the two halves of a 128-bit product folded together.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Hash4 is the hash that ParseHash4 gives to a packet with this key.
//
// One step alone is not enough: flows that differ in one half only, such as in
// their ports, are then multiples of one number, and for one seed in twenty
// these crowd into few buckets.
func Hash4(k *Key4, s *Seed) uint64 { return mix(mix(k[0]^s[0], k[1]^s[1])^s[0], s[1]) }

// Hash6 is the hash that ParseHash6 gives to a packet with this key.
func Hash6(k *Key6, s *Seed) uint64 {
	return mix(mix(mix(k[0]^s[0], k[1]^s[1])^k[4], mix(k[2]^s[2], k[3]^s[3])^s[1])^s[0], s[1])
}

// ParseHash4 verifies the frames at ptr[i] of length[i] bytes, extracts their
// keys and hashes them with the seed. bad[i] becomes 0 when the frame is one
// that the fast path may forward by its key alone, else 1:
//
//   - the destination address is mac (see [MACWord]), which must be unicast;
//   - the type is IPv4, the version 4, the header five words long (no options);
//   - it is not a fragment;
//   - 28 <= total length <= length[i] - 14;
//   - the header checksum is right (RFC 1071) and the TTL above 1.
//
// key[i] and hash[i] of a bad frame are meaningless. The 48 bytes at ptr[i]
// must be readable whatever length[i] says. port goes into the key and
// is at most [MaxPort]: number a port anew, and all its flows are new. len(ptr)
// frames are done.
func ParseHash4(ptr []uintptr, length []uint16, mac uint64, port uint32, s *Seed, key []Key4, hash []uint64, bad []uint8) {
	n := len(ptr)
	if n == 0 {
		return
	}
	parse4(ptr, length[:n], mac<<16, portBits4(port), s, key[:n], hash[:n], bad[:n])
}

// ParseHash6 is ParseHash4 for IPv6. bad[i] becomes 0 when
//
//   - the destination address is mac, the type IPv6, the version 6;
//   - the next header is one of those known to hold no further header: TCP, UDP,
//     SCTP, DCCP, UDP-Lite, ESP, ICMPv6, GRE, IPv4, IPv6;
//   - 8 <= payload length <= length[i] - 54 (so no jumbogram);
//   - the hop limit is above 1.
//
// The 62 bytes at ptr[i] must be readable whatever length[i] says.
func ParseHash6(ptr []uintptr, length []uint16, mac uint64, port uint32, s *Seed, key []Key6, hash []uint64, bad []uint8) {
	n := len(ptr)
	if n == 0 {
		return
	}
	parse6(ptr, length[:n], mac<<16, port&MaxPort, s, key[:n], hash[:n], bad[:n])
}

// l4mask says which of the first bytes behind an IP header belong to a flow:
// word 0 masks bytes 0..3, word 1 bytes 4..5, which then take the place of
// bytes 2..3. Bit 63 of word 1 marks a next header that ParseHash6 refuses.
type l4mask = [2]uint64

const refuse6 = 1 << 63

const (
	protoICMP    = 1
	protoIPv4    = 4
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoIPv6    = 41
	protoGRE     = 47
	protoESP     = 50
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// masks4 is laid over bytes 16..23 of the header (destination address, then
// ports) and bytes 18..25 (whose last two are the ICMP identifier). masks6 is
// laid over bytes 40..43 and 42..45.
var masks4, masks6 = l4masks()

func l4masks() (m4, m6 [256]l4mask) {
	for p := range m4 {
		m4[p] = l4mask{0xffffffff, 0}
		m6[p] = l4mask{0, refuse6}
	}
	for _, p := range []uint8{protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite, protoESP} {
		m4[p] = l4mask{0xffffffff_ffffffff, 0}
		m6[p] = l4mask{0xffffffff, 0}
	}
	// Type and code, and the identifier in place of the checksum.
	m4[protoICMP] = l4mask{0x0000ffff_ffffffff, 0xffff_0000_0000_0000}
	m6[protoICMPv6] = l4mask{0x0000ffff, 0xffff0000}
	for _, p := range []uint8{protoGRE, protoIPv4, protoIPv6} {
		m6[p] = l4mask{0, 0}
	}
	return m4, m6
}

// parse4Go is ParseHash4 in plain Go. Every check leaves a value that is zero
// when it passes; they are ORed together, so there is no branch. mac is
// shifted left by 16.
func parse4Go(ptr []uintptr, length []uint16, mac, port uint64, s *Seed, key []Key4, hash []uint64, bad []uint8) {
	length, key, hash, bad = length[:len(ptr)], key[:len(ptr)], hash[:len(ptr)], bad[:len(ptr)]
	s0, s1 := s[0], s[1]
	for i := range ptr {
		p := mem.At(ptr[i])
		w0, w1, w2 := mem.Load64(p, 14), mem.Load64(p, 22), mem.Load64(p, 30)
		m := &masks4[uint8(w1>>8)]
		k0 := w1&0xffffffff0000ff00 | port
		k1 := w2&m[0] | mem.Load64(p, 32)&m[1]
		key[i] = Key4{k0, k1}
		hash[i] = mix(mix(k0^s0, k1^s1)^s0, s1)
		// one's complement sum of the 20 bytes: 0xffff when the checksum is right
		x, c := bits.Add64(w0, w1, 0)
		x, c = bits.Add64(x, w2&0xffffffff, c)
		x += c
		x = x>>32 + x&0xffffffff
		x = x>>16 + x&0xffff
		x = x>>16 + x&0xffff
		x = x>>16 + x&0xffff
		x ^= 0xffff
		x |= w0&0xff3f0000000000ff ^ 0x45       // version, header length; MF and offset
		x |= mem.Load64(p, 0)<<16 ^ mac         // destination address
		x |= uint64(mem.Load16(p, 12)) ^ 0x0008 // type
		total := int64(bits.ReverseBytes16(uint16(w0 >> 16)))
		x |= uint64(int64(length[i])-14-total) >> 63
		x |= uint64(total-28) >> 63
		x |= uint64(int64(w1&0xff)-2) >> 63 // TTL
		bad[i] = nonZero(x)
	}
}

// parse6Go is ParseHash6 in plain Go.
func parse6Go(ptr []uintptr, length []uint16, mac uint64, port uint32, s *Seed, key []Key6, hash []uint64, bad []uint8) {
	length, key, hash, bad = length[:len(ptr)], key[:len(ptr)], hash[:len(ptr)], bad[:len(ptr)]
	s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
	in := uint64(port) << 40
	for i := range ptr {
		p := mem.At(ptr[i])
		w0 := mem.Load64(p, 14)
		a, b, c, d := mem.Load64(p, 22), mem.Load64(p, 30), mem.Load64(p, 38), mem.Load64(p, 46)
		m := &masks6[uint8(w0>>48)]
		e := uint64(mem.Load32(p, 54))&m[0] | uint64(mem.Load32(p, 56))&m[1] | w0>>48&0xff<<32 | in
		k := &key[i]
		k[0], k[1], k[2], k[3], k[4] = a, b, c, d, e
		hash[i] = mix(mix(mix(a^s0, b^s1)^e, mix(c^s2, d^s3)^s1)^s0, s1)
		x := w0&0xf0 ^ 0x60 | m[1]>>63
		x |= mem.Load64(p, 0)<<16 ^ mac
		x |= uint64(mem.Load16(p, 12)) ^ 0xdd86
		payload := int64(bits.ReverseBytes16(uint16(w0 >> 32)))
		x |= uint64(int64(length[i])-54-payload) >> 63
		x |= uint64(payload-8) >> 63
		x |= uint64(int64(w0>>56)-2) >> 63 // hop limit
		bad[i] = nonZero(x)
	}
}

// nonZero is 0 for 0 and else 1, without a branch.
func nonZero(x uint64) uint8 { return uint8((x | -x) >> 63) }

// Classes lists which frames of a burst are of which kind. Owned by the
// caller, reused for each burst.
type Classes struct {
	V4, V6, Other    [Max]uint16 // indices into the burst, in order
	N4, N6, NumOther int         // how many of each list are filled
}

// Classify sorts the frames at ptr[i] by their EtherType: IPv4, IPv6, and the
// rest (ARP, VLAN tags, anything). At most [Max] frames. A burst of one kind,
// the usual case, is recognised without sorting.
func Classify(ptr []uintptr, c *Classes) {
	n := len(ptr)
	c.N4, c.N6, c.NumOther = 0, 0, 0
	if n == 0 {
		return
	}
	first := mem.Load16(mem.At(ptr[0]), 12)
	var differ uint16
	for _, a := range ptr {
		differ |= mem.Load16(mem.At(a), 12) ^ first
	}
	if differ == 0 {
		switch first {
		case 0x0008:
			c.N4 = copy(c.V4[:n], identity[:])
			return
		case 0xdd86:
			c.N6 = copy(c.V6[:n], identity[:])
			return
		}
	}
	n4, n6, no := 0, 0, 0
	for i, a := range ptr[:min(n, Max)] {
		t := mem.Load16(mem.At(a), 12)
		c.V4[n4&(Max-1)], c.V6[n6&(Max-1)], c.Other[no&(Max-1)] = uint16(i), uint16(i), uint16(i)
		is4, is6 := isZero16(t^0x0008), isZero16(t^0xdd86)
		n4, n6, no = n4+is4, n6+is6, no+1-is4-is6
	}
	c.N4, c.N6, c.NumOther = n4, n6, no
}

func isZero16(x uint16) int { return int((uint32(x) - 1) >> 31) }

var identity = func() (v [Max]uint16) {
	for i := range v {
		v[i] = uint16(i)
	}
	return
}()

const swarOnes, swarHighs = 0x0001000100010001, 0x8000800080008000

// bucketMatchGo is BucketMatch in plain Go: four tags to a word. The lowest
// fitting lane found this way is exact; a false hit only ever lies above a
// true one.
func bucketMatchGo(buckets uintptr, bidx []uint32, hash []uint64, out []uint32) {
	hash, out = hash[:len(bidx)], out[:len(bidx)]
	base := mem.At(buckets)
	for i := range bidx {
		b := unsafe.Add(base, uintptr(bidx[i])<<6)
		tag := hash[i] >> 48 * swarOnes
		x, y := mem.Load64(b, 0)^tag, mem.Load64(b, 8)^tag
		x = (x - swarOnes) &^ x & swarHighs
		y = (y - swarOnes) &^ y & swarHighs
		s := uintptr(bits.TrailingZeros64(x)) >> 4 // 4 when none
		if x == 0 {
			s = 4 + uintptr(bits.TrailingZeros64(y))>>4
		}
		out[i] = mem.Load32(b, 16+s*4)
	}
}
