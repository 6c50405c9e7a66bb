package fastpath_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

func inventory(b *testbed.Bed) map[string]map[string]fastpath.Digest {
	b.T.Helper()
	v, err := b.E.Inventory(context.Background())
	if err != nil {
		b.T.Fatal(err)
	}
	return v.Objects
}

// TestRefusals: what cannot be is refused with the object and field at fault,
// and nothing has changed anywhere: not the configuration, not the traffic, not
// what ports are open.
func TestRefusals(t *testing.T) {
	b := twoPorts(t, nil)
	frame := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 80}.From(21, 1)
	b.Exchange("a", [][]byte{frame}, "b")
	before := inventory(b)
	pre := netip.MustParsePrefix
	mod := func(f func(*iface.Config)) fastpath.Change {
		c := testbed.Iface("c", 3, "10.0.3.1/24")
		f(&c)
		return fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}}
	}
	for _, c := range []struct {
		name          string
		c             fastpath.Change
		object, field string
	}{
		{"driver", mod(func(c *iface.Config) { c.Driver = "dpdk" }), "c", "Driver"},
		{"queues", mod(func(c *iface.Config) { c.Queues = 0 }), "c", "Queues"},
		{"device in use", mod(func(c *iface.Config) { c.Device = "a" }), "c", "Device"},
		{"MTU", mod(func(c *iface.Config) { c.MTU = 9217 }), "c", "MTU"},
		{"MTU below IPv6's", mod(func(c *iface.Config) { c.MTU = 1000 }), "c", "V6.MTU"},
		{"group MAC", mod(func(c *iface.Config) { c.MAC[0] = 1 }), "c", "MAC"},
		{"multicast address", mod(func(c *iface.Config) { c.Addrs = []netip.Prefix{pre("224.0.0.1/24")} }), "c", "Addrs"},
		{"address twice", mod(func(c *iface.Config) { c.Addrs = []netip.Prefix{pre("10.0.3.1/24"), pre("10.0.3.1/32")} }), "c", "Addrs"},
		{"delete unknown", fastpath.Change{Iface: iface.Change{Delete: []string{"x"}}}, "x", ""},
		{"delete in use", fastpath.Change{Iface: iface.Change{Delete: []string{"b"}}, Neigh: neigh.Change{Delete: []neigh.Key{
			{Iface: "b", Addr: netip.MustParseAddr("10.0.2.2")}, {Iface: "b", Addr: netip.MustParseAddr("2001:db8:2::2")}}},
			Route: route.Change{Delete: []netip.Prefix{pre("192.0.2.0/24"), pre("2001:db8:f::/48"), pre("10.0.2.1/32"), pre("2001:db8:2::1/128"), pre("2001:db8:2::/64")}}},
			"10.0.2.0/24", "Iface"},
		{"delete with static neighbour", fastpath.Change{Iface: iface.Change{Delete: []string{"b"}}, Neigh: neigh.Change{Delete: []neigh.Key{
			{Iface: "b", Addr: netip.MustParseAddr("10.0.2.2")}}}}, "b 2001:db8:2::2", "Iface"},
		{"neighbour without interface", fastpath.Change{Neigh: neighChange("x", "10.0.3.2", 9)}, "x 10.0.3.2", "Iface"},
		{"neighbour with group MAC", fastpath.Change{Neigh: neigh.Change{Set: []neigh.Config{{Key: neigh.Key{Iface: "a", Addr: netip.MustParseAddr("10.0.1.9")}, MAC: [6]byte{1}}}}}, "a 10.0.1.9", "MAC"},
		{"multicast neighbour", fastpath.Change{Neigh: neighChange("a", "224.0.0.1", 9)}, "a 224.0.0.1", "Addr"},
		{"delete unknown neighbour", fastpath.Change{Neigh: neigh.Change{Delete: []neigh.Key{{Iface: "a", Addr: netip.MustParseAddr("10.0.1.77")}}}}, "a 10.0.1.77", ""},
		{"route over unknown interface", fastpath.Change{Route: route.Change{Set: []route.Config{testbed.Route("198.51.100.0/24", "10.0.2.2", "x")}}}, "198.51.100.0/24", "Iface"},
		{"host bits", fastpath.Change{Route: route.Change{Set: []route.Config{testbed.Route("198.51.100.1/24", "10.0.2.2", "b")}}}, "198.51.100.1/24", "Prefix"},
		{"next hop of the other family", fastpath.Change{Route: route.Change{Set: []route.Config{testbed.Route("198.51.100.0/24", "2001:db8:2::2", "b")}}}, "198.51.100.0/24", "NextHop"},
		{"next hop of a special route", fastpath.Change{Route: route.Change{Set: []route.Config{{Prefix: pre("198.51.100.0/24"), Kind: route.Blackhole, NextHop: netip.MustParseAddr("10.0.2.2")}}}}, "198.51.100.0/24", "NextHop"},
		{"delete unknown route", fastpath.Change{Route: route.Change{Delete: []netip.Prefix{pre("198.51.100.0/24")}}}, "198.51.100.0/24", ""},
		// The first parts are good, so they must be undone.
		{"late", fastpath.Change{Iface: iface.Change{Set: []iface.Config{testbed.Iface("c", 3, "10.0.3.1/24"), testbed.Iface("d", 4)}},
			Neigh: neighChange("c", "10.0.3.2", 9), Route: route.Change{Set: []route.Config{testbed.Route("198.51.100.0/24", "10.0.3.2", "c"),
				testbed.Route("198.51.101.0/24", "10.0.3.2", "x")}}}, "198.51.101.0/24", "Iface"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.Forget()
			b.Refused(&c.c, c.object, c.field)
			if after := inventory(b); !reflect.DeepEqual(after, before) {
				t.Error("the configuration has changed")
			}
			got := b.Exchange("a", [][]byte{frame}, "b")[0]
			if len(got) != 1 || !bytes.Equal(got[0], forwarded(frame, 2, 22)) {
				t.Error("the traffic has changed")
			}
			b.Moved("a rx 1, b tx 1")
			if p, err := b.Mem.Open(portConfig("c"), b.E.Pool()); err != nil {
				t.Errorf("port c was left open: %v", err)
			} else {
				p.Close()
			}
		})
	}
}

