// Package iface is the interfaces of the vRouter: ports with their
// administrative state, MTU, MAC, addresses and counters.
package iface

import "net/netip"

// Config is one interface as the management plane wants it. Name is its key.
type Config struct {
	Name    string
	Driver  string // a SAL port driver: af-packet, tap, memory
	Device  string // what the driver opens; the interface's name when empty
	Queues  int    // at least 1
	MTU     uint16 // largest IP packet in bytes
	MAC     [6]byte
	Enabled bool
	V4, V6  IP
	// Addrs are the own addresses with their prefix lengths, both families.
	Addrs []netip.Prefix
}

// IP is what one address family of an interface does.
type IP struct {
	Enabled    bool
	Forwarding bool   // packets received here may be forwarded
	MTU        uint16 // 0: the interface's
}

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
	Counters             Counters
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
}

// ObjectKey is the key as text, as inventories and refusals give it.
func (c Config) ObjectKey() string { return c.Name }
