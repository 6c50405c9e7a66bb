package lpm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"vrouter/pkg/mem"
)

// twin is a table in the plainest form.
type twin struct {
	bits int
	m    map[netip.Prefix]uint32
}

func (w *twin) lookup(a netip.Addr) uint32 {
	for l := w.bits; l >= 0; l-- {
		p, _ := a.Prefix(l)
		if nh, ok := w.m[p]; ok {
			return nh
		}
	}
	return 0
}

func addr4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

func addr6(hi, lo uint64) netip.Addr {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return netip.AddrFrom16(b)
}

func words(a netip.Addr) (hi, lo uint64) {
	p, err := prefix6(netip.PrefixFrom(a, 128))
	if err != nil {
		panic(err)
	}
	return p.hi, p.lo
}

func num(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// check walks the whole structure below the root slots in use and verifies the
// rules at the head of trie.go, and that no line is both in use and free, and
// none lost.
func (t *trie) check(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	lines, ents := 0, 0
	slots := map[int]bool{}
	t.rib.each(func(p pfx, _ uint32) bool {
		if p.len > rootBits {
			slots[int(p.hi>>40)] = true
		}
		return true
	})
	for s := range slots {
		at := pfx{hi: uint64(s) << 40, len: rootBits}
		t.checkEntry(tb, t.tRoot.Slice()[s], at, &lines, &ents)
	}
	l, fl, e, fe := t.store.used()
	if lines != l-fl {
		tb.Fatalf("%d lines reachable, %d handed out and not free", lines, l-fl)
	}
	if ents != e-fe {
		tb.Fatalf("%d run words reachable, %d handed out and not free", ents, e-fe)
	}
}

func (t *trie) checkEntry(tb testing.TB, e uint32, at pfx, lines, ents *int) (routes int) {
	tb.Helper()
	depth := int(at.len)
	if e&kindMask == 0 {
		if e != 0 && leafLen(e) > depth {
			tb.Fatalf("leaf of length %d in a block of depth %d", leafLen(e), depth)
		}
		return 0
	}
	*lines++
	if e&kindMask != kindNode {
		rs, dflt := t.tailRoutes(e, nil)
		if len(rs) == 0 {
			tb.Fatal("empty tail")
		}
		if dflt != 0 && leafLen(dflt) > depth {
			tb.Fatal("tail inherits a longer prefix")
		}
		return len(rs)
	}
	nd := t.node(e)
	if nd.base != 0 {
		*ents += unit << order(runCount(nd))
	}
	var s [256]uint32
	t.expand(nd, &s)
	seen := map[uint32]bool{}
	inherited, have := uint32(0), false
	for i, x := range s {
		if x&kindMask != 0 {
			if seen[x] {
				tb.Fatal("entry stands in two slots")
			}
			seen[x] = true
			routes += t.checkEntry(tb, x, at.with(i, depth), lines, ents)
		} else if x == 0 || leafLen(x) <= depth {
			if have && x != inherited {
				tb.Fatalf("two inherited leaves %#x, %#x", x, inherited)
			}
			inherited, have = x, true
		} else if leafLen(x) > depth+8 {
			tb.Fatal("leaf too deep")
		}
	}
	// The node's own routes, hidden ones included, come from the list.
	t.rib.each(func(p pfx, _ uint32) bool {
		if int(p.len) > depth && int(p.len) <= depth+8 && p.cut(depth) == at {
			routes++
		}
		return true
	})
	if n := int(*t.tCount.At(e & lineMask)); n != routes {
		tb.Fatalf("node of depth %d counts %d routes, has %d", depth, n, routes)
	}
	return routes
}

// Random insertions, changes and deletions of every length, crowded into few
// blocks so that they meet; after every few, look-ups at the borders of the
// prefixes. Then all is deleted again and nothing may be left.
func TestV4AgainstTwin(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(4, seed))
			g := mem.NewGrace()
			tab, err := NewV4(g, Options{Routes: 4096})
			if err != nil {
				t.Fatal(err)
			}
			defer tab.Close()
			w := &twin{32, map[netip.Prefix]uint32{}}
			random := func() netip.Prefix {
				l := rng.IntN(33)
				if l < 14 && rng.IntN(8) != 0 {
					l += 18
				}
				a := 10<<24 | rng.Uint32()&[]uint32{0xf, 0x3ff, 0x303ff, 0x3ffffff}[rng.IntN(4)]
				if rng.IntN(4) == 0 {
					a |= 0xff
				}
				p, _ := addr4(a).Prefix(l)
				return p
			}
			var ps []netip.Prefix
			verify := func() {
				var as, nh, want []uint32
				for range 300 {
					p := random()
					first := num(p.Addr())
					last := first | ^uint32(0)>>p.Bits()
					if p.Bits() == 32 {
						last = first
					}
					for _, a := range []uint32{first, last, last + 1, first - 1, first | rng.Uint32()&^(^uint32(0)<<(32-p.Bits()))} {
						as = append(as, a)
						want = append(want, w.lookup(addr4(a)))
					}
				}
				nh = make([]uint32, len(as))
				tab.LookupBurst(as, nh)
				for i, a := range as {
					if one := tab.Lookup(a); one != want[i] || nh[i] != want[i] {
						t.Fatalf("%v: Lookup %d, LookupBurst %d, want %d", addr4(a), one, nh[i], want[i])
					}
				}
			}
			for step := range 3000 {
				p := random()
				if rng.IntN(5) < 3 {
					nh := rng.Uint32N(5) + 1
					if err := tab.Insert(p, nh); err != nil {
						t.Fatal(err)
					}
					w.m[p] = nh
					ps = append(ps, p)
				} else {
					if len(ps) > 0 && rng.IntN(2) == 0 {
						p = ps[rng.IntN(len(ps))]
					}
					_, had := w.m[p]
					if tab.Delete(p) != had {
						t.Fatalf("Delete(%v) = %v", p, !had)
					}
					delete(w.m, p)
				}
				if step%300 == 0 {
					verify()
					tab.check(t)
				}
				if tab.Len() != len(w.m) {
					t.Fatalf("Len %d, want %d", tab.Len(), len(w.m))
				}
			}
			got := map[netip.Prefix]uint32{}
			for p, nh := range tab.All() {
				got[p] = nh
			}
			for p, nh := range w.m {
				if got[p] != nh || tab.Get(p) != nh {
					t.Fatalf("All has %v for %v, Get %d, want %d", got[p], p, tab.Get(p), nh)
				}
			}
			for p := range w.m {
				tab.Delete(p)
				delete(w.m, p)
				if rng.IntN(200) == 0 {
					verify()
				}
			}
			empty(t, &tab.trie)
		})
	}
}

