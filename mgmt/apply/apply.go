// Package apply turns the difference between two running configurations into
// one change of the fast path: plan (each binding translates what it owns),
// prepare (the engine may refuse), publish.
package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/supervisor"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/yang"
)

// PublishTimeout bounds one call of the engine. An engine that does not answer
// in this time counts as gone; its supervisor fills a new one.
const PublishTimeout = 10 * time.Second

// StartTimeout bounds how long a change waits for a data plane that is being
// started.
const StartTimeout = 5 * time.Second

// A Starter is an Engine that is sometimes down: calls then fail with
// supervisor.ErrDown. Ready waits until it is up, and fails when ctx ends
// before, or at once when nobody starts it.
type Starter interface {
	Ready(ctx context.Context) error
}

// An Epocher is an Engine that may be another data plane from one moment to the
// next: Epoch changes with it.
type Epocher interface{ Epoch() uint64 }

// An Applier is the txn.Applier over an engine and a list of bindings. It is
// used by the one writer of running.
//
// A commit normally sends the engine what differs between two trees. That is
// right only for an engine that holds the old one, so after a start, when the
// engine is another one, or when it did not take what it had prepared, the next
// change is whole instead: all of the new tree is translated, compared with what
// the engine has, and the difference is sent (reconcile.go).
type Applier struct {
	engine   fastpath.Engine
	bindings []binding.Binding
	// who tells by schema node ID which bindings (bit = index) care for a
	// change at that node: those that own or watch it, an ancestor, or something
	// below.
	who []uint64
	log *slog.Logger
	// Lost is called when a prepared change could not be published because the
	// engine went away: running is ahead of it until it is filled again. It must
	// not wait for the writer of running, which calls it.
	Lost func(error)

	synced bool   // the engine of epoch holds running
	epoch  uint64 // of the engine that was filled
	serial uint64 // number of the last change that was published
	// without are the objects that running has and the engine could not take
	// when it was filled (partial.go). The map is replaced, not changed.
	without map[object]string
	mu      sync.Mutex // of without, which others read
}

// New makes an Applier. It fails when a binding claims a path that the schema
// does not have.
func New(s *yang.Schema, e fastpath.Engine, bindings []binding.Binding, log *slog.Logger) (*Applier, error) {
	a := &Applier{engine: e, bindings: bindings, who: make([]uint64, s.N), log: log, Lost: func(error) {}}
	if len(bindings) > 64 {
		return nil, errors.New("apply: more than 64 bindings")
	}
	for i, b := range bindings {
		paths := b.Owns()
		if w, ok := b.(binding.Watcher); ok {
			paths = append(paths, w.Watches()...)
		}
		for _, p := range paths {
			n := s.Find(p)
			if n == nil {
				return nil, fmt.Errorf("apply: binding %s claims %s, which the schema does not have", b.Name(), p)
			}
			for up := n.Up; up != nil; up = up.Up {
				a.who[up.ID] |= 1 << i
			}
			a.mark(n, 1<<i)
		}
	}
	return a, nil
}

func (a *Applier) mark(n *yang.Node, bit uint64) {
	a.who[n.ID] |= bit
	for _, k := range n.Data {
		a.mark(k, bit)
	}
}

// pending is a change that the engine has compiled and not yet taken.
type pending struct {
	a      *Applier
	commit *binding.Commit
	ticket fastpath.Ticket
	serial uint64
	epoch  uint64
	none   bool                                  // nothing for the engine to do
	have   map[string]map[string]fastpath.Digest // what the engine has, of a Full commit
	// without are the objects that the change leaves out.
	without map[object]string
}

// Prepare translates what differs and has the engine compile it. Nothing has
// changed anywhere when it fails. With an empty old tree, and whenever the engine
// may not hold the old one, it compares with what the engine holds and changes
// just the difference. It waits for an engine that is being started.
func (a *Applier) Prepare(ctx context.Context, old, new *data.Container) (txn.Pending, error) {
	wait, stop := context.WithTimeout(ctx, StartTimeout)
	defer stop()
	for {
		p, err := a.prepare(ctx, old, new)
		if err == nil {
			return p, nil
		}
		var m *mute
		if !errors.As(err, &m) {
			return nil, err
		}
		// One that came back is another engine: everything is asked anew.
		s, ok := a.engine.(Starter)
		if !ok || !errors.Is(m.err, supervisor.ErrDown) || wait.Err() != nil || s.Ready(wait) != nil {
			return nil, m.report()
		}
	}
}

