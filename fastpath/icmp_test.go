package fastpath_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// errorCase is a packet from host a, and the ICMP error it must bring back.
type errorCase struct {
	name      string
	p         testbed.Packet
	from      string // source of the error
	typ, code uint8
	rest      uint32
	moved     string
}

// TestErrors sends packets that cannot go on and checks what the sender is
// told, byte by byte, and that the packet is counted under its one reason.
func TestErrors(t *testing.T) {
	cases := []errorCase{
		{"ttl", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", TTL: 1, Len: 100}, "10.0.1.1", 11, 0, 0, "a rx 1, a tx 1, a drop ttl-expired 1"},
		{"ttl-zero", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", TTL: 255, Len: 100}, "", 0, 0, 0, "a rx 1, b tx 1"},
		{"no-route", testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Len: 100}, "10.0.1.1", 3, 0, 0, "a rx 1, a tx 1, a drop no-route 1"},
		{"unreachable", testbed.Packet{Src: "10.0.1.2", Dst: "203.0.113.1", Len: 1400}, "10.0.1.1", 3, 1, 0, "a rx 1, a tx 1, a drop unreachable 1"},
		{"prohibit", testbed.Packet{Src: "10.0.1.2", Dst: "203.0.114.1", Len: 60}, "10.0.1.1", 3, 13, 0, "a rx 1, a tx 1, a drop prohibited 1"},
		{"blackhole", testbed.Packet{Src: "10.0.1.2", Dst: "203.0.115.1", Len: 60}, "", 0, 0, 0, "a rx 1, a drop blackhole 1"},
		{"too-big", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", DF: true, Len: 1300}, "10.0.1.1", 3, 4, 1280, "a rx 1, a tx 1, a drop too-big 1"},
		{"udp-port", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", DPort: 9, Len: 60}, "10.0.1.1", 3, 3, 0, "a rx 1, a tx 1, a drop local-udp 1"},
		{"udp-port-far", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.1", DPort: 9, Len: 60}, "10.0.2.1", 3, 3, 0, "a rx 1, a tx 1, a drop local-udp 1"},
		{"protocol", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 89, Len: 60}, "10.0.1.1", 3, 2, 0, "a rx 1, a tx 1, a drop local-protocol 1"},
		{"tcp", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 6, Len: 60}, "", 0, 0, 0, "a rx 1, a drop local-tcp 1"},

		{"ttl6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", TTL: 1, Len: 100}, "2001:db8:1::1", 3, 0, 0, "a rx 1, a tx 1, a drop ttl-expired 1"},
		{"no-route6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db9::1", Len: 100}, "2001:db8:1::1", 1, 0, 0, "a rx 1, a tx 1, a drop no-route 1"},
		{"unreachable6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:dba::1", Len: 1400}, "2001:db8:1::1", 1, 3, 0, "a rx 1, a tx 1, a drop unreachable 1"},
		{"too-big6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:3::2", Len: 1300}, "2001:db8:1::1", 2, 0, 1280, "a rx 1, a tx 1, a drop too-big 1"},
		{"udp-port6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:2::1", DPort: 9, Len: 60}, "2001:db8:2::1", 1, 4, 0, "a rx 1, a tx 1, a drop local-udp 1"},
		{"beyond scope6", testbed.Packet{Src: "fe80::2", Dst: "2001:db8:f::1", Len: 60}, "fe80::ff:fe00:1", 1, 2, 0, "a rx 1, a tx 1, a drop ip-link-local 1"},
		{"protocol6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:2::1", Proto: 89, Len: 60}, "2001:db8:2::1", 4, 1, 6, "a rx 1, a tx 1, a drop local-protocol 1"},
	}
	b := twoPorts(t, nil)
	ic := testbed.Iface("c", 3, "10.0.3.1/24", "2001:db8:3::1/64")
	ic.MTU = 1280
	b.Mem.Peer("c")
	special := func(p string, k route.Kind) route.Config {
		return route.Config{Prefix: netip.MustParsePrefix(p), Kind: k}
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}, Route: route.Change{Set: append(testbed.Connected(ic),
		special("203.0.113.0/24", route.Unreachable), special("203.0.114.0/24", route.Prohibit), special("203.0.115.0/24", route.Blackhole),
		special("2001:dba::/32", route.Unreachable))}})
	b.Apply(&fastpath.Change{Neigh: neighChange("a", "fe80::2", 21)})
	b.Run()
	b.Forget()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			for range 2 { // the second time the decision is in the cache, if it may be
				frame := c.p.From(21, 1)
				got := b.Exchange("a", [][]byte{frame}, "a", "b")
				b.Moved(c.moved)
				if c.from == "" {
					if len(got[0]) != 0 {
						t.Fatalf("an answer came: %x", got[0])
					}
					continue
				}
				if len(got[0]) != 1 {
					t.Fatalf("%d answers, want one", len(got[0]))
				}
				checkError(t, got[0][0], frame[14:], c)
			}
		})
	}
}

