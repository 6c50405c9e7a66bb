package ipsec

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/esp"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// A packet's way out, step by step over the burst (open.go has the way in):
//
//	fetch    1  ask for records
//	smooth   2  way to the peer, does it fit, is there room, a number
//	all      3  number, TTL, trailer, ESP, outer header, Ethernet header; job
//	         -- engine --
//	Done     4  the frame goes out
//
// A packet that anything is in the way of goes through one instead.
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
	purses mem.Table[purse] // by index of the group
	lanes  []*lane          // by engine
	shared bool             // other workers may have packets of the same SA
	missed atomic.Bool      // a message that had no room
	mute   int64            // until then nothing is said of unknown SPIs
	line   [pipeline.Burst]uint32
	cut    pipeline.Fragments     // of inner packets
	pieces pipeline.Fragments     // of outer packets
	ident  uint64                 // the last identification of IPv6 fragments, and more
	learnt int64                  // until then no path MTU is told of
	toldOf uint32                 // the record that the last one is of,
	told   uint32                 // and what it was
	ike    [pipeline.Burst]uint16 // see Unwrap

	late     bool // packets are sealed anew that an engine has given back (again), and that are paid for:
	resealed bool // some of them wait to be run
}

// A cookie is what a job needs to go on. Outbound that is where the frame goes
// (as pipeline.TxList has it) and how much padding it got; ready says that its
// Ethernet header is in place, cuttable that it may leave in fragments.
type cookie uint64

const (
	ready    cookie = 1 << 63
	cuttable cookie = 1 << 62
)

func makeCookie(h uint32, out, in pipeline.IfIndex, pad uint32) cookie {
	return cookie(out) | cookie(in)<<16 | cookie(h)<<32 | cookie(pad)<<56
}

func (c cookie) way() uint32          { return uint32(c) }
func (c cookie) in() pipeline.IfIndex { return pipeline.IfIndex(c >> 16) }
func (c cookie) handle() uint32       { return uint32(c>>32) & 0xffffff }
func (c cookie) pad() uint32          { return uint32(c>>56) & 15 }

// inner is the length of the packet that a job sealed.
func inner(j *sal.Job) uint64 {
	return uint64(uint32(j.Len) - espTrailer - cookie(j.Cookie).pad())
}

// fetch asks for what a list of packets will use of their SAs, so that thousands
// of SAs do not cost a wait each: records, and ways to the peers or replay
// windows; then live lines. A few SAs stay in the cache by themselves.
func (w *worker) fetch(v *pipeline.Vec, idx []uint16, windows bool) {
	if w.f.few.Load() {
		return
	}
	d := w.f.sad
	line := w.line[:len(idx)]
	for k, i := range idx {
		line[k] = v.Arg[i&255]
	}
	if !windows {
		burst.PrefetchShifted(uintptr(w.paths.Base()), line, 2)
	}
	for k := range line {
		line[k] *= uint32(recordSize / 64)
	}
	burst.PrefetchLines(uintptr(d.rec.Base()), line)
	if !windows {
		return
	}
	for k, i := range idx {
		line[k] = d.at(v.Arg[i&255]).live
	}
	burst.PrefetchLines(uintptr(d.live.lines()), line)
	for k := range line {
		line[k] *= windowWords * 8 / 64
	}
	burst.PrefetchLines(uintptr(d.live.windows()), line)
}

// fewSAs have their lines in the first-level cache anyhow.
const fewSAs = 64

