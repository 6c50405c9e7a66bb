package cbchmac

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"vrouter/pkg/mem"
)

// HMAC is H(key^opad || H(key^ipad || text)) (RFC 2104). Contexts hold the two states
// behind the key's block, so for each packet a lane
//
//	1  begins from the inner state, and goes over the whole blocks of what is covered,
//	2  over the rest of it with padding: one block or two,
//	3  then from the outer state over the hash, one block,
//
// and is given the next packet. A short packet is all rest.
type phase uint8

const (
	inBody phase = iota
	inTail
	inOuter
)

type hashLane struct {
	job uint16
	at  phase
}

// fewHashes is up to how many jobs are faster two by two than sixteen at a time.
const fewHashes = 6

// mac writes the ICV of each job; with open it compares them, and gives how many
// are bad.
func (s *State) mac(l Level, jobs []Job, open bool) (bad int) {
	wide := l == VAES512 && len(jobs) > fewHashes
	lanes := hashNarrow
	if wide {
		lanes = hashLanes
	}
	idle := uintptr(unsafe.Pointer(&s.idle))
	next, busy := 0, 0
	begin := func(i int) {
		if next == len(jobs) {
			s.sha.stop(i, idle)
			return
		}
		s.hashes[i].job = uint16(next)
		s.body(i, wide, &jobs[next])
		next++
		busy++
	}
	for i := range lanes {
		begin(i)
	}
	for busy > 0 {
		for done := s.sha.compress(wide); done != 0; done &= done - 1 {
			i := bits.TrailingZeros32(done)
			j := &jobs[s.hashes[i].job]
			switch s.hashes[i].at {
			case inBody:
				s.tail(i, j, (j.Head+j.Len)%hashBlock)
			case inTail:
				s.outer(i, wide, j)
			default:
				if s.icv(i, wide, j, open) {
					bad++
				}
				busy--
				begin(i)
			}
		}
	}
	clear(s.sha.h[:])
	clear(s.tails[:lanes])
	return bad
}

// body has lane i begin with a job.
func (s *State) body(i int, wide bool, j *Job) {
	s.sha.put(i, wide, uintptr(j.Key)+ctxInner)
	if n := j.Head + j.Len; n > mostTail {
		s.hashes[i].at = inBody
		s.sha.run(i, j.Text-uintptr(j.Head), n/hashBlock)
		return
	}
	s.tail(i, j, j.Head+j.Len)
}

// mostTail is how much of what is covered has room in two blocks: padding takes nine
// bytes, and the upper half of a sequence number four.
const mostTail = 2*hashBlock - 9 - 4

// tail has lane i go on with the last bytes of what is covered, and the padding.
func (s *State) tail(i int, j *Job, rest uint32) {
	n := j.Head + j.Len
	t := &s.tails[i]
	*t = [2 * hashBlock]byte{}
	copy(t[:rest], mem.Bytes(j.Text+uintptr(j.Len)-uintptr(rest), int(rest)))
	if j.HasMore != 0 {
		copy(t[rest:], j.More[:])
		n += 4
		rest += 4
	}
	t[rest] = 0x80
	blocks := 1 + (rest+8)/hashBlock
	// The key's block counts as well.
	binary.BigEndian.PutUint64(t[blocks*hashBlock-8:], 8*uint64(hashBlock+n))
	s.hashes[i].at = inTail
	s.sha.run(i, uintptr(unsafe.Pointer(t)), blocks)
}

// outer has lane i hash its own hash.
func (s *State) outer(i int, wide bool, j *Job) {
	t := unsafe.Pointer(&s.tails[i])
	for w, at := range s.sha.places(wide) {
		mem.Store32(t, 4*uintptr(w), bits.ReverseBytes32(mem.Load32(s.sha.lane(i, wide), at)))
	}
	mem.Store64(t, 32, 0x80)
	mem.Store64(t, 40, 0)
	mem.Store64(t, 48, 0)
	mem.Store64(t, 56, bits.ReverseBytes64(8*(hashBlock+32)))
	s.sha.put(i, wide, uintptr(j.Key)+ctxOuter)
	s.hashes[i].at = inOuter
	s.sha.run(i, uintptr(unsafe.Pointer(t)), 1)
}

// icv writes or compares, in constant time, the ICV that lane i has come to.
func (s *State) icv(i int, wide bool, j *Job, open bool) (bad bool) {
	lo := uint64(bits.ReverseBytes32(s.sha.word(i, wide, 0))) | uint64(bits.ReverseBytes32(s.sha.word(i, wide, 1)))<<32
	hi := uint64(bits.ReverseBytes32(s.sha.word(i, wide, 2))) | uint64(bits.ReverseBytes32(s.sha.word(i, wide, 3)))<<32
	at := mem.At(j.Text + uintptr(j.Len))
	if !open {
		mem.Store64(at, 0, lo)
		mem.Store64(at, 8, hi)
		return false
	}
	differ := (lo ^ mem.Load64(at, 0)) | (hi ^ mem.Load64(at, 8))
	j.Bad = (differ | -differ) >> 63
	return j.Bad != 0
}
