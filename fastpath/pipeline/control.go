package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/sal"
)

// Control is how the control side handles packets: it has its own buffers and
// counters, and sends through a worker. Under the engine's lock only.
type Control struct {
	pool  *sal.Pool
	cache *sal.Cache
	adj   *AdjTable
	ifs   *IfTables
	to    []CtlRing
	live  int // workers at work
	kick  func(worker int)
}

// NewControl makes it; kick wakes a worker that sleeps.
func NewControl(pool *sal.Pool, adj *AdjTable, kick func(worker int)) (*Control, error) {
	ifs, err := NewIfTables()
	if err != nil {
		return nil, err
	}
	return &Control{pool: pool, adj: adj, cache: pool.NewCache(), ifs: ifs, kick: kick}, nil
}

// SetWorkers says how many workers are at work: what is meant for another goes
// through the first.
func (c *Control) SetWorkers(n int) { c.live = n }

// AddWorker tells of a worker's ring.
func (c *Control) AddWorker(to CtlRing) { c.to = append(c.to, to) }

// Ifs are the control side's counters by interface.
func (c *Control) Ifs() *IfTables { return c.ifs }

// Frame takes a buffer and gives its bytes, from where a frame begins.
func (c *Control) Frame() (sal.Desc, []byte, bool) {
	b, ok := c.cache.Alloc()
	if !ok {
		return 0, nil, false
	}
	d := sal.MakeDesc(b, sal.Headroom, 0)
	return d, c.Room(d), true
}

// Room is all bytes from a packet's first one to where a frame may end.
func (c *Control) Room(d sal.Desc) []byte {
	b := c.pool.Bytes(d)
	return b[:cap(b)-sal.Tailroom]
}

// Bytes is the packet.
func (c *Control) Bytes(d sal.Desc) []byte { return c.pool.Bytes(d) }

// Drop ends a packet: counted under r where it came in.
func (c *Control) Drop(d sal.Desc, in IfIndex, r drop.Reason) {
	Add(&c.ifs.Drop.At(uint32(in & (MaxIfaces - 1)))[r], 1)
	c.cache.Free(d.Buf())
}

// Free gives a buffer back without counting.
func (c *Control) Free(d sal.Desc) { c.cache.Free(d.Buf()) }

// Send sends the first n bytes of a frame out of an interface. What cannot be
// handed over is given up silently: it was our own, and its timer asks again.
func (c *Control) Send(frame sal.Desc, n int, out IfIndex) {
	if n == 0 || !c.put(0, CtlMsg{Desc: sal.MakeDesc(frame.Buf(), frame.Off(), uint16(n)), Op: CtlSend, In: out, Arg: uint32(out)}) {
		c.Free(frame)
	}
}

// Forward lets a worker forward the IP packet of a message through an adjacency. If
// that is no more, or has changed, when the worker comes to it, the packet is dropped.
func (c *Control) Forward(worker int, m CtlMsg, adj uint32) {
	m.Op, m.Gen, m.Arg = CtlForward, c.adj.Tail(adj), adj
	if !c.put(worker, m) {
		c.Drop(m.Desc, m.In, drop.ControlFull)
	}
}

// Reject lets a worker drop the IP packet of a message and tell its sender.
func (c *Control) Reject(worker int, m CtlMsg, r Reject) {
	m.Op, m.Arg = CtlReject, uint32(r)
	if !c.put(worker, m) {
		c.Drop(m.Desc, m.In, r.Reason())
	}
}

func (c *Control) put(worker int, m CtlMsg) bool {
	if worker >= c.live {
		worker = 0
	}
	if worker >= len(c.to) || !c.to[worker].Put(m) {
		return false
	}
	c.kick(worker)
	return true
}

// Close gives the buffers and counters back.
func (c *Control) Close() error {
	c.cache.Close()
	return c.ifs.Close()
}
