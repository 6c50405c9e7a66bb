// Package datastore keeps the configuration datastores of RFC 6241 section 5.1:
// running, candidate and startup, and running's past.
//
// # In memory
//
// A datastore is a pointer to an immutable tree (package data). Readers take
// the pointer and never wait; candidate is running's own pointer until somebody
// writes it. Who may write, and when, is the business of package txn: the
// methods of a Store that change something are for one caller at a time.
//
// # On disk
//
// Running survives the end of the process at any instant. A directory holds
//
//	journal-00000003                     changes of running, appended
//	snapshot-00000000000000000057.xml    running as it was after change 57
//	startup.xml                          the startup datastore, once written
//	running-before-boot.xml              running as it was before a boot replaced it
//	boot-id                              the boot that running belongs to
//	lock                                 locked while a process uses the directory
//
// Persist appends the difference between two versions of running to the
// journal and returns when it is on the disk, so its cost follows the size of
// the change. From time to time a goroutine begins a new journal file and
// writes a snapshot beside the traffic of commits. What is older is removed
// when it is durable, but the snapshot before it and all journal files since
// are kept, as the past of running (History) and as a second way to the same
// state.
//
// The order of a commit is: prepare in the data plane, Persist, publish in the
// data plane, Swap, acknowledge. A disk that is full or broken thus refuses the
// commit before anything has changed, and a process that dies after Persist
// finds the commit in the journal and gives it to the data plane when it is
// back.
//
// What a confirmed commit made is marked tentative until it is confirmed. Open
// undoes it (RFC 6241 section 8.4.1: a reboot before the confirmation reverts),
// so a process that dies meanwhile comes back with the configuration from
// before. Candidate does not survive the process.
//
// # Startup
//
// Running lives as long as the machine is up, whatever the process does. When
// Open sees that the machine has booted since, and startup was ever written, it
// loads startup into running (RFC 6241 section 8.7) and keeps what running was
// in a file. Without a startup running goes on across boots as well.
//
// # Damage
//
// A record at the journal's end that was not written to its end is a crash
// before the acknowledgement; Open cuts it off and says so in the log. Anything
// else that is wrong makes Open fail with a CorruptError, which says what to
// do, unless another snapshot gives the very same state.
package datastore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

// Options of Open.
type Options struct {
	// Dir is the directory, made when it is not there. FS takes its place
	// when it is set; then Open owns it, and closes it on an error too.
	Dir string
	FS  FS

	Schema    *yang.Schema
	Validator *validate.Validator
	Log       *slog.Logger // nil: the default one

	// BootID names the present boot of the machine; "" asks the kernel.
	BootID string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// SnapshotAfter is how many bytes of records make a snapshot due, unless
	// the last snapshot was larger; 0 is 4 MiB.
	SnapshotAfter int64
	// Preallocate is how many zeros are written ahead of the records, so that
	// the fsync of a commit has no metadata to write; 0 is 1 MiB.
	Preallocate int64
	// History is how many versions of running are kept, 0 is 20, and
	// HistoryBytes bounds the edits between them, 0 is 8 MiB. The last two
	// are always kept.
	History      int
	HistoryBytes int64
}

// A Store holds the datastores and their files. Reading methods may be called
// from any goroutine at any time and do not wait; the others are for one caller
// at a time.
type Store struct {
	o     Options
	log   *slog.Logger
	d     FS
	w     codec.Writer
	state atomic.Pointer[state]

	mu        sync.Mutex // what follows: Persist and the snapshot's goroutine
	seg       *segment
	tail      *Version // the last version in the journal
	base      *Version // what comes back unless a version that is not tentative follows
	snaps     []generation
	newest    uint64 // of the snapshots that were there at Open, whole or not
	since     int64  // bytes of records since the newest snapshot
	due       int64  // since at which the next snapshot is written
	snapping  bool
	closed    bool
	snapshots sync.WaitGroup
}

// state is what readers see. It is replaced as a whole.
type state struct {
	running   *Version
	candidate *data.Container // nil: running's
	startup   *data.Container // nil: never written, or deleted
	history   []*Version      // newest first; the first is running
}

