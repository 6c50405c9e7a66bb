package worker

import (
	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
)

// rest takes the packets that the transform did not do: flows of other kinds
// go on the list of their kind, what is unknown or stale walks, and then each
// kind's sink gets its list. from is the origin of the whole burst, 0 when
// v.From has it for each packet.
func (w *Worker) rest(v *pipeline.Vec, from pipeline.Origin) {
	seq := w.env.Seq.Load() // before any table is read, see walk
	t := w.flows[fam(v)]
	slow := w.slow[:w.nslow]
	w.nslow = 0
	v.Same, v.Some = from != 0, 0
	if t == nil && len(slow) == v.N && from != 0 && !from.Local() && allGood(v) {
		fillFrom(v, from)
		pipeline.Add(&w.stats.misses, uint64(v.N))
		w.walk(v, w.walks[:copy(w.walks[:], slow)], seq)
		w.sinks(v)
		return
	}
	walks := 0
	for _, i := range slow {
		i &= 255
		if from != 0 {
			v.From[i] = from
		}
		v.Flags[i] = 0
		if v.Bad[i] != 0 {
			if w.odd(v, i) {
				v.Some |= v.Flags[i]
				v.Entry[i] = 0
				w.walks[walks&255] = i
				walks++
			}
			continue
		}
		if v.From[i].Local() {
			v.Flags[i] = pipeline.FlagNoCache
			v.Some |= pipeline.FlagNoCache
			v.Entry[i] = 0
			w.walks[walks&255] = i
			walks++
			continue
		}
		x := w.find(t, v, i)
		v.Entry[i] = x
		if x == 0 || !w.known(v, i, t.Meta(x)) {
			w.walks[walks&255] = i
			walks++
		}
	}
	if walks > 0 {
		pipeline.Add(&w.stats.misses, uint64(walks))
		w.walk(v, w.walks[:walks], seq)
	}
	w.sinks(v)
}

// sinks gives each kind's packets to its sink.
func (w *Worker) sinks(v *pipeline.Vec) {
	c := w.ctx
	for k := range w.kinds {
		if l := &w.kinds[k]; l.n > 0 {
			n := l.n
			l.n = 0
			if s := w.order.Sinks[k]; s != nil {
				s.Burst(c, v, l.list[:n])
			} else {
				for _, i := range l.list[:n] {
					c.Drop(v.Desc[i&255], v.In[i&255], drop.None)
				}
			}
		}
	}
}

// allGood tells whether the quick parse has accepted all packets.
func allGood(v *pipeline.Vec) bool {
	clear(v.Bad[v.N:min(v.N+7, len(v.Bad))])
	p := mem.At(addrOf(&v.Bad))
	var x uint64
	for k := uintptr(0); k < uintptr(v.N); k += 8 {
		x |= mem.Load64(p, k)
	}
	return x == 0
}

// fillFrom writes one origin, and no flags, to all packets.
func fillFrom(v *pipeline.Vec, from pipeline.Origin) {
	p := mem.At(addrOf(&v.From))
	two := uint64(from) | uint64(from)<<32
	for k := uintptr(0); k < uintptr(v.N)*4; k += 8 {
		mem.Store64(p, k, two)
	}
	clear(v.Flags[:v.N])
	clear(v.Entry[:v.N])
}

// find is the entry of packet i's flow, current or not; 0: none.
func (w *Worker) find(t *flow.Table, v *pipeline.Vec, i uint16) uint32 {
	if t == nil {
		return 0
	}
	x := v.Entry[i&255]
	if v.V6 {
		if x != 0 && t.E6(x).Key == v.K6[i&255] {
			return x
		}
		if x != 0 || t.Spilled(v.Bucket[i&255]) {
			return t.Find6(&v.K6[i&255], v.Hash[i&255])
		}
		return 0
	}
	if x != 0 && t.E4(x).Key == v.K4[i&255] {
		return x
	}
	if x != 0 || t.Spilled(v.Bucket[i&255]) {
		return t.Find4(&v.K4[i&255], v.Hash[i&255])
	}
	return 0
}

// known handles a packet whose flow is current; false when it is stale.
func (w *Worker) known(v *pipeline.Vec, i uint16, m *flow.Meta) bool {
	c := w.ctx
	if m.Gen != c.Gen || m.AdjGen != c.Env.Adj.Gen(m.Adj) {
		return false
	}
	pipeline.Add(&w.stats.hits, 1)
	m.Seen = w.tick
	m.Pkts++
	m.Bytes += uint64(v.Len[i&255])
	if m.Flags&flow.HasCount != 0 {
		w.count(m, v.Len[i&255])
		w.settleCounts()
	}
	w.do(v, i, m.Kind, m.Arg)
	return true
}

// do puts packet i on the list of its kind, or handles the kinds that are the
// loop's own.
func (w *Worker) do(v *pipeline.Vec, i uint16, k action.Kind, arg uint32) {
	c := w.ctx
	i &= 255
	switch k {
	case action.KindForward:
		w.output(v, i, arg, true)
	case action.KindDrop:
		c.Drop(v.Desc[i], v.In[i], drop.Reason(arg))
	case action.KindReject:
		w.reject(v, i, pipeline.Reject(arg))
	default:
		v.Arg[i] = arg
		l := &w.kinds[k%action.Kinds]
		l.list[l.n&255] = i
		l.n++
	}
}

// output forwards one packet by an adjacency. What is too big and may not be
// cut is refused before its TTL is touched: the error quotes the packet as it
// came (RFC 1812 section 4.3.2.3).
func (w *Worker) output(v *pipeline.Vec, i uint16, adj uint32, ttl bool) {
	c := w.ctx
	a := c.Env.Adj.At(adj)
	if v.Len[i&255] <= a.MTU() {
		if c.Tx.N == len(c.Tx.Desc) {
			c.FlushTx()
		}
		w.transform(v, i&255, a, ttl)
		return
	}
	ip, p := v.IP(i), v.Addr[i&255]+pipeline.EthLen
	if k := a.Kind(); (k == pipeline.AdjNeighbour || k == pipeline.AdjGlean) && ip.Len()+pipeline.EthLen > a.LinkMTU() &&
		(v.V6 || mem.Load8(mem.At(p), 6)&dontFragment != 0) {
		c.Reject(ip, v.In[i&255], v.From[i&255], pipeline.RejectTooBig, c.MTU(adj))
		return
	}
	if ttl {
		if v.V6 {
			pipeline.DecTTL6(p)
		} else {
			pipeline.DecTTL4(p)
		}
	}
	c.Forward(ip, v.In[i&255], v.From[i&255], adj)
}

const dontFragment = 0x40

// reject ends a packet with an ICMP error, unless it came to a group.
func (w *Worker) reject(v *pipeline.Vec, i uint16, r pipeline.Reject) {
	c := w.ctx
	if v.Flags[i]&pipeline.FlagGroup != 0 {
		c.Drop(v.Desc[i], v.In[i], r.Reason())
		return
	}
	c.Reject(v.IP(i), v.In[i], v.From[i], r, 0)
}

// dropTooBig takes frames above the interface's MTU out of a burst that was
// just received.
func (w *Worker) dropTooBig(v *pipeline.Vec, q *rxQueue) {
	k := 0
	for i := range v.N {
		if v.Len[i&255] > q.frameMax {
			w.ctx.Drop(v.Desc[i&255], q.index, drop.RxTooBig)
			continue
		}
		v.Desc[k&255], v.Addr[k&255], v.Len[k&255] = v.Desc[i&255], v.Addr[i&255], v.Len[i&255]
		k++
	}
	v.N = k
}
