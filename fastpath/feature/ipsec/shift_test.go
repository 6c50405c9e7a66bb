package ipsec_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

func (s *site) operate(what fastpath.Operating, engine, sa string) error {
	return s.E.Operate(context.Background(), &fastpath.Operation{What: what, Engine: engine, SA: sa})
}

func (s *site) migrate(sa, engine string) {
	s.T.Helper()
	if err := s.operate(fastpath.MigrateSA, engine, sa); err != nil {
		s.T.Fatal(err)
	}
}

// engineInfo is a crypto engine as the process tells of it.
func (s *site) engineInfo(name string) fastpath.EngineInfo {
	for _, e := range s.State(&fastpath.Query{Process: true}).Process.Engines {
		if e.Name == name {
			return e
		}
	}
	s.T.Fatalf("no engine %s", name)
	return fastpath.EngineInfo{}
}

// told are the events since the last call, as kind and object.
func (s *site) told() (l []string) {
	for _, e := range s.events() {
		l = append(l, e.Kind.String()+" "+e.Object)
	}
	return l
}

// TestMigrate: SAs go from engine to engine while hundreds of their packets are in
// the one that they leave, many more than the replay window is wide. Nothing is lost,
// nothing comes out of order, and no number is left out or used twice.
func TestMigrate(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s, e := withEngine(t, saltest.Faults{Seed: 3, Delay: 6})
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		n, m := 0, 0
		left, delivered := 0, 0
		collect := func() {
			for _, g := range s.Recv("wan") {
				if o := out.must(t, g); o.seq != uint64(left+1) {
					t.Fatalf("number %d, want %d", o.seq, left+1)
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
		to := [2]string{"card-faulty", "cpu"}
		for round := range 12 {
			for range 3 {
				var p, q [][]byte
				for range 100 {
					p = append(p, last4(outgoing(in6, 120).IP(), n))
					q = append(q, in.send(last4(incoming(in6, 120).IP(), m)))
					n, m = n+1, m+1
				}
				s.Send("lan", frames(lanMAC, hostMAC, p)...)
				s.Send("wan", frames(wanMAC, peerMAC, q)...)
				s.E.Turn(0)
			}
			if in, card := s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight, round%2 == 1; card && in < 100 {
				t.Fatalf("%d packets are in the engine", in)
			}
			s.migrate("out", to[round%2])
			s.migrate("in", to[round%2])
			collect()
			for _, name := range []string{"out", "in"} {
				if st := s.sa(name); st.Engine != to[round%2] || st.Reason != [2]string{"placed by an operator", "as configured: software"}[round%2] {
					t.Fatalf("%s: on %s: %s", name, st.Engine, st.Reason)
				}
			}
			s.E.Turn(0)
			s.settle()
			s.Advance(200e6)
			collect()
		}
		s.settle()
		collect()
		if left != n || delivered != m {
			t.Errorf("%d of %d left, %d of %d were delivered", left, n, delivered, m)
		}
		s.Moved(fmt.Sprintf("lan rx %d, wan tx %[1]d, sa out packets %[1]d, policy p-out packets %[1]d, wan rx %d, lan tx %[2]d, sa in packets %[2]d, policy p-in packets %[2]d", n, m))
		// What was left behind is gone from the engines.
		s.Advance(200e6)
		s.Advance(200e6)
		if k := e.SAs(); k != 0 {
			t.Errorf("%d SAs are still in the card", k)
		}
	})
}

// last4 puts a number at the end of a packet without a checksum.
func last4(ip []byte, n int) []byte {
	binary.BigEndian.PutUint32(ip[len(ip)-4:], uint32(n))
	return ip
}

// TestMigrateRunning is TestMigrate with workers that run, and an SA that they share.
func TestMigrateRunning(t *testing.T) {
	s := newSite(t, func(o *fastpath.Options) {
		o.Manual, o.Now, o.Workers, o.Buffers = false, nil, 2, 16384
		o.Registry.AddDevice(saltest.NewFaulty(cpu.New("card"), saltest.Faults{Delay: 3}))
	})
	migrateRunning(t, s, "card-faulty", true, func(*ipsec.SA) {})
}

// migrateRunning moves SAs between cpu and another engine under traffic. prompt: the
// engine gives back what it has within the time that workers wait for it (followFor), so
// that flows keep their order.
func migrateRunning(t *testing.T, s *site, engine string, prompt bool, change func(*ipsec.SA)) {
	packets := map[[2]int]bool{}
	out, in := s.tunnel(false, change, func(a *ipsec.SA) { a.ReplayWindow = 1024 })
	lan, wan := s.Mem.Peer("lan"), s.Mem.Peer("wan")
	const flows = 16
	var sent, got [flows]int
	seen := map[uint64]bool{}
	inSent, inGot, total, came := 0, 0, 0, 0
	collect := func() {
		for _, g := range wan.Collect(256) {
			if pkt.Ethernet(g).Type() != pkt.TypeIPv4 {
				continue
			}
			o, err := out.open(g[14:])
			if err != nil {
				t.Fatal(err)
			}
			f, k := int(binary.BigEndian.Uint16(o.inner[20:]))-1000, int(binary.BigEndian.Uint32(o.inner[len(o.inner)-4:]))
			if seen[o.seq] || prompt && k != got[f] || packets[[2]int{f, k}] {
				t.Fatalf("flow %d: packet %d with number %d came when %d was due", f, k, o.seq, got[f])
			}
			seen[o.seq], packets[[2]int{f, k}] = true, true
			got[f]++
			came++
		}
		for _, g := range lan.Collect(256) {
			if pkt.Ethernet(g).Type() == pkt.TypeIPv4 {
				inGot++
			}
		}
	}
	traffic := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); runtime.Gosched() {
			for range 8 {
				if total-came > 200 || inSent-inGot > 200 {
					break
				}
				f := total % flows
				p := outgoing(false, 120)
				p.SPort = 1000 + uint16(f)
				k := lan.Inject(frames(lanMAC, hostMAC, [][]byte{last4(p.IP(), sent[f])})...)
				sent[f], total = sent[f]+k, total+k
				inSent += wan.Inject(frames(wanMAC, peerMAC, [][]byte{in.send(incoming(false, 120).IP())})...)
			}
			collect()
		}
	}
	moved := 0
	for round := range 40 {
		for _, sa := range []string{"out", "in"} {
			switch err := s.operate(fastpath.MigrateSA, []string{engine, "cpu"}[round%2], sa); {
			case err == nil:
				moved++
			case !prompt && strings.Contains(err.Error(), "since it failed"): // its thread had no processor
			case !strings.Contains(err.Error(), "in a moment"):
				t.Fatal(err)
			}
		}
		traffic(8 * time.Millisecond)
	}
	// lost is what was in an engine that the watchdog has found wanting: one whose thread
	// had no processor for a while, on a machine that is short of them.
	lost := func() (n int) {
		if !prompt && s.engineInfo(engine).Trips > 0 {
			for _, name := range []string{"out", "in"} {
				for _, e := range s.sa(name).Errors {
					if e.Reason == "sal-device" {
						n += int(e.Packets)
					}
				}
			}
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); came+inGot+lost() < total+inSent && time.Now().Before(end); runtime.Gosched() {
		collect()
	}
	for _, d := range s.State(&fastpath.Query{Drops: true}).Drops {
		if d.Reason != "sal-device" || int(d.Packets) != lost() {
			t.Errorf("%d packets were dropped: %s", d.Packets, d.Reason)
		}
	}
	if came+inGot+lost() != total+inSent || moved < 10 {
		t.Errorf("%d of %d left, %d of %d were delivered; %d moves", came, total, inGot, inSent, moved)
	}
	t.Logf("%d packets out, %d in, %d moves", total, inSent, moved)
}

