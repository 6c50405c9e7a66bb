package datastore

import (
	"fmt"
)

// Draft writes down, in memory, what Persist will put on the disk. It takes most
// of the time of a large commit's Persist and may run beside anything but
// Persist, while nobody knows yet whether v will be accepted; without it Persist
// does it.
func (s *Store) Draft(v *Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encode(v)
}

func (s *Store) encode(v *Version) {
	v.from = s.tail.Tree
	v.draft = appendDelta(s.seg.room(), s.w, v.from, v.Tree)
}

// Persist makes v the version that a restart comes back to, and returns when
// it is on the disk. It gives v its Seq. On an error v is refused: running on
// disk and in memory is what it was. (Only when the disk fails while a refused
// record is taken back may a crash right then still bring v, which is then the
// commit in flight.)
func (s *Store) Persist(v *Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	v.Seq = s.tail.Seq + 1
	done, err := false, error(nil)
	if s.seg.broken != nil {
		if done, err = s.renew(v); err != nil {
			return err
		}
	}
	if !done {
		r := record{seq: v.Seq, time: v.Time, kind: v.Kind, tentative: v.Tentative, by: v.By}
		if v.from != s.tail.Tree {
			s.encode(v)
		}
		v.cost, err = s.seg.append(&r, v.draft)
		if err != nil {
			return err
		}
		s.since += v.cost
	}
	v.draft, v.from = nil, nil
	s.base = baseAfter(s.base, s.tail, v)
	s.tail = v
	if s.since >= s.due && s.base == nil && !s.snapping {
		s.snapping = true
		s.snapshots.Add(1)
		go s.snapshot()
	}
	return nil
}

// baseAfter gives what a restart comes back to when v follows last.
func baseAfter(base, last, v *Version) *Version {
	switch {
	case !v.Tentative:
		return nil
	case base == nil:
		return last
	}
	return base
}

// renew leaves a journal file that cannot be trusted. A new file is only used
// after a snapshot that makes all older ones unneeded, as nobody knows whether
// a refused record stands at the end of the last. done tells that the snapshot
// is of v itself.
func (s *Store) renew(v *Version) (done bool, err error) {
	why := s.seg.broken
	if s.snapping { // one at a time makes new files
		return false, fmt.Errorf("the journal failed (%w) while a snapshot is being written", why)
	}
	of := v
	if v.Tentative {
		if of = s.tail; s.base != nil {
			return false, fmt.Errorf("the journal failed (%w) while a confirmed commit is pending", why)
		}
	}
	seg, err := createSegment(s.d, s.seg.no+1, s.o.Preallocate)
	if err != nil {
		return false, fmt.Errorf("the journal failed (%v), and so does a new one: %w", why, err)
	}
	size, err := s.writeSnapshot(of, seg.no)
	if err != nil {
		seg.f.Close()
		return false, fmt.Errorf("the journal failed (%v), and so does a snapshot: %w", why, err)
	}
	s.snaps = append(s.snaps, generation{of.Seq, seg.no, size})
	s.due = max(s.o.SnapshotAfter, size)
	s.log.Warn("left a journal file whose writing failed", "file", s.d.Path(segmentName(s.seg.no)), "err", why)
	s.seg.f.Close()
	s.seg, s.since = seg, 0
	return of == v, nil
}

// snapshot begins a new journal file, writes running as it was at that moment,
// and removes what is older than the snapshot before. Commits go on meanwhile:
// they wait for nothing here but the change of the file.
func (s *Store) snapshot() {
	defer s.snapshots.Done()
	err := s.rotate()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapping = false
	if err != nil {
		s.due = s.since + s.o.SnapshotAfter
		s.log.Error("no snapshot of running; the journal goes on growing", "err", err)
	}
}

func (s *Store) rotate() error {
	s.mu.Lock()
	no := s.seg.no + 1
	s.mu.Unlock()
	// Nobody else makes files meanwhile: renew refuses to.
	seg, err := createSegment(s.d, no, s.o.Preallocate)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.base != nil || s.seg.broken != nil {
		s.mu.Unlock() // not now; the empty file does no harm and is made anew
		return seg.f.Close()
	}
	old, v, before := s.seg, s.tail, s.since
	s.seg = seg
	s.mu.Unlock()
	old.f.Close()

	size, err := s.writeSnapshot(v, no)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.snaps = append(s.snaps, generation{v.Seq, no, size})
	s.since -= before
	s.due = max(s.o.SnapshotAfter, size)
	drop := s.snaps[:max(0, len(s.snaps)-2)]
	s.snaps = s.snaps[len(drop):]
	keep := s.snaps[0]
	s.mu.Unlock()
	return s.prune(keep)
}

// prune removes what is older than a generation.
func (s *Store) prune(keep generation) error {
	names, err := s.d.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		no, isSeg := parseSegmentName(n)
		seq, isSnap := parseSnapshotName(n)
		if isSeg && no < keep.segment || isSnap && seq < keep.seq {
			if err := s.d.Remove(n); err != nil {
				return err
			}
		}
	}
	return s.d.Sync()
}

func (s *Store) writeSnapshot(v *Version, segment int) (size int64, err error) {
	return (&snapshot{Version: *v, what: "running", segment: segment}).write(s.d, s.w, snapshotName(v.Seq))
}
