// Package bench measures a worker on one core, without devices: frames come
// from and go to memory ports, everything between is the real thing (policy,
// drops, counters, neighbours, replay windows).
//
// # What is measured
//
// A generator on the same core writes 256 fresh frames into buffers and puts
// them into a memory port's ring; then the worker is turned once, and only that
// is timed (time stamp counter before and after). Headers are therefore warm in
// the caches, as they are with any packet generator on the same core, and as
// they would be behind DDIO. The memory ring's own cost for receiving and
// sending is in the figure.
//
// The measured turns are put together in slices of 16 bursts (4096 packets, some
// 50 µs). ns/pkt is the median slice, best-ns/pkt the fastest: on a machine that
// is shared, the first includes what neighbours take of caches and clock, but
// hardly ever a slice in which the kernel ran something else on the core.
// Mpps and Gbit/s (of inner IP) are computed from ns/pkt. Go's own ns/op would
// include the generator, so it is set to 0 and not shown.
package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/worker"
	"vrouter/pkg/burst"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/memory"
)

// Rig is a fast path between two memory ports, a (10.0.1.1/16, fd00:1::1/64,
// MAC 1) and b (10.2.0.1/16, fd00:2::1/64, MAC 2), whose worker the benchmark
// turns itself. Hops next hops stand behind b: Hop and Hop6.
type Rig struct {
	B   testing.TB
	E   *fastpath.Local
	W   *worker.Worker
	Mem *memory.Driver

	a, b *memory.Peer
	free []uint32
	got  [4 * sal.Burst]sal.Desc
	out  [sal.Burst]sal.Desc
}

// Hops is the number of next hops behind b.
const Hops = 250

// Hop is next hop i, 0 ≤ i < Hops.
func Hop(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, 1, byte(i + 1)}) }

// Hop6 is next hop i for IPv6.
func Hop6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: 2, 15: byte(i + 2)})
}

// New makes a rig; opt may change the engine's options.
func New(tb testing.TB, opt func(*fastpath.Options)) *Rig {
	tb.Helper()
	r := &Rig{B: tb, Mem: memory.New(memory.Options{})}
	reg := &sal.Registry{}
	reg.AddDriver(r.Mem)
	reg.AddDevice(cpu.New("cpu"))
	o := fastpath.Options{Registry: reg, Manual: true, Buffers: 8192}
	if opt != nil {
		opt(&o)
	}
	var err error
	if r.E, err = fastpath.New(o); err != nil {
		tb.Fatal(err)
	}
	r.a, r.b = r.Mem.Peer("a"), r.Mem.Peer("b")
	ia := testbed.Iface("a", 1, "10.0.1.1/16", "fd00:1::1/64")
	ib := testbed.Iface("b", 2, "10.2.0.1/16", "fd00:2::1/64")
	c := &fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib}}, Route: route.Change{Set: testbed.Connected(ia, ib)}}
	for i := range Hops {
		for _, a := range []netip.Addr{Hop(i), Hop6(i)} {
			c.Neigh.Set = append(c.Neigh.Set, neigh.Config{Key: neigh.Key{Iface: "b", Addr: a}, MAC: [6]byte{2, 0, 0, 0, 1, byte(i)}})
		}
	}
	r.Apply(c)
	r.W = r.E.Worker(0)
	r.W.Online()
	tb.Cleanup(r.close)
	cache := r.a.Cache()
	for range 4 * sal.Burst {
		x, ok := cache.Alloc()
		if !ok {
			tb.Fatal("no buffers for the generator")
		}
		r.free = append(r.free, x)
	}
	for range 8 { // announcements
		r.W.Turn()
	}
	r.collect()
	return r
}

func (r *Rig) close() {
	for _, x := range r.free {
		r.a.Cache().Free(x)
	}
	r.W.Offline()
	r.a.Close()
	r.b.Close()
	if err := r.E.Close(); err != nil {
		r.B.Error(err)
	}
}

// Apply commits a change. The worker must not be online: it is turned by the
// caller of this function.
func (r *Rig) Apply(c *fastpath.Change) {
	r.B.Helper()
	if r.W != nil {
		r.W.Offline()
		defer r.W.Online()
	}
	t, err := r.E.Prepare(context.Background(), c)
	if err == nil {
		err = r.E.Publish(context.Background(), t)
	}
	if err != nil {
		r.B.Fatal(err)
	}
}

