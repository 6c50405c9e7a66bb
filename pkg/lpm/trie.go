package lpm

import (
	"iter"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"vrouter/pkg/mem"
)

// An entry is a word of the root or of a node: it speaks for a block, all the
// addresses that share their first depth bits.
//
//	00 | length-1 (7 bits) | next hop (23 bits)   leaf; 0 when there is no route
//	01 | line                                      long tail, V6 only
//	10 | line                                      node
//	11 | line                                      tail, V6 only
//
// Three rules hold at all times, and everything below relies on them:
//
//   - A leaf that speaks for a block of depth d has a prefix of at most d bits.
//   - An entry is a leaf exactly if no route longer than d lies in its block.
//   - An entry that is not a leaf stands in one slot only.
//
// From the first two follows that all slots of a node which inherit from above
// hold the same leaf, and no others hold it. So a change of the prefix that
// they inherit can overwrite them in place: no two runs become equal.
const (
	kindMask = 3 << 30
	kindLong = 1 << 30
	kindNode = 2 << 30
	kindTail = 3 << 30
	lineMask = 1<<30 - 1

	nhMask   = MaxNextHop
	lenShift = 23

	rootBits = 24
	topBits  = 8
)

// leaf encodes a route of at least one bit.
func leaf(length int, nh uint32) uint32 { return uint32(length-1)<<lenShift | nh }

// leafLen is the length of a leaf's prefix, for a leaf other than 0.
func leafLen(e uint32) int { return int(e>>lenShift) + 1 }

// node is one line: the 256 slots of a block, as runs of equal slots. The order
// of the fields keeps inl[6] and inl[7], which a look-up may read in vain,
// inside the line. Once published, only the words of inl and of the runs
// change, each by one atomic store.
type node struct {
	inl  [6]uint32 // the runs, if there are at most six
	cum  [4]uint8  // runs before bits word w
	base uint32    // else: where they begin in ents; 0 when in inl
	bm   [4]uint64 // bit s: slot s starts a run
}

// tail is one line: up to four routes of at most 64 bits, longest first.
type tail struct {
	pfx  [4]uint64 // unused places repeat the first
	nh   [4]uint32 // leaves
	sh   [4]uint8  // 64 - length
	dflt uint32    // leaf for the rest of the block; changed by one atomic store
	n    uint8
	_    [7]byte
}

const tailRoutes, tailBits = 4, 64

// longTail is one line: up to two routes of any length, longest first.
type longTail struct {
	hi, lo [2]uint64
	nh     [2]uint32 // leaves
	len    [2]uint8
	n      uint8
	_      uint8
	dflt   uint32
	_      [16]byte
}

const longRoutes = 2

// trie is what V4 and V6 share: everything but the look-up. A V4 address is
// the upper 32 bits of a 128-bit one.
type trie struct {
	// What readers use.
	root  unsafe.Pointer // [1<<24]uint32
	lines unsafe.Pointer // []node
	ents  unsafe.Pointer // []uint32
	top   [1 << topBits]uint32

	mu      sync.Mutex // held by whoever changes
	v6      bool
	rib     rib
	routes  int
	perLen  [129]int // routes of each length
	g       *mem.Grace
	tRoot   mem.Table[uint32]
	tLines  mem.Table[node]
	tEnts   mem.Table[uint32]
	tCount  mem.Table[uint32] // for a node's line: routes in its block longer than its depth
	store   store
	dead    []uint32 // entries taken out by the change under way
	advised bool
}

// manyRoutes is from where on huge pages pay.
const manyRoutes = 4096

func (t *trie) init(g *mem.Grace, o Options, v6 bool) error {
	if o.Routes <= 0 {
		o.Routes = defaultRoutes
	}
	t.g, t.v6 = g, v6
	perRoute := 2 // lines reserved for each route; those of a change wait to be freed
	if v6 {
		perRoute = 16 // a lonely route of 128 bits needs up to 13
	}
	nLines := min(perRoute*o.Routes+8*reserveLines, 1<<28)
	nEnts := min(32*o.Routes+8*reserveEnts, 1<<30) &^ (maxBlock - 1)
	var err error
	t.advised = o.Huge
	pages := mem.Options{SmallPages: !o.Huge}
	if t.tRoot, err = mem.NewTable[uint32](1<<rootBits, pages); err == nil {
		if t.tLines, err = mem.NewTable[node](nLines, pages); err == nil {
			if t.tEnts, err = mem.NewTable[uint32](nEnts, pages); err == nil {
				if t.tCount, err = mem.NewTable[uint32](nLines, mem.Options{SmallPages: true}); err == nil {
					err = t.store.init(nLines, t.tEnts.Slice())
				}
			}
		}
	}
	if err != nil {
		_ = t.Close()
		return err
	}
	t.root, t.lines, t.ents = t.tRoot.Base(), t.tLines.Base(), t.tEnts.Base()
	return nil
}

