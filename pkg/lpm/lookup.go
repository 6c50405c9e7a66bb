package lpm

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/burst"
)

// Readers load every word that a change may overwrite (of the root, of runs, of
// a tail's rest) atomically: the load sees the word before or after, and after
// it the line that it leads to complete. The rest of a line never changes while
// a reader may look at it.

// load is entry i of an array of words.
func load(base unsafe.Pointer, i uintptr) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Add(base, i*4)))
}

// rank is the number of the run that slot s (its low eight bits) lies in.
func rank(nd *node, s uint32) uint32 {
	w := s >> 6 & 3
	return uint32(nd.cum[w]) + uint32(bits.OnesCount64(nd.bm[w]<<(63-s&63))) - 1
}

// step is the entry for slot s of node e.
func (t *trie) step(e, s uint32) uint32 {
	nd := (*node)(unsafe.Add(t.lines, uintptr(e&lineMask)<<6))
	r := rank(nd, s)
	if nd.base == 0 {
		return load(unsafe.Pointer(nd), uintptr(r&7))
	}
	return load(t.ents, uintptr(nd.base+r))
}

// match is the leaf that a tail has for an address.
func (tl *tail) match(hi uint64) uint32 {
	r := atomic.LoadUint32(&tl.dflt)
	if (hi^tl.pfx[3])>>(tl.sh[3]&63) == 0 {
		r = tl.nh[3]
	}
	if (hi^tl.pfx[2])>>(tl.sh[2]&63) == 0 {
		r = tl.nh[2]
	}
	if (hi^tl.pfx[1])>>(tl.sh[1]&63) == 0 {
		r = tl.nh[1]
	}
	if (hi^tl.pfx[0])>>(tl.sh[0]&63) == 0 {
		r = tl.nh[0]
	}
	return r
}

func (tl *longTail) match(hi, lo uint64) uint32 {
	r := atomic.LoadUint32(&tl.dflt)
	for k := 1; k >= 0; k-- {
		n := int(tl.len[k])
		if (hi^tl.hi[k])&maskHi(n)|(lo^tl.lo[k])&maskLo(n) == 0 {
			r = tl.nh[k]
		}
	}
	return r
}

// short is the next hop that leaf e or else the table of short prefixes has
// for an address with the first eight bits b.
func (t *trie) short(e, b uint32) uint32 {
	e &= nhMask
	if d := atomic.LoadUint32(&t.top[b&255]) & nhMask; e == 0 {
		e = d
	}
	return e
}

// Lookup is the next hop of the longest prefix that covers addr (host order:
// the first byte on the wire is the highest), 0 if none does.
func (t *V4) Lookup(addr uint32) uint32 {
	e := load(t.root, uintptr(addr>>8))
	if e&kindNode != 0 {
		e = t.step(e, addr)
	}
	return t.short(e, addr>>24)
}

// LookupBurst is Lookup for each address, in stages over the whole burst, each
// of which prefetches what the next one reads. nh must be as long as addrs and
// is scratch space until the call returns. No allocation.
func (t *V4) LookupBurst(addrs []uint32, nh []uint32) {
	nh = nh[:len(addrs)]
	for len(addrs) > burst.Max {
		t.lookup(addrs[:burst.Max], nh[:burst.Max])
		addrs, nh = addrs[burst.Max:], nh[burst.Max:]
	}
	t.lookup(addrs, nh)
}

// lookup is LookupBurst for at most burst.Max addresses.
func (t *V4) lookup(a, out []uint32) {
	root, lines, ents := t.root, t.lines, t.ents
	out = out[:len(a)]
	burst.PrefetchShifted(uintptr(root), a, 8+4) // 16 words a line

	// 1. The root; pick lists those that lead to a node.
	var pick [burst.Max]uint8
	m := 0
	for i, x := range a {
		e := load(root, uintptr(x>>8))
		out[i] = e
		pick[m&255] = uint8(i)
		m += int(e >> 31)
	}

	// 2. The nodes; far lists those whose runs lie elsewhere, by word.
	if m > 0 {
		burst.PrefetchPicked(uintptr(lines), out, pick[:m], lineMask, 0)
		var far [burst.Max]uint8
		f := 0
		for _, i := range pick[:m] {
			if int(i) >= len(out) {
				break // never; spares the checks below
			}
			nd := (*node)(unsafe.Add(lines, uintptr(out[i]&lineMask)<<6))
			r := rank(nd, a[i])
			e := load(unsafe.Pointer(nd), uintptr(r&7))
			far[f&255] = i
			if nd.base != 0 {
				e = nd.base + r
				f++
			}
			out[i] = e
		}
		// 3. The runs.
		if f > 0 {
			burst.PrefetchPicked(uintptr(ents), out, far[:f], ^uint32(0), 4)
			for _, i := range far[:f] {
				out[i] = load(ents, uintptr(out[i]))
			}
		}
	}

	// 4. What the root does not know, the short prefixes may.
	for i, e := range out {
		out[i] = t.short(e, a[i]>>24)
	}
}

