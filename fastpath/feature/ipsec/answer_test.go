package ipsec_test

import (
	"bytes"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// What the vRouter answers to a packet that came out of an SA, and ICMP errors
// that quote one, leave through an SA or not at all: with or without policy, for
// whatever reason they are sent.
func TestAnswersStayProtected(t *testing.T) {
	lan := map[bool]string{false: "10.1.0.1", true: "2001:db8:1::1"}
	remote := map[bool]string{false: remote4, true: remote6}
	for _, c := range []struct {
		name   string
		packet func(in6 bool) testbed.Packet
		typ    [2]byte // ICMP, ICMPv6
		quotes bool
		wait   bool // for a neighbour that never answers
		wan    bool // comes from the WAN's address, which no policy protects
	}{
		{"echo", func(in6 bool) testbed.Packet { return testbed.Echo(remote[in6], lan[in6], 200) },
			[2]byte{pkt.ICMPv4EchoReply, pkt.ICMPv6EchoReply}, false, false, false},
		{"TTL", func(in6 bool) testbed.Packet { p := incoming(in6, 200); p.TTL = 1; return p },
			[2]byte{pkt.ICMPv4TimeExceeded, pkt.ICMPv6TimeExceeded}, true, false, false},
		{"port", func(in6 bool) testbed.Packet { p := incoming(in6, 200); p.Dst = lan[in6]; return p },
			[2]byte{pkt.ICMPv4Unreachable, pkt.ICMPv6Unreachable}, true, false, false},
		{"protocol", func(in6 bool) testbed.Packet {
			p := incoming(in6, 200)
			p.Dst, p.Proto = lan[in6], 47
			return p
		}, [2]byte{pkt.ICMPv4Unreachable, pkt.ICMPv6ParamProblem}, true, false, false},
		{"prohibited", func(in6 bool) testbed.Packet {
			p := incoming(in6, 200)
			p.Dst = map[bool]string{false: "10.1.0.200", true: "2001:db8:1::200"}[in6]
			return p
		}, [2]byte{pkt.ICMPv4Unreachable, pkt.ICMPv6Unreachable}, true, false, true},
		{"too big for the LAN", func(in6 bool) testbed.Packet { p := incoming(in6, 1380); p.DF = true; return p },
			[2]byte{pkt.ICMPv4Unreachable, pkt.ICMPv6TooBig}, true, false, false},
		{"no such host", func(in6 bool) testbed.Packet {
			p := incoming(in6, 200)
			p.Dst = map[bool]string{false: "10.1.0.99", true: "2001:db8:1::99"}[in6]
			return p
		}, [2]byte{pkt.ICMPv4Unreachable, pkt.ICMPv6Unreachable}, true, true, false},
	} {
		families(t, func(t *testing.T, in6, out6 bool) {
			for _, how := range []string{"protect", "no policy", "bypass"} {
				t.Run(c.name+"/"+how, func(t *testing.T) {
					s := newSite(t, nil)
					out, in := s.tunnel(in6, func(a *ipsec.SA) {
						if out6 {
							over6(a)
						}
					})
					small := testbed.Iface("lan", lanMAC, "10.1.0.1/24", "2001:db8:1::1/64")
					small.MTU = 1340
					ch := &fastpath.Change{Route: route.Change{Set: []route.Config{
						{Prefix: prefix("10.1.0.200/32"), Kind: route.Prohibit}, {Prefix: prefix("2001:db8:1::200/128"), Kind: route.Prohibit}}}}
					ch.Iface.Set = append(ch.Iface.Set, small)
					switch how {
					case "no policy":
						ch.IPsec.DeletePolicy = []string{"p-out"}
					case "bypass":
						p := protect(&out.sa)
						p.Action = ipsec.Bypass
						ch.IPsec.SetPolicy = []ipsec.Policy{p}
					}
					s.Apply(ch)
					s.Recv("lan")
					p := c.packet(in6)
					s.Send("wan", frames(wanMAC, peerMAC, [][]byte{in.send(p.IP())})...)
					s.Run()
					if c.wait {
						for range 100 {
							s.Advance(100e6)
						}
						s.Recv("lan") // who has it?
					}
					got := s.Recv("wan")
					if how != "protect" || c.wan {
						s.silent(got)
						d := s.State(&fastpath.Query{Drops: true}).Drops
						if !dropped(d, "ipsec-no-sa", 1) {
							t.Errorf("drops: %+v", d)
						}
						return
					}
					if len(got) != 1 {
						t.Fatalf("%d packets left, want an answer", len(got))
					}
					answer(t, out.must(t, got[0]).inner, p, c.typ[b2i(in6)], c.quotes)
				})
			}
		})
	}
}

// answer checks an ICMP message to the sender of p.
func answer(t *testing.T, ip []byte, p testbed.Packet, typ byte, quotes bool) {
	t.Helper()
	orig := p.IP()
	src, dst, l4 := pkt.IPv4(ip).SrcAddr(), pkt.IPv4(ip).DstAddr(), 20
	if ip[0]>>4 == 6 {
		src, dst, l4 = pkt.IPv6(ip).SrcAddr(), pkt.IPv6(ip).DstAddr(), 40
	}
	if dst != addr(p.Src) || ip[l4] != typ {
		t.Fatalf("%v to %v, ICMP type %d, want to %s, type %d", src, dst, ip[l4], p.Src, typ)
	}
	// It has come no hop yet: what is made here goes into a tunnel as it is (RFC
	// 4301 section 5.1.2.1, note 3 is about what is forwarded).
	if ttl := ip[map[bool]int{false: 8, true: 7}[ip[0]>>4 == 6]]; ttl != 64 {
		t.Errorf("TTL or hop limit %d inside", ttl)
	}
	if quotes {
		q := ip[l4+8:]
		if len(q) < 48 || !bytes.Equal(q[12:20], orig[12:20]) {
			t.Fatalf("it quotes %x", q)
		}
	}
}

func dropped(l []fastpath.Drop, reason string, n uint64) bool {
	for _, d := range l {
		if d.Reason == reason {
			return d.Packets == n
		}
	}
	return n == 0
}

// TestClearAnswers: what answers clear packets goes its ordinary way, policy
// permitting.
func TestClearAnswers(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newSite(t, nil)
		s.tunnel(v6)
		p := testbed.Echo(map[bool]string{false: peer4, true: peer6}[v6], map[bool]string{false: own4, true: own6}[v6], 100)
		got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{p.IP()}), "wan")[0]
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		answer(t, got[0][14:], p, map[bool]byte{false: pkt.ICMPv4EchoReply, true: pkt.ICMPv6EchoReply}[v6], false)
		s.Moved("wan rx 1, wan tx 1")
	}
}

