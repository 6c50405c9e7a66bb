package ipsec_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
)

// TestWindowOff: without a window no packet dies for its number, in whatever order
// and how often it comes; all else works. Turned on again, the window takes
// nothing twice.
func TestWindowOff(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			s := newSite(t, func(o *fastpath.Options) { o.Workers = workers })
			_, in := s.tunnel(false, func(a *ipsec.SA) { a.ReplayWindow, a.Hard.Packets = 0, 3000 })
			r, n, top := rand.New(rand.NewPCG(1, 1)), 0, uint64(0)
			for range 20 {
				var packets, want [][]byte
				for range 100 {
					seq := uint64(r.IntN(1000))
					switch r.IntN(10) {
					case 0:
						seq = uint64(r.Uint32())
					case 1:
						seq = 0 // where numbers begin anew
					}
					p := incoming(false, 60)
					p.SPort = uint16(n)
					b := p.IP()
					packets, want = append(packets, in.sendAs(seq, b)), append(want, hop(b))
					n, top = n+1, max(top, seq)
				}
				got := s.fromPeer(packets...)
				if workers > 1 { // they come of two queues
					slices.SortFunc(got, slices.Compare)
					for i := range want {
						want[i] = append(frames(hostMAC, lanMAC, want[i:i+1])[0][:14:14], want[i]...)
					}
					slices.SortFunc(want, slices.Compare)
					if len(got) != len(want) || slices.CompareFunc(got, want, slices.Compare) != 0 {
						t.Fatalf("%d came out of %d", len(got), len(want))
					}
				} else {
					s.delivered(got, want...)
				}
			}
			st := s.sa("in")
			if st.Seq != top || st.Window != 0 || st.Bitmap != 0 || st.Packets != uint64(n) || st.Replayed != 0 || len(st.Errors) != 0 {
				t.Errorf("%+v, the top should be %d", st, top)
			}
			sum := uint64(0)
			for _, x := range st.Late {
				sum += x.Packets
				if x.Dropped != 0 {
					t.Errorf("dropped: %+v", x)
				}
			}
			if sum != st.Packets {
				t.Errorf("%d of %d packets in %+v", sum, st.Packets, st.Late)
			}
			b := incoming(false, 60).IP()
			for range 1000 {
				s.fromPeer(in.sendAs(7, b))
			}
			s.Forget()
			s.silent(s.fromPeer(in.sendAs(7, b))) // lifetimes go on
			s.Moved("wan rx 1, wan drop esp-expired 1, sa in drop esp-expired 1")

			a := in.sa
			a.ReplayWindow, a.Hard.Packets = 32, 0
			s.Apply(sas(a))
			s.Forget()
			s.silent(s.fromPeer(in.sendAs(top, b)))
			s.silent(s.fromPeer(in.sendAs(top-20, b)))
			s.Moved("wan rx 2, wan drop esp-replay 2, sa in drop esp-replay 2")
		})
	}
}

// TestLateness: the histogram is that of a list that is kept beside it, whatever
// the window, with and without ESN, by one worker and by two.
func TestLateness(t *testing.T) {
	for _, size := range []uint32{0, 32, 64, 1000, 8192} {
		for _, c := range []struct {
			esn     bool
			workers int
		}{{false, 1}, {true, 1}, {false, 2}, {true, 2}} {
			if c.esn && size == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%d/esn=%v/%d", size, c.esn, c.workers), func(t *testing.T) {
				s := newSite(t, func(o *fastpath.Options) { o.Workers = c.workers })
				_, in := s.tunnel(false, func(a *ipsec.SA) { a.ReplayWindow, a.ESN = size, c.esn })
				r, top, seen := rand.New(rand.NewPCG(uint64(size), 1)), uint64(0), map[uint64]bool{}
				if c.esn {
					for top = 1 << 31; top < 5<<31; top += 1 << 31 {
						s.fromPeer(in.sendAs(top, incoming(false, 60).IP()))
						seen[top] = true
					}
					top -= 1 << 31
				}
				first := s.sa("in").Packets
				want := map[uint64]ipsec.Late{}
				if first > 0 {
					want[0] = ipsec.Late{Packets: first}
				}
				for range 1500 {
					seq := top + 1
					switch r.IntN(3) {
					case 0:
						seq += uint64(r.IntN(5))
					case 1:
						if back := uint64(1) << r.IntN(17); back < top {
							seq = top - back - uint64(r.IntN(int(back)))%(top-back)
						}
					}
					late := max(top, seq) - seq
					b := ipsec.Late{}
					for k := uint64(1); k <= late && k <= 1<<15; k *= 2 {
						b.From, b.To = k, 2*k-1
					}
					if b.From == 1<<15 {
						b.To = 0
					}
					x := want[b.From]
					x.From, x.To = b.From, b.To
					switch {
					case size != 0 && late >= uint64(size):
						x.Dropped++
					case size != 0 && seen[seq]: // neither late nor punctual
					default:
						x.Packets++
						seen[seq] = true
						top = max(top, seq)
					}
					if x.Packets+x.Dropped > 0 {
						want[b.From] = x
					}
					s.fromPeer(in.sendAs(seq, incoming(false, 60).IP()))
				}
				var l []ipsec.Late
				for _, x := range want {
					l = append(l, x)
				}
				slices.SortFunc(l, func(a, b ipsec.Late) int { return int(a.From) - int(b.From) })
				if got := s.sa("in").Late; !slices.Equal(got, l) {
					t.Errorf("got %+v\nwant %+v", got, l)
				}
				if len(l) < 10 {
					t.Errorf("only %+v", l)
				}
			})
		}
	}
}

// TestLatenessBegins: it begins with a process, and what an earlier one accepted is
// not counted as punctual; with another key it begins as well.
func TestLatenessBegins(t *testing.T) {
	dir := t.TempDir()
	b := incoming(false, 60).IP()
	for _, top := range []uint64{10, 100} {
		t.Run(fmt.Sprint(top), func(t *testing.T) {
			s := newSite(t, func(o *fastpath.Options) { o.StateDir = dir })
			_, in := s.tunnel(false)
			for _, seq := range []uint64{top, top - 2, top - 3, top + 1} {
				s.delivered(s.fromPeer(in.sendAs(seq, b)), hop(b))
			}
			if got := s.sa("in").Late; !slices.Equal(got, []ipsec.Late{{Packets: 2}, {From: 2, To: 3, Packets: 2}}) {
				t.Errorf("%+v", got)
			}
			if top == 100 {
				if n := s.sa("in").Packets; n != 8 {
					t.Errorf("%d packets outlived the process", n-4)
				}
				a := in.sa
				a.Key = key(77, 20)
				s.Apply(sas(a))
				if got := s.sa("in").Late; got != nil {
					t.Errorf("another key: %+v", got)
				}
			}
		})
	}
}
