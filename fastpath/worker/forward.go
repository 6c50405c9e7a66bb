package worker

import (
	"unsafe"

	"vrouter/fastpath/action"
	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

const (
	adjShift = 5
	outMask  = 2*pipeline.Burst - 1
)

func addrOf[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// nearFlows is up to how many flows a table's touched lines stay in the second
// level of the cache by themselves, so that asking for them is a waste.
const nearFlows = 2048

// lookup4 finds the entry candidates of a burst. Prefetching goes into the
// second level of the cache: asking the first for 256 lines at once loses.
func (w *Worker) lookup4(v *pipeline.Vec, t *flow.Table) {
	n := v.N
	hash, bucket, entry := v.Hash[:n], v.Bucket[:n], v.Entry[:n]
	mask := t.Mask
	for i := range hash {
		bucket[i] = uint32(hash[i]) & mask
	}
	if w.far = t.Used() > nearFlows; !w.far {
		burst.BucketMatch(t.Buckets, bucket, hash, entry)
		return
	}
	burst.PrefetchLines(t.Buckets, bucket)
	burst.BucketMatch(t.Buckets, bucket, hash, entry)
	burst.PrefetchLines(t.Entries, entry)
}

// lookup6 is lookup4; entries are two lines each.
func (w *Worker) lookup6(v *pipeline.Vec, t *flow.Table) {
	w.lookup4(v, t)
	if w.far {
		burst.PrefetchLines(t.Entries+64, v.Entry[:v.N])
	}
}

// Entries are read and written a word at a time (flow.Gens4 and the like).
//
// forward4 transforms the packets of flows that are plain forwarding: one TTL
// less, checksum adjusted (RFC 1624), Ethernet header of the adjacency. All
// proofs that a packet is of this kind are ORed into one word. Of what fails,
// flows that are current and have a sink go on its list, the others on the slow
// list.
func (w *Worker) forward4(v *pipeline.Vec, t *flow.Table) {
	c := w.ctx
	n := v.N
	addr, length, desc, in := v.Addr[:n], v.Len[:n], v.Desc[:n], v.In[:n]
	entry, key, bad := v.Entry[:n], v.K4[:n], v.Bad[:n]
	entries, adjs := mem.At(t.Entries), c.Env.Adj.Base
	gen, tick := c.Gen, w.tick
	tx := &c.Tx
	if tx.N > len(tx.Desc)-pipeline.Burst {
		c.FlushTx()
	}
	used := uint64(tick)<<16 | 1<<32
	w.nslow = 0
	for i := range addr {
		e := unsafe.Add(entries, uintptr(entry[i])<<6)
		adj := mem.Load64(e, flow.Adj4)
		a := (*pipeline.Adj)(unsafe.Add(adjs, uintptr(uint32(adj))<<adjShift))
		l := length[i]
		word := a.Word()
		kind := mem.Load64(e, flow.Kind4)
		x := differs4(e, &key[i]) | (mem.Load64(e, flow.Gens4) ^ (uint64(gen) | uint64(a.Gen())<<32)) | uint64(bad[i])
		if x|uint64(uint8(kind)) != 0 || l > word.MTU() {
			if x == 0 && isSink[uint8(kind)&7] {
				mem.Store64(e, flow.Kind4, kind&^flow.SeenMask+used)
				mem.Store64(e, flow.Bytes4, mem.Load64(e, flow.Bytes4)+uint64(l))
				if kind&(flow.HasCount<<8) != 0 {
					w.count(&(*flow.Entry4)(e).Meta, l)
				}
				w.list(v, uint16(i), uint8(kind), uint32(adj>>32))
				continue
			}
			w.slow[w.nslow&255] = uint16(i)
			w.nslow++
			continue
		}
		p := mem.At(addr[i])
		q := mem.Load32(p, 22) // TTL, protocol, checksum
		ck := q>>16 + 1
		ck += (ck + 1) >> 16
		mem.Store32(p, 22, q&0xffff-1|ck<<16)
		mem.Store64(p, 0, a.L2a())
		mem.Store64(p, 6, a.L2b())
		mem.Store64(e, flow.Kind4, kind&^flow.SeenMask+used)
		mem.Store64(e, flow.Bytes4, mem.Load64(e, flow.Bytes4)+uint64(l))
		if kind&(flow.HasCount<<8) != 0 {
			w.count(&(*flow.Entry4)(e).Meta, l)
		}
		out := tx.N
		tx.Desc[out&outMask] = desc[i]
		tx.Way[out&outMask] = uint32(word.If()) | uint32(in[i])<<16
		tx.N = out + 1
	}
	w.settleCounts()
	pipeline.Add(&w.stats.hits, uint64(n-w.nslow))
}

// isSink tells which kinds of flows are handled by sinks.
var isSink = [8]bool{action.KindLocal: true, action.KindEncrypt: true, action.KindDecrypt: true, action.KindUnwrap: true}

// list puts packet i on the list of its flow's kind. w.from is the origin of the
// whole burst, 0 when v.From has it for each packet.
func (w *Worker) list(v *pipeline.Vec, i uint16, kind uint8, arg uint32) {
	i &= 255
	if w.from != 0 {
		v.From[i] = w.from
	}
	v.Flags[i] = 0
	v.Arg[i] = arg
	l := &w.kinds[kind%uint8(action.Kinds)]
	l.list[l.n&255] = i
	l.n++
	w.listed++
}

// forward6 is forward4 for IPv6, which has no checksum.
func (w *Worker) forward6(v *pipeline.Vec, t *flow.Table) {
	c := w.ctx
	n := v.N
	addr, length, desc, in := v.Addr[:n], v.Len[:n], v.Desc[:n], v.In[:n]
	entry, key, bad := v.Entry[:n], v.K6[:n], v.Bad[:n]
	entries, adjs := mem.At(t.Entries), c.Env.Adj.Base
	gen, tick := c.Gen, w.tick
	tx := &c.Tx
	if tx.N > len(tx.Desc)-pipeline.Burst {
		c.FlushTx()
	}
	used := uint64(tick)<<16 | 1<<32
	w.nslow = 0
	for i := range addr {
		e := unsafe.Add(entries, uintptr(entry[i])<<6)
		adj := mem.Load64(e, flow.Adj6)
		a := (*pipeline.Adj)(unsafe.Add(adjs, uintptr(uint32(adj))<<adjShift))
		l := length[i]
		word := a.Word()
		kind := mem.Load64(e, flow.Kind6)
		x := differs6(e, &key[i]) | (mem.Load64(e, flow.Gens6) ^ (uint64(gen) | uint64(a.Gen())<<32)) | uint64(bad[i])
		if x|uint64(uint8(kind)) != 0 || l > word.MTU() {
			if x == 0 && isSink[uint8(kind)&7] {
				mem.Store64(e, flow.Kind6, kind&^flow.SeenMask+used)
				mem.Store64(e, flow.Bytes6, mem.Load64(e, flow.Bytes6)+uint64(l))
				if kind&(flow.HasCount<<8) != 0 {
					w.count(&(*flow.Entry6)(e).Meta, l)
				}
				w.list(v, uint16(i), uint8(kind), uint32(adj>>32))
				continue
			}
			w.slow[w.nslow&255] = uint16(i)
			w.nslow++
			continue
		}
		p := mem.At(addr[i])
		mem.Store8(p, 21, mem.Load8(p, 21)-1)
		mem.Store64(p, 0, a.L2a())
		mem.Store64(p, 6, a.L2b())
		mem.Store64(e, flow.Kind6, kind&^flow.SeenMask+used)
		mem.Store64(e, flow.Bytes6, mem.Load64(e, flow.Bytes6)+uint64(l))
		if kind&(flow.HasCount<<8) != 0 {
			w.count(&(*flow.Entry6)(e).Meta, l)
		}
		out := tx.N
		tx.Desc[out&outMask] = desc[i]
		tx.Way[out&outMask] = uint32(word.If()) | uint32(in[i])<<16
		tx.N = out + 1
	}
	w.settleCounts()
	pipeline.Add(&w.stats.hits, uint64(n-w.nslow))
}

// differs4 is 0 when the entry at e is that of the key. (In Go | and ^ bind
// alike: the parentheses matter.)
func differs4(e unsafe.Pointer, k *burst.Key4) uint64 {
	return (mem.Load64(e, 0) ^ k[0]) | (mem.Load64(e, 8) ^ k[1])
}

// differs6 is differs4 for IPv6.
func differs6(e unsafe.Pointer, k *burst.Key6) uint64 {
	return (mem.Load64(e, 0) ^ k[0]) | (mem.Load64(e, 8) ^ k[1]) | (mem.Load64(e, 16) ^ k[2]) | (mem.Load64(e, 24) ^ k[3]) | (mem.Load64(e, 32) ^ k[4])
}

// allSlow is what stands in for look-up and transform without a cache.
func (w *Worker) allSlow(v *pipeline.Vec) {
	clear(v.Entry[:v.N])
	for i := range v.N {
		w.slow[i&255] = uint16(i)
	}
	w.nslow = v.N
}
