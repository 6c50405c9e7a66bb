package txn

import (
	"context"

	"vrouter/mgmt/data"
)

func notYet() error { return &data.Error{Tag: "operation-not-supported", Msg: "not built yet"} }

func New(Options) (*Manager, error)                  { return nil, notYet() }
func (m *Manager) Close() error                      { return notYet() }
func (m *Manager) Tree(ds Datastore) *data.Container { return nil }
func (m *Manager) Edit(ctx context.Context, by Session, target Datastore, opt EditOptions, f EditFunc) error {
	return notYet()
}
func (m *Manager) Copy(ctx context.Context, by Session, from Source, to Datastore) error {
	return notYet()
}
func (m *Manager) Delete(ctx context.Context, by Session, ds Datastore) error      { return notYet() }
func (m *Manager) Validate(ctx context.Context, by Session, src Source) error      { return notYet() }
func (m *Manager) Commit(ctx context.Context, by Session, opt CommitOptions) error { return notYet() }
func (m *Manager) CancelCommit(ctx context.Context, by Session, persistID string) error {
	return notYet()
}
func (m *Manager) Discard(ctx context.Context, by Session) error              { return notYet() }
func (m *Manager) Lock(ctx context.Context, by Session, ds Datastore) error   { return notYet() }
func (m *Manager) Unlock(ctx context.Context, by Session, ds Datastore) error { return notYet() }
func (m *Manager) SessionEnded(by Session)                                    {}
func (m *Manager) Info() Info                                                 { return Info{} }
func (m *Manager) History() []Entry                                           { return nil }
func (m *Manager) Resync(ctx context.Context) error                           { return notYet() }
