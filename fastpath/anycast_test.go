package fastpath_test

import (
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// TestSubnetRouter: the router is spoken to by the address of all routers of a
// subnet (RFC 4291 section 2.6.1), and answers from one of its own, whatever it
// answers. There is no such address where the prefix has two addresses or one,
// where it is an own one, and where nothing is forwarded.
func TestSubnetRouter(t *testing.T) {
	b := testbed.New(t, nil)
	ia := testbed.Iface("a", 1, "2001:db8:1::1/64")
	ib := testbed.Iface("b", 2, "2001:db8:2::1/64", "2001:db8:3::3/127", "2001:db8:4::1/128", "2001:db8:5::/64", "2001:db8:6::9/126")
	ic := testbed.Iface("c", 3, "2001:db8:7::1/64")
	ic.V6.Forwarding = false
	for _, p := range []string{"a", "b", "c"} {
		b.Mem.Peer(p)
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib, ic}}, Route: route.Change{Set: testbed.Connected(ia, ib, ic)}, Neigh: neighChange("a", "2001:db8:1::2", 21)})
	b.Run()
	for _, p := range []string{"a", "b", "c"} {
		b.Recv(p)
	}
	b.Forget()
	const host = "2001:db8:1::2"
	for _, c := range []struct{ dst, from string }{
		{"2001:db8:1::", "2001:db8:1::1"}, {"2001:db8:2::", "2001:db8:2::1"}, {"2001:db8:5::", "2001:db8:5::"}, {"2001:db8:6::8", "2001:db8:6::9"},
		{"2001:db8:3::2", ""}, {"2001:db8:4::", ""}, {"2001:db8:7::", ""},
	} {
		send := func(what string, frames ...[]byte) []byte {
			t.Helper()
			got := packets(b.Exchange("a", frames, "a")[0])
			if c.from == "" {
				if len(got) > 0 && netip.AddrFrom16(pkt.IPv6(got[0]).Src()).String() == c.dst {
					t.Errorf("%s to %s is answered", what, c.dst)
				}
				return nil
			}
			var ip []byte
			if len(got) == 1 {
				ip = got[0]
			} else {
				ip = testbed.Join(got)
			}
			if ip == nil || netip.AddrFrom16(pkt.IPv6(ip).Src()).String() != c.from || netip.AddrFrom16(pkt.IPv6(ip).Dst()).String() != host {
				t.Errorf("%s to %s: %d packets came back, %.60x", what, c.dst, len(got), ip)
				return nil
			}
			if m := ip[40:]; pkt.Pseudo6(pkt.IPv6(ip).Src(), pkt.IPv6(ip).Dst(), 58, len(m)).Add(m).Fold() != 0xffff {
				t.Errorf("%s to %s: the answer's checksum is wrong", what, c.dst)
			}
			return ip
		}
		echo := testbed.Echo(host, c.dst, 120)
		if ip := send("echo", echo.From(21, 1)); ip != nil && (ip[40] != pkt.ICMPv6EchoReply || len(ip) != 120) {
			t.Errorf("%s: answer %.60x", c.dst, ip)
		}
		large := testbed.Echo(host, c.dst, 3000).IP()
		if ip := send("an echo in pieces", frames(testbed.Cut(large, 1440, 7)...)...); ip != nil && len(ip) != 3000 {
			t.Errorf("%s: answer of %d bytes", c.dst, len(ip))
		}
		if ip := send("UDP", testbed.Packet{Src: host, Dst: c.dst, SPort: 7, DPort: 9, Len: 80}.From(21, 1)); ip != nil && (ip[40] != pkt.ICMPv6Unreachable || ip[41] != pkt.ICMPv6PortUnreachable) {
			t.Errorf("%s: answer %.60x", c.dst, ip)
		}
	}
	// Who asks for its link-layer address gets one that overrides no other's.
	for _, c := range []struct{ port, target, from string }{
		{"a", "2001:db8:1::", "2001:db8:1::1"}, {"a", "2001:db8:1::1", "2001:db8:1::1"}, {"b", "2001:db8:2::", "2001:db8:2::1"},
		{"a", "2001:db8:2::", ""}, {"b", "2001:db8:3::2", ""}, {"c", "2001:db8:7::", ""},
	} {
		buf := make([]byte, 128)
		n := pkt.NeighborSolicitation(buf, nil, testbed.MAC(21), netip.MustParseAddr("2001:db8:1::2").As16(), netip.MustParseAddr(c.target).As16())
		got := b.Exchange(c.port, [][]byte{buf[:n]}, c.port)[0]
		var said []string
		for _, f := range got {
			o, _ := pkt.Parse(f)
			if a, ok := pkt.ParseND(f, &o); ok && a.Type == pkt.ICMPv6NeighborAdv {
				said = append(said, fmt.Sprint(netip.AddrFrom16(a.Target), " from ", netip.AddrFrom16(a.Src), " override ", a.Flags&pkt.NDOverride != 0))
			}
		}
		want := "[]"
		if c.from != "" {
			want = fmt.Sprintf("[%s from %s override %v]", c.target, c.from, c.target == c.from)
		}
		if fmt.Sprint(said) != want {
			t.Errorf("%s is asked for %s: %v, want %v", c.port, c.target, said, want)
		}
	}
}
