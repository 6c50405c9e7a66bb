package sal

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func newPool(t testing.TB, n int) *Pool {
	t.Helper()
	p, err := NewPool(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestDesc(t *testing.T) {
	for _, x := range []struct {
		buf    uint32
		off, n uint16
	}{{0, 0, 0}, {1<<32 - 1, 1<<16 - 1, 1<<16 - 1}, {77, Headroom, 1514}, {1, 0, 1}} {
		d := MakeDesc(x.buf, x.off, x.n)
		if d.Buf() != x.buf || d.Off() != x.off || d.Len() != x.n {
			t.Errorf("%+v became %d %d %d", x, d.Buf(), d.Off(), d.Len())
		}
	}
	if BufSize/64%2 != 1 || BufSize%64 != 0 {
		t.Error("the stride is no odd number of cache lines")
	}
	if MaxFrame < 1500+18+ /* IPv6, ESP, IV, trailer, ICV of a tunnel in a tunnel */ 100 {
		t.Error("frames of the usual MTU do not fit")
	}
}

func TestBytes(t *testing.T) {
	p := newPool(t, 3)
	d := MakeDesc(1, 100, 50)
	b := p.Bytes(d)
	if len(b) != 50 || cap(b) != BufSize-100 {
		t.Errorf("%d bytes, capacity %d", len(b), cap(b))
	}
	b[0] = 0xaa
	if whole := p.Bytes(MakeDesc(1, 0, BufSize)); whole[100] != 0xaa {
		t.Error("Bytes begins elsewhere")
	}
	if p.Addr(d) != p.Base()+BufSize+100 {
		t.Error("Addr is elsewhere")
	}
	if p.Base()%4096 != 0 {
		t.Error("buffers are not aligned to lines")
	}
	defer func() {
		if recover() == nil {
			t.Error("a packet beyond its buffer's end")
		}
	}()
	_ = p.Bytes(MakeDesc(1, BufSize-1, 2))
}

// TestEachBufferOnce takes all buffers by several caches: none twice, none
// missing, and all come back.
func TestEachBufferOnce(t *testing.T) {
	const n = 5000
	p := newPool(t, n)
	a, b := p.NewCache(), p.NewCache()
	seen := make([]bool, n)
	take := func(x uint32) {
		if x >= n || seen[x] {
			t.Fatalf("buffer %d out of the pool, or twice", x)
		}
		seen[x] = true
	}
	var d []Desc
	buf := make([]uint32, 300)
	for k := 0; ; k++ {
		c := a
		if k&1 != 0 {
			c = b
		}
		if k%3 == 0 {
			x, ok := c.Alloc()
			if !ok {
				break
			}
			take(x)
			d = append(d, MakeDesc(x, 0, 0))
			continue
		}
		m := c.AllocBurst(buf[:1+k%len(buf)])
		for _, x := range buf[:m] {
			take(x)
			d = append(d, MakeDesc(x, 0, 0))
		}
		if s := p.Stats(); s.Free+s.Cached+len(d) != n {
			t.Fatalf("%+v with %d in use", s, len(d))
		}
	}
	// What one cache hoards, the other cannot have.
	for _, c := range []*Cache{a, b} {
		for x, ok := c.Alloc(); ok; x, ok = c.Alloc() {
			take(x)
			d = append(d, MakeDesc(x, 0, 0))
		}
	}
	if len(d) != n {
		t.Fatalf("%d of %d buffers", len(d), n)
	}
	if m := a.AllocBurst(buf); m != 0 {
		t.Errorf("%d buffers of an empty pool", m)
	}
	a.FreeDescs(d[:2000])
	p.Return(d[2000:2100])
	for _, x := range d[2100:] {
		b.Free(x.Buf())
	}
	if s := p.Stats(); s.Free+s.Cached != n || s.Cached > 2*cacheSize {
		t.Errorf("%+v", s)
	}
	a.Close()
	b.Close()
	if s := p.Stats(); s != (PoolStats{Total: n, Free: n}) {
		t.Errorf("%+v", s)
	}
}

// TestCachesTrade has buffers allocated on one goroutine and freed on another,
// all the time.
func TestCachesTrade(t *testing.T) {
	p := newPool(t, 8192)
	pipe := make(chan []Desc, 8)
	var wg sync.WaitGroup
	wg.Go(func() {
		c := p.NewCache()
		defer c.Close()
		defer close(pipe)
		ids := make([]uint32, 200)
		for range 500 {
			n := c.AllocBurst(ids)
			d := make([]Desc, n)
			for i, x := range ids[:n] {
				d[i] = MakeDesc(x, 0, 0)
				p.Bytes(MakeDesc(x, 0, 1))[0]++ // the race detector sees who shares it
			}
			pipe <- d
		}
	})
	wg.Go(func() {
		c := p.NewCache()
		defer c.Close()
		for d := range pipe {
			for _, x := range d {
				p.Bytes(MakeDesc(x.Buf(), 0, 1))[0]++
			}
			c.FreeDescs(d)
			if s := p.Stats(); s.Free+s.Cached > s.Total {
				t.Errorf("%+v", s)
			}
		}
	})
	wg.Wait()
	if s := p.Stats(); s.Free != s.Total {
		t.Errorf("%+v", s)
	}
}

func TestPoolRefusals(t *testing.T) {
	for _, n := range []int{0, -1, 1<<22 + 1} {
		if _, err := NewPool(n); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d buffers: %v", n, err)
		}
	}
}

// TestNotInCore looks at the kernel's own word that packets stay out of core
// files.
func TestNotInCore(t *testing.T) {
	p := newPool(t, 64)
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	want := strconv.FormatUint(uint64(p.Base()), 16) + "-"
	found := false
	for _, l := range strings.Split(string(smaps), "\n") {
		if strings.Contains(l, "-") && !strings.Contains(l, ":") || strings.HasPrefix(l, want) {
			found = strings.HasPrefix(l, want)
		}
		if f := strings.Fields(l); found && len(f) > 0 && f[0] == "VmFlags:" {
			if !strings.Contains(l, " dd") {
				t.Errorf("packet buffers may be dumped: %s", l)
			}
			return
		}
	}
	t.Log("the pool's mapping was merged with another; not looked at")
}

func TestNoAllocations(t *testing.T) {
	p := newPool(t, 8192)
	c := p.NewCache()
	ids, d := make([]uint32, Burst), make([]Desc, Burst)
	if n := testing.AllocsPerRun(1000, func() {
		// More than a cache holds, so that it trades with the pool each time.
		for range 6 {
			m := c.AllocBurst(ids)
			for i, x := range ids[:m] {
				d[i] = MakeDesc(x, 0, 0)
			}
			c.FreeDescs(d[:m/2])
			p.Return(d[m/2 : m])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPool(b *testing.B) {
	p := newPool(b, 8192)
	c := p.NewCache()
	ids, d := make([]uint32, Burst), make([]Desc, Burst)
	for b.Loop() {
		m := c.AllocBurst(ids)
		for i, x := range ids[:m] {
			d[i] = MakeDesc(x, 0, 0)
		}
		c.FreeDescs(d[:m])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Burst, "ns/pkt")
}
