// Package replay is the anti-replay window of ESP and AH: RFC 4303 section
// 3.4.3, with extended sequence numbers (ESN) as in its appendix A.
//
// The receiver asks Check before it spends time on the integrity check value
// (ICV), and reports the outcome with Accept only when the ICV was right. In
// between nothing is remembered, so forged packets cannot move the window.
//
// The window is a ring of bits indexed by the sequence number itself, in the
// manner of RFC 6479, so moving it forward shifts nothing: the bits between the
// old and the new right edge are cleared and that is all. Unlike RFC 6479 it
// clears single bits, so every bit of the ring is usable window.
//
// All state is in an area of uint64 words that holds no pointer: the area can
// lie in mapped memory, inside a security association's record.
//
// A window can be off (size 0): it then takes every number, as often as it comes,
// and only keeps the highest.
//
// Not done: resynchronisation after 2^32 or more lost packets (RFC 4303
// appendix A3); such an association has to be rekeyed.
package replay

import (
	"errors"
	"fmt"
	"math/bits"
)

const (
	// MinSize is the smallest window in packets that RFC 4303 section 3.4.3
	// lets a receiver have.
	MinSize = 32
	// MaxSize is the largest window in packets.
	MaxSize = 8192
	// Off is the size of a window that takes every number. There is none with
	// ESN, whose high half is inferred from the window (RFC 4303 section 3.3.3:
	// without anti-replay ESN should not be negotiated).
	Off = 0
)

// Verdict is what the window says about a sequence number.
type Verdict uint8

const (
	// OK: not seen yet, inside the window or beyond its right edge.
	OK Verdict = iota
	// Replayed: inside the window and accepted before.
	Replayed
	// TooOld: left of the window; whether it was seen is not known any more.
	TooOld
	// Invalid: number zero, which no sender uses (RFC 4303 section 2.2).
	Invalid
)

func (v Verdict) String() string {
	switch v {
	case OK:
		return "ok"
	case Replayed:
		return "replayed"
	case TooOld:
		return "too old"
	case Invalid:
		return "invalid"
	}
	return "verdict?"
}

// The area: word 0 is the right edge (the highest number accepted, 0 at
// first), word 1 the size in packets, the number of bits in the ring, and the
// ESN flag on top; then the bits.
const (
	wTop  = 0
	wConf = 1
	wBits = 2

	esnFlag   = 1 << 63
	sizeMask  = 1<<16 - 1
	ringShift = 16
	ringMask  = 1<<16 - 1
)

// ErrSize reports a window size that is neither Off nor in MinSize … MaxSize, or
// Off with ESN.
var ErrSize = errors.New("replay: window size out of range")

// Words is the length of the area, in uint64 words, for a window of size
// packets.
func Words(size int) int { return wBits + ringBits(size)/64 }

// MaxWords is the length of the area of the largest window.
const MaxWords = wBits + MaxSize/64

// ringBits is the number of bits behind a window: a power of two, so that a
// number's place in the ring is a mask away. A window that is off has one word,
// which Advance writes and nobody reads.
func ringBits(size int) int { return 1 << bits.Len(uint(max(size, 64)-1)) }

// Window is a view of an area. It is a value that can be made for each packet
// or kept; the state is in the area. One goroutine at a time may use it.
//
// (It is no more than a slice, so that the compiler keeps it in registers.)
type Window struct{ area []uint64 }

// Init empties the area and sets the window's size in packets (MinSize to
// MaxSize, any number, or Off) and whether numbers have 64 bits (ESN). The area must
// have Words(size) words.
func Init(area []uint64, size int, esn bool) (Window, error) {
	switch {
	case size == Off && esn:
		return Window{}, fmt.Errorf("%w: off, with extended sequence numbers", ErrSize)
	case size != Off && (size < MinSize || size > MaxSize):
		return Window{}, fmt.Errorf("%w: %d", ErrSize, size)
	}
	if len(area) < Words(size) {
		return Window{}, fmt.Errorf("replay: window of %d needs %d words, has %d", size, Words(size), len(area))
	}
	clear(area[:Words(size)])
	area[wConf] = uint64(size) | uint64(ringBits(size))<<ringShift
	if esn {
		area[wConf] |= esnFlag
	}
	return View(area), nil
}

// View is the window in an area that Init has prepared.
func View(area []uint64) Window {
	return Window{area[:wBits+(area[wConf]>>ringShift&ringMask)/64]}
}

// Size is the window's size in packets, Off if it takes every number.
func (w Window) Size() int { return int(w.area[wConf] & sizeMask) }

// ESN says whether sequence numbers have 64 bits.
func (w Window) ESN() bool { return w.area[wConf]&esnFlag != 0 }

// Top is the highest number accepted so far, 0 if none.
func (w Window) Top() uint64 { return w.area[wTop] }

// Behind is how far number seq lies behind the right edge, 0 if it does not.
func (w Window) Behind(seq uint64) uint64 {
	if top := w.Top(); seq < top {
		return top - seq
	}
	return 0
}

// Seen tells whether number seq, which must be inside the window, has been
// accepted; for showing the window. A number outside it counts as not seen.
func (w Window) Seen(seq uint64) bool {
	return seq <= w.Top() && w.test(w.Top(), w.area[wConf], seq) == Replayed // never, if it is off
}