// TestOperateRefused: what cannot be is refused, with the object, and changes nothing.
func TestOperateRefused(t *testing.T) {
	s, _ := withEngine(t, saltest.Faults{})
	out, _ := s.tunnel(false, func(a *ipsec.SA) {
		if a.Direction == sal.Outbound {
			a.Offload = ipsec.Offload{Mode: "crypto", Policy: ipsec.Require}
		}
	})
	for _, c := range []struct {
		what        fastpath.Operating
		engine, sa  string
		object, why string
	}{
		{fastpath.MigrateSA, "cpu", "nobody", "nobody", `there is no SA "nobody"`},
		{fastpath.MigrateSA, "gpu", "out", "gpu", `there is no engine "gpu"`},
		{fastpath.MigrateSA, "cpu", "out", "out", "it requires mode crypto"},
		{fastpath.DrainEngine, "gpu", "", "gpu", `there is no engine "gpu"`},
		{fastpath.UndrainEngine, "gpu", "", "gpu", `there is no engine "gpu"`},
		{fastpath.DrainEngine, "card-faulty", "", "card-faulty", `SA "out" cannot leave it: offload is required, and engine card-faulty is drained`},
	} {
		err := s.operate(c.what, c.engine, c.sa)
		if r := (*fastpath.Refusal)(nil); !errors.As(err, &r) || r.Object != c.object || !strings.Contains(r.Reason, c.why) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := s.operate(99, "cpu", "out"); err == nil {
		t.Error("operation 99 was done")
	}
	if st := s.engineInfo("card-faulty"); st.Drained || st.SAs != 1 {
		t.Errorf("%+v", st)
	}
	out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{outgoing(false, 100).IP()}), "wan")[0])
}

