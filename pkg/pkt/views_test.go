package pkt

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// sumNaive is RFC 1071 word by word.
func sumNaive(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func TestChecksum(t *testing.T) {
	// RFC 1071 section 3.
	if c := Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); c != ^uint16(0xddf2) {
		t.Errorf("RFC 1071: %04x", c)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, 1600)
	for n := range len(b) {
		for i := range b[:n] {
			b[i] = byte(rng.Uint32())
			if n%5 == 0 {
				b[i] = 0xff // carries everywhere
			}
		}
		if c, want := Checksum(b[:n]), sumNaive(b[:n]); c != want {
			t.Fatalf("%d bytes: %04x, want %04x", n, c, want)
		}
		cut := n / 2 &^ 1
		if c, want := Sum(0).Add(b[cut:n]).Add(b[:cut]).Checksum(), sumNaive(b[:n]); c != want && n%2 == 0 {
			t.Fatalf("%d bytes in two parts: %04x, want %04x", n, c, want)
		}
	}
	if s := Sum(^uint64(0)).AddUint(1).Fold(); s != 1 {
		t.Errorf("carry of AddUint: %04x", s)
	}
	if s := Sum(^uint64(0)).Add([]byte{0, 1}).Fold(); s != 1 {
		t.Errorf("carry of Add: %04x", s)
	}
}

// Changing a word and updating the checksum is the same as computing it anew,
// down to the two zeros of one's complement (RFC 1624 section 3).
func TestUpdate(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	special := []uint16{0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff}
	pick := func() uint16 {
		if rng.IntN(2) == 0 {
			return special[rng.IntN(len(special))]
		}
		return uint16(rng.Uint32())
	}
	for range 200_000 {
		b := make([]byte, 20)
		b[0] = 0x45 // a header never sums to zero
		for i := 2; i < 20; i += 2 {
			be.PutUint16(b[i:], pick())
		}
		be.PutUint16(b[10:], 0)
		old := Checksum(b)
		was := be.Uint16(b[8:])
		now := pick()
		be.PutUint16(b[8:], now)
		if got, want := Update16(old, was, now), Checksum(b); got != want {
			t.Fatalf("Update16(%04x, %04x, %04x) = %04x, want %04x", old, was, now, got, want)
		}
		old = Checksum(b)
		was32 := be.Uint32(b[12:])
		now32 := uint32(pick())<<16 | uint32(pick())
		be.PutUint32(b[12:], now32)
		if got, want := Update32(old, was32, now32), Checksum(b); got != want {
			t.Fatalf("Update32(%04x, %08x, %08x) = %04x, want %04x", old, was32, now32, got, want)
		}
	}
}

// Every TTL and every checksum that can go with it.
func TestDecTTL(t *testing.T) {
	b := v4(ProtoUDP, nil, udp(0))
	h := IPv4(b)
	for id := 0; id < 0x10000; id += 7 {
		h.SetID(uint16(id))
		h.SetTTL(uint8(id%254 + 2))
		h.SetChecksum()
		ttl := h.TTL()
		h.DecTTL()
		if h.TTL() != ttl-1 || !h.ChecksumOK() {
			t.Fatalf("id %d: TTL %d after %d, checksum %v", id, h.TTL(), ttl, h.ChecksumOK())
		}
	}
}

func mac(m MAC) net.HardwareAddr { return m[:] }