// Close unmaps the table. No reader may use it any more: retire it through the
// Grace when workers could.
func (t *trie) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root, t.lines, t.ents = nil, nil, nil
	var first error
	for _, err := range []error{t.store.close(), t.tRoot.Unmap(), t.tLines.Unmap(), t.tEnts.Unmap(), t.tCount.Unmap()} {
		if first == nil {
			first = err
		}
	}
	return first
}

// Len is the number of routes.
func (t *trie) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.routes
}

func (t *trie) get(p pfx) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rib.get(p)
}

func (t *trie) all(show func(pfx) netip.Prefix) iter.Seq2[netip.Prefix, uint32] {
	return func(yield func(netip.Prefix, uint32) bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.rib.each(func(p pfx, nh uint32) bool { return yield(show(p), nh) })
	}
}

// change is one route coming, going or getting another next hop.
type change struct {
	p   pfx
	del bool
	val uint32 // the leaf that p's addresses get: p's own, or the one that covers a deleted p
	add int32  // what the change adds to the number of routes: 1, 0 or -1
}

// apply is what the change makes of a leaf whose block lies inside the prefix.
func (c *change) apply(e uint32) uint32 {
	d := int(e >> lenShift)
	if p := int(c.p.len) - 1; c.del && d == p || !c.del && d <= p {
		return c.val
	}
	return e
}

// syncLimit is how long an insertion waits for workers when memory is short.
const syncLimit = time.Second

func (t *trie) insert(p pfx, nh uint32) error {
	if nh == 0 || nh > MaxNextHop {
		return ErrNextHop
	}
	defer t.g.Poll()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.store.room(2) {
		// Deletions may use the last reserve, insertions may not.
		t.g.Synchronize(syncLimit)
		if !t.store.room(2) {
			return ErrFull
		}
	}
	old := t.rib.get(p)
	if old == nh {
		return nil
	}
	c := change{p: p}
	if old == 0 {
		c.add = 1
		t.routes++
		t.perLen[p.len]++
	}
	t.rib.set(p, nh)
	if p.len <= topBits {
		t.setTop(p, uint32(p.len)<<lenShift|nh, false)
	} else {
		c.val = leaf(int(p.len), nh)
		t.change(&c)
	}
	if !t.advised && t.routes >= manyRoutes {
		t.advised = true
		for _, r := range []*mem.Region{t.tRoot.Region(), t.tLines.Region(), t.tEnts.Region()} {
			r.AdviseHuge()
		}
	}
	return nil
}

func (t *trie) remove(p pfx) bool {
	defer t.g.Poll()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rib.get(p) == 0 {
		return false
	}
	for !t.store.room(1) {
		t.g.Synchronize(syncLimit)
	}
	t.rib.del(p)
	t.routes--
	t.perLen[p.len]--
	if p.len <= topBits {
		t.setTop(p, t.cover(p, int(p.len)-1, 0), true)
		return true
	}
	t.change(&change{p: p, del: true, val: t.cover(p, int(p.len)-1, topBits+1), add: -1})
	return true
}

// cover is the leaf of the longest route that p lies in, of at most most and
// at least least bits. (Lengths of the top table are encoded as they are.)
func (t *trie) cover(p pfx, most, least int) uint32 {
	for n := most; n >= least; n-- {
		if t.perLen[n] == 0 {
			continue
		}
		if nh := t.rib.get(p.cut(n)); nh != 0 {
			if n <= topBits {
				return uint32(n)<<lenShift | nh
			}
			return leaf(n, nh)
		}
	}
	return 0
}

