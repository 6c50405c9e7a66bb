package ipsec_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// TestReplayWindow goes to both edges of windows of many sizes.
func TestReplayWindow(t *testing.T) {
	for _, size := range []uint32{32, 33, 64, 65, 100, 127, 128, 129, 1000, 1024, 4095, 4096, 4097, 8191, 8192} {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/esn=%v", size, esn), func(t *testing.T) {
				s := newSite(t, nil)
				_, in := s.tunnel(false, func(a *ipsec.SA) { a.ReplayWindow, a.ESN = size, esn })
				b := incoming(false, 60).IP()
				top, w := uint64(20000), uint64(size)
				if esn {
					top += 3 << 32 // all of the window in one subspace, then over its border
				}
				try := func(seq uint64, want string) {
					t.Helper()
					got := s.fromPeer(in.sendAs(seq, b))
					if want == "" {
						s.delivered(got, hop(b))
						s.Moved("wan rx 1, lan tx 1, sa in packets 1, policy p-in packets 1")
						return
					}
					s.silent(got)
					s.Moved(fmt.Sprintf("wan rx 1, wan drop %s 1, sa in drop %s 1", want, want))
				}
				if esn { // get there: no step above 2^31 is recognised
					for x := uint64(1); x < top; x += 1 << 31 {
						try(x, "")
					}
				}
				try(top, "")
				try(top, "esp-replay")
				if esn { // left of the window is taken for ahead by 2^32, whose ICV is another
					try(top-w, "esp-bad-icv")
				} else {
					try(top-w, "esp-late")
				}
				try(top-w+1, "")
				try(top-w+1, "esp-replay")
				try(top-w+2, "")
				try(top-1, "")
				try(top+1, "") // moves the window by one
				if !esn {
					try(top-w+1, "esp-late")
				}
				try(top-w+2, "esp-replay")
				try(top+w, "") // and nearly out of what was seen
				try(top+1, "esp-replay")
				try(top+2, "")
				try(top+10*w+7, "") // and far out of it
				try(top+10*w+6, "")
				try(top+9*w+8, "")
				if !esn {
					try(top+9*w+7, "esp-late")
				}
			})
		}
	}
}

// TestReplayRandom compares the whole path with a list of what was seen, packets
// in bursts and with copies in the same burst.
func TestReplayRandom(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		size := []uint32{64, 128, 1000, 64, 8192, 300}[seed%6]
		s := newSite(t, func(o *fastpath.Options) { o.Workers = 1 + int(seed/6) })
		_, in := s.tunnel(false, func(a *ipsec.SA) { a.ReplayWindow, a.ESN = size, seed%2 == 1 })
		seen, top := map[uint64]bool{}, uint64(1<<32-3000)
		if seed%2 == 1 {
			s.delivered(s.fromPeer(in.sendAs(1<<31, incoming(false, 60).IP())), hop(incoming(false, 60).IP()))
		}
		for range 40 {
			var packets, want [][]byte
			for range 1 + r.IntN(60) {
				seq := top + uint64(r.IntN(40))
				if back := uint64(r.IntN(int(size) + 20)); r.IntN(2) == 0 && seed%2 == 0 || back < uint64(size)-60 {
					seq = top - back
				}
				if seed%2 == 0 && seq > math.MaxUint32 {
					seq = math.MaxUint32
				}
				p := incoming(false, 60)
				p.SPort = uint16(seq)
				b := p.IP()
				packets = append(packets, in.sendAs(seq, b))
				if !seen[seq] && top < seq+uint64(size) {
					want = append(want, hop(b))
					seen[seq] = true
					top = max(top, seq)
				}
			}
			got := s.fromPeer(packets...)
			// Within a burst the packets of one SA stay in order; what is asked
			// of the window before the burst's own packets moved it is asked again
			// behind them.
			s.delivered(got, want...)
		}
	}
}