// TestTickets: one change at a time; a ticket is good once.
func TestTickets(t *testing.T) {
	b := twoPorts(t, nil)
	ctx := context.Background()
	t1, err := b.E.Prepare(ctx, &fastpath.Change{Label: "one"})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := b.E.Prepare(short, &fastpath.Change{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second change gave %v, want to wait in vain", err)
	}
	if err := b.E.Publish(ctx, t1+1); !errors.Is(err, fastpath.ErrTicket) {
		t.Errorf("an unknown ticket gave %v", err)
	}
	if err := b.E.Abort(ctx, t1); err != nil {
		t.Error(err)
	}
	if err := b.E.Publish(ctx, t1); !errors.Is(err, fastpath.ErrTicket) {
		t.Errorf("an aborted ticket gave %v", err)
	}
	b.Apply(&fastpath.Change{Label: "two"})
	if v, _ := b.E.Inventory(ctx); v.Label != "two" {
		t.Errorf("label %q", v.Label)
	}
}

// TestInventory: digests are those of the configuration, whoever computes them.
func TestInventory(t *testing.T) {
	b := twoPorts(t, nil)
	caps, err := b.E.Caps(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	special := route.Config{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Kind: route.Prohibit}
	b.Apply(&fastpath.Change{Global: &fastpath.Global{}, Route: route.Change{Set: []route.Config{special}}})
	ia, ib := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64"), testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
	want := map[string]map[string]fastpath.Digest{"policy": {}, "sa": {}, "global": {"": fastpath.DigestOf(caps.DigestKey, fastpath.Global{})},
		"iface": {}, "neigh": {}, "route": {}}
	for _, c := range []iface.Config{ia, ib} {
		want["iface"][c.ObjectKey()] = fastpath.DigestOf(caps.DigestKey, c)
	}
	for _, c := range []neigh.Config{testbed.Neigh("a", "10.0.1.2", 21), testbed.Neigh("a", "2001:db8:1::2", 21), testbed.Neigh("b", "10.0.2.2", 22), testbed.Neigh("b", "2001:db8:2::2", 22)} {
		want["neigh"][c.ObjectKey()] = fastpath.DigestOf(caps.DigestKey, &c)
	}
	for _, c := range append(testbed.Connected(ia, ib), special, testbed.Route("192.0.2.0/24", "10.0.2.2", "b"), testbed.Route("2001:db8:f::/48", "2001:db8:2::2", "b")) {
		want["route"][c.ObjectKey()] = fastpath.DigestOf(caps.DigestKey, c)
	}
	got := inventory(b)
	for f := range want {
		if !maps.Equal(got[f], want[f]) {
			t.Errorf("%s: %d objects, want %d, or other digests\n%v\n%v", f, len(got[f]), len(want[f]), got[f], want[f])
		}
	}
	other := ia
	other.V6.Forwarding = false
	if fastpath.DigestOf(caps.DigestKey, other) == want["iface"]["a"] {
		t.Error("another configuration has the same digest")
	}
}

// threePorts adds a port c (10.0.3.1/24, MAC 3) with a neighbour 10.0.3.2 (MAC
// 23) and an IPv6 twin.
func threePorts(t testing.TB) *testbed.Bed {
	b := twoPorts(t, nil)
	ic := testbed.Iface("c", 3, "10.0.3.1/24", "2001:db8:3::1/64")
	b.Mem.Peer("c")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}, Route: route.Change{Set: testbed.Connected(ic)},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("c", "10.0.3.2", 23), testbed.Neigh("c", "2001:db8:3::2", 23), testbed.Neigh("c", "10.0.2.2", 24)}}})
	b.Run()
	b.Recv("c")
	b.Forget()
	return b
}

