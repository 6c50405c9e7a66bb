package datastore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

// load brings back what was persisted last. Where several snapshots are there
// it begins at the oldest, for the sake of History, and takes a newer one only
// when that fails; each gives the same state, or an error.
func (s *Store) load() error {
	segs, err := s.tidy()
	if err != nil {
		return err
	}
	if len(segs) == 0 && len(s.snaps) == 0 { // nothing was ever persisted
		if s.seg, err = createSegment(s.d, 1, s.o.Preallocate); err != nil {
			return err
		}
		segs = []int{1}
	}
	if len(segs) > 0 && segs[0] == 1 { // still there from the beginning
		s.snaps = slices.Insert(s.snaps, 0, generation{segment: 1})
	}
	if len(s.snaps) == 0 {
		return &CorruptError{Path: s.d.Path(""), Why: "there are journal files but no whole snapshot before them", Do: "Restore the directory from a backup."}
	}
	var r *replay
	for i, g := range s.snaps {
		r = &replay{s: s, g: g, segs: segs}
		if err = r.run(); err == nil {
			s.snaps = s.snaps[i:]
			break
		}
		s.log.Error("the configuration cannot be read this way", "from", g.seq, "err", err)
	}
	if err != nil {
		return err
	}
	if s.seg == nil {
		if err := r.resume(); err != nil {
			return err
		}
	}
	newest := s.snaps[len(s.snaps)-1]
	s.tail, s.base, s.since, s.due = r.last, r.base, r.since, max(s.o.SnapshotAfter, newest.size)
	s.state.Store(&state{running: r.last, history: r.history})
	return nil
}

// tidy removes files that were never finished, and lists the others in their
// order.
func (s *Store) tidy() (segs []int, err error) {
	names, err := s.d.List()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, n := range names {
		if no, ok := parseSegmentName(n); ok {
			segs = append(segs, no)
		} else if seq, ok := parseSnapshotName(n); ok {
			s.newest = max(s.newest, seq)
			snap, size, err := s.readSnapshot(seq)
			if err != nil { // another one may do
				s.log.Error("a snapshot cannot be used", "err", err)
				continue
			}
			s.snaps = append(s.snaps, generation{seq, snap.segment, size})
		} else if strings.HasSuffix(n, tmpSuffix) {
			if err := s.d.Remove(n); err != nil {
				return nil, err
			}
		}
	}
	return segs, nil
}

// readSnapshot checks a snapshot; its tree is not read yet.
func (s *Store) readSnapshot(seq uint64) (snap snapshot, size int64, err error) {
	b, err := s.d.ReadFile(snapshotName(seq))
	if err != nil {
		return snap, 0, err
	}
	snap, snap.body, err = parseSnapshot(b)
	if err == nil && (snap.what != "running" || snap.Seq != seq || snap.Tentative) {
		err = errors.New("its first line is not that of this snapshot")
	}
	if err != nil {
		return snap, 0, &CorruptError{Path: s.d.Path(snapshotName(seq)), Why: err.Error(), Do: "Restore it from a backup."}
	}
	return snap, int64(len(b)), nil
}

// A replay reads a snapshot and applies the journal after it.
type replay struct {
	s    *Store
	g    generation
	segs []int

	last    *Version
	base    *Version
	history []*Version
	since   int64

	// of the journal file read last
	no         int
	nonce      nonce
	used, size int64
	torn       []tear
}

// A tear is where a record was not written to its end.
type tear struct {
	no         int
	used, size int64
	why        string
}

func (r *replay) run() error {
	if err := r.snapshot(); err != nil {
		return err
	}
	r.history = []*Version{r.last}
	missing := func(no int) error {
		return &CorruptError{Path: r.path(no), Why: "the file is missing", Do: "Restore it from a backup. " + r.instead()}
	}
	at := slices.Index(r.segs, r.g.segment)
	if at < 0 {
		return missing(r.g.segment)
	}
	for i, no := range r.segs[at:] {
		if no != r.g.segment+i {
			return missing(r.g.segment + i)
		}
		if err := r.segment(no); err != nil {
			return err
		}
	}
	if no := r.s.snaps[len(r.s.snaps)-1].segment; r.no < no { // made before the snapshot that names it
		return missing(no)
	}
	if r.last.Seq < r.s.newest {
		return &CorruptError{Path: r.path(r.no), Offset: r.used, Do: "Restore it from a backup.",
			Why: fmt.Sprintf("the journal ends with seq=%d, but there is a snapshot of seq=%d", r.last.Seq, r.s.newest)}
	}
	return nil
}

func (r *replay) path(no int) string { return r.s.d.Path(segmentName(no)) }

