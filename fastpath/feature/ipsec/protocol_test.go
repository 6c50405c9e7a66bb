package ipsec_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
)

// withPool is an option of newSite: with crypto threads, pool0.
func withPool(t testing.TB, threads int) func(*fastpath.Options) {
	e := newPool(t, threads)
	return func(o *fastpath.Options) { o.Registry.AddDevice(e) }
}

func newPool(t testing.TB, threads int) *pool.Engine {
	e, err := pool.New("pool0", cpu.New("threads"), pool.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// asProtocol wants an SA to be served in mode protocol, and nothing else.
func asProtocol(a *ipsec.SA) { a.Offload = ipsec.Offload{Mode: "protocol", Policy: ipsec.Require} }

// rest runs until no engine has a packet, as settle does for engines that have threads
// of their own.
func (s *site) rest() {
	s.T.Helper()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if s.Run(); s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight == 0 {
			return
		}
		if time.Now().After(end) {
			s.T.Fatal("engines still hold buffers")
		}
	}
}

func (s *site) through(in string, out string, f ...[]byte) [][]byte {
	s.T.Helper()
	s.Send(in, f...)
	s.rest()
	return s.Recv(out)
}

// TestProtocol: SAs whose packets an engine makes and takes apart, through the whole
// router: what leaves, what comes out, and what is counted and shown.
func TestProtocol(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, withPool(t, 2))
		udp := out6 == in6
		out, in := s.tunnel(in6, asProtocol, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
			if udp {
				a.UDP = ipsec.UDP{Local: 4500, Remote: 40500}
			}
		})
		const n = 300
		var p, q [][]byte
		for i := range n {
			p = append(p, last4(outgoing(in6, 100+i).IP(), i))
			q = append(q, last4(incoming(in6, 100+i).IP(), i))
		}
		got := s.through("lan", "wan", frames(lanMAC, hostMAC, p)...)
		if len(got) != n {
			t.Fatalf("%d packets left of %d", len(got), n)
		}
		for i, g := range got {
			if o := out.must(t, g); o.seq != uint64(i+1) || !slices.Equal(o.inner, hop(p[i])) {
				t.Fatalf("packet %d has number %d:\n%x, want\n%x", i, o.seq, o.inner, hop(p[i]))
			}
		}
		var sealed, want [][]byte
		bytes := 0
		for _, x := range q {
			sealed, want = append(sealed, in.send(x)), append(want, hop(x))
			bytes += len(x)
		}
		s.delivered(s.through("wan", "lan", frames(wanMAC, peerMAC, sealed)...), want...)
		for _, name := range []string{"out", "in"} {
			if st := s.sa(name); st.Engine != "pool0" || st.Mode != "protocol" || !st.AsWanted || st.Seq != n || st.Packets != n || st.Bytes != uint64(bytes) {
				t.Errorf("%s: %+v", name, st)
			}
		}
		s.Moved(fmt.Sprintf("lan rx %d, wan tx %[1]d, sa out packets %[1]d, policy p-out packets %[1]d, wan rx %[1]d, lan tx %[1]d, sa in packets %[1]d, policy p-in packets %[1]d", n))
		// The same once more is replayed, and a forged one is none.
		forged := in.send(q[0])
		forged[len(forged)-1] ^= 1
		s.silent(s.through("wan", "lan", frames(wanMAC, peerMAC, [][]byte{sealed[n-1], forged, sealed[0]})...))
		s.Moved("wan rx 3, wan drop esp-replay 1, wan drop esp-bad-icv 1, wan drop esp-late 1, sa in drop esp-replay 1, sa in drop esp-bad-icv 1, sa in drop esp-late 1")
	})
}

