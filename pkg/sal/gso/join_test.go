package gso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vrouter/pkg/pkt"
)

// segments cuts a super-frame of TCP into frames.
func segments(t testing.TB, six, options bool, payload, size int, flags byte) (l [][]byte) {
	h, f := frame(six, true, false, options && !six, payload, size)
	f[h.CsumStart+13] = flags
	var s Segmenter
	if err := s.Begin(h, f); err != nil {
		t.Fatal(err)
	}
	for s.Busy() {
		b := make([]byte, s.Len())
		s.Next(b)
		l = append(l, b)
	}
	return l
}

// join joins frames as a sender would, and cuts the super-frames again.
func join(t testing.TB, l [][]byte) (out [][]byte, supers int) {
	var j Joiner
	for i := 0; i < len(l); {
		n := 1
		if j.Start(l[i]) {
			for i+n < len(l) && j.Add(l[i+n]) {
				n++
			}
			if j.Joined() != n {
				t.Fatalf("%d joined, it says %d", n, j.Joined())
			}
		}
		if n == 1 {
			out = append(out, l[i])
			i++
			continue
		}
		supers++
		var v [HeaderLen]byte
		var head [MaxHead]byte
		k := j.Head(&v, head[:])
		f := slices.Clone(head[:k])
		for _, s := range l[i : i+n] {
			f = append(f, s[k:]...)
		}
		var s Segmenter
		if err := s.Begin(ParseHeader(v[:]), f); err != nil {
			t.Fatalf("what was joined cannot be cut: %v\n%x", err, f)
		}
		for s.Busy() {
			b := make([]byte, s.Len())
			s.Next(b)
			out = append(out, b)
		}
		i += n
	}
	return out, supers
}

// TestJoin: what is joined and cut again is what it was, and all that can be
// joined is.
func TestJoin(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, options := range []bool{false, true} {
			for _, payload := range []int{1, 1447, 1448, 1449, 2896, 3000, 30000, 64000} {
				for _, flags := range []byte{ack, ack | psh, ack | psh | ece} {
					t.Run(fmt.Sprintf("six=%v/options=%v/%d/%x", six, options, payload, flags), func(t *testing.T) {
						l := segments(t, six, options, payload, 1448, flags)
						out, supers := join(t, l)
						if !slices.EqualFunc(l, out, bytes.Equal) {
							t.Fatalf("%d frames became %d others", len(l), len(out))
						}
						if want := map[bool]int{true: 1}[len(l) > 1]; supers != want {
							t.Errorf("%d frames became %d super-frames, want %d", len(l), supers, want)
						}
					})
				}
			}
		}
	}
}

// TestJoinRefuses changes one thing in the second of three segments: it is not
// joined, and nothing is lost or mended.
func TestJoinRefuses(t *testing.T) {
	for _, six := range []bool{false, true} {
		good := segments(t, six, true, 3*1000, 1000, ack)
		l4 := 14 + 24
		if six {
			l4 = 14 + 40
		}
		for at := range l4 + 20 + 5 {
			for _, bit := range []byte{1, 8, 0x80} {
				for _, mend := range []bool{false, true} {
					l := [][]byte{slices.Clone(good[0]), slices.Clone(good[1]), slices.Clone(good[2])}
					l[1][at] ^= bit
					if mend {
						sums(l[1], l4, six)
					}
					out, supers := join(t, l)
					if !slices.EqualFunc(l, out, bytes.Equal) {
						t.Fatalf("byte %d, bit %#x: the frames became others", at, bit)
					}
					// With checksums that fit, only a byte of the payload, a
					// checksum itself and PSH may differ.
					may := mend && (at >= l4+20 && (six || at >= l4+32) || at == l4+13 && bit == psh || at == l4+16 || at == l4+17 || !six && (at == 24 || at == 25))
					if joined := supers > 0 && len(out) == 3 && !bytes.Equal(out[1], good[1]); joined && !may {
						var j Joiner
						if j.Start(l[0]) && j.Add(l[1]) {
							t.Errorf("byte %d, bit %#x, checksums mended %v: joined", at, bit, mend)
						}
					}
				}
			}
		}
	}
}

// sums makes the checksums of a frame right, where its headers can be read.
func sums(f []byte, l4 int, six bool) {
	ip, tcp := f[14:], f[l4:]
	s := pkt.Sum(0).AddUint(protoTCP).AddUint(uint32(len(tcp)))
	if six {
		s = s.Add(ip[8:40])
	} else {
		s = s.Add(ip[12:20])
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], pkt.Checksum(ip[:l4-14]))
	}
	tcp[16], tcp[17] = 0, 0
	putSum(tcp[16:], s.Add(tcp))
}

// TestJoinMix joins segments of several connections in random order, with
// damage here and there: cut again, every frame is what it was.
func TestJoinMix(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var flows [][][]byte
		for i := range 3 {
			l := segments(t, r.IntN(2) == 0, r.IntN(2) == 0, 1+r.IntN(20000), 100+r.IntN(1348), []byte{ack, ack | psh}[r.IntN(2)])
			for _, f := range l {
				f[5] = byte(i)
			}
			flows = append(flows, l)
		}
		var l [][]byte
		for len(flows) > 0 {
			i := r.IntN(len(flows))
			n := min(1+r.IntN(10), len(flows[i]))
			l = append(l, flows[i][:n]...)
			if flows[i] = flows[i][n:]; len(flows[i]) == 0 {
				flows = slices.Delete(flows, i, i+1)
			}
		}
		for range r.IntN(4) {
			f := l[r.IntN(len(l))]
			f[r.IntN(len(f))] ^= byte(1 << r.IntN(8))
		}
		if out, _ := join(t, l); !slices.EqualFunc(l, out, bytes.Equal) {
			t.Fatal("the frames became others")
		}
	}
}

// FuzzJoin joins and cuts frames of any bytes.
func FuzzJoin(f *testing.F) {
	for _, six := range []bool{false, true} {
		l := segments(f, six, true, 200, 100, ack|psh)
		f.Add(l[0], l[1])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l := [][]byte{a, b, a}
		if out, _ := join(t, l); !slices.EqualFunc(l, out, bytes.Equal) {
			t.Errorf("the frames became others: %x %x", a, b)
		}
	})
}

func BenchmarkJoin(b *testing.B) {
	l := segments(b, false, true, 40*1448, 1448, ack)
	b.SetBytes(int64(len(l) * len(l[0])))
	var j Joiner
	for b.Loop() {
		j.Start(l[0])
		for _, f := range l[1:] {
			if !j.Add(f) {
				b.Fatal("not joined")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(l)), "ns/pkt")
}