// Burst implements pipeline.Sink.
func (s Seal) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	w := s.F.worker(c)
	w.fetch(v, idx, false)
	d := s.F.sad
	recs, lives, paths, adjs := d.rec.Base(), d.live.lines(), w.paths.Base(), c.Env.Adj.Base
	local := v.From[idx[0]&255].Local() // what is made here comes in bursts of its own
	used := c.Now - s.F.clock.base.Load()
	l := w.lanes[0]
	// The SA that the packet before was of, when nothing was wrong with it.
	var r *record
	var a *pipeline.Adj
	var live *liveLine
	var word pipeline.AdjWord
	last := ^uintptr(0)
	for _, i := range idx {
		i &= 255
		if h := uintptr(v.Arg[i]); h != last {
			r = (*record)(unsafe.Add(recs, h*recordSize))
			path := unsafe.Add(paths, h*16)
			a = (*pipeline.Adj)(unsafe.Add(adjs, uintptr(mem.Load32(path, 0))*adjSize))
			live = (*liveLine)(unsafe.Add(lives, uintptr(r.live)*64))
			word = a.Word()
			if mem.Load32(path, 8) != c.Gen || mem.Load32(path, 4) != a.Gen() || atomic.LoadUint32(&r.down) != 0 || w.shared ||
				r.Flags&(recUDPSum|recTransport|recProtocol) != 0 {
				w.one(c, v, i, uint32(h), r)
				last = ^uintptr(0)
				continue
			}
			last = h
		}
		desc, ip := uint64(v.Desc[i]), mem.At(v.Addr[i]+pipeline.EthLen)
		n := uint64(bits.ReverseBytes16(mem.Load16(ip, 2)))
		if v.V6 {
			n = uint64(bits.ReverseBytes16(mem.Load16(ip, 4))) + 40
		}
		off, prefix, mask, icv := desc>>32&0xffff+pipeline.EthLen, uint64(r.Prefix), uint64(r.Mask), uint64(r.ICV)
		text, head := (n+espTrailer+mask)&^mask, uint64(r.HdrLen)+prefix
		total := head + text + icv
		seq := live.Seq + 1
		if total+pipeline.EthLen > uint64(word.MTU()) || total > uint64(atomic.LoadUint32(&r.path)) || seq > live.Limit ||
			off < head+pipeline.EthLen || off+n+mask+espTrailer+icv > sal.BufSize && off+n+mask+espTrailer+icv > uint64(c.Pool.End(uint32(desc))) {
			w.one(c, v, i, uint32(last), r)
			last = ^uintptr(0) // it may have found another way
			continue
		}
		live.Seq = seq
		live.Packets++
		live.Bytes += n
		live.UsedAt = used
		if !local {
			if v.V6 {
				pipeline.DecTTL6(uintptr(ip))
			} else {
				pipeline.DecTTL4(uintptr(ip))
			}
		}
		frame := unsafe.Add(r.Encap(ip, uint32(n), v.V6, seq), -pipeline.EthLen)
		mem.Store64(frame, 0, a.L2a())
		mem.Store64(frame, 6, a.L2b())

		if e := w.lanes[r.engine]; e != l {
			l = e
		}
		// The job's fields, eight bytes at a time.
		j := unsafe.Pointer(l.job())
		mem.Store64(j, 0, uint64(r.sa)|uint64(sal.Seal)<<32)
		mem.Store64(j, 8, desc&0xffffffff|(off-head)<<32|total<<48)
		mem.Store64(j, 16, off-prefix|text<<16|seq>>32<<32)
		mem.Store64(j, 24, uint64(word)>>32&0xffff|uint64(v.In[i])<<16|uint64(last)<<32|(text-espTrailer-n)<<56|uint64(ready))
		if l.n == sal.Burst {
			l.run(c)
			last = ^uintptr(0)
		}
	}
	w.run(c)
}

const (
	recordSize = unsafe.Sizeof(record{})
	adjSize    = unsafe.Sizeof(pipeline.Adj{})
)

// one does one packet of a burst with care: it finds the way again and says what
// is wrong with the packet, if anything is.
func (w *worker) one(c *pipeline.Ctx, v *pipeline.Vec, i uint16, h uint32, r *record) {
	p := v.IP(i)
	adj := w.way(c, h, r)
	if r.Flags&recTransport != 0 {
		w.insert(c, p, v.In[i], v.From[i], h, r, adj)
		return
	}
	if m := r.InnerMTU(r.outerMTU(c, adj)); uint32(p.Len()) > m {
		w.tooBig(c, v, i, h, r, adj, m)
		return
	}
	if !v.From[i].Local() {
		decTTL(v, i)
	}
	w.seal(c, p, v.In[i], v.V6, h, r, 0)
}

// outerMTU is what ESP packets may have that leave by an adjacency, 0 when it
// leads nowhere.
func (r *record) outerMTU(c *pipeline.Ctx, adj uint32) uint32 {
	return min(uint32(c.MTU(adj)), atomic.LoadUint32(&r.path))
}

func decTTL(v *pipeline.Vec, i uint16) {
	if v.V6 {
		pipeline.DecTTL6(v.Addr[i] + pipeline.EthLen)
	} else {
		pipeline.DecTTL4(v.Addr[i] + pipeline.EthLen)
	}
}

