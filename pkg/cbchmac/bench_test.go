package cbchmac

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkBurst is bursts of 256 packets and of few, under one key, or each under one of
// 10 000 drawn at random.
func BenchmarkBurst(b *testing.B) {
	for _, l := range Levels() {
		for _, op := range []string{"seal", "open"} {
			for _, size := range []int{64, 512, 1424, 0} {
				for _, n := range []int{256, 16, 8, 4, 1} {
					for _, keys := range []int{1, 10000} {
						if n < 17 && (keys > 1 || size == 0) {
							continue
						}
						name := fmt.Sprintf("%v/%s/%dB/%d", l, op, size, n)
						if size == 0 {
							name = fmt.Sprintf("%v/%s/imix/%d", l, op, n)
						}
						if keys > 1 {
							name += "-keys"
						}
						b.Run(name, func(b *testing.B) { benchBurst(b, l, op == "open", size, n, keys) })
					}
				}
			}
		}
	}
}

// keyStride is how far apart contexts lie: the SAL has them in records of 17 lines.
const keyStride = 17 * 64

func benchBurst(b *testing.B, l Level, open bool, size, n, keys int) {
	const stride = 2112 // as the SAL has them: all sets of the cache are used
	a, r := newArena(b, 1<<20+keys*keyStride), rand.NewChaCha8([32]byte{5})
	var ks []pair
	for i := range keys {
		a.n = i * keyStride
		k := []byte{15: byte(i), 14: byte(i >> 8)}
		ks = append(ks, a.key(b, k, make([]byte, MACKeySize)))
	}
	jobs := make([]Job, n)
	for i := range jobs {
		s := size
		if s == 0 {
			s = []int{64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1424}[i*5%12]
		}
		next := a.n + stride
		p := a.packet(r, ks[0], 8, s, 40, false)
		a.n = next
		jobs[i] = p.job()
	}
	all := make([]time.Duration, 0, b.N)
	for range b.N {
		for i := range jobs {
			jobs[i].Key = ks[int(r.Uint64()>>32)%keys].k
		}
		t := time.Now()
		a.s.Seal(l, jobs)
		if open {
			t = time.Now()
			if a.s.Open(l, jobs) != 0 {
				b.Fatal("bad")
			}
		}
		all = append(all, time.Since(t))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2])/float64(n), "ns/pkt")
	b.ReportMetric(float64(all[0])/float64(n), "best-ns/pkt")
	b.ReportMetric(0, "ns/op")
}
