// Package flow is the flow cache: from the key of a packet to what was decided
// for its flow. One table belongs to one worker; nothing here is shared.
//
// A table has buckets of one cache line (eight tags of 16 bits, eight indices
// of entries, see burst.BucketMatch) and entries of one line for IPv4, two for
// IPv6. Look-ups of a burst are stages (prefetch buckets, match tags, prefetch
// entries) that the worker's loop writes out; what stands here is the careful
// search, insertion and ageing.
//
// An entry lives in the first bucket of its hash, or in the second when the
// first is full; then the first counts it as spilled, so that a search which
// finds nothing looks at the second only when it must. Insertion never moves
// another entry and is constant time: with both buckets full, one of two
// entries of the first, drawn at random, gives way: a stale one, else the one
// not used for longer.
package flow

import (
	"fmt"
	"math/bits"
	"unsafe"

	"vrouter/fastpath/action"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// Meta is what an entry holds beside its key: 40 bytes.
type Meta struct {
	Gen    uint32 // pipeline.Env.Gen when it was decided
	AdjGen uint32 // Adj's generation then
	Adj    uint32 // adjacency that the decision hangs on; Forward: the way out
	Arg    uint32 // the ending op's argument
	Kind   action.Kind
	Flags  uint8
	Seen   uint16 // when last used, in ticks
	Pkts   uint32
	Bytes  uint64 // of frames
	Count  [action.MaxCounts]uint32
}

// Flags of an entry.
const (
	HasCount = 1 << iota // Count is to be counted on
	inSecond             // lies in its second bucket
)

// Entry4 is an IPv4 flow: one line. The last 8 bytes are free.
type Entry4 struct {
	Key burst.Key4
	Meta
	_ [8]byte
}

// Entry6 is an IPv6 flow: two lines, the first ending with Pkts.
type Entry6 struct {
	Key burst.Key6
	Meta
	_ [48]byte
}

// Where the words of an entry lie that the packet loop reads and writes as one:
// Gen and AdjGen; Adj; Kind, Flags, Seen and Pkts; Bytes. A test compares.
const (
	Gens4, Adj4, Kind4, Bytes4 = 16, 24, 32, 40
	Gens6, Adj6, Kind6, Bytes6 = 40, 48, 56, 64
	// SeenMask is Seen in the word at Kind4 and Kind6; Pkts is its upper half.
	SeenMask = 0xffff << 16
)

const (
	slotsOf   = 8
	perBucket = 4 // mean load when all entries are in use
)

type bucket struct {
	tag   [slotsOf]uint16
	idx   [slotsOf]uint32
	zero  uint32
	spill uint32 // entries that belong here and lie in their second bucket
	_     [2]uint32
}

// Table is one worker's flows of one family. An entry is named by the number of
// its first line; so IPv6 flows have even ones.
type Table struct {
	// Buckets and Entries are the addresses of bucket 0 and entry 0, Mask the
	// bits of the hash that choose the first bucket: for the packet loop.
	Buckets uintptr
	Entries uintptr
	Mask    uint32

	v6    bool
	lines uint32 // of an entry
	moff  uintptr
	b     mem.Table[bucket]
	e4    mem.Table[Entry4]
	e6    mem.Table[Entry6]
	free  mem.Table[uint32]
	nfree int
	next  uint32 // first line never used
	limit uint32
	used  int
	rnd   uint64
	sweep uint32
}

// New maps a table for n flows; memory is used as flows come.
func New(v6 bool, n int) (*Table, error) {
	if n < 64 || n > 1<<26 {
		return nil, fmt.Errorf("flow table of %d entries: want 64 to %d", n, 1<<26)
	}
	nb := 1 << bits.Len(uint((n-1)/perBucket))
	t := &Table{v6: v6, lines: 1, Mask: uint32(nb - 1), rnd: burst.NewSeed()[0] | 1}
	if v6 {
		t.lines = 2
	}
	t.next, t.limit = t.lines, t.lines*uint32(n+1) // entry 0 is the miss
	var err error
	if t.b, err = mem.NewTable[bucket](nb, mem.Options{}); err != nil {
		return nil, err
	}
	if t.free, err = mem.NewTable[uint32](n+1, mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	if v6 {
		t.moff = unsafe.Offsetof(Entry6{}.Meta)
		if t.e6, err = mem.NewTable[Entry6](n+1, mem.Options{}); err != nil {
			return nil, err
		}
		t.Entries = uintptr(t.e6.Base())
	} else {
		t.moff = unsafe.Offsetof(Entry4{}.Meta)
		if t.e4, err = mem.NewTable[Entry4](n+1, mem.Options{}); err != nil {
			return nil, err
		}
		t.Entries = uintptr(t.e4.Base())
	}
	t.Buckets = uintptr(t.b.Base())
	return t, nil
}

// Close unmaps the table.
func (t *Table) Close() error {
	for _, err := range []error{t.b.Unmap(), t.free.Unmap(), t.e4.Unmap(), t.e6.Unmap()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Size is how many flows fit, Used how many there are.
func (t *Table) Size() int { return int(t.limit/t.lines) - 1 }

// Used is the number of flows, stale ones included.
func (t *Table) Used() int { return t.used }

// E4 is entry i of an IPv4 table.
func (t *Table) E4(i uint32) *Entry4 { return (*Entry4)(mem.At(t.Entries + uintptr(i)<<6)) }

// E6 is entry i of an IPv6 table.
func (t *Table) E6(i uint32) *Entry6 { return (*Entry6)(mem.At(t.Entries + uintptr(i)<<6)) }

// Meta is entry i's.
func (t *Table) Meta(i uint32) *Meta {
	return (*Meta)(mem.At(t.Entries + uintptr(i)<<6 + t.moff))
}

func (t *Table) bucket(i uint32) *bucket {
	return (*bucket)(mem.At(t.Buckets + uintptr(i&t.Mask)<<6))
}

// Spilled tells whether a flow that was not found in bucket i may be in another.
func (t *Table) Spilled(i uint32) bool { return t.bucket(i).spill != 0 }

func (t *Table) second(first uint32, tag uint16) uint32 {
	return (first ^ (uint32(tag)*0x5bd1 | 1)) & t.Mask
}

// Find4 is the careful search: every slot of both buckets. 0: not there.
func (t *Table) Find4(k *burst.Key4, hash uint64) uint32 {
	i, tag := uint32(hash)&t.Mask, uint16(hash>>48)
	for try := 0; ; try++ {
		b := t.bucket(i)
		for s := range b.tag {
			if x := b.idx[s]; b.tag[s] == tag && x != 0 && t.E4(x).Key == *k {
				return x
			}
		}
		if try == 1 || b.spill == 0 {
			return 0
		}
		i = t.second(i, tag)
	}
}

// Find6 is Find4 for IPv6.
func (t *Table) Find6(k *burst.Key6, hash uint64) uint32 {
	i, tag := uint32(hash)&t.Mask, uint16(hash>>48)
	for try := 0; ; try++ {
		b := t.bucket(i)
		for s := range b.tag {
			if x := b.idx[s]; b.tag[s] == tag && x != 0 && t.E6(x).Key == *k {
				return x
			}
		}
		if try == 1 || b.spill == 0 {
			return 0
		}
		i = t.second(i, tag)
	}
}

// Insert makes room for a flow that is not in the table and returns its entry,
// Meta zeroed but for what Insert itself keeps there, for the caller to fill.
// gen is the current generation. 0: no room (the table is full, and both
// buckets happen to be empty).
func (t *Table) Insert(hash uint64, gen uint32) uint32 {
	first, tag := uint32(hash)&t.Mask, uint16(hash>>48)
	if t.nfree == 0 && t.next == t.limit && !t.evict(first, gen) && !t.evict(t.second(first, tag), gen) {
		return 0
	}
	b := t.bucket(first)
	s := vacant(b)
	if s == slotsOf {
		b2 := t.bucket(t.second(first, tag))
		if s2 := vacant(b2); s2 < slotsOf {
			b.spill++
			return t.put(b2, s2, tag, inSecond)
		}
		t.evict(first, gen)
		s = vacant(b)
	}
	return t.put(b, s, tag, 0)
}

func vacant(b *bucket) uint {
	for s := range b.idx {
		if b.idx[s] == 0 {
			return uint(s)
		}
	}
	return slotsOf
}

// evict frees one of two flows of bucket i, drawn at random; false when it has
// none.
func (t *Table) evict(i uint32, gen uint32) bool {
	b := t.bucket(i)
	t.rnd ^= t.rnd << 13
	t.rnd ^= t.rnd >> 7
	t.rnd ^= t.rnd << 17
	p, ok := occupied(b, uint(t.rnd>>61))
	if !ok {
		return false
	}
	q, _ := occupied(b, uint(t.rnd>>58)&7)
	x, y := t.Meta(b.idx[p]), t.Meta(b.idx[q])
	if x.Gen == gen && (y.Gen != gen || int16(y.Seen-x.Seen) < 0) {
		p = q
	}
	t.remove(i, p)
	return true
}

// occupied finds the first slot in use from s on, going round.
func occupied(b *bucket, s uint) (uint, bool) {
	for range slotsOf {
		if b.idx[s&7] != 0 {
			return s & 7, true
		}
		s++
	}
	return 0, false
}

func (t *Table) put(b *bucket, s uint, tag uint16, flags uint8) uint32 {
	var x uint32
	if t.nfree > 0 {
		t.nfree--
		x = *t.free.At(uint32(t.nfree))
	} else {
		x = t.next
		t.next += t.lines
	}
	*t.Meta(x) = Meta{Flags: flags}
	b.tag[s], b.idx[s] = tag, x
	t.used++
	return x
}

// remove empties slot s of bucket i.
func (t *Table) remove(i uint32, s uint) {
	b := t.bucket(i)
	x := b.idx[s]
	if t.Meta(x).Flags&inSecond != 0 {
		t.bucket(t.second(i, b.tag[s])).spill--
	}
	if t.v6 {
		t.E6(x).Key = burst.Key6{}
	} else {
		t.E4(x).Key = burst.Key4{}
	}
	b.idx[s], b.tag[s] = 0, 0
	*t.free.At(uint32(t.nfree)) = x
	t.nfree++
	t.used--
}

// Sweep looks at n buckets, going round the table from call to call, and frees
// flows that were not used for idle ticks. It bounds how long dead flows keep
// their place, and what a search costs.
func (t *Table) Sweep(n int, now, idle uint16) {
	if t.used == 0 {
		return
	}
	for range n {
		i := t.sweep & t.Mask
		t.sweep++
		b := t.bucket(i)
		for s := range b.idx {
			if x := b.idx[s]; x != 0 && now-t.Meta(x).Seen > idle {
				t.remove(i, uint(s))
			}
		}
	}
}

// Flush forgets all flows.
func (t *Table) Flush() {
	for i := range t.Mask + 1 {
		b := t.bucket(i)
		for s := range b.idx {
			if b.idx[s] != 0 {
				t.remove(i, uint(s))
			}
		}
	}
}
