package ipsec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	l, err := openLive(path, 64, boot)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// give installs an SA as Publish does.
func give(t *testing.T, l *liveFile, s *SA) (slot uint32, known, stale bool) {
	t.Helper()
	tag := tagOf(s)
	slot, known, stale, err := l.take(tag, func(i uint32) bool { return l.ident(i).Use == slotInUse })
	if err != nil {
		t.Fatal(err)
	}
	if !known {
		l.begin(slot, tag, s, limitOf(s))
	} else {
		l.ident(slot).Use = slotInUse
	}
	return slot, known, stale
}

func TestSequenceNumbersOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa-state")
	l := open(t, path, "boot-1")
	slot, known, _ := give(t, l, testSA(256, 1))
	if known {
		t.Fatal("a new SA is known")
	}
	l.line(slot).Seq = 4711
	// No close: the process is killed here. Its mapping's pages stay.

	l = open(t, path, "boot-1")
	slot, known, stale := give(t, l, testSA(256, 1))
	if !known || stale || l.line(slot).Seq != 4711 {
		t.Fatalf("after a kill: known %v stale %v, sequence %d", known, stale, l.line(slot).Seq)
	}
	if _, known, _ := give(t, l, testSA(256, 2)); known {
		t.Error("another key under the same SPI must begin anew")
	}
	if _, known, _ := give(t, l, testSA(257, 1)); known {
		t.Error("another SPI under the same key is another SA")
	}

	// Deleted and installed again under the same key: the numbers stay used.
	l.end(slot)
	again, known, _ := give(t, l, testSA(256, 1))
	if !known || again != slot || l.line(again).Seq != 4711 {
		t.Error("a deleted SA began anew under its old key")
	}

	// Another boot after a crash: what was sent last may be lost.
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
}

func TestTombstonesGiveWayOldestFirst(t *testing.T) {
	l := open(t, "", "")
	for i := range uint32(63) {
		s, _, _ := give(t, l, testSA(256+i, 1))
		l.line(s).Seq = uint64(i) + 1
		l.end(s)
		l.ident(s).EndedAt = int64(i)
	}
	give(t, l, testSA(999, 1))
	if _, known, _ := give(t, l, testSA(256, 1)); known {
		t.Error("the oldest tombstone should have given way")
	}
	if _, known, _ := give(t, l, testSA(300, 1)); !known {
		t.Error("a younger tombstone gave way")
	}
}

func TestNoRoom(t *testing.T) {
	l := open(t, "", "")
	for i := range uint32(63) {
		give(t, l, testSA(256+i, 1))
	}
	if _, _, _, err := l.take(tagOf(testSA(999, 1)), func(i uint32) bool { return true }); err == nil {
		t.Error("a slot in use was given away")
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
		_, err := openLive(path, 64, "b")
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
