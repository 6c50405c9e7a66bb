package ipsec_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/ipsec"
)

// events takes what has happened since it was asked last.
func (s *site) events() (l []event.Event) {
	s.T.Helper()
	for {
		ctx, stop := context.WithTimeout(context.Background(), time.Millisecond)
		b, err := s.E.Events(ctx, s.heard)
		stop()
		if err != nil {
			return l
		}
		l = append(l, b.Events...)
		s.heard = b.Events[len(b.Events)-1].Number
	}
}

// heardOf checks that just these events have come: kind, object and cause.
func (s *site) heardOf(want ...string) {
	s.T.Helper()
	var got []string
	for _, e := range s.events() {
		if e.SA == nil {
			continue // ports
		}
		got = append(got, strings.TrimSpace(fmt.Sprint(e.Kind, " ", e.Object, " ", e.SA.Cause)))
	}
	if !slices.Equal(got, want) {
		s.T.Fatalf("events %q, want %q", got, want)
	}
}

// TestLifetimes goes through each lifetime in both directions: to the soft limit
// and the hard one, exactly, and to what comes then.
func TestLifetimes(t *testing.T) {
	const size = 100
	for _, c := range []struct {
		name       string
		soft, hard ipsec.Lifetime
		// softAt and hardAt are the packets, one a second, with which it happens;
		// of what is counted in seconds, before them.
		softAt, hardAt int
		cause          string
		timed          bool
	}{
		{"packets", ipsec.Lifetime{Packets: 3}, ipsec.Lifetime{Packets: 5}, 3, 5, "packets", false},
		{"bytes", ipsec.Lifetime{Bytes: 3*size - 1}, ipsec.Lifetime{Bytes: 5 * size}, 3, 5, "bytes", false},
		{"bytes that do not fit", ipsec.Lifetime{Bytes: 3*size + 1}, ipsec.Lifetime{Bytes: 6*size - 1}, 4, 5, "bytes", false},
		{"time", ipsec.Lifetime{Time: 3}, ipsec.Lifetime{Time: 5}, 3, 5, "time", true},
	} {
		for _, inbound := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/inbound=%v", c.name, inbound), func(t *testing.T) {
				s := newSite(t, nil)
				out, in := s.tunnel(false, func(a *ipsec.SA) {
					if inbound == (a.Name == "in") {
						a.Soft, a.Hard = c.soft, c.hard
					}
				})
				s.events()
				name := "out"
				packet := func() int { return len(s.fromHost(outgoing(false, size).IP())) }
				if inbound {
					name = "in"
					packet = func() int { return len(s.fromPeer(in.send(incoming(false, size).IP()))) }
				}
				_ = out
				for n := 1; n <= c.hardAt; n++ {
					if packet() != 1 {
						t.Fatalf("packet %d is missing", n)
					}
					if c.timed {
						s.Advance(time.Second - 1)
						s.heardOf()
						s.Advance(1)
					}
					var want []string
					if n == c.softAt {
						want = append(want, "sa-soft-expired "+name+" "+c.cause)
					}
					if n == c.hardAt && c.name != "bytes that do not fit" {
						want = append(want, "sa-hard-expired "+name+" "+c.cause)
					}
					s.heardOf(want...)
					st := s.sa(name)
					if st.Packets != uint64(n) || st.Bytes != uint64(n*size) || st.Ended != (n == c.hardAt && len(want) > 0) {
						t.Fatalf("behind packet %d: %+v", n, st)
					}
				}
				for n := range 3 {
					s.Forget()
					s.silent(nil)
					if packet() != 0 {
						t.Fatal("an SA that has ended carries on")
					}
					port := "lan"
					if inbound {
						port = "wan"
					}
					moved := fmt.Sprintf("%s rx 1, %s drop esp-expired 1, sa %s drop esp-expired 1", port, port, name)
					if !inbound {
						moved += ", policy p-out packets 1"
					}
					s.Moved(moved)
					if n == 0 && c.name == "bytes that do not fit" {
						s.heardOf("sa-hard-expired " + name + " bytes")
					} else {
						s.heardOf()
					}
				}
				st := s.sa(name)
				if !st.Ended || !slices.Equal(st.Expired, []string{"soft-" + c.cause, "hard-" + c.cause}) || !strings.Contains(st.Reason, "lifetime is over") {
					t.Errorf("%+v", st)
				}
				// Longer lifetimes let it go on where it was.
				longer := out.sa
				if inbound {
					longer = in.sa
				}
				longer.Soft, longer.Hard = ipsec.Lifetime{}, ipsec.Lifetime{Packets: 7, Bytes: 7 * size, Time: 100}
				s.Apply(sas(longer))
				s.heardOf()
				for range 2 {
					if packet() != 1 {
						t.Fatal("nothing in spite of longer lifetimes")
					}
				}
				s.heardOf("sa-hard-expired "+name+" bytes", "sa-hard-expired "+name+" packets")
				if packet() != 0 {
					t.Error("more than its hard lifetime")
				}
			})
		}
	}
}

