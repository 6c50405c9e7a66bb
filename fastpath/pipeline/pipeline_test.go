package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"vrouter/pkg/mem"
)

func TestSizes(t *testing.T) {
	if s := unsafe.Sizeof(Adj{}); s != 32 {
		t.Errorf("an adjacency has %d bytes, the packet loop counts on 32", s)
	}
	if s := unsafe.Sizeof(IfCount{}); s != 128 {
		t.Errorf("an interface's counters have %d bytes, want two lines", s)
	}
}

// TestAdjacency: words come out as they went in, and whoever holds a handle
// from before notices that it was given back.
func TestAdjacency(t *testing.T) {
	g := mem.NewGrace()
	a, err := NewAdjTable(1024, g)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	l2a, l2b := EthWords([6]byte{1, 2, 3, 4, 5, 6}, [6]byte{7, 8, 9, 10, 11, 12}, 0x86dd)
	h, ok := a.Alloc(AdjSpec{L2a: l2a, L2b: l2b, LinkMTU: 1514, If: 300, Kind: AdjNeighbour, V6: true})
	if !ok || h == 0 {
		t.Fatal("no adjacency")
	}
	x := a.At(h)
	if w := x.Word(); w.MTU() != 0 || w.LinkMTU() != 1514 || w.If() != 300 || w.Kind() != AdjNeighbour {
		t.Errorf("word %x", w)
	}
	var frame [14]byte
	mem.Store64(unsafe.Pointer(&frame), 0, x.L2a())
	mem.Store64(unsafe.Pointer(&frame), 6, x.L2b())
	if want := [14]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd}; frame != want {
		t.Errorf("Ethernet header %x, want %x", frame, want)
	}
	a.Open(h)
	a.SetMAC(h, [6]byte{21, 22, 23, 24, 25, 26})
	mem.Store64(unsafe.Pointer(&frame), 0, x.L2a())
	if want := [14]byte{21, 22, 23, 24, 25, 26, 7, 8, 9, 10, 11, 12, 0x86, 0xdd}; frame != want || x.MTU() != 1514 || !x.Resolved() {
		t.Errorf("Ethernet header %x, want %x; MTU %d", frame, want, x.MTU())
	}
	gen := a.Gen(h)
	a.Retire(h)
	if a.Gen(h) == gen || x.MTU() != 0 {
		t.Error("a retired adjacency is still good")
	}
	g.Poll()
	g.Poll()
	if again, _ := a.Alloc(AdjSpec{Kind: AdjGlean}); again != h || a.Gen(h) == gen || x.Resolved() || x.Kind() != AdjGlean {
		t.Errorf("given out again: handle %d for %d, generation %d after %d", again, h, a.Gen(h), gen)
	}
}

// TestIfaces compares the persistent table with a map: old versions stay what
// they were, and Changed names exactly what differs.
func TestIfaces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	tab, model := &Ifaces{}, map[IfIndex]*Iface{}
	for step := range 200 {
		set := map[IfIndex]*Iface{}
		for range rng.IntN(5) {
			i := IfIndex(rng.IntN(300) + 1)
			if rng.IntN(3) == 0 {
				set[i] = nil
			} else {
				set[i] = &Iface{Index: i, Name: fmt.Sprint(step)}
			}
		}
		next := tab.With(set)
		want := map[IfIndex]bool{}
		for i, x := range set {
			if model[i] != x {
				want[i] = true
			}
		}
		for i := range IfIndex(320) {
			if tab.At(i) != model[i] {
				t.Fatalf("step %d: the old table has changed at %d", step, i)
			}
		}
		next.Changed(tab, func(i IfIndex, was, is *Iface) {
			if !want[i] || was != model[i] || is != set[i] {
				t.Errorf("step %d: %d reported as changed", step, i)
			}
			delete(want, i)
		})
		if len(want) > 0 {
			t.Errorf("step %d: %v not reported", step, want)
		}
		for i, x := range set {
			if x == nil {
				delete(model, i)
			} else {
				model[i] = x
			}
		}
		tab = next
		n := 0
		tab.All(func(x *Iface) {
			n++
			if model[x.Index] != x {
				t.Errorf("step %d: wrong interface at %d", step, x.Index)
			}
		})
		if n != len(model) {
			t.Errorf("step %d: %d interfaces, want %d", step, n, len(model))
		}
	}
	if (*Ifaces)(nil).At(5) != nil {
		t.Error("an empty table has an interface")
	}
}

func TestOrigins(t *testing.T) {
	seen := map[Origin]string{}
	for name, o := range map[string]Origin{"if 1": FromIface(1), "if max": FromIface(MaxIfaces - 1), "sa 1": FromSA(1), "sa max": FromSA(MaxSA), "whole": FromIface(1).AsWhole(), "whole from sa": FromSA(1).AsWhole(), "local": FromLocal, "local about an SA": FromLocalSA} {
		if other, twice := seen[o]; twice {
			t.Errorf("%s and %s are one origin", name, other)
		}
		seen[o] = name
		if o>>24 != 0 {
			t.Errorf("%s does not fit into a key", name)
		}
	}
	if h, ok := FromSA(MaxSA).SA(); !ok || h != MaxSA || FromSA(1).Local() || !FromLocal.Local() || FromIface(5).Local() {
		t.Error("origins do not say what they are")
	}
	if _, ok := FromIface(MaxIfaces - 1).SA(); ok {
		t.Error("an interface looks like an SA")
	}
}

func TestTTL(t *testing.T) {
	for sum := range 0x10000 { // every checksum
		ip := [20]byte{8: 64, 9: 17, 10: byte(sum >> 8), 11: byte(sum)}
		DecTTL4(uintptr(unsafe.Pointer(&ip)))
		// RFC 1624 equation 3 for the word that holds TTL and protocol.
		s := uint32(^uint16(sum)) + uint32(^uint16(64<<8|17)) + uint32(63<<8|17)
		s = s>>16 + s&0xffff
		s = s>>16 + s&0xffff
		want := ^uint16(s)
		if got := uint16(ip[10])<<8 | uint16(ip[11]); ip[8] != 63 || got != want && !(got == 0xffff && want == 0 || got == 0 && want == 0xffff) {
			t.Fatalf("checksum %04x becomes %04x, want %04x", sum, got, want)
		}
	}
}
