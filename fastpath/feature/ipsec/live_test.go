package ipsec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/pkg/sal"
)

func testSA(spi uint32, key byte) *SA {
	k := make([]byte, 20)
	for i := range k {
		k[i] = key + byte(i)
	}
	return &SA{SPI: spi, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: k}
}

func open(t *testing.T, path, boot string) *liveFile {
	t.Helper()
	l, err := openLive(path, 64, boot, newClock(sinceBoot, nil))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// kill lets go of a table as a killed process does.
func kill(t *testing.T, l *liveFile) {
	t.Helper()
	if err := l.abandon(); err != nil {
		t.Fatal(err)
	}
}

// give installs an SA as Publish does.
func give(t *testing.T, l *liveFile, s *SA) (slot uint32, known, stale bool) {
	t.Helper()
	tag := tagOf(s)
	slot, fresh, err := l.take(tag)
	if err != nil {
		t.Fatal(err)
	}
	if fresh {
		l.begin(slot, tag, s)
	}
	l.resume(slot)
	return slot, !fresh, l.slots.stale[slot]
}

func TestSequenceNumbersOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	l := open(t, path, "boot-1")
	slot, known, _ := give(t, l, testSA(256, 1))
	if known {
		t.Fatal("a new SA is known")
	}
	l.line(slot).Seq = 4711
	// The process is killed here. Its mapping's pages stay.
	if _, err := openLive(path, 64, "boot-1", newClock(sinceBoot, nil)); err == nil {
		t.Error("two processes keep their state in one file")
	}
	kill(t, l)
	l = open(t, path, "boot-1")
	slot, known, stale := give(t, l, testSA(256, 1))
	if !known || stale || l.line(slot).Seq != 4711 {
		t.Fatalf("after a kill: known %v stale %v, sequence %d", known, stale, l.line(slot).Seq)
	}
	if _, known, _ := give(t, l, testSA(256, 2)); known {
		t.Error("another key under the same SPI must begin anew")
	}
	if again, known, _ := give(t, l, testSA(257, 1)); !known || again != slot {
		t.Error("outbound, the same key under another SPI must go on with its numbers")
	}
	in := testSA(256, 1)
	in.Direction, in.ReplayWindow = sal.Inbound, 64
	if _, known, _ := give(t, l, in); known {
		t.Error("an inbound SA is another one than the outbound")
	}
	in.SPI++
	if _, known, _ := give(t, l, in); known {
		t.Error("inbound, another SPI is another SA")
	}

	// Deleted and installed again under the same key: the numbers stay used.
	l.end(slot)
	again, known, _ := give(t, l, testSA(256, 1))
	if !known || again != slot || l.line(again).Seq != 4711 {
		t.Error("a deleted SA began anew under its old key")
	}

	// Another boot after a crash: what was sent last may be lost.
	kill(t, l)
	l = open(t, path, "boot-2")
	if _, known, stale := give(t, l, testSA(256, 1)); !known || !stale {
		t.Errorf("after a crash of the machine: known %v stale %v, want both", known, stale)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	// Another boot after a clean end.
	l = open(t, path, "boot-3")
	if _, known, stale := give(t, l, testSA(256, 1)); !known || stale {
		t.Errorf("after a clean end: known %v stale %v, want known and not stale", known, stale)
	}
	// A kernel that does not say which boot it is.
	kill(t, l)
	l = open(t, path, "")
	if _, _, stale := give(t, l, testSA(256, 1)); !stale {
		t.Error("an unknown boot must count as another one")
	}
	kill(t, l)
}

func TestTombstonesGiveWayOldestFirst(t *testing.T) {
	l := open(t, "", "")
	for i := range uint32(63) {
		s, _, _ := give(t, l, testSA(256+i, byte(i)))
		l.line(s).Seq = uint64(i) + 1
		l.end(s)
		l.done(s)
	}
	give(t, l, testSA(999, 100))
	if _, known, _ := give(t, l, testSA(256, 0)); known {
		t.Error("the oldest tombstone should have given way")
	}
	if _, known, _ := give(t, l, testSA(300, 44)); !known {
		t.Error("a younger tombstone gave way")
	}
}

func TestNoRoom(t *testing.T) {
	l := open(t, "", "")
	for i := range uint32(63) {
		give(t, l, testSA(256+i, byte(i)))
	}
	if _, _, err := l.take(tagOf(testSA(999, 100))); err == nil {
		t.Error("a slot in use was given away")
	}
	l.end(7) // but a record over it is still in use
	if _, _, err := l.take(tagOf(testSA(999, 100))); err == nil {
		t.Error("a slot that is about to be left was given away")
	}
	l.done(7)
	slot, fresh, err := l.take(tagOf(testSA(999, 100)))
	if err != nil || slot != 7 || !fresh {
		t.Errorf("slot %d %v %v", slot, fresh, err)
	}
	// A change that comes to nothing leaves everything as it was.
	l.undo(slot, fresh)
	if l.ident(7).Use != slotTombstone || l.ident(7).Tag != tagOf(testSA(262, 6)) {
		t.Error("undo has forgotten a tombstone")
	}
	if again, _, err := l.take(tagOf(testSA(999, 100))); err != nil || again != 7 {
		t.Errorf("after undo: %d %v", again, err)
	}
}

func TestUndoLosesNoSlot(t *testing.T) {
	l := open(t, "", "")
	for range 1000 {
		slot, fresh, err := l.take(tagOf(testSA(256, 1)))
		if err != nil {
			t.Fatal(err)
		}
		l.undo(slot, fresh)
	}
}

func TestDamagedFileStopsTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	l := open(t, path, "b")
	give(t, l, testSA(256, 1))
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"short":       whole[:5000],
		"header":      append([]byte("something else!!"), whole[16:]...),
		"other count": append(append([]byte(nil), whole[:16]...), append([]byte{1}, whole[17:]...)...),
		"few bytes":   whole[:10],
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openLive(path, 64, "b", newClock(sinceBoot, nil))
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(b) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	key := testSA(256, 1).Key
	if strings.Contains(string(whole), string(key)) {
		t.Error("the key is in the file")
	}
}

