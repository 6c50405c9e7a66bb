package fastpath

import (
	"net/netip"
	"testing"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/memory"
)

// TestHandleOfAnother: a packet that waits between worker and control side, for an
// adjacency that is another neighbour's when it is its turn, goes to nobody.
func TestHandleOfAnother(t *testing.T) {
	m := memory.New(memory.Options{})
	reg := &sal.Registry{}
	reg.AddDriver(m)
	e, err := New(Options{Manual: true, Registry: reg, Buffers: 4096, Flows4: 1 << 10, Flows6: 1 << 10, Routes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		m.Peer("a").Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	peer := m.Peer("a")
	key := neigh.Key{Iface: "a", Addr: netip.MustParseAddr("10.0.0.2")}
	id, err := e.Prepare(t.Context(), &Change{
		Iface: iface.Change{Set: []iface.Config{{Name: "a", Driver: "memory", Queues: 1, MTU: 1500, Enabled: true, V4: iface.IP{Enabled: true, Forwarding: true}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}},
		Neigh: neigh.Change{Set: []neigh.Config{{Key: key, MAC: [6]byte{2, 9}}}}})
	if err == nil {
		err = e.Publish(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	turn := func() int {
		e.Step()
		e.Turn(0)
		e.Step()
		e.Turn(0)
		return len(peer.Collect(100))
	}
	turn()
	i := e.env.Snap.Load().Ifaces.At(1)
	adj := e.f.neigh.Find4(i.Index, 10<<24|2)
	packet := func() sal.Desc {
		d, b, ok := e.env.Control.Frame()
		if !ok {
			t.Fatal("no buffer")
		}
		d = sal.MakeDesc(d.Buf(), d.Off()+pipeline.EthLen, 60)
		copy(b[pipeline.EthLen:], []byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 10, 0, 0, 2})
		return d
	}
	dropped := func() (n uint64) {
		for _, w := range e.workers {
			n += w.Ctx().Ifs().Drop.At(uint32(i.Index))[drop.NeighFailed]
		}
		return n + e.env.Control.Ifs().Drop.At(uint32(i.Index))[drop.NeighFailed]
	}
	forward := func() { e.env.Control.Forward(0, pipeline.CtlMsg{Desc: packet(), In: i.Index}, adj) }
	to, _ := e.workers[0].Ctx().Control()
	resolve := func() {
		to.Put(pipeline.CtlMsg{Desc: packet(), Op: pipeline.CtlResolve, In: i.Index, Gen: e.env.Adj.Tail(adj), Arg: adj})
	}
	for name, send := range map[string]func(){"to the worker": forward, "to the control side": resolve} {
		before := dropped()
		send()
		if n := turn(); n != 1 || dropped() != before {
			t.Errorf("%s: %d frames came out, %d dropped", name, n, dropped()-before)
		}
		send()
		e.env.Adj.Bump(adj) // as when it is given back and taken again
		if n := turn(); n != 0 || dropped() != before+1 {
			t.Errorf("%s, behind a change: %d frames came out, %d dropped", name, n, dropped()-before)
		}
	}
}
