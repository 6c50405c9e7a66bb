package ipsec_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// TestHardLimitsAreStrict: with workers that send and receive under the same SAs
// as fast as they can, packets of all sizes, the SAs being set again all the
// while, never a packet or a byte more than the hard limits comes out, and not
// much less.
func TestHardLimitsAreStrict(t *testing.T) {
	for _, c := range []struct {
		workers int
		async   bool
	}{{1, false}, {2, false}, {2, true}} {
		t.Run(fmt.Sprintf("%d workers, look-aside %v", c.workers, c.async), func(t *testing.T) { hardLimits(t, c.workers, c.async) })
	}
}

func hardLimits(t *testing.T, workers int, async bool) {
	s := newSite(t, func(o *fastpath.Options) {
		o.Manual, o.Now, o.Workers, o.Buffers = false, nil, workers, 16384
		if async {
			o.Registry.AddDevice(saltest.NewFaulty(cpu.New("card"), saltest.Faults{Delay: 2}))
		}
	})
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	lan, wan := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	const most = 1300
	for round := range 12 {
		hard := ipsec.Lifetime{Packets: uint64(200 + r.IntN(3000)), Bytes: uint64(100_000 + r.IntN(2_000_000))}
		if round%3 == 0 {
			hard.Packets = 0
		} else if round%3 == 1 {
			hard.Bytes = 0
		}
		out, in := s.tunnel(false, func(a *ipsec.SA) {
			a.Key, a.SPI = key(9000+2*round+int(a.Direction), 20), uint32(0x9000+2*round)+uint32(a.Direction)
			a.Hard, a.ReplayWindow = hard, 8192
			a.Soft = ipsec.Lifetime{Packets: hard.Packets / 2, Bytes: hard.Bytes / 3}
			if async {
				onCard(a)
			}
		})
		var packets, octets [2]uint64 // that came out on the WAN, on the LAN
		collect := func() (n int) {
			for _, g := range wan.Collect(256) {
				if pkt.Ethernet(g).Type() == pkt.TypeARP || g[14]>>4 == 6 {
					continue
				}
				o, err := out.open(g[14:])
				if err != nil {
					t.Fatalf("not of the SA: %v", err)
				}
				n++
				packets[0]++
				octets[0] += uint64(len(o.inner))
			}
			for _, g := range lan.Collect(256) {
				if g[12] == 8 && g[13] == 0 && g[14+9] == pkt.ProtoUDP {
					n++
					packets[1]++
					octets[1] += uint64(len(g) - 14)
				}
			}
			return n
		}
		ended := func() bool {
			l := s.State(&fastpath.Query{SAs: []string{"out", "in"}}).SAs
			return l[0].Ended && l[1].Ended
		}
		begun := time.Now()
		for n := 0; n%64 != 0 || !ended(); n++ {
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("round %d: no end: %+v", round, s.State(&fastpath.Query{SAs: []string{}}).SAs)
			}
			x := outgoing(false, 40+r.IntN(most-40))
			x.SPort = uint16(n)
			lan.InjectTo(n, frames(lanMAC, hostMAC, [][]byte{x.IP()})...)
			y := in.send(incoming(false, 40+r.IntN(most-40)).IP())
			wan.InjectTo(n, frames(wanMAC, peerMAC, [][]byte{y})...)
			switch n % 32 {
			case 7:
				s.Apply(sas(out.sa, in.sa))
			case 15, 31:
				collect()
			default:
				runtime.Gosched()
			}
		}
		for quiet := 0; quiet < 5; {
			if collect() == 0 {
				quiet++
			} else {
				quiet = 0
			}
			time.Sleep(2 * time.Millisecond)
		}
		for i, name := range []string{"out", "in"} {
			st := s.sa(name)
			p, b := packets[i], octets[i]
			if hard.Packets > 0 && p > hard.Packets || hard.Bytes > 0 && b > hard.Bytes {
				t.Errorf("round %d: %s: %d packets with %d bytes came out, the limits being %+v", round, name, p, b, hard)
			}
			if st.Packets < p || st.Bytes < b { // a port may have been full
				t.Errorf("round %d: %s: counted %d packets with %d bytes, %d with %d came out", round, name, st.Packets, st.Bytes, p, b)
			}
			slack := uint64(workers * most)
			if (hard.Packets == 0 || st.Packets < hard.Packets) && (hard.Bytes == 0 || st.Bytes+slack < hard.Bytes) {
				t.Errorf("round %d: %s: it ended with %d packets and %d bytes, the limits being %+v", round, name, st.Packets, st.Bytes, hard)
			}
			if 2*p < st.Packets {
				t.Errorf("round %d: %s: %d of %d packets came out", round, name, p, st.Packets)
			}
		}
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "in"}}})
	}
}
