package memory

import (
	"hash/fnv"
	"sync/atomic"

	"vrouter/pkg/sal"
)

const maxQueues = 64

// port is one end of a wire in the hands of the fast path.
type port struct {
	d    *Driver
	e    *end
	cfg  sal.PortConfig
	pool *sal.Pool

	tx     []txRing // queue i sends into ring i
	wakes  []waker  // wakes[i] is queue i's
	queues []queue

	rxDropped, txDropped, rxErrors atomic.Uint64
}

func newPort(d *Driver, e *end, cfg sal.PortConfig, pool *sal.Pool) *port {
	if cfg.MAC == ([6]byte{}) {
		cfg.MAC = ownMAC(e.name)
	}
	p := &port{d: d, e: e, cfg: cfg, pool: pool}
	p.tx = make([]txRing, cfg.Queues)
	p.wakes = make([]waker, cfg.Queues)
	p.queues = make([]queue, cfg.Queues)
	for i := range p.queues {
		p.queues[i] = queue{p: p, i: i}
	}
	return p
}

// ownMAC is a locally administered address that depends on the name alone, so
// that it is the same after a restart.
func ownMAC(name string) (m [6]byte) {
	h := fnv.New64a()
	h.Write([]byte(name))
	h.Sum(nil)
	s := h.Sum64()
	for i := range m {
		m[i] = byte(s >> (8 * i))
	}
	m[0] = m[0]&^1 | 2
	return m
}

func (p *port) Info() sal.PortInfo {
	return sal.PortInfo{Name: p.cfg.Name, Driver: "memory", Device: p.e.name, Queues: p.cfg.Queues, MAC: p.cfg.MAC}
}

func (p *port) Queue(i int) sal.PortQueue { return &p.queues[i] }

// Link tells whether this end and the other are held and up.
func (p *port) Link() bool { return p.e.up.Load() && p.e.other.up.Load() }

func (p *port) SetUp(up bool) error { p.e.up.Store(up); return nil }

func (p *port) Stats() sal.PortStats {
	return sal.PortStats{RxDropped: p.rxDropped.Load(), TxDropped: p.txDropped.Load(), RxErrors: p.rxErrors.Load()}
}

// Close frees the end of the wire. Frames sent and not yet received are lost;
// frames from a peer that nobody has received go back to the pool as well.
func (p *port) Close() error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.e.port != p {
		return nil
	}
	p.e.up.Store(false)
	p.e.tx.Store(nil)
	p.e.wakes.Store(nil)
	p.e.pool.Store(nil)
	p.e.port = nil
	p.txDropped.Add(uint64(drain(p.tx, p.pool)))
	if peer := p.e.other.peer; peer != nil {
		p.rxDropped.Add(uint64(peer.detach(p.pool)))
	}
	for i := range p.wakes {
		p.wakes[i].close()
	}
	return nil
}

// queue is one goroutine's part of a port.
type queue struct {
	p *port
	i int
	_ [64 - 16]byte
}

// RxBurst takes what the other end sent; with several queues, queue j reads
// the rings i of the other end where i mod Queues = j.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) int {
	p := q.p
	from := p.e.other.tx.Load()
	if from == nil {
		return 0
	}
	n := 0
	for i := q.i; i < len(*from) && n < len(d); i += len(p.queues) {
		n += (*from)[i].take(d[n:])
	}
	if n == 0 {
		p.wakes[q.i].idle(func() bool { return q.waiting(*from) })
		return 0
	}
	p.wakes[q.i].empty = 0
	if pool := p.e.other.pool.Load(); pool != nil && pool != p.pool {
		n = q.move(pool, c, d[:n])
	}
	if !p.e.up.Load() {
		p.rxDropped.Add(uint64(n))
		c.FreeDescs(d[:n])
		return 0
	}
	return n
}

// waiting tells whether a frame is there to be received.
func (q *queue) waiting(from []txRing) bool {
	for i := q.i; i < len(from); i += len(q.p.queues) {
		if !from[i].empty() {
			return true
		}
	}
	return false
}

// move copies frames of another pool into own buffers and gives the others
// back. Without a free buffer the rest is lost and counted.
func (q *queue) move(from *sal.Pool, c *sal.Cache, d []sal.Desc) int {
	n := 0
	for _, x := range d {
		b, ok := c.AllocFor(int(x.Len()))
		if !ok {
			break
		}
		y := sal.MakeDesc(b, sal.Headroom, x.Len())
		copy(q.p.pool.Bytes(y), from.Bytes(x))
		from.Return([]sal.Desc{x})
		d[n] = y
		n++
	}
	if n < len(d) {
		from.Return(d[n:])
		q.p.rxDropped.Add(uint64(len(d) - n))
	}
	return n
}

// TxBurst sends. Where nobody holds the other end, or either end is down, the
// frames are gone: counted and freed.
func (q *queue) TxBurst(c *sal.Cache, d []sal.Desc) int {
	if len(d) == 0 {
		return 0
	}
	p := q.p
	if !p.Link() {
		p.txDropped.Add(uint64(len(d)))
		c.FreeDescs(d)
		return len(d)
	}
	n := p.tx[q.i].push(d, p.d.depth)
	p.e.other.ring(q.i)
	return n
}

func (q *queue) Wake() int { return q.p.wakes[q.i].fd() }

// RingAt implements sal.Ringer. Frames may wait already, so it rings.
func (q *queue) RingAt(b *sal.Bell) {
	q.p.wakes[q.i].bell.Store(b)
	if b != nil {
		b.Ring()
	}
}

// Held counts what this queue sent and nobody received yet, and what a peer
// sent to it (another port counts its own).
func (q *queue) Held() int {
	n := q.p.tx[q.i].len()
	other := q.p.e.other
	if from := other.tx.Load(); from != nil && other.pool.Load() == nil {
		for i := q.i; i < len(*from); i += len(q.p.queues) {
			n += (*from)[i].len()
		}
	}
	return n
}