// setTop changes the table of short prefixes.
func (t *trie) setTop(p pfx, val uint32, del bool) {
	lo := int(p.hi >> (64 - topBits))
	for i := lo; i < lo+1<<(topBits-p.len); i++ {
		e := t.top[i]
		if d := e >> lenShift; e == 0 && !del || e != 0 && (del && d == uint32(p.len) || !del && d <= uint32(p.len)) {
			atomic.StoreUint32(&t.top[i], val)
		}
	}
}

// change carries out c for a prefix longer than topBits. Whatever it takes out
// is retired only after the last store, when no new reader can find it.
func (t *trie) change(c *change) {
	lo := int(c.p.hi >> (64 - rootBits))
	n := 1
	if c.p.len < rootBits {
		n = 1 << (rootBits - c.p.len)
	}
	root := t.tRoot.Slice()[lo : lo+n]
	for i, e := range root {
		if x := t.update(e, rootBits, c); x != e {
			atomic.StoreUint32(&root[i], x)
		}
	}
	for _, e := range t.dead {
		t.g.RetireHandle(t, e)
	}
	t.dead = t.dead[:0]
}

// update is the entry of a block of the given depth after c, when it was e. The
// block and c's prefix overlap.
func (t *trie) update(e uint32, depth int, c *change) uint32 {
	if int(c.p.len) <= depth {
		return t.inherit(e, c)
	}
	if e&kindMask == kindNode {
		return t.updateNode(e, depth, c)
	}
	// A leaf or a tail: make it anew from its routes and the change.
	var buf [tailRoutes + 1]route
	rs, dflt := t.tailRoutes(e, buf[:0])
	for i := range rs {
		if rs[i].pfx == c.p {
			rs = append(rs[:i], rs[i+1:]...)
			break
		}
	}
	if !c.del {
		rs = append(rs, route{c.p, c.val})
	}
	if e&kindMask != 0 {
		t.dead = append(t.dead, e)
	}
	return t.build(rs, depth, dflt)
}

// inherit carries c into a block that lies inside its prefix: the slots that
// inherit from above change, in place.
func (t *trie) inherit(e uint32, c *change) uint32 {
	switch e & kindMask {
	case 0:
		return c.apply(e)
	case kindNode:
		runs := t.runs(t.node(e))
		for i, old := range runs {
			if x := t.inherit(old, c); x != old {
				atomic.StoreUint32(&runs[i], x)
			}
		}
	default:
		d := t.dflt(e)
		if x := c.apply(*d); x != *d {
			atomic.StoreUint32(d, x)
		}
	}
	return e
}

// updateNode carries c into a node: its prefix is longer than the node's depth.
func (t *trie) updateNode(e uint32, depth int, c *change) uint32 {
	nd := t.node(e)
	count := t.tCount.At(e & lineMask)
	*count = uint32(int32(*count) + c.add)
	lo := slot(c.p.hi, c.p.lo, depth)
	hi := lo
	if below := depth + 8; int(c.p.len) > below {
		w := t.run(nd, lo)
		old := *w
		x := t.update(old, below, c)
		if x != old {
			if old&kindMask != 0 && x&kindMask != 0 {
				atomic.StoreUint32(w, x) // a slot of its own before and after
			} else {
				var s [256]uint32
				t.expand(nd, &s)
				s[lo] = x
				e = t.replace(e, &s)
			}
		}
	} else {
		hi += 1<<(below-int(c.p.len)) - 1
		var s [256]uint32
		t.expand(nd, &s)
		changed := false
		for i := lo; i <= hi; i++ {
			x := t.inherit(s[i], c)
			changed = changed || x != s[i]
			s[i] = x
		}
		if changed {
			e = t.replace(e, &s)
		}
	}
	if c.del {
		e = t.shrink(e, depth, c.p)
	}
	return e
}

// shrink replaces a node that holds so few routes that a leaf or a tail can.
func (t *trie) shrink(e uint32, depth int, p pfx) uint32 {
	few := uint32(0)
	if t.v6 {
		few = longRoutes
	}
	n := *t.tCount.At(e & lineMask)
	if n > few {
		return e
	}
	// At most two routes cannot hide one another, so all of them can be seen
	// in the slots.
	rs := t.collect(nil, e, p.cut(depth), depth, depth)
	if len(rs) != int(n) {
		panic("lpm: a node's count of routes is wrong")
	}
	t.bury(e)
	return t.build(rs, depth, t.cover(p, depth, topBits+1))
}

