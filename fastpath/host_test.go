package fastpath_test

import (
	"bytes"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// withHeaders puts extension headers (the first of type first) behind the IPv6
// header of a packet.
func withHeaders(ip []byte, first byte, headers ...byte) []byte {
	b := append(append(bytes.Clone(ip[:40]), headers...), ip[40:]...)
	b[6] = first
	pkt.IPv6(b).SetPayloadLen(len(b) - 40)
	return b
}

// TestObjections: what is wrong with options and extension headers is told to the
// sender, with the place (RFC 1812 section 4.3.3.5, RFC 4443 section 3.4).
func TestObjections(t *testing.T) {
	b := twoPorts(t, nil)
	far4 := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 100}
	far := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 100}
	own := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:2::1", Len: 100}
	group := testbed.Packet{Src: "2001:db8:1::2", Dst: "ff02::1", Len: 100}
	bad4, bad4b, icmp4 := far4, far4, far4
	bad4.Options = []byte{1, 1, 7, 1}
	bad4b.Options = []byte{7, 12, 4, 0}
	icmp4.Options, icmp4.Proto, icmp4.Payload = []byte{7, 12, 4, 0}, 1, errorTo("10.0.1.2", "192.0.2.1", 60)[20:]
	rh := []byte{17, 2, 0, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}
	rh4 := bytes.Clone(rh)
	rh4[2] = 4
	multicast := func(ip []byte) []byte {
		return testbed.Frame(pkt.MAC{0x33, 0x33, 0, 0, 0, 1}, testbed.MAC(21), ip)
	}
	unicast := func(ip []byte) []byte { return testbed.Frame(testbed.MAC(1), testbed.MAC(21), ip) }
	for _, c := range []struct {
		name      string
		frame     []byte
		from      string
		typ, code byte
		rest      uint32
		moved     string
	}{
		{"an IPv4 option too short", bad4.From(21, 1), "10.0.1.1", 12, 0, 22 << 24, "a rx 1, a tx 1, a drop ip-option 1"},
		{"an IPv4 option beyond the header", bad4b.From(21, 1), "10.0.1.1", 12, 0, 20 << 24, "a rx 1, a tx 1, a drop ip-option 1"},
		{"the same in an ICMP error", icmp4.From(21, 1), "", 0, 0, 0, "a rx 1, a drop ip-option 1"},
		{"hop-by-hop option, in transit", unicast(withHeaders(far.IP(), 0, 17, 0, 1, 0, 0xc2, 0, 1, 0)), "2001:db8:1::1", 4, 2, 44, "a rx 1, a tx 1, a drop ip-option 1"},
		{"hop-by-hop option, always told", unicast(withHeaders(far.IP(), 0, 17, 0, 0x82, 4, 0, 0, 0, 0)), "2001:db8:1::1", 4, 2, 42, "a rx 1, a tx 1, a drop ip-option 1"},
		{"hop-by-hop option to a group, always told", multicast(withHeaders(group.IP(), 0, 17, 0, 0x82, 4, 0, 0, 0, 0)), "2001:db8:1::1", 4, 2, 42, "a rx 1, a tx 1, a drop ip-option 1"},
		{"hop-by-hop option to a group", multicast(withHeaders(group.IP(), 0, 17, 0, 0xc2, 4, 0, 0, 0, 0)), "", 0, 0, 0, "a rx 1, a drop ip-option 1"},
		{"destination option to us", unicast(withHeaders(own.IP(), 60, 17, 0, 0xc2, 4, 0, 0, 0, 0)), "2001:db8:2::1", 4, 2, 42, "a rx 1, a tx 1, a drop ip-option 1"},
		{"destination option to us, silently", unicast(withHeaders(own.IP(), 60, 17, 0, 0x42, 4, 0, 0, 0, 0)), "", 0, 0, 0, "a rx 1, a drop ip-option 1"},
		{"routing header of type 0 to us", unicast(withHeaders(own.IP(), 43, rh...)), "2001:db8:2::1", 4, 0, 42, "a rx 1, a tx 1, a drop ip-option 1"},
		{"routing header of type 4 to us", unicast(withHeaders(own.IP(), 43, rh4...)), "2001:db8:2::1", 4, 0, 42, "a rx 1, a tx 1, a drop ip-option 1"},
		{"known options to us", unicast(withHeaders(own.IP(), 60, 17, 0, 1, 4, 0, 0, 0, 0)), "2001:db8:2::1", 1, 4, 0, "a rx 1, a tx 1, a drop local-udp 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			got := b.Exchange("a", [][]byte{c.frame}, "a", "b")
			b.Moved(c.moved)
			if c.from == "" {
				if len(got[0]) != 0 {
					t.Fatalf("an answer came: %x", got[0])
				}
				return
			}
			if len(got[0]) != 1 {
				t.Fatalf("%d answers, want one", len(got[0]))
			}
			o, bad := pkt.Parse(got[0][0])
			m := pkt.ICMP(got[0][0][o.L4:o.End])
			src := netip.MustParseAddr(c.from)
			if bad != pkt.OK || m.Type() != c.typ || m.Code() != c.code || m.Rest() != c.rest || !bytes.HasPrefix(c.frame[14:], m.Body()) {
				t.Errorf("type %d code %d rest %d (%v), want %d %d %d", m.Type(), m.Code(), m.Rest(), bad, c.typ, c.code, c.rest)
			}
			if at := got[0][0][14:]; src.Is4() && pkt.IPv4(at).SrcAddr() != src || src.Is6() && pkt.IPv6(at).SrcAddr() != src {
				t.Errorf("from %x, want %v", at[:40], src)
			}
		})
	}
}

