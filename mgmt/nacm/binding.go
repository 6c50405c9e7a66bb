package nacm

import (
	"context"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
)

// A Control is the binding of /nacm: nothing of it is for the data plane, but
// a commit with a rule that cannot work is refused, and the counters are state.
var _ binding.Binding = (*Control)(nil)

// Name implements binding.Binding.
func (c *Control) Name() string { return "nacm" }

// Owns implements binding.Binding.
func (c *Control) Owns() []string { return []string{c.n.nacm.Path()} }

// Translate implements binding.Binding: it checks the rules.
func (c *Control) Translate(t *binding.Commit) error {
	if errs := c.Check(t.New); len(errs) > 0 {
		return errs
	}
	return nil
}

// Locate implements binding.Binding: nothing of this is ever refused by the
// data plane.
func (c *Control) Locate(*binding.Commit, *fastpath.Refusal) string { return "" }

// State implements binding.StateSource: what was denied since the server
// started.
func (c *Control) State(_ context.Context, want binding.Want, e *data.Edit) error {
	w := oper.New(c.schema, want, e)
	w.In(c.n.nacm.Module.Name+":nacm", func() {
		w.Uint(c.n.deniedOperations.Name, uint64(c.DeniedOperations.Load()))
		w.Uint(c.n.deniedDataWrites.Name, uint64(c.DeniedDataWrites.Load()))
		w.Uint(c.n.deniedNotifications.Name, uint64(c.DeniedNotifications.Load()))
	})
	return w.Err()
}