// TestDrain: the SAs of an engine leave it and come back; those that an operator has
// placed stay where they are.
func TestDrain(t *testing.T) {
	s, _ := withEngine(t, saltest.Faults{Delay: 2})
	out, in := s.tunnel(false, onCard)
	s.told()
	p, b := outgoing(false, 100).IP(), incoming(false, 100).IP()
	pass := func(engine string) {
		t.Helper()
		if st := s.sa("out"); st.Engine != engine {
			t.Fatalf("on %s: %s", st.Engine, st.Reason)
		}
		out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
		s.delivered(s.exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.send(b)}), "lan"), hop(b))
		s.Advance(200e6)
	}
	drain := func(what fastpath.Operating, engine string) {
		t.Helper()
		if err := s.operate(what, engine, ""); err != nil {
			t.Fatal(err)
		}
	}
	pass("card-faulty")
	drain(fastpath.DrainEngine, "card-faulty")
	pass("cpu")
	if st := s.engineInfo("card-faulty"); !st.Drained || st.SAs != 0 {
		t.Errorf("%+v", st)
	}
	if l := strings.Join(s.told(), ", "); strings.Count(l, "sa-migrated") != 2 || strings.Count(l, "offload-not-met") != 2 {
		t.Errorf("told: %s", l)
	}
	// None is placed there, and what requires it is refused.
	must := testSA("must", sal.Outbound, false)
	must.SPI, must.ReqID, must.Key = 0x9000, 90, key(77, 20)
	must.Offload = ipsec.Offload{Mode: "crypto", Policy: ipsec.Require}
	s.refusedSA("must", "Offload", "engine card-faulty is drained", sas(must))
	pass("cpu")
	drain(fastpath.UndrainEngine, "card-faulty")
	pass("card-faulty")
	// An operator's placement lasts, also when the SA is set again with the same
	// Offload, and ends when it is set with another or the engine is drained.
	s.migrate("out", "cpu")
	s.Advance(200e6)
	pass("cpu")
	again := out.sa
	again.Hard.Packets = 1 << 40
	s.Apply(sas(again))
	pass("cpu")
	drain(fastpath.UndrainEngine, "card-faulty") // of no effect
	pass("cpu")
	again.Offload.Engine = "card-faulty"
	s.Apply(sas(again))
	pass("card-faulty")
}

