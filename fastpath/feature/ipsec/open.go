package ipsec

import (
	"math"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// A packet's way in:
//
//	Open.Burst  1  ask for records, live lines, windows
//	            2  lengths
//	            3  replay check, before time is spent on the ICV
//	            4  job
//	            -- engine --
//	opened      5  replay window, trailer, ECN
//	            6  round again: the inner packet, as one out of this SA
type Open struct{ F *Feature }

// Burst implements pipeline.Sink.
func (s Open) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	w := s.F.worker(c)
	w.fetch(v, idx, true)
	d := s.F.sad
	recs, windows := d.rec.Base(), d.live.windows()
	// What is known of the SA that the packet before was of.
	var r *record
	var l *lane
	var window unsafe.Pointer
	var down uint32
	last := uint32(math.MaxUint32) // never a handle
	for _, i := range idx {
		i &= 255
		h := v.Arg[i]
		if h != last {
			last = h
			r = (*record)(unsafe.Add(recs, uintptr(h)*recordSize))
			window, down = unsafe.Add(windows, uintptr(r.live)*windowWords*8), atomic.LoadUint32(&r.down)
			if e := w.lanes[r.engine]; e != l { // as in Seal
				l = e
			}
		}
		desc, ip := uint64(v.Desc[i]), mem.At(v.Addr[i]+pipeline.EthLen)
		var hl, size uint64
		switch {
		case !v.V6:
			head := mem.Load32(ip, 0)
			hl, size = uint64(head&15)*4, uint64(bits.ReverseBytes16(uint16(head>>16)))
		case v.Flags[i]&pipeline.FlagOptions == 0:
			hl, size = 40, uint64(bits.ReverseBytes16(mem.Load16(ip, 4)))+40
		default:
			o, _ := pkt.ParseIP(c.Pool.Bytes(v.IP(i)))
			hl, size = uint64(o.L4), uint64(v.IPLen(i))
		}
		hl += uint64(r.UDP)
		n := size - hl
		around, mask := uint64(r.Prefix)+uint64(r.ICV), uint64(r.Mask)
		// SPI, sequence, IV, an aligned text with at least a trailer, ICV.
		if hl < 20 || hl > size || n < around+mask+1 || (n-around)&mask != 0 {
			w.drop(c, v.IP(i), v.In[i], r, drop.ESPShort)
			continue
		}
		if down != 0 {
			if why := w.may(c, r); why != drop.None {
				w.drop(c, v.IP(i), v.In[i], r, why)
				continue
			}
		}
		if r.Flags&recProtocol != 0 {
			if down&recMetered != 0 && !w.afford(c, r, uint32(size)) {
				w.drop(c, v.IP(i), v.In[i], r, drop.ESPQuota)
				continue
			}
			w.give(c, r, sal.Job{SA: r.sa, Op: sal.Decap, Desc: sal.MakeDesc(uint32(desc), uint16(desc>>32)+pipeline.EthLen, uint16(size)), Cookie: uint64(makeCookie(h, 0, v.In[i], 0))})
			continue
		}
		lo := bits.ReverseBytes32(mem.Load32(ip, uintptr(hl+4)))
		// A number little ahead of the window, as most are, is new whatever the
		// window holds: only top is looked at.
		top := mem.Load64(window, 0)
		seq := top&^math.MaxUint32 | uint64(lo)
		if seq-top-1 >= 1<<30 || w.shared {
			var verdict replay.Verdict
			if seq, verdict = w.check(r, lo); verdict != replay.OK {
				if verdict == replay.TooOld {
					w.f.sad.late.At(r.live).dropped(top, seq)
				}
				w.drop(c, v.IP(i), v.In[i], r, replayed[verdict])
				continue
			}
		}
		if down&recMetered != 0 && !w.afford(c, r, uint32(size)) {
			w.drop(c, v.IP(i), v.In[i], r, drop.ESPQuota)
			continue
		}
		off := desc>>32&0xffff + pipeline.EthLen
		j := unsafe.Pointer(l.job())
		mem.Store64(j, 0, uint64(r.sa)|uint64(sal.Open)<<32)
		mem.Store64(j, 8, desc&math.MaxUint32|off<<32|size<<48)
		mem.Store64(j, 16, (off+hl)&0xffff|(n-around)<<16|seq>>32<<32)
		mem.Store64(j, 24, uint64(makeCookie(h, 0, v.In[i], 0)))
		if l.n == sal.Burst {
			l.run(c)
			last = math.MaxUint32
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
	if x.Size() != int(r.window) || x.ESN() != (r.Flags&recESN != 0) {
		top := x.Top()
		x, _ = replay.Init(area, int(r.window), r.Flags&recESN != 0) // sizes were checked
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
// that were both under way. (check has made the window fit, where its size counts.)
// late is how far behind the window's top it came.
func (w *worker) accept(r *record, seq uint64) (v replay.Verdict, late uint64) {
	if !w.shared {
		x := replay.View(w.f.sad.live.window(r.live))
		late = x.Behind(seq)
		return x.Accept(seq), late
	}
	live := w.f.sad.live.line(r.live)
	live.hold()
	x := w.window(r)
	late = x.Behind(seq)
	v = x.Accept(seq)
	live.release()
	return v, late
}

// opened goes on with packets whose ICV was right: those at the beginning of a
// list. It says how many they are.
func (l *lane) opened(c *pipeline.Ctx, jobs []sal.Job) int {
	w := l.w
	d := w.f.sad
	recs, lives, windows, base := d.rec.Base(), d.live.lines(), d.live.windows(), c.Pool.Base()
	loop, used := &c.Loop, c.Now-w.f.clock.base.Load()
	// What is known of the SA that the packet before was of.
	var r *record
	var live *liveLine
	var window *[replay.MaxWords]uint64
	last := uint32(math.MaxUint32) // never a handle
	for k := range jobs {
		j := &jobs[k]
		if j.Status != sal.StatusOK || j.Op != sal.Open {
			return k
		}
		x := cookie(j.Cookie)
		if h := x.handle(); h != last {
			last = h
			r = (*record)(unsafe.Add(recs, uintptr(h)*recordSize))
			live = (*liveLine)(unsafe.Add(lives, uintptr(r.live)*64))
			window = (*[replay.MaxWords]uint64)(unsafe.Add(windows, uintptr(r.live)*windowWords*8))
		}
		head := mem.At(base + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off))
		seq := uint64(j.SeqHi)<<32 | uint64(bits.ReverseBytes32(mem.Load32(head, 4)))
		late := uint64(0)
		if w.shared || !replay.Advance(window, seq) {
			var v replay.Verdict
			if v, late = w.accept(r, seq); v != replay.OK {
				w.drop(c, j.Desc, x.in(), r, replayed[v])
				continue
			}
		}
		if r.Flags&recTransport != 0 {
			w.arrive(c, j, r, late)
			continue
		}
		outer := mem.At(base + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Desc.Off()))
		tos := mem.Load8(outer, 1)
		if r.Flags&recV6 != 0 {
			tos = uint8(bits.ReverseBytes32(mem.Load32(outer, 0)) >> 20)
		}
		text := unsafe.Add(head, int(r.Prefix))
		n, bad := esp.Decap(text, uint32(j.Len), tos)
		if bad != esp.OK {
			w.drop(c, j.Desc, x.in(), r, decapped[bad])
			continue
		}
		if r.Flags&recFollow != 0 {
			w.sight(c, r, outer, unsafe.Add(head, -udpLen), seq)
		}
		if live.Packets >= live.Limit || w.shared {
			if _, why := w.count(c, r.live, live, &live.Packets, uint64(n), used); why != drop.None {
				w.drop(c, j.Desc, x.in(), r, why)
				continue
			}
		} else {
			live.Packets++
			live.Bytes += uint64(n)
			live.UsedAt = used
		}
		if late != 0 {
			d.late.At(r.live).accepted(late)
		}
		if loop.N == len(loop.Desc) {
			c.Drop(j.Desc, x.in(), drop.LoopFull)
			continue
		}
		loop.Add(sal.MakeDesc(j.Desc.Buf(), j.Off+uint16(r.Prefix), uint16(n)), uintptr(text), x.in(), pipeline.FromSA(x.handle()), mem.Load8(text, 0)>>4 == 6)
	}
	return len(jobs)
}
