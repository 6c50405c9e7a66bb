package fastpath_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
)

// advertised finds the Router Advertisements among frames, read by a decoder that
// is not ours.
func advertised(t *testing.T, frames [][]byte) (l []*layers.ICMPv6RouterAdvertisement) {
	t.Helper()
	for _, f := range frames {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		ra, ok := p.Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
		if !ok {
			continue
		}
		ip := p.NetworkLayer().(*layers.IPv6)
		if ip.HopLimit != 255 || ip.DstIP.String() != "ff02::1" || !ip.SrcIP.IsLinkLocalUnicast() {
			t.Errorf("sent from %v to %v with hop limit %d", ip.SrcIP, ip.DstIP, ip.HopLimit)
		}
		o, bad := pkt.Parse(f)
		v6 := pkt.IPv6(f[14:])
		if m := f[o.L4:o.End]; bad != pkt.OK || pkt.Pseudo6(v6.Src(), v6.Dst(), 58, len(m)).Add(m).Fold() != 0xffff {
			t.Errorf("%v, or a wrong checksum: %x", bad, f)
		}
		l = append(l, ra)
	}
	return l
}

func advertiser() iface.Config {
	c := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	c.RA = &iface.RouterAdvert{Min: 200, Max: 600, Managed: true, LinkMTU: 1400, Reachable: 30000, Retrans: 1000, HopLimit: 64, Lifetime: 1800,
		Prefixes: []iface.RouterPrefix{{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: 7200, Preferred: 3600}, {Prefix: netip.MustParsePrefix("2001:db8:2::/63"), OnLink: true, Valid: 0xffffffff, Preferred: 0xffffffff}}}
	return c
}

func solicitation(src string) []byte {
	s := netip.MustParseAddr(src)
	m := pkt.ICMP(make([]byte, 16))
	m[8], m[9] = 1, 1
	copy(m[10:], []byte{2, 0, 0, 0, 0, 33})
	if s.IsUnspecified() {
		m = m[:8]
	}
	d := netip.MustParseAddr("ff02::2")
	m.Set(133, 0, 0, pkt.Pseudo6(s.As16(), d.As16(), 58, len(m)))
	ip := testbed.Packet{Src: src, Dst: "ff02::2", Proto: 58, TTL: 255, Payload: m}.IP()
	return testbed.Frame(pkt.MAC{0x33, 0x33, 0, 0, 0, 2}, testbed.MAC(33), ip)
}

// TestRouterAdvertisements: what they say, when they come, and that they end.
func TestRouterAdvertisements(t *testing.T) {
	b := testbed.New(t, nil)
	b.Mem.Peer("a")
	c := advertiser()
	set := func(c iface.Config) {
		b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
		b.Run()
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}, Route: route.Change{Set: testbed.Connected(c)}})
	b.Run()
	got := advertised(t, b.Recv("a"))
	if len(got) != 1 {
		t.Fatalf("%d advertisements at once, want one", len(got))
	}
	ra := got[0]
	if ra.HopLimit != 64 || ra.Flags != 0x80 || ra.RouterLifetime != 1800 || ra.ReachableTime != 30000 || ra.RetransTimer != 1000 || len(ra.Options) != 4 {
		t.Errorf("%+v", ra)
	}
	for i, want := range []string{"\x02\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x05\x78",
		"\x40\xc0\x00\x00\x1c\x20\x00\x00\x0e\x10\x00\x00\x00\x00\x20\x01\x0d\xb8\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x3f\x80\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x20\x01\x0d\xb8\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if string(ra.Options[i].Data) != want || ra.Options[i].Type != []layers.ICMPv6Opt{1, 5, 3, 3}[i] {
			t.Errorf("option %d: %v", i, ra.Options[i])
		}
	}
	// Two more soon, then as configured.
	times := 0
	for range 50 {
		b.Advance(time.Second)
		times += len(advertised(t, b.Recv("a")))
	}
	if times != 3 {
		t.Errorf("%d in the first minute, want 3 after the first", times)
	}
	times = 0
	for range 3600 {
		b.Advance(time.Second)
		times += len(advertised(t, b.Recv("a")))
	}
	if times < 6 || times > 18 {
		t.Errorf("%d in an hour, want one every 200 to 600 s", times)
	}
	// Who asks is answered within half a second, many together.
	for _, src := range []string{"fe80::33", "::"} {
		b.Advance(5 * time.Second)
		b.Recv("a")
		b.Forget()
		for range 5 {
			b.Send("a", solicitation(src))
		}
		b.Advance(0)
		n := 0
		for range 8 {
			b.Advance(100 * time.Millisecond)
			n += len(advertised(t, b.Recv("a")))
		}
		if n != 1 {
			t.Errorf("five solicitations from %s brought %d answers, want one", src, n)
		}
	}
	// Broken ones are not.
	b.Advance(5 * time.Second)
	b.Recv("a")
	bad := solicitation("fe80::33")
	bad[14+7] = 64
	b.Forget()
	b.Exchange("a", [][]byte{bad})
	b.Moved("a rx 1, a drop nd-bad 1")
	// Not forwarding, it is no default router; and it ends with a lifetime of 0.
	off := c
	ra2 := *c.RA
	ra2.HopLimit = 0
	off.RA = &ra2
	off.V6.Forwarding = false
	b.Advance(10 * time.Second)
	b.Recv("a")
	set(off)
	if got := advertised(t, b.Recv("a")); len(got) == 0 || got[0].RouterLifetime != 0 || got[0].HopLimit != 0 {
		t.Errorf("not forwarding: %+v", got)
	}
	b.Advance(10 * time.Second)
	set(c)
	b.Recv("a")
	off = c
	off.RA = nil
	set(off)
	if got := advertised(t, b.Recv("a")); len(got) != 1 || got[0].RouterLifetime != 0 || len(got[0].Options) != 4 {
		t.Errorf("at the end: %+v", got)
	}
	for range 3600 {
		b.Advance(time.Second)
	}
	if got := advertised(t, b.Recv("a")); len(got) != 0 {
		t.Errorf("%d after the end", len(got))
	}
	b.Forget()
	b.Exchange("a", [][]byte{solicitation("fe80::33")})
	b.Moved("a rx 1, a drop nd-ignored 1")
}

