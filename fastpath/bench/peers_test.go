package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/peers"
	"vrouter/fastpath/bench/testbed"
	kernels "vrouter/pkg/gcm"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
)

// BenchmarkPeers has other projects' programs do the same on the same core, where
// they are installed ("make bench-peers" does that), and says how often ours goes into
// their time. best-ns/pkt is the peer's; ours is measured right after it:
//
//	ipsec-mb     libipsec-mb alone, beside package gcm alone and, for AES-CBC with
//	             HMAC-SHA2-256, the software engine
//	cryptodev    DPDK's devices over the same library, beside the software engine
//	ipsec-secgw  a whole gateway without what its ports cost, beside a whole worker with
//	             its ports
//
// Sizes are of the text, or of the inner IP packet.
func BenchmarkPeers(b *testing.B) {
	core := lastCore(b)
	for _, p := range []struct {
		name string
		run  func() ([]peers.Result, error)
	}{
		{"ipsec-mb", func() ([]peers.Result, error) { return peers.IPsecMB(context.Background(), b.TempDir(), core) }},
		{"cryptodev", func() ([]peers.Result, error) { return peers.CryptoPerf(context.Background(), core) }},
		{"ipsec-secgw", func() ([]peers.Result, error) { return peers.IPsecSecGW(context.Background(), b.TempDir(), core) }},
	} {
		results, err := p.run()
		switch {
		case errors.Is(err, peers.ErrAbsent):
			b.Run(p.name+"/absent", func(b *testing.B) { // a skip would not be printed
				if b.N == 1 {
					b.Logf("%v (make bench-peers)", err)
				}
				b.ReportMetric(0, "ns/op")
			})
		case err != nil:
			b.Errorf("%s: %v", p.name, err)
		}
		for _, r := range results {
			ours := 0.0
			b.Run(fmt.Sprintf("%s/%s/%dB", r.Peer, r.Case, r.Size), func(b *testing.B) {
				if ours == 0 {
					ours = beside(b, p.name, r)
				}
				b.ReportMetric(r.NS, "best-ns/pkt")
				b.ReportMetric(ours, "ours-best-ns/pkt")
				b.ReportMetric(r.NS/ours, "times-ours")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// lastCore is the core that the benchmark is kept on; the last of them, if several.
func lastCore(b *testing.B) int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	last := -1
	for i := range 1024 {
		if set.IsSet(i) {
			last = i
		}
	}
	return last
}

// beside is our own best figure for what a peer did, in nanoseconds.
func beside(b *testing.B, peer string, r peers.Result) float64 {
	const bursts = 16 // in a slice, as Measure has them
	least := func(next func() float64) float64 {
		best := next()
		for range 200 {
			sum := 0.0
			for range bursts {
				sum += next()
			}
			best = min(best, sum/bursts)
		}
		return best
	}
	op := map[string]sal.Op{"seal": sal.Seal, "open": sal.Open}
	engine := func(c sal.SAConfig, op sal.Op) float64 {
		rig := newEngineRig(b, cpu.New("cpu"), c)
		return least(func() float64 { return rig.burst(op, r.Size) })
	}
	perPacket := func(cycles uint64, packets int) float64 { return float64(cycles) / Hz() * 1e9 / float64(packets) }
	gcm := sal.SAConfig{Algorithm: sal.AESGCM16, Key: make([]byte, 20)}
	cbc := sal.SAConfig{Algorithm: sal.AESCBC, Key: make([]byte, 16), Integrity: sal.HMACSHA2_256_128, IntegrityKey: make([]byte, 32)}
	switch r.Case {
	case "gcm-128/seal", "gcm-128/open":
		way := op[r.Case[len("gcm-128/"):]]
		if peer != "ipsec-mb" {
			return engine(gcm, way)
		}
		k := newKernel(b, kernels.Best(), r.Size, 1)
		if way == sal.Seal {
			return least(func() float64 { return perPacket(k.seal(), sal.Burst) })
		}
		k.prepare()
		return least(func() float64 { return perPacket(k.open(b), sal.Burst) })
	case "cbc-128-sha256/seal", "cbc-128-sha256/open":
		return engine(cbc, op[r.Case[len("cbc-128-sha256/"):]])
	case "ESP/encrypt":
		rig := newESP(b)
		tunnels(rig, 1, sal.Outbound)
		fill := sized(newGen4(espFlows(1)), r.Size)
		warmUp(rig, 'a', fill, 1)
		next := rig.Forwarded(fill)
		return least(func() float64 { return perPacket(next()) })
	case "ESP/decrypt":
		rig := newESP(b)
		tunnels(rig, 1, sal.Inbound)
		rig.Apply(&fastpath.Change{Neigh: neighbourA(), Route: routes(testbed.Route("20.0.0.0/8", "10.0.1.2", "a"))})
		fill := newSealed(sized(newGen4(espFlows(1)), r.Size), 1).fill
		warmUp(rig, 'b', fill, 1)
		return least(func() float64 {
			c, n := rig.Burst('b', fill)
			if n != sal.Burst {
				b.Fatalf("%d of %d packets came out: %v", n, sal.Burst, rig.drops())
			}
			return perPacket(c, n)
		})
	}
	b.Fatalf("nothing of ours is beside %s", r.Case)
	return 0
}
