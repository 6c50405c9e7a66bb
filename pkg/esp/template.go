package esp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
)

// DF is how the outer IPv4 header gets its Don't Fragment flag (RFC 4301 section
// 8.1).
type DF uint8

// The ways.
const (
	CopyDF  DF = iota // the inner packet's; set around IPv6
	ClearDF           // outer packets may be fragmented
	SetDF
)

// Config is what the bytes of an SA's packets depend on, keys and numbers apart.
type Config struct {
	SPI uint32
	// IV and ICV are their lengths in bytes, Align what text and trailer are a
	// multiple of: 4, or 16.
	IV, ICV, Align int
	// Local and Remote are the outer addresses, of one family, Local being the
	// sender of what is encapsulated.
	Local, Remote netip.Addr
	// LocalPort and RemotePort put ESP into UDP (RFC 3948); both 0: bare ESP.
	LocalPort, RemotePort uint16
	DF                    DF
	// DSCP is the outer DSCP for each of the 64 inner ones; nil: the same.
	DSCP []uint8
	// Transport: there is no outer header (RFC 4303 section 3.1.1). Encap and Decap
	// are for tunnel mode only.
	Transport bool
}

// Flags of a Template. The bits from OwnFlags on are its owner's.
const (
	V6        uint32 = 1 << iota // outer header
	Transport                    // mode
	UDPSum                       // in UDP over IPv6, which wants a checksum
	OwnFlags
)

// Template is a Config made ready for packets, on 148 bytes without a pointer.
// Its first 44 are all that is needed of it where the outer header is IPv4 and its
// DSCP copied; put 20 bytes behind the beginning of a cache line, they end with it.
// It does not change while packets are made by it. (Exported fields are to be read.)
type Template struct {
	SPIBE  uint32   // SPI as it lies on the wire
	sum    uint32   // over Hdr4 without TOS and length, in memory order
	Flags  uint32   //
	Hdr4   [20]byte // outer IPv4 header: TOS 0, length 0, checksum 0
	Ports  uint32   // UDP ports as they lie on the wire, source first
	HdrLen uint8    // what is before ESP: outer IP header, UDP
	Prefix uint8    // ESP header and IV
	ICV    uint8    // ICV
	Mask   uint8    // what text and trailer are a multiple of, less one: 3, or 15 for AES-CBC
	DFAnd  uint8    // the outer DF flag: the inner one and this,
	DFOr   uint8    // or this
	mapped uint8    // 1: the outer DSCP is from dscp
	UDP    uint8    // length of the UDP header, 0 or 8

	Hdr6 [40]byte // outer IPv6 header: traffic class 0, length 0
	dscp [64]uint8
}

// TTL is the TTL and hop limit of outer headers (RFC 4301 section 5.1.2.1, note 2).
const TTL = 64

// FlagDF is DF in the byte of an IPv4 header where it is on the wire.
const FlagDF = 0x40

// Set makes the template of a config, which must be a possible one.
func (t *Template) Set(c *Config) {
	*t = Template{SPIBE: bits.ReverseBytes32(c.SPI), Prefix: uint8(HeaderLen + c.IV), ICV: uint8(c.ICV), Mask: uint8(c.Align - 1)}
	switch c.DF {
	case CopyDF:
		t.DFAnd = FlagDF
	case SetDF:
		t.DFOr = FlagDF
	}
	if c.DSCP != nil {
		t.mapped = 1
		copy(t.dscp[:], c.DSCP)
	}
	if c.Transport {
		t.Flags |= Transport
	}
	proto := uint8(pkt.ProtoESP)
	if c.LocalPort != 0 || c.RemotePort != 0 {
		proto = pkt.ProtoUDP
		t.UDP = UDPLen
		t.Ports = uint32(bits.ReverseBytes16(c.LocalPort)) | uint32(bits.ReverseBytes16(c.RemotePort))<<16
		if c.Local.Is6() {
			t.Flags |= UDPSum
		}
	}
	if c.Local.Is4() {
		t.HdrLen = pkt.IPv4Len + t.UDP
		l, m := c.Local.As4(), c.Remote.As4()
		t.Hdr4[0], t.Hdr4[8], t.Hdr4[9] = 0x45, TTL, proto
		copy(t.Hdr4[12:], l[:])
		copy(t.Hdr4[16:], m[:])
		for i := 0; i < len(t.Hdr4); i += 2 {
			t.sum += uint32(binary.NativeEndian.Uint16(t.Hdr4[i:]))
		}
		return
	}
	t.Flags |= V6
	t.HdrLen = pkt.IPv6Len + t.UDP
	l, m := c.Local.As16(), c.Remote.As16()
	t.Hdr6[0], t.Hdr6[6], t.Hdr6[7] = 0x60, proto, TTL
	copy(t.Hdr6[8:], l[:])
	copy(t.Hdr6[24:], m[:])
}

// InnerMTU is the largest inner packet whose ESP packet fits into mtu, 0 when
// none does. In transport mode it is the largest packet without options.
func (t *Template) InnerMTU(mtu uint32) uint32 {
	head, mask := uint32(t.HdrLen)+uint32(t.Prefix)+uint32(t.ICV), uint32(t.Mask)
	if mtu < head+mask+1 {
		return 0
	}
	n := (mtu-head)&^mask - TrailerLen
	if t.Flags&Transport != 0 {
		n += uint32(t.HdrLen - t.UDP) // the header is the packet's own
	}
	return n
}

