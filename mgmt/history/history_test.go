package history_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/history"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

const (
	running   = datastore.Running
	candidate = datastore.Candidate
)

var (
	ann = txn.Session{ID: 1, User: "ann"}
	bob = txn.Session{ID: 2, User: "bob"}
	ctx = context.Background()
)

var theSchema = sync.OnceValues(schema.Load)

// A bench is a History over datastores on disk, of which four versions of
// running are kept, and a data plane that can be told to refuse.
type bench struct {
	*history.History
	t      *testing.T
	schema *yang.Schema
	mgr    *txn.Manager
	now    time.Time
	refuse error
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	var err error
	if b.schema, err = theSchema(); err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(b.schema)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	store, err := datastore.Open(datastore.Options{Dir: t.TempDir(), Schema: b.schema, Validator: v, Log: log, History: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if b.mgr, err = txn.New(txn.Options{Schema: b.schema, Validator: v, Store: store, Applier: b, Clock: b, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.mgr.Close() })
	b.History = history.New(b.schema, b.mgr)
	return b
}

// The bench is the data plane of its Manager.

func (b *bench) Prepare(context.Context, *data.Container, *data.Container) (txn.Pending, error) {
	return taken{}, b.refuse
}

type taken struct{}

func (taken) Publish() {}
func (taken) Abort()   {}

// The bench is the clock, a minute further at each look.

func (b *bench) Now() time.Time {
	b.now = b.now.Add(time.Minute)
	return b.now
}

func (b *bench) AfterFunc(time.Duration, func()) func() bool { return func() bool { return true } }

// edit changes a datastore: an interface gets this description.
func (b *bench) edit(ds txn.Datastore, by txn.Session, text string) error {
	config := `<config><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">` +
		`<interface><name>a</name><type>t:ethernetCsmacd</type><description>` + text + `</description></interface></interfaces></config>`
	return b.mgr.Edit(ctx, by, ds, txn.EditOptions{}, func(t *data.Container) (*data.Container, error) {
		return codec.Edit(b.schema, t, []byte(config), data.Merge)
	})
}

// commit makes a version of running with this description.
func (b *bench) commit(by txn.Session, text string) {
	b.t.Helper()
	if err := b.edit(candidate, by, text); err != nil {
		b.t.Fatal(err)
	}
	if err := b.mgr.Commit(ctx, by, txn.CommitOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// text reads the description back.
func (b *bench) text(ds txn.Datastore) string {
	return data.Text(b.mgr.Tree(ds), "/ietf-interfaces:interfaces/interface[name='a']/description")
}

// rollback calls the rpc as a message would.
func (b *bench) rollback(by txn.Session, version string) error {
	b.t.Helper()
	lx, err := codec.NewLexer([]byte(`<rollback xmlns="urn:vrouter:yang:vrouter-commit">`+version+`</rollback>`), b.schema.ModuleByNS)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := lx.Next(); err != nil {
		b.t.Fatal(err)
	}
	in, err := codec.ReadInput(b.schema, lx)
	if err != nil {
		return err
	}
	out, err := b.Rollback(ctx, by, in)
	if out != nil {
		b.t.Error("rollback has an output: ", out)
	}
	return err
}

// wants compares an error by its tag and a part of its text.
func wants(t *testing.T, err error, tag, part string) {
	t.Helper()
	var e *data.Error
	if !errors.As(err, &e) || e.Tag != tag || !strings.Contains(e.Msg, part) {
		t.Errorf("error %v, wanted %s with %q", err, tag, part)
	}
}

// state gives what a <get> with this subtree filter would.
func (b *bench) state(filter string) string {
	b.t.Helper()
	f, err := codec.ParseFilter(b.schema, []byte("<filter>"+filter+"</filter>"))
	if err != nil {
		b.t.Fatal(err)
	}
	e := data.Begin(data.New(b.schema))
	if err := b.State(ctx, f, e); err != nil {
		b.t.Fatal(err)
	}
	return string(codec.Writer{Schema: b.schema, Indent: " "}.Append(nil, e.Done()))
}

var _ binding.StateSource = (*history.History)(nil)

func TestVersions(t *testing.T) {
	b := newBench(t)
	all := `<commits xmlns="urn:vrouter:yang:vrouter-commit"/>`
	if got := b.state(all); !strings.Contains(got, "<sequence>0</sequence>\n  <kind>initial</kind>\n </commit>") || strings.Contains(got, "<time>") {
		t.Error("before the first commit:\n", got)
	}
	for i, who := range []txn.Session{ann, bob, ann, bob, ann} {
		b.commit(who, fmt.Sprint("v", i+1))
	}
	if err := b.edit(running, txn.Session{User: "console"}, "v6"); err != nil { // who is not in a NETCONF session has no number
		t.Fatal(err)
	}
	got := b.state(all)
	for _, want := range []string{
		"<commit>\n  <sequence>3</sequence>\n  <time>2026-11-23T12:05:00Z</time>\n  <kind>commit</kind>\n  <user>ann</user>\n  <session-id>1</session-id>\n </commit>",
		"<sequence>4</sequence>", "<sequence>5</sequence>",
		"<sequence>6</sequence>\n  <time>2026-11-23T12:11:00Z</time>\n  <kind>edit</kind>\n  <user>console</user>\n </commit>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "<commit>"); n != 4 {
		t.Errorf("%d versions are told, 4 are kept\n%s", n, got)
	}
	if got := b.state(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"/>`); got != "" {
		t.Error("told without being asked: ", got)
	}
	if got := b.state(`<commits xmlns="urn:vrouter:yang:vrouter-commit"><commit><user/></commit></commits>`); strings.Contains(got, "<kind>") {
		t.Error("more than was asked for: ", got)
	}
}

func TestRollback(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		b.commit(ann, fmt.Sprint("v", i+1))
	}
	for _, c := range []struct{ version, want string }{
		{"<back>1</back>", "v2"}, {"<back>2</back>", "v1"}, {"<back>3</back>", ""},
		{"<sequence>1</sequence>", "v1"}, {"<sequence>3</sequence>", "v3"}, {"<sequence>0</sequence>", ""},
	} {
		if err := b.rollback(bob, c.version); err != nil {
			t.Error(c.version, err)
		}
		if got := b.text(candidate); got != c.want {
			t.Errorf("%s: candidate has %q, wanted %q", c.version, got, c.want)
		}
		if b.text(running) != "v3" {
			t.Fatal(c.version, ": running changed without a commit")
		}
	}
	// The way back is a commit as any other, and there is a way back from it.
	if err := b.rollback(bob, "<back>2</back>"); err != nil {
		t.Fatal(err)
	}
	if err := b.mgr.Commit(ctx, bob, txn.CommitOptions{}); err != nil || b.text(running) != "v1" {
		t.Fatal(err, b.text(running))
	}
	if v := b.mgr.History(); len(v) != 4 || v[0].By != bob || v[0].Seq != 4 {
		t.Error(v[0])
	}
	if err := b.rollback(bob, "<back>1</back>"); err != nil || b.text(candidate) != "v3" {
		t.Error(err, b.text(candidate))
	}
	// The version that is running leaves nothing to commit.
	if err := b.rollback(bob, "<sequence>4</sequence>"); err != nil || b.mgr.Info().Modified {
		t.Error(err, b.mgr.Info())
	}
}

// What fails changes nothing: neither candidate nor running.
func TestRollbackFails(t *testing.T) {
	b := newBench(t)
	for i := range 6 {
		b.commit(ann, fmt.Sprint("v", i+1))
	}
	if err := b.edit(candidate, ann, "under way"); err != nil {
		t.Fatal(err)
	}
	same := func() {
		t.Helper()
		if r, c := b.text(running), b.text(candidate); r != "v6" || c != "under way" {
			t.Fatalf("running has %q, candidate %q", r, c)
		}
	}
	for _, c := range []struct{ version, tag, part string }{
		{"<back>4</back>", "data-missing", "the oldest that is kept is 3 back"},
		{"<back>4294967295</back>", "data-missing", "no version 4294967295 back"},
		{"<sequence>2</sequence>", "data-missing", "version 2 is not kept"}, // it was
		{"<sequence>7</sequence>", "data-missing", "version 7 is not kept"},
		{"<sequence>18446744073709551615</sequence>", "data-missing", "is not kept"},
		{"<back>0</back>", "invalid-value", ""},
		{"<back>-1</back>", "invalid-value", ""},
		{"", "missing-element", "one of these is wanted"},
		{"<back>1</back><sequence>6</sequence>", "bad-element", ""}, // one of the two
	} {
		wants(t, b.rollback(ann, c.version), c.tag, c.part)
		same()
	}

	// Somebody else has the lock of candidate.
	if err := b.mgr.Discard(ctx, ann); err != nil {
		t.Fatal(err)
	}
	if err := b.mgr.Lock(ctx, bob, candidate); err != nil {
		t.Fatal(err)
	}
	wants(t, b.rollback(ann, "<back>1</back>"), "in-use", "bob")
	if b.text(candidate) != "v6" || b.mgr.Info().Modified {
		t.Error("candidate changed under a lock: ", b.text(candidate))
	}
	if err := b.rollback(bob, "<back>1</back>"); err != nil || b.text(candidate) != "v5" {
		t.Error("its holder may: ", err)
	}

	// The data plane does not take the older version any more.
	b.refuse = &data.Error{Tag: "operation-failed", Msg: "the device is gone"}
	wants(t, b.mgr.Commit(ctx, bob, txn.CommitOptions{}), "operation-failed", "the device is gone")
	if b.text(running) != "v6" || len(b.mgr.History()) != 4 || b.mgr.History()[0].Seq != 6 {
		t.Error("a rollback that was refused left something: ", b.text(running), b.mgr.History()[0])
	}
}

// Versions are read while others are written.
func TestConcurrent(t *testing.T) {
	b := newBench(t)
	b.commit(ann, "v")
	over := make(chan bool)
	go func() {
		defer close(over)
		for i := range 50 {
			b.commit(ann, fmt.Sprint("v", i))
		}
	}()
	for {
		select {
		case <-over:
			return
		default:
			if got := b.state(`<commits xmlns="urn:vrouter:yang:vrouter-commit"/>`); !strings.Contains(got, "<commit>") {
				t.Fatal(got)
			}
		}
	}
}
