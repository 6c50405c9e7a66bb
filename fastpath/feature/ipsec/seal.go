package ipsec

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// A packet's way out, step by step over the burst (open.go has the way in):
//
//	Seal.Burst   1  ask for records and live lines
//	             2  way to the peer, MTU
//	             3  TTL, sequence number, trailer, ESP, outer header, job
//	             -- engine --
//	sealed       4  the outer packet goes out
type Seal struct{ F *Feature }

// path16 is a way to an SA's peer, one for each worker and record, on 16 bytes.
type path16 struct {
	pipeline.Path
	_ uint32
}

// worker is IPsec's state of one worker.
type worker struct {
	f      *Feature
	paths  mem.Table[path16]
	lanes  []*lane // by engine
	shared bool    // other workers may have packets of the same SA
	line   [pipeline.Burst]uint32
	cut    pipeline.Fragments
}

// A job's cookie: record handle, interface where the packet came in, length of
// the inner packet (outbound).
func cookie(h uint32, in pipeline.IfIndex, n uint32) uint64 {
	return uint64(h) | uint64(in)<<32 | uint64(n)<<48
}

func uncookie(c uint64) (h uint32, in pipeline.IfIndex, n uint64) {
	return uint32(c), pipeline.IfIndex(c >> 32), c >> 48
}

// fetch asks for the records that a list of packets will use, then for their
// live lines, so that thousands of SAs do not cost a wait each.
func (w *worker) fetch(v *pipeline.Vec, idx []uint16) {
	d := w.f.sad
	line := w.line[:len(idx)]
	base := uintptr(d.rec.Base())
	for k, i := range idx {
		line[k] = v.Arg[i&255] * 2
	}
	burst.PrefetchLines(base, line)
	for k, i := range idx {
		line[k] = d.at(v.Arg[i&255]).live
	}
	burst.PrefetchLines(uintptr(d.live.lines()), line)
}

// Burst implements pipeline.Sink.
func (s Seal) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	f := s.F
	w := f.workers[c.Worker]
	d := f.sad
	w.fetch(v, idx)
	for _, i := range idx {
		i &= 255
		h := v.Arg[i]
		r := d.at(h)
		p := v.IP(i)
		adj := w.way(c, h, r)
		n, m := uint32(p.Len()), innerMTU(uint32(c.MTU(adj)), uint32(r.hdrLen))
		if n > m {
			w.tooBig(c, v, i, h, r, adj, m)
			continue
		}
		if !v.From[i].Local() {
			decTTL(v, i)
		}
		w.seal(c, p, v.In[i], v.V6, h, r)
	}
	w.run(c)
}

func decTTL(v *pipeline.Vec, i uint16) {
	if v.V6 {
		pipeline.DecTTL6(v.Addr[i] + pipeline.EthLen)
	} else {
		pipeline.DecTTL4(v.Addr[i] + pipeline.EthLen)
	}
}

// seal takes a sequence number and puts ESP around a packet that fits; the
// engine gets it with the next run.
func (w *worker) seal(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, v6 bool, h uint32, r *record) {
	n := uint32(p.Len())
	if uint32(p.Off()) < uint32(r.hdrLen)+espPrefix+pipeline.EthLen || uint32(p.Off())+n+espTail > sal.BufSize {
		w.drop(c, p, in, r, drop.ESPNoRoom)
		return
	}
	live := w.f.sad.live.line(r.live)
	if why := r.idle(); why != drop.None {
		w.drop(c, p, in, r, why)
		return
	}
	seq := w.number(live)
	if seq == 0 {
		w.drop(c, p, in, r, drop.ESPSeqOverflow)
		return
	}
	_, total, text := r.encap(mem.At(c.Pool.Addr(p)), n, v6, seq)

	l := w.lanes[r.engine]
	esp := p.Off() - espPrefix
	l.jobs[l.n&(sal.Burst-1)] = sal.Job{SA: r.sa, Op: sal.Seal, Desc: sal.MakeDesc(p.Buf(), esp-uint16(r.hdrLen), uint16(total)),
		Off: esp, Len: uint16(text), SeqHi: uint32(seq >> 32), Cookie: cookie(h, in, n)}
	if l.n++; l.n == sal.Burst {
		l.run(c)
	}
}

// number takes the next sequence number, 0 if there is none (RFC 4303 section
// 3.3.3).
func (w *worker) number(live *liveLine) uint64 {
	if !w.shared {
		if live.Seq >= live.Limit {
			return 0
		}
		live.Seq++
		return live.Seq
	}
	for {
		s := atomic.LoadUint64(&live.Seq)
		if s >= atomic.LoadUint64(&live.Limit) {
			return 0
		}
		if atomic.CompareAndSwapUint64(&live.Seq, s, s+1) {
			return s + 1
		}
	}
}

// run hands what has been gathered to the engines.
func (w *worker) run(c *pipeline.Ctx) {
	for _, l := range w.lanes {
		if l.n > 0 {
			l.run(c)
		}
	}
}

func (l *lane) run(c *pipeline.Ctx) {
	n := l.n
	l.n = 0
	if !l.sync {
		l.out.Add(uint64(n))
	}
	l.q.Run(c, l.jobs[:n])
}

