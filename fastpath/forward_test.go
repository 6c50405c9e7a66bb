package fastpath_test

import (
	"bytes"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// twoPorts is the bed of most tests:
//
//	host 10.0.1.2, 2001:db8:1::2 (MAC 21) ── a (MAC 1) vRouter b (MAC 2) ── host 10.0.2.2, 2001:db8:2::2 (MAC 22)
//	                                                                     behind it 192.0.2.0/24 and 2001:db8:f::/48
//
// with static neighbours, so that ARP stays out of what is tested.
func twoPorts(t testing.TB, opt func(*fastpath.Options)) *testbed.Bed {
	b := testbed.New(t, opt)
	ia := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	ib := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
	b.Mem.Peer("a")
	b.Mem.Peer("b")
	b.Apply(&fastpath.Change{
		Iface: iface.Change{Set: []iface.Config{ia, ib}},
		Neigh: neigh.Change{Set: []neigh.Config{
			testbed.Neigh("a", "10.0.1.2", 21), testbed.Neigh("a", "2001:db8:1::2", 21),
			testbed.Neigh("b", "10.0.2.2", 22), testbed.Neigh("b", "2001:db8:2::2", 22)}},
		Route: route.Change{Set: append(testbed.Connected(ia, ib),
			testbed.Route("192.0.2.0/24", "10.0.2.2", "b"), testbed.Route("2001:db8:f::/48", "2001:db8:2::2", "b"))},
	})
	b.Run()
	b.Recv("a")
	b.Recv("b") // announcements
	b.Forget()
	return b
}

// forwarded is what a frame looks like behind the router: one TTL less, and
// the next hop's Ethernet header.
func forwarded(frame []byte, out, to byte) []byte {
	f := bytes.Clone(frame)
	pkt.Ethernet(f).SetDst(testbed.MAC(to))
	pkt.Ethernet(f).SetSrc(testbed.MAC(out))
	if f[14]>>4 == 4 {
		pkt.IPv4(f[14:]).DecTTL()
	} else {
		f[21]--
	}
	return f
}

func TestForward(t *testing.T) {
	for _, mode := range []string{"cached", "uncached"} {
		t.Run(mode, func(t *testing.T) {
			b := twoPorts(t, func(o *fastpath.Options) {
				if mode == "uncached" {
					o.Flows4, o.Flows6 = -1, -1
				}
			})
			for _, c := range []struct{ name, src, dst string }{
				{"connected", "10.0.1.2", "10.0.2.2"},
				{"routed", "10.0.1.2", "192.0.2.77"},
				{"connected6", "2001:db8:1::2", "2001:db8:2::2"},
				{"routed6", "2001:db8:1::2", "2001:db8:f::99"},
			} {
				f := testbed.Packet{Src: c.src, Dst: c.dst, SPort: 1000, DPort: 2000, Len: 80}.From(21, 1)
				for round := range 3 { // the first misses the cache, the others hit it
					got := b.Exchange("a", [][]byte{f, f}, "b")
					if len(got[0]) != 2 || !bytes.Equal(got[0][0], forwarded(f, 2, 22)) || !bytes.Equal(got[0][1], got[0][0]) {
						t.Fatalf("%s, round %d: got %x\nwant twice %x", c.name, round, got[0], forwarded(f, 2, 22))
					}
					b.Moved("a rx 2, b tx 2")
				}
			}
		})
	}
}
