package fastpath_test

import (
	"context"
	"fmt"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/memory"
)

// BenchmarkTenThousandInterfaces is the data plane's part of a commit of 10 000
// interfaces with an address each: prepared and published, beside a sleeping
// worker.
func BenchmarkTenThousandInterfaces(b *testing.B) {
	const n = 10_000
	var c, gone fastpath.Change
	for i := range n {
		f := testbed.Iface(fmt.Sprint("m", i), byte(i), fmt.Sprintf("10.%d.%d.1/24", i>>8, i&255))
		f.MAC = [6]byte{}
		c.Iface.Set = append(c.Iface.Set, f)
		gone.Iface.Delete = append(gone.Iface.Delete, f.Name)
		for _, r := range testbed.Connected(f) {
			c.Route.Set = append(c.Route.Set, r)
			gone.Route.Delete = append(gone.Route.Delete, r.Prefix)
		}
	}
	reg := &sal.Registry{}
	reg.AddDriver(memory.New(memory.Options{}))
	e, err := fastpath.New(fastpath.Options{Registry: reg, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	apply := func(c *fastpath.Change) {
		k, err := e.Prepare(ctx, c)
		if err == nil {
			err = e.Publish(ctx, k)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		apply(&c)
		b.StopTimer()
		apply(&gone)
		b.StartTimer()
	}
	if err := e.Close(); err != nil {
		b.Error(err)
	}
}
