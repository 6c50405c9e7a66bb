package system

import (
	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
)

// Locate implements binding.Binding.
func (b *Binding) Locate(_ *binding.Commit, r *fastpath.Refusal) string {
	switch {
	case r.Feature == "engine":
		p := data.Path{Up: &data.Path{Schema: b.sal}, Schema: b.sal.ChildByName("engine"), Key: r.Object, Entry: true}
		return p.String()
	case r.Feature != "global":
		return ""
	case r.Field == "BusyPoll":
		return root + "/worker/polling"
	case r.Field == "Workers":
		return root + "/worker/count"
	case r.Field == "Cores":
		return root + "/worker/core"
	case r.Field == "Spread":
		return root + "/worker/spreading"
	}
	return root
}