// A generation is a snapshot with the journal files after it; with size 0, the
// empty configuration of the beginning, which needs no file.
type generation struct {
	seq     uint64
	segment int
	size    int64
}

// CorruptError tells what on the disk is wrong and what a person can do.
type CorruptError struct {
	Path   string
	Offset int64
	Why    string
	Do     string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s. %s", e.Path, e.Offset, e.Why, e.Do)
}

// ErrClosed is what a closed Store says.
var ErrClosed = errors.New("the datastores are closed")

// Open reads the datastores from disk. Running is what was last persisted,
// after what the package comment says about confirmed commits and boots; it
// satisfies the schema and the Validator, or Open fails.
func Open(o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SnapshotAfter == 0 {
		o.SnapshotAfter = 4 << 20
	}
	if o.Preallocate == 0 {
		o.Preallocate = 1 << 20
	}
	if o.History == 0 {
		o.History = 20
	}
	if o.HistoryBytes == 0 {
		o.HistoryBytes = 8 << 20
	}
	if o.BootID == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			o.Log.Warn("no boot id: running goes on as if the machine had not booted", "err", err)
		}
		o.BootID = strings.TrimSpace(string(b))
	}
	if o.FS == nil {
		var err error
		if o.FS, err = Dir(o.Dir, o.Log); err != nil {
			return nil, fmt.Errorf("datastores: %w", err)
		}
	}
	s := &Store{o: o, log: o.Log, d: o.FS, w: codec.Writer{Schema: o.Schema}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("datastores: %w", err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.load(); err != nil { // snapshot and journal, or nothing
		return err
	}
	if err := s.loadStartup(); err != nil {
		return err
	}
	next := &Version{Tree: s.tail.Tree, Time: s.o.Now()}
	if s.base != nil { // a confirmed commit was pending
		next.Tree, next.Kind = s.base.Tree, Revert
		s.log.Warn("rolls back a confirmed commit that was pending when the process ended", "seq", s.tail.Seq, "to", s.base.Seq)
	}
	last, err := s.lastBoot()
	if err != nil {
		return err
	}
	booted := s.o.BootID != "" && last != "" && s.o.BootID != last
	if s.tail.Seq == 0 && last == "" { // the first start
		booted = true
	}
	if startup := s.state.Load().startup; booted && startup != nil && differ(next.Tree, startup) {
		if err := s.boot(next, startup); err != nil {
			return err
		}
	}
	if next.Kind == Initial { // running goes on
		if s.tail.Refs, err = s.check(next); err != nil {
			return err
		}
	} else {
		if next.Refs, err = s.check(next); err != nil {
			return err
		}
		if err := s.Persist(next); err != nil {
			return err
		}
		s.Swap(next)
	}
	if s.o.BootID == "" || s.o.BootID == last {
		return nil
	}
	return writeFile(s.d, bootName, []byte(s.o.BootID+"\n"))
}

// check validates what becomes running at the start.
func (s *Store) check(v *Version) (validate.Refs, error) {
	refs, errs := s.o.Validator.All(v.Tree)
	switch {
	case len(errs) == 0:
		return refs, nil
	case v.Kind == Boot:
		return refs, fmt.Errorf("%s does not satisfy the YANG modules: %w. Correct it (and delete its first line), or remove it: "+
			"without it running goes on as it was", s.d.Path(startupName), errs)
	}
	return refs, fmt.Errorf("running of %s does not satisfy the YANG modules: %w. It was accepted under other modules: "+
		"start the program that wrote it and correct it there, or move the directory away to begin anew", s.d.Path(""), errs)
}

// lastBoot names the boot that running was last used in, "" when it never was.
func (s *Store) lastBoot() (string, error) {
	b, err := s.d.ReadFile(bootName)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// boot makes startup what becomes running, and keeps what running was.
func (s *Store) boot(next *Version, startup *data.Container) error {
	if s.tail.Seq > 0 {
		was := &snapshot{Version: *next, what: "running"}
		was.Seq = s.tail.Seq
		if _, err := was.write(s.d, s.w, previousName); err != nil {
			return fmt.Errorf("keep running before startup is loaded: %w", err)
		}
	}
	next.Tree, next.Kind = startup, Boot
	s.log.Info("loads startup into running", "boot", s.o.BootID, "kept", s.d.Path(previousName))
	return nil
}

// loadStartup reads the startup datastore.
func (s *Store) loadStartup() error {
	b, err := s.d.ReadFile(startupName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	bad := func(why error) error {
		return &CorruptError{Path: s.d.Path(startupName), Why: why.Error(),
			Do: "If it was edited by hand, delete its first line; else restore it from a backup or remove it: without it running goes on as it was."}
	}
	_, body, err := parseSnapshot(b)
	if err != nil {
		return bad(err)
	}
	t, err := parseTree(s.o.Schema, body)
	if err != nil {
		return bad(err)
	}
	if !differ(t, s.tail.Tree) {
		t = s.tail.Tree // one copy in memory
	}
	s.update(func(n *state) { n.startup = t })
	return nil
}

// Close waits for a snapshot that is being written, closes the files and gives
// the directory back. It loses nothing: whatever was persisted is on the disk.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.snapshots.Wait()
	if s.seg != nil {
		s.seg.f.Close()
	}
	return s.d.Close()
}

// Running gives the present version of running.
func (s *Store) Running() *Version { return s.state.Load().running }

// Tree gives the present tree of a datastore; of a startup that was never
// written, an empty one.
func (s *Store) Tree(n Name) *data.Container {
	st := s.state.Load()
	switch {
	case n == Candidate && st.candidate != nil:
		return st.candidate
	case n == Startup && st.startup != nil:
		return st.startup
	case n == Startup:
		return data.New(s.o.Schema)
	}
	return st.running.Tree
}

// Modified tells whether candidate was written since it last was running.
func (s *Store) Modified() bool { return s.state.Load().candidate != nil }

// History gives running and what it was before, newest first. Not to be
// changed.
func (s *Store) History() []*Version { return s.state.Load().history }

// Base gives the version that comes back unless the tentative ones since are
// confirmed; nil when there are none.
func (s *Store) Base() *Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base
}

func (s *Store) update(f func(*state)) {
	n := *s.state.Load()
	f(&n)
	s.state.Store(&n)
}

// SetCandidate writes candidate; nil makes it running's again.
func (s *Store) SetCandidate(t *data.Container) {
	s.update(func(n *state) { n.candidate = t })
}

// SetStartup writes startup, durably; nil deletes it. On an error it is as it
// was. (Only when the disk fails after it took the new file, and before it made
// that durable, may the next start find the new one.)
func (s *Store) SetStartup(t *data.Container, by Session) error {
	if t == nil {
		if err := s.d.Remove(startupName); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := s.d.Sync(); err != nil {
			return err
		}
	} else {
		v := Version{Tree: t, Time: s.o.Now(), By: by, Kind: Copy}
		if _, err := (&snapshot{Version: v, what: "startup"}).write(s.d, s.w, startupName); err != nil {
			return err
		}
	}
	s.update(func(n *state) { n.startup = t })
	return nil
}

// Swap makes a version that was persisted the running one.
func (s *Store) Swap(v *Version) {
	s.update(func(n *state) {
		n.history = s.remember(n.history, v)
		n.running = v
	})
}

// remember puts v before the versions that there is room for.
func (s *Store) remember(old []*Version, v *Version) []*Version {
	if len(old) > 0 && old[0].Tree == v.Tree {
		old = old[1:] // confirmed: the same configuration under a new number
	}
	h := make([]*Version, 1, min(len(old)+1, s.o.History))
	h[0] = v
	bytes := v.cost
	for _, o := range old {
		if len(h) >= 2 && (len(h) >= s.o.History || bytes > s.o.HistoryBytes) {
			break
		}
		h = append(h, o)
		bytes += o.cost
	}
	return h
}

// differ tells whether two trees differ in anything.
func differ(old, new *data.Container) bool {
	found := false
	data.Diff(old, new, func(data.Change) { found = true })
	return found
}
