package esp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"unsafe"
)

func sumOf(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// innerPacket builds an IP packet of n bytes.
func innerPacket(v6 bool, n int, tos byte, df bool) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	if v6 {
		binary.BigEndian.PutUint32(b, 6<<28|uint32(tos)<<20)
		binary.BigEndian.PutUint16(b[4:], uint16(n-40))
		b[6], b[7] = 17, 64
		return b
	}
	b[0], b[1], b[8], b[9] = 0x45, tos, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	b[6], b[7] = 0, 0
	if df {
		b[6] = 0x40
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sumOf(b[:20]))
	return b
}

// layout is what an SA adds to a packet, in bytes.
type layout struct{ IV, ICV, Align int }

// layouts are all there are: AES-GCM first, then with each length of ICV NULL,
// AES-CTR and AES-CBC.
var layouts = func() []layout {
	l := []layout{{IV: 8, ICV: 16, Align: 4}}
	for _, icv := range []int{12, 16, 24, 32} {
		l = append(l, layout{ICV: icv, Align: 4}, layout{IV: 8, ICV: icv, Align: 4}, layout{IV: 16, ICV: icv, Align: 16})
	}
	return l
}()

func templateOf(v6 bool, lay layout) *Template {
	c := Config{SPI: 0x01020304, IV: lay.IV, ICV: lay.ICV, Align: lay.Align, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("198.51.100.2")}
	if v6 {
		c.Local, c.Remote = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:ffff::2")
	}
	r := &Template{}
	r.Set(&c)
	return r
}

// What the fast path's records take for granted.
func TestLayout(t *testing.T) {
	var x Template
	if n, o := unsafe.Sizeof(x), unsafe.Offsetof(x.Hdr6); n != 148 || o != 44 {
		t.Errorf("%d bytes, those for IPv6 from %d on", n, o)
	}
}

func TestEncapDecap(t *testing.T) {
	for _, lay := range layouts {
		for _, in6 := range []bool{false, true} {
			for _, out6 := range []bool{false, true} {
				encapDecap(t, templateOf(out6, lay), lay, in6, out6)
			}
		}
	}
}

func encapDecap(t *testing.T, r *Template, lay layout, in6, out6 bool) {
	t.Helper()
	for n := 40; n < 1440; n++ {
		tos := byte(n)
		want := innerPacket(in6, n, tos, n%2 == 0)
		buf := make([]byte, 2048)
		for i := range buf {
			buf[i] = 0xee
		}
		copy(buf[128:], want)
		seq := uint64(0x1_0000_0000) + uint64(n)*77
		o := r.Encap(unsafe.Pointer(&buf[128]), uint32(n), in6, seq)
		text := r.TextLen(uint32(n))
		total := uint32(r.HdrLen) + 8 + uint32(lay.IV) + text + uint32(lay.ICV)
		out := unsafe.Slice((*byte)(o), total)
		hl := int(r.HdrLen)
		if !out6 {
			df := n%2 == 0 || in6
			if out[0] != 0x45 || out[1] != tos || int(binary.BigEndian.Uint16(out[2:])) != int(total) || out[9] != 50 ||
				sumOf(out[:20]) != 0xffff || (out[6] == 0x40) != df || !bytes.Equal(out[12:20], []byte{192, 0, 2, 1, 198, 51, 100, 2}) {
				t.Fatalf("outer IPv4 header of %d bytes: % x", n, out[:20])
			}
		} else if w := binary.BigEndian.Uint32(out); w&^0xfffff != 6<<28|uint32(tos)<<20 || w&0xfffff == 0 || int(binary.BigEndian.Uint16(out[4:])) != int(total)-40 || out[6] != 50 || out[7] != 64 ||
			!bytes.Equal(out[8:24], netip.MustParseAddr("2001:db8::1").AsSlice()) || !bytes.Equal(out[24:40], netip.MustParseAddr("2001:db8:ffff::2").AsSlice()) {
			t.Fatalf("outer IPv6 header of %d bytes: % x", n, out[:40])
		}
		if e := out[hl:]; binary.BigEndian.Uint32(e) != 0x01020304 || binary.BigEndian.Uint32(e[4:]) != uint32(seq) || lay.IV == 8 && binary.BigEndian.Uint64(e[8:]) != seq {
			t.Fatalf("ESP header: % x", e[:16])
		}
		if int(text)%lay.Align != 0 || int(text)-n < 2 || int(text)-n > lay.Align+1 {
			t.Fatalf("%d bytes of text around %d", text, n)
		}
		// From beyond what it may touch, nothing was.
		if end := 128 + n + int(r.Tail()); buf[end] != 0xee || buf[end+1] != 0xee || *(*byte)(unsafe.Add(o, -1)) != 0xee {
			t.Fatalf("%d bytes: it wrote beyond tail or head", n)
		}
		if m := r.InnerMTU(total); int(m) < n || int(m) > n+lay.Align-1 || r.TextLen(m) != text || r.TextLen(m+1) == text {
			t.Fatalf("inner MTU of a path of %d is %d, a packet of %d fits", total, m, n)
		}
		if m := r.InnerMTU(total - 1); int(m) >= n {
			t.Fatalf("inner MTU of a path of %d is %d", total-1, m)
		}
		got, why := Decap(unsafe.Pointer(&buf[128]), text, 0)
		if why != OK || int(got) != n || !bytes.Equal(buf[128:128+n], want) {
			t.Fatalf("Decap of %d: %d %v", n, got, why)
		}
	}
}

