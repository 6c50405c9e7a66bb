package mem

import (
	"fmt"
	"sync"
)

// Slots hands out handles: indices 1 … n-1 into somebody's table. Handle 0 is
// never given, so that a zeroed word means "none". A freed handle is reused
// last-in first-out, which keeps the touched part of the table small. All
// methods may be called from any goroutine; they are for the control side, not
// for each packet.
type Slots struct {
	mu    sync.Mutex
	free  []uint32
	live  []uint64 // a bit for each handle that is out
	next  uint32   // handles from here on were never given
	limit uint32
	inUse int
	g     *Grace
	clean func(uint32)
}

// NewSlots returns an allocator of the handles 1 … n-1. Handles that workers
// may still see are given back through g, which may be nil if Retire is not
// used. clean, when not nil, is called for each handle before it can be given
// out again (to wipe keys or reset a record); it must not call the Slots.
func NewSlots(n uint32, g *Grace, clean func(handle uint32)) *Slots {
	return &Slots{limit: n, next: 1, live: make([]uint64, (uint64(n)+63)/64), g: g, clean: clean}
}

// Alloc returns a handle, or false when all are out. Handles that wait for
// their grace period are polled for before it gives up.
func (s *Slots) Alloc() (uint32, bool) {
	h, ok := s.alloc()
	if !ok && s.g != nil && s.g.Poll() > 0 {
		h, ok = s.alloc()
	}
	return h, ok
}

func (s *Slots) alloc() (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var h uint32
	if k := len(s.free); k > 0 {
		h = s.free[k-1]
		s.free = s.free[:k-1]
	} else if s.next < s.limit {
		h = s.next
		s.next++
	} else {
		return 0, false
	}
	s.live[h>>6] |= 1 << (h & 63)
	s.inUse++
	return h, true
}

// Free takes back a handle at once: one that no worker was ever shown. Freeing
// a handle that is not out is a programming error and panics.
func (s *Slots) Free(h uint32) {
	if !s.Live(h) {
		panic(fmt.Sprintf("mem: handle %d freed but not in use", h))
	}
	if s.clean != nil {
		s.clean(h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[h>>6] &^= 1 << (h & 63)
	s.free = append(s.free, h)
	s.inUse--
}

// Retire takes back a handle once no worker can see it; the caller has just
// made it unreachable. Until then it counts as in use.
func (s *Slots) Retire(h uint32) { s.g.RetireHandle(s, h) }

// Reclaim implements [Reclaimer]; it is Free.
func (s *Slots) Reclaim(h uint32) { s.Free(h) }

// Live says whether handle h is out.
func (s *Slots) Live(h uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h < s.limit && s.live[h>>6]>>(h&63)&1 != 0
}

// InUse is the number of handles that are out, those waiting for their grace
// period included.
func (s *Slots) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse
}

// Cap is the largest number of handles that can be out.
func (s *Slots) Cap() int { return int(max(s.limit, 1)) - 1 }