// Views read what gopacket wrote, field by field, and write the same bytes.
func TestViewsAgainstGopacket(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	for range 500 {
		var m1, m2 MAC
		for i := range m1 {
			m1[i], m2[i] = byte(rng.Uint32()), byte(rng.Uint32())
		}
		payload := make([]byte, rng.IntN(50))
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		src4, dst4 := [4]byte{10, 1, 2, byte(rng.Uint32())}, [4]byte{10, 1, 3, byte(rng.Uint32())}
		tos, ttl, id := byte(rng.Uint32()), byte(rng.Uint32()), uint16(rng.Uint32())
		vid, pcp := uint16(rng.Uint32())&0xfff, uint8(rng.Uint32())&7
		sp, dp := uint16(rng.Uint32()), uint16(rng.Uint32())

		buf := gopacket.NewSerializeBuffer()
		ip := &layers.IPv4{Version: 4, TOS: tos, Id: id, Flags: layers.IPv4DontFragment, TTL: ttl, Protocol: 17, SrcIP: src4[:], DstIP: dst4[:]}
		u := &layers.UDP{SrcPort: layers.UDPPort(sp), DstPort: layers.UDPPort(dp)}
		u.SetNetworkLayerForChecksum(ip)
		if err := gopacket.SerializeLayers(buf, opts,
			&layers.Ethernet{DstMAC: mac(m1), SrcMAC: mac(m2), EthernetType: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{Priority: pcp, VLANIdentifier: vid, DropEligible: true, Type: layers.EthernetTypeIPv4},
			ip, u, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 18+28+len(payload))
		want := buf.Bytes()[:len(got)] // without gopacket's padding
		Ethernet(got).Set(m1, m2, TypeVLAN)
		VLAN(got[14:]).Set(vid, pcp, true, TypeIPv4)
		h := IPv4(got[18:])
		h.Set(src4, dst4, 17, ttl, tos, 28+len(payload))
		h.SetID(id)
		h.SetChecksum()
		l4 := UDP(h[20:])
		l4.Set(sp, dp, 8+len(payload))
		copy(l4[8:], payload)
		l4.SetChecksum(Pseudo4(src4, dst4, 17, 8+len(payload)))
		if !bytes.Equal(got, want) {
			t.Fatalf("ours %x\nwant %x", got, want)
		}
		v := VLAN(want[14:])
		w := IPv4(want[18:])
		if v.VID() != vid || v.PCP() != pcp || !v.DEI() || v.Type() != TypeIPv4 || Ethernet(want).Dst() != m1 || Ethernet(want).Src() != m2 ||
			w.TOS() != tos || w.ID() != id || !w.DF() || w.MF() || w.TTL() != ttl || w.Src() != src4 || w.DstAddr() != netip.AddrFrom4(dst4) || !w.ChecksumOK() ||
			!bytes.Equal(UDP(w.Payload()).Payload(), payload) || UDP(w.Payload()).SrcPort() != sp || UDP(w.Payload()).DstPort() != dp {
			t.Fatalf("fields of %x", want)
		}

		buf.Clear()
		class, label := byte(rng.Uint32()), rng.Uint32()&0xfffff
		ip6 := &layers.IPv6{Version: 6, TrafficClass: class, FlowLabel: label, NextHeader: 6, HopLimit: ttl, SrcIP: host1[:], DstIP: host2[:]}
		tc := &layers.TCP{SrcPort: layers.TCPPort(sp), DstPort: layers.TCPPort(dp), Seq: 7, Ack: 9, SYN: true, Window: 5}
		tc.SetNetworkLayerForChecksum(ip6)
		if err := gopacket.SerializeLayers(buf, opts, ip6, tc, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		want = buf.Bytes()
		got = bytes.Clone(want)
		clear(got[:IPv6Len])
		h6 := IPv6(got)
		h6.Set(host1, host2, 6, ttl, 0, len(want)-IPv6Len)
		h6.SetTrafficClass(class)
		h6.SetFlowLabel(label)
		be.PutUint16(got[IPv6Len+16:], 0xdead)
		TCP(got[IPv6Len:]).SetChecksum(Pseudo6(host1, host2, 6, len(want)-IPv6Len))
		if !bytes.Equal(got, want) || h6.TrafficClass() != class || h6.FlowLabel() != label || h6.HopLimit() != ttl || h6.SrcAddr() != netip.AddrFrom16(host1) {
			t.Fatalf("ours %x\nwant %x", got, want)
		}
		if s := TCP(want[IPv6Len:]); s.Seq() != 7 || s.Ack() != 9 || s.Flags() != TCPSyn || s.SrcPort() != sp || s.DstPort() != dp || s.HeaderLen() != 20 {
			t.Fatalf("TCP fields of %x", want)
		}
	}
}

func TestUDPChecksumZero(t *testing.T) {
	// Data chosen so that the sum comes out as all ones: 0 is sent as 0xffff.
	b := udp(2)
	UDP(b).SetChecksum(0)
	be.PutUint16(b[8:], UDP(b).Checksum())
	UDP(b).SetChecksum(0)
	if c := UDP(b).Checksum(); c != 0xffff {
		t.Errorf("checksum %04x", c)
	}
}

func TestESP(t *testing.T) {
	b := make([]byte, ESPLen)
	ESP(b).Set(0x11223344, 0x55667788)
	if !bytes.Equal(b, []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}) || ESP(b).SPI() != 0x11223344 || ESP(b).Seq() != 0x55667788 {
		t.Errorf("%x", b)
	}
}

func TestAddresses(t *testing.T) {
	a := netip.MustParseAddr("2001:db8::1:2aff:feab:cdef").As16()
	if g := netip.AddrFrom16(SolicitedNode(a)).String(); g != "ff02::1:ffab:cdef" {
		t.Error(g)
	}
	if g := MulticastMAC6(SolicitedNode(a)).String(); g != "33:33:ff:ab:cd:ef" {
		t.Error(g)
	}
	// RFC 4291 appendix A: the universal bit is inverted.
	if g := netip.AddrFrom16(LinkLocal6(MAC{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde})).String(); g != "fe80::3656:78ff:fe9a:bcde" {
		t.Error(g)
	}
	if !Broadcast.IsMulticast() || Broadcast.IsUnicast() || (MAC{}).IsUnicast() || !(MAC{2, 0, 0, 0, 0, 1}).IsUnicast() {
		t.Error("kinds of MAC addresses")
	}
}

func TestARP(t *testing.T) {
	buf := make([]byte, 64)
	me, peer := MAC{2, 0, 0, 0, 0, 1}, MAC{2, 0, 0, 0, 0, 2}
	n := ARPRequest(buf, Broadcast, peer, [4]byte{10, 0, 0, 2}, [4]byte{10, 0, 0, 1})
	// ffffffffffff 020000000002 0806 | 0001 0800 06 04 0001 | sender | target
	want := hx(t, "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a000002 000000000000 0a000001")
	if !bytes.Equal(buf[:n], want) {
		t.Fatalf("request %x\nwant    %x", buf[:n], want)
	}
	// The reply may be written over the request.
	n = ARPReply(buf, ARP(buf[EthernetLen:n]), me)
	want = hx(t, "020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a000001 020000000002 0a000002")
	if !bytes.Equal(buf[:n], want) {
		t.Fatalf("reply %x\nwant  %x", buf[:n], want)
	}
	if ARPReply(make([]byte, 64), ARP(buf[EthernetLen:n]), me) != 0 {
		t.Error("a reply was answered")
	}
	if ARPRequest(buf[:41], Broadcast, me, [4]byte{}, [4]byte{}) != 0 || ARPReply(buf[:41], ARP(want[EthernetLen:]), me) != 0 {
		t.Error("wrote into a short buffer")
	}
	for i, c := range []byte{1, 0x10, 1, 1, 1, 1, 1, 4} { // one change in each of the fixed bytes
		b := bytes.Clone(want[EthernetLen:])
		b[i] ^= c
		if ARP(b).Valid() {
			t.Errorf("valid with byte %d changed: %x", i, b[:8])
		}
	}
	group := bytes.Clone(want[EthernetLen:])
	group[8] |= 1
	if ARP(group).Valid() {
		t.Error("valid from a group address")
	}
}

// decode parses with gopacket and fails on an error layer.
func decode(t *testing.T, b []byte, first gopacket.Decoder) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, first, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket on %x: %v", b, e.Error())
	}
	return p
}

