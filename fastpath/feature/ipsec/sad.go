package ipsec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// record is one SA as workers see it: two lines that never change once the
// handle is known to them, beside the live line that they change. A new
// configuration of an SA is a new record over the same live line.
type record struct {
	// line 0
	live   uint32 // slot of the live table
	sa     sal.SA // in its engine
	engine uint32 // which engine
	flags  uint32
	spi    uint32
	hdrLen uint32 // of the outer IP header
	reqid  uint64
	next   uint32 // older SA of the same ReqID and direction; atomic
	sum    uint32 // IPv4: sum over hdr without TOS and length, in memory order
	_      [24]byte

	// line 1
	hdr   [40]byte // outer IP header: TOS 0, length 0, checksum 0
	spiBE uint32   // SPI as it lies on the wire
	_     [20]byte
}

// Flags of a record.
const (
	recOutbound uint32 = 1 << iota
	recV6              // outer header
	recESN
	recStale // the sequence state was lost: carry nothing
)

// Counters of an SA that are too rare for its live line.
type saErrors [8]uint64

const (
	errReplayed = iota
	errLate
	errBadICV
	errMalformed // short, bad padding, bad next header
	errMismatch  // inner packet outside the selectors
	errSeqOverflow
	errStale
	errDevice
)

var saErrorNames = [8]string{"esp-replay", "esp-late", "esp-bad-icv", "esp-malformed", "ipsec-policy-mismatch", "esp-seq-overflow", "esp-seq-stale", "sal-device"}

// sad is the security association database as workers use it.
type sad struct {
	live  *liveFile
	rec   mem.Table[record]
	errs  mem.Table[saErrors]
	bySPI *spiTable
}

func (d *sad) at(h uint32) *record {
	return (*record)(unsafe.Add(d.rec.Base(), uintptr(h)*unsafe.Sizeof(record{})))
}

// sa is the writer's view of an installed SA.
type sa struct {
	SA     // Key is nil: only the engine has it
	tag    [32]byte
	handle uint32
	slot   uint32
	added  int64
	engine *engine
	id     sal.SA // in the engine
	sel    *compiled
	mode   string
	reason string
	stale  bool
}

// check refuses what can never work, whatever else is configured.
func checkSA(s *SA) (field string, err error) {
	switch {
	case s.Name == "":
		return "Name", errors.New("an SA needs a name")
	case s.SPI < 256:
		return "SPI", fmt.Errorf("SPI %d is reserved (RFC 4303 section 2.1): use 256 or more", s.SPI)
	case s.Algorithm != sal.AESGCM16:
		return "Algorithm", fmt.Errorf("encryption algorithm %d is not built: use 20 (AES-GCM with a 16-octet ICV)", s.Algorithm)
	case len(s.Key) != 20 && len(s.Key) != 36:
		return "Key", fmt.Errorf("the key has %d octets: AES-GCM takes 16 or 32 and 4 of salt (RFC 4106 section 8.1)", len(s.Key))
	case !s.Local.IsValid() || !s.Remote.IsValid():
		return "Local", errors.New("both tunnel addresses are needed")
	case s.Local.Is4() != s.Remote.Is4():
		return "Remote", fmt.Errorf("tunnel addresses %v and %v are of different families", s.Local, s.Remote)
	case s.Direction == sal.Inbound && (s.ReplayWindow < 64 || s.ReplayWindow > maxWindow):
		return "ReplayWindow", fmt.Errorf("anti-replay window of %d packets: 64 to %d are built", s.ReplayWindow, maxWindow)
	}
	return "", nil
}

// fill writes a record whose handle is not known to any worker yet.
func (r *record) fill(s *sa) {
	*r = record{live: s.slot, sa: s.id, engine: s.engine.index, spi: s.SPI, reqid: s.ReqID}
	if s.Direction == sal.Outbound {
		r.flags |= recOutbound
	}
	if s.ESN {
		r.flags |= recESN
	}
	if s.stale {
		r.flags |= recStale
	}
	r.spiBE = bits.ReverseBytes32(s.SPI)
	if s.Local.Is4() {
		r.hdrLen = 20
		l, m := s.Local.As4(), s.Remote.As4()
		r.hdr[0], r.hdr[8], r.hdr[9] = 0x45, 64, 50
		copy(r.hdr[12:], l[:])
		copy(r.hdr[16:], m[:])
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.NativeEndian.Uint16(r.hdr[i:]))
		}
		r.sum = sum
		return
	}
	r.flags |= recV6
	r.hdrLen = 40
	l, m := s.Local.As16(), s.Remote.As16()
	r.hdr[0], r.hdr[6], r.hdr[7] = 0x60, 50, 64
	copy(r.hdr[8:], l[:])
	copy(r.hdr[24:], m[:])
}