// TestRouteChange: a flow that is in the cache follows every change of what its
// way hangs on, at once.
func TestRouteChange(t *testing.T) {
	b := threePorts(t)
	del := func(p string) fastpath.Change {
		return fastpath.Change{Route: route.Change{Delete: []netip.Prefix{netip.MustParsePrefix(p)}}}
	}
	set := func(r ...route.Config) fastpath.Change { return fastpath.Change{Route: route.Change{Set: r}} }
	edit := func(name string, n byte, f func(*iface.Config), addrs ...string) fastpath.Change {
		c := testbed.Iface(name, n, addrs...)
		f(&c)
		return fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}}
	}
	both := func(f func(*iface.Config)) fastpath.Change {
		return edit("b", 2, f, "10.0.2.1/24", "2001:db8:2::1/64")
	}
	far := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.200", SPort: 7, Len: 700}
	near := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", SPort: 7, Len: 700}
	far6 := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", SPort: 7, Len: 1300}
	type way struct {
		out, src, to byte
		reason       string
	}
	viaB, viaC := way{out: 'b', src: 2, to: 22}, way{out: 'c', src: 3, to: 23}
	for _, c := range []struct {
		name string
		c    fastpath.Change
		p    testbed.Packet
		want way
	}{
		{"as it is", fastpath.Change{}, far, viaB},
		{"replaced", set(testbed.Route("192.0.2.0/24", "10.0.3.2", "c")), far, viaC},
		{"back", set(testbed.Route("192.0.2.0/24", "10.0.2.2", "b")), far, viaB},
		{"more specific", set(testbed.Route("192.0.2.128/25", "10.0.3.2", "c")), far, viaC},
		{"host route", set(testbed.Route("192.0.2.200/32", "10.0.2.2", "b")), far, viaB},
		{"less specific, no matter", set(testbed.Route("192.0.0.0/16", "10.0.3.2", "c")), far, viaB},
		{"host route gone", del("192.0.2.200/32"), far, viaC},
		{"more specific gone", del("192.0.2.128/25"), far, viaB},
		{"own gone, less specific left", del("192.0.2.0/24"), far, viaC},
		{"none left", del("192.0.0.0/16"), far, way{reason: "no-route"}},
		{"default", set(testbed.Route("0.0.0.0/0", "10.0.2.2", "b")), far, viaB},
		{"blackhole", set(route.Config{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Kind: route.Blackhole}), far, way{reason: "blackhole"}},
		{"unreachable", set(route.Config{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Kind: route.Unreachable}), far, way{reason: "unreachable"}},
		{"and a way again", set(testbed.Route("192.0.2.0/24", "10.0.3.2", "c")), far, viaC},
		{"own address", set(route.Config{Prefix: netip.MustParsePrefix("192.0.2.200/32"), Kind: route.Receive, Iface: "a"}), far, way{reason: "local-udp"}},
		{"no own address", del("192.0.2.200/32"), far, viaC},

		{"connected", fastpath.Change{}, near, viaB},
		{"host route over connected", set(testbed.Route("10.0.2.2/32", "10.0.3.2", "c")), near, viaC},
		{"connected again", del("10.0.2.2/32"), near, viaB},
		{"connected prefix moves", set(testbed.Route("10.0.2.0/24", "", "c")), near, way{out: 'c', src: 3, to: 24}},
		{"connected prefix back", set(testbed.Route("10.0.2.0/24", "", "b")), near, viaB},
		{"neighbour's MAC", fastpath.Change{Neigh: neighChange("b", "10.0.2.2", 44)}, near, way{out: 'b', src: 2, to: 44}},
		{"and back", fastpath.Change{Neigh: neighChange("b", "10.0.2.2", 22)}, near, viaB},
		{"interface's MAC", both(func(c *iface.Config) { c.MAC = testbed.MAC(77) }), near, way{out: 'b', src: 77, to: 22}},
		{"and back", both(func(*iface.Config) {}), near, viaB},
		{"smaller MTU", both(func(c *iface.Config) { c.V4.MTU = 600 }), testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", SPort: 7, Len: 700, DF: true}, way{reason: "too-big"}},
		{"larger MTU", both(func(*iface.Config) {}), near, viaB},

		{"IPv6", fastpath.Change{}, far6, viaB},
		{"IPv6 replaced", set(testbed.Route("2001:db8:f::/48", "2001:db8:3::2", "c")), far6, viaC},
		{"IPv6 more specific", set(testbed.Route("2001:db8:f::/64", "2001:db8:2::2", "b")), far6, viaB},
		{"IPv6 MTU", both(func(c *iface.Config) { c.V6.MTU = 1280 }), far6, way{reason: "too-big"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.Apply(&c.c)
			b.Run()
			for _, p := range []string{"a", "b", "c"} {
				b.Recv(p)
			}
			b.Forget()
			frame := c.p.From(21, 1)
			for range 2 {
				got := b.Exchange("a", [][]byte{frame}, "b", "c")
				if c.want.reason != "" {
					if len(got[0])+len(got[1]) > 0 {
						t.Errorf("came out: %.80x %.80x", got[0], got[1])
					}
					drops := 0
					for _, d := range b.State(&fastpath.Query{Drops: true}).Drops {
						if d.Reason == c.want.reason {
							drops = int(d.Packets)
						}
					}
					if drops == 0 {
						t.Errorf("not dropped for %s", c.want.reason)
					}
					continue
				}
				k := int(c.want.out - 'b')
				if len(got[k]) != 1 || len(got[1-k]) != 0 || !bytes.Equal(got[k][0], forwarded(frame, c.want.src, c.want.to)) {
					t.Fatalf("came out of b: %.60x\nout of c: %.60x\nwant out of %c: %.60x", got[0], got[1], c.want.out, forwarded(frame, c.want.src, c.want.to))
				}
			}
		})
	}
}

