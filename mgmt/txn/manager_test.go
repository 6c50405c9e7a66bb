package txn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/datastore/disktest"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

const (
	running   = datastore.Running
	candidate = datastore.Candidate
	startup   = datastore.Startup
)

var (
	ann = txn.Session{ID: 1, User: "ann"}
	bob = txn.Session{ID: 2, User: "bob"}
	ctx = context.Background()
)

var schema = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{Dirs: []string{"../datastore/testdata/yang"}}, "vr-store")
})

// A bench is a Manager with a disk, a data plane and a clock that obey.
type bench struct {
	*txn.Manager
	t      testing.TB
	disk   *disktest.Disk
	store  *datastore.Store
	plane  *plane
	clock  *clock
	events []txn.Event
	opt    []func(*txn.Options)
}

func newBench(t testing.TB, opt ...func(*txn.Options)) *bench {
	t.Helper()
	b := &bench{t: t, disk: disktest.New(), clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, opt: opt}
	b.plane = &plane{t: t}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *bench) start() {
	b.t.Helper()
	s, err := schema()
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.store, err = datastore.Open(datastore.Options{FS: b.disk, Schema: s, Validator: v, BootID: "one", Preallocate: 16 << 10, Log: slog.New(slog.DiscardHandler), Now: b.clock.Now}); err != nil {
		b.t.Fatal(err)
	}
	o := txn.Options{Schema: s, Validator: v, Store: b.store, Applier: b.plane, Clock: b.clock, Log: slog.New(slog.DiscardHandler),
		OnCommit: func(e txn.Event) { b.events = append(b.events, e) }}
	for _, f := range b.opt {
		f(&o)
	}
	if b.Manager, err = txn.New(o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) stop() {
	b.Manager.Close()
	b.store.Close()
}

// restart ends the process and begins another one.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	b.disk = b.disk.Clone()
	b.events = nil
	b.start()
}

// A plane is a data plane that remembers. Each prepared change must be
// published or aborted, once.
type plane struct {
	t      testing.TB
	mu     sync.Mutex
	refuse error
	wait   chan struct{} // Prepare waits for it
	live   *data.Container
	open   int
	log    []string
	old    *data.Container // of the last Prepare
	on     func(string)
}

func (p *plane) note(s string) {
	p.log = append(p.log, s)
	if p.on != nil {
		p.on(s)
	}
}

func (p *plane) Prepare(ctx context.Context, old, new *data.Container) (txn.Pending, error) {
	if p.wait != nil {
		<-p.wait
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old = old
	if err := p.refuse; err != nil {
		p.note("refuse")
		return nil, err
	}
	if p.open++; p.open != 1 {
		p.t.Error("two changes prepared at a time")
	}
	p.note("prepare")
	return &prepared{p: p, tree: new}, nil
}

type prepared struct {
	p    *plane
	tree *data.Container
	done bool
}

func (p *prepared) end(s string) {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	if p.done {
		p.p.t.Error("a prepared change ended twice")
	}
	p.done = true
	p.p.open--
	p.p.note(s)
}

func (p *prepared) Publish() { p.end("publish"); p.p.live = p.tree }
func (p *prepared) Abort()   { p.end("abort") }

// A clock stands still until a test moves it.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*timer
}

type timer struct {
	at   time.Time
	f    func()
	over bool
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.now.Add(d), f: f}
	c.timers = append(c.timers, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := t.over
		t.over = true
		return !was
	}
}

// pass lets time pass; what falls due is done when it returns.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		i := -1
		for j, t := range c.timers {
			if !t.over && !t.at.After(end) && (i < 0 || t.at.Before(c.timers[i].at)) {
				i = j
			}
		}
		if i < 0 {
			break
		}
		t := c.timers[i]
		t.over, c.now = true, t.at
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}