// TestIdle: an idle SA is told of each time it falls idle; the hard limit ends it.
func TestIdle(t *testing.T) {
	s := newSite(t, nil)
	out, _ := s.tunnel(false, func(a *ipsec.SA) {
		if a.Name == "out" {
			a.Soft.Idle, a.Hard.Idle = 10, 25
		}
	})
	s.events()
	s.Advance(9 * time.Second)
	s.heardOf()
	s.Advance(time.Second) // never used: since it was made
	s.heardOf("sa-soft-expired out idle")
	for range 3 {
		s.Advance(5 * time.Second)
		out.must(t, s.fromHost(outgoing(false, 100).IP())[0])
		s.Advance(9 * time.Second)
		s.heardOf()
		if st := s.sa("out"); st.Idle != 9*time.Second || st.Ended {
			t.Errorf("%+v", st)
		}
		s.Advance(time.Second)
		s.heardOf("sa-soft-expired out idle")
		s.Advance(time.Second)
		s.heardOf()
	}
	s.Advance(13 * time.Second)
	s.heardOf()
	s.Advance(time.Second)
	s.heardOf("sa-hard-expired out idle")
	s.silent(s.fromHost(outgoing(false, 100).IP()))
	s.Advance(time.Hour)
	s.heardOf()
}

// TestTerminateHold: the soft lifetime is the end, and nothing goes in the clear.
func TestTerminateHold(t *testing.T) {
	for _, soft := range []ipsec.Lifetime{{Packets: 2}, {Bytes: 200}, {Time: 2}} {
		s := newSite(t, nil)
		s.tunnel(false, func(a *ipsec.SA) {
			if a.Name == "out" {
				a.Soft, a.SoftAction, a.Hard = soft, ipsec.TerminateHold, ipsec.Lifetime{Packets: 9, Bytes: 900, Time: 9}
			}
		})
		s.events()
		for range 2 {
			if len(s.fromHost(outgoing(false, 100).IP())) != 1 {
				t.Fatal("a packet is missing")
			}
			s.Advance(time.Second)
		}
		if l := s.events(); len(l) != 1 || l[0].Kind != event.SASoftExpired || !strings.Contains(l[0].Text, "nothing any more") {
			t.Errorf("%+v", l)
		}
		for range 12 {
			s.silent(s.fromHost(outgoing(false, 100).IP()))
			s.Advance(time.Second)
		}
		s.heardOf()
	}
}

// TestOlderTakesOver: when the newest SA has ended, one that has not does its
// work; then nobody does.
func TestOlderTakesOver(t *testing.T) {
	s := newSite(t, nil)
	out, _ := s.tunnel(false)
	a := out.sa
	a.Name, a.SPI, a.Key, a.Hard.Packets = "out2", 0x3000, key(300, 20), 1
	s.Advance(time.Second)
	s.Apply(sas(a))
	peerOf(a).must(t, s.fromHost(outgoing(false, 100).IP())[0])
	out.must(t, s.fromHost(outgoing(false, 100).IP())[0])
	old := out.sa
	old.Hard.Packets = 1
	s.Apply(sas(old))
	s.heardOf("sa-hard-expired out2 packets", "sa-hard-expired out packets")
	s.Forget()
	s.silent(s.fromHost(outgoing(false, 100).IP()))
	s.Moved("lan rx 1, lan drop esp-expired 1, sa out2 drop esp-expired 1, policy p-out packets 1")
}

// TestSequenceNumbersRunOut: it is told when most of them are used, and when all
// are.
func TestSequenceNumbersRunOut(t *testing.T) {
	for _, esn := range []bool{false, true} {
		last := uint64(math.MaxUint32)
		if esn {
			last = math.MaxUint64 - 1
		}
		s := newSite(t, persistent(t))
		out, _ := s.tunnel(false, func(a *ipsec.SA) { a.ESN = esn })
		s.events()
		p := outgoing(false, 100).IP()
		for _, at := range []struct {
			seq  uint64
			want []string
		}{
			{last - last/16 - 2, nil},
			{last - last/16 - 1, []string{"sa-seq-near out"}},
			{last - 2, nil},
			{last - 1, []string{"sa-seq-overflow out"}},
		} {
			if err := ipsec.SetSeq(s.dir, &out.sa, at.seq); err != nil {
				t.Fatal(err)
			}
			out.seq = at.seq
			if o := out.must(t, s.fromHost(p)[0]); o.seq != at.seq+1 {
				t.Errorf("number %d, want %d", o.seq, at.seq+1)
			}
			s.heardOf(at.want...)
		}
		s.Apply(sas(out.sa)) // the same again
		s.silent(s.fromHost(p))
		s.heardOf()
		if st := s.sa("out"); !st.Ended || !slices.Equal(st.Expired, []string{"sequence-numbers-low", "sequence-numbers"}) {
			t.Errorf("%+v", st)
		}
		if !esn { // there are more of them then
			out.sa.ESN = true
			s.Apply(sas(out.sa))
			if got := s.fromHost(p); len(got) != 1 {
				t.Error("nothing with ESN")
			}
			s.heardOf()
		}
	}
}

