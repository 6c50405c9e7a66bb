package ring

import (
	"runtime"
	"testing"
)

func TestSizes(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 3, 100} {
		if _, err := New(n); err == nil {
			t.Errorf("New(%d) succeeded", n)
		}
	}
}

// A model queue and the ring see the same operations, over several times
// around the ring and with every burst size that fits and one that does not.
func TestAgainstModel(t *testing.T) {
	r, err := New(8)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var model []uint64
	next := uint64(1)
	out := make([]uint64, 11)
	for step := 0; step < 5000; step++ {
		in := make([]uint64, step*7%11)
		for i := range in {
			in[i] = next + uint64(i)
		}
		room := 8 - len(model)
		if f := r.Free(); f != room {
			t.Fatalf("step %d: Free %d, want %d", step, f, room)
		}
		n := 0
		if len(in) == 1 {
			if r.EnqueueOne(in[0]) {
				n = 1
			}
		} else {
			n = r.Enqueue(in)
		}
		if n != min(len(in), room) {
			t.Fatalf("step %d: enqueued %d of %d with room for %d", step, n, len(in), room)
		}
		model = append(model, in[:n]...)
		next += uint64(n)
		if r.Len() != len(model) {
			t.Fatalf("step %d: Len %d, want %d", step, r.Len(), len(model))
		}
		want := step * 5 % 12
		m := r.Dequeue(out[:want%len(out)])
		if m != min(want%len(out), len(model)) {
			t.Fatalf("step %d: dequeued %d", step, m)
		}
		for i := 0; i < m; i++ {
			if out[i] != model[i] {
				t.Fatalf("step %d: got %d, want %d", step, out[i], model[i])
			}
		}
		model = model[m:]
	}
}

// Two goroutines; under -race this also proves that the payload written before
// Enqueue is visible after Dequeue.
func TestTwoSides(t *testing.T) {
	r, err := New(64)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const total = 200_000
	payload := make([]uint64, 128) // slot of descriptor d: d % 128, at most 64 in flight + a burst
	go func() {
		var d [24]uint64
		for sent := uint64(0); sent < total; {
			n := min(uint64(len(d)), total-sent, uint64(r.Free()))
			for i := uint64(0); i < n; i++ {
				d[i] = sent + i
				payload[(sent+i)%128] = (sent + i) * 3
			}
			if r.Enqueue(d[:n]) != int(n) {
				panic("Free promised room")
			}
			if sent += n; n == 0 {
				runtime.Gosched()
			}
		}
	}()
	var out [32]uint64
	for got := uint64(0); got < total; {
		n := r.Dequeue(out[:])
		for _, d := range out[:n] {
			if d != got || payload[d%128] != d*3 {
				t.Fatalf("descriptor %d, payload %d; want %d", d, payload[d%128], got)
			}
			got++
		}
		if n == 0 {
			runtime.Gosched()
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r, err := New(256)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var d [100]uint64
	if a := testing.AllocsPerRun(100, func() { r.Enqueue(d[:]); r.Dequeue(d[:]) }); a != 0 {
		t.Fatalf("%v allocations", a)
	}
}

func BenchmarkBurst256(b *testing.B) {
	r, err := New(1024)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var d [256]uint64
	for b.Loop() {
		r.Enqueue(d[:])
		r.Dequeue(d[:])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/desc")
}