// Fill writes a frame at p, the address of a buffer's first byte behind the
// headroom, and gives its length.
type Fill func(p unsafe.Pointer) uint16

// Burst sends one burst into port a (or b) and gives the router's own cycles
// and the number of packets that came out of the other port.
func (r *Rig) Burst(in byte, fill Fill) (cycles uint64, sent int) {
	r.load(in, fill)
	t := burst.Rdtsc()
	r.W.Turn()
	cycles = burst.Rdtsc() - t
	return cycles, r.collect()
}

// load puts a burst into port a (or b), where the worker finds it.
func (r *Rig) load(in byte, fill Fill) {
	from := r.a
	if in == 'b' {
		from = r.b
	}
	base := r.E.Pool().Base()
	for i := range r.out {
		x := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		at := base + uintptr(x)*sal.BufSize + sal.Headroom
		r.out[i] = sal.MakeDesc(x, sal.Headroom, fill(*(*unsafe.Pointer)(unsafe.Pointer(&at))))
	}
	if n := from.Send(0, r.out[:]); n != len(r.out) {
		r.B.Fatalf("the port took %d of %d frames", n, len(r.out))
	}
}

// Sent are the frames that came out in the last Burst, to be looked at before
// the next.
func (r *Rig) Sent(n int) []sal.Desc { return r.got[:n] }

// collect takes the buffers back. Those of dropped packets went to the worker's
// cache; as many are taken from the pool.
func (r *Rig) collect() (sent int) {
	n := r.b.Recv(r.got[:])
	m := n + r.a.Recv(r.got[n:])
	for _, d := range r.got[:m] {
		r.free = append(r.free, d.Buf())
	}
	for len(r.free) < 2*sal.Burst && cap(r.free) > 0 {
		x, ok := r.a.Cache().Alloc()
		if !ok {
			r.B.Fatal("the generator ran out of buffers")
		}
		r.free = append(r.free, x)
	}
	return m
}

// Measure runs bursts until b.N packets have been sent, and reports. inner is
// the length of the inner IP packet, for Gbit/s. Every packet must come out.
func (r *Rig) Measure(b *testing.B, inner int, next func() (cycles uint64, packets int)) {
	b.Helper()
	b.ReportAllocs()
	const slice = 16 * sal.Burst
	all := make([]float64, 0, 1<<16)
	var cycles uint64
	packets := 0
	b.ResetTimer()
	for done := 0; done < b.N || len(all) == 0; {
		c, n := next()
		cycles += c
		packets += n
		done += n
		if n == 0 {
			b.Fatal("no packet came out")
		}
		if packets >= slice || done >= b.N && len(all) == 0 {
			if len(all) < cap(all) {
				all = append(all, float64(cycles)/Hz()*1e9/float64(packets))
			}
			cycles, packets = 0, 0
		}
	}
	b.StopTimer()
	slices.Sort(all)
	ns := all[len(all)/2]
	b.ReportMetric(ns, "ns/pkt")
	b.ReportMetric(all[0], "best-ns/pkt")
	b.ReportMetric(1e3/ns, "Mpps")
	b.ReportMetric(float64(inner)*8/ns, "Gbit/s")
	b.ReportMetric(0, "ns/op")
}

// Forwarded is a next for Measure: bursts into a, all of which must come out.
func (r *Rig) Forwarded(fill Fill) func() (uint64, int) {
	return func() (uint64, int) {
		c, n := r.Burst('a', fill)
		if n != sal.Burst {
			r.B.Fatalf("%d of %d packets came out; drops: %v", n, sal.Burst, r.drops())
		}
		return c, n
	}
}

func (r *Rig) drops() (s []string) {
	st, err := r.E.State(context.Background(), &fastpath.Query{Drops: true})
	if err != nil {
		return []string{err.Error()}
	}
	for _, d := range st.Drops {
		s = append(s, fmt.Sprintf("%s %d", d.Reason, d.Packets))
	}
	return s
}

var hz float64

// Hz is the rate of the clock that Rdtsc reads, measured once.
func Hz() float64 {
	if hz == 0 {
		t, c := time.Now(), burst.Rdtsc()
		for time.Since(t) < 50*time.Millisecond {
		}
		hz = float64(burst.Rdtsc()-c) / time.Since(t).Seconds()
	}
	return hz
}
