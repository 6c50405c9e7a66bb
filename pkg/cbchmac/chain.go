package cbchmac

import (
	"math/bits"
	"unsafe"

	"vrouter/pkg/mem"
)

// fewChains is up to how many jobs are as fast by the narrow kernel: lanes without work
// are in each other's way.
const fewChains = 4

// encrypt encrypts each job's IV and text. Lanes of one call of the kernel share the
// number of rounds, so there is a pass for each size of key that the burst has.
func (s *State) encrypt(l Level, jobs []Job) {
	sizes := uint32(0)
	for i := range jobs {
		sizes |= 1 << jobs[i].Key.rounds()
	}
	wide := l == VAES512 && len(jobs) > fewChains
	for ; sizes != 0; sizes &= sizes - 1 {
		s.pass(wide, jobs, bits.TrailingZeros32(sizes))
	}
}

// pass encrypts the jobs whose keys have so many rounds.
func (s *State) pass(wide bool, jobs []Job, rounds int) {
	lanes := chainNarrow
	if wide {
		lanes = chainLanes
	}
	idle := uintptr(unsafe.Pointer(&s.idle))
	next, busy := 0, 0
	begin := func(i int) {
		for next < len(jobs) && jobs[next].Key.rounds() != rounds {
			next++
		}
		if next == len(jobs) {
			s.cbc.stop(i, idle)
			return
		}
		j := &jobs[next]
		if s.keys[i] != j.Key {
			s.keys[i] = j.Key
			s.cbc.load(i, j.Key, rounds)
		}
		s.cbc.chain[i] = [BlockSize]byte{}
		s.cbc.run(i, j.Text-BlockSize, j.Len/BlockSize+1)
		next++
		busy++
	}
	for i := range lanes {
		begin(i)
	}
	for busy > 0 {
		for done := s.cbc.encrypt(wide, rounds); done != 0; done &= done - 1 {
			busy--
			begin(bits.TrailingZeros32(done))
		}
	}
	for r := range rounds + 1 {
		clear(s.cbc.rk[r][:lanes])
	}
	clear(s.keys[:lanes])
	clear(s.idle[:])
}

// load gives lane i the round keys of k.
func (l *cbcLanes) load(i int, k Key, rounds int) {
	from := mem.At(uintptr(k) + ctxEnc)
	for r := range rounds + 1 {
		to := unsafe.Pointer(&l.rk[r][i])
		mem.Store64(to, 0, mem.Load64(from, uintptr(16*r)))
		mem.Store64(to, 8, mem.Load64(from, uintptr(16*r+8)))
	}
}

// decrypt decrypts the text of each job that is not bad.
func decrypt(l Level, jobs []Job) {
	first := (*byte)(unsafe.Pointer(&jobs[0]))
	if l == VAES512 {
		decrypt512(first, len(jobs))
	} else {
		decrypt128(first, len(jobs))
	}
}
