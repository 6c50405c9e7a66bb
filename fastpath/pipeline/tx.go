package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// txRoom is how many frames wait for the end of a burst at most.
const txRoom = 2 * Burst

// TxList is frames on their way out. They leave at the latest at the end of the
// burst, together for each interface, in order.
type TxList struct {
	N int
	// group: a frame may be to a multicast or broadcast address. Forwarded
	// packets never are.
	group bool
	Desc  [txRoom]sal.Desc
	Way   [txRoom]uint32 // interface out in the lower half, in in the upper
	next  [txRoom]uint16
	run   [Burst]sal.Desc
	ways  [Burst]uint32
	head  [MaxIfaces]uint16 // first frame of an interface, +1
	tail  [MaxIfaces]uint16
}

// Add appends a frame.
func (t *TxList) Add(c *Ctx, frame sal.Desc, out, in IfIndex) {
	if t.N == txRoom {
		c.FlushTx()
	}
	t.Desc[t.N] = frame
	t.Way[t.N] = uint32(out) | uint32(in)<<16
	t.N++
}

// FlushTx hands all frames to their ports. What a port does not take is
// dropped under a name: waiting would hold up every other interface.
func (c *Ctx) FlushTx() {
	t := &c.Tx
	n := t.N
	if n == 0 {
		return
	}
	t.N = 0
	way, desc := t.Way[:n], t.Desc[:n]
	out := uint16(way[0])
	var differ uint16
	var octets uint64
	for i, w := range way {
		differ |= uint16(w) ^ out
		octets += uint64(desc[i] >> 48)
	}
	if differ == 0 { // one way out, the usual case: the list is the burst
		for k := 0; k < n; k += Burst {
			m := min(n, k+Burst)
			c.transmit(out, desc[k:m], way[k:m], octets)
			octets = 0
		}
	} else {
		c.flushMany(n)
	}
	t.group = false
}

// flushMany chains the frames of each interface and sends chain by chain.
func (c *Ctx) flushMany(n int) {
	t := &c.Tx
	var outs [txRoom]IfIndex
	m := 0
	for i := range t.Way[:n] {
		o := uint16(t.Way[i]) & (MaxIfaces - 1)
		t.next[i] = 0
		if t.head[o] == 0 {
			outs[m] = o
			m++
			t.head[o] = uint16(i) + 1
		} else {
			t.next[t.tail[o]] = uint16(i) + 1
		}
		t.tail[o] = uint16(i)
	}
	for _, o := range outs[:m] {
		k, octets := 0, uint64(0)
		for i := t.head[o]; i != 0; i = t.next[i-1] {
			t.run[k], t.ways[k] = t.Desc[i-1], t.Way[i-1]
			octets += uint64(t.Desc[i-1].Len())
			if k++; k == Burst {
				c.transmit(o, t.run[:k], t.ways[:k], octets)
				k, octets = 0, 0
			}
		}
		t.head[o] = 0
		if k > 0 {
			c.transmit(o, t.run[:k], t.ways[:k], octets)
		}
	}
}

// transmit sends frames out of one interface and counts them. octets is what is
// to be counted for them.
func (c *Ctx) transmit(out IfIndex, d []sal.Desc, way []uint32, octets uint64) {
	cnt := c.ifs.Count.At(uint32(out & (MaxIfaces - 1)))
	q := c.ports[out&(MaxIfaces-1)]
	if q == nil {
		c.handOver(out, d, way)
		return
	}
	if c.Tx.group {
		c.countGroup(cnt, d)
	}
	n := q.TxBurst(c.Cache, d)
	if n < len(d) {
		for _, x := range d[n:] {
			octets -= uint64(x.Len())
		}
		Add(&cnt.TxDiscards, uint64(len(d)-n))
		c.dropTx(d[n:], way[n:], drop.TxFull)
	}
	Add(&cnt.TxPackets, uint64(n))
	Add(&cnt.TxOctets, octets)
}

// countGroup counts multicasts and broadcasts, before the port has the frames.
func (c *Ctx) countGroup(cnt *IfCount, d []sal.Desc) {
	for _, x := range d {
		switch w := mem.Load64(mem.At(c.Pool.Addr(x)), 0); {
		case w&0xffff_ffff_ffff == 0xffff_ffff_ffff:
			Add(&cnt.TxBroadcast, 1)
		case w&1 != 0:
			Add(&cnt.TxMulticast, 1)
		}
	}
}

func (c *Ctx) dropTx(d []sal.Desc, way []uint32, r drop.Reason) {
	for i, x := range d {
		c.Drop(x, IfIndex(way[i]>>16), r)
	}
}
