package worker

import (
	"sync/atomic"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// A packet's life, in the order of the functions below:
//
//	turn      each port's burst, what engines, other workers and the control side bring, send
//	receive   port → descriptors, addresses, lengths; counted on the interface
//	split     by family; what is neither goes to odd.go
//	family    parse, look up, forward (forward.go), the rest (slow.go)
//	parse     check headers, extract keys, hash: assembly over the burst
//	lookup    bucket → tag → entry, each step fetching what the next one reads
//	settle    ICMP errors, packets that go round, transmit
//
// Nothing here or below allocates, locks or calls an interface for a packet.

// Turn runs the loop once and says how many packets and messages it met.
func (w *Worker) Turn() (work int) {
	w.begin()
	work = w.fromControl()
	for i := range w.peers {
		work += w.fromPeer(&w.peers[i])
	}
	for i := range w.polled() {
		work += w.receive(&w.ports[i])
	}
	work += w.pollCold()
	for _, p := range w.order.Pollers {
		if n := p.Poll(w.ctx); n > 0 {
			work += n
			w.settle()
		}
	}
	w.end()
	w.met = work > 0
	if w.leaving {
		w.calm(work)
	}
	return work
}

// begin looks at the clock and at what was published. The generation is read
// before everything that it guards: a flow decided by old tables then carries
// the old number.
func (w *Worker) begin() {
	c := w.ctx
	w.grace.Quiesce()
	now := w.env.Now()
	if w.met {
		pipeline.Add(&w.stats.busy, uint64(now-c.Now))
	}
	c.Now = now
	if t := uint16(now >> 30); t != w.tick {
		w.tick = t
		w.weigh()
	}
	c.Gen = w.env.Gen.Load()
	c.Snap = w.env.Snap.Load()
	w.clamps = w.env.Clamps.Load() != 0
	if c.Snap.Crew != w.crew {
		w.muster(c.Snap)
	} else if c.Snap.Ifaces != w.ifaces {
		w.adopt(c.Snap.Ifaces)
	}
	pipeline.Add(&w.stats.turns, 1)
}

// receive takes one burst from a port and sees it through.
func (w *Worker) receive(q *rxQueue) int {
	c, v := w.ctx, w.rx
	n := q.q.RxBurst(c.Cache, v.Desc[:])
	if n == 0 {
		q.empty++
		return 0
	}
	q.empty = 0
	pipeline.Add(&w.stats.packets, uint64(n))
	pipeline.Add(&w.stats.bursts, 1)

	base := c.Pool.Base()
	var octets uint64
	var longest, types uint16
	desc, addr, length := v.Desc[:n], v.Addr[:n], v.Len[:n]
	first := mem.Load16(mem.At(c.Pool.Addr(desc[0])), 12)
	for i, d := range desc {
		a := base + uintptr(d.Buf())*sal.BufSize + uintptr(d.Off())
		addr[i] = a
		l := d.Len()
		length[i] = l
		octets += uint64(l)
		longest = max(longest, l)
		types |= mem.Load16(mem.At(a), 12) ^ first
	}
	cnt := c.Ifs().Count.At(uint32(q.index))
	pipeline.Add(&cnt.RxPackets, uint64(n))
	pipeline.Add(&cnt.RxOctets, octets)
	v.N = n
	if longest > q.frameMax {
		w.dropTooBig(v, q)
	}
	if q.spread && w.handOut(v, q.index) == 0 {
		return n
	}
	w.take(v, q, first, types)
	return n
}

// take sees received frames through. types has a bit set where EtherTypes differ
// from the first.
func (w *Worker) take(v *pipeline.Vec, q *rxQueue, first, types uint16) {
	if types == 0 && (first == typeIPv4 || first == typeIPv6) { // one family, the usual case
		v.V6 = first == typeIPv6
		fillIn(v, q.index)
		w.family(v, q.mac, pipeline.FromIface(q.index))
	} else {
		w.split(v, q)
	}
	w.settle()
}

// EtherTypes as they are loaded.
const typeIPv4, typeIPv6 = 0x0008, 0xdd86

// split hands each family its packets of a mixed burst. One of the families is
// worked on where it lies.
func (w *Worker) split(v *pipeline.Vec, q *rxQueue) {
	k := &w.class
	burst.Classify(v.Addr[:v.N], k)
	for _, i := range k.Other[:k.NumOther] {
		w.other(v.Desc[i&255], q)
	}
	v.V6 = k.N4 == 0
	if k.N4 > 0 && k.N6 > 0 {
		six := w.six
		six.N = k.N6
		pick(six, v, k.V6[:k.N6])
		fillIn(six, q.index)
		w.family(six, q.mac, pipeline.FromIface(q.index))
	}
	if !v.V6 && k.N4 < v.N {
		pick(v, v, k.V4[:k.N4])
	} else if v.V6 && k.N6 < v.N {
		pick(v, v, k.V6[:k.N6])
	}
	v.N = k.N4
	if v.V6 {
		v.N = k.N6
	}
	if v.N > 0 {
		fillIn(v, q.index)
		w.family(v, q.mac, pipeline.FromIface(q.index))
	}
}

// pick moves the listed packets (in rising order) to the front of to.
func pick(to, v *pipeline.Vec, idx []uint16) {
	for k, i := range idx {
		to.Addr[k&255], to.Desc[k&255], to.Len[k&255] = v.Addr[i&255], v.Desc[i&255], v.Len[i&255]
	}
}

// fillIn writes the interface to all packets, four with each store.
func fillIn(v *pipeline.Vec, in pipeline.IfIndex) {
	p := mem.At(addrOf(&v.In))
	four := uint64(in) * 0x0001_0001_0001_0001
	for k := uintptr(0); k < uintptr(v.N)*2; k += 8 {
		mem.Store64(p, k, four)
	}
}

// family takes a burst of one family through the loop.
func (w *Worker) family(v *pipeline.Vec, mac uint64, from pipeline.Origin) {
	w.parse(v, mac, from)
	if w.clamps {
		findSYN(v)
	}
	w.from, w.listed = from, 0
	t := w.flows[fam(v)]
	switch {
	case t == nil:
		w.allSlow(v)
	case v.V6:
		w.lookup6(v, t)
		w.forward6(v, t)
	default:
		w.lookup4(v, t)
		w.forward4(v, t)
	}
	if w.nslow > 0 || w.listed > 0 {
		w.rest(v, from)
	}
	w.ctx.FlushTx()
}

// parse checks, extracts keys and hashes.
func (w *Worker) parse(v *pipeline.Vec, mac uint64, from pipeline.Origin) {
	n := v.N
	if v.V6 {
		burst.ParseHash6(v.Addr[:n], v.Len[:], mac, uint32(from), &w.seed, v.K6[:], v.Hash[:], v.Bad[:])
	} else {
		burst.ParseHash4(v.Addr[:n], v.Len[:], mac, uint32(from), &w.seed, v.K4[:], v.Hash[:], v.Bad[:])
	}
}

// settle finishes what a burst began: errors become packets, packets that go
// round get their bursts (as many as a turn allows), everything is sent.
func (w *Worker) settle() {
	c := w.ctx
	for range maxRounds {
		if c.Error.N > 0 {
			w.order.Errors(c)
		}
		if c.Loop.N == 0 {
			break
		}
		w.goRound()
	}
	c.FlushTx()
	c.FlushFree()
}

// maxRounds bounds how often packets go round within a turn: tunnels in
// tunnels end there, an attacker's endless ones wait for the next turn.
const maxRounds = 16

// end closes the turn.
func (w *Worker) end() {
	c := w.ctx
	if c.Loop.N > 0 || c.Error.N > 0 {
		w.settle()
	}
	c.FlushTx()
	c.FlushFree()
	if c.TakePut() > 0 {
		w.notify()
	}
	if w.stats.turns&1023 == 0 {
		w.age(16)
	}
}

// fromControl takes what the control side sends.
func (w *Worker) fromControl() int {
	c := w.ctx
	_, from := c.Control()
	n := 0
	for ; n < pipeline.Burst; n++ {
		m, ok := from.Get()
		if !ok {
			break
		}
		switch m.Op {
		case pipeline.CtlForward:
			if w.env.Adj.Tail(m.Arg) != m.Gen { // it may be another's by now
				c.Drop(m.Desc, m.In, drop.NeighFailed)
				break
			}
			c.Forward(m.Desc, m.In, m.From(), m.Arg)
		case pipeline.CtlSend:
			c.Send(m.Desc, m.In, pipeline.IfIndex(m.Arg))
		case pipeline.CtlReject:
			c.Reject(m.Desc, m.In, m.From(), pipeline.Reject(m.Arg), 0)
		case pipeline.CtlDrop:
			c.Drop(m.Desc, m.In, drop.Reason(m.Arg))
		default:
			c.Free(m.Desc)
		}
	}
	if n > 0 {
		w.settle()
	}
	return n
}

// age frees flows that nobody uses.
func (w *Worker) age(buckets int) {
	used := 0
	for _, t := range w.flows {
		if t != nil {
			t.Sweep(buckets, w.tick, idleTicks)
			used += t.Used()
		}
	}
	atomic.StoreUint64(&w.stats.used, uint64(used))
}

// idleTicks is how long a flow may be unused, in ticks of about 1.07 s.
const idleTicks = 60

func fam(v *pipeline.Vec) int {
	if v.V6 {
		return pipeline.V6
	}
	return pipeline.V4
}
