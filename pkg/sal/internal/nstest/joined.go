package nstest

import (
	"encoding/binary"
	"testing"

	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
)

// segment is segment i of a TCP connection, with n bytes of payload.
func segment(i, n int) []byte {
	const head = 14 + 20 + 20
	f := append(make([]byte, 0, head+n), 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 63, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2)
	f = append(f, 0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 0x50, 0x10, 1, 0, 0, 0, 0, 0)
	for k := range n {
		f = append(f, byte(k*7+i))
	}
	binary.BigEndian.PutUint16(f[16:], uint16(40+n))
	binary.BigEndian.PutUint16(f[18:], uint16(i))
	binary.BigEndian.PutUint16(f[24:], pkt.Checksum(f[14:34]))
	binary.BigEndian.PutUint32(f[38:], uint32(i*n))
	binary.BigEndian.PutUint16(f[50:], pkt.Pseudo4([4]byte(f[26:]), [4]byte(f[30:]), 6, 20+n).Add(f[34:]).Checksum())
	return f
}

// Segments gives a function that makes bursts of n consecutive segments of a TCP
// connection, with so many bytes of payload each.
func Segments(pl *sal.Pool, c *sal.Cache, n, payload int) func() []sal.Desc {
	var frames [][]byte
	for i := range n {
		frames = append(frames, segment(i, payload))
	}
	d := make([]sal.Desc, n)
	return func() []sal.Desc {
		for i, f := range frames {
			b, _ := c.Alloc()
			d[i] = sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
			copy(pl.Bytes(d[i]), f)
		}
		return d
	}
}

// Joined sends segments of a TCP connection in one burst through a port's queue, one
// of them damaged and in one's place something else, and looks at what comes out at
// the other end: a number of frames, of which super-frames are cut into what was
// sent. It allocates nothing for a burst.
func Joined(t *testing.T, pl *sal.Pool, q sal.PortQueue, raw *Raw, want int) {
	t.Helper()
	if err := raw.Offload(); err != nil {
		t.Fatal(err)
	}
	c := pl.NewCache()
	defer c.Close()
	var sent [][]byte
	for i := range 60 {
		sent = append(sent, segment(i, 1000))
	}
	sent[20][200] ^= 1
	sent[40] = Frame(60)
	d := make([]sal.Desc, len(sent))
	burst := func() int {
		for i, f := range sent {
			b, _ := c.Alloc()
			d[i] = sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
			copy(pl.Bytes(d[i]), f)
		}
		return q.TxBurst(c, d)
	}
	if n := burst(); n != len(d) {
		t.Fatalf("%d of %d frames taken", n, len(d))
	}
	frames := 0
	for next := 0; next < len(sent); frames++ {
		m := raw.Recv()
		if m == nil {
			t.Fatalf("%d of %d segments came, in %d frames", next, len(sent), frames)
		}
		h, f := gso.ParseHeader(m), m[gso.HeaderLen:]
		if !h.Super() {
			if string(f) != string(sent[next]) {
				t.Fatalf("frame %d arrives as\n%x, sent\n%x", next, f, sent[next])
			}
			next++
			continue
		}
		var s gso.Segmenter
		if err := s.Begin(h, f); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, sal.MaxFrame); s.Busy(); next++ {
			if n := s.Next(b); string(b[:n]) != string(sent[next]) {
				t.Fatalf("segment %d is\n%x, sent\n%x", next, b[:n], sent[next])
			}
		}
	}
	if frames != want {
		t.Errorf("%d frames came, want %d", frames, want)
	}
	if a := testing.AllocsPerRun(20, func() { burst() }); a != 0 {
		t.Errorf("%v allocations in a burst", a)
	}
}
