package mem

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

func TestMap(t *testing.T) {
	for _, size := range []int{1, 100, 4096, 4097, HugePage - 1, HugePage, 3*HugePage + 5} {
		r, err := Map(size, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if a := r.Addr(); !raceBuild && a%HugePage != 0 || a%4096 != 0 {
			t.Errorf("region of %d bytes at %#x is not aligned", size, a)
		}
		b := r.Bytes()
		if len(b) != size || r.Size() != size {
			t.Fatalf("%d bytes, want %d", len(b), size)
		}
		if i := bytes.IndexFunc(b, func(c rune) bool { return c != 0 }); i >= 0 {
			t.Fatalf("byte %d is not zero", i)
		}
		b[0], b[size-1] = 1, 2
		if At(r.Addr()) != r.Ptr() || Load8(r.Ptr(), uintptr(size-1)) == 0 || Bytes(r.Addr(), size)[0] == 0 {
			t.Error("the views do not agree")
		}
		if err := r.Unmap(); err != nil {
			t.Fatal(err)
		}
		if err := r.Unmap(); err != nil {
			t.Error("second Unmap:", err)
		}
	}
	for _, size := range []int{0, -1} {
		if _, err := Map(size, Options{}); err == nil {
			t.Errorf("Map(%d) succeeded", size)
		}
	}
	if _, err := Map(1<<56, Options{}); err == nil {
		t.Error("mapped more than the address space")
	}
}

// vmFlags is the line VmFlags of the mapping that begins at addr.
func vmFlags(t *testing.T, addr uintptr) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("needs /proc/self/smaps")
	}
	in := false
	for _, l := range strings.Split(string(b), "\n") {
		if first, _, _ := strings.Cut(l, " "); strings.Contains(first, "-") {
			in = strings.HasPrefix(l, strings.TrimLeft(hex(addr), "0")+"-")
		}
		if in && strings.HasPrefix(l, "VmFlags:") {
			return l + " "
		}
	}
	t.Fatalf("no mapping begins at %#x", addr)
	return ""
}

func hex(a uintptr) string {
	const digits = "0123456789abcdef"
	var s []byte
	for ; a > 0; a >>= 4 {
		s = append([]byte{digits[a&15]}, s...)
	}
	return string(s)
}

// The kernel's own words on what was asked for: dd = not in core files, wf =
// wiped in a child, lo = locked, hg and nh = huge pages or not.
func TestAdvice(t *testing.T) {
	if raceBuild {
		t.Skip("regions come from the heap under the race detector")
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("the kernel has no transparent huge pages")
	}
	for _, c := range []struct {
		o    Options
		want string
		not  string
	}{
		{Options{}, " hg ", " dd "},
		{Options{SmallPages: true}, " nh ", " hg "},
		{Options{Secret: true}, " dd ", " lo "},
		{Options{Secret: true}, " wf ", " lo "},
		{Options{Secret: true, Lock: true}, " lo ", " nh "},
	} {
		r, err := Map(8192, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if f := vmFlags(t, r.Addr()); !strings.Contains(f, c.want) || strings.Contains(f, c.not) {
			t.Errorf("%+v: %s, want%swithout%s", c.o, f, c.want, c.not)
		}
		if c.o.SmallPages {
			r.AdviseHuge()
			if f := vmFlags(t, r.Addr()); !strings.Contains(f, " hg ") {
				t.Errorf("after AdviseHuge: %s", f)
			}
		}
		r.Unmap()
	}
}

func TestTable(t *testing.T) {
	type rec struct {
		a uint64
		b [3]uint32
		c struct{ d uint16 }
	}
	tab, err := NewTable[rec](1000, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if tab.Len() != 1000 || len(tab.Slice()) != 1000 || tab.Base() != unsafe.Pointer(tab.At(0)) {
		t.Fatal("the views do not agree")
	}
	tab.At(999).c.d = 7
	runtime.GC()
	if tab.Slice()[999].c.d != 7 || *tab.At(998) != (rec{}) {
		t.Error("contents")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("At out of range did not panic")
			}
		}()
		tab.At(1000)
	}()
	if err := tab.Unmap(); err != nil || tab.Len() != 0 || tab.Region() != nil {
		t.Error("Unmap:", err)
	}
	if err := tab.Unmap(); err != nil {
		t.Error("second Unmap:", err)
	}
	var none Table[rec]
	if none.Len() != 0 || none.Base() != nil {
		t.Error("zero table")
	}
}

