package fastpath_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// hops are next hops 10.0.N.2 and 2001:db8:N::2 by port N, with weights.
func hops(v6 bool, weights map[int]int) route.Hops {
	var l []route.Hop
	for n, w := range weights {
		a := fmt.Sprintf("10.0.%d.2", n)
		if v6 {
			a = fmt.Sprintf("2001:db8:%d::2", n)
		}
		l = append(l, route.Hop{Iface: fmt.Sprint("p", n), NextHop: netip.MustParseAddr(a), Weight: uint16(w)})
	}
	return route.MakeHops(l)
}

// manyPorts is a fast path with ports p1 to pN; a neighbour with the MAC 20+N is
// behind each. What comes in by p1 goes to the default route, given by the test.
func manyPorts(t testing.TB, n int, opt func(*fastpath.Options)) *testbed.Bed {
	b := testbed.New(t, func(o *fastpath.Options) {
		o.Buffers = 16384 // each peer's cache may hoard 1024
		if opt != nil {
			opt(o)
		}
	})
	var c fastpath.Change
	for i := 1; i <= n; i++ {
		name := fmt.Sprint("p", i)
		b.Mem.Peer(name)
		x := testbed.Iface(name, byte(i), fmt.Sprintf("10.0.%d.1/24", i), fmt.Sprintf("2001:db8:%d::1/64", i))
		c.Iface.Set = append(c.Iface.Set, x)
		c.Neigh.Set = append(c.Neigh.Set, testbed.Neigh(name, fmt.Sprintf("10.0.%d.2", i), byte(20+i)), testbed.Neigh(name, fmt.Sprintf("2001:db8:%d::2", i), byte(20+i)))
		c.Route.Set = append(c.Route.Set, testbed.Connected(x)...)
	}
	b.Apply(&c)
	b.Run()
	for i := 1; i <= n; i++ {
		b.Recv(fmt.Sprint("p", i))
	}
	b.Forget()
	return b
}

// spread sends one packet of each of n flows and says by which port each left.
func spread(b *testbed.Bed, v6 bool, ports, n int) map[int]int {
	out := map[int]int{}
	for at := 0; at < n; at += 100 {
		for i := at; i < min(n, at+100); i++ {
			p := testbed.Packet{Src: "10.0.1.2", Dst: fmt.Sprintf("198.51.100.%d", i%200), SPort: uint16(i), DPort: 80, Len: 60}
			if v6 {
				p.Src, p.Dst = "2001:db8:1::2", fmt.Sprintf("2001:db8:f::%x", i%200)
			}
			b.Send("p1", p.From(21, 1))
		}
		b.Run()
		for k := 1; k <= ports; k++ {
			for _, f := range b.Recv(fmt.Sprint("p", k)) {
				o, _ := pkt.Parse(f)
				if pkt.Ethernet(f).Dst() != testbed.MAC(byte(20+k)) {
					b.T.Errorf("port %d: to %v", k, pkt.Ethernet(f).Dst())
				}
				out[int(pkt.UDP(f[o.L4:]).SrcPort())] = k
			}
		}
	}
	if len(out) != n {
		b.T.Errorf("%d of %d packets arrived", len(out), n)
	}
	return out
}

func defaultRoute(v6 bool, h route.Hops) *fastpath.Change {
	p := "0.0.0.0/0"
	if v6 {
		p = "::/0"
	}
	return &fastpath.Change{Route: route.Change{Set: []route.Config{{Prefix: netip.MustParsePrefix(p), Hops: h}}}}
}

