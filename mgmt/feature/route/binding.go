// Package route is the RIB: own addresses and connected prefixes of interfaces,
// static routes resolved through them, and of each prefix the best for the FIB.
//
//   - An own address beats a connected prefix, that beats a static route; among
//     equals the lower interface or protocol instance name wins.
//   - A next-hop-address leads by the longest connected prefix that holds it, or
//     by outgoing-interface where that is given, on which it is taken to be
//     reachable. Static routes do not resolve static routes.
//   - An interface that is not enabled, or has the address family off, has no
//     routes, and none lead by it. A static route without a way stays out of the
//     FIB and stands in the RIB as inactive.
//   - The network of a loopback interface's address is unreachable but for the
//     address itself: nobody else is there, and no next hop.
//   - Link-local addresses of IPv6 are not a matter of routing.
//
// The cost of a commit follows what it changes: next hops and interfaces have
// indices of the static routes that depend on them.
package route

import (
	"sync"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/internal/schema/fill"
	"vrouter/mgmt/internal/schema/interfaces"
	"vrouter/mgmt/internal/schema/routing4"
	"vrouter/mgmt/internal/schema/routing6"
	"vrouter/mgmt/yang"
)

const (
	interfacePath = "/ietf-interfaces:interfaces/interface"
	routing       = "/ietf-routing:routing"
	protocols     = routing + "/control-plane-protocols"
	protocol      = protocols + "/control-plane-protocol"
	static4       = protocol + "/static-routes/ietf-ipv4-unicast-routing:ipv4/route"
	static6       = protocol + "/static-routes/ietf-ipv6-unicast-routing:ipv6/route"
	ribs          = routing + "/ribs/rib"
)

// Binding is the binding.Binding of routing.
type Binding struct {
	schema *yang.Schema
	ifList *yang.Node    // interface
	lists  [2]*yang.Node // route, by family
	ifaces *fill.Filler[interfaces.Interfaces_Interface]
	fill4  *fill.Filler[routing4.Routing4_Route]
	fill6  *fill.Filler[routing6.Routing6_Route]

	// last is the latest Translate, so that Locate knows where its routes
	// are from.
	last *change

	mu  sync.RWMutex // of rib; only its owner, who publishes, writes it
	rib *rib
}

// New makes the binding of a schema.
func New(s *yang.Schema) (*Binding, error) {
	b := &Binding{schema: s, ifList: s.Find(interfacePath), lists: [2]*yang.Node{s.Find(static4), s.Find(static6)}, rib: newRIB(0, 0)}
	var err error
	if b.ifaces, err = fill.New[interfaces.Interfaces_Interface](b.ifList, fill.Without("vrouter-port:port",
		"ietf-ip:ipv4/neighbor", "ietf-ip:ipv6/neighbor", "ietf-ip:ipv6/ietf-ipv6-unicast-routing:ipv6-router-advertisements")); err != nil {
		return nil, err
	}
	if b.fill4, err = fill.New[routing4.Routing4_Route](b.lists[0]); err != nil {
		return nil, err
	}
	if b.fill6, err = fill.New[routing6.Routing6_Route](b.lists[1]); err != nil {
		return nil, err
	}
	return b, nil
}

// Name implements binding.Binding.
func (b *Binding) Name() string { return "route" }

// Owns implements binding.Binding. Descriptions are for people.
func (b *Binding) Owns() []string {
	return []string{protocol + "/type", protocol + "/name", protocol + "/description", static4, static6}
}

// Watches implements binding.Watcher.
func (b *Binding) Watches() []string {
	return []string{
		interfacePath + "/name", interfacePath + "/type", interfacePath + "/enabled",
		interfacePath + "/ietf-ip:ipv4/enabled", interfacePath + "/ietf-ip:ipv4/address",
		interfacePath + "/ietf-ip:ipv6/enabled", interfacePath + "/ietf-ip:ipv6/forwarding", interfacePath + "/ietf-ip:ipv6/address",
	}
}

var _ binding.Watcher = (*Binding)(nil)
