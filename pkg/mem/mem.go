// Package mem holds the memory that the data plane works in: zeroed, mapped
// outside the Go heap, free of pointers.
//
// Three things follow from that. The collector never looks at it, so a
// collection beside a polling worker costs the worker nothing however large
// the tables are. A store into it has no write barrier. And an address inside
// it may be kept as a number (uintptr) in descriptors and arrays, because it
// never moves and never goes away before Unmap.
//
// The package has four parts:
//
//   - [Region] and [Table]: the mappings themselves;
//   - Load16 … Store64 and [At]: unaligned access, native byte order;
//   - [Grace]: freeing what the writer unlinked only after every worker has
//     passed a point where it holds no reference (quiescent-state-based
//     reclamation);
//   - [Slots]: uint32 handles into a table, reused through a Grace.
//
// Under the race detector regions of at most 256 MiB come from the Go heap,
// because the detector does not see mapped memory; they are aligned to 4 KiB
// only.
package mem

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HugePage is the alignment of every region, in bytes: the size of a
// transparent huge page on amd64, and on arm64 with 4 KiB pages.
const HugePage = 2 << 20

// CacheLine is the size in bytes of the unit in which cores share memory.
const CacheLine = 64

// ErrPointers reports an element type that holds Go pointers. The collector
// does not scan mapped memory, so whatever such a pointer names would be freed.
var ErrPointers = errors.New("mem: element type holds pointers")

// ErrLock reports memory that could not be locked: RLIMIT_MEMLOCK is too low for a
// process without CAP_IPC_LOCK.
var ErrLock = errors.New("mem: memory cannot be locked (see RLIMIT_MEMLOCK)")

// Options says how a region is mapped. The zero value suits tables and packet
// buffers.
type Options struct {
	// Secret keeps the region out of core files (MADV_DONTDUMP) and zeroes it
	// in a forked child (MADV_WIPEONFORK). Unmap wipes it. For key material.
	Secret bool
	// Lock keeps the region resident (mlock), so that it never reaches swap.
	// Map fails with [ErrLock] when the limit RLIMIT_MEMLOCK does not allow it.
	Lock bool
	// SmallPages asks for 4 KiB pages: for large regions of which little will
	// be touched, where a huge page for each touched place would be a waste.
	SmallPages bool
}

// Region is one mapping. It is owned by whoever mapped it; pointers and slices
// into it are invalid after Unmap. Methods other than Unmap may be called from
// any goroutine.
type Region struct {
	p      unsafe.Pointer
	size   int // as asked for
	mapped int // rounded up to pages; 0 for memory of the Go heap (race builds)
	secret bool
	locked bool
}

// Map returns size bytes of zeroed memory outside the Go heap, aligned to
// [HugePage]. Pages are only backed with memory when they are first written,
// so a large sparse table costs what is touched of it.
func Map(size int, o Options) (*Region, error) {
	if size <= 0 {
		return nil, fmt.Errorf("mem: cannot map %d bytes", size)
	}
	if r := heapRegion(size); r != nil {
		return r, nil
	}
	page := unix.Getpagesize()
	n := (size + page - 1) &^ (page - 1)
	// Ask for one huge page more than needed, then give back what lies before
	// and behind the aligned part.
	whole := n + HugePage
	raw, err := unix.MmapPtr(-1, 0, nil, uintptr(whole), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mem: map %d bytes: %w", size, err)
	}
	head := int(-uintptr(raw) & (HugePage - 1))
	p := unsafe.Add(raw, head)
	if head > 0 {
		_ = unix.MunmapPtr(raw, uintptr(head))
	}
	if tail := whole - head - n; tail > 0 {
		_ = unix.MunmapPtr(unsafe.Add(p, n), uintptr(tail))
	}
	r := &Region{p: p, size: size, mapped: n, secret: o.Secret}
	b := unsafe.Slice((*byte)(p), n)
	advice := unix.MADV_HUGEPAGE
	if o.SmallPages {
		advice = unix.MADV_NOHUGEPAGE
	}
	_ = unix.Madvise(b, advice) // speed only: a kernel without huge pages is fine
	if o.Secret {
		if err := unix.Madvise(b, unix.MADV_DONTDUMP); err != nil {
			_ = r.Unmap()
			return nil, fmt.Errorf("mem: keep %d bytes out of core files: %w", size, err)
		}
		if err := unix.Madvise(b, unix.MADV_WIPEONFORK); err != nil {
			_ = r.Unmap()
			return nil, fmt.Errorf("mem: keep %d bytes from child processes: %w", size, err)
		}
	}
	if o.Lock {
		if err := unix.Mlock(b); err != nil {
			_ = r.Unmap()
			return nil, fmt.Errorf("%w: %d bytes: %v", ErrLock, size, err)
		}
		r.locked = true
	}
	return r, nil
}

