// Package route is the FIB: longest prefix match for IPv4 and IPv6, TTL and
// hop limit, ICMP errors. It gets resolved routes; the RIB is the management
// plane's.
//
// What is not plain: source routes and routing headers of type 0 are dropped;
// record route and timestamp options pass as they are and get no entry of ours
// (RFC 7126 allows it, RFC 1812 section 5.2.4 would have them filled in); router
// alert is ignored. Of what is sent to the vRouter itself echo requests are
// answered, TCP is dropped in silence, everything else is told that nobody is
// there. No redirects are sent.
package route

import "net/netip"

// Kind is what happens to packets of a route.
type Kind uint8

// The kinds (ietf-ipv4-unicast-routing's special next hops).
const (
	Unicast     Kind = iota // to NextHop, or to the destination itself when NextHop is invalid (connected)
	Receive                 // an own address
	Blackhole               // drop silently
	Unreachable             // drop, ICMP host unreachable
	Prohibit                // drop, ICMP communication administratively prohibited
)

// Config is one resolved route of the FIB. Prefix is its key.
type Config struct {
	Prefix  netip.Prefix // host bits zero
	Kind    Kind
	Iface   string     // Unicast and Receive
	NextHop netip.Addr // same family as Prefix; invalid: connected
	Hops    Hops       // several next hops, instead of Iface and NextHop
}

// Change is what a commit does to the FIB. A Set of an existing prefix
// replaces its route.
type Change struct {
	Set    []Config
	Delete []netip.Prefix
}

// State is one route as the FIB has it.
type State struct {
	Config
	// Resolved tells whether the adjacency has a link-layer address now.
	Resolved bool
}

// ObjectKey is the key as text, as inventories and refusals give it.
func (c Config) ObjectKey() string { return c.Prefix.String() }
