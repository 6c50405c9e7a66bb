package ipsec_test

import (
	"fmt"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// crowd is a site with n SAs on an engine that can die.
func crowd(t testing.TB, n int) (*site, *saltest.Faulty) {
	e := saltest.NewFaulty(cpu.New("card"), saltest.Faults{})
	s := newSite(t, func(o *fastpath.Options) {
		o.MaxSAs = n + 100
		o.Registry.AddDevice(e)
	})
	var l []ipsec.SA
	for i := range n {
		a := testSA(fmt.Sprint("x", i), sal.Direction(i%2), false)
		a.SPI, a.Key, a.ReqID = 0x20000+uint32(i), key(5000+i, 20), 1000+uint64(i)
		onCard(&a)
		l = append(l, a)
	}
	s.Apply(sas(l...))
	s.events()
	return s, e
}

// BenchmarkFailover is 10 000 SAs that leave an engine which has died, and return to it:
// the time that the control side takes from the moment it looks. Until it looks pass 10 ms
// at most, or 50 to 60 where the engine says nothing of its death.
func BenchmarkFailover(b *testing.B) {
	const n = 10_000
	s, e := crowd(b, n)
	var there, back, most time.Duration
	rounds := 0
	for b.Loop() {
		e.Die()
		start := time.Now()
		s.E.Step()
		d := time.Since(start)
		there, most = there+d, max(most, d)
		if k := s.engineInfo("cpu").SAs; k != n {
			b.Fatalf("%d SAs have gone", k)
		}
		for range 4 { // old records are taken back
			s.Advance(200e6)
		}
		e.Revive()
		start = time.Now()
		s.E.Step()
		back += time.Since(start)
		if k := s.engineInfo("card-faulty").SAs; k != n {
			b.Fatalf("%d SAs have returned", k)
		}
		for range 4 {
			s.Advance(200e6)
		}
		rounds++
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(there)/float64(rounds), "ms-there")
	b.ReportMetric(ms(most), "worst-ms-there")
	b.ReportMetric(ms(back)/float64(rounds), "ms-back")
	b.ReportMetric(0, "ns/op")
}
