package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// fits is the largest inner packet for a link of 1500: RFC 4303's overhead with
// an IV of 8, an ICV of 16 and text in multiples of 4.
func fits(out6 bool) int {
	if out6 {
		return 1500 - 40 - 8 - 8 - 16 - 2
	}
	return 1500 - 20 - 8 - 8 - 16 - 2
}

// TestTooBig: a packet that does not fit with ESP around it comes back as an
// ICMP error that names what does, and the largest that fits goes through.
func TestTooBig(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		out, _ := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		mtu := fits(out6)
		p := outgoing(in6, mtu)
		p.DF = true
		got := s.fromHost(p.IP())
		if o := out.must(t, got[0]); !bytes.Equal(o.inner, hop(p.IP())) || len(got[0])-14 > 1500 || len(got[0])-14 < 1497 {
			t.Fatalf("%d bytes left", len(got[0])-14)
		}
		s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1")
		for _, n := range []int{mtu + 1, 1500} {
			p.Len = n
			back := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p.IP()}), "lan", "wan")
			if len(back[1]) != 0 || len(back[0]) != 1 {
				t.Fatalf("%d bytes: %d answers, %d packets left", n, len(back[0]), len(back[1]))
			}
			ip := back[0][0][14:]
			answer(t, ip, p, map[bool]byte{false: pkt.ICMPv4Unreachable, true: pkt.ICMPv6TooBig}[in6], true)
			said := binary.BigEndian.Uint16(ip[26:])
			if in6 {
				said = uint16(binary.BigEndian.Uint32(ip[44:]))
			}
			if int(said) != mtu {
				t.Errorf("it says %d, want %d", said, mtu)
			}
			s.Moved("lan rx 1, lan drop too-big 1, lan tx 1, policy p-out packets 1")
		}
	})
}

// TestCutBeforeEncryption: an IPv4 packet that may be fragmented goes through in
// pieces, each in an ESP packet of its own that fits, and gives the same packet
// again.
func TestCutBeforeEncryption(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		for _, mtu := range []uint16{1500, 1300, 576} {
			if out6 && mtu < 1280 {
				continue
			}
			t.Run(fmt.Sprintf("over %s/%d", fam(out6), mtu), func(t *testing.T) {
				s := newSite(t, nil)
				out, _ := s.tunnel(false, func(a *ipsec.SA) {
					if out6 {
						over6(a)
					}
				})
				wan := testbed.Iface("wan", wanMAC, own4+"/24", own6+"/64")
				wan.MTU, wan.V6.Enabled = mtu, mtu >= 1280
				ch := &fastpath.Change{}
				ch.Iface.Set = append(ch.Iface.Set, wan)
				s.Apply(ch)
				s.Recv("wan")
				s.Forget()
				for _, n := range []int{1500, 1450, 1447} {
					if n <= int(mtu)-54 {
						continue
					}
					p := outgoing(false, n)
					p.Options = []byte{0x94, 4, 0, 0, 7, 3, 4, 1} // router alert is copied, record route is not
					orig := hop(p.IP())
					whole := make([]byte, n)
					have, pieces := 0, s.fromHost(p.IP())
					for i, g := range pieces {
						if len(g)-14 > int(mtu) {
							t.Fatalf("piece of %d bytes on a link of %d", len(g)-14, mtu)
						}
						f := pkt.IPv4(out.must(t, g).inner)
						if onesSum(f[:f.HeaderLen()]) != 0xffff || f.TTL() != 63 || f.MF() != (i < len(pieces)-1) {
							t.Fatalf("piece %d: %x", i, f[:20])
						}
						if i == 0 {
							copy(whole, f[:28])
						} else if f.HeaderLen() != 24 || !bytes.Equal(f[20:24], p.Options[:4]) {
							t.Fatalf("piece %d has options % x", i, f[20:f.HeaderLen()])
						}
						have += copy(whole[28+f.FragOffset():], f[f.HeaderLen():])
					}
					pkt.IPv4(whole).SetTotalLen(n)
					pkt.IPv4(whole).SetFrag(false, false, 0)
					pkt.IPv4(whole).SetChecksum()
					if have != n-28 || !bytes.Equal(whole, orig) {
						t.Fatalf("%d bytes in %d pieces give\n%x, want\n%x", n, len(pieces), whole, orig)
					}
					s.Moved(fmt.Sprintf("lan rx 1, wan tx %[1]d, sa out packets %[1]d, policy p-out packets 1", len(pieces)))
				}
				// A whole burst of them.
				p := outgoing(false, 1500).IP()
				var l [][]byte
				for range 150 {
					l = append(l, p)
				}
				got := s.fromHost(l...)
				if len(got) < 300 || len(got)%150 != 0 {
					t.Fatalf("%d pieces left", len(got))
				}
				for _, g := range got {
					out.must(t, g)
				}
			})
		}
	}
}

