package replay

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// naive is the window as RFC 4303 describes it, in the plainest form: a set of
// all numbers ever accepted. It infers the high half by trying all three
// candidates and taking the one that falls into the window or, failing that,
// lies next beyond it: the same rule as appendix A2.2, told differently.
type naive struct {
	size uint64
	esn  bool
	top  uint64
	seen map[uint64]bool
}

func (n *naive) check(lo uint32) (uint64, Verdict) {
	if !n.esn {
		return uint64(lo), n.test(uint64(lo))
	}
	th := n.top >> 32
	for _, d := range []uint64{^uint64(0), 0, 1} { // subspace before, same, after
		if th == 0 && d == ^uint64(0) || th == 1<<32-1 && d == 1 {
			continue
		}
		s := (th+d)<<32 | uint64(lo)
		if s > n.top || n.top-s < n.size {
			return s, n.test(s)
		}
	}
	return 0, TooOld // left of the window in the last subspace
}

func (n *naive) test(s uint64) Verdict {
	switch {
	case s == 0:
		return Invalid
	case s > n.top:
		return OK
	case n.top-s >= n.size:
		return TooOld
	case n.seen[s]:
		return Replayed
	}
	return OK
}

func (n *naive) accept(s uint64) Verdict {
	v := n.test(s)
	if v == OK {
		n.seen[s] = true
		n.top = max(n.top, s)
	}
	return v
}

func newPair(t *testing.T, size int, esn bool, top uint64) (Window, *naive) {
	t.Helper()
	area := make([]uint64, Words(size))
	w, err := Init(area, size, esn)
	if err != nil {
		t.Fatal(err)
	}
	n := &naive{size: uint64(size), esn: esn, seen: map[uint64]bool{}}
	if top != 0 {
		w.Restore(top)
		n.top = top
		for s := top; s > 0 && top-s < uint64(size); s-- {
			n.seen[s] = true
		}
	}
	return w, n
}

// step gives both the same packet. forged packets fail their ICV and must
// leave no trace.
func step(t *testing.T, w Window, n *naive, lo uint32, forged bool) {
	t.Helper()
	top := w.Top()
	s1, v1 := w.Check(lo)
	s2, v2 := n.check(lo)
	// A case-B number that the RFC takes for one before zero is an old one.
	if v2 == OK && v1 == TooOld && n.esn && s2 > n.top && n.top < n.size-1 && uint64(lo) >= (n.top-n.size+1)&(1<<32-1) {
		v2, s2 = TooOld, s1
	}
	if v1 != v2 || v1 == OK && s1 != s2 {
		t.Fatalf("size %d esn %v top %#x: Check(%#x) = %#x %v, twin says %#x %v", w.Size(), w.ESN(), top, lo, s1, v1, s2, v2)
	}
	if w.Top() != top {
		t.Fatal("Check moved the window")
	}
	if v1 != OK || forged {
		return
	}
	if v1, v2 = w.Accept(s1), n.accept(s1); v1 != v2 || v1 != OK {
		t.Fatalf("Accept(%#x) = %v, twin says %v", s1, v1, v2)
	}
	if v := w.Accept(s1); v != Replayed {
		t.Fatalf("second Accept(%#x) = %v", s1, v)
	}
	if !w.Seen(s1) || w.Seen(w.Top()+1) {
		t.Fatalf("Seen: %v for %#x, which was accepted", w.Seen(s1), s1)
	}
	if w.Top() != n.top {
		t.Fatalf("top %#x, twin %#x", w.Top(), n.top)
	}
}

var sizes = []int{32, 33, 63, 64, 65, 96, 100, 127, 128, 129, 1000, 1024, 4096, 8191, 8192}

