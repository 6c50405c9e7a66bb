package ipsec_test

import (
	"bytes"
	"fmt"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// message is an ICMP message between the two sites; id is where echoes have their
// identifier.
func message(p testbed.Packet, typ, code byte, id uint16) []byte {
	p.Proto = pkt.ProtoICMP
	if p.IP()[0]>>4 == 6 {
		p.Proto = pkt.ProtoICMPv6
	}
	p.Payload = append([]byte{typ, code, 0, 0, byte(id >> 8), byte(id), 0, 1}, make([]byte, 56)...)
	return p.IP()
}

// types is the range of ICMP messages of one type, all codes.
func types(first, last uint16) []ipsec.PortRange {
	return []ipsec.PortRange{{First: first << 8, Last: last<<8 | 255}}
}

// TestMessageTypes: an SPD entry chooses ICMP messages by type and code (RFC 4301
// section 4.4.1.1), whether their flow is known or not, and whatever stands where
// other protocols have ports.
func TestMessageTypes(t *testing.T) {
	for _, flows := range []int{1 << 10, -1} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprint(fam(v6), flows), func(t *testing.T) {
				s := newSite(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
				out, in := s.tunnel(v6)
				echo, reply, unreach, proto := byte(8), byte(0), byte(3), int16(1)
				if v6 {
					echo, reply, unreach, proto = 128, 129, 1, 58
				}
				entry := func(name string, order uint64, d sal.Direction, a ipsec.Action, local, remote []ipsec.PortRange) ipsec.Policy {
					p := ipsec.Policy{Name: name, Direction: d, Order: order, Action: a, Selector: out.sa.Selector}
					p.Selector.Proto, p.Selector.LocalPorts, p.Selector.RemotePorts = proto, local, remote
					return p
				}
				u := uint16(unreach) << 8
				s.Apply(policies(
					entry("echo", 1, sal.Outbound, ipsec.Bypass, types(uint16(echo), uint16(echo)), nil),
					entry("some", 2, sal.Outbound, ipsec.Discard, []ipsec.PortRange{{First: u + 1, Last: u + 3}}, types(uint16(unreach), uint16(unreach))),
					entry("none", 3, sal.Outbound, ipsec.Discard, types(uint16(echo), uint16(echo)), types(uint16(unreach), uint16(unreach))), // no message is two
					entry("back", 1, sal.Inbound, ipsec.Bypass, nil, types(uint16(reply), uint16(reply))),
				))
				s.Forget()
				for range 3 {
					for id := range uint16(3) {
						b := message(outgoing(v6, 0), echo, 0, id<<8|uint16(unreach)) // not what it looks for
						if got := s.fromHost(b); len(got) != 1 || !bytes.Equal(got[0][14:], hop(b)) {
							t.Fatalf("an echo request left as %x", got)
						}
						s.Moved("lan rx 1, wan tx 1, policy echo packets 1")
						for code := range byte(5) {
							b := message(outgoing(v6, 0), unreach, code, id)
							if got := s.fromHost(b); code >= 1 && code <= 3 {
								s.silent(got)
								s.Moved("lan rx 1, lan drop ipsec-policy-discard 1, policy some packets 1")
							} else {
								out.must(t, got[0])
								s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1")
							}
						}
						b = message(incoming(v6, 0), reply, 0, id)
						s.delivered(s.fromPeer(b), hop(b))
						s.Moved("wan rx 1, lan tx 1, policy back packets 1")
						s.fromPeer(message(incoming(v6, 0), echo, 0, id))
						s.Moved("wan rx 1, wan drop ipsec-unprotected 1")
					}
				}
				// What comes out of an SA must be of its types too.
				a := in.sa
				a.Selector.Proto, a.Selector.RemotePorts = proto, types(uint16(echo), uint16(echo))
				s.Apply(sas(a))
				s.Forget()
				b := message(incoming(v6, 0), echo, 0, 7)
				s.delivered(s.fromPeer(in.send(b)), hop(b))
				s.Moved("wan rx 1, lan tx 1, sa in packets 1, policy p-in packets 1")
				s.fromPeer(in.send(message(incoming(v6, 0), unreach, 0, 7)), in.send(incoming(v6, 60).IP()))
				s.Moved("wan rx 2, wan drop ipsec-policy-mismatch 2, sa in packets 2, sa in drop ipsec-policy-mismatch 2")
			})
		}
	}
}

// TestIKE: nothing but an entry that names ports of UDP keeps IKE from us, in the
// clear or protected; others' IKE is traffic like any other.
func TestIKE(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, port := range []uint16{500, 4500} {
			t.Run(fmt.Sprint(fam(v6), port), func(t *testing.T) {
				s := newSite(t, nil)
				all := ipsec.Policy{Name: "all", Direction: sal.Inbound, Order: 10, Action: ipsec.Discard,
					Selector: ipsec.Selector{Local: prefix("0.0.0.0/0"), Remote: prefix("0.0.0.0/0"), Proto: -1}}
				p := testbed.Packet{Src: peer4, Dst: own4, SPort: 7000, DPort: port, Payload: nil, Len: 100}
				if v6 {
					all.Selector.Local, all.Selector.Remote = prefix("::/0"), prefix("::/0")
					p.Src, p.Dst = peer6, own6
				}
				try := func(what string, captured bool, b []byte) {
					t.Helper()
					before := s.drops(drop.IPsecPolicyDiscard, drop.IPsecUnprotected)
					for range 2 {
						s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{b}), "wan", "lan")
					}
					if n := s.drops(drop.IPsecPolicyDiscard, drop.IPsecUnprotected) - before; n != 0 != captured || n != 0 && n != 2 {
						t.Errorf("%s: %d of 2 packets dropped by policy", what, n)
					}
				}
				for _, a := range []ipsec.Action{ipsec.Discard, ipsec.Protect} {
					for _, proto := range []int16{-1, 17} {
						all.Action, all.ReqID, all.Selector.Proto = a, 7, proto
						s.Apply(policies(all))
						try("to us", false, p.IP())
						q := p
						q.DPort = 501
						try("another port", true, q.IP())
						q = p
						q.Dst = host4
						if v6 {
							q.Dst = host6
						}
						try("to others", true, q.IP())
						q = p
						q.SPort, q.DPort = port, 7000 // its port, not ours
						try("from its port", true, q.IP())
					}
				}
				for _, r := range testbed.Cut(message500(p, 600), 200, 77) { // put together before
					s.Send("wan", testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), r))
				}
				before := s.drops(drop.IPsecUnprotected)
				s.Run()
				if n := s.drops(drop.IPsecUnprotected) - before; n != 0 {
					t.Errorf("%d fragments dropped", n)
				}
				named := all
				named.Name, named.Order, named.Action = "named", 5, ipsec.Discard
				named.Selector.Proto, named.Selector.LocalPorts = 17, []ipsec.PortRange{{First: 500, Last: 4500}}
				s.Apply(policies(named))
				try("named", true, p.IP())
				named.Selector.LocalPorts = []ipsec.PortRange{{First: 501, Last: 4499}}
				s.Apply(policies(named))
				try("other ports named", false, p.IP())
			})
		}
	}
}

func message500(p testbed.Packet, n int) []byte {
	p.Len = n
	return p.IP()
}
