package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/mem"
)

// flow4 is what differs between the packets of a benchmark, as it lies in the
// packet.
type flow4 struct{ src, dst, ports uint32 }

// gen4 writes 64-byte UDP packets of the given flows in turn, or, with fresh,
// each with new ports.
type gen4 struct {
	tmpl  [80]byte
	base  uint64 // of the checksum: all but the addresses
	flows []flow4
	pos   int
	fresh bool
	salt  uint32
}

func newGen4(flows []flow4) *gen4 {
	g := &gen4{flows: flows}
	copy(g.tmpl[:], testbed.Packet{Src: "0.0.0.0", Dst: "0.0.0.0", Len: 64}.From(9, 1))
	for i := 14; i < 34; i += 2 {
		if i != 24 {
			g.base += uint64(binary.LittleEndian.Uint16(g.tmpl[i:]))
		}
	}
	return g
}

func (g *gen4) fill(p unsafe.Pointer) uint16 {
	f := &g.flows[g.pos]
	if g.pos++; g.pos == len(g.flows) {
		g.pos = 0
	}
	ports := f.ports
	if g.fresh {
		g.salt += 0x9e3779b1
		ports ^= g.salt
	}
	*(*[80]byte)(p) = g.tmpl
	mem.Store32(p, 26, f.src)
	mem.Store32(p, 30, f.dst)
	mem.Store32(p, 34, ports)
	s := g.base + uint64(f.src) + uint64(f.dst)
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	mem.Store16(p, 24, ^uint16(s))
	return 78
}

func be(a uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return binary.LittleEndian.Uint32(b[:])
}

// source draws a source address that no check refuses.
func source(rng *rand.Rand) uint32 { return be(20<<24 | rng.Uint32()&0xffffff) }

// routed4 sets a rig up with 256 prefixes over all next hops, and n flows to
// them.
func routed4(b *testing.B, n int, opt func(*fastpath.Options)) (*Rig, []flow4) {
	r := New(b, opt)
	rng := rand.New(rand.NewPCG(1, 2))
	var c fastpath.Change
	for i := range 256 {
		c.Route.Set = append(c.Route.Set, route.Config{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i), 0, 0}), 16), Iface: "b", NextHop: Hop(i % Hops)})
	}
	r.Apply(&c)
	flows := make([]flow4, n)
	for i := range flows {
		flows[i] = flow4{source(rng), be(100<<24 | uint32(i&255)<<16 | rng.Uint32()&0xffff), rng.Uint32()}
	}
	return r, flows
}

func BenchmarkForward(b *testing.B) {
	b.Run("ipv4/64B", func(b *testing.B) {
		r, flows := routed4(b, 256, nil)
		warm(r, newGen4(flows), 64)
		r.Measure(b, 64, r.Forwarded(newGen4(flows).fill))
	})
	b.Run("ipv6/64B", func(b *testing.B) {
		r, g := routed6(b, 256)
		for range 64 {
			r.Burst('a', g.fill)
		}
		r.Measure(b, 64, r.Forwarded(g.fill))
	})
	// Without a cache; lengths uniform from 8 to 32, all 32 (which is what others
	// measure), and as in the Internet.
	for _, set := range []struct {
		name   string
		length func(*rand.Rand) int
	}{
		{"1M-routes", func(rng *rand.Rand) int { return 8 + rng.IntN(25) }},
		{"1M-routes-32", func(*rand.Rand) int { return 32 }},
		{"1M-routes-internet", func(rng *rand.Rand) int { return internet[rng.IntN(len(internet))] }},
	} {
		b.Run("ipv4/"+set.name, func(b *testing.B) {
			r, flows := manyRoutes4(b, 1<<20, set.length)
			r.Measure(b, 64, r.Forwarded(newGen4(flows).fill))
		})
	}
	b.Run("ipv4/1M-flows", func(b *testing.B) {
		r, flows := routed4(b, 1<<20, nil)
		warm(r, newGen4(flows), 2<<20/16)
		rand.New(rand.NewPCG(3, 4)).Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
		before := r.W.Stats()
		r.Measure(b, 64, r.Forwarded(newGen4(flows).fill))
		after := r.W.Stats()
		b.ReportMetric(100*float64(after.Misses-before.Misses)/float64(after.Packets-before.Packets), "%miss")
	})
	b.Run("ipv4/random-flows", func(b *testing.B) {
		r, flows := routed4(b, 1<<20, nil)
		g := newGen4(flows)
		g.fresh = true
		warm(r, g, 1<<20/16)
		r.Measure(b, 64, r.Forwarded(g.fill))
	})
}

