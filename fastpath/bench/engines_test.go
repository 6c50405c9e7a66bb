package bench

import (
	"fmt"
	"slices"
	"testing"

	"vrouter/pkg/burst"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/ipsecmb"
)

// BenchmarkEngine has crypto engines that work on the calling core seal and open
// bursts of 256 packets, beside each other: jobs of the SAL, nothing of the fast
// path around them. Sizes are of the text.
func BenchmarkEngine(b *testing.B) {
	engines := []sal.Device{cpu.New("cpu")}
	if mb, err := ipsecmb.New("ipsec-mb"); err == nil {
		engines = append(engines, mb)
	} else {
		b.Logf("without ipsec-mb: %v", err)
	}
	for _, s := range []struct {
		name string
		sal.SAConfig
	}{
		{"gcm-128", sal.SAConfig{Algorithm: sal.AESGCM16, Key: make([]byte, 20)}},
		{"gcm-256", sal.SAConfig{Algorithm: sal.AESGCM16, Key: make([]byte, 36)}},
		{"cbc-128-sha256", sal.SAConfig{Algorithm: sal.AESCBC, Key: make([]byte, 16), Integrity: sal.HMACSHA2_256_128, IntegrityKey: make([]byte, 32)}},
		{"chacha20", sal.SAConfig{Algorithm: sal.ChaCha20Poly1305, Key: make([]byte, 36)}},
	} {
		for _, op := range []sal.Op{sal.Seal, sal.Open} {
			for _, n := range []int{64, 512, 1424} {
				for _, e := range engines {
					b.Run(fmt.Sprintf("%s/%s/%dB/%s", s.name, [...]string{"seal", "open"}[op], n, e.Info().Name), func(b *testing.B) {
						benchEngine(b, e, s.SAConfig, op, n)
					})
				}
			}
		}
	}
}

func benchEngine(b *testing.B, e sal.Device, c sal.SAConfig, op sal.Op, n int) {
	s, err := e.Open("bench", false)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	pool, err := sal.NewPool(sal.Burst)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	q, err := s.Queue(0, pool)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	c.SPI = 256
	var sas [2]sal.SA
	for dir := range sas {
		c.Direction = [...]sal.Direction{sal.Outbound, sal.Inbound}[dir]
		if sas[dir], err = s.AddSA(0, &c); err != nil {
			b.Fatal(err)
		}
	}
	jobs := make([]sal.Job, sal.Burst)
	seq := uint64(0)
	fill := func(sa sal.SA, op sal.Op) {
		for i := range jobs {
			jobs[i] = sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(uint32(i), 128, uint16(n)), Off: 128, Len: uint16(n)}
			if op == sal.Seal {
				seq++
				h := pool.Bytes(sal.MakeDesc(uint32(i), 128, 16))
				for k := range 8 {
					h[8+k] = byte(seq >> (8 * k)) // the IV, where it is a counter
				}
			}
		}
	}
	good := func() {
		for i := range jobs {
			if jobs[i].Status != sal.StatusOK {
				b.Fatalf("status %d", jobs[i].Status)
			}
		}
	}
	b.ReportAllocs()
	all := make([]float64, 0, b.N/sal.Burst+1)
	for b.ResetTimer(); len(all) < cap(all); {
		fill(sas[0], sal.Seal)
		t := burst.Rdtsc()
		q.Do(jobs)
		if op == sal.Open {
			good()
			fill(sas[1], sal.Open)
			t = burst.Rdtsc()
			q.Do(jobs)
		}
		all = append(all, float64(burst.Rdtsc()-t)/Hz()*1e9/sal.Burst)
		good()
	}
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(all[len(all)/2], "ns/pkt")
	b.ReportMetric(all[0], "best-ns/pkt")
	b.ReportMetric(0, "ns/op")
}
