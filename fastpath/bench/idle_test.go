package bench

import (
	"testing"

	"vrouter/pkg/burst"
)

// BenchmarkIdleTurn is a turn that finds nothing: what an idle poll costs.
func BenchmarkIdleTurn(b *testing.B) {
	r := New(b, nil)
	best := ^uint64(0)
	for b.Loop() {
		t := burst.Rdtsc()
		r.W.Turn()
		best = min(best, burst.Rdtsc()-t)
	}
	b.ReportMetric(float64(best)/Hz()*1e9, "best-ns/turn")
}