// TestNumbersRunOut: the last number is used, and nothing after it: dropped, and
// never in the clear.
func TestNumbersRunOut(t *testing.T) {
	for _, c := range []struct {
		esn     bool
		last    uint64
		workers int
	}{{false, math.MaxUint32, 1}, {true, math.MaxUint64 - 1, 1}, {false, math.MaxUint32, 2}, {true, math.MaxUint64 - 1, 2}} {
		families(t, func(t *testing.T, in6, out6 bool) {
			s := newSite(t, func(o *fastpath.Options) { o.StateDir, o.Workers = t.TempDir(), c.workers })
			out, _ := s.tunnel(in6, func(a *ipsec.SA) {
				a.ESN = c.esn
				if out6 {
					over6(a)
				}
			})
			set := func(n uint64) {
				if err := ipsec.SetSeq(s.dir, &out.sa, n); err != nil {
					t.Fatal(err)
				}
			}
			set(c.last - 2)
			out.seq = c.last - 2
			p := outgoing(in6, 100).IP()
			got := s.fromHost(p, p, p, p, p)
			if len(got) != 2 {
				t.Fatalf("%d packets left, want 2", len(got))
			}
			for i, g := range got {
				if o := out.must(t, g); o.seq != c.last-1+uint64(i) || !bytes.Equal(o.inner, hop(p)) {
					t.Errorf("packet %d has number %d", i, o.seq)
				}
			}
			s.Moved("lan rx 5, wan tx 2, sa out packets 2, sa out drop esp-seq-overflow 3, lan drop esp-seq-overflow 3, policy p-out packets 5")
			for range 3 {
				s.silent(s.fromHost(p, p))
				s.Moved("lan rx 2, sa out drop esp-seq-overflow 2, lan drop esp-seq-overflow 2, policy p-out packets 2")
			}
			if st := s.sa("out"); st.Seq != c.last {
				t.Errorf("number %d", st.Seq)
			}
			// A set of the same SA does not start anew.
			s.Apply(sas(out.sa))
			s.silent(s.fromHost(p))
			s.Moved("lan rx 1, sa out drop esp-seq-overflow 1, lan drop esp-seq-overflow 1, policy p-out packets 1")
			// A new key does.
			a := out.sa
			a.Key = key(4242, 20)
			s.Apply(sas(a))
			if o := peerOf(a).must(t, s.fromHost(p)[0]); o.seq != 1 {
				t.Errorf("number %d under a new key", o.seq)
			}
		})
	}
}

// TestExtendedNumbers goes over borders of 2^32 in both directions.
func TestExtendedNumbers(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, persistent(t))
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			a.ESN = true
			if out6 {
				over6(a)
			}
		})
		for _, border := range []uint64{1 << 32, 5 << 32, 1 << 63} {
			if err := ipsec.SetSeq(s.dir, &out.sa, border-10); err != nil {
				t.Fatal(err)
			}
			out.seq = border - 10
			p := outgoing(in6, 100).IP()
			for i, g := range s.fromHost(slicesRepeat(p, 20)...) {
				if o := out.must(t, g); o.seq != border-9+uint64(i) {
					t.Fatalf("packet %d has number %#x", i, o.seq)
				}
			}
		}
		b := incoming(in6, 100).IP()
		for seq := uint64(1); seq < 3<<32; seq += 1 << 31 {
			s.delivered(s.fromPeer(in.sendAs(seq, b)), hop(b))
		}
		for _, seq := range []uint64{3<<32 - 30, 3<<32 - 1, 3 << 32, 3<<32 + 1, 3<<32 - 2, 3<<32 + 33, 3<<32 - 29} {
			s.delivered(s.fromPeer(in.sendAs(seq, b)), hop(b))
		}
		s.silent(s.fromPeer(in.sendAs(3<<32-1, b)))
		if st := s.sa("in"); st.Seq != 3<<32+33 {
			t.Errorf("top %#x", st.Seq)
		}
	})
}

func slicesRepeat(b []byte, n int) (l [][]byte) {
	for range n {
		l = append(l, b)
	}
	return l
}

// TestWindowChanges: a commit that changes the window's size never lets a packet
// in twice, whatever else it costs.
func TestWindowChanges(t *testing.T) {
	s := newSite(t, nil)
	_, in := s.tunnel(false)
	r := rand.New(rand.NewPCG(7, 7))
	seen, top := map[uint64]bool{}, uint64(100)
	passed := 0
	for range 200 {
		var packets [][]byte
		for range 30 {
			seq := top + uint64(r.IntN(50)) - uint64(r.IntN(50))
			top = max(top, seq)
			p := incoming(false, 60)
			p.SPort, p.DPort = uint16(seq>>16), uint16(seq)
			packets = append(packets, in.sendAs(seq, p.IP()))
		}
		for _, g := range s.fromPeer(packets...) {
			seq := uint64(g[34])<<24 | uint64(g[35])<<16 | uint64(g[36])<<8 | uint64(g[37])
			if seen[seq] {
				t.Fatalf("number %d came through twice", seq)
			}
			seen[seq] = true
			passed++
		}
		a := in.sa
		a.ReplayWindow = []uint32{64, 65, 128, 1000, 8192}[r.IntN(5)]
		s.Apply(sas(a))
	}
	if passed < 1000 {
		t.Errorf("only %d packets passed", passed)
	}
	if st := s.sa("in"); st.Direction != sal.Inbound || st.Seq != top {
		t.Errorf("top %d, want %d", st.Seq, top)
	}
}