// TestProtocolMoves: SAs go from mode to mode and from engine to engine, by migration and
// by commits, with packets in the one that they leave. Nothing is lost, comes twice, or
// out of order; no number is left out.
func TestProtocolMoves(t *testing.T) {
	s := newSite(t, withPool(t, 2))
	prefer := func(mode string) func(*ipsec.SA) {
		return func(a *ipsec.SA) { a.Offload = ipsec.Offload{Mode: mode} }
	}
	out, in := s.tunnel(false, prefer("protocol"))
	n, m, left, delivered := 0, 0, 0, 0
	collect := func() {
		t.Helper()
		for _, g := range s.Recv("wan") {
			if o := out.must(t, g); o.seq != uint64(left+1) || int(binary.BigEndian.Uint32(o.inner[len(o.inner)-4:])) != left {
				t.Fatalf("number %d, packet %d; want %d", o.seq, binary.BigEndian.Uint32(o.inner[len(o.inner)-4:]), left+1)
			}
			left++
		}
		for _, g := range s.Recv("lan") {
			if k := int(binary.BigEndian.Uint32(g[len(g)-4:])); k != delivered {
				t.Fatalf("packet %d came when %d was due", k, delivered)
			}
			delivered++
		}
	}
	commit := func(mode string) func() {
		return func() {
			o, i := testSA("out", sal.Outbound, false), testSA("in", sal.Inbound, false)
			prefer(mode)(&o)
			prefer(mode)(&i)
			s.Apply(sas(o, i))
		}
	}
	migrate := func(engine string) func() {
		return func() { s.migrate("out", engine); s.migrate("in", engine) }
	}
	inside := 0
	for round := range 24 {
		step := []struct {
			do   func()
			mode string
		}{{migrate("cpu"), "software"}, {migrate("pool0"), "protocol"}, {commit("crypto"), "crypto"}, {commit("protocol"), "protocol"},
			{commit("software"), "software"}, {commit("protocol"), "protocol"}}[round%6]
		for range 2 {
			var p, q [][]byte
			for range 100 {
				p = append(p, last4(outgoing(false, 1000).IP(), n))
				q = append(q, in.send(last4(incoming(false, 1000).IP(), m)))
				n, m = n+1, m+1
			}
			s.Send("lan", frames(lanMAC, hostMAC, p)...)
			s.Send("wan", frames(wanMAC, peerMAC, q)...)
			s.E.Turn(0)
		}
		inside += s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight
		step.do()
		for _, name := range []string{"out", "in"} {
			if st := s.sa(name); st.Mode != step.mode {
				t.Fatalf("round %d: %s is served in mode %s, by %s: %s", round, name, st.Mode, st.Engine, st.Reason)
			}
		}
		s.E.Turn(0)
		s.rest()
		for range 4 {
			s.Advance(200e6)
		}
		collect()
		if st := s.sa("out"); st.Seq != uint64(n) {
			t.Fatalf("round %d: the last number is %d of %d", round, st.Seq, n)
		}
	}
	if left != n || delivered != m {
		t.Errorf("%d of %d left, %d of %d were delivered", left, n, delivered, m)
	}
	if inside < 100 {
		t.Errorf("only %d packets were in engines when it came to moving", inside)
	}
	s.Moved(fmt.Sprintf("lan rx %d, wan tx %[1]d, sa out packets %[1]d, policy p-out packets %[1]d, wan rx %d, lan tx %[2]d, sa in packets %[2]d, policy p-in packets %[2]d", n, m))
	if k := s.engineInfo("pool0").SAs; k != 2 {
		t.Errorf("%d SAs are in pool0", k)
	}
}

// TestProtocolMovesRunning is TestMigrateRunning between a worker's core and mode
// protocol on threads: two workers that run, and share the SAs.
func TestProtocolMovesRunning(t *testing.T) {
	add := withPool(t, 1)
	s := newSite(t, func(o *fastpath.Options) {
		o.Manual, o.Now, o.Workers, o.Buffers = false, nil, 2, 16384
		add(o)
	})
	migrateRunning(t, s, "pool0", false, func(a *ipsec.SA) { a.Offload.Mode = "protocol" })
}

