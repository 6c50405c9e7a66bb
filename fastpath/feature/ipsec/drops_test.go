package ipsec_test

import (
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
)

// TestDropsInbound: each way in which an ESP packet can be wrong kills it under
// its own name, on the interface and at the SA, once, and moves nothing else.
// The packet after it is none the worse.
func TestDropsInbound(t *testing.T) {
	inner := func(v6 bool) []byte { return incoming(v6, 100).IP() }
	for _, c := range []struct {
		name   string
		why    drop.Reason
		atSA   bool
		packet func(p *peer, in6 bool) []byte
	}{
		{"unknown SPI", drop.ESPNoSA, false, func(p *peer, in6 bool) []byte {
			q := *p
			q.sa.SPI++
			return q.send(inner(in6))
		}},
		{"another peer's address", drop.ESPNoSA, false, func(p *peer, in6 bool) []byte {
			q := *p
			q.sa.Remote = q.sa.Remote.Next()
			return q.send(inner(in6))
		}},
		{"replayed", drop.ESPReplay, true, func(p *peer, in6 bool) []byte { return p.sendAs(p.seq, inner(in6)) }},
		{"number zero", drop.ESPReplay, true, func(p *peer, in6 bool) []byte { return p.sendAs(0, inner(in6)) }},
		{"late", drop.ESPLate, true, func(p *peer, in6 bool) []byte { return p.sendAs(p.seq-64, inner(in6)) }},
		{"ICV", drop.ESPBadICV, true, spoiled(func(esp []byte) { esp[len(esp)-1] ^= 1 })},
		{"text", drop.ESPBadICV, true, spoiled(func(esp []byte) { esp[30] ^= 0x80 })},
		{"IV", drop.ESPBadICV, true, spoiled(func(esp []byte) { esp[9] ^= 1 })},
		{"number, not authentic", drop.ESPBadICV, true, spoiled(func(esp []byte) { esp[6] ^= 1 })},
		{"no text", drop.ESPShort, true, func(p *peer, in6 bool) []byte {
			q := *p
			return q.outer(q.sa.Remote, q.sa.Local, 50, append([]byte{0, 0, byte(q.sa.SPI >> 8), byte(q.sa.SPI)}, make([]byte, 28)...))
		}},
		{"unaligned", drop.ESPShort, true, func(p *peer, in6 bool) []byte {
			q := *p
			return q.outer(q.sa.Remote, q.sa.Local, 50, append([]byte{0, 0, byte(q.sa.SPI >> 8), byte(q.sa.SPI)}, make([]byte, 99)...))
		}},
		{"empty inside", drop.ESPShort, true, func(p *peer, in6 bool) []byte { p.next = 4; return p.send(nil) }},
		{"inner packet cut", drop.ESPShort, true, func(p *peer, in6 bool) []byte { b := inner(in6); return p.send(b[:len(b)-1]) }},
		{"pad bytes", drop.ESPBadPad, true, func(p *peer, in6 bool) []byte { p.badPad, p.padding = true, 4; return p.send(inner(in6)) }},
		{"next header", drop.ESPBadNext, true, func(p *peer, in6 bool) []byte { p.next = 6; return p.send(inner(in6)) }},
		{"next header of the other family", drop.ESPBadNext, true, func(p *peer, in6 bool) []byte { p.next = 4 + 37 - 37*b2i(in6); return p.send(inner(in6)) }},
		{"dummy", drop.ESPDummy, true, func(p *peer, in6 bool) []byte { p.next = 59; return p.send(make([]byte, 60)) }},
		{"congestion marked outside only", drop.ESPBadECN, true, func(p *peer, in6 bool) []byte { p.tos = 3; return p.send(inner(in6)) }},
		{"outside the selectors", drop.IPsecPolicyMismatch, true, func(p *peer, in6 bool) []byte {
			x := incoming(in6, 100)
			x.Src = map[bool]string{false: "10.3.0.1", true: "2001:db8:3::1"}[in6]
			return p.send(x.IP())
		}},
		{"the other family inside", drop.IPsecPolicyMismatch, true, func(p *peer, in6 bool) []byte { return p.send(inner(!in6)) }},
	} {
		families(t, func(t *testing.T, in6, out6 bool) {
			t.Run(c.name, func(t *testing.T) {
				s := newSite(t, nil)
				_, in := s.tunnel(in6, func(a *ipsec.SA) {
					if out6 {
						over6(a)
					}
				})
				in.seq = 100
				for range 2 { // the second time from the flow cache
					s.delivered(s.fromPeer(in.send(inner(in6))), hop(inner(in6)))
					s.Forget()
					p := *in
					s.silent(s.fromPeer(c.packet(&p, in6)))
					want := fmt.Sprintf("wan rx 1, wan drop %v 1", c.why)
					if c.atSA {
						want += fmt.Sprintf(", sa in drop %v 1", c.why)
					}
					if c.why == drop.IPsecPolicyMismatch { // it was opened
						want += ", sa in packets 1"
					}
					s.Moved(want)
					in.seq = max(in.seq, p.seq)
				}
				s.delivered(s.fromPeer(in.send(inner(in6))), hop(inner(in6)))
			})
		})
	}
}

