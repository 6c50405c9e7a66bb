package worker

import (
	"unsafe"

	"vrouter/fastpath/action"
	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
)

// maxInserts is how many new flows enter the cache in one burst: it bounds what
// a flood of unknown flows costs. The others are decided all the same, and walk
// again.
const maxInserts = 16

// walk decides for packets that have no current flow: the stages build a
// program for each, all of them for the whole list; then each program is
// remembered and carried out.
//
// seq is Env.Seq from before the first table was read. A flow is remembered
// only if it has not moved since: else the flow might carry the new generation
// with the old decision for ever.
func (w *Worker) walk(v *pipeline.Vec, idx []uint16, seq uint32) {
	c := w.ctx
	clear(v.Adj[:v.N])
	v.Kinds = 0
	for _, i := range idx {
		v.Prog[i&255].Len = 0
	}
	v.Begun = false
	list := w.slow[:copy(w.slow[:], idx)]
	for _, s := range w.order.Stages {
		if list = s.Walk(c, v, list); len(list) == 0 {
			break
		}
	}
	budget := maxInserts
	if w.flows[fam(v)] == nil {
		budget = 0
	}
	if len(list) < len(idx) {
		for _, i := range idx {
			if v.Prog[i&255].Last().Ends() {
				budget -= w.carryOut(v, i&255, budget, seq)
			}
		}
	}
	if len(list) > 0 {
		w.depart(v, list, budget, seq)
	}
}

// depart sends the packets that no stage has ended, which is most: one TTL less,
// out by v.Adj.
func (w *Worker) depart(v *pipeline.Vec, list []uint16, budget int, seq uint32) {
	c := w.ctx
	tx := &c.Tx
	if tx.N > len(tx.Desc)-pipeline.Burst {
		c.FlushTx()
	}
	adjs := c.Env.Adj.Base
	cached := w.flows[fam(v)] != nil
	begun := v.Begun
	for _, i := range list {
		i &= 255
		h := v.Adj[i]
		a := (*pipeline.Adj)(unsafe.Add(adjs, uintptr(h)<<adjShift))
		word := a.Word()
		if v.Len[i] > word.MTU() || cached && (budget > 0 || v.Entry[i] != 0) || begun && v.Prog[i].Len != 0 {
			v.Route(i, h)
			budget -= w.carryOut(v, i, budget, seq)
			continue
		}
		at := v.Addr[i]
		if v.V6 {
			pipeline.DecTTL6(at + pipeline.EthLen)
		} else {
			pipeline.DecTTL4(at + pipeline.EthLen)
		}
		p := mem.At(at)
		mem.Store64(p, 0, a.L2a())
		mem.Store64(p, 6, a.L2b())
		tx.Desc[tx.N&outMask] = v.Desc[i]
		tx.Way[tx.N&outMask] = uint32(word.If()) | uint32(v.In[i])<<16
		tx.N++
	}
}

// transform is for one packet what forward4 and forward6 do for a burst. The
// frame must fit a.MTU, and c.Tx have room.
func (w *Worker) transform(v *pipeline.Vec, i uint16, a *pipeline.Adj, ttl bool) {
	at := v.Addr[i]
	switch {
	case !ttl:
	case v.V6:
		pipeline.DecTTL6(at + pipeline.EthLen)
	default:
		pipeline.DecTTL4(at + pipeline.EthLen)
	}
	p := mem.At(at)
	mem.Store64(p, 0, a.L2a())
	mem.Store64(p, 6, a.L2b())
	tx := &w.ctx.Tx
	k := tx.N & outMask
	tx.Desc[k] = v.Desc[i]
	tx.Way[k] = uint32(a.If()) | uint32(v.In[i])<<16
	tx.N = k + 1
}

// carryOut remembers one decision, as far as budget allows, and carries it out.
// It says how many entries it took.
func (w *Worker) carryOut(v *pipeline.Vec, i uint16, budget int, seq uint32) (took int) {
	c := w.ctx
	d := action.Compile(&v.Prog[i])
	if v.Flags[i]&pipeline.Uncacheable == 0 && (budget > 0 || v.Entry[i] != 0) {
		took = w.remember(v, i, &d, budget, seq)
	}
	if d.MSS != 0 {
		w.clamp(v, i, d.MSS)
	}
	for _, h := range d.Count {
		if h != 0 {
			c.Count(h, v.Len[i]-pipeline.EthLen)
		}
	}
	if d.Kind == action.KindForward {
		w.output(v, i, d.Arg, !d.NoTTL)
	} else {
		w.do(v, i, d.Kind, d.Arg)
	}
	return took
}

// remember writes a decision into the flow cache and says how many entries it
// took of the budget: 1 for a new one.
func (w *Worker) remember(v *pipeline.Vec, i uint16, d *action.Compiled, budget int, seq uint32) int {
	c := w.ctx
	t := w.flows[fam(v)]
	guard := v.Adj[i]
	if d.Kind == action.KindForward {
		guard = d.Arg
	}
	adjGen := c.Env.Adj.Gen(guard)
	if seq&1 != 0 || w.env.Seq.Load() != seq { // after adjGen was read
		return 0
	}
	// The entry found before may have given way to another flow of this burst,
	// and an earlier packet may have entered this one.
	x, took := v.Entry[i], 0
	if v.V6 {
		if x == 0 || t.E6(x).Key != v.K6[i] {
			x = t.Find6(&v.K6[i], v.Hash[i])
		}
	} else if x == 0 || t.E4(x).Key != v.K4[i] {
		x = t.Find4(&v.K4[i], v.Hash[i])
	}
	if x == 0 {
		if budget <= 0 {
			return 0
		}
		if x = t.Insert(v.Hash[i], c.Gen); x == 0 {
			return 0
		}
		took = 1
		pipeline.Add(&w.stats.inserted, 1)
		if v.V6 {
			t.E6(x).Key = v.K6[i]
		} else {
			t.E4(x).Key = v.K4[i]
		}
	}
	m := t.Meta(x)
	m.Gen, m.AdjGen, m.Adj, m.Arg = c.Gen, adjGen, guard, d.Arg
	m.Kind, m.Seen, m.Count = d.Kind, w.tick, d.Count
	m.Flags &^= flow.HasCount
	if d.Count[0] != 0 {
		m.Flags |= flow.HasCount
	}
	m.Pkts++
	m.Bytes += uint64(v.Len[i])
	return took
}