// internet is prefix lengths about as frequent as in a full table.
var internet = func() (l []int) {
	for n, share := range map[int]int{16: 2, 17: 1, 18: 2, 19: 3, 20: 4, 21: 5, 22: 12, 23: 10, 24: 60, 12: 1} {
		for range share {
			l = append(l, n)
		}
	}
	return l
}()

// warm sends so many bursts.
func warm(r *Rig, g *gen4, bursts int) {
	for range bursts {
		r.Burst('a', g.fill)
	}
}

// manyRoutes4 fills the FIB with n random routes of random length and makes a
// million random destinations in them. There is no flow cache: every packet
// walks.
func manyRoutes4(b *testing.B, n int, length func(*rand.Rand) int) (*Rig, []flow4) {
	r := New(b, func(o *fastpath.Options) { o.Flows4, o.Routes = -1, n+1024 })
	rng := rand.New(rand.NewPCG(5, 6))
	var c fastpath.Change
	seen := map[netip.Prefix]bool{}
	for len(c.Route.Set) < n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], rng.Uint32())
		if a[0] < 11 || a[0] == 127 || a[0] >= 224 || a[0] == 20 || a[0] == 169 {
			continue
		}
		p, _ := netip.AddrFrom4(a).Prefix(length(rng))
		if seen[p] {
			continue
		}
		seen[p] = true
		c.Route.Set = append(c.Route.Set, route.Config{Prefix: p, Iface: "b", NextHop: Hop(rng.IntN(Hops))})
	}
	r.Apply(&c)
	flows := make([]flow4, 1<<20)
	for i := range flows {
		p := c.Route.Set[rng.IntN(n)].Prefix
		a := p.Addr().As4()
		host := uint32(uint64(1)<<(32-p.Bits()) - 1)
		flows[i] = flow4{source(rng), be(binary.BigEndian.Uint32(a[:]) | rng.Uint32()&host), rng.Uint32()}
	}
	return r, flows
}

// gen6 writes 64-byte UDP packets over IPv6.
type gen6 struct {
	tmpl  [80]byte
	flows [][32]byte
	pos   int
}

func (g *gen6) fill(p unsafe.Pointer) uint16 {
	f := &g.flows[g.pos]
	if g.pos++; g.pos == len(g.flows) {
		g.pos = 0
	}
	*(*[80]byte)(p) = g.tmpl
	*(*[32]byte)(unsafe.Add(p, 22)) = *f
	mem.Store32(p, 54, uint32(g.pos)*0x9e3779b1)
	return 78
}

func routed6(b *testing.B, n int) (*Rig, *gen6) {
	r := New(b, nil)
	rng := rand.New(rand.NewPCG(7, 8))
	var c fastpath.Change
	for i := range 256 {
		c.Route.Set = append(c.Route.Set, route.Config{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(i)}), 48), Iface: "b", NextHop: Hop6(i % Hops)})
	}
	r.Apply(&c)
	g := &gen6{flows: make([][32]byte, n)}
	copy(g.tmpl[:], testbed.Packet{Src: "::", Dst: "::", Len: 64}.From(9, 1))
	for i := range g.flows {
		f := &g.flows[i]
		copy(f[:], []byte{0x2a, 0, 0, 1})
		binary.BigEndian.PutUint64(f[8:], rng.Uint64())
		copy(f[16:], []byte{0x20, 1, 0x0d, 0xb8, byte(i)})
		binary.BigEndian.PutUint64(f[24:], rng.Uint64())
	}
	return r, g
}