// TestInterfaceLife: an interface is deleted, and made again, in one commit or
// two; counters and state begin anew, and others do not notice.
func TestInterfaceLife(t *testing.T) {
	b := threePorts(t)
	frame := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.3.2", Len: 100}.From(21, 1)
	other := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", Len: 100}.From(21, 1)
	b.Exchange("a", [][]byte{frame, other}, "b", "c")
	b.Moved("a rx 2, b tx 1, c tx 1")
	gone := fastpath.Change{
		Iface: iface.Change{Delete: []string{"c"}},
		Neigh: neigh.Change{Delete: []neigh.Key{{Iface: "c", Addr: netip.MustParseAddr("10.0.3.2")}, {Iface: "c", Addr: netip.MustParseAddr("2001:db8:3::2")}, {Iface: "c", Addr: netip.MustParseAddr("10.0.2.2")}}},
		Route: route.Change{Delete: []netip.Prefix{netip.MustParsePrefix("10.0.3.0/24"), netip.MustParsePrefix("10.0.3.1/32"),
			netip.MustParsePrefix("2001:db8:3::/64"), netip.MustParsePrefix("2001:db8:3::1/128"), netip.MustParsePrefix("2001:db8:3::/128")}},
	}
	b.Apply(&gone)
	b.Forget()
	b.Exchange("a", [][]byte{frame, other}, "b", "c")
	b.Moved("a rx 2, b tx 1, a tx 1, a drop no-route 1")
	ic := testbed.Iface("c", 5, "10.0.3.1/24", "2001:db8:3::1/64")
	again := fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}, Route: route.Change{Set: testbed.Connected(ic)},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("c", "10.0.3.2", 23)}}}
	b.Apply(&again)
	if s := b.State(&fastpath.Query{Ifaces: []string{"c"}}).Ifaces[0]; s.Counters.TxPackets != 0 && s.Counters.TxBroadcast == 0 {
		t.Errorf("the new interface begins with %+v", s.Counters)
	}
	b.Run()
	b.Recv("c")
	b.Recv("a")
	b.Forget()
	got := b.Exchange("a", [][]byte{frame, other}, "c", "b")
	if len(got[0]) != 1 || !bytes.Equal(got[0][0], forwarded(frame, 5, 23)) {
		t.Errorf("through the new interface: %x", got[0])
	}
	b.Moved("a rx 2, b tx 1, c tx 1")

	// Two queues need the port opened anew; the interface stays what it is.
	ic.Queues = 2
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}})
	b.Run()
	b.Recv("c")
	b.Forget()
	b.Exchange("a", [][]byte{frame, other}, "c", "b")
	b.Moved("a rx 2, b tx 1, c tx 1")
	if n := b.Mem.Peer("c").InjectTo(1, testbed.Packet{Src: "10.0.3.2", Dst: "10.0.1.2", Len: 60}.From(23, 5)); n != 1 {
		t.Fatal("the second queue takes nothing")
	}
	b.Run()
	b.Moved("c rx 1, a tx 1")
}

