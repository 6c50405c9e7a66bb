package saltest_test

import (
	"testing"
	"time"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// TestFaultySuite: a faulty engine keeps the contract, whatever its faults.
// Losing jobs is left out here: the suite counts on its packets.
func TestFaultySuite(t *testing.T) {
	for name, f := range map[string]saltest.Faults{
		"well-behaved": {},
		"all":          {Seed: 1, Delay: 5, Reorder: true, Refuse: 3},
		"shallow":      {Seed: 2, Delay: 2, Refuse: 2, Depth: 7},
	} {
		t.Run(name, func(t *testing.T) {
			saltest.Run(t, func() sal.Device { return saltest.NewFaulty(cpu.New("cpu0"), f) },
				saltest.Options{Allocates: "a test engine"})
		})
	}
}

// rig is a session with one SA and a queue.
type rig struct {
	*testing.T
	e *saltest.Faulty
	s sal.Session
	q sal.Queue
	h sal.SA
}

func newRig(t *testing.T, f saltest.Faults) *rig {
	r := &rig{T: t, e: saltest.NewFaulty(cpu.New("cpu0"), f)}
	t.Cleanup(func() { r.e.Close() })
	var err error
	if r.s, err = r.e.Open("test", false); err != nil {
		t.Fatal(err)
	}
	pool, err := sal.NewPool(64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	if r.q, err = r.s.Queue(0, pool); err != nil {
		t.Fatal(err)
	}
	r.h = r.add()
	return r
}

func (r *rig) add() sal.SA {
	r.Helper()
	h, err := r.s.AddSA(0, &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: make([]byte, 20)})
	if err != nil {
		r.Fatal(err)
	}
	return h
}

// done submits n jobs of the SA and counts their outcomes.
func (r *rig) done(n int) map[sal.Status]int {
	r.Helper()
	got := map[sal.Status]int{}
	var out [8]sal.Job
	for end := time.Now().Add(10 * time.Second); n > 0 || r.q.InFlight() > 0; {
		if n > 0 {
			n -= r.q.Submit([]sal.Job{{SA: r.h, Op: sal.Seal, Off: 128, Len: 64}})
		}
		for _, j := range out[:r.q.Poll(out[:])] {
			got[j.Status]++
		}
		if time.Now().After(end) {
			r.Fatal("jobs do not come back")
		}
	}
	return got
}

func TestLose(t *testing.T) {
	r := newRig(t, saltest.Faults{Lose: 4, Delay: 3})
	got := r.done(1000)
	if got[sal.StatusOK]+got[sal.StatusDevice] != 1000 || got[sal.StatusDevice] < 100 || got[sal.StatusOK] < 500 {
		t.Errorf("%v", got)
	}
}

func TestDieAndRevive(t *testing.T) {
	r := newRig(t, saltest.Faults{Delay: 1000})
	for i := range 10 {
		if r.q.Submit([]sal.Job{{SA: r.h, Op: sal.Seal, Off: 128, Len: 64, Cookie: uint64(i)}}) != 1 {
			t.Fatal("not taken")
		}
	}
	r.e.Die()
	if e := <-r.s.Events(); e.Kind != sal.EventGone {
		t.Errorf("%+v", e)
	}
	out := make([]sal.Job, 16)
	if n := r.q.Poll(out); n != 10 || out[9].Status != sal.StatusDevice || out[9].Cookie != 9 {
		t.Errorf("%d jobs came back, %+v", n, out[9])
	}
	if got := r.done(5); got[sal.StatusDevice] != 5 {
		t.Errorf("dead: %v", got)
	}
	if _, err := r.s.NewGroup("g"); err == nil {
		t.Error("a dead engine makes groups")
	}
	r.e.Set(saltest.Faults{})
	r.e.Revive()
	if e := <-r.s.Events(); e.Kind != sal.EventBack {
		t.Errorf("%+v", e)
	}
	if got := r.done(5); got[sal.StatusNoSA] != 5 {
		t.Errorf("before the SA is installed anew: %v", got)
	}
	r.h = r.add()
	if got := r.done(5); got[sal.StatusOK] != 5 {
		t.Errorf("back: %v", got)
	}
}

func TestVectors(t *testing.T) {
	if n := len(saltest.Vectors()); n != 14+66 {
		t.Errorf("%d vectors", n)
	}
}
