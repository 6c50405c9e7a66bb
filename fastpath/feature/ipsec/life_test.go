package ipsec_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// lives checks the next packet of an outbound SA and of an inbound one.
func (s *site) lives(out, in *peer, number uint64) {
	s.T.Helper()
	v6 := out.sa.Selector.Local.Addr().Is6()
	p := outgoing(v6, 100).IP()
	got := s.fromHost(p)
	if len(got) != 1 {
		s.T.Fatalf("%d packets left", len(got))
	}
	if o := out.must(s.T, got[0]); o.seq != number || !bytes.Equal(o.inner, hop(p)) {
		s.T.Fatalf("number %d, want %d", o.seq, number)
	}
	b := incoming(v6, 100).IP()
	s.delivered(s.fromPeer(in.send(b)), hop(b))
}

// refusedSA commits SAs that must be refused, and checks that nothing changed.
func (s *site) refusedSA(name, field, word string, c *fastpath.Change) {
	s.T.Helper()
	before := fmt.Sprint(s.State(&fastpath.Query{SAs: []string{}, Policies: []string{}}))
	err := s.Try(c)
	if err == nil || !strings.Contains(err.Error(), word) {
		s.T.Errorf("%q for %s %s, want %q in it", err, name, field, word)
	} else {
		s.Refused(c, name, field)
	}
	if after := fmt.Sprint(s.State(&fastpath.Query{SAs: []string{}, Policies: []string{}})); after != before {
		s.T.Errorf("a refused change has changed\n%s to\n%s", before, after)
	}
}

// TestSetAgain: setting an SA again keeps its numbers, window and counters as
// long as its key is the same.
func TestSetAgain(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := newSite(t, nil)
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			if out6 {
				over6(a)
			}
		})
		n := uint64(0)
		next := func() { t.Helper(); n++; s.lives(out, in, n) }
		next()
		added := s.sa("out").AddedAt

		// The same again.
		s.Apply(sas(out.sa, in.sa))
		next()
		// With something else about it.
		out.sa.ReqID, in.sa.ReqID = 500, 501
		po, pi := protect(&out.sa), protect(&in.sa)
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{out.sa, in.sa}, SetPolicy: []ipsec.Policy{po, pi}}})
		next()
		// Under other names, one way and back, in one change each.
		for _, names := range [][2]string{{"x", "y"}, {"y", "x"}, {"out", "in"}} {
			del := []string{out.sa.Name, in.sa.Name}
			out.sa.Name, in.sa.Name = names[0], names[1]
			s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: del, SetSA: []ipsec.SA{out.sa, in.sa}}})
			next()
		}
		// Deleted, then there again.
		s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "in"}}})
		s.silent(s.fromHost(outgoing(in6, 100).IP()))
		s.silent(s.fromPeer(in.send(incoming(in6, 100).IP())))
		for range 10 {
			s.Advance(100e6)
		}
		s.Apply(sas(out.sa, in.sa))
		next()
		// The other kind of numbers.
		out.sa.ESN, in.sa.ESN = true, true
		s.Apply(sas(out.sa, in.sa))
		next()
		s.silent(s.fromPeer(in.sendAs(n-1, incoming(in6, 100).IP()))) // seen before all that
		// Another SPI under the same key: nonces would repeat if it began anew.
		out.sa.SPI = 0x7777
		s.Apply(sas(out.sa))
		next()
		if st := s.sa("out"); st.Packets != n || st.AddedAt != added {
			t.Errorf("%d packets since %d, want %d since %d", st.Packets, st.AddedAt, n, added)
		}
		// The peer's new SPI has a window of its own.
		in.sa.SPI, in.seq = 0x7778, 0
		s.Apply(sas(in.sa))
		next()
		// Another key.
		out.sa.Key, in.sa.Key = key(991, 36), key(992, 36)
		s.Apply(sas(out.sa, in.sa))
		out, in, n = peerOf(out.sa), peerOf(in.sa), 0
		next()
		if st := s.sa("out"); st.Packets != 1 {
			t.Errorf("%d packets under a new key", st.Packets)
		}
		// The first key is not forgotten.
		s.Forget()
	})
}

