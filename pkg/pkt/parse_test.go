package pkt

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// hx reads hex with blanks.
func hx(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// frame is Ethernet around an IP packet.
func frame(typ uint16, parts ...[]byte) []byte {
	b := make([]byte, EthernetLen)
	Ethernet(b).Set(MAC{2, 0, 0, 0, 0, 1}, MAC{2, 0, 0, 0, 0, 2}, typ)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// v4 is an IPv4 packet with the header's checksum right.
func v4(proto uint8, change func(IPv4), payload []byte) []byte {
	b := append(make([]byte, IPv4Len), payload...)
	h := IPv4(b)
	h.Set([4]byte{192, 0, 2, 1}, [4]byte{198, 51, 100, 7}, proto, 64, 0, len(b))
	if change != nil {
		change(h)
		if hl := h.HeaderLen(); hl >= IPv4Len && hl <= len(b) {
			h.SetChecksum()
		}
	}
	return b
}

var (
	host1 = [16]byte{0: 0x20, 1: 1, 2: 0xd, 3: 0xb8, 15: 1}
	host2 = [16]byte{0: 0x20, 1: 1, 2: 0xd, 3: 0xb8, 15: 2}
)

func v6(next uint8, payload ...[]byte) []byte {
	all := bytes.Join(payload, nil)
	b := append(make([]byte, IPv6Len), all...)
	IPv6(b).Set(host1, host2, next, 64, 0, len(all))
	return b
}

func udp(n int) []byte {
	b := make([]byte, UDPLen+n)
	UDP(b).Set(1000, 2000, len(b))
	return b
}

func tcp(n int) []byte {
	b := make([]byte, TCPLen+n)
	b[12] = 5 << 4
	return b
}

// options gives an IPv4 packet options.
func options(opts []byte, payload []byte) []byte {
	return v4(ProtoUDP, func(h IPv4) { h[0] = 0x40 | byte(5+len(opts)/4) }, append(bytes.Clone(opts), payload...))
}

func TestParse(t *testing.T) {
	tag := func(tpid, vid, typ uint16) []byte {
		b := make([]byte, 4)
		VLAN(b).Set(vid, 3, true, typ)
		return append([]byte{byte(tpid >> 8), byte(tpid)}, b...)
	}
	eth := frame(0)[:12]
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	arp := make([]byte, ARPLen)
	ARP(arp).Set(ARPRequestOp, MAC{2, 0, 0, 0, 0, 9}, [4]byte{10, 0, 0, 1}, MAC{}, [4]byte{10, 0, 0, 2})
	hbhAlert := []byte{ProtoUDP, 0, 5, 2, 0, 0, 1, 0}
	frag := func(next uint8, off uint16, more byte) []byte {
		return []byte{next, 0, byte(off >> 8), byte(off)&^7 | more, 0, 0, 0, 1}
	}
	ext := func(next uint8, units int) []byte {
		b := make([]byte, 8*(units+1))
		b[0], b[1], b[2], b[3] = next, byte(units), 1, byte(8*units+4) // PadN over the rest
		return b
	}

	for _, c := range []struct {
		name  string
		frame []byte
		want  Problem
		l3    uint16
		l4    uint16
		end   uint16
		proto uint8
		flags Flag
	}{
		{"empty", nil, ShortFrame, 0, 0, 0, 0, 0},
		{"thirteen bytes", make([]byte, 13), ShortFrame, 0, 0, 0, 0, 0},
		{"too long", make([]byte, 65536), LongFrame, 0, 0, 0, 0, 0},
		{"unknown type", frame(0x88cc, udp(3)), OK, 14, 0, 0, 0, 0},
		{"type only", frame(0x88cc), OK, 14, 0, 0, 0, 0},
		{"UDP", frame(TypeIPv4, v4(ProtoUDP, nil, udp(5))), OK, 14, 34, 47, ProtoUDP, 0},
		{"UDP, padded frame", frame(TypeIPv4, v4(ProtoUDP, nil, udp(5)), make([]byte, 13)), OK, 14, 34, 47, ProtoUDP, 0},
		{"one tag", cat(eth, tag(TypeVLAN, 7, TypeIPv4), v4(ProtoTCP, nil, tcp(0))), OK, 18, 38, 58, ProtoTCP, 0},
		{"two tags", cat(eth, tag(TypeQinQ, 7, TypeVLAN)[:4], tag(TypeVLAN, 8, TypeIPv6), v6(ProtoUDP, udp(0))), OK, 22, 62, 70, ProtoUDP, 0},
		{"three tags", cat(eth, tag(TypeQinQ, 7, TypeVLAN)[:4], tag(TypeVLAN, 8, TypeVLAN)[:4], tag(TypeVLAN, 9, TypeIPv4), v4(17, nil, udp(0))), TooManyTags, 22, 0, 0, 0, 0},
		{"tag cut off", cat(eth, tag(TypeVLAN, 7, TypeIPv4)[:5]), ShortFrame, 14, 0, 0, 0, 0},
		{"ARP", frame(TypeARP, arp, make([]byte, 18)), OK, 14, 0, 42, 0, 0},
		{"ARP cut off", frame(TypeARP, arp[:27]), BadARP, 14, 0, 0, 0, 0},
		{"ARP of another kind", frame(TypeARP, cat([]byte{0, 6}, arp[2:])), BadARP, 14, 0, 0, 0, 0},

		{"no IPv4 header", frame(TypeIPv4), ShortIP, 14, 0, 0, 0, 0},
		{"IPv4 header cut off", frame(TypeIPv4, v4(17, nil, udp(0))[:19]), ShortIP, 14, 0, 0, 0, 0},
		{"version 6 in IPv4", frame(TypeIPv4, v4(17, func(h IPv4) { h[0] = 0x65 }, udp(0))), BadVersion, 14, 0, 0, 0, 0},
		{"header length 4", frame(TypeIPv4, v4(17, func(h IPv4) { h[0] = 0x44 }, udp(0))), BadHeaderLen, 14, 0, 0, 0, 0},
		{"header longer than packet", frame(TypeIPv4, v4(17, func(h IPv4) { h[0] = 0x4f }, udp(0))), BadHeaderLen, 14, 0, 0, 0, 0},
		{"total length short", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetTotalLen(19) }, udp(0))), BadTotalLen, 14, 0, 0, 0, 0},
		{"total length long", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetTotalLen(29) }, udp(0))), BadTotalLen, 14, 0, 0, 0, 0},
		{"checksum", frame(TypeIPv4, func() []byte { b := v4(17, nil, udp(0)); b[10] ^= 1; return b }()), BadHeaderChecksum, 14, 34, 42, 17, 0},
		{"router alert", frame(TypeIPv4, options([]byte{148, 4, 0, 0}, udp(0))), OK, 14, 38, 46, 17, HasOptions | RouterAlert},
		{"loose source route", frame(TypeIPv4, options([]byte{1, 131, 3, 4, 0, 0, 0, 0}, udp(0))), OK, 14, 42, 50, 17, HasOptions | SourceRoute},
		{"option cut off", frame(TypeIPv4, options([]byte{1, 1, 1, 7}, udp(0))), BadOptions, 14, 38, 46, 17, HasOptions},
		{"option of length 1", frame(TypeIPv4, options([]byte{7, 1, 0, 0}, udp(0))), BadOptions, 14, 38, 46, 17, HasOptions},
		{"option too long", frame(TypeIPv4, options([]byte{7, 5, 0, 0}, udp(0))), BadOptions, 14, 38, 46, 17, HasOptions},
		{"first fragment", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetFrag(false, true, 0) }, func() []byte { b := udp(8); UDP(b).Set(1, 2, 4000); return b }())), OK, 14, 34, 50, 17, FirstFragment},
		{"later fragment", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetFrag(false, false, 16) }, []byte{1, 2, 3})), OK, 14, 34, 37, 17, LaterFragment},
		{"middle fragment, odd length", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetFrag(false, true, 16) }, []byte{1, 2, 3})), BadFragment, 14, 34, 37, 17, 0},
		{"fragment beyond 65535", frame(TypeIPv4, v4(17, func(h IPv4) { h.SetFrag(false, false, 65528) }, make([]byte, 8))), BadFragment, 14, 34, 42, 17, 0},
		{"tiny first fragment", frame(TypeIPv4, v4(ProtoTCP, func(h IPv4) { h.SetFrag(false, true, 0) }, tcp(0)[:8])), ShortL4, 14, 34, 42, 6, FirstFragment},
		{"UDP header cut off", frame(TypeIPv4, v4(17, nil, udp(0)[:7])), ShortL4, 14, 34, 41, 17, 0},
		{"UDP length 7", frame(TypeIPv4, v4(17, nil, func() []byte { b := udp(0); UDP(b).Set(1, 2, 7); return b }())), BadL4Len, 14, 34, 42, 17, 0},
		{"UDP longer than packet", frame(TypeIPv4, v4(17, nil, func() []byte { b := udp(0); UDP(b).Set(1, 2, 9); return b }())), BadL4Len, 14, 34, 42, 17, 0},
		{"TCP offset 4", frame(TypeIPv4, v4(6, nil, func() []byte { b := tcp(0); b[12] = 0x40; return b }())), BadL4Len, 14, 34, 54, 6, 0},
		{"TCP options cut off", frame(TypeIPv4, v4(6, nil, func() []byte { b := tcp(0); b[12] = 0x60; return b }())), BadL4Len, 14, 34, 54, 6, 0},
		{"ESP", frame(TypeIPv4, v4(ProtoESP, nil, make([]byte, 8))), OK, 14, 34, 42, ProtoESP, 0},
		{"unknown protocol without data", frame(TypeIPv4, v4(200, nil, nil)), OK, 14, 34, 34, 200, 0},

		{"IPv6 header cut off", frame(TypeIPv6, v6(17, udp(0))[:39]), ShortIP, 14, 0, 0, 0, 0},
		{"version 4 in IPv6", frame(TypeIPv6, func() []byte { b := v6(17, udp(0)); b[0] = 0x40; return b }()), BadVersion, 14, 0, 0, 0, 0},
		{"payload length long", frame(TypeIPv6, func() []byte { b := v6(17, udp(0)); b[5]++; return b }()), BadTotalLen, 14, 0, 0, 0, 0},
		{"IPv6 UDP, padded", frame(TypeIPv6, v6(17, udp(1)), []byte{9}), OK, 14, 54, 63, 17, 0},
		{"hop-by-hop with router alert", frame(TypeIPv6, v6(ProtoHopByHop, hbhAlert, udp(0))), OK, 14, 62, 70, 17, HasOptions | RouterAlert},
		{"hop-by-hop not first", frame(TypeIPv6, v6(ProtoDestOpts, ext(ProtoHopByHop, 0), hbhAlert, udp(0))), BadExtension, 14, 62, 78, 0, HasOptions},
		{"hop-by-hop option cut off", frame(TypeIPv6, v6(ProtoHopByHop, []byte{17, 0, 5, 9, 0, 0, 0, 0}, udp(0))), BadExtension, 14, 54, 70, 0, HasOptions},
		{"hop-by-hop option to drop", frame(TypeIPv6, v6(ProtoHopByHop, []byte{17, 0, 0x4e, 4, 0, 0, 0, 0}, udp(0))), OK, 14, 62, 70, 17, HasOptions | UnknownOption},
		{"hop-by-hop option to skip", frame(TypeIPv6, v6(ProtoHopByHop, []byte{17, 0, 0, 0x1e, 3, 0, 0, 0}, udp(0))), OK, 14, 62, 70, 17, HasOptions},
		{"routing header", frame(TypeIPv6, v6(ProtoRouting, ext(6, 2), tcp(0))), OK, 14, 78, 98, 6, HasOptions | SourceRoute},
		{"extension cut off", frame(TypeIPv6, v6(ProtoDestOpts, ext(17, 3)[:16])), BadExtension, 14, 54, 70, ProtoDestOpts, 0},
		{"eight extensions", frame(TypeIPv6, v6(ProtoDestOpts, ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(17, 0), udp(0))), OK, 14, 118, 126, 17, HasOptions},
		{"nine extensions", frame(TypeIPv6, v6(ProtoDestOpts, ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(17, 0), udp(0))), BadExtension, 14, 118, 134, 60, HasOptions},
		{"atomic fragment", frame(TypeIPv6, v6(ProtoFragment, frag(17, 0, 0), udp(0))), OK, 14, 62, 70, 17, HasOptions},
		{"IPv6 first fragment", frame(TypeIPv6, v6(ProtoFragment, frag(17, 0, 1), udp(0))), OK, 14, 62, 70, 17, HasOptions | FirstFragment},
		{"IPv6 first fragment without the chain", frame(TypeIPv6, v6(ProtoFragment, frag(ProtoDestOpts, 0, 1))), BadFragment, 14, 54, 62, ProtoFragment, HasOptions},
		{"IPv6 first fragment, transport cut off", frame(TypeIPv6, v6(ProtoFragment, frag(6, 0, 1), tcp(0)[:8])), ShortL4, 14, 62, 70, 6, HasOptions | FirstFragment},
		{"IPv6 later fragment", frame(TypeIPv6, v6(ProtoFragment, frag(17, 8, 0), []byte{1})), OK, 14, 62, 63, 17, HasOptions | LaterFragment},
		{"IPv6 fragment header cut off", frame(TypeIPv6, v6(ProtoFragment, frag(17, 8, 0)[:7])), BadExtension, 14, 54, 61, ProtoFragment, 0},
		{"no next header", frame(TypeIPv6, v6(ProtoNone)), OK, 14, 54, 54, ProtoNone, 0},
		{"IPv6 ICMP cut off", frame(TypeIPv6, v6(ProtoICMPv6, make([]byte, 7))), ShortL4, 14, 54, 61, ProtoICMPv6, 0},
		{"authentication header ends the walk", frame(TypeIPv6, v6(ProtoAH, make([]byte, 12))), OK, 14, 54, 66, ProtoAH, 0},
	} {
		o, p := Parse(c.frame)
		if p != c.want || o.L3 != c.l3 || o.L4 != c.l4 || o.End != c.end || o.Proto != c.proto || o.Flags != c.flags {
			t.Errorf("%s: %v %+v, want %v l3 %d l4 %d end %d proto %d flags %b", c.name, p, o, c.want, c.l3, c.l4, c.end, c.proto, c.flags)
		}
		// The same packet without its Ethernet header.
		if (o.Type == TypeIPv4 || o.Type == TypeIPv6) && c.l3 == EthernetLen && c.want != BadVersion && len(c.frame) > EthernetLen {
			q, p := ParseIP(c.frame[EthernetLen:])
			if p != c.want || q.Proto != o.Proto || q.Flags != o.Flags || o.L4 != 0 && (q.L4 != o.L4-EthernetLen || q.End != o.End-EthernetLen) {
				t.Errorf("%s: ParseIP %v %+v", c.name, p, q)
			}
		}
	}
	if o, _ := Parse(cat(eth, tag(TypeQinQ, 7, TypeVLAN)[:4], tag(TypeVLAN, 8, TypeIPv6), v6(17, udp(0)))); o.Tags != 2 || o.VID != [2]uint16{7, 8} {
		t.Errorf("tags %+v", o)
	}
	for _, b := range [][]byte{nil, {0}, {0x55}, make([]byte, 70000)} {
		if _, p := ParseIP(b); p == OK {
			t.Errorf("ParseIP accepted %d bytes", len(b))
		}
	}
}