// TestEngineDies: the SAs of an engine that is lost go to another, unless they require
// it, and return when it is back. What was in it is counted under its name, its numbers
// are not used again, and nothing is in clear.
func TestEngineDies(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, policy := range []ipsec.OffloadPolicy{ipsec.Prefer, ipsec.Require} {
			s, e := withEngine(t, saltest.Faults{Delay: 3})
			out, in := s.tunnel(in6, func(a *ipsec.SA) {
				onCard(a)
				a.Offload.Policy = policy
				if out6 {
					over6(a)
				}
			})
			p, b := outgoing(in6, 100).IP(), incoming(in6, 100).IP()
			out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
			s.Forget()
			s.told()

			// It dies with packets inside.
			e.Set(saltest.Faults{Delay: 1 << 30})
			s.Send("lan", frames(lanMAC, hostMAC, [][]byte{p, p})...)
			s.Send("wan", frames(wanMAC, peerMAC, [][]byte{in.send(b)})...)
			s.E.Turn(0)
			if n := s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight; n != 3 {
				t.Fatalf("%d buffers in the engine", n)
			}
			e.Die()
			s.settle()
			s.silent(nil)
			s.Moved("lan rx 2, wan rx 1, lan drop sal-device 2, wan drop sal-device 1, sa out drop sal-device 2, sa in drop sal-device 1, policy p-out packets 2")
			seq := uint64(4)
			pass := func(engine string) {
				t.Helper()
				if o := out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0]); o.seq != seq {
					t.Errorf("number %d, want %d", o.seq, seq)
				}
				seq++
				s.delivered(s.exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.send(b)}), "lan"), hop(b))
				s.Moved("lan rx 1, wan tx 1, sa out packets 1, policy p-out packets 1, wan rx 1, lan tx 1, sa in packets 1, policy p-in packets 1")
				if st := s.sa("in"); st.Engine != engine {
					t.Errorf("on %s: %s", st.Engine, st.Reason)
				}
			}
			if policy == ipsec.Require {
				s.silent(s.fromHost(p))
				s.silent(s.fromPeer(in.send(b)))
				s.Moved("lan rx 1, wan rx 1, lan drop sal-device 1, wan drop sal-device 1, sa out drop sal-device 1, sa in drop sal-device 1, policy p-out packets 1")
				if st := s.sa("out"); !strings.Contains(st.Reason, "carries nothing: engine card-faulty was lost: offload is required, and engine card-faulty is not ready") {
					t.Errorf("reason: %s", st.Reason)
				}
				s.refusedSA("out", "Offload", "engine card-faulty is not ready", sas(out.sa))
				if l := strings.Join(s.told(), ", "); l != "engine-lost card-faulty" {
					t.Errorf("told: %s", l)
				}
			} else {
				pass("cpu")
				if st := s.sa("out"); !strings.Contains(st.Reason, "fallback to software: engine card-faulty is not ready") {
					t.Errorf("reason: %s", st.Reason)
				}
				if l := strings.Join(s.told(), ", "); strings.Count(l, "sa-migrated") != 2 || strings.Count(l, "offload-not-met") != 2 || !strings.Contains(l, "engine-lost card-faulty") {
					t.Errorf("told: %s", l)
				}
			}
			if st := s.engineInfo("card-faulty"); st.Losses != 1 || !st.Failed || st.Ready || st.Errors != 3 || st.LastFailure != "it is gone" {
				t.Errorf("%+v", st)
			}
			// It is back, with room for other SAs, whose handles are those that ours had.
			e.Set(saltest.Faults{})
			e.Revive()
			other := testSA("other", sal.Outbound, in6)
			other.SPI, other.ReqID = 0x7000, 70
			onCard(&other)
			s.Apply(sas(other))
			s.Forget()
			pass("card-faulty")
			if l := strings.Join(s.told(), ", "); !strings.Contains(l, "engine-back card-faulty") {
				t.Errorf("told: %s", l)
			}
			if st := s.engineInfo("card-faulty"); st.Failed || !st.Ready || st.SAs != 3 {
				t.Errorf("%+v", st)
			}
		}
	})
}

