package ipsec

import (
	"math/bits"
	"slices"
	"sync/atomic"

	"vrouter/pkg/sal"
)

// The SPD (RFC 4301 section 4.4.1) is searched only for packets of new flows;
// the flow cache remembers the outcome. The first entry in order wins.
//
// Entries with prefixes of the same lengths share a tuple, and inside it a
// hash over the masked addresses finds the few that can match: a search costs
// one probe for each pair of prefix lengths in use, not one for each entry.
// All of it is immutable once published; a change copies the shards it touches.

// policy is one compiled entry.
type policy struct {
	Policy
	sel compiled
	// sa is the handle of the newest outbound SA with the ReqID, 0 none; the
	// writer changes it in place.
	sa      atomic.Uint32
	counter uint32 // of pipeline.Counters
	// The outer addresses that an SA must have; noTunnel: any.
	ends     ends
	noTunnel bool
}

// spd is one published state of the database.
type spd struct {
	seed  uint64
	n     int
	sides [2][2][]tuple // by direction and family (0 IPv4, 1 IPv6)
}

type tuple struct {
	lbits, rbits uint8
	shards       *[shards]*shard
	n            int
}

const shards = 64

type shard struct {
	mask  uint32
	slots []slot // open addressing; a slot without list is empty
}

type slot struct {
	hash uint64
	list []*policy // in order
}

func (s *spd) hash(l, r addr) uint64 {
	h := l.hi ^ s.seed
	for _, x := range [...]uint64{l.lo, r.hi, r.lo} {
		a, b := bits.Mul64(h^0x9e3779b97f4a7c15, x^0xc2b2ae3d27d4eb4f)
		h = a ^ b ^ bits.RotateLeft64(h, 29)
	}
	return h
}

func side(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// match finds the first entry for a packet, nil when there is none. Entries for IKE
// are those that name ports of UDP: no other captures it (RFC 4301 section 4.4.1). Of entries
// of the same order any may be found, but always the same.
func (s *spd) match(d sal.Direction, p *packet) *policy {
	var best *policy
	tuples := s.sides[d&1][side(p.v6)]
	for i := range tuples {
		t := &tuples[i]
		h := s.hash(p.local.mask(t.lbits), p.remote.mask(t.rbits))
		for _, q := range t.shards[h>>58].find(h) {
			if best != nil && q.Order > best.Order {
				break
			}
			if (!p.ike || q.sel.namesUDP()) && q.sel.matches(p, q.Action != Bypass) {
				best = q
				break
			}
		}
	}
	return best
}

func (s *shard) find(h uint64) []*policy {
	if s == nil {
		return nil
	}
	for i := uint32(h) & s.mask; ; i = (i + 1) & s.mask {
		if s.slots[i].list == nil || s.slots[i].hash == h {
			return s.slots[i].list
		}
	}
}

// A spdEdit is a changed copy of a database in the making. Shards that it does
// not touch are shared with the original, the others copied once, however many
// entries change.
type spdEdit struct {
	base  *spd
	stage map[shardKey]map[uint64]*staged // by hash
	n     map[tupleKey]int                // entries more or less
}

// staged is a list that may be changed once it is our own copy.
type staged struct {
	list []*policy
	own  bool
}

type tupleKey struct {
	dir          sal.Direction
	side         int
	lbits, rbits uint8
}

type shardKey struct {
	tupleKey
	shard uint8
}

func (s *spd) edit() *spdEdit {
	return &spdEdit{base: s, stage: map[shardKey]map[uint64]*staged{}, n: map[tupleKey]int{}}
}

func (s *spd) tuple(k tupleKey) *tuple {
	l := s.sides[k.dir][k.side]
	if i := slices.IndexFunc(l, func(t tuple) bool { return t.lbits == k.lbits && t.rbits == k.rbits }); i >= 0 {
		return &l[i]
	}
	return nil
}

// list opens the list that a policy belongs to.
func (e *spdEdit) list(p *policy) (*staged, tupleKey) {
	k := tupleKey{p.Direction & 1, side(p.sel.v6), p.sel.lbits, p.sel.rbits}
	h := e.base.hash(p.sel.local, p.sel.remote)
	sk := shardKey{k, uint8(h >> 58)}
	lists := e.stage[sk]
	if lists == nil {
		lists = map[uint64]*staged{}
		if t := e.base.tuple(k); t != nil && t.shards[sk.shard] != nil {
			for _, x := range t.shards[sk.shard].slots {
				if x.list != nil {
					lists[x.hash] = &staged{list: x.list}
				}
			}
		}
		e.stage[sk] = lists
	}
	x := lists[h]
	if x == nil {
		x = &staged{own: true}
		lists[h] = x
	}
	if !x.own {
		x.list, x.own = slices.Clone(x.list), true
	}
	return x, k
}

// add puts an entry behind those of the same order.
func (e *spdEdit) add(p *policy) {
	x, k := e.list(p)
	at, _ := slices.BinarySearchFunc(x.list, p, func(a, b *policy) int {
		if a.Order <= b.Order {
			return -1
		}
		return 1
	})
	x.list = slices.Insert(x.list, at, p)
	e.n[k]++
}

// remove takes out an entry that is there.
func (e *spdEdit) remove(p *policy) {
	x, k := e.list(p)
	x.list = slices.DeleteFunc(x.list, func(q *policy) bool { return q == p })
	e.n[k]--
}

// done is the changed database.
func (e *spdEdit) done() *spd {
	if len(e.stage) == 0 {
		return e.base
	}
	s := *e.base
	for d := range s.sides {
		for f := range s.sides[d] {
			s.sides[d][f] = slices.Clone(s.sides[d][f])
		}
	}
	for k, n := range e.n {
		t := s.tuple(k)
		if t == nil {
			sd := &s.sides[k.dir][k.side]
			*sd = append(*sd, tuple{lbits: k.lbits, rbits: k.rbits, shards: &[shards]*shard{}})
			t = &(*sd)[len(*sd)-1]
		}
		t.n += n
		s.n += n
		sh := *t.shards
		for i := range sh {
			if lists, touched := e.stage[shardKey{k, uint8(i)}]; touched {
				sh[i] = newShard(lists)
			}
		}
		t.shards = &sh
	}
	for d := range s.sides {
		for f := range s.sides[d] {
			s.sides[d][f] = slices.DeleteFunc(s.sides[d][f], func(t tuple) bool { return t.n == 0 })
			// The longest prefixes first: what they match is often the answer.
			slices.SortFunc(s.sides[d][f], func(a, b tuple) int {
				return int(b.lbits)<<8 + int(b.rbits) - int(a.lbits)<<8 - int(a.rbits)
			})
		}
	}
	return &s
}

func newShard(lists map[uint64]*staged) *shard {
	used := 0
	for _, x := range lists {
		if len(x.list) > 0 {
			used++
		}
	}
	if used == 0 {
		return nil
	}
	n := 4
	for n < 2*used {
		n *= 2
	}
	s := &shard{mask: uint32(n - 1), slots: make([]slot, n)}
	for h, x := range lists {
		if len(x.list) == 0 {
			continue
		}
		i := uint32(h) & s.mask
		for s.slots[i].list != nil {
			i = (i + 1) & s.mask
		}
		s.slots[i] = slot{h, x.list}
	}
	return s
}
