package iface

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/pipeline"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/interfaces"
	"vrouter/mgmt/internal/touch"
)

// drivers are the SAL's names of port drivers.
var drivers = map[view.E_Interfaces_Interface_Port_Driver]string{
	view.Interfaces_Interface_Port_Driver_af_packet: "af-packet",
	view.Interfaces_Interface_Port_Driver_tap:       "tap",
	view.Interfaces_Interface_Port_Driver_memory:    "memory",
	view.Interfaces_Interface_Port_Driver_af_xdp:    "af-xdp",
	view.Interfaces_Interface_Port_Driver_pcap:      "pcap",
}

// checks4 and checks6 are the fast path's names of source-check.
var (
	checks4 = map[view.E_Interfaces_Interface_Ipv4_SourceCheck]iface.SourceCheck{
		view.Interfaces_Interface_Ipv4_SourceCheck_loose:  iface.SourceLoose,
		view.Interfaces_Interface_Ipv4_SourceCheck_strict: iface.SourceStrict,
	}
	checks6 = map[view.E_Interfaces_Interface_Ipv6_SourceCheck]iface.SourceCheck{
		view.Interfaces_Interface_Ipv6_SourceCheck_loose:  iface.SourceLoose,
		view.Interfaces_Interface_Ipv6_SourceCheck_strict: iface.SourceStrict,
	}
)

// Translate implements binding.Binding.
func (b *Binding) Translate(c *binding.Commit) error {
	var errs data.Errors
	entries := touch.Entries(c, b.list)
	moves := moves{free: map[device]string{}, take: make(map[device]string, len(entries))}
	c.Out.Iface.Set = slices.Grow(c.Out.Iface.Set, len(entries))
	for _, e := range entries {
		var was, is iface.Config
		if e.Old != nil {
			was, _ = b.config(e.Old, "")
			if !was.Loopback {
				moves.free[deviceOf(&was)] = was.Name
			}
		}
		if e.New == nil {
			c.Out.Iface.Delete = append(c.Out.Iface.Delete, was.Name)
			continue
		}
		at := e.Path.String()
		is, bad := b.config(e.New, at)
		errs = append(errs, bad...)
		if !is.Loopback {
			if other := moves.take[deviceOf(&is)]; other != "" {
				errs = append(errs, twice(at, other))
			}
			moves.take[deviceOf(&is)] = is.Name
		}
		if e.Old == nil || !equal(&was, &is) {
			c.Out.Iface.Set = append(c.Out.Iface.Set, is)
		}
	}
	errs = append(errs, b.taken(c, moves)...)
	if len(errs) > 0 {
		return errs
	}
	c.OnPublish(func() {
		if c.Full {
			clear(b.devices)
		}
		for d := range moves.free {
			delete(b.devices, d)
		}
		for d, name := range moves.take {
			b.devices[d] = name
		}
	})
	return nil
}

// moves are the devices that a commit takes from interfaces and gives to them.
type moves struct{ free, take map[device]string }

// taken refuses a device on which an interface stands that the commit does not
// touch.
func (b *Binding) taken(c *binding.Commit, m moves) (errs data.Errors) {
	if c.Full {
		return nil
	}
	for d, name := range m.take {
		if other := b.devices[d]; other != "" && other != name && m.free[d] != other {
			errs = append(errs, twice(b.pathOf(name), other))
		}
	}
	return errs
}

func twice(at, other string) *data.Error {
	leaf := at + "/vrouter-port:port/device"
	return &data.Error{Tag: "operation-failed", AppTag: "data-not-unique", Path: leaf,
		Msg:  fmt.Sprintf("interface %q stands on this device already; without port/device an interface stands on the device of its own name", other),
		Info: []data.Info{{Name: "non-unique", Value: leaf}}}
}

func deviceOf(c *iface.Config) device { return device{kinds[c.Driver], c.Device} }

