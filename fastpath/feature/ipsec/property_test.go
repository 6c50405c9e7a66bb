package ipsec_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// TestCachedIsUncached: with flow cache and without, the same packets give the
// same bytes, counters and drops, whatever is committed in between. The flow
// cache's table is so small that flows push each other out.
func TestCachedIsUncached(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cached := newSite(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = 64, 64 })
			plain := newSite(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = -1, -1 })
			r := rand.New(rand.NewPCG(seed, 11))
			w := &world{r: r, policies: map[string]bool{}, sas: map[string]ipsec.SA{}}
			sealed, dropped, opened := 0, 0, 0
			for range 60 {
				ch := w.change()
				e1, e2 := cached.Try(ch), plain.Try(ch)
				if fmt.Sprint(e1) != fmt.Sprint(e2) {
					t.Fatalf("one commit %v, the other %v", e1, e2)
				}
				if e1 == nil {
					w.accept(ch)
				}
				for range 4 {
					lan, wan := w.packets()
					var got [2][2][][]byte
					for k, s := range []*site{cached, plain} {
						// One by one: in a burst, packets that miss the cache take their
						// numbers behind those that hit it.
						for i := range max(len(lan), len(wan)) {
							if i < len(lan) {
								s.Send("lan", lan[i])
							}
							s.E.Turn(0)
							if i < len(wan) {
								s.Send("wan", wan[i])
							}
							s.E.Turn(0)
						}
						s.Run()
						got[k] = [2][][]byte{s.Recv("lan"), s.Recv("wan")}
					}
					for port := range 2 {
						sameFrames(t, got[0][port], got[1][port])
						for _, f := range got[0][port] {
							if f[23] == 50 || f[20] == 50 {
								sealed++
							}
						}
					}
					opened += len(got[0][0])
				}
			}
			a, b := summary(cached), summary(plain)
			if a != b {
				t.Errorf("with cache\n%s\nwithout\n%s", a, b)
			}
			for _, d := range plain.State(&fastpath.Query{Drops: true}).Drops {
				dropped += int(d.Packets)
			}
			if sealed < 50 || opened < 200 || dropped < 200 {
				t.Errorf("%d sealed, %d to the LAN, %d dropped: the test proves little", sealed, opened, dropped)
			}
		})
	}
}

// sameFrames compares what left a port.
func sameFrames(t *testing.T, a, b [][]byte) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d frames with cache, %d without", len(a), len(b))
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			t.Fatalf("frame %d with cache\n%x\nwithout\n%x", i, a[i], b[i])
		}
	}
}

func summary(s *site) (out string) {
	st := s.State(&fastpath.Query{Ifaces: []string{}, Drops: true, SAs: []string{}, Policies: []string{}})
	for _, i := range st.Ifaces {
		out += fmt.Sprintln(i.Name, i.Counters)
	}
	for _, a := range st.SAs {
		a.AddedAt, a.UsedAt = 0, 0
		out += fmt.Sprintln(a)
	}
	return out + fmt.Sprintln(st.Policies) + fmt.Sprintln(st.Drops)
}

// world draws changes and packets from a small set, so that they meet.
type world struct {
	r        *rand.Rand
	policies map[string]bool
	sas      map[string]ipsec.SA
	in       map[string]*peer
	n        int
}

func (w *world) network(v6, local bool) netip.Prefix {
	x := w.r.IntN(3)
	switch {
	case v6 && local:
		return prefix([]string{"2001:db8:1::/64", "2001:db8:1::2/128", "::/0"}[x])
	case v6:
		return prefix([]string{"2001:db8:2::/48", "2001:db8:2::9/128", "::/0"}[x])
	case local:
		return prefix([]string{"10.1.0.0/24", "10.1.0.2/32", "0.0.0.0/0"}[x])
	}
	return prefix([]string{"10.2.0.0/16", "10.2.0.9/32", "0.0.0.0/0"}[x])
}

func (w *world) selector() ipsec.Selector {
	v6 := w.r.IntN(3) == 0
	s := ipsec.Selector{Local: w.network(v6, true), Remote: w.network(v6, false), Proto: []int16{-1, -1, -1, 17, 6}[w.r.IntN(5)]}
	if w.r.IntN(4) == 0 {
		s.Proto = 1
		if v6 {
			s.Proto = 58
		}
		if w.r.IntN(3) > 0 { // echoes, or what is unreachable; all codes or one
			s.LocalPorts = [][]ipsec.PortRange{{{First: 8 << 8, Last: 8<<8 + 255}}, {{First: 128 << 8, Last: 129<<8 + 255}}, {{First: 3<<8 + 1, Last: 3<<8 + 3}},
				{{First: 1<<8 + 4, Last: 1<<8 + 4}}}[w.r.IntN(4)]
		}
	} else if w.r.IntN(5) == 0 {
		s.RemotePorts = []ipsec.PortRange{{First: 2000, Last: 2001}}
	}
	return s
}