// TestMultipath: flows spread by weight, each stays on its way, and only those
// of a next hop that goes find another; with the flow cache and without.
func TestMultipath(t *testing.T) {
	const n = 4000
	for _, v6 := range []bool{false, true} {
		for _, cached := range []bool{true, false} {
			t.Run(fmt.Sprint(v6, cached), func(t *testing.T) {
				b := manyPorts(t, 5, func(o *fastpath.Options) {
					if !cached {
						o.Flows4, o.Flows6 = -1, -1
					}
				})
				b.Apply(defaultRoute(v6, hops(v6, map[int]int{2: 1, 3: 1, 4: 2})))
				first := spread(b, v6, 5, n)
				share := map[int]int{}
				for _, k := range first {
					share[k]++
				}
				for k, w := range map[int]int{2: 1, 3: 1, 4: 2} {
					if want := n * w / 4; share[k] < want*8/10 || share[k] > want*12/10 {
						t.Errorf("next hop %d has %d flows, want about %d", k, share[k], want)
					}
				}
				for range 2 {
					for i, k := range spread(b, v6, 5, n) {
						if k != first[i] {
							t.Fatalf("flow %d moved from %d to %d without reason", i, first[i], k)
						}
					}
				}
				// One goes.
				b.Apply(defaultRoute(v6, hops(v6, map[int]int{2: 1, 4: 2})))
				second := spread(b, v6, 5, n)
				for i, k := range second {
					if k != first[i] && first[i] != 3 || k == 3 {
						t.Fatalf("flow %d is on %d, was on %d", i, k, first[i])
					}
				}
				// Another comes: it takes, and moves nothing else.
				b.Apply(defaultRoute(v6, hops(v6, map[int]int{2: 1, 4: 2, 5: 3})))
				took := 0
				for i, k := range spread(b, v6, 5, n) {
					if k == 5 {
						took++
					} else if k != second[i] {
						t.Fatalf("flow %d moved from %d to %d", i, second[i], k)
					}
				}
				if took < n*4/10 || took > n*6/10 {
					t.Errorf("the new one has %d of %d flows, want half", took, n)
				}
				// And the route becomes a plain one, and goes.
				p := netip.MustParsePrefix("0.0.0.0/0")
				hop := netip.MustParseAddr("10.0.2.2")
				if v6 {
					p, hop = netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8:2::2")
				}
				b.Apply(&fastpath.Change{Route: route.Change{Set: []route.Config{{Prefix: p, Iface: "p2", NextHop: hop}}}})
				for i, k := range spread(b, v6, 5, 100) {
					if k != 2 {
						t.Fatalf("flow %d is on %d", i, k)
					}
				}
			})
		}
	}
}

// TestMultipathFlows: a more specific route below one with several next hops
// takes its flows at once, and gives them back.
func TestMultipathFlows(t *testing.T) {
	b := manyPorts(t, 4, nil)
	b.Apply(defaultRoute(false, hops(false, map[int]int{2: 1, 3: 1})))
	first := spread(b, false, 4, 500)
	b.Apply(&fastpath.Change{Route: route.Change{Set: []route.Config{testbed.Route("198.51.100.0/24", "10.0.4.2", "p4")}}})
	for i, k := range spread(b, false, 4, 500) {
		if k != 4 {
			t.Fatalf("flow %d is on %d", i, k)
		}
	}
	b.Apply(&fastpath.Change{Route: route.Change{Delete: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}})
	for i, k := range spread(b, false, 4, 500) {
		if k != first[i] {
			t.Fatalf("flow %d is on %d, was on %d", i, k, first[i])
		}
	}
}

