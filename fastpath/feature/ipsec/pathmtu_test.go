package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// router is who sends ICMP about what it cannot forward: somebody behind the
// peer's link.
const router4, router6 = "198.51.100.7", "2001:db8:fe::7"

// tooBig is the ICMP error of the router about an IP packet, which it quotes as
// far as keep.
func tooBig(ip []byte, mtu uint32, keep int) []byte {
	quoted := ip[:min(keep, len(ip))]
	if ip[0]>>4 == 4 {
		m := pkt.ICMP(append(make([]byte, 8), quoted...))
		m.Set(pkt.ICMPv4Unreachable, pkt.ICMPv4FragNeeded, mtu, 0)
		return testbed.Packet{Src: router4, Dst: pkt.IPv4(ip).SrcAddr().String(), Proto: pkt.ProtoICMP, Payload: m}.IP()
	}
	m := pkt.ICMP(append(make([]byte, 8), quoted...))
	src := pkt.IPv6(ip).SrcAddr()
	m.Set(pkt.ICMPv6TooBig, 0, mtu, pkt.Pseudo6(netip.MustParseAddr(router6).As16(), src.As16(), pkt.ProtoICMPv6, len(m)))
	return testbed.Packet{Src: router6, Dst: src.String(), Proto: pkt.ProtoICMPv6, Payload: m}.IP()
}

// TestPathMTULearnt: an ICMP error that quotes what was sent lowers the path MTU
// of every SA on the path, the inner sender is told, what it is told of fits; and
// after ten minutes all is as before.
func TestPathMTULearnt(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		outer := func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		}
		out, _ := s.tunnel(in6, outer)
		beside := testSA("beside", sal.Outbound, in6)
		beside.ReqID, beside.SPI = 77, 0x1234
		outer(&beside)
		deaf := testSA("deaf", sal.Outbound, in6)
		deaf.ReqID, deaf.SPI, deaf.IgnoreICMP = 78, 0x1235, true
		outer(&deaf)
		elsewhere := testSA("elsewhere", sal.Outbound, in6)
		elsewhere.ReqID, elsewhere.SPI = 79, 0x1000 // the same SPI, another peer
		outer(&elsewhere)
		elsewhere.Remote = elsewhere.Remote.Next()
		s.Apply(sas(beside, deaf, elsewhere))
		s.Forget()
		p := outgoing(in6, 1420)
		p.DF = true
		sent := s.fromHost(p.IP(), p.IP(), p.IP())
		if len(sent) != 3 {
			t.Fatalf("%d packets left", len(sent))
		}
		s.Moved("lan rx 3, wan tx 3, sa out packets 3, policy p-out packets 3")
		const mtu = 1390 // above 1280 with ESP around it
		// The second of three, and no more of it than RFC 792 promises.
		keep := 28
		if out6 {
			keep = 48
		}
		s.silent(s.fromPeer(tooBig(sent[1][14:], mtu, keep)))
		s.Moved("wan rx 1")
		a, b, d, e := s.sa("out"), s.sa("beside"), s.sa("deaf"), s.sa("elsewhere")
		if a.OuterMTU != mtu || a.PathMTU != mtu || a.PathLeft != 10*time.Minute || b.OuterMTU != mtu || b.InnerMTU != a.InnerMTU ||
			d.OuterMTU != 1500 || d.PathMTU != 0 || e.OuterMTU != 1500 || e.PathMTU != 0 {
			t.Fatalf("%+v\n%+v\n%+v\n%+v", a, b, d, e)
		}
		told := func() {
			t.Helper()
			back := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p.IP()}), "lan", "wan")
			if len(back[0]) != 1 || len(back[1]) != 0 {
				t.Fatalf("%d answers, %d packets left", len(back[0]), len(back[1]))
			}
			if m := announced(back[0][0][14:]); m != int(s.sa("out").InnerMTU) {
				t.Fatalf("told of %d, %d fit", m, s.sa("out").InnerMTU)
			}
			q := p
			q.Len = int(s.sa("out").InnerMTU)
			got := s.fromHost(q.IP())
			if o := out.must(t, got[0]); !bytes.Equal(o.inner, hop(q.IP())) || len(got[0])-14 > int(s.sa("out").OuterMTU) {
				t.Fatalf("%d bytes left", len(got[0])-14)
			}
		}
		told()
		// More, and the same again: nothing rises. Less: it falls.
		for _, x := range []uint32{1400, 1390, 1399} {
			s.fromPeer(tooBig(sent[1][14:], x, 1000))
			if m := s.sa("out").OuterMTU; m != mtu {
				t.Fatalf("%d made it %d", x, m)
			}
		}
		s.Advance(2 * time.Millisecond)
		s.fromPeer(tooBig(sent[1][14:], 1380, 1000))
		if m := s.sa("out").OuterMTU; m != 1380 {
			t.Fatalf("1380 made it %d", m)
		}
		told()
		// A key is replaced, and a commit gives back the same: the path is the same.
		a2 := testSA("out", sal.Outbound, in6)
		outer(&a2)
		a2.SPI++
		a2.Key = key(999, 20)
		s.Apply(sas(a2))
		if m := s.sa("out").OuterMTU; m != 1380 {
			t.Fatalf("after a new key: %d", m)
		}
		// What the old SA has sent proves nothing now.
		s.Forget()
		s.Advance(2 * time.Millisecond)
		s.fromPeer(tooBig(sent[1][14:], 1300, 1000))
		s.Moved("wan rx 1, wan drop icmp-unproven 1")
		s.Advance(10*time.Minute - time.Second)
		if m := s.sa("out"); m.OuterMTU != 1380 || m.PathLeft <= 0 {
			t.Fatalf("%+v", m)
		}
		s.Advance(time.Second)
		if a, b := s.sa("out"), s.sa("beside"); a.OuterMTU != 1500 || a.PathMTU != 0 || b.OuterMTU != 1500 {
			t.Fatalf("%+v\n%+v", a, b)
		}
		if got := s.fromHost(p.IP()); len(got) != 1 {
			t.Fatalf("%d packets left after ten minutes", len(got))
		}
	})
}

