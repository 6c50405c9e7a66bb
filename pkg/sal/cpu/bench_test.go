package cpu

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"vrouter/pkg/sal"
)

// BenchmarkDo is the engine alone: a burst of packets, each of a random SA.
// Reference is the standard library over the same buffers with one key and
// with heap AEADs, as a caller without an engine would do it.
func BenchmarkDo(b *testing.B) {
	for _, op := range []sal.Op{sal.Seal, sal.Open} {
		for _, size := range []int{64, 512, 1420} {
			for _, n := range []int{1, 1000, 10000} {
				b.Run(fmt.Sprintf("%s/%dB/%dsa", [...]string{"seal", "open"}[op], size, n), func(b *testing.B) {
					benchDo(b, op, size+(-(size+2)&3)+2, n)
				})
			}
		}
	}
	for _, size := range []int{64, 512, 1420} {
		for _, n := range []int{1, 1000, 10000} {
			b.Run(fmt.Sprintf("reference/%dB/%dsa", size, n), func(b *testing.B) {
				benchReference(b, size+(-(size+2)&3)+2, n)
			})
		}
	}
}

func benchDo(b *testing.B, op sal.Op, text, n int) {
	pool, err := sal.NewPool(256)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	e := New("cpu0")
	s, _ := e.Open("bench", false)
	defer s.Close()
	key := make([]byte, 20)
	var in, out []sal.SA
	for i := range n {
		key[0], key[1] = byte(i), byte(i>>8)
		cfg := sal.SAConfig{SPI: uint32(i) + 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: key}
		h, err := s.AddSA(0, &cfg)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, h)
		if op == sal.Open {
			cfg.Direction = sal.Inbound
			h, _ = s.AddSA(0, &cfg)
			in = append(in, h)
		}
	}
	q, _ := s.Queue(0, pool)
	jobs := make([]sal.Job, sal.Burst)
	pick := make([]int, 1<<16)
	for i := range pick {
		pick[i] = rand.IntN(n)
	}
	at := 0
	fill := func(op sal.Op, sas []sal.SA) {
		for i := range jobs {
			jobs[i] = sal.Job{SA: sas[pick[(at+i)&(len(pick)-1)]], Op: op, Desc: sal.MakeDesc(uint32(i), 0, 0), Off: 128, Len: uint16(text)}
		}
	}
	spent := newSpent() // in the engine, without the sealing of what is to be opened
	for b.Loop() {
		sas := out
		if op == sal.Open {
			fill(sal.Seal, out)
			q.Do(jobs)
			sas = in
		}
		fill(op, sas)
		t := time.Now()
		q.Do(jobs)
		spent.add(time.Since(t))
		at += len(jobs)
		if jobs[0].Status != sal.StatusOK {
			b.Fatal("status", jobs[0].Status)
		}
	}
	spent.report(b)
}

// spent is the time of bursts: the mean, and the least, which is what an
// undisturbed machine takes.
type spent struct{ sum, least time.Duration }

func newSpent() *spent { return &spent{least: time.Hour} }

func (s *spent) add(d time.Duration) {
	s.sum += d
	s.least = min(s.least, d)
}

func (s *spent) report(b *testing.B) {
	b.ReportMetric(float64(s.sum.Nanoseconds())/float64(b.N)/sal.Burst, "ns/pkt")
	b.ReportMetric(float64(s.least.Nanoseconds())/sal.Burst, "least-ns/pkt")
}

func benchReference(b *testing.B, text, n int) {
	pool, _ := sal.NewPool(256)
	defer pool.Close()
	aeads := make([]cipher.AEAD, n)
	for i := range aeads {
		k, _ := aes.NewCipher(make([]byte, 16))
		aeads[i], _ = cipher.NewGCM(k)
	}
	pick := make([]uint32, 1<<16)
	for i := range pick {
		pick[i] = rand.Uint32N(uint32(n))
	}
	nonce, aad := make([]byte, 12), make([]byte, 8)
	at := 0
	spent := newSpent()
	for b.Loop() {
		t := time.Now()
		for i := range sal.Burst {
			p := pool.Bytes(sal.MakeDesc(uint32(i), 128, uint16(16+text+16)))[16:]
			aeads[pick[at&(len(pick)-1)]].Seal(p[:0], nonce, p[:text], aad)
			at++
		}
		spent.add(time.Since(t))
	}
	spent.report(b)
}
