package afpacket_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// each runs a benchmark over both kinds of receive rings.
func each(b *testing.B, f func(*testing.B, afpacket.Options)) {
	for _, o := range []afpacket.Options{{}, {Blocks: true}} {
		b.Run(map[bool]string{false: "v2", true: "v3"}[o.Blocks], func(b *testing.B) { f(b, o) })
	}
}

// stamp is where a frame of the benchmarks has the time it was sent at.
const stamp = 16

// forwarder moves frames from one queue to another as a worker does: it polls
// for 50 µs in vain before it sleeps on the descriptor. seen gets each frame.
type forwarder struct {
	from, to sal.PortQueue
	pool     *sal.Pool
	seen     func(f []byte)

	moved atomic.Int64
	cpu   atomic.Int64 // ns of the thread
	stop  atomic.Bool
	done  chan struct{}
}

func (w *forwarder) run() {
	runtime.LockOSThread()
	defer close(w.done)
	c := w.pool.NewCache()
	defer c.Close()
	var d [sal.Burst]sal.Desc
	fds := []unix.PollFd{{Fd: int32(w.from.Wake()), Events: unix.POLLIN}}
	quiet := time.Now()
	for !w.stop.Load() {
		n := w.from.RxBurst(c, d[:])
		for _, x := range d[:n] {
			if w.seen != nil {
				w.seen(w.pool.Bytes(x))
			}
		}
		for l := d[:n]; len(l) > 0; {
			l = l[w.to.TxBurst(c, l):]
		}
		if n > 0 {
			w.moved.Add(int64(n))
			quiet = time.Now()
		} else if time.Since(quiet) > 50*time.Microsecond {
			_, _ = unix.Poll(fds, 20)
			quiet = time.Now()
		}
	}
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	w.cpu.Store(u.Utime.Nano() + u.Stime.Nano())
}

func (w *forwarder) start() { w.done = make(chan struct{}); go w.run() }

func (w *forwarder) end() { w.stop.Store(true); <-w.done }

// stretch is a forwarder between two veth pairs, with the far end of the first
// to send into.
func stretch(b *testing.B, o afpacket.Options) (*forwarder, sal.Port, *nstest.Raw) {
	mid, far := nstest.New(b), nstest.New(b)
	mid.Veth("l", far, "l")
	mid.Veth("r", far, "r")
	far.Quiet("l")
	far.Quiet("r")
	pl := pool(b, 8192)
	d := afpacket.New(o)
	l := up(b, open(b, mid, d, pl, sal.PortConfig{Name: "l", Queues: 1, MTU: 1500}))
	r := up(b, open(b, mid, d, pl, sal.PortConfig{Name: "r", Queues: 1, MTU: 1500}))
	return &forwarder{from: l.Queue(0), to: r.Queue(0), pool: pl}, l, far.Raw("l")
}

func test88b5(n int) []byte {
	f := make([]byte, n)
	f[0], f[6], f[12], f[13] = 2, 2, 0x88, 0xb5
	return f
}

// BenchmarkLoad forwards what a sender on another core sends flat out: Mpps that
// got through, the share that the ring lost, and the forwarding thread's own
// processor time.
func BenchmarkLoad(b *testing.B) {
	each(b, func(b *testing.B, o afpacket.Options) {
		for _, size := range []int{60, 1400} {
			b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
				w, l, raw := stretch(b, o)
				f := test88b5(size)
				w.start()
				b.ResetTimer()
				sent := 0
				for b.Loop() {
					_ = raw.Send(f)
					sent++
				}
				b.StopTimer()
				spent := b.Elapsed()
				time.Sleep(50 * time.Millisecond)
				w.end()
				n := float64(w.moved.Load())
				b.ReportMetric(n/spent.Seconds()/1e6, "Mpps")
				b.ReportMetric(100*float64(l.Stats().RxDropped)/float64(sent), "%lost")
				b.ReportMetric(float64(w.cpu.Load())/n, "cpu-ns/pkt")
			})
		}
	})
}

