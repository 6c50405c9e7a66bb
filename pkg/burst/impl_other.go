//go:build !amd64 || purego

package burst

import (
	"time"
	"unsafe"

	"vrouter/pkg/mem"
)

// hints: a prefetch is a load, which needs memory to be there.
const hints = false

func parse4(ptr []uintptr, length []uint16, mac, port uint64, s *Seed, key []Key4, hash []uint64, bad []uint8) {
	parse4Go(ptr, length, mac, port, s, key, hash, bad)
}

func parse6(ptr []uintptr, length []uint16, mac uint64, port uint32, s *Seed, key []Key6, hash []uint64, bad []uint8) {
	parse6Go(ptr, length, mac, port, s, key, hash, bad)
}

func bucketMatch(buckets uintptr, bidx *uint32, hash *uint64, n int, out *uint32) {
	bucketMatchGo(buckets, unsafe.Slice(bidx, n), unsafe.Slice(hash, n), unsafe.Slice(out, n))
}

// Where there is no prefetch instruction at hand, a load of each line does the
// same: the loads do not depend on one another. Each function returns the sum
// of what it loaded, or the compiler would drop the loads. What is loaded may
// be written at the same moment; nothing is made of it (hence norace).

func prefetchLines(base uintptr, idx *uint32, n int) { touchLines(base, unsafe.Slice(idx, n)) }

//go:noinline
//go:norace
func touchLines(base uintptr, idx []uint32) (s uint64) {
	p := mem.At(base)
	for _, i := range idx {
		s += mem.Load64(p, uintptr(i)<<6)
	}
	return s
}

//go:noinline
//go:norace
func prefetchShifted(base uintptr, v *uint32, n int, shift uint64) (s uint64) {
	p := mem.At(base)
	for _, x := range unsafe.Slice(v, n) {
		s += mem.Load64(p, uintptr(x>>(shift&31))<<6)
	}
	return s
}

//go:noinline
//go:norace
func prefetchPicked(base uintptr, v *uint32, pick *uint8, n int, mask uint32, shift uint64) (s uint64) {
	p := mem.At(base)
	for _, i := range unsafe.Slice(pick, n) {
		x := *(*uint32)(unsafe.Add(unsafe.Pointer(v), uintptr(i)*4))
		s += mem.Load64(p, uintptr((x&mask)>>(shift&31))<<6)
	}
	return s
}

//go:noinline
//go:norace
func prefetchPtrs(ptr *uintptr, n int, off uint64) (s uint64) {
	for _, a := range unsafe.Slice(ptr, n) {
		s += uint64(mem.Load8(mem.At(a), uintptr(off)))
	}
	return s
}

var start = time.Now()

func rdtsc() uint64 { return uint64(time.Since(start)) }
