package ipsec_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// TestPolicyOrder: the first entry that matches counts, by its order and not by
// the length of its prefixes or the time of its commit.
func TestPolicyOrder(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newSite(t, nil)
		out, _ := s.tunnel(v6)
		all := out.sa.Selector
		web := all
		web.Proto, web.RemotePorts = 6, []ipsec.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8100}}
		one := all
		one.Remote = prefix(map[bool]string{false: "10.2.0.9/32", true: "2001:db8:2::9/128"}[v6])
		one.Proto = 17
		p := protect(&out.sa)
		p.Order = 100
		bypass := ipsec.Policy{Name: "web", Direction: sal.Outbound, Order: 50, Action: ipsec.Bypass, Selector: web}
		discard := ipsec.Policy{Name: "one", Direction: sal.Outbound, Order: 200, Action: ipsec.Discard, Selector: one}
		s.Apply(policies(discard, bypass, p))

		udp, tcp := outgoing(v6, 100), outgoing(v6, 100)
		tcp.Proto, tcp.DPort = pkt.ProtoTCP, 80
		isESP := func(p testbed.Packet) bool {
			t.Helper()
			got := s.fromHost(p.IP())
			if len(got) != 1 {
				t.Fatalf("%d packets left", len(got))
			}
			if bytes.Equal(got[0][14:], hop(p.IP())) {
				return false
			}
			out.must(t, got[0])
			return true
		}
		for range 2 {
			if !isESP(udp) {
				t.Error("UDP: protect stands before discard")
			}
			s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1")
			for _, c := range []struct {
				port uint16
				esp  bool
			}{{80, false}, {81, true}, {7999, true}, {8000, false}, {8050, false}, {8100, false}, {8101, true}} {
				tcp.DPort = c.port
				if isESP(tcp) != c.esp {
					t.Errorf("TCP port %d: ESP %v", c.port, !c.esp)
				}
				if c.esp {
					s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1")
				} else {
					s.Moved("lan rx 1, wan tx 1, policy web packets 1")
				}
			}
		}
		discard.Order = 10
		s.Apply(policies(discard))
		s.silent(s.fromHost(udp.IP()))
		s.Moved("lan rx 1, lan drop ipsec-policy-discard 1, policy one packets 1")
		tcp.DPort = 22
		if !isESP(tcp) {
			t.Error("TCP is not UDP")
		}
		// The counter goes on when an entry is set again, and begins anew when it is.
		before := s.State(&fastpath.Query{Policies: []string{"one"}}).Policies[0].Packets
		s.Apply(policies(discard))
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeletePolicy: []string{"p-out"}}})
		if n := s.State(&fastpath.Query{Policies: []string{"one"}}).Policies[0].Packets; n != before || n != 1 {
			t.Errorf("counted %d, before %d", n, before)
		}
		s.Forget()
		if isESP(tcp) {
			t.Error("encrypted without a policy")
		}
		s.Moved("lan rx 1, wan tx 1")
	}
}

// TestFragmentsFailClosed: a fragment does not show its ports. It is treated as
// the strictest entry that could be meant for it says.
func TestFragmentsFailClosed(t *testing.T) {
	frag := func(off int, more bool) []byte {
		b := outgoing(false, 108).IP()
		pkt.IPv4(b).SetFrag(false, more, off)
		pkt.IPv4(b).SetChecksum()
		return b
	}
	// IPv6: a fragment header in front of the UDP header, or behind it an
	// extension header whose inside a later fragment does not show.
	frag6 := func(off uint16, next byte) []byte {
		b := outgoing(true, 112).IP()
		body := append([]byte{next, 0, byte(off >> 8), byte(off) | 1, 0, 0, 0, 7}, b[40:]...)
		b = append(b[:40:40], body...)
		b[6] = 44
		pkt.IPv6(b).SetPayloadLen(len(body))
		return b
	}
	for _, c := range []struct {
		name string
		v6   bool
		b    []byte
	}{
		{"first", false, frag(0, true)}, {"middle", false, frag(800, true)}, {"last", false, frag(1600, false)},
		{"first", true, frag6(0, 17)}, {"later", true, frag6(800, 17)}, {"later, protocol hidden", true, frag6(800, 60)},
	} {
		t.Run(fam(c.v6)+"/"+c.name, func(t *testing.T) {
			s := newSite(t, nil)
			out, _ := s.tunnel(c.v6)
			ports := out.sa.Selector
			ports.Proto, ports.RemotePorts = 17, []ipsec.PortRange{{First: 2000, Last: 2000}}
			entry := func(a ipsec.Action) ipsec.Policy {
				return ipsec.Policy{Name: "p-out", Direction: sal.Outbound, Order: 5, Action: a, ReqID: out.sa.ReqID, Selector: ports}
			}
			// Protect by ports, an SA that takes everything.
			s.Apply(policies(entry(ipsec.Protect)))
			if o := out.must(t, s.fromHost(c.b)[0]); !bytes.Equal(o.inner, hop(c.b)) {
				t.Errorf("inside: %x", o.inner)
			}
			// An SA that takes these ports only.
			a := out.sa
			a.Selector = ports
			s.Apply(sas(a))
			s.Forget()
			s.silent(s.fromHost(c.b))
			s.Moved("lan rx 1, lan drop ipsec-opaque 1, policy p-out packets 1")
			// Discard by ports.
			s.Apply(policies(entry(ipsec.Discard)))
			s.silent(s.fromHost(c.b))
			s.Moved("lan rx 1, lan drop ipsec-policy-discard 1, policy p-out packets 1")
			// Bypass by ports does not let it through, protect behind it takes it.
			rest := protect(&out.sa)
			rest.Name, rest.Order = "rest", 10
			s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetPolicy: []ipsec.Policy{entry(ipsec.Bypass), rest}, SetSA: []ipsec.SA{out.sa}}})
			s.Forget()
			out.must(t, s.fromHost(c.b)[0])
			s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy rest packets 1")
		})
	}
}

