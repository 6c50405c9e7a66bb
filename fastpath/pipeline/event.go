package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/ring"
	"vrouter/pkg/sal"
)

// CtlOp says what the control side is to do with a packet that a worker hands
// over, or a worker with one that the control side hands back.
type CtlOp uint8

// Worker to control side. The buffer goes along.
const (
	CtlResolve CtlOp = iota // IP packet whose adjacency (arg, Gen) is not usable yet
	CtlARP                  // frame: ARP
	CtlND                   // frame: neighbour discovery
	CtlUsed                 // no packet: a stale adjacency (arg) was used
	CtlRS                   // frame: router solicitation
	CtlLife                 // no packet: something has happened to the SA of a slot (arg)
	CtlSPI                  // no packet: ESP came for an SPI (arg) that no SA has
	CtlPathMTU              // IP packet: ICMP, says that an ESP packet of ours was too big
	CtlPeer                 // no packet: the peer of the SA of a slot (arg) has another address or port
)

// Control side to worker.
const (
	CtlForward CtlOp = iota // IP packet: Forward through adjacency arg, if it has Gen still
	CtlSend                 // frame: Send to interface arg
	CtlReject               // IP packet: Reject, arg is the Reject
	CtlDrop                 // packet: Drop, arg is the drop.Reason
	CtlFree                 // buffer without a packet
)

// CtlMsg is one message between a worker and the control side.
type CtlMsg struct {
	Desc sal.Desc
	Op   CtlOp
	In   IfIndex
	SA   bool // the packet came out of an SA
	// Gen is what the generation of the adjacency in Arg ended with: a message may
	// wait for longer than the adjacency lives, and the handle be another's then.
	Gen AdjTail
	Arg uint32
}

// AdjTail is the last 7 bits of an adjacency's generation.
type AdjTail uint8

// Tail is the end of h's generation.
func (a *AdjTable) Tail(h uint32) AdjTail { return AdjTail(a.Gen(h) & 0x7f) }

// From is the origin of the message's packet.
func (m *CtlMsg) From() Origin {
	if m.SA {
		return FromSomeSA
	}
	return FromIface(m.In)
}

// ctlDepth is how many messages wait in each direction.
const ctlDepth = 1024

// NoBuf is the Desc of a message without a packet.
const NoBuf = ^sal.Desc(0)

// CtlRing carries messages one way between two goroutines.
type CtlRing struct{ r *ring.SPSC }

// NewCtlRing makes a ring.
func NewCtlRing() (CtlRing, error) {
	r, err := ring.New(2 * ctlDepth)
	return CtlRing{r}, err
}

// Put appends a message; false when the ring is full.
func (r CtlRing) Put(m CtlMsg) bool {
	if r.r.Free() < 2 {
		return false
	}
	w := [2]uint64{uint64(m.Desc), uint64(m.Op)<<56 | uint64(m.Gen)<<49 | uint64(m.In)<<32 | uint64(m.Arg)}
	if m.SA {
		w[1] |= 1 << 48
	}
	return r.r.Enqueue(w[:]) == 2
}

// Get takes the oldest message.
func (r CtlRing) Get() (m CtlMsg, ok bool) {
	var w [2]uint64
	if r.r.Dequeue(w[:]) < 2 {
		return m, false
	}
	return CtlMsg{sal.Desc(w[0]), CtlOp(w[1] >> 56), IfIndex(w[1] >> 32), w[1]>>48&1 != 0, AdjTail(w[1] >> 49 & 0x7f), uint32(w[1])}, true
}

// Len is how many messages wait.
func (r CtlRing) Len() int { return r.r.Len() / 2 }

// Close unmaps the ring.
func (r CtlRing) Close() error { return r.r.Close() }

// ctlOut is a worker's two rings.
type ctlOut struct {
	to, from CtlRing
	put      int // messages put this turn
}

func (o *ctlOut) init() (err error) {
	if o.to, err = NewCtlRing(); err != nil {
		return err
	}
	o.from, err = NewCtlRing()
	return err
}

// ToControl hands a packet to the control side. When its ring is full the
// packet is dropped under drop.ControlFull, and the answer is false.
func (c *Ctx) ToControl(d sal.Desc, in IfIndex, op CtlOp, arg uint32) bool {
	return c.message(CtlMsg{Desc: d, Op: op, In: in, Arg: arg})
}

// resolve hands a packet whose next hop has no address to the control side, where
// it waits, as far as asks allows and the ring is not half full: the other half is
// for messages of neighbours.
func (c *Ctx) resolve(d sal.Desc, in IfIndex, from Origin, adj uint32, kind AdjKind) {
	_, through := from.SA()
	share := uint64(max(1, c.Snap.Crew.N))
	switch {
	case kind == AdjGlean && !c.asks.unknown(c.Now, share, c.Pool.Addr(d), in, from.Local()), kind != AdjGlean && !c.asks.known(c.Now, share, adj):
		c.Drop(d, in, drop.NeighLimited)
	case c.ctl.to.Len() >= ctlDepth/2:
		c.Drop(d, in, drop.ControlFull)
	default:
		c.message(CtlMsg{Desc: d, Op: CtlResolve, In: in, SA: through, Gen: c.Env.Adj.Tail(adj), Arg: adj})
	}
}

func (c *Ctx) message(m CtlMsg) bool {
	if !c.ctl.to.Put(m) {
		if m.Desc != NoBuf {
			c.Drop(m.Desc, m.In, drop.ControlFull)
		}
		return false
	}
	c.ctl.put++
	return true
}

// Control is the worker's two rings: to the control side and from it.
func (c *Ctx) Control() (to, from CtlRing) { return c.ctl.to, c.ctl.from }

// TakePut says how many messages ToControl has put since the last call.
func (c *Ctx) TakePut() int {
	n := c.ctl.put
	c.ctl.put = 0
	return n
}