// TestMultipathConfig: what is refused, what state shows, and that everything
// comes back: the bed reports what is left when it closes.
func TestMultipathConfig(t *testing.T) {
	b := manyPorts(t, 3, nil)
	two := hops(false, map[int]int{2: 1, 3: 5})
	p := netip.MustParsePrefix("192.0.2.0/24")
	set := func(c route.Config) *fastpath.Change {
		return &fastpath.Change{Route: route.Change{Set: []route.Config{c}}}
	}
	one := func(iface, hop string) route.Hops {
		return route.MakeHops([]route.Hop{{Iface: "p2", NextHop: netip.MustParseAddr("10.0.2.2")}, {Iface: iface, NextHop: netip.MustParseAddr(hop)}})
	}
	b.Refused(set(route.Config{Prefix: p, Hops: one("p9", "10.0.3.2")}), p.String(), "Iface")
	b.Refused(set(route.Config{Prefix: p, Hops: one("p3", "224.0.0.1")}), p.String(), "NextHop")
	b.Refused(set(route.Config{Prefix: p, Hops: one("p3", "2001:db8::1")}), p.String(), "NextHop")
	b.Refused(set(route.Config{Prefix: p, Hops: "nonsense"}), p.String(), "Hops")
	b.Refused(set(route.Config{Prefix: p, Hops: two, Iface: "p2"}), p.String(), "Hops")
	var many []route.Hop
	for i := range route.MaxHops + 1 {
		many = append(many, route.Hop{Iface: "p2", NextHop: netip.AddrFrom4([4]byte{10, 0, 2, byte(10 + i)})})
	}
	b.Refused(set(route.Config{Prefix: p, Hops: route.MakeHops(many)}), p.String(), "Hops")
	b.Apply(set(route.Config{Prefix: p, Hops: two}))
	// An interface that a group names cannot go; when the routes go, it can.
	del := &fastpath.Change{Iface: iface.Change{Delete: []string{"p3"}}, Neigh: neigh.Change{Delete: []neigh.Key{
		{Iface: "p3", Addr: netip.MustParseAddr("10.0.3.2")}, {Iface: "p3", Addr: netip.MustParseAddr("2001:db8:3::2")}}}}
	for _, a := range testbed.Connected(testbed.Iface("p3", 3, "10.0.3.1/24", "2001:db8:3::1/64")) {
		del.Route.Delete = append(del.Route.Delete, a.Prefix)
	}
	b.Refused(del, p.String(), "Iface")
	q := netip.MustParsePrefix("192.0.3.0/24")
	b.Apply(set(route.Config{Prefix: q, Hops: two}))
	found := 0
	for _, r := range b.State(&fastpath.Query{Routes: true}).Routes {
		if r.Hops == two && (r.Prefix == p || r.Prefix == q) && r.Resolved && r.Iface == "" {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d routes with the two next hops in the state, want 2", found)
	}
	// Deleted and made again in one change: the group is by the new one.
	again := *del
	x := testbed.Iface("p3", 3, "10.0.3.1/24", "2001:db8:3::1/64")
	again.Iface.Set = []iface.Config{x}
	again.Route.Delete = nil
	again.Route.Set = append(testbed.Connected(x), route.Config{Prefix: p, Hops: two}, route.Config{Prefix: q, Hops: two})
	again.Neigh.Set = []neigh.Config{testbed.Neigh("p3", "10.0.3.2", 23)}
	b.Apply(&again)
	b.Run()
	b.Recv("p3")
	frame := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.9", Len: 60}
	left := 0
	for i := range 50 {
		frame.SPort = uint16(i)
		got := b.Exchange("p1", [][]byte{frame.From(21, 1)}, "p2", "p3")
		if len(got[1]) == 1 && bytes.Equal(got[1][0][:6], []byte{2, 0, 0, 0, 0, 23}) {
			left++
		}
	}
	if left < 30 {
		t.Errorf("%d of 50 flows left by the new interface, want about 42", left)
	}
	del.Neigh.Delete = del.Neigh.Delete[:1]
	del.Route.Delete = append(del.Route.Delete, p, q)
	b.Apply(del)
	b.Mem.Peer("p3").Close()
}

// TestMultipathAllocates nothing.
func TestMultipathAllocates(t *testing.T) {
	b := manyPorts(t, 3, func(o *fastpath.Options) { o.Flows4 = -1 })
	b.Apply(defaultRoute(false, hops(false, map[int]int{2: 1, 3: 1})))
	var fs [][]byte
	for i := range 64 {
		fs = append(fs, testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.9", SPort: uint16(i), Len: 60}.From(21, 1))
	}
	peer := b.Mem.Peer("p1")
	if n := testing.AllocsPerRun(1, func() { peer.Inject(fs...) }); n > 0 {
		t.Skip("the peer allocates")
	}
	if n := testing.AllocsPerRun(5, func() { peer.Inject(fs...); b.E.Turn(0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
