// Package burst holds the loops of the fast path that are worth assembly: each
// takes a whole burst of packets as a structure of arrays (addresses, lengths,
// keys, hashes) and has a plain Go twin with the same results bit for bit.
// Which one runs is decided once, by CPU flags on amd64; elsewhere, and with the
// build tag purego, it is always Go.
//
// Addresses (uintptr) name memory that package mem has mapped; nothing is
// checked against its bounds. Slices are checked once per call: all must be at
// least as long as the first. No function keeps an argument, allocates, or
// shares state, so all may run on any number of goroutines.
//
// The assembly is generated: see gen. A test fails when it is not current.
package burst

import (
	"crypto/rand"
	"encoding/binary"
)

//go:generate go run ./gen -out burst_amd64.s -stubs stubs_amd64.go -pkg burst

// Max is the burst size that the index lists of this package are made for.
const Max = 256

// Seed is what makes flow hashes unpredictable: without it, an attacker could
// choose flows that all fall into one bucket. One seed for the life of a
// process (hashes are kept in tables), a new one for each process.
type Seed [4]uint64

// NewSeed draws a seed from the system's random source.
func NewSeed() Seed {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	var s Seed
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

// PrefetchLines asks for the 64-byte lines base + 64*idx[i], into the second
// level of the cache. base is the address of a table whose records are lines,
// idx are indices into it. It is a hint: an address that is not mapped is
// allowed on amd64, elsewhere every line must exist.
func PrefetchLines(base uintptr, idx []uint32) {
	if len(idx) > 0 {
		prefetchLines(base, &idx[0], len(idx))
	}
}

// PrefetchShifted asks for the lines base + 64*(v[i]>>shift): for a table of
// small records indexed by v, with 2^shift/64 of the record size.
func PrefetchShifted(base uintptr, v []uint32, shift uint) {
	if len(v) > 0 {
		prefetchShifted(base, &v[0], len(v), uint64(shift&31))
	}
}

// PrefetchPicked asks for the lines base + 64*((v[pick[i]]&mask)>>shift). Every
// pick[i] must be below len(v), which is not checked.
func PrefetchPicked(base uintptr, v []uint32, pick []uint8, mask uint32, shift uint) {
	if len(pick) > 0 {
		prefetchPicked(base, &v[0], &pick[0], len(pick), mask, uint64(shift&31))
	}
}

// PrefetchPtrs asks for the line that holds the byte at ptr[i]+off.
func PrefetchPtrs(ptr []uintptr, off uintptr) {
	if len(ptr) > 0 {
		prefetchPtrs(&ptr[0], len(ptr), uint64(off))
	}
}

// BucketMatch finds candidates in a table of 64-byte buckets:
//
//	bytes  0..15  8 tags of 16 bits
//	bytes 16..47  8 entry indices of 32 bits
//	bytes 48..51  0: the ninth index, taken when no tag fits
//	bytes 52..63  not read
//
// For each i it compares the tags of bucket bidx[i] (at buckets + 64*bidx[i])
// with the top 16 bits of hash[i], and stores the index of the first that fits,
// or 0, to out[i]. An unused slot has index 0, so entry 0 must never be a valid
// entry. A fitting tag proves nothing: the caller compares keys. len(bidx)
// entries are done.
func BucketMatch(buckets uintptr, bidx []uint32, hash []uint64, out []uint32) {
	n := len(bidx)
	if n == 0 {
		return
	}
	hash, out = hash[:n], out[:n]
	bucketMatch(buckets, &bidx[0], &hash[0], n, &out[0])
}

// Rdtsc reads a clock that ticks evenly and costs about 10 ns: the time stamp
// counter on amd64, nanoseconds elsewhere. For measuring, not for deciding.
func Rdtsc() uint64 { return rdtsc() }
