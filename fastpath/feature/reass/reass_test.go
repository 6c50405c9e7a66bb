package reass_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/reass"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// rig is a reassembly with a context, and nothing around it.
type rig struct {
	t   testing.TB
	env *pipeline.Env
	c   *pipeline.Ctx
	f   *reass.Feature
	all []*pipeline.Ctx
}

func newRig(t testing.TB, workers, buffers int) *rig {
	pool, err := sal.NewPool(buffers)
	if err != nil {
		t.Fatal(err)
	}
	g := mem.NewGrace()
	env := &pipeline.Env{Pool: pool, Workers: workers, Grace: g}
	if env.Counters, err = pipeline.NewCounters(workers, g); err != nil {
		t.Fatal(err)
	}
	if env.Control, err = pipeline.NewControl(pool, nil, func(int) {}); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, env: env}
	r.c = r.context(0)
	if r.f, err = reass.New(env, reass.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.f.Close()
		for _, c := range r.all {
			drain(c)
			c.Close()
		}
		env.Control.Close()
		if s := pool.Stats(); s.Free+s.Cached != s.Total {
			t.Errorf("%d of %d buffers are lost", s.Total-s.Free-s.Cached, s.Total)
		}
		env.Counters.Close()
		pool.Close()
	})
	return r
}

func (r *rig) context(i int) *pipeline.Ctx {
	c, err := pipeline.NewCtx(r.env, i)
	if err != nil {
		r.t.Fatal(err)
	}
	_, to := c.Control()
	r.env.Control.AddWorker(to)
	r.all = append(r.all, c)
	return c
}

// give hands a fragment to the reassembly and gives what came out of it.
func (r *rig) give(c *pipeline.Ctx, ip []byte) (out [][]byte) {
	b, ok := c.Alloc()
	if !ok {
		r.t.Fatal("no buffer")
	}
	d := sal.MakeDesc(b, sal.Headroom+pipeline.EthLen, uint16(len(ip)))
	copy(c.Pool.Bytes(d), ip)
	reass.Take(r.f, c, d, pipeline.FromIface(1), 1)
	for i := range c.Loop.N {
		out = append(out, bytes.Clone(c.Pool.Bytes(c.Loop.Desc[i])[pipeline.EthLen:]))
		c.Free(c.Loop.Desc[i])
	}
	c.Loop.N = 0
	return out
}

// twin is reassembly in maps, without bounds and timers: what must come out.
type twin struct{ m map[string]*twinDatagram }

type twinDatagram struct {
	head  []byte
	data  map[int]byte
	parts map[[2]int]bool
	total int
	dead  bool
}

// give is rig.give; it knows ESP only, and packets that fit a buffer.
func (w *twin) give(ip []byte) []byte {
	var id string
	var at int
	var more bool
	var data, head []byte
	if ip[0]>>4 == 6 {
		f := binary.BigEndian.Uint16(ip[42:])
		id, at, more, data, head = string(ip[8:40])+string(ip[44:48]), int(f&^7), f&1 != 0, ip[48:], ip[:40]
	} else {
		h := pkt.IPv4(ip)
		id, at, more, data, head = string(ip[12:20])+string(ip[4:6])+string(ip[9:10]), h.FragOffset(), h.MF(), h.Payload(), ip[:20]
	}
	g := w.m[id]
	if g == nil {
		g = &twinDatagram{data: map[int]byte{}, parts: map[[2]int]bool{}, total: -1}
		w.m[id] = g
	}
	if g.dead {
		return nil
	}
	equal, overlap := true, false
	for i, x := range data {
		y, there := g.data[at+i]
		overlap = overlap || there
		equal = equal && there && x == y
	}
	if equal && g.parts[[2]int{at, at + len(data)}] {
		return nil
	}
	for i := range g.data {
		overlap = overlap || !more && i >= at+len(data)
	}
	if overlap || g.total >= 0 && (!more || at+len(data) > g.total) || len(g.parts) == reass.MaxPieces {
		g.dead = true
		return nil
	}
	for i, x := range data {
		g.data[at+i] = x
	}
	g.parts[[2]int{at, at + len(data)}] = true
	if at == 0 {
		g.head = bytes.Clone(head)
	}
	if !more {
		g.total = at + len(data)
	}
	if len(g.data) != g.total {
		return nil
	}
	delete(w.m, id)
	b := g.head
	for i := range g.total {
		b = append(b, g.data[i])
	}
	if b[0]>>4 == 6 {
		b[6] = 50
		pkt.IPv6(b).SetPayloadLen(g.total)
		return b
	}
	h := pkt.IPv4(b)
	h.SetTotalLen(len(b))
	h.SetFrag(false, false, 0)
	h.SetChecksum()
	return b
}