func TestProblemNames(t *testing.T) {
	seen := map[string]bool{}
	for p := OK; p < problems; p++ {
		if p.String() == "" || seen[p.String()] {
			t.Errorf("problem %d: %q", p, p)
		}
		seen[p.String()] = true
	}
	if Problem(200).Error() == "" {
		t.Error("unknown problem")
	}
}

// gopacket's decoder agrees about where the transport begins and what it is,
// for whatever Parse finds nothing wrong with.
func agree(tb testing.TB, b []byte) {
	o, p := Parse(b)
	if p != OK || o.Type != TypeIPv4 && o.Type != TypeIPv6 || o.Flags&(FirstFragment|LaterFragment) != 0 {
		return
	}
	pk := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if o.Type == TypeIPv4 {
		l, ok := pk.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if !ok {
			return // gopacket also judges what lies inside options
		}
		if off := len(b[o.L3:]) - len(b[o.L4:]); int(l.IHL)*4 != off || uint8(l.Protocol) != o.Proto || int(l.Length) != int(o.End-o.L3) {
			tb.Fatalf("IPv4: header %d protocol %d length %d, Parse has %+v", l.IHL, l.Protocol, l.Length, o)
		}
	}
	if l, ok := pk.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && o.Proto == ProtoUDP && o.Flags == 0 {
		u := UDP(b[o.L4:o.End])
		if uint16(l.SrcPort) != u.SrcPort() || uint16(l.DstPort) != u.DstPort() {
			tb.Fatalf("UDP ports %d %d, ours %d %d", l.SrcPort, l.DstPort, u.SrcPort(), u.DstPort())
		}
	}
	if l, ok := pk.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && o.Proto == ProtoTCP && o.Flags == 0 {
		h := TCP(b[o.L4:o.End])
		if uint16(l.SrcPort) != h.SrcPort() || l.Seq != h.Seq() || l.Ack != h.Ack() || int(l.DataOffset)*4 != h.HeaderLen() ||
			l.SYN != (h.Flags()&TCPSyn != 0) || l.FIN != (h.Flags()&TCPFin != 0) || l.CWR != (h.Flags()&TCPCwr != 0) {
			tb.Fatalf("TCP %+v", l)
		}
	}
}