// TestPathMTULowest: no message takes a path below 576 or 1280 octets; one that
// does not say how much, as routers before RFC 1191, means the next likely MTU.
func TestPathMTULowest(t *testing.T) {
	for _, c := range []struct {
		out6     bool
		mtu      uint32
		want     uint32
		reported string
	}{
		{false, 68, 576, ""}, {false, 575, 576, ""}, {false, 577, 577, ""}, {false, 0, 1006, ""},
		{true, 1280, 1280, ""}, {true, 1279, 1500, "icmp-ignored"}, {true, 0, 1500, "icmp-ignored"}, {true, 1 << 31, 1500, "icmp-ignored"},
	} {
		s := newSite(t, nil)
		s.tunnel(false, func(a *ipsec.SA) {
			if c.out6 {
				over6(a)
			}
		})
		p := outgoing(false, 1400)
		p.DF = true
		sent := s.fromHost(p.IP())
		s.Forget()
		s.fromPeer(tooBig(sent[0][14:], c.mtu, 1000))
		if got := s.sa("out").OuterMTU; got != c.want {
			t.Errorf("%d made it %d, want %d", c.mtu, got, c.want)
		}
		if c.reported != "" {
			s.Moved("wan rx 1, wan drop " + c.reported + " 1")
		} else {
			s.Moved("wan rx 1")
		}
	}
}