// TestProtocolLeash: an engine gets numbers to give in time, and what is written down of
// them is always ahead of what it has given; when the SA is given up, or the process
// ends, it is exact.
func TestProtocolLeash(t *testing.T) {
	add, dir := withPool(t, 1), t.TempDir()
	s := newSite(t, func(o *fastpath.Options) {
		o.StateDir = dir
		add(o)
	})
	out, in := s.tunnel(false, asProtocol)
	for range 3 {
		s.through("lan", "wan", frames(lanMAC, hostMAC, [][]byte{outgoing(false, 100).IP()})...)
	}
	old := in.send(incoming(false, 100).IP())
	s.delivered(s.through("wan", "lan", frames(wanMAC, peerMAC, [][]byte{old})...), hop(incoming(false, 100).IP()))
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "in"}}})
	s.Advance(200e6)
	number := func(want uint64) {
		t.Helper()
		got := s.through("lan", "wan", frames(lanMAC, hostMAC, [][]byte{outgoing(false, 100).IP()})...)
		if len(got) != 1 || out.must(t, got[0]).seq != want {
			t.Fatalf("%d packets; number %d is due", len(got), want)
		}
	}
	s.tunnel(false, asProtocol)
	number(4)
	s.silent(s.through("wan", "lan", frames(wanMAC, peerMAC, [][]byte{old})...))
	s.tunnel(false)
	number(5)
	s.silent(s.through("wan", "lan", frames(wanMAC, peerMAC, [][]byte{old})...))
	s.tunnel(false, asProtocol)
	number(6)
}

// TestProtocolLeashMoves: an engine that uses number after number is allowed more before
// it has used what it has, and what is written down is never less than it has used nor too
// much more; if nobody allows it any, packets are dropped under a name, and
// go again when somebody does.
func TestProtocolLeashMoves(t *testing.T) {
	defer ipsec.SetLeash(64)()
	add, dir := withPool(t, 1), t.TempDir()
	s := newSite(t, func(o *fastpath.Options) {
		o.StateDir = dir
		add(o)
	})
	out, _ := s.tunnel(false, asProtocol)
	n := 0
	send := func(packets, passes int) {
		t.Helper()
		var p [][]byte
		for range packets {
			p = append(p, outgoing(false, 100).IP())
		}
		got := s.through("lan", "wan", frames(lanMAC, hostMAC, p)...)
		for _, g := range got {
			if n++; out.must(t, g).seq != uint64(n) {
				t.Fatalf("number %d is due", n)
			}
		}
		if len(got) != passes {
			t.Fatalf("%d of %d packets left, want %d", len(got), packets, passes)
		}
		if x, err := ipsec.ReadSeq(dir, &out.sa); err != nil || x < uint64(n) || x > uint64(n)+64 {
			t.Fatalf("%d is written down, and %d used; %v", x, n, err)
		}
	}
	for range 20 {
		send(40, 40)
		s.Advance(2e6)
	}
	s.Moved("lan rx 800, wan tx 800, sa out packets 800, policy p-out packets 800")
	send(100, 64)
	s.Moved("lan rx 100, wan tx 64, sa out packets 64, policy p-out packets 100, lan drop sal-queue-full 36, sa out drop sal-queue-full 36")
	s.Advance(2e6)
	send(10, 10)
}

