package fastpath_test

import (
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// FuzzFrame sends a frame from outside through the whole fast path, with and
// without a flow cache, twice. Whatever it is: nothing breaks, it is received
// once, every buffer is accounted for, and what comes out of the other port is
// a well-formed packet.
func FuzzFrame(f *testing.F) {
	for _, p := range []testbed.Packet{
		{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 100}, {Src: "10.0.1.2", Dst: "192.0.2.1", TTL: 1, Len: 60},
		{Src: "10.0.1.2", Dst: "10.0.1.1", Len: 60}, {Src: "10.0.1.2", Dst: "198.51.100.1", Len: 60},
		{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{7, 7, 4, 0, 0, 0, 0, 0}, Len: 100},
		{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 100}, {Src: "2001:db8:1::2", Dst: "2001:db8:1::1", Len: 60},
		{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Proto: 44, Payload: []byte{17, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}},
		testbed.Echo("10.0.1.2", "10.0.1.1", 60), testbed.Echo("fe80::2", "2001:db8:1::1", 60),
		{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Payload: make([]byte, 64)},
		// ICMP without a message, on the way to an ICMP error: is it one itself?
		{Src: "2001:db8:1::2", Dst: "2001:db9::1", Proto: 58, Payload: []byte{}}, {Src: "10.0.1.2", Dst: "198.51.100.1", Proto: 1, Payload: []byte{}},
	} {
		f.Add(p.From(21, 1))
	}
	f.Add(testbed.Frame(pkt.Broadcast, testbed.MAC(21), testbed.Packet{Src: "10.0.1.2", Dst: "255.255.255.255"}.IP()))
	b := make([]byte, 128)
	f.Add(append([]byte(nil), b[:pkt.ARPRequest(b, pkt.Broadcast, testbed.MAC(21), [4]byte{10, 0, 1, 2}, [4]byte{10, 0, 1, 1})]...))
	f.Add(append([]byte(nil), b[:pkt.NeighborSolicitation(b, nil, testbed.MAC(21), [16]byte{0xfe, 0x80, 15: 2}, [16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 15: 1})]...))
	beds := []*testbed.Bed{twoPorts(f, nil), twoPorts(f, func(o *fastpath.Options) { o.Flows4, o.Flows6 = -1, -1 })}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > sal.MaxFrame {
			return
		}
		for _, b := range beds {
			b.T = t
			before := b.State(&fastpath.Query{Ifaces: []string{"a"}}).Ifaces[0].Counters.RxPackets
			for range 2 {
				got := b.Exchange("a", [][]byte{frame}, "a", "b")
				for _, x := range got[1] {
					if o, bad := pkt.Parse(x); bad != pkt.OK && bad != pkt.ShortL4 && bad != pkt.BadL4Len || pkt.Ethernet(x).Src() != testbed.MAC(2) {
						t.Fatalf("%v (%+v) came out: %x", bad, o, x)
					}
				}
			}
			s := b.State(&fastpath.Query{Ifaces: []string{"a"}, Process: true})
			if n := s.Ifaces[0].Counters.RxPackets - before; n != 2 {
				t.Fatalf("received %d times", n)
			}
			m := s.Process.Buffers
			if sum := m.Free + m.Cached + m.Ports + m.Waiting + m.InFlight; sum != m.Total {
				t.Fatalf("%d of %d buffers are accounted for: %+v", sum, m.Total, m)
			}
		}
	})
}
