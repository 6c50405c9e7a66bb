package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// nest is a tunnel inside another one:
//
//	host ── A ── B ══════ C ── D ── remote
//	        '──────────────────'    the inner tunnel, of the hosts' networks
//	             '═══════'          the outer one, of the networks 10.9.1 and 10.9.2 between the gateways
//
// Each of the four is a whole router; frames are carried between them by hand.
type nest struct {
	t          testing.TB
	a, b, c, d *testbed.Bed
}

// Ports by their numbers, which are also those of their MAC addresses.
const (
	portALan = 31 + iota
	portAWan
	portBLan
	portBWan
	portCWan
	portCLan
	portDWan
	portDLan
	nestHost
	nestRemote
)

// nestShape is what tests of nested tunnels vary.
type nestShape struct {
	in6, mid6, out6 bool // the hosts' packets, those of the inner tunnel, those of the outer one
	host, gate, wan uint16
	inner, outer    func(*ipsec.SA)
}

func newNest(t testing.TB, s nestShape) *nest {
	n := &nest{t: t}
	gateway := func(lanNo, wanNo byte, lanMTU, wanMTU uint16, lan, wan [2]string, lanHop, wanHop [2]string, lanPeer, wanPeer byte, far [2]string, sas ...ipsec.SA) *testbed.Bed {
		b := testbed.New(t, func(o *fastpath.Options) { o.MaxSAs = 1024 })
		l := testbed.Iface("lan", lanNo, lan[0], lan[1])
		w := testbed.Iface("wan", wanNo, wan[0], wan[1])
		l.MTU, w.MTU = lanMTU, wanMTU
		ch := &fastpath.Change{
			Iface: iface.Change{Set: []iface.Config{l, w}},
			Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("lan", lanHop[0], lanPeer), testbed.Neigh("lan", lanHop[1], lanPeer),
				testbed.Neigh("wan", wanHop[0], wanPeer), testbed.Neigh("wan", wanHop[1], wanPeer)}},
			Route: route.Change{Set: append(testbed.Connected(l, w), testbed.Route(far[0], wanHop[0], "wan"), testbed.Route(far[1], wanHop[1], "wan"))},
		}
		for _, a := range sas {
			ch.IPsec.SetSA = append(ch.IPsec.SetSA, a)
			ch.IPsec.SetPolicy = append(ch.IPsec.SetPolicy, protect(&a))
		}
		b.Mem.Peer("lan")
		b.Mem.Peer("wan")
		b.Apply(ch)
		return b
	}
	pick := func(v6 bool, four, six string) string {
		if v6 {
			return six
		}
		return four
	}
	// pair is an SA pair of one end; swapped gives the other end's.
	pair := func(spi uint32, local, remote, localNet, remoteNet string, swapped bool, edit func(*ipsec.SA)) []ipsec.SA {
		var l []ipsec.SA
		for i, dir := range []sal.Direction{sal.Outbound, sal.Inbound} {
			way := i
			if swapped {
				way = 1 - i // this end's inbound SA is the other's outbound one
			}
			a := ipsec.SA{Name: fmt.Sprint("sa", i), ReqID: uint64(spi) + uint64(i), SPI: spi + uint32(way), Direction: dir, Algorithm: sal.AESGCM16,
				Key: key(int(spi)+way, 20), ReplayWindow: 64, Local: addr(local), Remote: addr(remote),
				Selector: ipsec.Selector{Local: prefix(localNet), Remote: prefix(remoteNet), Proto: -1}}
			edit(&a)
			if swapped {
				a.Local, a.Remote = addr(remote), addr(local)
				a.Selector.Local, a.Selector.Remote = prefix(remoteNet), prefix(localNet)
			}
			l = append(l, a)
		}
		return l
	}
	inner := func(swapped bool) []ipsec.SA {
		return pair(0x1000, pick(s.mid6, "10.9.1.1", "2001:db8:91::1"), pick(s.mid6, "10.9.2.1", "2001:db8:92::1"),
			pick(s.in6, "10.1.0.0/24", "2001:db8:1::/64"), pick(s.in6, "10.2.0.0/24", "2001:db8:2::/64"), swapped, s.inner)
	}
	outer := func(swapped bool) []ipsec.SA {
		return pair(0x2000, pick(s.out6, own4, own6), pick(s.out6, peer4, peer6),
			pick(s.mid6, "10.9.1.0/24", "2001:db8:91::/64"), pick(s.mid6, "10.9.2.0/24", "2001:db8:92::/64"), swapped, s.outer)
	}
	n.a = gateway(portALan, portAWan, s.host, s.gate, [2]string{"10.1.0.1/24", "2001:db8:1::1/64"}, [2]string{"10.9.1.1/24", "2001:db8:91::1/64"},
		[2]string{"10.1.0.2", "2001:db8:1::2"}, [2]string{"10.9.1.2", "2001:db8:91::2"}, nestHost, portBLan, [2]string{"0.0.0.0/0", "::/0"}, inner(false)...)
	n.b = gateway(portBLan, portBWan, s.gate, s.wan, [2]string{"10.9.1.2/24", "2001:db8:91::2/64"}, [2]string{own4 + "/24", own6 + "/64"},
		[2]string{"10.9.1.1", "2001:db8:91::1"}, [2]string{peer4, peer6}, portAWan, portCWan, [2]string{"10.9.2.0/24", "2001:db8:92::/64"}, outer(false)...)
	n.c = gateway(portCLan, portCWan, s.gate, s.wan, [2]string{"10.9.2.2/24", "2001:db8:92::2/64"}, [2]string{peer4 + "/24", peer6 + "/64"},
		[2]string{"10.9.2.1", "2001:db8:92::1"}, [2]string{own4, own6}, portDWan, portBWan, [2]string{"10.9.1.0/24", "2001:db8:91::/64"}, outer(true)...)
	n.d = gateway(portDLan, portDWan, s.host, s.gate, [2]string{"10.2.0.1/24", "2001:db8:2::1/64"}, [2]string{"10.9.2.1/24", "2001:db8:92::1/64"},
		[2]string{"10.2.0.9", "2001:db8:2::9"}, [2]string{"10.9.2.2", "2001:db8:92::2"}, nestRemote, portCLan, [2]string{"0.0.0.0/0", "::/0"}, inner(true)...)
	n.pump()
	return n
}

