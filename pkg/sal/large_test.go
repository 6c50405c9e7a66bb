package sal

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func newPoolLarge(t testing.TB, n, large int) *Pool {
	t.Helper()
	p, err := NewPoolLarge(n, large)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestClasses looks at the edges between ordinary and large buffers.
func TestClasses(t *testing.T) {
	for _, n := range []int{1, 63, 64, 4095, 4096, 4097, 5000} {
		p := newPoolLarge(t, n, 3)
		c := p.NewCache()
		b, ok := c.AllocLarge()
		if !ok || !p.IsLarge(b) || p.End(b) != LargeSize {
			t.Fatalf("%d buffers: large one %d, ends at %d", n, b, p.End(b))
		}
		for _, x := range []struct{ b, end int }{{0, BufSize}, {n - 1, BufSize}, {int(b) + 1, 0}, {int(b) - 1, 0}, {int(b) + 3*32, 0}, {1<<32 - 1, 0}} {
			if x.b < n {
				x.end = BufSize // no room in between
			}
			if got := p.End(uint32(x.b)); got != x.end {
				t.Errorf("%d buffers: %d ends at %d, not %d", n, x.b, got, x.end)
			}
		}
		if at := p.Base() + uintptr(b)*BufSize; at%4096 != 0 {
			t.Errorf("%d buffers: the large ones begin within a page, at %#x", n, at)
		}
		d := MakeDesc(b, Headroom, 1<<16-1)
		all := p.Bytes(d)
		if len(all) != 1<<16-1 || cap(all) != LargeSize-Headroom || cap(all)-len(all) < Tailroom {
			t.Errorf("%d bytes, capacity %d", len(all), cap(all))
		}
		all[0], all[len(all)-1] = 1, 2
		if y := p.Bytes(MakeDesc(b, Headroom+100, 1)); cap(y) != LargeSize-Headroom-100 || p.Addr(d) != p.Base()+uintptr(b)*BufSize+Headroom {
			t.Error("Bytes or Addr are elsewhere")
		}
		if m := p.Region(); len(m) != 4096+n*BufSize {
			t.Errorf("the region has %d bytes", len(m))
		}
		for n, large := range map[int]bool{0: false, MaxFrame: false, MaxFrame + 1: true, 1<<16 - 1: true} {
			b, ok := c.AllocFor(n)
			if ok && p.IsLarge(b) != large || !ok && large {
				t.Errorf("a frame of %d bytes is in buffer %d", n, b)
			}
			if ok {
				c.Free(b)
			}
		}
		c.Free(b)
		c.Close()
		if s := p.Stats(); s != (PoolStats{n + 3, n + 3, 0, ClassStats{3, 3, 0}}) {
			t.Errorf("%+v", s)
		}
	}
	for _, x := range [][2]int{{1, -1}, {1, 1<<16 + 1}, {0, 1}} {
		if _, err := NewPoolLarge(x[0], x[1]); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v buffers: %v", x, err)
		}
	}
}