// TestDuplicateAddresses: an address is asked for before it is used, and is not
// used when somebody claims it.
func TestDuplicateAddresses(t *testing.T) {
	b := testbed.New(t, nil)
	b.Mem.Peer("a")
	c := testbed.Iface("a", 1, "2001:db8:1::1/64", "2001:db8:1::5/64", "2001:db8:1::6/64")
	c.V6.DAD = 2
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}, Route: route.Change{Set: testbed.Connected(c)}})
	b.Run()
	asked := func() (l []string) {
		for _, f := range b.Recv("a") {
			o, _ := pkt.Parse(f)
			if n, ok := pkt.ParseND(f, &o); ok && n.DAD() {
				l = append(l, netip.AddrFrom16(n.Target).String())
			} else if ok && n.Type == pkt.ICMPv6NeighborAdv {
				l = append(l, "have "+netip.AddrFrom16(n.Target).String())
			}
		}
		return l
	}
	want := func(what string, got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
	}
	all := []string{"fe80::ff:fe00:1", "2001:db8:1::1", "2001:db8:1::5", "2001:db8:1::6"}
	want("first", asked(), all...)
	state := func() iface.State { return b.State(&fastpath.Query{Ifaces: []string{"a"}}).Ifaces[0] }
	if s := state(); len(s.Tentative) != 4 || len(s.Duplicate) != 0 {
		t.Errorf("state: %v, %v", s.Tentative, s.Duplicate)
	}
	// Nobody gets an answer of a tentative address, nor is anything delivered to it.
	ns := func(src, target string) []byte {
		b := make([]byte, 128)
		var from [16]byte
		if src != "" {
			from = netip.MustParseAddr(src).As16()
		}
		return b[:pkt.NeighborSolicitation(b, nil, testbed.MAC(21), from, netip.MustParseAddr(target).As16())]
	}
	echo := func(dst string) []byte { return testbed.Echo("2001:db8:1::2", dst, 100).From(21, 1) }
	b.Forget()
	b.Exchange("a", [][]byte{ns("2001:db8:1::2", "2001:db8:1::1"), echo("2001:db8:1::1")})
	b.Moved("a rx 2, a drop nd-ignored 1, a drop address-tentative 1")
	// Somebody else asks for one, somebody else has another.
	na := make([]byte, 128)
	na = na[:pkt.NeighborAnnouncement(na, testbed.MAC(22), netip.MustParseAddr("2001:db8:1::6").As16(), 0)]
	b.Exchange("a", [][]byte{ns("", "2001:db8:1::5"), na})
	if s := state(); len(s.Tentative) != 2 || len(s.Duplicate) != 2 {
		t.Errorf("state: %v, %v", s.Tentative, s.Duplicate)
	}
	b.Recv("a")
	b.Advance(1100 * time.Millisecond)
	want("second", asked(), all[:2]...)
	b.Advance(1100 * time.Millisecond)
	want("the end", asked(), "have "+all[0], "have "+all[1])
	if s := state(); len(s.Tentative) != 0 || len(s.Duplicate) != 2 {
		t.Errorf("state: %v, %v", s.Tentative, s.Duplicate)
	}
	b.Advance(time.Minute)
	want("later", asked())
	// Now the one answers, the others never.
	b.Forget()
	got := b.Exchange("a", [][]byte{ns("2001:db8:1::2", "2001:db8:1::1"), ns("2001:db8:1::2", "2001:db8:1::5"), echo("2001:db8:1::1"), echo("2001:db8:1::6")}, "a")[0]
	if len(got) != 2 {
		t.Errorf("%d answers, want an advertisement and an echo reply: %x", len(got), got)
	}
	b.Moved("a rx 4, a tx 2, a drop nd-ignored 1, a drop address-tentative 1")
	// An address that stays is not asked for again, a new one is; one that goes is
	// forgotten.
	c.Addrs = []netip.Prefix{c.Addrs[0], c.Addrs[1], netip.MustParsePrefix("2001:db8:1::7/64")}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	b.Run()
	l := asked()
	want("another", l[len(l)-1:], "2001:db8:1::7")
	if s := state(); len(s.Tentative) != 1 || len(s.Duplicate) != 1 {
		t.Errorf("state: %v, %v", s.Tentative, s.Duplicate)
	}
	c.V6.DAD = 0
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	if s := state(); len(s.Tentative) != 0 || len(s.Duplicate) != 0 {
		t.Errorf("unchecked, state: %v, %v", s.Tentative, s.Duplicate)
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Delete: []string{"a"}}, Route: route.Change{Delete: func() (l []netip.Prefix) {
		for _, r := range testbed.Connected(testbed.Iface("a", 1, "2001:db8:1::1/64", "2001:db8:1::5/64", "2001:db8:1::6/64")) {
			if len(l) == 0 || l[0] != r.Prefix {
				l = append(l, r.Prefix)
			}
		}
		return l
	}()}})
	b.Mem.Peer("a").Close()
}
