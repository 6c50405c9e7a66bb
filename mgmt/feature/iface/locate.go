package iface

import (
	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
)

// leaves are the nodes behind the fields of iface.Config.
var leaves = map[string]string{
	"Name": "/name", "Enabled": "/enabled",
	"Driver": "/vrouter-port:port/driver", "Device": "/vrouter-port:port/device", "Queues": "/vrouter-port:port/queues",
	"MTU": "/vrouter-port:port/mtu", "MAC": "/vrouter-port:port/mac-address", "MSS": "/vrouter-mtu:tcp-mss", "Params": "/vrouter-port:port/pcap",
	"V4": "/ietf-ip:ipv4", "V4.MTU": "/ietf-ip:ipv4/mtu", "V6": "/ietf-ip:ipv6", "V6.MTU": "/ietf-ip:ipv6/mtu",
}

// Locate implements binding.Binding.
func (b *Binding) Locate(_ *binding.Commit, r *fastpath.Refusal) string {
	if r.Feature != "iface" {
		return ""
	}
	return b.pathOf(r.Object) + leaves[r.Field]
}

// pathOf names the entry of an interface.
func (b *Binding) pathOf(name string) string {
	p := data.Path{Up: &data.Path{Schema: b.top}, Schema: b.list, Key: name, Entry: true}
	return p.String()
}
