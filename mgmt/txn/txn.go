// Package txn is the one writer of the configuration datastores: edits,
// copies, locks, and the commit with its confirmed form and its way back
// (RFC 6241 sections 7 and 8). Package datastore holds what it writes.
//
// Every change of running is the same function with another tree: commit of
// candidate, an edit of running, copy-config, rollback, and the revert of a
// confirmed commit. Its steps are in commit.go.
//
// Readers take the pointer to a tree and never wait. Writers take turns; the
// turn is held while the data plane prepares, so a slow data plane delays other
// writers, which may give up by their context, and no reader.
//
// # Choices where the RFC leaves one
//
//   - YANG constraints of candidate are enforced by commit and validate; test-option
//     test-then-set does not enforce them at an edit of candidate, test-only does
//     (RFC 7950 section 8.3.3). Running and startup are always valid.
//   - While a confirmed commit is pending, only the session that issued it may write
//     running by other means than commit; such a write is a part of what reverts.
//   - A revert goes through the data plane like any commit. When the data plane or
//     the disk refuses it, running stays as it is, the event and the log say so, and
//     it is tried again, first after a second, then at growing intervals up to half a
//     minute. Meanwhile a commit of a modified candidate takes the revert's place, so
//     that nobody is locked out; a commit of an unmodified one tries the revert.
//   - A confirmed commit that is pending when the process ends is reverted by
//     datastore.Open, whatever persist says: the confirmation may not come any more.
package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

// Session says who acts. ID 0 is not a NETCONF session.
type Session = datastore.Session

// Datastore names a datastore: datastore.Running, Candidate or Startup.
type Datastore = datastore.Name

// An Applier carries a change of running to the data plane. The Manager calls
// it for one change at a time.
type Applier interface {
	// Prepare compiles what differs between two trees and may refuse, with
	// data.Errors that name the YANG paths; then nothing has changed anywhere.
	// An empty old tree means that nothing is known about the data plane.
	Prepare(ctx context.Context, old, new *data.Container) (Pending, error)
}

// Pending is a prepared change. Exactly one of its methods is called, once.
type Pending interface {
	// Publish makes the change live. It cannot fail.
	Publish()
	// Abort forgets the change.
	Abort()
}

// Options of New.
type Options struct {
	Schema    *yang.Schema
	Validator *validate.Validator
	Store     *datastore.Store
	Applier   Applier
	// Authorize is asked before a session changes a datastore from old to new;
	// its error refuses the change (RFC 8341 section 3.2). It sees what the
	// session asked for, before anything that goes as a side effect has gone. It
	// is not asked about what the server does by itself, such as a revert, nor
	// about what needs no right to data. May be nil; see SetAuthorize.
	Authorize func(by Session, ds Datastore, old, new *data.Container) error
	// Clock is the wall clock and timers; nil means the real ones.
	Clock Clock
	Log   *slog.Logger // nil: the default one
	// OnCommit hears of every change of running and startup and of every step
	// of a confirmed commit, in order. It must not block, nor call methods of
	// the Manager other than Tree and Info. May be nil.
	OnCommit func(Event)
}

// A Clock gives the time and timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d unless stopped before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// EditFunc gives the tree that an edit makes of a tree: the same pointer when
// nothing changes. On an error nothing happens. It must not call the Manager.
type EditFunc func(tree *data.Container) (*data.Container, error)

// TestOption is the test-option of edit-config (RFC 6241 section 7.2).
type TestOption uint8

// The test options.
const (
	TestThenSet TestOption = iota
	Set
	TestOnly
)

// EditOptions are the options of Edit.
type EditOptions struct{ TestOption TestOption }

// CommitOptions are the parameters of commit (RFC 6241 section 8.4.5).
type CommitOptions struct {
	Confirmed bool
	// Timeout of a confirmed commit; 0 means 600 s.
	Timeout time.Duration
	// Persist, when not empty, lets the confirmed commit outlive the session
	// and is the token that PersistID must then repeat.
	Persist, PersistID string
}

// A Source is a ready tree, or where Tree is nil a datastore.
type Source struct {
	Datastore Datastore
	Tree      *data.Container
}

// A Step is the part that an Event has in a confirmed commit, as in
// netconf-confirmed-commit of RFC 6470.
type Step uint8

// The steps. Cancel stands for cancel-commit and for the end of the session,
// Failed for a revert that was refused and will be tried again.
const (
	None Step = iota
	Start
	Extend
	Complete
	Cancel
	Timeout
	Failed
)

// String gives the word of RFC 6470; Failed has none there.
func (s Step) String() string {
	return [...]string{"", "start", "extend", "complete", "cancel", "timeout", "failed"}[s]
}

