package fastpath_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// dynamic is twoPorts without static neighbours.
func dynamic(t testing.TB) *testbed.Bed {
	b := testbed.New(t, nil)
	ia := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	ib := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
	b.Mem.Peer("a")
	b.Mem.Peer("b")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib}}, Route: route.Change{Set: append(testbed.Connected(ia, ib),
		testbed.Route("192.0.2.0/24", "10.0.2.9", "b"), testbed.Route("2001:db8:f::/48", "fe80::9", "b"))}})
	return b
}

// family is what the tests of neighbours do alike for ARP and for neighbour
// discovery.
type family struct {
	name     string
	src, dst string // through a neighbour on the link
	far      string // through the next hop
	hop      string
	own      string
}

var families = []family{
	{"arp", "10.0.1.2", "10.0.2.2", "192.0.2.1", "10.0.2.9", "10.0.2.1"},
	{"nd", "2001:db8:1::2", "2001:db8:2::2", "2001:db8:f::1", "fe80::9", "2001:db8:2::1"},
}

// asks tells what a solicitation asks for, and whom; "" when it is none.
func asks(t *testing.T, f []byte) (target string, to pkt.MAC) {
	t.Helper()
	o, bad := pkt.Parse(f)
	if bad != pkt.OK {
		t.Fatalf("sent something malformed (%v): %x", bad, f)
	}
	to = pkt.Ethernet(f).Dst()
	if o.Type == pkt.TypeARP {
		a := pkt.ARP(f[14:])
		if a.Op() != pkt.ARPRequestOp || a.SenderMAC() != testbed.MAC(2) || netip.AddrFrom4(a.SenderIP()).String() != "10.0.2.1" {
			t.Errorf("ARP: %x", f)
		}
		return netip.AddrFrom4(a.TargetIP()).String(), to
	}
	if n, ok := pkt.ParseND(f, &o); ok && n.Type == pkt.ICMPv6NeighborSol {
		if n.LinkAddr != testbed.MAC(2) {
			t.Errorf("solicitation from %v", n.LinkAddr)
		}
		return netip.AddrFrom16(n.Target).String(), to
	}
	return "", to
}

// answer makes the neighbour's answer to a solicitation of ours.
func answer(addr string, mac byte) []byte {
	a := netip.MustParseAddr(addr)
	b := make([]byte, 128)
	if a.Is4() {
		pkt.ARPRequest(b, testbed.MAC(mac), testbed.MAC(2), [4]byte{10, 0, 2, 1}, a.As4())
		return b[:pkt.ARPReply(b, pkt.ARP(b[14:]), testbed.MAC(mac))]
	}
	src := netip.MustParseAddr("2001:db8:2::1")
	if a.IsLinkLocalUnicast() {
		src = netip.AddrFrom16(pkt.LinkLocal6(testbed.MAC(2)))
	}
	sol := pkt.ND{Type: pkt.ICMPv6NeighborSol, Target: a.As16(), Src: src.As16()}
	return b[:pkt.NeighborAdvertisement(b, &sol, sol.Target, testbed.MAC(2), testbed.MAC(mac), 0)]
}

func neighbour(b *testbed.Bed, addr string) neigh.State {
	b.T.Helper()
	for _, n := range b.State(&fastpath.Query{Neighbours: []string{"b"}}).Neighbours {
		if n.Addr.String() == addr {
			return n
		}
	}
	b.T.Fatalf("no neighbour %s", addr)
	return neigh.State{}
}