// way is the adjacency towards the SA's peer, 0 when there is no route.
func (w *worker) way(c *pipeline.Ctx, h uint32, r *record) uint32 {
	p := &w.paths.At(h).Path
	if r.flags&recV6 != 0 {
		hdr := unsafe.Pointer(&r.hdr6)
		return c.Path6(p, bits.ReverseBytes64(mem.Load64(hdr, 24)), bits.ReverseBytes64(mem.Load64(hdr, 32)))
	}
	return c.Path4(p, bits.ReverseBytes32(mem.Load32(unsafe.Pointer(&r.hdr4), 16)))
}

// tooBig takes a packet whose ESP packet would not fit the way out, or for which
// there is no way. An IPv4 packet that may be fragmented is, before it is
// encrypted, so that the peer need not put ESP packets together; any other's
// sender is told what fits (RFC 4301 section 8.2.1).
func (w *worker) tooBig(c *pipeline.Ctx, v *pipeline.Vec, i uint16, h uint32, r *record, adj, mtu uint32) {
	p, in, from := v.IP(i), v.In[i], v.From[i]
	switch {
	case c.MTU(adj) == 0:
		w.nowhere(c, p, in, from, adj)
	case v.V6 || mem.Load8(mem.At(c.Pool.Addr(p)), 6)&0x40 != 0:
		c.Reject(p, in, from, pipeline.RejectTooBig, uint16(mtu))
	default:
		if !from.Local() {
			decTTL(v, i)
		}
		if w.f.sels[h].ports() {
			w.whole(c, p, in, h, r)
			return
		}
		c.Cut4(p, in, int(mtu), &w.cut)
		for _, x := range w.cut.Desc[:w.cut.N] {
			w.seal(c, x, in, false, h, r)
		}
	}
}

// whole encrypts a packet that is too big, because the SA's selectors name ports,
// which the peer could not see in fragments (RFC 4301 section 7). The outer
// packet is cut on its way out; over IPv6 it cannot be.
func (w *worker) whole(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, h uint32, r *record) {
	if r.flags&recV6 != 0 {
		c.Drop(p, in, drop.NotFragmented)
		return
	}
	w.seal(c, p, in, false, h, r)
}

// nowhere ends a packet for whose SA's peer there is no way.
func (w *worker) nowhere(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, from pipeline.Origin, adj uint32) {
	switch c.Env.Adj.At(adj).Kind() {
	case pipeline.AdjBlackhole:
		c.Drop(p, in, drop.Blackhole)
	case pipeline.AdjUnreachable:
		c.Reject(p, in, from, pipeline.RejectHost, 0)
	case pipeline.AdjProhibit:
		c.Reject(p, in, from, pipeline.RejectProhibited, 0)
	case pipeline.AdjReceive: // the peer's address is our own
		c.Drop(p, in, drop.IPDestination)
	default:
		c.Reject(p, in, from, pipeline.RejectNoRoute, 0)
	}
}

// drop ends a packet of an SA: counted there and on the interface.
func (w *worker) drop(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, r *record, why drop.Reason) {
	atomic.AddUint64(&w.f.sad.errs.At(r.live)[saReason[why]], 1)
	c.Drop(p, in, why)
}

// count counts a packet of n bytes that an SA carried.
func (w *worker) count(live *liveLine, n uint64, now int64) {
	if w.shared {
		atomic.AddUint64(&live.Packets, 1)
		atomic.AddUint64(&live.Bytes, n)
		atomic.StoreInt64(&live.UsedAt, now)
		return
	}
	live.Packets++
	live.Bytes += n
	live.UsedAt = now
}

// sealed sends ESP packets that are ready. Those of an engine that took its time
// ask for the way again.
func (l *lane) sealed(c *pipeline.Ctx, j *sal.Job, h uint32, r *record, in pipeline.IfIndex, n uint64) {
	w := l.w
	w.count(w.f.sad.live.line(r.live), n, c.Now)
	adj := w.paths.At(h).Adj
	if !l.sync {
		adj = w.way(c, h, r)
	}
	c.Forward(j.Desc, in, pipeline.FromLocal, adj)
}

// Done implements cryptoq.Resumer.
func (l *lane) Done(c *pipeline.Ctx, jobs []sal.Job) {
	d := l.w.f.sad
	for k := range jobs {
		j := &jobs[k]
		h, in, n := uncookie(j.Cookie)
		r := d.at(h)
		switch {
		case j.Status != sal.StatusOK:
			l.w.drop(c, j.Desc, in, r, failed[j.Status&15])
		case j.Op == sal.Seal:
			l.sealed(c, j, h, r, in, n)
		default:
			l.w.opened(c, j, h, r, in)
		}
	}
	if !l.sync {
		l.back.Add(uint64(len(jobs)))
	}
}

// failed is what packets die of that an engine could not do.
var failed = func() (why [16]drop.Reason) {
	for s := range why {
		why[s] = drop.SALDevice
	}
	why[sal.StatusBadICV] = drop.ESPBadICV
	why[sal.StatusNoSA] = drop.ESPNoSA
	why[sal.StatusShort] = drop.ESPShort
	why[sal.StatusNoRoom] = drop.ESPNoRoom
	return why
}()

// Full implements cryptoq.Resumer. The sequence numbers of these packets are
// lost, which a receiver's window forgives; using them again it would not.
func (l *lane) Full(c *pipeline.Ctx, jobs []sal.Job) {
	for k := range jobs {
		h, in, _ := uncookie(jobs[k].Cookie)
		l.w.drop(c, jobs[k].Desc, in, l.w.f.sad.at(h), drop.SALQueueFull)
	}
	l.back.Add(uint64(len(jobs)))
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