// pump carries frames until nothing moves, and gives the IP packets that came out
// at both hosts.
func (n *nest) pump() (host, remote [][]byte) {
	wires := []struct {
		from, to     *testbed.Bed
		fport, tport string
	}{{n.a, n.b, "wan", "lan"}, {n.b, n.a, "lan", "wan"}, {n.b, n.c, "wan", "wan"}, {n.c, n.b, "wan", "wan"}, {n.c, n.d, "lan", "wan"}, {n.d, n.c, "wan", "lan"}}
	for moved := true; moved; {
		moved = false
		for _, b := range []*testbed.Bed{n.a, n.b, n.c, n.d} {
			b.Run()
		}
		for _, w := range wires {
			if l := w.from.Recv(w.fport); len(l) > 0 {
				w.to.Send(w.tport, l...)
				moved = true
			}
		}
	}
	ip := func(l [][]byte) (out [][]byte) {
		for _, f := range l {
			if e := pkt.Ethernet(f); e.Type() == pkt.TypeIPv4 || e.Type() == pkt.TypeIPv6 && e.Dst()[0]&1 == 0 {
				out = append(out, f[14:])
			}
		}
		return out
	}
	return ip(n.a.Recv("lan")), ip(n.d.Recv("lan"))
}

// send sends a packet from the host as often as a host would that is not answered,
// and says what became of it: it came out whole, or the MTU that the host was told.
func (n *nest) send(p testbed.Packet) (whole bool, mtu int) {
	n.t.Helper()
	orig := p.IP()
	const tries = 4 // one for each of the paths below, which have to be learnt first
	for range tries {
		for _, b := range []*testbed.Bed{n.a, n.b, n.c, n.d} {
			b.Advance(20 * time.Millisecond) // ICMP errors are limited
		}
		n.a.Send("lan", frames(portALan, nestHost, [][]byte{orig})...)
		host, remote := n.pump()
		if len(remote) > 0 {
			got := remote[0]
			if len(remote) > 1 || got[0]>>4 == 4 {
				got = testbed.Join(remote)
			}
			if got == nil {
				n.t.Fatalf("%d octets: %d pieces that do not make a packet", p.Len, len(remote))
			}
			head := 20
			if orig[0]>>4 == 6 {
				head = 40
			}
			if len(got) != len(orig) || !bytes.Equal(got[head:], orig[head:]) {
				n.t.Fatalf("%d octets became %d others", p.Len, len(got))
			}
			if len(host) != 0 {
				n.t.Fatalf("%d octets came out, and the host is told %x", p.Len, host[0])
			}
			return true, 0
		}
		if len(host) > 0 {
			ip := host[0]
			if ip[0]>>4 == 6 {
				answer(n.t.(*testing.T), ip, p, pkt.ICMPv6TooBig, true)
				return false, int(binary.BigEndian.Uint32(ip[44:]))
			}
			answer(n.t.(*testing.T), ip, p, pkt.ICMPv4Unreachable, true)
			if ip[21] != 4 {
				n.t.Fatalf("%d octets: ICMP code %d", p.Len, ip[21])
			}
			return false, int(binary.BigEndian.Uint16(ip[26:]))
		}
	}
	n.t.Fatalf("%d octets: a hole: neither arrived nor told of in %d tries", p.Len, tries)
	return false, 0
}

