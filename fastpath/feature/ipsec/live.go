package ipsec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The live table is what packets change about SAs: sequence numbers, replay
// windows, counters. It lies in a file that is mapped shared, so the pages
// belong to the kernel and outlive a killed process: an SA that is installed
// again under the same key goes on where it was. A nonce of AES-GCM must never
// be used twice with one key (RFC 4106 section 9), so this holds for deleted
// SAs too: their slot stays as a tombstone until the table is full.
//
// A new boot is another matter: what was sent last may not have reached the
// disk. Unless the table was closed cleanly, every SA of an earlier boot is
// stale: it carries nothing until its key is replaced.
//
// No key is in the file, only SHA-256 over key and SPI.

// liveLine is the cache line that every packet of an SA touches. One worker
// writes it; readers of state use atomic loads and may see a packet counted
// whose bytes are not yet.
type liveLine struct {
	Seq      uint64 // outbound: last number used; inbound: top of the window
	Limit    uint64 // outbound: last number that may be used
	Packets  uint64
	Bytes    uint64 // of inner IP packets
	UsedAt   int64  // Unix nanoseconds, coarse
	Replayed uint64 // replayed or late
	Failed   uint64 // bad ICV
	_        uint64
}

// liveIdent says whose line it is.
type liveIdent struct {
	Tag     [32]byte
	AddedAt int64 // Unix nanoseconds
	EndedAt int64 // when it became a tombstone
	Use     uint32
	Window  uint32
	SPI     uint32
	_       uint32
}

// Uses of a slot.
const (
	slotFree uint32 = iota
	slotInUse
	slotTombstone
)

const (
	liveMagic   = "vrouter-sa-live\x01"
	liveHeader  = 4096
	maxWindow   = 8192
	windowWords = maxWindow/64 + 8 // an odd number of lines as stride
	defaultSAs  = 1 << 16
)

// liveFile is the mapped table.
type liveFile struct {
	mem     []byte
	file    *os.File
	n       uint32
	stale   []bool // by slot: of an earlier boot that did not end cleanly
	byTag   map[[32]byte]uint32
	free    []uint32
	scanned uint32
}

// errLiveCorrupt wraps what is wrong with a live file.
var errLiveCorrupt = errors.New("the SA state file is damaged")

// openLive maps the table for n SAs, made when it is not there. With an empty
// path it is anonymous memory, for tests and benchmarks.
func openLive(path string, n uint32, boot string) (*liveFile, error) {
	if n == 0 {
		n = defaultSAs
	}
	size := liveHeader + int(n)*(64+64+windowWords*8)
	l := &liveFile{n: n, byTag: map[[32]byte]uint32{}, stale: make([]bool, n)}
	if path == "" {
		m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("mapping SA state: %w", err)
		}
		_ = unix.Madvise(m, unix.MADV_HUGEPAGE)
		l.mem = m
		return l, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	fresh, err := l.checkHeader(f, int64(size))
	if err == nil && fresh {
		err = f.Truncate(int64(size))
	}
	if err == nil {
		l.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.file = f
	h := l.mem[:liveHeader]
	old := strings.TrimRight(string(h[32:96]), "\x00")
	clean := h[96] == 1
	if fresh {
		copy(h, liveMagic)
		binary.LittleEndian.PutUint32(h[16:], n)
	} else {
		l.scan(old != boot && !clean)
	}
	clear(h[32:97])
	copy(h[32:96], boot)
	return l, unix.Msync(l.mem[:liveHeader], unix.MS_SYNC)
}

// checkHeader tells whether the file is new; a file that is neither new nor
// whole is an error, never reset.
func (l *liveFile) checkHeader(f *os.File, size int64) (fresh bool, err error) {
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	if st.Size() == 0 {
		return true, nil
	}
	var h [24]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return false, fmt.Errorf("%w: %v; replace the keys of all SAs, then remove the file", errLiveCorrupt, err)
	}
	if string(h[:16]) == liveMagic && st.Size() == size && binary.LittleEndian.Uint32(h[16:]) == l.n {
		return false, nil
	}
	var zero [24]byte
	if h == zero {
		return true, nil // the process died while it made the file: nothing was sent yet
	}
	return false, fmt.Errorf("%w: not the table of %d SAs that this version keeps; replace the keys of all SAs, then remove the file", errLiveCorrupt, l.n)
}