// Random walks with every kind of move, started at every kind of place.
func TestAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range sizes {
		for _, start := range []uint64{0, 1, uint64(size) - 2, uint64(size) - 1, uint64(size), 1<<32 - 2000, 1<<32 - 1, 1 << 32, 1<<32 + 5, 7<<32 - 100, 1<<64 - 1<<33} {
			for _, esn := range []bool{false, true} {
				if !esn && start >= 1<<32 {
					continue
				}
				w, n := newPair(t, size, esn, start)
				for i := 0; i < 1500; i++ {
					var lo uint32
					top := uint32(n.top)
					switch rng.IntN(8) {
					case 0, 1:
						lo = top + 1
					case 2:
						lo = top + uint32(rng.IntN(2*size))
					case 3, 4:
						lo = top - uint32(rng.IntN(size+2))
					case 5:
						lo = top - uint32(size) + uint32(rng.IntN(3)) - 1
					case 6:
						lo = uint32(rng.IntN(4))
					case 7:
						lo = top + uint32(64*rng.IntN(size/32)) // whole words
					}
					if !esn && uint64(lo) > n.top+1<<20 {
						continue // would end the walk: a jump over the whole space
					}
					step(t, w, n, lo, rng.IntN(10) == 0)
				}
			}
		}
	}
}

// Every number of a small space against every reachable right edge: all pairs
// (top, next) around the borders of a subspace, after a filled window.
func TestExhaustiveAroundBorder(t *testing.T) {
	const size = 64
	for _, base := range []uint64{0, 1 << 32, 2 << 32} {
		for off := int64(-70); off <= 70; off++ {
			top := base + uint64(off)
			if int64(top) <= 0 {
				continue
			}
			for d := int64(-140); d <= 140; d++ {
				w, n := newPair(t, size, true, top)
				step(t, w, n, uint32(top+uint64(d)), false)
			}
		}
	}
}

// Jumps of every length 1 … two rings clear exactly what they must.
func TestEveryJump(t *testing.T) {
	for _, size := range []int{64, 96, 128, 256} {
		for jump := 1; jump <= 2*size+2; jump++ {
			for _, at := range []uint64{uint64(size), uint64(size) + 1, uint64(size) + 37, uint64(2*size) - 1} {
				w, n := newPair(t, size, false, at)
				step(t, w, n, uint32(at)+uint32(jump), false)
				for s := n.top; s > 0 && n.top-s < uint64(size)+3; s-- {
					if _, v := w.Check(uint32(s)); v != n.test(s) {
						t.Fatalf("size %d, %d + %d: number %d is %v, want %v", size, at, jump, s, v, n.test(s))
					}
				}
			}
		}
	}
}

// RFC 4303 appendix A2.2, told as cases. W is 64, Tl and Th the halves of the
// right edge.
func TestAppendixA22(t *testing.T) {
	const max32 = 1<<32 - 1
	for _, c := range []struct {
		name string
		top  uint64
		lo   uint32
		seq  uint64
		want Verdict
	}{
		{"first packet", 0, 1, 1, OK},
		{"number zero", 0, 0, 0, Invalid},
		{"zero of the next subspace is a number", max32, 0, 1 << 32, OK},
		{"before the beginning", 10, max32, max32, TooOld},
		{"A: inside the window", 3<<32 | 1000, 990, 3<<32 | 990, Replayed},
		{"A: left edge", 3<<32 | 1000, 937, 3<<32 | 937, Replayed},
		{"A: below the left edge means the next subspace", 3<<32 | 1000, 936, 4<<32 | 936, OK},
		{"A: ahead", 3<<32 | 1000, 1001, 3<<32 | 1001, OK},
		{"A: Tl = W-1, window starts at zero of its subspace", 3<<32 | 63, 0, 3 << 32, Replayed},
		{"A: Tl = W-1, last of the subspace is far ahead", 3<<32 | 63, max32, 3<<32 | max32, OK},
		{"B: Tl = W-2, window reaches back by one", 3<<32 | 62, max32, 2<<32 | max32, Replayed},
		{"B: Tl = W-2, one before the left edge is far ahead", 3<<32 | 62, max32 - 1, 3<<32 | (max32 - 1), OK},
		{"B: Tl = 0, left edge", 3 << 32, max32 - 62, 2<<32 | (max32 - 62), Replayed},
		{"B: Tl = 0, ahead", 3 << 32, 1, 3<<32 | 1, OK},
		{"end of all numbers", 1<<64 - 1, 0, 0, TooOld},
	} {
		w, _ := newPair(t, 64, true, c.top)
		seq, v := w.Check(c.lo)
		if seq != c.seq || v != c.want {
			t.Errorf("%s: Check(%#x) at top %#x = %#x %v, want %#x %v", c.name, c.lo, c.top, seq, v, c.seq, c.want)
		}
	}
}

