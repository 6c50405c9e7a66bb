package ipsec

import (
	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// policyLeaves, saLeaves and groupLeaves are the nodes behind the fields of
// ipsec.Policy, ipsec.SA and ipsec.Group.
var (
	groupLeaves  = map[string]string{"Name": "/name", "MaxSAs": "/max-sas", "Packets": "/packets-per-second", "Bytes": "/bytes-per-second"}
	policyLeaves = map[string]string{"Name": "/name", "Direction": "/direction", "ReqID": "/reqid",
		"Mode": policySA + "/mode", "Action": "/ipsec-policy-config/processing-info/action",
		"Selector": policySelector, "Selector.Local": policySelector + "/local-prefix", "Selector.Remote": policySelector + "/remote-prefix",
		"Selector.Proto": policySelector + "/inner-protocol", "Selector.LocalPorts": policySelector + "/local-ports",
		"Selector.RemotePorts": policySelector + "/remote-ports",
		"LocalTunnel":          policySA + "/tunnel/local", "RemoteTunnel": policySA + "/tunnel/remote"}
	saLeaves = map[string]string{"Name": "/name", "ReqID": "/reqid", "Direction": "/vrouter-sal:direction",
		"SPI": saConfig + "/spi", "Mode": saConfig + "/mode", "Algorithm": saESP + "/encryption/encryption-algorithm", "Key": saESP + "/encryption/key",
		"Integrity": saESP + "/integrity/integrity-algorithm", "IntegrityKey": saESP + "/integrity/key",
		"Fragmentation": "/vrouter-mtu:mtu/fragmentation", "IgnoreICMP": "/vrouter-mtu:mtu/learn", "MSS": "/vrouter-mtu:mtu/tcp-mss",
		"DF": saConfig + "/tunnel/df-bit", "DSCP": saConfig + "/tunnel/dscp-mapping",
		"UDP": saEncap, "FollowPeer": "/vrouter-sal:nat-traversal/follow-peer",
		"KeepAlive": "/vrouter-sal:nat-traversal/keep-alive-interval",
		"ESN":       saConfig + "/ext-seq-num", "ReplayWindow": saConfig + "/anti-replay-window-size",
		"Local": saConfig + "/tunnel/local", "Remote": saConfig + "/tunnel/remote",
		"Selector": saSelector, "Selector.Local": saSelector + "/local-prefix", "Selector.Remote": saSelector + "/remote-prefix",
		"Selector.Proto": saSelector + "/inner-protocol", "Selector.LocalPorts": saSelector + "/local-ports",
		"Selector.RemotePorts": saSelector + "/remote-ports",
		"Soft":                 saSoft, "Soft.Time": saSoft + "/time", "Soft.Bytes": saSoft + "/bytes", "Soft.Packets": saSoft + "/packets", "Soft.Idle": saSoft + "/idle",
		"SoftAction": saSoft + "/action", "Hard": saConfig + "/sa-lifetime-hard",
		"Offload": "/vrouter-sal:offload/mode", "Offload.Mode": "/vrouter-sal:offload/mode",
		"TenantGroup": "/vrouter-sal:tenant-group", "SeqReport": "/vrouter-sal:sequence-report",
		"Offload.Policy": "/vrouter-sal:offload/policy", "Offload.Engine": "/vrouter-sal:offload/engine"}
)

// Locate implements binding.Binding.
func (b *Binding) Locate(_ *binding.Commit, r *fastpath.Refusal) string {
	switch r.Feature {
	case "policy":
		return b.pathOf(b.spd, r.Object) + policyLeaves[r.Field]
	case "sa":
		return b.pathOf(b.sad, r.Object) + saLeaves[r.Field]
	case "group":
		p := data.Path{Up: &data.Path{Schema: b.groups.Up}, Schema: b.groups, Key: r.Object, Entry: true}
		return p.String() + groupLeaves[r.Field]
	}
	return ""
}

// pathOf names an entry of the SPD or the SAD.
func (b *Binding) pathOf(list *yang.Node, name string) string {
	p := data.Path{Up: &data.Path{Up: &data.Path{Schema: list.Up.Up}, Schema: list.Up}, Schema: list, Key: name, Entry: true}
	return p.String()
}
