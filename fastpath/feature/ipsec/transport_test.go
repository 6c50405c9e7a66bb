package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/saltest"
)

// ownAndPeer are the two ends of an SA in transport mode.
func ownAndPeer(v6 bool) (own, peer string) {
	if v6 {
		return own6, peer6
	}
	return own4, peer4
}

// toTransport makes an SA one in transport mode between the WAN's address and the
// peer's, of the family that its ends have.
func toTransport(a *ipsec.SA) {
	a.Mode = ipsec.Transport
	a.Selector = ipsec.Selector{Local: netip.PrefixFrom(a.Local, a.Local.BitLen()), Remote: netip.PrefixFrom(a.Remote, a.Remote.BitLen()), Proto: -1}
}

// transport installs a pair in transport mode with its policies.
func (s *site) transport(v6 bool, edit ...func(*ipsec.SA)) (out, in *peer) {
	s.T.Helper()
	first := []func(*ipsec.SA){toTransport}
	if v6 {
		first = []func(*ipsec.SA){over6, toTransport}
	}
	return s.tunnel(v6, append(first, edit...)...)
}

// upper is where the upper protocol of a packet begins and which octet says what it
// is, for packets without extension headers.
func upper(ip []byte) (hl, field int) {
	if ip[0]>>4 == 6 {
		return 40, 6
	}
	return int(ip[0]&15) * 4, 9
}

// head is the header of a packet of so many octets behind it, which begin with
// what the octet field is to say.
func head(ip []byte, hl, field int, proto byte, n int) []byte {
	b := bytes.Clone(ip[:hl])
	b[field] = proto
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(hl-40+n))
		return b
	}
	binary.BigEndian.PutUint16(b[2:], uint16(hl+n))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	return b
}

// dress makes of a packet what a peer in transport mode sends, with the next number
// (RFC 4303 section 3.1.1).
func (p *peer) dress(ip []byte) []byte { p.seq++; return p.dressAs(p.seq, ip) }

func (p *peer) dressAs(seq uint64, ip []byte) []byte {
	hl, field := upper(ip)
	return p.dressAt(seq, ip, hl, field)
}

// dressAt puts ESP at octet hl.
func (p *peer) dressAt(seq uint64, ip []byte, hl, field int) []byte {
	esp, proto := p.around(seq, ip[hl:], ip[field]), byte(50)
	if p.sa.UDP != (ipsec.UDP{}) {
		esp, proto = p.udp(p.where().Port(), p.sa.UDP.Local, esp), 17
	}
	return append(head(ip, hl, field, proto, len(esp)), esp...)
}

// undress opens, strictly, what an SA in transport mode has sent.
func (p *peer) undress(t testing.TB, ip []byte) (clear []byte, seq uint64) {
	t.Helper()
	hl, field := upper(ip)
	esp := ip[hl:]
	be := binary.BigEndian
	if !bytes.Equal(ip[:hl], head(ip, hl, field, ip[field], len(esp))) {
		t.Fatalf("lengths or checksum of %x", ip)
	}
	want := byte(50)
	if p.sa.UDP != (ipsec.UDP{}) {
		want = 17
		if len(esp) < 8 || be.Uint16(esp) != p.sa.UDP.Local || be.Uint16(esp[2:]) != p.where().Port() || int(be.Uint16(esp[4:])) != len(esp) {
			t.Fatalf("UDP header of %x", ip)
		}
		switch sum := be.Uint16(esp[6:]); {
		case ip[0]>>4 == 4 && sum != 0:
			t.Fatal("UDP checksum over IPv4")
		case ip[0]>>4 == 6 && (sum == 0 || l4sum(ip, 40, 17) != 0):
			t.Fatal("UDP checksum over IPv6")
		}
		esp = esp[8:]
	}
	if ip[field] != want || len(esp) < 10 || len(esp)%4 != 0 || be.Uint32(esp) != p.sa.SPI {
		t.Fatalf("no ESP of SPI %x: %x", p.sa.SPI, ip)
	}
	seq = p.seq&^0xffffffff | uint64(be.Uint32(esp[4:]))
	text, err := p.unsealESP(seq, esp)
	if err != nil {
		t.Fatalf("number %d: %v", seq, err)
	}
	pad := int(text[len(text)-2])
	if pad+2 > len(text) || pad >= p.align() || len(text)%p.align() != 0 {
		t.Fatalf("padding of %d", pad)
	}
	body := text[:len(text)-2-pad]
	for i, b := range text[len(body) : len(text)-2] {
		if int(b) != i+1 {
			t.Fatal("padding")
		}
	}
	p.seq = seq
	return append(head(ip, hl, field, text[len(text)-1], len(body)), body...), seq
}