// The window crosses 2^32 with losses and disorder; everything is accepted
// once and nothing twice.
func TestCrossing(t *testing.T) {
	for _, size := range []int{32, 64, 1024, 8192} {
		w, n := newPair(t, size, true, 1<<32-uint64(3*size))
		late := []uint32{}
		for s := uint64(1<<32 - 3*size + 1); s < uint64(1<<32+3*size); s++ {
			if s%7 == 3 {
				late = append(late, uint32(s))
				continue
			}
			step(t, w, n, uint32(s), false)
			if len(late) > 0 && s%5 == 0 && len(late)*7 > size/2 {
				step(t, w, n, late[0], false)
				step(t, w, n, late[0], false)
				late = late[1:]
			}
		}
		if w.Top()>>32 != 1 {
			t.Fatalf("top %#x", w.Top())
		}
	}
}

func TestWithoutESNEnds(t *testing.T) {
	w, n := newPair(t, 64, false, 1<<32-2)
	step(t, w, n, 1<<32-1, false)
	for _, lo := range []uint32{0, 1, 5} {
		if _, v := w.Check(lo); v == OK {
			t.Errorf("number %d accepted after the space was used up", lo)
		}
	}
}

func TestInitErrors(t *testing.T) {
	area := make([]uint64, MaxWords)
	for _, size := range []int{-1, 0, 31, 8193} {
		if _, err := Init(area, size, true); !errors.Is(err, ErrSize) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := Init(area[:3], 128, true); err == nil {
		t.Error("short area accepted")
	}
	if w, err := Init(area, 8192, true); err != nil || w.Size() != 8192 || !w.ESN() {
		t.Error("largest window", w, err)
	}
}

// TestOff: a window that is off takes every number, as often as it comes, and
// keeps the highest; turned on again it takes none of them twice.
func TestOff(t *testing.T) {
	var area [MaxWords]uint64
	w, err := Init(area[:], Off, false)
	if err != nil || w.Size() != Off {
		t.Fatal(w.Size(), err)
	}
	top, r := uint64(0), rand.New(rand.NewPCG(8, 8))
	for i := range 10000 {
		lo := uint32(r.IntN(300))
		switch i % 1000 {
		case 500:
			lo = 1<<32 - 1 // and around: numbers begin anew (RFC 4303 section 3.3.3)
		case 0:
			lo = 0
		}
		if i%3 == 0 && w.Top() < 1<<32-1 {
			lo = uint32(w.Top() + 1)
		}
		seq, v := w.Check(lo)
		if v != OK || seq != uint64(lo) {
			t.Fatalf("%d behind %d: %d, %v", lo, w.Top(), seq, v)
		}
		if want := max(top, seq) - seq; w.Behind(seq) != want {
			t.Fatalf("%d is %d behind %d, want %d", seq, w.Behind(seq), top, want)
		}
		if !Advance(&area, seq) {
			if v := w.Accept(seq); v != OK {
				t.Fatalf("%d behind %d: %v", seq, w.Top(), v)
			}
		}
		if top = max(top, seq); w.Top() != top || w.Seen(seq) {
			t.Fatalf("behind %d the top is %d", top, w.Top())
		}
	}
	on, err := Init(area[:], 64, false)
	if err != nil {
		t.Fatal(err)
	}
	on.Restore(top)
	for lo := range uint32(300) {
		if _, v := on.Check(lo); v == OK {
			t.Fatalf("%d accepted once more", lo)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint16(64), uint64(0), true, []byte{1, 2, 2, 0, 200})
	f.Add(uint16(1024), uint64(1<<32-3), true, []byte{1, 1, 1, 1, 1, 255, 250})
	f.Add(uint16(33), uint64(40), false, []byte{64, 65, 66, 128, 129})
	f.Fuzz(func(t *testing.T, size uint16, start uint64, esn bool, moves []byte) {
		if size < MinSize || size > MaxSize || start > 1<<62 || !esn && start > 1<<31 {
			return
		}
		w, n := newPair(t, int(size), esn, start)
		for _, m := range moves {
			step(t, w, n, uint32(n.top)+uint32(int32(int8(m)))*uint32(1+m%3), m%11 == 0)
		}
	})
}

// acceptRun takes 256 packets in order, as a burst of one association.
func acceptRun(area []uint64, lo uint32) (ok int) {
	w := View(area)
	for range 256 {
		lo++
		if seq, v := w.Check(lo); v == OK && w.Accept(seq) == OK {
			ok++
		}
	}
	return ok
}

func BenchmarkCheckAccept(b *testing.B) {
	area := make([]uint64, Words(1024))
	if _, err := Init(area, 1024, true); err != nil {
		b.Fatal(err)
	}
	lo := uint32(0)
	for b.Loop() {
		if acceptRun(area, lo) != 256 {
			b.Fatal("refused")
		}
		lo += 256
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/packet")
}

// TestAdvance: Advance is Accept where it says yes, and nothing where it does not.
func TestAdvance(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, size := range []int{32, 64, 100, 1024, 8192} {
		for _, esn := range []bool{false, true} {
			var a, b [MaxWords]uint64
			wa, _ := Init(a[:], size, esn)
			wb, _ := Init(b[:], size, esn)
			yes := 0
			for range 20000 {
				seq := wa.Top() + 1
				switch r.IntN(6) {
				case 0:
					seq += uint64(r.IntN(3 * size))
				case 1:
					seq -= min(seq-1, uint64(r.IntN(size)))
				}
				before := b
				if Advance(&b, seq) {
					if seq != wa.Top()+1 || wa.Accept(seq) != OK {
						t.Fatalf("Advance(%d) behind %d", seq, wa.Top())
					}
					yes++
				} else {
					if b != before || seq == wa.Top()+1 {
						t.Fatalf("Advance(%d) behind %d said no", seq, wa.Top())
					}
					wa.Accept(seq)
					wb.Accept(seq)
				}
				if a != b {
					t.Fatalf("windows differ behind %d", seq)
				}
			}
			if yes < 1000 {
				t.Errorf("only %d advances", yes)
			}
		}
	}
}

// TestBits: a window that goes through Bits and Load answers as before, and one of
// another size as if what it cannot know had been seen.
func TestBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, size := range sizes {
		w, n := newPair(t, size, true, 5<<32-uint64(size)/2)
		for range 3000 {
			step(t, w, n, uint32(w.Top()+1+uint64(rng.IntN(2*size))-uint64(size)), false)
		}
		x, _ := Init(make([]uint64, Words(size)), size, true)
		x.Load(w.Top(), w.Bits(nil))
		wide, _ := Init(make([]uint64, Words(MaxSize)), MaxSize, true)
		wide.Load(w.Top(), w.Bits(nil))
		for i := range uint64(MaxSize) {
			lo := uint32(w.Top() - i)
			s1, v1 := w.Check(lo)
			if s2, v2 := x.Check(lo); v1 != v2 || s1 != s2 {
				t.Fatalf("size %d, %d behind: %v %#x, was %v %#x", size, i, v2, s2, v1, s1)
			}
			if v1 == TooOld || s1 > w.Top() {
				v1 = Replayed
			}
			if _, v2 := wide.Check(lo); v1 != v2 {
				t.Fatalf("size %d, %d behind, widened: %v, was %v", size, i, v2, v1)
			}
		}
	}
	var none [MaxWords]uint64
	w, _ := Init(none[:], 64, false)
	w.Load(0, w.Bits(nil))
	if _, v := w.Check(1); v != OK {
		t.Errorf("a new window has seen 1: %v", v)
	}
}
