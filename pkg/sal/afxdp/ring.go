package afxdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is one of a socket's four rings, shared with the kernel: one side
// produces, the other consumes. at is this side's index, not published yet
// where it is ahead of the shared one.
type ring[E uint64 | unix.XDPDesc] struct {
	prod, cons, flags *uint32
	slots             []E
	mask, at          uint32
	mem               []byte
}

// open sets a ring's size, a power of two, and maps it.
func (r *ring[E]) open(fd int, option int, offset int64, n uint32) error {
	if err := setsockopt(fd, option, unsafe.Pointer(&n), unsafe.Sizeof(n)); err != nil {
		return fmt.Errorf("AF_XDP ring of %d: %w", n, err)
	}
	var o unix.XDPMmapOffsets
	if err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&o), unsafe.Sizeof(o)); err != nil {
		return fmt.Errorf("AF_XDP rings: %w", err)
	}
	at := map[int]unix.XDPRingOffset{unix.XDP_RX_RING: o.Rx, unix.XDP_TX_RING: o.Tx, unix.XDP_UMEM_FILL_RING: o.Fr, unix.XDP_UMEM_COMPLETION_RING: o.Cr}[option]
	var e E
	m, err := unix.Mmap(fd, offset, int(at.Desc)+int(n)*int(unsafe.Sizeof(e)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mapping an AF_XDP ring: %w", err)
	}
	r.mem, r.mask = m, n-1
	word := func(at uint64) *uint32 { return (*uint32)(unsafe.Pointer(&m[at])) }
	r.prod, r.cons, r.flags = word(at.Producer), word(at.Consumer), word(at.Flags)
	r.slots = unsafe.Slice((*E)(unsafe.Pointer(&m[at.Desc])), n)
	return nil
}

func (r *ring[E]) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		*r = ring[E]{}
	}
}

// slot is the place of the next entry but i.
func (r *ring[E]) slot(i uint32) *E { return &r.slots[(r.at+i)&r.mask] }

// waiting is how many entries the kernel has produced that were not taken.
func (r *ring[E]) waiting() uint32 { return atomic.LoadUint32(r.prod) - r.at }

// take gives n entries back to the kernel.
func (r *ring[E]) take(n uint32) {
	r.at += n
	atomic.StoreUint32(r.cons, r.at)
}

// room is how many more entries fit.
func (r *ring[E]) room() uint32 { return r.mask + 1 - r.pending() }

// pending is how many entries the kernel has not consumed.
func (r *ring[E]) pending() uint32 { return r.at - atomic.LoadUint32(r.cons) }

// put hands n entries to the kernel.
func (r *ring[E]) put(n uint32) {
	r.at += n
	atomic.StoreUint32(r.prod, r.at)
}

// wants tells whether the kernel must be called to work on the ring.
func (r *ring[E]) wants() bool { return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0 }

func setsockopt(fd, option int, p unsafe.Pointer, n uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(p), n, 0); e != 0 {
		return e
	}
	return nil
}

func getsockopt(fd, option int, p unsafe.Pointer, n uintptr) error {
	l := uint32(n)
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(p), uintptr(unsafe.Pointer(&l)), 0); e != 0 {
		return e
	}
	return nil
}
