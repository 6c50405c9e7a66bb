package fastpath_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/memory"
)

// TestNoAllocations: a worker allocates nothing, whatever the packets are.
func TestNoAllocations(t *testing.T) {
	for _, mode := range []string{"cached", "uncached", "uncached, sources checked", "small", "uncached, small"} {
		b := twoPorts(t, func(o *fastpath.Options) {
			if strings.HasPrefix(mode, "uncached") {
				o.Flows4, o.Flows6 = -1, -1
			}
		})
		if strings.HasSuffix(mode, "checked") {
			a := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
			a.V4.Sources, a.V6.Sources = iface.SourceStrict, iface.SourceStrict
			b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{a}}})
		}
		if strings.HasSuffix(mode, "small") { // the way out is, for packets and segments
			o := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
			o.MTU, o.MSS = 1280, pipeline.ClampPath
			b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{o}}})
		}
		// A SYN that announces segments of 9000.
		syn := []byte{0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 7 << 4, 2, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 2, 4, 9000 >> 8, 9000 & 255, 0, 0}
		for _, c := range []struct {
			name string
			p    testbed.Packet
		}{
			{"forward", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 64}},
			{"forward6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 64}},
			{"no route", testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Len: 64}},
			{"no route6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db9::1", Len: 64}},
			{"ttl", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", TTL: 1, Len: 64}},
			{"echo", testbed.Echo("10.0.1.2", "10.0.1.1", 64)},
			{"echo6", testbed.Echo("2001:db8:1::2", "2001:db8:1::1", 64)},
			{"options", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{1, 1, 1, 0}, Len: 64}},
			{"unresolved", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.77", Len: 64}},
			{"local", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 6, Len: 64}},
			{"large", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 1400}},
			{"large, not to be cut", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", DF: true, Len: 1400}},
			{"large6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 1400}},
			{"SYN", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Proto: pkt.ProtoTCP, Payload: syn}},
			{"SYN6", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Proto: pkt.ProtoTCP, Payload: syn}},
			{"fragmented", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.2", Len: 64}},
		} {
			frame := c.p.From(21, 1)
			peer, back, cache := b.Mem.Peer("a"), b.Mem.Peer("b"), b.Mem.Peer("a").Cache()
			var d, got [64]sal.Desc
			out := 0
			pool := b.E.Pool()
			n := testing.AllocsPerRun(50, func() {
				for i := range d {
					x, ok := cache.Alloc()
					if !ok {
						t.Fatal("no buffers")
					}
					d[i] = sal.MakeDesc(x, sal.Headroom, uint16(len(frame)))
					copy(mem.Bytes(pool.Addr(d[i]), len(frame)), frame)
				}
				if peer.Send(0, d[:]) != len(d) {
					t.Fatal("ring full")
				}
				for b.E.Turn(0) > 0 {
				}
				for _, p := range []*memory.Peer{peer, back} {
					for k := p.Recv(got[:]); k > 0; k = p.Recv(got[:]) {
						cache.FreeDescs(got[:k])
						if p == back {
							out += k
						}
					}
				}
			})
			if n != 0 {
				t.Errorf("%s, %s: %.1f allocations a turn", mode, c.name, n)
			}
			if want := map[string]int{"large": 2, "SYN": 1, "SYN6": 1}[c.name]; strings.HasSuffix(mode, "small") && want != 0 && out != want*51*len(d) {
				t.Errorf("%s, %s: %d packets came out, want %d", mode, c.name, out, want*51*len(d))
			}
			b.Run() // the control side takes what it was given
			b.Recv("b")
		}
	}
}

// TestLive runs real workers and a paced stream beside commits of all kinds:
// no packet of the stream is lost or out of order, whatever else is changed,
// and at the end every buffer is there. It is what -race looks at.
func TestLive(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint("workers=", workers), func(t *testing.T) { live(t, workers) })
	}
}

