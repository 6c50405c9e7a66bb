package supervisor_test

import (
	"sync"
	"testing"
	"time"

	"vrouter/fastpath"
)

// TestEvents: events come in order and without gaps, from one data plane to
// successive management planes; what happens while there is none comes later.
func TestEvents(t *testing.T) {
	b := newBench(t, "serves")
	var mu sync.Mutex
	var got []uint64
	b.opt.Event = func(e *fastpath.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e.Number)
	}
	have := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	for life := range 3 {
		n := have()
		b.start()
		b.until("events", func() bool { return have() > n+30 })
		b.stop()
		time.Sleep(time.Duration(life) * 30 * time.Millisecond) // nobody listens
	}
	next, twice := uint64(1), 0
	for _, n := range got {
		if n < next {
			twice++
			continue
		}
		if n != next {
			t.Fatalf("event %d comes after %d", n, next-1)
		}
		next++
	}
	if twice > 20 {
		t.Errorf("%d of %d events came twice", twice, len(got))
	}
	t.Logf("%d events, %d of them twice", len(got), twice)
}
