// Package lpm finds the longest matching prefix of an address: the forwarding
// tables of the router. A table maps prefixes to next hops, which are numbers
// with a meaning to the caller only.
//
// [V4] and [V6] are changed in place, by one writer at a time, while any number
// of readers look up without a lock. A reader sees each address either as it
// was before a change or as it is after it; a change of a short prefix reaches
// the addresses below it one after another.
//
// # Structure
//
// The first 24 bits of an address index a root of 2^24 words (64 MiB of
// address space, of which only the touched pages are memory). A word is a
// leaf, with the next hop and the length of its prefix, or leads to a 64-byte
// line that decides the next eight bits: a node holds its 256 slots as runs of
// equal ones. In V6, a line can also be a tail: a few whole prefixes, so that a
// lonely route takes one step instead of a chain of nodes.
//
// Prefixes of at most eight bits would touch large parts of the root; they are
// kept in a table of 256 words that is asked when the root knows nothing. A
// default route costs nothing.
//
// What a look-up needs is pointer-free mapped memory. Lines that a change took
// out are reused after every worker of the [mem.Grace] has passed a quiescent
// point; a worker's look-up and the use of the table must lie between two of
// its own.
//
// Beside the tables lies the list of routes itself, a hash of 16 bytes an IPv4
// route and 32 an IPv6 route, from which a deletion finds the prefix that
// covers the deleted one.
package lpm

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"

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

// Options sizes a table.
type Options struct {
	// Routes is how many routes the table is made for, 0 for a million (65536
	// under the race detector). It sets
	// how much address space is reserved; memory is used as routes come.
	Routes int
	// Huge maps the table with huge pages from the start: for one that will
	// hold many routes. Look-ups among 100 000 are about a fifth faster; a table
	// of few takes about 10 MiB instead of 100 KiB. Without it huge pages are
	// asked for when the table has grown, and are only had for what is touched
	// from then on.
	Huge bool
}

// V4 is a table of IPv4 routes. Lookup and LookupBurst may run on any number
// of goroutines, each of which is an online worker of the table's Grace (or
// keeps writers away by other means). The other methods exclude one another.
type V4 struct{ trie }

// NewV4 maps an empty table. What its changes free passes through g.
func NewV4(g *mem.Grace, o Options) (*V4, error) {
	t := &V4{}
	t.rib = rib4{}
	if err := t.init(g, o, false); err != nil {
		return nil, err
	}
	return t, nil
}

// Insert adds a route or changes its next hop. Host bits of p are ignored. The
// cost is about a microsecond; for prefixes shorter than 24 bits, up to a
// fraction of a millisecond at nine.
func (t *V4) Insert(p netip.Prefix, nh uint32) error {
	q, err := prefix4(p)
	if err != nil {
		return err
	}
	return t.insert(q, nh)
}

// Delete removes a route and says whether there was one. It waits for workers
// if the memory that it needs is still waiting for them.
func (t *V4) Delete(p netip.Prefix) bool {
	q, err := prefix4(p)
	return err == nil && t.remove(q)
}

// Get is the next hop of exactly this prefix, 0 if there is no such route.
func (t *V4) Get(p netip.Prefix) uint32 {
	q, err := prefix4(p)
	if err != nil {
		return 0
	}
	return t.get(q)
}

// All walks the routes in no particular order. The table must not be changed
// from within; a change from elsewhere waits.
func (t *V4) All() iter.Seq2[netip.Prefix, uint32] {
	return t.all(func(p pfx) netip.Prefix {
		a := uint32(p.hi >> 32)
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), int(p.len))
	})
}

// V6 is a table of IPv6 routes; see [V4].
type V6 struct{ trie }

// NewV6 maps an empty table. What its changes free passes through g.
func NewV6(g *mem.Grace, o Options) (*V6, error) {
	t := &V6{}
	t.rib = rib6{}
	if err := t.init(g, o, true); err != nil {
		return nil, err
	}
	return t, nil
}

// Insert adds a route or changes its next hop. Host bits of p are ignored. The
// cost is about a microsecond; for prefixes shorter than 24 bits, up to a
// fraction of a millisecond at nine.
func (t *V6) Insert(p netip.Prefix, nh uint32) error {
	q, err := prefix6(p)
	if err != nil {
		return err
	}
	return t.insert(q, nh)
}