func TestTableRefusesPointers(t *testing.T) {
	check := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, ErrPointers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := NewTable[*int](1, Options{})
	check("pointer", err)
	_, err = NewTable[string](1, Options{})
	check("string", err)
	_, err = NewTable[[]byte](1, Options{})
	check("slice", err)
	_, err = NewTable[struct{ a [2]struct{ m map[int]int } }](1, Options{})
	check("nested map", err)
	_, err = NewTable[any](1, Options{})
	check("interface", err)
	_, err = NewTable[unsafe.Pointer](1, Options{})
	check("unsafe.Pointer", err)
	_, err = NewTable[func()](1, Options{})
	check("func", err)
	_, err = NewTable[chan int](1, Options{})
	check("chan", err)
	if tab, err := NewTable[[0]*int](1, Options{}); err == nil || tab.Len() != 0 {
		t.Error("table of elements of size 0")
	}
	if _, err := NewTable[uint64](-1, Options{}); err == nil {
		t.Error("negative length")
	}
	if _, err := NewTable[uint64](1<<62, Options{}); err == nil {
		t.Error("length overflow")
	}
}

func TestAccess(t *testing.T) {
	r, err := Map(64, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Unmap()
	p := r.Ptr()
	for off := uintptr(0); off < 16; off++ {
		clear(r.Bytes())
		Store64(p, off, 0x8877665544332211)
		if Load64(p, off) != 0x8877665544332211 || Load32(p, off+1) != 0x55443322 || Load16(p, off+3) != 0x5544 || Load8(p, off+7) != 0x88 {
			t.Fatal("loads at", off)
		}
		Store32(p, off, 0xddccbbaa)
		Store16(p, off+4, 0xffee)
		Store8(p, off+6, 0x99)
		if Load64(p, off) != 0x8899ffeeddccbbaa {
			t.Fatal("stores at", off)
		}
	}
}

func TestGraceWaitsForOnlineWorkers(t *testing.T) {
	g := NewGrace()
	a, b := g.Register(), g.Register()
	freed := 0
	retire := func() { g.Retire(func() { freed++ }) }

	retire() // nobody online
	if g.Poll(); freed != 1 {
		t.Fatal("not freed though all are offline")
	}

	a.Online()
	retire()
	if n := g.Poll(); n != 0 || freed != 1 {
		t.Fatal("freed under a worker")
	}
	b.Online() // came after the retirement: cannot hold it, and must not hold it up for ever
	if g.Poll(); freed != 1 {
		t.Fatal("freed under a worker")
	}
	a.Quiesce()
	if n := g.Poll(); n != 1 || freed != 2 {
		t.Fatal("not freed after the only worker that could hold it passed")
	}

	retire()
	a.Quiesce() // before the epoch opened: proves nothing
	g.Poll()
	b.Quiesce()
	if g.Poll(); freed != 2 {
		t.Fatal("freed though a has not passed")
	}
	a.Offline()
	if g.Poll(); freed != 3 {
		t.Fatal("an offline worker holds things up")
	}
	a.Online()
	retire()
	g.Poll()
	a.Unregister()
	b.Quiesce()
	if g.Poll(); freed != 4 || g.Pending() != 0 {
		t.Fatal("an unregistered worker holds things up")
	}
}

func TestSynchronize(t *testing.T) {
	g := NewGrace()
	w := g.Register()
	w.Online()
	if g.Synchronize(5 * time.Millisecond) {
		t.Fatal("did not wait for the worker")
	}
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				w.Offline()
				return
			default:
				w.Quiesce()
				runtime.Gosched()
			}
		}
	}()
	freed := false
	g.Retire(func() { freed = true })
	if !g.Synchronize(10*time.Second) || !freed {
		t.Fatal("not freed")
	}
	close(stop)
	<-done
}