// TestFragmentsThroughAnSA: fragments come out of an SA whose selectors name no
// ports, and of no other.
func TestFragmentsThroughAnSA(t *testing.T) {
	s := newSite(t, nil)
	_, in := s.tunnel(false)
	b := incoming(false, 108).IP()
	pkt.IPv4(b).SetFrag(false, true, 800)
	pkt.IPv4(b).SetChecksum()
	s.delivered(s.fromPeer(in.send(b)), hop(b))
	in.sa.Selector.Proto, in.sa.Selector.RemotePorts = 17, []ipsec.PortRange{{First: 2000, Last: 2000}}
	s.Apply(sas(in.sa))
	s.Forget()
	s.silent(s.fromPeer(in.send(b)))
	s.Moved("wan rx 1, wan drop ipsec-policy-mismatch 1, sa in packets 1, sa in drop ipsec-policy-mismatch 1")
}

// TestFragmentsOfESP: ESP that was cut on its way is put together and opened,
// in whatever order the pieces come, up to the largest that a sender can make.
func TestFragmentsOfESP(t *testing.T) {
	for _, over6 := range []bool{false, true} {
		s := newSite(t, nil)
		_, in := s.tunnel(false, func(a *ipsec.SA) {
			if over6 {
				a.Local, a.Remote = addr(own6), addr(peer6)
			}
		})
		for i, n := range []int{100, 1400, 1500, 1850, 1900, 4000} {
			inner := incoming(false, n).IP()
			parts := testbed.Cut(in.send(inner), 72, uint32(i))
			slices.Reverse(parts)
			got := s.fromPeer(parts...)
			s.Moved(fmt.Sprintf("wan rx %d, lan tx %d, sa in packets 1, policy p-in packets 1", len(parts), len(got)))
			if n <= 1500 {
				s.delivered(got, hop(inner))
			} else if !bytes.Equal(joined(got), joined([][]byte{append(make([]byte, 14), hop(inner)...)})) {
				t.Fatalf("%d bytes came out in %d pieces: %.80x", n, len(got), joined(got))
			}
		}
	}
}

// TestNoPorts: an entry with ports says nothing about protocols that have none,
// unless it has all of them.
func TestNoPorts(t *testing.T) {
	s := newSite(t, nil)
	out, _ := s.tunnel(false)
	p := protect(&out.sa)
	p.Selector.LocalPorts = []ipsec.PortRange{{First: 0, Last: 1024}}
	s.Apply(policies(p))
	echo := testbed.Echo(host4, remote4, 100).IP()
	if got := s.fromHost(echo); len(got) != 1 || !bytes.Equal(got[0][14:], hop(echo)) {
		t.Error("ICMP has no ports")
	}
	p.Selector.LocalPorts = []ipsec.PortRange{{First: 5, Last: 9}, {First: 0, Last: 65535}}
	s.Apply(policies(p))
	out.must(t, s.fromHost(echo)[0])
}