// prepare tries it once. A mute error says that the engine gave no answer.
func (a *Applier) prepare(ctx context.Context, old, new *data.Container) (txn.Pending, error) {
	ctx, stop := context.WithTimeout(ctx, PublishTimeout)
	defer stop()
	p := &pending{a: a, serial: a.serial + 1, epoch: a.present()}
	c := &binding.Commit{Old: old, New: new, Out: &fastpath.Change{},
		Full: len(old.Kids()) == 0 || !a.synced || p.epoch != a.epoch || len(a.without) > 0}
	if c.Full {
		c.Old = data.NewAt(new.S)
	}
	p.commit = c
	if err := a.translate(c); err != nil {
		return nil, err
	}
	if c.Full {
		label, err := a.reconcile(ctx, p)
		if err != nil {
			return nil, err
		}
		p.serial = max(p.serial, label+1) // it goes on from where the engine is
	}
	if c.Out.Empty() {
		p.none, p.serial = true, p.serial-1
		return p, nil
	}
	c.Out.Label = strconv.FormatUint(p.serial, 10)
	if err := a.compile(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

// compile has the engine prepare the change.
func (a *Applier) compile(ctx context.Context, p *pending) error {
	for {
		t, err := a.engine.Prepare(ctx, p.commit.Out)
		if err == nil {
			p.ticket = t
			return nil
		}
		if !a.leaveOut(ctx, p, err) {
			return a.refused(p.commit, err)
		}
	}
}

// present gives the engine's epoch, 0 when it is always the same.
func (a *Applier) present() uint64 {
	if e, ok := a.engine.(Epocher); ok {
		return e.Epoch()
	}
	return 0
}

// translate hands every binding the changes it cares for. Those that have some
// work side by side.
func (a *Applier) translate(c *binding.Commit) error {
	per := make([][]data.Change, len(a.bindings))
	data.Diff(c.Old, c.New, func(ch data.Change) {
		n := ch.New
		if n == nil {
			n = ch.Old
		}
		for i, who := 0, a.who[n.Schema().ID]; who != 0; i, who = i+1, who>>1 {
			if who&1 != 0 {
				per[i] = append(per[i], ch)
			}
		}
	})
	errs := make([]error, len(a.bindings))
	parts := make([]*binding.Commit, len(a.bindings))
	var side sync.WaitGroup
	last := -1
	for i := range a.bindings {
		if len(per[i]) == 0 && !c.Full {
			continue
		}
		parts[i] = c.Part(per[i])
		if before := last; before >= 0 {
			side.Go(func() { errs[before] = a.bindings[before].Translate(parts[before]) })
		}
		last = i
	}
	if last >= 0 { // most commits concern one binding alone
		errs[last] = a.bindings[last].Translate(parts[last])
	}
	side.Wait()
	for i, p := range parts {
		if errs[i] != nil {
			return errs[i] // in the order of bindings, the first is the cause
		}
		if p != nil {
			c.Join(p)
		}
	}
	return nil
}

// refused names the YANG path of what the engine could not take.
func (a *Applier) refused(c *binding.Commit, err error) error {
	var r *fastpath.Refusal
	if !errors.As(err, &r) {
		return &mute{"nothing was changed, as the data plane did not take the change", err}
	}
	tag := "operation-failed"
	if r.Full {
		tag = "resource-denied"
	}
	for _, b := range a.bindings {
		if path := b.Locate(c, r); path != "" {
			return &data.Error{Tag: tag, AppTag: "data-plane-refused", Path: path, Msg: r.Reason}
		}
	}
	return &data.Error{Tag: tag, AppTag: "data-plane-refused", Msg: r.Error()}
}

// mute is the error of an engine that gave no answer, or no reason.
type mute struct {
	what string
	err  error
}

func (m *mute) Error() string { return m.what + ": " + m.err.Error() }

func (m *mute) report() error {
	err := m.err
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", PublishTimeout)
	}
	return &data.Error{Tag: "operation-failed", Msg: m.what + ": " + err.Error()}
}

// Publish makes the change live. A lost engine is no failure of the commit:
// running is what is wanted, and the engine is filled from it when it is back.
func (p *pending) Publish() {
	defer p.commit.Published()
	a := p.a
	if !p.none {
		ctx, stop := context.WithTimeout(context.Background(), PublishTimeout)
		defer stop()
		if err := a.engine.Publish(ctx, p.ticket); err != nil {
			a.synced = false
			a.log.Error("the data plane did not publish a commit that it had prepared; it will be filled from running", "err", err)
			a.Lost(err)
			return
		}
	}
	a.synced, a.epoch, a.serial = true, p.epoch, p.serial
	a.mu.Lock()
	defer a.mu.Unlock()
	a.without = p.without
}

// Abort forgets the change.
func (p *pending) Abort() {
	if p.none {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), PublishTimeout)
	defer stop()
	if err := p.a.engine.Abort(ctx, p.ticket); err != nil {
		p.a.log.Warn("the data plane did not answer an abort; the change expires there by itself", "err", err)
	}
}