// TestRename: the device of an interface that goes serves another one made in
// the same commit.
func TestRename(t *testing.T) {
	b := twoPorts(t, nil)
	c := testbed.Iface("new", 2, "10.0.2.1/24")
	c.Device, c.MAC = "b", [6]byte{}
	var del []netip.Prefix
	for _, r := range testbed.Connected(testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")) {
		if r.Prefix.Addr().Is6() {
			del = append(del, r.Prefix)
		}
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Delete: []string{"b"}, Set: []iface.Config{c}},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("new", "10.0.2.2", 22)}, Delete: []neigh.Key{{Iface: "b", Addr: netip.MustParseAddr("10.0.2.2")}, {Iface: "b", Addr: netip.MustParseAddr("2001:db8:2::2")}}},
		Route: route.Change{Set: append(testbed.Connected(c), testbed.Route("192.0.2.0/24", "10.0.2.2", "new")), Delete: append(del, netip.MustParsePrefix("2001:db8:f::/48"))}})
	b.Run()
	b.Recv("b")
	frame := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 80}.From(21, 1)
	got := b.Exchange("a", [][]byte{frame}, "b")[0]
	own := b.State(&fastpath.Query{Ifaces: []string{"new"}}).Ifaces[0].MAC
	if len(got) != 1 || own == [6]byte{} || [6]byte(pkt.Ethernet(got[0]).Src()) != own || pkt.Ethernet(got[0]).Dst() != testbed.MAC(22) {
		t.Errorf("came out: %x, the interface's own address is %x", got, own)
	}
}

