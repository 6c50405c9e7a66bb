package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/pkg/pkt"
)

// FuzzICMP is about ICMP errors, those that come and those that are sent. Either any
// ICMP message comes from the WAN in the clear, with a right checksum, quoting
// whatever it wants: nothing reaches the LAN, and nothing but echo requests is
// answered. Or any packet comes from the host with one hop left: nothing leaves
// on the WAN, not even through an SA, and what comes back is a well-formed
// answer, and never an ICMP error about one (RFC 1122 section 3.2.2, RFC 4443
// section 2.4). Buffers are counted at the end.
func FuzzICMP(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		how := b2i(v6)
		for _, p := range []testbed.Packet{outgoing(v6, 100), outgoing(v6, 1400)} {
			b := p.IP()
			f.Add(how|2, b)
			f.Add(how|2, append(bytes.Clone(b[:len(b)-20]), make([]byte, 20)...))
			f.Add(how|2, testbed.Cut(b, 400, 7)[0]) // fragments
			if l := testbed.Cut(b, 400, 7); len(l) > 1 {
				f.Add(how|2, l[1])
			}
		}
		f.Add(how|2, message(outgoing(v6, 0), 8, 0, 1))
		f.Add(how|2, message(outgoing(v6, 0), 3, 4, 1))
		f.Add(how|2, message(outgoing(v6, 0), 128, 0, 1))
		s := newSite(f, nil)
		out, _ := s.tunnel(v6)
		quoted := out.outer(out.sa.Local, out.sa.Remote, pkt.ProtoESP, append([]byte{0, 0, 0x10, 1, 0, 0, 0, 1}, make([]byte, 60)...))
		for _, typ := range [...][2]byte{{3, 4}, {3, 1}, {11, 0}, {2, 0}, {1, 0}, {4, 1}, {8, 0}, {128, 0}, {13, 0}} {
			f.Add(how, append([]byte{typ[0], typ[1], 0, 0, 0, 0, 5, 0}, quoted...))
			f.Add(how, append([]byte{typ[0], typ[1], 0, 0, 0, 0, 5, 0}, quoted[:12]...))
		}
	}
	sites := [2]*site{}
	for k := range sites {
		s := newSite(f, func(o *fastpath.Options) { o.Log = slog.New(slog.DiscardHandler) })
		s.tunnel(k == 1)
		s.fromHost(outgoing(k == 1, 100).IP()) // a number that may be quoted
		sites[k] = s
		f.Cleanup(func() { s.T = f })
	}
	f.Fuzz(func(t *testing.T, how byte, data []byte) {
		v6 := how&1 != 0
		s := sites[how&1]
		s.T = t
		s.Advance(time.Second) // so that errors are not too many
		s.Recv("lan")
		s.Recv("wan")
		if how&2 == 0 {
			icmpIn(t, s, v6, data)
		} else {
			icmpOut(t, s, v6, data)
		}
	})
}

// icmpIn sends an ICMP message from the peer to the WAN's address.
func icmpIn(t *testing.T, s *site, v6 bool, data []byte) {
	if len(data) < 8 || len(data) > 1400 {
		return
	}
	p := testbed.Packet{Src: peer4, Dst: own4, Proto: pkt.ProtoICMP, Payload: bytes.Clone(data)}
	echo, head := byte(pkt.ICMPv4Echo), 20
	if v6 {
		p.Src, p.Dst, p.Proto, echo, head = peer6, own6, pkt.ProtoICMPv6, pkt.ICMPv6Echo, 40
	}
	b := p.IP()
	b[head+2], b[head+3] = 0, 0
	binary.BigEndian.PutUint16(b[head+2:], ^icmpSum(b, head))
	got := s.Exchange("wan", frames(wanMAC, peerMAC, [][]byte{b}), "lan", "wan")
	for _, g := range got[0] {
		t.Errorf("to the LAN: %x", g)
	}
	for _, g := range got[1] {
		ip := g[14:]
		if pkt.Ethernet(g).Type() == pkt.TypeARP || discovery(ip) {
			continue
		}
		wellFormed(t, ip)
		if data[0] != echo || len(ip) != len(b) || !bytes.Equal(ip[head+4:], b[head+4:]) || !bytes.Equal(destination(ip), source(b)) {
			t.Errorf("ICMP\n%x was answered by\n%x", b, ip)
		}
	}
}

