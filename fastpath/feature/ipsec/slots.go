package ipsec

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// slots says which slot of the live table is whose. Slot 0 is never given. A
// slot is free until an SA takes it, and a tombstone when that SA is gone; when
// no free one is left, the oldest tombstone gives way.
type slots struct {
	l     *liveFile
	byTag map[[32]byte]uint32
	stale []bool   // by slot: of an earlier boot that did not end cleanly
	busy  []uint16 // by slot: records over it that workers or engines may use
	free  []uint32 // given back, as new
	next  uint32   // slots from here on were never looked at
	tombs []tomb   // the oldest first; some have been taken since
	// unwritten are slots begun whose tag may not be on the disk yet.
	unwritten map[uint32]bool
}

type tomb struct {
	slot  uint32
	ended int64
}

func (s *slots) init(l *liveFile, n uint32) {
	*s = slots{l: l, byTag: map[[32]byte]uint32{}, stale: make([]bool, n), busy: make([]uint16, n), next: 1, unwritten: map[uint32]bool{}}
}

// scan indexes what an earlier process left. All of it is a tombstone until
// it is installed again.
func (s *slots) scan(stale bool) {
	now := time.Now().UnixNano()
	for i := uint32(1); i < s.l.n; i++ {
		id := s.l.ident(i)
		if id.Use == slotFree {
			continue
		}
		s.byTag[id.Tag] = i
		s.stale[i] = stale
		s.l.line(i).lock = 0 // its holder is dead
		if id.Use == slotInUse {
			id.Use, id.EndedAt = slotTombstone, now
		}
		s.tombs = append(s.tombs, tomb{i, id.EndedAt})
	}
	slices.SortStableFunc(s.tombs, func(a, b tomb) int { return cmp.Compare(a.ended, b.ended) })
}

// tagOf identifies an SA by what must not begin anew. Outbound that is key and
// salt, under whatever SPI, where they give the nonces: with whichever integrity,
// and for AES whether as GCM or as CTR, whose counter blocks are of one form.
// Else, and inbound, since a peer counts for each of them, it is all there is.
func tagOf(sa *SA) (t [32]byte) {
	h := sha256.New()
	shape, _ := sa.Algorithm.Shape()
	nonces := shape.Counter && sa.Direction == sal.Outbound
	alg := sa.Algorithm
	if nonces && alg == sal.AESCTR {
		alg = sal.AESGCM16
	}
	var b [7]byte
	b[0] = byte(sa.Direction)
	binary.BigEndian.PutUint16(b[1:], uint16(alg))
	if !nonces {
		binary.BigEndian.PutUint32(b[3:], sa.SPI)
	}
	h.Write([]byte("vrouter SA state"))
	h.Write(b[:])
	h.Write(sa.Key)
	if !nonces && sa.Integrity != sal.NoIntegrity {
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(sa.Integrity)))
		h.Write(sa.IntegrityKey)
	}
	h.Sum(t[:0])
	return t
}

// keysOf identifies what an engine is given of an SA.
func keysOf(sa *SA) (t [32]byte) {
	h := sha256.New()
	b := []byte{byte(sa.Direction), 0, 0, 0, 0, byte(len(sa.Key)), 0}
	binary.BigEndian.PutUint16(b[1:], uint16(sa.Algorithm))
	binary.BigEndian.PutUint16(b[3:], uint16(sa.Integrity))
	if sa.ESN {
		b[6] = 1
	}
	h.Write([]byte("vrouter SA keys"))
	h.Write(b)
	h.Write(sa.Key)
	h.Write(sa.IntegrityKey)
	h.Sum(t[:0])
	return t
}

var errFull = errors.New("no room for one more SA")

// take gives the slot of an SA and marks it busy: its own of before with all
// its state, or another, which is to begin anew.
func (s *slots) take(tag [32]byte) (slot uint32, fresh bool, err error) {
	if i, ok := s.byTag[tag]; ok {
		s.busy[i]++
		return i, false, nil
	}
	i := s.pick()
	if i == 0 {
		return 0, false, errFull
	}
	if err := s.l.back(i); err != nil {
		s.putBack(i)
		return 0, false, err
	}
	s.busy[i]++
	return i, true, nil
}

// pick finds a slot that nobody uses, 0 when there is none.
func (s *slots) pick() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	for ; s.next < s.l.n; s.next++ {
		if i := s.next; s.l.ident(i).Use == slotFree {
			s.next++
			return i
		}
	}
	for range len(s.tombs) {
		t := s.tombs[0]
		s.tombs = s.tombs[1:]
		id := s.l.ident(t.slot)
		switch {
		case id.Use != slotTombstone || id.EndedAt != t.ended: // taken since
		case s.busy[t.slot] > 0: // among the youngest anyway
			s.tombs = append(s.tombs, t)
		default:
			return t.slot
		}
	}
	return 0
}

// putBack returns a slot that pick gave and nobody used.
func (s *slots) putBack(i uint32) {
	if id := s.l.ident(i); id.Use == slotTombstone {
		s.tombs = slices.Insert(s.tombs, 0, tomb{i, id.EndedAt})
		return
	}
	s.free = append(s.free, i)
}

// undo takes back a take.
func (s *slots) undo(i uint32, fresh bool) {
	s.busy[i]--
	if fresh {
		s.putBack(i)
	}
}

// done: one record over the slot is used by nobody any more.
func (s *slots) done(i uint32) { s.busy[i]-- }

// begin writes a fresh slot's beginning. Killed anywhere in it, the process
// leaves a slot that is free or has no number used.
func (s *slots) begin(i uint32, tag [32]byte, sa *SA) {
	id := s.l.ident(i)
	if id.Use != slotFree {
		delete(s.byTag, id.Tag)
		atomic.StoreUint32(&id.Use, slotFree)
	}
	s.stale[i] = false
	*s.l.line(i), *s.l.where(i) = liveLine{}, whereabouts{}
	if sa.Direction == sal.Inbound {
		_, _ = replay.Init(s.l.window(i), int(sa.ReplayWindow), sa.ESN) // sizes were checked
	}
	id.Tag, id.AddedAt, id.EndedAt = tag, s.l.clock.boot(), 0
	atomic.StoreUint32(&id.Use, slotInUse)
	s.byTag[tag] = i
	s.unwritten[i] = true
}

// resume lets a known slot be used again, with all its state.
func (s *slots) resume(i uint32) { s.l.ident(i).Use = slotInUse }

// end makes a slot a tombstone: its numbers stay used. Where its peer was is over.
func (s *slots) end(i uint32) {
	*s.l.where(i) = whereabouts{}
	id := s.l.ident(i)
	id.Use, id.EndedAt = slotTombstone, time.Now().UnixNano()
	s.tombs = append(s.tombs, tomb{i, id.EndedAt})
	if len(s.tombs) > 2*int(s.l.n) {
		s.tombs = slices.DeleteFunc(s.tombs, func(t tomb) bool {
			id := s.l.ident(t.slot)
			return id.Use != slotTombstone || id.EndedAt != t.ended
		})
	}
}