// TestStates reads what a management plane shows.
func TestStates(t *testing.T) {
	b := twoPorts(t, nil)
	b.Exchange("a", [][]byte{testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 86}.From(21, 1), testbed.Packet{Src: "10.0.1.2", Dst: "198.51.100.1", Len: 60}.From(21, 1)}, "b")
	s := b.State(&fastpath.Query{Ifaces: []string{"a"}, Routes: true, Drops: true, Process: true, Neighbours: []string{"b"}})
	if len(s.Ifaces) != 1 || s.Ifaces[0].Name != "a" || !s.Ifaces[0].Admin || !s.Ifaces[0].Link || s.Ifaces[0].MAC != testbed.MAC(1) || s.Ifaces[0].IfIndex != 1 ||
		s.Ifaces[0].Counters.RxOctets != 174 || s.Ifaces[0].Counters.RxUnicast != 2 {
		t.Errorf("interfaces %+v", s.Ifaces)
	}
	if len(s.Routes) != 12 {
		t.Errorf("%d routes, want 12", len(s.Routes))
	}
	for _, r := range s.Routes {
		if !r.Resolved {
			t.Errorf("not resolved: %+v", r)
		}
	}
	if len(s.Drops) != 1 || s.Drops[0].Reason != "no-route" || s.Drops[0].Severity != "config" || len(s.Drops[0].Ifaces) != 1 || s.Drops[0].Ifaces[0] != (fastpath.IfaceDrop{Iface: "a", Packets: 1}) {
		t.Errorf("drops %+v", s.Drops)
	}
	if len(s.Neighbours) != 2 {
		t.Errorf("neighbours %+v", s.Neighbours)
	}
	p := s.Process
	if p.Workers[0].Packets != 2 || p.Flows.Misses == 0 || len(p.Engines) != 1 {
		t.Errorf("process %+v", p)
	}
	if got := p.Buffers.Free + p.Buffers.Cached + p.Buffers.Ports + p.Buffers.Waiting + p.Buffers.InFlight; got != p.Buffers.Total {
		t.Errorf("buffers %+v: %d accounted for of %d", p.Buffers, got, p.Buffers.Total)
	}
}

func portConfig(name string) sal.PortConfig {
	return sal.PortConfig{Name: name, Queues: 1, MTU: 1500}
}

// BenchmarkCommit measures what a commit costs in the fast path: one interface
// among n, and n interfaces at once.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{100, 10000} {
		many := make([]iface.Config, n)
		for i := range many {
			many[i] = testbed.Iface(fmt.Sprint("if", i), byte(i), fmt.Sprintf("10.%d.%d.1/24", i>>8, i&255))
			many[i].MAC[4] = byte(i >> 8)
		}
		b.Run(fmt.Sprintf("one-of-%d", n), func(b *testing.B) {
			bed := testbed.New(b, func(o *fastpath.Options) { o.Routes = 1 << 16 })
			bed.Apply(&fastpath.Change{Iface: iface.Change{Set: many}, Route: route.Change{Set: testbed.Connected(many...)}})
			time.Sleep(100 * time.Millisecond)
			for i := 0; b.Loop(); i++ {
				c := many[i%n]
				c.MTU = uint16(1400 + i%100)
				bed.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
			}
		})
		b.Run(fmt.Sprintf("all-%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				bed := testbed.New(b, func(o *fastpath.Options) { o.Routes = 1 << 16 })
				b.StartTimer()
				bed.Apply(&fastpath.Change{Iface: iface.Change{Set: many}, Route: route.Change{Set: testbed.Connected(many...)}})
			}
		})
	}
}
