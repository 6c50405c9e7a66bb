package worker

import (
	"unsafe"

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

// Classes of packets that go round; each gets bursts of its own.
const (
	classV6 = 1 << iota
	classLocal
	classes
)

// goRound gives up to a burst of the packets that go round their own bursts:
// IPv4 and IPv6, decrypted and made here.
func (w *Worker) goRound() {
	l, b := &w.ctx.Loop, &w.round
	n := min(l.N, pipeline.Burst)
	copy(b.desc[:n], l.Desc[:n])
	copy(b.in[:n], l.In[:n])
	copy(b.from[:n], l.From[:n])
	copy(l.Desc[:], l.Desc[n:l.N])
	copy(l.In[:], l.In[n:l.N])
	copy(l.From[:], l.From[n:l.N])
	l.N -= n
	if class, alike := w.gather(n); alike { // as good as always
		w.roundBurst(n, class)
		return
	}
	w.sortRound(n)
}

// gather makes frames of the first n packets of the batch in w.loop, and tells
// whether all of them are of one class, and well.
func (w *Worker) gather(n int) (class int, alike bool) {
	b, v := &w.round, w.loop
	base := w.ctx.Pool.Base()
	desc, in, from := b.desc[:n], b.in[:n], b.from[:n]
	addr, descs, length, ins, froms := v.Addr[:n], v.Desc[:n], v.Len[:n], v.In[:n], v.From[:n]
	var seen uint
	for k, d := range desc {
		at := base + uintptr(d.Buf())*sal.BufSize + uintptr(d.Off())
		p := mem.At(at)
		version := mem.Load8(p, 0) >> 4
		o := from[k]
		class = int(version>>1&1) * classV6
		if o.Local() {
			class |= classLocal
		}
		seen |= 1 << class
		if version&^2 != 4 || d.Off() < pipeline.EthLen || d.Len() == 0 {
			return 0, false
		}
		putHeader(unsafe.Add(p, -pipeline.EthLen), class)
		descs[k], length[k], ins[k], froms[k] = d+(pipeline.EthLen<<48-pipeline.EthLen<<32), d.Len()+pipeline.EthLen, in[k], o
		addr[k] = at - pipeline.EthLen
	}
	return class, seen == 1<<class
}

// putHeader writes the Ethernet header that the parser wants to see: destination
// loopMAC, source 0, type by family.
func putHeader(p unsafe.Pointer, class int) {
	mem.Store64(p, 0, loopMAC)
	mem.Store64(p, 6, [2]uint64{0x0008 << 48, 0xdd86 << 48}[class&classV6])
}

// sortRound takes a batch that gather has found to be mixed, class by class.
func (w *Worker) sortRound(n int) {
	c, b, v := w.ctx, &w.round, w.loop
	var lists [classes][pipeline.Burst]uint8
	var count [classes]int
	for i := range n {
		d := b.desc[i]
		class := 0
		switch version := mem.Load8(mem.At(c.Pool.Addr(d)), 0) >> 4; {
		case d.Off() < pipeline.EthLen:
			c.Drop(d, b.in[i], drop.NoBuffer)
			continue
		case d.Len() == 0 || version != 4 && version != 6:
			c.Drop(d, b.in[i], drop.IPVersion)
			continue
		case version == 6:
			class = classV6
		}
		if b.from[i].Local() {
			class |= classLocal
		}
		lists[class][count[class]] = uint8(i)
		count[class]++
	}
	for class := range lists {
		for k, i := range lists[class][:count[class]] {
			d := sal.MakeDesc(b.desc[i].Buf(), b.desc[i].Off()-pipeline.EthLen, b.desc[i].Len()+pipeline.EthLen)
			v.Desc[k], v.Len[k], v.In[k], v.From[k], v.Addr[k] = d, d.Len(), b.in[i], b.from[i], c.Pool.Addr(d)
			putHeader(mem.At(v.Addr[k]), class)
		}
		if count[class] > 0 {
			w.roundBurst(count[class], class)
		}
	}
}

// roundBurst takes the n packets in w.loop through the loop.
func (w *Worker) roundBurst(n, class int) {
	c, v := w.ctx, w.loop
	v.V6, v.N = class&classV6 != 0, n
	from := v.From[0]
	for _, o := range v.From[:n] {
		if o != from {
			from = 0
			break
		}
	}
	w.parse(v, loopMAC, from)
	w.from, w.listed = 0, 0
	t := w.flows[fam(v)]
	if from == 0 && class&classLocal == 0 {
		w.origins(v)
	}
	switch {
	case t == nil || class&classLocal != 0: // what is made here is never cached, so never looked up
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