func TestICMPv4Error(t *testing.T) {
	for _, size := range []int{0, 4, 100, 519, 520, 521, 1400} {
		orig := v4(ProtoUDP, nil, udp(size))
		padded := append(bytes.Clone(orig), 1, 2, 3) // Ethernet padding is not quoted
		buf := make([]byte, 600)
		router := [4]byte{203, 0, 113, 9}
		n := ICMPv4Error(buf, router, ICMPv4Unreachable, ICMPv4FragNeeded, 1280, padded)
		wantLen := min(28+len(orig), 576)
		if n != wantLen {
			t.Fatalf("%d bytes for an original of %d, want %d", n, len(orig), wantLen)
		}
		o, p := ParseIP(buf[:n])
		h := IPv4(buf[:n])
		if p != OK || o.Proto != ProtoICMP || h.Src() != router || h.Dst() != [4]byte{192, 0, 2, 1} || h.TOS() != 0xc0 {
			t.Fatalf("%v %+v", p, o)
		}
		m := ICMP(h.Payload())
		if Checksum(m) != 0 || m.Rest() != 1280 || !bytes.Equal(m.Body(), orig[:n-28]) {
			t.Fatalf("message %x", m)
		}
		l := decode(t, buf[:n], layers.LayerTypeIPv4).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if l.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || l.Seq != 1280 {
			t.Fatalf("gopacket reads %v", l.TypeCode)
		}
		if ICMPv4Error(buf[:n-1], router, 3, 4, 0, orig) != 0 {
			t.Error("wrote into a short buffer")
		}
	}
}

