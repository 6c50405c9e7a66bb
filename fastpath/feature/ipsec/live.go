package ipsec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/replay"
)

// The live table is what packets change about SAs: sequence numbers, replay
// windows, counters, and where peers are. It lies in a file that is mapped shared, so the pages
// belong to the kernel and outlive a killed process: an SA that is installed
// again under the same key goes on where it was. A nonce of AES-GCM must never
// be used twice with one key (RFC 4106 section 9), so this holds for deleted
// SAs too: their slot stays as a tombstone until the table is full (slots.go).
//
// A new boot is another matter: what was sent last may not have reached the
// disk. Unless the table was closed cleanly, every SA of an earlier boot is
// stale: it carries nothing until its key is replaced. That a key was in use at
// all is written to the disk before its first packet.
//
// No key is in the file, only SHA-256 over keys.
//
// The file is as long as the whole table from the beginning, but has room on
// the disk only for the slots taken so far: without it a store could fail, and
// that ends the process.

// liveLine is the cache line that every packet of an SA touches. Packets and
// Bytes are of inner IP. Readers of state may see a packet counted whose bytes
// are not yet.
type liveLine struct {
	Seq     uint64 // outbound: last number used
	Limit   uint64 // up to where Seq, inbound Packets, may go before the limits are looked at
	Packets uint64
	Bytes   uint64
	UsedAt  int64 // since boot, nanoseconds, coarse; 0: never
	lock    uint32
	State   uint32 // what has happened to the SA; atomic, changed by whom holds the line
	Told    uint32 // of it, what has become an event; control side
	Terms   uint32 // the lifetimes that State is about; control side
	_       [2]uint32
}

// liveIdent says whose slot it is.
type liveIdent struct {
	Tag     [32]byte
	AddedAt int64 // since boot, nanoseconds; below 0 for SAs of earlier boots
	EndedAt int64 // when it became a tombstone
	Use     uint32
	_       [3]uint32
}

// Uses of a slot.
const (
	slotFree uint32 = iota
	slotInUse
	slotTombstone
)

const (
	liveMagic  = "vrouter-sa-live\x02"
	liveMagic1 = "vrouter-sa-live\x01" // had Unix times, and no states
	liveHeader = 4096
	maxWindow  = replay.MaxSize
	// windowWords is the stride of windows: an odd number of lines. What a window
	// leaves of it is for whereabouts.
	windowWords = maxWindow/64 + 8
	defaultSAs  = 1 << 16
	// backedBy is for how many slots the disk is asked for room at once.
	backedBy = 1024
)

// liveFile is the mapped table.
type liveFile struct {
	slots
	clock  *clock
	mem    []byte
	file   *os.File // nil: anonymous memory
	n      uint32
	backed uint32 // slots below it have room on the disk
}

// errLiveCorrupt wraps what is wrong with a live file.
var errLiveCorrupt = errors.New("the SA state file is damaged")