// TestEngineStuck: an engine that gives nothing back, and one that gives back failures,
// lose their SAs within 100 ms, and get them again when they have proved that they work.
func TestEngineStuck(t *testing.T) {
	for _, c := range []struct {
		faults saltest.Faults
		why    string
	}{
		{saltest.Faults{Delay: 1 << 30}, "it has given nothing back for"},
		{saltest.Faults{Lose: 1}, "jobs have failed"},
	} {
		s, e := withEngine(t, saltest.Faults{})
		out, in := s.tunnel(false, onCard)
		p := outgoing(false, 100).IP()
		var l [][]byte
		for range 40 {
			l = append(l, p)
		}
		out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
		s.Advance(100e6)
		e.Set(c.faults)
		since, lost := 0, 0
		for ; s.sa("out").Engine != "cpu"; since++ {
			if since == 20 {
				t.Fatal("it was not noticed")
			}
			s.Send("lan", frames(lanMAC, hostMAC, l)...)
			lost += len(l)
			for range 4 {
				s.E.Turn(0)
			}
			s.Advance(10e6)
		}
		if since > 10 {
			t.Errorf("%s: noticed after %d ms", c.why, 10*since)
		}
		if st := s.engineInfo("card-faulty"); st.Trips != 1 || !st.Failed || !strings.Contains(st.LastFailure, c.why) {
			t.Errorf("%+v", st)
		}
		o := out.must(t, s.Exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0][0])
		if o.seq != uint64(lost+2) {
			t.Errorf("number %d, want %d", o.seq, lost+2)
		}
		b := incoming(false, 100).IP()
		s.delivered(s.fromPeer(in.send(b)), hop(b))
		// What it has it must give back first.
		for range 5 {
			s.Advance(500e6)
		}
		stuck := c.faults.Delay > 0
		if st := s.engineInfo("card-faulty"); st.Failed != stuck {
			t.Errorf("%+v", st)
		}
		e.Set(saltest.Faults{})
		if stuck {
			e.Die()
			e.Revive()
		}
		s.settle()
		for range 5 {
			s.Advance(500e6)
		}
		if st := s.sa("out"); st.Engine != "card-faulty" {
			t.Errorf("on %s: %s", st.Engine, st.Reason)
		}
		o = out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
		if o.seq != uint64(lost+3) {
			t.Errorf("number %d, want %d", o.seq, lost+3)
		}
		var dropped uint64
		for _, x := range s.sa("out").Errors {
			if dropped += x.Packets; x.Reason != "sal-device" {
				t.Errorf("%d dropped: %s", x.Packets, x.Reason)
			}
		}
		if dropped != uint64(lost) {
			t.Errorf("%d dropped, want %d", dropped, lost)
		}
	}
}

// TestEngineLate: what an engine gives back in order, but after it was found to have
// failed, is lost: packets that were sent later have overtaken it.
func TestEngineLate(t *testing.T) {
	s, e := withEngine(t, saltest.Faults{})
	out, in := s.tunnel(false, onCard)
	p, b := outgoing(false, 100).IP(), incoming(false, 100).IP()
	out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
	s.Advance(100e6)
	e.Set(saltest.Faults{Delay: 1 << 14})
	lost := [2]int{}
	for s.sa("out").Engine != "cpu" {
		s.Send("lan", frames(lanMAC, hostMAC, [][]byte{p, p, p, p})...)
		s.Send("wan", frames(wanMAC, peerMAC, [][]byte{in.send(b), in.send(b)})...)
		for range 4 {
			s.E.Turn(0)
		}
		lost[0], lost[1] = lost[0]+4, lost[1]+2
		lost[0], lost[1] = lost[0]-len(s.Recv("wan")), lost[1]-len(s.Recv("lan"))
		s.Advance(10e6)
	}
	if lost[0] < 4 || lost[1] < 2 {
		t.Fatalf("%v packets were in the engine", lost)
	}
	s.Advance(100e6)
	e.Set(saltest.Faults{})
	for n := 0; s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight > 0; n++ {
		if n == 1<<15 {
			t.Fatal("the engine keeps packets")
		}
		s.E.Turn(0)
	}
	s.silent(append(s.Recv("wan"), s.Recv("lan")...))
	for i, name := range []string{"out", "in"} {
		if st := s.sa(name); len(st.Errors) != 1 || st.Errors[0] != (ipsec.Error{Reason: "sal-device", Packets: uint64(lost[i])}) {
			t.Errorf("%s: %v were dropped, want %d under sal-device", name, st.Errors, lost[i])
		}
	}
	s.Advance(500e6)
	s.Advance(500e6)
	if st := s.sa("out"); st.Engine != "card-faulty" {
		t.Errorf("on %s: %s", st.Engine, st.Reason)
	}
	o := out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
	if st := s.sa("out"); o.seq != st.Seq || st.Packets+uint64(lost[0]) != st.Seq {
		t.Errorf("number %d after %d packets and %d lost: %+v", o.seq, st.Packets, lost[0], st)
	}
	s.delivered(s.exchange("wan", frames(wanMAC, peerMAC, [][]byte{in.send(b)}), "lan"), hop(b))
}

