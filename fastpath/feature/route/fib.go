package route

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
)

// get is the adjacency of exactly this prefix, 0: no such route.
func (f *Feature) get(p netip.Prefix) uint32 {
	if p.Addr().Is4() {
		return f.v4.Get(p)
	}
	return f.v6.Get(p)
}

// each walks all routes.
func (f *Feature) each(yield func(p netip.Prefix, adj uint32)) {
	for p, h := range f.v4.All() {
		yield(p, h)
	}
	for p, h := range f.v6.All() {
		yield(p, h)
	}
}

// install adds or replaces a route. Flows that hang on what covered its
// addresses until now must ask again: those of the route it replaces, or of
// the next shorter one.
func (f *Feature) install(t target, bump bool) {
	old := f.get(t.prefix)
	var err error
	if t.prefix.Addr().Is4() {
		err = f.v4.Insert(t.prefix, t.adj)
	} else {
		err = f.v6.Insert(t.prefix, t.adj)
	}
	if err != nil {
		// Prepare has counted the routes; only the memory for their tree can
		// still run out. Packets then take the next shorter route, as they would
		// if this one had not come.
		f.env.Log.Error("route could not be installed", "prefix", t.prefix.String(), "error", fmt.Errorf("FIB: %w", err))
		switch {
		case t.group != nil:
			f.drop(t.group, true)
		case t.held:
			f.env.Neigh.Release(t.adj)
		}
		return
	}
	f.refer(t.prefix, t.adj, 1)
	if old != 0 {
		f.refer(t.prefix, old, -1)
	}
	if bump {
		if old == 0 {
			f.askAgain(f.cover(t.prefix))
		} else {
			f.askAgain(old)
		}
	}
	if old != 0 {
		f.release(old)
	}
}

// remove deletes a route.
func (f *Feature) remove(p netip.Prefix, bump bool) {
	old := f.get(p)
	if old == 0 {
		return // twice in one change
	}
	if p.Addr().Is4() {
		f.v4.Delete(p)
	} else {
		f.v6.Delete(p)
	}
	f.refer(p, old, -1)
	if bump {
		f.askAgain(old)
	}
	f.release(old)
}

// refer keeps count of who names an interface, and of own addresses.
func (f *Feature) refer(p netip.Prefix, adj uint32, n int) {
	f.ifaces(adj, func(i pipeline.IfIndex) { f.perIf[i] += n })
	if f.env.Adj.At(adj).Kind() == pipeline.AdjReceive && p.IsSingleIP() {
		f.own.add(p.Addr(), n)
	}
}

// cover is the adjacency of the longest route that covers p and is shorter.
func (f *Feature) cover(p netip.Prefix) uint32 {
	for l := p.Bits() - 1; l >= 0; l-- {
		q, _ := p.Addr().Prefix(l)
		if h := f.get(q); h != 0 {
			return h
		}
	}
	return 0
}

// askAgain makes the flows walk again that hang on adjacency h; 0 stands for
// "no route". Behind a connected prefix are flows of its neighbours, each with
// an adjacency of its own: then all flows ask.
func (f *Feature) askAgain(h uint32) {
	if g := f.groups.byAdj[h]; g != nil {
		for _, m := range g.members {
			f.askAgain(m.adj)
		}
	}
	if f.env.Adj.At(h).Kind() == pipeline.AdjGlean {
		f.env.BumpFlows()
	}
	f.env.Adj.Bump(h)
}

// Path4 implements pipeline.FIB.
func (f *Feature) Path4(dst uint32) (adj, gen uint32) {
	seq := f.env.Seq.Load()
	h := f.v4.Lookup(dst)
	if a := f.env.Adj.At(h); a.Kind() == pipeline.AdjGroup {
		h = f.groups.toward(a, 0, uint64(dst))
	}
	if a := f.env.Adj.At(h); a.Kind() == pipeline.AdjGlean {
		if n := f.env.Neigh.Find4(a.If(), dst); n != 0 {
			h = n
		}
	}
	return f.settled(h, seq)
}

// Path6 implements pipeline.FIB.
func (f *Feature) Path6(hi, lo uint64) (adj, gen uint32) {
	seq := f.env.Seq.Load()
	h := f.v6.Lookup(hi, lo)
	if a := f.env.Adj.At(h); a.Kind() == pipeline.AdjGroup {
		h = f.groups.toward(a, hi, lo)
	}
	if a := f.env.Adj.At(h); a.Kind() == pipeline.AdjGlean {
		if n := f.env.Neigh.Find6(a.If(), hi, lo); n != 0 {
			h = n
		}
	}
	return f.settled(h, seq)
}

// settled gives an adjacency with its generation, or with one that is over if
// the tables moved during the look-up: then the caller asks again next time.
func (f *Feature) settled(h, seq uint32) (adj, gen uint32) {
	gen = f.env.Adj.Gen(h)
	if seq&1 != 0 || f.env.Seq.Load() != seq {
		gen--
	}
	return h, gen
}

// filter answers "certainly not an own address" with one load, so that the walk
// need not look every source address up in the FIB. A bit that is set by
// chance costs a look-up. The control side writes, workers read.
type filter struct {
	bits mem.Table[uint32]
	n    []uint16
}

const filterBits = 17

func newFilter() (*filter, error) {
	t, err := mem.NewTable[uint32](1<<filterBits/32, mem.Options{SmallPages: true})
	return &filter{t, make([]uint16, 1<<filterBits)}, err
}

func hash4(a uint32) uint32 { return a * 0x9e3779b1 >> (32 - filterBits) }
func hash6(hi, lo uint64) uint32 {
	return uint32((hi*0x9e3779b97f4a7c15 ^ lo*0xc2b2ae3d27d4eb4f) >> (64 - filterBits))
}

// bit is 1 when the address of this hash may be an own one.
func (f *filter) bit(h uint32) uint8 { return uint8(atomic.LoadUint32(f.bits.At(h>>5))>>(h&31)) & 1 }

// may tells whether the address of this hash may be an own one.
func (f *filter) may(h uint32) bool {
	return atomic.LoadUint32(f.bits.At(h>>5))>>(h&31)&1 != 0
}

func (f *filter) add(a netip.Addr, n int) {
	var h uint32
	if a.Is4() {
		b := a.As4()
		h = hash4(binary.BigEndian.Uint32(b[:]))
	} else {
		b := a.As16()
		h = hash6(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
	}
	f.n[h] += uint16(n)
	w := f.bits.At(h >> 5)
	if f.n[h] > 0 {
		atomic.StoreUint32(w, *w|1<<(h&31))
	} else {
		atomic.StoreUint32(w, *w&^(1<<(h&31)))
	}
}

func (f *filter) close() { _ = f.bits.Unmap() }
