package pipeline

import (
	"net/netip"

	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Iface is one interface as workers and features see it: immutable, a change
// makes a new one.
type Iface struct {
	Index   IfIndex
	Name    string
	Port    sal.Port // nil while it is administratively down
	Queues  int      // of Port, assigned to workers in turn
	Receive int      // of these, from the first on, how many receive
	MAC     [6]byte
	MACWord uint64    // as burst.MACWord
	MTU     [2]uint16 // IPv4, IPv6: largest packet in bytes
	// FrameMax is the largest frame that may be received.
	FrameMax uint16
	Enabled  [2]bool // IPv4, IPv6: up, and the family enabled
	Forward  [2]bool // packets received here may be forwarded
	// Sources is what source addresses packets received here may have.
	Sources [2]SourceCheck
	// Addrs are the own addresses with their prefixes; LinkLocal is the IPv6
	// link-local address, which is not among them (zero Addr: no IPv6 here).
	Addrs     []netip.Prefix
	LinkLocal netip.Addr
	// MSS is to what TCP SYNs that come or go here are clamped.
	MSS MSS
	// Src are the addresses to send from: the first of each family, zero Addr
	// when there is none.
	Src [2]netip.Addr
	// DAD is how often a new IPv6 address asks whether somebody has it (RFC 4862
	// section 5.4), RA what the router advertises here; nil: nothing.
	DAD uint8
	RA  *RouterAdvert
}

// Anycast tells whether a is the subnet-router anycast address of one of the
// interface's subnets (RFC 4291 section 2.6.1), and gives the own address in that
// subnet, which is to be the source of answers: an anycast address does not say who
// it was.
func (x *Iface) Anycast(a netip.Addr) (own netip.Addr, ok bool) {
	if !x.Forward[V6] {
		return own, false
	}
	for _, p := range x.Addrs {
		if p.Addr() == a {
			return a, false
		}
		if s, is := pkt.SubnetRouter(p); is && s == a && !ok {
			own, ok = p.Addr(), true
		}
	}
	return own, ok
}

// RouterAdvert is what Router Advertisements of an interface say, and when they
// are sent (RFC 4861 section 6.2.1). Immutable.
type RouterAdvert struct {
	Min, Max       uint16 // seconds between two
	Managed, Other bool
	LinkMTU        uint32 // 0: not said, as below
	Reachable      uint32 // milliseconds
	Retrans        uint32 // milliseconds
	HopLimit       uint8
	Lifetime       uint16 // seconds as a default router; 0: it is none
	Prefixes       []RouterPrefix
}

// RouterPrefix is a Prefix Information option (RFC 4861 section 4.6.2).
type RouterPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool
	Valid, Preferred   uint32 // seconds; all ones: for ever
}

// SourceCheck is what is asked of the source addresses of received packets
// beyond being such that a packet may have (unicast reverse path forwarding, RFC
// 3704, RFC 8704).
type SourceCheck uint8

// The checks.
const (
	SourceAny    SourceCheck = iota // nothing
	SourceLoose                     // a route leads to the source, the default route included
	SourceStrict                    // it leads there by the interface that the packet came in on
)

// V4 and V6 index the arrays of Iface.
const (
	V4 = iota
	V6
)

const chunkBits = 6

type chunk [1 << chunkBits]*Iface

// Ifaces is all interfaces by index: immutable. With makes a changed copy that
// shares all but what changed, so its cost does not grow with their number.
type Ifaces struct{ chunks []*chunk }

// At is the interface of an index, nil when there is none.
func (t *Ifaces) At(i IfIndex) *Iface {
	c := int(i >> chunkBits)
	if t == nil || c >= len(t.chunks) || t.chunks[c] == nil {
		return nil
	}
	return t.chunks[c][i&(1<<chunkBits-1)]
}

// All calls f for every interface, in order of index.
func (t *Ifaces) All(f func(*Iface)) {
	if t == nil {
		return
	}
	for _, c := range t.chunks {
		if c == nil {
			continue
		}
		for _, x := range c {
			if x != nil {
				f(x)
			}
		}
	}
}

// Changed calls f for every index at which t and old differ.
func (t *Ifaces) Changed(old *Ifaces, f func(i IfIndex, was, is *Iface)) {
	n := 0
	if t != nil {
		n = len(t.chunks)
	}
	if old != nil {
		n = max(n, len(old.chunks))
	}
	for c := range n {
		a, b := t.chunk(c), old.chunk(c)
		if a == b {
			continue
		}
		for k := range 1 << chunkBits {
			var is, was *Iface
			if a != nil {
				is = a[k]
			}
			if b != nil {
				was = b[k]
			}
			if is != was {
				f(IfIndex(c<<chunkBits|k), was, is)
			}
		}
	}
}

func (t *Ifaces) chunk(c int) *chunk {
	if t == nil || c >= len(t.chunks) {
		return nil
	}
	return t.chunks[c]
}

// With is a copy in which the given indices hold the given interfaces (nil:
// none).
func (t *Ifaces) With(set map[IfIndex]*Iface) *Ifaces {
	n := &Ifaces{}
	if t != nil {
		n.chunks = append(n.chunks, t.chunks...)
	}
	fresh := map[int]bool{}
	for i, x := range set {
		c := int(i >> chunkBits)
		for c >= len(n.chunks) {
			n.chunks = append(n.chunks, nil)
		}
		if !fresh[c] {
			fresh[c] = true
			k := &chunk{}
			if n.chunks[c] != nil {
				*k = *n.chunks[c]
			}
			n.chunks[c] = k
		}
		n.chunks[c][i&(1<<chunkBits-1)] = x
	}
	return n
}