// TestProtocolEnds: lifetimes and the end of the numbers, which an engine finds, are told
// of and shown as always.
func TestProtocolEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ipsec.SA)
		passes int
		drop   string
		events []string
	}{
		{"packets", func(a *ipsec.SA) { a.Soft.Packets, a.Hard.Packets = 3, 5 }, 5, "esp-expired", []string{"sa-soft-expired out", "sa-hard-expired out", "sa-soft-expired in", "sa-hard-expired in"}},
		{"bytes", func(a *ipsec.SA) { a.Soft.Bytes, a.Hard.Bytes = 250, 399 }, 3, "esp-expired", []string{"sa-soft-expired out", "sa-soft-expired in"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, withPool(t, 1))
			_, in := s.tunnel(false, asProtocol, c.change)
			s.told()
			got, came := 0, 0
			for range c.passes + 2 {
				got += len(s.through("lan", "wan", frames(lanMAC, hostMAC, [][]byte{outgoing(false, 100).IP()})...))
				s.Advance(2e6)
			}
			for range c.passes + 2 {
				came += len(s.through("wan", "lan", frames(wanMAC, peerMAC, [][]byte{in.send(incoming(false, 100).IP())})...))
				s.Advance(2e6)
			}
			if got != c.passes || came != c.passes {
				t.Errorf("%d packets left, %d came, want %d", got, came, c.passes)
			}
			for _, d := range s.State(&fastpath.Query{Drops: true}).Drops {
				if d.Packets != 0 && (d.Reason != c.drop || d.Packets != 4) {
					t.Errorf("%d packets were dropped: %s", d.Packets, d.Reason)
				}
			}
			told := strings.Join(s.told(), ", ")
			for _, e := range c.events {
				if strings.Count(told, e) != 1 {
					t.Errorf("told of: %s; want %s once", told, e)
				}
			}
		})
	}
}

// TestProtocolLost: the engine is lost with packets in it. Another serves the SAs, which
// go on beyond all numbers that the engine may have given; what was in it is lost under its
// name, nothing comes in twice, and nothing leaves in the clear.
func TestProtocolLost(t *testing.T) {
	e := newPool(t, 1)
	s := newSite(t, func(o *fastpath.Options) { o.Registry.AddDevice(e) })
	out, in := s.tunnel(false, func(a *ipsec.SA) { a.Offload.Mode = "protocol" })
	seen, came := map[uint64]bool{}, map[uint32]bool{}
	most, last, twice := uint64(0), uint64(0), [][]byte{}
	collect := func() {
		t.Helper()
		for _, g := range s.Recv("wan") {
			o := out.must(t, g)
			if seen[o.seq] {
				t.Fatalf("number %d twice", o.seq)
			}
			seen[o.seq], last, most = true, o.seq, max(most, o.seq)
		}
		for _, g := range s.Recv("lan") {
			k := binary.BigEndian.Uint32(g[len(g)-4:])
			if came[k] {
				t.Fatalf("packet %d came twice", k)
			}
			came[k] = true
		}
	}
	sent := 0
	send := func(n int) {
		var p, q [][]byte
		for range n {
			p = append(p, outgoing(false, 1000).IP())
			q = append(q, in.send(last4(incoming(false, 1000).IP(), sent)))
			sent++
		}
		twice = append(twice, q...)
		s.Send("lan", frames(lanMAC, hostMAC, p)...)
		s.Send("wan", frames(wanMAC, peerMAC, q)...)
	}
	send(60)
	s.rest()
	collect()
	if last != 60 || len(came) != 60 {
		t.Fatalf("%d of 60 left, %d came", last, len(came))
	}
	send(100)
	s.E.Turn(0)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	s.rest()
	collect()
	s.Advance(20e6)
	if st := s.sa("out"); st.Engine != "cpu" || st.Mode != "software" {
		t.Fatalf("%s is on %s: %s", st.Name, st.Engine, st.Reason)
	}
	before := most
	send(40)
	s.rest()
	collect()
	if last <= before || last-before < 1<<19 {
		t.Errorf("number %d after %d: that the engine has not used it cannot be known", last, before)
	}
	s.Send("wan", frames(wanMAC, peerMAC, twice)...)
	s.rest()
	collect()
	lost := uint64(0)
	for _, d := range s.State(&fastpath.Query{Drops: true}).Drops {
		switch d.Reason {
		case "sal-device":
			lost = d.Packets
		case "esp-replay", "esp-late", "esp-no-sa":
		default:
			t.Errorf("%d packets were dropped: %s", d.Packets, d.Reason)
		}
	}
	if got := len(seen) + len(came); got < 200 || uint64(got)+lost < uint64(2*sent) {
		t.Errorf("%d packets left, %d came, %d were lost with the engine, of %d", len(seen), len(came), lost, sent)
	}
}

