package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// FuzzESP sends a frame into the WAN of a whole router with tunnels of all
// families, and SAs in transport mode, bare and in UDP: either any bytes at all, with a good Ethernet header or as they are,
// or any bytes that a peer has sealed, so that they get behind the ICV. Whatever they are: the packet dies at most once, the
// SA counts it at most once, and what reaches the LAN is the clear packet that
// was sent, or exactly what the peer has sealed. What came in transport mode reaches
// nobody, and is not answered in the clear. (The bed checks the buffers at
// its end.)
func FuzzESP(f *testing.F) {
	for n := range byte(8) {
		p, sa := peerOf(fuzzSA(n)), fuzzHow(n)
		b := incoming(sa&1 != 0, 80).IP()
		text := append(bytes.Clone(b), 1, 2, 2, map[byte]byte{0: 4, 1: 41}[n&1])
		f.Add(sa, byte(0), b)
		f.Add(sa|4, byte(0), text)
		f.Add(sa|4, byte(3), text)
		f.Add(sa|4, byte(0), text[:30])
		f.Add(sa|4, byte(0), append(bytes.Clone(text[:len(text)-2]), 200, 59))
		f.Add(sa, byte(0), p.send(b))
		p.options = true
		f.Add(sa, byte(0), p.send(b))
		f.Add(sa, byte(0), p.send(b)[:70])
		f.Add(sa|4, byte(0), append(p.send(b), 1, 2, 2, 4))
		frame := testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), p.send(b))
		f.Add(sa|8, byte(0), frame)
		f.Add(sa|8, byte(0), append(append(bytes.Clone(frame[:12]), 0x81, 0, 0, 5), frame[12:]...)) // a VLAN
		f.Add(sa|8, byte(0), append(append(bytes.Clone(frame[:12]), 8, 6), frame[14:]...))
		p.options = n&1 != 0
		for _, x := range [][]byte{{0xff}, make([]byte, 30), {0xff, 0xff, 0xff, 0xff, 1}, p.send(b)[28:]} {
			f.Add(sa, byte(0), p.outer(p.sa.Remote, p.sa.Local, 17, p.udp(40500, 4500, x)))
		}
	}
	for n := byte(8); n < 16; n++ {
		p, sa := peerOf(fuzzSA(n)), fuzzHow(n)
		b := ping(n&2 != 0, 100)
		hl, _ := upper(b)
		f.Add(sa, byte(0), p.dress(b))
		f.Add(sa|4, byte(0), append(bytes.Clone(b[hl:]), 1, 2, 2, b[map[int]int{20: 9, 40: 6}[hl]]))
		for _, next := range []byte{0, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 255} {
			f.Add(sa|4, byte(0), append(bytes.Clone(b), 1, 2, 2, next))
			f.Add(sa|4, byte(0), append(bytes.Clone(b[hl:hl+10]), 1, 2, 2, next))
			f.Add(sa|4, byte(0), []byte{0, next})
		}
		p.options = true
		f.Add(sa, byte(0), p.send(b[hl:]))
	}
	// Time stands still, so what waits for a neighbour or for other fragments stays,
	// up to the limits: 1024, and a quarter of the pool. Caches hoard as much again.
	const buffers = 1 << 14
	const held = 1024 + buffers/4
	s := newSite(f, func(o *fastpath.Options) { o.Buffers, o.Log = buffers, slog.New(slog.DiscardHandler) })
	f.Cleanup(func() { s.T = f })
	ch, peers := &fastpath.Change{}, map[byte]*peer{}
	for sa := range byte(16) {
		a := fuzzSA(sa)
		ch.IPsec.SetSA = append(ch.IPsec.SetSA, a)
		peers[sa] = peerOf(a)
		if sa < 2 {
			ch.IPsec.SetPolicy = append(ch.IPsec.SetPolicy, protect(&a))
		}
	}
	s.Apply(ch)
	f.Fuzz(func(t *testing.T, how, tos byte, data []byte) {
		if len(data) > 1400 || len(data) == 0 {
			return
		}
		s.T = t
		p := peers[how&3|how>>2&12]
		packet := data
		if how&4 != 0 {
			for (len(data)+8+8+16)%4 != 0 {
				data = append(data[:len(data):len(data)], 0)
			}
			p.tos = tos
			packet = p.seal(data)
		}
		frame := testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), packet)
		if how&12 == 8 {
			if len(data) < 14 {
				return
			}
			frame, data = bytes.Clone(data), data[14:]
		}
		before, drops := s.opened(), s.died()
		got := s.Exchange("wan", [][]byte{frame}, "lan", "wan")
		// An ICMP error about it may die as well.
		now := s.died()
		if n := packets(now) - packets(drops); n > 1+packets(now, answered...)-packets(drops, answered...) {
			t.Errorf("one packet died %d times: drops were\n%v, are\n%v", n, drops, now)
		}
		if p := s.E.Pool().Stats(); p.Total-p.Free-p.Cached > held {
			t.Fatalf("%d of %d buffers are nowhere", p.Total-p.Free-p.Cached, p.Total)
		}
		n := s.opened() - before
		if n > 1 {
			t.Errorf("one packet counted %d times", n)
		}
		if p.sa.Mode == ipsec.Transport && how&4 != 0 && n > 0 {
			for _, g := range append(got[0], got[1]...) {
				if ip := g[14:]; pkt.Ethernet(g).Type() != pkt.TypeARP && !(ip[0]>>4 == 6 && ip[6] == pkt.ProtoICMPv6 && ip[40] == pkt.ICMPv6NeighborSol) {
					t.Errorf("sealed\n%x, came out\n%x", data, ip)
				}
			}
			return
		}
		for _, g := range got[0] {
			ip := g[14:]
			if typ := pkt.Ethernet(g).Type(); typ == pkt.TypeARP || typ == pkt.TypeIPv6 && ip[6] == pkt.ProtoICMPv6 && ip[40] == pkt.ICMPv6NeighborSol {
				continue
			}
			if how&4 == 0 && n == 0 {
				if answers(ip, data) {
					continue // it was for us, and from somebody in the LAN, if we believe it
				}
				if len(ip) > len(data) || !bytes.Equal(ip, hop(data[:len(ip)])) {
					t.Errorf("sent\n%x, came out\n%x", data, ip)
				}
				continue
			}
			if how&4 == 0 {
				if !slices.ContainsFunc(slices.Collect(maps.Values(peers)), func(p *peer) bool { return p.sealed(data) }) {
					t.Errorf("anybody's packet came through the SA: %x", data)
				}
				continue
			}
			// RFC 6040 may have changed the ECN field, nothing else.
			x := bytes.Clone(data[:min(len(data), len(ip))])
			if ip[0]>>4 == 4 {
				x[1] = x[1]&^3 | ip[1]&3
				x[10], x[11] = 0, 0
				binary.BigEndian.PutUint16(x[10:], ^onesSum(x[:x[0]&15*4]))
			} else {
				x[1] = x[1]&^0x30 | ip[1]&0x30
			}
			if !bytes.Equal(ip, hop(x)) {
				t.Errorf("sealed\n%x, came out\n%x", data, ip)
			}
		}
	})
}

