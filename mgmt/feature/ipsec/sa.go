package ipsec

import (
	"fmt"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/ipsec"
	"vrouter/pkg/sal"
)

var (
	saDirections = map[view.E_Ipsec_SadEntry_Direction]sal.Direction{
		view.Ipsec_SadEntry_Direction_inbound:  sal.Inbound,
		view.Ipsec_SadEntry_Direction_outbound: sal.Outbound,
	}
	modes = map[view.E_Ipsec_SadEntry_Offload_Mode]string{
		view.Ipsec_SadEntry_Offload_Mode_software: "software",
		view.Ipsec_SadEntry_Offload_Mode_crypto:   "crypto",
		view.Ipsec_SadEntry_Offload_Mode_protocol: "protocol",
		view.Ipsec_SadEntry_Offload_Mode_full:     "full",
	}
	offloadPolicies = map[view.E_Ipsec_SadEntry_Offload_Policy]ipsec.OffloadPolicy{
		view.Ipsec_SadEntry_Offload_Policy_prefer:  ipsec.Prefer,
		view.Ipsec_SadEntry_Offload_Policy_require: ipsec.Require,
	}
	policyWords = map[string]ipsec.OffloadPolicy{"require": ipsec.Require} // prefer is the zero value
	softActions = map[view.E_Ipsec_SadEntry_IpsecSaConfig_SaLifetimeSoft_Action]ipsec.SoftAction{
		view.Ipsec_SadEntry_IpsecSaConfig_SaLifetimeSoft_Action_replace:        ipsec.Replace,
		view.Ipsec_SadEntry_IpsecSaConfig_SaLifetimeSoft_Action_terminate_hold: ipsec.TerminateHold,
	}
)

// Paths below an SAD entry.
const (
	saConfig   = "/ipsec-sa-config"
	saSelector = saConfig + "/traffic-selector"
	saESP      = saConfig + "/esp-sa"
	saEncap    = saConfig + "/encapsulation-type"
	saSoft     = saConfig + "/sa-lifetime-soft"
)

// sa makes the SA of an SAD entry, whose direction is open where the entry does
// not say it, and what policies must know of it. No error says anything of the
// key but its length.
// def is how SAs are served that do not say it.
func (b *Binding) sa(c *data.Container, def ipsec.Offload) (ipsec.SA, *sa, data.Errors) {
	v := b.sas.Fill(c)
	at := problems{path: func() string { return b.pathOf(b.sad, *v.Name) }}
	cfg, sel := v.IpsecSaConfig, v.IpsecSaConfig.TrafficSelector
	s := ipsec.SA{Name: *v.Name, ReqID: *v.Reqid, SPI: *cfg.Spi, Direction: saDirections[v.Direction],
		ESN: *cfg.ExtSeqNum, ReplayWindow: *cfg.AntiReplayWindowSize,
		Selector: at.selector(saSelector, *sel.LocalPrefix, *sel.RemotePrefix, *sel.InnerProtocol, ports(sel.LocalPorts), ports(sel.RemotePorts)),
		Offload:  offload(v, def),
	}
	if v.SequenceReport != nil {
		s.SeqReport = *v.SequenceReport
	}
	if v.TenantGroup != nil {
		s.TenantGroup = *v.TenantGroup
	}
	if l := cfg.SaLifetimeSoft; l != nil {
		s.Soft = lifetime(l.Time, l.Bytes, l.Packets, l.Idle)
		s.SoftAction = softActions[l.Action]
	}
	if l := cfg.SaLifetimeHard; l != nil {
		s.Hard = lifetime(l.Time, l.Bytes, l.Packets, l.Idle)
	}
	at.order(&s.Soft, &s.Hard)
	if cfg.Mode == view.Ipsec_SadEntry_IpsecSaConfig_Mode_transport {
		s.Mode = ipsec.Transport
		s.Local, s.Remote = at.transport(saSelector, &s.Selector)
	} else {
		s.Local, s.Remote = at.tunnel(saConfig+"/tunnel", cfg.Tunnel.Local, cfg.Tunnel.Remote)
		b.outer(&s, v, c)
		s.Fragmentation = fragmentations[v.Mtu.Fragmentation]
		s.MSS = mss(*v.Mtu.TcpMss)
	}
	b.algorithms(&at, &s, v, c)
	s.IgnoreICMP = !*v.Mtu.Learn
	at.encapsulation(&s, v)
	if len(at.errs) > 0 {
		return s, nil, at.errs
	}
	return s, &sa{dir: s.Direction, derived: v.Direction == view.Ipsec_SadEntry_Direction_UNSET, reqid: s.ReqID, mode: s.Mode, local: s.Local, remote: s.Remote,
		esn: s.ESN, window: s.ReplayWindow, algorithm: algorithm{s.Algorithm, keyBits(&s)}, integrity: s.Integrity}, nil
}