// TestEngineDiesInCommit: an engine dies between Prepare and Publish of a change that
// leaves an SA in it, and of one that places a new one there.
func TestEngineDiesInCommit(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, step := range []bool{false, true} {
			s, e := withEngine(t, saltest.Faults{})
			out, _ := s.tunnel(false, onCard)
			p := outgoing(false, 100).IP()
			out.must(t, s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{p}), "wan")[0])
			again := out.sa
			again.Hard.Packets = 1 << 40
			other := testSA("other", sal.Outbound, false)
			other.SPI, other.ReqID, other.Key = 0x7000, 70, key(78, 20)
			other.Selector.Remote = prefix("10.3.0.0/16")
			onCard(&other)
			ch := sas(again, other)
			ch.IPsec.SetPolicy = []ipsec.Policy{protect(&other)}
			ticket, err := s.E.Prepare(context.Background(), ch)
			if err != nil {
				t.Fatal(err)
			}
			e.Die()
			if back {
				e.Revive()
			}
			if step {
				s.Advance(100e6)
			}
			if err := s.E.Publish(context.Background(), ticket); err != nil {
				t.Fatal(err)
			}
			s.Advance(100e6)
			want := map[bool]string{false: "cpu", true: "card-faulty"}[back]
			for name, dst := range map[string]string{"out": remote4, "other": "10.3.0.1"} {
				if st := s.sa(name); st.Engine != want {
					t.Errorf("back %v, step %v: %s on %s: %s", back, step, name, st.Engine, st.Reason)
				}
				x := outgoing(false, 100)
				x.Dst = dst
				if got := s.exchange("lan", frames(lanMAC, hostMAC, [][]byte{x.IP()}), "wan"); len(got) != 1 || bytes.Contains(got[0], x.IP()[20:]) {
					t.Errorf("back %v, step %v: %s: %x", back, step, name, got)
				}
			}
		}
	}
}

// TestManyMove: thousands of SAs leave a lost engine in one step, and the log of events
// has room for others.
func TestManyMove(t *testing.T) {
	const n = 3000
	e := saltest.NewFaulty(cpu.New("card"), saltest.Faults{})
	s := newSite(t, func(o *fastpath.Options) {
		o.MaxSAs = n + 100
		o.Registry.AddDevice(e)
	})
	var l []ipsec.SA
	for i := range n {
		a := testSA(fmt.Sprint("x", i), sal.Direction(i%2), false)
		a.SPI, a.Key, a.ReqID = 0x20000+uint32(i), key(5000+i, 20), 1000+uint64(i)
		onCard(&a)
		l = append(l, a)
	}
	s.Apply(sas(l...))
	s.events()
	for round := range 3 {
		e.Die()
		start := time.Now()
		s.E.Step()
		t.Logf("%d SAs moved in %v", n, time.Since(start))
		if a, b := s.engineInfo("card-faulty").SAs, s.engineInfo("cpu").SAs; a != 0 || b != n {
			t.Fatalf("round %d: %d SAs on the card, %d on the CPU", round, a, b)
		}
		s.Advance(200e6)
		e.Revive()
		s.Advance(200e6)
		s.Advance(200e6)
		if a := s.engineInfo("card-faulty").SAs; a != n {
			t.Fatalf("round %d: %d SAs on the card", round, a)
		}
		if k := e.SAs(); k != n {
			t.Fatalf("round %d: the card has %d SAs", round, k)
		}
	}
	told := s.events()
	if k := len(told); k > 1000 {
		t.Errorf("%d events", k)
	}
	var alike uint64
	for _, x := range told {
		if x.Kind == event.SAMigrated {
			alike += x.Alike + 1
		}
	}
	if alike == 0 {
		t.Error("no SA has moved")
	}
}

