package ipsec_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// inUDP gives an SA UDP encapsulation, with ports that are not the same.
func inUDP(a *ipsec.SA) { a.UDP = ipsec.UDP{Local: 4500, Remote: 40500} }

// follow gives it a peer that may move, too.
func follow(a *ipsec.SA) {
	inUDP(a)
	a.FollowPeer = true
}

// TestUDPTunnel is TestTunnel in UDP.
func TestUDPTunnel(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, how := range []string{"cached", "uncached", "two workers"} {
			t.Run(how, func(t *testing.T) {
				s := newSite(t, func(o *fastpath.Options) {
					switch how {
					case "uncached":
						o.Flows4, o.Flows6 = -1, -1
					case "two workers":
						o.Workers = 2
					}
				})
				tunnelBothWays(t, s, in6, func(a *ipsec.SA) {
					inUDP(a)
					if out6 {
						over6(a)
					}
				})
			})
		}
	})
}

// TestUDPKinds: what else comes to a port of ESP in UDP, and to others.
func TestUDPKinds(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		t.Run(fam(out6), func(t *testing.T) {
			s := newSite(t, nil)
			_, in := s.tunnel(false, func(a *ipsec.SA) {
				inUDP(a)
				if out6 {
					over6(a)
				}
			})
			bare := testSA("bare", sal.Inbound, false)
			bare.SPI = 0x2000
			if out6 {
				over6(&bare)
			}
			// A policy that wants everything protected, and discards own traffic: it must
			// not see IKE.
			all := ipsec.Policy{Name: "all", Direction: sal.Inbound, Order: 1, Action: ipsec.Discard,
				Selector: ipsec.Selector{Local: prefix(own4 + "/32"), Remote: prefix(peer4 + "/32"), Proto: -1}}
			if out6 {
				all.Selector.Local, all.Selector.Remote = prefix(own6+"/128"), prefix(peer6+"/128")
			}
			s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{bare}, SetPolicy: []ipsec.Policy{all}}})
			s.Forget()
			udp := func(src, dst uint16, body []byte) []byte {
				return in.outer(in.sa.Remote, in.sa.Local, 17, in.udp(src, dst, body))
			}
			esp := in.send(incoming(false, 100).IP())
			plain := esp[len(esp)-len(esp[20:])+8:]
			if out6 {
				plain = esp[48:]
			}
			bareESP := peerOf(bare).send(incoming(false, 100).IP())
			hl := 20
			if out6 {
				hl = 40
			}
			for _, x := range []struct {
				name  string
				b     []byte
				moved string
			}{
				{"keep-alive", udp(40500, 4500, []byte{0xff}), "wan drop nat-keepalive 1"},
				{"keep-alive from elsewhere", udp(1, 4500, []byte{0xff}), "wan drop nat-keepalive 1"},
				{"IKE", udp(40500, 4500, append(make([]byte, 4), bytes.Repeat([]byte{7}, 40)...)), "wan drop local-udp 1, wan tx 1"},
				{"a marker alone", udp(40500, 4500, make([]byte, 4)), "wan drop local-udp 1, wan tx 1"},
				{"no SA", udp(40500, 4500, append([]byte{0, 0, 0x77, 0x77}, make([]byte, 40)...)), "wan drop esp-no-sa 1"},
				{"two octets", udp(40500, 4500, []byte{0xff, 0xff}), "wan drop esp-short 1"},
				{"nothing", udp(40500, 4500, nil), "wan drop esp-short 1"},
				{"ESP header only", udp(40500, 4500, plain[:8]), "wan drop esp-short 1, sa in drop esp-short 1"},
				{"bare ESP for an SA in UDP", in.outer(in.sa.Remote, in.sa.Local, 50, plain), "wan drop esp-encapsulation 1"},
				{"ESP in UDP for a bare SA", udp(40500, 4500, bareESP[hl:]), "wan drop esp-encapsulation 1, sa bare drop esp-encapsulation 1"},
				{"another port of ours", udp(40500, 4501, plain), "wan drop ipsec-policy-discard 1, policy all packets 1"},
				{"from another address", in.outer(addr(map[bool]string{false: "192.0.2.77", true: "2001:db8:ff::77"}[out6]), in.sa.Local, 17, in.udp(40500, 4500, plain)), "wan drop esp-no-sa 1"},
				{"from another port", udp(9, 4500, plain), "sa in packets 1, lan tx 1, policy p-in packets 1"},
				{"again", udp(40500, 4500, plain), "wan drop esp-replay 1, sa in drop esp-replay 1"},
			} {
				s.Forget()
				s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{x.b}), "lan", "wan")
				s.Moved("wan rx 1, " + x.moved)
				if t.Failed() {
					t.Fatal(x.name)
				}
			}
		})
	}
}

