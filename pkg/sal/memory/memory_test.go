package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPool(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func open(t testing.TB, d *Driver, pl *sal.Pool, name string, queues int) sal.Port {
	t.Helper()
	p, err := d.Open(sal.PortConfig{Name: name, Queues: queues, MTU: 1500}, pl)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	return p
}

// allFree fails unless every buffer is back in the pool.
func allFree(t testing.TB, p *sal.Pool) {
	t.Helper()
	if s := p.Stats(); s.Free != s.Total {
		t.Errorf("buffers lost: %+v", s)
	}
}

func TestPeer(t *testing.T) {
	pl := pool(t, 64)
	d := New(Options{})
	peer := d.Peer("a")
	if n := peer.Inject([]byte("early")); n != 0 {
		t.Errorf("a closed port took %d frames", n)
	}
	p := open(t, d, pl, "a", 2)
	if !p.Link() {
		t.Error("no link")
	}
	c := pl.NewCache()
	if n := peer.InjectTo(1, []byte("one"), []byte("two")); n != 2 {
		t.Fatalf("took %d of 2", n)
	}
	var b [8]sal.Desc
	if n := p.Queue(0).RxBurst(c, b[:]); n != 0 {
		t.Errorf("queue 0 got %d frames of queue 1", n)
	}
	if h := p.Queue(1).Held(); h != 2 {
		t.Errorf("held %d", h)
	}
	n := p.Queue(1).RxBurst(c, b[:])
	if n != 2 || string(pl.Bytes(b[0])) != "one" || string(pl.Bytes(b[1])) != "two" || b[0].Off() < sal.Headroom {
		t.Fatalf("got %d frames", n)
	}
	if n := p.Queue(0).TxBurst(c, b[:2]); n != 2 {
		t.Fatalf("sent %d", n)
	}
	if f := peer.Collect(10); len(f) != 2 || !bytes.Equal(f[1], []byte("two")) {
		t.Errorf("collected %q", f)
	}

	peer.Inject([]byte("left in the ring"))
	p.Close()
	c.Close()
	peer.Close()
	allFree(t, pl)
	if s := p.Stats(); s.RxDropped != 1 {
		t.Errorf("%+v", s)
	}
}

func TestNobodyThere(t *testing.T) {
	pl := pool(t, 8)
	p := open(t, New(Options{}), pl, "a", 1)
	if p.Link() {
		t.Error("link without a peer")
	}
	c := pl.NewCache()
	b, _ := c.Alloc()
	if n := p.Queue(0).TxBurst(c, []sal.Desc{sal.MakeDesc(b, 0, 60)}); n != 1 {
		t.Error("frame not taken")
	}
	if s := p.Stats(); s.TxDropped != 1 {
		t.Errorf("%+v", s)
	}
	p.Close()
	c.Close()
	allFree(t, pl)
}

func TestBackToBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		nb     int
		shared bool
	}{{"same pool", 1, true}, {"more queues", 3, true}, {"other pool", 1, false}} {
		t.Run(tc.name, func(t *testing.T) {
			pa := pool(t, 32)
			pb := pa
			if !tc.shared {
				pb = pool(t, 4)
			}
			d := New(Options{Depth: 5}) // becomes 8
			if err := d.Connect("a", "b"); err != nil {
				t.Fatal(err)
			}
			a, b := open(t, d, pa, "a", 2), open(t, d, pb, "b", tc.nb)
			ca, cb := pa.NewCache(), pb.NewCache()
			var in, out [16]sal.Desc
			for i := range in {
				x, ok := ca.Alloc()
				if !ok {
					t.Fatal("empty pool")
				}
				in[i] = sal.MakeDesc(x, sal.Headroom, 60)
				pa.Bytes(in[i])[0] = byte(i)
			}
			if n := a.Queue(1).TxBurst(ca, in[:]); n != 8 {
				t.Fatalf("a ring of 8 took %d", n)
			}
			ca.FreeDescs(in[8:])
			if h := a.Queue(1).Held() + b.Queue(0).Held(); h != 8 {
				t.Errorf("held %d", h)
			}
			n := 0
			for i := range tc.nb {
				n += b.Queue(i).RxBurst(cb, out[n:])
			}
			want := 8
			if !tc.shared {
				want = 4 // all the buffers b's pool has
				if s := b.Stats(); s.RxDropped != 4 {
					t.Errorf("%+v", s)
				}
			}
			if n != want {
				t.Fatalf("received %d", n)
			}
			for i, x := range out[:n] {
				if pb.Bytes(x)[0] != byte(i) {
					t.Errorf("frame %d carries %d", i, pb.Bytes(x)[0])
				}
			}
			if n := b.Queue(0).TxBurst(cb, out[:n]); n != want {
				t.Errorf("sent back %d", n)
			}
			b.Close() // frees what a did not fetch
			a.Close()
			ca.Close()
			cb.Close()
			allFree(t, pa)
			allFree(t, pb)
		})
	}
}

