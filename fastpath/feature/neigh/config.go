// Package neigh is neighbours and adjacencies: ARP (RFC 826) and neighbour
// discovery (RFC 4861). Resolving never blocks; packets that wait are bounded.
package neigh

import "net/netip"

// Key names a neighbour.
type Key struct {
	Iface string
	Addr  netip.Addr
}

// Config is one static neighbour.
type Config struct {
	Key
	MAC [6]byte
}

// Change is what a commit does to static neighbours.
type Change struct {
	Set    []Config
	Delete []Key
}

// Origin of an entry.
type Origin uint8

// The origins (ietf-ip's neighbor-origin).
const (
	Static Origin = iota
	Dynamic
)

// Reach is the state of an entry (RFC 4861 section 7.3.2; ARP uses the same).
type Reach uint8

// The states.
const (
	Incomplete Reach = iota
	Reachable
	Stale
	Delay
	Probe
	Failed
)

// State is one neighbour as it is.
type State struct {
	Key
	MAC      [6]byte
	Origin   Origin
	Reach    Reach
	IsRouter bool
	Age      int64 // nanoseconds since the last confirmation
	Waiting  int   // packets queued for it
}

// ObjectKey is the key as text, as inventories and refusals give it:
// interface, space, address.
func (k Key) ObjectKey() string { return k.Iface + " " + k.Addr.String() }
