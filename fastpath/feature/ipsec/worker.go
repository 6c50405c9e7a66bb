package ipsec

import (
	"math/bits"

	"vrouter/fastpath/cryptoq"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// A packet's way through ESP, outbound (Seal) and inbound (Open):
//
//	Seal.Burst                         Open.Burst
//	 1 ask for records and live lines   1 the same
//	 2 MTU, room, sequence number       2 lengths, replay check (before the ICV)
//	 3 TTL, trailer, ESP, outer header  3 job
//	 4 job                              -- engine --
//	 -- engine --                       4 ICV, replay window, trailer, ECN
//	 5 Forward the outer packet         5 Reinject the inner packet as FromSA

// path is a way to an SA's peer, one for each worker and record: 16 bytes.
type path struct {
	pipeline.Path
	_ uint32
}

// lane is one worker's queue into one engine, with the jobs being gathered.
type lane struct {
	q    *cryptoq.Queue
	raw  sal.Queue
	n    int
	jobs [sal.Burst]sal.Job
}

// worker is IPsec's state of one worker.
type worker struct {
	f     *Feature
	paths mem.Table[path]
	lanes []*lane
	line  [pipeline.Burst]uint32 // for prefetching
}

// Seal is the sink of flows that end with action.Encrypt.
type Seal struct{ F *Feature }

// Open is the sink of flows that end with action.Decrypt.
type Open struct{ F *Feature }

// A job's cookie: record handle, interface where the packet came in, and where
// it came from if an error must be sent about it.
func cookie(h uint32, in pipeline.IfIndex) uint64 { return uint64(h) | uint64(in)<<32 }

func uncookie(c uint64) (h uint32, in pipeline.IfIndex) { return uint32(c), pipeline.IfIndex(c >> 32) }

// prefetch asks for the records that a list of packets will use, then for
// their live lines, so that thousands of SAs do not cost a wait each.
func (w *worker) prefetch(v *pipeline.Vec, idx []uint16) {
	d := w.f.sad
	line := w.line[:len(idx)]
	for k, i := range idx {
		line[k] = v.Arg[i&255] * 2
	}
	base := uintptr(d.rec.Base())
	burst.PrefetchLines(base, line)
	burst.PrefetchLines(base+64, line)
	for k, i := range idx {
		line[k] = d.at(v.Arg[i&255]).live
	}
	burst.PrefetchLines(d.live.lines(), line)
}

// Burst implements pipeline.Sink.
func (s Seal) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	f := s.F
	w := f.workers[c.Worker]
	d := f.sad
	w.prefetch(v, idx)
	for _, i := range idx {
		i &= 255
		h := v.Arg[i]
		r := d.at(h)
		live := d.live.line(r.live)
		p := v.IP(i)
		n := uint32(p.Len())

		adj := w.way(c, h, r)
		if adj == 0 {
			c.Drop(p, v.In[i], drop.NoRoute)
			continue
		}
		if m := innerMTU(uint32(c.MTU(adj)), r.hdrLen); n > m {
			w.tooBig(c, v, i, p, m)
			continue
		}
		if uint32(p.Off()) < r.hdrLen+espPrefix+pipeline.EthLen || uint32(p.Off())+n+espTail > sal.BufSize {
			c.Drop(p, v.In[i], drop.ESPNoRoom)
			continue
		}
		seq := live.Seq + 1
		if seq > live.Limit || r.flags&recStale != 0 {
			w.noNumber(c, p, v.In[i], r)
			continue
		}
		live.Seq = seq

		at := v.Addr[i] + pipeline.EthLen
		if !v.From[i].Local() {
			if v.V6 {
				pipeline.DecTTL6(at)
			} else {
				pipeline.DecTTL4(at)
			}
		}
		_, total, text := r.encap(mem.At(at), n, v.V6, seq)
		live.Packets++
		live.Bytes += uint64(n)
		live.UsedAt = c.Now

		l := w.lanes[r.engine]
		j := &l.jobs[l.n&(sal.Burst-1)]
		l.n++
		esp := p.Off() - espPrefix
		*j = sal.Job{SA: r.sa, Op: sal.Seal, Desc: sal.MakeDesc(p.Buf(), esp-uint16(r.hdrLen), uint16(total)),
			Off: esp, Len: uint16(text), SeqHi: uint32(seq >> 32), Cookie: cookie(h, v.In[i])}
	}
	w.run(c)
}

