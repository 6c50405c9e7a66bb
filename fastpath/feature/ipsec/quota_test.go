package ipsec_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

func groups(l ...ipsec.Group) *fastpath.Change {
	return &fastpath.Change{IPsec: ipsec.Change{SetGroup: l}}
}

func inGroup(name string) func(*ipsec.SA) { return func(a *ipsec.SA) { a.TenantGroup = name } }

// group is the state of a tenant group.
func (s *site) group(name string) ipsec.GroupState {
	s.T.Helper()
	l := s.State(&fastpath.Query{Groups: []string{name}}).Groups
	if len(l) != 1 {
		s.T.Fatalf("%d groups %s", len(l), name)
	}
	return l[0]
}

// twoTenants has the IPv4 tunnel be one of group "quiet", and that of IPv6 one of "loud".
func (s *site) twoTenants(quiet, loud ipsec.Group) (outQ, inQ, outL, inL *peer) {
	quiet.Name, loud.Name = "quiet", "loud"
	s.Apply(groups(quiet, loud))
	outQ, inQ = s.tunnel(false, inGroup("quiet"))
	o, i := testSA("out6", sal.Outbound, true), testSA("in6", sal.Inbound, true)
	for _, a := range []*ipsec.SA{&o, &i} {
		a.ReqID, a.SPI, a.TenantGroup = a.ReqID+10, a.SPI+10, "loud"
	}
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{o, i}, SetPolicy: []ipsec.Policy{protect(&o), protect(&i)}}})
	if s.manual {
		s.Forget()
	}
	return outQ, inQ, peerOf(o), peerOf(i)
}

// TestTenants: of two tenants with equal quotas one sends ten times what it may, in
// packets or in octets, out or in. The other one, who sends what it may, loses nothing;
// and the first gets its quota, and no more.
func TestTenants(t *testing.T) {
	const rate, size, ms = 1000, 200, 1500
	for _, c := range []struct {
		what string
		q    ipsec.Group
	}{
		{"packets", ipsec.Group{Packets: rate}},
		{"octets", ipsec.Group{Bytes: rate * 268}}, // an ESP packet over IPv4 around one of IPv6 with 208 octets
	} {
		for _, inbound := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, inbound %t", c.what, inbound), func(t *testing.T) {
				s := newSite(t, nil)
				_, inQ, _, inL := s.twoTenants(c.q, c.q)
				s.Advance(200 * time.Millisecond)
				passed := [2]int{}
				for range ms {
					var l [][]byte
					for k := range 11 {
						switch loud := k != 5; {
						case inbound && loud:
							l = append(l, inL.send(incoming(true, size).IP()))
						case inbound:
							l = append(l, inQ.send(incoming(false, size).IP()))
						default:
							l = append(l, outgoing(loud, size).IP())
						}
					}
					var got [][]byte
					if inbound {
						got = s.fromPeer(l...)
					} else {
						got = s.fromHost(l...)
					}
					for _, g := range got {
						switch {
						case inbound && pkt.Ethernet(g).Type() == pkt.TypeIPv6, !inbound && binary.BigEndian.Uint32(g[34:]) == 0x1000+uint32(sal.Outbound)+10:
							passed[1]++
						default:
							passed[0]++
						}
					}
					s.Advance(time.Millisecond)
				}
				quiet, loud := s.group("quiet"), s.group("loud")
				t.Logf("quiet: %d of %d passed, %+v; loud: %d of %d passed, %+v", passed[0], ms, quiet, passed[1], 10*ms, loud)
				if passed[0] != ms || quiet.Dropped != 0 || quiet.Packets != ms || quiet.SAs != 2 {
					t.Errorf("of the quiet tenant's %d packets %d passed: %+v", ms, passed[0], quiet)
				}
				// Its quota, and what it had not used in the 100 ms before, or 65536 octets.
				most := rate*ms/1000 + max(rate/10, 65536/200)
				if passed[1] > most+2 || passed[1] < rate*ms/1000*9/10 || loud.Packets != uint64(passed[1]) || loud.Dropped != uint64(10*ms-passed[1]) {
					t.Errorf("of the loud tenant's %d packets %d passed, at most %d may: %+v", 10*ms, passed[1], most, loud)
				}
				name := map[bool]string{false: "out6", true: "in6"}[inbound]
				if e := s.sa(name).Errors; len(e) != 1 || e[0] != (ipsec.Error{Reason: "esp-quota", Packets: loud.Dropped}) {
					t.Errorf("%s: dropped %v", name, e)
				}
				if !inbound && s.sa(name).Seq != loud.Packets {
					t.Errorf("numbers were used for packets that were dropped: %d for %d", s.sa(name).Seq, loud.Packets)
				}
			})
		}
	}
}

