package memory

import (
	"sync/atomic"

	"vrouter/pkg/sal"
)

// ring is a bounded queue of descriptors from one goroutine to another. Its
// slots are made by the producer at the first push, so that a ring nobody uses
// costs three cache lines.
//
// Each index stands alone in its line together with the owner's stale copy of
// the other one: in the steady state either side touches the other's line once
// in a burst at most.
type ring struct {
	head     atomic.Uint64 // written by the producer
	tailSeen uint64        // producer's copy of tail
	slots    []sal.Desc    // power of two; published by the first store of head
	_        [64 - 40]byte

	tail     atomic.Uint64 // written by the consumer
	headSeen uint64        // consumer's copy of head
	_        [64 - 16]byte
}

// push appends as many of d as fit and says how many. depth is the number of
// slots to make at first use, a power of two.
func (r *ring) push(d []sal.Desc, depth int) int {
	if r.slots == nil {
		r.slots = make([]sal.Desc, depth)
	}
	size := uint64(len(r.slots))
	h := r.head.Load()
	if size-(h-r.tailSeen) < uint64(len(d)) {
		r.tailSeen = r.tail.Load()
	}
	n := min(size-(h-r.tailSeen), uint64(len(d)))
	at := h & (size - 1)
	k := uint64(copy(r.slots[at:], d[:n]))
	copy(r.slots, d[k:n])
	r.head.Store(h + n)
	return int(n)
}

// pop takes up to len(d) descriptors.
func (r *ring) pop(d []sal.Desc) int {
	t := r.tail.Load()
	if r.headSeen-t < uint64(len(d)) {
		r.headSeen = r.head.Load()
	}
	n := min(r.headSeen-t, uint64(len(d)))
	if n == 0 {
		return 0
	}
	at := t & uint64(len(r.slots)-1)
	k := uint64(copy(d[:n], r.slots[at:]))
	copy(d[k:n], r.slots)
	r.tail.Store(t + n)
	return int(n)
}

// empty tells the consumer whether there is nothing to pop.
func (r *ring) empty() bool {
	t := r.tail.Load()
	return r.headSeen == t && r.head.Load() == t
}

// len counts what is in the ring; exact for producer and consumer while the
// other side rests.
func (r *ring) len() int { return int(r.head.Load() - r.tail.Load()) }
