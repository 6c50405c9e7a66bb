package sal

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Pool is all packet buffers of a process: one mapped region that the
// collector never sees. Buffers are taken and given back through Caches.
//
// There are two classes, told apart by the index. Ordinary buffers, BufSize
// bytes each, hold frames up to MaxFrame. Large ones, behind them in the same
// region, hold whatever is longer, a jumbo frame or a reassembled datagram. A
// large buffer has the index of its first stride, so that an address follows from
// index and offset for both alike. It costs memory as far as it was once written.
type Pool struct {
	base  unsafe.Pointer
	n     int    // ordinary buffers
	first uint32 // index of the first large buffer; no ordinary one is at or above it
	large int    // large buffers
	mem   []byte // with a page in front of base, see Region

	mu        sync.Mutex
	free      []uint32 // the shared store; caches trade with it half a cache at a time
	freeLarge []uint32
	caches    []*Cache
}

// cacheSize is how many buffers a cache keeps before it gives half back.
const cacheSize = 4 * Burst

// cacheLarge is how many large buffers a cache keeps before it gives half back.
const cacheLarge = 32

// NewPool maps n ordinary buffers and no large ones.
func NewPool(n int) (*Pool, error) { return NewPoolLarge(n, 0) }

// NewPoolLarge maps n ordinary and large large buffers. The latter lie on small
// pages, touched when they are first used.
func NewPoolLarge(n, large int) (*Pool, error) {
	if n <= 0 || n > 1<<22 || large < 0 || large > 1<<16 {
		return nil, fmt.Errorf("pool of %d buffers and %d large ones: %w", n, large, ErrInvalid)
	}
	front := unix.Getpagesize()
	// BufSize times a page is a whole number of pages: there the other kind of
	// page may begin.
	first := (n + front - 1) / front * front
	ordinary, size := front+n*BufSize, front+n*BufSize
	if large > 0 {
		ordinary, size = front+first*BufSize, front+first*BufSize+large*LargeSize
	}
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping %d packet buffers and %d large ones: %w", n, large, err)
	}
	// Packets may hold what a tunnel protects: never in a core file.
	_ = unix.Madvise(m, unix.MADV_DONTDUMP)
	_ = unix.Madvise(m[:ordinary], unix.MADV_HUGEPAGE)
	if large > 0 {
		_ = unix.Madvise(m[ordinary:], unix.MADV_NOHUGEPAGE)
	}
	p := &Pool{base: unsafe.Pointer(&m[front]), n: n, first: uint32(first), large: large, mem: m, free: make([]uint32, n), freeLarge: make([]uint32, large)}
	for i := range p.free {
		p.free[i] = uint32(n - 1 - i)
	}
	for i := range p.freeLarge {
		p.freeLarge[i] = p.first + uint32(large-1-i)*largeStrides
	}
	return p, nil
}

// Close unmaps the pool. Nobody may hold a buffer any more.
func (p *Pool) Close() error { return unix.Munmap(p.mem) }

// Base is the address of buffer 0.
func (p *Pool) Base() uintptr { return uintptr(p.base) }

// Region is the ordinary buffers, one behind the other, behind a page of
// nothing. AF_XDP counts on 256 bytes in front of each frame, more than
// Headroom, and for buffer 0 too they must be part of what the kernel was
// told; nobody writes there. Large buffers are not in it: the kernel would give
// each of them all its pages.
func (p *Pool) Region() []byte { return p.mem[:unix.Getpagesize()+p.n*BufSize] }

// Size is the number of ordinary buffers: their indices are below it.
func (p *Pool) Size() int { return p.n }

// IsLarge tells the class of a buffer.
func (p *Pool) IsLarge(b uint32) bool { return b >= p.first }

// End is where buffer b ends, in bytes from its start; 0 when there is no such
// buffer.
func (p *Pool) End(b uint32) int {
	switch k := b - p.first; {
	case b < uint32(p.n):
		return BufSize
	case b >= p.first && k%largeStrides == 0 && int(k/largeStrides) < p.large:
		return LargeSize
	}
	return 0
}

// PoolStats accounts for every buffer, of both classes together: Total = Free +
// Cached + in use. Large is those of them that are large.
type PoolStats struct {
	Total, Free, Cached int
	Large               ClassStats
}

// ClassStats accounts for the buffers of one class, as PoolStats does.
type ClassStats struct{ Total, Free, Cached int }

// Stats counts the buffers; exact while no worker runs, else a close guess.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := ClassStats{Total: p.large, Free: len(p.freeLarge)}
	s := PoolStats{Total: p.n + l.Total, Free: len(p.free) + l.Free}
	for _, c := range p.caches {
		k := int(c.large.len.Load())
		l.Cached += k
		s.Cached += int(c.ordinary.len.Load()) + k
	}
	s.Large = l
	return s
}

// Return gives buffers back straight to the shared store, under the pool's
// lock: for those who hold buffers but no cache (a port that closes, another
// pool's port). Any goroutine may call it.
func (p *Pool) Return(d []Desc) {
	p.mu.Lock()
	for _, x := range d {
		if b := x.Buf(); p.IsLarge(b) {
			p.freeLarge = append(p.freeLarge, b)
		} else {
			p.free = append(p.free, b)
		}
	}
	p.mu.Unlock()
}

// Take is the opposite of Return: up to len(b) ordinary buffers, for those who
// have no cache. It says how many.
func (p *Pool) Take(b []uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return take(&p.free, b)
}