// instead says what there is to fall back to by hand.
func (r *replay) instead() string {
	newest := r.s.snaps[len(r.s.snaps)-1]
	if newest.size == 0 {
		return "Moving the directory away begins with an empty configuration."
	}
	return fmt.Sprintf("%s is the configuration as it was after commit %d: to go back to it, move the directory away and put that file into a new one as %s.",
		r.s.d.Path(snapshotName(newest.seq)), newest.seq, startupName)
}

func (r *replay) snapshot() error {
	if r.g.size == 0 { // the beginning
		r.last = &Version{Tree: data.New(r.s.o.Schema)}
		return nil
	}
	snap, _, err := r.s.readSnapshot(r.g.seq)
	if err != nil {
		return err
	}
	if snap.Tree, err = parseTree(r.s.o.Schema, snap.body); err != nil {
		return &CorruptError{Path: r.s.d.Path(snapshotName(r.g.seq)), Why: err.Error(), Do: "Restore it from a backup."}
	}
	v := snap.Version // and let go of the body
	r.last = &v
	return nil
}

// segment applies the records of a journal file.
func (r *replay) segment(no int) error {
	b, err := r.s.d.ReadFile(segmentName(no))
	if err != nil {
		return err
	}
	bad := func(off int, why string) error {
		return &CorruptError{Path: r.path(no), Offset: int64(off), Why: why, Do: r.cut(no, off)}
	}
	size := len(b)
	b = bytes.TrimRight(b, "\x00")
	nc, off, err := parseSegmentHead(b)
	if err != nil {
		return bad(0, err.Error())
	}
	for off < len(b) {
		rec, n, ok := decode(b[off:], nc)
		if !ok {
			torn, why := incomplete(b, off, nc)
			if !torn {
				return bad(off, why)
			}
			r.torn = append(r.torn, tear{no, int64(off), int64(size), why})
			break
		}
		if len(r.torn) > 0 {
			t := r.torn[0]
			return &CorruptError{Path: r.path(t.no), Offset: t.used, Why: t.why + ", but commits follow in " + segmentName(no), Do: r.cut(t.no, int(t.used))}
		}
		if err := r.apply(&rec, int64(n)); err != nil {
			return bad(off, err.Error())
		}
		off += n
	}
	r.no, r.nonce, r.used, r.size = no, nc, int64(off), int64(size)
	return nil
}

// cut says how to go on without what is damaged.
func (r *replay) cut(no, off int) string {
	do := fmt.Sprintf("Keep a copy of the directory. If no backup of the file is there: `truncate -s %d %s` keeps all commits before the damage", off, r.path(no))
	if off == 0 {
		do = fmt.Sprintf("Keep a copy of the directory. If no backup of the file is there: removing %s keeps all commits before it", r.path(no))
	}
	if no != r.segs[len(r.segs)-1] {
		do += ", if the journal files with higher numbers are removed with it"
	}
	return do + ". " + r.instead()
}

func (r *replay) apply(rec *record, size int64) error {
	if rec.seq != r.last.Seq+1 {
		return fmt.Errorf("the record has seq=%d where seq=%d is due", rec.seq, r.last.Seq+1)
	}
	tree, err := codec.Edit(r.s.o.Schema, r.last.Tree, rec.edit, data.None)
	if err != nil {
		return fmt.Errorf("the record with seq=%d does not fit: %w", rec.seq, err)
	}
	v := &Version{Tree: tree, Seq: rec.seq, Time: rec.time, By: rec.by, Kind: rec.kind, Tentative: rec.tentative, cost: size}
	r.base = baseAfter(r.base, r.last, v)
	r.last = v
	r.history = r.s.remember(r.history, v)
	if rec.seq > r.s.snaps[len(r.s.snaps)-1].seq {
		r.since += size
	}
	return nil
}

// resume makes the last journal file the one that is appended to, and cuts off
// records that were not written to their end.
func (r *replay) resume() error {
	for _, t := range r.torn {
		r.s.log.Warn("cut off a commit that the end of the process or machine interrupted; it was never acknowledged",
			"file", r.path(t.no), "offset", t.used, "why", t.why)
	}
	last := len(r.torn) > 0 && r.torn[len(r.torn)-1].no == r.no
	for _, t := range r.torn {
		if t.no == r.no {
			continue
		}
		f, err := r.s.d.Open(segmentName(t.no))
		if err != nil {
			return err
		}
		err = errors.Join(f.Truncate(t.used), f.Sync(), f.Close())
		if err != nil {
			return err
		}
	}
	f, err := r.s.d.Open(segmentName(r.no))
	if err != nil {
		return err
	}
	r.s.seg = &segment{no: r.no, nonce: r.nonce, f: f, used: r.used, size: r.size, ahead: r.s.o.Preallocate}
	if last {
		if err := errors.Join(f.Truncate(r.used), f.Sync()); err != nil {
			return err
		}
		r.s.seg.size = r.used
	}
	return nil
}
