package ipsec

import (
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// What becomes of a packet that is too large to go into one ESP packet: it is cut,
// or its ESP packet is, or it is refused, and its sender told what fits.

// tooBig takes a packet that has more than mtu, which is what fits with ESP around
// it, or for which there is no way. Which of the three it is says Fragmentation.
func (w *worker) tooBig(c *pipeline.Ctx, v *pipeline.Vec, i uint16, h uint32, r *record, adj, mtu uint32) {
	p, in, from := v.IP(i), v.In[i], v.From[i]
	mayCut := !v.V6 && mem.Load8(mem.At(c.Pool.Addr(p)), 6)&esp.FlagDF == 0
	switch {
	case c.MTU(adj) == 0:
		w.nowhere(c, p, in, from, adj)
	case w.whole(p, h, r, v.V6, mayCut):
		if !from.Local() {
			decTTL(v, i)
		}
		w.seal(c, p, in, v.V6, h, r, cuttable)
	case v.V6:
		// RFC 8200 section 5: what is not above 1280 need not be made smaller.
		c.Reject(p, in, from, pipeline.RejectTooBig, uint16(max(mtu, minPath6)))
	case !mayCut:
		c.Reject(p, in, from, pipeline.RejectTooBig, uint16(mtu))
	default:
		if !from.Local() {
			decTTL(v, i)
		}
		c.Cut4(p, in, int(mtu), &w.cut)
		for _, x := range w.cut.Desc[:w.cut.N] {
			w.seal(c, x, in, false, h, r, 0)
		}
	}
}

// whole tells whether a packet that is too big is encrypted as it is, to leave in
// fragments.
func (w *worker) whole(p sal.Desc, h uint32, r *record, v6, mayCut bool) bool {
	switch {
	case v6 && p.Len() <= minPath6:
		return true
	case mayCut && w.f.sels[h].ports(): // the peer could not see them in fragments (RFC 4301 section 7)
		return true
	case r.Flags&recAfter == 0:
		return false
	case r.DFOr != 0, !mayCut && r.DFAnd != 0:
		return false // DF is in the outer packet
	}
	return r.fits(w.f.env.Pool, p)
}

// fits tells whether there is room for ESP around a packet in its buffer, and for
// what may have to stand in front of that.
func (r *record) fits(pool *sal.Pool, p sal.Desc) bool {
	head, n := uint32(r.HdrLen)+uint32(r.Prefix), uint32(p.Len())+r.Tail()
	return uint32(p.Off()) >= head+pipeline.EthLen && uint32(p.Off())+n <= uint32(pool.End(p.Buf())) && head+n <= sal.MaxPacket
}

// emit lets an ESP packet out, in fragments if that may be and must. (RFC 4301
// section 8.2.1; the fragments of IPv4 have no DF, as the path may be narrower
// still.)
func (w *worker) emit(c *pipeline.Ctx, d sal.Desc, x cookie, r *record) {
	adj := w.way(c, x.handle(), r)
	mtu := r.outerMTU(c, adj)
	if x&cuttable == 0 || uint32(d.Len()) <= mtu || mtu == 0 {
		c.Forward(d, x.in(), pipeline.FromLocal, adj)
		return
	}
	if r.Flags&recV6 != 0 {
		// RFC 7739 section 5.3: numbers that nobody can foretell.
		w.ident += 0x9e3779b97f4a7c15
		z := (w.ident ^ w.ident>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		c.Cut6(d, x.in(), int(mtu), uint32(z>>32), &w.pieces)
	} else {
		c.Cut4(d, x.in(), int(mtu), &w.pieces)
	}
	for _, y := range w.pieces.Desc[:w.pieces.N] {
		c.Forward(y, x.in(), pipeline.FromLocal, adj)
	}
}

// clamp has the segment size that a TCP SYN announces lowered to what fits, if it
// goes into an SA or has come out of one that wants it.
func (f *Feature) clamp(c *pipeline.Ctx, v *pipeline.Vec, i uint16, h uint32, r *record) {
	if v.Flags[i]&pipeline.FlagSYN != 0 && r.mss != pipeline.NoClamp {
		w := f.workers[c.Worker]
		v.Clamp(i, r.mss, r.InnerMTU(r.outerMTU(c, w.way(c, h, r))))
	}
}