// scan indexes what an earlier process left. All of it is a tombstone until
// it is installed again.
func (l *liveFile) scan(stale bool) {
	for i := uint32(1); i < l.n; i++ {
		id := l.ident(i)
		if id.Use == slotFree {
			continue
		}
		l.byTag[id.Tag] = i
		l.stale[i] = stale
		if id.Use == slotInUse {
			id.Use, id.EndedAt = slotTombstone, time.Now().UnixNano()
		}
	}
}

// lines is the address of slot 0's line.
func (l *liveFile) lines() uintptr { return uintptr(unsafe.Pointer(&l.mem[liveHeader])) }

func (l *liveFile) line(i uint32) *liveLine {
	return (*liveLine)(unsafe.Pointer(&l.mem[liveHeader+int(i)*64]))
}

func (l *liveFile) ident(i uint32) *liveIdent {
	return (*liveIdent)(unsafe.Pointer(&l.mem[liveHeader+(int(l.n)+int(i))*64]))
}

func (l *liveFile) window(i uint32) []uint64 {
	p := (*uint64)(unsafe.Pointer(&l.mem[liveHeader+int(l.n)*128+int(i)*windowWords*8]))
	return unsafe.Slice(p, maxWindow/64)
}

// tagOf identifies an SA by what must not be reused: key and salt, with the
// SPI and direction that give the sequence number space.
func tagOf(sa *SA) (t [32]byte) {
	h := sha256.New()
	var b [9]byte
	binary.BigEndian.PutUint32(b[:], sa.SPI)
	b[4] = byte(sa.Direction)
	binary.BigEndian.PutUint16(b[5:], uint16(sa.Algorithm))
	h.Write([]byte("vrouter SA state"))
	h.Write(b[:])
	h.Write(sa.Key)
	h.Sum(t[:0])
	return t
}

// take gives the slot of an SA: its own of before with all its state, or a
// free one. known tells which.
func (l *liveFile) take(tag [32]byte, inUse func(uint32) bool) (slot uint32, known, stale bool, err error) {
	if i, ok := l.byTag[tag]; ok {
		return i, true, l.stale[i], nil
	}
	i, ok := l.pick(inUse)
	if !ok {
		return 0, false, false, errors.New("no room for one more SA")
	}
	return i, false, false, nil
}

// pick finds a slot without history, else the oldest tombstone.
func (l *liveFile) pick(inUse func(uint32) bool) (uint32, bool) {
	for len(l.free) > 0 {
		i := l.free[len(l.free)-1]
		l.free = l.free[:len(l.free)-1]
		if l.ident(i).Use == slotFree && !inUse(i) {
			return i, true
		}
	}
	for l.scanned+1 < l.n {
		l.scanned++
		if i := l.scanned; l.ident(i).Use == slotFree && !inUse(i) {
			return i, true
		}
	}
	oldest := uint32(0)
	for i := uint32(1); i < l.n; i++ {
		if id := l.ident(i); id.Use == slotTombstone && !inUse(i) && (oldest == 0 || id.EndedAt < l.ident(oldest).EndedAt) {
			oldest = i
		}
	}
	return oldest, oldest != 0
}

// begin writes a fresh slot's beginning.
func (l *liveFile) begin(i uint32, tag [32]byte, sa *SA, limit uint64) {
	id := l.ident(i)
	if id.Use != slotFree {
		delete(l.byTag, id.Tag)
	}
	l.stale[i] = false
	*l.line(i) = liveLine{Limit: limit}
	clear(l.window(i))
	*id = liveIdent{Tag: tag, AddedAt: time.Now().UnixNano(), Use: slotInUse, Window: sa.ReplayWindow, SPI: sa.SPI}
	l.byTag[tag] = i
}

// end makes a slot a tombstone: its numbers stay used.
func (l *liveFile) end(i uint32) {
	id := l.ident(i)
	id.Use, id.EndedAt = slotTombstone, time.Now().UnixNano()
}

// close ends the table; after it the state is known to be whole on disk. No
// worker may run any more.
func (l *liveFile) close() error {
	if l.file == nil {
		return unix.Munmap(l.mem)
	}
	err := unix.Msync(l.mem, unix.MS_SYNC)
	if err == nil {
		l.mem[96] = 1
		err = unix.Msync(l.mem[:liveHeader], unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(l.mem), l.file.Close())
}
