package neigh

import (
	"math/rand/v2"
	"testing"

	"vrouter/pkg/mem"
)

// TestTable compares with a map over insertions, removals and growth.
func TestTable(t *testing.T) {
	g := mem.NewGrace()
	tb, err := newTable(g)
	if err != nil {
		t.Fatal(err)
	}
	defer tb.close()
	type key struct {
		hi, lo uint64
		in     uint32
	}
	rng := rand.New(rand.NewPCG(3, 4))
	m := map[key]uint32{}
	for n := range uint32(20000) {
		k := key{uint64(rng.IntN(2)), uint64(rng.IntN(3000)), uint32(rng.IntN(3)) + 1}
		if _, ok := m[k]; ok {
			tb.remove(k.hi, k.lo, k.in)
			delete(m, k)
		} else {
			if err := tb.insert(k.hi, k.lo, k.in, n+1); err != nil {
				t.Fatal(err)
			}
			m[k] = n + 1
		}
		g.Poll()
		q := key{uint64(rng.IntN(2)), uint64(rng.IntN(3000)), uint32(rng.IntN(3)) + 1}
		if got := tb.find(q.hi, q.lo, q.in); got != m[q] {
			t.Fatalf("step %d: %v found as %d, want %d", n, q, got, m[q])
		}
	}
	for k, want := range m {
		if got := tb.find(k.hi, k.lo, k.in); got != want {
			t.Fatalf("%v found as %d, want %d", k, got, want)
		}
	}
}