// config makes the Config of an entry. at is its path, for errors.
func (b *Binding) config(c *data.Container, at string) (iface.Config, data.Errors) {
	v := b.fill.Fill(c)
	out := iface.Config{Name: *v.Name, Enabled: *v.Enabled}
	var errs data.Errors
	bad := func(leaf, msg string) {
		errs = append(errs, &data.Error{Tag: "invalid-value", Path: at + leaf, Msg: msg})
	}
	if v.Type == view.Interfaces_InterfaceType_softwareLoopback {
		out.Loopback, out.MTU = true, iface.MaxMTU
	} else {
		port(&out, v, bad)
	}
	if v.Ipv4 != nil {
		out.V4 = iface.IP{Enabled: *v.Ipv4.Enabled, Forwarding: *v.Ipv4.Forwarding, Sources: checks4[v.Ipv4.SourceCheck]}
		if v.Ipv4.Mtu != nil {
			out.V4.MTU = *v.Ipv4.Mtu
		}
		if out.V4.Enabled {
			for _, a := range v.Ipv4.Address {
				out.Addrs = append(out.Addrs, address(*a.Ip, *a.PrefixLength))
			}
		}
	}
	if v.Ipv6 != nil {
		out.V6 = iface.IP{Enabled: *v.Ipv6.Enabled, Forwarding: *v.Ipv6.Forwarding, Sources: checks6[v.Ipv6.SourceCheck], DAD: uint8(*v.Ipv6.DupAddrDetectTransmits)}
		if v.Ipv6.Mtu != nil {
			out.V6.MTU = uint16(min(*v.Ipv6.Mtu, 65535)) // no larger than the port's, says a must
		}
		if out.V6.Enabled {
			for _, a := range v.Ipv6.Address {
				out.Addrs = append(out.Addrs, address(*a.Ip, *a.PrefixLength))
			}
		}
	}
	if v.Ipv6 != nil && out.V6.Enabled && v.Ipv6.Ipv6RouterAdvertisements != nil {
		out.RA = advertisements(v.Ipv6.Ipv6RouterAdvertisements, out.Addrs, bad)
	}
	slices.SortFunc(out.Addrs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, a := range out.Addrs {
		if why := unfit(a.Addr()); why != "" {
			family := "ipv4"
			if a.Addr().Is6() {
				family = "ipv6"
			}
			bad(fmt.Sprintf("/ietf-ip:%s/address[ip='%s']/ip", family, a.Addr()), why)
		}
	}
	return out, errs
}

// port reads what the interface stands on.
func port(out *iface.Config, v *view.Interfaces_Interface, bad func(leaf, msg string)) {
	out.Driver, out.Device, out.Queues, out.MTU = drivers[v.Port.Driver], *v.Name, int(*v.Port.Queues), *v.Port.Mtu
	if v.Port.Device != nil {
		out.Device = *v.Port.Device
	}
	if kinds[out.Driver] == "" && !deviceName(out.Device) {
		bad("/vrouter-port:port/device", "no network device can have this name, which without port/device is that of the interface")
	}
	out.Params = params(v.Port)
	switch text := *v.TcpMss; text {
	case "off":
	case "path-mtu":
		out.MSS = pipeline.ClampPath
	default:
		n, _ := strconv.ParseUint(text, 10, 16) // checked by its type
		out.MSS = pipeline.MSS(n)
	}
	if v.Port.MacAddress != nil {
		out.MAC = mac(*v.Port.MacAddress)
		if out.MAC == [6]byte{} {
			bad("/vrouter-port:port/mac-address", "00:00:00:00:00:00 is no address of a port; leave it out for the device's own")
		}
	}
}

// unfit says why an interface cannot have an address, "" when it can.
func unfit(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "the unspecified address is no address of an interface"
	case a.IsMulticast():
		return "a multicast address is no address of an interface"
	case a.IsLoopback():
		return "a loopback address is no address of an Ethernet interface"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address is no address of an interface"
	case a.Is4In6():
		return "an IPv4-mapped address is no address of an interface"
	}
	return ""
}

func address(ip string, bits uint8) netip.Prefix {
	a, _ := netip.ParseAddr(ip) // canonical by its type
	return netip.PrefixFrom(a, int(bits))
}

func mac(text string) (m [6]byte) {
	a, _ := net.ParseMAC(text)
	copy(m[:], a)
	return m
}

// deviceName tells whether Linux takes a name for a network device.
func deviceName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\n\v\f\r")
}

func equal(a, b *iface.Config) bool {
	if !slices.Equal(a.Addrs, b.Addrs) {
		return false
	}
	x, y := *a, *b
	x.Addrs, y.Addrs = nil, nil
	if !reflect.DeepEqual(x.RA, y.RA) {
		return false
	}
	return x.Name == y.Name && x.Driver == y.Driver && x.Device == y.Device && x.Queues == y.Queues && x.MTU == y.MTU && x.Params == y.Params &&
		x.MAC == y.MAC && x.Loopback == y.Loopback && x.MSS == y.MSS && x.Enabled == y.Enabled && x.V4 == y.V4 && x.V6 == y.V6
}
