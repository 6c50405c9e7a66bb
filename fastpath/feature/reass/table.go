package reass

import (
	"bytes"
	"math/bits"
	"runtime"
	"sync/atomic"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// maxPieces is enough for 65535 bytes over an MTU of 1280, and bounds what the
// tiny fragments of an attacker make us look through.
const maxPieces = 64

// key tells datagrams apart: addresses, identification, for IPv4 the protocol
// (RFC 791), and where they came from. Pieces out of an SA never meet others (RFC
// 4301 section 7), nor do those of different links where an address is
// link-local.
type key struct {
	srcHi, srcLo, dstHi, dstLo uint64 // IPv4: in the lower halves of srcLo and dstLo
	id                         uint32
	origin                     uint32 // SA's Origin, interface of a link-local address, or 0
	proto                      uint8  // IPv4
	v6                         bool
	_                          [6]byte
}

func (k *key) fromSA() bool {
	_, ok := pipeline.Origin(k.origin).SA()
	return ok
}

// piece is one fragment: bytes from to end of the datagram's data, which begin
// head bytes into desc.
type piece struct {
	desc            sal.Desc
	from, end, head uint16
	_               uint16
}

// datagram is one that is not whole: a record in mapped memory, in a hash chain
// and in a list by age.
type datagram struct {
	key         key
	born        int64
	chain       uint32 // next of the same bucket
	older       uint32 // list by age
	newer       uint32
	total, have uint32 // bytes; total 0: not known
	in          pipeline.IfIndex
	source      uint16 // counter in its shard
	n           uint8
	ecn         uint8 // a bit for each of the four codepoints that was seen
	dead        bool  // contradicted itself: what still comes dies
	piece       [maxPieces]piece
}

const (
	shards    = 32
	buckets   = 128 // in each shard
	sources   = 256
	noneIndex = 0
)

// shard is what one lock guards: the datagrams of some sources. Workers seldom
// meet here, and hold it for less than a microsecond.
type shard struct {
	lock   uint32
	free   uint32 // records that came back
	unused uint32 // from here to end: records that nobody has had, so no memory is touched for them
	end    uint32
	oldest [2]uint32 // by family, since their time-outs differ
	newest [2]uint32
	bucket [buckets]uint32
	source [sources]uint16
	_      [64]byte
}

// table is all datagrams that are not whole.
type table struct {
	mem       mem.Table[datagram]
	maps      mem.Table[shard]
	shards    []shard
	seed      burst.Seed
	held      atomic.Int64
	maxHeld   int64
	perSource uint16
}

func newTable(o Options) (*table, error) {
	t := &table{seed: burst.NewSeed(), maxHeld: int64(o.Buffers), perSource: uint16(o.PerSource)}
	each := max(o.Datagrams/shards, 2)
	var err error
	if t.mem, err = mem.NewTable[datagram](1+each*shards, mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	if t.maps, err = mem.NewTable[shard](shards, mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	t.shards = t.maps.Slice()
	for i := range t.shards {
		s := &t.shards[i]
		s.unused = uint32(1 + i*each)
		s.end = s.unused + uint32(each)
	}
	return t, nil
}

func (t *table) close() {
	_ = t.mem.Unmap()
	_ = t.maps.Unmap()
}

// hold and release stand around what workers and the control side do to a shard.
// The holder never waits for anything.
func (s *shard) hold() {
	for n := 0; !atomic.CompareAndSwapUint32(&s.lock, 0, 1); n++ {
		if n&63 == 63 {
			runtime.Gosched()
		}
	}
}

func (s *shard) release() { atomic.StoreUint32(&s.lock, 0) }

// get takes a free record, noneIndex when there is none.
func (t *table) get(s *shard) (i uint32) {
	switch {
	case s.free != noneIndex:
		i = s.free
		s.free = t.mem.At(i).chain
	case s.unused != s.end:
		i = s.unused
		s.unused++
	}
	return i
}

// put returns a record to the free list.
func (t *table) put(s *shard, i uint32) {
	t.mem.At(i).chain, s.free = s.free, i
}

// hash gives shard and source counter, which follow from the source alone, and
// the bucket.
func (t *table) hash(k *key) (s *shard, source, bucket uint32) {
	lo := k.srcLo
	if k.v6 { // a host has its whole /64
		lo = 0
	}
	h, l := bits.Mul64(k.srcHi^t.seed[0], lo^t.seed[1])
	h ^= l
	g, l := bits.Mul64(k.dstHi^k.srcLo^t.seed[2], k.dstLo^uint64(k.id)<<32^uint64(k.origin)^uint64(k.proto)<<24^t.seed[3])
	return &t.shards[h%shards], uint32(h>>8) % sources, uint32(g^l^h) % buckets
}

// A fragment is what the parser found in a packet.
type fragment struct {
	key  key
	in   pipeline.IfIndex
	ecn  uint8
	more bool
	piece
}

// outcome is what became of a fragment.
type outcome uint8

const (
	held    outcome = iota // its buffer belongs to the table
	refused                // it dies, under the reason given
	done                   // w has its whole datagram
)

// add takes a fragment. What gives way to it is dropped at once.
func (t *table) add(c *pipeline.Ctx, x *fragment, now int64, w *whole) (outcome, drop.Reason) {
	s, source, bucket := t.hash(&x.key)
	s.hold()
	defer s.release()
	i := s.find(t, &x.key, bucket)
	if i == noneIndex {
		if i = t.begin(c, s, x, source, bucket, now); i == noneIndex {
			return refused, drop.ReassFull
		}
	}
	g := t.mem.At(i)
	if g.dead {
		return refused, drop.ReassOverlap
	}
	at := 0
	for at < int(g.n) && g.piece[at].from < x.from {
		at++
	}
	if at < int(g.n) && g.piece[at].from == x.from && g.piece[at].end == x.end && same(c.Pool, &g.piece[at], &x.piece) {
		return refused, drop.ReassDuplicate
	}
	if g.contradicts(x, at) {
		t.kill(c, g, drop.ReassOverlap)
		return refused, drop.ReassOverlap
	}
	if g.n == maxPieces {
		t.kill(c, g, drop.ReassFull)
		return refused, drop.ReassFull
	}
	for t.held.Load() >= t.maxHeld {
		if !t.makeRoom(c, s, i) {
			return refused, drop.ReassFull
		}
	}
	copy(g.piece[at+1:g.n+1], g.piece[at:g.n])
	g.piece[at] = x.piece
	g.n++
	g.ecn |= 1 << x.ecn
	g.have += uint32(x.end - x.from)
	if !x.more {
		g.total = uint32(x.end)
	}
	if x.from == 0 {
		g.in = x.in
	}
	t.held.Add(1)
	if g.total == 0 || g.have != g.total {
		return held, 0
	}
	t.out(s, i, w)
	return done, 0
}

// contradicts tells whether a fragment that belongs at place at overlaps another
// or disagrees about the datagram's length.
func (g *datagram) contradicts(x *fragment, at int) bool {
	switch {
	case at > 0 && g.piece[at-1].end > x.from, at < int(g.n) && x.end > g.piece[at].from:
		return true
	case g.total != 0:
		return !x.more || uint32(x.end) > g.total
	}
	return !x.more && at < int(g.n)
}

// same compares the data of two pieces of equal size.
func same(p *sal.Pool, a, b *piece) bool {
	n := a.end - a.from
	return bytes.Equal(p.Bytes(a.desc)[a.head:a.head+n], p.Bytes(b.desc)[b.head:b.head+n])
}

func (s *shard) find(t *table, k *key, bucket uint32) uint32 {
	i := s.bucket[bucket]
	for i != noneIndex && t.mem.At(i).key != *k {
		i = t.mem.At(i).chain
	}
	return i
}

// begin makes a record for a new datagram.
func (t *table) begin(c *pipeline.Ctx, s *shard, x *fragment, source, bucket uint32, now int64) uint32 {
	if s.source[source] >= t.perSource {
		t.evict(c, s, s.eldestOf(t, uint16(source)))
	}
	if s.free == noneIndex && s.unused == s.end {
		t.evict(c, s, s.eldest(t))
	}
	i := t.get(s)
	if i == noneIndex {
		return noneIndex
	}
	g := t.mem.At(i)
	s.source[source]++
	f := family(x.key.v6)
	g.key, g.born, g.in, g.source = x.key, now, x.in, uint16(source)
	g.chain, s.bucket[bucket] = s.bucket[bucket], i
	g.newer, g.older = noneIndex, s.newest[f]
	if g.older != noneIndex {
		t.mem.At(g.older).newer = i
	} else {
		s.oldest[f] = i
	}
	s.newest[f] = i
	g.total, g.have, g.n, g.ecn, g.dead = 0, 0, 0, 0, false
	return i
}

func family(v6 bool) int {
	if v6 {
		return pipeline.V6
	}
	return pipeline.V4
}

// eldest is the oldest datagram of a shard.
func (s *shard) eldest(t *table) uint32 {
	a, b := s.oldest[0], s.oldest[1]
	if a == noneIndex || b != noneIndex && t.mem.At(b).born < t.mem.At(a).born {
		return b
	}
	return a
}

// eldestOf is the oldest of a source. There are few in a shard.
func (s *shard) eldestOf(t *table, source uint16) (best uint32) {
	for _, i := range s.oldest {
		for i != noneIndex && t.mem.At(i).source != source {
			i = t.mem.At(i).newer
		}
		if i != noneIndex && (best == noneIndex || t.mem.At(i).born < t.mem.At(best).born) {
			best = i
		}
	}
	return best
}

// evict drops a datagram for the sake of another.
func (t *table) evict(c *pipeline.Ctx, s *shard, i uint32) {
	if i == noneIndex {
		return
	}
	g := t.mem.At(i)
	t.drain(c, g, drop.ReassFull)
	t.unlink(s, i)
}

// makeRoom gives up a datagram other than i so that there are buffers again: one
// of this shard, else of any other that nobody holds.
func (t *table) makeRoom(c *pipeline.Ctx, s *shard, i uint32) bool {
	if j := s.eldest(t); j != noneIndex && j != i {
		t.evict(c, s, j)
		return true
	}
	for k := range t.shards {
		x := &t.shards[k]
		if x == s || !atomic.CompareAndSwapUint32(&x.lock, 0, 1) {
			continue
		}
		j := x.eldest(t)
		t.evict(c, x, j)
		x.release()
		if j != noneIndex {
			return true
		}
	}
	return false
}

// kill drops what is there of a datagram. Its record stays, to meet what is
// still to come.
func (t *table) kill(c *pipeline.Ctx, g *datagram, why drop.Reason) {
	t.drain(c, g, why)
	g.dead = true
}

func (t *table) drain(c *pipeline.Ctx, g *datagram, why drop.Reason) {
	for k := range g.n {
		c.Drop(g.piece[k].desc, g.in, why)
	}
	t.held.Add(-int64(g.n))
	g.n = 0
}

// out moves a datagram's pieces to w and ends its record.
func (t *table) out(s *shard, i uint32, w *whole) {
	g := t.mem.At(i)
	w.key, w.in, w.ecn, w.n, w.total = g.key, g.in, g.ecn, int(g.n), int(g.total)
	copy(w.piece[:g.n], g.piece[:g.n])
	t.held.Add(-int64(g.n))
	t.unlink(s, i)
}

// unlink takes a record out of all lists.
func (t *table) unlink(s *shard, i uint32) {
	g := t.mem.At(i)
	f := family(g.key.v6)
	if g.older != noneIndex {
		t.mem.At(g.older).newer = g.newer
	} else {
		s.oldest[f] = g.newer
	}
	if g.newer != noneIndex {
		t.mem.At(g.newer).older = g.older
	} else {
		s.newest[f] = g.older
	}
	_, _, bucket := t.hash(&g.key)
	p := &s.bucket[bucket]
	for *p != i {
		p = &t.mem.At(*p).chain
	}
	*p = g.chain
	s.source[g.source]--
	t.put(s, i)
}

// expired takes a datagram out whose time is over.
func (t *table) expired(s *shard, now int64, w *whole) bool {
	s.hold()
	defer s.release()
	for f, life := range [2]int64{int64(Timeout4), int64(Timeout6)} {
		if i := s.oldest[f]; i != noneIndex && now-t.mem.At(i).born >= life {
			t.out(s, i, w)
			return true
		}
	}
	return false
}

// oldestOut takes the oldest datagram out.
func (t *table) oldestOut(s *shard, w *whole) bool {
	s.hold()
	defer s.release()
	i := s.eldest(t)
	if i == noneIndex {
		return false
	}
	t.out(s, i, w)
	return true
}
