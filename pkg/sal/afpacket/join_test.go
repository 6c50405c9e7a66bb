package afpacket_test

import (
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// TestJoined: consecutive segments go out as one super-frame, from which the
// receiver cuts what was sent; a segment that is damaged goes out as it is, in
// its place; and with Single all do.
func TestJoined(t *testing.T) {
	for single, want := range map[bool]int{false: 5, true: 60} {
		mid, far := nstest.New(t), nstest.New(t)
		mid.Veth("p", far, "e")
		far.Quiet("e")
		pl := pool(t, 4096)
		q := up(t, open(t, mid, afpacket.New(afpacket.Options{Single: single}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500})).Queue(0)
		nstest.Joined(t, pl, q, far.Raw("e"), want)
	}
}
