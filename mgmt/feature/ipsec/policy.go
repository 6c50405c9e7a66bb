package ipsec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/ipsec"
	"vrouter/pkg/sal"
)

var (
	directionsOf = map[view.E_Ipsec_SpdEntry_Direction]sal.Direction{
		view.Ipsec_SpdEntry_Direction_inbound:  sal.Inbound,
		view.Ipsec_SpdEntry_Direction_outbound: sal.Outbound,
	}
	actions = map[view.E_Ipsec_SpdEntry_IpsecPolicyConfig_ProcessingInfo_Action]ipsec.Action{
		view.Ipsec_SpdEntry_IpsecPolicyConfig_ProcessingInfo_Action_protect: ipsec.Protect,
		view.Ipsec_SpdEntry_IpsecPolicyConfig_ProcessingInfo_Action_bypass:  ipsec.Bypass,
		view.Ipsec_SpdEntry_IpsecPolicyConfig_ProcessingInfo_Action_discard: ipsec.Discard,
	}
)

// Paths below an SPD entry.
const (
	policySelector = "/ipsec-policy-config/traffic-selector"
	policySA       = "/ipsec-policy-config/processing-info/ipsec-sa-cfg"
)

// policy makes the Policy of an SPD entry, without its Order, and what SAs must
// know of it, nil where it has none.
func (b *Binding) policy(c *data.Container) (ipsec.Policy, *policy, data.Errors) {
	v := b.policies.Fill(c)
	at := problems{path: func() string { return b.pathOf(b.spd, *v.Name) }}
	sel := v.IpsecPolicyConfig.TrafficSelector
	p := ipsec.Policy{Name: *v.Name, Direction: directionsOf[v.Direction],
		Action: actions[v.IpsecPolicyConfig.ProcessingInfo.Action], ReqID: *v.Reqid,
		Selector: at.selector(policySelector, *sel.LocalPrefix, *sel.RemotePrefix, *sel.InnerProtocol, ports(sel.LocalPorts), ports(sel.RemotePorts)),
	}
	if p.Action != ipsec.Protect {
		if p.ReqID == 0 {
			return p, nil, at.errs
		}
		return p, &policy{dir: p.Direction, reqid: p.ReqID}, at.errs // it still tells which way its SAs go
	}
	if p.ReqID == 0 {
		at.add("/reqid", "protect needs a reqid other than 0: it says which SAs protect")
	}
	cfg := v.IpsecPolicyConfig.ProcessingInfo.IpsecSaCfg
	if cfg.Mode == view.Ipsec_SpdEntry_IpsecPolicyConfig_ProcessingInfo_IpsecSaCfg_Mode_transport {
		p.Mode = ipsec.Transport
	} else {
		p.LocalTunnel, p.RemoteTunnel = at.tunnel(policySA+"/tunnel", cfg.Tunnel.Local, cfg.Tunnel.Remote)
	}
	if len(at.errs) > 0 {
		return p, nil, at.errs
	}
	// What it says about its SAs counts where it says it.
	e := b.explicit.Fill(c).IpsecPolicyConfig
	about := &policy{dir: p.Direction, reqid: p.ReqID, mode: p.Mode, local: p.LocalTunnel, remote: p.RemoteTunnel,
		near: p.Selector.Local, far: p.Selector.Remote, esn: e.ProcessingInfo.IpsecSaCfg.ExtSeqNum, window: e.AntiReplayWindowSize}
	for _, a := range cfg.EspAlgorithms.Encryption {
		x := algorithm{sal.Algorithm(*a.AlgorithmType), int(*a.KeyLength)}
		// Where there is only one length, key-length and its default say nothing.
		if shape, ok := x.number.Shape(); ok && len(shape.KeyBits) == 1 {
			x.bits = shape.KeyBits[0]
		}
		about.algorithms = append(about.algorithms, x)
	}
	for _, i := range e.ProcessingInfo.IpsecSaCfg.EspAlgorithms.Integrity {
		about.integrity = append(about.integrity, sal.Integrity(i))
	}
	return p, about, nil
}

// problems gathers the errors of one entry.
type problems struct {
	path func() string
	errs data.Errors
}

func (p *problems) add(leaf, msg string) {
	p.errs = append(p.errs, &data.Error{Tag: "invalid-value", Path: p.path() + leaf, Msg: msg})
}