// FuzzTwin cuts and mixes as the input says, and compares what becomes whole with
// the twin. Five bytes are a fragment: which datagram and family, where (in
// eights), how long (in eights), more, contents.
func FuzzTwin(f *testing.F) {
	f.Add([]byte{0, 0, 2, 1, 7, 0, 2, 1, 0, 7})
	f.Add([]byte{1, 4, 1, 0, 0, 1, 2, 2, 1, 0, 1, 0, 2, 1, 0})
	f.Add([]byte{0, 0, 2, 1, 1, 0, 1, 2, 1, 2, 0, 3, 1, 0, 1})
	f.Add([]byte{3, 0, 2, 1, 1, 3, 0, 2, 1, 1, 3, 2, 1, 0, 1, 3, 2, 1, 0, 1})
	r := newRig(f, 1, 4096)
	run := uint32(0)
	f.Fuzz(func(t *testing.T, in []byte) {
		run++
		w := &twin{map[string]*twinDatagram{}}
		for n := 0; len(in) >= 5 && n < 400; n, in = n+1, in[5:] {
			which, at, size, more, fill := in[0]%8, int(in[1]%32)*8, int(in[2]%8)*8, in[3]&1 != 0, in[4]&3
			if size == 0 {
				continue
			}
			if !more {
				size -= int(in[3] >> 5) // the end need not be whole
			}
			data := bytes.Repeat([]byte{fill}, size)
			p := testbed.Packet{Src: "10.0.0.1", Dst: "10.0.0.2", Proto: 50, Payload: make([]byte, 8)}
			if which&1 != 0 {
				p.Src, p.Dst = "2001:db8::1", "2001:db8::2"
			}
			head := p.IP()
			head = head[:len(head)-8]
			id := run<<3 | uint32(which)
			if which&1 == 0 {
				pkt.IPv4(head).SetSrc(netip.AddrFrom4([4]byte{10, byte(run >> 16), byte(run >> 8), byte(run)}).As4())
				pkt.IPv4(head).SetID(uint16(which))
			}
			ip := testbed.Fragment(head, data, at, more, id)
			if at == 0 && !more { // atomic: never comes here
				continue
			}
			got, want := r.give(r.c, ip), w.give(ip)
			if want == nil && len(got) == 0 {
				continue
			}
			if len(got) != 1 || !bytes.Equal(got[0], want) {
				t.Fatalf("fragment %d: got %x\nwant %x", n, got, want)
			}
		}
		r.c.Now += int64(reass.Timeout6) * 2
		r.f.Tick(r.c.Now)
		if h := r.f.Held(); h != 0 {
			t.Fatalf("%d buffers held when all is over", h)
		}
		drain(r.c)
	})
}

// drain ends what the control side has sent to the worker.
func drain(c *pipeline.Ctx) {
	_, from := c.Control()
	for m, ok := from.Get(); ok; m, ok = from.Get() {
		c.Free(m.Desc)
	}
	c.FlushFree()
}

// TestTwin is FuzzTwin with random input.
func TestTwin(t *testing.T) {
	r := newRig(t, 1, 4096)
	rnd := rand.New(rand.NewPCG(1, 2))
	whole := 0
	for run := range 3000 {
		w := &twin{map[string]*twinDatagram{}}
		p := testbed.Packet{Src: "10.0.0.1", Dst: "10.0.0.2", Proto: 50, Len: 28 + rnd.IntN(1500)}
		if run&1 != 0 {
			p.Src, p.Dst, p.Len = "2001:db8::1", "2001:db8::2", p.Len+20
		}
		ip := p.IP()
		if run&1 == 0 {
			pkt.IPv4(ip).SetID(uint16(run))
		}
		parts := testbed.Cut(ip, 8+8*rnd.IntN(100), uint32(run))
		if len(parts) < 2 {
			continue
		}
		rnd.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		if rnd.IntN(3) == 0 {
			parts = append(parts[:1:1], parts...)
		}
		for _, x := range parts {
			got, want := r.give(r.c, x), w.give(x)
			if want != nil {
				whole++
				if !bytes.Equal(want[len(want)-8:], ip[len(ip)-8:]) {
					t.Fatal("the twin is wrong")
				}
			}
			if len(got) > 1 || (len(got) == 0) != (want == nil) || want != nil && !bytes.Equal(got[0], want) {
				t.Fatalf("run %d: got %x\nwant %x", run, got, want)
			}
		}
	}
	if whole < 2000 {
		t.Errorf("only %d datagrams became whole", whole)
	}
}

// TestManyWorkers: the pieces of datagrams reach different workers, while the
// control side ends others. None is lost, none comes out twice.
func TestManyWorkers(t *testing.T) {
	const workers, each = 4, 400
	r := newRig(t, workers, 16384)
	ctx := []*pipeline.Ctx{r.c}
	for i := 1; i < workers; i++ {
		ctx = append(ctx, r.context(i))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var all [workers][][]byte
	for n := range workers * each {
		ip := testbed.Packet{Src: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}).String(), Dst: "10.0.0.2", Proto: 50, Len: 700}.IP()
		for k, x := range testbed.Cut(ip, 200, 0) {
			all[(n+k)%workers] = append(all[(n+k)%workers], x)
		}
	}
	var wait, ticking sync.WaitGroup
	stop := make(chan struct{})
	ticking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.f.Tick(1) // nothing is over yet
			}
		}
	})
	for i, c := range ctx {
		c.Now = 1
		wait.Go(func() {
			for _, x := range all[i] {
				for _, p := range r.give(c, x) {
					mu.Lock()
					seen[string(p[:20])]++
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	close(stop)
	ticking.Wait()
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%x came out %d times", k, n)
		}
	}
	lost := workers*each - len(seen)
	if h := r.f.Held(); lost > 0 && h == 0 {
		t.Errorf("%d datagrams lost, nothing held", lost)
	}
	r.f.Tick(int64(reass.Timeout6) * 2)
	if h := r.f.Held(); h != 0 {
		t.Errorf("%d buffers held when all is over", h)
	}
}
