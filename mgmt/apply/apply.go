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
	"time"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/yang"
)

// PublishTimeout bounds one call of the engine. An engine that does not answer
// in this time counts as gone; its supervisor fills a new one.
const PublishTimeout = 10 * time.Second

// An Applier is the txn.Applier over an engine and a list of bindings. It is
// used by the one writer of running.
type Applier struct {
	engine   fastpath.Engine
	bindings []binding.Binding
	// who tells by schema node ID which bindings (bit = index) care for a
	// change at that node: those that own it, an ancestor, or something below.
	who []uint64
	log *slog.Logger
	// Lost is called when a prepared change could not be published because the
	// engine went away: running is ahead of it until it is filled again.
	Lost func(error)
}

// New makes an Applier. It fails when a binding claims a path that the schema
// does not have.
func New(s *yang.Schema, e fastpath.Engine, bindings []binding.Binding, log *slog.Logger) (*Applier, error) {
	a := &Applier{engine: e, bindings: bindings, who: make([]uint64, s.N), log: log, Lost: func(error) {}}
	if len(bindings) > 64 {
		return nil, errors.New("apply: more than 64 bindings")
	}
	for i, b := range bindings {
		for _, p := range b.Owns() {
			n := s.Find(p)
			if n == nil {
				return nil, fmt.Errorf("apply: binding %s owns %s, which the schema does not have", b.Name(), p)
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
	none   bool // nothing for the engine to do
}

// Prepare translates what differs and has the engine compile it. Nothing has
// changed anywhere when it fails. With an empty old tree it compares with what
// the engine holds and changes just the difference.
func (a *Applier) Prepare(ctx context.Context, old, new *data.Container) (txn.Pending, error) {
	c := &binding.Commit{Old: old, New: new, Full: len(old.Kids()) == 0, Out: &fastpath.Change{Label: label()}}
	if err := a.translate(c); err != nil {
		return nil, err
	}
	if c.Full {
		if err := a.reconcile(ctx, c.Out); err != nil {
			return nil, err
		}
	}
	p := &pending{a: a, commit: c}
	if c.Out.Empty() {
		p.none = true
		return p, nil
	}
	ctx, stop := context.WithTimeout(ctx, PublishTimeout)
	defer stop()
	t, err := a.engine.Prepare(ctx, c.Out)
	if err != nil {
		return nil, a.refused(c, err)
	}
	p.ticket = t
	return p, nil
}

// translate hands every binding the changes it cares for.
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
	for i, b := range a.bindings {
		if len(per[i]) == 0 && !c.Full {
			continue
		}
		c.Changes = per[i]
		if err := b.Translate(c); err != nil {
			return err
		}
	}
	c.Changes = nil
	return nil
}

// refused names the YANG path of what the engine could not take.
func (a *Applier) refused(c *binding.Commit, err error) error {
	var r *fastpath.Refusal
	if !errors.As(err, &r) {
		return &data.Error{Tag: "operation-failed", Msg: "the data plane did not take the change: " + err.Error()}
	}
	for _, b := range a.bindings {
		if path := b.Locate(c, r); path != "" {
			return &data.Error{Tag: "operation-failed", AppTag: "data-plane-refused", Path: path, Msg: r.Reason}
		}
	}
	return &data.Error{Tag: "operation-failed", AppTag: "data-plane-refused", Msg: r.Error()}
}

// Publish makes the change live. A lost engine is no failure of the commit:
// running is what is wanted, and the engine is filled from it when it is back.
func (p *pending) Publish() {
	defer p.commit.Published()
	if p.none {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), PublishTimeout)
	defer stop()
	if err := p.a.engine.Publish(ctx, p.ticket); err != nil {
		p.a.log.Error("the data plane went away while a commit was published; it will be filled from running", "err", err)
		p.a.Lost(err)
	}
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

func label() string { return strconv.FormatInt(time.Now().UnixNano(), 36) }