// selector makes the Selector of a traffic-selector container.
func (p *problems) selector(at, local, remote, protocol string, localPorts, remotePorts []ipsec.PortRange) ipsec.Selector {
	// Canonical by their types: host bits are zero.
	s := ipsec.Selector{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote), Proto: -1,
		LocalPorts: anyPort(localPorts), RemotePorts: anyPort(remotePorts)}
	if n, err := strconv.ParseUint(protocol, 10, 8); err == nil {
		s.Proto = int16(n)
	}
	if s.Local.Addr().Is4() != s.Remote.Addr().Is4() {
		p.add(at+"/remote-prefix", "local-prefix and remote-prefix must be of one address family")
	}
	if !hasPorts(s.Proto) {
		if len(s.LocalPorts) > 0 {
			p.add(at+"/local-ports", noPorts)
		}
		if len(s.RemotePorts) > 0 {
			p.add(at+"/remote-ports", noPorts)
		}
	}
	if v4 := s.Local.Addr().Is4(); len(s.LocalPorts)+len(s.RemotePorts) > 0 && (s.Proto == icmp && !v4 || s.Proto == icmpv6 && v4) {
		p.add(at+"/inner-protocol", "the message types of protocol 1 (ICMP) are of IPv4, those of 58 (ICMPv6) of IPv6")
	}
	return s
}

const noPorts = "ports need an inner-protocol that has ports, 6 (TCP), 17 (UDP), 33 (DCCP), 132 (SCTP) or 136 (UDP-Lite); " +
	"or message types, 1 (ICMP) or 58 (ICMPv6)"

// hasPorts tells whether a protocol has ports, or message types that stand in
// their place (RFC 4301 section 4.4.1.1).
func hasPorts(proto int16) bool {
	switch proto {
	case 6, 17, 33, 132, 136, icmp, icmpv6:
		return true
	}
	return false
}

const (
	icmp   = 1
	icmpv6 = 58
)

// anyPort puts port ranges in order. RFC 9061 has 0 to 0 mean any port, which is
// no restriction, as are all ports. (So echo replies of ICMP, type 0, are 0 to
// 255.)
func anyPort(l []ipsec.PortRange) []ipsec.PortRange {
	for _, r := range l {
		if r == (ipsec.PortRange{}) || r == (ipsec.PortRange{Last: 65535}) {
			return nil
		}
	}
	slices.SortFunc(l, func(a, b ipsec.PortRange) int { return int(a.First)<<16 + int(a.Last) - int(b.First)<<16 - int(b.Last) })
	return l
}

// portKey is the key of the lists of port ranges, of which the typed view has
// four.
type portKey struct{ Start, End uint16 }

func ports[K interface {
	comparable
	~struct {
		Start uint16 `path:"start"`
		End   uint16 `path:"end"`
	}
}, E any](m map[K]E) (out []ipsec.PortRange) {
	for k := range m {
		r := portKey(k)
		out = append(out, ipsec.PortRange{First: r.Start, Last: r.End})
	}
	return out
}

// tunnel reads the addresses of a tunnel.
func (p *problems) tunnel(at string, local, remote *string) (l, r netip.Addr) {
	if local == nil || remote == nil {
		p.errs = append(p.errs, &data.Error{Tag: "data-missing", Path: p.path() + at, Msg: "both ends of the tunnel are needed"})
		return l, r
	}
	l, r = netip.MustParseAddr(*local), netip.MustParseAddr(*remote)
	p.end(at+"/local", l, "a tunnel")
	p.end(at+"/remote", r, "a tunnel")
	switch {
	case l.Is4() != r.Is4():
		p.add(at+"/remote", "both ends of a tunnel must be of one address family")
	case l == r:
		p.add(at+"/remote", "a tunnel needs two different ends")
	}
	return l, r
}

// transport reads the addresses of an SA in transport mode: those of its traffic
// selector.
func (p *problems) transport(at string, s *ipsec.Selector) (l, r netip.Addr) {
	for _, x := range [...]struct {
		leaf string
		of   netip.Prefix
	}{{"/local-prefix", s.Local}, {"/remote-prefix", s.Remote}} {
		if !x.of.IsSingleIP() {
			p.add(at+x.leaf, fmt.Sprintf("an SA in transport mode has one address at each end, not %v: its packets have no others (RFC 4301 section 4.1)", x.of))
			continue
		}
		p.end(at+x.leaf, x.of.Addr(), "an SA")
		if x.of.Addr().IsLinkLocalUnicast() {
			p.add(at+x.leaf, fmt.Sprintf("%v means nothing without its link, which an SA does not name", x.of.Addr()))
		}
	}
	if s.Local == s.Remote {
		p.add(at+"/remote-prefix", "an SA needs two different ends")
	}
	return s.Local.Addr(), s.Remote.Addr()
}

func (p *problems) end(leaf string, a netip.Addr, of string) {
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
		p.add(leaf, fmt.Sprintf("%v cannot be the end of %s", a, of))
	}
}
