package afpacket_test

import (
	"encoding/binary"
	"testing"

	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/gso"
	"vrouter/pkg/sal/internal/nstest"
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

// TestJoined: consecutive segments go out as one super-frame, from which the
// receiver cuts what was sent; a segment that is damaged goes out as it is, in
// its place; and with Single all do.
func TestJoined(t *testing.T) {
	for _, single := range []bool{false, true} {
		mid, far := nstest.New(t), nstest.New(t)
		mid.Veth("p", far, "e")
		far.Quiet("e")
		raw := far.Raw("e")
		if err := raw.Offload(); err != nil {
			t.Fatal(err)
		}
		pl := pool(t, 4096)
		q := up(t, open(t, mid, afpacket.New(afpacket.Options{Single: single}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500})).Queue(0)
		c := pl.NewCache()
		var sent [][]byte
		for i := range 60 {
			sent = append(sent, segment(i, 1000))
		}
		sent[20][200] ^= 1
		sent[40] = nstest.Frame(60)
		var d []sal.Desc
		for _, f := range sent {
			b, _ := c.Alloc()
			d = append(d, sal.MakeDesc(b, sal.Headroom, uint16(len(f))))
			copy(pl.Bytes(d[len(d)-1]), f)
		}
		if n := q.TxBurst(c, d); n != len(d) {
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
		if want := map[bool]int{false: 5, true: 60}[single]; frames != want {
			t.Errorf("single %v: %d frames came, want %d", single, frames, want)
		}
		if a := testing.AllocsPerRun(20, func() {
			for i := range d {
				b, _ := c.Alloc()
				d[i] = sal.MakeDesc(b, sal.Headroom, uint16(len(sent[i])))
				copy(pl.Bytes(d[i]), sent[i])
			}
			q.TxBurst(c, d)
		}); a != 0 {
			t.Errorf("%v allocations in a burst", a)
		}
		c.Close()
	}
}
