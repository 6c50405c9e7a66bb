package mgmt

import (
	"context"
	"errors"

	"vrouter/fastpath"
	"vrouter/mgmt/data"
	"vrouter/mgmt/supervisor"
)

// reader is the binding.Reader over an engine that may be down: then there is
// no state, so that a <get> goes on to answer with what does not come from the
// data plane. One that is there and does not answer is an error.
type reader struct{ engine fastpath.Engine }

func (r reader) State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error) {
	st, err := r.engine.State(ctx, q)
	switch {
	case errors.Is(err, supervisor.ErrDown):
		return &fastpath.State{}, nil
	case err != nil:
		return nil, &data.Error{Tag: "operation-failed", Msg: "the data plane does not tell its state: " + err.Error()}
	}
	return st, nil
}

// noEngine stands for a data plane where none is wanted: configuration is
// checked by the bindings and kept, and moves no packets.
type noEngine struct{}

func (noEngine) Caps(context.Context) (*fastpath.Caps, error) { return &fastpath.Caps{}, nil }

func (noEngine) Inventory(context.Context) (*fastpath.Inventory, error) {
	return &fastpath.Inventory{}, nil
}

func (noEngine) Prepare(context.Context, *fastpath.Change) (fastpath.Ticket, error) { return 0, nil }
func (noEngine) Publish(context.Context, fastpath.Ticket) error                     { return nil }
func (noEngine) Abort(context.Context, fastpath.Ticket) error                       { return nil }

func (noEngine) Operate(context.Context, *fastpath.Operation) error { return supervisor.ErrDown }

func (noEngine) State(context.Context, *fastpath.Query) (*fastpath.State, error) {
	return nil, supervisor.ErrDown
}

func (noEngine) Events(ctx context.Context, _ uint64) (*fastpath.Events, error) {
	<-ctx.Done() // nothing ever happens
	return nil, ctx.Err()
}

func (noEngine) Close() error { return nil }
