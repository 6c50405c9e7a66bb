// Package history shows the versions of the running configuration and loads
// one of them into candidate (vrouter-commit). It is for the server, not for
// the data plane: the way back is a commit like any other.
package history

import (
	"context"
	"fmt"
	"strconv"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/yang"
)

// Module is the module that this package serves.
const Module = "vrouter-commit"

// A Source lists versions and takes one back into candidate; txn.Manager is
// one.
type Source interface {
	History() []txn.Entry // latest first
	Copy(ctx context.Context, by txn.Session, from txn.Source, to txn.Datastore) error
}

// History serves vrouter-commit. Safe for concurrent use.
type History struct {
	schema *yang.Schema
	from   Source
}

// New makes a History.
func New(s *yang.Schema, from Source) *History { return &History{s, from} }

// State implements binding.StateSource.
func (h *History) State(_ context.Context, want binding.Want, e *data.Edit) error {
	w := oper.New(h.schema, want, e)
	if !w.Wants("commits") {
		return nil
	}
	w.In("commits", func() {
		for _, c := range h.from.History() {
			w.Entry("commit", []string{strconv.FormatUint(c.Seq, 10)}, func() {
				if !c.Time.IsZero() { // the empty configuration of the beginning has none
					w.Time("time", c.Time.UnixNano())
				}
				w.Text("kind", c.Kind.String())
				if c.By.User != "" {
					w.Text("user", c.By.User)
				}
				if c.By.ID != 0 {
					w.Uint("session-id", uint64(c.By.ID))
				}
			})
		}
	})
	return w.Err()
}

// Rollback carries out the rpc of that name.
func (h *History) Rollback(ctx context.Context, by txn.Session, in *codec.Input) (*data.Container, error) {
	param := func(name string) (uint64, bool) {
		n := in.Op.Input().ChildByName(name)
		v, _, ok := in.Params.Value(n)
		x, err := strconv.ParseUint(v.Text, 10, 64)
		return x, ok && err == nil
	}
	versions := h.from.History()
	if back, ok := param("back"); ok {
		if back < uint64(len(versions)) {
			return nil, h.from.Copy(ctx, by, versions[back].Source(), datastore.Candidate)
		}
		return nil, missing(fmt.Sprintf("there is no version %d back: the oldest that is kept is %d back", back, len(versions)-1))
	}
	seq, _ := param("sequence")
	for _, v := range versions {
		if v.Seq == seq {
			return nil, h.from.Copy(ctx, by, v.Source(), datastore.Candidate)
		}
	}
	return nil, missing(fmt.Sprintf("version %d is not kept", seq))
}

func missing(msg string) error { return &data.Error{Tag: "data-missing", Msg: msg} }