// TestUDPFragments: ESP in UDP that comes in fragments is put together first.
func TestUDPFragments(t *testing.T) {
	s := newSite(t, nil)
	_, in := s.tunnel(false, inUDP)
	b := incoming(false, 1400).IP()
	s.delivered(s.fromPeer(testbed.Cut(in.send(b), 600, 7)...), hop(b))
}

// TestUDPChecksum: of UDP's own checksum nothing is made.
func TestUDPChecksum(t *testing.T) {
	s := newSite(t, nil)
	_, in := s.tunnel(false, inUDP)
	in.sum = 0x1234
	b := incoming(false, 200).IP()
	s.delivered(s.fromPeer(in.send(b)), hop(b))
}

// TestManySAsInOneFlow: one UDP flow carries ESP of several SAs, IKE and
// keep-alives in one burst.
func TestManySAsInOneFlow(t *testing.T) {
	s := newSite(t, nil)
	ch := &fastpath.Change{}
	var peers []*peer
	for i := range 8 {
		a := testSA(fmt.Sprintf("in%d", i), sal.Inbound, false)
		inUDP(&a)
		a.SPI += uint32(i)
		ch.IPsec.SetSA = append(ch.IPsec.SetSA, a)
		peers = append(peers, peerOf(a))
	}
	s.Apply(ch)
	for range 3 {
		s.Forget()
		var in, want [][]byte
		for i := range 64 {
			b := incoming(false, 60+i).IP()
			in, want = append(in, peers[i%8].send(b)), append(want, hop(b))
			if i%16 == 0 {
				in = append(in, peers[0].outer(addr(peer4), addr(own4), 17, peers[0].udp(40500, 4500, []byte{0xff})))
				in = append(in, peers[0].outer(addr(peer4), addr(own4), 17, peers[0].udp(40500, 4500, make([]byte, 32))))
			}
		}
		got := s.Exchange("wan", frames(wanMAC, peerMAC, in), "lan", "wan")
		s.delivered(got[0], want...)
		if st := s.State(&fastpath.Query{Drops: true}); len(st.Drops) != 2 {
			t.Fatalf("drops %v", st.Drops)
		}
	}
}