// empty verifies that a table without routes holds nothing.
func empty(t *testing.T, tr *trie) {
	t.Helper()
	tr.check(t)
	if tr.Len() != 0 {
		t.Fatalf("%d routes left", tr.Len())
	}
	for i, e := range tr.top {
		if e != 0 {
			t.Fatalf("top entry %d is %#x", i, e)
		}
	}
	for i, e := range tr.tRoot.Slice() {
		if e != 0 {
			t.Fatalf("root entry %#x is %#x", i, e)
		}
	}
	if l, fl, _, _ := tr.store.used(); l != fl {
		t.Fatalf("%d lines lost", l-fl)
	}
}

func TestV6AgainstTwin(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(6, seed))
			g := mem.NewGrace()
			tab, err := NewV6(g, Options{Routes: 4096})
			if err != nil {
				t.Fatal(err)
			}
			defer tab.Close()
			w := &twin{128, map[netip.Prefix]uint32{}}
			// Bits are set at few places, so that prefixes share long paths and
			// then part at different depths.
			sparse := func(from int) (hi, lo uint64) {
				hi = 0x2001_0db8 << 32
				for range rng.IntN(4) {
					b := from + rng.IntN(128-from)
					if b < 64 {
						hi ^= 1 << (63 - b)
					} else {
						lo ^= 1 << (127 - b)
					}
				}
				if rng.IntN(6) == 0 {
					hi |= 0xffff
				}
				return hi, lo
			}
			random := func() netip.Prefix {
				hi, lo := sparse([]int{2, 20, 30, 40, 60, 100, 120}[rng.IntN(7)])
				l := rng.IntN(129)
				if l < 12 && rng.IntN(4) != 0 {
					l += 30
				}
				if rng.IntN(8) == 0 {
					l = 128
				}
				p, _ := addr6(hi, lo).Prefix(l)
				return p
			}
			var ps []netip.Prefix
			verify := func() {
				var his, los []uint64
				var want []uint32
				add := func(hi, lo uint64) {
					his, los = append(his, hi), append(los, lo)
					want = append(want, w.lookup(addr6(hi, lo)))
				}
				for range 150 {
					p := random()
					if len(ps) > 0 && rng.IntN(2) == 0 {
						p = ps[rng.IntN(len(ps))]
					}
					hi, lo := words(p.Addr())
					add(hi, lo)
					mh, ml := ^maskHi(p.Bits()), ^maskLo(p.Bits())
					add(hi|mh, lo|ml)
					add(hi|mh&rng.Uint64(), lo|ml&rng.Uint64())
					add(hi, lo+1)
					add(hi-1, lo-1)
				}
				add(0, 0)
				add(^uint64(0), ^uint64(0))
				nh := make([]uint32, len(his))
				tab.LookupBurst(his, los, nh)
				for i := range his {
					if one := tab.Lookup(his[i], los[i]); one != want[i] || nh[i] != want[i] {
						t.Fatalf("%v: Lookup %d, LookupBurst %d, want %d", addr6(his[i], los[i]), one, nh[i], want[i])
					}
				}
			}
			for step := range 3000 {
				p := random()
				if rng.IntN(5) < 3 {
					nh := rng.Uint32N(5) + 1
					if err := tab.Insert(p, nh); err != nil {
						t.Fatal(err)
					}
					w.m[p] = nh
					ps = append(ps, p)
				} else {
					if len(ps) > 0 && rng.IntN(2) == 0 {
						p = ps[rng.IntN(len(ps))]
					}
					_, had := w.m[p]
					if tab.Delete(p) != had {
						t.Fatalf("Delete(%v) = %v", p, !had)
					}
					delete(w.m, p)
				}
				if step%200 == 0 {
					verify()
					tab.check(t)
				}
			}
			got := map[netip.Prefix]uint32{}
			for p, nh := range tab.All() {
				got[p] = nh
			}
			for p, nh := range w.m {
				if got[p] != nh || tab.Get(p) != nh {
					t.Fatalf("All has %v for %v, Get %d, want %d", got[p], p, tab.Get(p), nh)
				}
			}
			n := 0
			for p := range w.m {
				tab.Delete(p)
				delete(w.m, p)
				if n++; n%100 == 0 {
					verify()
					tab.check(t)
				}
			}
			empty(t, &tab.trie)
		})
	}
}

