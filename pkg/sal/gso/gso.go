// Package gso turns frames as the kernel hands them to a virtual device into
// frames as they would be on a wire.
//
// A sender on the same machine leaves work to its device: the checksum field
// of TCP and UDP holds the sum over the pseudo-header only, and a segment may
// be far larger than the MTU (generic segmentation offload). The kernel says so
// in a virtio-net header (Virtio 1.3 section 5.1.6) in front of each frame. A
// router that forwards such frames as they are corrupts every TCP connection
// through it, so port drivers complete and cut them here:
//
//	h := gso.ParseHeader(b)
//	if !h.Super() { err = h.Complete(frame) }
//	else { err = s.Begin(h, frame); for n := s.Next(buf); n > 0; n = s.Next(buf) { … } }
//
// On the way out Joiner makes super-frames of consecutive segments of TCP again.
//
// TCP over IPv4 and IPv6 and UDP (UDP_SEGMENT) are cut. Not done: the old UDP
// fragmentation offload, and super-frames inside a tunnel's headers (VXLAN,
// GRE, IP in IP by the sending host): ErrUnsupported, for the driver to count.
package gso

import (
	"encoding/binary"
	"errors"

	"vrouter/pkg/pkt"
)

// HeaderLen is the length of the virtio-net header without the number of
// buffers.
const HeaderLen = 10

// MaxSuper is room for the largest super-frame that the kernel makes unless
// told to make larger ones (BIG TCP): 64 KiB of IP and the link-layer header.
const MaxSuper = 1<<16 + 32

var (
	// ErrUnsupported: a super-frame of a kind that is not cut here.
	ErrUnsupported = errors.New("segmentation offload of an unknown kind")
	// ErrMalformed: header and frame contradict each other.
	ErrMalformed = errors.New("offload header does not fit the frame")
)

// Header is a virtio-net header. Offsets count from the frame's first byte.
type Header struct {
	NeedsCsum  bool
	Type       uint8 // one of the kinds below, without ECN
	Size       uint16
	CsumStart  uint16
	CsumOffset uint16
}

// The kinds of super-frames.
const (
	None  uint8 = 0
	TCPv4 uint8 = 1
	UFO   uint8 = 3
	TCPv6 uint8 = 4
	UDP   uint8 = 5

	ecn       = 0x80
	needsCsum = 1
)

var (
	le = binary.NativeEndian // packet sockets and TAP use the machine's order
	be = binary.BigEndian
)

// ParseHeader reads the first HeaderLen bytes of b.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		NeedsCsum:  b[0]&needsCsum != 0,
		Type:       b[1] &^ ecn,
		Size:       le.Uint16(b[4:]),
		CsumStart:  le.Uint16(b[6:]),
		CsumOffset: le.Uint16(b[8:]),
	}
}

// Super tells whether the frame must be cut.
func (h Header) Super() bool { return h.Type != None }

// Complete finishes a checksum that was left to the device: the field holds the
// sum over the pseudo-header.
func (h Header) Complete(frame []byte) error {
	if !h.NeedsCsum {
		return nil
	}
	at := int(h.CsumStart) + int(h.CsumOffset)
	if at+2 > len(frame) {
		return ErrMalformed
	}
	putSum(frame[at:], pkt.Sum(0).Add(frame[h.CsumStart:]))
	return nil
}

// putSum writes a checksum. 0 means "none" in UDP (RFC 768), so 0xffff stands
// for it; in TCP both are zero.
func putSum(b []byte, s pkt.Sum) {
	c := s.Checksum()
	if c == 0 {
		c = 0xffff
	}
	be.PutUint16(b, c)
}
