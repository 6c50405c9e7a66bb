package enginetest

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
)

// Text writes a change as lines for golden files: what is set and deleted, by
// feature, sorted. It shows keys; what stands in tests is no secret.
func Text(c *fastpath.Change) string {
	var l []string
	add := func(f string, a ...any) { l = append(l, fmt.Sprintf(f, a...)) }
	if c.Global != nil {
		add("global set %s", One(*c.Global))
	}
	for _, o := range c.Iface.Set {
		add("iface set %s", One(o))
	}
	for _, k := range c.Iface.Delete {
		add("iface delete %s", k)
	}
	for _, o := range c.Neigh.Set {
		add("neigh set %s", One(o))
	}
	for _, k := range c.Neigh.Delete {
		add("neigh delete %s", k.ObjectKey())
	}
	for _, o := range c.Route.Set {
		add("route set %s", One(o))
	}
	for _, k := range c.Route.Delete {
		add("route delete %s", k)
	}
	for _, o := range c.IPsec.SetPolicy {
		add("policy set %s", One(o))
	}
	for _, k := range c.IPsec.DeletePolicy {
		add("policy delete %s", k)
	}
	for _, o := range c.IPsec.SetSA {
		add("sa set %s", One(o))
	}
	for _, k := range c.IPsec.DeleteSA {
		add("sa delete %s", k)
	}
	for _, o := range c.IPsec.SetGroup {
		add("group set %s", One(o))
	}
	for _, k := range c.IPsec.DeleteGroup {
		add("group delete %s", k)
	}
	slices.Sort(l)
	return strings.Join(append(l, ""), "\n")
}

// One writes one object of a change.
func One(o any) string {
	var b strings.Builder
	put := func(f string, a ...any) { fmt.Fprintf(&b, f, a...) }
	switch o := o.(type) {
	case fastpath.Global:
		put("busy=%t", o.BusyPoll)
		if o.Workers != 0 || o.Cores != nil || o.Spread != 0 {
			put(" workers=%d cores=%v spread=%d", o.Workers, o.Cores, o.Spread)
		}
		if o.Alarms != (ipsec.Alarms{BadICV: 100, Replay: 1000}) { // the defaults
			put(" alarms=%d/%d", o.Alarms.BadICV, o.Alarms.Replay)
		}
	case iface.Config:
		put("%s driver=%s device=%s queues=%d mtu=%d mac=%x enabled=%t", o.Name, o.Driver, o.Device, o.Queues, o.MTU, o.MAC, o.Enabled)
		put(" v4=%s v6=%s addrs=%v", ip(o.V4), ip(o.V6), o.Addrs)
		if o.Params != (sal.PortParams{}) {
			put(" params=%+v", o.Params)
		}
		if o.MSS != 0 {
			put(" mss=%d", o.MSS)
		}
		if o.Loopback {
			put(" loopback")
		}
		if o.RA != nil {
			put(" ra=%+v", *o.RA)
		}
	case neigh.Config:
		put("%s mac=%x", o.ObjectKey(), o.MAC)
	case route.Config:
		put("%v %s", o.Prefix, [...]string{"unicast", "receive", "blackhole", "unreachable", "prohibit"}[o.Kind])
		if o.Iface != "" {
			put(" iface=%s", o.Iface)
		}
		if o.NextHop.IsValid() {
			put(" via=%v", o.NextHop)
		}
		if o.Hops != "" {
			put(" hops=[%s]", strings.ReplaceAll(strings.TrimSpace(string(o.Hops)), "\n", ", "))
		}
	case ipsec.Policy:
		put("%s %s %s order=%d reqid=%d %s", o.Name, direction(o.Direction), [...]string{"protect", "bypass", "discard"}[o.Action], o.Order, o.ReqID, selector(o.Selector))
		put("%s%s", transport(o.Mode), tunnel(o.LocalTunnel, o.RemoteTunnel))
	case ipsec.SA:
		put("%s %s spi=%d reqid=%d alg=%d key=%s esn=%t window=%d %s%s%s", o.Name, direction(o.Direction), o.SPI, o.ReqID, o.Algorithm,
			hex.EncodeToString(o.Key), o.ESN, o.ReplayWindow, selector(o.Selector), transport(o.Mode), tunnel(o.Local, o.Remote))
		if o.DF != ipsec.ClearDF {
			put(" df=%s", [...]string{"copy", "clear", "set"}[o.DF])
		}
		if o.Fragmentation == ipsec.AfterEncryption {
			put(" after-encryption")
		}
		if o.MSS != 0 {
			put(" mss=%d", o.MSS)
		}
		if o.IgnoreICMP {
			put(" ignore-icmp")
		}
		if o.DSCP != nil {
			put(" dscp=%s", hex.EncodeToString(o.DSCP))
		}
		if o.Integrity != 0 {
			put(" integ=%d/%s", o.Integrity, hex.EncodeToString(o.IntegrityKey))
		}
		if o.UDP != (ipsec.UDP{}) {
			put(" udp=%d-%d", o.UDP.Local, o.UDP.Remote)
			if o.FollowPeer {
				put(" follow")
			}
			if o.KeepAlive != 0 {
				put(" keep-alive=%ds", o.KeepAlive)
			}
		}
		put("%s%s", lifetime("soft", o.Soft), lifetime("hard", o.Hard))
		if o.SoftAction == ipsec.TerminateHold {
			put(" terminate-hold")
		}
		put(" offload=%s/%s", o.Offload.Mode, [...]string{"prefer", "require"}[o.Offload.Policy])
		if o.Offload.Engine != "" {
			put("/%s", o.Offload.Engine)
		}
		if o.TenantGroup != "" {
			put(" group=%s", o.TenantGroup)
		}
		if o.SeqReport != 0 {
			put(" report=%d", o.SeqReport)
		}
	case ipsec.Group:
		put("%s sas=%d packets=%d/s octets=%d/s", o.Name, o.MaxSAs, o.Packets, o.Bytes)
	default:
		panic(fmt.Sprintf("enginetest: %T", o))
	}
	return b.String()
}