// lifelong is a fast path over a state directory, with clocks set by the test.
func lifelong(t *testing.T, dir string, wall, boot *int64) *site {
	s := newSite(t, func(o *fastpath.Options) {
		o.StateDir = dir
		o.Now = func() int64 { return *wall }
		o.Boottime = func() int64 { return *boot }
	})
	s.Forget()
	return s
}

// TestLifetimesOutliveTheProcess: what an SA has lived counts, whether the process
// has gone for it or not, whatever the wall clock says. What was told is not
// told again, what was not is told by the next process.
func TestLifetimesOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	wall, boot := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), int64(time.Hour)
	step := func(d time.Duration) { wall += int64(d); boot += int64(d) }
	edit := func(a *ipsec.SA) {
		if a.Name == "out" {
			a.Soft = ipsec.Lifetime{Packets: 3, Time: 1000, Idle: 500}
			a.Hard = ipsec.Lifetime{Packets: 5, Time: 2000, Idle: 950}
		}
	}
	p := outgoing(false, 100).IP()
	life := func(sent int, want ...string) (n int) {
		t.Helper()
		t.Run("life", func(t *testing.T) {
			s := lifelong(t, dir, &wall, &boot)
			s.tunnel(false, edit)
			for range sent {
				n += len(s.fromHost(p))
			}
			s.Run()
			s.heardOf(want...)
		})
		return n
	}
	want := func(got, n int) {
		t.Helper()
		if got != n {
			t.Fatalf("%d packets left, want %d", got, n)
		}
	}
	want(life(2), 2)
	step(100 * time.Second)
	wall -= int64(40 * 24 * time.Hour) // somebody sets the clock
	want(life(1, "sa-soft-expired out packets"), 1)
	step(100 * time.Second)
	wall += int64(80 * 24 * time.Hour)
	want(life(0), 0)
	step(399 * time.Second)
	want(life(0), 0)
	step(time.Second) // 500 s since the last packet
	want(life(0, "sa-soft-expired out idle"), 0)
	step(399 * time.Second) // 999 s since it was made
	want(life(0), 0)
	step(time.Second)
	wall -= int64(4 * time.Hour)
	want(life(3, "sa-soft-expired out time", "sa-hard-expired out packets"), 2)
	want(life(3), 0)
	// Longer in packets: those in seconds have gone on.
	edit = func(a *ipsec.SA) {
		if a.Name == "out" {
			a.Hard = ipsec.Lifetime{Packets: 50, Time: 2000, Idle: 900}
		}
	}
	want(life(2), 2)
	step(899 * time.Second)
	want(life(0), 0)
	step(time.Second)
	want(life(2, "sa-hard-expired out idle"), 0)
	step(time.Hour)
	want(life(2), 0)
}

// TestClockSteps: setting the machine's clock changes nothing for a process that
// runs, and the time that the machine sleeps counts.
func TestClockSteps(t *testing.T) {
	wall, boot := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), int64(time.Hour)
	s := lifelong(t, t.TempDir(), &wall, &boot)
	s.tunnel(false, func(a *ipsec.SA) {
		if a.Name == "out" {
			a.Hard = ipsec.Lifetime{Time: 100, Idle: 50}
		}
	})
	pass := func(monotonic, sinceBoot time.Duration) {
		wall += int64(monotonic)
		boot += int64(sinceBoot)
		s.Run()
	}
	s.events()
	p := outgoing(false, 100).IP()
	pass(40*time.Second, 40*time.Second)
	if len(s.fromHost(p)) != 1 {
		t.Fatal("nothing went out")
	}
	pass(0, 49*time.Second) // asleep
	s.heardOf()
	if st := s.sa("out"); st.Age != 89*time.Second || st.Idle != 49*time.Second {
		t.Errorf("age %v, idle %v", st.Age, st.Idle)
	}
	if len(s.fromHost(p)) != 1 {
		t.Fatal("nothing went out")
	}
	if st := s.sa("out"); st.Idle != 0 || st.UsedAt != wall {
		t.Errorf("idle %v, used at %d, now %d", st.Idle, st.UsedAt, wall)
	}
	pass(10*time.Second, 10*time.Second)
	s.heardOf()
	pass(0, time.Second)
	s.heardOf("sa-hard-expired out time")
	s.silent(s.fromHost(p))
}
