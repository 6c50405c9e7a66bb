package txn

import (
	"context"
	"fmt"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
)

// Edit changes candidate or running by f (RFC 6241 section 7.2). All of the
// edit happens or nothing. An edit of running is a commit: it is valid, on the
// disk and in the data plane when Edit returns.
func (m *Manager) Edit(ctx context.Context, by Session, target Datastore, o EditOptions, f EditFunc) error {
	if target == datastore.Startup {
		return &data.Error{Type: "protocol", Tag: "operation-not-supported", Msg: "startup is written by copy-config"}
	}
	return m.write(ctx, change{by: by, kind: datastore.Edit}, target, o.TestOption, f)
}

// Copy replaces a whole datastore (RFC 6241 section 7.3).
func (m *Manager) Copy(ctx context.Context, by Session, from Source, to Datastore) error {
	if from.Tree == nil && from.Datastore == to {
		return invalid("source and target are the same datastore")
	}
	// What running holds is not new to startup: the operation is all that needs
	// a right (RFC 8341 section 3.2.6).
	free := from.Tree == nil && from.Datastore == datastore.Running && to == datastore.Startup
	return m.write(ctx, change{by: by, kind: datastore.Copy, free: free}, to, TestThenSet, func(*data.Container) (*data.Container, error) {
		return m.tree(from), nil
	})
}

func (m *Manager) tree(s Source) *data.Container {
	if s.Tree != nil {
		return s.Tree
	}
	return m.store.Tree(s.Datastore)
}

// write replaces the tree of a datastore by what f makes of it.
func (m *Manager) write(ctx context.Context, c change, ds Datastore, test TestOption, f EditFunc) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	c.locks = []Datastore{ds}
	if err := m.writable(c, ds); err != nil {
		return err
	}
	old := m.store.Tree(ds)
	var err error
	if c.tree, err = f(old); err != nil {
		return err
	}
	if !c.free {
		if err := m.authorize(c.by, ds, old, c.tree); err != nil {
			return err
		}
	}
	if test == TestOnly {
		return m.test(ctx, c)
	}
	switch ds {
	case datastore.Running:
		c.tentative = m.waiting != nil
		whole := c.tree == m.store.Tree(datastore.Candidate)
		if err := m.commit(ctx, c); err != nil {
			return err
		}
		if whole { // candidate was copied: nothing of it is uncommitted
			m.store.SetCandidate(nil)
		}
		return nil
	case datastore.Startup:
		return m.setStartup(c)
	}
	if c.tree != old {
		// What must be valid is asked at commit; what may be there at all, at
		// each edit (RFC 7950 section 8.3.1).
		tree, errs := m.o.Validator.When(old, c.tree)
		if len(errs) > 0 {
			return errs
		}
		c.tree = tree
		m.settled = m.settled.then(m.store.Running().Tree, old, tree)
	}
	switch {
	case c.tree == m.store.Running().Tree:
		m.store.SetCandidate(nil)
	case c.tree != old:
		m.store.SetCandidate(c.tree)
	}
	return nil
}

// writable refuses a write that a lock or a confirmed commit forbids.
func (m *Manager) writable(c change, ds Datastore) error {
	if err := m.unlocked(c); err != nil {
		return err
	}
	if p := m.waiting; ds == datastore.Running && p != nil && (p.by != c.by || p.err != nil) {
		return inUse("a confirmed commit of " + p.by.String() + " is pending")
	}
	return nil
}

// setStartup writes startup, which must be valid like running.
func (m *Manager) setStartup(c change) error {
	old := m.store.Tree(datastore.Startup)
	tree, _, err := m.validate(m.store.Running(), c.tree)
	if err != nil {
		return err
	}
	if err := m.store.SetStartup(tree, c.by); err != nil {
		return notKept(err)
	}
	m.record(c, datastore.Startup, old, tree)
	return nil
}

// Delete empties startup (delete-config, RFC 6241 section 7.4): the next boot
// then goes on with running. Running and candidate cannot be deleted.
func (m *Manager) Delete(ctx context.Context, by Session, ds Datastore) error {
	if ds != datastore.Startup {
		return &data.Error{Type: "protocol", Tag: "operation-not-supported", Msg: fmt.Sprintf("%s cannot be deleted", ds)}
	}
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	c := change{by: by, kind: datastore.Copy, locks: []Datastore{ds}}
	if err := m.writable(c, ds); err != nil {
		return err
	}
	old := m.store.Tree(ds)
	empty := data.New(m.o.Schema) // the operation needs a right, the data none (RFC 8341 section 3.2.7)
	if err := m.store.SetStartup(nil, by); err != nil {
		return notKept(err)
	}
	m.record(c, ds, old, empty)
	return nil
}

// Validate tells whether a configuration could become running (RFC 6241
// section 8.6.4.1): whether it is valid, and whether the data plane would take
// it. Nothing changes.
func (m *Manager) Validate(ctx context.Context, by Session, src Source) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	return m.test(ctx, change{by: by, tree: m.tree(src)})
}

// test does what commit does up to the point where something would change.
func (m *Manager) test(ctx context.Context, c change) error {
	old := m.store.Running()
	tree, _, err := m.validate(old, c.tree)
	if err != nil || !differ(old.Tree, tree) {
		return err
	}
	p, err := m.prepare(ctx, old.Tree, tree)
	if err != nil {
		return err
	}
	p.Abort()
	return nil
}

// Discard makes candidate the same as running (RFC 6241 section 8.3.4.2).
func (m *Manager) Discard(ctx context.Context, by Session) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	if err := m.unlocked(change{by: by, locks: []Datastore{datastore.Candidate}}); err != nil {
		return err
	}
	m.store.SetCandidate(nil)
	return nil
}

// Lock keeps others from writing a datastore (RFC 6241 section 7.5). It is
// denied when somebody holds the lock, when candidate has changes that are not
// committed, and for running while another session's confirmed commit is
// pending.
func (m *Manager) Lock(ctx context.Context, by Session, ds Datastore) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch p := m.waiting; {
	case m.locks.Held(ds) != nil:
	case ds == datastore.Candidate && m.store.Modified():
		return datastore.Denied(0, "candidate has changes that are neither committed nor discarded")
	case ds == datastore.Running && p != nil && p.by != by:
		return datastore.Denied(p.by.ID, "a confirmed commit of "+p.by.String()+" is pending")
	}
	return m.locks.Lock(ds, by, m.clock.Now())
}

// Unlock ends a Lock (RFC 6241 section 7.6). Changes of candidate that were not
// committed are discarded with its lock (section 8.3.5.2).
func (m *Manager) Unlock(ctx context.Context, by Session, ds Datastore) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	return m.release(ds, by)
}

func (m *Manager) release(ds Datastore, by Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.locks.Unlock(ds, by); err != nil {
		return err
	}
	if ds == datastore.Candidate {
		m.store.SetCandidate(nil)
	}
	return nil
}
