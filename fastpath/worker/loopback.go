package worker

import (
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// loopMAC is the address in the Ethernet header that packets which go round
// get, so that the one parser serves them too.
const loopMAC = 0x01_00_00_00_00_02 // 02:00:00:00:00:01

// loopBatch is what a round works on: a copy, since the round fills the list
// anew.
type loopBatch struct {
	desc [pipeline.Burst]sal.Desc
	in   [pipeline.Burst]pipeline.IfIndex
	from [pipeline.Burst]pipeline.Origin
}

// goRound gives up to a burst of the packets that go round their own bursts:
// IPv4 and IPv6, decrypted and made here.
func (w *Worker) goRound() {
	c, l, b := w.ctx, &w.ctx.Loop, &w.round
	n := min(l.N, pipeline.Burst)
	copy(b.desc[:n], l.Desc[:n])
	copy(b.in[:n], l.In[:n])
	copy(b.from[:n], l.From[:n])
	copy(l.Desc[:], l.Desc[n:l.N])
	copy(l.In[:], l.In[n:l.N])
	copy(l.From[:], l.From[n:l.N])
	l.N -= n

	var lists [4][pipeline.Burst]uint8
	var count [4]int
	for i := range n {
		d := b.desc[i]
		var class int
		switch version := mem.Load8(mem.At(c.Pool.Addr(d)), 0) >> 4; {
		case d.Off() < pipeline.EthLen:
			c.Drop(d, b.in[i], drop.NoBuffer)
			continue
		case d.Len() == 0 || version != 4 && version != 6:
			c.Drop(d, b.in[i], drop.IPVersion)
			continue
		case version == 6:
			class = 1
		}
		if b.from[i].Local() {
			class |= 2
		}
		lists[class][count[class]] = uint8(i)
		count[class]++
	}
	for class := range lists {
		if count[class] > 0 {
			w.roundBurst(lists[class][:count[class]], class&1 != 0, class&2 != 0)
		}
	}
}

func (w *Worker) roundBurst(idx []uint8, v6, local bool) {
	c, b, v := w.ctx, &w.round, w.loop
	v.V6 = v6
	v.N = len(idx)
	etherType := uint16(0x0008)
	if v6 {
		etherType = 0xdd86
	}
	first := b.from[idx[0]]
	var differ pipeline.Origin
	for k, i := range idx {
		d := sal.MakeDesc(b.desc[i].Buf(), b.desc[i].Off()-pipeline.EthLen, b.desc[i].Len()+pipeline.EthLen)
		v.Desc[k], v.Len[k], v.In[k], v.From[k] = d, d.Len(), b.in[i], b.from[i]
		differ |= b.from[i] ^ first
		a := c.Pool.Addr(d)
		v.Addr[k] = a
		p := mem.At(a)
		mem.Store64(p, 0, loopMAC)
		mem.Store32(p, 8, 0)
		mem.Store16(p, 12, etherType)
	}
	from := first
	if differ != 0 {
		from = 0
	}
	if local {
		// Never cached, never looked up.
		w.parse(v, loopMAC, from)
		w.allSlow(v)
		w.rest(v, 0)
		c.FlushTx()
		return
	}
	w.parse(v, loopMAC, from)
	if differ != 0 {
		w.origins(v)
	}
	w.from, w.listed = 0, 0
	t := w.flows[fam(v)]
	switch {
	case t == nil:
		w.allSlow(v)
	case v6:
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
