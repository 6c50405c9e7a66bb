package worker

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

// frame is a frame of an IP packet: its flow is what the arguments say.
func frame(v6 bool, src, dst uint32, proto byte, upper []byte, frag uint16) []byte {
	b := make([]byte, 14, 128)
	if v6 {
		b[12], b[13] = 0x86, 0xdd
		h := make([]byte, 40)
		h[0], h[6] = 0x60, proto
		binary.BigEndian.PutUint32(h[20:], src)
		binary.BigEndian.PutUint32(h[36:], dst)
		b = append(b, h...)
	} else {
		b[12] = 0x08
		h := make([]byte, 20)
		h[0], h[9] = 0x45, proto
		binary.BigEndian.PutUint16(h[6:], frag)
		binary.BigEndian.PutUint32(h[12:], src)
		binary.BigEndian.PutUint32(h[16:], dst)
		b = append(b, h...)
	}
	return append(b, upper...)
}

func ports(src, dst uint16) []byte {
	b := make([]byte, 16)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	return b
}

// TestSpreadByFlow: what belongs together gets one number, whatever its
// direction and its pieces; flows are spread evenly over any number of workers.
func TestSpreadByFlow(t *testing.T) {
	h := newHanding()
	of := func(f []byte) uint64 {
		t.Helper()
		x, ok := h.flow(uintptr(unsafe.Pointer(&f[0])), uint16(len(f)))
		if !ok {
			t.Fatalf("no flow: %x", f)
		}
		return x
	}
	spi := func(n uint32) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 16), n)[:16] }
	for _, v6 := range []bool{false, true} {
		there, back := of(frame(v6, 1, 2, 6, ports(1000, 80), 0)), of(frame(v6, 2, 1, 6, ports(80, 1000), 0))
		if there != back {
			t.Error("the two directions of a flow differ")
		}
		if there == of(frame(v6, 1, 2, 6, ports(80, 1000), 0)) || there == of(frame(v6, 1, 2, 17, ports(1000, 80), 0)) {
			t.Error("two flows are one")
		}
		if of(frame(v6, 1, 2, 50, spi(7), 0)) == of(frame(v6, 1, 2, 50, spi(8), 0)) {
			t.Error("two SAs are one")
		}
		other := spi(7)
		other[7] = 99 // the sequence number
		if of(frame(v6, 1, 2, 50, spi(7), 0)) != of(frame(v6, 1, 2, 50, other, 0)) {
			t.Error("an SA's packets differ")
		}
		if of(frame(v6, 1, 2, 1, ports(8, 1), 0)) != of(frame(v6, 1, 2, 1, ports(3, 1), 0)) {
			t.Error("what has no ports does not go by addresses")
		}
	}
	first, later := of(frame(false, 1, 2, 17, ports(1000, 80), 0x2000)), of(frame(false, 1, 2, 17, ports(0xdead, 0xbeef), 0x00b9))
	if first != later || later != of(frame(false, 1, 2, 17, ports(5, 6), 0x20b9)) {
		t.Error("the pieces of a datagram differ")
	}
	for _, f := range [][]byte{frame(false, 1, 2, 6, nil, 0)[:33], frame(true, 1, 2, 6, nil, 0)[:53], append([]byte{12: 8, 13: 6}, make([]byte, 46)...)} {
		if _, ok := h.flow(uintptr(unsafe.Pointer(&f[0])), uint16(len(f))); ok {
			t.Errorf("%x has a flow", f)
		}
	}
	for _, v6 := range []bool{false, true} {
		for _, team := range []uint64{2, 3, 5, 64} {
			const flows = 64000
			n := make([]int, team)
			for i := range uint32(flows) {
				n[of(frame(v6, 0x0a000000|i%250, 0xc0000200|i/250, 17, ports(uint16(1024+i), 53), 0))>>32*team>>32]++
			}
			for w, got := range n {
				if want := flows / int(team); got < want*8/10 || got > want*12/10 {
					t.Errorf("worker %d of %d has %d flows of %d, want about %d", w, team, got, flows, want)
				}
			}
		}
	}
}
