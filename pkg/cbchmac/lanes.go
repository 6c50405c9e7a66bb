package cbchmac

import (
	"encoding/binary"
	"unsafe"

	"vrouter/pkg/mem"
)

const (
	hashLanes   = 16 // of VAES512
	hashNarrow  = 2  // of SHANI
	chainLanes  = 16
	chainNarrow = 8

	hashBlock = 64
	maxRounds = 14
)

// State is what the kernels work on: a few kilobytes that belong to one goroutine at
// a time. It begins as zeros, is aligned to Align, and lies in mapped memory, since the
// kernels are handed addresses within it.
type State struct {
	sha shaLanes
	cbc cbcLanes

	hashes [hashLanes]hashLane
	chains [chainLanes]uint16 // the job in each lane
	keys   [chainLanes]Key    // whose round keys a lane has
	// tails are the last blocks that a lane hashes: the end of what is covered, then
	// the inner hash, both with padding (FIPS 180-4 section 5.1.1).
	tails [hashLanes][2 * hashBlock]byte
	// idle is what a lane without work reads and writes.
	idle [hashBlock]byte
}

// shaLanes are the lanes of sha16 and sha2, in the kernels' layout.
type shaLanes struct {
	h    [8 * hashLanes]uint32 // words of states, see put
	ptr  [hashLanes]uintptr
	step [hashLanes]uint64
	left [hashLanes]uint32
}

// cbcLanes are the lanes of cbc16 and cbc8, in the kernels' layout.
type cbcLanes struct {
	chain [chainLanes][BlockSize]byte // the block of ciphertext before
	ptr   [chainLanes]uintptr
	step  [chainLanes]uint64
	left  [chainLanes]uint32
	rk    [maxRounds + 1][chainLanes][BlockSize]byte
}

// never is the count of a lane without work: more blocks than a call can have.
const never = ^uint32(0)

// Where in bytes the words of a lane's state are, from its first: in the kernels for
// many lanes one behind the other for all lanes, in sha2 as its instructions want them, F, E,
// B, A, and H, G, D, C.
var (
	placesWide   = [8]uintptr{0, 64, 128, 192, 256, 320, 384, 448}
	placesNarrow = [8]uintptr{12, 8, 28, 24, 4, 0, 20, 16}
)

func (l *shaLanes) places(wide bool) *[8]uintptr {
	if wide {
		return &placesWide
	}
	return &placesNarrow
}

// lane is the place that those of lane i count from.
func (l *shaLanes) lane(i int, wide bool) unsafe.Pointer {
	if wide {
		return unsafe.Pointer(&l.h[i])
	}
	return unsafe.Pointer(&l.h[8*i])
}

// put gives lane i the state that lies at address at, of a context.
func (l *shaLanes) put(i int, wide bool, at uintptr) {
	from, to := mem.At(at), l.lane(i, wide)
	if wide { // placesWide, unrolled
		mem.Store32(to, 0, mem.Load32(from, 0))
		mem.Store32(to, 64, mem.Load32(from, 4))
		mem.Store32(to, 128, mem.Load32(from, 8))
		mem.Store32(to, 192, mem.Load32(from, 12))
		mem.Store32(to, 256, mem.Load32(from, 16))
		mem.Store32(to, 320, mem.Load32(from, 20))
		mem.Store32(to, 384, mem.Load32(from, 24))
		mem.Store32(to, 448, mem.Load32(from, 28))
		return
	}
	for w, p := range placesNarrow {
		mem.Store32(to, p, mem.Load32(from, 4*uintptr(w)))
	}
}

// word is word w of lane i's state.
func (l *shaLanes) word(i int, wide bool, w int) uint32 {
	return mem.Load32(l.lane(i, wide), l.places(wide)[w])
}

// run has lane i go over blocks at an address; stop leaves it without work.
func (l *shaLanes) run(i int, at uintptr, blocks uint32) {
	l.ptr[i], l.step[i], l.left[i] = at, hashBlock, blocks
}

func (l *shaLanes) stop(i int, idle uintptr) { l.ptr[i], l.step[i], l.left[i] = idle, 0, never }

func (l *cbcLanes) run(i int, at uintptr, blocks uint32) {
	l.ptr[i], l.step[i], l.left[i] = at, BlockSize, blocks
}

func (l *cbcLanes) stop(i int, idle uintptr) { l.ptr[i], l.step[i], l.left[i] = idle, 0, never }

// compress takes a block from each lane until one has none left, and gives the mask
// of these.
func (l *shaLanes) compress(wide bool) uint32 {
	if wide {
		return sha16((*byte)(unsafe.Pointer(l)))
	}
	return sha2((*byte)(unsafe.Pointer(l)))
}

func (l *cbcLanes) encrypt(wide bool, rounds int) uint32 {
	if wide {
		return cbc16((*byte)(unsafe.Pointer(l)), rounds)
	}
	return cbc8((*byte)(unsafe.Pointer(l)), rounds)
}

// initial is the state that SHA-256 begins from (FIPS 180-4 section 5.3.3).
var initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// midstates writes the states behind the blocks that HMAC's key fills (RFC 2104).
func midstates(inner, outer, key []byte) error {
	r, err := mem.MapSecret(hashNarrow*hashBlock+int(unsafe.Sizeof(shaLanes{})), mem.Options{SmallPages: true})
	if err != nil {
		return err
	}
	defer r.Unmap() // wipes
	l := (*shaLanes)(unsafe.Pointer(&r.Bytes()[hashNarrow*hashBlock]))
	for i, pad := range [hashNarrow]byte{0x36, 0x5c} {
		block := r.Bytes()[i*hashBlock:][:hashBlock]
		copy(block, key)
		for k := range block {
			block[k] ^= pad
		}
		for w, v := range initial {
			mem.Store32(l.lane(i, false), placesNarrow[w], v)
		}
		l.run(i, uintptr(unsafe.Pointer(&block[0])), 1)
	}
	l.compress(false)
	for i, to := range [hashNarrow][]byte{inner, outer} {
		for w := range initial {
			binary.NativeEndian.PutUint32(to[4*w:], l.word(i, false, w))
		}
	}
	return nil
}
