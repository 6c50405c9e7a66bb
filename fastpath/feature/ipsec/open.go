package ipsec

import (
	"math/bits"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// A packet's way in:
//
//	Open.Burst   1  ask for records and live lines
//	             2  lengths
//	             3  replay check, before time is spent on the ICV
//	             4  job
//	             -- engine --
//	opened       5  replay window, trailer, ECN
//	             6  round again: the inner packet, as one out of this SA
type Open struct{ F *Feature }

// Burst implements pipeline.Sink.
func (s Open) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	f := s.F
	w := f.workers[c.Worker]
	d := f.sad
	w.fetch(v, idx)
	for _, i := range idx {
		i &= 255
		h := v.Arg[i]
		r := d.at(h)
		p, in := v.IP(i), v.In[i]
		ip := mem.At(v.Addr[i] + pipeline.EthLen)
		hl := uint32(40)
		switch {
		case !v.V6:
			hl = uint32(mem.Load8(ip, 0)&15) * 4
		case v.Flags[i]&pipeline.FlagOptions != 0:
			o, _ := pkt.ParseIP(c.Pool.Bytes(p))
			hl = uint32(o.L4)
		}
		n := uint32(p.Len()) - hl
		// SPI, sequence, IV, an aligned text with at least a trailer, ICV.
		if hl < 20 || hl > uint32(p.Len()) || n < espPrefix+4+espICV || n&3 != 0 {
			w.drop(c, p, in, r, drop.ESPShort)
			continue
		}
		if why := r.idle(); why != drop.None {
			w.drop(c, p, in, r, why)
			continue
		}
		seq, verdict := w.check(r, bits.ReverseBytes32(mem.Load32(ip, uintptr(hl+4))))
		if verdict != replay.OK {
			w.drop(c, p, in, r, replayed[verdict])
			continue
		}
		l := w.lanes[r.engine]
		l.jobs[l.n&(sal.Burst-1)] = sal.Job{SA: r.sa, Op: sal.Open, Desc: p, Off: p.Off() + uint16(hl), Len: uint16(n - espPrefix - espICV),
			SeqHi: uint32(seq >> 32), Cookie: cookie(h, in, 0)}
		if l.n++; l.n == sal.Burst {
			l.run(c)
		}
	}
	w.run(c)
}

// replayed is what packets die of that a replay window does not take.
var replayed = [...]drop.Reason{replay.Replayed: drop.ESPReplay, replay.TooOld: drop.ESPLate, replay.Invalid: drop.ESPReplay}

// window is an SA's replay window, made to fit if the SA's size was changed: up
// to its top everything then counts as seen.
func (w *worker) window(r *record) replay.Window {
	area := w.f.sad.live.window(r.live)
	x := replay.View(area)
	if x.Size() != int(r.window) || x.ESN() != (r.flags&recESN != 0) {
		top := x.Top()
		x, _ = replay.Init(area, int(r.window), r.flags&recESN != 0) // sizes were checked
		if top > 0 {
			x.Restore(top)
		}
	}
	return x
}

// check asks the window about a packet that has not been proved genuine yet.
func (w *worker) check(r *record, lo uint32) (seq uint64, v replay.Verdict) {
	if !w.shared {
		return w.window(r).Check(lo)
	}
	live := w.f.sad.live.line(r.live)
	live.hold()
	seq, v = w.window(r).Check(lo)
	live.release()
	return seq, v
}

// accept enters a genuine packet's number. It fails for the second of two copies
// that were both under way.
func (w *worker) accept(r *record, seq uint64) (v replay.Verdict) {
	if !w.shared {
		return w.window(r).Accept(seq)
	}
	live := w.f.sad.live.line(r.live)
	live.hold()
	v = w.window(r).Accept(seq)
	live.release()
	return v
}

// opened goes on with a packet whose ICV was right.
func (w *worker) opened(c *pipeline.Ctx, j *sal.Job, h uint32, r *record, in pipeline.IfIndex) {
	esp := mem.At(c.Pool.Base() + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off))
	seq := uint64(j.SeqHi)<<32 | uint64(bits.ReverseBytes32(mem.Load32(esp, 4)))
	if v := w.accept(r, seq); v != replay.OK {
		w.drop(c, j.Desc, in, r, replayed[v])
		return
	}
	outer := mem.At(c.Pool.Addr(j.Desc))
	tos := mem.Load8(outer, 1)
	if r.flags&recV6 != 0 {
		tos = uint8(bits.ReverseBytes32(mem.Load32(outer, 0)) >> 20)
	}
	n, why := decap(mem.At(uintptr(esp)+espPrefix), uint32(j.Len), tos)
	if why != drop.None {
		w.drop(c, j.Desc, in, r, why)
		return
	}
	w.count(w.f.sad.live.line(r.live), uint64(n), c.Now)
	c.Reinject(sal.MakeDesc(j.Desc.Buf(), j.Off+espPrefix, uint16(n)), in, pipeline.FromSA(h))
}