// The lonely-slot address that an unused place of a tail could match by
// mistake, and other special addresses.
func TestV6Edges(t *testing.T) {
	tab, err := NewV6(mem.NewGrace(), Options{Routes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	ins := func(p string, nh uint32) {
		t.Helper()
		if err := tab.Insert(netip.MustParsePrefix(p), nh); err != nil {
			t.Fatal(err)
		}
	}
	look := func(a string, want uint32) {
		t.Helper()
		if got := tab.Lookup(words(netip.MustParseAddr(a))); got != want {
			t.Errorf("%s: %d, want %d", a, got, want)
		}
	}
	look("::", 0)
	ins("::/0", 1)
	ins("ffff:ffff:fff0::/44", 2)
	ins("::1/128", 3)
	look("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 2)
	look("ffff:ffff:ffe0::", 1)
	look("::", 1)
	look("::1", 3)
	look("::2", 1)
	ins("::2/128", 4)
	ins("::3/128", 5)
	look("::1", 3)
	look("::2", 4)
	look("::3", 5)
	look("::4", 1)
	tab.check(t)
	tab.Delete(netip.MustParsePrefix("::/0"))
	look("::4", 0)
	look("::3", 5)
	tab.check(t)
}

// A default route and other short prefixes must not touch the root.
func TestShortPrefixesAreCheap(t *testing.T) {
	tab, err := NewV4(mem.NewGrace(), Options{Routes: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	for _, p := range []string{"0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8"} {
		if err := tab.Insert(netip.MustParsePrefix(p), 1); err != nil {
			t.Fatal(err)
		}
	}
	if tab.Lookup(0x0a000001) != 1 || tab.Lookup(0) != 1 || tab.Lookup(^uint32(0)) != 1 {
		t.Error("not found")
	}
	for i, e := range tab.tRoot.Slice() {
		if e != 0 {
			t.Fatalf("root entry %d written", i)
		}
	}
}

func TestErrors(t *testing.T) {
	g := mem.NewGrace()
	v4, err := NewV4(g, Options{Routes: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer v4.Close()
	v6, err := NewV6(g, Options{Routes: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer v6.Close()
	p4, p6 := netip.MustParsePrefix("192.0.2.77/24"), netip.MustParsePrefix("2001:db8::7/64")
	for _, err := range []error{v4.Insert(p6, 1), v4.Insert(netip.Prefix{}, 1), v6.Insert(p4, 1), v6.Insert(netip.Prefix{}, 1)} {
		if !errors.Is(err, ErrPrefix) {
			t.Errorf("got %v", err)
		}
	}
	for _, err := range []error{v4.Insert(p4, 0), v4.Insert(p4, MaxNextHop+1), v6.Insert(p6, 0)} {
		if !errors.Is(err, ErrNextHop) {
			t.Errorf("got %v", err)
		}
	}
	if v4.Delete(p6) || v6.Delete(p4) || v4.Get(p6) != 0 || v6.Get(p4) != 0 {
		t.Error("a prefix of the other family was found")
	}
	if err := v4.Insert(p4, MaxNextHop); err != nil || v4.Lookup(0xc0000201) != MaxNextHop {
		t.Error("largest next hop:", err)
	}
	if v4.Get(p4) != MaxNextHop || !v4.Delete(p4) || v4.Delete(p4) {
		t.Error("host bits of a prefix matter")
	}
}

// A full table refuses, keeps what it has, and takes more after a deletion.
func TestFull(t *testing.T) {
	g := mem.NewGrace()
	tab, err := NewV4(g, Options{Routes: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	p := func(i int) netip.Prefix { return netip.PrefixFrom(addr4(uint32(i)<<8), 32) }
	n := 1
	for ; ; n++ {
		if err := tab.Insert(p(n), uint32(n)); errors.Is(err, ErrFull) {
			break
		} else if err != nil || n > 1<<20 {
			t.Fatal(n, err)
		}
	}
	if tab.Len() != n-1 || tab.Lookup(uint32(n)<<8) != 0 {
		t.Fatal("a refused route is there")
	}
	for i := 1; i < n; i++ {
		if tab.Lookup(uint32(i)<<8) != uint32(i) {
			t.Fatalf("route %d lost", i)
		}
	}
	if !tab.Delete(p(1)) {
		t.Fatal("cannot delete from a full table")
	}
	if err := tab.Insert(p(n), 7); err != nil {
		t.Fatal(err)
	}
	tab.check(t)
}

// Readers run while a writer turns routes over. Every address read is covered
// by a route that never goes away, so 0 is never right, and the next hops that
// can be right for an address are known. Lines are reused through the Grace
// all the time; a reader that met a reused line would see a foreign next hop.
func TestReadersWhileChanging(t *testing.T) {
	g := mem.NewGrace()
	v4, err := NewV4(g, Options{Routes: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer v4.Close()
	v6, err := NewV6(g, Options{Routes: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer v6.Close()
	const blocks = 64 // /20s of 10.0.0.0/8; next hops of block b are b*100+1 … b*100+99
	nhOf := func(b, k int) uint32 { return uint32(b*100 + k) }
	for b := range blocks {
		if err := v4.Insert(netip.PrefixFrom(addr4(10<<24|uint32(b)<<12), 20), nhOf(b, 1)); err != nil {
			t.Fatal(err)
		}
		if err := v6.Insert(netip.PrefixFrom(addr6(0x2001_0db8<<32|uint64(b)<<24, 0), 40), nhOf(b, 1)); err != nil {
			t.Fatal(err)
		}
	}
	var stop atomic.Bool
	fail := make(chan string, 2)
	turns := make([]atomic.Int64, 2)
	done := make(chan bool, 2)
	defer func() {
		stop.Store(true)
		<-done
		<-done
	}()
	for r := range 2 {
		go func() {
			defer func() { done <- true }()
			rng := rand.New(rand.NewPCG(8, uint64(r)))
			w := g.Register()
			defer w.Unregister()
			w.Online()
			var a, nh [64]uint32
			var hi, lo [64]uint64
			for !stop.Load() {
				for i := range a {
					x := rng.Uint64()
					b := x % blocks
					a[i] = 10<<24 | uint32(b)<<12 | uint32(x>>20)&0xfff
					hi[i] = 0x2001_0db8<<32 | b<<24 | x>>40&0xf00fff
					lo[i] = x >> 32 & 0xf0f
				}
				v4.LookupBurst(a[:], nh[:])
				for i := range a {
					if b := a[i] >> 12 & (blocks - 1); nh[i]/100 != b || nh[i]%100 == 0 {
						fail <- fmt.Sprintf("%v: next hop %d", addr4(a[i]), nh[i])
						return
					}
				}
				v6.LookupBurst(hi[:], lo[:], nh[:])
				for i := range hi {
					if b := hi[i] >> 24 & 0xff; uint64(nh[i]/100) != b || nh[i]%100 == 0 {
						fail <- fmt.Sprintf("%v: next hop %d", addr6(hi[i], lo[i]), nh[i])
						return
					}
				}
				w.Quiesce()
				turns[r].Add(1)
				if rng.IntN(50) == 0 {
					w.Offline()
					time.Sleep(time.Microsecond)
					w.Online()
				}
			}
		}()
	}
	rng := rand.New(rand.NewPCG(8, 8))
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
		b := rng.IntN(blocks)
		k := rng.IntN(98) + 2
		p4 := netip.PrefixFrom(addr4(10<<24|uint32(b)<<12|rng.Uint32()&0xfff), 21+rng.IntN(12)).Masked()
		p6 := netip.PrefixFrom(addr6(0x2001_0db8<<32|uint64(b)<<24|rng.Uint64()&0xf00fff, rng.Uint64()&0xf0f), 41+rng.IntN(88)).Masked()
		if rng.IntN(2) == 0 {
			v4.Delete(p4)
			v6.Delete(p6)
			for p := range v4.All() {
				if p.Bits() > 20 {
					p4 = p
					break
				}
			}
			for p := range v6.All() {
				if p.Bits() > 40 {
					p6 = p
					break
				}
			}
			if p4.Bits() > 20 && v4.Len() > 400 {
				v4.Delete(p4)
			}
			if p6.Bits() > 40 && v6.Len() > 400 {
				v6.Delete(p6)
			}
		} else {
			if v4.Len() < 500 {
				if err := v4.Insert(p4, nhOf(b, k)); err != nil {
					t.Fatal(err)
				}
			}
			if v6.Len() < 500 {
				if err := v6.Insert(p6, nhOf(b, k)); err != nil {
					t.Fatal(err)
				}
			}
		}
		select {
		case m := <-fail:
			t.Error(m)
		default:
		}
	}
	stop.Store(true)
	for range 2 {
		<-done
		done <- true
	}
	select {
	case m := <-fail:
		t.Error(m)
	default:
	}
	if turns[0].Load() == 0 || turns[1].Load() == 0 {
		t.Error("a reader never ran")
	}
	if !g.Synchronize(time.Second) {
		t.Fatal("things stay behind")
	}
	v4.check(t)
	v6.check(t)
}

func TestNoAllocation(t *testing.T) {
	v4, _ := NewV4(mem.NewGrace(), Options{Routes: 100})
	defer v4.Close()
	v6, _ := NewV6(mem.NewGrace(), Options{Routes: 100})
	defer v6.Close()
	for i := range 200 {
		_ = v4.Insert(netip.PrefixFrom(addr4(uint32(i)<<10|5), 32), 3)
		_ = v6.Insert(netip.PrefixFrom(addr6(uint64(i)<<34|5, 0), 64), 3)
	}
	var a, nh [256]uint32
	var hi, lo [256]uint64
	for i := range a {
		a[i] = uint32(i)<<10 | 5
		hi[i] = uint64(i)<<34 | 5
	}
	if n := testing.AllocsPerRun(50, func() {
		v4.LookupBurst(a[:], nh[:])
		v6.LookupBurst(hi[:], lo[:], nh[:])
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
