package ipsec_test

import (
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
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

// TestNoAllocationOddPackets is TestNoAllocation for what takes longer: packets
// that are cut, before the encryption and behind it, and come in pieces; ICMP
// errors and answers, those that go back through a tunnel too; SYNs that are
// clamped. All of them must have what is due for them come out.
func TestNoAllocationOddPackets(t *testing.T) {
	behind := func(a *ipsec.SA) { a.Fragmentation, a.DF = ipsec.AfterEncryption, ipsec.ClearDF }
	clamped := func(a *ipsec.SA) { a.MSS = pipeline.ClampPath }
	const n = 4 // of a kind a turn: errors are limited
	for _, c := range []struct {
		name string
		edit func(*ipsec.SA)
		only byte // 4 or 6: the inner family
		// What the host sends, or, inside of ESP and in pieces of so many octets, the
		// peer; and how many of each come out to either side.
		host, peer func(in6 bool) []byte
		pieces     int
		lan, wan   int
	}{
		{name: "cut before", only: 4, host: func(bool) []byte { return outgoing(false, 1500).IP() }, wan: 2},
		{name: "cut behind", edit: behind, host: func(in6 bool) []byte { return outgoing(in6, 1500).IP() }, wan: 2},
		{name: "in pieces", peer: func(in6 bool) []byte { return incoming(in6, 1400).IP() }, pieces: 600, lan: 1},
		{name: "too big", host: func(in6 bool) []byte {
			p := outgoing(in6, 1500)
			p.DF = true
			return p.IP()
		}, lan: 1},
		{name: "too far", host: func(in6 bool) []byte {
			p := outgoing(in6, 300)
			p.TTL = 1
			return p.IP()
		}, lan: 1},
		{name: "too far, out of the tunnel", peer: func(in6 bool) []byte {
			p := incoming(in6, 300)
			p.TTL = 1
			return p.IP()
		}, wan: 1},
		{name: "echo", host: func(in6 bool) []byte {
			if in6 {
				return testbed.Echo(host6, "2001:db8:1::1", 300).IP()
			}
			return testbed.Echo(host4, "10.1.0.1", 300).IP()
		}, lan: 1},
		{name: "echo out of the tunnel", peer: func(in6 bool) []byte {
			if in6 {
				return testbed.Echo(remote6, "2001:db8:1::1", 300).IP()
			}
			return testbed.Echo(remote4, "10.1.0.1", 300).IP()
		}, wan: 1},
		{name: "SYN", edit: clamped, host: func(in6 bool) []byte { return syn(outgoing(in6, 0), 2, 9000) }, wan: 1},
		{name: "SYN out of the tunnel", edit: clamped, peer: func(in6 bool) []byte { return syn(incoming(in6, 0), 2, 9000) }, lan: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, flows := range []int{1 << 10, -1} {
				for _, udp := range []bool{false, true} {
					if testing.Short() && udp == (flows < 0) {
						continue
					}
					families(t, func(t *testing.T, in6, out6 bool) {
						if c.only == 4 && in6 {
							return // IPv6 is never cut before
						}
						s := newSite(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
						_, in := s.tunnel(in6, func(a *ipsec.SA) {
							if c.edit != nil {
								c.edit(a)
							}
							if udp {
								follow(a)
							}
							if out6 {
								over6(a)
							}
						})
						const runs, warm = 10, 3
						side, dst, src := "lan", byte(lanMAC), byte(hostMAC)
						var packets [][]byte
						for range (runs + 1 + warm) * n {
							switch {
							case c.host != nil:
								packets = append(packets, c.host(in6))
							case c.pieces != 0:
								b := in.send(c.peer(in6))
								packets = append(packets, testbed.Cut(b, c.pieces, uint32(len(packets)))...)
							default:
								packets = append(packets, in.send(c.peer(in6)))
							}
						}
						if c.peer != nil {
							side, dst, src = "wan", wanMAC, peerMAC
						}
						all := frames(dst, src, packets)
						each := len(all) / (runs + 1 + warm)
						from, lan, wan := s.Mem.Peer(side), s.Mem.Peer("lan"), s.Mem.Peer("wan")
						d, got := make([]sal.Desc, each), make([]sal.Desc, 256)
						outLAN, outWAN := 0, 0
						turn := func() {
							for i := range d {
								b, ok := from.Cache().Alloc()
								if !ok {
									t.Fatal("no buffer")
								}
								d[i] = sal.MakeDesc(b, sal.Headroom, uint16(len(all[i])))
								copy(from.Pool().Bytes(d[i]), all[i])
							}
							all = all[each:]
							from.Send(0, d)
							for s.E.Turn(0) > 0 {
							}
							k := lan.Recv(got)
							lan.Cache().FreeDescs(got[:k])
							outLAN += k
							k = wan.Recv(got)
							wan.Cache().FreeDescs(got[:k])
							outWAN += k
						}
						for range warm {
							turn()
						}
						outLAN, outWAN = 0, 0
						if a := testing.AllocsPerRun(runs, turn); a != 0 {
							t.Errorf("%v allocations a turn", a)
						}
						if outLAN != (runs+1)*n*c.lan || outWAN != (runs+1)*n*c.wan {
							t.Errorf("%d and %d packets came out, want %d and %d of each %d", outLAN, outWAN, c.lan, c.wan, (runs+1)*n)
						}
					})
				}
			}
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