// run hands what has been gathered to the engines.
func (w *worker) run(c *pipeline.Ctx) {
	for _, l := range w.lanes {
		if n := l.n; n > 0 {
			l.n = 0
			l.q.Run(c, l.jobs[:n])
		}
	}
}

// way is the adjacency towards the SA's peer, 0 when there is no route.
func (w *worker) way(c *pipeline.Ctx, h uint32, r *record) uint32 {
	p := &w.paths.At(h).Path
	if r.flags&recV6 != 0 {
		return c.Path6(p, bits.ReverseBytes64(mem.Load64(hdrOf(r), 24)), bits.ReverseBytes64(mem.Load64(hdrOf(r), 32)))
	}
	return c.Path4(p, bits.ReverseBytes32(mem.Load32(hdrOf(r), 16)))
}

// tooBig ends a packet whose ESP packet would not fit the way out. The sender
// is told what fits (RFC 4301 section 8.2.1).
func (w *worker) tooBig(c *pipeline.Ctx, v *pipeline.Vec, i uint16, p sal.Desc, mtu uint32) {
	c.Reject(p, v.In[i], v.From[i], pipeline.RejectTooBig, uint16(mtu))
}

// noNumber ends a packet for which there is no sequence number: none is left
// (RFC 4303 section 3.3.3), or it is not known which were used.
func (w *worker) noNumber(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, r *record) {
	e, why := errSeqOverflow, drop.ESPSeqOverflow
	if r.flags&recStale != 0 {
		e, why = errStale, drop.ESPSeqStale
	}
	w.f.sad.errs.At(r.live)[e]++
	c.Drop(p, in, why)
}

// Burst implements pipeline.Sink.
func (s Open) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	f := s.F
	w := f.workers[c.Worker]
	d := f.sad
	w.prefetch(v, idx)
	for _, i := range idx {
		i &= 255
		h := v.Arg[i]
		r := d.at(h)
		p := v.IP(i)
		ip := mem.At(v.Addr[i] + pipeline.EthLen)
		hl := uint32(40)
		if !v.V6 {
			hl = uint32(mem.Load8(ip, 0)&15) * 4
		}
		n := uint32(p.Len()) - hl
		// SPI, sequence, IV, an aligned text with at least a trailer, ICV.
		if v.Flags[i]&pipeline.FlagOptions != 0 && v.V6 || n < espPrefix+4+espICV || n&3 != 0 || n > uint32(p.Len()) {
			d.errs.At(r.live)[errMalformed]++
			c.Drop(p, v.In[i], drop.ESPShort)
			continue
		}
		if r.flags&recStale != 0 {
			d.errs.At(r.live)[errStale]++
			c.Drop(p, v.In[i], drop.ESPSeqStale)
			continue
		}
		lo := bits.ReverseBytes32(mem.Load32(ip, uintptr(hl+4)))
		seq, verdict := replay.View(d.live.window(r.live)).Check(lo)
		if verdict != replay.OK {
			w.replayed(c, p, v.In[i], r, verdict)
			continue
		}
		l := w.lanes[r.engine]
		j := &l.jobs[l.n&(sal.Burst-1)]
		l.n++
		*j = sal.Job{SA: r.sa, Op: sal.Open, Desc: p, Off: p.Off() + uint16(hl), Len: uint16(n - espPrefix - espICV),
			SeqHi: uint32(seq >> 32), Cookie: cookie(h, v.In[i])}
	}
	w.run(c)
}

func (w *worker) replayed(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, r *record, v replay.Verdict) {
	e, why := errReplayed, drop.ESPReplay
	if v == replay.TooOld {
		e, why = errLate, drop.ESPLate
	}
	w.f.sad.live.line(r.live).Replayed++
	w.f.sad.errs.At(r.live)[e]++
	c.Drop(p, in, why)
}