// Restore sets the right edge and takes every number up to it as seen: for an
// association that is moved or comes back after a restart, whose exact window
// is lost. No old packet is ever accepted twice; late ones are lost.
func (w Window) Restore(top uint64) {
	w.area[wTop] = top
	for i := wBits; i < len(w.area); i++ {
		w.area[i] = ^uint64(0)
	}
}

// Bits appends the window to dst as words of which bit i%64 of word i/64 says that
// number Top-i was accepted, or has left the window.
func (w Window) Bits(dst []uint64) []uint64 {
	top, size := w.Top(), uint64(w.Size())
	for i := range (size + 63) &^ 63 {
		if i%64 == 0 {
			dst = append(dst, 0)
		}
		if i < top && (i >= size || w.Seen(top-i)) {
			dst[len(dst)-1] |= 1 << (i % 64)
		}
	}
	return dst
}

// Load is the opposite of Bits: top is the right edge. Numbers that bits has no
// word for count as seen.
func (w Window) Load(top uint64, bits []uint64) {
	w.Restore(top)
	conf := w.area[wConf]
	for i := range min(uint64(w.Size()), uint64(len(bits))*64, top) {
		if bits[i/64]>>(i%64)&1 == 0 {
			w.area[word(conf, top-i)] &^= 1 << ((top - i) & 63)
		}
	}
}

// Check says what to do with a packet whose 32-bit sequence field is seqLo. On
// OK, seq is the full number: with ESN its high half, which is not on the
// wire, is inferred as in RFC 4303 appendix A2.2; it belongs into the ICV and
// later into Accept. On another verdict the packet is to be dropped, and seq
// is the number it was taken for. Nothing is changed.
func (w Window) Check(seqLo uint32) (seq uint64, v Verdict) {
	conf, top := w.area[wConf], w.area[wTop]
	seq = uint64(seqLo)
	if conf&esnFlag != 0 {
		var ok bool
		if seq, ok = infer(top, conf&sizeMask, seqLo); !ok {
			return seq, TooOld
		}
	}
	return seq, w.test(top, conf, seq)
}

// infer finds the high half of a sequence number (RFC 4303 appendix A2.2).
// Tl, Th are the halves of the right edge, Bl the window's left edge. It
// reports false for a number that would lie before 0 or beyond 2^64.
func infer(top, size uint64, lo uint32) (uint64, bool) {
	tl, th := uint32(top), top>>32
	bl := tl - uint32(size) + 1 // modulo 2^32, as the RFC has it
	if uint64(tl) >= size-1 {
		// Case A: the window lies inside one subspace.
		if lo < bl {
			if th == 1<<32-1 {
				return uint64(lo), false
			}
			th++
		}
		return th<<32 | uint64(lo), true
	}
	// Case B: the window begins in the subspace before.
	if lo >= bl {
		if th == 0 {
			return uint64(lo), false
		}
		return (th-1)<<32 | uint64(lo), true
	}
	return th<<32 | uint64(lo), true
}

// word is the place of number seq's bit, which is bit seq % 64 of it.
func word(conf, seq uint64) uint64 { return wBits + (seq>>6)&((conf>>ringShift&ringMask)>>6-1) }

func (w Window) test(top, conf, seq uint64) Verdict {
	if seq > top {
		return OK
	}
	if conf&sizeMask == Off {
		return OK
	}
	if seq == 0 {
		return Invalid
	}
	if top-seq >= conf&sizeMask {
		return TooOld
	}
	if w.area[word(conf, seq)]>>(seq&63)&1 != 0 {
		return Replayed
	}
	return OK
}

// Accept records number seq, as Check returned it, after the packet's ICV has
// proved right. Its verdict is final: two copies of one packet may both have
// passed Check when several were in flight, and only the first is OK here.
func (w Window) Accept(seq uint64) Verdict {
	conf, top := w.area[wConf], w.area[wTop]
	if seq <= top {
		if v := w.test(top, conf, seq); v != OK || conf&sizeMask == Off {
			return v
		}
	} else {
		if d := seq - top; d > 1 {
			w.forget(top, d)
		}
		w.area[wTop] = seq
	}
	w.area[word(conf, seq)] |= 1 << (seq & 63)
	return OK
}

// Advance is Accept for the number right behind the right edge, as nearly all
// are; for any other it does nothing and returns false. area is MaxWords long and
// has been prepared by Init. (It is small enough to be part of its caller.)
func Advance(area *[MaxWords]uint64, seq uint64) bool {
	if area[wTop]+1 != seq {
		return false
	}
	area[wTop] = seq
	area[word(area[wConf], seq)] |= 1 << (seq & 63)
	return true
}

// forget clears the bits of the d numbers after top. (With d of 1 the only bit
// is the one that Accept sets.)
func (w Window) forget(top, d uint64) {
	b := w.area[wBits:]
	mask := uint64(len(b))*64 - 1
	if d > mask {
		clear(b)
		return
	}
	first, last := (top+1)&mask, (top+d)&mask
	fw, lw := first>>6, last>>6
	head := ^uint64(0) << (first & 63)
	tail := ^uint64(0) >> (63 - last&63)
	if fw == lw && first <= last {
		b[fw] &^= head & tail
		return
	}
	b[fw] &^= head
	for i := (fw + 1) & (mask >> 6); i != lw; i = (i + 1) & (mask >> 6) {
		b[i] = 0
	}
	b[lw] &^= tail
}