// TestEachLargeOnce takes and frees buffers of both classes in every way there
// is: none twice, none as what it is not, all back in the end.
func TestEachLargeOnce(t *testing.T) {
	const n, large = 3000, 200
	p := newPoolLarge(t, n, large)
	caches := []*Cache{p.NewCache(), p.NewCache()}
	seen := map[uint32]bool{}
	var have []Desc
	take := func(b uint32, isLarge bool) {
		if seen[b] || p.IsLarge(b) != isLarge || p.End(b) == 0 {
			t.Fatalf("buffer %d twice, or of the wrong class", b)
		}
		seen[b] = true
		have = append(have, MakeDesc(b, 0, 0))
	}
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]uint32, 300)
	for range 5000 {
		c := caches[r.IntN(2)]
		switch r.IntN(4) {
		case 0:
			for range r.IntN(60) {
				if b, ok := c.AllocLarge(); ok {
					take(b, true)
				}
			}
		case 1:
			for _, b := range ids[:c.AllocBurst(ids[:r.IntN(300)])] {
				take(b, false)
			}
		default:
			r.Shuffle(len(have), func(i, j int) { have[i], have[j] = have[j], have[i] })
			k := r.IntN(len(have) + 1)
			for _, d := range have[:k] {
				delete(seen, d.Buf())
			}
			switch r.IntN(3) {
			case 0:
				c.FreeDescs(have[:k])
			case 1:
				p.Return(have[:k])
			default:
				for _, d := range have[:k] {
					c.Free(d.Buf())
				}
			}
			have = have[k:]
		}
		if s := p.Stats(); s.Free+s.Cached+len(seen) != n+large || s.Total != n+large || s.Large.Cached > 2*cacheLarge {
			t.Fatalf("%+v with %d in use", s, len(seen))
		}
	}
	caches[0].FreeDescs(have)
	for _, c := range caches {
		c.Close()
	}
	if s := p.Stats(); s != (PoolStats{n + large, n + large, 0, ClassStats{large, large, 0}}) {
		t.Errorf("%+v", s)
	}
	clear(seen)
	c := p.NewCache()
	for range large {
		if b, ok := c.AllocLarge(); ok {
			take(b, true)
		}
	}
	if _, ok := c.AllocLarge(); ok {
		t.Error("a large buffer too many")
	}
	if _, ok := c.AllocFor(MaxFrame + 1); ok {
		t.Error("a large buffer too many")
	}
}

// TestLargeCachesTrade has large buffers allocated on one goroutine and freed
// on another.
func TestLargeCachesTrade(t *testing.T) {
	p := newPoolLarge(t, 64, 256)
	pipe := make(chan []Desc, 4)
	var wg sync.WaitGroup
	wg.Go(func() {
		c := p.NewCache()
		defer c.Close()
		defer close(pipe)
		for range 500 {
			var d []Desc
			for range 20 {
				if b, ok := c.AllocLarge(); ok {
					x := MakeDesc(b, Headroom, 1<<16-1)
					p.Bytes(x)[1<<16-2]++ // the race detector sees who shares it
					d = append(d, x)
				}
			}
			pipe <- d
		}
	})
	wg.Go(func() {
		c := p.NewCache()
		defer c.Close()
		for d := range pipe {
			for _, x := range d {
				p.Bytes(x)[1<<16-2]++
			}
			c.FreeDescs(d)
		}
	})
	wg.Wait()
	if s := p.Stats(); s.Free != s.Total || s.Large.Free != 256 {
		t.Errorf("%+v", s)
	}
}

func TestLargeNoAllocations(t *testing.T) {
	p := newPoolLarge(t, 64, 256)
	c := p.NewCache()
	d := make([]Desc, 100)
	if n := testing.AllocsPerRun(1000, func() {
		for i := range d {
			b, _ := c.AllocLarge()
			d[i] = MakeDesc(b, 0, 0)
		}
		c.FreeDescs(d)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLargeCostsNothing sees that large buffers take memory only where they
// were written, and stay out of core files.
func TestLargeCostsNothing(t *testing.T) {
	p := newPoolLarge(t, 64, 512)
	c := p.NewCache()
	b, _ := c.AllocLarge()
	p.Bytes(MakeDesc(b, 0, LargeSize/2))[0] = 1
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := uint64(p.Base()) + uint64(b)*BufSize
	inside := false
	for _, l := range strings.Split(string(smaps), "\n") {
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		if from, to, ok := strings.Cut(f[0], "-"); ok {
			lo, _ := strconv.ParseUint(from, 16, 64)
			hi, _ := strconv.ParseUint(to, 16, 64)
			inside = lo <= at && at < hi
		}
		if inside && f[0] == "Rss:" {
			if kb, _ := strconv.Atoi(f[1]); kb > 1024 {
				t.Errorf("one byte of one large buffer costs %d kB", kb)
			}
		}
		if inside && f[0] == "VmFlags:" {
			if !strings.Contains(l, " dd") || !strings.Contains(l, " nh") {
				t.Errorf("flags of the large buffers: %s", l)
			}
			return
		}
	}
	t.Error("the mapping is not listed")
}