// TestForgedIsRefunded: packets that nobody of a group has sent do not use up its quota,
// be they of a wrong ICV or replayed.
func TestForgedIsRefunded(t *testing.T) {
	s := newSite(t, nil)
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 100, Bytes: 1e6}))
	_, in := s.tunnel(false, inGroup("g"))
	s.Advance(time.Second)
	b := incoming(false, 100).IP()
	seen := in.send(b)
	s.delivered(s.fromPeer(seen), hop(b))
	for range 300 {
		bad := in.sendAs(in.seq+1, b)
		bad[len(bad)-1] ^= 1
		s.silent(s.fromPeer(bad, seen))
	}
	for range 32 {
		s.delivered(s.fromPeer(in.send(b)), hop(b))
	}
	if g := s.group("g"); g.Packets != 33 || g.Bytes != 33*uint64(len(seen)) || g.Dropped != 0 {
		t.Errorf("%+v", g)
	}
	s.silent(s.fromPeer(in.send(b)))
	if g := s.group("g"); g.Packets != 33 || g.Dropped != 1 {
		t.Errorf("%+v", g)
	}
}

// TestQuotaChanges: another quota counts at once, for SAs that are there; a group's
// counters go on until it goes; and an SA that leaves its group leaves its quota.
func TestQuotaChanges(t *testing.T) {
	s := newSite(t, nil)
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 10}))
	s.tunnel(false, inGroup("g"))
	s.Advance(10 * time.Second)
	p := outgoing(false, 100).IP()
	send := func(n, want int) {
		t.Helper()
		var l [][]byte
		for range n {
			l = append(l, p)
		}
		if got := len(s.fromHost(l...)); got != want {
			t.Errorf("%d of %d packets passed, want %d", got, n, want)
		}
	}
	send(100, 33) // 32, and one that has just come
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 1000}))
	s.Advance(20 * time.Millisecond)
	send(100, 20)
	s.Apply(groups(ipsec.Group{Name: "g", MaxSAs: 2}))
	send(200, 200)
	if g := s.group("g"); g.SAs != 2 || g.Packets != 253 || g.Dropped != 147 {
		t.Errorf("%+v", g)
	}
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 1}))
	o, i := testSA("out", sal.Outbound, false), testSA("in", sal.Inbound, false)
	s.Apply(sas(o, i))
	send(200, 200)
	if g := s.group("g"); g.SAs != 0 || g.Packets != 253 {
		t.Errorf("%+v", g)
	}
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteGroup: []string{"g"}}})
	s.Advance(time.Second)
	s.Apply(groups(ipsec.Group{Name: "h"}))
	if g := s.group("h"); g != (ipsec.GroupState{Name: "h"}) {
		t.Errorf("%+v", g)
	}
}

// TestGroupRefused: what a group may not have is refused, at the object that would be
// too many, and changes nothing.
func TestGroupRefused(t *testing.T) {
	s := newSite(t, nil)
	s.Apply(groups(ipsec.Group{Name: "g", MaxSAs: 2}, ipsec.Group{Name: "h"}))
	s.tunnel(false, inGroup("g"))
	third := testSA("third", sal.Outbound, true)
	third.SPI, third.ReqID, third.TenantGroup = 0x2000, 7, "g"
	other := third
	other.Name, other.SPI, other.Key, other.TenantGroup = "other", 0x2001, key(7, 20), "none"
	del := func(names ...string) *fastpath.Change {
		return &fastpath.Change{IPsec: ipsec.Change{DeleteGroup: names}}
	}
	for _, c := range []struct {
		change                 *fastpath.Change
		feature, object, field string
		full                   bool
		why                    string
	}{
		{sas(third), "sa", "third", "TenantGroup", true, `tenant group "g" may have 2 SAs`},
		{sas(other), "sa", "other", "TenantGroup", false, `no tenant group "none"`},
		{groups(ipsec.Group{Name: "g", MaxSAs: 1}), "group", "g", "MaxSAs", true, "it has 2 SAs"},
		{groups(ipsec.Group{Name: "x", Packets: 1e16}), "group", "x", "Packets", false, "at most"},
		{groups(ipsec.Group{Name: "x", Bytes: 1e16}), "group", "x", "Bytes", false, "at most"},
		{groups(ipsec.Group{Name: "x"}, ipsec.Group{Name: "x"}), "group", "x", "", false, "twice"},
		{groups(ipsec.Group{}), "group", "", "Name", false, "needs a name"},
		{del("g"), "group", "g", "", false, "2 SAs are in it"},
		{del("none"), "group", "none", "", false, "no such"},
		{del("h", "h"), "group", "h", "", false, "no such"},
	} {
		err := s.Try(c.change)
		var r *fastpath.Refusal
		if !errors.As(err, &r) || r.Feature != c.feature || r.Object != c.object || r.Field != c.field || r.Full != c.full || !strings.Contains(r.Reason, c.why) {
			t.Errorf("%+v: %v", c.change.IPsec, err)
		}
	}
	// In the place of another there is room; and the group goes with the last of its SAs.
	ch := sas(third)
	ch.IPsec.DeleteSA = []string{"out"}
	s.Apply(ch)
	if g := s.group("g"); g.SAs != 2 {
		t.Errorf("%+v", g)
	}
	ch = del("g")
	ch.IPsec.DeleteSA = []string{"third", "in"}
	s.Apply(ch)
	if l := s.State(&fastpath.Query{Groups: []string{}}).Groups; len(l) != 1 || l[0].Name != "h" {
		t.Errorf("%+v", l)
	}
}

