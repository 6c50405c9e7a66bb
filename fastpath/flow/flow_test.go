package flow

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"vrouter/pkg/burst"
)

func TestSizes(t *testing.T) {
	if s := unsafe.Sizeof(Entry4{}); s != 64 {
		t.Errorf("Entry4 has %d bytes, want one line", s)
	}
	if s := unsafe.Sizeof(Entry6{}); s != 128 {
		t.Errorf("Entry6 has %d bytes, want two lines", s)
	}
	var e4 Entry4
	var e6 Entry6
	m4, m6 := unsafe.Offsetof(e4.Meta), unsafe.Offsetof(e6.Meta)
	for name, o := range map[string][4]uintptr{
		"Gen": {unsafe.Offsetof(e4.Meta.Gen), 0, Gens4, Gens6}, "AdjGen": {unsafe.Offsetof(e4.Meta.AdjGen), 4, Gens4, Gens6},
		"Adj": {unsafe.Offsetof(e4.Meta.Adj), 0, Adj4, Adj6}, "Kind": {unsafe.Offsetof(e4.Meta.Kind), 0, Kind4, Kind6},
		"Flags": {unsafe.Offsetof(e4.Meta.Flags), 1, Kind4, Kind6}, "Seen": {unsafe.Offsetof(e4.Meta.Seen), 2, Kind4, Kind6},
		"Pkts": {unsafe.Offsetof(e4.Meta.Pkts), 4, Kind4, Kind6}, "Bytes": {unsafe.Offsetof(e4.Meta.Bytes), 0, Bytes4, Bytes6},
	} {
		if m4+o[0] != o[1]+o[2] || m6+o[0] != o[1]+o[3] {
			t.Errorf("%s is not where the packet loop reads it", name)
		}
	}
	if s := unsafe.Sizeof(bucket{}); s != 64 {
		t.Errorf("bucket has %d bytes, want one line", s)
	}
	if o := unsafe.Offsetof(bucket{}.zero); o != 48 {
		t.Errorf("the miss index is at %d, want 48 (burst.BucketMatch)", o)
	}
}

// TestAgainstMap inserts, finds, sweeps and overfills, and compares with a map:
// a flow that is found must be the right one, and as long as there is room no
// flow may be lost.
func TestAgainstMap(t *testing.T) {
	seed := burst.NewSeed()
	rng := rand.New(rand.NewPCG(1, 2))
	tb, err := New(false, 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer tb.Close()
	var keys []burst.Key4
	refused := 0
	for n := range 20000 {
		k := burst.Key4{rng.Uint64(), rng.Uint64()}
		h := burst.Hash4(&k, &seed)
		if tb.Find4(&k, h) != 0 {
			t.Fatalf("key %d found before it was inserted", n)
		}
		x := tb.Insert(h, 1)
		if x == 0 {
			if tb.Used() < tb.Size()/2 {
				t.Fatalf("no room with %d of %d used", tb.Used(), tb.Size())
			}
			refused++
			continue
		}
		e := tb.E4(x)
		e.Key, e.Gen, e.Seen = k, 1, uint16(n>>4)
		keys = append(keys, k)
		if got := tb.Find4(&k, h); got != x {
			t.Fatalf("key %d: found at %d, inserted at %d", n, got, x)
		}
		if n == 700 { // far below what fits: all must be there
			for i := range keys {
				if tb.Find4(&keys[i], burst.Hash4(&keys[i], &seed)) == 0 {
					t.Fatalf("key %d of %d lost with the table two thirds full", i, n)
				}
			}
		}
	}
	if refused > 20000/100 {
		t.Errorf("%d of 20000 flows got no room", refused)
	}
	found := 0
	for i := range keys {
		if x := tb.Find4(&keys[i], burst.Hash4(&keys[i], &seed)); x != 0 {
			found++
			if tb.E4(x).Key != keys[i] {
				t.Fatal("found another flow's entry")
			}
		}
	}
	if found != tb.Used() {
		t.Errorf("%d flows found, %d in use", found, tb.Used())
	}
	tb.Sweep(int(tb.Mask)+1, uint16(20000>>4), 0xffff)
	if found != tb.Used() {
		t.Error("sweep freed flows that are not old")
	}
	tb.Sweep(int(tb.Mask)+1, uint16(20000>>4)+100, 10)
	if tb.Used() != 0 {
		t.Errorf("%d flows left after all were old", tb.Used())
	}
	for i := range tb.Mask + 1 {
		if tb.Spilled(i) {
			t.Fatalf("bucket %d still counts spilled flows in an empty table", i)
		}
	}
}

func TestIPv6(t *testing.T) {
	seed := burst.NewSeed()
	tb, err := New(true, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer tb.Close()
	for i := range uint64(40) {
		k := burst.Key6{1, 2, 3, i, 5}
		h := burst.Hash6(&k, &seed)
		x := tb.Insert(h, 1)
		if x == 0 {
			t.Fatalf("flow %d: no room", i)
		}
		tb.E6(x).Key = k
		if tb.Find6(&k, h) != x {
			t.Fatalf("flow %d not found", i)
		}
	}
	tb.Flush()
	if tb.Used() != 0 {
		t.Error("flush left flows behind")
	}
}
