package ipsec

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// TestWhereabouts: what is noted of a peer is believed by the next process, and
// nothing that is not whole, or not of this SA with these ends.
func TestWhereabouts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	l := open(t, path, "boot-1")
	c := testSA(256, 1)
	c.Direction, c.ReplayWindow, c.FollowPeer = sal.Inbound, replay.MaxSize, true
	c.Local, c.Remote, c.UDP = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), UDP{4500, 4500}
	at := netip.MustParseAddrPort("198.51.100.7:20001")
	s := &sa{SA: *c, peer: &peer{at: at, moved: int64(time.Hour)}}
	s.slot, _, _ = give(t, l, c)
	other := testSA(257, 50)
	other.Direction, other.ReplayWindow = sal.Inbound, replay.MaxSize
	give(t, l, other)
	if _, _, ok := l.recall(s); ok {
		t.Error("what was never noted is believed")
	}
	l.note(s)
	// The largest window does not reach it, nor it the next slot's.
	w := replay.View(l.window(s.slot))
	for n := uint64(1); n < 3*replay.MaxSize; n += 3 {
		w.Accept(n)
	}
	next := *l.where(s.slot + 1)
	kill(t, l)
	l = open(t, path, "boot-1")
	give(t, l, c)
	if got, moved, ok := l.recall(s); !ok || got != at || moved != int64(time.Hour) || next != (whereabouts{}) {
		t.Fatalf("%v %v %v", got, moved, ok)
	}
	for what, edit := range map[string]func(*sa){
		"another local address": func(s *sa) { s.Local = s.Local.Next() },
		"another remote one":    func(s *sa) { s.Remote = s.Remote.Next() },
		"another port":          func(s *sa) { s.UDP.Remote++ },
		"another port of ours":  func(s *sa) { s.UDP.Local++ },
		"the other family":      func(s *sa) { s.Local, s.Remote = netip.MustParseAddr("::1"), netip.MustParseAddr("::2") },
	} {
		x := *s
		if edit(&x); func() bool { _, _, ok := l.recall(&x); return ok }() {
			t.Errorf("%s: believed", what)
		}
	}
	if x := (&sa{SA: *other, held: held{slot: s.slot}}); func() bool { _, _, ok := l.recall(x); return ok }() {
		t.Error("another SA believes it")
	}
	// Torn or spoilt, in any octet but those of the time and of no use.
	x := l.where(s.slot)
	b := (*[unsafe.Sizeof(whereabouts{})]byte)(unsafe.Pointer(x))
	for i := range b {
		if o := uintptr(i); o >= unsafe.Offsetof(x.moved) && o < unsafe.Offsetof(x.port) || o >= unsafe.Offsetof(x.port)+2 && o < unsafe.Offsetof(x.sum) {
			continue
		}
		b[i] ^= 4
		if _, _, ok := l.recall(s); ok {
			t.Errorf("octet %d is not looked at", i)
		}
		b[i] ^= 4
	}
	if _, _, ok := l.recall(s); !ok {
		t.Error("it is not as it was")
	}
	// It ends with the SA.
	l.end(s.slot)
	give(t, l, c)
	if _, _, ok := l.recall(s); ok {
		t.Error("a deleted SA's peer is where he was")
	}
	// A slot that begins anew has none.
	l.note(s)
	l.begin(s.slot, tagOf(c), c)
	if _, _, ok := l.recall(s); ok {
		t.Error("a new SA's peer is where another's was")
	}
	kill(t, l)
}

// TestWhereaboutsOfAnotherBoot: after a clean reboot the peer is where he was, and
// the time of it is of the new boot.
func TestWhereaboutsOfAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	const hour = int64(time.Hour)
	boot, wall := 5*hour, int64(1e18)
	clk := func() *clock {
		x := newClock(func() int64 { return 2e18 }, func() int64 { return boot })
		x.wall = func() int64 { return wall }
		return x
	}
	l, err := openLive(path, 64, "boot-1", clk())
	if err != nil {
		t.Fatal(err)
	}
	c := testSA(256, 1)
	c.FollowPeer, c.Local, c.Remote, c.UDP = true, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), UDP{4500, 4500}
	at := netip.MustParseAddrPort("[2001:db8:77::7]:20001")
	s := &sa{SA: *c, peer: &peer{at: at, moved: 3 * hour}}
	s.slot, _, _ = give(t, l, c)
	l.note(s)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	boot, wall = 20, wall+hour
	if l, err = openLive(path, 64, "boot-2", clk()); err != nil {
		t.Fatal(err)
	}
	if got, moved, ok := l.recall(s); !ok || got != at || boot-moved != 3*hour {
		t.Errorf("%v %v %v", got, time.Duration(boot-moved), ok)
	}
	kill(t, l)
}