// TestQuotaOverWorkers: two workers share a quota, whoever of them has the packets.
func TestQuotaOverWorkers(t *testing.T) {
	s := newSite(t, func(o *fastpath.Options) { o.Manual, o.Now, o.Workers, o.Buffers = false, nil, 2, 16384 })
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 5_000}))
	s.tunnel(false, inGroup("g"))
	lan, wan := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	sent, came := 0, 0
	collect := func() {
		for _, g := range wan.Collect(256) {
			if pkt.Ethernet(g).Type() == pkt.TypeIPv4 {
				came++
			}
		}
	}
	start := time.Now()
	for time.Since(start) < 300*time.Millisecond {
		for flow := range uint16(32) {
			p := outgoing(false, 100)
			p.SPort += flow
			sent += lan.Inject(frames(lanMAC, hostMAC, [][]byte{p.IP()})...)
		}
		collect()
		runtime.Gosched()
	}
	full := func() (n int) { // this test may be slow to take what comes
		for _, d := range s.State(&fastpath.Query{Drops: true}).Drops {
			if d.Reason == "tx-full" {
				n = int(d.Packets)
			}
		}
		return n
	}
	var g ipsec.GroupState
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		collect()
		if g = s.group("g"); g.Packets+g.Dropped == uint64(sent) && g.Packets == uint64(came+full()) {
			break
		}
	}
	took := time.Since(start)
	t.Logf("%d sent, %v, %d came, %+v", sent, took, came, g)
	if g.Packets+g.Dropped != uint64(sent) || g.Packets != uint64(came+full()) {
		t.Errorf("%d sent, %d came, and the group has %+v; drops %+v", sent, came, g, s.State(&fastpath.Query{Drops: true}).Drops)
	}
	// What comes in that time, and what may have been kept: no more however many workers.
	if most := int(took.Seconds()*5_000) + 500 + 40; int(g.Packets) > most {
		t.Errorf("%d packets passed, at most %d may", g.Packets, most)
	}
	if g.Dropped == 0 {
		t.Error("the quota was not reached")
	}
}

// TestQuotaNoAllocation: not one allocation for packets that a group may have, and those
// that it may not.
func TestQuotaNoAllocation(t *testing.T) {
	s := newSite(t, nil)
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 100_000, Bytes: 1e9}))
	s.tunnel(false, inGroup("g"))
	frame := testbed.Frame(testbed.MAC(lanMAC), testbed.MAC(hostMAC), outgoing(false, 300).IP())
	l, w := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	one, got := make([]sal.Desc, 1), make([]sal.Desc, 512)
	turn := func() {
		for range 64 {
			b, ok := l.Cache().Alloc()
			if !ok {
				t.Fatal("no buffer")
			}
			one[0] = sal.MakeDesc(b, sal.Headroom, uint16(len(frame)))
			copy(l.Pool().Bytes(one[0]), frame)
			l.Send(0, one)
		}
		s.E.Turn(0)
		w.Cache().FreeDescs(got[:w.Recv(got)])
	}
	for range 4 {
		turn()
	}
	if n := testing.AllocsPerRun(200, turn); n != 0 {
		t.Errorf("%v allocations per burst", n)
	}
	if g := s.group("g"); g.Packets == 0 || g.Dropped == 0 {
		t.Errorf("%+v", g)
	}
}