func TestMayErrorV4(t *testing.T) {
	icmp := func(typ byte) []byte { return []byte{typ, 0, 0, 0, 0, 0, 0, 0} }
	for _, c := range []struct {
		name string
		p    []byte
		want bool
	}{
		{"UDP", v4(17, nil, udp(0)), true},
		{"echo request", v4(1, nil, icmp(8)), true},
		{"unreachable", v4(1, nil, icmp(3)), false},
		{"time exceeded", v4(1, nil, icmp(11)), false},
		{"redirect", v4(1, nil, icmp(5)), false},
		{"unknown ICMP type", v4(1, nil, icmp(200)), false},
		{"first fragment", v4(17, func(h IPv4) { h.SetFrag(false, true, 0) }, udp(8)), true},
		{"later fragment", v4(17, func(h IPv4) { h.SetFrag(false, false, 8) }, udp(8)), false},
		{"to a group", v4(17, func(h IPv4) { h.SetDst([4]byte{224, 0, 0, 5}) }, udp(0)), false},
		{"to everybody", v4(17, func(h IPv4) { h.SetDst([4]byte{255, 255, 255, 255}) }, udp(0)), false},
		{"from nobody", v4(17, func(h IPv4) { h.SetSrc([4]byte{}) }, udp(0)), false},
		{"from loopback", v4(17, func(h IPv4) { h.SetSrc([4]byte{127, 0, 0, 1}) }, udp(0)), false},
		{"from a group", v4(17, func(h IPv4) { h.SetSrc([4]byte{239, 1, 2, 3}) }, udp(0)), false},
	} {
		o, p := ParseIP(c.p)
		if p != OK {
			t.Fatal(c.name, p)
		}
		if got := MayErrorV4(&o, c.p); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestEchoReplyV4(t *testing.T) {
	msg := make([]byte, 40)
	for i := range msg {
		msg[i] = byte(i)
	}
	ICMP(msg).Set(ICMPv4Echo, 0, 0x12340007, 0)
	req := v4(ProtoICMP, func(h IPv4) { h.SetTTL(3) }, msg)
	rep := bytes.Clone(req)
	o, _ := ParseIP(rep)
	if !EchoReplyV4(&o, rep) {
		t.Fatal("refused")
	}
	h := IPv4(rep)
	m := ICMP(h.Payload())
	if !h.ChecksumOK() || h.Src() != IPv4(req).Dst() || h.Dst() != IPv4(req).Src() || h.TTL() != 64 || m.Type() != ICMPv4EchoReply ||
		Checksum(m) != 0 || m.ID() != 0x1234 || m.Seq() != 7 || !bytes.Equal(m.Body(), msg[8:]) {
		t.Fatalf("reply %x", rep)
	}
	bad := [][]byte{rep, v4(17, nil, udp(0)), v4(ProtoICMP, func(h IPv4) { h.SetFrag(false, true, 0) }, msg)}
	broken := bytes.Clone(req)
	broken[30] ^= 1
	multi := v4(ProtoICMP, func(h IPv4) { h.SetSrc([4]byte{224, 0, 0, 1}) }, msg)
	for _, b := range append(bad, broken, multi) {
		c := bytes.Clone(b)
		o, _ := ParseIP(c)
		if EchoReplyV4(&o, c) || !bytes.Equal(b, c) {
			t.Errorf("answered or changed %x", b)
		}
	}
}

func TestICMPv6(t *testing.T) {
	for _, size := range []int{0, 1183, 1184, 1185, 3000} {
		orig := v6(17, udp(size))
		padded := append(bytes.Clone(orig), 9, 9)
		buf := make([]byte, 1300)
		n := ICMPv6Error(buf, host2, ICMPv6TooBig, 0, 1400, padded)
		if want := min(48+len(orig), 1280); n != want {
			t.Fatalf("%d bytes, want %d", n, want)
		}
		pk := decode(t, buf[:n], layers.LayerTypeIPv6)
		l := pk.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if l.TypeCode != layers.CreateICMPv6TypeCode(2, 0) {
			t.Fatal(l.TypeCode)
		}
		h := IPv6(buf[:n])
		m := ICMP(h.Payload())
		if Pseudo6(host2, host1, ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff || h.Dst() != host1 || m.Rest() != 1400 || !bytes.Equal(m.Body(), orig[:n-48]) {
			t.Fatalf("message %x", buf[:n])
		}
		if ICMPv6Error(buf[:n-1], host2, 2, 0, 0, orig) != 0 {
			t.Error("wrote into a short buffer")
		}
	}

	msg := make([]byte, 30)
	ICMP(msg).Set(ICMPv6Echo, 0, 0x00050006, Pseudo6(host1, host2, ProtoICMPv6, len(msg)))
	req := v6(ProtoICMPv6, msg)
	rep := bytes.Clone(req)
	o, _ := ParseIP(rep)
	other := [16]byte{0: 0x20, 1: 1, 15: 0x77}
	if !EchoReplyV6(&o, rep, other) {
		t.Fatal("refused")
	}
	m := ICMP(IPv6(rep).Payload())
	if Pseudo6(other, host1, ProtoICMPv6, len(m)).Add(m).Fold() != 0xffff || IPv6(rep).Src() != other || IPv6(rep).Dst() != host1 || m.Type() != ICMPv6EchoReply || m.Rest() != 0x00050006 {
		t.Fatalf("reply %x", rep)
	}
	if EchoReplyV6(&o, bytes.Clone(rep), other) {
		t.Error("answered a reply")
	}
	req[45] ^= 1
	if EchoReplyV6(&o, req, other) {
		t.Error("answered a damaged request")
	}
}

func TestMayErrorV6(t *testing.T) {
	icmp := func(typ byte) []byte { return []byte{typ, 0, 0, 0, 0, 0, 0, 0} }
	with := func(p []byte, f func(IPv6)) []byte { f(p); return p }
	for _, c := range []struct {
		name      string
		p         []byte
		want, big bool
	}{
		{"UDP", v6(17, udp(0)), true, true},
		{"echo", v6(58, icmp(128)), true, true},
		{"error", v6(58, icmp(1)), false, false},
		{"unknown error", v6(58, icmp(127)), false, false},
		{"redirect", v6(58, icmp(137)), false, false},
		{"to a group", with(v6(17, udp(0)), func(h IPv6) { h[24] = 0xff }), false, true},
		{"from a group", with(v6(17, udp(0)), func(h IPv6) { h[8] = 0xff }), false, false},
		{"from nobody", with(v6(17, udp(0)), func(h IPv6) { h.SetSrc([16]byte{}) }), false, false},
		{"later fragment", v6(ProtoFragment, []byte{17, 0, 0, 8, 0, 0, 0, 1}, udp(0)), false, false},
	} {
		o, p := ParseIP(c.p)
		if p != OK {
			t.Fatal(c.name, p)
		}
		if got, big := MayErrorV6(&o, c.p, false), MayErrorV6(&o, c.p, true); got != c.want || big != c.big {
			t.Errorf("%s: %v %v", c.name, got, big)
		}
	}
}

func TestNeighborDiscovery(t *testing.T) {
	me, peer := MAC{2, 0, 0, 0, 0, 1}, MAC{2, 0, 0, 0, 0, 2}
	buf := make([]byte, 128)

	n := NeighborSolicitation(buf, nil, peer, host2, host1)
	pk := decode(t, buf[:n], layers.LayerTypeEthernet)
	l := pk.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if !l.TargetAddress.Equal(host1[:]) || len(l.Options) != 1 || l.Options[0].Type != layers.ICMPv6OptSourceAddress || !bytes.Equal(l.Options[0].Data, peer[:]) {
		t.Fatalf("%+v", l)
	}
	if Ethernet(buf).Dst() != (MAC{0x33, 0x33, 0xff, 0, 0, 1}) {
		t.Error("destination", Ethernet(buf).Dst())
	}
	o, p := Parse(buf[:n])
	sol, ok := ParseND(buf[:n], &o)
	if p != OK || !ok || sol.Target != host1 || sol.Src != host2 || !sol.HasLink || sol.LinkAddr != peer || sol.DAD() {
		t.Fatalf("%v %v %+v", p, ok, sol)
	}

	n = NeighborAdvertisement(buf, &sol, sol.Target, peer, me, NDRouter)
	pk = decode(t, buf[:n], layers.LayerTypeEthernet)
	a := pk.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !a.TargetAddress.Equal(host1[:]) || !a.Solicited() || !a.Override() || !a.Router() || a.Options[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(a.Options[0].Data, me[:]) {
		t.Fatalf("%+v", a)
	}
	o, _ = Parse(buf[:n])
	adv, ok := ParseND(buf[:n], &o)
	if !ok || adv.Type != ICMPv6NeighborAdv || adv.LinkAddr != me || adv.Flags != NDRouter|NDSolicited|NDOverride || adv.Dst != host2 || Ethernet(buf).Dst() != peer {
		t.Fatalf("%v %+v", ok, adv)
	}
	if NeighborAdvertisement(buf, &adv, adv.Target, peer, me, 0) != 0 {
		t.Error("answered an advertisement")
	}

	// A check for a duplicate is answered to everybody, not as solicited.
	n = NeighborSolicitation(buf, nil, peer, [16]byte{}, host1)
	o, _ = Parse(buf[:n])
	sol, ok = ParseND(buf[:n], &o)
	if !ok || !sol.DAD() || sol.HasLink || n != 14+40+24 {
		t.Fatalf("%d %v %+v", n, ok, sol)
	}
	n = NeighborAdvertisement(buf, &sol, sol.Target, MAC{}, me, 0)
	o, _ = Parse(buf[:n])
	adv, ok = ParseND(buf[:n], &o)
	if !ok || adv.Dst != allNodes || adv.Flags != NDOverride || Ethernet(buf).Dst() != (MAC{0x33, 0x33, 0, 0, 0, 1}) {
		t.Fatalf("%v %+v", ok, adv)
	}

	// A probe of a known neighbour goes to it alone.
	n = NeighborSolicitation(buf, &peer, me, host1, host2)
	o, _ = Parse(buf[:n])
	if sol, ok = ParseND(buf[:n], &o); !ok || sol.Dst != host2 || Ethernet(buf).Dst() != peer {
		t.Fatalf("%v %+v", ok, sol)
	}
	n = NeighborAnnouncement(buf, me, host1, 0)
	o, _ = Parse(buf[:n])
	if adv, ok = ParseND(buf[:n], &o); !ok || adv.Dst != allNodes || adv.Src != host1 || adv.Flags != NDOverride {
		t.Fatalf("%v %+v", ok, adv)
	}
	if NeighborSolicitation(buf[:85], nil, me, host1, host2) != 0 {
		t.Error("wrote into a short buffer")
	}
}

// Each rule of RFC 4861 sections 7.1.1 and 7.1.2, broken one at a time.
func TestParseNDRefuses(t *testing.T) {
	buf := make([]byte, 128)
	make1 := func(adv bool) []byte {
		n := NeighborSolicitation(buf, nil, MAC{2, 9}, host2, host1)
		if adv {
			n = NeighborAnnouncement(buf, MAC{2, 9}, host1, 0)
		}
		return bytes.Clone(buf[:n])
	}
	fix := func(b []byte) []byte {
		ip := IPv6(b[14:])
		m := ICMP(b[54:])
		be.PutUint16(m[2:], 0)
		binary.BigEndian.PutUint16(m[2:], Pseudo6(ip.Src(), ip.Dst(), ProtoICMPv6, len(m)).Add(m).Checksum())
		return b
	}
	try := func(name string, adv bool, breakIt func(b []byte) []byte, repair, want bool) {
		t.Helper()
		b := breakIt(make1(adv))
		if repair {
			fix(b)
		}
		o, p := Parse(b)
		if _, ok := ParseND(b, &o); p == OK && ok != want {
			t.Errorf("%s: %v", name, ok)
		} else if p != OK && want {
			t.Errorf("%s: %v", name, p)
		}
	}
	set := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] = v; return b }
	}
	try("intact", false, func(b []byte) []byte { return b }, false, true)
	try("hop limit", false, set(21, 254), true, false)
	try("checksum", false, set(80, 1), false, false)
	try("code", false, set(55, 1), true, false)
	try("target is a group", false, set(62, 0xff), true, false)
	try("source is a group", false, set(22, 0xff), true, false)
	try("option of length 0", false, set(79, 0), true, false)
	try("option too long", false, set(79, 2), true, false)
	try("other option is skipped", false, set(78, 14), true, true)
	try("link address is a group", false, set(80, 3), true, false)
	try("other ICMPv6 type", false, set(54, 133), true, false)
	try("too short", false, func(b []byte) []byte { b = b[:77]; IPv6(b[14:]).SetPayloadLen(23); return b }, true, false)
	try("duplicate check with an option", false, func(b []byte) []byte { IPv6(b[14:]).SetSrc([16]byte{}); return b }, true, false)
	try("duplicate check to one node", false, func(b []byte) []byte {
		b = b[:78]
		IPv6(b[14:]).SetPayloadLen(24)
		IPv6(b[14:]).SetSrc([16]byte{})
		IPv6(b[14:]).SetDst(host1)
		return b
	}, true, false)
	try("advertisement", true, func(b []byte) []byte { return b }, false, true)
	try("solicited advertisement to a group", true, set(58, NDSolicited), true, false)
}
