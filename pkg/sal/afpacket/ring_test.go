package afpacket_test

import (
	"testing"
	"time"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// TestRingSize: a port's own ring holds as many frames as it was asked to, and
// a port can have the other kind of ring than the driver's.
func TestRingSize(t *testing.T) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	far.Quiet("e")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	d := afpacket.New(afpacket.Options{})
	fill := func(x sal.PortParams, sent int) (got int) {
		t.Helper()
		p := up(t, open(t, mid, d, pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500, Params: x}))
		defer p.Close()
		f := nstest.Frame(60)
		for range sent {
			if err := raw.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		for receiveIn(soon, pl, p.Queue(0), 0x88b5) != nil {
			got++
		}
		if s := p.Stats(); int(s.RxDropped) != sent-got {
			t.Errorf("%+v: %d of %d frames received, %+v", x, got, sent, s)
		}
		return got
	}
	for _, n := range []int{64, 256} {
		if got := fill(sal.PortParams{Ring: uint32(n)}, 300); got != n {
			t.Errorf("a ring of %d holds %d frames", n, got)
		}
	}
	start := time.Now()
	got := fill(sal.PortParams{Ring: 4096, Blocks: true}, 300)
	// 64 blocks, one a millisecond at the most.
	if got != 300 && time.Since(start) < 64*time.Millisecond {
		t.Errorf("blocks: %d frames of 300", got)
	}
}