// Random damage to good frames: no panic, and every offset lies in order
// inside the frame.
func TestParseDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	good := [][]byte{
		frame(TypeIPv4, v4(ProtoUDP, nil, udp(5))), frame(TypeIPv4, v4(ProtoTCP, nil, tcp(9))),
		frame(TypeIPv4, options([]byte{148, 4, 0, 0, 7, 3, 4, 0}, udp(0))),
		frame(TypeIPv6, v6(ProtoHopByHop, []byte{ProtoFragment, 0, 5, 2, 0, 0, 1, 0}, []byte{17, 0, 0, 0, 0, 0, 0, 1}, udp(4))),
	}
	for range 200_000 {
		b := bytes.Clone(good[rng.IntN(len(good))])
		for range rng.IntN(4) {
			b[12+rng.IntN(len(b)-12)] = byte(rng.Uint32())
		}
		b = b[:len(b)-rng.IntN(len(b))*rng.IntN(2)]
		if len(b) >= 34 && rng.IntN(2) == 0 && b[14]>>4 == 4 {
			if hl := IPv4(b[14:]).HeaderLen(); hl >= 20 && 14+hl <= len(b) {
				IPv4(b[14:]).SetChecksum()
			}
		}
		inOrder(t, b)
		agree(t, b)
	}
}