// TestTimesOfAnotherBoot: what an SA has lived goes with it over a clean reboot,
// with the time that the machine was off. Where that cannot be known it counts
// as older than any lifetime.
func TestTimesOfAnotherBoot(t *testing.T) {
	const hour = int64(time.Hour)
	for _, c := range []struct {
		name      string
		off       int64 // by the wall clock
		clean     bool
		age, idle int64
	}{
		{"clean", hour, true, 6 * hour, 3 * hour},
		{"at once", 0, true, 5 * hour, 2 * hour},
		{"wall clock back", -1, true, ancient + 10, ancient + 10},
		{"crash", hour, false, ancient + 10, ancient + 10},
	} {
		path := filepath.Join(t.TempDir(), "sa-state")
		boot, wall := hour, int64(1e18)
		clk := func() *clock {
			x := newClock(func() int64 { return 2e18 }, func() int64 { return boot })
			x.wall = func() int64 { return wall }
			return x
		}
		l, err := openLive(path, 64, "boot-1", clk())
		if err != nil {
			t.Fatal(err)
		}
		slot, _, _ := give(t, l, testSA(256, 1))
		boot += 3 * hour
		l.line(slot).UsedAt = boot
		boot += 2 * hour
		if c.clean {
			err = l.close()
		} else {
			err = l.abandon()
		}
		if err != nil {
			t.Fatal(err)
		}
		boot, wall = 20, wall+c.off
		if l, err = openLive(path, 64, "boot-2", clk()); err != nil {
			t.Fatal(err)
		}
		again, known, stale := give(t, l, testSA(256, 1))
		boot += 10
		if age, idle := boot-l.ident(again).AddedAt-10, boot-l.line(again).UsedAt-10; !known || stale == c.clean ||
			age != c.age-10*b2i(!c.clean || c.off < 0) || idle != c.idle-10*b2i(!c.clean || c.off < 0) {
			t.Errorf("%s: known %v, stale %v, age %v, idle %v", c.name, known, stale, time.Duration(age), time.Duration(idle))
		}
		kill(t, l)
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestEarlierVersion: a file of the version before, with times of the wall clock,
// is taken over, also by a process that dies over it.
func TestEarlierVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	now := time.Now().UnixNano()
	l := open(t, path, "boot-1")
	var slots [2]uint32
	for i := range slots {
		slot, _, _ := give(t, l, testSA(256+uint32(i), byte(50*i)))
		l.line(slot).Seq, l.line(slot).Packets = 4711, 4000
		l.line(slot).UsedAt, l.ident(slot).AddedAt = now-int64(time.Hour), now-2*int64(time.Hour)
		slots[i] = slot
	}
	l.ident(slots[1]).AddedAt = sinceBoot() - 2*int64(time.Hour) // somebody has died over it
	copy(l.mem, liveMagic1)
	kill(t, l)
	l = open(t, path, "boot-1")
	for i := range slots {
		slot, known, stale := give(t, l, testSA(256+uint32(i), byte(50*i)))
		if !known || stale || l.line(slot).Seq != 4711 || l.line(slot).Packets != 4000 {
			t.Errorf("known %v, stale %v, %+v", known, stale, l.line(slot))
		}
		for what, x := range map[string][2]time.Duration{"age": {time.Duration(sinceBoot() - l.ident(slot).AddedAt), 2 * time.Hour},
			"idle": {time.Duration(sinceBoot() - l.line(slot).UsedAt), time.Hour}} {
			if x[0] < x[1] || x[0] > x[1]+time.Minute {
				t.Errorf("%s %v, want %v", what, x[0], x[1])
			}
		}
	}
	if string(l.mem[:16]) != liveMagic {
		t.Errorf("%q", l.mem[:16])
	}
	kill(t, l)
}
