package afxdp

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages tells for each page of the packet buffers whether the next one follows
// it in physical memory too. A zero-copy device takes no frame that lies on
// pages which do not, and the kernel throws such a buffer away without a word.
// nil is for copy mode, where it does not matter.
type pages struct {
	shift  uint
	breaks []uint64 // bit i: page i+1 lies elsewhere
}

// split tells whether n bytes at an address of the region cross a break.
func (p *pages) split(at uint64, n uint32) bool {
	if p == nil {
		return false
	}
	for i, last := at>>p.shift, (at+uint64(n)-1)>>p.shift; i < last; i++ {
		if p.breaks[i/64]>>(i%64)&1 != 0 {
			return true
		}
	}
	return false
}

// pagemap has an entry of 8 bytes for each page (proc(5)): bit 63 present, bits
// 0 to 54 the frame's number, 0 for those without CAP_SYS_ADMIN.
const (
	present   = 1 << 63
	frameMask = 1<<55 - 1
)

// lookAt asks where the pages of a region lie. They must be pinned: as packet
// buffers registered with a socket are.
func lookAt(region []byte) (*pages, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := unix.Getpagesize()
	n := (len(region) + size - 1) / size
	raw := make([]byte, 8*n)
	if _, err := f.ReadAt(raw, int64(uintptr(unsafe.Pointer(&region[0]))/uintptr(size))*8); err != nil && err != io.EOF {
		return nil, err
	}
	frames := make([]uint64, n)
	for i := range frames {
		e := binary.NativeEndian.Uint64(raw[8*i:])
		if e&present == 0 || e&frameMask == 0 {
			return nil, fmt.Errorf("the kernel does not say where the packet buffers lie (CAP_SYS_ADMIN is needed)")
		}
		frames[i] = e & frameMask
	}
	return newPages(frames, size), nil
}

// newPages is for pages in these frames.
func newPages(frames []uint64, size int) *pages {
	p := &pages{breaks: make([]uint64, len(frames)/64+1)}
	for size>>p.shift > 1 {
		p.shift++
	}
	for i := 1; i < len(frames); i++ {
		if frames[i] != frames[i-1]+1 {
			p.breaks[(i-1)/64] |= 1 << ((i - 1) % 64)
		}
	}
	return p
}