func lifetime(name string, l ipsec.Lifetime) string {
	if l == (ipsec.Lifetime{}) {
		return ""
	}
	return fmt.Sprintf(" %s=%ds/%dB/%dp/%dsidle", name, l.Time, l.Bytes, l.Packets, l.Idle)
}

func ip(i iface.IP) string {
	if !i.Enabled && !i.Forwarding && i.MTU == 0 && i.Sources == iface.SourceAny {
		return "off"
	}
	s := "off"
	if i.Enabled {
		s = "on"
	}
	if i.Forwarding {
		s += "+forwarding"
	}
	if i.Sources != iface.SourceAny {
		s += "+sources-" + [...]string{"any", "loose", "strict"}[i.Sources]
	}
	if i.DAD > 1 {
		s += fmt.Sprintf("+dad%d", i.DAD)
	}
	if i.MTU != 0 {
		s += fmt.Sprintf("+mtu%d", i.MTU)
	}
	return s
}

func direction(d sal.Direction) string { return [...]string{"inbound", "outbound"}[d] }

func selector(s ipsec.Selector) string {
	t := fmt.Sprintf("local=%v remote=%v", s.Local, s.Remote)
	if s.Proto >= 0 {
		t += fmt.Sprintf(" proto=%d", s.Proto)
	}
	if len(s.LocalPorts) > 0 {
		t += fmt.Sprintf(" lports=%v", s.LocalPorts)
	}
	if len(s.RemotePorts) > 0 {
		t += fmt.Sprintf(" rports=%v", s.RemotePorts)
	}
	return t
}

func transport(m ipsec.Mode) string {
	if m == ipsec.Transport {
		return " transport"
	}
	return ""
}

func tunnel(l, r netip.Addr) string {
	if !l.IsValid() && !r.IsValid() {
		return ""
	}
	return fmt.Sprintf(" tunnel=%v-%v", l, r)
}
