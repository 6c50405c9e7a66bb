package txn

import (
	"context"
	"crypto/subtle"
	"time"

	"vrouter/mgmt/datastore"
)

// DefaultTimeout is the confirm-timeout of RFC 6241 section 8.4.5.1.
const DefaultTimeout = 600 * time.Second

// A revert that was refused is tried again after retryFirst, then at growing
// intervals up to retryMost.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// confirmed is a confirmed commit that is pending.
type confirmed struct {
	by      Session
	persist string             // "" ends with the session
	base    *datastore.Version // what comes back
	until   time.Time
	stop    func() bool   // of the timer
	err     error         // why the revert was refused; nil before it was tried
	retry   time.Duration // until the next try
}

// Commit makes candidate the running configuration (RFC 6241 sections 8.3.4.1
// and 8.4). It begins, extends or confirms a confirmed commit as well.
func (m *Manager) Commit(ctx context.Context, by Session, o CommitOptions) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	if err := m.settle(ctx); err != nil {
		return err
	}
	was := m.waiting
	if err := may(was, by, o); err != nil {
		return err
	}
	c := change{by: by, kind: datastore.Commit, tree: m.store.Tree(datastore.Candidate), tentative: o.Confirmed,
		locks: []Datastore{datastore.Running, datastore.Candidate}}
	switch {
	case o.Confirmed && o.Timeout <= 0:
		o.Timeout = DefaultTimeout
		fallthrough
	case o.Confirmed:
		c.event = Event{Step: Start, Timeout: o.Timeout}
		if was != nil {
			c.event.Step = Extend
		}
	case was != nil:
		c.event.Step = Complete
	}
	base := m.store.Running()
	if err := m.authorize(by, datastore.Running, base.Tree, c.tree); err != nil {
		return err
	}
	if err := m.commit(ctx, c); err != nil {
		return err
	}
	m.store.SetCandidate(nil)
	if !o.Confirmed {
		m.setWaiting(nil)
		return nil
	}
	next := &confirmed{by: by, persist: o.Persist, base: base, until: m.clock.Now().Add(o.Timeout)}
	if was != nil { // it is extended: what comes back is what was before the first
		next.base = was.base
		if o.Persist == "" {
			next.persist = was.persist
		}
	}
	m.setWaiting(next)
	m.arm(next, o.Timeout)
	return nil
}

// may tells whether by may commit while a confirmed commit is pending.
func may(p *confirmed, by Session, o CommitOptions) error {
	switch {
	case o.Persist != "" && !o.Confirmed:
		return invalid("persist goes with confirmed")
	case o.PersistID != "" && (p == nil || !p.is(o.PersistID)):
		return invalid("no confirmed commit is pending under this persist-id")
	case p == nil || o.PersistID != "" || p.err != nil:
		return nil
	case p.persist != "":
		return inUse("a persistent confirmed commit is pending: its persist-id is needed")
	case p.by != by:
		return inUse("a confirmed commit of " + p.by.String() + " is pending")
	}
	return nil
}

func (p *confirmed) is(id string) bool {
	return p.persist != "" && subtle.ConstantTimeCompare([]byte(p.persist), []byte(id)) == 1
}

// settle tries a revert that is due and was refused before, so that a commit
// does not build on what should be gone. When it is refused again, a modified
// candidate may take its place.
func (m *Manager) settle(ctx context.Context) error {
	if m.waiting == nil || m.waiting.err == nil {
		return nil
	}
	err := m.revert(ctx, m.waiting.by, m.waiting, Timeout)
	if err != nil && m.store.Modified() {
		return nil
	}
	return err
}

// CancelCommit reverts a confirmed commit now (RFC 6241 section 8.4.4.1).
func (m *Manager) CancelCommit(ctx context.Context, by Session, persistID string) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.done()
	p := m.waiting
	switch {
	case persistID != "" && (p == nil || !p.is(persistID)):
		return invalid("no confirmed commit is pending under this persist-id")
	case p == nil:
		return failed("no confirmed commit is pending")
	case persistID == "" && p.persist != "":
		return invalid("the confirmed commit is persistent: its persist-id is needed")
	case persistID == "" && p.by != by:
		return inUse("the confirmed commit is that of " + p.by.String())
	}
	return m.revert(ctx, by, p, Cancel)
}

// revert brings back what running was before a confirmed commit: the same
// function as the commit, with the older tree. by is who asked, or whose
// confirmed commit it is.
func (m *Manager) revert(ctx context.Context, by Session, p *confirmed, why Step) error {
	err := m.commit(ctx, change{by: by, kind: datastore.Revert, tree: p.base.Tree, own: true, event: Event{Step: why}})
	if err == nil {
		m.setWaiting(nil)
	}
	return err
}

// due reverts for the reason of why, and sees to it that it is tried again when
// that is refused.
func (m *Manager) due(p *confirmed, why Step) {
	err := m.revert(context.Background(), p.by, p, why)
	if err == nil {
		return
	}
	p.err = err
	p.retry = min(max(2*p.retry, retryFirst), retryMost)
	m.setWaiting(p)
	m.arm(p, p.retry)
	m.log.Error("a confirmed commit could not be reverted; it will be tried again", "in", p.retry, "err", err)
	if v := m.store.Running(); m.o.OnCommit != nil {
		m.o.OnCommit(Event{Kind: datastore.Revert, Step: Failed, Seq: v.Seq, Time: m.clock.Now(), By: p.by, Old: v.Tree, New: v.Tree, Err: err})
	}
}

// arm sets the timer of a confirmed commit.
func (m *Manager) arm(p *confirmed, d time.Duration) {
	p.stop = m.clock.AfterFunc(d, func() {
		m.turn <- struct{}{}
		defer m.done()
		if m.waiting == p { // else confirmed, extended or reverted meanwhile
			m.due(p, Timeout)
		}
	})
}

// setWaiting replaces the pending confirmed commit.
func (m *Manager) setWaiting(p *confirmed) {
	if w := m.waiting; w != nil && w != p {
		w.stop()
	}
	m.waiting = p
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.info = nil; p != nil {
		m.info = &PendingInfo{By: p.by, Persist: p.persist != "", Deadline: p.until, Base: p.base.Seq, Err: p.err}
	}
}

// SessionEnded lets go of what a session held: its confirmed commit reverts at
// once unless it is persistent (RFC 6241 section 8.4.1), its locks are
// released, and candidate is discarded when it had locked it (section 8.3.5.2).
// It waits for the writer's turn.
func (m *Manager) SessionEnded(by Session) {
	m.turn <- struct{}{}
	defer m.done()
	if m.closed {
		return
	}
	if p := m.waiting; p != nil && p.by == by && p.persist == "" && p.err == nil {
		p.stop()
		m.due(p, Cancel)
	}
	for _, l := range m.Info().Locks {
		if l.By == by {
			m.release(l.Datastore, by)
		}
	}
}