// TestPeerMoves: the peer comes to have another address or port, and who may say
// so.
func TestPeerMoves(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		t.Run(fam(out6), func(t *testing.T) {
			s := newSite(t, nil)
			out, in := s.tunnel(false, func(a *ipsec.SA) {
				follow(a)
				if out6 {
					over6(a)
				}
			})
			there := addr("198.51.100.7")
			if out6 {
				there = addr("2001:db8:77::7")
			}
			b := incoming(false, 100).IP()
			send := func(packets ...[]byte) {
				t.Helper()
				s.fromPeer(packets...)
				s.E.Step()
				s.Run()
			}
			is := func(at netip.AddrPort) {
				t.Helper()
				for _, sa := range []string{"in", "out"} {
					if st := s.sa(sa); st.Peer != at {
						t.Fatalf("the peer of %s is at %v, want %v", sa, st.Peer, at)
					}
				}
				out.at = at
				p := outgoing(false, 100).IP()
				got := s.fromHost(p)
				if len(got) != 1 {
					t.Fatalf("%d packets left", len(got))
				}
				if o := out.must(t, got[0]); !bytes.Equal(o.inner, hop(p)) {
					t.Fatalf("sent\n%x", o.inner)
				}
			}
			home := netip.AddrPortFrom(in.sa.Remote, 40500)
			send(in.send(b))
			is(home)

			// Only the port, and then the address too.
			in.at = netip.AddrPortFrom(in.sa.Remote, 1025)
			send(in.send(b))
			is(in.at)
			s.Advance(2 * time.Second)
			old := in.at
			in.at = netip.AddrPortFrom(there, 33333)
			send(in.send(b))
			is(in.at)
			moved := in.at

			// Who does not know the key moves nobody, nor does an old packet or a copy.
			s.Advance(2 * time.Second)
			in.at = netip.AddrPortFrom(there, 666)
			x := in.sendAs(in.seq+1, b)
			x[len(x)-1] ^= 1
			send(x)
			is(moved)
			copied := in.sendAs(in.seq, b)
			send(copied)
			is(moved)
			in.at = moved
			in.seq += 2
			send(in.send(b))
			in.at = netip.AddrPortFrom(there, 666)
			send(in.sendAs(in.seq-1, b)) // genuine and new, but not the highest
			is(moved)

			// The SAs are replaced by others between the same ends, for which he is where
			// he is; and without any he is forgotten.
			s.Advance(2 * time.Second)
			rekey := func() {
				out.sa.Key, in.sa.Key = key(99, 20), key(98, 20)
				in.sa.SPI++
				s.Apply(sas(out.sa, in.sa))
				at := in.at
				out, in = peerOf(out.sa), peerOf(in.sa)
				in.at = at
			}
			rekey()
			is(moved)
			s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"in", "out"}}})
			s.Apply(sas(out.sa, in.sa))
			is(home)
			_ = old
			var events []event.Event
			for _, e := range s.events() {
				if e.Kind == event.SAPeerMoved {
					events = append(events, e)
				}
			}
			if len(events) != 2 || events[1].SA.Peer != moved || events[1].SA.Before != old || events[0].SA.Before != home || events[1].Object != "in" {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// TestPeerOutlivesTheProcess: the next process sends to where the last one has
// seen the peer, without a packet from there, and has state and time of it.
func TestPeerOutlivesTheProcess(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		t.Run(fam(out6), func(t *testing.T) {
			dir := t.TempDir()
			wall, boot := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), int64(time.Hour)
			edit := func(a *ipsec.SA) {
				follow(a)
				if out6 {
					over6(a)
				}
			}
			there := netip.AddrPortFrom(addr("198.51.100.7"), 20001)
			if out6 {
				there = netip.AddrPortFrom(addr("2001:db8:77::7"), 20001)
			}
			// life is a process over what the one before has left when it was killed: a
			// copy of the table as it is at that moment. It wants the peer to be
			// somewhere when the SAs are set.
			var seqIn uint64
			life := func(name string, at netip.AddrPort, moved int64, edit func(*ipsec.SA), do func(s *site, out, in *peer)) {
				t.Helper()
				next := t.TempDir()
				t.Run(name, func(t *testing.T) {
					s := lifelong(t, dir, &wall, &boot)
					out, in := s.tunnel(false, edit)
					for _, sa := range []string{"in", "out"} {
						if st := s.sa(sa); st.Peer != at || st.MovedAt != moved {
							t.Errorf("the peer of %s is at %v since %d, want %v since %d", sa, st.Peer, st.MovedAt, at, moved)
						}
					}
					out.at, out.seq, in.seq = at, s.sa("out").Seq, seqIn
					p := outgoing(false, 100).IP()
					out.must(t, s.fromHost(p)[0])
					if do != nil {
						do(s, out, in)
					}
					if e := s.events(); do == nil && len(e) != 0 {
						t.Errorf("events %+v", e)
					}
					seqIn = in.seq
					b, err := os.ReadFile(filepath.Join(dir, "sa-state"))
					if err == nil {
						err = os.WriteFile(filepath.Join(next, "sa-state"), b, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				})
				dir = next
				wall, boot = wall+int64(time.Minute), boot+int64(time.Minute)
			}
			var home netip.AddrPort
			{
				a := testSA("in", sal.Inbound, false)
				edit(&a)
				home = netip.AddrPortFrom(a.Remote, a.UDP.Remote)
			}
			since := wall
			life("moved", home, 0, edit, func(s *site, _, in *peer) {
				in.at = there
				s.fromPeer(in.send(incoming(false, 100).IP()))
				s.E.Step()
				s.Run()
			})
			life("killed", there, since, edit, nil)
			life("killed again", there, since, edit, func(s *site, out, in *peer) {
				// A commit that gives the SAs other leaves, and a new key: he stays.
				out.sa.MSS, in.sa.MSS = 1300, 1300
				s.Apply(sas(out.sa, in.sa))
				if st := s.sa("out"); st.Peer != there {
					t.Errorf("a commit has moved the peer to %v", st.Peer)
				}
			})
			life("other ends", netip.AddrPortFrom(home.Addr(), 40501), 0, func(a *ipsec.SA) { edit(a); a.UDP.Remote = 40501 }, nil)
			// And so is what was noted of the ends before.
			life("the ends of before", home, 0, edit, func(s *site, out, in *peer) {
				in.at = there
				s.fromPeer(in.send(incoming(false, 100).IP()))
				s.E.Step()
				s.Run()
				if st := s.sa("out"); st.Peer != there {
					t.Errorf("the peer is at %v", st.Peer)
				}
				s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"in", "out"}}})
			})
			life("deleted before", home, 0, edit, nil)
		})
	}
}

