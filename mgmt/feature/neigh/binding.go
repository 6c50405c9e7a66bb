// Package neigh is the management side of neighbours: those that ietf-ip
// configures become neigh.Config, and what ARP and neighbour discovery have
// found out is told as state.
package neigh

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/internal/schema/fill"
	view "vrouter/mgmt/internal/schema/interfaces"
	"vrouter/mgmt/yang"
)

const (
	interfaces = "/ietf-interfaces:interfaces/interface"
	path4      = interfaces + "/ietf-ip:ipv4/neighbor"
	path6      = interfaces + "/ietf-ip:ipv6/neighbor"
)

// Binding is the binding.Binding of neighbours.
type Binding struct {
	schema       *yang.Schema
	list         *yang.Node // interface
	list4, list6 *yang.Node // neighbor
	fill4        *fill.Filler[view.Interfaces_Interface_Ipv4_Neighbor]
	fill6        *fill.Filler[view.Interfaces_Interface_Ipv6_Neighbor]
	state        binding.Reader
}

// New makes the binding of a schema.
func New(s *yang.Schema, r binding.Reader) (*Binding, error) {
	b := &Binding{schema: s, list: s.Find(interfaces), list4: s.Find(path4), list6: s.Find(path6), state: r}
	var err error
	if b.fill4, err = fill.New[view.Interfaces_Interface_Ipv4_Neighbor](b.list4); err != nil {
		return nil, err
	}
	if b.fill6, err = fill.New[view.Interfaces_Interface_Ipv6_Neighbor](b.list6); err != nil {
		return nil, err
	}
	return b, nil
}

// Name implements binding.Binding.
func (b *Binding) Name() string { return "neigh" }

// Owns implements binding.Binding.
func (b *Binding) Owns() []string { return []string{path4, path6} }
