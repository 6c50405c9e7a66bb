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
// All of it is immutable once published; a change copies one shard.

// policy is one compiled entry.
type policy struct {
	Policy
	sel compiled
	// sa is the handle of the newest outbound SA with the ReqID, 0 none; the
	// writer changes it in place.
	sa      atomic.Uint32
	counter uint32 // of pipeline.Counters
	// The outer addresses that an SA must have; noTunnel: any.
	tunLocal, tunRemote addr
	tunV6, noTunnel     bool
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

// match finds the first entry for a packet, nil when there is none.
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
			if q.sel.matches(p, q.Action != Bypass) {
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

// with gives the database with one entry more or less.
func (s *spd) with(p *policy, add bool) *spd {
	n := *s
	sd := &n.sides[p.Direction&1][side(p.sel.v6)]
	tuples := slices.Clone(*sd)
	i := slices.IndexFunc(tuples, func(t tuple) bool { return t.lbits == p.sel.lbits && t.rbits == p.sel.rbits })
	if i < 0 {
		tuples = append(tuples, tuple{lbits: p.sel.lbits, rbits: p.sel.rbits, shards: &[shards]*shard{}})
		i = len(tuples) - 1
	}
	t := &tuples[i]
	sh := *t.shards
	h := s.hash(p.sel.local, p.sel.remote)
	sh[h>>58] = sh[h>>58].with(h, p, add)
	t.shards = &sh
	if add {
		t.n++
		n.n++
	} else {
		t.n--
		n.n--
	}
	if t.n == 0 {
		tuples = slices.Delete(tuples, i, i+1)
	}
	*sd = tuples
	return &n
}

// with copies a shard with one entry more or less.
func (s *shard) with(h uint64, p *policy, add bool) *shard {
	var keep []slot
	if s != nil {
		for _, x := range s.slots {
			if x.list != nil && x.hash != h {
				keep = append(keep, x)
			}
		}
	}
	list := slices.Clone(s.find(h))
	if add {
		at, _ := slices.BinarySearchFunc(list, p, func(a, b *policy) int {
			if a.Order < b.Order {
				return -1
			}
			return 1
		})
		list = slices.Insert(list, at, p)
	} else {
		list = slices.DeleteFunc(list, func(q *policy) bool { return q == p })
	}
	if len(list) > 0 {
		keep = append(keep, slot{h, list})
	}
	n := 4
	for n < 2*len(keep) {
		n *= 2
	}
	out := &shard{mask: uint32(n - 1), slots: make([]slot, n)}
	for _, x := range keep {
		i := uint32(x.hash) & out.mask
		for out.slots[i].list != nil {
			i = (i + 1) & out.mask
		}
		out.slots[i] = x
	}
	return out
}