// MapSecret maps memory for keys: Map with Secret and with Lock, without Lock where
// that is not allowed. [Region.Locked] tells which it came to be, and the log says
// once that there is such memory: keys in swap are a lesser evil than no keys, but
// somebody should hear of it.
func MapSecret(size int, o Options) (*Region, error) {
	o.Secret, o.Lock = true, true
	r, err := Map(size, o)
	if errors.Is(err, ErrLock) {
		unlocked.Do(func() {
			slog.Warn("keys may reach swap: raise RLIMIT_MEMLOCK or give CAP_IPC_LOCK", "err", err)
		})
		o.Lock = false
		return Map(size, o)
	}
	return r, err
}

var unlocked sync.Once

// Locked tells whether the region stays out of swap because it was mapped with
// Lock. Memory of the Go heap (race builds) does not.
func (r *Region) Locked() bool { return r.locked }

// Ptr is the first byte's address as a pointer.
func (r *Region) Ptr() unsafe.Pointer { return r.p }

// Addr is the first byte's address as a number, for descriptors and for
// assembly. It does not keep the region alive: only Unmap ends a region.
func (r *Region) Addr() uintptr { return uintptr(r.p) }

// Size is the length in bytes that was asked for.
func (r *Region) Size() int { return r.size }

// Bytes is the whole region as a slice. Use it no longer after Unmap.
func (r *Region) Bytes() []byte { return unsafe.Slice((*byte)(r.p), r.size) }

// AdviseHuge asks for huge pages where the region is touched from now on: for
// one that was mapped with SmallPages and turns out to be well used.
func (r *Region) AdviseHuge() {
	if r.mapped > 0 {
		_ = unix.Madvise(unsafe.Slice((*byte)(r.p), r.mapped), unix.MADV_HUGEPAGE)
	}
}

// Unmap gives the memory back, wiping it first when it was mapped as secret.
// The caller guarantees that nothing refers to it any more; a later access
// faults. A second Unmap does nothing.
func (r *Region) Unmap() error {
	if r.p == nil {
		return nil
	}
	if r.secret {
		Wipe(r.Bytes())
	}
	p, n := r.p, r.mapped
	r.p, r.size = nil, 0
	if n == 0 {
		heapRelease(p)
		return nil
	}
	return unix.MunmapPtr(p, uintptr(n))
}

// Wipe zeroes b in a way that the compiler does not drop as a dead store.
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(&b)
}

// Table is a slice of n pointer-free elements over a region of its own. The
// zero Table has no elements. Copies share the memory. The table itself has no
// lock: who may write which element is the user's rule.
type Table[T any] struct {
	s []T
	r *Region
}

// NewTable maps a table of n zeroed elements, the first of them aligned to
// [HugePage]. It fails with [ErrPointers] when T holds a pointer, slice, map,
// string, interface, channel or function.
func NewTable[T any](n int, o Options) (Table[T], error) {
	t := reflect.TypeFor[T]()
	if hasPointers(t) {
		return Table[T]{}, fmt.Errorf("%w: %v", ErrPointers, t)
	}
	if t.Size() == 0 || n <= 0 || n > int(^uint(0)>>1)/int(t.Size()) {
		return Table[T]{}, fmt.Errorf("mem: cannot make a table of %d elements of %d bytes", n, t.Size())
	}
	r, err := Map(n*int(t.Size()), o)
	if err != nil {
		return Table[T]{}, err
	}
	return Table[T]{s: unsafe.Slice((*T)(r.Ptr()), n), r: r}, nil
}

// Len is the number of elements.
func (t Table[T]) Len() int { return len(t.s) }

// Slice is the table as a slice. Appending to it is a mistake.
func (t Table[T]) Slice() []T { return t.s }

// At is the address of element i; it panics when i is out of range.
func (t Table[T]) At(i uint32) *T { return &t.s[i] }

// Base is the address of element 0, for unsafe.Add with an index that is known
// to be in range, and for assembly. It is nil for the zero Table.
func (t Table[T]) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(t.s)) }

// Region is the mapping below the table, nil for the zero Table.
func (t Table[T]) Region() *Region { return t.r }

// Unmap gives the memory back; see [Region.Unmap].
func (t *Table[T]) Unmap() error {
	if t.r == nil {
		return nil
	}
	r := t.r
	t.s, t.r = nil, nil
	return r.Unmap()
}

func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	default:
		return true
	}
}
