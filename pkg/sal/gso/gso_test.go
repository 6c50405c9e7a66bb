package gso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"vrouter/pkg/pkt"
)

// frame builds a super-frame of TCP or UDP and the header for it.
func frame(six, tcp bool, vlan, options bool, payload, size int) (Header, []byte) {
	var f []byte
	f = append(f, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
	if vlan {
		f = append(f, 0x81, 0, 0x20, 7)
	}
	h := Header{NeedsCsum: true, Size: uint16(size), Type: UDP, CsumOffset: 6}
	var l4 []byte
	if tcp {
		h.Type, h.CsumOffset = TCPv4, 16
		l4 = make([]byte, 20, 32)
		l4[0], l4[1], l4[2], l4[3] = 0x30, 0x39, 0, 80
		binary.BigEndian.PutUint32(l4[4:], 0xfffffff0) // wraps
		l4[12], l4[13] = 5<<4, 0x80|0x40|0x10|0x08|0x01
		if options {
			l4 = append(l4, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8)
			l4[12] = 8 << 4
		}
	} else {
		l4 = []byte{0x30, 0x39, 0, 53, 0, 0, 0, 0}
	}
	proto := byte(protoUDP)
	if tcp {
		proto = protoTCP
	}
	n := len(l4) + payload
	if six {
		if tcp {
			h.Type = TCPv6
		}
		f = append(f, 0x86, 0xdd, 0x60, 1, 2, 3)
		ext := []byte(nil)
		if options {
			ext = []byte{proto, 0, 1, 4, 0, 0, 0, 0}
			proto = 60
		}
		f = binary.BigEndian.AppendUint16(f, uint16(len(ext)+n))
		f = append(f, proto, 64)
		f = append(f, bytes.Repeat([]byte{0x20, 1}, 8)...)
		f = append(f, bytes.Repeat([]byte{0x20, 2}, 8)...)
		f = append(f, ext...)
	} else {
		f = append(f, 0x08, 0x00)
		ip := []byte{0x45, 3, 0, 0, 0xff, 0xff, 0x40, 0, 64, proto, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1}
		if options {
			ip = append(ip, 148, 4, 0, 0)
			ip[0] = 0x46
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+n))
		f = append(f, ip...)
	}
	h.CsumStart = uint16(len(f))
	f = append(f, l4...)
	for i := range payload {
		f = append(f, byte(i*7+i>>8))
	}
	return h, f
}

// checkWire verifies a frame as its receiver would, and gives what follows the
// TCP or UDP header.
func checkWire(t *testing.T, f []byte, l3, l4 int, tcp, six bool) []byte {
	t.Helper()
	ip := f[l3:]
	var pseudo pkt.Sum
	if six {
		if got := int(binary.BigEndian.Uint16(ip[4:])) + 40; got != len(ip) {
			t.Fatalf("IPv6 length %d of %d", got, len(ip))
		}
		pseudo = pkt.Pseudo6([16]byte(ip[8:24]), [16]byte(ip[24:40]), map[bool]uint8{true: 6, false: 17}[tcp], len(f)-l4)
	} else {
		if got := int(binary.BigEndian.Uint16(ip[2:])); got != len(ip) {
			t.Fatalf("IPv4 length %d of %d", got, len(ip))
		}
		if !pkt.IPv4(ip).ChecksumOK() {
			t.Fatal("IPv4 checksum")
		}
		pseudo = pkt.Pseudo4([4]byte(ip[12:16]), [4]byte(ip[16:20]), ip[9], len(f)-l4)
	}
	if pseudo.Add(f[l4:]).Fold() != 0xffff {
		t.Fatal("layer 4 checksum")
	}
	if tcp {
		return f[l4+int(f[l4+12]>>4)*4:]
	}
	if int(binary.BigEndian.Uint16(f[l4+4:])) != len(f)-l4 {
		t.Fatal("UDP length")
	}
	return f[l4+8:]
}

func TestSegments(t *testing.T) {
	for i := range 64 {
		six, tcp, vlan, options := i&1 != 0, i&2 != 0, i&4 != 0, i&8 != 0
		payload, size := 10000, 1448
		if i&16 != 0 {
			payload, size = 65000, 1
			payload = 301 // a segment for each byte
		}
		if i&32 != 0 {
			payload, size = 2896, 1448 // ends with a full one
		}
		h, f := frame(six, tcp, vlan, options, payload, size)
		l3 := bytes.Index(f, []byte{0x08, 0x00})
		if six {
			l3 = bytes.Index(f, []byte{0x86, 0xdd})
		}
		l3 += 2
		whole := bytes.Clone(f)
		var s Segmenter
		if err := s.Begin(h, f); err != nil {
			t.Fatal(i, err)
		}
		got, n := []byte(nil), 0
		buf := make([]byte, 2048)
		for s.Busy() {
			want := s.Len()
			k := s.Next(buf)
			if k != want {
				t.Fatalf("segment of %d bytes, announced %d", k, want)
			}
			seg := buf[:k]
			l4 := int(h.CsumStart)
			part := checkWire(t, seg, l3, l4, tcp, six)
			if tcp {
				if seq := binary.BigEndian.Uint32(seg[l4+4:]); seq != 0xfffffff0+uint32(len(got)) {
					t.Fatalf("sequence number %#x at %d", seq, len(got))
				}
				want := byte(0x40 | 0x10)
				if n == 0 {
					want |= cwr
				}
				if len(got)+len(part) == payload {
					want |= fin | psh
				}
				if seg[l4+13] != want {
					t.Fatalf("flags %#x, want %#x, segment %d", seg[l4+13], want, n)
				}
			}
			if !six {
				if id := binary.BigEndian.Uint16(seg[l3+4:]); id != uint16(0xffff+n) {
					t.Fatalf("identification %#x of segment %d", id, n)
				}
			}
			if len(got)+len(part) < payload && len(part) != size {
				t.Fatalf("segment of %d bytes payload", len(part))
			}
			got = append(got, part...)
			n++
		}
		if !bytes.Equal(got, whole[len(whole)-payload:]) {
			t.Fatalf("case %d: payload differs", i)
		}
		if !bytes.Equal(f, whole) {
			t.Error("the super-frame was changed")
		}
		if s.Next(buf) != 0 || s.Len() != 0 {
			t.Error("a segment behind the last")
		}
	}
}

