package pipeline

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Tentative is the own IPv6 addresses that must not be used, because they are
// still being checked for uniqueness or were found not to be (RFC 4862 section
// 5.4): immutable. A nil one is empty.
type Tentative struct {
	list   []tentative // by interface and address
	byAddr []tentative
}

type tentative struct {
	hi, lo    uint64
	index     IfIndex
	duplicate bool
}

func (a tentative) compare(b tentative) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (a tentative) compareAddr(b tentative) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

// Add appends an address while a Tentative is made; Sort ends that.
func (t *Tentative) Add(i IfIndex, a netip.Addr, duplicate bool) {
	b := a.As16()
	t.list = append(t.list, tentative{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), i, duplicate})
}

// Sort ends the making. It gives nil for an empty one.
func (t *Tentative) Sort() *Tentative {
	if len(t.list) == 0 {
		return nil
	}
	slices.SortFunc(t.list, tentative.compare)
	t.byAddr = slices.Clone(t.list)
	slices.SortFunc(t.byAddr, tentative.compareAddr)
	return t
}

// HasAny tells whether an address is among those of any interface.
func (t *Tentative) HasAny(hi, lo uint64) bool {
	if t == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(t.byAddr, tentative{hi: hi, lo: lo}, tentative.compareAddr)
	return found
}

// Has tells whether an interface's address is among them.
func (t *Tentative) Has(i IfIndex, hi, lo uint64) bool {
	if t == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(t.list, tentative{hi: hi, lo: lo, index: i}, tentative.compare)
	return found
}

// HasAddr is Has for an address in one.
func (t *Tentative) HasAddr(i IfIndex, a netip.Addr) bool {
	if t == nil || !a.Is6() {
		return false
	}
	b := a.As16()
	return t.Has(i, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

// Of are those of an interface.
func (t *Tentative) Of(i IfIndex) (checked, duplicate []netip.Addr) {
	if t == nil {
		return nil, nil
	}
	at, _ := slices.BinarySearchFunc(t.list, tentative{index: i}, tentative.compare)
	for ; at < len(t.list) && t.list[at].index == i; at++ {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], t.list[at].hi)
		binary.BigEndian.PutUint64(b[8:], t.list[at].lo)
		if t.list[at].duplicate {
			duplicate = append(duplicate, netip.AddrFrom16(b))
		} else {
			checked = append(checked, netip.AddrFrom16(b))
		}
	}
	return checked, duplicate
}