// TestResolve: packets to an unknown neighbour wait, bounded; its answer lets
// them go in order; a neighbour that does not answer costs its packets their
// life, and their senders are told.
func TestResolve(t *testing.T) {
	for _, f := range families {
		for _, far := range []bool{false, true} {
			t.Run(fmt.Sprint(f.name, "/far=", far), func(t *testing.T) {
				b := dynamic(t)
				dst, hop := f.dst, f.dst
				if far {
					dst, hop = f.far, f.hop
				}
				b.Run()
				b.Recv("a")
				b.Recv("b")
				b.Forget()
				var frames [][]byte
				for i := range 20 {
					frames = append(frames, testbed.Packet{Src: f.src, Dst: dst, SPort: uint16(i), Len: 80}.From(21, 1))
				}
				got := b.Exchange("a", frames, "b")[0]
				if len(got) != 1 {
					t.Fatalf("%d frames came out, want one question", len(got))
				}
				if target, to := asks(t, got[0]); target != hop || !to.IsMulticast() {
					t.Errorf("asks %v for %s, want everybody for %s", to, target, hop)
				}
				b.Moved("a rx 20, b tx 1, a drop neighbour-wait-full 4")
				if n := neighbour(b, hop); n.Reach != neigh.Incomplete || n.Waiting != 16 {
					t.Errorf("state %+v, want incomplete with 16 waiting", n)
				}

				got = b.Exchange("b", [][]byte{answer(hop, 22)}, "b")[0]
				if len(got) != 16 {
					t.Fatalf("%d frames came out after the answer, want the 16 that waited", len(got))
				}
				for i, x := range got {
					if !bytes.Equal(x, forwarded(frames[i], 2, 22)) {
						t.Fatalf("packet %d came out as %x", i, x)
					}
				}
				b.Moved("b rx 1, b tx 16")
				if n := neighbour(b, hop); n.Reach != neigh.Reachable || n.MAC != testbed.MAC(22) || n.Waiting != 0 || n.Origin != neigh.Dynamic {
					t.Errorf("state %+v, want reachable", n)
				}
				got = b.Exchange("a", frames[:1], "b")[0]
				if len(got) != 1 || !bytes.Equal(got[0], forwarded(frames[0], 2, 22)) {
					t.Errorf("then %x came out", got)
				}
			})
		}
	}
}

func TestResolveFails(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			b := dynamic(t)
			b.Run()
			b.Recv("a")
			b.Recv("b")
			b.Forget()
			frames := [][]byte{testbed.Packet{Src: f.src, Dst: f.dst, Len: 80}.From(21, 1)}
			// The sender is known, so that the error finds its way back.
			b.Apply(&fastpath.Change{Neigh: neighChange("a", f.src, 21)})
			b.Exchange("a", frames, "b")
			for range 4 {
				b.Advance(time.Second)
			}
			asked := 0
			for _, x := range b.Recv("b") {
				if target, _ := asks(t, x); target == f.dst {
					asked++
				}
			}
			if asked != 2 {
				t.Errorf("asked %d times more, want twice", asked)
			}
			if n := neighbour(b, f.dst); n.Reach != neigh.Failed {
				t.Errorf("state %+v, want failed", n)
			}
			back := b.Recv("a")
			if len(back) != 1 {
				t.Fatalf("%d answers to the sender, want host unreachable", len(back))
			}
			o, _ := pkt.Parse(back[0])
			if m := pkt.ICMP(back[0][o.L4:]); o.Proto == pkt.ProtoICMP && (m.Type() != 3 || m.Code() != 1) || o.Proto == pkt.ProtoICMPv6 && (m.Type() != 1 || m.Code() != 3) {
				t.Errorf("the sender is told %d/%d", m.Type(), m.Code())
			}
			b.Moved("a rx 1, a tx 1, b tx 3, a drop neighbour-failed 1")
			// A later packet begins anew; without any, the entry goes.
			b.Exchange("a", frames, "b")
			if n := neighbour(b, f.dst); n.Reach != neigh.Incomplete {
				t.Errorf("after another packet: %+v", n)
			}
			b.Advance(4 * time.Second)
			b.Advance(4 * time.Second)
			b.Advance(4 * time.Second)
			b.Advance(4 * time.Second)
			b.Advance(30 * time.Second)
			for _, n := range b.State(&fastpath.Query{Neighbours: []string{}}).Neighbours {
				if n.Addr.String() == f.dst {
					t.Errorf("still there: %+v", n)
				}
			}
		})
	}
}