func TestNames(t *testing.T) {
	pl := pool(t, 4)
	d := New(Options{})
	a := open(t, d, pl, "w", 1)
	b := open(t, d, pl, "w:peer", 1)
	if !a.Link() || !b.Link() {
		t.Error("w and w:peer are not connected")
	}
	b.SetUp(false)
	if a.Link() || b.Link() {
		t.Error("link though one end is down")
	}
	if _, err := d.Open(sal.PortConfig{Name: "w", Queues: 1}, pl); !errors.Is(err, sal.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Connect("w", "z"); !errors.Is(err, sal.ErrExists) {
		t.Errorf("connected twice: %v", err)
	}
	a.Close()
	a.Close()
	if a = open(t, d, pl, "w", 1); a.Info().MAC == b.Info().MAC {
		t.Error("both ends have one MAC")
	}
	for _, cfg := range []sal.PortConfig{{Queues: 1}, {Name: "q"}, {Name: "q", Queues: 1, MTU: 9217}} {
		if _, err := d.Open(cfg, pl); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestOrder sends numbers across a wire from one goroutine to another that
// sleeps on the wake descriptor: none lost, none twice, in order.
func TestOrder(t *testing.T) {
	const total = 20000
	pl := pool(t, 4096) // more than the two caches can hoard
	d := New(Options{Depth: 64})
	d.Connect("a", "b")
	a, b := open(t, d, pl, "a", 1), open(t, d, pl, "b", 1)
	done := make(chan error, 1)
	receive := func() error {
		c := pl.NewCache()
		defer c.Close()
		var out [32]sal.Desc
		q := b.Queue(0)
		fds := []unix.PollFd{{Fd: int32(q.Wake()), Events: unix.POLLIN}}
		for next := uint32(0); next < total; {
			n := q.RxBurst(c, out[:])
			if n == 0 {
				k, err := unix.Poll(fds, 10000)
				if k == 0 && q.Held() == 0 && a.Queue(0).Held() > 0 {
					return fmt.Errorf("slept through frame %d", next)
				}
				if err != nil && err != unix.EINTR {
					return err
				}
			}
			for _, x := range out[:n] {
				if v := binary.LittleEndian.Uint32(pl.Bytes(x)); v != next {
					return fmt.Errorf("frame %d came for %d", v, next)
				}
				next++
			}
			c.FreeDescs(out[:n])
		}
		return nil
	}
	go func() { done <- receive() }()
	c := pl.NewCache()
	for i := uint32(0); i < total && len(done) == 0; {
		x, ok := c.Alloc()
		if !ok {
			runtime.Gosched()
			continue
		}
		f := []sal.Desc{sal.MakeDesc(x, sal.Headroom, 60)}
		binary.LittleEndian.PutUint32(pl.Bytes(f[0]), i)
		for a.Queue(0).TxBurst(c, f) == 0 && len(done) == 0 {
			runtime.Gosched()
		}
		i++
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.Close()
	a.Close()
	b.Close()
	allFree(t, pl)
}

func TestTenThousandPorts(t *testing.T) {
	pl := pool(t, 64)
	d := New(Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	g := runtime.NumGoroutine()
	ports := make([]sal.Port, 10000)
	for i := range ports {
		ports[i] = open(t, d, pl, fmt.Sprint("p", i), 1)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / uint64(len(ports)); per > 2048 {
		t.Errorf("%d bytes for an idle port", per)
	}
	if n := runtime.NumGoroutine(); n > g {
		t.Errorf("%d goroutines more", n-g)
	}
	for _, p := range ports {
		p.Close()
	}
}

func TestNoAllocations(t *testing.T) {
	pl := pool(t, 1024)
	d := New(Options{})
	p := open(t, d, pl, "a", 1)
	peer := d.Peer("a")
	c := pl.NewCache()
	q := p.Queue(0)
	q.Wake()
	ids := make([]uint32, sal.Burst)
	in, out := make([]sal.Desc, sal.Burst), make([]sal.Desc, sal.Burst)
	peer.Cache().AllocBurst(ids)
	for i, x := range ids {
		in[i] = sal.MakeDesc(x, sal.Headroom, 60)
	}
	if n := testing.AllocsPerRun(100, func() {
		if peer.Send(0, in) != len(in) || q.RxBurst(c, out) != len(out) || q.TxBurst(c, out) != len(out) || peer.Recv(in) != len(in) {
			t.Fatal("frames lost")
		}
		q.RxBurst(c, out)
	}); n != 0 {
		t.Errorf("%v allocations in a burst", n)
	}
}

// BenchmarkBurst is what the fast path's benchmarks pay for their ports: a
// burst in by the peer, out by the port, and back.
func BenchmarkBurst(b *testing.B) {
	pl := pool(b, 1024)
	d := New(Options{})
	p := open(b, d, pl, "a", 1)
	peer := d.Peer("a")
	c := pl.NewCache()
	q := p.Queue(0)
	ids := make([]uint32, sal.Burst)
	in, out := make([]sal.Desc, sal.Burst), make([]sal.Desc, sal.Burst)
	peer.Cache().AllocBurst(ids)
	for i, x := range ids {
		in[i] = sal.MakeDesc(x, sal.Headroom, 60)
	}
	for b.Loop() {
		peer.Send(0, in)
		q.RxBurst(c, out)
		q.TxBurst(c, out)
		peer.Recv(in)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sal.Burst, "ns/pkt")
}

// TestWakeRace is the moment in which a frame comes between the last look at a
// ring and the reset of its descriptor: the descriptor must stay readable.
func TestWakeRace(t *testing.T) {
	var w waker
	defer w.close()
	fd := w.fd()
	readable := func() bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0
	}
	if !readable() {
		t.Error("a new descriptor says that nothing waits, which nobody has looked at")
	}
	for range idlePolls {
		w.idle(func() bool { return true })
	}
	if !readable() {
		t.Error("a frame would be slept through")
	}
	for range idlePolls {
		w.idle(func() bool { return false })
	}
	if readable() {
		t.Error("readable though nothing waits")
	}
	w.ring()
	w.ring()
	if !readable() {
		t.Error("rung and not readable")
	}
}
