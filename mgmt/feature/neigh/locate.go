package neigh

import (
	"net/netip"
	"strings"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
)

// leaves are the nodes behind the fields of neigh.Config.
var leaves = map[string]string{"Addr": "/ip", "MAC": "/link-layer-address"}

// Locate implements binding.Binding.
func (b *Binding) Locate(_ *binding.Commit, r *fastpath.Refusal) string {
	if r.Feature != "neigh" {
		return ""
	}
	i := strings.LastIndexByte(r.Object, ' ') // the name of an interface may have spaces
	if i < 0 {
		return ""
	}
	addr, err := netip.ParseAddr(r.Object[i+1:])
	if err != nil {
		return ""
	}
	list := b.list4
	if addr.Is6() {
		list = b.list6
	}
	p := &data.Path{Up: &data.Path{Schema: b.list.Up}, Schema: b.list, Key: r.Object[:i], Entry: true}
	p = &data.Path{Up: &data.Path{Up: p, Schema: list.Up}, Schema: list, Key: addr.String(), Entry: true}
	return p.String() + leaves[r.Field]
}
