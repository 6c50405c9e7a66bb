package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// Reinject runs a packet through the loop as part of a next burst in the same
// turn, as if it had just arrived: decrypted packets (FromSA), packets that the
// vRouter made (FromLocal, FromLocalSA; they pass outbound policy and routing,
// and keep their TTL). It needs 14 bytes of room in front.
func (c *Ctx) Reinject(d sal.Desc, in IfIndex, o Origin) {
	p := c.Pool.Addr(d)
	version := mem.Load8(mem.At(p), 0) >> 4
	switch {
	case d.Off() < EthLen:
		c.Drop(d, in, drop.NoBuffer)
	case d.Len() == 0 || version != 4 && version != 6:
		c.Drop(d, in, drop.IPVersion)
	case c.Loop.N == len(c.Loop.Desc):
		c.Drop(d, in, drop.LoopFull)
	default:
		c.Loop.Add(d, p, in, o, version == 6)
	}
}

// LoopMAC is the address in the Ethernet header that packets which go round get,
// so that the one parser serves them too: 02:00:00:00:00:01.
const LoopMAC = 0x01_00_00_00_00_02

// A RoundClass tells which packets that go round may share a burst.
type RoundClass uint8

// The classes are the combinations of these.
const (
	RoundV6 RoundClass = 1 << iota
	RoundLocal
	RoundClasses
)

// LoopList is packets that wait for their next burst, as frames: arrays as in
// Vec.
type LoopList struct {
	N    int
	Seen uint8 // a bit for each class that is among them
	Desc [4 * Burst]sal.Desc
	Addr [4 * Burst]uintptr
	Len  [4 * Burst]uint16
	In   [4 * Burst]IfIndex
	From [4 * Burst]Origin
}

// Add appends an IP packet at address p, for which there is room in the list and
// in front of the packet.
func (l *LoopList) Add(d sal.Desc, p uintptr, in IfIndex, o Origin, v6 bool) {
	class, etherType := RoundClass(0), uint64(0x0008<<48)
	if v6 {
		class, etherType = RoundV6, 0xdd86<<48
	}
	if o.Local() {
		class |= RoundLocal
	}
	frame := mem.At(p - EthLen)
	mem.Store64(frame, 0, LoopMAC)
	mem.Store64(frame, 6, etherType)
	n := l.N & (len(l.Desc) - 1)
	l.Desc[n] = d + (EthLen<<48 - EthLen<<32)
	l.Addr[n], l.Len[n], l.In[n], l.From[n] = p-EthLen, d.Len()+EthLen, in, o
	l.Seen |= 1 << class
	l.N++
}

// Take moves up to a burst of frames to the front of v, the oldest first, and
// says of which classes they may be.
func (l *LoopList) Take(v *Vec) (seen uint8) {
	n := min(l.N, Burst)
	v.N, seen = n, l.Seen
	copy(v.Desc[:n], l.Desc[:n])
	copy(v.Addr[:n], l.Addr[:n])
	copy(v.Len[:n], l.Len[:n])
	copy(v.In[:n], l.In[:n])
	copy(v.From[:n], l.From[:n])
	rest := l.N - n
	if rest > 0 {
		copy(l.Desc[:], l.Desc[n:l.N])
		copy(l.Addr[:], l.Addr[n:l.N])
		copy(l.Len[:], l.Len[n:l.N])
		copy(l.In[:], l.In[n:l.N])
		copy(l.From[:], l.From[n:l.N])
	} else {
		l.Seen = 0
	}
	l.N = rest
	return seen
}

// Class is the class of frame i of v, which came from a LoopList.
func (v *Vec) Class(i int) (c RoundClass) {
	if mem.Load8(mem.At(v.Addr[i&(Burst-1)]+EthLen), 0)>>4 == 6 {
		c = RoundV6
	}
	if v.From[i&(Burst-1)].Local() {
		c |= RoundLocal
	}
	return c
}
