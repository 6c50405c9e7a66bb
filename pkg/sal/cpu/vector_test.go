package cpu

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"vrouter/pkg/sal"
)

// TestCounts opens bursts of a few SAs in runs of any length, some of whose packets
// are forged, wherever in a run: each job says how it went, and each SA counts what is
// its own.
func TestCounts(t *testing.T) {
	const sas, head, size = 4, 16, 48
	pool, err := sal.NewPool(sal.Burst)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s, _ := open(t, New("cpu0"))
	q, err := s.Queue(0, pool)
	if err != nil {
		t.Fatal(err)
	}
	var in, out [sas]sal.SA
	for i := range sas {
		c := sal.SAConfig{SPI: 256 + uint32(i), Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: bytes.Repeat([]byte{byte(i + 1)}, 20)}
		if out[i], err = s.AddSA(0, &c); err == nil {
			c.Direction = sal.Inbound
			in[i], err = s.AddSA(0, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var want [sas]sal.SAStats
	var sealed [sas]uint64
	jobs, of, bad := make([]sal.Job, sal.Burst), make([]int, sal.Burst), make([]bool, sal.Burst)
	for round := range 200 {
		n := 1 + rng.IntN(sal.Burst)
		forged, stay := rng.IntN(4), 1+rng.IntN(8) // of 4; how long runs are
		sa := rng.IntN(sas)
		for i := range n {
			if rng.IntN(stay) == 0 {
				sa = rng.IntN(sas)
			}
			d := sal.MakeDesc(uint32(i), 0, head+size+icvLen)
			binary.BigEndian.PutUint64(pool.Bytes(d)[8:], uint64(round*sal.Burst+i+1)) // the IV
			of[i], bad[i] = sa, rng.IntN(4) < forged
			jobs[i] = sal.Job{SA: out[sa], Op: sal.Seal, Desc: d, Len: size}
			sealed[sa]++
		}
		q.Do(jobs[:n])
		for i := range n {
			if jobs[i].Status != sal.StatusOK {
				t.Fatalf("sealing: status %d", jobs[i].Status)
			}
			if bad[i] {
				pool.Bytes(jobs[i].Desc)[rng.IntN(head+size+icvLen)] ^= 1 << rng.IntN(8)
			}
			jobs[i].SA, jobs[i].Op, jobs[i].Status = in[of[i]], sal.Open, sal.StatusPending
		}
		q.Do(jobs[:n])
		for i := range n {
			x, status := &want[of[i]], sal.StatusOK
			if bad[i] {
				status = sal.StatusBadICV
				x.Errors[status]++
			} else {
				x.Packets++
				x.Bytes += size
			}
			if jobs[i].Status != status {
				t.Fatalf("round %d, job %d of %d: status %d, want %d", round, i, n, jobs[i].Status, status)
			}
		}
	}
	for i := range sas {
		if st, _ := s.Stats(in[i]); st != want[i] {
			t.Errorf("inbound SA %d: %+v, want %+v", i, st, want[i])
		}
		if st, _ := s.Stats(out[i]); st != (sal.SAStats{Packets: sealed[i], Bytes: sealed[i] * size}) {
			t.Errorf("outbound SA %d: %+v, want %d packets", i, st, sealed[i])
		}
	}
}
