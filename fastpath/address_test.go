package fastpath_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// TestPrefixLengths: interfaces with several addresses, some of them in one
// subnet, and with prefixes of one and two addresses (RFC 3021, RFC 6164). All own
// addresses answer, and the others of a prefix are asked for, from the address
// that lies in it.
func TestPrefixLengths(t *testing.T) {
	b := testbed.New(t, nil)
	ia := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	ib := testbed.Iface("b", 2, "10.0.2.0/31", "10.0.3.1/24", "10.0.3.2/24", "10.0.4.1/32", "10.0.5.1/30",
		"2001:db8:2::/127", "2001:db8:3::1/64", "2001:db8:3::2/64", "2001:db8:4::1/128")
	b.Mem.Peer("a")
	b.Mem.Peer("b")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib}}, Neigh: neighChange("a", "10.0.1.2", 21),
		Route: route.Change{Set: append(testbed.Connected(ia, ib), testbed.Route("192.0.2.0/24", "10.0.2.1", "b"), testbed.Route("2001:db8:f::/48", "2001:db8:2::1", "b"))}})
	b.Apply(&fastpath.Change{Neigh: neighChange("a", "2001:db8:1::2", 21)})
	b.Run()
	b.Recv("a")
	b.Recv("b")
	b.Forget()
	from := func(dst string) string {
		if netip.MustParseAddr(dst).Is6() {
			return "2001:db8:1::2"
		}
		return "10.0.1.2"
	}
	for _, own := range []string{"10.0.2.0", "10.0.3.1", "10.0.3.2", "10.0.4.1", "10.0.5.1", "2001:db8:2::", "2001:db8:3::1", "2001:db8:3::2", "2001:db8:4::1"} {
		got := b.Exchange("a", [][]byte{testbed.Echo(from(own), own, 80).From(21, 1)}, "a")[0]
		if len(got) != 1 {
			t.Errorf("%s: %d answers", own, len(got))
			continue
		}
		o, _ := pkt.Parse(got[0])
		if src := addresses(got[0], o); src != own {
			t.Errorf("%s: answered by %s", own, src)
		}
	}
	b.Moved("a rx 9, a tx 9")
	for _, c := range []struct{ dst, asks, from string }{
		{"10.0.2.1", "10.0.2.1", "10.0.2.0"}, {"192.0.2.7", "", ""}, // the second waits with the first
		{"10.0.3.255", "drop ip-broadcast", ""}, {"10.0.3.0", "drop ip-broadcast", ""}, {"10.0.3.9", "10.0.3.9", "10.0.3.1"},
		{"10.0.5.2", "10.0.5.2", "10.0.5.1"}, {"10.0.5.3", "drop ip-broadcast", ""},
		{"10.0.4.2", "drop no-route", ""},
		{"2001:db8:2::1", "2001:db8:2::1", "2001:db8:2::"}, {"2001:db8:3::9", "2001:db8:3::9", "2001:db8:3::1"},
		{"2001:db8:3:0:ffff:ffff:ffff:ffff", "2001:db8:3:0:ffff:ffff:ffff:ffff", "2001:db8:3::1"}, {"2001:db8:4::2", "drop no-route", ""},
	} {
		got := b.Exchange("a", [][]byte{testbed.Packet{Src: from(c.dst), Dst: c.dst, Len: 80}.From(21, 1)}, "b")[0]
		b.Recv("a")
		switch {
		case len(c.asks) > 5 && c.asks[:5] == "drop ":
			if len(got) != 0 {
				t.Errorf("%s: %d frames came out", c.dst, len(got))
			}
			if d := b.State(&fastpath.Query{Drops: true}).Drops; dropsOf(d, c.asks[5:]) == 0 {
				t.Errorf("%s: %v", c.dst, d)
			}
		case c.asks == "":
			if len(got) != 0 {
				t.Errorf("%s: %d frames came out", c.dst, len(got))
			}
		case len(got) != 1:
			t.Errorf("%s: %d frames came out", c.dst, len(got))
		default:
			if target, sender := question(got[0]); target != c.asks || sender != c.from {
				t.Errorf("%s: %s asks for %s, want %s for %s", c.dst, sender, target, c.from, c.asks)
			}
		}
	}
}

