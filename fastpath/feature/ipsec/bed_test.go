package ipsec_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// site is the bed of most tests:
//
//	host 10.1.0.2, 2001:db8:1::2 ── lan vRouter wan ── peer 192.0.2.2, 2001:db8:ff::2 ── 10.2.0.0/16, 2001:db8:2::/48
//	(MAC 21)            10.1.0.1, …1::1      192.0.2.1, …ff::1   (MAC 22)
//
// Default routes lead through the peer: whatever is not encrypted leaves in the
// clear, and is seen.
type site struct {
	*testbed.Bed
	dir    string // state directory, "": none
	manual bool   // no goroutines: the test turns everything
	heard  uint64 // the last event
}

const (
	host4, host6     = "10.1.0.2", "2001:db8:1::2"
	remote4, remote6 = "10.2.0.9", "2001:db8:2::9"
	own4, own6       = "192.0.2.1", "2001:db8:ff::1"
	peer4, peer6     = "192.0.2.2", "2001:db8:ff::2"
	lanMAC, wanMAC   = 1, 2
	hostMAC, peerMAC = 21, 22
)

func newSite(t testing.TB, opt func(*fastpath.Options)) *site {
	t.Helper()
	dir, queues, manual := "", 0, true
	b := testbed.New(t, func(o *fastpath.Options) {
		o.MaxSAs = 1024
		if opt != nil {
			opt(o)
		}
		dir, queues, manual = o.StateDir, max(1, o.Workers), o.Manual
	})
	lan := testbed.Iface("lan", lanMAC, "10.1.0.1/24", "2001:db8:1::1/64")
	wan := testbed.Iface("wan", wanMAC, own4+"/24", own6+"/64")
	lan.Queues, wan.Queues = queues, queues
	b.Mem.Peer("lan")
	b.Mem.Peer("wan")
	b.Apply(&fastpath.Change{
		Iface: iface.Change{Set: []iface.Config{lan, wan}},
		Neigh: neigh.Change{Set: []neigh.Config{
			testbed.Neigh("lan", host4, hostMAC), testbed.Neigh("lan", host6, hostMAC),
			testbed.Neigh("wan", peer4, peerMAC), testbed.Neigh("wan", peer6, peerMAC)}},
		Route: route.Change{Set: append(testbed.Connected(lan, wan),
			testbed.Route("0.0.0.0/0", peer4, "wan"), testbed.Route("::/0", peer6, "wan"))},
	})
	if manual {
		b.Run()
		b.Recv("lan")
		b.Recv("wan") // announcements
		b.Forget()
	}
	return &site{Bed: b, dir: dir, manual: manual}
}

// persistent is an option of newSite: with a state directory.
func persistent(t testing.TB) func(*fastpath.Options) {
	return func(o *fastpath.Options) { o.StateDir = t.TempDir() }
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// between is the selector of the two sites' networks.
func between(v6 bool) ipsec.Selector {
	if v6 {
		return ipsec.Selector{Local: prefix("2001:db8:1::/64"), Remote: prefix("2001:db8:2::/48"), Proto: -1}
	}
	return ipsec.Selector{Local: prefix("10.1.0.0/24"), Remote: prefix("10.2.0.0/16"), Proto: -1}
}

// key is a key with salt of so many octets, another one for each n.
func key(n, size int) ipsec.Secret {
	k := bytes.Repeat([]byte{byte(n), byte(n >> 8), 0xa5, 0x17}, size/4)
	return k[:size]
}

// testSA is an SA between the two sites, AES-128 without ESN over IPv4.
func testSA(name string, dir sal.Direction, in6 bool) ipsec.SA {
	n := 1
	for _, c := range name {
		n = n*31 + int(c)
	}
	return ipsec.SA{Name: name, ReqID: 1 + uint64(dir), SPI: 0x1000 + uint32(dir), Direction: dir, Algorithm: sal.AESGCM16, Key: key(n, 20),
		ReplayWindow: 64, Local: addr(own4), Remote: addr(peer4), Selector: between(in6)}
}

func over6(s *ipsec.SA) { s.Local, s.Remote = addr(own6), addr(peer6) }

// protect is the policy for an SA.
func protect(s *ipsec.SA) ipsec.Policy {
	return ipsec.Policy{Name: "p-" + s.Name, Direction: s.Direction, Order: 100, ReqID: s.ReqID, Mode: s.Mode, Selector: s.Selector}
}

func sas(l ...ipsec.SA) *fastpath.Change { return &fastpath.Change{IPsec: ipsec.Change{SetSA: l}} }

func policies(l ...ipsec.Policy) *fastpath.Change {
	return &fastpath.Change{IPsec: ipsec.Change{SetPolicy: l}}
}

// tunnel installs an SA pair "out" and "in" with policies, and gives the peers
// of both. edit changes both SAs beforehand.
func (s *site) tunnel(in6 bool, edit ...func(*ipsec.SA)) (out, in *peer) {
	s.T.Helper()
	o, i := testSA("out", sal.Outbound, in6), testSA("in", sal.Inbound, in6)
	for _, e := range edit {
		e(&o)
		e(&i)
	}
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{o, i}, SetPolicy: []ipsec.Policy{protect(&o), protect(&i)}}})
	if s.manual {
		s.Forget()
	}
	return peerOf(o), peerOf(i)
}

