package ipsec_test

import (
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// TestNoAllocation: not one allocation for packets in both directions, of cached
// flows and without a cache, bare and in UDP, that pass, are cut, or die.
func TestNoAllocation(t *testing.T) {
	for _, how := range []struct {
		flows int
		edit  func(*ipsec.SA)
	}{{1 << 10, func(*ipsec.SA) {}}, {-1, func(*ipsec.SA) {}}, {1 << 10, follow}, {-1, inUDP}} {
		flows := how.flows
		families(t, func(t *testing.T, in6, out6 bool) {
			s := newSite(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
			out, in := s.tunnel(in6, func(a *ipsec.SA) {
				how.edit(a)
				if out6 {
					over6(a)
				}
			})
			const n = 64
			big := outgoing(false, 1500)
			if in6 {
				big = outgoing(false, 100)
			}
			lan := testbed.Frame(testbed.MAC(lanMAC), testbed.MAC(hostMAC), outgoing(in6, 300).IP())
			large := testbed.Frame(testbed.MAC(lanMAC), testbed.MAC(hostMAC), big.IP())
			// As many inbound packets as the test will want, each of a number of its
			// own; every other one is spoiled.
			const runs = 20
			var wan [][]byte
			for i := range (runs + 6) * n / 2 {
				b := in.send(incoming(in6, 300).IP())
				if i%2 == 1 {
					b[len(b)-1] ^= 1
				}
				wan = append(wan, testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), b))
			}
			l, w := s.Mem.Peer("lan"), s.Mem.Peer("wan")
			put := func(p interface {
				Cache() *sal.Cache
				Pool() *sal.Pool
				Send(int, []sal.Desc) int
			}, d []sal.Desc, frame []byte) {
				b, ok := p.Cache().Alloc()
				if !ok {
					t.Fatal("no buffer")
				}
				d[0] = sal.MakeDesc(b, sal.Headroom, uint16(len(frame)))
				copy(p.Pool().Bytes(d[0]), frame)
				p.Send(0, d)
			}
			one, got := make([]sal.Desc, 1), make([]sal.Desc, 512)
			turn := func() {
				for i := range n {
					if i%2 == 0 {
						put(l, one, lan)
					} else {
						put(l, one, large)
					}
				}
				for range n / 2 {
					put(w, one, wan[0])
					wan = wan[1:]
				}
				s.E.Turn(0)
				l.Cache().FreeDescs(got[:l.Recv(got)])
				w.Cache().FreeDescs(got[:w.Recv(got)])
			}
			for range 4 {
				turn()
			}
			before := s.sa("out").Packets
			if a := testing.AllocsPerRun(runs, turn); a != 0 {
				t.Errorf("%v allocations a turn", a)
			}
			if s.sa("out").Packets < before+n/2*runs || s.sa("in").Packets < n/4*runs || s.sa("in").Failed < n/4*runs {
				t.Errorf("too little passed: %+v %+v", s.sa("out"), s.sa("in"))
			}
			_ = out
		})
	}
}

// TestNoAllocationTransport is TestNoAllocation for transport mode: pings that are
// answered, in one piece and in fragments, and packets that die.
func TestNoAllocationTransport(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		_, in := s.transport(v6, edit)
		const runs, n = 20, 16
		var wan [][]byte
		for i := range (runs + 6) * n {
			b := in.dress(ping(v6, []int{100, 3000}[i%2]))
			if i%4 == 3 {
				b[len(b)-1] ^= 1
			}
			l := [][]byte{b}
			if i%2 == 1 {
				l = testbed.Cut(b, 1400, uint32(i))
			}
			wan = append(wan, frames(wanMAC, peerMAC, l)...)
		}
		w := s.Mem.Peer("wan")
		got := make([]sal.Desc, 512)
		each := len(wan) / (runs + 6)
		turn := func() {
			for range each {
				b, ok := w.Cache().Alloc()
				if !ok {
					t.Fatal("no buffer")
				}
				d := [1]sal.Desc{sal.MakeDesc(b, sal.Headroom, uint16(len(wan[0])))}
				copy(w.Pool().Bytes(d[0]), wan[0])
				w.Send(0, d[:])
				wan = wan[1:]
			}
			s.E.Turn(0)
			w.Cache().FreeDescs(got[:w.Recv(got)])
		}
		for range 4 {
			turn()
		}
		if a := testing.AllocsPerRun(runs, turn); a != 0 {
			t.Errorf("%v allocations a turn", a)
		}
		if out, in := s.sa("out"), s.sa("in"); out.Packets < 3*n/4*runs || in.Failed < n/4*runs {
			t.Errorf("too little passed: %+v %+v", out, in)
		}
	})
}
