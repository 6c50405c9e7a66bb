package neigh

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// record is one neighbour as workers find it: 32 bytes. IPv4 addresses stand
// in lo. adj 0: free, and the end of a search; deleted ones keep their place
// with adj = gone.
type record struct {
	hi, lo uint64
	in     uint32 // interface, and family: bit 16
	adj    uint32
	_      [8]byte
}

const (
	gone  = ^uint32(0)
	v6bit = 1 << 16
)

// table maps (interface, address) to an adjacency: open addressing over mapped
// memory with one writer, the control side, and readers without a lock. A
// record's key is complete before its adj is stored, and never changes.
type table struct {
	cur  atomic.Pointer[arena]
	seed burst.Seed
	g    *mem.Grace
}

type arena struct {
	t    mem.Table[record]
	base unsafe.Pointer
	mask uint32
	used int // records taken, the deleted included
}

func newTable(g *mem.Grace) (*table, error) {
	t := &table{seed: burst.NewSeed(), g: g}
	a, err := newArena(1 << 10)
	if err != nil {
		return nil, err
	}
	t.cur.Store(a)
	return t, nil
}

func newArena(n int) (*arena, error) {
	t, err := mem.NewTable[record](n, mem.Options{SmallPages: true})
	if err != nil {
		return nil, err
	}
	return &arena{t: t, base: t.Base(), mask: uint32(n - 1)}, nil
}

func (a *arena) at(i uint32) *record {
	return (*record)(unsafe.Add(a.base, uintptr(i&a.mask)*unsafe.Sizeof(record{})))
}

func (t *table) hash(hi, lo uint64, in uint32) uint32 {
	h, l := bits.Mul64(hi^t.seed[0]^uint64(in), lo^t.seed[1])
	h, l = bits.Mul64(h^l^t.seed[2], t.seed[3]|1)
	return uint32(h ^ l)
}

// find is the adjacency of a neighbour, 0 when it is unknown. Any goroutine
// that is an online worker of the Grace, or holds the engine's lock.
func (t *table) find(hi, lo uint64, in uint32) uint32 {
	a := t.cur.Load()
	for i := t.hash(hi, lo, in); ; i++ {
		r := a.at(i)
		adj := atomic.LoadUint32(&r.adj)
		if adj == 0 {
			return 0
		}
		if adj != gone && r.lo == lo && r.hi == hi && r.in == in {
			return adj
		}
	}
}

// insert adds a neighbour that is not there.
func (t *table) insert(hi, lo uint64, in, adj uint32) error {
	a := t.cur.Load()
	if a.used*2 > int(a.mask) {
		var err error
		if a, err = t.grow(a); err != nil {
			return err
		}
	}
	a.put(t.hash(hi, lo, in), hi, lo, in, adj)
	return nil
}

func (a *arena) put(h uint32, hi, lo uint64, in, adj uint32) {
	for i := h; ; i++ {
		if r := a.at(i); r.adj == 0 {
			r.hi, r.lo, r.in = hi, lo, in
			a.used++
			atomic.StoreUint32(&r.adj, adj)
			return
		}
	}
}

// grow moves all live records to a new arena, larger if they are many.
func (t *table) grow(a *arena) (*arena, error) {
	live := 0
	for i := range a.mask + 1 {
		if x := a.at(i).adj; x != 0 && x != gone {
			live++
		}
	}
	n := int(a.mask) + 1
	for live*4 > n {
		n *= 2
	}
	b, err := newArena(n)
	if err != nil {
		return nil, err
	}
	for i := range a.mask + 1 {
		if r := a.at(i); r.adj != 0 && r.adj != gone {
			b.put(t.hash(r.hi, r.lo, r.in), r.hi, r.lo, r.in, r.adj)
		}
	}
	t.cur.Store(b)
	t.g.Retire(func() { _ = a.t.Unmap() })
	return b, nil
}

// remove takes a neighbour out.
func (t *table) remove(hi, lo uint64, in uint32) {
	a := t.cur.Load()
	for i := t.hash(hi, lo, in); ; i++ {
		r := a.at(i)
		if r.adj == 0 {
			return
		}
		if r.adj != gone && r.lo == lo && r.hi == hi && r.in == in {
			atomic.StoreUint32(&r.adj, gone)
			return
		}
	}
}

func (t *table) close() { _ = t.cur.Load().t.Unmap() }

// words are an address as the table has it.
func words(i pipeline.IfIndex, a netip.Addr) (hi, lo uint64, in uint32) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:])), uint32(i)
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), uint32(i) | v6bit
}
