package datastore_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/datastore/disktest"
)

const firstSegment = "journal-00000001"

// three gives a disk with three commits and the offsets of their records in the
// only journal file; the last is the end.
func three(t testing.TB) (d *disktest.Disk, at [4]int) {
	t.Helper()
	d = disktest.New()
	s := open(t, d)
	end := func() int { return len(bytes.TrimRight(d.Bytes(firstSegment), "\x00")) }
	for i := range 3 {
		at[i] = end()
		commit(t, s, count(i+1)+fmt.Sprintf(`<item><name>n%d</name><value>%s</value></item>`, i, strings.Repeat("long enough for two sectors ", 20)))
	}
	at[3] = end()
	s.Close()
	d.Put(firstSegment, d.Bytes(firstSegment)[:at[3]+1000]) // fewer zeros: less to copy
	return d, at
}

// goesOn opens a disk, checks running, commits, and opens it once more.
func goesOn(t testing.TB, d *disktest.Disk, want int) (log string) {
	t.Helper()
	o, l := options(t, d)
	s, err := datastore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if n := counter(t, s.Tree(datastore.Running)); n != want {
		t.Fatalf("running is %d, want %d", n, want)
	}
	commit(t, s, count(want+100))
	s.Close()
	s = open(t, d)
	defer s.Close()
	if n := counter(t, s.Tree(datastore.Running)); n != want+100 {
		t.Fatalf("running is %d, want %d", n, want+100)
	}
	return l.String()
}

// TestTornTail ends the last record after each of its bytes: the file ends
// there, or zeros that were written ahead follow.
func TestTornTail(t *testing.T) {
	d, at := three(t)
	whole := d.Bytes(firstSegment)
	for cut := at[2]; cut <= at[3]; cut++ {
		want := 2
		if cut == at[3] {
			want = 3
		}
		short := slices.Clone(whole[:cut])
		zeros := slices.Clone(whole)
		clear(zeros[cut:])
		for _, b := range [][]byte{short, zeros} {
			e := d.Clone()
			e.Put(firstSegment, b)
			log := goesOn(t, e, want)
			if torn := cut > at[2] && cut < at[3]; torn != strings.Contains(log, "cut off a commit") {
				t.Fatalf("cut at %d: log %q", cut-at[2], log)
			}
		}
	}
}

// TestTornSectors: a disk may write the later sectors of a record and not the
// earlier ones.
func TestTornSectors(t *testing.T) {
	d, at := three(t)
	whole := d.Bytes(firstSegment)
	for from := at[2] / 512 * 512; from < at[3]; from += 512 {
		b := slices.Clone(whole)
		clear(b[max(from, at[2]):min(from+512, at[3])])
		e := d.Clone()
		e.Put(firstSegment, b)
		goesOn(t, e, 2)
	}
}

// TestDamage changes each byte of the records in turn. Nothing that was
// acknowledged goes silently: Open fails, and says where, why and what to do.
func TestDamage(t *testing.T) {
	d, at := three(t)
	whole := d.Bytes(firstSegment)
	step := 1
	if testing.Short() {
		step = 17
	}
	for off := 0; off < at[3]; off += step {
		for _, x := range []byte{1, 0x80} {
			b := slices.Clone(whole)
			b[off] ^= x
			e := d.Clone()
			e.Put(firstSegment, b)
			c := refuses(t, e)
			want := 0
			for _, a := range at[:3] {
				if off >= a {
					want = a
				}
			}
			if c.Offset != int64(want) || !strings.Contains(c.Path, firstSegment) || c.Why == "" {
				t.Fatalf("byte %d: %v", off, c)
			}
			if want > 0 && !strings.Contains(c.Do, fmt.Sprintf("truncate -s %d disk/%s", want, firstSegment)) {
				t.Fatalf("byte %d: %v", off, c)
			}
		}
	}
	// What the error says helps.
	b := slices.Clone(whole)
	b[at[1]+100] ^= 1
	e := d.Clone()
	e.Put(firstSegment, b)
	e.Put(firstSegment, b[:refuses(t, e).Offset])
	goesOn(t, e, 1)
}

