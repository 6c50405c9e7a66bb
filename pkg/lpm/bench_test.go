package lpm

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// Route sets: uniform lengths, lengths as on the Internet (60 % /24), all host
// routes.
func routes4(kind string, n int) []route {
	rng := rand.New(rand.NewPCG(7, uint64(len(kind))))
	seen := map[pfx]bool{}
	var rs []route
	for len(rs) < n {
		l := 32
		switch kind {
		case "uniform":
			l = 8 + rng.IntN(25)
		case "internet":
			switch x := rng.IntN(1000); {
			case x < 580:
				l = 24
			case x < 940:
				l = 19 + rng.IntN(5)
			case x < 965:
				l = 16 + rng.IntN(3)
			case x < 968:
				l = 8 + rng.IntN(8)
			default:
				l = 25 + rng.IntN(8)
			}
		}
		p := pfx{hi: uint64(rng.Uint32()) << 32}.cut(l)
		if !seen[p] {
			seen[p] = true
			rs = append(rs, route{p, rng.Uint32N(255) + 1})
		}
	}
	return rs
}

func routes6(kind string, n int) []route {
	rng := rand.New(rand.NewPCG(3, uint64(len(kind))))
	var alloc []uint64
	for range 60000 {
		top := []uint64{0x2001, 0x2400 + rng.Uint64N(16), 0x2600 + rng.Uint64N(16), 0x2800 + rng.Uint64N(16), 0x2a00 + rng.Uint64N(16), 0x2c0f}[rng.IntN(6)]
		alloc = append(alloc, top<<48|rng.Uint64N(65536)<<32)
	}
	seen := map[pfx]bool{}
	var rs []route
	for len(rs) < n {
		var hi, lo uint64
		var l int
		switch kind {
		case "uniform":
			l, hi = 20+rng.IntN(45), rng.Uint64()>>3|1<<61
		case "internet":
			a := alloc[rng.IntN(len(alloc))]
			switch x := rng.IntN(100); {
			case x < 6:
				l, hi = 32, a
			case x < 8:
				l, hi = 29, a
			case x < 70:
				l, hi = 48, a|rng.Uint64N(65536)<<16
			case x < 95:
				l, hi = 33+rng.IntN(14), a|rng.Uint64N(65536)<<16
			default:
				l, hi = 49+rng.IntN(16), a|uint64(rng.Uint32())
			}
		case "host": // /128s in a few thousand /64s
			l, hi, lo = 128, alloc[rng.IntN(4000)]|uint64(rng.IntN(3)), rng.Uint64()
		}
		p := pfx{hi: hi, lo: lo}.cut(l)
		if !seen[p] {
			seen[p] = true
			rs = append(rs, route{p, rng.Uint32N(255) + 1})
		}
	}
	return rs
}

func fill(tb testing.TB, t *trie, rs []route) time.Duration {
	t0 := time.Now()
	for _, r := range rs {
		if err := t.insert(r.pfx, r.nh); err != nil {
			tb.Fatal(err)
		}
	}
	return time.Since(t0)
}

// sizes: 100 000 by default, more with LPM_ROUTES.
func benchRoutes() int {
	if n, err := strconv.Atoi(os.Getenv("LPM_ROUTES")); err == nil {
		return n
	}
	return 100_000
}

// rss is the resident memory of the process in KiB.
func rss() int {
	b, _ := os.ReadFile("/proc/self/statm")
	n, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return n * os.Getpagesize() >> 10
}

func BenchmarkV4(b *testing.B) {
	for _, kind := range []string{"uniform", "internet", "host"} {
		rs := routes4(kind, benchRoutes())
		before := rss()
		t, err := NewV4(mem.NewGrace(), Options{Routes: len(rs), Huge: true})
		if err != nil {
			b.Fatal(err)
		}
		d := fill(b, &t.trie, rs)
		b.Logf("V4 %s: %d routes in %v, %d MiB", kind, len(rs), d.Round(time.Millisecond), (rss()-before)>>10)
		rng := rand.New(rand.NewPCG(9, 9))
		const n = 1 << 20
		as := make([]uint32, n)
		for i := range as {
			r := rs[rng.IntN(len(rs))]
			as[i] = uint32(r.hi>>32) | rng.Uint32()&uint32(^maskHi(int(r.len))>>32)
		}
		var nh [burst.Max]uint32
		at := 0
		b.Run(kind+"/burst", func(b *testing.B) {
			for b.Loop() {
				t.LookupBurst(as[at:at+burst.Max], nh[:])
				at = (at + burst.Max) & (n - 1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst.Max, "ns/lookup")
		})
		b.Run(kind+"/single", func(b *testing.B) {
			for b.Loop() {
				for i, a := range as[at : at+burst.Max] {
					nh[i] = t.Lookup(a)
				}
				at = (at + burst.Max) & (n - 1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst.Max, "ns/lookup")
		})
		b.Run(kind+"/change", func(b *testing.B) { benchChange(b, &t.trie, rs, 24) })
		t.Close()
	}
}

// benchChange deletes and inserts routes of at least min bits.
func benchChange(b *testing.B, t *trie, rs []route, min uint8) {
	i, done := 0, 0
	for b.Loop() {
		r := rs[i%len(rs)]
		for i++; r.len < min; i++ {
			r = rs[i%len(rs)]
		}
		t.remove(r.pfx)
		if err := t.insert(r.pfx, r.nh); err != nil {
			b.Fatal(err)
		}
		done += 2
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/change")
}

func BenchmarkV6(b *testing.B) {
	for _, kind := range []string{"uniform", "internet", "host"} {
		rs := routes6(kind, benchRoutes())
		before := rss()
		t, err := NewV6(mem.NewGrace(), Options{Routes: len(rs), Huge: true})
		if err != nil {
			b.Fatal(err)
		}
		d := fill(b, &t.trie, rs)
		b.Logf("V6 %s: %d routes in %v, %d MiB", kind, len(rs), d.Round(time.Millisecond), (rss()-before)>>10)
		rng := rand.New(rand.NewPCG(9, 9))
		const n = 1 << 20
		hi, lo := make([]uint64, n), make([]uint64, n)
		for i := range hi {
			r := rs[rng.IntN(len(rs))]
			hi[i] = r.hi | rng.Uint64()&^maskHi(int(r.len))
			lo[i] = r.lo | rng.Uint64()&^maskLo(int(r.len))
		}
		var nh [burst.Max]uint32
		at := 0
		b.Run(kind+"/burst", func(b *testing.B) {
			for b.Loop() {
				t.LookupBurst(hi[at:at+burst.Max], lo[at:at+burst.Max], nh[:])
				at = (at + burst.Max) & (n - 1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst.Max, "ns/lookup")
		})
		b.Run(kind+"/change", func(b *testing.B) { benchChange(b, &t.trie, rs, 24) })
		t.Close()
	}
}

// BenchmarkShort is the cost of a route that covers much.
func BenchmarkShort(b *testing.B) {
	rs := routes4("internet", benchRoutes())
	t, err := NewV4(mem.NewGrace(), Options{Routes: len(rs), Huge: true})
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	fill(b, &t.trie, rs)
	for _, l := range []int{0, 8, 9, 12, 16, 20} {
		b.Run(fmt.Sprint(l), func(b *testing.B) {
			p := netip.PrefixFrom(addr4(11<<24), l).Masked()
			for b.Loop() {
				if err := t.Insert(p, 5); err != nil {
					b.Fatal(err)
				}
				t.Delete(p)
			}
		})
	}
}
