// Package lpm finds the longest matching prefix of an address: the forwarding
// tables of the router. [V4] and [V6] have one writer and any number of
// readers without a lock; they are changed in place.
package lpm

import (
	"errors"
	"net/netip"
	"sync"

	"vrouter/pkg/mem"
)

// MaxNextHop is the largest next hop value; 0 means "no route".
const MaxNextHop = 1<<23 - 1

var (
	// ErrNextHop reports a next hop of 0 or above MaxNextHop.
	ErrNextHop = errors.New("lpm: next hop out of range")
	// ErrPrefix reports a prefix that is not valid, or of the other family.
	ErrPrefix = errors.New("lpm: not a prefix of this table's family")
	// ErrFull reports that the table's memory is used up; nothing was changed.
	ErrFull = errors.New("lpm: table full")
)

// Options sizes a table. The zero value holds at least a million routes.
type Options struct {
	// Routes is how many routes the table is made for; it sets how much address
	// space is reserved, not how much memory is used.
	Routes int
}

// V4 is a table of IPv4 routes.
type V4 struct{ naive }

// V6 is a table of IPv6 routes.
type V6 struct{ naive }

type naive struct {
	mu sync.RWMutex
	m  map[netip.Prefix]uint32
}

// NewV4 maps an empty table whose freed nodes pass through g.
func NewV4(g *mem.Grace, o Options) (*V4, error) {
	return &V4{naive{m: map[netip.Prefix]uint32{}}}, nil
}

// NewV6 maps an empty table whose freed nodes pass through g.
func NewV6(g *mem.Grace, o Options) (*V6, error) {
	return &V6{naive{m: map[netip.Prefix]uint32{}}}, nil
}

func (t *naive) insert(p netip.Prefix, nh uint32) error {
	if nh == 0 || nh > MaxNextHop {
		return ErrNextHop
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[p.Masked()] = nh
	return nil
}

func (t *naive) delete(p netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.m[p.Masked()]
	delete(t.m, p.Masked())
	return ok
}

func (t *naive) get(a netip.Addr) uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for l := a.BitLen(); l >= 0; l-- {
		p, _ := a.Prefix(l)
		if nh, ok := t.m[p]; ok {
			return nh
		}
	}
	return 0
}

// Insert adds a route or changes its next hop.
func (t *V4) Insert(p netip.Prefix, nh uint32) error {
	if !p.IsValid() || !p.Addr().Is4() {
		return ErrPrefix
	}
	return t.insert(p, nh)
}

// Delete removes a route and says whether there was one.
func (t *V4) Delete(p netip.Prefix) bool { return t.delete(p) }

// Lookup is the next hop of the longest prefix that covers addr (host order), 0 if none.
func (t *V4) Lookup(addr uint32) uint32 {
	return t.get(netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8), byte(addr)}))
}

// LookupBurst is Lookup for each address; nh must be as long as addrs.
func (t *V4) LookupBurst(addrs []uint32, nh []uint32) {
	for i, a := range addrs {
		nh[i] = t.Lookup(a)
	}
}

// Len is the number of routes.
func (t *V4) Len() int { return len(t.m) }

// Close unmaps the table.
func (t *V4) Close() error { return nil }

// Insert adds a route or changes its next hop.
func (t *V6) Insert(p netip.Prefix, nh uint32) error {
	if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
		return ErrPrefix
	}
	return t.insert(p, nh)
}

// Delete removes a route and says whether there was one.
func (t *V6) Delete(p netip.Prefix) bool { return t.delete(p) }

// Lookup is the next hop of the longest prefix that covers the address whose
// first eight bytes are hi and last eight lo (host order), 0 if none.
func (t *V6) Lookup(hi, lo uint64) uint32 {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return t.get(netip.AddrFrom16(b))
}

// LookupBurst is Lookup for each address; lo and nh must be as long as hi.
func (t *V6) LookupBurst(hi, lo []uint64, nh []uint32) {
	for i := range hi {
		nh[i] = t.Lookup(hi[i], lo[i])
	}
}

// Len is the number of routes.
func (t *V6) Len() int { return len(t.m) }

// Close unmaps the table.
func (t *V6) Close() error { return nil }