// An Event tells what happened to a datastore.
type Event struct {
	Datastore Datastore // Running or Startup
	Kind      datastore.Kind
	Step      Step
	Seq       uint64 // of running
	Time      time.Time
	// By is who asked, or for what the server did by itself whose confirmed
	// commit it is about.
	By Session
	// Old and New are the trees before and after: the same where only the
	// state of a confirmed commit changed.
	Old, New *data.Container
	// Timeout is that of the confirmed commit, for Start and Extend.
	Timeout time.Duration
	Err     error // of Failed
}

// Info is the state of the datastores, for ietf-netconf-monitoring.
type Info struct {
	Locks []datastore.Lock
	// Modified tells that candidate has changes that are not committed.
	Modified bool
	// Pending is the confirmed commit that waits for confirmation, or nil.
	Pending *PendingInfo
	// Seq and LastCommit are the number and time of the last change of running.
	Seq        uint64
	LastCommit time.Time
}

// PendingInfo describes a confirmed commit that waits for confirmation.
type PendingInfo struct {
	By       Session
	Persist  bool
	Deadline time.Time
	// Base is the version that comes back.
	Base uint64
	// Err is why the revert was refused when it was last tried; the deadline
	// has passed then.
	Err error
}

// Entry is a version of running that was committed.
type Entry struct {
	Seq  uint64
	Time time.Time
	By   Session
	Kind datastore.Kind
	Tree *data.Container
}

// Source names the version for Copy and Validate.
func (e Entry) Source() Source { return Source{Tree: e.Tree} }

// Manager is the one writer of the datastores. Its methods may be called from
// any goroutine.
type Manager struct {
	o       Options
	store   *datastore.Store
	applier Applier
	clock   Clock
	log     *slog.Logger

	// turn holds a token while somebody writes. What is written by it:
	turn    chan struct{}
	closed  bool
	waiting *confirmed // the confirmed commit that is pending, or nil
	settled settled

	mu    sync.Mutex // of what Info reads; held for moments only
	locks datastore.Locks
	info  *PendingInfo
}

// settled is the candidate to which edits have led from a running configuration,
// each of which has seen to the when conditions of what it changed. A commit of
// just this step need not do so again.
type settled struct{ running, candidate *data.Container }

// then is settled after an edit of candidate.
func (s settled) then(running, old, new *data.Container) settled {
	switch old {
	case running:
	case s.candidate:
		running = s.running
	default:
		return settled{}
	}
	return settled{running, new}
}

// New makes the writer of a Store. The data plane is not touched: call Resync
// when it is there.
func New(o Options) (*Manager, error) {
	if o.Schema == nil || o.Validator == nil || o.Store == nil || o.Applier == nil {
		return nil, errors.New("txn: Schema, Validator, Store and Applier are needed")
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Manager{o: o, store: o.Store, applier: o.Applier, clock: o.Clock, log: o.Log, turn: make(chan struct{}, 1)}, nil
}

// SetAuthorize sets Options.Authorize, for who needs the Manager first. It
// waits for the writer's turn.
func (m *Manager) SetAuthorize(f func(by Session, ds Datastore, old, new *data.Container) error) {
	m.turn <- struct{}{}
	defer m.done()
	m.o.Authorize = f
}

// Close waits for the writer whose turn it is and refuses all later ones. A
// confirmed commit stays pending on disk, so that the next start reverts it.
// The Store remains open.
func (m *Manager) Close() error {
	m.turn <- struct{}{}
	defer m.done()
	if m.waiting != nil {
		m.waiting.stop()
		m.setWaiting(nil)
	}
	m.closed = true
	return nil
}

// take waits for the writer's turn.
func (m *Manager) take(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return failed("given up while another change was made: " + ctx.Err().Error())
	}
	if m.closed {
		m.done()
		return failed("the server is stopping")
	}
	return nil
}

func (m *Manager) done() { <-m.turn }

// Tree gives the present tree of a datastore. It never waits.
func (m *Manager) Tree(ds Datastore) *data.Container { return m.store.Tree(ds) }

// History gives running and what it was before, newest first.
func (m *Manager) History() []Entry {
	h := m.store.History()
	out := make([]Entry, len(h))
	for i, v := range h {
		out[i] = Entry{v.Seq, v.Time, v.By, v.Kind, v.Tree}
	}
	return out
}

// Info tells the state of the datastores. It never waits for a writer.
func (m *Manager) Info() Info {
	v := m.store.Running()
	i := Info{Modified: m.store.Modified(), Seq: v.Seq, LastCommit: v.Time}
	m.mu.Lock()
	defer m.mu.Unlock()
	i.Locks = m.locks.All()
	if m.info != nil {
		p := *m.info
		i.Pending = &p
	}
	return i
}

func failed(msg string) error { return &data.Error{Tag: "operation-failed", Msg: msg} }

func inUse(msg string) error { return &data.Error{Type: "protocol", Tag: "in-use", Msg: msg} }

func invalid(msg string) error { return &data.Error{Type: "protocol", Tag: "invalid-value", Msg: msg} }