// collect appends the routes longer than longer than show in the slots of e,
// whose block is at and has the given depth.
func (t *trie) collect(rs []route, e uint32, at pfx, depth, longer int) []route {
	add := func(l uint32, at pfx) {
		if l == 0 || leafLen(l) <= longer {
			return
		}
		p := at.cut(leafLen(l))
		for i := range rs {
			if rs[i].pfx == p {
				return
			}
		}
		rs = append(rs, route{p, l})
	}
	switch e & kindMask {
	case 0:
		add(e, at)
	case kindNode:
		var s [256]uint32
		t.expand(t.node(e), &s)
		for i, x := range s {
			if i > 0 && x == s[i-1] && leafLen(x) <= depth {
				continue // seen already
			}
			rs = t.collect(rs, x, at.with(i, depth), depth+8, longer)
		}
	default:
		var buf [tailRoutes]route
		in, dflt := t.tailRoutes(e, buf[:0])
		for _, r := range in {
			add(r.nh, r.pfx)
		}
		add(dflt, at)
	}
	return rs
}

// with is the block of slot s in the block p of the given depth.
func (p pfx) with(s, depth int) pfx {
	if depth < 64 {
		p.hi |= uint64(s) << (56 - depth)
	} else {
		p.lo |= uint64(s) << (120 - depth)
	}
	p.len = uint8(depth + 8)
	return p
}

// bury lists an entry and everything below it for retirement.
func (t *trie) bury(e uint32) {
	if e&kindMask == 0 {
		return
	}
	t.dead = append(t.dead, e)
	if e&kindMask == kindNode {
		for _, x := range t.runs(t.node(e)) {
			t.bury(x)
		}
	}
}

// build makes the entry of a block of the given depth that holds the routes
// rs, all longer than depth, and inherits the leaf inh. The routes' next hops
// are leaves.
func (t *trie) build(rs []route, depth int, inh uint32) uint32 {
	if len(rs) == 0 {
		return inh
	}
	// Longest first.
	for i := range rs {
		for j := i; j > 0 && rs[j].len > rs[j-1].len; j-- {
			rs[j], rs[j-1] = rs[j-1], rs[j]
		}
	}
	if t.v6 && len(rs) <= tailRoutes && rs[0].len <= tailBits {
		i := t.store.line()
		tl := (*tail)(unsafe.Pointer(t.tLines.At(i)))
		*tl = tail{dflt: inh, n: uint8(len(rs))}
		for k := range tl.pfx {
			r := rs[0]
			if k < len(rs) {
				r = rs[k]
			}
			tl.pfx[k], tl.nh[k], tl.sh[k] = r.hi, r.nh, 64-r.len
		}
		return i | kindTail
	}
	if t.v6 && len(rs) <= longRoutes {
		i := t.store.line()
		tl := (*longTail)(unsafe.Pointer(t.tLines.At(i)))
		*tl = longTail{dflt: inh, n: uint8(len(rs))}
		for k := range tl.hi {
			r := rs[0]
			if k < len(rs) {
				r = rs[k]
			}
			tl.hi[k], tl.lo[k], tl.nh[k], tl.len[k] = r.hi, r.lo, r.nh, r.len
		}
		return i | kindLong
	}
	var s [256]uint32
	for i := range s {
		s[i] = inh
	}
	// Shortest first, so that longer ones paint over them; then, slot by slot,
	// those that go deeper.
	deeper := len(rs)
	for k := len(rs) - 1; k >= 0 && int(rs[k].len) <= depth+8; k-- {
		lo := slot(rs[k].hi, rs[k].lo, depth)
		for i := lo; i < lo+1<<(depth+8-int(rs[k].len)); i++ {
			s[i] = rs[k].nh
		}
		deeper = k
	}
	for rest := rs[:deeper]; len(rest) > 0; {
		i := slot(rest[0].hi, rest[0].lo, depth)
		var buf [tailRoutes + 1]route
		same, other := buf[:0], 0
		for _, r := range rest {
			if slot(r.hi, r.lo, depth) == i {
				same = append(same, r)
			} else {
				rest[other] = r
				other++
			}
		}
		rest = rest[:other]
		s[i] = t.build(same, depth+8, s[i])
	}
	return t.compress(&s, uint32(len(rs)))
}