// Done implements cryptoq.Resumer.
func (w *worker) Done(c *pipeline.Ctx, jobs []sal.Job) {
	for k := range jobs {
		j := &jobs[k]
		h, in := uncookie(j.Cookie)
		switch {
		case j.Status != sal.StatusOK:
			w.failed(c, j, h, in)
		case j.Op == sal.Seal:
			c.Forward(j.Desc, in, pipeline.FromLocal, w.paths.At(h).Adj)
		default:
			w.opened(c, j, h, in)
		}
	}
}

// opened goes on with a packet whose ICV was right.
func (w *worker) opened(c *pipeline.Ctx, j *sal.Job, h uint32, in pipeline.IfIndex) {
	d := w.f.sad
	r := d.at(h)
	esp := mem.At(c.Pool.Base() + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off))
	seq := uint64(j.SeqHi)<<32 | uint64(bits.ReverseBytes32(mem.Load32(esp, 4)))
	if v := replay.View(d.live.window(r.live)).Accept(seq); v != replay.OK {
		w.replayed(c, j.Desc, in, r, v) // two copies in one burst
		return
	}
	outer := mem.At(c.Pool.Addr(j.Desc))
	tos := mem.Load8(outer, 1)
	if r.flags&recV6 != 0 {
		tos = uint8(bits.ReverseBytes32(mem.Load32(outer, 0)) >> 20)
	}
	n, _, res := decap(mem.At(uintptr(esp)+espPrefix), uint32(j.Len), tos)
	if res != decapOK {
		w.malformed(c, j, r, in, res)
		return
	}
	live := d.live.line(r.live)
	live.Packets++
	live.Bytes += uint64(n)
	live.UsedAt = c.Now
	c.Reinject(sal.MakeDesc(j.Desc.Buf(), j.Off+espPrefix, uint16(n)), in, pipeline.FromSA(h))
}

func (w *worker) malformed(c *pipeline.Ctx, j *sal.Job, r *record, in pipeline.IfIndex, res int) {
	why := [...]drop.Reason{decapShort: drop.ESPShort, decapBadPad: drop.ESPBadPad, decapBadNext: drop.ESPBadNext,
		decapDummy: drop.ESPDummy, decapECN: drop.ESPBadECN}[res]
	if res != decapDummy {
		w.f.sad.errs.At(r.live)[errMalformed]++
	}
	c.Drop(j.Desc, in, why)
}

// failed ends a packet that an engine could not do.
func (w *worker) failed(c *pipeline.Ctx, j *sal.Job, h uint32, in pipeline.IfIndex) {
	d := w.f.sad
	r := d.at(h)
	why := drop.SALDevice
	switch j.Status {
	case sal.StatusBadICV:
		why = drop.ESPBadICV
		d.live.line(r.live).Failed++
		d.errs.At(r.live)[errBadICV]++
	case sal.StatusNoSA:
		why = drop.ESPNoSA
	case sal.StatusShort:
		why = drop.ESPShort
	case sal.StatusNoRoom:
		why = drop.ESPNoRoom
	default:
		d.errs.At(r.live)[errDevice]++
	}
	c.Drop(j.Desc, in, why)
}

// Full implements cryptoq.Resumer. The sequence numbers of these packets are
// lost, which a receiver's window forgives; using them again it would not.
func (w *worker) Full(c *pipeline.Ctx, jobs []sal.Job) {
	for k := range jobs {
		_, in := uncookie(jobs[k].Cookie)
		c.Drop(jobs[k].Desc, in, drop.SALQueueFull)
	}
}

// Poll implements pipeline.Poller over all workers' queues; each worker polls
// its own.
func (f *Feature) Poll(c *pipeline.Ctx) (n int) {
	for _, l := range f.workers[c.Worker].lanes {
		n += l.q.Poll(c)
	}
	return n
}

// Busy implements pipeline.Poller.
func (f *Feature) Busy(c *pipeline.Ctx) bool {
	for _, l := range f.workers[c.Worker].lanes {
		if l.q.Busy(c) {
			return true
		}
	}
	return false
}
