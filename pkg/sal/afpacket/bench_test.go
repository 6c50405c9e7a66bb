package afpacket_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// BenchmarkForward receives on one veth and sends on another, in bursts as the
// kernel has them; ns/pkt is the port's own time, both directions, without that
// of the sender, whose softirq does the kernel's half of receiving.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{60, 1400} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			mid, far := nstest.New(b), nstest.New(b)
			mid.Veth("l", far, "l")
			mid.Veth("r", far, "r")
			far.Quiet("r")
			raw := far.Raw("l")
			pl := pool(b, 8192)
			d := afpacket.New(afpacket.Options{})
			l := up(b, open(b, mid, d, pl, sal.PortConfig{Name: "l", Queues: 1, MTU: 1500}))
			r := up(b, open(b, mid, d, pl, sal.PortConfig{Name: "r", Queues: 1, MTU: 1500}))
			f := make([]byte, size)
			f[0], f[6], f[12], f[13] = 2, 2, 0x88, 0xb5
			c := pl.NewCache()
			defer c.Close()
			var ds [64]sal.Desc
			rq, tq := l.Queue(0), r.Queue(0)
			moved := 0
			var spent time.Duration
			for b.Loop() {
				for range 64 {
					_ = raw.Send(f)
				}
				t := time.Now()
				n := rq.RxBurst(c, ds[:])
				tq.TxBurst(c, ds[:n])
				spent += time.Since(t)
				moved += n
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(moved), "ns/pkt")
		})
	}
}

// BenchmarkPingPong is a frame to the port and back: what a router adds to the
// round-trip time, with a sleep on the descriptor at each side.
func BenchmarkPingPong(b *testing.B) {
	mid, far := nstest.New(b), nstest.New(b)
	mid.Veth("p", far, "e")
	far.Quiet("e")
	raw := far.Raw("e")
	pl := pool(b, 4096)
	p := up(b, open(b, mid, afpacket.New(afpacket.Options{}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := pl.NewCache()
		defer c.Close()
		var d [64]sal.Desc
		q := p.Queue(0)
		fds := []unix.PollFd{{Fd: int32(q.Wake()), Events: unix.POLLIN}}
		for {
			n := q.RxBurst(c, d[:])
			q.TxBurst(c, d[:n])
			if n == 0 {
				select {
				case <-quit:
					return
				default:
				}
				_, _ = unix.Poll(fds, 20)
			}
		}
	}()
	f := make([]byte, 60)
	f[0], f[6], f[12], f[13] = 2, 2, 0x88, 0xb5
	for b.Loop() {
		_ = raw.Send(f)
		if raw.Recv() == nil {
			b.Fatal("no answer")
		}
	}
	close(quit)
	<-done
}