// TestPathMTUForged: a message that does not prove that it is about a packet of
// ours, sent a short while ago, changes nothing.
func TestPathMTUForged(t *testing.T) {
	for _, out6 := range []bool{false, true} {
		s := newSite(t, persistent(t))
		s.tunnel(false, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		p := outgoing(false, 1400)
		p.DF = true
		sent := s.fromHost(p.IP(), p.IP())[1][14:]
		at := 20 // of ESP
		if out6 {
			at = 40
		}
		seq := func(n uint32) func([]byte) []byte {
			return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at+4:], n); return b }
		}
		try := func(name, why string, edit func([]byte) []byte, mtu uint32) {
			t.Helper()
			s.Forget()
			s.Advance(2 * time.Millisecond)
			s.silent(s.fromPeer(tooBig(edit(bytes.Clone(sent)), mtu, 1000)))
			if got := s.sa("out"); got.OuterMTU != 1500 || got.PathMTU != 0 {
				t.Fatalf("%s, %s: %+v", fam(out6), name, got)
			}
			s.Moved("wan rx 1, wan drop " + why + " 1")
		}
		same := func(b []byte) []byte { return b }
		try("a number not sent yet", "icmp-unproven", seq(3), 1300)
		try("number 0", "icmp-unproven", seq(0), 1300)
		try("a number from nowhere", "icmp-unproven", seq(0xfffffff0), 1300)
		try("another SPI", "icmp-unproven", func(b []byte) []byte { b[at]++; return b }, 1300)
		try("the inbound SPI", "icmp-unproven", func(b []byte) []byte { b[at+3] ^= 1; return b }, 1300)
		try("another destination", "icmp-unproven", func(b []byte) []byte { b[at-1]++; return b }, 1300)
		try("no ESP", "icmp-ignored", func(b []byte) []byte {
			if out6 {
				b[6] = 6
			} else {
				b[9] = 6
			}
			return b
		}, 1300)
		try("less than an ESP header", "icmp-ignored", func(b []byte) []byte { return b[:at+7] }, 1300)
		try("larger than the packet", "icmp-ignored", same, 1500)
		if !out6 {
			try("a later fragment", "icmp-ignored", func(b []byte) []byte { b[7] = 1; return b }, 1300)
		}
		// A long while ago: by numbers.
		a := testSA("out", sal.Outbound, false)
		for last, ok := range map[uint64]bool{1 + 1<<16: false, 1 << 20: false, 1 << 16: true, 1<<16 - 1: true} {
			if err := ipsec.SetSeq(s.dir, &a, last); err != nil {
				t.Fatal(err)
			}
			if !ok {
				try(fmt.Sprintf("number 1 of %d", last), "icmp-unproven", seq(1), 1300)
				continue
			}
			s.Advance(2 * time.Millisecond)
			s.fromPeer(tooBig(seq(1)(bytes.Clone(sent)), 1300, 1000))
			if got := s.sa("out").PathMTU; got != 1300 {
				t.Fatalf("number 1 of %d: %d", last, got)
			}
			s.Advance(10 * time.Minute)
		}
		if out6 {
			b := tooBig(seq(1)(bytes.Clone(sent)), 1300, 1000)
			b[len(b)-1] ^= 1
			s.Forget()
			s.fromPeer(b)
			s.Moved("wan rx 1, wan drop icmp-ignored 1")
		}
		// Configured not to listen.
		if out6 {
			over6(&a)
		}
		a.IgnoreICMP = true
		s.Apply(sas(a))
		try("to who does not listen", "icmp-ignored", seq(uint32(s.sa("out").Seq)), 1300)
	}
}

// TestPathMTUBurst: a burst of packets that are too big brings as many messages,
// of which the first says it all. They are no sign of overload; what others have
// to say meanwhile, and the worker does not hear, is.
func TestPathMTUBurst(t *testing.T) {
	s := newSite(t, nil)
	s.tunnel(false)
	other := testSA("other", sal.Outbound, false)
	other.SPI, other.ReqID, other.Remote, other.Selector.Remote = 0x3000, 9, addr("198.51.100.7"), prefix("10.3.0.0/16")
	s.Apply(sas(other))
	s.Apply(policies(protect(&other)))
	p := outgoing(false, 1400)
	p.DF = true
	q := p
	q.Dst = "10.3.0.9"
	sent := s.fromHost(p.IP(), p.IP(), p.IP(), q.IP())
	if len(sent) != 4 {
		t.Fatalf("%d packets left", len(sent))
	}
	say := func(i int, mtu uint32) []byte { return tooBig(sent[i][14:], mtu, 1000) }
	s.Advance(2 * time.Millisecond)
	s.Forget()
	s.fromPeer(say(0, 1350), say(1, 1350), say(2, 1350), say(0, 1360), say(3, 1300), say(1, 1340))
	s.Moved("wan rx 6, wan rx-discards 2, wan drop icmp-ignored 3, wan drop control-full 2")
	if a, b := s.sa("out").PathMTU, s.sa("other").PathMTU; a != 1350 || b != 0 {
		t.Errorf("learnt %d and %d", a, b)
	}
	s.Advance(2 * time.Millisecond)
	s.Forget()
	s.fromPeer(say(3, 1300), say(3, 1300))
	s.Moved("wan rx 2, wan drop icmp-ignored 1")
	if b := s.sa("other").PathMTU; b != 1300 {
		t.Errorf("learnt %d", b)
	}
}

// TestPathMTUFlood: no flood of forged messages keeps a true one from being heard,
// and none allocates.
func TestPathMTUFlood(t *testing.T) {
	s := newSite(t, nil)
	s.tunnel(false)
	p := outgoing(false, 1400)
	p.DF = true
	sent := s.fromHost(p.IP())[0][14:]
	forged := bytes.Clone(sent)
	binary.BigEndian.PutUint32(forged[24:], 4711)
	var l [][]byte
	for range 250 {
		l = append(l, tooBig(forged, 1200, 1000))
	}
	l = append(l, tooBig(sent, 1300, 1000))
	for range 250 {
		l = append(l, tooBig(forged, 1200, 1000))
	}
	s.Forget()
	s.silent(s.fromPeer(l...))
	s.Moved("wan rx 501, wan drop icmp-unproven 500")
	if m := s.sa("out").OuterMTU; m != 1300 {
		t.Errorf("path MTU %d", m)
	}
}
