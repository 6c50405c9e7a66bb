// Package binding is what a feature's management side fulfils: it hands out
// state, and it takes committed configuration.
package binding

import (
	"context"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Want says what a <get> asks for, so that a StateSource need not gather
// what nobody reads. It errs on the side of yes: what it wants and the filter
// then drops is only wasted work.
type Want interface {
	// Subtree tells whether n or anything below it may be asked for.
	Subtree(n *yang.Node) bool
	// Keys gives the entries of list n that are asked for, as canonical keys
	// (data.Key); all means that every entry is, and keys counts for nothing.
	Keys(n *yang.Node) (keys []string, all bool)
}

// A StateSource knows the operational state of some part of the schema. It is
// asked on demand, at each <get> that wants something of it; nothing is polled.
type StateSource interface {
	// State adds config-false nodes to e, which stands at the root of a copy
	// of the running configuration, and leaves e standing there. Configuration
	// must not be changed, but list entries and containers that only exist in
	// operation (RFC 8343's interfaces without configuration) may be entered
	// with data.Merge. State is called from many goroutines at once, each with
	// an edit of its own, and gives up when ctx ends. An error fails the whole
	// <get>; it should be a *data.Error or data.Errors.
	State(ctx context.Context, w Want, e *data.Edit) error
}