// BenchmarkPaced forwards 20 000 frames a second, one at a time, and tells how
// long they were under way until they had been received, what was lost, and the
// forwarding thread's processor time for each.
func BenchmarkPaced(b *testing.B) {
	each(b, func(b *testing.B, o afpacket.Options) {
		w, l, raw := stretch(b, o)
		late := make([]int64, 0, 1<<20)
		epoch := time.Now()
		w.seen = func(f []byte) {
			if f[12] == 0x88 && len(late) < cap(late) {
				late = append(late, int64(time.Since(epoch))-int64(binary.LittleEndian.Uint64(f[stamp:])))
			}
		}
		f := test88b5(60)
		w.start()
		b.ResetTimer()
		sent, next := 0, time.Now()
		for b.Loop() {
			for time.Now().Before(next) {
			}
			next = next.Add(50 * time.Microsecond)
			binary.LittleEndian.PutUint64(f[stamp:], uint64(time.Since(epoch)))
			_ = raw.Send(f)
			sent++
		}
		b.StopTimer()
		time.Sleep(50 * time.Millisecond)
		w.end()
		slices.Sort(late)
		at := func(q float64) float64 { return float64(late[int(q*float64(len(late)-1))]) / 1e3 }
		b.ReportMetric(at(.5), "p50-µs")
		b.ReportMetric(at(.99), "p99-µs")
		b.ReportMetric(at(1), "max-µs")
		b.ReportMetric(float64(l.Stats().RxDropped), "lost")
		b.ReportMetric(float64(w.cpu.Load())/float64(w.moved.Load()), "cpu-ns/pkt")
	})
}

// BenchmarkStall is how many of 20 000 frames a second are lost while nobody
// looks at the ring, for so many milliseconds.
func BenchmarkStall(b *testing.B) {
	each(b, func(b *testing.B, o afpacket.Options) {
		for _, ms := range []int{100, 300} {
			b.Run(fmt.Sprintf("%dms", ms), func(b *testing.B) {
				w, l, raw := stretch(b, o)
				f := test88b5(1400)
				sent := 0
				for b.Loop() {
					for next, end := time.Now(), time.Now().Add(time.Duration(ms)*time.Millisecond); next.Before(end); next = next.Add(50 * time.Microsecond) {
						for time.Now().Before(next) {
						}
						_ = raw.Send(f)
						sent++
					}
					w.stop.Store(false)
					w.start()
					for was := int64(-1); was != w.moved.Load(); time.Sleep(20 * time.Millisecond) {
						was = w.moved.Load()
					}
					w.end()
				}
				b.ReportMetric(100*float64(l.Stats().RxDropped)/float64(sent), "%lost")
			})
		}
	})
}

// BenchmarkTCP is iperf3 between two hosts through a wire of two ports.
func BenchmarkTCP(b *testing.B) {
	each(b, func(b *testing.B, o afpacket.Options) {
		left, right, l, r := site(b, o, 1, 1500)
		_ = right
		var sum float64
		n := 0
		for b.Loop() {
			sum += nstest.TCP(b, left, right, "10.9.0.2", 2)
			n++
		}
		b.ReportMetric(sum/float64(n), "Gbit/s")
		b.ReportMetric(float64(l.Stats().RxDropped+r.Stats().RxDropped), "lost")
	})
}

// BenchmarkPingPong is a frame to the port and back: what a router adds to the
// round-trip time, with a sleep on the descriptor at each side.
func BenchmarkPingPong(b *testing.B) {
	each(b, func(b *testing.B, o afpacket.Options) {
		mid, far := nstest.New(b), nstest.New(b)
		mid.Veth("p", far, "e")
		far.Quiet("e")
		raw := far.Raw("e")
		pl := pool(b, 4096)
		p := up(b, open(b, mid, afpacket.New(o), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
		w := &forwarder{from: p.Queue(0), to: p.Queue(0), pool: pl}
		w.start()
		defer w.end()
		f := test88b5(60)
		for b.Loop() {
			_ = raw.Send(f)
			if raw.Recv() == nil {
				b.Fatal("no answer")
			}
		}
	})
}