func checkError(t *testing.T, f, orig []byte, c errorCase) {
	t.Helper()
	o, bad := pkt.Parse(f)
	if bad != pkt.OK {
		t.Fatalf("the answer is malformed: %v: %x", bad, f)
	}
	if e := pkt.Ethernet(f); e.Dst() != testbed.MAC(21) || e.Src() != testbed.MAC(1) {
		t.Errorf("the answer goes from %v to %v", e.Src(), e.Dst())
	}
	m := pkt.ICMP(f[o.L4:o.End])
	var src, dst netip.Addr
	limit := 576
	if o.Type == pkt.TypeIPv4 {
		ip := pkt.IPv4(f[o.L3:])
		src, dst = ip.SrcAddr(), ip.DstAddr()
		if pkt.Checksum(m) != 0 {
			t.Error("ICMP checksum is wrong")
		}
		if ip.TTL() != 64 {
			t.Errorf("TTL %d, want 64", ip.TTL())
		}
	} else {
		ip := pkt.IPv6(f[o.L3:])
		src, dst = ip.SrcAddr(), ip.DstAddr()
		if pkt.Pseudo6(ip.Src(), ip.Dst(), pkt.ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff {
			t.Error("ICMPv6 checksum is wrong")
		}
		limit = 1280
	}
	if src.String() != c.from || dst.String() != c.p.Src {
		t.Errorf("from %v to %v, want from %s to %s", src, dst, c.from, c.p.Src)
	}
	if m.Type() != c.typ || m.Code() != c.code || m.Rest() != c.rest {
		t.Errorf("type %d code %d rest %d, want %d %d %d", m.Type(), m.Code(), m.Rest(), c.typ, c.code, c.rest)
	}
	quote := m.Body()
	if !bytes.HasPrefix(orig, quote) || len(quote) < min(len(orig), 28) {
		t.Errorf("quotes %.60x\nof %.60x", quote, orig)
	}
	if n := int(o.End - o.L3); n > limit {
		t.Errorf("%d bytes, want at most %d", n, limit)
	}
}

// TestNoErrors sends packets about which nobody may be told (RFC 1812 section
// 4.3.2.7, RFC 4443 section 2.4 e).
func TestNoErrors(t *testing.T) {
	b := twoPorts(t, nil)
	icmpError := pkt.ICMP(make([]byte, 36))
	icmpError.Set(3, 1, 0, 0)
	icmp6Error := pkt.ICMP(make([]byte, 56))
	icmp6Error.Set(1, 0, 0, 0)
	later := testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Len: 100}.IP()
	pkt.IPv4(later).SetFrag(false, false, 64)
	pkt.IPv4(later).SetChecksum()
	broadcast := testbed.Frame(pkt.Broadcast, testbed.MAC(21), testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Len: 100}.IP())
	for _, c := range []struct {
		name  string
		frame []byte
		moved string
	}{
		{"about an error", testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Proto: 1, Payload: icmpError}.From(21, 1), "a rx 1, a drop no-route 1"},
		{"about an error6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db9::1", Proto: 58, Payload: icmp6Error}.From(21, 1), "a rx 1, a drop no-route 1"},
		{"about what may be an error", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db9::1", Proto: 58, Payload: []byte{}}.From(21, 1), "a rx 1, a drop no-route 1"},
		{"about a later fragment", testbed.Frame(testbed.MAC(1), testbed.MAC(21), later), "a rx 1, a drop no-route 1"},
		{"about a broadcast frame", broadcast, "a rx 1, a rx-broadcast 1, a drop ip-broadcast 1"},
		{"to a source nobody has", testbed.Packet{Src: "0.1.2.3", Dst: "198.51.100.1", Len: 100}.From(21, 1), "a rx 1, a drop ip-source 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			got := b.Exchange("a", [][]byte{c.frame}, "a", "b")
			if len(got[0])+len(got[1]) != 0 {
				t.Errorf("something came out: %x %x", got[0], got[1])
			}
			b.Moved(c.moved)
		})
	}
}

// TestErrorRate: a flood brings a bucket of errors, then the rate.
func TestErrorRate(t *testing.T) {
	b := twoPorts(t, nil)
	flood := make([][]byte, 250)
	for i := range flood {
		flood[i] = testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", SPort: uint16(i), Len: 60}.From(21, 1)
	}
	if n := len(b.Exchange("a", flood, "a")[0]); n != 100 {
		t.Errorf("%d errors for a flood of 250, want a bucket of 100", n)
	}
	b.Advance(20 * time.Millisecond)
	if n := len(b.Exchange("a", flood, "a")[0]); n != 20 {
		t.Errorf("%d errors after 20 ms, want 20", n)
	}
	b.Moved("a rx 500, a tx 120, a drop no-route 500")
}