// Workers read records through published handles while the writer replaces
// them; a reclaimed record is spoiled at once. A worker that sees a spoiled
// record has been given memory that was still in use. Under -race the records
// are plain memory, so reuse too early is also a reported race.
func TestGraceUnderLoad(t *testing.T) {
	type rec struct{ a, b uint64 }
	tab, err := NewTable[rec](64, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Unmap()
	const spoiled = ^uint64(0)
	g := NewGrace()
	s := NewSlots(64, g, func(h uint32) { *tab.At(h) = rec{spoiled, spoiled} })
	var current [4]atomic.Uint32
	for i := range current {
		h, _ := s.Alloc()
		*tab.At(h) = rec{uint64(i), uint64(i)}
		current[i].Store(h)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := g.Register()
			defer w.Unregister()
			w.Online()
			for turn := 0; !stop.Load(); turn++ {
				for i := range current {
					r := tab.At(current[i].Load())
					if turn%7 == 0 {
						runtime.Gosched()
					}
					if r.a%4 != uint64(i) || r.a != r.b {
						t.Errorf("record %d: %+v", i, *r)
						return
					}
				}
				w.Quiesce()
				if turn%100 == n {
					w.Offline()
					time.Sleep(time.Microsecond)
					w.Online()
				}
			}
		}()
	}
	changes := 0
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		i := changes % len(current)
		h, ok := s.Alloc()
		if !ok {
			if !g.Synchronize(10 * time.Second) {
				t.Error("workers do not pass")
				break
			}
			continue
		}
		v := uint64(changes)
		*tab.At(h) = rec{v, v}
		s.Retire(current[i].Swap(h))
		changes++
		if changes%3 == 0 {
			g.Poll()
		}
	}
	stop.Store(true)
	wg.Wait()
	if changes < 100 {
		t.Errorf("only %d changes", changes)
	}
	g.Poll()
	if g.Pending() != 0 || s.InUse() != len(current) {
		t.Errorf("%d pending, %d in use", g.Pending(), s.InUse())
	}
}

func TestSlots(t *testing.T) {
	g := NewGrace()
	var cleaned []uint32
	s := NewSlots(4, g, func(h uint32) { cleaned = append(cleaned, h) })
	if s.Cap() != 3 {
		t.Fatal("Cap", s.Cap())
	}
	got := map[uint32]bool{}
	for range 3 {
		h, ok := s.Alloc()
		if !ok || h == 0 || h > 3 || got[h] || !s.Live(h) {
			t.Fatal("handle", h, ok)
		}
		got[h] = true
	}
	if _, ok := s.Alloc(); ok || s.InUse() != 3 {
		t.Fatal("a fourth handle")
	}
	w := g.Register()
	w.Online()
	s.Retire(2)
	if _, ok := s.Alloc(); ok || !s.Live(2) {
		t.Fatal("handle reused under a worker")
	}
	w.Quiesce()
	if h, ok := s.Alloc(); !ok || h != 2 || len(cleaned) != 1 || cleaned[0] != 2 {
		t.Fatal("handle not reused", h, ok, cleaned)
	}
	s.Free(1)
	if h, _ := s.Alloc(); h != 1 {
		t.Fatal("last freed is not first reused")
	}
	s.Free(3)
	for _, bad := range []uint32{0, 3, 4, 1 << 31} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Free(%d) did not panic", bad)
				}
			}()
			s.Free(bad)
		}()
	}
	if s.InUse() != 2 {
		t.Error("InUse", s.InUse())
	}
}

func TestQuiesceDoesNotAllocate(t *testing.T) {
	g := NewGrace()
	w := g.Register()
	if n := testing.AllocsPerRun(100, func() { w.Online(); w.Quiesce(); w.Offline() }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestWipe(t *testing.T) {
	b := []byte{1, 2, 3}
	Wipe(b)
	if !bytes.Equal(b, make([]byte, 3)) {
		t.Error(b)
	}
}

func BenchmarkQuiesce(b *testing.B) {
	w := NewGrace().Register()
	w.Online()
	for b.Loop() {
		w.Quiesce()
	}
}