func inOrder(tb testing.TB, b []byte) {
	o, p := Parse(b)
	if int(o.L3) > len(b) || int(o.End) > len(b) || o.L4 != 0 && (o.L4 < o.L3 || o.L4 > o.End) {
		tb.Fatalf("%x: %v %+v", b, p, o)
	}
	if p == OK {
		ip := b[o.L3:]
		switch o.Type {
		case TypeIPv4:
			MayErrorV4(&o, ip)
			EchoReplyV4(&o, bytes.Clone(ip))
		case TypeIPv6:
			MayErrorV6(&o, ip, false)
			EchoReplyV6(&o, bytes.Clone(ip), host2)
			ParseND(b, &o)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(frame(TypeIPv4, v4(ProtoUDP, nil, udp(5))))
	f.Add(frame(TypeIPv4, options([]byte{148, 4, 0, 0, 7, 3, 4, 0}, udp(0))))
	f.Add(frame(TypeIPv4, v4(ProtoICMP, nil, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})))
	f.Add(frame(TypeIPv6, v6(ProtoHopByHop, []byte{ProtoFragment, 0, 5, 2, 0, 0, 1, 0}, []byte{6, 0, 0, 1, 0, 0, 0, 1}, tcp(4))))
	buf := make([]byte, 128)
	f.Add(buf[:NeighborSolicitation(buf, nil, MAC{2, 1}, host1, host2)])
	f.Add(buf[:ARPRequest(buf, Broadcast, MAC{2, 1}, [4]byte{10}, [4]byte{11})])
	f.Fuzz(func(t *testing.T, b []byte) {
		inOrder(t, b)
		agree(t, b)
		ParseIP(b)
	})
}

// TestNextHeaderAt: where an ICMPv6 parameter problem has to point.
func TestNextHeaderAt(t *testing.T) {
	chain := func(first byte, ext ...byte) []byte {
		b := make([]byte, 40, 40+len(ext)+8)
		b[0], b[5], b[6] = 0x60, byte(len(ext)+8), first
		return append(append(b, ext...), make([]byte, 8)...)
	}
	for _, x := range []struct {
		name   string
		packet []byte
		want   int
	}{
		{"no extension", chain(35), 6},
		{"destination options", chain(60, 35, 0, 1, 4, 0, 0, 0, 0), 40},
		{"long hop-by-hop, then fragment", chain(0, 44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 35, 9, 0, 0, 0, 0, 0, 1), 56},
	} {
		o, bad := ParseIP(x.packet)
		if bad != OK || o.Proto != 35 {
			t.Fatalf("%s: %v, protocol %d", x.name, bad, o.Proto)
		}
		if got := o.NextHeaderAt(x.packet); got != x.want {
			t.Errorf("%s: %d, want %d", x.name, got, x.want)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	b := frame(TypeIPv6, v6(ProtoHopByHop, []byte{ProtoUDP, 0, 5, 2, 0, 0, 1, 0}, udp(0)))
	if n := testing.AllocsPerRun(100, func() { Parse(b) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	f := frame(TypeIPv4, v4(ProtoUDP, nil, udp(20)))
	for b.Loop() {
		Parse(f)
	}
}
