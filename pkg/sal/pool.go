package sal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Pool is all packet buffers of a process: one mapped region that the
// collector never sees. Buffers are taken and given back through Caches.
type Pool struct {
	base unsafe.Pointer
	n    int
	mem  []byte // with a page in front of base, see Region

	mu     sync.Mutex
	free   []uint32 // the shared store; caches trade with it half a cache at a time
	caches []*Cache
}

// cacheSize is how many buffers a cache keeps before it gives half back.
const cacheSize = 4 * Burst

// NewPool maps n buffers.
func NewPool(n int) (*Pool, error) {
	if n <= 0 || n > 1<<22 {
		return nil, fmt.Errorf("pool of %d buffers: %w", n, ErrInvalid)
	}
	front := unix.Getpagesize()
	m, err := unix.Mmap(-1, 0, front+n*BufSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping %d packet buffers: %w", n, err)
	}
	// Packets may hold what a tunnel protects: never in a core file.
	_ = unix.Madvise(m, unix.MADV_DONTDUMP)
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE)
	p := &Pool{base: unsafe.Pointer(&m[front]), n: n, mem: m, free: make([]uint32, n)}
	for i := range p.free {
		p.free[i] = uint32(n - 1 - i)
	}
	return p, nil
}

// Close unmaps the pool. Nobody may hold a buffer any more.
func (p *Pool) Close() error { return unix.Munmap(p.mem) }

// Base is the address of buffer 0.
func (p *Pool) Base() uintptr { return uintptr(p.base) }

// Region is the whole mapping: the buffers, one behind the other, behind a page
// of nothing. AF_XDP counts on 256 bytes in front of each frame, more than
// Headroom, and for buffer 0 too they must be part of what the kernel was
// told; nobody writes there.
func (p *Pool) Region() []byte { return p.mem }

// Size is the number of buffers.
func (p *Pool) Size() int { return p.n }

// PoolStats accounts for every buffer: Total = Free + Cached + in use.
type PoolStats struct{ Total, Free, Cached int }

// Stats counts the buffers; exact while no worker runs, else a close guess.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PoolStats{Total: p.n, Free: len(p.free)}
	for _, c := range p.caches {
		s.Cached += int(c.len.Load())
	}
	return s
}

// Return gives buffers back straight to the shared store, under the pool's
// lock: for those who hold buffers but no cache (a port that closes, another
// pool's port). Any goroutine may call it.
func (p *Pool) Return(d []Desc) {
	p.mu.Lock()
	for _, x := range d {
		p.free = append(p.free, x.Buf())
	}
	p.mu.Unlock()
}

// Take is the opposite of Return: up to len(b) buffers, for those who have no
// cache. It says how many.
func (p *Pool) Take(b []uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(b), len(p.free))
	copy(b, p.free[len(p.free)-n:])
	p.free = p.free[:len(p.free)-n]
	return n
}

// A Cache is one goroutine's stock of free buffers. It allocates nothing after
// NewCache and takes the pool's lock once for hundreds of buffers.
type Cache struct {
	pool *Pool
	n    int
	len  atomic.Int32 // n, for Stats
	buf  [cacheSize]uint32
}

// NewCache makes a cache. Close gives its buffers back. A cache may hoard up to
// 1024 free buffers that no other cache gets at: give a pool that many for each
// cache, and what is to be in flight on top.
func (p *Pool) NewCache() *Cache {
	c := &Cache{pool: p}
	p.mu.Lock()
	p.caches = append(p.caches, c)
	p.mu.Unlock()
	return c
}

// Pool is where the buffers come from.
func (c *Cache) Pool() *Pool { return c.pool }

// Alloc takes one buffer; false when none is left.
func (c *Cache) Alloc() (uint32, bool) {
	if c.n == 0 && !c.refill() {
		return 0, false
	}
	c.n--
	c.len.Store(int32(c.n))
	return c.buf[c.n], true
}

// AllocBurst takes up to len(b) buffers and says how many.
func (c *Cache) AllocBurst(b []uint32) int {
	k := 0
	for k < len(b) {
		if c.n == 0 && !c.refill() {
			break
		}
		m := min(len(b)-k, c.n)
		copy(b[k:k+m], c.buf[c.n-m:c.n])
		c.n -= m
		k += m
	}
	c.len.Store(int32(c.n))
	return k
}

// Free gives one buffer back.
func (c *Cache) Free(b uint32) {
	if c.n == cacheSize {
		c.spill(cacheSize / 2)
	}
	c.buf[c.n] = b
	c.n++
	c.len.Store(int32(c.n))
}

// FreeDescs gives the buffers of packets back.
func (c *Cache) FreeDescs(d []Desc) {
	for len(d) > 0 {
		if c.n == cacheSize {
			c.spill(cacheSize / 2)
		}
		to := c.buf[c.n:]
		k := min(len(d), len(to))
		from := d[:k]
		for i, x := range from {
			to[i] = x.Buf()
		}
		c.n += k
		d = d[k:]
	}
	c.len.Store(int32(c.n))
}

// Close gives everything back; the cache is used up.
func (c *Cache) Close() {
	c.spill(c.n)
	p := c.pool
	p.mu.Lock()
	for i, x := range p.caches {
		if x == c {
			p.caches = append(p.caches[:i], p.caches[i+1:]...)
			break
		}
	}
	p.mu.Unlock()
}

func (c *Cache) refill() bool {
	p := c.pool
	p.mu.Lock()
	m := min(len(p.free), cacheSize/2)
	copy(c.buf[:m], p.free[len(p.free)-m:])
	p.free = p.free[:len(p.free)-m]
	p.mu.Unlock()
	c.n = m
	return m > 0
}

func (c *Cache) spill(m int) {
	p := c.pool
	p.mu.Lock()
	p.free = append(p.free, c.buf[c.n-m:c.n]...)
	p.mu.Unlock()
	c.n -= m
	c.len.Store(int32(c.n))
}
