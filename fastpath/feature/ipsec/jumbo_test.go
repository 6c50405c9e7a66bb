package ipsec_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// newJumboSite is a site with these MTUs.
func newJumboSite(t testing.TB, lanMTU, wanMTU uint16, opt func(*fastpath.Options)) *site {
	s := newSite(t, opt)
	lan := testbed.Iface("lan", lanMAC, "10.1.0.1/24", "2001:db8:1::1/64")
	wan := testbed.Iface("wan", wanMAC, own4+"/24", own6+"/64")
	lan.MTU, wan.MTU = lanMTU, wanMTU
	for _, n := range []string{"lan", "wan"} {
		s.Mem.Peer(n).Close()
	}
	s.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{lan, wan}}})
	s.Run()
	s.Recv("lan")
	s.Recv("wan")
	s.Forget()
	return s
}

// joined is the IP packet that frames are the pieces of, as one that was never
// cut.
func joined(frames [][]byte) []byte {
	var l [][]byte
	for _, f := range frames {
		l = append(l, f[14:])
	}
	return testbed.Join(l)
}

// jumboLengths are lengths of inner packets around where an ordinary buffer
// ends, by itself or with ESP in front and behind, up to the largest MTU.
func jumboLengths(largest int) (l []int) {
	for n := 1700; n < 2150; n++ {
		l = append(l, n)
	}
	for n := largest - 40; n <= largest; n++ {
		l = append(l, n)
	}
	return append(l, 4095, 4096, 8191, 8192, 8900)
}

// TestJumbo runs packets of sizes around the limits of buffers through a tunnel,
// both ways.
func TestJumbo(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, flows := range []int{1 << 10, -1} {
			s := newJumboSite(t, 9216, 9216, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
			out, in := s.tunnel(in6, func(a *ipsec.SA) {
				if out6 {
					over6(a)
				}
			})
			for _, n := range jumboLengths(fits(out6) - 1500 + 9216) {
				p := outgoing(in6, n)
				p.DF = true
				if o := out.must(t, s.fromHost(p.IP())[0]); !bytes.Equal(o.inner, hop(p.IP())) {
					t.Fatalf("%d bytes: other bytes inside", n)
				}
				s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1")
				back := incoming(in6, n).IP()
				s.delivered(s.fromPeer(in.send(back)), hop(back))
				s.Moved("wan rx 1, lan tx 1, sa in packets 1, policy p-in packets 1")
			}
		}
	})
}

// TestJumboSuites: every cipher takes jumbo frames.
func TestJumboSuites(t *testing.T) {
	suites(t, func(t *testing.T, edit func(*ipsec.SA)) {
		s := newJumboSite(t, 9216, 9216, nil)
		out, in := s.tunnel(false, edit)
		for _, n := range []int{1930, 2000, 2112, 8900, 9000} {
			if o := out.must(t, s.fromHost(outgoing(false, n).IP())[0]); !bytes.Equal(o.inner, hop(outgoing(false, n).IP())) {
				t.Fatalf("%d bytes: other bytes inside", n)
			}
			back := incoming(false, n).IP()
			s.delivered(s.fromPeer(in.send(back)), hop(back))
			bad := in.send(back)
			bad[len(bad)-1] ^= 1
			s.silent(s.fromPeer(bad))
		}
	})
}