// seal takes a sequence number and puts ESP around a packet that fits, or with how
// cuttable; the engine gets it with the next run.
func (w *worker) seal(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, v6 bool, h uint32, r *record, how cookie) {
	if r.Flags&recProtocol != 0 {
		w.encap(c, p, in, h, r, how)
		return
	}
	n := uint32(p.Len())
	if !r.fits(c.Pool, p) {
		w.drop(c, p, in, r, drop.ESPNoRoom)
		return
	}
	live := w.f.sad.live.line(r.live)
	if why := w.may(c, r); why != drop.None {
		w.drop(c, p, in, r, why)
		return
	}
	size := r.Head() + r.TextLen(n) + uint32(r.ICV)
	if r.group != 0 && !w.late && !w.afford(c, r, size) {
		w.drop(c, p, in, r, drop.ESPQuota)
		return
	}
	seq, why := w.count(c, r.live, live, &live.Seq, uint64(n), c.Now-w.f.clock.base.Load())
	if why != drop.None {
		if now := w.home(r.live); now != h && now != 0 { // an engine gives the numbers, of late
			if r.group != 0 && !w.late {
				w.refund(r, size)
			}
			w.seal(c, p, in, v6, now, w.f.sad.at(now), how)
			return
		}
		w.drop(c, p, in, r, why)
		return
	}
	r.Encap(mem.At(c.Pool.Addr(p)), n, v6, seq)

	l := w.lanes[r.engine]
	text, head := r.TextLen(n), uint16(r.HdrLen)+uint16(r.Prefix)
	*l.job() = sal.Job{SA: r.sa, Op: sal.Seal, Desc: sal.MakeDesc(p.Buf(), p.Off()-head, head+uint16(text)+uint16(r.ICV)),
		Off: p.Off() - uint16(r.Prefix), Len: uint16(text), SeqHi: uint32(seq >> 32), Cookie: uint64(makeCookie(h, 0, in, text-espTrailer-n) | how)}
	if l.n == sal.Burst {
		l.run(c)
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

// job is the next job to fill in.
func (l *lane) job() *sal.Job {
	j := &l.jobs[l.n&(sal.Burst-1)]
	l.n++
	return j
}

func (l *lane) run(c *pipeline.Ctx) {
	n := l.n
	l.n = 0
	pipeline.Add(&l.taken, uint64(n))
	if !l.sync {
		l.out.Add(uint64(n))
	}
	l.q.Run(c, l.jobs[:n])
}

// way is the adjacency towards the SA's peer, 0 when there is no route.
func (w *worker) way(c *pipeline.Ctx, h uint32, r *record) uint32 {
	p := &w.paths.At(h).Path
	if r.Flags&recV6 != 0 {
		hdr := unsafe.Pointer(&r.Hdr6)
		return c.Path6(p, bits.ReverseBytes64(mem.Load64(hdr, 24)), bits.ReverseBytes64(mem.Load64(hdr, 32)))
	}
	return c.Path4(p, bits.ReverseBytes32(mem.Load32(unsafe.Pointer(&r.Hdr4), 16)))
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

// Done implements cryptoq.Resumer. Frames that are ready go out as they are, if
// the engine did them at once; after some time the way is asked for again. What
// was opened goes round.
func (l *lane) Done(c *pipeline.Ctx, jobs []sal.Job) {
	l.w.shared = c.Shared
	d := l.w.f.sad
	all := len(jobs)
	if !l.sync {
		l.giveUp(c, jobs)
	}
	for len(jobs) > 0 {
		if l.sync {
			jobs = jobs[l.send(c, jobs):]
		}
		if jobs = jobs[l.opened(c, jobs):]; len(jobs) == 0 {
			break
		}
		j := &jobs[0]
		jobs = jobs[1:]
		x := cookie(j.Cookie)
		r := d.at(x.handle())
		if j.Op == sal.Encap || j.Op == sal.Decap {
			l.whole(c, j, r)
		} else if j.Status != sal.StatusOK {
			l.failed(c, j, r)
		} else {
			if r.Flags&recUDPSum != 0 {
				esp.SumUDP6(c.Pool.Bytes(j.Desc), int(j.Off-j.Desc.Off())-udpLen)
			}
			l.w.emit(c, j.Desc, x, r)
		}
	}
	if l.w.resealed {
		l.w.resealed = false
		l.w.run(c)
	}
	if !l.sync {
		l.back.Add(uint64(all))
	}
}

// giveUp fails what was in an engine when that failed, and comes too late (health.go).
func (l *lane) giveUp(c *pipeline.Ctx, jobs []sal.Job) {
	if n := int64(l.given.Load() - l.back.Load()); n > 0 && c.Now >= l.until.Load() {
		for k := range jobs[:min(n, int64(len(jobs)))] {
			if jobs[k].Status == sal.StatusOK {
				jobs[k].Status = sal.StatusDevice
			}
		}
	}
}

// send sends the frames at the beginning of a list that are ready, and says how
// many they are: all of them, as a rule.
func (l *lane) send(c *pipeline.Ctx, jobs []sal.Job) int {
	tx := &c.Tx
	if cookie(jobs[0].Cookie)&ready == 0 {
		return 0
	}
	if tx.N+len(jobs) > len(tx.Desc) {
		c.FlushTx()
	}
	desc, way := tx.Desc[tx.N:], tx.Way[tx.N:]
	desc, way = desc[:len(jobs)], way[:len(jobs)]
	for k := range jobs {
		j := &jobs[k]
		if cookie(j.Cookie)&ready == 0 || j.Status != sal.StatusOK {
			tx.N += k
			return k
		}
		desc[k] = j.Desc + (pipeline.EthLen<<48 - pipeline.EthLen<<32)
		way[k] = cookie(j.Cookie).way()
	}
	tx.N += len(jobs)
	return len(jobs)
}

// failed ends a packet that an engine could not do.
func (l *lane) failed(c *pipeline.Ctx, j *sal.Job, r *record) {
	if j.Op == sal.Seal {
		l.w.uncount(l.w.f.sad.live.line(r.live), inner(j))
	} else if j.Op == sal.Open && j.Status == sal.StatusBadICV && r.Flags&recESN != 0 {
		l.guessed(c, j, r)
	}
	l.giveBack(j, r)
	if reasons[j.Status&15] == drop.SALDevice {
		pipeline.Add(&l.fails, 1)
	}
	l.w.drop(c, j.Desc, cookie(j.Cookie).in(), r, reasons[j.Status&15])
}

// reasons is what packets die of that an engine could not do.
var reasons = func() (why [16]drop.Reason) {
	for s := range why {
		why[s] = drop.SALDevice
	}
	why[sal.StatusBadICV] = drop.ESPBadICV
	why[sal.StatusNoSA] = drop.ESPNoSA
	why[sal.StatusShort] = drop.ESPShort
	why[sal.StatusNoRoom] = drop.ESPNoRoom
	why[sal.StatusBadPad] = drop.ESPBadPad
	why[sal.StatusBadNext] = drop.ESPBadNext
	why[sal.StatusBadECN] = drop.ESPBadECN
	why[sal.StatusDummy] = drop.ESPDummy
	why[sal.StatusReplay] = drop.ESPReplay
	why[sal.StatusLate] = drop.ESPLate
	why[sal.StatusSeqOverflow] = drop.ESPSeqOverflow
	why[sal.StatusExpired] = drop.ESPExpired
	return why
}()

// Full implements cryptoq.Resumer. The sequence numbers of these packets are
// lost, which a receiver's window forgives; using them again it would not.
func (l *lane) Full(c *pipeline.Ctx, jobs []sal.Job) {
	for k := range jobs {
		j := &jobs[k]
		x := cookie(j.Cookie)
		r := l.w.f.sad.at(x.handle())
		if j.Op == sal.Seal {
			l.w.uncount(l.w.f.sad.live.line(r.live), inner(j))
		}
		l.w.drop(c, j.Desc, x.in(), r, drop.SALQueueFull)
	}
	pipeline.Add(&l.full, uint64(len(jobs)))
	l.back.Add(uint64(len(jobs)))
}

// Poll implements pipeline.Poller over all workers' queues; each worker polls
// its own.
func (f *Feature) Poll(c *pipeline.Ctx) (n int) {
	for _, l := range f.workers[c.Worker].lanes {
		if l.q.Busy(c) {
			pipeline.Add(&l.asked, 1)
		}
		n += l.q.Poll(c)
	}
	return n
}

// Rings implements pipeline.Poller.
func (f *Feature) Rings(c *pipeline.Ctx) bool {
	for _, l := range f.workers[c.Worker].lanes {
		if !l.q.Rings(c) {
			return false
		}
	}
	return true
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
