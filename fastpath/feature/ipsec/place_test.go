package ipsec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"vrouter/pkg/esp"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// TestPlace: where ESP goes in a packet (RFC 4303 section 3.1.1).
func TestPlace(t *testing.T) {
	for _, x := range []struct {
		name     string
		headers  []byte // their types, each of 8 octets
		hl, next int
	}{
		{"none", nil, 40, 6},
		{"hop-by-hop", []byte{0}, 48, 40},
		{"routing", []byte{43}, 48, 40},
		{"destination options", []byte{60}, 40, 6},
		{"those of the way", []byte{60, 43}, 56, 48},
		{"hop-by-hop, for the end", []byte{0, 60}, 48, 40},
		{"all", []byte{0, 60, 43, 60}, 64, 56},
		{"fragment", []byte{44}, 40, 6},
		{"hop-by-hop, fragment", []byte{0, 44}, 48, 40},
	} {
		b := packet6(x.headers, 17, 20)
		if hl, next := place(b); hl != x.hl || next != x.next {
			t.Errorf("%s: %d, %d, want %d, %d", x.name, hl, next, x.hl, x.next)
		}
	}
	for hl := 20; hl <= 60; hl += 4 {
		b := make([]byte, 80)
		b[0] = byte(0x40 | hl/4)
		if at, next := place(b); at != hl || next != 9 {
			t.Errorf("IPv4 header of %d: %d, %d", hl, at, next)
		}
	}
	// Headers that go on beyond the packet.
	b := packet6([]byte{0, 60}, 17, 0)
	for n := 40; n <= len(b); n++ {
		for _, size := range []byte{0, 1, 255} {
			c := bytes.Clone(b[:n])
			if n > 41 {
				c[41] = size
			}
			if hl, next := place(c); hl > n || next >= hl {
				t.Errorf("%d octets: %d, %d", n, hl, next)
			}
		}
	}
}

// packet6 is an IPv6 packet with extension headers of 8 octets each.
func packet6(headers []byte, proto byte, n int) []byte {
	b := make([]byte, 40)
	b[0] = 0x60
	field := 6
	for _, h := range headers {
		b[field] = h
		field = len(b)
		b = append(b, 0, 0, 1, 4, 0, 0, 0, 0)
	}
	b[field] = proto
	b = append(b, make([]byte, n)...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// TestInsertRemove: what frame puts into any packet, remove takes out again, octet for
// octet, and in between it is ESP behind a right header.
func TestInsertRemove(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		var b []byte
		proto := []byte{1, 6, 17, 47, 50, 58, 60, 89}[r.IntN(8)]
		n := 8 + r.IntN(100)
		rec := record{Template: esp.Template{Prefix: uint8(8 + []int{0, 8, 16}[r.IntN(3)]), ICV: uint8([]int{12, 16, 24, 32}[r.IntN(4)]), Mask: uint8([]int{3, 15}[r.IntN(2)]),
			Flags: recTransport, SPIBE: r.Uint32()}}
		if r.IntN(2) == 0 {
			rec.Flags |= recV6
			b = packet6([][]byte{nil, {0}, {43}, {0, 60, 43}, {60}, {0, 60}}[r.IntN(6)], proto, n)
		} else {
			b = make([]byte, 20+4*r.IntN(11), 200)
			for i := 20; i < len(b); i++ {
				b[i] = 1
			}
			b[0], b[1], b[6], b[8], b[9] = byte(0x40|len(b)/4), byte(r.Uint32()), byte(r.IntN(2))<<6, byte(1+r.IntN(255)), proto
			hl := len(b)
			b = b[:hl+n]
			pkt.IPv4(b).SetTotalLen(len(b))
			pkt.IPv4(b).SetChecksum()
		}
		for i := len(b) - n; i < len(b); i++ {
			b[i] = byte(r.Uint32())
		}
		if proto == protoUDP { // whole, so that no padding is seen behind it
			binary.BigEndian.PutUint16(b[len(b)-n+4:], uint16(n))
		}
		hl, next := place(b)
		gap := int(rec.Prefix)
		text := int(rec.TextLen(uint32(len(b) - hl)))
		if text > len(b)-hl+espTrailer+15 {
			t.Fatalf("a text of %d octets around %d", text, len(b)-hl)
		}
		const off = 128
		frame := make([]byte, hl+gap+text+int(rec.ICV))
		copy(frame, b[:hl])
		copy(frame[hl+gap:], b[hl:])
		seq := r.Uint64()
		upper := b[next]
		rec.frame(frame, hl, next, text-espTrailer-(len(b)-hl), upper, seq)
		o, bad := pkt.ParseIP(frame)
		if bad != pkt.OK || o.Proto != protoESP || int(o.L4) != hl || int(o.End) != len(frame) || binary.BigEndian.Uint32(frame[hl+4:]) != uint32(seq) {
			t.Fatalf("%v: %+v of\n%x from\n%x", bad, o, frame, b)
		}
		j := sal.Job{Desc: sal.MakeDesc(1, off, uint16(len(frame))), Off: uint16(off + hl), Len: uint16(text)}
		at, size, octets, why := rec.remove(frame, &j)
		got := frame[at-off:][:size]
		if why != 0 || !bytes.Equal(got, b) || int(octets) != len(b)-hl {
			t.Fatalf("%v: %d of %d octets\n%x, want\n%x", why, octets, len(b)-hl, got, b)
		}
	}
}