// l4sum is the checksum that stands for what is at octet hl of a packet, 0 where it
// contains the right one.
func l4sum(ip []byte, hl int, proto byte) uint16 {
	var x []byte
	if ip[0]>>4 == 6 {
		x = append(x, ip[8:40]...)
	} else {
		x = append(x, ip[12:20]...)
	}
	x = append(x, 0, proto)
	x = binary.BigEndian.AppendUint16(x, uint16(len(ip)-hl))
	x = append(x, ip[hl:]...)
	return ^onesSum(append(x, make([]byte, len(x)&1)...))
}

// reply is what a router says to an echo request, without options.
func reply(ip []byte) []byte {
	b := bytes.Clone(ip)
	if b[0]>>4 == 6 {
		copy(b[8:], ip[24:40])
		copy(b[24:], ip[8:24])
		b[7], b[40], b[42], b[43] = 64, 129, 0, 0
		binary.BigEndian.PutUint16(b[42:], l4sum(b, 40, 58))
		return b
	}
	copy(b[12:], ip[16:20])
	copy(b[16:], ip[12:16])
	hl, _ := upper(b)
	b[8], b[hl], b[hl+2], b[hl+3] = 64, 0, 0, 0
	m := append(bytes.Clone(b[hl:]), make([]byte, len(b)&1)...)
	binary.BigEndian.PutUint16(b[hl+2:], ^onesSum(m))
	return append(head(b, hl, 9, 1, len(b)-hl), b[hl:]...)
}

// ping is an echo request of the peer, of n octets.
func ping(v6 bool, n int) []byte {
	own, peer := ownAndPeer(v6)
	return testbed.Echo(peer, own, n).IP()
}

// transports calls f for both families, bare and in UDP.
func transports(t *testing.T, f func(t *testing.T, v6 bool, edit func(*ipsec.SA))) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			if testing.Short() && v6 == udp {
				continue
			}
			edit := func(*ipsec.SA) {}
			if udp {
				edit = inUDP
			}
			t.Run(fmt.Sprintf("%s/udp=%v", fam(v6), udp), func(t *testing.T) { f(t, v6, edit) })
		}
	}
}

// TestTransport: the peer pings the router through a pair in transport mode, with
// every algorithm, and the answers are as those in the clear would be.
func TestTransport(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		suites(t, func(t *testing.T, suite func(*ipsec.SA)) {
			pingBothWays(t, newSite(t, nil), v6, edit, suite)
		})
		t.Run("look-aside", func(t *testing.T) {
			s, _ := withEngine(t, saltest.Faults{Seed: 1, Delay: 4, Reorder: true})
			pingBothWays(t, s, v6, edit, onCard)
		})
		for _, how := range []string{"uncached", "two workers"} {
			t.Run(how, func(t *testing.T) {
				pingBothWays(t, newSite(t, func(o *fastpath.Options) {
					switch how {
					case "uncached":
						o.Flows4, o.Flows6 = -1, -1
					case "two workers":
						o.Workers = 2
					}
				}), v6, edit)
			})
		}
	})
}

