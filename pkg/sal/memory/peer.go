package memory

import (
	"fmt"

	"vrouter/pkg/sal"
)

// Peer is the far end of a port: what a test or benchmark sends and receives
// by. One goroutine at a time may use it; the port's queues run beside it.
//
// A peer has no pool of its own: it uses the port's buffers, and owns those it
// received until it sends or frees them. It is up from the beginning.
type Peer struct {
	d     *Driver
	e     *end
	cache *sal.Cache
	next  int // queue to receive from first
	tmp   [sal.Burst]sal.Desc
}

// attach makes rings for a port of n queues; d.mu is held.
func (p *Peer) attach(n int) {
	rings := make([]txRing, n)
	p.e.tx.Store(&rings)
}

// detach ends the rings and returns to pool what nobody received; d.mu is held.
func (p *Peer) detach(pool *sal.Pool) int {
	rings := p.e.tx.Swap(nil)
	if rings == nil {
		return 0
	}
	return drain(*rings, pool)
}

// SetLink plugs the cable in or out.
func (p *Peer) SetLink(up bool) { p.e.up.Store(up) }

// Pool is the port's; nil while the port is not open.
func (p *Peer) Pool() *sal.Pool { return p.e.other.pool.Load() }

// Cache is the peer's stock of buffers in the port's pool; nil while the port
// is not open. Close gives them back.
func (p *Peer) Cache() *sal.Cache {
	pool := p.Pool()
	if pool == nil {
		return nil
	}
	if p.cache == nil || p.cache.Pool() != pool {
		p.Close()
		p.cache = pool.NewCache()
	}
	return p.cache
}

// Close gives the peer's free buffers back to the pool; the peer stays usable.
// Call it before buffers are accounted for.
func (p *Peer) Close() {
	if p.cache != nil {
		p.cache.Close()
		p.cache = nil
	}
}

// Send hands frames to the port's queue, which now owns the first n. It takes
// nothing while the port is not open and up.
func (p *Peer) Send(queue int, d []sal.Desc) (n int) {
	rings := p.e.tx.Load()
	if rings == nil || !p.e.other.up.Load() || !p.e.up.Load() {
		return 0
	}
	r := &(*rings)[queue%len(*rings)]
	r.life.Lock()
	if !r.closed {
		n = r.push(d, p.d.depth)
	}
	r.life.Unlock()
	p.e.other.ring(queue % len(*rings))
	return n
}

// Recv takes frames that the port has sent, on any of its queues; they are the
// caller's.
func (p *Peer) Recv(d []sal.Desc) (n int) {
	rings := p.e.other.tx.Load()
	if rings == nil {
		return 0
	}
	for k := 0; k < len(*rings) && n < len(d); k++ {
		n += (*rings)[(p.next+k)%len(*rings)].take(d[n:])
	}
	p.next++
	return n
}

// Inject copies frames (from the Ethernet header on, without FCS) into buffers
// and sends them to queue 0. It says how many were taken.
func (p *Peer) Inject(frames ...[]byte) int { return p.InjectTo(0, frames...) }

// InjectTo sends copies of frames to one of the port's queues.
func (p *Peer) InjectTo(queue int, frames ...[]byte) int {
	c := p.Cache()
	if c == nil {
		return 0
	}
	for i, f := range frames {
		if len(f) > 1<<16-1 {
			panic(fmt.Sprintf("memory: frame of %d bytes", len(f)))
		}
		b, ok := c.AllocFor(len(f))
		if !ok {
			return i
		}
		d := sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
		copy(c.Pool().Bytes(d), f)
		if p.Send(queue, []sal.Desc{d}) == 0 {
			c.Free(b)
			return i
		}
	}
	return len(frames)
}

// Collect takes up to max frames that the port has sent, as copies, and frees
// their buffers. It does not wait.
func (p *Peer) Collect(max int) (frames [][]byte) {
	c := p.Cache()
	if c == nil {
		return nil
	}
	for len(frames) < max {
		n := p.Recv(p.tmp[:min(max-len(frames), len(p.tmp))])
		if n == 0 {
			break
		}
		for _, d := range p.tmp[:n] {
			frames = append(frames, append([]byte(nil), c.Pool().Bytes(d)...))
		}
		c.FreeDescs(p.tmp[:n])
	}
	return frames
}