// Delete removes a route and says whether there was one. It waits for workers
// if the memory that it needs is still waiting for them.
func (t *V6) Delete(p netip.Prefix) bool {
	q, err := prefix6(p)
	return err == nil && t.remove(q)
}

// Get is the next hop of exactly this prefix, 0 if there is no such route.
func (t *V6) Get(p netip.Prefix) uint32 {
	q, err := prefix6(p)
	if err != nil {
		return 0
	}
	return t.get(q)
}

// All walks the routes in no particular order. The table must not be changed
// from within; a change from elsewhere waits.
func (t *V6) All() iter.Seq2[netip.Prefix, uint32] {
	return t.all(func(p pfx) netip.Prefix {
		var b [16]byte
		for i := range 8 {
			b[i], b[8+i] = byte(p.hi>>(56-8*i)), byte(p.lo>>(56-8*i))
		}
		return netip.PrefixFrom(netip.AddrFrom16(b), int(p.len))
	})
}

// pfx is a prefix of either family, left-aligned in 128 bits, host bits 0.
type pfx struct {
	hi, lo uint64
	len    uint8
}

// route is a prefix and its next hop.
type route struct {
	pfx
	nh uint32
}

func prefix4(p netip.Prefix) (pfx, error) {
	if !p.IsValid() || !p.Addr().Is4() {
		return pfx{}, fmt.Errorf("%w: %v", ErrPrefix, p)
	}
	a := p.Addr().As4()
	q := pfx{hi: uint64(a[0])<<56 | uint64(a[1])<<48 | uint64(a[2])<<40 | uint64(a[3])<<32}
	return q.cut(p.Bits()), nil
}

func prefix6(p netip.Prefix) (pfx, error) {
	if !p.IsValid() || !p.Addr().Is6() {
		return pfx{}, fmt.Errorf("%w: %v", ErrPrefix, p)
	}
	var q pfx
	a := p.Addr().As16()
	for i := range 8 {
		q.hi, q.lo = q.hi<<8|uint64(a[i]), q.lo<<8|uint64(a[8+i])
	}
	return q.cut(p.Bits()), nil
}

// cut is the prefix of length n that p lies in.
func (p pfx) cut(n int) pfx {
	return pfx{hi: p.hi & maskHi(n), lo: p.lo & maskLo(n), len: uint8(n)}
}

// maskHi is the upper word of a mask of n bits.
func maskHi(n int) uint64 { return ^(^uint64(0) >> n) }

// maskLo is the lower word of a mask of n bits.
func maskLo(n int) uint64 {
	if n <= 64 {
		return 0
	}
	return ^(^uint64(0) >> (n - 64))
}

// slot is the eight bits of the address from bit depth on; depth is a multiple
// of eight.
func slot(hi, lo uint64, depth int) int {
	if depth < 64 {
		return int(hi>>(56-depth)) & 255
	}
	return int(lo>>(120-depth)) & 255
}

// rib is the list of routes, without pointers so that the collector does not
// read it.
type rib interface {
	get(pfx) uint32 // 0: not there
	set(pfx, uint32)
	del(pfx)
	each(func(pfx, uint32) bool)
}

type rib4 map[uint64]uint32

func key4(p pfx) uint64 { return p.hi | uint64(p.len) }

func (r rib4) get(p pfx) uint32     { return r[key4(p)] }
func (r rib4) set(p pfx, nh uint32) { r[key4(p)] = nh }
func (r rib4) del(p pfx)            { delete(r, key4(p)) }
func (r rib4) each(f func(pfx, uint32) bool) {
	for k, nh := range r {
		if !f(pfx{hi: k >> 32 << 32, len: uint8(k)}, nh) {
			return
		}
	}
}

type rib6 map[pfx]uint32

func (r rib6) get(p pfx) uint32     { return r[p] }
func (r rib6) set(p pfx, nh uint32) { r[p] = nh }
func (r rib6) del(p pfx)            { delete(r, p) }
func (r rib6) each(f func(pfx, uint32) bool) {
	for p, nh := range r {
		if !f(p, nh) {
			return
		}
	}
}
