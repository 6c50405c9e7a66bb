package system

import (
	"reflect"
	"strconv"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
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
	g := fastpath.Global{BusyPoll: v.Worker.Polling == view.Fastpath_Fastpath_Worker_Polling_busy, Spread: spreading[v.Worker.Spreading]}
	if n := v.Worker.Count; n != nil {
		g.Workers = int(*n)
	}
	for _, c := range v.Worker.Core {
		g.Cores = append(g.Cores, int(c))
	}
	g.Alarms = ipsec.Alarms{BadICV: b.rate(tree, "bad-icv"), Replay: b.rate(tree, "replay")}
	return g
}

// rate reads a leaf of /sal/alarm.
func (b *Binding) rate(tree *data.Container, name string) uint32 {
	n := b.alarm.ChildByName(name)
	v, _, ok := tree.Sub(b.sal).Sub(b.alarm).Value(n)
	if !ok {
		v = n.Defaults[0]
	}
	x, _ := strconv.ParseUint(v.Text, 10, 32) // the type was checked
	return uint32(x)
}

// spreading are the fast path's words for those of vrouter-fastpath.
var spreading = map[view.E_Fastpath_Fastpath_Worker_Spreading]fastpath.Spreading{
	view.Fastpath_Fastpath_Worker_Spreading_software: fastpath.SpreadSoftware,
	view.Fastpath_Fastpath_Worker_Spreading_queues:   fastpath.SpreadQueues,
}
