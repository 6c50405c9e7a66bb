package netconf

import (
	"context"

	"vrouter/mgmt/data"
	"vrouter/mgmt/txn"
)

// Datastores is what the operations need of the configuration datastores.
// *txn.Manager fulfils it. Errors are data.Errors or *data.Error; others are
// answered as operation-failed.
type Datastores interface {
	Tree(ds txn.Datastore) *data.Container
	Edit(ctx context.Context, by txn.Session, target txn.Datastore, opt txn.EditOptions, f txn.EditFunc) error
	Copy(ctx context.Context, by txn.Session, from txn.Source, to txn.Datastore) error
	Delete(ctx context.Context, by txn.Session, ds txn.Datastore) error
	Validate(ctx context.Context, by txn.Session, src txn.Source) error
	Commit(ctx context.Context, by txn.Session, opt txn.CommitOptions) error
	CancelCommit(ctx context.Context, by txn.Session, persistID string) error
	Discard(ctx context.Context, by txn.Session) error
	Lock(ctx context.Context, by txn.Session, ds txn.Datastore) error
	Unlock(ctx context.Context, by txn.Session, ds txn.Datastore) error
	SessionEnded(by txn.Session)
	Info() txn.Info
	// SetAuthorize is called once, by New: access control of what changes a
	// datastore.
	SetAuthorize(f func(by txn.Session, ds txn.Datastore, old, new *data.Container) error)
}

var _ Datastores = (*txn.Manager)(nil)
