//go:build race

package mem

import (
	"sync"
	"unsafe"
)

// The race detector knows the Go heap only: two workers that write the same
// mapped word would go unreported, and an atomic store to one would not count
// as publishing what was written before it. So race builds take regions from
// the heap, up to a size that the collector's pacing bears; larger ones are
// mapped as always.
const heapLimit = 256 << 20

// heapAlive keeps regions from the collector, which cannot see addresses that
// are kept as numbers.
var heapAlive struct {
	sync.Mutex
	m map[unsafe.Pointer][]byte
}

func heapRegion(size int) *Region {
	if size > heapLimit {
		return nil
	}
	const align = 4096
	b := make([]byte, size+align)
	p := unsafe.Pointer(&b[0])
	p = unsafe.Add(p, -uintptr(p)&(align-1))
	heapAlive.Lock()
	defer heapAlive.Unlock()
	if heapAlive.m == nil {
		heapAlive.m = map[unsafe.Pointer][]byte{}
	}
	heapAlive.m[p] = b
	return &Region{p: p, size: size}
}

func heapRelease(p unsafe.Pointer) {
	heapAlive.Lock()
	defer heapAlive.Unlock()
	delete(heapAlive.m, p)
}
