package worker

import (
	"math/bits"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/sal"
)

// goRound gives up to a burst of the packets that go round their own bursts:
// IPv4 and IPv6, decrypted and made here.
func (w *Worker) goRound() {
	v := w.loop
	seen := w.ctx.Loop.Take(v)
	class := pipeline.RoundClass(bits.TrailingZeros8(seen))
	if seen != 1<<class {
		w.sortRound()
		return
	}
	w.roundBurst(v.N, class) // all alike, as nearly always
}

// sortRound takes a mixed batch through the loop, class by class.
func (w *Worker) sortRound() {
	v, b := w.loop, &w.round
	n := v.N
	copy(b.desc[:n], v.Desc[:n])
	copy(b.in[:n], v.In[:n])
	copy(b.from[:n], v.From[:n])
	for i := range n {
		b.class[i] = v.Class(i)
	}
	for class := range pipeline.RoundClasses {
		k := 0
		for i, x := range b.class[:n] {
			if x == class {
				d := b.desc[i]
				v.Desc[k], v.Addr[k], v.Len[k], v.In[k], v.From[k] = d, w.ctx.Pool.Addr(d), d.Len(), b.in[i], b.from[i]
				k++
			}
		}
		if k > 0 {
			w.roundBurst(k, class)
		}
	}
}

// loopBatch is a mixed batch that goes round: a copy, since its bursts use the
// arrays it came in.
type loopBatch struct {
	desc  [pipeline.Burst]sal.Desc
	in    [pipeline.Burst]pipeline.IfIndex
	from  [pipeline.Burst]pipeline.Origin
	class [pipeline.Burst]pipeline.RoundClass
}

// roundBurst takes the n packets in w.loop through the loop.
func (w *Worker) roundBurst(n int, class pipeline.RoundClass) {
	c, v := w.ctx, w.loop
	v.V6, v.N = class&pipeline.RoundV6 != 0, n
	from := v.From[0]
	for _, o := range v.From[:n] {
		if o != from {
			from = 0
			break
		}
	}
	w.parse(v, pipeline.LoopMAC, from)
	if w.clamps && class&pipeline.RoundLocal == 0 {
		findSYN(v)
	}
	w.from, w.listed = 0, 0
	t := w.flows[fam(v)]
	if from == 0 && class&pipeline.RoundLocal == 0 {
		w.origins(v)
	}
	switch {
	case t == nil || class&pipeline.RoundLocal != 0: // what is made here is never cached, so never looked up
		w.allSlow(v)
	case v.V6:
		w.lookup6(v, t)
		w.forward6(v, t)
	default:
		w.lookup4(v, t)
		w.forward4(v, t)
	}
	if w.nslow > 0 || w.listed > 0 {
		w.rest(v, 0)
	}
	c.FlushTx()
}

// origins puts each packet's own origin into its key, where burst.Key4 and
// Key6 have the port, and hashes anew.
func (w *Worker) origins(v *pipeline.Vec) {
	for i := range v.N {
		o := uint64(v.From[i&255])
		if v.V6 {
			k := &v.K6[i&255]
			k[4] |= o << 40
			v.Hash[i&255] = burst.Hash6(k, &w.seed)
		} else {
			k := &v.K4[i&255]
			k[0] |= o&0xffff<<16 | o>>16
			v.Hash[i&255] = burst.Hash4(k, &w.seed)
		}
	}
}
