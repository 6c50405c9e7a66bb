package fastpath_test

import (
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/pipeline"
)

// checked makes port p1 of manyPorts check the sources of both families.
func checked(b *testbed.Bed, how pipeline.SourceCheck) {
	x := testbed.Iface("p1", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	x.V4.Sources, x.V6.Sources = how, how
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{x}}})
	b.Run()
	b.Recv("p1")
	b.Forget()
}

// sourceCase is a source behind port p1, and what the checks say of it.
type sourceCase struct {
	name, src     string
	strict, loose bool // it passes
}

// TestSourceChecks sends from sources whose routes lead everywhere and nowhere,
// with a cache and without, and says of each whether it passes.
func TestSourceChecks(t *testing.T) {
	cases := []sourceCase{
		{"connected", "10.0.1.2", true, true},
		{"connected elsewhere", "10.0.2.2", false, true},
		{"behind it", "198.18.1.1", true, true},
		{"behind another", "198.18.2.1", false, true},
		{"behind it and another", "198.18.3.1", true, true},
		{"behind two others", "198.18.4.1", false, true},
		{"black hole", "198.18.5.1", false, false},
		{"unreachable", "198.18.6.1", false, false},
		{"no route", "198.19.0.1", false, false},
		{"connected6", "2001:db8:1::2", true, true},
		{"connected elsewhere6", "2001:db8:2::2", false, true},
		{"behind it6", "2001:db8:a1::1", true, true},
		{"behind another6", "2001:db8:a2::1", false, true},
		{"behind it and another6", "2001:db8:a3::1", true, true},
		{"behind two others6", "2001:db8:a4::1", false, true},
		{"black hole6", "2001:db8:a5::1", false, false},
		{"no route6", "2001:db8:b0::1", false, false},
	}
	special := func(p string, k route.Kind) route.Config {
		return route.Config{Prefix: netip.MustParsePrefix(p), Kind: k}
	}
	several := func(p string, v6 bool, ports ...int) route.Config {
		w := map[int]int{}
		for _, n := range ports {
			w[n] = 1
		}
		return route.Config{Prefix: netip.MustParsePrefix(p), Hops: hops(v6, w)}
	}
	for _, flows := range []int{0, -1} {
		b := manyPorts(t, 3, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
		b.Apply(&fastpath.Change{Route: route.Change{Set: []route.Config{
			testbed.Route("192.0.2.0/24", "10.0.2.2", "p2"), testbed.Route("2001:db8:f::/48", "2001:db8:2::2", "p2"),
			testbed.Route("198.18.1.0/24", "10.0.1.2", "p1"), testbed.Route("198.18.2.0/24", "10.0.2.2", "p2"),
			several("198.18.3.0/24", false, 1, 3), several("198.18.4.0/24", false, 2, 3),
			special("198.18.5.0/24", route.Blackhole), special("198.18.6.0/24", route.Unreachable),
			testbed.Route("2001:db8:a1::/48", "2001:db8:1::2", "p1"), testbed.Route("2001:db8:a2::/48", "2001:db8:2::2", "p2"),
			several("2001:db8:a3::/48", true, 1, 3), several("2001:db8:a4::/48", true, 2, 3),
			special("2001:db8:a5::/48", route.Blackhole)}}})
		for _, how := range []pipeline.SourceCheck{pipeline.SourceAny, pipeline.SourceLoose, pipeline.SourceStrict, pipeline.SourceAny} {
			checked(b, how)
			for _, c := range cases {
				dst := "192.0.2.1"
				if netip.MustParseAddr(c.src).Is6() {
					dst = "2001:db8:f::1"
				}
				pass := how == pipeline.SourceAny || how == pipeline.SourceLoose && c.loose || how == pipeline.SourceStrict && c.strict
				for try := range 2 { // the second time out of the cache
					got := b.Exchange("p1", [][]byte{testbed.Packet{Src: c.src, Dst: dst, Len: 80}.From(21, 1)}, "p2")[0]
					if len(got) == 1 != pass {
						t.Errorf("flows %d, check %d, %s, time %d: %d came out, want %v", flows, how, c.name, try, len(got), pass)
					}
					if pass {
						b.Moved("p1 rx 1, p2 tx 1")
					} else {
						b.Moved("p1 rx 1, p1 drop ip-reverse-path 1")
					}
				}
			}
		}
	}
}

// TestSourceCheckFollowsRoutes: a flow in the cache is asked for again when the
// route of its source moves, even if that of its destination does not.
func TestSourceCheckFollowsRoutes(t *testing.T) {
	b := manyPorts(t, 3, nil)
	b.Apply(&fastpath.Change{Route: route.Change{Set: []route.Config{testbed.Route("192.0.2.0/24", "10.0.2.2", "p2"), testbed.Route("2001:db8:f::/48", "2001:db8:2::2", "p2")}}})
	checked(b, pipeline.SourceStrict)
	for _, f := range []struct{ src, dst, net, in, out, more string }{
		{"198.18.1.1", "192.0.2.1", "198.18.1.0/24", "10.0.1.2", "10.0.3.2", "198.18.1.0/25"},
		{"2001:db8:a1::1", "2001:db8:f::1", "2001:db8:a1::/48", "2001:db8:1::2", "2001:db8:3::2", "2001:db8:a1::/64"},
	} {
		step := 0
		is := func(pass bool) {
			t.Helper()
			step++
			for range 3 {
				if n := len(b.Exchange("p1", [][]byte{testbed.Packet{Src: f.src, Dst: f.dst, Len: 80}.From(21, 1)}, "p2")[0]); n == 1 != pass {
					t.Errorf("%s, step %d: %d came out, want %v", f.src, step, n, pass)
				}
			}
		}
		set := func(r ...route.Config) { b.Apply(&fastpath.Change{Route: route.Change{Set: r}}) }
		del := func(p string) {
			b.Apply(&fastpath.Change{Route: route.Change{Delete: []netip.Prefix{netip.MustParsePrefix(p)}}})
		}
		is(false)
		set(testbed.Route(f.net, f.in, "p1"))
		is(true)
		set(testbed.Route(f.more, f.out, "p3"))
		is(false)
		del(f.more)
		is(true)
		set(testbed.Route(f.net, f.out, "p3"))
		is(false)
		v6 := netip.MustParseAddr(f.src).Is6()
		set(route.Config{Prefix: netip.MustParsePrefix(f.net), Hops: hops(v6, map[int]int{1: 1, 3: 9})})
		is(true)
		set(route.Config{Prefix: netip.MustParsePrefix(f.net), Hops: hops(v6, map[int]int{2: 1, 3: 9})})
		is(false)
		del(f.net)
		is(false)
		b.Recv("p2")
	}
}

// TestSourceCheckOfOwn: what is for the vRouter itself is checked as well, whole
// or in fragments; what belongs to the link is not.
func TestSourceCheckOfOwn(t *testing.T) {
	b := manyPorts(t, 2, nil)
	checked(b, pipeline.SourceStrict)
	for _, c := range []struct{ src, dst string }{{"198.18.1.1", "10.0.1.1"}, {"2001:db8:a1::1", "2001:db8:1::1"}} {
		ping := testbed.Echo(c.src, c.dst, 1000)
		b.Exchange("p1", [][]byte{ping.From(21, 1)}, "p1")
		b.Moved("p1 rx 1, p1 drop ip-reverse-path 1")
		var pieces [][]byte
		for _, f := range testbed.Cut(ping.IP(), 600, 7) {
			pieces = append(pieces, testbed.Frame(testbed.MAC(1), testbed.MAC(21), f))
		}
		b.Exchange("p1", pieces, "p1")
		b.Moved(fmt.Sprintf("p1 rx %d, p1 drop ip-reverse-path %d", len(pieces), len(pieces)))
	}
	for _, c := range []struct{ src, dst string }{{"10.0.1.2", "10.0.1.1"}, {"2001:db8:1::2", "2001:db8:1::1"}, {"fe80::2", "2001:db8:1::1"}} {
		for _, f := range [][][]byte{{testbed.Echo(c.src, c.dst, 1000).From(21, 1)}, framed(testbed.Cut(testbed.Echo(c.src, c.dst, 1000).IP(), 600, 8))} {
			b.Exchange("p1", f, "p1")
			if d := b.State(&fastpath.Query{Drops: true}).Drops; dropsOf(d, "ip-reverse-path") != 6 {
				t.Errorf("%s: %v", c.src, d)
			}
		}
	}
}

func framed(ips [][]byte) (l [][]byte) {
	for _, f := range ips {
		l = append(l, testbed.Frame(testbed.MAC(1), testbed.MAC(21), f))
	}
	return l
}

func dropsOf(l []fastpath.Drop, reason string) uint64 {
	for _, d := range l {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}