// openLive maps the table for n SAs, made when it is not there. With an empty
// path it is anonymous memory, for tests and benchmarks. boot tells this boot of
// the machine from others; empty, every start counts as a new boot.
func openLive(path string, n uint32, boot string, c *clock) (*liveFile, error) {
	size := liveHeader + int(n)*(64+64+windowWords*8)
	l := &liveFile{n: n, clock: c}
	l.slots.init(l, n)
	if path == "" {
		m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("mapping SA state: %w", err)
		}
		_ = unix.Madvise(m, unix.MADV_HUGEPAGE)
		l.mem, l.backed = m, n
		return l, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Two processes at work on one file would use each number twice.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: another process keeps its SA state there: %w", path, err)
	}
	l.file = f
	fresh, err := l.checkHeader(int64(size))
	if err == nil && fresh {
		err = f.Truncate(int64(size))
	}
	if err == nil {
		l.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err == nil {
		err = l.room(0, liveHeader)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, l.adopt(fresh, boot)
}

// The header:
//
//	0    magic
//	16   slots
//	32   boot that the times are of
//	96   1: closed cleanly
//	104  then: when, since boot
//	112  and by the wall clock

// adopt takes over what an earlier process left, and makes the table this boot's.
func (l *liveFile) adopt(fresh bool, boot string) error {
	h := l.mem[:liveHeader]
	if fresh {
		copy(h, liveMagic)
		binary.LittleEndian.PutUint32(h[16:], l.n)
	} else {
		same := boot != "" && strings.TrimRight(string(h[32:96]), "\x00") == boot
		clean, v1 := h[96] == 1, string(h[:16]) == liveMagic1
		if v1 || !same {
			// Killed in the middle, times of two kinds are left: then it has not
			// been closed cleanly, and the SAs are stale.
			var closed, wall int64
			if clean && !v1 {
				closed, wall = int64(binary.LittleEndian.Uint64(h[104:])), int64(binary.LittleEndian.Uint64(h[112:]))
				h[96] = 0
				if err := unix.Msync(h, unix.MS_SYNC); err != nil {
					return os.NewSyscallError("msync", err)
				}
			}
			l.carry(l.clock, v1, closed, wall)
			copy(h, liveMagic)
		}
		l.scan(!clean && !same)
	}
	clear(h[32:120])
	copy(h[32:96], boot)
	return unix.Msync(h, unix.MS_SYNC)
}

// checkHeader tells whether the file is new; a file that is neither new nor
// whole is an error, never reset.
func (l *liveFile) checkHeader(size int64) (fresh bool, err error) {
	st, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	if st.Size() == 0 {
		return true, nil
	}
	var h [24]byte
	if _, err := l.file.ReadAt(h[:], 0); err != nil {
		return false, fmt.Errorf("%w: %v; replace the keys of all SAs, then remove the file", errLiveCorrupt, err)
	}
	if m := string(h[:16]); (m == liveMagic || m == liveMagic1) && st.Size() == size && binary.LittleEndian.Uint32(h[16:]) == l.n {
		return false, nil
	}
	if h == [24]byte{} {
		return true, nil // the process died while it made the file: nothing was sent yet
	}
	return false, fmt.Errorf("%w: not the table of %d SAs that this version keeps; replace the keys of all SAs, then remove the file", errLiveCorrupt, l.n)
}

// back makes sure that slot i has room on the disk.
func (l *liveFile) back(i uint32) error {
	for i >= l.backed {
		first, n := int(l.backed), int(min(l.n-l.backed, backedBy))
		for _, part := range [...]struct{ at, size int }{{liveHeader, 64}, {liveHeader + int(l.n)*64, 64}, {liveHeader + int(l.n)*128, windowWords * 8}} {
			if err := l.room(part.at+first*part.size, n*part.size); err != nil {
				return fmt.Errorf("no room for its sequence numbers in %s: %w", l.file.Name(), err)
			}
		}
		l.backed += uint32(n)
	}
	return nil
}

// room takes room on the disk for a part of the file. A file system that cannot
// say beforehand has to do without.
func (l *liveFile) room(off, n int) error {
	err := unix.Fallocate(int(l.file.Fd()), 0, int64(off), int64(n))
	for err == unix.EINTR {
		err = unix.Fallocate(int(l.file.Fd()), 0, int64(off), int64(n))
	}
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return nil
	}
	return os.NewSyscallError("fallocate", err)
}

// sync writes to the disk which keys are in use.
func (l *liveFile) sync() error {
	if l.file == nil || len(l.unwritten) == 0 {
		clear(l.unwritten)
		return nil
	}
	page := os.Getpagesize()
	from := (liveHeader + int(l.n)*64) &^ (page - 1)
	if err := unix.Msync(l.mem[from:liveHeader+int(l.n)*128], unix.MS_SYNC); err != nil {
		return os.NewSyscallError("msync", err)
	}
	clear(l.unwritten)
	return nil
}

// lines is the address of slot 0's line.
func (l *liveFile) lines() unsafe.Pointer { return unsafe.Pointer(&l.mem[liveHeader]) }

// windows is the address of slot 0's window.
func (l *liveFile) windows() unsafe.Pointer {
	return unsafe.Pointer(&l.mem[liveHeader+int(l.n)*128])
}

func (l *liveFile) line(i uint32) *liveLine {
	return (*liveLine)(unsafe.Add(l.lines(), uintptr(i)*64))
}

func (l *liveFile) ident(i uint32) *liveIdent {
	return (*liveIdent)(unsafe.Pointer(&l.mem[liveHeader+(int(l.n)+int(i))*64]))
}

// window is the area of a slot's replay window.
func (l *liveFile) window(i uint32) []uint64 {
	return (*[replay.MaxWords]uint64)(unsafe.Add(l.windows(), uintptr(i)*windowWords*8))[:]
}

// hold and release stand around what several workers do to one line. The holder
// never waits for anything, so this is a matter of nanoseconds unless the kernel
// takes its processor away.
func (x *liveLine) hold() {
	for n := 0; !atomic.CompareAndSwapUint32(&x.lock, 0, 1); n++ {
		if n&63 == 63 {
			runtime.Gosched()
		}
	}
}

func (x *liveLine) release() { atomic.StoreUint32(&x.lock, 0) }

// close ends the table; after it the state is known to be whole on disk. No
// worker may run any more.
func (l *liveFile) close() error {
	if l.file == nil {
		return unix.Munmap(l.mem)
	}
	err := unix.Msync(l.mem, unix.MS_SYNC)
	if err == nil {
		binary.LittleEndian.PutUint64(l.mem[104:], uint64(l.clock.boot()))
		binary.LittleEndian.PutUint64(l.mem[112:], uint64(l.clock.wall()))
		l.mem[96] = 1
		err = unix.Msync(l.mem[:liveHeader], unix.MS_SYNC)
	}
	return errors.Join(err, l.abandon())
}

// abandon lets go of the table as the end of the process does.
func (l *liveFile) abandon() error { return errors.Join(unix.Munmap(l.mem), l.file.Close()) }
