package pipeline

import (
	"fmt"
	"sync/atomic"

	"vrouter/fastpath/drop"
	"vrouter/pkg/mem"
	"vrouter/pkg/ring"
	"vrouter/pkg/sal"
)

// MaxWorkers bounds how many workers there can be.
const MaxWorkers = 64

// Spreading says who works on what a queue of a port receives.
type Spreading uint8

// The ways.
const (
	// SpreadAuto spreads by software what ports receive that have fewer queues
	// than there are workers.
	SpreadAuto Spreading = iota
	// SpreadSoftware spreads by software what any port receives.
	SpreadSoftware
	// SpreadQueues leaves it to the ports: who polls a queue works on it.
	SpreadQueues
)

// Crew is who works: a part of the Snapshot, so that all workers agree. Queue q
// of a port is received by worker q mod N, and worker i sends into queue i, where
// the port has that many; else through a worker that has a queue there. So a
// queue is never in two hands, and a changed N moves queues only while Paused.
type Crew struct {
	N      int  // the workers at work are those below N
	Made   int  // how many there are, at work or not: rings join these
	Paused bool // nobody receives from ports
	Shared bool // more than one may be at work on the same SAs
	Spread Spreading
}

// Spreads tells whether what a port receives is spread by software.
func (k *Crew) Spreads(f *Iface) bool {
	switch k.Spread {
	case SpreadSoftware:
		return k.N > 1
	case SpreadAuto:
		return f.Receive < k.N
	}
	return false
}

// owner is through whom worker i sends to a port, i itself where it has a queue.
func (k *Crew) owner(i int, f *Iface) int {
	if n := min(k.N, f.Queues); i >= n {
		return i % n
	}
	return i
}

// Queue is the port's queue that worker i sends into; nil: it has none.
func (k *Crew) Queue(i int, f *Iface) sal.PortQueue {
	if f.Port == nil || k.owner(i, f) != i {
		return nil
	}
	return f.Port.Queue(i)
}

// HandoffDepth is how many packets wait for a worker from another one at most,
// received ones and those to send each: some bursts, for while the worker has no
// processor.
const HandoffDepth = 4096

// Handoff carries packets from one worker to another: what the first has
// received and the other works on, and what the first has to send and the other
// has a queue for. Each goes in order, and nobody waits: what finds no room is
// dropped under drop.HandoffFull.
type Handoff struct {
	rx, tx *ring.SPSC // a descriptor, and interfaces as in TxList.Way
	wake   func()
}

func newHandoff(wake func()) (*Handoff, error) {
	rx, err := ring.New(2 * HandoffDepth)
	if err != nil {
		return nil, fmt.Errorf("hand-off: %w", err)
	}
	tx, err := ring.New(2 * HandoffDepth)
	if err != nil {
		_ = rx.Close()
		return nil, fmt.Errorf("hand-off: %w", err)
	}
	return &Handoff{rx, tx, wake}, nil
}

// Give hands over received frames, pairs of a descriptor and the interface they
// came in on, and says how many words were taken: whole pairs.
func (h *Handoff) Give(pairs []uint64) int { return put(h.rx, h.wake, pairs) }

// Take gives what was handed over by Give.
func (h *Handoff) Take(pairs []uint64) int { return h.rx.Dequeue(pairs) }

func put(r *ring.SPSC, wake func(), pairs []uint64) int {
	n := min(len(pairs), r.Free()) // both even
	if n > 0 {
		r.Enqueue(pairs[:n])
		wake()
	}
	return n
}

// Len is how many packets are under way.
func (h *Handoff) Len() int { return (h.rx.Len() + h.tx.Len()) / 2 }

// Mesh is the hand-offs between all workers: made by the control side before a
// Crew is published that needs them.
type Mesh struct {
	n int
	h [MaxWorkers * MaxWorkers]*Handoff // from * MaxWorkers + to
}

// Join makes the hand-offs between worker i and those below it, n = 0 to i
// having been joined before. wakes wake them.
func (m *Mesh) Join(i int, wakes []func()) (err error) {
	for k := range i {
		for _, p := range [2][2]int{{i, k}, {k, i}} {
			if h := &m.h[p[0]*MaxWorkers+p[1]]; *h == nil {
				if *h, err = newHandoff(wakes[p[1]]); err != nil {
					return err
				}
			}
		}
	}
	m.n = max(m.n, i+1)
	return nil
}

// At is the hand-off from one worker to another; nil when they are the same.
func (m *Mesh) At(from, to int) *Handoff { return m.h[from*MaxWorkers+to] }

// Len is how many packets are under way between workers, and only those from or
// to worker i, unless that is below 0.
func (m *Mesh) Len(i int) (n int) {
	for from := range m.n {
		for to := range m.n {
			if h := m.At(from, to); h != nil && (i < 0 || from == i || to == i) {
				n += h.Len()
			}
		}
	}
	return n
}

// Close drops what is under way and unmaps the rings; no worker may be running.
func (m *Mesh) Close(c *Control) error {
	var pair [2]uint64
	for x, h := range m.h {
		if h == nil {
			continue
		}
		for _, r := range [2]*ring.SPSC{h.rx, h.tx} {
			for r.Dequeue(pair[:]) == 2 {
				in := IfIndex(pair[1])
				if r == h.tx {
					in = IfIndex(pair[1] >> 16)
				}
				c.Drop(sal.Desc(pair[0]), in, drop.Shutdown)
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
		m.h[x] = nil
	}
	return nil
}

// handTx is what a worker has at hand to hand over frames to send.
type handTx struct {
	out, in [2 * Burst]uint64
	sent    uint64
}

// handOver lets another worker send frames out of an interface where this one
// has no queue.
func (c *Ctx) handOver(out IfIndex, d []sal.Desc, way []uint32) {
	f := c.Snap.Ifaces.At(out)
	if f == nil || f.Port == nil || c.Snap.Crew.owner(c.Worker, f) == c.Worker {
		c.discard(out, d, way, drop.TxNoPort)
		return
	}
	h := c.Env.Mesh.At(c.Worker, c.Snap.Crew.owner(c.Worker, f))
	for k, x := range d {
		c.hand.out[2*k&(2*Burst-1)] = uint64(x)
		c.hand.out[(2*k+1)&(2*Burst-1)] = uint64(way[k])
	}
	n := put(h.tx, h.wake, c.hand.out[:2*len(d)]) / 2
	Add(&c.hand.sent, uint64(n))
	if n < len(d) {
		c.discard(out, d[n:], way[n:], drop.HandoffFull)
	}
}

// HandedTx is how many frames the worker has handed over to be sent; any
// goroutine.
func (c *Ctx) HandedTx() uint64 { return atomic.LoadUint64(&c.hand.sent) }

// SendHanded sends what another worker has handed over, up to a burst, and says
// how many frames that were.
func (c *Ctx) SendHanded(h *Handoff) int {
	pairs := &c.hand.in
	n := h.tx.Dequeue(pairs[:])
	for k := 0; k < n; k += 2 {
		frame, way := sal.Desc(pairs[k]), pairs[k+1]
		c.Tx.Add(c, frame, IfIndex(way), IfIndex(way>>16))
		c.Tx.group = c.Tx.group || mem.Load8(mem.At(c.Pool.Addr(frame)), 0)&1 != 0
	}
	return n / 2
}

func (c *Ctx) discard(out IfIndex, d []sal.Desc, way []uint32, why drop.Reason) {
	Add(&c.ifs.Count.At(uint32(out&(MaxIfaces-1))).TxDiscards, uint64(len(d)))
	c.dropTx(d, way, why)
}