// TestEchoBehindHeaders: an echo request with extension headers is answered
// without them.
func TestEchoBehindHeaders(t *testing.T) {
	b := twoPorts(t, nil)
	echo := testbed.Echo("2001:db8:1::2", "2001:db8:1::1", 100).IP()
	for name, ip := range map[string][]byte{
		"hop-by-hop":       withHeaders(echo, 0, 58, 0, 1, 4, 0, 0, 0, 0),
		"destination":      withHeaders(echo, 60, 58, 0, 1, 4, 0, 0, 0, 0),
		"atomic fragment":  withHeaders(echo, 44, 58, 0, 0, 0, 1, 2, 3, 4),
		"routing, used up": withHeaders(echo, 43, 58, 0, 0, 0, 0, 0, 0, 0),
		"two of them":      withHeaders(echo, 0, 60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0),
		"none, to compare": echo,
	} {
		got := b.Exchange("a", [][]byte{testbed.Frame(testbed.MAC(1), testbed.MAC(21), ip)}, "a")[0]
		if len(got) != 1 || !bytes.Equal(got[0][14:], replyTo(echo)) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// TestLoopback: the addresses of a loopback interface answer whichever port they
// are reached by, while it is enabled; its port-less life disturbs nobody.
func TestLoopback(t *testing.T) {
	b := twoPorts(t, nil)
	lo := iface.Config{Name: "lo", Loopback: true, MTU: 1500, Enabled: true, V4: iface.IP{Enabled: true}, V6: iface.IP{Enabled: true, DAD: 1},
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.255.0.1/32"), netip.MustParsePrefix("10.255.0.2/32"), netip.MustParsePrefix("2001:db8:ff::1/128")}}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{lo}}, Route: route.Change{Set: testbed.Connected(lo)}})
	b.Run()
	for _, p := range []string{"a", "b"} {
		if f := b.Recv(p); len(f) != 0 {
			t.Errorf("%s sends %x for a loopback interface", p, f)
		}
	}
	s := b.State(&fastpath.Query{Ifaces: []string{"lo"}}).Ifaces[0]
	if !s.Admin || !s.Link || s.Driver != "" || s.Device != "" || s.MAC != [6]byte{} {
		t.Errorf("state: %+v", s)
	}
	b.Forget()
	pings := func(want int) {
		t.Helper()
		n := 0
		for _, x := range []struct{ port, src, dst string }{{"a", "10.0.1.2", "10.255.0.1"}, {"b", "10.0.2.2", "10.255.0.2"}, {"b", "2001:db8:2::2", "2001:db8:ff::1"}} {
			mac := map[string]byte{"a": 1, "b": 2}[x.port]
			ip := testbed.Echo(x.src, x.dst, 100).IP()
			got := b.Exchange(x.port, [][]byte{testbed.Frame(testbed.MAC(mac), testbed.MAC(20+mac), ip)}, x.port)[0]
			if len(got) == 1 && bytes.Equal(got[0][14:], replyTo(ip)) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d of 3 pings answered, want %d", n, want)
		}
	}
	pings(3)
	b.Moved("a rx 1, a tx 1, b rx 2, b tx 2")
	// Its routes go with it; and it may become a port, and a loopback again.
	del := route.Change{Delete: []netip.Prefix{lo.Addrs[0], lo.Addrs[1], lo.Addrs[2]}}
	b.Apply(&fastpath.Change{Route: del})
	pings(0)
	b.Mem.Peer("lo")
	port := testbed.Iface("lo", 3, "10.0.3.1/24")
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{port}}, Route: route.Change{Set: testbed.Connected(port)}})
	b.Run()
	if got := b.Recv("lo"); len(got) == 0 {
		t.Error("a port that was a loopback interface announces nothing")
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{lo}}, Route: route.Change{Delete: []netip.Prefix{netip.MustParsePrefix("10.0.3.0/24"), netip.MustParsePrefix("10.0.3.1/32")}, Set: testbed.Connected(lo)}})
	b.Run()
	pings(3)
	b.Mem.Peer("lo").Close()
	bad := lo
	bad.Driver = "memory"
	b.Refused(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{bad}}}, "lo", "Loopback")
}