func b2i(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func spoiled(f func(esp []byte)) func(p *peer, in6 bool) []byte {
	return func(p *peer, in6 bool) []byte {
		p.spoil = f
		return p.send(incoming(in6, 100).IP())
	}
}

// TestDropsOutbound: where policy says protect, whatever is missing means a drop
// with its reason.
func TestDropsOutbound(t *testing.T) {
	for _, c := range []struct {
		name   string
		why    drop.Reason
		atSA   bool
		change func(s *site, a *ipsec.SA) *fastpath.Change
		edit   func(s *site, b []byte) []byte
	}{
		{"no SA", drop.IPsecNoSA, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			return &fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out"}}}
		}, nil},
		{"SA of another ReqID", drop.IPsecNoSA, false, func(s *site, a *ipsec.SA) *fastpath.Change { a.ReqID = 77; return sas(*a) }, nil},
		{"SA with narrower selectors", drop.IPsecNoSA, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			a.Selector.Proto = 6
			return sas(*a)
		}, nil},
		{"SA with other tunnel ends", drop.IPsecNoSA, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			p := protect(a)
			p.LocalTunnel, p.RemoteTunnel = a.Local, a.Remote
			a.Remote = a.Remote.Next()
			return &fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{*a}, SetPolicy: []ipsec.Policy{p}}}
		}, nil},
		{"no route to the peer", drop.NoRoute, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			a.Remote = addr(map[bool]string{false: "203.0.113.1", true: "2001:db8:77::1"}[a.Remote.Is6()])
			return &fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{*a}},
				Route: route.Change{Delete: []netip.Prefix{prefix("0.0.0.0/0"), prefix("::/0")}}}
		}, nil},
		{"blackhole to the peer", drop.Blackhole, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			a.Remote = addr(map[bool]string{false: "203.0.113.1", true: "2001:db8:77::1"}[a.Remote.Is6()])
			return &fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{*a}},
				Route: route.Change{Set: []route.Config{{Prefix: prefix("203.0.113.0/24"), Kind: route.Blackhole}, {Prefix: prefix("2001:db8:77::/48"), Kind: route.Blackhole}}}}
		}, nil},
		{"peer is ourselves", drop.IPDestination, false, func(s *site, a *ipsec.SA) *fastpath.Change {
			a.Remote = addr(map[bool]string{false: "10.1.0.1", true: "2001:db8:1::1"}[a.Remote.Is6()])
			return sas(*a)
		}, nil},
		{"numbers used up", drop.ESPSeqOverflow, true, func(s *site, a *ipsec.SA) *fastpath.Change {
			if err := ipsec.SetSeq(s.dir, a, 1<<32-1); err != nil {
				s.T.Fatal(err)
			}
			return &fastpath.Change{}
		}, nil},
	} {
		families(t, func(t *testing.T, in6, out6 bool) {
			t.Run(c.name, func(t *testing.T) {
				s := newSite(t, persistent(t))
				out, _ := s.tunnel(in6, func(a *ipsec.SA) {
					if out6 {
						over6(a)
					}
				})
				p := outgoing(in6, 200)
				p.Src = map[bool]string{false: "10.1.0.77", true: "2001:db8:1::77"}[in6] // no neighbour: ICMP errors wait, unseen
				a := out.sa
				s.Apply(c.change(s, &a))
				s.Forget()
				for range 2 {
					got := s.fromHost(p.IP())
					for _, g := range got {
						t.Errorf("left on the WAN: %x", g)
					}
					want := fmt.Sprintf("lan rx 1, lan drop %v 1, policy p-out packets 1", c.why)
					if c.atSA {
						want += fmt.Sprintf(", sa out drop %v 1", c.why)
					}
					if c.why == drop.NoRoute { // the sender is told, and asked for
						s.Recv("lan")
						s.Forget()
						continue
					}
					s.Moved(want)
				}
			})
		})
	}
}

// TestNoRoom: a driver that leaves no room around a packet costs that packet.
func TestNoRoom(t *testing.T) {
	s := newSite(t, nil)
	out, _ := s.tunnel(false)
	peer := s.Mem.Peer("lan")
	frame := outgoing(false, 1400).From(hostMAC, lanMAC)
	send := func(off int) {
		b, ok := peer.Cache().Alloc()
		if !ok {
			t.Fatal("no buffer")
		}
		d := sal.MakeDesc(b, uint16(off), uint16(len(frame)))
		copy(peer.Pool().Bytes(d), frame)
		if peer.Send(0, []sal.Desc{d}) != 1 {
			t.Fatal("not taken")
		}
		s.Run()
	}
	for _, off := range []int{20, sal.BufSize - len(frame) - 20} {
		send(off)
		s.silent(s.Recv("wan"))
		s.Moved("lan rx 1, lan drop esp-no-room 1, sa out drop esp-no-room 1, policy p-out packets 1")
	}
	for _, off := range []int{36, sal.BufSize - len(frame) - 21} { // just enough
		send(off)
		out.must(t, s.Recv("wan")[0])
	}
}

// TestClear: what policy wants protected and comes in the clear dies, forwarded
// or delivered.
func TestClear(t *testing.T) {
	for _, in6 := range []bool{false, true} {
		s := newSite(t, nil)
		s.tunnel(in6)
		own := testbed.Echo(map[bool]string{false: remote4, true: remote6}[in6], map[bool]string{false: "10.1.0.1", true: "2001:db8:1::1"}[in6], 100)
		for range 2 {
			s.silent(s.fromPeer(incoming(in6, 100).IP(), own.IP()))
			s.Moved("wan rx 2, wan drop ipsec-unprotected 2")
		}
	}
}