// TestAlarms: what nobody can have sent is told of when there is much of it, and not
// for each packet.
func TestAlarms(t *testing.T) {
	s := newSite(t, nil)
	_, in := s.tunnel(false)
	s.Apply(&fastpath.Change{Global: &fastpath.Global{Alarms: ipsec.Alarms{BadICV: 5, Replay: 10}}})
	s.Advance(1100e6)
	s.told()
	b := in.send(incoming(false, 100).IP())
	s.fromPeer(b)
	bad := func(n int) (l [][]byte) {
		for range n {
			x := bytes.Clone(in.send(incoming(false, 100).IP()))
			x[len(x)-1] ^= 1
			l = append(l, x)
		}
		return l
	}
	s.fromPeer(bad(4)...)
	for range 9 {
		s.fromPeer(b)
	}
	s.Advance(1e9)
	if l := s.told(); len(l) != 0 {
		t.Errorf("told %v", l)
	}
	for second := range 12 {
		s.fromPeer(bad(6)...)
		for range 11 {
			s.fromPeer(b)
		}
		s.Advance(1e9)
		want := ""
		if second == 0 || second == 10 {
			want = "icv-alarm in 6, replay-alarm in 11"
		}
		var got []string
		for _, e := range s.events() {
			got = append(got, fmt.Sprint(e.Kind, " ", e.Object, " ", e.Count))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("second %d: told %v", second, got)
		}
	}
	s.Forget()
	s.Apply(&fastpath.Change{Global: &fastpath.Global{}})
	s.fromPeer(bad(100)...)
	s.Advance(20e9)
	if l := s.told(); len(l) != 0 {
		t.Errorf("told %v", l)
	}
}

// TestSeqReports: an SA tells each time that it has used as many numbers again as it is
// to report, in either direction, and whoever gives them; not what an earlier
// configuration or process had used.
func TestSeqReports(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false)
	pass := func(n int) {
		for range n {
			out.must(t, s.fromHost(outgoing(false, 100).IP())[0])
			s.fromPeer(in.send(incoming(false, 100).IP()))
		}
	}
	told := func() (l []string) {
		s.Advance(1e9)
		for _, e := range s.events() {
			if e.Kind == event.SASeqReport {
				l = append(l, fmt.Sprint(e.Object, " ", e.SA.Seq))
			}
		}
		slices.Sort(l)
		return l
	}
	expect := func(want ...string) {
		t.Helper()
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	pass(15)
	expect() // nobody has asked
	ask := func(n uint64) {
		o, i := testSA("out", sal.Outbound, false), testSA("in", sal.Inbound, false)
		o.SeqReport, i.SeqReport = n, n
		s.Apply(sas(o, i))
	}
	ask(10)
	expect()
	pass(4)
	expect()
	pass(1)
	expect("in 20", "out 20")
	pass(9)
	expect()
	pass(12)
	expect("in 41", "out 41") // twice ten since the look before, told of once
	ask(0)
	pass(20)
	expect()
}

// TestMoveByCommit: a commit that has SAs served elsewhere loses nothing of what is
// under way in the engine that they leave.
func TestMoveByCommit(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s, _ := withEngine(t, saltest.Faults{Delay: 6})
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			onCard(a)
			if out6 {
				over6(a)
			}
		})
		var p, q [][]byte
		for i := range 60 {
			p = append(p, last4(outgoing(in6, 120).IP(), i))
			q = append(q, in.send(last4(incoming(in6, 120).IP(), i)))
		}
		s.Send("lan", frames(lanMAC, hostMAC, p)...)
		s.Send("wan", frames(wanMAC, peerMAC, q)...)
		s.E.Turn(0)
		if n := s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight; n < 100 {
			t.Fatalf("%d packets are in the engine", n)
		}
		a, b := out.sa, in.sa
		a.Offload, b.Offload = ipsec.Offload{}, ipsec.Offload{}
		s.Apply(sas(a, b))
		for range 20 { // workers pass, while the engine takes its time
			s.E.Step()
			s.E.Turn(0)
		}
		s.settle()
		if x, y := s.sa("out"), s.sa("in"); x.Engine != "cpu" || y.Engine != "cpu" {
			t.Errorf("on %s and %s", x.Engine, y.Engine)
		}
		if n, m := len(s.Recv("wan")), len(s.Recv("lan")); n != len(p) || m != len(q) {
			t.Errorf("%d of %d left, %d of %d were delivered: %v", n, len(p), m, len(q), s.died())
		}
	})
}