func pingBothWays(t *testing.T, s *site, v6 bool, edit ...func(*ipsec.SA)) {
	out, in := s.transport(v6, edit...)
	r := rand.New(rand.NewPCG(3, 4))
	octets := 0
	for k := range 3 {
		var sent, dressed [][]byte
		for i := range 50 {
			ip := ping(v6, 48+k*400+8*i+r.IntN(8))
			tos := byte(r.IntN(256))
			if v6 {
				ip[0], ip[1], ip[7] = 0x60|tos>>4, tos<<4|ip[1]&15, byte(2+i)
			} else {
				ip[1], ip[6], ip[8] = tos, byte(i&1)<<6, byte(2+i)
				ip = append(head(ip, 20, 9, 1, len(ip)-20), ip[20:]...)
			}
			in.padding, in.tfc = r.IntN(3)*4, 0
			sent = append(sent, ip)
			dressed = append(dressed, in.dress(ip))
			hl, _ := upper(ip)
			octets += len(ip) - hl
		}
		got := s.exchange("wan", frames(wanMAC, peerMAC, dressed), "wan")
		if len(got) != 50 {
			t.Fatalf("%d answers to 50 pings; %v", len(got), s.State(&fastpath.Query{Drops: true}).Drops)
		}
		for i, g := range got {
			if e := pkt.Ethernet(g); e.Dst() != testbed.MAC(peerMAC) || e.Src() != testbed.MAC(wanMAC) {
				t.Fatalf("a frame from %v to %v", e.Src(), e.Dst())
			}
			clear, seq := out.undress(t, g[14:])
			if want := reply(sent[i]); !bytes.Equal(clear, want) || seq != uint64(50*k+i+1) {
				t.Fatalf("answer %d is number %d\n%x, want\n%x", i, seq, clear, want)
			}
		}
	}
	s.Moved(fmt.Sprintf("wan rx 150, wan tx 150, sa in packets 150, sa in bytes %d, sa out packets 150, sa out bytes %[1]d, policy p-in packets 150, policy p-out packets 150", octets))
	if st := s.sa("in"); st.Seq != 150 {
		t.Errorf("inbound SA: %+v", st)
	}
}

// TestTransportFaultyEngine: what an engine loses or refuses is counted as carried by
// no SA, in packets and octets, and no buffer is lost.
func TestTransportFaultyEngine(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s, _ := withEngine(t, saltest.Faults{Seed: 7, Delay: 2, Reorder: true, Refuse: 3, Lose: 5, Depth: 30})
		out, in := s.transport(v6, edit, onCard)
		left, octets := 0, 0
		for range 100 {
			var l [][]byte
			for i := range 20 {
				l = append(l, in.dress(ping(v6, 60+i)))
			}
			before := out.seq
			for _, g := range s.exchange("wan", frames(wanMAC, peerMAC, l), "wan") {
				clear, seq := out.undress(t, g[14:])
				if seq <= before {
					t.Fatalf("number %d came after %d", seq, before)
				}
				hl, _ := upper(clear)
				before, left, octets = seq, left+1, octets+len(clear)-hl
			}
		}
		if st := s.sa("out"); st.Packets != uint64(left) || st.Bytes != uint64(octets) {
			t.Errorf("%d packets of %d octets left; the SA has counted %d, %d", left, octets, st.Packets, st.Bytes)
		}
		if left < 100 || left > 1900 {
			t.Errorf("%d of 2000 answers left: the test proves little", left)
		}
	})
}

