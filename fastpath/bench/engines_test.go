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
	r := newEngineRig(b, e, c)
	b.ReportAllocs()
	all := make([]float64, 0, b.N/sal.Burst+1)
	for b.ResetTimer(); len(all) < cap(all); {
		all = append(all, r.burst(op, n))
	}
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(all[len(all)/2], "ns/pkt")
	b.ReportMetric(all[0], "best-ns/pkt")
	b.ReportMetric(0, "ns/op")
}

// engineRig is an engine with an SA of each direction, and buffers for a burst.
type engineRig struct {
	b    *testing.B
	pool *sal.Pool
	q    sal.Queue
	sas  [2]sal.SA
	jobs []sal.Job
	seq  uint64
}

func newEngineRig(b *testing.B, e sal.Device, c sal.SAConfig) *engineRig {
	s, err := e.Open("bench", false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	r := &engineRig{b: b, jobs: make([]sal.Job, sal.Burst)}
	if r.pool, err = sal.NewPool(sal.Burst); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.pool.Close() })
	if r.q, err = s.Queue(0, r.pool); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.q.Close() })
	c.SPI = 256
	for dir := range r.sas {
		c.Direction = [...]sal.Direction{sal.Outbound, sal.Inbound}[dir]
		if r.sas[dir], err = s.AddSA(0, &c); err != nil {
			b.Fatal(err)
		}
	}
	return r
}

// burst works one burst of texts of n bytes off, and gives the nanoseconds that a packet took.
func (r *engineRig) burst(op sal.Op, n int) float64 {
	r.fill(sal.Seal, n)
	t := burst.Rdtsc()
	r.q.Do(r.jobs)
	if op == sal.Open {
		r.good()
		r.fill(sal.Open, n)
		t = burst.Rdtsc()
		r.q.Do(r.jobs)
	}
	ns := float64(burst.Rdtsc()-t) / Hz() * 1e9 / sal.Burst
	r.good()
	return ns
}

func (r *engineRig) fill(op sal.Op, n int) {
	sa := r.sas[0]
	if op == sal.Open {
		sa = r.sas[1]
	}
	for i := range r.jobs {
		r.jobs[i] = sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(uint32(i), 128, uint16(n)), Off: 128, Len: uint16(n)}
		if op == sal.Seal {
			r.seq++
			h := r.pool.Bytes(sal.MakeDesc(uint32(i), 128, 16))
			for k := range 8 {
				h[8+k] = byte(r.seq >> (8 * k)) // the IV, where it is a counter
			}
		}
	}
}

func (r *engineRig) good() {
	for i := range r.jobs {
		if r.jobs[i].Status != sal.StatusOK {
			r.b.Fatalf("status %d", r.jobs[i].Status)
		}
	}
}