// answers tells whether an IP packet comes from whom b was sent to and goes to whom
// it came from.
func answers(ip, b []byte) bool {
	if len(b) < 20 || ip[0]>>4 == 6 && len(b) < 40 {
		return false
	}
	if ip[0]>>4 == 4 {
		return bytes.Equal(ip[12:16], b[16:20]) && bytes.Equal(ip[16:20], b[12:16])
	}
	return bytes.Equal(ip[8:24], b[24:40]) && bytes.Equal(ip[24:40], b[8:24])
}

// seal makes the outer packet around a text, trailer and all.
func (p *peer) seal(text []byte) []byte {
	p.seq++
	iv := binary.BigEndian.AppendUint64(nil, p.seq)
	esp := binary.BigEndian.AppendUint32(nil, p.sa.SPI)
	esp = append(binary.BigEndian.AppendUint32(esp, uint32(p.seq)), iv...)
	return p.wrap(p.aead.Seal(esp, p.nonce(iv), text, p.aad(p.seq)))
}

// sealed tells whether an outer packet is the peer's (a seed, or one with another
// outer header). It looks for its ESP header anywhere.
func (p *peer) sealed(b []byte) bool {
	if at := bytes.Index(b, binary.BigEndian.AppendUint32(nil, p.sa.SPI)); at >= 0 {
		for end := len(b); end > at+32; end-- { // there may be padding
			if _, err := p.aead.Open(nil, p.nonce(b[at+8:at+16]), b[at+16:end], p.aad(uint64(binary.BigEndian.Uint32(b[at+4:])))); err == nil {
				return true
			}
		}
	}
	return false
}

// opened is how many packets all SAs have opened.
func (s *site) opened() (n uint64) {
	for _, a := range s.State(&fastpath.Query{SAs: []string{}}).SAs {
		n += a.Packets
	}
	return n
}

// answered are the reasons of which senders are told, and those of earlier packets
// that may end with this one.
var answered = func() (l []drop.Reason) {
	for r := range pipeline.Rejects {
		l = append(l, r.Reason())
	}
	// Fragments; packets to a neighbour that has been asked for longest, all of which
	// give way to one to another neighbour.
	return append(l, drop.ReassOverlap, drop.ReassFull, drop.ReassTooBig, drop.NeighWaitFull)
}()

// died is what packets have died of.
func (s *site) died() []fastpath.Drop { return s.State(&fastpath.Query{Drops: true}).Drops }

// drops is how many packets have died, of any reason or of those given.
func (s *site) drops(why ...drop.Reason) (n uint64) { return packets(s.died(), why...) }

// packets adds up drops, of any reason or of those given.
func packets(l []fastpath.Drop, why ...drop.Reason) (n uint64) {
	for _, d := range l {
		if len(why) == 0 || slices.ContainsFunc(why, func(r drop.Reason) bool { return r.String() == d.Reason }) {
			n += d.Packets
		}
	}
	return n
}

// fuzzHow is the first argument of FuzzESP for an SA; bit 2 says that the data are
// to be sealed.
func fuzzHow(n byte) byte { return n&3 | n&12<<2 }

// fuzzSA is one of 16 inbound SAs: bit 0 the inner family, bit 1 the outer, bit
// 2 UDP, bit 3 transport mode.
func fuzzSA(n byte) ipsec.SA {
	a := testSA(fmt.Sprint("in", n), 0, n&1 != 0)
	a.SPI, a.ESN = 0x1000+uint32(n), n&2 != 0
	if n&2 != 0 {
		over6(&a)
	}
	switch {
	case n&12 == 4:
		follow(&a)
	case n&4 != 0:
		inUDP(&a)
	}
	if n&8 != 0 {
		toTransport(&a)
	}
	return a
}