// icmpOut sends a packet from the host that has no hop left.
func icmpOut(t *testing.T, s *site, v6 bool, data []byte) {
	b := bytes.Clone(data)
	if len(b) > 1500 || !v6 && len(b) < 20 || v6 && len(b) < 40 {
		return
	}
	if v6 {
		b[0] = 0x60 | b[0]&15
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		b[7] = 1
		a := addr(host6).As16()
		copy(b[8:], a[:])
	} else {
		hl := max(5, min(int(b[0]&15), len(b)/4))
		b[0] = 0x40 | byte(hl)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		a := addr(host4).As4()
		copy(b[12:], a[:])
		b[8], b[10], b[11] = 1, 0, 0
		binary.BigEndian.PutUint16(b[10:], ^onesSum(b[:4*hl]))
	}
	got := s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{b}), "wan", "lan")
	for _, g := range got[0] {
		t.Errorf("left on the WAN: %x", g)
	}
	answers := 0
	for _, g := range got[1] {
		ip := g[14:]
		if pkt.Ethernet(g).Type() == pkt.TypeARP || discovery(ip) {
			continue
		}
		answers++
		o := wellFormed(t, ip)
		if !bytes.Equal(destination(ip), source(b)) {
			t.Errorf("the answer goes to %x", destination(ip))
		}
		if !isError(&o, ip) {
			continue
		}
		if x, bad := pkt.ParseIP(b); bad != pkt.ShortL4 && isError(&x, b) && !x.Has(pkt.LaterFragment) {
			t.Errorf("about an ICMP error\n%x an ICMP error\n%x", b, ip)
		}
		d := destination(b)
		if d[0] == 0xff && v6 && ip[o.L4] != pkt.ICMPv6ParamProblem || !v6 && d[0]&0xf0 == 0xe0 {
			t.Errorf("about a packet to a group: %x", ip)
		}
		quote, most := ip[o.L4+8:], 576
		if v6 {
			most = 1280
		}
		if len(ip) > most || len(quote) > len(b) || len(quote) < min(len(b), 28) {
			t.Errorf("%d bytes quoted of %d, in a packet of %d", len(quote), len(b), len(ip))
		} else if !bytes.Equal(quote, b[:len(quote)]) {
			t.Errorf("of\n%x it quotes\n%x", b, quote)
		}
	}
	if answers > 1 {
		t.Errorf("%d answers to %x", answers, b)
	}
}

// wellFormed parses a packet that the vRouter has made.
func wellFormed(t *testing.T, ip []byte) pkt.Offsets {
	t.Helper()
	o, bad := pkt.ParseIP(ip)
	if bad != pkt.OK || int(o.End) != len(ip) {
		t.Fatalf("%v: %x", bad, ip)
	}
	if (o.Proto == pkt.ProtoICMP || o.Proto == pkt.ProtoICMPv6) && icmpSum(ip, int(o.L4)) != 0xffff {
		t.Fatalf("ICMP checksum: %x", ip)
	}
	return o
}

// icmpSum is the ones' complement sum that the checksum of an ICMP message makes
// all ones.
func icmpSum(ip []byte, l4 int) uint16 {
	b := ip[l4:]
	if ip[0]>>4 == 6 { // the pseudo-header (RFC 4443 section 2.3)
		b = append(bytes.Clone(ip[8:40]), 0, 0, byte(len(b)>>8), byte(len(b)), 0, 0, 0, pkt.ProtoICMPv6)
		b = append(b, ip[l4:]...)
	}
	if len(b)%2 != 0 {
		b = append(b[:len(b):len(b)], 0)
	}
	return onesSum(b)
}

// isError tells whether a packet is an ICMP error.
func isError(o *pkt.Offsets, ip []byte) bool {
	if int(o.L4) >= len(ip) || o.L4 == 0 {
		return false
	}
	typ := ip[o.L4]
	switch o.Proto {
	case pkt.ProtoICMP:
		return ip[0]>>4 == 4 && (typ >= 3 && typ <= 5 || typ == 11 || typ == 12)
	case pkt.ProtoICMPv6:
		return ip[0]>>4 == 6 && typ < 128
	}
	return false
}

// discovery tells whether a packet is neighbour discovery.
func discovery(ip []byte) bool {
	return ip[0]>>4 == 6 && ip[6] == pkt.ProtoICMPv6 && ip[40] >= pkt.ICMPv6RouterSol && ip[40] <= pkt.ICMPv6Redirect
}

func source(ip []byte) []byte {
	if ip[0]>>4 == 6 {
		return ip[8:24]
	}
	return ip[12:16]
}

func destination(ip []byte) []byte {
	if ip[0]>>4 == 6 {
		return ip[24:40]
	}
	return ip[16:20]
}
