package sal

import "unsafe"

// Sizes of packet buffers in bytes.
const (
	// BufSize is a buffer's stride: an odd number of cache lines, so that
	// headers of neighbouring buffers fall into different cache sets.
	BufSize = 2112
	// Headroom is kept free in front of a received frame: an ESP tunnel header
	// (IPv6 40, ESP 8, IV 8) and an Ethernet header fit in it.
	Headroom = 128
	// Tailroom is kept free behind the largest frame: ESP padding, trailer, ICV.
	Tailroom = 64
	// MaxFrame is the largest frame an ordinary buffer takes.
	MaxFrame = BufSize - Headroom - Tailroom

	// LargeSize is the size of a large buffer: as many strides as the longest
	// packet and its head and tail room need.
	LargeSize = largeStrides * BufSize
	// MaxPacket is the longest IP packet that the fast path works on: with an
	// Ethernet header in front its length still has 16 bits. The 14 bytes more
	// that an IPv4 header can tell of travel in fragments only.
	MaxPacket = 1<<16 - 1 - 14
	// MaxMTU is the largest MTU of a port: as switches have it, for 9 000 bytes
	// and the headers of a tunnel around them.
	MaxMTU = 9216

	largeStrides = 32
)

// A large buffer takes the longest packet. (Does not compile otherwise.)
var _ [LargeSize - Headroom - Tailroom - 1<<16]struct{}

// Desc is a packet: buffer index in bits 0..31, offset of the first byte from
// the buffer's start in 32..47, length in 48..63.
type Desc uint64

// MakeDesc builds a descriptor.
func MakeDesc(buf uint32, off, n uint16) Desc {
	return Desc(buf) | Desc(off)<<32 | Desc(n)<<48
}

// Buf is the buffer's index in its pool.
func (d Desc) Buf() uint32 { return uint32(d) }

// Off is where the packet begins in its buffer.
func (d Desc) Off() uint16 { return uint16(d >> 32) }

// Len is the packet's length in bytes.
func (d Desc) Len() uint16 { return uint16(d >> 48) }

// Addr is the address of the packet's first byte.
func (p *Pool) Addr(d Desc) uintptr {
	return uintptr(p.base) + uintptr(d.Buf())*BufSize + uintptr(d.Off())
}

// Bytes is the packet as a slice; its capacity ends with the buffer.
func (p *Pool) Bytes(d Desc) []byte {
	size := uint32(BufSize)
	if p.IsLarge(d.Buf()) {
		size = LargeSize
	}
	b := unsafe.Slice((*byte)(unsafe.Add(p.base, uintptr(d.Buf())*BufSize)), size)
	return b[d.Off() : uint32(d.Off())+uint32(d.Len())]
}
