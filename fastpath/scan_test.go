package fastpath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// scanBed has a large connected prefix of each family behind port b, and sources
// behind a and c. Behind b there is a next hop that a route names.
func scanBed(t *testing.T) *testbed.Bed {
	b := testbed.New(t, func(o *fastpath.Options) { o.Buffers = 16384 })
	ia, ib := testbed.Iface("a", 1, "192.168.1.1/24", "2001:db8:1::1/64"), testbed.Iface("b", 2, "10.0.2.1/9", "2001:db8:2::1/64")
	ic := testbed.Iface("c", 3, "192.168.3.1/24", "2001:db8:3::1/64")
	for _, p := range []string{"a", "b", "c"} {
		b.Mem.Peer(p)
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib, ic}}, Route: route.Change{Set: append(testbed.Connected(ia, ib, ic),
		testbed.Route("192.0.2.0/24", "10.0.2.9", "b"), testbed.Route("2001:db8:f::/48", "fe80::9", "b"))}})
	b.Run()
	for _, p := range []string{"a", "b", "c"} {
		b.Recv(p)
	}
	b.Forget()
	return b
}

// scanner makes the frames of a scan of what is behind b.
type scanner struct {
	v6 bool
	// sources is how many it pretends to have.
	sources int
	n       int
}

func (s *scanner) frames(n int) (l [][]byte) {
	for range n {
		s.n++
		p := testbed.Packet{Len: 60}
		k := s.n % s.sources
		if s.v6 {
			dst := netip.MustParseAddr("2001:db8:2::1:0:0").As16()
			binary.BigEndian.PutUint32(dst[12:], uint32(s.n))
			p.Src, p.Dst = fmt.Sprintf("2001:db8:%x:%x::2", 0x100+k>>8, k&255), netip.AddrFrom16(dst).String()
		} else {
			p.Src, p.Dst = fmt.Sprintf("172.%d.%d.2", 16+k>>8&7, k&255), fmt.Sprintf("10.%d.%d.%d", 64+s.n>>16&63, s.n>>8&255, s.n&255)
		}
		l = append(l, p.From(21, 1))
	}
	return l
}

// TestScan: while a prefix is scanned, many times as fast as solicitations may be
// sent, what is known of neighbours stays, new neighbours get their packets at
// once, be it a host, the next hop of a route or somebody who asks for us, and the
// table stays within its bounds. A scan from one source does not harm others by
// the same interface; one from all sources harms only packets by its interface.
func TestScan(t *testing.T) {
	for _, c := range []struct {
		f       family
		sources int
		from    string // where new hosts are spoken to from
		src     string // by whom
	}{
		{families[0], 1, "a", "192.168.1.7"}, {families[1], 1, "a", "2001:db8:1::7"},
		{families[0], 2000, "c", "192.168.3.7"}, {families[1], 2000, "c", "2001:db8:3::7"},
	} {
		t.Run(fmt.Sprint(c.f.name, "/sources=", c.sources), func(t *testing.T) {
			b := scanBed(t)
			scan := &scanner{v6: c.f.name == "nd", sources: c.sources}
			host := func(n int) string {
				if scan.v6 {
					return fmt.Sprintf("2001:db8:2::a:%x", n)
				}
				return fmt.Sprintf("10.0.%d.%d", 16+n>>8, n&255)
			}
			in := map[string]byte{"a": 1, "c": 3}[c.from]
			old := testbed.Packet{Src: c.src, Dst: host(1), Len: 80}.From(21, in)
			b.Exchange(c.from, [][]byte{old}, "b")
			if got := b.Exchange("b", [][]byte{answer(host(1), 31)}, "b")[0]; len(got) != 1 {
				t.Fatalf("before the scan %d frames came out", len(got))
			}
			asked, found := 0, 0
			first := neigh.Stats{}
			for round := range 200 {
				b.Exchange("a", scan.frames(200), "b") // 40 000 a second
				b.Advance(5 * time.Millisecond)
				b.Recv("b")
				if got := b.Exchange(c.from, [][]byte{old}, "b")[0]; len(got) != 1 || pkt.Ethernet(got[0]).Dst() != testbed.MAC(31) {
					t.Fatalf("round %d: %d frames to a known neighbour", round, len(got))
				}
				if round%4 != 3 {
					continue
				}
				asked++
				addr := host(10 + round)
				frame := testbed.Packet{Src: c.src, Dst: addr, Len: 80}.From(21, in)
				got := b.Exchange(c.from, [][]byte{frame}, "b")[0]
				if len(got) != 1 {
					t.Fatalf("round %d: %d frames came out, want the question for a new neighbour; drops %v, %+v", round, len(got),
						b.State(&fastpath.Query{Drops: true}).Drops, b.State(&fastpath.Query{Process: true}).Process.Neigh)
				}
				if target, _ := asks(t, got[0]); target != addr {
					t.Fatalf("round %d: asked for %s", round, target)
				}
				b.Exchange("a", scan.frames(200), "b") // it takes its time to answer
				got = b.Exchange("b", [][]byte{answer(addr, 32)}, "b")[0]
				if len(got) == 1 && bytes.Equal(got[0], forwarded(frame, 2, 32)) {
					found++
				}
				if round == 103 {
					first = b.State(&fastpath.Query{Process: true}).Process.Neigh
				}
			}
			if found != asked {
				t.Errorf("%d of %d new neighbours got their first packet", found, asked)
			}
			// The next hop of a route, by way of the interface that the scan comes by.
			src, dst, hop := "192.168.1.9", "192.0.2.1", "10.0.2.9"
			if scan.v6 {
				src, dst, hop = "2001:db8:1::9", "2001:db8:f::1", "fe80::9"
			}
			b.Exchange("a", scan.frames(200), "b")
			frame := testbed.Packet{Src: src, Dst: dst, Len: 80}.From(21, 1)
			if got := b.Exchange("a", [][]byte{frame}, "b")[0]; len(got) != 1 {
				t.Errorf("%d frames, want the question for the next hop", len(got))
			} else if target, _ := asks(t, got[0]); target != hop {
				t.Errorf("asked for %s", target)
			}
			if got := b.Exchange("b", [][]byte{answer(hop, 33)}, "b")[0]; len(got) != 1 || !bytes.Equal(got[0], forwarded(frame, 2, 33)) {
				t.Errorf("%d frames by the next hop", len(got))
			}
			st := b.State(&fastpath.Query{Neighbours: []string{}, Process: true, Drops: true})
			s := st.Process.Neigh
			if s.Entries != len(st.Neighbours) || s.Entries > neigh.MaxNeighbours/4+1000 || s.Created == 0 || s.Created <= first.Created {
				t.Errorf("%+v, with %d entries", s, len(st.Neighbours))
			}
			if st.Process.Buffers.Waiting > 1024 || dropsOf(st.Drops, "neighbour-limit") < 1000 {
				t.Errorf("%d packets wait, drops %v", st.Process.Buffers.Waiting, st.Drops)
			}
			reachable := 0
			for _, n := range st.Neighbours {
				if n.Reach == neigh.Reachable {
					reachable++
				}
			}
			if reachable != 2+asked {
				t.Errorf("%d neighbours are reachable, want %d", reachable, 2+asked)
			}
			// Nothing is left of it.
			for range 30 {
				b.Advance(time.Second)
				b.Recv("b")
			}
			if st := b.State(&fastpath.Query{Process: true}); st.Process.Buffers.Waiting != 0 || st.Process.Neigh.Incomplete != 0 {
				t.Errorf("afterwards %+v", st.Process)
			}
		})
	}
}