// set is an edit by the content of <box>.
func set(box string) txn.EditFunc {
	return func(tree *data.Container) (*data.Container, error) {
		s, err := schema()
		if err != nil {
			return nil, err
		}
		return codec.Edit(s, tree, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><box xmlns="urn:vrouter:test:store">`+box+`</box></config>`), data.Merge)
	}
}

func count(n int) txn.EditFunc { return set(fmt.Sprintf("<counter>%d</counter>", n)) }

// is the counter of a datastore; 0 when there is none.
func (b *bench) is(ds txn.Datastore) int { return counter(b.t, b.Tree(ds)) }

func counter(t testing.TB, tree *data.Container) (n int) {
	t.Helper()
	x := text(t, tree)
	if i := strings.Index(x, "<counter>"); i >= 0 {
		if _, err := fmt.Sscanf(x[i:], "<counter>%d</counter>", &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func text(t testing.TB, tree *data.Container) string {
	t.Helper()
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	return string(codec.Writer{Schema: s}.Append(nil, tree))
}

// must fails the test on an error.
func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// fails wants an rpc-error with a tag; it gives it.
func (b *bench) fails(err error, tag string) *data.Error {
	b.t.Helper()
	var one *data.Error
	var many data.Errors
	if errors.As(err, &many) {
		one = many[0]
	} else if !errors.As(err, &one) {
		b.t.Fatalf("got %v, want %s", err, tag)
	}
	if one.Tag != tag {
		b.t.Fatalf("got %v, want %s", err, tag)
	}
	return one
}

func info(e *data.Error, name string) string {
	for _, i := range e.Info {
		if i.Name == name {
			return i.Value
		}
	}
	return ""
}

// commit sets the counter by way of candidate.
func (b *bench) commit(by txn.Session, n int, o txn.CommitOptions) error {
	b.t.Helper()
	b.must(b.Edit(ctx, by, candidate, txn.EditOptions{}, count(n)))
	return b.Commit(ctx, by, o)
}

// same checks that nothing changed: running, journal, data plane, past.
func (b *bench) same() func() {
	b.t.Helper()
	v, live, h, seq := b.store.Running(), b.plane.live, len(b.History()), b.Info().Seq
	n := len(b.events)
	return func() {
		b.t.Helper()
		if b.store.Running() != v || b.plane.live != live || len(b.History()) != h || b.Info().Seq != seq {
			b.t.Fatal("something changed")
		}
		if len(b.events) != n {
			b.t.Fatalf("events %+v", b.events[n:])
		}
		if b.plane.open != 0 {
			b.t.Fatal("a change is still prepared")
		}
	}
}

func TestCandidate(t *testing.T) {
	b := newBench(t)
	if b.Tree(candidate) != b.Tree(running) {
		t.Fatal("candidate is not running")
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	if b.is(running) != 0 || b.is(candidate) != 1 || !b.Info().Modified || b.plane.live != nil {
		t.Fatal("an edit of candidate went further")
	}
	b.must(b.Commit(ctx, bob, txn.CommitOptions{})) // shared
	if b.is(running) != 1 || b.Tree(candidate) != b.Tree(running) || b.Info().Modified || b.plane.live != b.Tree(running) {
		t.Fatal("not committed")
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(2)))
	b.must(b.Discard(ctx, bob))
	if b.is(candidate) != 1 || b.Info().Modified {
		t.Fatal("not discarded")
	}
	same := b.same()
	b.must(b.Commit(ctx, ann, txn.CommitOptions{})) // nothing to commit
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, count(1)))
	same()
	if b.Info().Modified {
		t.Fatal("an edit without effect modified candidate")
	}
	// There and back: modified, and a commit is no change.
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(5)))
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	same = b.same()
	b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
	same()
	if b.Tree(candidate) != b.Tree(running) {
		t.Fatal("candidate is not running's tree")
	}
	want := []string{"prepare", "publish"}
	if !slices.Equal(b.plane.log, want) {
		t.Fatal(b.plane.log)
	}
	i := b.Info()
	if i.Seq != 1 || !i.LastCommit.Equal(b.clock.Now()) {
		t.Fatalf("%+v", i)
	}
	b.restart()
	if b.is(running) != 1 {
		t.Fatal("lost")
	}
}

// TestAtomic: an edit that fails in its middle does nothing.
func TestAtomic(t *testing.T) {
	b := newBench(t)
	for _, ds := range []txn.Datastore{running, candidate} {
		same := b.same()
		err := b.Edit(ctx, ann, ds, txn.EditOptions{}, set(`<counter>1</counter><item nc:operation="delete"><name>a</name></item>`))
		if e := b.fails(err, "data-missing"); e.Path != "/vr-store:box/item[name='a']" {
			t.Fatal(e)
		}
		same()
		if b.Info().Modified {
			t.Fatal("candidate was modified")
		}
	}
}

// TestInvalid: what breaks a constraint is refused with its path, before the
// data plane hears of it.
func TestInvalid(t *testing.T) {
	const dangling = `<item><name>a</name><peer>b</peer></item>`
	const path = "/vr-store:box/item[name='a']/peer"
	b := newBench(t)
	same := b.same()
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, set(dangling))) // not enforced yet
	for _, err := range []error{
		b.Commit(ctx, ann, txn.CommitOptions{}),
		b.Validate(ctx, ann, txn.Source{Datastore: candidate}),
		b.Edit(ctx, ann, running, txn.EditOptions{}, set(dangling)),
		b.Edit(ctx, ann, running, txn.EditOptions{TestOption: txn.Set}, set(dangling)), // running is always valid
		b.Edit(ctx, ann, running, txn.EditOptions{TestOption: txn.TestOnly}, set(dangling)),
		b.Edit(ctx, ann, candidate, txn.EditOptions{TestOption: txn.TestOnly}, set(`<counter>1</counter>`)),
		b.Copy(ctx, ann, txn.Source{Datastore: candidate}, running),
		b.Copy(ctx, ann, txn.Source{Datastore: candidate}, startup),
		b.Copy(ctx, ann, txn.Source{Tree: b.Tree(candidate)}, running),
	} {
		if e := b.fails(err, "data-missing"); e.Path != path || e.AppTag != "instance-required" {
			t.Fatal(e)
		}
	}
	same()
	if len(b.plane.log) > 0 || !b.Info().Modified {
		t.Fatal(b.plane.log)
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, set(`<item><name>b</name></item>`)))
	b.must(b.Validate(ctx, ann, txn.Source{Datastore: candidate}))
	same()
	b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
}

func TestTestOnly(t *testing.T) {
	b := newBench(t)
	only := txn.EditOptions{TestOption: txn.TestOnly}
	same := b.same()
	b.must(b.Edit(ctx, ann, running, only, count(1)))
	b.must(b.Edit(ctx, ann, candidate, only, count(1)))
	same()
	if b.Info().Modified || !slices.Equal(b.plane.log, []string{"prepare", "abort", "prepare", "abort"}) {
		t.Fatal(b.plane.log)
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{TestOption: txn.Set}, count(1)))
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{TestOption: txn.Set}, count(2)))
	if b.is(candidate) != 1 || b.is(running) != 2 {
		t.Fatal(b.is(candidate), b.is(running))
	}
}

// TestRefused: what the data plane refuses changes nothing.
func TestRefused(t *testing.T) {
	b := newBench(t)
	b.must(b.commit(ann, 1, txn.CommitOptions{}))
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(2)))
	b.plane.refuse = data.Errors{{Tag: "operation-failed", Path: "/vr-store:box/counter", Msg: "no engine can do that"}}
	same := b.same()
	for _, err := range []error{
		b.Commit(ctx, ann, txn.CommitOptions{}),
		b.Commit(ctx, ann, txn.CommitOptions{Confirmed: true}),
		b.Validate(ctx, ann, txn.Source{Datastore: candidate}),
		b.Edit(ctx, ann, running, txn.EditOptions{}, count(3)),
		b.Copy(ctx, ann, txn.Source{Datastore: candidate}, running),
		b.Resync(ctx),
	} {
		if e := b.fails(err, "operation-failed"); e.Path != "/vr-store:box/counter" {
			t.Fatal(e)
		}
	}
	same()
	if b.Info().Pending != nil || !b.Info().Modified {
		t.Fatalf("%+v", b.Info())
	}
	b.plane.refuse = errors.New("it is not there")
	if e := b.fails(b.Commit(ctx, ann, txn.CommitOptions{}), "operation-failed"); !strings.Contains(e.Msg, "it is not there") {
		t.Fatal(e)
	}
	b.plane.refuse = nil
	b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
	b.restart()
	if b.is(running) != 2 {
		t.Fatal(b.is(running))
	}
}

// TestAuthorize: access control sees what a write would change, and who.
func TestAuthorize(t *testing.T) {
	var asked []string
	b := newBench(t, func(o *txn.Options) {
		o.Authorize = func(by txn.Session, ds txn.Datastore, old, new *data.Container) error {
			asked = append(asked, fmt.Sprintf("%s %s %d %d", by.User, ds, counter(o.Applier.(*plane).t, old), counter(o.Applier.(*plane).t, new)))
			if by != ann {
				return &data.Error{Tag: "access-denied"}
			}
			return nil
		}
	})
	b.must(b.commit(ann, 1, txn.CommitOptions{}))
	same := b.same()
	b.fails(b.Edit(ctx, bob, running, txn.EditOptions{}, count(2)), "access-denied")
	b.fails(b.Edit(ctx, bob, candidate, txn.EditOptions{}, count(2)), "access-denied")
	b.fails(b.Copy(ctx, bob, txn.Source{Datastore: candidate}, startup), "access-denied")
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(3)))
	b.fails(b.Commit(ctx, bob, txn.CommitOptions{}), "access-denied")
	same()
	want := []string{"ann candidate 0 1", "ann running 0 1", "bob running 1 2", "bob candidate 1 2", "bob startup 0 1", "ann candidate 1 3", "bob running 1 3"}
	if !slices.Equal(asked, want) {
		t.Fatal(asked)
	}
	// Nobody is asked about what running holds, nor about nothing at all.
	asked = nil
	b.must(b.Copy(ctx, bob, txn.Source{Datastore: running}, startup))
	b.must(b.Delete(ctx, bob, startup))
	if len(asked) > 0 {
		t.Fatal(asked)
	}
	// The server itself is not asked.
	b.must(b.Commit(ctx, ann, txn.CommitOptions{Confirmed: true}))
	asked = nil
	b.SessionEnded(ann)
	if b.is(running) != 1 || len(asked) > 0 {
		t.Fatal(asked)
	}
}