// TestCutAfterEncryption: where selectors name ports, the pieces could not be
// told to belong at the other end, so the ESP packet is cut instead.
func TestCutAfterEncryption(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		s := newSite(t, nil)
		out, _ := s.tunnel(false, func(a *ipsec.SA) {
			a.Selector.Proto = 17
			a.Selector.RemotePorts = []ipsec.PortRange{{First: 2000, Last: 2000}}
			if out6 {
				over6(a)
			}
		})
		got := s.fromHost(outgoing(false, 1500).IP())
		if len(got) != 2 {
			t.Fatalf("%d pieces", len(got))
		}
		if o := out.together(t, 1500, got); !bytes.Equal(o.inner, hop(outgoing(false, 1500).IP())) {
			t.Fatalf("%x", o.inner)
		}
		s.Moved("lan rx 1, wan tx 2, sa out packets 1, policy p-out packets 1")
	}
}

// together opens an ESP packet that came in fragments of at most mtu octets, or
// whole.
func (p *peer) together(t *testing.T, mtu int, frames [][]byte) opened {
	t.Helper()
	var l [][]byte
	for _, g := range frames {
		ip := g[14:]
		if len(ip) > mtu {
			t.Fatalf("piece of %d bytes on a path of %d", len(ip), mtu)
		}
		if ip[0]>>4 == 4 && (onesSum(ip[:20]) != 0xffff || len(frames) > 1 && pkt.IPv4(ip).DF()) {
			t.Fatalf("IPv4 header % x", ip[:20])
		}
		l = append(l, ip)
	}
	whole := l[0]
	if len(l) > 1 {
		whole = testbed.Join(l)
	}
	o, err := p.open(whole)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestFragmentation: where a packet is cut that does not fit, for each place of
// fragmentation, way of setting DF, and inner packet; nothing is lost without a
// word.
func TestFragmentation(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, place := range []ipsec.Fragmentation{ipsec.BeforeEncryption, ipsec.AfterEncryption} {
			for _, df := range []ipsec.DF{ipsec.CopyDF, ipsec.ClearDF, ipsec.SetDF} {
				s := newSite(t, nil)
				out, _ := s.tunnel(in6, func(a *ipsec.SA) {
					a.Fragmentation, a.DF = place, df
					if out6 {
						over6(a)
					}
				})
				wan := testbed.Iface("wan", wanMAC, own4+"/24", own6+"/64")
				wan.MTU = 1300
				s.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{wan}}})
				s.Recv("wan")
				inner := int(s.sa("out").InnerMTU)
				for _, inDF := range []bool{false, true} {
					for _, n := range []int{inner, inner + 1, 1280, 1281, 1500} {
						s.Forget()
						p := outgoing(in6, n)
						p.DF = inDF
						noDF := !in6 && !inDF
						outer := df == ipsec.ClearDF || df == ipsec.CopyDF && noDF // it has no DF
						what := fmt.Sprintf("place %d, DF %v, %d bytes with DF %v", place, df, n, inDF)
						got := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p.IP()}), "lan", "wan")
						switch {
						case n <= inner, in6 && n <= 1280, place == ipsec.AfterEncryption && outer:
							want := 1
							if n > inner {
								want = 2
							}
							if len(got[1]) != want {
								t.Fatalf("%s: %d pieces, want %d", what, len(got[1]), want)
							}
							if o := out.together(t, 1300, got[1]); !bytes.Equal(o.inner, hop(p.IP())) {
								t.Fatalf("%s: %x", what, o.inner)
							}
						case noDF:
							var l [][]byte
							for _, g := range got[1] {
								l = append(l, out.together(t, 1300, [][]byte{g}).inner)
							}
							if len(l) != 2 || !bytes.Equal(testbed.Join(l), hop(p.IP())) {
								t.Fatalf("%s: %d pieces", what, len(l))
							}
						default:
							if len(got[0]) != 1 || len(got[1]) != 0 {
								t.Fatalf("%s: %d answers, %d pieces", what, len(got[0]), len(got[1]))
							}
							if m := announced(got[0][0][14:]); m != map[bool]int{false: inner, true: 1280}[in6] {
								t.Fatalf("%s: told of %d, %d fit", what, m, inner)
							}
						}
						if !dropped(s.State(&fastpath.Query{Drops: true}).Drops, "not-fragmented", 0) {
							t.Fatalf("%s: could not be cut", what)
						}
					}
				}
			}
		}
	})
}

