package cpu

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unsafe"

	"vrouter/pkg/burst"
	"vrouter/pkg/gcm"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// espLen is the SPI and sequence number in front of the IV.
const espLen = 8

// ahead is how many jobs are prefetched together, while the ones before them
// are worked on.
const ahead = 8

// queue is one goroutine's way in. What the standard library is handed through
// an interface lives here, so that nothing escapes to the heap.
type queue struct {
	session.Inline

	r    *records
	id   uint32 // number + 1
	base uintptr
	bufs uint32 // ordinary buffers
	pool *sal.Pool

	vec     *vector // nil: the standard library does AES-GCM
	vecMem  *mem.Region
	own     *own
	ownUsed bool // the burst has left keys in own

	nonce [saltLen + ivLen]byte
	aad   [12]byte
	recs  [ahead]uintptr
	last  sal.SA // prefetched last

	end sync.Once
}

// Queue makes queue i over the buffers of pool.
func (r *records) Queue(i int, pool *sal.Pool) (session.Queue, error) {
	o, err := newOwn()
	if err != nil {
		return nil, fmt.Errorf("memory: %v: %w", err, sal.ErrFull)
	}
	q := &queue{r: r, own: o, id: uint32(i) + 1, base: pool.Base(), bufs: uint32(pool.Size()), pool: pool}
	q.Init(r.s, depth, q.work)
	if r.e.level != gcm.None {
		if q.vecMem, q.vec, err = newVector(); err != nil {
			o.close()
			return nil, fmt.Errorf("memory: %v: %w", err, sal.ErrFull)
		}
	}
	return q, nil
}

// work does the jobs in order.
func (q *queue) work(jobs []sal.Job) {
	if q.vec != nil {
		for len(jobs) > 0 {
			n := min(sal.Burst, len(jobs))
			q.burst(jobs[:n])
			jobs = jobs[n:]
		}
	} else {
		q.each(jobs)
	}
	if q.ownUsed {
		q.ownUsed = false
		q.own.tidy()
	}
}

// each does jobs one by one.
func (q *queue) each(jobs []sal.Job) {
	q.last = 0
	q.prefetch(jobs)
	for len(jobs) > 0 {
		n := min(ahead, len(jobs))
		q.prefetch(jobs[n:])
		for i := range jobs[:n] {
			q.one(&jobs[i])
		}
		jobs = jobs[n:]
	}
}

// prefetch asks for the records of the next jobs. One that follows another of the
// same SA needs nothing.
func (q *queue) prefetch(jobs []sal.Job) {
	n := 0
	for i := range jobs[:min(ahead, len(jobs))] {
		h := jobs[i].SA
		if h == q.last || h/chunkSAs >= maxChunks {
			continue
		}
		q.last = h
		if c := q.r.chunks[h/chunkSAs].Load(); c != nil {
			q.recs[n] = uintptr(unsafe.Pointer(&c.recs[h%chunkSAs]))
			n++
		}
	}
	if n == 0 {
		return
	}
	for _, off := range hot {
		burst.PrefetchPtrs(q.recs[:n], off)
	}
}

// one does a job.
func (q *queue) one(j *sal.Job) {
	var c *chunk
	if j.SA/chunkSAs < maxChunks {
		c = q.r.chunks[j.SA/chunkSAs].Load()
	}
	if c == nil {
		j.Status = sal.StatusNoSA
		return
	}
	i := j.SA % chunkSAs
	r := &c.recs[i]
	// An SA does one operation only: sealing with an inbound key would use a
	// nonce twice.
	if r.state.Load() != live || r.op != j.Op {
		j.Status = sal.StatusNoSA
		return
	}
	if r.how != isAEAD {
		q.other(j, r, c.blocks[i])
		return
	}
	end := int(j.Off) + espLen + ivLen + int(j.Len) + icvLen
	if !q.holds(j, end) {
		j.Status = sal.StatusNoRoom
		r.fail(sal.StatusNoRoom)
		return
	}
	p := unsafe.Slice((*byte)(at(q.base+uintptr(j.Desc.Buf())*sal.BufSize)), end)
	esp, text := p[j.Off:int(j.Off)+espLen+ivLen], p[int(j.Off)+espLen+ivLen:end-icvLen]

	// RFC 4106 section 4: nonce = salt || IV.
	binary.LittleEndian.PutUint32(q.nonce[:], binary.LittleEndian.Uint32(r.salt[:]))
	binary.LittleEndian.PutUint64(q.nonce[saltLen:], binary.LittleEndian.Uint64(esp[espLen:]))
	// RFC 4106 section 5: SPI || sequence number, of 32 or 64 bits.
	aad := q.aad[:8]
	binary.LittleEndian.PutUint32(aad, binary.LittleEndian.Uint32(esp))
	if r.esn {
		aad = q.aad[:12]
		binary.BigEndian.PutUint32(aad[4:], j.SeqHi)
	}
	binary.LittleEndian.PutUint32(aad[len(aad)-4:], binary.LittleEndian.Uint32(esp[4:]))

	if j.Op == sal.Seal {
		c.aeads[i].Seal(text[:0], q.nonce[:], text, aad)
	} else if _, err := c.aeads[i].Open(text[:0], q.nonce[:], text[:len(text)+icvLen], aad); err != nil {
		// cipher.AEAD has zeroed the text.
		j.Status = sal.StatusBadICV
		r.fail(sal.StatusBadICV)
		return
	}
	j.Status = sal.StatusOK
	r.count(q.id, 1, uint64(j.Len))
}

// holds tells whether a job's buffer is there and reaches to end.
func (q *queue) holds(j *sal.Job, end int) bool {
	return end <= sal.BufSize && j.Desc.Buf() < q.bufs || end <= q.pool.End(j.Desc.Buf())
}

// at turns an address of the pool into a pointer.
func at(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// Close gives the number free. Jobs that are done can still be polled.
func (q *queue) Close() error {
	q.Shut()
	q.Forget()
	return nil
}

// Forget gives the queue's own memory back, when no call can be in it.
func (q *queue) Forget() {
	q.end.Do(func() {
		q.own.close()
		if q.vecMem != nil {
			_ = q.vecMem.Unmap() // wipes; memory that cannot be unmapped is no one's loss
		}
	})
}
