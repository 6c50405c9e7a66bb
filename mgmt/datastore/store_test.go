package datastore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/datastore/disktest"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

var schema = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{Dirs: []string{"testdata/yang"}}, "vr-store")
})

// A log keeps what a Store logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func options(t testing.TB, d datastore.FS) (datastore.Options, *logged) {
	t.Helper()
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	l := &logged{}
	return datastore.Options{FS: d, Schema: s, Validator: v, BootID: "one", Preallocate: 16 << 10, Log: slog.New(slog.NewTextHandler(l, nil)),
		Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }}, l
}

func open(t testing.TB, d datastore.FS, with ...func(*datastore.Options)) *datastore.Store {
	t.Helper()
	o, _ := options(t, d)
	for _, f := range with {
		f(&o)
	}
	s, err := datastore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refuses opens a disk that must not open.
func refuses(t testing.TB, d datastore.FS) *datastore.CorruptError {
	t.Helper()
	o, _ := options(t, d)
	s, err := datastore.Open(o)
	if err == nil {
		t.Fatalf("opened with running %s", text(t, s.Tree(datastore.Running)))
	}
	var c *datastore.CorruptError
	if !errors.As(err, &c) {
		t.Fatalf("not a CorruptError: %v", err)
	}
	return c
}

func edit(t testing.TB, root *data.Container, box string) *data.Container {
	t.Helper()
	s, _ := schema()
	n, err := codec.Edit(s, root, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><box xmlns="urn:vrouter:test:store">`+box+`</box></config>`), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func text(t testing.TB, root *data.Container) string {
	t.Helper()
	s, _ := schema()
	return string(codec.Writer{Schema: s}.Append(nil, root))
}

// counter is what running holds in its two leaves, which must agree.
func counter(t testing.TB, tree *data.Container) int {
	t.Helper()
	x := text(t, tree)
	if x == "" {
		return 0
	}
	var a, b int
	i := strings.Index(x, "<counter>")
	if i < 0 {
		return 0
	}
	if _, err := fmt.Sscanf(x[i:], "<counter>%d</counter><twin>%d</twin>", &a, &b); err != nil || a != b {
		t.Fatalf("half a commit: %s", x)
	}
	return a
}

func count(n int) string { return fmt.Sprintf("<counter>%d</counter><twin>%d</twin>", n, n) }

func persist(t testing.TB, s *datastore.Store, v *datastore.Version) error {
	t.Helper()
	if err := s.Persist(v); err != nil {
		return err
	}
	s.Swap(v)
	return nil
}

// commit edits running.
func commit(t testing.TB, s *datastore.Store, box string) {
	t.Helper()
	v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), box), Time: time.Date(2026, 11, 23, 12, 0, 0, 5, time.UTC),
		By: datastore.Session{ID: 4, User: "operator"}, Kind: datastore.Commit}
	if err := persist(t, s, v); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	d := disktest.New()
	s := open(t, d)
	if v := s.Running(); v.Seq != 0 || text(t, v.Tree) != "" {
		t.Fatal(v)
	}
	for i := range 5 {
		commit(t, s, count(i+1)+fmt.Sprintf(`<item><name>n%d</name><value>&lt;%d&gt;</value></item>`, i, i))
	}
	want := text(t, s.Tree(datastore.Running))
	s.SetCandidate(edit(t, s.Tree(datastore.Candidate), count(77)))
	s.Close()

	s = open(t, d)
	defer s.Close()
	v := s.Running()
	if got := text(t, v.Tree); got != want {
		t.Fatalf("got %s want %s", got, want)
	}
	if v.Seq != 5 || v.By != (datastore.Session{ID: 4, User: "operator"}) || v.Kind != datastore.Commit || v.Time.Nanosecond() != 5 {
		t.Fatalf("%+v", v)
	}
	if s.Modified() || s.Tree(datastore.Candidate) != v.Tree {
		t.Fatal("candidate outlived the process")
	}
	h := s.History()
	if len(h) != 6 || h[0] != v {
		t.Fatalf("%d versions", len(h))
	}
	for i, v := range h {
		if v.Seq != uint64(5-i) || counter(t, v.Tree) != 5-i {
			t.Fatalf("history %d is %d: %s", i, v.Seq, text(t, v.Tree))
		}
	}
	commit(t, s, count(6))
}

// TestFiles: the directory is private and used by one process at a time.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	inDir := func(o *datastore.Options) { o.FS, o.Dir = nil, dir }
	s := open(t, nil, inDir)
	commit(t, s, count(1))
	if err := s.SetStartup(s.Tree(datastore.Running), datastore.Session{}); err != nil {
		t.Fatal(err)
	}
	o, _ := options(t, nil)
	inDir(&o)
	if _, err := datastore.Open(o); !errors.Is(err, datastore.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatal("a second Store opened the directory:", err)
	}
	s.Close()
	if err := os.Chmod(filepath.Join(dir, "startup.xml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s = open(t, nil, inDir)
	commit(t, s, count(2))
	s.Close()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, st.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// files gives the names of a kind, in order.
func files(t testing.TB, d *disktest.Disk, prefix string) (out []string) {
	t.Helper()
	names, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	return out
}

// TestSnapshots: the journal does not grow without end, nothing is lost when
// files are changed, and two generations are kept.
func TestSnapshots(t *testing.T) {
	d := disktest.New()
	small := func(o *datastore.Options) { o.SnapshotAfter = 3000 }
	last := 0
	for range 12 {
		s := open(t, d, small)
		if n := counter(t, s.Tree(datastore.Running)); n != last {
			t.Fatalf("%d after %d", n, last)
		}
		if h := s.History(); last > 20 && len(h) < 5 {
			t.Fatalf("%d versions of the past", len(h))
		}
		for range 40 {
			last++
			commit(t, s, count(last))
		}
		s.Close()
	}
	snaps, segs := files(t, d, "snapshot-"), files(t, d, "journal-")
	if len(snaps) < 1 || len(snaps) > 2 || len(segs) > 5 {
		t.Fatal(snaps, segs)
	}
	if slices.Contains(segs, "journal-00000001") {
		t.Fatal("the first journal file is still there")
	}

	// Each snapshot by itself leads to the same state.
	for _, lost := range snaps {
		e := d.Clone()
		b := e.Bytes(lost)
		b[len(b)/2] ^= 4
		e.Put(lost, b)
		o, log := options(t, e)
		s, err := datastore.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if n := counter(t, s.Tree(datastore.Running)); n != last {
			t.Fatalf("%d after %d", n, last)
		}
		if !strings.Contains(log.String(), lost) {
			t.Fatalf("%s is damaged and nobody says so", lost)
		}
		commit(t, s, count(last+1))
		s.Close()
	}
	e := d.Clone()
	for _, lost := range snaps {
		b := e.Bytes(lost)
		b[len(b)/2] ^= 4
		e.Put(lost, b)
	}
	refuses(t, e)
}

// TestSnapshotIsXML: a snapshot may be given to any tool, and be the startup
// of another machine.
func TestSnapshotIsXML(t *testing.T) {
	d := disktest.New()
	s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 1 })
	commit(t, s, count(3)+`<item><name>a--b</name></item>`)
	s.Close()
	b := d.Bytes(files(t, d, "snapshot-")[0])
	if bytes.Count(b[:bytes.IndexByte(b, '\n')], []byte("--")) != 2 {
		t.Fatalf("%s", b)
	}
	e := disktest.New()
	e.Put("startup.xml", b)
	s = open(t, e)
	defer s.Close()
	if n := counter(t, s.Tree(datastore.Running)); n != 3 || s.Running().Kind != datastore.Boot {
		t.Fatal(n, s.Running().Kind)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	d := disktest.New()
	s := open(t, d, func(o *datastore.Options) { o.History, o.HistoryBytes = 5, 4000 })
	defer s.Close()
	for i := range 20 {
		commit(t, s, count(i+1))
	}
	if h := s.History(); len(h) != 5 || h[4].Seq != 16 {
		t.Fatal(len(h), h[len(h)-1].Seq)
	}
	commit(t, s, count(21)+`<item><name>big</name><value>`+strings.Repeat("x", 5000)+`</value></item>`)
	if h := s.History(); len(h) != 2 || h[1].Seq != 20 {
		t.Fatal("the one before is always kept", len(h))
	}
}

// TestPending: what a confirmed commit made does not outlive the process.
func TestPending(t *testing.T) {
	d := disktest.New()
	s := open(t, d)
	tentative := func(n int) {
		v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(n)), Kind: datastore.Commit, Tentative: true}
		if err := persist(t, s, v); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, s, count(1))
	tentative(2)
	tentative(3)
	if b := s.Base(); b == nil || b.Seq != 1 {
		t.Fatal(b)
	}
	s.Close()
	for range 2 { // and not at the second start either
		s = open(t, d)
		if n := counter(t, s.Tree(datastore.Running)); n != 1 || s.Base() != nil || s.Running().Kind != datastore.Revert {
			t.Fatal(n, s.Base(), s.Running().Kind)
		}
		s.Close()
	}
	s = open(t, d)
	tentative(2)
	confirm := &datastore.Version{Tree: s.Tree(datastore.Running), Kind: datastore.Commit}
	if err := persist(t, s, confirm); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, d)
	defer s.Close()
	if n := counter(t, s.Tree(datastore.Running)); n != 2 || s.Base() != nil {
		t.Fatal("a confirmed commit was lost", n)
	}
}

// TestNoSnapshotOfWhatMayRevert: a snapshot never holds a tentative state.
func TestNoSnapshotOfWhatMayRevert(t *testing.T) {
	d := disktest.New()
	tiny := func(o *datastore.Options) { o.SnapshotAfter = 1 }
	s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 1 << 20 })
	commit(t, s, count(1))
	s.Close()
	s = open(t, d, tiny)
	for n := 2; n < 10; n++ {
		v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(n)), Kind: datastore.Commit, Tentative: true}
		if err := persist(t, s, v); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if f := files(t, d, "snapshot-"); len(f) > 0 {
		t.Fatal(f)
	}
	s = open(t, d, tiny)
	if n := counter(t, s.Tree(datastore.Running)); n != 1 {
		t.Fatal(n)
	}
	s.Close()
	if f := files(t, d, "snapshot-"); len(f) != 1 {
		t.Fatal("the revert may be kept in a snapshot", f)
	}
}

func TestStartupAndBoot(t *testing.T) {
	d := disktest.New()
	at := func(boot string) func(*datastore.Options) {
		return func(o *datastore.Options) { o.BootID = boot }
	}
	running := func(s *datastore.Store) int { return counter(t, s.Tree(datastore.Running)) }
	s := open(t, d, at("one"))
	commit(t, s, count(1))
	if x := text(t, s.Tree(datastore.Startup)); x != "" {
		t.Fatal(x)
	}
	s.Close()

	s = open(t, d, at("two")) // no startup: running goes on
	if running(s) != 1 {
		t.Fatal(running(s))
	}
	if err := s.SetStartup(s.Tree(datastore.Running), datastore.Session{ID: 1, User: "x"}); err != nil {
		t.Fatal(err)
	}
	commit(t, s, count(2))
	s.Close()

	s = open(t, d, at("two")) // the same boot: running goes on
	if running(s) != 2 || counter(t, s.Tree(datastore.Startup)) != 1 {
		t.Fatal(running(s))
	}
	s.Close()

	s = open(t, d, at("three")) // a new boot: startup
	if running(s) != 1 || s.Running().Kind != datastore.Boot || s.Running().Seq != 3 {
		t.Fatal(running(s), s.Running())
	}
	if s.Tree(datastore.Startup) != s.Tree(datastore.Running) {
		t.Fatal("one configuration twice in memory")
	}
	if b := d.Bytes("running-before-boot.xml"); !bytes.Contains(b, []byte("<counter>2</counter>")) {
		t.Fatalf("%s", b)
	}
	commit(t, s, count(4))
	s.Close()

	s = open(t, d, at("three"))
	if running(s) != 4 {
		t.Fatal(running(s))
	}
	if err := s.SetStartup(nil, datastore.Session{}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, d, at("four")) // startup was deleted
	if running(s) != 4 || text(t, s.Tree(datastore.Startup)) != "" {
		t.Fatal(running(s))
	}
	s.Close()

	// Written by hand, wrong in one way or another.
	for _, c := range []struct{ startup, want string }{
		{`<config><box xmlns="urn:vrouter:test:store"><counter>9</counter></box></config>`, ""},
		{`<config><box xmlns="urn:vrouter:test:store"><item><name>a</name><peer>b</peer></item></box></config>`, "/vr-store:box/item[name='a']/peer"},
		{`<config><box xmlns="urn:vrouter:test:store"><nothing/></box></config>`, "unknown-element"},
		{`<config><box`, "startup.xml is damaged"},
		{"<!-- vrouter startup seq=0 -->\n<config/>", "delete its first line"},
	} {
		e := d.Clone()
		e.Put("startup.xml", []byte(c.startup))
		o, _ := options(t, e)
		o.BootID = "five"
		s, err := datastore.Open(o)
		if c.want == "" {
			if err != nil || !strings.Contains(text(t, s.Tree(datastore.Running)), "<counter>9<") {
				t.Fatal(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "startup.xml") {
			t.Fatalf("%s: %v", c.startup, err)
		}
		e.Put("startup.xml", nil) // as the error says
		if s, err = datastore.Open(o); err != nil || running(s) != 4 {
			t.Fatal(err)
		}
	}
}

// TestTentativeBesideSnapshot: a tentative commit that comes while a snapshot
// is being made keeps it from being one.
func TestTentativeBesideSnapshot(t *testing.T) {
	d := disktest.New()
	arrived, goOn := make(chan bool), make(chan bool)
	d.Fail = func(op, name string) error {
		if op == "create" && name == "journal-00000002.tmp" {
			arrived <- true
			<-goOn
		}
		return nil
	}
	s := open(t, d, func(o *datastore.Options) { o.SnapshotAfter = 1 })
	commit(t, s, count(1))
	<-arrived
	v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(2)), Kind: datastore.Commit, Tentative: true}
	if err := persist(t, s, v); err != nil {
		t.Fatal(err)
	}
	goOn <- true
	s.Close()
	if f := files(t, d, "snapshot-"); len(f) > 0 {
		t.Fatal(f)
	}
	s = open(t, d)
	defer s.Close()
	if n := counter(t, s.Tree(datastore.Running)); n != 1 {
		t.Fatal(n)
	}
}

// TestPowerLossStartup: a startup that was acknowledged is there.
func TestPowerLossStartup(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	d := disktest.New()
	acked, flying := 0, 0
	for range 200 {
		d.PowerOffAfter(5 + r.IntN(30))
		o, _ := options(t, d)
		s, err := datastore.Open(o)
		if err == nil {
			got := counter(t, s.Tree(datastore.Startup))
			if got != acked && got != flying {
				t.Fatalf("startup is %d; acknowledged was %d, in flight %d", got, acked, flying)
			}
			acked, flying = got, got
			for {
				tree := edit(t, s.Tree(datastore.Running), count(flying+1))
				if flying++; r.IntN(5) == 0 {
					tree, flying = nil, 0
				}
				if err = s.SetStartup(tree, datastore.Session{}); err != nil {
					break
				}
				acked = flying
			}
			s.Close()
		}
		if !errors.Is(err, disktest.ErrDead) {
			t.Fatal(err)
		}
		d = d.Reboot(r)
	}
}

// TestPowerLoss cuts the power at a random operation of the disk, again and
// again: running is then what was acknowledged last, or what was in flight.
func TestPowerLoss(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	r := rand.New(rand.NewPCG(7, uint64(rounds)))
	d := disktest.New()
	acked, base := 0, -1         // base: what acked reverts to, unless -1
	flying, confirmed := 0, true // the commit that the power cut interrupted
	died, total := 0, 0
	for range rounds {
		d.PowerOffAfter(5 + r.IntN(40)*(1+r.IntN(6)))
		o, _ := options(t, d)
		o.SnapshotAfter = 1500
		s, err := datastore.Open(o)
		if err == nil {
			without := acked
			if base >= 0 {
				without = base
			}
			got := counter(t, s.Tree(datastore.Running))
			if got != without && (got != flying || !confirmed) {
				t.Fatalf("running is %d; acknowledged was %d, base %d; in flight %d, confirmed %t", got, acked, base, flying, confirmed)
			}
			acked, base = got, -1
			for {
				v := &datastore.Version{Tree: edit(t, s.Tree(datastore.Running), count(flying+1)+fmt.Sprintf(`<item><name>n%d</name><value>%s</value></item>`, flying%7, strings.Repeat("x", r.IntN(900)))),
					Kind: datastore.Commit, Tentative: r.IntN(4) == 0}
				flying++
				confirmed = !v.Tentative
				if err = persist(t, s, v); err != nil {
					break
				}
				if total++; confirmed {
					base = -1
				} else if base < 0 {
					base = acked
				}
				acked = flying
			}
			s.Close()
		}
		if !errors.Is(err, disktest.ErrDead) {
			t.Fatal(err)
		}
		died++
		d = d.Reboot(r)
	}
	t.Logf("%d power cuts, %d commits acknowledged", died, total)
	if total < rounds/2 {
		t.Fatal("hardly anything was committed")
	}
}
