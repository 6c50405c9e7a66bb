package fastpath_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// TestCacheIsInvisible: two fast paths, one with a flow cache (small, so that
// it overflows) and one that walks for every packet, get the same random frames
// and the same random commits. Whatever comes out, and whatever is counted, is
// the same.
func TestCacheIsInvisible(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" { // to repeat a failure
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	cached := randomBed(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = 256, 256 })
	walked := randomBed(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = -1, -1 })
	beds := []*testbed.Bed{cached, walked}
	g := &randomTraffic{rng: rng}
	for round := range 300 {
		if round%5 == 4 {
			c := g.change()
			if testing.Verbose() {
				t.Logf("round %d: %+v", round, c)
			}
			errs := [2]error{cached.Try(&c), walked.Try(&c)}
			if (errs[0] == nil) != (errs[1] == nil) {
				t.Fatalf("round %d: commits gave %v and %v", round, errs[0], errs[1])
			}
		}
		frames := g.frames()
		var out [2][]string
		for i, b := range beds {
			b.Send("a", frames...)
			for range 5 { // resolving ends, and what limits ICMP errors fills again
				b.Advance(time.Second)
			}
			for _, p := range []string{"a", "b", "c"} {
				var l []string
				for _, f := range b.Recv(p) {
					l = append(l, fmt.Sprintf("%s %x", p, f))
				}
				slices.Sort(l) // flows may overtake one another
				out[i] = append(out[i], l...)
			}
		}
		if !slices.Equal(out[0], out[1]) {
			times := map[string]int{} // with the cache more often than without
			for _, l := range out[0] {
				times[l]++
			}
			for _, l := range out[1] {
				times[l]--
			}
			for l, n := range times {
				if n != 0 {
					t.Errorf("round %d: with the cache %+d times: %.300s", round, n, l)
				}
			}
			t.Fatalf("round %d: %d and %d frames", round, len(out[0]), len(out[1]))
		}
		a, b := cached.State(&fastpath.Query{Ifaces: []string{}, Drops: true}), walked.State(&fastpath.Query{Ifaces: []string{}, Drops: true})
		if x, y := fmt.Sprint(a), fmt.Sprint(b); fmt.Sprint(a.Drops) != fmt.Sprint(b.Drops) || len(x) != len(y) {
			t.Fatalf("round %d: counters differ\n%v\n%v", round, a.Drops, b.Drops)
		}
	}
	s := cached.State(&fastpath.Query{Process: true}).Process.Flows
	if s.Hits == 0 || s.Misses == 0 {
		t.Errorf("flows %+v: the cache was not put to the test", s)
	}
}

func randomBed(t *testing.T, opt func(*fastpath.Options)) *testbed.Bed {
	b := twoPorts(t, opt)
	ic := testbed.Iface("c", 3, "10.0.3.1/24", "2001:db8:3::1/64")
	ic.MTU = 1280
	b.Mem.Peer("c")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ic}}, Route: route.Change{Set: testbed.Connected(ic)},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("c", "10.0.3.2", 23), testbed.Neigh("c", "2001:db8:3::2", 23),
			testbed.Neigh("c", "10.0.3.9", 24), testbed.Neigh("c", "2001:db8:3::9", 24)}}})
	return b
}

type randomTraffic struct{ rng *rand.Rand }

func (g *randomTraffic) addr(v6 bool) string {
	r := g.rng
	if v6 {
		return []string{"2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::2", "2001:db8:1::1", "2001:db8:2::1", "fe80::2", "2001:db8:f::1", "ff02::1",
			fmt.Sprintf("2001:db8:%x::%x", r.IntN(4)+14, r.IntN(3))}[r.IntN(9)]
	}
	return []string{"10.0.1.2", "10.0.2.2", "10.0.3.2", "10.0.1.1", "10.0.2.1", "224.0.0.1", "10.0.2.255", "192.0.2.1", "0.0.0.0",
		fmt.Sprintf("192.0.%d.%d", r.IntN(4), r.IntN(4)), fmt.Sprintf("198.51.%d.%d", r.IntN(2), r.IntN(200))}[r.IntN(11)]
}