func TestDecapRefuses(t *testing.T) {
	good := func() []byte {
		b := append(innerPacket(false, 30, 0, false), 1, 2, 2, NextIPv4)
		return b
	}
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
		want Verdict
	}{
		{"good", func(b []byte) []byte { return b }, OK},
		{"empty", func(b []byte) []byte { return b[:1] }, Short},
		{"pad longer than the text", func(b []byte) []byte { b[32] = 250; return b }, BadPad},
		{"wrong pad bytes", func(b []byte) []byte { b[30] = 7; return b }, BadPad},
		{"next header TCP", func(b []byte) []byte { b[33] = 6; return b }, BadNext},
		{"dummy", func(b []byte) []byte { b[33] = NextDummy; return b }, Dummy},
		{"IPv6 said, IPv4 inside", func(b []byte) []byte {
			b[33] = NextIPv6
			return append(make([]byte, 0), append(b[:30:30], append(make([]byte, 12), 1, 2, 2, NextIPv6)...)...)
		}, BadNext},
		{"inner length beyond the text", func(b []byte) []byte { b[3] = 31; return b }, Short},
		{"inner length below a header", func(b []byte) []byte { b[3] = 19; return b }, Short},
		{"traffic-flow padding", func(b []byte) []byte { b[3] = 25; return b }, OK},
	} {
		b := c.edit(good())
		if _, why := Decap(unsafe.Pointer(&b[0]), uint32(len(b)), 0); why != c.want {
			t.Errorf("%s: %v, want %v", c.name, why, c.want)
		}
	}
}

// RFC 6040 figure 4.
func TestECN(t *testing.T) {
	const notECT, ect1, ect0, ce, gone = 0, 1, 2, 3, 4
	want := [4][4]int{
		notECT: {notECT, notECT, notECT, gone},
		ect1:   {ect1, ect1, ect1, ce},
		ect0:   {ect0, ect1, ect0, ce},
		ce:     {ce, ce, ce, ce},
	}
	for in := range 4 {
		for out := range 4 {
			for _, v6 := range []bool{false, true} {
				b := append(innerPacket(v6, 42, byte(0xb8|in), false), 1, 2, 2, NextIPv4)
				if v6 {
					b[len(b)-1] = NextIPv6
				}
				_, why := Decap(unsafe.Pointer(&b[0]), uint32(len(b)), uint8(0x44|out))
				name := fmt.Sprintf("inner %d outer %d v6 %v", in, out, v6)
				if want[in][out] == gone {
					if why != BadECN {
						t.Errorf("%s: %v, want a drop", name, why)
					}
					continue
				}
				tos := b[1]
				if v6 {
					tos = byte(binary.BigEndian.Uint32(b) >> 20)
				} else if sumOf(b[:20]) != 0xffff {
					t.Errorf("%s: checksum", name)
				}
				if why != OK || int(tos) != 0xb8|want[in][out] {
					t.Errorf("%s: %v, TOS %#x", name, why, tos)
				}
			}
		}
	}
}

