package ipsec_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// withEngine is a site that also has a look-aside engine, which may misbehave.
func withEngine(t testing.TB, f saltest.Faults) (*site, *saltest.Faulty) {
	e := saltest.NewFaulty(cpu.New("card"), f)
	s := newSite(t, func(o *fastpath.Options) { o.Registry.AddDevice(e) })
	return s, e
}

func onCard(a *ipsec.SA) { a.Offload = ipsec.Offload{Mode: "crypto"} }

// settle runs until the engines hold nothing.
func (s *site) settle() {
	s.T.Helper()
	for range 1000 {
		s.Run()
		if s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight == 0 {
			return
		}
	}
	s.T.Fatal("engines still hold buffers")
}

// exchange is Exchange for engines that take their time.
func (s *site) exchange(in string, f [][]byte, out string) [][]byte {
	s.T.Helper()
	s.Send(in, f...)
	s.settle()
	return s.Recv(out)
}

// TestLookAside: an engine that takes its time does what one does that does not.
func TestLookAside(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s, _ := withEngine(t, saltest.Faults{Seed: 1, Delay: 4, Reorder: true})
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			onCard(a)
			if out6 {
				over6(a)
			}
		})
		if st := s.sa("out"); st.Engine != "card-faulty" || st.Mode != "crypto" {
			t.Fatalf("on %s: %s", st.Engine, st.Reason)
		}
		var p, q, want [][]byte
		for i := range 100 {
			b := outgoing(in6, 60+i)
			b.SPort = uint16(i)
			p = append(p, b.IP())
			c := incoming(in6, 60+i).IP()
			q, want = append(q, in.send(c)), append(want, hop(c))
		}
		got := s.exchange("lan", frames(lanMAC, hostMAC, p), "wan")
		if len(got) != 100 {
			t.Fatalf("%d packets left", len(got))
		}
		for i, g := range got {
			if o := out.must(t, g); o.seq != uint64(i+1) || !bytes.Equal(o.inner, hop(p[i])) {
				t.Fatalf("packet %d has number %d", i, o.seq)
			}
		}
		s.delivered(s.exchange("wan", frames(wanMAC, peerMAC, q), "lan"), want...)
		s.Moved("lan rx 100, wan tx 100, sa out packets 100, policy p-out packets 100, wan rx 100, lan tx 100, sa in packets 100, policy p-in packets 100")
		// Copies that are both under way pass once.
		c := incoming(in6, 70).IP()
		b := in.send(c)
		s.delivered(s.exchange("wan", frames(wanMAC, peerMAC, [][]byte{b, b, b}), "lan"), hop(c))
		s.Moved("wan rx 3, lan tx 1, sa in packets 1, policy p-in packets 1, wan drop esp-replay 2, sa in drop esp-replay 2")
	})
}

// TestFaultyEngine: whatever an engine loses and refuses is counted under its
// reason, at the interface and the SA; nothing leaves in the clear, no number is
// used twice, and no buffer is lost.
func TestFaultyEngine(t *testing.T) {
	for seed := range uint64(6) {
		s, _ := withEngine(t, saltest.Faults{Seed: seed, Delay: int(seed), Reorder: true, Refuse: 3, Lose: 5, Depth: 30})
		out, in := s.tunnel(false, onCard)
		r := rand.New(rand.NewPCG(seed, 5))
		sent, left, came, delivered := 0, 0, 0, 0
		for range 100 {
			var p, q [][]byte
			for range r.IntN(40) {
				p = append(p, outgoing(false, 60+r.IntN(500)).IP())
			}
			for range r.IntN(40) {
				q = append(q, in.send(incoming(false, 60+r.IntN(500)).IP()))
			}
			s.Send("lan", frames(lanMAC, hostMAC, p)...)
			s.Send("wan", frames(wanMAC, peerMAC, q)...)
			s.Run()
			sent, came = sent+len(p), came+len(q)
			before := out.seq
			for _, g := range s.Recv("wan") {
				if o := out.must(t, g); o.seq <= before {
					t.Fatalf("number %d after %d", o.seq, before)
				} else {
					before = o.seq
				}
				left++
			}
			delivered += len(s.Recv("lan"))
		}
		s.settle()
		for _, g := range s.Recv("wan") {
			out.must(t, g)
			left++
		}
		delivered += len(s.Recv("lan"))
		lost := func(name, reason string) int {
			for _, e := range s.sa(name).Errors {
				if e.Reason == reason {
					return int(e.Packets)
				}
			}
			return 0
		}
		dOut, fOut := lost("out", "sal-device"), lost("out", "sal-queue-full")
		dIn, fIn := lost("in", "sal-device"), lost("in", "sal-queue-full")
		if left+dOut+fOut != sent || delivered+dIn+fIn != came || dOut*fOut*dIn*fIn*left*delivered == 0 {
			t.Errorf("of %d, %d left, %d lost, %d refused; of %d, %d delivered, %d lost, %d refused", sent, left, dOut, fOut, came, delivered, dIn, fIn)
		}
		s.Moved(fmt.Sprintf("lan rx %d, wan tx %d, sa out packets %d, policy p-out packets %d, sa out drop sal-device %d, sa out drop sal-queue-full %d, lan drop sal-device %[5]d, lan drop sal-queue-full %[6]d,"+
			"wan rx %d, lan tx %d, sa in packets %[8]d, policy p-in packets %[8]d, sa in drop sal-device %d, sa in drop sal-queue-full %d, wan drop sal-device %[9]d, wan drop sal-queue-full %[10]d",
			sent, left, left, sent, dOut, fOut, came, delivered, dIn, fIn))
	}
}

