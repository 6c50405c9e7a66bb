package ipsec

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"vrouter/pkg/sal"
)

// randomPrefix draws from few values, so that entries overlap.
func randomPrefix(r *rand.Rand, v6 bool) netip.Prefix {
	var a netip.Addr
	if v6 {
		a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(2)), byte(r.IntN(2)), 0, 0, byte(r.IntN(2)), 15: byte(r.IntN(4))})
		return netip.PrefixFrom(a, []int{0, 32, 40, 48, 64, 96, 128}[r.IntN(7)]).Masked()
	}
	a = netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(2)), byte(r.IntN(4))})
	return netip.PrefixFrom(a, []int{0, 8, 16, 24, 30, 32}[r.IntN(6)]).Masked()
}

func randomRanges(r *rand.Rand) (l []PortRange) {
	for range r.IntN(3) {
		a := uint16(r.IntN(8))
		l = append(l, PortRange{a, a + uint16(r.IntN(4))})
	}
	return l
}

// naiveMatch is RFC 4301's own wording: go through the entries in order.
func naiveMatch(all []*policy, d sal.Direction, local, remote netip.Addr, p *packet) *policy {
	for _, q := range all {
		s := &q.Selector
		if q.Direction != d || !s.Local.Contains(local) || !s.Remote.Contains(remote) {
			continue
		}
		if p.ike && (s.Proto != 17 || len(s.LocalPorts)+len(s.RemotePorts) == 0) {
			continue // it does not mean IKE
		}
		if s.Proto >= 0 && s.Proto != int16(p.proto) && (!p.noProto || q.Action == Bypass) {
			continue
		}
		if len(s.LocalPorts)+len(s.RemotePorts) > 0 {
			icmp := p.proto == 1 && local.Is4() || p.proto == 58 && local.Is6()
			if p.proto != 6 && p.proto != 17 && !p.noProto && !(icmp && s.Proto >= 0) {
				continue // no ports, and it wants some
			}
			if p.noPorts {
				if q.Action == Bypass {
					continue
				}
				return q
			}
			in := func(l []PortRange, x uint16) bool {
				return len(l) == 0 || slices.ContainsFunc(l, func(r PortRange) bool { return r.First <= x && x <= r.Last })
			}
			if !in(s.LocalPorts, p.lport) || !in(s.RemotePorts, p.rport) {
				continue
			}
		}
		return q
	}
	return nil
}

func TestSPDAgainstNaiveTwin(t *testing.T) {
	for seed := uint64(0); seed < 40; seed++ {
		if spdAgainstTwin(t, rand.New(rand.NewPCG(seed, 1)), 120) == 0 {
			t.Fatal("no packet matched anything: the test proves nothing")
		}
	}
}

// FuzzSPD lets the fuzzer choose entries, their order and packets.
func FuzzSPD(f *testing.F) {
	for seed := range uint64(4) {
		r, b := rand.New(rand.NewPCG(seed, 2)), make([]byte, 2000)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		spdAgainstTwin(t, rand.New(&bytesSource{b: b, more: rand.NewPCG(1, 1)}), 1+min(len(b)/16, 120))
	})
}

// bytesSource gives two bytes of a fuzzer for every draw. When there are no more
// it goes on with numbers of its own: rand draws again until it likes one.
type bytesSource struct {
	b    []byte
	more *rand.PCG
}

func (s *bytesSource) Uint64() uint64 {
	if len(s.b) < 2 {
		return s.more.Uint64()
	}
	x := uint64(s.b[0])<<8 | uint64(s.b[1])
	s.b = s.b[2:]
	return x * 0x0001_0001_0001_0001
}

