package ipsec

import (
	"hash/fnv"
	"math"
	"sync/atomic"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// Lifetimes in packets and bytes, and the end of the sequence numbers, are the
// business of the workers; those in seconds are the control side's (expire.go).
//
// Each SA has one number that every packet moves by one: outbound the sequence
// number, inbound the packets opened. The live line's Limit says up to where
// that may go without a thought, so a lifetime costs a packet the comparison
// that sequence numbers cost anyhow. Who meets the Limit (admit) looks at all
// there is to look at, and sets it anew:
//
//   - one before the next number at which something happens: it is the packet
//     with that number that has to notice
//   - and not so far that packets of the largest size could get to the next
//     number of bytes at which something happens. Near that, every packet is
//     looked at.
//
// So hard limits are strict: of all that workers do side by side never a packet
// or a byte too many goes out. It may be fewer: outbound, numbers count, and the
// number of a packet that an engine failed to do is used up; and of packets that
// come to the end of the bytes at once on several workers none may fit.

// limits are the numbers at which something happens to an SA. They do not change;
// those of a slot are replaced, and asked, by whoever holds the live line.
type limits struct {
	end, warn           uint64 // packets
	endBytes, warnBytes uint64
	seqMax, seqNear     uint64 // outbound
	endBits, warnBits   uint32 // of State, when packets get there
	endBytesBits        uint32
	warnBytesBits       uint32
	ended               uint32 // bits with which the SA carries nothing any more

	handle uint32 // the record by which packets of the SA go now, 0: none
	away   bool   // its numbers are given by an engine
	firm   bool   // the Limit stays 0, for they are about to be
}

// Bits of a live line's State: what has happened to the SA. They are there to
// stay until the SA is given other lifetimes.
const (
	softTime uint32 = 1 << iota
	softBytes
	softPackets
	softIdle
	hardTime
	hardBytes
	hardPackets
	hardIdle
	seqNear
	seqOver
	softBits = softTime | softBytes | softPackets | softIdle
	hardBits = hardTime | hardBytes | hardPackets | hardIdle
	seqBits  = seqNear | seqOver
)

// ended are the bits with which an SA carries nothing any more. A soft lifetime
// ends it if it is to be terminated then.
func (s *SA) ended() uint32 {
	if s.SoftAction == TerminateHold {
		return softBits | hardBits | seqOver
	}
	return hardBits | seqOver
}

// limitsOf are an SA's limits.
func limitsOf(s *SA) (l limits) {
	or := func(n uint64) uint64 {
		if n == 0 {
			return math.MaxUint64
		}
		return n
	}
	l = limits{end: or(s.Hard.Packets), warn: or(s.Soft.Packets), endBytes: or(s.Hard.Bytes), warnBytes: or(s.Soft.Bytes),
		seqMax: math.MaxUint64, seqNear: math.MaxUint64, endBits: hardPackets, warnBits: softPackets, endBytesBits: hardBytes, warnBytesBits: softBytes, ended: s.ended()}
	if s.SoftAction == TerminateHold {
		if l.warn < l.end {
			l.end, l.endBits = l.warn, softPackets
		}
		if l.warnBytes < l.endBytes {
			l.endBytes, l.endBytesBits = l.warnBytes, softBytes
		}
		l.warn, l.warnBytes = math.MaxUint64, math.MaxUint64
	}
	if l.seqMax = seqMaxOf(s); l.seqMax != math.MaxUint64 {
		l.seqNear = l.seqMax - l.seqMax/16
	}
	return l
}

// termsOf tells one set of lifetimes from another.
func termsOf(s *SA) uint32 {
	h := fnv.New32a()
	var b []byte
	for _, x := range [...]Lifetime{s.Soft, s.Hard} {
		for _, n := range [...]uint64{uint64(x.Time), x.Bytes, x.Packets, uint64(x.Idle)} {
			for range 8 {
				b = append(b, byte(n))
				n >>= 8
			}
		}
	}
	h.Write(append(b, byte(s.SoftAction)))
	return h.Sum32()
}

// largest is the most bytes that a packet can have, IPv6 header and payload.
const largest = 40 + math.MaxUint16

// count counts a packet of n bytes that an SA is about to carry, and gives the
// number that it has (of packets, outbound the sequence number). used is the
// time since boot. Where it must not be carried the number is 0, and why says
// the reason.
func (w *worker) count(c *pipeline.Ctx, slot uint32, live *liveLine, number *uint64, n uint64, used int64) (uint64, drop.Reason) {
	if !w.shared {
		if *number < live.Limit {
			*number++
			if number == &live.Seq {
				live.Packets++
			}
			live.Bytes += n
			live.UsedAt = used
			return *number, drop.None
		}
		live.Bytes += n
		return w.admit(c, slot, live, number, n, used)
	}
	// The bytes are there before the number is taken, so that whoever sees the
	// number sees the bytes.
	atomic.AddUint64(&live.Bytes, n)
	for {
		x := atomic.LoadUint64(number)
		if x >= atomic.LoadUint64(&live.Limit) {
			return w.admit(c, slot, live, number, n, used)
		}
		if atomic.CompareAndSwapUint64(number, x, x+1) {
			carried(live, number, used)
			return x + 1, drop.None
		}
	}
}

// carried notes what is beside number and bytes.
func carried(live *liveLine, number *uint64, used int64) {
	if number == &live.Seq {
		atomic.AddUint64(&live.Packets, 1)
	}
	atomic.StoreInt64(&live.UsedAt, used)
}

// uncount takes back that an outbound packet of n bytes was carried. Its number
// is lost, which a receiver's window forgives; using it again it would not.
func (w *worker) uncount(live *liveLine, n uint64) {
	atomic.AddUint64(&live.Packets, ^uint64(0))
	atomic.AddUint64(&live.Bytes, -n)
}

// admit is count at the Limit; the packet's bytes have been counted.
func (w *worker) admit(c *pipeline.Ctx, slot uint32, live *liveLine, number *uint64, n uint64, used int64) (uint64, drop.Reason) {
	live.hold()
	old := atomic.LoadUint32(&live.State)
	x, bits, why := w.f.sad.limits[slot].Load().admit(live, number)
	if why == drop.None {
		carried(live, number, used)
	} else {
		atomic.AddUint64(&live.Bytes, -n)
	}
	atomic.StoreUint32(&live.State, old|bits)
	live.release()
	if bits&^old != 0 && !c.ToControl(pipeline.NoBuf, 0, pipeline.CtlLife, slot) {
		w.missed.Store(true)
	}
	return x, why
}

// admit takes the next number if the SA may carry one more packet, whose bytes
// have been counted, and says what has happened to the SA by it. The line is
// held, but workers that saw an earlier Limit may still take numbers.
func (l *limits) admit(live *liveLine, number *uint64) (x uint64, bits uint32, why drop.Reason) {
	state := atomic.LoadUint32(&live.State)
	out := number == &live.Seq
	for {
		old := atomic.LoadUint64(number)
		// Behind the number: of every one up to it the bytes are there.
		bytes := atomic.LoadUint64(&live.Bytes)
		x = old + 1
		switch {
		case state&l.ended != 0:
			return 0, 0, reasonOf(state & l.ended)
		case out && l.away:
			return 0, 0, drop.ESPNoSA
		case old >= l.end:
			return 0, l.endBits, drop.ESPExpired
		case bytes > l.endBytes:
			return 0, l.endBytesBits, drop.ESPExpired
		case out && old >= l.seqMax:
			return 0, seqOver, drop.ESPSeqOverflow
		case !atomic.CompareAndSwapUint64(number, old, x):
			continue
		}
		if !l.firm {
			atomic.StoreUint64(&live.Limit, l.next(x, bytes, out))
		}
		return x, l.reached(x, bytes, out), drop.None
	}
}

// reached is what has happened to an SA with number x and so many bytes.
func (l *limits) reached(x, bytes uint64, out bool) (bits uint32) {
	mark := func(there bool, bit uint32) {
		if there {
			bits |= bit
		}
	}
	mark(x >= l.end, l.endBits)
	mark(x >= l.warn, l.warnBits)
	mark(bytes >= l.endBytes, l.endBytesBits)
	mark(bytes >= l.warnBytes, l.warnBytesBits)
	mark(out && x >= l.seqNear, seqNear)
	mark(out && x >= l.seqMax, seqOver)
	return bits
}

// passed is reached for an SA's packets so far.
func (f *Feature) passed(s *sa, live *liveLine) uint32 {
	out, number := s.Direction == sal.Outbound, atomic.LoadUint64(&live.Packets)
	if out {
		number = f.number(s)
	}
	return f.sad.limits[s.slot].Load().reached(number, atomic.LoadUint64(&live.Bytes), out)
}

// next is the Limit behind number x and so many bytes.
func (l *limits) next(x, bytes uint64, out bool) uint64 {
	limit := uint64(math.MaxUint64)
	at := func(there, when, most uint64) {
		if there < when {
			limit = min(limit, x+min((when-there-1)/most, math.MaxUint64-x))
		}
	}
	at(x, l.warn, 1)
	at(bytes, l.warnBytes, largest)
	if out {
		at(x, l.seqNear, 1)
		at(x, l.seqMax, 1)
		if x >= l.seqMax {
			return x
		}
	}
	at(x, l.end, 1)
	at(bytes, l.endBytes, largest)
	if x >= l.end || bytes >= l.endBytes {
		return x
	}
	return limit
}

// reasonOf is what packets die of that come to an SA that has ended.
func reasonOf(state uint32) drop.Reason {
	if state&(softBits|hardBits) == 0 {
		return drop.ESPSeqOverflow
	}
	return drop.ESPExpired
}