// offload is where an SA is wanted.
func offload(v *view.Ipsec_SadEntry, def ipsec.Offload) ipsec.Offload {
	x := v.Offload
	if x == nil || x.Mode == view.Ipsec_SadEntry_Offload_Mode_UNSET && x.Policy == view.Ipsec_SadEntry_Offload_Policy_UNSET && x.Engine == nil {
		return def
	}
	o := ipsec.Offload{Mode: modes[x.Mode], Policy: offloadPolicies[x.Policy]}
	if o.Mode == "" {
		o.Mode = modes[view.Ipsec_SadEntry_Offload_Mode_software]
	}
	if x.Engine != nil {
		o.Engine = *x.Engine
	}
	return o
}

// defaultOffload is /sal/default-offload of a tree.
func (b *Binding) defaultOffload(tree *data.Container) (o ipsec.Offload) {
	c := tree.Sub(b.offload.Up).Sub(b.offload)
	get := func(name string) string {
		n := b.offload.ChildByName(name)
		if v, _, ok := c.Value(n); ok {
			return v.Text
		}
		if len(n.Default) == 0 {
			return ""
		}
		return n.Default[0]
	}
	return ipsec.Offload{Mode: get("mode"), Policy: policyWords[get("policy")], Engine: get("engine")}
}

// lifetime is what two containers of the model have; a leaf that is not there is
// no limit, as 0 is.
func lifetime(time *uint32, bytes *uint64, packets, idle *uint32) (l ipsec.Lifetime) {
	if time != nil {
		l.Time = *time
	}
	if bytes != nil {
		l.Bytes = *bytes
	}
	if packets != nil {
		l.Packets = uint64(*packets)
	}
	if idle != nil {
		l.Idle = *idle
	}
	return l
}

// order refuses a soft lifetime that comes after the hard one: it could never be
// reached.
func (p *problems) order(soft, hard *ipsec.Lifetime) {
	for _, x := range [...]struct {
		leaf       string
		soft, hard uint64
	}{{"time", uint64(soft.Time), uint64(hard.Time)}, {"bytes", soft.Bytes, hard.Bytes}, {"packets", soft.Packets, hard.Packets},
		{"idle", uint64(soft.Idle), uint64(hard.Idle)}} {
		if x.hard != 0 && x.soft > x.hard {
			p.add(saSoft+"/"+x.leaf, fmt.Sprintf("the soft lifetime of %d comes after the hard one of %d", x.soft, x.hard))
		}
	}
}

// undirected is the error of an SA whose direction nothing tells.
func undirected(path string, reqid uint64, dirs directions) *data.Error {
	msg := fmt.Sprintf("set direction: no SPD entry has reqid %d, so nothing tells which way the SA goes", reqid)
	if reqid == 0 {
		msg = "set direction: an SA without a reqid belongs to no SPD entry, so nothing tells which way it goes"
	} else if dirs != (directions{}) {
		msg = fmt.Sprintf("set direction: SPD entries of both directions have reqid %d, so they do not tell which way the SA goes", reqid)
	}
	return &data.Error{Tag: "data-missing", Path: path + "/vrouter-sal:direction", Msg: msg}
}
