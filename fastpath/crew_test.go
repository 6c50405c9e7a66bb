package fastpath_test

import (
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// TestFlowsKeepTheirWorker: over ports with one queue each, a flow stays with one
// worker as long as nothing is changed, in both directions, and every worker gets
// some; a packet from another worker's flow cache would be a miss there.
func TestFlowsKeepTheirWorker(t *testing.T) {
	b := twoPorts(t, func(o *fastpath.Options) { o.Buffers = 8192 })
	b.Apply(&fastpath.Change{Global: &fastpath.Global{Workers: 3}})
	const flows = 180
	var there, back [][]byte
	for i := range flows {
		p := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", SPort: 2000 + uint16(i), DPort: 53, Len: 64}
		there = append(there, p.From(21, 1))
		p.Src, p.Dst, p.SPort, p.DPort = p.Dst, p.Src, p.DPort, p.SPort
		back = append(back, p.From(22, 2))
	}
	state := func() *fastpath.Process { return b.State(&fastpath.Query{Process: true}).Process }
	// A burst makes few entries, so it takes some rounds until all flows have one.
	for round := range 9 {
		before := state()
		if got := b.Exchange("a", there, "b")[0]; len(got) != flows {
			t.Fatalf("%d packets of %d came out", len(got), flows)
		}
		if got := b.Exchange("b", back, "a")[0]; len(got) != flows {
			t.Fatalf("%d packets of %d came back", len(got), flows)
		}
		now := state()
		if round > 4 && now.Flows.Misses != before.Flows.Misses {
			t.Errorf("round %d: %d packets were new to their worker", round, now.Flows.Misses-before.Flows.Misses)
		}
		// A third of the flows is due to each. What chance leaves of it is less than half
		// of that once in a million runs.
		for i, w := range now.Workers[1:] {
			if n := w.Taken - before.Workers[i+1].Taken; n < flows/3 || n%2 != 0 { // both directions of each
				t.Errorf("worker %d took over %d packets of %d", w.ID, n, 2*flows)
			}
			if w.Sent-before.Workers[i+1].Sent != w.Taken-before.Workers[i+1].Taken {
				t.Errorf("worker %d has no queue, and of %d packets handed %d on", w.ID, w.Taken, w.Sent)
			}
		}
	}
	b.Apply(&fastpath.Change{Global: &fastpath.Global{Workers: 3, Spread: fastpath.SpreadQueues}})
	before := state()
	b.Exchange("a", there, "b")
	if now := state(); now.Workers[0].Given != before.Workers[0].Given {
		t.Error("flows are spread although queues are to decide")
	}
	packets := func() (n uint64) {
		for _, x := range b.State(&fastpath.Query{Ifaces: []string{}}).Ifaces {
			n += x.Counters.RxPackets + x.Counters.TxPackets
		}
		return n
	}
	was, hits := packets(), state().Flows.Hits
	b.Apply(&fastpath.Change{Global: &fastpath.Global{Workers: 1}})
	if now := packets(); now < was || state().Flows.Hits < hits {
		t.Errorf("%d packets and %d hits were counted, %d and %d when workers have ended", was, hits, now, state().Flows.Hits)
	}
}

// TestCrewRefused: what cannot be is refused, and nothing changes.
func TestCrewRefused(t *testing.T) {
	b := twoPorts(t, nil)
	for field, g := range map[string]*fastpath.Global{
		"Workers": {Workers: 5}, // 4096 buffers
		"Cores":   {Cores: []int{4095}},
		"Spread":  {Spread: 9},
	} {
		b.Refused(&fastpath.Change{Global: g}, "", field)
	}
	b.Refused(&fastpath.Change{Global: &fastpath.Global{Workers: 65}}, "", "Workers")
	b.Refused(&fastpath.Change{Global: &fastpath.Global{Workers: 1, Cores: []int{0, 0}}}, "", "Cores")
	if n := b.E.Workers(); n != 1 {
		t.Errorf("%d workers", n)
	}
}

// TestNoAllocationsHandingOver: neither do workers that hand packets to each
// other allocate anything.
func TestNoAllocationsHandingOver(t *testing.T) {
	b := twoPorts(t, nil)
	b.Apply(&fastpath.Change{Global: &fastpath.Global{Workers: 2}})
	peer, far, pool := b.Mem.Peer("a"), b.Mem.Peer("b"), b.E.Pool()
	cache := peer.Cache()
	var frames [][]byte
	for i := range 64 {
		frames = append(frames, testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", SPort: 3000 + uint16(i), DPort: 53, Len: 64}.From(21, 1))
	}
	var d, got [64]sal.Desc
	sent := 0
	n := testing.AllocsPerRun(50, func() {
		for i, f := range frames {
			x, ok := cache.Alloc()
			if !ok {
				t.Fatal("no buffers")
			}
			d[i] = sal.MakeDesc(x, sal.Headroom, uint16(len(f)))
			copy(mem.Bytes(pool.Addr(d[i]), len(f)), f)
		}
		if peer.Send(0, d[:]) != len(d) {
			t.Fatal("ring full")
		}
		for range 2 {
			b.E.Turn(0)
			b.E.Turn(1)
		}
		b.E.Turn(0)
		k := far.Recv(got[:])
		cache.FreeDescs(got[:k])
		sent += k
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	team := b.State(&fastpath.Query{Process: true}).Process.Workers
	if !slices.ContainsFunc(team, func(w fastpath.Worker) bool { return w.Taken > 100 && w.Sent > 100 }) || sent < 64*50 {
		t.Errorf("%d packets came out; %+v", sent, team)
	}
}
