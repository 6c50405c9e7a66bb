package txn

import (
	"context"
	"errors"
	"syscall"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/validate"
)

// A change is what commit makes of running.
type change struct {
	by   Session
	kind datastore.Kind
	tree *data.Container
	// tentative: it reverts unless confirmed.
	tentative bool
	// own: the server does it by itself, locks aside.
	own bool
	// free: access control is not asked.
	free bool
	// locks are the datastores that nobody else may have locked.
	locks []Datastore
	event Event
}

// commit makes a tree the running configuration, or changes nothing and says
// why. The caller has the turn. On success running is on the disk, in the data
// plane and in memory.
//
//  1. lock: nobody else holds a lock that matters
//  2. validate: what the change can break; nodes whose when became false go
//  3. diff: nothing different needs no more than a record that it is confirmed
//  4. plan and prepare: the data plane compiles the difference, or refuses
//  5. persist: the journal has it, fsync included
//  6. publish: packets meet it
//  7. swap: readers meet it
//  8. record: whoever listens hears of it
func (m *Manager) commit(ctx context.Context, c change) error {
	if err := m.unlocked(c); err != nil {
		return err
	}
	old := m.store.Running()
	tree, refs, err := m.validate(old, c.tree)
	if err != nil {
		return err
	}
	differs := differ(old.Tree, tree)
	if !differs {
		tree = old.Tree
	}
	settles := !c.tentative && m.store.Base() != nil
	if differs || settles {
		v := &datastore.Version{Tree: tree, Refs: refs, By: c.by, Kind: c.kind, Tentative: c.tentative}
		drafted := make(chan struct{})
		go func() { // the journal's record is written, in memory, while the data plane compiles
			m.store.Draft(v)
			close(drafted)
		}()
		plan, err := m.prepare(ctx, old.Tree, tree)
		<-drafted
		if err != nil {
			return err
		}
		v.Time = m.clock.Now()
		if err := m.store.Persist(v); err != nil {
			plan.Abort()
			return notKept(err)
		}
		plan.Publish()
		m.store.Swap(v)
		m.settled = settled{}
	}
	m.record(c, datastore.Running, old.Tree, tree)
	return nil
}

// unlocked refuses a change when another session holds a lock.
func (m *Manager) unlocked(c change) error {
	if c.own {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ds := range c.locks {
		if err := m.locks.Free(ds, c.by); err != nil {
			return err
		}
	}
	return nil
}

// validate gives the tree as it may become running.
func (m *Manager) validate(old *datastore.Version, new *data.Container) (*data.Container, validate.Refs, error) {
	if new == old.Tree {
		return new, old.Refs, nil
	}
	var refs validate.Refs
	var errs data.Errors
	if m.settled == (settled{old.Tree, new}) {
		refs, errs = m.o.Validator.Settled(old.Tree, new, old.Refs)
	} else {
		new, refs, errs = m.o.Validator.Change(old.Tree, new, old.Refs)
	}
	if len(errs) > 0 {
		return nil, refs, errs
	}
	return new, refs, nil
}

// authorize asks whether a session may do what it asked for.
func (m *Manager) authorize(by Session, ds Datastore, old, new *data.Container) error {
	if m.o.Authorize == nil || old == new {
		return nil
	}
	return m.o.Authorize(by, ds, old, new)
}

// differ tells whether two trees differ in anything.
func differ(old, new *data.Container) bool {
	found := false
	data.Diff(old, new, func(data.Change) { found = true })
	return found
}

// prepare asks the data plane. Equal trees need nothing of it.
func (m *Manager) prepare(ctx context.Context, old, new *data.Container) (Pending, error) {
	if old == new {
		return nothing{}, nil
	}
	p, err := m.applier.Prepare(ctx, old, new)
	if err != nil {
		return nil, refused(err)
	}
	if err := ctx.Err(); err != nil {
		p.Abort()
		return nil, failed("given up: " + err.Error())
	}
	return p, nil
}

type nothing struct{}

func (nothing) Publish() {}
func (nothing) Abort()   {}

// refused makes sure that a refusal is an rpc-error.
func refused(err error) error {
	var one *data.Error
	var many data.Errors
	if errors.As(err, &one) || errors.As(err, &many) {
		return err
	}
	return failed("the data plane did not take the change: " + err.Error())
}

// notKept says that the disk refused a change.
func notKept(err error) error {
	tag := "operation-failed"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		tag = "resource-denied"
	}
	return &data.Error{Tag: tag, Msg: "nothing was changed, as it could not be written to disk: " + err.Error()}
}

// record tells of a change.
func (m *Manager) record(c change, ds Datastore, old, new *data.Container) {
	if old == new && c.event.Step == None {
		return
	}
	e := c.event
	v := m.store.Running()
	e.Datastore, e.Kind, e.By, e.Old, e.New, e.Seq = ds, c.kind, c.by, old, new, v.Seq
	e.Time = m.clock.Now()
	m.log.Info("configuration", "datastore", ds.String(), "by", c.kind.String(), "session", c.by.ID, "user", c.by.User, "seq", e.Seq, "confirm", e.Step.String())
	if m.o.OnCommit != nil {
		m.o.OnCommit(e)
	}
}

// Resync gives the whole of running to a data plane of which nothing is known:
// after a start, or when it came back. The Applier sees an empty old tree and
// changes just what differs from what it finds. On an error the data plane is
// as it was.
func (m *Manager) Resync(ctx context.Context) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	p, err := m.applier.Prepare(ctx, data.New(m.o.Schema), m.store.Running().Tree)
	if err != nil {
		return refused(err)
	}
	p.Publish()
	return nil
}
