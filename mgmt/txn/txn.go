// Package txn is the one writer of the configuration datastores.
package txn

import (
	"context"
	"log/slog"
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
// it from one goroutine at a time.
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
	// its error refuses the change (RFC 8341 section 3.2.4 ff). May be nil.
	Authorize func(by Session, ds Datastore, old, new *data.Container) error
	// Clock is the wall clock and timers; nil means the real ones.
	Clock Clock
	Log   *slog.Logger
	// OnCommit hears of every change of running and startup and of every step
	// of a confirmed commit, in order. It must not block and must not call the
	// Manager's writing methods.
	OnCommit func(Event)
}

// A Clock gives the time and timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d unless stopped before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// EditFunc gives the tree that an edit makes of a tree: the same pointer when
// nothing changes. On an error nothing happens.
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

// An Event tells what happened.
type Event struct {
	Datastore Datastore
	Seq       uint64
	Time      time.Time
	By        Session
	Old, New  *data.Container
}

// Info is the state of the datastores, for ietf-netconf-monitoring.
type Info struct {
	Locks []LockInfo
	// Modified tells that candidate has changes that are not committed.
	Modified bool
	// Pending is the confirmed commit that waits for confirmation, or nil.
	Pending *PendingInfo
	// Seq and LastCommit are the number and time of the last change of running.
	Seq        uint64
	LastCommit time.Time
}

// LockInfo is a lock that is held.
type LockInfo struct {
	Datastore Datastore
	By        Session
	Since     time.Time
}

// PendingInfo describes a confirmed commit that waits for confirmation.
type PendingInfo struct {
	By       Session
	Persist  bool
	Deadline time.Time
}

// Entry is a version of running that Source can name again.
type Entry struct {
	Seq  uint64
	Time time.Time
	By   Session
	Tree *data.Container
}

// Manager is the one writer of the datastores. Its methods may be called from
// any goroutine; those that write take turns.
type Manager struct{}
