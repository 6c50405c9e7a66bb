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
)

// Adj is one adjacency: 32 bytes, pointer-free, in mapped memory. Flows, routes
// and SAs hold its handle; what is learnt about the next hop changes here and
// nowhere else. The control side writes it, workers read it.
type Adj struct {
	// L2a and L2b are the Ethernet header as two overlapping words, bytes 0..7
	// and 6..13 in memory order: destination, source, type. A change of the
	// neighbour's address is one store to L2a.
	L2a, L2b uint64
	// Gen changes when flows and paths that hold this handle must ask again.
	Gen uint32
	// Neigh is neigh's own handle.
	Neigh uint32
	// MTU is the largest frame that may go out without further ado; 0 when
	// somebody must look first (unresolved, stale, or not a neighbour at all).
	MTU uint16
	// LinkMTU is the largest frame the link takes, whatever the state.
	LinkMTU uint16
	If      IfIndex
	Kind    AdjKind
	V6      uint8 // 1 for IPv6
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
	a.slots = mem.NewSlots(uint32(n), g, func(h uint32) {
		x := a.t.At(h)
		gen := x.Gen + 1
		*x = Adj{Gen: gen}
	})
	return a, nil
}

// At is the record of a handle. Workers only read it.
func (a *AdjTable) At(h uint32) *Adj {
	return (*Adj)(unsafe.Add(a.Base, uintptr(h)*unsafe.Sizeof(Adj{})))
}

// Alloc makes an adjacency; false when the table is full. Gen in x is ignored.
// Control side only.
func (a *AdjTable) Alloc(x Adj) (uint32, bool) {
	h, ok := a.slots.Alloc()
	if !ok {
		return 0, false
	}
	r := a.At(h)
	x.Gen = r.Gen + 1
	*r = x
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
func (a *AdjTable) Bump(h uint32) { atomic.AddUint32(&a.At(h).Gen, 1) }

// Gen reads h's generation.
func (a *AdjTable) Gen(h uint32) uint32 { return atomic.LoadUint32(&a.At(h).Gen) }

// SetMTU opens (mtu > 0) or closes the direct way out.
func (a *AdjTable) SetMTU(h uint32, mtu uint16) {
	// MTU and LinkMTU share an aligned word, MTU in its lower half.
	p := (*uint32)(unsafe.Pointer(&a.At(h).MTU))
	for {
		w := atomic.LoadUint32(p)
		if atomic.CompareAndSwapUint32(p, w, w&^0xffff|uint32(mtu)) {
			return
		}
	}
}

// SetMAC stores the next hop's address with one store, leaving the rest of the
// Ethernet header as it is.
func (a *AdjTable) SetMAC(h uint32, mac [6]byte) {
	x := a.At(h)
	w := atomic.LoadUint64(&x.L2a) &^ 0xffff_ffff_ffff
	for i, b := range mac {
		w |= uint64(b) << (8 * i)
	}
	atomic.StoreUint64(&x.L2a, w)
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
