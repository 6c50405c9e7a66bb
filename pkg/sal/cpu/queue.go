package cpu

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// espLen is the SPI and sequence number in front of the IV.
const espLen = 8

// ahead is how many jobs are prefetched together, while the ones before them
// are worked on.
const ahead = 8

// queue is one goroutine's way in. What the standard library is handed through
// an interface lives here, so that nothing escapes to the heap.
type queue struct {
	s    *session
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

	done     []sal.Job // ring of completed jobs
	doneMask uint64

	_ [64]byte
	// turn is odd while a call works on SAs; see session.part. submitted and
	// polled count jobs. Only the queue's goroutine writes them.
	turn              atomic.Uint64
	submitted, polled atomic.Uint64
	closed            atomic.Bool
	end               sync.Once
}

// Queue opens queue i over the buffers of pool. A number may be opened again
// after its queue was closed.
func (s *session) Queue(i int, pool *sal.Pool) (sal.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	if i < 0 || i >= maxQueues || pool == nil {
		return nil, fmt.Errorf("queue %d of %d: %w", i, maxQueues, sal.ErrInvalid)
	}
	if q := s.queues[i]; q != nil && !q.closed.Load() {
		return nil, fmt.Errorf("queue %d: %w", i, sal.ErrBusy)
	}
	o, err := newOwn()
	if err != nil {
		return nil, fmt.Errorf("memory for queue %d: %v: %w", i, err, sal.ErrFull)
	}
	q := &queue{s: s, own: o, id: uint32(i) + 1, base: pool.Base(), bufs: uint32(pool.Size()), pool: pool,
		done: make([]sal.Job, depth), doneMask: depth - 1}
	if s.e.vector {
		if q.vecMem, q.vec, err = newVector(); err != nil {
			o.close()
			return nil, fmt.Errorf("memory for queue %d: %v: %w", i, err, sal.ErrFull)
		}
	}
	s.queues[i] = q
	return q, nil
}

// Do runs the jobs in order.
func (q *queue) Do(jobs []sal.Job) {
	t := q.turn.Load()
	q.turn.Store(t + 1) // before any SA is looked at
	q.work(jobs)
	q.turn.Store(t + 2)
}

func (q *queue) work(jobs []sal.Job) {
	if q.s.gone.Load() || q.closed.Load() {
		for i := range jobs {
			jobs[i].Status = sal.StatusDevice
		}
		return
	}
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
		if c := q.s.chunks[h/chunkSAs].Load(); c != nil {
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
		c = q.s.chunks[j.SA/chunkSAs].Load()
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
	r.count(q.id, uint64(j.Len))
}

// holds tells whether a job's buffer is there and reaches to end.
func (q *queue) holds(j *sal.Job, end int) bool {
	return end <= sal.BufSize && j.Desc.Buf() < q.bufs || end <= q.pool.End(j.Desc.Buf())
}

// at turns an address of the pool into a pointer.
func at(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// Submit works the jobs off at once; Poll hands them back in order.
func (q *queue) Submit(jobs []sal.Job) int {
	sub := q.submitted.Load()
	n := min(len(jobs), depth-int(sub-q.polled.Load()))
	t := q.turn.Load()
	q.turn.Store(t + 1)
	q.work(jobs[:n])
	for i := range jobs[:n] {
		q.done[(sub+uint64(i))&q.doneMask] = jobs[i]
	}
	q.submitted.Store(sub + uint64(n))
	q.turn.Store(t + 2)
	return n
}

// Poll takes completed jobs, in the order of Submit.
func (q *queue) Poll(jobs []sal.Job) int {
	p := q.polled.Load()
	n := min(len(jobs), int(q.submitted.Load()-p))
	for i := range jobs[:n] {
		jobs[i] = q.done[(p+uint64(i))&q.doneMask]
	}
	q.polled.Store(p + uint64(n))
	return n
}

// InFlight is what has been submitted and not polled.
func (q *queue) InFlight() int { return int(q.submitted.Load() - q.polled.Load()) }

// Close gives the number free. Jobs that are done can still be polled.
func (q *queue) Close() error {
	q.closed.Store(true)
	q.forget()
	return nil
}

// forget gives the queue's own memory back, when no call can be in it.
func (q *queue) forget() {
	q.end.Do(func() {
		q.own.close()
		if q.vecMem != nil {
			_ = q.vecMem.Unmap() // wipes; memory that cannot be unmapped is no one's loss
		}
	})
}