// spdAgainstTwin changes an SPD again and again and matches packets against it
// and against its naive twin. It tells how many matched.
func spdAgainstTwin(t *testing.T, r *rand.Rand, steps int) (hits int) {
	s := &spd{seed: r.Uint64()}
	var all []*policy
	edit := s.edit()
	for step := range steps {
		if len(all) > 0 && r.IntN(4) == 0 {
			i := r.IntN(len(all))
			edit.remove(all[i])
			all = slices.Delete(all, i, i+1)
		} else {
			v6 := r.IntN(2) == 0
			q := &policy{Policy: Policy{Name: fmt.Sprint(step), Direction: sal.Direction(r.IntN(2)), Order: r.Uint64()<<7 | uint64(step), Action: Action(r.IntN(3)),
				Selector: Selector{Local: randomPrefix(r, v6), Remote: randomPrefix(r, v6), Proto: []int16{-1, 1, 6, 17, 58, 60}[r.IntN(6)], LocalPorts: randomRanges(r), RemotePorts: randomRanges(r)}}}
			var err error
			if q.sel, err = compileSelector(&q.Selector); err != nil {
				if s := &q.Selector; (s.Proto == 58 && !v6 || s.Proto == 1 && v6) && len(s.LocalPorts)+len(s.RemotePorts) > 0 {
					continue // rightly refused
				}
				t.Fatal(err)
			}
			edit.add(q)
			all = append(all, q)
			slices.SortFunc(all, func(a, b *policy) int {
				if a.Order < b.Order {
					return -1
				}
				return 1
			})
		}
		if r.IntN(3) > 0 { // several entries in one change
			continue
		}
		old, n := s, s.n
		s, edit = edit.done(), nil
		if old.n != n || s.n != len(all) {
			t.Fatalf("%d entries, want %d; %d before, now %d", s.n, len(all), n, old.n)
		}
		for range 60 {
			v6 := r.IntN(2) == 0
			l, m := randomPrefix(r, v6).Addr(), randomPrefix(r, v6).Addr()
			p := packet{local: addrOf(l), remote: addrOf(m), lport: uint16(r.IntN(10)), rport: uint16(r.IntN(10)), proto: []uint8{1, 6, 17, 58, 60}[r.IntN(5)], v6: v6, noPorts: r.IntN(5) == 0}
			if isICMP(p.proto, v6) {
				p.rport = p.lport
			}
			p.noProto = p.noPorts && v6 && p.proto == 60
			p.ike = p.proto == 17 && !p.noPorts && r.IntN(4) == 0 // whatever the port
			d := sal.Direction(r.IntN(2))
			got, want := s.match(d, &p), naiveMatch(all, d, l, m, &p)
			if got != want {
				t.Fatalf("step %d: %v → %v %+v: got %v, want %v", step, l, m, p, got, want)
			}
			if want != nil {
				hits++
			}
		}
		edit = s.edit()
	}
	return hits
}

func TestSelectorRefuses(t *testing.T) {
	p := netip.MustParsePrefix
	for name, s := range map[string]Selector{
		"no prefix":      {Local: p("10.0.0.0/8"), Proto: -1},
		"mixed families": {Local: p("10.0.0.0/8"), Remote: p("2001:db8::/32"), Proto: -1},
		"host bits":      {Local: p("10.0.0.1/8"), Remote: p("10.0.0.0/8"), Proto: -1},
		"protocol":       {Local: p("10.0.0.0/8"), Remote: p("10.0.0.0/8"), Proto: 256},
		"ICMPv6 in IPv4": {Local: p("10.0.0.0/8"), Remote: p("10.0.0.0/8"), Proto: 58, LocalPorts: []PortRange{{1, 2}}},
		"ICMP in IPv6":   {Local: p("2001:db8::/32"), Remote: p("2001:db8::/32"), Proto: 1, RemotePorts: []PortRange{{1, 2}}},
		"empty range":    {Local: p("10.0.0.0/8"), Remote: p("10.0.0.0/8"), Proto: 6, LocalPorts: []PortRange{{2, 1}}},
	} {
		if _, err := compileSelector(&s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkSPDMatch(b *testing.B) {
	e := (&spd{seed: 1}).edit()
	for i := range 10000 {
		q := &policy{Policy: Policy{Order: uint64(i), Selector: Selector{Local: netip.MustParsePrefix("10.0.0.0/16"),
			Remote: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i >> 8), byte(i), 0}), 24), Proto: -1}}}
		q.sel, _ = compileSelector(&q.Selector)
		e.add(q)
	}
	s := e.done()
	p := packet{local: addrOf(netip.MustParseAddr("10.0.0.1"))}
	b.ReportAllocs()
	i := uint64(0)
	for b.Loop() {
		p.remote.hi = (172<<24 | i*7919%10000<<8) << 32
		i++
		if s.match(0, &p) == nil {
			b.Fatal("no match")
		}
	}
}
