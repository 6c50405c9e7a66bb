package ipsec

import (
	"math/bits"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// lateness counts packets of an inbound SA by how far behind the top of the
// window their numbers were. It tells how wide a window has to be. Packets that
// come in order, or ahead of others, never touch it: they are those of all
// accepted that it has not.
//
// An SA has one, which all workers count in. It does not outlive the process.
type lateness struct {
	since uint64 // packets of the SA that an earlier process accepted
	late  [lateBuckets]uint64
	lost  [lateBuckets]uint64
}

// lateBuckets are 1, 2 and 3, 4 to 7, and so on by powers of two up to 16384 to
// 32767, and beyond: further than the widest window, to tell how far off it is.
const lateBuckets = 16

func lateBucket(behind uint64) int { return min(bits.Len64(behind), lateBuckets) - 1 }

// accepted counts a packet that came so far behind, at least 1.
func (x *lateness) accepted(behind uint64) { atomic.AddUint64(&x.late[lateBucket(behind)], 1) }

// dropped counts a packet left of the window. Another worker may have moved the
// window since its top was read.
func (x *lateness) dropped(top, seq uint64) {
	if seq < top {
		atomic.AddUint64(&x.lost[lateBucket(top-seq)], 1)
	}
}

// guessed counts a packet with an extended number whose ICV was wrong as late, if
// it may have been just that: a number left of the window is taken for one of
// the next 2^32 (RFC 4303 appendix A2.2), and so the ICV cannot be right.
func (l *lane) guessed(c *pipeline.Ctx, j *sal.Job, r *record) {
	d := l.w.f.sad
	top := atomic.LoadUint64(&d.live.window(r.live)[0])
	lo := bits.ReverseBytes32(mem.Load32(mem.At(c.Pool.Base()+uintptr(j.Desc.Buf())*sal.BufSize+uintptr(j.Off)), 4))
	seq := uint64(j.SeqHi)<<32 | uint64(lo)
	if was := seq - 1<<32; seq > top && seq >= 1<<32 && was < top && top-was < 1<<31 {
		d.late.At(r.live).dropped(top, was)
	}
}

// counts is the histogram of an SA that has accepted so many packets.
func (x *lateness) counts(packets uint64) (l []Late) {
	late := uint64(0)
	for k := range x.late {
		b := Late{From: 1 << k, To: 2<<k - 1, Packets: atomic.LoadUint64(&x.late[k]), Dropped: atomic.LoadUint64(&x.lost[k])}
		if k == lateBuckets-1 {
			b.To = 0
		}
		late += b.Packets
		if b.Packets|b.Dropped != 0 {
			l = append(l, b)
		}
	}
	// A packet may have been counted between the two.
	if in := packets - min(packets, x.since+late); in > 0 {
		l = append([]Late{{Packets: in}}, l...)
	}
	return l
}
