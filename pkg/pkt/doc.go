// Package pkt reads and writes packet headers in place.
//
// A header type (Ethernet, IPv4, UDP, …) is a view: a byte slice that begins at
// the header's first byte and runs at least to the header's end. Getters and
// setters do not check lengths beyond what the slice itself checks, so a view
// is made of bytes that [Parse] has measured, or whose length the caller has
// tested against the header's Len constant; on a shorter slice they panic.
// Views copy nothing and own nothing. Numbers are in host order; addresses are
// given as they stand on the wire.
//
// [Parse] is for the slow path: it walks a frame from outside once, trusts
// nothing and never panics. The fast path uses package burst instead and comes
// here with what that refused.
//
// Builders (ARPRequest, NeighborAdvertisement, ICMPv4Error, …) write into a
// buffer of the caller's and return the length written, 0 when the buffer is
// too short or the answer must not be sent.
//
// Nothing here allocates, keeps state or locks; everything may be used from
// any number of goroutines on different bytes.
//
// Not done: IPv4 options and IPv6 extension headers are measured but not
// interpreted, except router alert; TCP options are not read.
package pkt

import "encoding/binary"

var be = binary.BigEndian