// TestTransportNeverInClear: what a policy wants in transport mode never leaves in
// the clear, and is not let in in the clear, whatever is wrong with the SAs.
func TestTransportNeverInClear(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		out, in := s.transport(v6, edit)
		nothing := func(what, moved string, packets ...[]byte) {
			t.Helper()
			s.silent(s.fromPeer(packets...))
			s.Moved(moved)
			if t.Failed() {
				t.Fatal(what)
			}
		}
		change := func(do func(c *ipsec.Change)) {
			t.Helper()
			var ch fastpath.Change
			do(&ch.IPsec)
			s.Apply(&ch)
			s.Forget()
		}
		b := ping(v6, 100)
		nothing("in the clear", "wan rx 1, wan drop ipsec-unprotected 1", b)
		change(func(c *ipsec.Change) { c.DeleteSA = []string{"out"} })
		nothing("no SA out", "wan rx 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1, wan drop ipsec-no-sa 1", in.dress(b))
		// One in tunnel mode of the same reqid does not serve the policy.
		tunnel := out.sa
		tunnel.Mode, tunnel.Name = ipsec.Tunnel, "tunnel"
		change(func(c *ipsec.Change) { c.SetSA = []ipsec.SA{tunnel} })
		nothing("tunnel mode", "wan rx 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1, wan drop ipsec-no-sa 1", in.dress(b))
		// One for other packets neither.
		udp := out.sa
		udp.Selector.Proto = 17
		change(func(c *ipsec.Change) { c.DeleteSA, c.SetSA = []string{"tunnel"}, []ipsec.SA{udp} })
		nothing("another protocol", "wan rx 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1, wan drop ipsec-no-sa 1", in.dress(b))
		// No policy: an answer to what came protected stays here all the same.
		change(func(c *ipsec.Change) { c.DeleteSA, c.DeletePolicy = []string{"out"}, []string{"p-out"} })
		nothing("no policy", "wan rx 1, sa in packets 1, policy p-in packets 1, wan drop ipsec-no-sa 1", in.dress(b))
		// An SA that has ended.
		short := out.sa
		short.Hard.Packets = 1
		change(func(c *ipsec.Change) {
			c.SetSA, c.SetPolicy = []ipsec.SA{short}, []ipsec.Policy{protect(&short)}
		})
		if got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]; len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		s.Forget()
		nothing("ended", "wan rx 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1, wan drop esp-expired 1, sa out drop esp-expired 1", in.dress(b))
		// No policy for the way in: what came through the SA is what it is for. One for
		// tunnel mode: it is not.
		p := protect(&in.sa)
		p.Mode = ipsec.Tunnel
		change(func(c *ipsec.Change) { c.SetPolicy = []ipsec.Policy{p} })
		nothing("policy of tunnel mode", "wan rx 1, sa in packets 1, wan drop ipsec-policy-mismatch 1, sa in drop ipsec-policy-mismatch 1", in.dress(b))
	})
}

// TestTransportTransit: transport mode is for the vRouter's own packets (RFC 4301
// section 4.1): what is forwarded neither gets into an SA nor comes out of one.
func TestTransportTransit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newSite(t, nil)
		host, remote := host4, remote4
		if v6 {
			host, remote = host6, remote6
		}
		// An SA between two others, whose packets pass here.
		foreign := func(a *ipsec.SA) {
			a.Mode, a.Local, a.Remote = ipsec.Transport, addr(host), addr(remote)
			toTransport(a)
		}
		out, in := s.tunnel(v6, foreign)
		s.silent(s.fromHost(outgoing(v6, 100).IP()))
		s.Moved("lan rx 1, lan drop ipsec-transit 1, policy p-out packets 1")
		if got := s.sa("out"); got.Packets != 0 {
			t.Errorf("%d packets went into the SA", got.Packets)
		}
		// Somebody else's ESP is forwarded as it is, closed.
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeletePolicy: []string{"p-in", "p-out"}}})
		s.Forget()
		b := in.dress(incoming(v6, 100).IP())
		s.delivered(s.fromPeer(b), hop(b))
		s.Moved("wan rx 1, lan tx 1")
		_ = out
	}
}

// TestTransportSizes: pings of all lengths around what fits, and far above it: ESP
// comes in fragments and is put together before it is opened, and what is too long
// with ESP leaves so (RFC 4303 sections 3.3.4 and 3.4.1).
func TestTransportSizes(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		for _, cbc := range []bool{false, true} {
			s := newSite(t, nil)
			out, in := s.transport(v6, edit, func(a *ipsec.SA) {
				if cbc {
					setSuite(a, sal.AESCBC, 128, sal.HMACSHA2_256_128, false)
				}
			})
			fits := int(s.sa("out").InnerMTU)
			lengths := []int{fits, fits + 1, 2000, 2048, 4000, 8192, 16000, 60000}
			for n := 1400; n < 1510; n++ {
				lengths = append(lengths, n)
			}
			for _, n := range lengths {
				b := ping(v6, n)
				dressed := [][]byte{in.dress(b)}
				if len(dressed[0]) > 1500 {
					dressed = testbed.Cut(dressed[0], 1400, uint32(n))
				}
				got := s.Exchange("wan", frames(wanMAC, peerMAC, dressed), "wan")[0]
				if (len(got) == 1) != (n <= fits) {
					t.Fatalf("%d octets: %d frames, %d fit; %v", n, len(got), fits, s.State(&fastpath.Query{Drops: true}).Drops)
				}
				for _, g := range got {
					if len(g) > 1514 {
						t.Fatalf("%d octets: a frame of %d", n, len(g))
					}
				}
				answer := got[0][14:]
				if len(got) > 1 {
					answer = joined(got)
				}
				if clear, _ := out.undress(t, answer); !bytes.Equal(clear, reply(b)) {
					t.Fatalf("%d octets: the answer is %x", n, clear)
				}
			}
		}
	})
}

