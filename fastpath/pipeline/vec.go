package pipeline

import (
	"math/bits"

	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// Vec is one burst of IP packets of one family, as arrays: no pointers, a
// fixed block that stays in the caches. Index i is a packet; lists of indices
// (idx) say which packets a step is about.
//
// Addr, Desc and Len are the frame: an Ethernet header, then at Addr+EthLen
// the IP header. The frame may be longer than the IP packet (padding);
// IP(i) is the packet alone.
type Vec struct {
	V6 bool
	// Same: all packets share one In and From. Some are the Flags that any of
	// the packets in the walk has. Both let a stage pass a burst as a whole.
	Same bool
	Some Flags
	// ESP: some packet's protocol is ESP (set by the route look-up).
	ESP bool
	// Begun: some program has ops and is not ended.
	Begun bool
	// Kinds has bit 1 << AdjKind for every kind that the route look-up found.
	Kinds uint16
	N     int

	Addr [Burst]uintptr
	Desc [Burst]sal.Desc
	Len  [Burst]uint16 // of the frame
	Bad  [Burst]uint8  // not 0: the quick parse did not accept it
	In   [Burst]IfIndex

	K4   [Burst]burst.Key4 // V6 false
	K6   [Burst]burst.Key6 // V6 true
	Hash [Burst]uint64

	Bucket [Burst]uint32 // flow cache
	Entry  [Burst]uint32

	// Filled for packets that are not simply forwarded.
	From  [Burst]Origin
	Flags [Burst]Flags
	Arg   [Burst]uint32 // for a Sink: the op's argument
	Adj   [Burst]uint32 // what the route look-up found
	Prog  [Burst]action.Program

	// Scratch for look-ups over the list that a stage walks.
	Dst4 [Burst]uint32 // host order
	DstH [Burst]uint64 // IPv6, host order
	DstL [Burst]uint64
	Out  [Burst]uint32
}

// Proto is the packet's upper protocol (for IPv6 the last next header that the
// parse got to).
func (v *Vec) Proto(i uint16) uint8 {
	if v.V6 {
		return uint8(v.K6[i&255][4] >> 32)
	}
	return uint8(v.K4[i&255][0] >> 8)
}

// Proto4 is Proto for IPv4.
func (v *Vec) Proto4(i uint16) uint8 { return uint8(v.K4[i&255][0] >> 8) }

// Src4 and Dst are the addresses of an IPv4 packet as numbers (host order).
func (v *Vec) Src4(i uint16) uint32 { return burst.SrcIP4(&v.K4[i&255]) }

// DstIP4 is the destination of an IPv4 packet (host order).
func (v *Vec) DstIP4(i uint16) uint32 { return burst.DstIP4(&v.K4[i&255]) }

// Src6 is the source of an IPv6 packet as two numbers (host order).
func (v *Vec) Src6(i uint16) (hi, lo uint64) {
	k := &v.K6[i&255]
	return bits.ReverseBytes64(k[0]), bits.ReverseBytes64(k[1])
}

// DstIP6 is the destination of an IPv6 packet as two numbers (host order).
func (v *Vec) DstIP6(i uint16) (hi, lo uint64) {
	k := &v.K6[i&255]
	return bits.ReverseBytes64(k[2]), bits.ReverseBytes64(k[3])
}

// Ports are the ports of TCP, UDP, UDP-Lite, SCTP and DCCP; what they hold for
// other protocols is said at burst.Key4. 0, 0 for fragments.
func (v *Vec) Ports(i uint16) (src, dst uint16) {
	var w uint32
	if v.V6 {
		w = uint32(v.K6[i&255][4])
	} else {
		w = uint32(v.K4[i&255][1] >> 32)
	}
	return bits.ReverseBytes16(uint16(w)), bits.ReverseBytes16(uint16(w >> 16))
}

// SPI is the SPI of an ESP packet.
func (v *Vec) SPI(i uint16) uint32 {
	if v.V6 {
		return bits.ReverseBytes32(uint32(v.K6[i&255][4]))
	}
	return bits.ReverseBytes32(uint32(v.K4[i&255][1] >> 32))
}

// IPLen is the length of the IP packet by its own header, in bytes. The parse
// has made sure that it is within the frame.
func (v *Vec) IPLen(i uint16) uint16 {
	p := mem.At(v.Addr[i&255] + EthLen)
	if v.V6 {
		return bits.ReverseBytes16(mem.Load16(p, 4)) + 40
	}
	return bits.ReverseBytes16(mem.Load16(p, 2))
}

// IP is the IP packet as a descriptor, without Ethernet header and padding.
func (v *Vec) IP(i uint16) sal.Desc {
	d := v.Desc[i&255]
	return sal.MakeDesc(d.Buf(), d.Off()+EthLen, v.IPLen(i))
}

// End ends packet i's program.
func (v *Vec) End(i uint16, c action.Code, arg uint32) {
	v.Prog[i&255].Append(action.Make(c, arg))
}

// Drop ends packet i's program: it dies under r.
func (v *Vec) Drop(i uint16, r drop.Reason) { v.End(i, action.Drop, uint32(r)) }

// Reject ends packet i's program: it dies, and its sender is told why.
func (v *Vec) Reject(i uint16, r Reject) { v.End(i, action.Reject, uint32(r)) }

// Route ends packet i's program the way most do: one TTL less, out through adj.
func (v *Vec) Route(i uint16, adj uint32) {
	p := &v.Prog[i&255]
	if p.Len != 0 {
		p.Append(action.Make(action.DecTTL, 0))
		p.Append(action.Make(action.Output, adj))
		return
	}
	p.Ops[0], p.Ops[1] = action.Make(action.DecTTL, 0), action.Make(action.Output, adj)
	p.Len = 2
}

// Do appends an op that does not end packet i's program.
func (v *Vec) Do(i uint16, c action.Code, arg uint32) {
	v.Begun = true
	v.End(i, c, arg)
}
