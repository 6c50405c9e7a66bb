package sal

import "sync/atomic"

// A Cache is one goroutine's stock of free buffers. It allocates nothing after
// NewCache and takes the pool's lock once for hundreds of buffers, for large
// ones once for a dozen.
type Cache struct {
	pool  *Pool
	first uint32 // the pool's
	n     int
	len   atomic.Int32 // n, for Stats
	buf   [cacheSize]uint32

	nLarge   int
	lenLarge atomic.Int32
	large    [cacheLarge]uint32
}

// NewCache makes a cache. Close gives its buffers back. A cache may hoard up to
// 1024 free buffers, and 32 large ones, that no other cache gets at: give a pool
// that many for each cache, and what is to be in flight on top.
func (p *Pool) NewCache() *Cache {
	c := &Cache{pool: p, first: p.first}
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

// AllocLarge takes one large buffer; false when none is left.
func (c *Cache) AllocLarge() (uint32, bool) {
	if c.nLarge == 0 && !c.refillLarge() {
		return 0, false
	}
	c.nLarge--
	c.lenLarge.Store(int32(c.nLarge))
	return c.large[c.nLarge], true
}

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
		c.freeLarge(b)
		return
	}
	if c.n == cacheSize {
		c.spill(cacheSize / 2)
	}
	c.buf[c.n] = b
	c.n++
	c.len.Store(int32(c.n))
}

// FreeDescs gives the buffers of packets back.
func (c *Cache) FreeDescs(d []Desc) {
	last := c.first - 1
	for len(d) > 0 {
		if c.n == cacheSize {
			c.spill(cacheSize / 2)
		}
		to := c.buf[c.n:]
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
		c.n += k
		d = d[len(from):]
	}
	c.len.Store(int32(c.n))
}

// sortOut takes the large buffers out of a list and says how many are left at
// its beginning.
func (c *Cache) sortOut(b []uint32) (k int) {
	for _, x := range b {
		if x >= c.first {
			c.freeLarge(x)
			continue
		}
		b[k] = x
		k++
	}
	return k
}

func (c *Cache) freeLarge(b uint32) {
	if c.nLarge == cacheLarge {
		c.spillLarge(cacheLarge / 2)
	}
	c.large[c.nLarge] = b
	c.nLarge++
	c.lenLarge.Store(int32(c.nLarge))
}

// Close gives everything back; the cache is used up.
func (c *Cache) Close() {
	c.spill(c.n)
	c.spillLarge(c.nLarge)
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
	m := take(&p.free, c.buf[:cacheSize/2])
	p.mu.Unlock()
	c.n = m
	return m > 0
}

func (c *Cache) refillLarge() bool {
	p := c.pool
	p.mu.Lock()
	m := take(&p.freeLarge, c.large[:cacheLarge/2])
	p.mu.Unlock()
	c.nLarge = m
	return m > 0
}

// take moves buffers from the end of a store to b, as many as there are.
func take(store *[]uint32, b []uint32) int {
	rest := max(len(*store)-len(b), 0)
	n := copy(b, (*store)[rest:])
	*store = (*store)[:rest]
	return n
}

func (c *Cache) spill(m int) {
	p := c.pool
	p.mu.Lock()
	p.free = append(p.free, c.buf[c.n-m:c.n]...)
	p.mu.Unlock()
	c.n -= m
	c.len.Store(int32(c.n))
}

func (c *Cache) spillLarge(m int) {
	p := c.pool
	p.mu.Lock()
	p.freeLarge = append(p.freeLarge, c.large[c.nLarge-m:c.nLarge]...)
	p.mu.Unlock()
	c.nLarge -= m
	c.lenLarge.Store(int32(c.nLarge))
}