// TestTransportDF: DF is the packet's own, so with it an answer leaves whole or not at
// all. The way out has more around ESP than the way in.
func TestTransportDF(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.transport(false, func(a *ipsec.SA) {
		if a.Direction == sal.Outbound {
			setSuite(a, sal.AESCBC, 256, sal.HMACSHA2_512_256, false)
		}
	})
	fits := int(s.sa("out").InnerMTU)
	for _, n := range []int{fits, fits + 1} {
		b := ping(false, n)
		b[6] |= 0x40
		b = append(head(b, 20, 9, 1, n-20), b[20:]...)
		s.Forget()
		got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
		if n > fits {
			s.silent(got)
			s.Moved("wan rx 1, wan drop too-big 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1")
		} else if len(got) != 1 || got[0][14+6]&0x40 == 0 {
			t.Fatalf("%d octets with DF: %d frames, want one with DF", n, len(got))
		}
	}
	_ = out
}

// TestTransportHeaders: options and extension headers stay where they are, with ESP
// behind those of the way and before those of the end (RFC 4303 section 3.1.1).
func TestTransportHeaders(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		out, in := s.transport(v6, edit)
		plain := ping(v6, 200)
		if !v6 {
			p := testbed.Echo(peer4, own4, 200)
			p.Options = []byte{1, 148, 4, 0, 0, 1, 1, 0} // router alert
			b := p.IP()
			got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
			if len(got) != 1 {
				t.Fatalf("%d answers; %v", len(got), s.State(&fastpath.Query{Drops: true}).Drops)
			}
			if clear, _ := out.undress(t, got[0][14:]); !bytes.Equal(clear, reply(b)) {
				t.Errorf("the answer is\n%x, want\n%x", clear, reply(b))
			}
			return
		}
		pad := []byte{0, 0, 1, 4, 0, 0, 0, 0} // next header, length, PadN
		for _, x := range []struct {
			name    string
			headers []byte // next header of each
			at      int    // how many of them stand before ESP
		}{{"none", nil, 0}, {"hop-by-hop", []byte{0}, 1}, {"destination in front", []byte{60}, 1}, {"destination behind", []byte{60}, 0},
			{"both", []byte{0, 60}, 1}, {"all in front", []byte{0, 60}, 2}, {"atomic fragment", []byte{44}, 1}} {
			b := bytes.Clone(plain[:40])
			field := 6
			hl, at := 40, 6
			for i, h := range x.headers {
				b[field] = h
				field = len(b)
				if h == 44 { // offset 0, and no more (RFC 6946): no fragment
					b = append(b, 0, 0, 0, 0, 0, 0, 0, 7)
				} else {
					b = append(b, pad...)
				}
				if i+1 == x.at {
					hl, at = len(b), field
				}
			}
			b[field] = 58
			b = append(b, plain[40:]...)
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
			in.seq++
			got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dressAt(in.seq, b, hl, at)}), "wan")[0]
			if len(got) != 1 {
				t.Fatalf("%s: %d answers; %v", x.name, len(got), s.State(&fastpath.Query{Drops: true}).Drops)
			}
			if clear, _ := out.undress(t, got[0][14:]); !bytes.Equal(clear, reply(plain)) {
				t.Errorf("%s: the answer is\n%x, want\n%x", x.name, clear, reply(plain))
			}
		}
		// What stands before ESP by its nature cannot be inside.
		s.Forget()
		for _, next := range []byte{0, 44} {
			b := append(append(bytes.Clone(plain[:40]), 58, 0, 0, 0, 0, 0, 0, 0), plain[40:]...)
			b[6] = next
			s.silent(s.fromPeer(in.dress(b)))
			s.Moved("wan rx 1, wan drop esp-bad-next 1, sa in drop esp-bad-next 1")
		}
	})
}