// outgoing is a packet from the host to the remote site, incoming the other way.
func outgoing(v6 bool, n int) testbed.Packet {
	if v6 {
		return testbed.Packet{Src: host6, Dst: remote6, SPort: 1000, DPort: 2000, Len: n}
	}
	return testbed.Packet{Src: host4, Dst: remote4, SPort: 1000, DPort: 2000, Len: n}
}

func incoming(v6 bool, n int) testbed.Packet {
	p := outgoing(v6, n)
	p.Src, p.Dst = p.Dst, p.Src
	return p
}

// hop is a packet as it is behind one router.
func hop(ip []byte) []byte {
	ip = bytes.Clone(ip)
	if ip[0]>>4 == 6 {
		ip[7]--
		return ip
	}
	ip[8]--
	ip[10], ip[11] = 0, 0
	s := ^onesSum(ip[:ip[0]&15*4])
	ip[10], ip[11] = byte(s>>8), byte(s)
	return ip
}

// fromHost sends IP packets from the host, and gives what left on the WAN.
func (s *site) fromHost(packets ...[]byte) [][]byte {
	s.T.Helper()
	return s.Exchange("lan", frames(lanMAC, hostMAC, packets), "wan")[0]
}

// fromPeer sends IP packets from the WAN, and gives what left on the LAN.
func (s *site) fromPeer(packets ...[]byte) [][]byte {
	s.T.Helper()
	return s.Exchange("wan", frames(wanMAC, peerMAC, packets), "lan")[0]
}

func frames(dst, src byte, packets [][]byte) (l [][]byte) {
	for _, p := range packets {
		l = append(l, testbed.Frame(testbed.MAC(dst), testbed.MAC(src), p))
	}
	return l
}

// delivered checks that frames are these packets, sent to the host.
func (s *site) delivered(got [][]byte, want ...[]byte) {
	s.T.Helper()
	if len(got) != len(want) {
		s.T.Fatalf("%d packets came out, want %d", len(got), len(want))
	}
	for i, g := range got {
		if e := pkt.Ethernet(g); e.Dst() != testbed.MAC(hostMAC) || e.Src() != testbed.MAC(lanMAC) {
			s.T.Fatalf("frame %d is from %v to %v", i, e.Src(), e.Dst())
		}
		if !bytes.Equal(g[14:], want[i]) {
			s.T.Fatalf("packet %d is\n%x, want\n%x", i, g[14:], want[i])
		}
	}
}

// silent checks that nothing has left.
func (s *site) silent(got [][]byte) {
	s.T.Helper()
	for _, g := range got {
		s.T.Errorf("came out: %x", g)
	}
	for _, port := range []string{"lan", "wan"} {
		for _, g := range s.Recv(port) {
			s.T.Errorf("came out of %s: %x", port, g)
		}
	}
}

// sa is the state of an SA.
func (s *site) sa(name string) ipsec.SAState {
	s.T.Helper()
	l := s.State(&fastpath.Query{SAs: []string{name}}).SAs
	if len(l) != 1 {
		s.T.Fatalf("no SA %q", name)
	}
	return l[0]
}

func fam(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// families calls f for the four combinations of inner and outer.
func families(t *testing.T, f func(t *testing.T, in6, out6 bool)) {
	for _, in6 := range []bool{false, true} {
		for _, out6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s in %s", fam(in6), fam(out6)), func(t *testing.T) { f(t, in6, out6) })
		}
	}
}