// limitOf is the last sequence number an SA may send (RFC 4303 section 3.3.3).
func limitOf(s *SA) uint64 {
	if s.ESN {
		return math.MaxUint64 - 1
	}
	return math.MaxUint32
}

// openWindow prepares the replay window of a slot; a known one is kept when
// its size and kind are the same, else everything up to its top counts as seen.
func (d *sad) openWindow(slot uint32, s *SA, known bool) error {
	area := d.live.window(slot)
	if known {
		w := replay.View(area)
		if w.Size() == int(s.ReplayWindow) && w.ESN() == s.ESN {
			return nil
		}
		top := w.Top()
		n, err := replay.Init(area, int(s.ReplayWindow), s.ESN)
		if err == nil && top > 0 {
			n.Restore(top)
		}
		return err
	}
	_, err := replay.Init(area, int(s.ReplayWindow), s.ESN)
	return err
}

// spiTable finds inbound SAs by SPI and outer addresses, for packets of new
// flows: open addressing in mapped memory, one writer, readers without locks.
type spiTable struct {
	mask uint32
	n    int               // used and deleted places
	tab  mem.Table[uint64] // SPI<<32 | handle; 0 empty, handle 0 deleted
}

func newSPITable(n int) (*spiTable, error) {
	size := 1024
	for size < 4*n {
		size *= 2
	}
	t, err := mem.NewTable[uint64](size, mem.Options{})
	return &spiTable{mask: uint32(size - 1), tab: t}, err
}

func (t *spiTable) place(spi uint32) uint32 { return (spi * 0x9e3779b1) >> 7 & t.mask }

// find gives the handle for an SPI, 0 when there is none.
func (t *spiTable) find(spi uint32) uint32 {
	for i := t.place(spi); ; i = (i + 1) & t.mask {
		x := atomic.LoadUint64(t.tab.At(i))
		if x == 0 {
			return 0
		}
		if uint32(x>>32) == spi && uint32(x) != 0 {
			return uint32(x)
		}
	}
}

// set points an SPI to a handle, 0 to delete it.
func (t *spiTable) set(spi, handle uint32) {
	free := int64(-1)
	for i := t.place(spi); ; i = (i + 1) & t.mask {
		x := *t.tab.At(i)
		switch {
		case x != 0 && uint32(x>>32) == spi:
			atomic.StoreUint64(t.tab.At(i), uint64(spi)<<32|uint64(handle))
			return
		case x != 0 && uint32(x) == 0 && free < 0:
			free = int64(i)
		case x == 0:
			if handle == 0 {
				return
			}
			if free < 0 {
				free = int64(i)
				t.n++
			}
			atomic.StoreUint64(t.tab.At(uint32(free)), uint64(spi)<<32|uint64(handle))
			return
		}
	}
}

// outer tells whether an inbound packet's outer source and destination are the
// SA's tunnel ends. hdr is the header of the direction in which we would send:
// from Local to Remote.
func (r *record) outer(src, dst addr, v6 bool) bool {
	if v6 != (r.flags&recV6 != 0) {
		return false
	}
	if v6 {
		b := r.hdr[8:40]
		return dst.hi == binary.BigEndian.Uint64(b) && dst.lo == binary.BigEndian.Uint64(b[8:]) &&
			src.hi == binary.BigEndian.Uint64(b[16:]) && src.lo == binary.BigEndian.Uint64(b[24:])
	}
	return uint32(dst.hi>>32) == binary.BigEndian.Uint32(r.hdr[12:]) && uint32(src.hi>>32) == binary.BigEndian.Uint32(r.hdr[16:])
}
