//go:build linux && amd64

package ipsecmb

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// espLen is the SPI and sequence number in front of the IV.
const espLen = 8

// queue is one goroutine's way in: a manager of the library's, and what the
// library is pointed to.
type queue struct {
	session.Inline
	r    *records
	pool *sal.Pool

	manager *mem.Region
	area    *mem.Region
	own     *own
	args    [3]uintptr
	end     sync.Once
}

// own is in mapped memory, as the library reads and writes it: for each job of a
// burst what is not in the packet.
type own struct {
	slots [maxBurst]slot
	list  [maxBurst]uintptr // jobs, as the library hands them out and takes them
	jobs  [maxBurst]uint32  // places of jobs in the burst that are for the library
	ivs   [maxBurst * 16]byte
}

// slot is a job's: 128 bytes.
type slot struct {
	iv   [16]byte // nonce of an AEAD, counter block of CTR
	aad  [16]byte
	tag  [64]byte // of packets that are opened, and with ESN
	was  [4]byte  // what stood where the upper half of the number is now
	used int32    // IVs that this burst took before
	_    [24]byte
}

// Queue makes queue i over the buffers of pool.
func (r *records) Queue(_ int, pool *sal.Pool) (session.Queue, error) {
	m, err := r.e.lib.manager()
	if err != nil {
		return nil, err
	}
	a, err := mem.MapSecret(int(unsafe.Sizeof(own{})), mem.Options{SmallPages: true})
	if err != nil {
		_ = m.Unmap()
		return nil, fmt.Errorf("memory: %v: %w", err, sal.ErrFull)
	}
	q := &queue{r: r, pool: pool, manager: m, area: a, own: (*own)(a.Ptr())}
	q.Init(r.s, depth, q.work)
	return q, nil
}

// Close gives the number free. Jobs that are done can still be polled.
func (q *queue) Close() error {
	q.Shut()
	q.Forget()
	return nil
}

// Forget gives the queue's own memory back.
func (q *queue) Forget() {
	q.end.Do(func() {
		_ = q.manager.Unmap() // wipes both; what cannot be unmapped is no one's loss
		_ = q.area.Unmap()
	})
}

// work does jobs, as many at a time as the library takes:
//
//	1  look at them; those that cannot be done end here
//	2  describe the others to the library
//	3  have it do them
//	4  compare ICVs, count
func (q *queue) work(jobs []sal.Job) {
	for len(jobs) > 0 {
		n := min(maxBurst, len(jobs))
		q.burst(jobs[:n])
		jobs = jobs[n:]
	}
}

func (q *queue) burst(jobs []sal.Job) {
	o := q.own
	n, ivs := 0, 0
	for i := range jobs {
		j := &jobs[i]
		x := q.r.at(j.SA)
		// An SA does one operation only: sealing with an inbound key would use a
		// nonce twice.
		if x == nil || x.state.Load() != live || x.op != j.Op {
			j.Status = sal.StatusNoSA
			continue
		}
		end := int(j.Off) + espLen + int(x.iv) + int(j.Len) + int(x.icv)
		switch {
		case end > q.pool.End(j.Desc.Buf()):
			x.end(j, sal.StatusNoRoom)
			continue
		case j.Len%uint16(x.block) != 0:
			x.end(j, sal.StatusShort)
			continue
		}
		if x.cipher == cipherCBC && j.Op == sal.Seal {
			ivs++
		}
		o.jobs[n] = uint32(i)
		n++
	}
	if n == 0 {
		return
	}
	if ivs > 0 { // that nobody can predict (RFC 3602 section 3)
		rand.Read(o.ivs[:16*ivs]) // never fails
	}
	if got := q.call(q.r.e.lib.nextBurst, n); got < uintptr(n) {
		// The manager is empty between bursts, so this is the library's failure.
		for _, i := range o.jobs[:n] {
			q.r.at(jobs[i].SA).end(&jobs[i], sal.StatusDevice)
		}
		return
	}
	ivs = 0
	for k, i := range o.jobs[:n] {
		ivs += q.describe(&jobs[i], q.r.at(jobs[i].SA), k, ivs)
	}
	done := int(q.call(q.r.e.lib.submitBurst, n))
	done = q.finish(jobs, 0, done)
	for done < n {
		got := int(q.call(q.r.e.lib.flushBurst, maxBurst))
		if got == 0 {
			break
		}
		done = q.finish(jobs, done, got)
	}
	for _, i := range o.jobs[:n] {
		if j := &jobs[i]; j.Status == undone {
			q.wipe(j, q.r.at(j.SA)) // what the library has left of it, nobody knows
			q.r.at(j.SA).end(j, sal.StatusDevice)
		}
	}
}

// call calls one of the manager's functions that take a number of jobs and a list of
// them. The arguments are in memory of the queue's, as a list of their own would be
// made on the heap.
func (q *queue) call(f uintptr, n int) uintptr {
	q.args = [3]uintptr{q.manager.Addr(), uintptr(n), uintptr(unsafe.Pointer(&q.own.list))}
	return call(f, q.args[:]...)
}

// undone marks a job that the library has; no status of the contract.
const undone = ^sal.Status(0)

