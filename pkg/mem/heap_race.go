//go:build race

package mem

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The race detector knows the Go heap only: two workers that write the same
// mapped word would go unreported, and an atomic store to one would not count
// as publishing what was written before it. So race builds take regions from
// the heap, up to a size that the collector's pacing bears; larger ones are
// mapped as always.
const heapLimit = 256 << 20

// heapAlive keeps regions from the collector, which cannot see addresses that
// are kept as numbers.
//
// The large ones are kept when they are released, too, and given out again, their
// pages taken back by the kernel and so all zero: to clear tables that are hardly
// touched, and to have the detector forget them, was most of what a short test of
// a whole fast path cost. What the last owner did to a region happened before its
// release, and so before anything that the next one does.
var heapAlive struct {
	sync.Mutex
	m     map[unsafe.Pointer][]byte
	spare map[int][][]byte // by size
}

// heapSpareMin is the smallest region that is kept.
const heapSpareMin = 1 << 20

const heapAlign = 4096

func heapRegion(size int) *Region {
	if size > heapLimit {
		return nil
	}
	heapAlive.Lock()
	defer heapAlive.Unlock()
	if heapAlive.m == nil {
		heapAlive.m = map[unsafe.Pointer][]byte{}
		heapAlive.spare = map[int][][]byte{}
	}
	var b []byte
	n := size + heapAlign
	if l := heapAlive.spare[n]; len(l) > 0 {
		b, heapAlive.spare[n] = l[len(l)-1], l[:len(l)-1]
	} else {
		b = make([]byte, n)
	}
	p := unsafe.Pointer(&b[0])
	p = unsafe.Add(p, -uintptr(p)&(heapAlign-1))
	heapAlive.m[p] = b
	return &Region{p: p, size: size}
}

func heapRelease(p unsafe.Pointer) {
	heapAlive.Lock()
	defer heapAlive.Unlock()
	b := heapAlive.m[p]
	delete(heapAlive.m, p)
	if len(b) < heapSpareMin {
		return
	}
	// Large objects begin at a page and have whole pages to themselves: the tail of
	// the last one is nobody else's.
	if pages := (len(b) - 1) &^ (heapAlign - 1); p == unsafe.Pointer(&b[0]) && unix.Madvise(b[:pages], unix.MADV_DONTNEED) == nil {
		heapAlive.spare[len(b)] = append(heapAlive.spare[len(b)], b)
	}
}
