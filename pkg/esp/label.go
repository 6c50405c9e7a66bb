package esp

import (
	"math/bits"
	"unsafe"

	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
)

// flowLabel is the flow label of an outer IPv6 header, the same for all packets of
// an inner flow, so that routers may spread the flows of a tunnel over several
// paths without changing the order in any (RFC 6438 section 3): that of the
// inner packet, as RFC 4301 section 5.1.2.2 has it, or where it has none a hash of
// its flow. What the hash is of cannot be told without the seed. Fragments show no
// ports and are flows of their own.
func flowLabel(ip unsafe.Pointer, v6 bool) uint32 {
	var a, b uint64
	if v6 {
		if l := bits.ReverseBytes32(mem.Load32(ip, 0)) & 0xfffff; l != 0 {
			return l
		}
		hi, lo := bits.Mul64(mem.Load64(ip, 8)^labelSeed[0], mem.Load64(ip, 16)^labelSeed[1])
		a = hi ^ lo
		hi, lo = bits.Mul64(mem.Load64(ip, 24)^labelSeed[2], mem.Load64(ip, 32)^labelSeed[3])
		a ^= bits.RotateLeft64(hi^lo, 1)
		proto := mem.Load8(ip, 6)
		if b = uint64(proto); pkt.HasPorts(proto) || proto == pkt.ProtoESP { // of ESP the SPI
			b |= uint64(mem.Load32(ip, 40)) << 8
		}
	} else {
		a = mem.Load64(ip, 12)
		proto, head := mem.Load8(ip, 9), uintptr(mem.Load8(ip, 0)&15)*4
		whole := bits.ReverseBytes16(mem.Load16(ip, 6))&0x3fff == 0
		if b = uint64(proto); whole && (pkt.HasPorts(proto) || proto == pkt.ProtoESP) {
			b |= uint64(mem.Load32(ip, head)) << 8
		}
	}
	hi, lo := bits.Mul64(a^labelSeed[0], b^labelSeed[1])
	h := hi ^ lo
	return max(1, uint32(h^h>>20^h>>40)&0xfffff) // 0 is no label (RFC 6437 section 2)
}

var labelSeed = burst.NewSeed()