// tailRoutes appends the routes of a tail to rs, and is also the leaf of the
// rest of its block. For a leaf that is all.
func (t *trie) tailRoutes(e uint32, rs []route) ([]route, uint32) {
	switch e & kindMask {
	case kindTail:
		tl := (*tail)(unsafe.Pointer(t.tLines.At(e & lineMask)))
		for k := range int(tl.n) {
			rs = append(rs, route{pfx{hi: tl.pfx[k], len: 64 - tl.sh[k]}, tl.nh[k]})
		}
		return rs, tl.dflt
	case kindLong:
		tl := (*longTail)(unsafe.Pointer(t.tLines.At(e & lineMask)))
		for k := range int(tl.n) {
			rs = append(rs, route{pfx{tl.hi[k], tl.lo[k], tl.len[k]}, tl.nh[k]})
		}
		return rs, tl.dflt
	}
	return rs, e
}

// dflt is the word of a tail for the rest of its block.
func (t *trie) dflt(e uint32) *uint32 {
	p := unsafe.Pointer(t.tLines.At(e & lineMask))
	if e&kindMask == kindTail {
		return &(*tail)(p).dflt
	}
	return &(*longTail)(p).dflt
}

func (t *trie) node(e uint32) *node { return t.tLines.At(e & lineMask) }

// runCount is the number of runs of a node.
func runCount(nd *node) int { return int(nd.cum[3]) + bits.OnesCount64(nd.bm[3]) }

// runs is the words of a node's runs.
func (t *trie) runs(nd *node) []uint32 {
	n := runCount(nd)
	if nd.base == 0 {
		return nd.inl[:n]
	}
	return t.tEnts.Slice()[nd.base : int(nd.base)+n]
}

// run is the word of the run that slot s lies in.
func (t *trie) run(nd *node, s int) *uint32 {
	w := s >> 6
	r := int(nd.cum[w]) + bits.OnesCount64(nd.bm[w]<<(63-s&63)) - 1
	return &t.runs(nd)[r]
}

func (t *trie) expand(nd *node, s *[256]uint32) {
	runs := t.runs(nd)
	i := 0
	for k := range runs {
		// the run ends where the next one starts
		end := 256
		if k+1 < len(runs) {
			end = nextStart(nd, i+1)
		}
		for ; i < end; i++ {
			s[i] = runs[k]
		}
	}
}

// nextStart is the first slot from s on that starts a run.
func nextStart(nd *node, s int) int {
	for w := s >> 6; w < 4; w++ {
		b := nd.bm[w]
		if w == s>>6 {
			b &= ^uint64(0) << (s & 63)
		}
		if b != 0 {
			return w<<6 + bits.TrailingZeros64(b)
		}
	}
	return 256
}

// replace makes the node that follows e, with the same number of routes.
func (t *trie) replace(e uint32, s *[256]uint32) uint32 {
	t.dead = append(t.dead, e)
	return t.compress(s, *t.tCount.At(e & lineMask))
}

// compress makes a node of 256 slots that holds count routes.
func (t *trie) compress(s *[256]uint32, count uint32) uint32 {
	var nd node
	var runs [256]uint32
	n := 0
	last := ^s[0]
	for i, e := range s {
		if e != last {
			nd.bm[i>>6] |= 1 << (i & 63)
			runs[n] = e
			n++
			last = e
		}
	}
	c := 0
	for w := range nd.bm {
		nd.cum[w] = uint8(c)
		c += bits.OnesCount64(nd.bm[w])
	}
	if n <= len(nd.inl) {
		copy(nd.inl[:], runs[:n])
	} else {
		nd.base = t.store.run(n)
		copy(t.tEnts.Slice()[nd.base:], runs[:n])
	}
	i := t.store.line()
	*t.tLines.At(i) = nd
	*t.tCount.At(i) = count
	return i | kindNode
}

// Reclaim implements [mem.Reclaimer] for entries that a change took out. It
// may run while another change is under way, and after Close.
func (t *trie) Reclaim(e uint32) {
	a := &t.store
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if e&kindMask == kindNode {
		if nd := t.node(e); nd.base != 0 {
			a.freeRun(nd.base, runCount(nd))
		}
	}
	a.freeLine(e & lineMask)
}
