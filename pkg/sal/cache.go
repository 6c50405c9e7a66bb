package sal

import "sync/atomic"

// A Cache is one goroutine's stock of free buffers. It allocates nothing after
// NewCache and takes the pool's lock once for hundreds of buffers, for large
// ones once for a dozen.
type Cache struct {
	pool            *Pool
	first           uint32 // the pool's
	ordinary, large stock
}

// stock is what a cache has of one class.
type stock struct {
	pool *Pool
	n    int
	len  atomic.Int32 // n, for Stats
	buf  []uint32     // room for as many as a cache keeps
	free *[]uint32    // the pool's own of this class
}

// NewCache makes a cache. Close gives its buffers back. A cache may hoard up to
// 1024 free buffers, and 32 large ones, that no other cache gets at: give a pool
// that many for each cache, and what is to be in flight on top.
func (p *Pool) NewCache() *Cache {
	c := &Cache{pool: p, first: p.first, ordinary: stock{pool: p, buf: make([]uint32, cacheSize), free: &p.free},
		large: stock{pool: p, buf: make([]uint32, cacheLarge), free: &p.freeLarge}}
	p.mu.Lock()
	p.caches = append(p.caches, c)
	p.mu.Unlock()
	return c
}

// Pool is where the buffers come from.
func (c *Cache) Pool() *Pool { return c.pool }

// Alloc takes one buffer; false when none is left.
func (c *Cache) Alloc() (uint32, bool) { return c.ordinary.take() }

// AllocBurst takes up to len(b) buffers and says how many.
func (c *Cache) AllocBurst(b []uint32) int {
	s := &c.ordinary
	k := 0
	for k < len(b) {
		if s.n == 0 && !s.refill() {
			break
		}
		m := min(len(b)-k, s.n)
		copy(b[k:k+m], s.buf[s.n-m:s.n])
		s.n -= m
		k += m
	}
	s.len.Store(int32(s.n))
	return k
}

// AllocLarge takes one large buffer; false when none is left.
func (c *Cache) AllocLarge() (uint32, bool) { return c.large.take() }

// AllocFor takes a buffer for a frame of n bytes behind Headroom: an ordinary
// one where that is enough. n is at most 65535.
func (c *Cache) AllocFor(n int) (uint32, bool) {
	if n <= MaxFrame {
		return c.Alloc()
	}
	return c.AllocLarge()
}

// Free gives one buffer back.
func (c *Cache) Free(b uint32) {
	if b >= c.first {
		c.large.put(b)
		return
	}
	c.ordinary.put(b)
}

// FreeDescs gives the buffers of packets back.
func (c *Cache) FreeDescs(d []Desc) {
	last, s := c.first-1, &c.ordinary
	for len(d) > 0 {
		if s.n == len(s.buf) {
			s.spill(s.n / 2)
		}
		to := s.buf[s.n:]
		k := min(len(d), len(to))
		from := d[:k]
		var beyond uint32 // the highest bit, once an index is behind last
		for i, x := range from {
			to[i] = x.Buf()
			beyond |= last - x.Buf()
		}
		if int32(beyond) < 0 { // seldom
			k = c.sortOut(to[:k])
		}
		s.n += k
		d = d[len(from):]
	}
	s.len.Store(int32(s.n))
}

// sortOut takes the large buffers out of a list and says how many are left at
// its beginning.
func (c *Cache) sortOut(b []uint32) (k int) {
	for _, x := range b {
		if x >= c.first {
			c.large.put(x)
			continue
		}
		b[k] = x
		k++
	}
	return k
}

// Close gives everything back; the cache is used up.
func (c *Cache) Close() {
	c.ordinary.spill(c.ordinary.n)
	c.large.spill(c.large.n)
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

func (s *stock) take() (uint32, bool) {
	if s.n == 0 && !s.refill() {
		return 0, false
	}
	s.n--
	s.len.Store(int32(s.n))
	return s.buf[s.n], true
}

func (s *stock) put(b uint32) {
	if s.n == len(s.buf) {
		s.spill(s.n / 2)
	}
	s.buf[s.n] = b
	s.n++
	s.len.Store(int32(s.n))
}

// refill gets as many as half of what a cache keeps; false: there is none.
func (s *stock) refill() bool {
	s.pool.mu.Lock()
	s.n = take(s.free, s.buf[:len(s.buf)/2])
	s.pool.mu.Unlock()
	return s.n > 0
}

// spill gives m back to the pool.
func (s *stock) spill(m int) {
	s.pool.mu.Lock()
	*s.free = append(*s.free, s.buf[s.n-m:s.n]...)
	s.pool.mu.Unlock()
	s.n -= m
	s.len.Store(int32(s.n))
}

// take moves buffers from the end of a store to b, as many as there are.
func take(store *[]uint32, b []uint32) int {
	rest := max(len(*store)-len(b), 0)
	n := copy(b, (*store)[rest:])
	*store = (*store)[:rest]
	return n
}