// TestInboundPolicies: what came through an SA must also be what the SPD wants
// protected by it; what came in the clear must be allowed to.
func TestInboundPolicies(t *testing.T) {
	for _, c := range []struct {
		name   string
		action ipsec.Action
		reqid  uint64
		esp    string // what happens to a packet through the SA
		clear  string // and in the clear
	}{
		{"protect", ipsec.Protect, 0, "wan rx 1, lan tx 1, sa in packets 1, policy p-in packets 1", "wan rx 1, wan drop ipsec-unprotected 1"},
		{"protect by others", ipsec.Protect, 99, "wan rx 1, wan drop ipsec-policy-mismatch 1, sa in packets 1, sa in drop ipsec-policy-mismatch 1",
			"wan rx 1, wan drop ipsec-unprotected 1"},
		{"bypass", ipsec.Bypass, 0, "wan rx 1, wan drop ipsec-policy-mismatch 1, sa in packets 1, sa in drop ipsec-policy-mismatch 1",
			"wan rx 1, lan tx 1, policy p-in packets 1"},
		{"discard", ipsec.Discard, 0, "wan rx 1, wan drop ipsec-policy-mismatch 1, sa in packets 1, sa in drop ipsec-policy-mismatch 1",
			"wan rx 1, wan drop ipsec-policy-discard 1, policy p-in packets 1"},
	} {
		families(t, func(t *testing.T, in6, out6 bool) {
			s := newSite(t, nil)
			_, in := s.tunnel(in6, func(a *ipsec.SA) {
				if out6 {
					over6(a)
				}
			})
			p := protect(&in.sa)
			p.Action = c.action
			if c.reqid != 0 {
				p.ReqID = c.reqid
			}
			s.Apply(policies(p))
			b := incoming(in6, 100).IP()
			for range 2 {
				s.fromPeer(in.send(b))
				s.Moved(c.esp)
				s.fromPeer(b)
				s.Moved(c.clear)
			}
		})
	}
}

// TestNested: ESP in ESP to us is opened twice; ESP packets of others are
// traffic like any other, protected or passed on.
func TestNested(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		// The outer SA carries what is between us and 10.2.0.9 or its like; the
		// inner one ends there.
		inner, outer := testSA("inner", sal.Inbound, in6), testSA("outer", sal.Inbound, out6)
		inner.SPI, inner.Local, inner.Remote = 0x9000, addr(map[bool]string{false: "10.1.0.1", true: "2001:db8:1::1"}[out6]), addr(map[bool]string{false: remote4, true: remote6}[out6])
		inner.ReqID, outer.ReqID, outer.SPI = 10, 11, 0x9001
		s.Apply(sas(inner, outer))
		pi, po := peerOf(inner), peerOf(outer)
		for range 3 {
			b := incoming(in6, 200).IP()
			s.delivered(s.fromPeer(po.send(pi.send(b))), hop(b))
			s.Moved("wan rx 1, lan tx 1, sa inner packets 1, sa outer packets 1")
		}
		// Somebody else's ESP, through us and through an SA of ours.
		out, _ := s.tunnel(out6)
		x := outgoing(out6, 200)
		x.Proto, x.Payload = pkt.ProtoESP, bytes.Repeat([]byte{0, 0, 0x10, 1}, 20)
		if o := out.must(t, s.fromHost(x.IP())[0]); !bytes.Equal(o.inner, hop(x.IP())) {
			t.Errorf("inside: %x", o.inner)
		}
	})
}

// TestHub: what comes out of one SA may go on through another.
func TestHub(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		_, in := s.tunnel(in6)
		spoke := testSA("spoke", sal.Outbound, in6)
		spoke.SPI, spoke.ReqID = 0x6000, 60
		spoke.Selector.Local, spoke.Selector.Remote = in.sa.Selector.Remote, prefix(map[bool]string{false: "10.3.0.0/16", true: "2001:db8:3::/48"}[in6])
		if out6 {
			over6(&spoke)
		}
		in.sa.Selector.Local = spoke.Selector.Remote
		pi := protect(&in.sa)
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{in.sa, spoke}, SetPolicy: []ipsec.Policy{pi, protect(&spoke)}}})
		s.Forget()
		p := incoming(in6, 1300)
		p.Dst = map[bool]string{false: "10.3.0.5", true: "2001:db8:3::5"}[in6]
		q := peerOf(spoke)
		for i := range 5 {
			got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.send(p.IP())}), "wan")[0]
			if len(got) != 1 {
				t.Fatalf("%d packets left", len(got))
			}
			if o := q.must(t, got[0]); !bytes.Equal(o.inner, hop(p.IP())) {
				t.Errorf("packet %d: %x", i, o.inner[:40])
			}
		}
		s.Moved("wan rx 5, wan tx 5, sa in packets 5, sa spoke packets 5, policy p-in packets 5, policy p-spoke packets 5")
	})
}
