package nstest

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// stamp is where a frame of the benchmarks has the time it was sent at.
const stamp = 16

// Frame is a frame of n bytes of an EtherType that is nobody's.
func Frame(n int) []byte {
	f := make([]byte, n)
	f[0], f[6], f[12], f[13] = 2, 2, 0x88, 0xb5
	return f
}

// Forwarder moves frames from one queue to another as a worker does: it polls
// for 50 µs in vain before it sleeps on the descriptor.
type Forwarder struct {
	From, To sal.PortQueue
	Pool     *sal.Pool
	Seen     func(f []byte) // gets each frame; may be nil

	Moved atomic.Int64
	CPU   atomic.Int64 // ns of the thread, when it has ended
	stop  atomic.Bool
	done  chan struct{}
}

// Start starts it, again too.
func (w *Forwarder) Start() {
	w.stop.Store(false)
	w.done = make(chan struct{})
	go w.run()
}

// End ends it.
func (w *Forwarder) End() { w.stop.Store(true); <-w.done }

func (w *Forwarder) run() {
	runtime.LockOSThread() // and not unlocked: the next one has a thread of its own
	defer close(w.done)
	c := w.Pool.NewCache()
	defer c.Close()
	var d [sal.Burst]sal.Desc
	fds := []unix.PollFd{{Fd: int32(w.From.Wake()), Events: unix.POLLIN}}
	quiet := time.Now()
	for !w.stop.Load() {
		n := w.From.RxBurst(c, d[:])
		if w.Seen != nil {
			for _, x := range d[:n] {
				w.Seen(w.Pool.Bytes(x))
			}
		}
		for l := d[:n]; len(l) > 0; {
			l = l[w.To.TxBurst(c, l):]
		}
		if n > 0 {
			w.Moved.Add(int64(n))
			quiet = time.Now()
		} else if time.Since(quiet) > 50*time.Microsecond {
			_, _ = unix.Poll(fds, 20)
			quiet = time.Now()
		}
	}
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	w.CPU.Store(u.Utime.Nano() + u.Stime.Nano())
}

// Stretch is a forwarder between two veth pairs with ports of a driver on them;
// raw is the far end of the first.
func Stretch(b *testing.B, d sal.Driver) (w *Forwarder, l sal.Port, raw *Raw) {
	b.Helper()
	mid, far := New(b), New(b)
	mid.Veth("l", far, "l")
	mid.Veth("r", far, "r")
	far.Quiet("l")
	far.Quiet("r")
	pl, err := sal.NewPool(16384)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { pl.Close() })
	var p [2]sal.Port
	for i, n := range []string{"l", "r"} {
		mid.Do(func() {
			if p[i], err = d.Open(sal.PortConfig{Name: n, Queues: 1, MTU: 1500}, pl); err == nil {
				err = p[i].SetUp(true)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p[i].Close() })
	}
	for end := time.Now().Add(5 * time.Second); !p[0].Link() || !p[1].Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("no link")
		}
	}
	return &Forwarder{From: p[0].Queue(0), To: p[1].Queue(0), Pool: pl}, p[0], far.Raw("l")
}

// Load forwards what a sender on another core sends flat out, in bursts of 32:
// Mpps that got through, the share that the port lost, and the forwarding
// thread's own processor time for each.
func Load(b *testing.B, d sal.Driver) {
	for _, size := range []int{60, 1400} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			w, l, raw := Stretch(b, d)
			burst := raw.Burst(Frame(size), 32)
			w.Start()
			b.ResetTimer()
			sent := 0
			for b.Loop() {
				sent += burst()
			}
			b.StopTimer()
			spent := b.Elapsed()
			time.Sleep(50 * time.Millisecond)
			w.End()
			n := float64(w.Moved.Load())
			b.ReportMetric(n/spent.Seconds()/1e6, "Mpps")
			b.ReportMetric(100*(1-n/float64(sent)), "%lost")
			b.ReportMetric(100*float64(l.Stats().RxDropped)/float64(sent), "%counted")
			b.ReportMetric(float64(w.CPU.Load())/n, "cpu-ns/pkt")
		})
	}
}

// Burst gives a function that sends a frame n times with one system call, and
// says how often it was sent.
func (r *Raw) Burst(f []byte, n int) func() int {
	type msg struct {
		hdr unix.Msghdr
		n   uint32
		_   [4]byte
	}
	iov := unix.Iovec{Base: &f[0]}
	iov.SetLen(len(f))
	m := make([]msg, n)
	for i := range m {
		m[i].hdr.Iov = &iov
		m[i].hdr.SetIovlen(1)
	}
	return func() int {
		k, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&m[0])), uintptr(n), 0, 0, 0)
		if e != 0 {
			return 0
		}
		return int(k)
	}
}

// Paced forwards 20 000 frames a second, one at a time, and tells how long they
// were under way until they had been received, what was lost, and the
// forwarding thread's processor time for each.
func Paced(b *testing.B, d sal.Driver) {
	w, l, raw := Stretch(b, d)
	late := make([]int64, 0, 1<<20)
	epoch := time.Now()
	w.Seen = func(f []byte) {
		if f[12] == 0x88 && len(late) < cap(late) {
			late = append(late, int64(time.Since(epoch))-int64(binary.LittleEndian.Uint64(f[stamp:])))
		}
	}
	f := Frame(60)
	w.Start()
	b.ResetTimer()
	next := time.Now()
	for b.Loop() {
		for time.Now().Before(next) {
		}
		next = next.Add(50 * time.Microsecond)
		binary.LittleEndian.PutUint64(f[stamp:], uint64(time.Since(epoch)))
		_ = raw.Send(f)
	}
	b.StopTimer()
	time.Sleep(50 * time.Millisecond)
	w.End()
	slices.Sort(late)
	at := func(q float64) float64 { return float64(late[int(q*float64(len(late)-1))]) / 1e3 }
	b.ReportMetric(at(.5), "p50-µs")
	b.ReportMetric(at(.99), "p99-µs")
	b.ReportMetric(at(1), "max-µs")
	b.ReportMetric(float64(l.Stats().RxDropped), "lost")
	b.ReportMetric(float64(w.CPU.Load())/float64(w.Moved.Load()), "cpu-ns/pkt")
}

// Stall is how many of 20 000 frames a second are lost while nobody looks at the
// ring, for so many milliseconds.
func Stall(b *testing.B, d sal.Driver) {
	for _, ms := range []int{100, 300} {
		b.Run(fmt.Sprintf("%dms", ms), func(b *testing.B) {
			w, l, raw := Stretch(b, d)
			f := Frame(1400)
			sent := 0
			for b.Loop() {
				for next, end := time.Now(), time.Now().Add(time.Duration(ms)*time.Millisecond); next.Before(end); next = next.Add(50 * time.Microsecond) {
					for time.Now().Before(next) {
					}
					_ = raw.Send(f)
					sent++
				}
				w.Start()
				for was := int64(-1); was != w.Moved.Load(); time.Sleep(20 * time.Millisecond) {
					was = w.Moved.Load()
				}
				w.End()
			}
			b.ReportMetric(100*float64(l.Stats().RxDropped)/float64(sent), "%lost")
		})
	}
}
