package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var sink any

// collections counts those that garbage of so many MiB costs.
func collections(mib int) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range mib << 4 {
		sink = make([]byte, 1<<16)
	}
	sink = nil
	runtime.ReadMemStats(&after)
	return int(after.NumGC - before.NumGC)
}

// Garbage of a large commit is collected once or not at all, what lasts moves the
// limit up before it can become the reason for endless collections, and when it
// goes the limit comes down.
func TestPace(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(math.MaxInt64)
	runtime.GC()
	if n := collections(40); n < 2 {
		t.Skipf("%d collections without a pace: this runtime does not need one", n)
	}
	pace()
	runtime.GC()
	if n := collections(40); n > 1 {
		t.Errorf("%d collections within the room", n)
	}
	if n := collections(400); n == 0 || n > 20 {
		t.Errorf("%d collections in 400 MiB of garbage", n)
	}
	kept := make([][]byte, 0, 200)
	for range cap(kept) {
		kept = append(kept, make([]byte, 1<<20))
	}
	settled(t, "the limit follows what is kept", func(l int64) bool { return l > 400<<20 })
	if n := collections(150); n > 2 {
		t.Errorf("%d collections in 150 MiB of garbage beside 200 MiB in use", n)
	}
	runtime.KeepAlive(kept)
	kept = nil
	settled(t, "the limit comes down again", func(l int64) bool { return l < 100<<20 })
}

// settled collects until the limit is as it should be: it follows a collection
// soon, not at once.
func settled(t *testing.T, what string, ok func(limit int64) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		if l := debug.SetMemoryLimit(-1); ok(l) {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s: it is %d MiB", what, l>>20)
		}
	}
}

func TestLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ live, other, want int64 }{
		{0, 5 * mib, 77 * mib}, {10 * mib, 5 * mib, 87 * mib}, {72 * mib, 0, 144 * mib}, {300 * mib, 10 * mib, 610 * mib},
	} {
		if got := limit(c.live, c.other); got != c.want {
			t.Errorf("limit(%d, %d) = %d, want %d", c.live, c.other, got, c.want)
		}
	}
	if live, other := inUse(); live < 0 || other <= 0 || other > 1<<30 {
		t.Errorf("in use: %d live, %d other", live, other)
	}
}