// TestDamageLater: with several files, damage that matters is found, wherever
// it is, and a snapshot is named to go back to.
func TestDamageLater(t *testing.T) {
	d := disktest.New()
	last := 0
	for range 3 {
		s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 2000 })
		for range 20 {
			last++
			commit(t, s, count(last))
		}
		s.Close()
	}
	s := open(t, d) // some records that no snapshot has
	for range 3 {
		last++
		commit(t, s, count(last))
	}
	s.Close()
	snaps, segs := files(t, d, "snapshot-"), files(t, d, "journal-")
	newest := segs[len(segs)-1]
	t.Log(snaps, segs)

	e := d.Clone()
	b := e.Bytes(newest)
	i := bytes.LastIndex(b, []byte("<counter"))
	j := bytes.LastIndex(b[:i], []byte("<counter")) // of the last record but one
	b[j] ^= 1
	e.Put(newest, b)
	c := refuses(t, e)
	if !strings.Contains(c.Path, newest) || !strings.Contains(c.Do, snaps[len(snaps)-1]) {
		t.Fatal(c)
	}
	e.Put(newest, b[:c.Offset])
	goesOn(t, e, last-2)

	for _, lost := range segs { // a file that is missing
		e := d.Clone()
		e.Put(lost, nil)
		if lost < newest && len(snaps) > 1 && lost == segs[0] {
			goesOn(t, e, last) // only the past is lost
			continue
		}
		refuses(t, e)
	}
	e = d.Clone()
	for _, n := range snaps {
		e.Put(n, nil)
	}
	refuses(t, e)

}

// TestTornBefore: a record cut short is a crash only where no record follows,
// in whatever file.
func TestTornBefore(t *testing.T) {
	d := disktest.New()
	d.Fail = func(op, name string) error { // no snapshot succeeds, so that all files count
		if op == "create" && strings.HasPrefix(name, "snapshot-") {
			return syscall.ENOSPC
		}
		return nil
	}
	for n := range 3 {
		s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 1 })
		commit(t, s, count(n+1))
		s.Close()
	}
	d.Fail = nil
	segs := files(t, d, "journal-")
	if len(segs) != 4 || len(files(t, d, "snapshot-")) > 0 {
		t.Fatal(segs)
	}
	for i, n := range segs[:3] {
		b := bytes.TrimRight(d.Bytes(n), "\x00")
		e := d.Clone()
		e.Put(n, b[:len(b)-10])
		if i == 2 { // the file after it is empty
			goesOn(t, e, 2)
			continue
		}
		c := refuses(t, e)
		if !strings.Contains(c.Path, n) || !strings.Contains(c.Do, "higher numbers") {
			t.Fatal(c)
		}
		e.Put(n, b[:c.Offset])
		for _, later := range segs[i+1:] {
			e.Put(later, nil)
		}
		goesOn(t, e, i)
	}
}

// TestForeignRecords: records of another journal do not count.
func TestForeignRecords(t *testing.T) {
	a, at := three(t)
	b, bt := three(t)
	x, y := a.Bytes(firstSegment), b.Bytes(firstSegment)
	e := a.Clone()
	e.Put(firstSegment, append(slices.Clone(x[:at[2]]), y[bt[2]:bt[3]]...))
	refuses(t, e)
}

// TestDiskFails lets the n-th operation of commits fail: the commit is refused,
// nothing has changed, and the next one does as if nothing had been.
func TestDiskFails(t *testing.T) {
	type fault struct {
		op    string
		nth   int
		times int
	}
	var faults []fault
	for _, op := range []string{"write", "sync", "create", "rename", "syncdir", "truncate"} {
		for nth := 1; nth <= 6; nth++ {
			faults = append(faults, fault{op, nth, 1}, fault{op, nth, 3}, fault{op, nth, 7})
		}
	}
	for _, both := range []bool{false, true} { // also without a way to take back
		for _, f := range faults {
			d := disktest.New()
			s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 2500 })
			var mu sync.Mutex
			seen := 0
			d.Fail = func(op, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if op == f.op {
					if seen++; seen >= f.nth && seen < f.nth+f.times {
						return syscall.ENOSPC
					}
				} else if both && op == "truncate" && seen >= f.nth && seen < f.nth+f.times {
					return syscall.ENOSPC
				}
				return nil
			}
			acked, refused := 0, 0
			for n := 1; n <= 40; n++ {
				tentative := n%5 == 0
				v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(n)), Kind: datastore.Commit, Tentative: tentative}
				was := s.Running()
				base := s.Base()
				if err := persist(t, s, v); err != nil {
					if !errors.Is(err, syscall.ENOSPC) {
						t.Fatalf("%+v: %v", f, err)
					}
					if refused++; s.Running() != was || s.Base() != base {
						t.Fatalf("%+v: a refused commit changed something", f)
					}
					continue
				}
				acked = n
			}
			if acked != 40 {
				t.Fatalf("%+v: the last commit was refused", f)
			}
			commit(t, s, count(41))
			s.Close()
			d.Fail = nil
			o, log := options(t, d)
			again, err := datastore.Open(o)
			if err != nil {
				t.Fatalf("%+v: %v", f, err)
			}
			if n := counter(t, again.Tree(datastore.Running)); n != 41 {
				t.Fatalf("%+v: running is %d\n%s", f, n, log)
			}
			again.Close()
		}
	}
}