// TestKeysSwap: two SAs exchange their keys in one change.
func TestKeysSwap(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false)
	other := testSA("other", sal.Outbound, true)
	po := protect(&other)
	other.ReqID, po.ReqID, other.SPI = 9, 9, 0x2000
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{other}, SetPolicy: []ipsec.Policy{po}}})
	s.lives(out, in, 1)
	s.lives(out, in, 2)
	a, b := out.sa, other
	a.Key, b.Key = b.Key, a.Key
	s.Apply(sas(a, b))
	pa, pb := peerOf(a), peerOf(b)
	s.lives(pa, in, 1)
	if o := pb.must(t, s.fromHost(outgoing(true, 100).IP())[0]); o.seq != 3 {
		t.Errorf("number %d under the first key, want 3", o.seq)
	}
}

// TestNewestFirst: a new SA of the same ReqID takes over at once; when it is
// gone the one before is used again.
func TestNewestFirst(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false)
	s.lives(out, in, 1)
	out2, in2 := out.sa, in.sa
	out2.Name, out2.SPI, out2.Key = "out2", 0x3000, key(300, 20)
	in2.Name, in2.SPI, in2.Key = "in2", 0x3001, key(301, 36)
	s.Apply(sas(out2, in2))
	s.lives(peerOf(out2), in, 1) // the peer has not changed over yet
	p2 := peerOf(in2)
	b := incoming(false, 99).IP()
	s.delivered(s.fromPeer(p2.send(b)), hop(b))
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out2"}}})
	s.lives(out, in, 2)
	s.Apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "in"}}})
	s.silent(s.fromHost(outgoing(false, 100).IP()))
	s.silent(s.fromPeer(in.send(b)))
	s.delivered(s.fromPeer(p2.send(b)), hop(b))
}

func TestRefusals(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false)
	with := func(f func(a *ipsec.SA)) ipsec.SA {
		a := testSA("new", sal.Outbound, false)
		a.SPI, a.Key = 0x5000, key(5, 20)
		f(&a)
		return a
	}
	for _, c := range []struct {
		field, word string
		a           ipsec.SA
	}{
		{"SPI", "reserved", with(func(a *ipsec.SA) { a.SPI = 255 })},
		{"SPI", `"in"`, with(func(a *ipsec.SA) { a.Direction, a.SPI = sal.Inbound, in.sa.SPI })},
		{"Algorithm", "not built", with(func(a *ipsec.SA) { a.Algorithm = 3 })},
		{"Key", "octets", with(func(a *ipsec.SA) { a.Key = key(1, 24) })},
		{"Key", `"out"`, with(func(a *ipsec.SA) { a.Key = out.sa.Key })},
		{"ReplayWindow", "32 to 8192", with(func(a *ipsec.SA) { a.Direction, a.ReplayWindow = sal.Inbound, 31 })},
		{"ReplayWindow", "extended", with(func(a *ipsec.SA) { a.Direction, a.ReplayWindow, a.ESN = sal.Inbound, 0, true })},
		{"ReplayWindow", "32 to 8192", with(func(a *ipsec.SA) { a.Direction, a.ReplayWindow = sal.Inbound, 8193 })},
		{"Remote", "families", with(func(a *ipsec.SA) { a.Remote = addr(peer6) })},
		{"Remote", "cannot be", with(func(a *ipsec.SA) { a.Remote = addr("224.0.0.1") })},
		{"Local", "cannot be", with(func(a *ipsec.SA) { a.Local = addr("::ffff:192.0.2.1") })},
		{"Soft.Time", "after the hard one", with(func(a *ipsec.SA) { a.Soft.Time, a.Hard.Time = 11, 10 })},
		{"Soft.Bytes", "after the hard one", with(func(a *ipsec.SA) { a.Soft.Bytes, a.Hard.Bytes = 1<<40, 10 })},
		{"Soft.Packets", "after the hard one", with(func(a *ipsec.SA) { a.Soft.Packets, a.Hard.Packets = 11, 10 })},
		{"Soft.Idle", "after the hard one", with(func(a *ipsec.SA) { a.Soft.Idle, a.Hard.Idle = 11, 10 })},
		{"SoftAction", "not built", with(func(a *ipsec.SA) { a.SoftAction = 2 })},
		{"Selector", "host bits", with(func(a *ipsec.SA) { a.Selector.Local = prefix("10.1.0.1/24") })},
		{"Offload", "does not offer mode full", with(func(a *ipsec.SA) { a.Offload = ipsec.Offload{Mode: "full", Policy: ipsec.Require} })},
		{"Offload", `no engine "nobody"`, with(func(a *ipsec.SA) { a.Offload = ipsec.Offload{Engine: "nobody", Policy: ipsec.Require} })},
	} {
		s.refusedSA("new", c.field, c.word, sas(c.a))
	}
	ok := with(func(a *ipsec.SA) {})
	s.refusedSA("new", "", "twice", sas(ok, ok))
	twin := ok
	twin.Name, twin.SPI = "twin", ok.SPI+1
	s.refusedSA("twin", "Key", `"new"`, sas(ok, twin))
	s.refusedSA("gone", "", "no such SA", &fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"gone"}}})
	s.refusedSA("out", "", "twice", &fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{"out", "out"}}})
	s.refusedSA("gone", "", "no such SPD entry", &fastpath.Change{IPsec: ipsec.Change{DeletePolicy: []string{"gone"}}})
	s.refusedSA("p-out", "", "twice", &fastpath.Change{IPsec: ipsec.Change{DeletePolicy: []string{"p-out", "p-out"}}})
	p := protect(&ok)
	s.refusedSA("p-new", "", "twice", policies(p, p))
	p.LocalTunnel = addr(own4)
	s.refusedSA("p-new", "LocalTunnel", "both", policies(p))
	p.RemoteTunnel = addr(peer6)
	s.refusedSA("p-new", "RemoteTunnel", "families", policies(p))
	p.Action, p.RemoteTunnel = 9, addr(peer4)
	s.refusedSA("p-new", "Action", "does not exist", policies(p))
	// What comes late in a change undoes what came before it.
	bad := with(func(a *ipsec.SA) { a.Name, a.SPI = "bad", 1 })
	for range 2000 { // far more than there are slots and handles
		if s.Try(sas(ok, bad)) == nil {
			t.Fatal("accepted")
		}
	}
	s.lives(out, in, 1)
	s.Apply(sas(ok))
}

