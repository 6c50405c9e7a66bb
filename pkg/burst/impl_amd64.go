//go:build !purego

package burst

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// hasMatch: bucketMatch uses a 128-bit AVX2 broadcast and TZCNT. The other
// routines need nothing beyond what every amd64 has.
var hasMatch = cpu.X86.HasAVX2 && cpu.X86.HasBMI1

// hints: a prefetch is an instruction that never faults.
const hints = true

func bucketMatch(buckets uintptr, bidx *uint32, hash *uint64, n int, out *uint32) {
	if hasMatch {
		bucketMatchAVX2(buckets, bidx, hash, n, out)
		return
	}
	bucketMatchGo(buckets, unsafe.Slice(bidx, n), unsafe.Slice(hash, n), unsafe.Slice(out, n))
}

func parse4(ptr []uintptr, length []uint16, mac, port uint64, s *Seed, key []Key4, hash []uint64, bad []uint8) {
	parse4Asm(&ptr[0], &length[0], len(ptr), mac, port, s[0], s[1], &masks4[0], &key[0], &hash[0], &bad[0])
}

func parse6(ptr []uintptr, length []uint16, mac uint64, port uint32, s *Seed, key []Key6, hash []uint64, bad []uint8) {
	parse6Asm(&ptr[0], &length[0], len(ptr), mac, uint64(port)<<40, (*[4]uint64)(s), &masks6[0], &key[0], &hash[0], &bad[0])
}
