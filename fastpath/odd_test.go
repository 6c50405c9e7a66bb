package fastpath_test

import (
	"bytes"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/pkg/pkt"
)

func neighChange(dev, addr string, n byte) neigh.Change {
	return neigh.Change{Set: []neigh.Config{testbed.Neigh(dev, addr, n)}}
}

// TestOdd sends what is broken, for others, or out of the ordinary: each frame
// dies under its one reason or passes unharmed.
func TestOdd(t *testing.T) {
	b := twoPorts(t, nil)
	good := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", SPort: 1, DPort: 2, Len: 100}
	good6 := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", SPort: 1, DPort: 2, Len: 100}
	edit := func(p testbed.Packet, f func(b []byte)) []byte {
		x := p.From(21, 1)
		f(x)
		return x
	}
	sum := func(x []byte) { pkt.IPv4(x[14:]).SetChecksum() }
	ext := func(next byte, headers ...byte) []byte { // good6 with extension headers
		p := good6.IP()
		x := append(append(bytes.Clone(p[:40]), headers...), p[40:]...)
		x[6] = next
		x[4], x[5] = byte((len(x)-40)>>8), byte(len(x)-40)
		return testbed.Frame(testbed.MAC(1), testbed.MAC(21), x)
	}
	const passes = "a rx 1, b tx 1"
	for _, c := range []struct {
		name  string
		frame []byte
		moved string
	}{
		{"good", good.From(21, 1), passes},
		{"runt", make([]byte, 10), "a rx 1, a rx-errors 1, a drop rx-too-short 1"},
		{"only a header", good.From(21, 1)[:14], "a rx 1, a rx-errors 1, a drop rx-too-short 1"},
		{"half an IP header", good.From(21, 1)[:30], "a rx 1, a rx-errors 1, a drop rx-too-short 1"},
		{"for another station", testbed.Frame(testbed.MAC(99), testbed.MAC(21), good.IP()), "a rx 1, a drop rx-other-mac 1"},
		{"tagged", edit(good, func(x []byte) { x[12], x[13] = 0x81, 0 }), "a rx 1, a rx-unknown 1, a drop rx-vlan 1"},
		{"unknown type", edit(good, func(x []byte) { x[12], x[13] = 0x88, 0xcc }), "a rx 1, a rx-unknown 1, a drop rx-ethertype 1"},
		{"above the MTU", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 1501}.From(21, 1), "a rx 1, a rx-errors 1, a drop rx-too-big 1"},
		{"version", edit(good, func(x []byte) { x[14] = 0x55 }), "a rx 1, a drop ip-version 1"},
		{"header length", edit(good, func(x []byte) { x[14] = 0x44; sum(x) }), "a rx 1, a drop ip-header-length 1"},
		{"length", edit(good, func(x []byte) { x[17] = 200; sum(x) }), "a rx 1, a drop ip-length 1"},
		{"checksum", edit(good, func(x []byte) { x[24] ^= 1 }), "a rx 1, a drop ip-checksum 1"},
		{"padded", append(testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 40}.From(21, 1), make([]byte, 20)...), passes},
		{"options", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{1, 1, 1, 0}, Len: 90}.From(21, 1), passes},
		{"source route", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{131, 7, 4, 1, 2, 3, 4, 0}, Len: 90}.From(21, 1), "a rx 1, a drop ip-source-route 1"},
		{"short payload", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Proto: 253, Payload: []byte{1}}.From(21, 1), passes},
		{"fragment", edit(good, func(x []byte) { pkt.IPv4(x[14:]).SetFrag(false, true, 0); sum(x) }), passes},
		{"later fragment", edit(good, func(x []byte) { pkt.IPv4(x[14:]).SetFrag(false, false, 800); sum(x) }), passes},
		{"own source", testbed.Packet{Src: "10.0.1.1", Dst: "192.0.2.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source-own 1"},
		{"own source elsewhere", testbed.Packet{Src: "10.0.2.1", Dst: "192.0.2.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source-own 1"},
		{"multicast source", testbed.Packet{Src: "224.0.0.5", Dst: "192.0.2.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source 1"},
		{"loopback source", testbed.Packet{Src: "127.0.0.1", Dst: "192.0.2.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source 1"},
		{"loopback destination", testbed.Packet{Src: "10.0.1.2", Dst: "127.0.0.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-destination 1"},
		{"reserved destination", testbed.Packet{Src: "10.0.1.2", Dst: "240.0.0.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-destination 1"},
		{"multicast", testbed.Frame(pkt.MAC{1, 0, 0x5e, 0, 0, 5}, testbed.MAC(21), testbed.Packet{Src: "10.0.1.2", Dst: "224.0.0.5", Len: 60}.IP()), "a rx 1, a rx-multicast 1, a drop ip-multicast 1"},
		{"limited broadcast", testbed.Frame(pkt.Broadcast, testbed.MAC(21), testbed.Packet{Src: "10.0.1.2", Dst: "255.255.255.255", Len: 60}.IP()), "a rx 1, a rx-broadcast 1, a drop ip-broadcast 1"},
		{"directed broadcast", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.255", Len: 60}.From(21, 1), "a rx 1, a drop ip-broadcast 1"},
		{"network address", testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.0", Len: 60}.From(21, 1), "a rx 1, a drop ip-broadcast 1"},
		{"arp, malformed", edit(good, func(x []byte) { x[12], x[13] = 8, 6 }), "a rx 1, a drop arp-bad 1"},

		{"good6", good6.From(21, 1), passes},
		{"version6", edit(good6, func(x []byte) { x[14] = 0x40 }), "a rx 1, a drop ip-version 1"},
		{"length6", edit(good6, func(x []byte) { x[19] = 100 }), "a rx 1, a drop ip-length 1"},
		{"hop-by-hop", ext(0, 17, 0, 1, 4, 0, 0, 0, 0), passes},
		{"hop-by-hop, unknown option to be skipped", ext(0, 17, 0, 0x22, 4, 0, 0, 0, 0), passes},
		{"hop-by-hop, unknown option, silently", ext(0, 17, 0, 0x42, 4, 0, 0, 0, 0), "a rx 1, a drop ip-option 1"},
		{"destination options are the destination's", ext(60, 17, 0, 0xc2, 4, 0, 0, 0, 0), passes},
		{"routing header, used up", ext(43, 17, 2, 0, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9), passes},
		{"routing header of type 0", ext(43, 17, 2, 0, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9), "a rx 1, a drop ip-source-route 1"},
		{"routing header of another type", ext(43, 17, 2, 4, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9), passes},
		{"record route", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{7, 7, 4, 0, 0, 0, 0, 0}, Len: 90}.From(21, 1), passes},
		{"timestamp", testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Options: []byte{68, 8, 5, 0, 0, 0, 0, 0}, Len: 90}.From(21, 1), passes},
		{"link-local source4", testbed.Packet{Src: "169.254.0.2", Dst: "192.0.2.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-link-local 1"},
		{"link-local destination4", testbed.Packet{Src: "10.0.1.2", Dst: "169.254.1.1", Len: 60}.From(21, 1), "a rx 1, a drop ip-link-local 1"},
		{"beside the link-local block", testbed.Packet{Src: "169.253.0.2", Dst: "192.0.2.1", Len: 60}.From(21, 1), passes},
		{"translated source", testbed.Packet{Src: "64:ff9b::1.2.3.4", Dst: "2001:db8:f::1", Len: 60}.From(21, 1), passes},
		{"mapped source", testbed.Packet{Src: "::ffff:1.2.3.4", Dst: "2001:db8:f::1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source 1"},
		{"site-local destination", testbed.Packet{Src: "2001:db8:1::2", Dst: "fec0::1", Len: 60}.From(21, 1), "a rx 1, a drop ip-destination 1"},
		{"destination options", ext(60, 17, 0, 1, 4, 0, 0, 0, 0), passes},
		{"fragment6", ext(44, 17, 0, 0, 8, 0, 0, 0, 9), passes},
		{"fragment6 of no multiple of eight", ext(44, 17, 0, 0, 1, 0, 0, 0, 9), "a rx 1, a drop ip-length 1"},
		{"cut extension", ext(0, 17, 200, 1, 4, 0, 0, 0, 0), "a rx 1, a drop ip-extension 1"},
		{"no next header", testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Proto: 59, Payload: []byte{}}.From(21, 1), passes},
		{"multicast source6", testbed.Packet{Src: "ff02::1", Dst: "2001:db8:f::1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source 1"},
		{"loopback source6", testbed.Packet{Src: "::1", Dst: "2001:db8:f::1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source 1"},
		{"unspecified destination6", testbed.Packet{Src: "2001:db8:1::2", Dst: "::", Len: 60}.From(21, 1), "a rx 1, a drop ip-destination 1"},
		{"own source6", testbed.Packet{Src: "2001:db8:2::1", Dst: "2001:db8:f::1", Len: 60}.From(21, 1), "a rx 1, a drop ip-source-own 1"},
		{"link-local destination", testbed.Packet{Src: "2001:db8:1::2", Dst: "fe80::77", Len: 60}.From(21, 1), "a rx 1, a drop ip-link-local 1"},
		{"multicast6", testbed.Frame(pkt.MAC{0x33, 0x33, 0, 0, 0, 5}, testbed.MAC(21), testbed.Packet{Src: "fe80::2", Dst: "ff02::5", Len: 60}.IP()), "a rx 1, a rx-multicast 1, a drop ip-multicast 1"},
		{"router solicitation", testbed.Frame(pkt.MAC{0x33, 0x33, 0, 0, 0, 2}, testbed.MAC(21), testbed.Packet{Src: "fe80::2", Dst: "ff02::2", Proto: 58, TTL: 255, Payload: []byte{133, 0, 0, 0, 0, 0, 0, 0}}.IP()), "a rx 1, a rx-multicast 1, a drop nd-ignored 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			for range 2 {
				got := b.Exchange("a", [][]byte{c.frame}, "a", "b")
				b.Moved(c.moved)
				if len(got[0]) != 0 {
					t.Errorf("an answer came: %x", got[0])
				}
				if c.moved != passes {
					continue
				}
				want := forwarded(c.frame, 2, 22)
				if len(got[1]) != 1 || !bytes.HasPrefix(want, got[1][0]) || len(got[1][0]) < 34 {
					t.Fatalf("came out as %x\nwant %x", got[1], want)
				}
			}
		})
	}
}

// TestMixed sends one burst of everything: what passes passes in order, and
// each of the others dies as it does alone.
func TestMixed(t *testing.T) {
	b := twoPorts(t, nil)
	var frames [][]byte
	var want4, want6 [][]byte
	for i := range 60 {
		p4 := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.9", SPort: uint16(i), Len: 60 + i}.From(21, 1)
		p6 := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::9", SPort: uint16(i), Len: 60 + i}.From(21, 1)
		frames = append(frames, p4, p6)
		want4, want6 = append(want4, forwarded(p4, 2, 22)), append(want6, forwarded(p6, 2, 22))
		switch i % 4 {
		case 1:
			x := bytes.Clone(p4)
			x[24] ^= 0xff
			frames = append(frames, x)
		case 2:
			x := bytes.Clone(p4)
			x[12], x[13] = 0x88, 0xcc
			frames = append(frames, x)
		case 3:
			frames = append(frames, testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 6, Len: 60}.From(21, 1))
		}
	}
	for range 2 {
		var got4, got6 [][]byte
		for _, f := range b.Exchange("a", frames, "b")[0] {
			if f[12] == 8 {
				got4 = append(got4, f)
			} else {
				got6 = append(got6, f)
			}
		}
		if len(got4) != 60 || len(got6) != 60 {
			t.Fatalf("%d and %d packets came out, want 60 each", len(got4), len(got6))
		}
		for _, l := range []struct{ got, want [][]byte }{{got4, want4}, {got6, want6}} {
			seen := map[string]bool{}
			for _, f := range l.got {
				seen[string(f)] = true
			}
			for i, f := range l.want {
				if !seen[string(f)] {
					t.Fatalf("packet %d is missing or changed", i)
				}
			}
		}
		b.Moved("a rx 165, b tx 120, a rx-unknown 15, a drop ip-checksum 15, a drop rx-ethertype 15, a drop local-tcp 15")
	}
}

// TestIfaceStates: admin down, a family off, forwarding off; and back.
func TestIfaceStates(t *testing.T) {
	b := twoPorts(t, nil)
	f4 := testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 60}.From(21, 1)
	f6 := testbed.Packet{Src: "2001:db8:1::2", Dst: "2001:db8:f::1", Len: 60}.From(21, 1)
	base := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	for _, c := range []struct {
		name  string
		edit  func(*iface.Config)
		moved string
	}{
		{"as it is", func(*iface.Config) {}, "a rx 2, b tx 2"},
		{"no IPv4", func(c *iface.Config) { c.V4.Enabled = false }, "a rx 2, b tx 1, a rx-discards 1, a drop family-off 1"},
		{"no IPv6", func(c *iface.Config) { c.V6.Enabled = false }, "a rx 2, b tx 1, a rx-discards 1, a drop family-off 1"},
		{"no IPv6 forwarding", func(c *iface.Config) { c.V6.Forwarding = false }, "a rx 2, b tx 1, a drop forwarding-off 1"},
		{"back", func(*iface.Config) {}, "a rx 2, b tx 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			cfg := base
			c.edit(&cfg)
			b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{cfg}}})
			b.Run()
			b.Forget()
			b.Exchange("a", [][]byte{f4, f6}, "b")
			b.Moved(c.moved)
			b.Recv("a")
		})
	}
	t.Run("down", func(t *testing.T) {
		b.T = t
		cfg := base
		cfg.Enabled = false
		b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{cfg}}})
		if s := b.State(&fastpath.Query{Ifaces: []string{"a"}}).Ifaces[0]; s.Admin || s.Link {
			t.Errorf("state says admin %v, link %v", s.Admin, s.Link)
		}
		b.Forget()
		// The other side's packets for it find no way out.
		back := testbed.Packet{Src: "10.0.2.2", Dst: "10.0.1.2", Len: 60}.From(22, 2)
		b.Exchange("b", [][]byte{back}, "a")
		b.Moved("b rx 1, a tx-discards 1, b drop tx-no-port 1")
	})
}