// describe fills in the k-th job of the library's, and says how many IVs it took.
func (q *queue) describe(j *sal.Job, x *record, k, ivs int) (took int) {
	j.Status = undone
	s := &q.own.slots[k]
	job := mem.At(q.own.list[k])
	esp := uintptr(q.pool.Base()) + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off)
	head := uint64(espLen + int(x.iv))
	text := esp + uintptr(head)
	tail := text + uintptr(j.Len)
	keys := uintptr(unsafe.Pointer(&x.keys))

	cipher, from, hashed := x.cipher, uint64(0), head+uint64(j.Len)
	iv, ivLen := uintptr(unsafe.Pointer(&s.iv)), uint64(0)
	tag := uintptr(unsafe.Pointer(&s.tag))
	if j.Op == sal.Seal && (x.aead || !x.esn) {
		tag = tail
	}
	switch {
	case x.aead:
		// RFC 4106: nonce = salt || IV (section 4), AAD = SPI || sequence number of
		// 32 or 64 bits (section 5). RFC 7634 section 2 has the same.
		copy(s.iv[:], x.salt[:])
		mem.Store64(unsafe.Pointer(&s.iv), 4, mem.Load64(mem.At(esp), espLen))
		ivLen, from, hashed = 12, head, uint64(j.Len) // the library wants the text only here
		aad, n := unsafe.Pointer(&s.aad), uint64(8)
		mem.Store64(aad, 0, mem.Load64(mem.At(esp), 0))
		if x.esn {
			mem.Store32(aad, 8, mem.Load32(mem.At(esp), 4))
			mem.Store32(aad, 4, bits.ReverseBytes32(j.SeqHi))
			n = 12
		}
		mem.Store64(job, jobAAD, uint64(uintptr(aad)))
		mem.Store64(job, jobAADLen, n)
	default:
		switch {
		case j.Len == 0:
			cipher = cipherNull // the library takes no empty text
		case cipher == cipherCTR:
			// RFC 3686 section 4: nonce, IV, a counter from 1.
			copy(s.iv[:], x.salt[:])
			mem.Store64(unsafe.Pointer(&s.iv), 4, mem.Load64(mem.At(esp), espLen))
			binary.BigEndian.PutUint32(s.iv[12:], 1)
			ivLen = 16
		case cipher == cipherCBC:
			iv, ivLen = esp+espLen, 16
		}
		if x.cipher == cipherCBC && j.Op == sal.Seal {
			copy(mem.Bytes(esp+espLen, 16), q.own.ivs[16*ivs:])
			took = 1
		}
		if x.esn {
			// The ICV covers the upper half of the number behind the text (RFC 4303
			// section 2.2.1), where the ICV stands or will: it goes there for the
			// while.
			*(*[4]byte)(unsafe.Pointer(&s.was)) = *(*[4]byte)(mem.At(tail))
			mem.Store32(mem.At(tail), 0, bits.ReverseBytes32(j.SeqHi))
			hashed += 4
		}
		mem.Store64(job, jobAAD, uint64(uintptr(unsafe.Pointer(&x.inner))))
		mem.Store64(job, jobAADLen, uint64(uintptr(unsafe.Pointer(&x.outer))))
	}
	dec := keys
	if x.cipher == cipherCBC {
		dec += aesKeyLen
	}
	direction, order := uint32(encrypt), uint32(cipherHash)
	if j.Op == sal.Open {
		direction, order = decrypt, hashCipher
	}
	mem.Store64(job, jobEncKeys, uint64(keys))
	mem.Store64(job, jobDecKeys, uint64(dec))
	mem.Store64(job, jobKeyLen, uint64(x.keyLen))
	mem.Store64(job, jobSrc, uint64(esp))
	mem.Store64(job, jobDst, uint64(text))
	mem.Store64(job, jobCipherOff, head)
	mem.Store64(job, jobCipherLen, uint64(j.Len))
	mem.Store64(job, jobHashOff, from)
	mem.Store64(job, jobHashLen, hashed)
	mem.Store64(job, jobIV, uint64(iv))
	mem.Store64(job, jobIVLen, ivLen)
	mem.Store64(job, jobTag, uint64(tag))
	mem.Store64(job, jobTagLen, uint64(x.icv))
	mem.Store32(job, jobStatus, 0)
	mem.Store32(job, jobCipher, cipher)
	mem.Store32(job, jobDirection, direction)
	mem.Store32(job, jobHash, x.hash)
	mem.Store32(job, jobOrder, order)
	mem.Store32(job, jobSGLState, 0)
	mem.Store64(job, jobUser, uint64(k))
	return took
}

// finish ends the jobs that the library has listed as completed; done were before.
func (q *queue) finish(jobs []sal.Job, done, n int) int {
	for _, p := range q.own.list[:min(n, maxBurst)] {
		job := mem.At(p)
		k := mem.Load64(job, jobUser) & (maxBurst - 1)
		s := &q.own.slots[k]
		j := &jobs[q.own.jobs[k]]
		x := q.r.at(j.SA)
		tail := uintptr(q.pool.Base()) + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(int(j.Off)+espLen+int(x.iv)+int(j.Len))
		icv := mem.Bytes(tail, int(x.icv))
		status := sal.StatusOK
		if mem.Load32(job, jobStatus) != statusCompleted {
			status = sal.StatusDevice
		}
		if x.esn && !x.aead {
			copy(icv, s.was[:])
			if j.Op == sal.Seal {
				copy(icv, s.tag[:x.icv])
			}
		}
		if status == sal.StatusOK && j.Op == sal.Open && subtle.ConstantTimeCompare(icv, s.tag[:x.icv]) != 1 {
			status = sal.StatusBadICV
		}
		if status != sal.StatusOK {
			q.wipe(j, x) // it is deciphered, and must not be seen
		}
		x.end(j, status)
	}
	return done + n
}

// wipe clears the text of a job that failed.
func (q *queue) wipe(j *sal.Job, x *record) {
	clear(mem.Bytes(uintptr(q.pool.Base())+uintptr(j.Desc.Buf())*sal.BufSize+uintptr(int(j.Off)+espLen+int(x.iv)), int(j.Len)))
}