// question is what a solicitation asks for, and from which address.
func question(f []byte) (target, sender string) {
	o, _ := pkt.Parse(f)
	if o.Type == pkt.TypeARP {
		a := pkt.ARP(f[14:])
		return netip.AddrFrom4(a.TargetIP()).String(), netip.AddrFrom4(a.SenderIP()).String()
	}
	n, _ := pkt.ParseND(f, &o)
	return netip.AddrFrom16(n.Target).String(), netip.AddrFrom16(n.Src).String()
}

// addresses is the source of an IP packet.
func addresses(f []byte, o pkt.Offsets) string {
	if o.Type == pkt.TypeIPv4 {
		return pkt.IPv4(f[o.L3:]).SrcAddr().String()
	}
	return pkt.IPv6(f[o.L3:]).SrcAddr().String()
}

// TestAddressChanges: addresses come and go while packets pass in a steady flow:
// the flow loses none, an address that is gone answers no more and is asked for
// like any other, and one of two in a subnet may go without the other.
func TestAddressChanges(t *testing.T) {
	b := twoPorts(t, nil)
	flow := [][]byte{testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 80}.From(21, 1), testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 80}.From(21, 1)}
	passes := func(when string) {
		t.Helper()
		got := b.Exchange("a", flow, "b")[0]
		k := 0
		for _, f := range got {
			if bytes.Equal(f, forwarded(flow[0], 2, 22)) || bytes.Equal(f, forwarded(flow[1], 2, 22)) {
				k++
			}
		}
		if k != 2 {
			t.Errorf("%s: %d of 2 packets passed", when, k)
		}
	}
	answers := func(when, own string, want bool) {
		t.Helper()
		src := "10.0.1.2"
		if netip.MustParseAddr(own).Is6() {
			src = "2001:db8:1::2"
		}
		b.Recv("a")
		n := 0
		for _, f := range b.Exchange("a", [][]byte{testbed.Echo(src, own, 80).From(21, 1)}, "a")[0] {
			if o, _ := pkt.Parse(f); addresses(f, o) == own {
				n++
			}
		}
		if n == 1 != want {
			t.Errorf("%s: %s gave %d answers, want %v", when, own, n, want)
		}
		b.Recv("b")
	}
	passes("before")
	base := []string{"10.0.2.1/24", "2001:db8:2::1/64"}
	before := testbed.Iface("b", 2, base...)
	for i := range 5 {
		more := []string{fmt.Sprintf("10.0.2.%d/24", 50+i), fmt.Sprintf("10.9.%d.1/24", i), fmt.Sprintf("2001:db8:2::%d/64", 50+i), fmt.Sprintf("2001:db8:9:%d::1/64", i)}
		now := testbed.Iface("b", 2, append(more, base...)...)
		c := &fastpath.Change{Iface: iface.Change{Set: []iface.Config{now}}}
		in := map[netip.Prefix]bool{}
		for _, r := range testbed.Connected(now) {
			in[r.Prefix] = true
			c.Route.Set = append(c.Route.Set, r)
		}
		for _, r := range testbed.Connected(before) {
			if !in[r.Prefix] {
				c.Route.Delete = append(c.Route.Delete, r.Prefix)
			}
		}
		b.Apply(c)
		passes("after a change")
		for _, p := range now.Addrs {
			answers("while it is there", p.Addr().String(), true)
		}
		for _, p := range before.Addrs {
			if !in[netip.PrefixFrom(p.Addr(), p.Addr().BitLen())] {
				answers("when it is gone", p.Addr().String(), false)
			}
		}
		passes("then")
		before = now
	}
}