// announced is the MTU in an ICMP error.
func announced(ip []byte) int {
	if ip[0]>>4 == 6 {
		return int(binary.BigEndian.Uint32(ip[44:]))
	}
	return int(binary.BigEndian.Uint16(ip[26:]))
}

// TestTunnelsDF: the outer DF is the inner one's; an IPv6 packet counts as if it
// had it (RFC 4301 section 8.1).
func TestTunnelsDF(t *testing.T) {
	for _, c := range []struct{ v6, df, want bool }{{false, false, false}, {false, true, true}, {true, false, true}} {
		s := newSite(t, nil)
		out, _ := s.tunnel(c.v6)
		p := outgoing(c.v6, 200)
		p.DF = c.df
		if o := out.must(t, s.fromHost(p.IP())[0]); o.df != c.want {
			t.Errorf("%s, DF %v: %v outside", fam(c.v6), c.df, o.df)
		}
	}
}

// TestDFChosen: an SA may set or clear the outer DF whatever the inner one is.
func TestDFChosen(t *testing.T) {
	for _, c := range []struct {
		how  ipsec.DF
		want bool
	}{{ipsec.ClearDF, false}, {ipsec.SetDF, true}} {
		for _, v6 := range []bool{false, true} {
			for _, df := range []bool{false, true} {
				s := newSite(t, nil)
				out, _ := s.tunnel(v6, func(a *ipsec.SA) { a.DF = c.how })
				p := outgoing(v6, 100)
				p.DF = df
				if o := out.must(t, s.fromHost(p.IP())[0]); o.df != c.want {
					t.Errorf("%s, DF %v, way %d: %v outside", fam(v6), df, c.how, o.df)
				}
			}
		}
	}
}

// TestDSCPMapped: where the SA says so, another DSCP stands outside; ECN is the
// inner one's all the same, and inside nothing changes.
func TestDSCPMapped(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		table := make([]uint8, 64)
		for i := range table {
			table[i] = uint8(i*7+3) & 63
		}
		out, _ := s.tunnel(in6, func(a *ipsec.SA) {
			a.DSCP = table
			if out6 {
				over6(a)
			}
		})
		for tos := 0; tos < 256; tos += 5 {
			p := outgoing(in6, 100)
			p.TOS = byte(tos)
			o := out.must(t, s.fromHost(p.IP())[0])
			if want := table[tos>>2]<<2 | byte(tos)&3; o.tos != want || !bytes.Equal(o.inner, hop(p.IP())) {
				t.Errorf("TOS %#x became %#x, want %#x", tos, o.tos, want)
			}
		}
		a := testSA("x", sal.Outbound, false)
		a.DSCP = table[:63]
		s.Refused(sas(a), "x", "DSCP")
		a.DSCP = append(table[:63:63], 64)
		s.Refused(sas(a), "x", "DSCP")
	})
}

// TestTOS: DSCP and ECN go out with the packet; inwards the inner DSCP stays and
// ECN is combined (RFC 6040).
func TestTOS(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		for tos := range 256 {
			p := outgoing(in6, 100)
			p.TOS = byte(tos)
			if o := out.must(t, s.fromHost(p.IP())[0]); o.tos != byte(tos) || !bytes.Equal(o.inner, hop(p.IP())) {
				t.Fatalf("TOS %#x: %#x outside, inside %x", tos, o.tos, o.inner[:8])
			}
		}
		for inner := range 4 {
			for outer := range 4 {
				want := map[bool]int{false: inner, true: outer}[inner == 2 && outer == 1]
				if outer == 3 {
					want = 3
					if inner == 0 {
						continue // TestDropsInbound has it
					}
				}
				p := incoming(in6, 100)
				p.TOS = byte(0xb8 | inner)
				in.tos = byte(0x28 | outer)
				b := in.send(p.IP())
				p.TOS = byte(0xb8 | want)
				s.delivered(s.fromPeer(b), hop(p.IP()))
			}
		}
	})
}

// TestOptions: IP options and extension headers outside are no reason to drop.
func TestOptions(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		_, in := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		in.options = true
		for n := range 3 {
			b := incoming(in6, 100+n).IP()
			s.delivered(s.fromPeer(in.send(b)), hop(b))
		}
		s.Moved("wan rx 3, lan tx 3, sa in packets 3, policy p-in packets 3")
	})
}