// TestPeerStays: an SA that does not follow takes packets from the configured
// address only, and sends there whatever comes.
func TestPeerStays(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false, inUDP)
	b := incoming(false, 100).IP()
	in.at = netip.MustParseAddrPort("192.0.2.2:777")
	s.delivered(s.fromPeer(in.send(b)), hop(b))
	in.at = netip.MustParseAddrPort("198.51.100.7:40500")
	s.silent(s.fromPeer(in.send(b)))
	s.E.Step()
	got := s.fromHost(outgoing(false, 100).IP())
	out.must(t, got[0])
}

// TestPeerMovesUnderTraffic moves the peer again and again while workers are at
// it: no packet is lost, no number twice, and what goes out goes to where he was
// or is.
func TestPeerMovesUnderTraffic(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false, follow)
	b := incoming(false, 64).IP()
	for i := range 300 {
		at := netip.AddrPortFrom(addr(peer4), uint16(1024+i))
		in.at = at
		var burst [][]byte
		for range 20 {
			burst = append(burst, in.send(b))
		}
		if got := s.fromPeer(burst...); len(got) != 20 {
			t.Fatalf("move %d: %d of 20 came through", i, len(got))
		}
		s.E.Step()
		out.at = at
		for _, g := range s.fromHost(outgoing(false, 64).IP(), outgoing(false, 65).IP()) {
			out.must(t, g)
		}
		s.Advance(1100 * time.Millisecond)
	}
	if st := s.sa("in"); st.Packets != 6000 || len(st.Errors) != 0 {
		t.Errorf("%+v", st)
	}
	if st := s.sa("out"); st.Seq != 600 {
		t.Errorf("%+v", st)
	}
}

// TestKeepAlive: a keep-alive goes out when nothing else has for as long as it
// was said, to where the peer is.
func TestKeepAlive(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		t.Run(fam(out6), func(t *testing.T) {
			s := newSite(t, nil)
			out, _ := s.tunnel(false, func(a *ipsec.SA) {
				inUDP(a)
				a.KeepAlive = 20
				if out6 {
					over6(a)
				}
			})
			alive := func() (n int) {
				t.Helper()
				s.E.Step()
				s.Run()
				for _, f := range s.Recv("wan") {
					typ := pkt.Ethernet(f).Type()
					if typ == pkt.TypeARP || typ == pkt.TypeIPv6 && f[20] == pkt.ProtoICMPv6 {
						continue
					}
					n++
					at := 14 + 20
					want := out.outer(out.sa.Local, out.sa.Remote, 17, append(out.udp(4500, 40500, nil)[:8], 0xff))
					want[len(want)-9+5] = 9
					if out6 {
						at = 14 + 40
						want[1], want[2], want[3], want[7] = 0, 0, 0, 64
						u := f[at:]
						if u[6] == 0 && u[7] == 0 {
							t.Error("no checksum over IPv6")
						}
						u[6], u[7] = 0, 0
					} else {
						copy(want[4:12], f[18:26]) // identification, DF, TTL, checksum
						if onesSum(f[14:34]) != 0xffff {
							t.Error("header checksum")
						}
					}
					if !bytes.Equal(f[14:], want) {
						t.Errorf("sent\n%x, want\n%x", f[14:], want)
					}
				}
				return n
			}
			if n := alive(); n != 0 {
				t.Fatalf("%d at once", n)
			}
			step := func(d time.Duration, want int) {
				t.Helper()
				s.Advance(d)
				if n := alive(); n != want {
					t.Fatalf("%d keep-alives, want %d", n, want)
				}
			}
			step(19*time.Second, 0)
			step(time.Second, 1)
			step(19*time.Second, 0)
			s.fromHost(outgoing(false, 100).IP())
			step(time.Second, 0)
			step(18*time.Second, 0)
			step(time.Second, 1)
			step(20*time.Second, 1)
			s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out"}}})
			step(60*time.Second, 0)
		})
	}
}

// TestUDPRefused: configurations that could never work.
func TestUDPRefused(t *testing.T) {
	s := newSite(t, nil)
	for field, edit := range map[string]func(*ipsec.SA){
		"UDP":        func(a *ipsec.SA) { a.UDP.Local = 4500 },
		"FollowPeer": func(a *ipsec.SA) { a.FollowPeer = true },
	} {
		a := testSA("in", sal.Inbound, false)
		edit(&a)
		s.Refused(sas(a), "in", field)
	}
}
