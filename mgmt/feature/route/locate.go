package route

import (
	"net/netip"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
)

// leaves are the nodes behind the fields of a static route's Config.
var leaves = map[string]string{"Prefix": "/destination-prefix", "Kind": "/next-hop/special-next-hop",
	"Iface": "/next-hop/outgoing-interface", "NextHop": "/next-hop/next-hop-address"}

// Locate implements binding.Binding: a direct route is refused at the address
// that it comes from.
func (b *Binding) Locate(_ *binding.Commit, r *fastpath.Refusal) string {
	if r.Feature != "route" || b.last == nil {
		return ""
	}
	p, err := netip.ParsePrefix(r.Object)
	if err != nil {
		return ""
	}
	d, _ := b.last.dests.Get(p)
	c := d.active()
	if c == nil {
		if c = b.last.before[p].active(); c == nil { // it was to be deleted
			return ""
		}
	}
	f := family(p.Addr())
	if c.source == static {
		list := b.lists[f] // …/control-plane-protocols/control-plane-protocol/static-routes/ipv4/route
		at := &data.Path{Up: &data.Path{Schema: list.Up.Up.Up.Up.Up}, Schema: list.Up.Up.Up.Up}
		at = &data.Path{Up: at, Schema: list.Up.Up.Up, Key: "ietf-routing:static\x00" + c.name, Entry: true}
		at = &data.Path{Up: &data.Path{Up: at, Schema: list.Up.Up}, Schema: list.Up}
		at = &data.Path{Up: at, Schema: list, Key: r.Object, Entry: true}
		if c.want.hops != "" {
			return at.String() + "/next-hop/next-hop-list"
		}
		return at.String() + leaves[r.Field]
	}
	at := &data.Path{Up: &data.Path{Schema: b.ifList.Up}, Schema: b.ifList, Key: c.name, Entry: true}
	path := at.String()
	i, _ := b.last.ifaces.Get(c.name)
	if i == nil {
		return path
	}
	for _, a := range i.addrs {
		if a.Masked() == p || host(a.Addr()) == p {
			name := [2]string{"ietf-ip:ipv4", "ietf-ip:ipv6"}[f]
			return path + "/" + name + "/address[ip='" + a.Addr().String() + "']"
		}
	}
	return path
}