// TestTransportChecksums: a NAT has changed the peer's address, which the checksums of
// what ESP in UDP carries are still about. They are made anew (RFC 3948 section
// 3.1.2), and only there.
func TestTransportChecksums(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		own, peer := ownAndPeer(v6)
		private := map[bool]string{false: "10.99.0.7", true: "fd00::7"}[v6]
		// natted is a packet of the peer with a checksum from before the NAT.
		natted := func(proto byte, at int, zero bool) []byte {
			p := testbed.Packet{Src: private, Dst: own, Proto: proto, SPort: 7, DPort: 9, Len: 101}
			b := p.IP()
			hl, _ := upper(b)
			if !zero {
				binary.BigEndian.PutUint16(b[hl+at:], l4sum(b, hl, proto))
			}
			q := p
			q.Src = peer
			return append(bytes.Clone(q.IP()[:hl]), b[hl:]...)
		}
		for _, udp := range []bool{false, true} {
			s := newSite(t, nil)
			out, in := s.transport(v6, func(a *ipsec.SA) {
				if udp {
					inUDP(a)
				}
			})
			// The answer to UDP quotes what was received.
			for _, zero := range []bool{false, true} {
				b := natted(17, 6, zero)
				got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
				if len(got) != 1 {
					t.Fatalf("%s, UDP %v: %d answers; %v", fam(v6), udp, len(got), s.State(&fastpath.Query{Drops: true}).Drops)
				}
				clear, _ := out.undress(t, got[0][14:])
				hl, _ := upper(clear)
				q := clear[hl+8:]
				switch sum := l4sum(q, hl, 17); {
				case zero && binary.BigEndian.Uint16(q[hl+6:]) != 0:
					t.Errorf("%s, UDP %v: a packet without a checksum got one", fam(v6), udp)
				case !zero && (sum == 0) != udp:
					t.Errorf("%s, UDP %v: checksum off by %x", fam(v6), udp, sum)
				}
			}
			if !v6 {
				continue // of ICMP addresses are no part
			}
			b := testbed.Echo(private, own, 100).IP()
			copy(b[8:24], addr(peer).AsSlice())
			got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
			if (len(got) == 1) != udp {
				t.Errorf("UDP %v: %d answers to a ping from behind a NAT", udp, len(got))
			}
		}
	}
}

// TestTransportPadding: traffic-flow padding is taken off where the payload says how
// long it is (RFC 4303 section 2.7).
func TestTransportPadding(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		out, in := s.transport(v6, edit)
		own, peer := ownAndPeer(v6)
		b := testbed.Packet{Src: peer, Dst: own, SPort: 7, DPort: 9, Len: 100}.IP()
		in.tfc = 77
		got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
		if len(got) != 1 {
			t.Fatalf("%d answers; %v", len(got), s.State(&fastpath.Query{Drops: true}).Drops)
		}
		clear, _ := out.undress(t, got[0][14:])
		hl, _ := upper(clear)
		if q := clear[hl+8:]; !bytes.Equal(q, b) {
			t.Errorf("the answer quotes\n%x, want\n%x", q, b)
		}
		if st := s.sa("in"); st.Bytes != uint64(100-hl) {
			t.Errorf("%d octets counted", st.Bytes)
		}
		in.tfc, in.next = 0, 59
		s.Forget()
		s.silent(s.fromPeer(in.dress(b)))
		s.Moved("wan rx 1, wan drop esp-dummy 1, sa in drop esp-dummy 1")
	})
}

