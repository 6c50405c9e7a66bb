package fastpath_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/memory"
)

// TestManyIdlePorts: a worker with thousands of ports sleeps when nothing comes,
// without looking after them, and each of them wakes it.
func TestManyIdlePorts(t *testing.T) {
	const n = 3000
	drv := memory.New(memory.Options{})
	reg := &sal.Registry{}
	reg.AddDriver(drv)
	e, err := fastpath.New(fastpath.Options{Registry: reg, Workers: 1, Buffers: 4096, Flows4: 1 << 10, Flows6: 1 << 10, Routes: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var c fastpath.Change
	for i := range n {
		f := testbed.Iface(fmt.Sprint("m", i), byte(i), fmt.Sprintf("10.%d.%d.1/24", i>>8, i&255))
		c.Iface.Set = append(c.Iface.Set, f)
		c.Route.Set = append(c.Route.Set, testbed.Connected(f)...)
	}
	c.Neigh = neigh.Change{Set: []neigh.Config{testbed.Neigh("m0", "10.0.0.2", 22)}}
	apply := func(c *fastpath.Change) {
		t.Helper()
		k, err := e.Prepare(ctx, c)
		if err == nil {
			err = e.Publish(ctx, k)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(&c)
	out := drv.Peer("m0")
	turns := func() (turns, idles uint64) {
		s, err := e.State(ctx, &fastpath.Query{Ifaces: []string{}, Process: true})
		if err != nil {
			t.Fatal(err)
		}
		w := s.Process.Workers[0]
		return w.Turns, w.Idles
	}
	asleep := func() { // two sleeps in a row without a turn beyond those around them
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			t0, i0 := turns()
			time.Sleep(600 * time.Millisecond)
			if t1, i1 := turns(); i1 > i0 && t1-t0 <= 4*(i1-i0+1) && i1-i0 < 20 {
				return
			}
		}
		t0, i0 := turns()
		t.Fatalf("the worker does not sleep: %d turns, %d sleeps", t0, i0)
	}
	asleep()
	for _, i := range []int{1, 1500, n - 1} {
		in := drv.Peer(fmt.Sprint("m", i))
		f := testbed.Packet{Src: fmt.Sprintf("10.%d.%d.9", i>>8, i&255), Dst: "10.0.0.2", SPort: 7, DPort: 9, Len: 64}.From(9, byte(i))
		if in.Inject(f) != 1 {
			t.Fatalf("port %d took nothing", i)
		}
		var got int
		for end := time.Now().Add(10 * time.Second); got == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			for _, g := range out.Collect(16) {
				if len(g) == len(f) {
					got++
				}
			}
		}
		if got != 1 {
			t.Errorf("a packet to port %d of a sleeping worker: %d came out", i, got)
		}
		in.Close()
	}
	asleep()
	// A port that has been taken away rings nobody; the others still do.
	apply(&fastpath.Change{Iface: iface.Change{Delete: []string{"m2999"}}, Route: route.Change{Delete: []netip.Prefix{testbed.Connected(c.Iface.Set[n-1])[0].Prefix, testbed.Connected(c.Iface.Set[n-1])[1].Prefix}}})
	out.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
