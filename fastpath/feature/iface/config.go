// Package iface is the interfaces of the vRouter: ports with their
// administrative state, MTU, MAC, addresses and counters.
package iface

import (
	"net/netip"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// Config is one interface as the management plane wants it. Name is its key.
type Config struct {
	Name    string
	Driver  string // a SAL port driver: af-packet, af-xdp, tap, pcap, memory
	Device  string // what the driver opens; the interface's name when empty
	Queues  int    // at least 1
	MTU     uint16 // largest IP packet in bytes
	MAC     [6]byte
	Enabled bool
	V4, V6  IP
	// Params are for drivers that have such.
	Params sal.PortParams
	// Loopback: an interface without a port, to which nothing happens: its
	// addresses are there while it is enabled. Driver, Device, Queues and MAC are
	// left out.
	Loopback bool
	// RA is what the router advertises (RFC 4861 section 6.2); nil: nothing.
	RA *RouterAdvert
	// MSS is to what the segment size is clamped that TCP SYNs announce which are
	// forwarded from or to the interface; ClampPath goes by the interface's MTU.
	MSS pipeline.MSS
	// Addrs are the own addresses with their prefix lengths, both families.
	Addrs []netip.Prefix
}

// IP is what one address family of an interface does.
type IP struct {
	Enabled    bool
	Forwarding bool   // packets received here may be forwarded
	MTU        uint16 // 0: the interface's
	Sources    SourceCheck
	// DAD is how many solicitations an IPv6 address must stand without anybody
	// else claiming it, before it is used (RFC 4862 section 5.4); 0: not checked.
	DAD uint8
}

// SourceCheck is what is asked of the sources of received packets.
type SourceCheck = pipeline.SourceCheck

// The checks.
const (
	SourceAny    = pipeline.SourceAny
	SourceLoose  = pipeline.SourceLoose
	SourceStrict = pipeline.SourceStrict
)

// RouterAdvert and RouterPrefix are the content of Router Advertisements.
type (
	RouterAdvert = pipeline.RouterAdvert
	RouterPrefix = pipeline.RouterPrefix
)

// Change is what a commit does to interfaces. Set creates or changes.
type Change struct {
	Set    []Config
	Delete []string
}

// State is one interface as it is.
type State struct {
	Name, Driver, Device string
	IfIndex              int // the fast path's number of it, from 1, stable while it exists
	Admin, Link          bool
	LastChange           int64 // of Admin && Link, Unix nanoseconds
	MAC                  [6]byte
	MTU                  uint16
	Speed                uint64 // bit/s, 0 unknown
	// Queues, Mode, Why and Shared are of the port, and zero while there is none; see
	// sal.PortInfo.
	Queues   int
	Mode     string
	Why      string
	Shared   bool
	Counters Counters
	// Tentative are own addresses that are still being checked for uniqueness,
	// Duplicate those that somebody else has. Neither is used.
	Tentative, Duplicate []netip.Addr
}

// Counters of an interface since CreatedAt; octets count whole frames without
// FCS.
type Counters struct {
	CreatedAt                                  int64 // Unix nanoseconds
	RxPackets, RxOctets, RxUnicast             uint64
	RxMulticast, RxBroadcast                   uint64
	TxPackets, TxOctets, TxUnicast             uint64
	TxMulticast, TxBroadcast                   uint64
	RxDiscards, RxErrors, TxDiscards, TxErrors uint64
	RxUnknownProtos                            uint64
	RxUncut                                    uint64 // also in RxErrors
}

// ObjectKey is the key as text, as inventories and refusals give it.
func (c Config) ObjectKey() string { return c.Name }