func TestComplete(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			h, f := frame(six, tcp, false, false, 101, 0)
			h.Type = None
			l4 := int(h.CsumStart)
			if !six {
				ip := pkt.IPv4(f[14:])
				binary.BigEndian.PutUint16(ip[10:], pkt.Checksum(ip[:20]))
			}
			// What the kernel leaves: the sum over the pseudo-header.
			var p pkt.Sum
			proto := map[bool]uint8{true: 6, false: 17}[tcp]
			if six {
				p = pkt.Pseudo6([16]byte(f[22:38]), [16]byte(f[38:54]), proto, len(f)-l4)
			} else {
				p = pkt.Pseudo4([4]byte(f[26:30]), [4]byte(f[30:34]), proto, len(f)-l4)
			}
			if !tcp {
				binary.BigEndian.PutUint16(f[l4+4:], uint16(len(f)-l4))
			}
			binary.BigEndian.PutUint16(f[l4+int(h.CsumOffset):], p.Fold())
			if err := h.Complete(f); err != nil {
				t.Fatal(err)
			}
			checkWire(t, f, 14, l4, tcp, six)
		}
	}
	h := Header{NeedsCsum: true, CsumStart: 30, CsumOffset: 16}
	if err := h.Complete(make([]byte, 47)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a checksum behind the frame: %v", err)
	}
	if err := (Header{CsumStart: 60000}).Complete(nil); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

func TestParseHeader(t *testing.T) {
	b := make([]byte, HeaderLen)
	b[0], b[1] = 1, TCPv6|ecn
	le.PutUint16(b[2:], 74)
	le.PutUint16(b[4:], 1428)
	le.PutUint16(b[6:], 54)
	le.PutUint16(b[8:], 16)
	want := Header{NeedsCsum: true, Type: TCPv6, Size: 1428, CsumStart: 54, CsumOffset: 16}
	if h := ParseHeader(b); h != want {
		t.Errorf("%+v", h)
	}
}

func TestRefused(t *testing.T) {
	good, f := frame(false, true, false, false, 3000, 1448)
	tunnel := good
	tunnel.CsumStart += 50
	noSize, noCsum, other := good, good, good
	noSize.Size, noCsum.NeedsCsum, other.Type = 0, false, UFO
	for name, tc := range map[string]struct {
		h    Header
		f    []byte
		want error
	}{
		"inner TCP": {tunnel, f, ErrUnsupported}, "no size": {noSize, f, ErrMalformed}, "no checksum": {noCsum, f, ErrMalformed},
		"UFO": {other, f, ErrUnsupported}, "short": {good, f[:40], ErrMalformed}, "headers only": {good, f[:54], ErrMalformed},
		"nothing": {good, nil, ErrMalformed},
	} {
		var s Segmenter
		if err := s.Begin(tc.h, tc.f); !errors.Is(err, tc.want) || s.Busy() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	h, f := frame(false, true, false, true, 60000, 1448)
	var s Segmenter
	buf := make([]byte, 2048)
	if n := testing.AllocsPerRun(20, func() {
		if s.Begin(h, f) != nil {
			t.Fatal("refused")
		}
		for s.Next(buf) > 0 {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSegment: no header and frame make the segmenter panic, write outside its
// buffer or lose payload.
func FuzzSegment(f *testing.F) {
	for i := range 16 {
		h, b := frame(i&1 != 0, i&2 != 0, i&4 != 0, i&8 != 0, 3000, 1000)
		raw := make([]byte, HeaderLen)
		raw[0], raw[1] = 1, h.Type
		le.PutUint16(raw[4:], h.Size)
		le.PutUint16(raw[6:], h.CsumStart)
		le.PutUint16(raw[8:], h.CsumOffset)
		f.Add(append(raw, b...))
	}
	buf := make([]byte, 1<<17)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		h, fr := ParseHeader(b), b[HeaderLen:]
		_ = h.Complete(bytes.Clone(fr))
		var s Segmenter
		if s.Begin(h, fr) != nil {
			return
		}
		sum := 0
		for s.Busy() {
			n := s.Len()
			if k := s.Next(buf); k != n || k == 0 {
				t.Fatalf("segment of %d, announced %d", k, n)
			}
			sum += n - s.head
		}
		if sum != len(fr)-s.head {
			t.Fatalf("%d of %d bytes", sum, len(fr)-s.head)
		}
	})
}

func BenchmarkSegment(b *testing.B) {
	h, f := frame(false, true, false, true, 64000, 1448)
	var s Segmenter
	buf := make([]byte, 2048)
	n := 0
	for b.Loop() {
		_ = s.Begin(h, f)
		for s.Next(buf) > 0 {
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/pkt")
}