// TestDiskFullForever: commits are refused, reads go on, and what was
// acknowledged is there afterwards.
func TestDiskFullForever(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		d := disktest.New()
		s := open(t, d)
		commit(t, s, count(1))
		d.Fail = func(o, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}
		for n := range 5 {
			v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(n+2)), Kind: datastore.Commit}
			if err := persist(t, s, v); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if err := s.SetStartup(v.Tree, datastore.Session{}); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		if counter(t, s.Tree(datastore.Running)) != 1 || text(t, s.Tree(datastore.Startup)) != "" {
			t.Fatal("changed")
		}
		s.Close()
		d.Fail = nil
		goesOn(t, d, 1)
		if f := files(t, d, "startup"); len(f) > 0 {
			t.Fatal(f)
		}
	}
}

// TestLastRoom: a disk that has no room for what is written ahead may have room
// for a commit.
func TestLastRoom(t *testing.T) {
	d := disktest.New()
	s := open(t, d, func(o *datastore.Options) { o.Preallocate = 1500 })
	last := 0
	d.Room = 4000
	for n := 1; n < 30; n++ {
		v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(n)), Kind: datastore.Commit}
		if err := persist(t, s, v); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		last = n
	}
	used := len(bytes.TrimRight(d.Bytes(firstSegment), "\x00"))
	if last < 5 || used < 4000-500 {
		t.Fatalf("%d commits in %d of 4000 bytes", last, used)
	}
	s.Close()
	d.Room = 0
	goesOn(t, d, last)
}

// TestLargeCommit: one that is larger than what was written ahead.
func TestLargeCommit(t *testing.T) {
	d := disktest.New()
	s := open(t, d)
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, `<item><name>n%d</name><value>some value of the item</value></item>`, i)
	}
	commit(t, s, count(1)+b.String())
	if n := len(bytes.TrimRight(d.Bytes(firstSegment), "\x00")); n < 1<<20 {
		t.Fatal("not large", n)
	}
	commit(t, s, count(2))
	s.Close()
	s = open(t, d)
	defer s.Close()
	if counter(t, s.Tree(datastore.Running)) != 2 || strings.Count(text(t, s.Tree(datastore.Running)), "<item>") != 20_000 {
		t.Fatal("lost")
	}
}

// TestReadersDoNotWait reads while commits, snapshots and candidates come (run
// it with -race).
func TestReadersDoNotWait(t *testing.T) {
	s := open(t, nil, func(o *datastore.Options) { o.FS, o.Dir, o.SnapshotAfter = nil, t.TempDir(), 2000 })
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			last := 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := counter(t, s.Tree(datastore.Running))
				if n < last {
					t.Errorf("running went back from %d to %d", last, n)
					return
				}
				last = n
				_ = counter(t, s.Tree(datastore.Candidate))
				s.History()
			}
		}()
	}
	for n := range 150 {
		var tree *data.Container
		if tree = edit(t, s.Tree(datastore.Candidate), count(n+1)); n%3 == 0 {
			s.SetCandidate(tree)
			s.SetCandidate(nil)
		}
		commit(t, s, count(n+1))
	}
	close(stop)
	<-done
	<-done
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Persist(&datastore.Version{Tree: s.Tree(datastore.Running)}); !errors.Is(err, datastore.ErrClosed) {
		t.Fatal(err)
	}
}