// TestReachability follows an entry through RFC 4861's states: reachable,
// stale, used and probed, and lost.
func TestReachability(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			b := dynamic(t)
			frame := testbed.Packet{Src: f.src, Dst: f.dst, Len: 80}.From(21, 1)
			b.Exchange("a", [][]byte{frame}, "b")
			b.Exchange("b", [][]byte{answer(f.dst, 22)}, "b")
			is := func(want neigh.Reach) {
				t.Helper()
				if n := neighbour(b, f.dst); n.Reach != want {
					t.Fatalf("state %d, want %d", n.Reach, want)
				}
			}
			passes := func() {
				t.Helper()
				got := b.Exchange("a", [][]byte{frame, frame}, "b")[0]
				if len(got) != 2 || !bytes.Equal(got[0], forwarded(frame, 2, 22)) {
					t.Fatalf("came out: %x", got)
				}
			}
			is(neigh.Reachable)
			passes()
			b.Advance(46 * time.Second)
			is(neigh.Stale)
			b.Advance(time.Minute) // nobody uses it: nothing is sent
			if got := b.Recv("b"); len(got) != 0 {
				t.Fatalf("sent %x", got)
			}
			passes()
			is(neigh.Delay)
			b.Advance(5 * time.Second)
			is(neigh.Probe)
			got := b.Recv("b")
			if len(got) != 1 {
				t.Fatalf("%d frames, want a probe", len(got))
			}
			if target, to := asks(t, got[0]); target != f.dst || to != testbed.MAC(22) {
				t.Errorf("probe asks %v for %s", to, target)
			}
			passes()
			b.Exchange("b", [][]byte{answer(f.dst, 22)}, "b")
			is(neigh.Reachable)
			passes()
			// And now it goes away.
			b.Advance(46 * time.Second)
			passes()
			is(neigh.Delay)
			for range 5 {
				b.Advance(time.Second)
			}
			is(neigh.Probe)
			for range 3 {
				b.Advance(time.Second)
			}
			is(neigh.Failed)
			b.Recv("b")
			got = b.Exchange("a", [][]byte{frame}, "b")[0]
			if len(got) != 1 {
				t.Fatalf("%d frames, want a new question", len(got))
			}
			if _, to := asks(t, got[0]); !to.IsMulticast() {
				t.Errorf("asks only %v", to)
			}
			// It comes back with another address.
			got = b.Exchange("b", [][]byte{answer(f.dst, 33)}, "b")[0]
			if len(got) != 1 || !bytes.Equal(got[0], forwarded(frame, 2, 33)) {
				t.Errorf("after the new answer: %x", got)
			}
		})
	}
}

// TestAnswers: questions for own addresses are answered, others are not.
func TestAnswers(t *testing.T) {
	b := dynamic(t)
	b.Run()
	b.Recv("a")
	b.Recv("b")
	b.Forget()
	arp := func(sender, target string) []byte {
		x := make([]byte, 64)
		s, g := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
		return x[:pkt.ARPRequest(x, pkt.Broadcast, testbed.MAC(21), s, g)]
	}
	got := b.Exchange("a", [][]byte{arp("10.0.1.2", "10.0.1.1")}, "a")[0]
	if len(got) != 1 {
		t.Fatalf("%d answers to ARP", len(got))
	}
	a := pkt.ARP(got[0][14:])
	if a.Op() != pkt.ARPReplyOp || a.SenderMAC() != testbed.MAC(1) || a.SenderIP() != [4]byte{10, 0, 1, 1} || a.TargetMAC() != testbed.MAC(21) ||
		pkt.Ethernet(got[0]).Dst() != testbed.MAC(21) {
		t.Errorf("answer %x", got[0])
	}
	b.Moved("a rx 1, a rx-broadcast 1, a tx 1, a tx-unicast 1")
	// Asking has told us the asker's address.
	if n := b.State(&fastpath.Query{Neighbours: []string{"a"}}).Neighbours; len(n) != 1 || n[0].MAC != testbed.MAC(21) || n[0].Reach != neigh.Stale {
		t.Errorf("learnt %+v", n)
	}
	b.Exchange("a", [][]byte{arp("10.0.1.2", "10.0.1.77"), arp("10.0.1.1", "10.0.1.1"), arp("203.0.113.5", "10.0.1.77")}, "a")
	b.Moved("a rx 3, a drop arp-ignored 3")

	ns := func(src, target string, mac byte) []byte {
		x := make([]byte, 128)
		return x[:pkt.NeighborSolicitation(x, nil, testbed.MAC(mac), netip.MustParseAddr(src).As16(), netip.MustParseAddr(target).As16())]
	}
	linkLocal := netip.AddrFrom16(pkt.LinkLocal6(testbed.MAC(1))).String()
	for _, c := range []struct{ src, target string }{{"2001:db8:1::2", "2001:db8:1::1"}, {"fe80::2", linkLocal}, {"::", "2001:db8:1::1"}} {
		got = b.Exchange("a", [][]byte{ns(c.src, c.target, 21)}, "a")[0]
		if len(got) != 1 {
			t.Fatalf("%d answers to a solicitation for %s", len(got), c.target)
		}
		o, bad := pkt.Parse(got[0])
		n, ok := pkt.ParseND(got[0], &o)
		if bad != pkt.OK || !ok || n.Type != pkt.ICMPv6NeighborAdv || netip.AddrFrom16(n.Target).String() != c.target || n.LinkAddr != testbed.MAC(1) {
			t.Fatalf("answer %x", got[0])
		}
		wantFlags := uint8(pkt.NDRouter | pkt.NDOverride | pkt.NDSolicited)
		if c.src == "::" {
			wantFlags &^= pkt.NDSolicited
		}
		if n.Flags != wantFlags {
			t.Errorf("flags %x, want %x", n.Flags, wantFlags)
		}
	}
	b.Moved("a rx 3, a rx-multicast 3, a tx 3, a tx-multicast 1")
	forged := ns("2001:db8:1::2", "2001:db8:1::1", 21)
	forged[21] = 64 // hop limit: not from this link
	b.Exchange("a", [][]byte{forged, ns("2001:db8:1::2", "2001:db8:1::99", 21)}, "a")
	b.Moved("a rx 2, a rx-multicast 2, a drop nd-bad 1, a drop nd-ignored 1")

	// Ping from a link-local address to ours.
	got = b.Exchange("a", [][]byte{testbed.Echo("fe80::2", linkLocal, 80).From(21, 1)}, "a")[0]
	if len(got) != 1 {
		t.Fatalf("%d answers to a link-local echo", len(got))
	}
	if o, bad := pkt.Parse(got[0]); bad != pkt.OK || pkt.IPv6(got[0][14:]).DstAddr().String() != "fe80::2" || got[0][o.L4] != pkt.ICMPv6EchoReply {
		t.Errorf("answer %x", got[0])
	}
}