// TestUnresolved: an ESP packet waits for the peer's MAC address as any other
// would, and none leaves in the clear if there is none.
func TestUnresolved(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		out, _ := s.tunnel(in6, func(a *ipsec.SA) {
			a.Remote = addr("192.0.2.99")
			if out6 {
				a.Local, a.Remote = addr(own6), addr("2001:db8:ff::99")
			}
		})
		got := s.fromHost(outgoing(in6, 100).IP(), outgoing(in6, 101).IP())
		for _, g := range got { // asking for the address
			if typ := pkt.Ethernet(g).Type(); typ != pkt.TypeARP && !(typ == pkt.TypeIPv6 && g[14+40] == pkt.ICMPv6NeighborSol) {
				t.Fatalf("left: %x", g)
			}
		}
		s.Apply(&fastpath.Change{Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("wan", out.sa.Remote.String(), 33)}}})
		s.Run()
		got = s.Recv("wan")
		if len(got) != 2 {
			t.Fatalf("%d packets left", len(got))
		}
		for i, g := range got {
			if o := out.must(t, g); o.seq != uint64(i+1) || !bytes.Equal(o.inner, hop(outgoing(in6, 100+i).IP())) {
				t.Errorf("packet %d: number %d, %x", i, o.seq, o.inner)
			}
		}
		// Another one that never answers.
		s2 := newSite(t, nil)
		s2.tunnel(in6, func(a *ipsec.SA) {
			a.Remote = addr("192.0.2.99")
			if out6 {
				a.Local, a.Remote = addr(own6), addr("2001:db8:ff::99")
			}
		})
		s2.fromHost(outgoing(in6, 100).IP())
		for range 100 {
			s2.Advance(100e6)
		}
		for _, g := range s2.Recv("wan") {
			if typ := pkt.Ethernet(g).Type(); typ != pkt.TypeARP && !(typ == pkt.TypeIPv6 && g[14+40] == pkt.ICMPv6NeighborSol) {
				t.Fatalf("left: %x", g)
			}
		}
		if d := s2.State(&fastpath.Query{Drops: true}).Drops; !dropped(d, "neighbour-failed", 1) {
			t.Errorf("drops: %+v", d)
		}
	})
}

// TestErrorsToTheHost: the sender inside is told in the clear, since it sent in
// the clear.
func TestErrorsToTheHost(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		p := outgoing(in6, 200)
		p.TTL = 1
		got := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p.IP()}), "lan", "wan")
		if len(got[0]) != 1 || len(got[1]) != 0 {
			t.Fatalf("%d answers, %d packets left", len(got[0]), len(got[1]))
		}
		answer(t, got[0][0][14:], p, map[bool]byte{false: pkt.ICMPv4TimeExceeded, true: pkt.ICMPv6TimeExceeded}[in6], true)
		s.Moved("lan rx 1, lan drop ttl-expired 1, lan tx 1")
	})
}