// frames are some packets, most of them of few flows and several times.
func (g *randomTraffic) frames() (l [][]byte) {
	r := g.rng
	unresolved := 0
	for len(l) < 90 { // fewer than the bucket of ICMP errors holds
		v6 := r.IntN(3) == 0
		p := testbed.Packet{Src: "10.0.1.2", Dst: g.addr(v6), SPort: uint16(r.IntN(4)), DPort: uint16(r.IntN(300)), Len: 60 + r.IntN(40),
			TTL: uint8([]int{1, 2, 64, 64, 64, 255}[r.IntN(6)]), DF: r.IntN(2) == 0, Proto: uint8([]int{0, 0, 0, 6, 1, 50, 58, 47, 253}[r.IntN(9)])}
		if v6 {
			p.Src = "2001:db8:1::2"
		}
		if r.IntN(30) == 0 && unresolved < 3 { // must be resolved; few, for only 16 frames may wait
			unresolved++
			p.Dst = "10.0.3.77"
			if v6 {
				p.Dst = "2001:db8:3::77"
			}
		}
		if r.IntN(8) == 0 {
			p.Src = g.addr(v6)
		}
		if r.IntN(6) == 0 {
			p.Len = 1200 + r.IntN(301)
		}
		if !v6 && r.IntN(10) == 0 {
			p.Options = []byte{1, 1, 1, 0}
		}
		f := p.From(21, 1)
		if r.IntN(10) == 0 { // break something
			f = bytes.Clone(f)
			f[r.IntN(min(len(f), 60))] ^= 1 << r.IntN(8)
			if r.IntN(2) == 0 && f[12] == 8 && f[13] == 0 {
				pkt.IPv4(f[14:]).SetChecksum()
			}
		}
		if r.IntN(12) == 0 {
			f = f[:r.IntN(len(f))]
		}
		for range 1 + r.IntN(4) {
			l = append(l, f)
		}
	}
	r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return l
}

// change is a random commit; it may be refused.
func (g *randomTraffic) change() (c fastpath.Change) {
	r := g.rng
	p4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(4)), 0}), 16+8*r.IntN(2)).Masked()
	p6 := netip.MustParsePrefix([]string{"2001:db8:f::/48", "2001:db8:e::/48", "2001:db8::/32", "::/0"}[r.IntN(4)])
	hop := [][3]string{{"10.0.2.2", "2001:db8:2::2", "b"}, {"10.0.3.2", "2001:db8:3::2", "c"}, {"10.0.3.9", "2001:db8:3::9", "c"}}[r.IntN(3)]
	switch r.IntN(8) {
	case 0, 1:
		c.Route.Set = []route.Config{testbed.Route(p4.String(), hop[0], hop[2]), testbed.Route(p6.String(), hop[1], hop[2])}
	case 2:
		c.Route.Delete = []netip.Prefix{p4}
	case 3:
		c.Route.Delete = []netip.Prefix{p6}
	case 4:
		c.Route.Set = []route.Config{{Prefix: p4, Kind: route.Kind(r.IntN(3)) + route.Blackhole}, {Prefix: p6, Kind: route.Kind(r.IntN(3)) + route.Blackhole}}
	case 5:
		c.Neigh.Set = []neigh.Config{testbed.Neigh("b", "10.0.2.2", byte(22+r.IntN(4))), testbed.Neigh("b", "2001:db8:2::2", byte(22+r.IntN(4)))}
	case 6:
		x := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
		x.V4.Forwarding, x.V6.MTU, x.V4.MTU = r.IntN(2) == 0, uint16(1280+r.IntN(100)), uint16(576+r.IntN(900))
		c.Iface.Set = []iface.Config{x}
	case 7:
		x := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
		x.V4.Forwarding, x.V6.Enabled = r.IntN(4) > 0, r.IntN(4) > 0
		c.Iface.Set = []iface.Config{x}
	}
	return c
}