// TestSoftwareGone: not even the last engine's end lets anything out.
func TestSoftwareGone(t *testing.T) {
	var dev sal.Device
	s := newSite(t, func(o *fastpath.Options) { dev = o.Registry.Devices()[0] })
	out, in := s.tunnel(false)
	s.lives(out, in, 1)
	s.Forget()
	s.events()
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.silent(s.fromHost(outgoing(false, 100).IP()))
		s.silent(s.fromPeer(in.send(incoming(false, 100).IP())))
		s.Moved("lan rx 1, wan rx 1, lan drop sal-device 1, wan drop sal-device 1, sa out drop sal-device 1, sa in drop sal-device 1, policy p-out packets 1")
		s.Advance(200e6)
	}
	if l := s.events(); len(l) != 1 || l[0].Kind != event.EngineLost || l[0].Object != "cpu" {
		t.Errorf("%+v", l)
	}
}

// TestDeletedUnderWay: an SA goes while an engine works for it, and others come;
// what returns belongs to nobody, and its record and slot to nobody else.
func TestDeletedUnderWay(t *testing.T) {
	s, e := withEngine(t, saltest.Faults{Delay: 1 << 30})
	out, in := s.tunnel(false, onCard)
	p := outgoing(false, 100).IP()
	s.Send("lan", frames(lanMAC, hostMAC, [][]byte{p, p, p})...)
	s.Send("wan", frames(wanMAC, peerMAC, [][]byte{in.send(incoming(false, 100).IP())})...)
	s.E.Turn(0)
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "in"}}})
	// Many others take whatever is free.
	for round := range 10 {
		var l []ipsec.SA
		for i := range 50 {
			a := testSA(fmt.Sprint("x", i), sal.Direction(i%2), false)
			a.SPI, a.Key, a.ReqID = 0x20000+uint32(i), key(5000+round*50+i, 20), 1000+uint64(i)
			l = append(l, a)
		}
		s.Apply(sas(l...))
		s.Advance(200e6)
	}
	if n := s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight; n != 4 {
		t.Fatalf("%d buffers in the engine", n)
	}
	s.Forget()
	e.Die()
	s.settle()
	s.silent(nil)
	s.Moved("lan drop sal-device 3, wan drop sal-device 1")
	// The SA comes back: its numbers go on.
	s.Apply(sas(out.sa, in.sa))
	if o := out.must(t, s.fromHost(p)[0]); o.seq != 4 {
		t.Errorf("number %d", o.seq)
	}
}

// TestBurstOverEngines: the packets of one burst go to several engines, families
// and SAs, and each comes out of its own.
func TestBurstOverEngines(t *testing.T) {
	s, _ := withEngine(t, saltest.Faults{Seed: 9, Delay: 2, Reorder: true})
	peers := map[int]*peer{}
	ch := &fastpath.Change{}
	for i := range 20 {
		a := testSA(fmt.Sprint("x", i), sal.Outbound, false)
		a.SPI, a.Key, a.ReqID, a.ESN = 0x20000+uint32(i), key(5000+i, []int{20, 36}[i/2%2]), 1000+uint64(i), i%3 == 0
		a.Selector.Remote = prefix(fmt.Sprintf("10.2.%d.0/24", i))
		if i%2 == 0 {
			onCard(&a)
		}
		if i%5 == 0 {
			over6(&a)
		}
		ch.IPsec.SetSA = append(ch.IPsec.SetSA, a)
		ch.IPsec.SetPolicy = append(ch.IPsec.SetPolicy, protect(&a))
		peers[i] = peerOf(a)
	}
	s.Apply(ch)
	n := 0
	for round := range 20 {
		var l [][]byte
		for i := range 200 {
			p := outgoing(false, 60+i)
			p.Dst = fmt.Sprintf("10.2.%d.7", (i*7+round)%20)
			l = append(l, p.IP())
		}
		for _, g := range s.exchange("lan", frames(lanMAC, hostMAC, l), "wan") {
			var o opened
			found := false
			for _, q := range peers {
				if x, err := q.open(g[14:]); err == nil {
					o, found = x, true
					break
				}
			}
			if !found {
				t.Fatalf("nobody can open %x", g)
			}
			if d := pkt.IPv4(o.inner).Dst(); peers[int(d[2])].seq != o.seq {
				t.Fatalf("packet to %v through another SA", d)
			}
			n++
		}
	}
	if n != 4000 {
		t.Errorf("%d packets left", n)
	}
}
