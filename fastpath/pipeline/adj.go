package pipeline

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/mem"
)

// AdjKind is what an adjacency stands for.
type AdjKind uint8

// The kinds. Handle 0 is AdjNone for ever: no route.
const (
	AdjNone        AdjKind = iota
	AdjNeighbour           // a next hop: Ethernet header known (MTU > 0) or being resolved
	AdjGlean               // a connected prefix: the destination itself is the next hop
	AdjReceive             // an own address
	AdjBlackhole           // drop silently
	AdjUnreachable         // drop, ICMP host unreachable
	AdjProhibit            // drop, ICMP administratively prohibited
	AdjGroup               // several next hops; route puts one of them in its place
)

// Adj is one adjacency: 32 bytes, pointer-free, in mapped memory. Flows, routes
// and SAs hold its handle; what is learnt about the next hop changes here and
// nowhere else. The control side writes it a word at a time, workers read it.
type Adj struct {
	// The Ethernet header as two overlapping words, bytes 0..7 and 6..13 in
	// memory order: destination, source, type. A change of the neighbour's
	// address is one store to l2a.
	l2a, l2b atomic.Uint64
	// gen changes when flows and paths that hold this handle must ask again.
	gen  atomic.Uint32
	_    uint32
	word atomic.Uint64 // AdjWord
}

// AdjWord is what the packet loop asks of an adjacency, in one word: MTU in bits
// 0..15, link MTU in 16..31, interface in 32..47, kind in 48..55, IPv6 in 56.
type AdjWord uint64

// MTU is the largest frame that may go out without further ado; 0 when somebody
// must look first (unresolved, stale, or not a neighbour at all).
func (w AdjWord) MTU() uint16 { return uint16(w) }

// LinkMTU is the largest frame the link takes, whatever the state.
func (w AdjWord) LinkMTU() uint16 { return uint16(w >> 16) }

// If is the interface.
func (w AdjWord) If() IfIndex { return IfIndex(w >> 32) }

// Kind is what the adjacency stands for.
func (w AdjWord) Kind() AdjKind { return AdjKind(w >> 48) }

// Word reads the adjacency's word.
func (a *Adj) Word() AdjWord { return AdjWord(a.word.Load()) }

// Gen is the generation.
func (a *Adj) Gen() uint32 { return a.gen.Load() }

// L2a and L2b are the Ethernet header's words.
func (a *Adj) L2a() uint64 { return a.l2a.Load() }

// L2b is bytes 6..13 of the Ethernet header.
func (a *Adj) L2b() uint64 { return a.l2b.Load() }

// Resolved tells whether the next hop's address is known.
func (a *Adj) Resolved() bool { return a.l2a.Load()<<16 != 0 }

// Kind is Word().Kind().
func (a *Adj) Kind() AdjKind { return a.Word().Kind() }

// If is Word().If().
func (a *Adj) If() IfIndex { return a.Word().If() }

// MTU is Word().MTU().
func (a *Adj) MTU() uint16 { return a.Word().MTU() }

// LinkMTU is Word().LinkMTU().
func (a *Adj) LinkMTU() uint16 { return a.Word().LinkMTU() }

// AdjSpec is an adjacency to be made: closed (MTU 0), unless it stays so.
type AdjSpec struct {
	L2a, L2b uint64
	LinkMTU  uint16
	If       IfIndex
	Kind     AdjKind
	V6       bool
}

// set writes a whole record. Readers that still hold the handle from before
// have compared its generation, which has moved.
func (a *Adj) set(x AdjSpec) {
	a.gen.Add(1)
	a.word.Store(0)
	a.l2a.Store(x.L2a)
	a.l2b.Store(x.L2b)
	w := uint64(x.LinkMTU)<<16 | uint64(x.If)<<32 | uint64(x.Kind)<<48
	if x.V6 {
		w |= 1 << 56
	}
	a.word.Store(w)
}

// AdjTable is all adjacencies.
type AdjTable struct {
	t     mem.Table[Adj]
	slots *mem.Slots
	// Base is the address of record 0, for the packet loop.
	Base unsafe.Pointer
}

// NewAdjTable maps room for n adjacencies.
func NewAdjTable(n int, g *mem.Grace) (*AdjTable, error) {
	t, err := mem.NewTable[Adj](n, mem.Options{})
	if err != nil {
		return nil, fmt.Errorf("adjacencies: %w", err)
	}
	a := &AdjTable{t: t, Base: t.Base()}
	a.slots = mem.NewSlots(uint32(n), g, func(h uint32) { a.At(h).set(AdjSpec{}) })
	return a, nil
}

// At is the record of a handle. Workers only read it.
func (a *AdjTable) At(h uint32) *Adj {
	return (*Adj)(unsafe.Add(a.Base, uintptr(h)*unsafe.Sizeof(Adj{})))
}

// Alloc makes an adjacency; false when the table is full. Control side only.
func (a *AdjTable) Alloc(x AdjSpec) (uint32, bool) {
	h, ok := a.slots.Alloc()
	if !ok {
		return 0, false
	}
	a.At(h).set(x)
	return h, true
}

// Free gives back a handle that no worker has seen.
func (a *AdjTable) Free(h uint32) { a.slots.Free(h) }

// Retire makes an adjacency unusable at once and gives its handle back when no
// worker can hold it any more.
func (a *AdjTable) Retire(h uint32) {
	a.SetMTU(h, 0)
	a.Bump(h)
	a.slots.Retire(h)
}

// Bump makes every flow and path that holds h ask again.
func (a *AdjTable) Bump(h uint32) { a.At(h).gen.Add(1) }

// Gen reads h's generation.
func (a *AdjTable) Gen(h uint32) uint32 { return a.At(h).gen.Load() }

// SetMTU opens (mtu > 0) or closes the direct way out.
func (a *AdjTable) SetMTU(h uint32, mtu uint16) {
	for w := &a.At(h).word; ; {
		x := w.Load()
		if w.CompareAndSwap(x, x&^0xffff|uint64(mtu)) {
			return
		}
	}
}

// Open lets frames of the link's MTU out.
func (a *AdjTable) Open(h uint32) { a.SetMTU(h, a.At(h).LinkMTU()) }

// Rewrite gives h another Ethernet header and link MTU, and closes it.
func (a *AdjTable) Rewrite(h uint32, x AdjSpec) { a.At(h).set(x) }

// SetMAC stores the next hop's address with one store, leaving the rest of the
// Ethernet header as it is.
func (a *AdjTable) SetMAC(h uint32, mac [6]byte) {
	x := &a.At(h).l2a
	w := x.Load() &^ 0xffff_ffff_ffff
	for i, b := range mac {
		w |= uint64(b) << (8 * i)
	}
	x.Store(w)
}

// InUse is the number of adjacencies.
func (a *AdjTable) InUse() int { return a.slots.InUse() }

// Close unmaps the table.
func (a *AdjTable) Close() error { return a.t.Unmap() }

// EthWords are the two words of an Ethernet header, as Adj has them.
func EthWords(dst, src [6]byte, etherType uint16) (l2a, l2b uint64) {
	for i := range 6 {
		l2a |= uint64(dst[i]) << (8 * i)
		l2b |= uint64(src[i]) << (8 * i)
	}
	l2a |= l2b << 48
	l2b |= uint64(etherType>>8)<<48 | uint64(etherType&0xff)<<56
	return l2a, l2b
}