// walk sends every size. One that does not arrive must have told the host a
// smaller MTU, by which packets then arrive, and above which they do not.
func (n *nest) walk(p testbed.Packet, least, most, step int) {
	n.t.Helper()
	floor := 68 // RFC 791
	if pkt.IPv4(p.IP())[0]>>4 == 6 {
		floor = 1280
	}
	told, refused := 0, 0
	for p.Len = least; p.Len <= most; p.Len += step {
		whole, mtu := n.send(p)
		switch {
		case whole && told != 0:
			n.t.Fatalf("%d octets arrive, after the host was told %d", p.Len, told)
		case whole:
			continue
		case mtu >= p.Len || mtu < floor:
			n.t.Fatalf("%d octets: the host is told %d", p.Len, mtu)
		case told != 0 && mtu != told:
			n.t.Fatalf("%d octets: the host is told %d, and %d before", p.Len, mtu, told)
		}
		refused++
		if told != 0 {
			continue
		}
		// The first gateway says what it knows of; the next one's limit it hears
		// of by the packet after that.
		q := p
		for told = mtu; ; told = mtu {
			q.Len = told
			if whole, mtu = n.send(q); whole {
				break
			}
			if mtu >= told || mtu < floor {
				n.t.Fatalf("the host is told %d, and then %d", told, mtu)
			}
		}
	}
	n.t.Logf("%d octets and more are refused (%d sizes), the host being told %d", most-refused*step+step, refused, told)
}

// TestNestedSizes walks packets of every size through a tunnel in a tunnel, of all
// families, cut before and behind the encryption, with and without DF, and finds
// no hole: what a host sends arrives whole, or the host is told a size that does.
func TestNestedSizes(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 401
	}
	cbc := func(a *ipsec.SA) {
		a.Algorithm, a.Integrity, a.Key, a.IntegrityKey = sal.AESCBC, sal.HMACSHA2_512_256, a.Key[:16], key(7, 64)
	}
	shapes := []struct {
		name            string
		host, gate, wan uint16
		most            int
		inner, outer    func(*ipsec.SA)
	}{
		{"before", 9000, 1500, 1500, 9000, func(*ipsec.SA) {}, func(*ipsec.SA) {}},
		{"behind", 9000, 1500, 1500, 9000, func(a *ipsec.SA) { a.Fragmentation = ipsec.AfterEncryption }, func(a *ipsec.SA) { a.Fragmentation = ipsec.AfterEncryption; cbc(a) }},
		{"clear DF, small wan", 1500, 1500, 1400, 1500, func(a *ipsec.SA) { a.DF = ipsec.ClearDF; cbc(a) }, func(a *ipsec.SA) { a.Fragmentation = ipsec.AfterEncryption }},
		{"set DF", 1500, 1500, 1500, 1500, func(a *ipsec.SA) { a.DF = ipsec.SetDF }, func(a *ipsec.SA) { a.DF = ipsec.SetDF }},
	}
	if testing.Short() {
		shapes = shapes[:2]
	}
	for _, sh := range shapes {
		for how := range 16 {
			s := nestShape{in6: how&1 != 0, mid6: how&2 != 0, out6: how&4 != 0, host: sh.host, gate: sh.gate, wan: sh.wan, inner: sh.inner, outer: sh.outer}
			df := how&8 != 0
			if df && s.in6 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s in %s in %s, DF %v", sh.name, fam(s.in6), fam(s.mid6), fam(s.out6), df), func(t *testing.T) {
				n := newNest(t, s)
				p := testbed.Packet{Src: "10.1.0.2", Dst: "10.2.0.9", SPort: 1000, DPort: 2000, DF: df}
				if s.in6 {
					p.Src, p.Dst = "2001:db8:1::2", "2001:db8:2::9"
				}
				n.walk(p, 576, sh.most, step)
			})
		}
	}
}