// TextLen is the length of the text around a packet of n bytes: with padding and
// trailer a multiple of 4, or of the cipher's block (RFC 4303 section 2.4).
func (t *Template) TextLen(n uint32) uint32 {
	mask := uint32(t.Mask)
	return (n + TrailerLen + mask) &^ mask
}

// Head is what encapsulation puts before a packet.
func (t *Template) Head() uint32 { return uint32(t.HdrLen) + uint32(t.Prefix) }

// Tail is the most that encapsulation adds behind a packet.
func (t *Template) Tail() uint32 { return uint32(t.Mask) + TrailerLen + uint32(t.ICV) }

// Encap puts trailer, ESP header, IV and outer header around the inner packet
// of n bytes at l3, in these steps:
//
//  1. trailer: padding 1, 2, 3, …, pad length, next header
//  2. SPI, low half of the sequence number, IV if it is a counter
//  3. UDP, where it is wanted: ports, length, and no checksum, as over IPv4 it
//     should be (RFC 3948 section 2.1); over IPv6 SumUDP6 makes one later
//  4. outer header from the template: length, ECN of the inner packet
//     (RFC 6040 normal mode) and its DSCP, unless another is to stand for it, for
//     IPv4 also identification, DF and the checksum, for IPv6 the flow label
//
// It gives the outer header's address. There must be Head bytes before the packet
// and Tail bytes behind it.
func (t *Template) Encap(l3 unsafe.Pointer, n uint32, v6 bool, seq uint64) (outer unsafe.Pointer) {
	next, tos, df := uint16(NextIPv4)<<8, uint32(mem.Load8(l3, 1)), uint32(mem.Load8(l3, 6))&FlagDF
	if v6 {
		next, df = NextIPv6<<8, FlagDF
		tos = bits.ReverseBytes32(mem.Load32(l3, 0)) >> 20 & 0xff
	}
	df = df&uint32(t.DFAnd) | uint32(t.DFOr)
	if t.mapped != 0 {
		tos = uint32(t.dscp[tos>>2&63])<<2 | tos&3
	}
	prefix, icv := uint32(t.Prefix), uint32(t.ICV)
	text := t.TextLen(n)
	pad := text - TrailerLen - n
	if t.Mask == 3 {
		mem.Store32(l3, uintptr(n), 0x00030201)
	} else {
		mem.Store64(l3, uintptr(n), 0x0807060504030201)
		mem.Store64(l3, uintptr(n)+8, 0x100f0e0d0c0b0a09)
	}
	mem.Store16(l3, uintptr(n+pad), uint16(pad)|next)

	esp := unsafe.Add(l3, -int(prefix))
	be := bits.ReverseBytes64(seq)
	mem.Store32(esp, 0, t.SPIBE)
	mem.Store32(esp, 4, uint32(be>>32))
	if prefix == HeaderLen+8 {
		mem.Store64(esp, 8, be)
	}

	total := uint32(t.HdrLen) + prefix + text + icv
	if t.UDP != 0 {
		esp = unsafe.Add(esp, -UDPLen)
		mem.Store32(esp, 0, t.Ports)
		mem.Store32(esp, 4, uint32(bits.ReverseBytes16(uint16(UDPLen+prefix+text+icv))))
	}
	if t.Flags&V6 != 0 {
		h := unsafe.Pointer(&t.Hdr6)
		o := unsafe.Add(esp, -40)
		payload := bits.ReverseBytes16(uint16(total - 40))
		mem.Store32(o, 0, bits.ReverseBytes32(6<<28|tos<<20|flowLabel(l3, v6)))
		mem.Store32(o, 4, mem.Load32(h, 4)&^0xffff|uint32(payload))
		mem.Store64(o, 8, mem.Load64(h, 8))
		mem.Store64(o, 16, mem.Load64(h, 16))
		mem.Store64(o, 24, mem.Load64(h, 24))
		mem.Store64(o, 32, mem.Load64(h, 32))
		return o
	}
	h := unsafe.Pointer(&t.Hdr4)
	o := unsafe.Add(esp, -20)
	// Words as they lie in memory: the sum does not care about byte order.
	length := uint32(bits.ReverseBytes16(uint16(total)))
	id := uint32(uint16(seq))
	sum := t.sum + tos<<8 + length + id + df
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	mem.Store64(o, 0, mem.Load64(h, 0)|uint64(tos)<<8|uint64(length)<<16|uint64(id)<<32|uint64(df)<<48)
	mem.Store64(o, 8, mem.Load64(h, 8)|uint64(^uint16(sum))<<16)
	mem.Store32(o, 16, mem.Load32(h, 16))
	return o
}

// SumUDP6 writes the checksum of ESP in UDP, at octet at of the IPv6 packet b, that
// has none yet. A tunnel may leave it 0 (RFC 6935 section 5), but a peer need not
// take that, and Linux, like the sockets of most, does not.
func SumUDP6(b []byte, at int) {
	ip := pkt.IPv6(b)
	u := pkt.UDP(b[at:])
	u.SetChecksum(pkt.Pseudo6(ip.Src(), ip.Dst(), pkt.ProtoUDP, len(u)))
}
