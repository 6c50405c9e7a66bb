// Package ring is a queue of 8-byte descriptors between exactly two
// goroutines: one that enqueues and one that dequeues.
//
// A descriptor is a number whose meaning the two sides agree on (buffer index,
// offset and length, or a packed address); the ring never looks into it. It
// has no lock and never waits. Handing over a burst costs one atomic load and
// one atomic store on each side, and the load of the other side's position is
// saved while the own copy of it still leaves room.
package ring

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/mem"
)

// SPSC is a single-producer, single-consumer ring in mapped memory. Len and
// Cap may be called by anybody; Enqueue, EnqueueOne, Free by the producer
// only; Dequeue by the consumer only.
type SPSC struct {
	h    *header
	slot []uint64
	mask uint64
	reg  *mem.Region
}

// header lies in front of the slots. What one side writes shares no line, nor
// the neighbour line that the prefetcher pulls along, with what the other
// writes. Positions count for ever; position & mask is the slot.
type header struct {
	tail     atomic.Uint64 // producer: first position not yet filled
	headSeen uint64        // producer's copy of head
	_        [112]byte
	head     atomic.Uint64 // consumer: first position not yet taken
	tailSeen uint64        // consumer's copy of tail
	_        [112]byte
}

// New maps a ring of n descriptors; n must be a power of two of at least 2.
func New(n int) (*SPSC, error) {
	if n < 2 || n&(n-1) != 0 {
		return nil, fmt.Errorf("ring: size %d is not a power of two", n)
	}
	hs := int(unsafe.Sizeof(header{}))
	reg, err := mem.Map(hs+8*n, mem.Options{SmallPages: true})
	if err != nil {
		return nil, err
	}
	return &SPSC{
		h:    (*header)(reg.Ptr()),
		slot: unsafe.Slice((*uint64)(unsafe.Add(reg.Ptr(), hs)), n),
		mask: uint64(n - 1),
		reg:  reg,
	}, nil
}

// Close unmaps the ring. Both sides must have let go of it.
func (r *SPSC) Close() error {
	r.h, r.slot = nil, nil
	return r.reg.Unmap()
}

// Enqueue appends the first k descriptors of d, as many as there is room for,
// and returns k. The consumer sees them all at once, and with them whatever
// the producer wrote before the call.
func (r *SPSC) Enqueue(d []uint64) int {
	h, slot := r.h, r.slot
	t := h.tail.Load()
	room := uint64(len(slot)) - (t - h.headSeen)
	if room < uint64(len(d)) {
		h.headSeen = h.head.Load()
		if room = uint64(len(slot)) - (t - h.headSeen); room < uint64(len(d)) {
			d = d[:room]
		}
	}
	if len(d) == 0 {
		return 0
	}
	n := copy(slot[t&r.mask:], d)
	copy(slot, d[n:])
	h.tail.Store(t + uint64(len(d)))
	return len(d)
}

// EnqueueOne appends one descriptor and says whether there was room.
func (r *SPSC) EnqueueOne(d uint64) bool {
	h := r.h
	t := h.tail.Load()
	if t-h.headSeen == uint64(len(r.slot)) {
		if h.headSeen = h.head.Load(); t-h.headSeen == uint64(len(r.slot)) {
			return false
		}
	}
	r.slot[t&r.mask] = d
	h.tail.Store(t + 1)
	return true
}

// Dequeue moves up to len(out) descriptors into out, oldest first, and returns
// how many.
func (r *SPSC) Dequeue(out []uint64) int {
	h, slot := r.h, r.slot
	p := h.head.Load()
	if h.tailSeen-p < uint64(len(out)) {
		h.tailSeen = h.tail.Load()
		if have := h.tailSeen - p; have < uint64(len(out)) {
			out = out[:have]
		}
	}
	if len(out) == 0 {
		return 0
	}
	n := copy(out, slot[p&r.mask:])
	copy(out[n:], slot)
	h.head.Store(p + uint64(len(out)))
	return len(out)
}

// Free is how many descriptors the producer can certainly enqueue now.
func (r *SPSC) Free() int {
	r.h.headSeen = r.h.head.Load()
	return len(r.slot) - int(r.h.tail.Load()-r.h.headSeen)
}

// Len is how many descriptors are queued at this moment; for the producer an
// upper bound, for the consumer a lower one.
func (r *SPSC) Len() int {
	head := r.h.head.Load()
	return int(r.h.tail.Load() - head)
}

// Cap is the size of the ring.
func (r *SPSC) Cap() int { return len(r.slot) }