// Lookup is the next hop of the longest prefix that covers the address whose
// first eight bytes are hi and last eight lo (host order: the first byte on
// the wire is the highest of hi), 0 if none does.
func (t *V6) Lookup(hi, lo uint64) uint32 {
	e := load(t.root, uintptr(hi>>40))
	for depth := rootBits; e&kindMask != 0; depth += 8 {
		ln := unsafe.Add(t.lines, uintptr(e&lineMask)<<6)
		switch e & kindMask {
		case kindNode:
			e = t.step(e, uint32(slot(hi, lo, depth)))
		case kindTail:
			e = (*tail)(ln).match(hi)
		default:
			e = (*longTail)(ln).match(hi, lo)
		}
	}
	return t.short(e, uint32(hi>>56))
}

// LookupBurst is Lookup for each address; see [V4.LookupBurst]. lo and nh must
// be as long as hi.
func (t *V6) LookupBurst(hi, lo []uint64, nh []uint32) {
	lo, nh = lo[:len(hi)], nh[:len(hi)]
	for len(hi) > burst.Max {
		t.lookup(hi[:burst.Max], lo[:burst.Max], nh[:burst.Max])
		hi, lo, nh = hi[burst.Max:], lo[burst.Max:], nh[burst.Max:]
	}
	t.lookup(hi, lo, nh)
}

// lookup is LookupBurst for at most burst.Max addresses.
func (t *V6) lookup(hi, lo []uint64, out []uint32) {
	root, lines, ents := t.root, t.lines, t.ents
	out, lo = out[:len(hi)], lo[:len(hi)]
	for i, a := range hi {
		out[i] = uint32(a >> 40)
	}
	burst.PrefetchShifted(uintptr(root), out, 4)
	for i, a := range hi {
		out[i] = load(root, uintptr(a>>40))
	}

	// pick lists those that lead to a line.
	var pick, far [burst.Max]uint8
	m := 0
	for i, e := range out {
		pick[m&255] = uint8(i)
		m += int(e>>30|e>>31) & 1
	}
	for depth := rootBits; m > 0; depth += 8 {
		burst.PrefetchPicked(uintptr(lines), out, pick[:m], lineMask, 0)
		f, next := 0, 0
		for _, i := range pick[:m] {
			if int(i) >= len(out) {
				break // never; spares the checks below
			}
			e, h := out[i], hi[i]
			ln := unsafe.Add(lines, uintptr(e&lineMask)<<6)
			switch e & kindMask {
			case kindTail:
				out[i] = (*tail)(ln).match(h)
			case kindNode:
				var s uint32
				if depth < 64 {
					s = uint32(h >> (uint(56-depth) & 63))
				} else {
					s = uint32(lo[i] >> (uint(120-depth) & 63))
				}
				nd := (*node)(ln)
				r := rank(nd, s)
				e = load(ln, uintptr(r&7))
				far[f&255] = i
				if nd.base != 0 {
					e = nd.base + r
					f++
				}
				out[i] = e
			default:
				out[i] = (*longTail)(ln).match(h, lo[i])
			}
		}
		if f > 0 {
			burst.PrefetchPicked(uintptr(ents), out, far[:f], ^uint32(0), 4)
			for _, i := range far[:f] {
				out[i] = load(ents, uintptr(out[i]))
			}
		}
		for _, i := range pick[:m] {
			e := out[i]
			pick[next&255] = i
			next += int(e>>30|e>>31) & 1
		}
		m = next
	}
	for i, e := range out {
		out[i] = t.short(e, uint32(hi[i]>>56))
	}
}