// TestPrefer: what cannot be had is done in software, and says so.
func TestPrefer(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false, func(a *ipsec.SA) { a.Offload.Mode = "full" })
	s.lives(out, in, 1)
	if st := s.sa("out"); st.Mode != "software" || st.Engine != "cpu" || !strings.Contains(st.Reason, "fallback to software: engine cpu does not offer mode full") {
		t.Errorf("placed %s on %s: %s", st.Mode, st.Engine, st.Reason)
	}
}

// TestAborted: a prepared change that is given up leaves no trace.
func TestAborted(t *testing.T) {
	s := newSite(t, nil)
	out, in := s.tunnel(false)
	s.lives(out, in, 1)
	a := out.sa
	a.Key = key(50, 20)
	for range 3000 {
		ticket, err := s.E.Prepare(t.Context(), &fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{a, in.sa}, DeletePolicy: []string{"p-out"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.E.Abort(t.Context(), ticket); err != nil {
			t.Fatal(err)
		}
	}
	s.lives(out, in, 2)
}

// TestManyChanges replaces all SAs again and again: handles, slots and the table
// of SPIs hold out, keys that are long gone give way.
func TestManyChanges(t *testing.T) {
	s := newSite(t, func(o *fastpath.Options) { o.MaxSAs = 128 })
	out, in := s.tunnel(false)
	for round := range 150 {
		var l []ipsec.SA
		for i := range 60 {
			a := testSA(fmt.Sprint("x", i), sal.Inbound, false)
			a.SPI, a.Key = 0x10000+uint32(round*60+i), key(1000+round*60+i, 20)
			l = append(l, a)
		}
		s.Apply(sas(l...))
		if round%10 == 0 {
			s.lives(out, in, uint64(round/10+1))
		}
		q := peerOf(l[round%60])
		b := incoming(false, 100).IP()
		s.delivered(s.fromPeer(q.send(b)), hop(b))
	}
	s.lives(out, in, 16)
}
