package system

import (
	"reflect"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/fastpath"
)

// Translate implements binding.Binding.
func (b *Binding) Translate(c *binding.Commit) error {
	is := b.global(c.New)
	if c.Full || !reflect.DeepEqual(is, b.global(c.Old)) {
		c.Out.Global = &is
	}
	return nil
}

func (b *Binding) global(tree *data.Container) fastpath.Global {
	v := b.fill.Fill(tree.Sub(b.top))
	return fastpath.Global{BusyPoll: v.Worker.Polling == view.Fastpath_Fastpath_Worker_Polling_busy}
}
