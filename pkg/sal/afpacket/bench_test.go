package afpacket_test

import (
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// each runs a benchmark over both kinds of receive rings.
func each(b *testing.B, f func(*testing.B, sal.Driver)) {
	b.Run("v2", func(b *testing.B) { f(b, afpacket.New(afpacket.Options{})) })
	b.Run("v3", func(b *testing.B) { f(b, afpacket.New(afpacket.Options{Blocks: true})) })
}

// BenchmarkLoad is one sender flat out.
func BenchmarkLoad(b *testing.B) { each(b, nstest.Load) }

// BenchmarkPaced is 20 000 frames a second.
func BenchmarkPaced(b *testing.B) { each(b, nstest.Paced) }

// BenchmarkStall is what the ring loses while nobody reads.
func BenchmarkStall(b *testing.B) { each(b, nstest.Stall) }

// BenchmarkTCP is iperf3 between two hosts through a wire of two ports, segments
// joined when they are sent and not.
func BenchmarkTCP(b *testing.B) {
	for _, o := range []afpacket.Options{{}, {Single: true}, {Blocks: true}, {Blocks: true, Single: true}} {
		b.Run(map[bool]string{false: "v2", true: "v3"}[o.Blocks]+map[bool]string{true: "/single"}[o.Single], func(b *testing.B) {
			left, right, l, r := site(b, o, 1, 1500)
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
}

// BenchmarkPingPong is a frame to the port and back: what a router adds to the
// round-trip time, with a sleep on the descriptor at each side.
func BenchmarkPingPong(b *testing.B) {
	each(b, func(b *testing.B, d sal.Driver) {
		mid, far := nstest.New(b), nstest.New(b)
		mid.Veth("p", far, "e")
		far.Quiet("e")
		raw := far.Raw("e")
		pl := pool(b, 4096)
		p := up(b, open(b, mid, d.(*afpacket.Driver), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
		w := &nstest.Forwarder{From: p.Queue(0), To: p.Queue(0), Pool: pl}
		w.Start()
		defer w.End()
		f := nstest.Frame(60)
		for b.Loop() {
			_ = raw.Send(f)
			if raw.Recv() == nil {
				b.Fatal("no answer")
			}
		}
	})
}