// TestTransportFaults: each bad packet dies of its own reason, and nothing else
// moves.
func TestTransportFaults(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		suites(t, func(t *testing.T, suite func(*ipsec.SA)) {
			s := newSite(t, nil)
			_, in := s.transport(v6, edit, suite)
			good := ping(v6, 100)
			if got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dressAs(100, good)}), "wan")[0]; len(got) != 1 {
				t.Fatalf("%d answers", len(got))
			}
			s.Forget()
			bad := func(what, reason string, packet []byte) {
				t.Helper()
				s.silent(s.fromPeer(packet))
				s.Moved(fmt.Sprintf("wan rx 1, wan drop %s 1, sa in drop %[1]s 1", reason))
				if t.Failed() {
					t.Fatal(what)
				}
			}
			spoilt := func(at int) []byte { // from the end
				b := in.dressAs(101, good)
				b[len(b)-at] ^= 1
				return b
			}
			bad("ICV", "esp-bad-icv", spoilt(1))
			bad("text", "esp-bad-icv", spoilt(40))
			bad("replay", "esp-replay", in.dressAs(100, good))
			late := "esp-late"
			if in.sa.ESN {
				late = "esp-bad-icv" // RFC 4303 appendix A2.2
			}
			bad("late", late, in.dressAs(36, good))
			in.padding, in.badPad = 4, true
			bad("padding", "esp-bad-pad", in.dressAs(102, good))
			in.padding, in.badPad = 0, false
			hl, _ := upper(good)
			dress := func(seq uint64, text []byte) []byte {
				esp, proto := in.sealESP(seq, text), byte(50)
				if in.sa.UDP != (ipsec.UDP{}) {
					esp, proto = in.udp(40500, 4500, esp), 17
				}
				return append(head(good, hl, map[bool]int{false: 9, true: 6}[v6], proto, len(esp)), esp...)
			}
			bad("pad length", "esp-bad-pad", dress(103, append(make([]byte, 30), 200, 1)))
			bad("no whole words", "esp-short", dress(104, make([]byte, 33)))
			bad("nothing inside", "esp-short", dress(104, nil))
			// Bare where it should be in UDP, and the other way.
			b := in.dressAs(105, good)
			if in.sa.UDP == (ipsec.UDP{}) {
				// No SA is in UDP, so it is taken for IKE, which nobody serves here.
				esp := in.udp(40500, 4500, b[hl:])
				s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{append(head(good, hl, map[bool]int{false: 9, true: 6}[v6], 17, len(esp)), esp...)}), "wan")
				s.Moved("wan rx 1, wan drop local-udp 1, policy p-out packets 1, wan tx 1, sa out packets 1")
			} else {
				s.silent(s.fromPeer(append(head(good, hl, map[bool]int{false: 9, true: 6}[v6], 50, len(b)-hl-8), b[hl+8:]...)))
				s.Moved("wan rx 1, wan drop esp-encapsulation 1")
			}
		})
	})
}

// TestTransportRefusals: what transport mode cannot have is refused with the field at
// fault.
func TestTransportRefusals(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		want string
		edit func(*ipsec.SA)
	}{
		{"Mode", func(a *ipsec.SA) { a.Mode = 2 }},
		{"Selector.Local", func(a *ipsec.SA) { a.Selector.Local = prefix("192.0.2.0/24") }},
		{"Selector.Remote", func(a *ipsec.SA) { a.Selector.Remote = prefix("192.0.2.3/32") }},
		{"Local", func(a *ipsec.SA) { a.Local, a.Remote = addr("fe80::1"), addr("fe80::2") }},
		{"Remote", func(a *ipsec.SA) { a.Remote = a.Local }},
		{"DF", func(a *ipsec.SA) { a.DF = ipsec.SetDF }},
		{"DSCP", func(a *ipsec.SA) { a.DSCP = make([]uint8, 64) }},
		{"Fragmentation", func(a *ipsec.SA) { a.Fragmentation = ipsec.AfterEncryption }},
		{"MSS", func(a *ipsec.SA) { a.MSS = pipeline.ClampPath }},
		{"FollowPeer", follow},
	} {
		a := testSA("x", sal.Inbound, false)
		toTransport(&a)
		c.edit(&a)
		s.Refused(sas(a), "x", c.want)
	}
	a := testSA("x", sal.Outbound, false)
	toTransport(&a)
	p := protect(&a)
	p.LocalTunnel, p.RemoteTunnel = a.Local, a.Remote
	s.Refused(policies(p), "p-x", "LocalTunnel")
	p = protect(&a)
	p.Mode = 2
	s.Refused(policies(p), "p-x", "Mode")
}