// TestAnnounce: a new address is made known to its link.
func TestAnnounce(t *testing.T) {
	b := dynamic(t)
	b.Run()
	b.Recv("a")
	ia := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64", "10.0.9.1/24")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia}}})
	b.Run()
	seen := map[string]bool{}
	for _, f := range b.Recv("a") {
		o, bad := pkt.Parse(f)
		if bad != pkt.OK {
			t.Fatalf("sent %x", f)
		}
		if o.Type == pkt.TypeARP {
			a := pkt.ARP(f[14:])
			if a.SenderIP() != a.TargetIP() || a.SenderMAC() != testbed.MAC(1) {
				t.Errorf("no announcement: %x", f)
			}
			seen[netip.AddrFrom4(a.SenderIP()).String()] = true
		} else if n, ok := pkt.ParseND(f, &o); ok {
			seen[netip.AddrFrom16(n.Target).String()] = true
		}
	}
	for _, want := range []string{"10.0.1.1", "10.0.9.1", "2001:db8:1::1", netip.AddrFrom16(pkt.LinkLocal6(testbed.MAC(1))).String()} {
		if !seen[want] {
			t.Errorf("%s was not announced (but %v)", want, seen)
		}
	}
}

// TestUnsolicited: nobody can put entries into the table unasked, nor change
// static ones.
func TestUnsolicited(t *testing.T) {
	b := twoPorts(t, nil)
	for _, f := range families {
		b.Exchange("b", [][]byte{answer(f.own[:len(f.own)-1]+"7", 66), answer(f.dst, 66)}, "b")
		got := b.Exchange("a", [][]byte{testbed.Packet{Src: f.src, Dst: f.dst, Len: 80}.From(21, 1)}, "b")[0]
		if len(got) != 1 || pkt.Ethernet(got[0]).Dst() != testbed.MAC(22) {
			t.Errorf("%s: the static neighbour was changed: %x", f.name, got)
		}
	}
	for _, n := range b.State(&fastpath.Query{Neighbours: []string{}}).Neighbours {
		if n.Origin != neigh.Static {
			t.Errorf("learnt %+v", n)
		}
	}
}