// FuzzDecap gives Decap any text, and compares with RFC 4303 and the IP headers
// read a second time.
func FuzzDecap(f *testing.F) {
	f.Add(append(innerPacket(false, 30, 0xff, false), 1, 2, 2, NextIPv4), byte(3))
	f.Add(append(innerPacket(true, 50, 0, false), 1, 2, 2, NextIPv6), byte(1))
	f.Add([]byte{1, 2, 3, 3, NextDummy}, byte(0))
	f.Add([]byte{0, 0}, byte(0))
	f.Add(append(innerPacket(false, 30, 0, false), 1, 2, 200, NextIPv4), byte(0))
	f.Fuzz(func(t *testing.T, text []byte, tos byte) {
		if len(text) == 0 || len(text) > 1500 {
			return
		}
		got := bytes.Clone(text)
		n, why := Decap(unsafe.Pointer(&got[0]), uint32(len(got)), tos)
		body, next, want := trailer(text)
		length := 0
		if want == OK {
			length, want = innerLen(body, next)
		}
		if want == OK && tos&3 == 3 && ecnOf(text)&3 == 0 {
			want = BadECN
		}
		if why != want || why == OK && int(n) != length {
			t.Fatalf("%x: %d %v, want %d %v", text, n, why, length, want)
		}
		if why != OK {
			return
		}
		// Only the ECN field may change, and with it the checksum.
		changed := 0
		for i := range text {
			if got[i] != text[i] && !(i == 1 || text[0]>>4 == 4 && (i == 10 || i == 11)) {
				changed++
			}
		}
		if changed > 0 || ecnOf(got)&^3 != ecnOf(text)&^3 {
			t.Fatalf("%x became %x", text, got)
		}
		if next == NextIPv4 && sumOf(text[:20]) == 0xffff && sumOf(got[:20]) != 0xffff {
			t.Fatalf("checksum of %x", got[:20])
		}
	})
}

// trailer is RFC 4303 sections 2.4 to 2.6.
func trailer(text []byte) (body []byte, next byte, why Verdict) {
	if len(text) < 2 {
		return nil, 0, Short
	}
	pad, next := int(text[len(text)-2]), text[len(text)-1]
	body = text[:len(text)-2]
	if pad > len(body) {
		return nil, 0, BadPad
	}
	for i, b := range body[len(body)-pad:] {
		if int(b) != i+1 {
			return nil, 0, BadPad
		}
	}
	return body[:len(body)-pad], next, OK
}

func innerLen(body []byte, next byte) (int, Verdict) {
	min, version, n := 20, byte(4), 0
	switch next {
	case 59:
		return 0, Dummy
	case 41:
		min, version = 40, 6
	case 4:
	default:
		return 0, BadNext
	}
	if len(body) < min {
		return 0, Short
	}
	if body[0]>>4 != version {
		return 0, BadNext
	}
	if version == 4 {
		n = int(binary.BigEndian.Uint16(body[2:]))
	} else {
		n = 40 + int(binary.BigEndian.Uint16(body[4:]))
	}
	if n < min || n > len(body) {
		return 0, Short
	}
	return n, OK
}

func ecnOf(ip []byte) byte {
	if ip[0]>>4 == 4 {
		return ip[1]
	}
	return byte(binary.BigEndian.Uint16(ip) >> 4)
}
