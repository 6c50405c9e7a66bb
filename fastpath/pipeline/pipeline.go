// Package pipeline is what the packet loop, the features and the engine agree
// on: a burst as arrays (Vec), what a worker offers while it handles one
// (Ctx), the walk of packets that missed the flow cache (Stage), the handling
// of flows that are not plain forwarding (Sink), and the immutable policy that
// a commit publishes (Snapshot, made by a Builder).
//
//	vec.go       one burst
//	ctx.go       what a worker offers; tx.go its way out, event.go its way to the control side
//	adj.go       adjacencies: where packets go out, by handle
//	count.go     counters that ops name by handle
//	feature.go   what a feature is to the engine
//	snapshot.go  the policy that workers decide by
//
// Who may do what: everything in Vec and Ctx belongs to one worker's
// goroutine. Tables by handle (adjacencies, SAs, FIB) have one writer, the
// control side, which holds the engine's lock; workers read them without one.
package pipeline

import (
	"vrouter/pkg/sal"
)

// IfIndex is the fast path's number of an interface, from 1; 0: none. It stays
// while the interface exists and is not given to another one soon after.
type IfIndex = uint16

// MaxIfaces bounds IfIndex (exclusive).
const MaxIfaces = 1 << 15

// Burst is the largest burst.
const Burst = sal.Burst

// EthLen is an Ethernet header's length: Vec.Addr points at one, the IP header
// follows.
const EthLen = 14

// Origin is where a packet comes from, as it stands in flow keys (24 bits): a
// packet that came through an SA never shares a flow with a clear one.
type Origin uint32

const (
	originSA    = 1 << 23
	originLocal = 1 << 22
	originWhole = 1 << 21 // of an interface; SAs have originLocal for it

	// MaxSA is the largest SA handle an Origin can name.
	MaxSA = originLocal - 1
)

// FromIface is the origin of packets received on an interface.
func FromIface(i IfIndex) Origin { return Origin(i) }

// FromSA is the origin of packets decrypted by the inbound SA h.
func FromSA(h uint32) Origin { return Origin(originSA | h&MaxSA) }

// FromLocal is the origin of packets that the vRouter itself made.
const FromLocal Origin = originLocal

// FromLocalSA is the origin of packets that the vRouter made about one that came
// out of an SA: an ICMP error that quotes it, the reply to its echo request. They
// may leave through an SA only.
const FromLocalSA = FromLocal | 1

// FromSomeSA is the origin of packets of which it is known that they came out of
// an SA, but no longer which.
const FromSomeSA Origin = originSA

// SA is the inbound SA that the packet came out of.
func (o Origin) SA() (h uint32, ok bool) { return uint32(o) & MaxSA, o&originSA != 0 }

// AsWhole is the origin of what was put together out of fragments of origin o:
// one packet, or all of a datagram's pieces one after the other where no buffer
// takes it whole. Inbound policy has not seen them yet.
func (o Origin) AsWhole() Origin {
	if o&originSA != 0 {
		return o | originLocal
	}
	return o | originWhole
}

// Whole tells whether a packet has been through reassembly.
func (o Origin) Whole() bool {
	if o&originSA != 0 {
		return o&originLocal != 0
	}
	return o&(originWhole|originLocal) == originWhole
}

// Local tells whether the vRouter made the packet.
func (o Origin) Local() bool { return o&(originSA|originLocal) == originLocal }

// Answer is the origin of what the vRouter makes in answer to a packet of origin
// o.
func (o Origin) Answer() Origin {
	if o&originSA != 0 || o == FromLocalSA {
		return FromLocalSA
	}
	return FromLocal
}

// Flags are what the careful parse found out about a packet, or a stage said.
type Flags uint16

// The flags. Packets with any of the first five never make a flow entry.
const (
	// FlagNoCache: decide for this packet only.
	FlagNoCache Flags = 1 << iota
	// FlagFragment: an IP fragment (any, the first included); the key has no
	// ports. Policy that needs ports must fail closed.
	FlagFragment
	// FlagOptions: the IP header is longer than its fixed part (IPv4 options,
	// IPv6 extension headers), so the payload is not at 20 or 40.
	FlagOptions
	// FlagOpaque: the upper protocol or its ports could not be found; the
	// protocol in the key is the first unknown next header.
	FlagOpaque
	// FlagLastHop: TTL or hop limit is 0 or 1; it may not be forwarded.
	FlagLastHop
	// FlagOwn: the destination is an own address (set by route's look-up).
	FlagOwn
	// FlagGroup: came in a broadcast or multicast frame, or is to such an
	// address; never answer with an ICMP error.
	FlagGroup
	// FlagLinkLocal: an IPv4 link-local address (169.254.0.0/16), which no router
	// forwards (RFC 3927 section 7).
	FlagLinkLocal
	// FlagSYN: TCP SYN, where something clamps announced segment sizes. It walks
	// by itself, whatever its flow does.
	FlagSYN
)

// Uncacheable are the flags that forbid a flow entry.
const Uncacheable = FlagNoCache | FlagFragment | FlagOptions | FlagOpaque | FlagLastHop | FlagGroup