func TestEcho(t *testing.T) {
	b := twoPorts(t, nil)
	for _, c := range []struct{ src, dst string }{
		{"10.0.1.2", "10.0.1.1"}, {"10.0.1.2", "10.0.2.1"}, {"2001:db8:1::2", "2001:db8:1::1"}, {"2001:db8:1::2", "2001:db8:2::1"},
	} {
		req := testbed.Echo(c.src, c.dst, 120).From(21, 1)
		for range 2 {
			got := b.Exchange("a", [][]byte{req}, "a")[0]
			b.Moved("a rx 1, a tx 1")
			if len(got) != 1 {
				t.Fatalf("%s: %d answers", c.dst, len(got))
			}
			o, bad := pkt.Parse(got[0])
			if bad != pkt.OK {
				t.Fatalf("%s: answer malformed: %v", c.dst, bad)
			}
			m := pkt.ICMP(got[0][o.L4:o.End])
			want := uint8(pkt.ICMPv4EchoReply)
			sum := pkt.Checksum(m)
			if o.Type == pkt.TypeIPv6 {
				want = pkt.ICMPv6EchoReply
				ip := pkt.IPv6(got[0][o.L3:])
				sum = ^pkt.Pseudo6(ip.Src(), ip.Dst(), pkt.ProtoICMPv6, len(m)).Add(m).Fold()
			}
			if m.Type() != want || m.Rest() != 0x00070001 || !bytes.Equal(m.Body(), req[14+len(req[14:])-len(m.Body()):]) {
				t.Errorf("%s: answer %x", c.dst, m)
			}
			if sum != 0 {
				t.Errorf("%s: checksum is wrong", c.dst)
			}
		}
	}
	bad := testbed.Echo("10.0.1.2", "10.0.1.1", 60)
	bad.Payload[9] ^= 1
	b.Exchange("a", [][]byte{bad.From(21, 1)}, "a")
	b.Moved("a rx 1, a drop icmp-bad 1")
	// What asks for more than whether we are there is not answered: timestamp,
	// information and address mask requests.
	for _, typ := range []byte{13, 15, 17} {
		m := pkt.ICMP(make([]byte, 20))
		m.Set(typ, 0, 0x00070001, 0)
		if got := b.Exchange("a", [][]byte{testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 1, Payload: m}.From(21, 1)}, "a")[0]; len(got) != 0 {
			t.Errorf("ICMP type %d is answered: %x", typ, got)
		}
	}
	b.Moved("a rx 3, a drop icmp-ignored 3")
}

// TestFragmentation: without "don't fragment" a packet too big for the way out
// leaves in pieces that make the packet again.
func TestFragmentation(t *testing.T) {
	b := twoPorts(t, nil)
	ic := testbed.Iface("c", 3, "10.0.3.1/24")
	ic.MTU, ic.V6.Enabled = 600, false
	b.Mem.Peer("c")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}, Route: route.Change{Set: testbed.Connected(ic)}})
	b.Apply(&fastpath.Change{Neigh: neighChange("c", "10.0.3.2", 23)})
	b.Run()
	b.Recv("c")
	b.Forget()
	copied := []byte{0x82, 4, 1, 2, 1, 1, 1, 0} // security (copied flag), three no-operations, end
	notCopied := []byte{7, 7, 4, 0, 0, 0, 0, 0} // record route
	for _, c := range []struct {
		name string
		p    testbed.Packet
		n    int
		hl   []int
	}{
		{"plain", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", SPort: 5, Len: 1500}, 3, []int{20, 20, 20}},
		{"exact", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", SPort: 5, Len: 600}, 1, []int{20}},
		{"one more", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", SPort: 5, Len: 601}, 2, []int{20, 20}},
		{"copied option", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", Options: copied, Len: 1400}, 3, []int{28, 24, 24}},
		{"option", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", Options: notCopied, Len: 1400}, 3, []int{28, 20, 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			frame := c.p.From(21, 1)
			got := b.Exchange("a", [][]byte{frame}, "c", "a")
			if len(got[0]) != c.n {
				t.Fatalf("%d pieces, want %d (answers: %x)", len(got[0]), c.n, got[1])
			}
			whole := make([]byte, len(frame)-14-pkt.IPv4(frame[14:]).HeaderLen())
			for k, f := range got[0] {
				o, bad := pkt.Parse(f)
				ip := pkt.IPv4(f[14:])
				if bad != pkt.OK || ip.TotalLen() > 600 || ip.TTL() != 63 || pkt.Ethernet(f).Dst() != testbed.MAC(23) {
					t.Fatalf("piece %d: %v %x", k, bad, f)
				}
				if ip.HeaderLen() != c.hl[k] {
					t.Errorf("piece %d has a header of %d bytes, want %d", k, ip.HeaderLen(), c.hl[k])
				}
				if last := k == c.n-1; ip.MF() == last || ip.ID() != 0x1234 {
					t.Errorf("piece %d: more fragments %v, id %x", k, ip.MF(), ip.ID())
				}
				copy(whole[ip.FragOffset():], f[o.L4:o.End])
			}
			orig := frame[14+pkt.IPv4(frame[14:]).HeaderLen():]
			if !bytes.Equal(whole, orig) {
				t.Error("the pieces do not make the packet again")
			}
		})
	}
}
