// Package binding is what a feature's management side fulfils, and nothing
// else: how its part of a commit becomes a change of the fast path, and how
// its state is read.
//
// Config flows data tree → ygot struct of the changed subtree → Translate →
// fastpath.Change. State flows Engine.State → data tree, on demand.
package binding

import (
	"context"

	"vrouter/fastpath"
	"vrouter/mgmt/data"
)

// A Binding is the management side of one feature. Its methods are called by
// one goroutine at a time, except State (StateSource), which may run beside
// anything. Translate of one binding may run beside that of another.
type Binding interface {
	// Name is the feature's name, as in fastpath.Refusal.Feature.
	Name() string
	// Owns lists the schema paths (/ietf-interfaces:interfaces/interface/…,
	// without predicates) of the config nodes that this binding reads, each
	// with all below it. A test walks the schema and wants exactly one
	// owner for each config leaf.
	Owns() []string
	// Translate adds to c.Out what a commit does in this feature. It looks only
	// at c.Changes unless an object's parts stand elsewhere, so that its cost
	// follows the change. An error (data.Errors or *data.Error with the
	// path) refuses the commit; then nothing may have changed in the binding:
	// what it keeps between commits it changes in the function it gives to
	// c.OnPublish.
	Translate(c *Commit) error
	// Locate gives the YANG path of the object and field that the fast path
	// refused, "" when it is not this binding's.
	Locate(c *Commit, r *fastpath.Refusal) string
	StateSource
}

// A Watcher is a Binding that also reads nodes of another owner: routes follow
// the addresses of interfaces. It is given their changes as well.
type Watcher interface {
	// Watches lists schema paths as Owns does.
	Watches() []string
}

// A Reader reads the state of the data plane. While there is no data plane the
// answer is empty, not an error: a <get> then shows what the management plane
// knows by itself.
type Reader interface {
	State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error)
}

// A Commit is one transaction as bindings see it.
type Commit struct {
	// Old and New are running before and after; Old is the empty tree when the
	// fast path is filled from scratch.
	Old, New *data.Container
	// Changes is what differs, at or below the binding's Owns, and created or
	// deleted ancestors of these.
	Changes []data.Change
	// Full says that the fast path is being filled from scratch: Changes is all
	// of New, and what a binding kept from earlier commits no longer counts.
	Full bool
	// Out collects the change of the fast path. A binding adds to what is its
	// feature's, and does not look at the rest.
	Out *fastpath.Change

	publish []func()
}

// OnPublish registers what to do once the change is live; it may not fail.
func (c *Commit) OnPublish(f func()) { c.publish = append(c.publish, f) }

// Part gives a binding's view of the commit: its changes, and a list of its own
// of what to do once they are live.
func (c *Commit) Part(changes []data.Change) *Commit {
	return &Commit{Old: c.Old, New: c.New, Changes: changes, Full: c.Full, Out: c.Out}
}

// Join takes over what was registered with a Part.
func (c *Commit) Join(p *Commit) { c.publish = append(c.publish, p.publish...) }

// Published runs what was registered, in order.
func (c *Commit) Published() {
	for _, f := range c.publish {
		f()
	}
	c.publish = nil
}
