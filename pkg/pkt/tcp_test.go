package pkt

import (
	"bytes"
	"testing"
)

// segment is a TCP segment with options, and its checksum.
func segment(flags byte, opts ...byte) []byte {
	for len(opts)%4 != 0 {
		opts = append(opts, 0)
	}
	b := append([]byte{0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, byte(20+len(opts)) << 2, flags, 0xff, 0xff, 0, 0, 0, 0}, opts...)
	b = append(b, "data"...)
	be.PutUint16(b[16:], tcpSum(b))
	return b
}

func tcpSum(b []byte) uint16 {
	b = bytes.Clone(b)
	b[16], b[17] = 0, 0
	return Pseudo4([4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, ProtoTCP, len(b)).Add(b).Checksum()
}

func TestClampMSS(t *testing.T) {
	for name, c := range map[string]struct {
		seg  []byte
		want uint16 // 0: as it was
		at   int
	}{
		"SYN":                   {segment(2, 2, 4, 0x05, 0xb4), 1300, 22},
		"SYN, ACK":              {segment(0x12, 2, 4, 0x05, 0xb4), 1300, 22},
		"ACK":                   {segment(0x10, 2, 4, 0x05, 0xb4), 0, 0},
		"small already":         {segment(2, 2, 4, 0x05, 0x14), 0, 0},
		"smaller":               {segment(2, 2, 4, 0x02, 0x18), 0, 0},
		"no options":            {segment(2), 0, 0},
		"behind others":         {segment(2, 1, 1, 4, 2, 3, 3, 7, 1, 2, 4, 0xff, 0xff), 1300, 30},
		"at an odd place":       {segment(2, 1, 2, 4, 0x05, 0xb4, 1, 1, 1), 1300, 23},
		"odd, behind others":    {segment(2, 3, 3, 7, 2, 4, 0xff, 0xfe, 0), 1300, 25},
		"behind the end":        {segment(2, 0, 2, 4, 0x05, 0xb4), 0, 0},
		"of another length":     {segment(2, 2, 6, 0x05, 0xb4, 0, 0), 0, 0},
		"malformed before it":   {segment(2, 3, 1, 2, 4, 0x05, 0xb4), 0, 0},
		"beyond the options":    {segment(2, 1, 1, 2, 4), 0, 0},
		"cut off at its length": {segment(2, 1, 1, 1, 2), 0, 0},
	} {
		b := bytes.Clone(c.seg)
		changed := ClampMSS(b, 1300)
		if c.want == 0 {
			if changed || !bytes.Equal(b, c.seg) {
				t.Errorf("%s: changed to % x", name, b)
			}
			continue
		}
		if !changed || be.Uint16(b[c.at:]) != c.want || be.Uint16(b[16:]) != tcpSum(b) {
			t.Errorf("%s: % x", name, b)
		}
	}
	for n := range 24 {
		ClampMSS(segment(2, 2, 4, 0x05, 0xb4)[:n], 1300) // no panic, and nothing to find
	}
}

// FuzzClampMSS: whatever the segment, only an announced size and the checksum
// change, and a checksum that was right stays right.
func FuzzClampMSS(f *testing.F) {
	f.Add(segment(2, 2, 4, 0x05, 0xb4), uint16(1300))
	f.Add(segment(2, 1, 2, 4, 0xff, 0xff), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, mss uint16) {
		if len(b) >= 20 {
			be.PutUint16(b[16:], tcpSum(b))
		}
		was := bytes.Clone(b)
		if !ClampMSS(b, mss) {
			if !bytes.Equal(b, was) {
				t.Fatal("changed without saying so")
			}
			return
		}
		// 0 and 0xffff are the same sum.
		if got, want := be.Uint16(b[16:]), tcpSum(b); got != want && got^want != 0xffff {
			t.Fatalf("checksum %04x, want %04x", got, want)
		}
		n := 0
		for i := range b {
			if b[i] != was[i] && i != 16 && i != 17 {
				n++
			}
		}
		if n > 2 {
			t.Fatalf("%d octets changed", n)
		}
	})
}