// TestTransportPathMTU: an ICMP error that quotes an ESP packet in transport mode lowers
// what the next ones may have, and they leave in fragments.
func TestTransportPathMTU(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		out, in := s.transport(v6, edit)
		b := ping(v6, 1420)
		got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
		if len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
		out.undress(t, got[0][14:])
		s.silent(s.fromPeer(tooBig(got[0][14:], 1300, 64)))
		st := s.sa("out")
		if st.OuterMTU != 1300 || st.PathMTU != 1300 {
			t.Fatalf("%+v", st)
		}
		for _, n := range []int{int(st.InnerMTU), int(st.InnerMTU) + 1, 1420} {
			b := ping(v6, n)
			got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.dress(b)}), "wan")[0]
			for _, g := range got {
				if len(g) > 14+1300 {
					t.Errorf("%d octets: a frame of %d", n, len(g))
				}
			}
			if (len(got) == 1) != (n == int(st.InnerMTU)) {
				t.Fatalf("%d octets left in %d frames, %d fit", n, len(got), st.InnerMTU)
			}
			answer := got[0][14:]
			if len(got) > 1 {
				answer = joined(got)
			}
			if clear, _ := out.undress(t, answer); !bytes.Equal(clear, reply(b)) {
				t.Errorf("%d octets: the answer is %x", n, clear)
			}
		}
	})
}

// TestTransportWholeOnly: fragments of what the vRouter says go into no SA in
// transport mode (RFC 4303 section 3.3.4). Pings that came in the clear and in pieces
// are answered in pieces.
func TestTransportWholeOnly(t *testing.T) {
	transports(t, func(t *testing.T, v6 bool, edit func(*ipsec.SA)) {
		s := newSite(t, func(o *fastpath.Options) { o.Large = -1 })
		s.transport(v6, edit)
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeletePolicy: []string{"p-in"}}})
		s.Forget()
		s.silent(s.fromPeer(testbed.Cut(ping(v6, 4000), 1400, 5)...))
		s.Moved("wan rx 3, wan drop ipsec-fragment 3, policy p-out packets 3")
	})
}

// TestTransportLargest: what is too long for any IP packet with ESP around it dies
// here.
func TestTransportLargest(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newSite(t, nil)
		out, in := s.transport(v6, func(a *ipsec.SA) {
			if a.Direction == sal.Outbound {
				setSuite(a, sal.AESCBC, 256, sal.HMACSHA2_512_256, false)
			}
		})
		fits, died := 0, 0
		for n := 65400; n < 65490; n++ {
			b := ping(v6, n)
			dressed := in.dress(b)
			if len(dressed) > sal.MaxPacket {
				break
			}
			s.Forget()
			got := s.Exchange("wan", frames(wanMAC, peerMAC, testbed.Cut(dressed, 1400, uint32(n))), "wan")[0]
			if len(got) == 0 {
				died++
				s.Moved(fmt.Sprintf("wan rx %d, wan drop esp-no-room 1, sa out drop esp-no-room 1, sa in packets 1, policy p-in packets 1, policy p-out packets 1", (len(dressed)-1)/1400+1))
				continue
			}
			if clear, _ := out.undress(t, joined(got)); !bytes.Equal(clear, reply(b)) || died > 0 {
				t.Fatalf("%d octets, behind %d that died: %d came out", n, died, len(clear))
			}
			fits++
		}
		if fits == 0 || died == 0 {
			t.Errorf("%d answers left, %d died: the test proves nothing", fits, died)
		}
	}
}