func (w *world) change() *fastpath.Change {
	c := &fastpath.Change{}
	for range 1 + w.r.IntN(3) {
		name := fmt.Sprint("p", w.r.IntN(6))
		switch {
		case slices.ContainsFunc(c.IPsec.SetPolicy, func(p ipsec.Policy) bool { return p.Name == name }) || slices.Contains(c.IPsec.DeletePolicy, name):
		case w.policies[name] && w.r.IntN(3) == 0:
			c.IPsec.DeletePolicy = append(c.IPsec.DeletePolicy, name)
		case w.r.IntN(4) == 0:
			a := w.transportSA(name)
			p := protect(&a)
			p.Name, p.Order, p.ReqID = name, uint64(w.r.IntN(100))*10+uint64(name[1]-'0'), uint64(w.r.IntN(2))
			c.IPsec.SetPolicy = append(c.IPsec.SetPolicy, p)
		default:
			c.IPsec.SetPolicy = append(c.IPsec.SetPolicy, ipsec.Policy{Name: name, Direction: sal.Direction(w.r.IntN(2)), Order: uint64(w.r.IntN(100))*10 + uint64(name[1]-'0'),
				Action: []ipsec.Action{ipsec.Protect, ipsec.Protect, ipsec.Protect, ipsec.Protect, ipsec.Bypass, ipsec.Discard}[w.r.IntN(6)], ReqID: uint64(w.r.IntN(2)), Selector: w.selector()})
		}
	}
	for range w.r.IntN(6) {
		name := fmt.Sprint("s", w.r.IntN(8))
		old, there := w.sas[name]
		if slices.ContainsFunc(c.IPsec.SetSA, func(a ipsec.SA) bool { return a.Name == name }) || slices.Contains(c.IPsec.DeleteSA, name) {
			continue
		}
		if there && w.r.IntN(4) == 0 {
			c.IPsec.DeleteSA = append(c.IPsec.DeleteSA, name)
			continue
		}
		a := testSA(name, sal.Direction(w.r.IntN(2)), false)
		w.n++
		a.Selector, a.ReqID, a.SPI, a.ESN, a.Key = w.selector(), uint64(w.r.IntN(2)), 0x8000+uint32(name[1])*2+uint32(w.r.IntN(2)), w.r.IntN(2) == 0, key(60000+w.n, 20+16*w.r.IntN(2))
		if w.r.IntN(2) == 0 {
			over6(&a)
		}
		if w.r.IntN(4) == 0 {
			x := w.transportSA(name)
			a.Mode, a.Local, a.Remote, a.Selector = x.Mode, x.Local, x.Remote, x.Selector
		}
		if there && w.r.IntN(2) == 0 {
			a.Key, a.Direction = old.Key, old.Direction
		}
		c.IPsec.SetSA = append(c.IPsec.SetSA, a)
	}
	return c
}

// transportSA is an SA in transport mode, whatever its other fields are.
func (w *world) transportSA(name string) ipsec.SA {
	a := testSA(name, sal.Direction(w.r.IntN(2)), false)
	if w.r.IntN(2) == 0 {
		over6(&a)
	}
	toTransport(&a)
	if w.r.IntN(4) == 0 {
		a.Selector.Proto = 17
	}
	return a
}

func (w *world) accept(c *fastpath.Change) {
	for _, n := range c.IPsec.DeletePolicy {
		delete(w.policies, n)
	}
	for _, p := range c.IPsec.SetPolicy {
		w.policies[p.Name] = true
	}
	for _, n := range c.IPsec.DeleteSA {
		delete(w.sas, n)
	}
	for _, a := range c.IPsec.SetSA {
		w.sas[a.Name] = a
	}
	if w.in == nil {
		w.in = map[string]*peer{}
	}
	for n, a := range w.sas {
		if p := w.in[n]; a.Direction == sal.Inbound && (p == nil || !bytes.Equal(p.sa.Key, a.Key) || p.sa.SPI != a.SPI) {
			w.in[n] = peerOf(a)
		} else if a.Direction == sal.Inbound {
			p.sa = a
		}
	}
}

func (w *world) packets() (lan, wan [][]byte) {
	packet := func(out bool) testbed.Packet {
		v6 := w.r.IntN(3) == 0
		p := outgoing(v6, 60+w.r.IntN(100))
		if !out {
			p = incoming(v6, 60+w.r.IntN(100))
		}
		p.DPort, p.SPort = 2000+uint16(w.r.IntN(3)), 2000+uint16(w.r.IntN(3))
		if w.r.IntN(3) == 0 {
			p.Proto = pkt.ProtoTCP
			p.Len = max(p.Len, 80)
		}
		if w.r.IntN(4) == 0 {
			p.Proto = pkt.ProtoICMP
			typ := [...][2]byte{{8, 0}, {0, 0}, {3, 1}, {3, 4}}[w.r.IntN(4)]
			if v6 {
				p.Proto = pkt.ProtoICMPv6
				typ = [...][2]byte{{128, 0}, {129, 0}, {1, 1}, {1, 4}}[w.r.IntN(4)]
			}
			p.Payload = append([]byte{typ[0], typ[1], 0, 0, 0, byte(w.r.IntN(2)), 0, 1}, make([]byte, 60)...)
		}
		p.TTL = []uint8{64, 64, 64, 2, 1}[w.r.IntN(5)]
		if w.r.IntN(3) == 0 {
			other := map[bool]string{false: "10.2.0.77", true: "2001:db8:2::77"}[v6]
			if out {
				p.Dst = other
			} else {
				p.Src = other
			}
		}
		return p
	}
	names := make([]string, 0, 8)
	for n, a := range w.sas {
		if a.Direction == sal.Inbound {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for range 1 + w.r.IntN(30) {
		lan = append(lan, testbed.Frame(testbed.MAC(lanMAC), testbed.MAC(hostMAC), packet(true).IP()))
		b := packet(false).IP()
		if w.r.IntN(6) == 0 {
			b = ping(w.r.IntN(2) == 0, 100)
		}
		if len(names) > 0 && w.r.IntN(4) > 0 {
			if p := w.in[names[w.r.IntN(len(names))]]; p.sa.Mode == ipsec.Transport {
				b = p.dress(ping(p.sa.Local.Is6(), 100))
			} else {
				b = p.send(b)
			}
		}
		wan = append(wan, testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), b))
	}
	return lan, wan
}