func live(t *testing.T, workers int) {
	drv := memory.New(memory.Options{})
	reg := &sal.Registry{}
	reg.AddDriver(drv)
	e, err := fastpath.New(fastpath.Options{Registry: reg, Workers: workers, Buffers: 8192, Flows4: 1 << 12, Flows6: 1 << 12, Routes: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
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
	a, b := drv.Peer("a"), drv.Peer("b")
	ia, ib := testbed.Iface("a", 1, "10.0.1.1/24"), testbed.Iface("b", 2, "10.0.2.1/24")
	apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib}},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("b", "10.0.2.2", 22), testbed.Neigh("a", "10.0.1.2", 21)}},
		Route: route.Change{Set: append(testbed.Connected(ia, ib), testbed.Route("192.0.2.0/24", "10.0.2.2", "b"))}})

	const rate = 4000 // packets a second
	var sent, lost atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() { // the stream: one flow for each worker's queue
		defer wg.Done()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var seq uint32
		want := map[byte]uint32{}
		take := func() {
			for _, f := range b.Collect(1 << 12) {
				if f[12] != 8 || f[13] != 0 || len(f) != 78 {
					continue
				}
				n := uint32(f[50])<<24 | uint32(f[51])<<16 | uint32(f[52])<<8 | uint32(f[53])
				q := byte(n & 1)
				if n < want[q] {
					t.Errorf("packet %d came after %d", n, want[q])
				}
				want[q] = n
				sent.Add(-1)
			}
		}
		for {
			select {
			case <-stop:
				for end := time.Now().Add(2 * time.Second); sent.Load() > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
					take()
				}
				lost.Store(sent.Load())
				return
			case <-tick.C:
			}
			for range rate / 500 {
				f := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.7", SPort: uint16(seq & 1), DPort: 9, Len: 64}.From(21, 1)
				f[50], f[51], f[52], f[53] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
				q := 0
				if workers > 1 {
					q = int(seq & 1)
				}
				sent.Add(int64(a.InjectTo(q, f)))
				seq++
			}
			take()
		}
	}()

	until := time.Now().Add(1500 * time.Millisecond)
	for i := 0; time.Now().Before(until); i++ {
		name := fmt.Sprint("x", i%3)
		x := testbed.Iface(name, byte(10+i%3), fmt.Sprintf("10.9.%d.1/24", i%3))
		hop := fmt.Sprintf("10.9.%d.2", i%3)
		apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{x}}, Route: route.Change{Set: append(testbed.Connected(x),
			testbed.Route(fmt.Sprintf("100.%d.0.0/16", i%200), hop, name), testbed.Route("192.0.0.0/16", hop, name))}})
		moved := ia
		moved.Addrs = append(moved.Addrs, netip.MustParsePrefix(fmt.Sprintf("10.0.77.%d/32", i%250+1)))
		apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{moved}}, Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh(name, hop, byte(i))}}})
		if _, err := e.State(ctx, &fastpath.Query{Ifaces: []string{}, Routes: true, Neighbours: []string{}, Drops: true, Process: true, SAs: []string{}}); err != nil {
			t.Error(err)
		}
		var del []netip.Prefix
		for _, r := range testbed.Connected(x) {
			del = append(del, r.Prefix)
		}
		del = append(del, netip.MustParsePrefix(fmt.Sprintf("100.%d.0.0/16", i%200)), netip.MustParsePrefix("192.0.0.0/16"))
		apply(&fastpath.Change{Iface: iface.Change{Delete: []string{name}}, Route: route.Change{Delete: del},
			Neigh: neigh.Change{Delete: []neigh.Key{{Iface: name, Addr: netip.MustParseAddr(hop)}}}})
	}
	close(stop)
	wg.Wait()
	if n := lost.Load(); n != 0 {
		t.Errorf("%d packets of the stream were lost", n)
		s, _ := e.State(ctx, &fastpath.Query{Drops: true})
		t.Logf("drops: %+v", s.Drops)
	}
	if s, err := e.State(ctx, &fastpath.Query{Process: true}); err != nil || s.Process.Workers[0].Idles == 0 {
		t.Errorf("the worker never slept (%v)", err)
	}
	a.Close()
	b.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