// TestProtocolQuota: what goes through an engine whole uses the quota of its group, in
// both directions, once.
func TestProtocolQuota(t *testing.T) {
	s := newSite(t, withPool(t, 1))
	s.Apply(groups(ipsec.Group{Name: "g", Packets: 40}))
	_, in := s.tunnel(false, asProtocol, inGroup("g"))
	var p, q [][]byte
	for range 100 {
		p = append(p, outgoing(false, 100).IP())
		q = append(q, in.send(incoming(false, 100).IP()))
	}
	left := len(s.through("lan", "wan", frames(lanMAC, hostMAC, p)...))
	came := len(s.through("wan", "lan", frames(wanMAC, peerMAC, q)...))
	if g := s.group("g"); left < 32 || left+came > 50 || g.Packets != uint64(left+came) || g.Dropped != uint64(200-left-came) {
		t.Errorf("%d left, %d came; the group: %+v", left, came, g)
	}
}

// TestProtocolAllocations: packets through an engine whole cost no memory.
func TestProtocolAllocations(t *testing.T) {
	s := newSite(t, withPool(t, 1))
	_, in := s.tunnel(false, asProtocol)
	l, w := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	const n, runs = 32, 20
	lan := testbed.Frame(testbed.MAC(lanMAC), testbed.MAC(hostMAC), outgoing(false, 300).IP())
	var wan [][]byte
	for range (runs + 6) * n {
		wan = append(wan, testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), in.send(incoming(false, 300).IP())))
	}
	one, got := make([]sal.Desc, 1), make([]sal.Desc, 512)
	left, came := 0, 0
	turn := func() {
		for range n {
			for _, x := range []struct {
				p interface {
					Cache() *sal.Cache
					Pool() *sal.Pool
					Send(int, []sal.Desc) int
				}
				frame []byte
			}{{l, lan}, {w, wan[0]}} {
				b, _ := x.p.Cache().Alloc()
				one[0] = sal.MakeDesc(b, sal.Headroom, uint16(len(x.frame)))
				copy(x.p.Pool().Bytes(one[0]), x.frame)
				x.p.Send(0, one)
			}
			wan = wan[1:]
		}
		for to, end := left+n, came+n; left < to || came < end; runtime.Gosched() {
			s.E.Turn(0)
			a, b := w.Recv(got), 0
			w.Cache().FreeDescs(got[:a])
			b = l.Recv(got)
			l.Cache().FreeDescs(got[:b])
			left, came = left+a, came+b
		}
	}
	for range 4 {
		turn()
	}
	if a := testing.AllocsPerRun(runs, turn); a != 0 {
		t.Errorf("%v allocations a turn", a)
	}
}

// TestProtocolRefused: what mode protocol cannot do fails where it is required, and goes
// on in mode crypto, visibly, where it is preferred.
func TestProtocolRefused(t *testing.T) {
	s := newSite(t, withPool(t, 1))
	for why, change := range map[string]func(*ipsec.SA){
		"does not see where a peer is": func(a *ipsec.SA) { a.UDP, a.FollowPeer = ipsec.UDP{Local: 4500, Remote: 40500}, true },
		"does no transport mode": func(a *ipsec.SA) {
			a.Mode = ipsec.Transport
			a.Selector = ipsec.Selector{Local: prefix(own4 + "/32"), Remote: prefix(peer4 + "/32"), Proto: -1}
		},
	} {
		a := testSA("x", sal.Outbound, false)
		change(&a)
		asProtocol(&a)
		if err := s.Try(sas(a)); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "engine pool0") {
			t.Errorf("%v, want %q", err, why)
		}
		a.Offload.Policy = ipsec.Prefer
		s.Apply(sas(a))
		if st := s.sa("x"); st.Mode != "crypto" || st.Engine != "pool0" || st.AsWanted || !strings.Contains(st.Reason, "fallback to crypto") || !strings.Contains(st.Reason, why) {
			t.Errorf("%s on %s: %s", st.Mode, st.Engine, st.Reason)
		}
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"x"}}})
	}
}
