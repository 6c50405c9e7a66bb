package worker

import (
	"testing"
	"unsafe"

	"vrouter/fastpath/flow"
	"vrouter/pkg/burst"
)

// TestProof: a packet is taken for a flow's only if every bit of its key is the
// flow's; two differences never cancel one another.
func TestProof(t *testing.T) {
	e4 := &flow.Entry4{Key: burst.Key4{0x0f0f, 0xf000}}
	e6 := &flow.Entry6{Key: burst.Key6{1, 2, 4, 8, 16}}
	if differs4(unsafe.Pointer(e4), &e4.Key) != 0 || differs6(unsafe.Pointer(e6), &e6.Key) != 0 {
		t.Fatal("the own key differs")
	}
	for i := range 2 * 64 {
		k := e4.Key
		k[i/64] ^= 1 << (i % 64)
		if differs4(unsafe.Pointer(e4), &k) == 0 {
			t.Errorf("IPv4: bit %d is not compared", i)
		}
		for j := range 2 {
			x := k
			x[j] |= 1 << (i % 64) // what a missing parenthesis would let through
			if x != e4.Key && differs4(unsafe.Pointer(e4), &x) == 0 {
				t.Errorf("IPv4: bit %d with word %d passes", i, j)
			}
		}
	}
	for i := range 5 * 64 {
		k := e6.Key
		k[i/64] ^= 1 << (i % 64)
		if differs6(unsafe.Pointer(e6), &k) == 0 {
			t.Errorf("IPv6: bit %d is not compared", i)
		}
		for j := range 5 {
			x := k
			x[j] |= 1 << (i % 64)
			if x != e6.Key && differs6(unsafe.Pointer(e6), &x) == 0 {
				t.Errorf("IPv6: bit %d with word %d passes", i, j)
			}
		}
	}
}
