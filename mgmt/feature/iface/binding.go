// Package iface is the management side of interfaces: ietf-interfaces, ietf-ip
// and vrouter-port become iface.Config, and back comes their state.
package iface

import (
	"vrouter/mgmt/binding"
	view "vrouter/mgmt/internal/schema/interfaces"

	"vrouter/mgmt/internal/schema/fill"
	"vrouter/mgmt/yang"
)

const (
	path    = "/ietf-interfaces:interfaces/interface"
	adverts = "/ietf-ip:ipv6/ietf-ipv6-unicast-routing:ipv6-router-advertisements"
)

// Binding is the binding.Binding of interfaces.
type Binding struct {
	schema *yang.Schema
	list   *yang.Node // interface
	top    *yang.Node // interfaces
	fill   *fill.Filler[view.Interfaces_Interface]
	state  binding.Reader
	// devices tells which interface stands on which device.
	devices map[device]string
}

// device is what an interface stands on. kind is "" for devices of the kernel;
// what else there is has names of its own.
type device struct{ kind, name string }

// kinds are the drivers that have no device of the kernel.
var kinds = map[string]string{"memory": "memory", "pcap": "pcap"}

// New makes the binding of a schema.
func New(s *yang.Schema, r binding.Reader) (*Binding, error) {
	b := &Binding{schema: s, list: s.Find(path), state: r, devices: map[device]string{}}
	var err error
	// Neighbours are the business of another binding.
	b.fill, err = fill.New[view.Interfaces_Interface](b.list, fill.Without("ietf-ip:ipv4/neighbor", "ietf-ip:ipv6/neighbor"))
	if err != nil {
		return nil, err
	}
	b.top = b.list.Up
	return b, nil
}

// Name implements binding.Binding.
func (b *Binding) Name() string { return "iface" }

// Owns implements binding.Binding: all of an interface but its neighbours.
// Description is for people.
func (b *Binding) Owns() []string {
	return []string{
		path + "/name", path + "/description", path + "/type", path + "/enabled", path + "/vrouter-port:port", path + "/vrouter-mtu:tcp-mss",
		path + "/ietf-ip:ipv4/enabled", path + "/ietf-ip:ipv4/forwarding", path + "/ietf-ip:ipv4/mtu", path + "/ietf-ip:ipv4/address",
		path + "/ietf-ip:ipv6/enabled", path + "/ietf-ip:ipv6/forwarding", path + "/ietf-ip:ipv6/mtu", path + "/ietf-ip:ipv6/address",
		path + "/ietf-ip:ipv6/dup-addr-detect-transmits", path + adverts,
		path + "/ietf-ip:ipv4/vrouter-routing:source-check", path + "/ietf-ip:ipv6/vrouter-routing:source-check",
	}
}