// TestFragmentsOfJumboESP: what a sender with larger packets than any link makes,
// a host that sends large datagrams through its own tunnel above all, comes in
// fragments of ESP. They are put together and opened, and what was inside leaves
// as the link wants it.
func TestFragmentsOfJumboESP(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newJumboSite(t, 1500, 1500, nil)
		_, in := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		most := sal.MaxPacket - (1500 - fits(out6)) - 4
		for i, n := range append(jumboLengths(most), 20000, 40000) {
			if i%9 != 0 && n < 2112 {
				continue
			}
			inner := incoming(in6, n)
			parts := testbed.Cut(in.send(inner.IP()), 1440, uint32(i))
			back := s.Exchange("wan", frames(wanMAC, peerMAC, parts), "lan", "wan")
			if in6 { // no router cuts IPv6: its sender is told, through the tunnel
				if len(back[0]) != 0 {
					t.Fatalf("%d bytes: %d packets came out", n, len(back[0]))
				}
				continue
			}
			if !bytes.Equal(joined(back[0]), joined(frames(0, 0, [][]byte{hop(inner.IP())}))) {
				t.Fatalf("%d bytes came out in %d pieces", n, len(back[0]))
			}
			s.Moved(fmt.Sprintf("wan rx %d, lan tx %d, sa in packets 1, policy p-in packets 1", len(parts), len(back[0])))
		}
		// More than the fast path works on.
		esp := in.outer(in.sa.Remote, in.sa.Local, 50, make([]byte, sal.MaxPacket-19))
		if out6 {
			esp = in.outer(in.sa.Remote, in.sa.Local, 50, make([]byte, sal.MaxPacket-39))
		}
		s.Forget()
		parts := testbed.Cut(esp, 1440, 1<<20)
		s.silent(s.fromPeer(parts...))
		s.Moved(fmt.Sprintf("wan rx %d, wan drop reassembly-too-big %d", len(parts), len(parts)))
	})
}

// TestJumboIntoSmall: a jumbo packet for a path of the usual size is cut, before
// or after it is encrypted, or refused.
func TestJumboIntoSmall(t *testing.T) {
	for _, after := range []bool{false, true} {
		s := newJumboSite(t, 9216, 1500, nil)
		out, _ := s.tunnel(false, func(a *ipsec.SA) {
			if after {
				a.Selector.Proto = 17
				a.Selector.RemotePorts = []ipsec.PortRange{{First: 2000, Last: 2000}}
			}
		})
		for _, n := range append(jumboLengths(9216), 3000) {
			p := outgoing(false, n)
			got := s.fromHost(p.IP())
			var inner []byte
			if after {
				o, err := out.open(joined(got))
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				inner = o.inner
			} else {
				var l [][]byte
				for _, g := range got {
					l = append(l, out.must(t, g).inner)
				}
				inner = testbed.Join(l)
			}
			if !bytes.Equal(inner, testbed.Join([][]byte{hop(p.IP())})) {
				t.Fatalf("%d bytes, %d packets: other bytes", n, len(got))
			}
			if !after {
				p.DF = true
				back := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p.IP()}), "lan", "wan")
				if len(back[0]) != 1 || len(back[1]) != 0 {
					t.Fatalf("%d bytes with DF: %d answers, %d packets left", n, len(back[0]), len(back[1]))
				}
				answer(t, back[0][0][14:], p, pkt.ICMPv4Unreachable, true)
			}
			s.Forget()
			s.Advance(time.Second) // there is a rate of errors
		}
	}
}

// TestJumboAllocates nothing: joined, opened, cut; cut, sealed.
func TestJumboAllocates(t *testing.T) {
	s := newJumboSite(t, 9216, 1500, nil)
	_, in := s.tunnel(false)
	const runs = 20
	var wan [][]byte
	for i := range runs + 4 {
		wan = append(wan, frames(wanMAC, peerMAC, testbed.Cut(in.send(incoming(false, 9000).IP()), 1440, uint32(i)))...)
	}
	each := len(wan) / (runs + 4)
	lan := frames(lanMAC, hostMAC, [][]byte{outgoing(false, 9000).IP()})
	l, w := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	got := make([]sal.Desc, 512)
	turn := func() {
		// Inject takes no memory: it copies into buffers of the pool.
		l.Inject(lan...)
		w.Inject(wan[:each]...)
		wan = wan[each:]
		for s.E.Turn(0) > 0 {
		}
		n := l.Recv(got)
		if n != 1 || got[0].Len() != 9014 {
			t.Fatalf("%d packets, %d bytes", n, got[0].Len())
		}
		l.Cache().FreeDescs(got[:n])
		if n = w.Recv(got); n < 6 {
			t.Fatalf("%d packets", n)
		}
		w.Cache().FreeDescs(got[:n])
	}
	turn()
	turn()
	if n := testing.AllocsPerRun(runs, turn); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
