package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// A FormatError says what is wrong with a capture, and where.
type FormatError struct {
	Offset int64 // in bytes from the file's start
	What   string
	Short  bool // it ends too early: what is there is sound
}

func (e *FormatError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.What) }

// A Record is a packet of a capture.
type Record struct {
	Time  int64 // Unix nanoseconds; 0 when the capture does not say
	Frame []byte
	// Cut tells that there was more of the frame than was captured.
	Cut bool
}

const (
	magicMicro, magicNano = 0xa1b2c3d4, 0xa1b23c4d // classic pcap
	magicOrder            = 0x1a2b3c4d             // in a pcapng section header
	blockSection          = 0x0a0d0d0a
	blockInterface        = 1
	blockPacket           = 2 // obsolete, and found in old files
	blockSimple           = 3
	blockEnhanced         = 6
	optEnd, optName       = 0, 2
	optResolution         = 9
	optOffset             = 14
	linkEthernet          = 1

	// maxBlock bounds what one packet or block may take: a length beyond that
	// is garbage.
	maxBlock = 1 << 20
)

// Reader reads the packets of a capture, pcap (draft-ietf-opsawg-pcap) or
// pcapng (draft-ietf-opsawg-pcapng), of Ethernet. It allocates nothing per
// packet.
type Reader struct {
	r     *bufio.Reader
	at    int64 // of what is read next
	good  int64 // end of the last complete packet or block
	begun bool
	order binary.ByteOrder
	buf   []byte

	// pcap
	classic bool
	nano    bool
	snap    uint32
	// pcapng: the interfaces of the section
	ifaces []ngIface
}

// ngIface is an interface of a pcapng section.
type ngIface struct {
	link   uint16
	snap   uint32
	shift  uint // units are 2^-shift s; decimal when 0
	tens   int  // 10^-tens s
	offset int64
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 1<<16)} }

// Good is where the last complete packet or block ended.
func (r *Reader) Good() int64 { return r.good }

func (r *Reader) fail(at int64, format string, a ...any) error {
	return &FormatError{Offset: at, What: fmt.Sprintf(format, a...)}
}

// read gives the next n bytes, valid until the next call. At the end of the
// file before the first byte it gives io.EOF where that is allowed.
func (r *Reader) read(n int, what string, endAllowed bool) ([]byte, error) {
	if n > cap(r.buf) {
		r.buf = make([]byte, max(n, 4096))
	}
	b := r.buf[:n]
	k, err := io.ReadFull(r.r, b)
	if err != nil {
		switch {
		case err == io.EOF && endAllowed:
			return nil, io.EOF
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil, &FormatError{r.at, fmt.Sprintf("the file ends in %s: %d bytes of %d are there", what, k, n), true}
		}
		return nil, fmt.Errorf("at byte %d: %w", r.at+int64(k), err)
	}
	r.at += int64(n)
	return b, nil
}

// Next gives the next packet, valid until the next call, or io.EOF.
func (r *Reader) Next() (Record, error) {
	if !r.begun {
		if err := r.begin(); err != nil {
			return Record{}, err
		}
		r.begun = true
	}
	if r.classic {
		return r.packet()
	}
	for {
		rec, ok, err := r.block()
		if err != nil || ok {
			return rec, err
		}
	}
}

// begin reads what the file begins with.
func (r *Reader) begin() error {
	m, err := r.r.Peek(4)
	if err != nil && (err != io.EOF || len(m) == 0) {
		if err == io.EOF {
			return r.fail(0, "the file is empty")
		}
		return err
	}
	if len(m) < 4 {
		return r.fail(0, "the file ends in the magic number")
	}
	if binary.BigEndian.Uint32(m) == blockSection {
		return nil
	}
	r.classic, r.order = true, binary.LittleEndian
	for range 2 {
		switch r.order.Uint32(m) {
		case magicMicro:
			return r.header()
		case magicNano:
			r.nano = true
			return r.header()
		}
		r.order = binary.BigEndian
	}
	return r.fail(0, "%#08x is not how a capture begins (pcap or pcapng)", binary.BigEndian.Uint32(m))
}

// header reads the file header of pcap.
func (r *Reader) header() error {
	b, err := r.read(24, "the file header", false)
	if err != nil {
		return err
	}
	if v := r.order.Uint16(b[4:]); v != 2 {
		return r.fail(4, "version %d of pcap is not known, 2 is", v)
	}
	if l := r.order.Uint32(b[20:]) & 0xffff; l != linkEthernet {
		return r.fail(20, "link type %d: only Ethernet (1) can be replayed", l)
	}
	r.snap = r.order.Uint32(b[16:])
	r.good = r.at
	return nil
}

// packet reads a packet of pcap.
func (r *Reader) packet() (Record, error) {
	at := r.at
	b, err := r.read(16, "a packet header", true)
	if err != nil {
		return Record{}, err
	}
	sec, frac, n, orig := int64(r.order.Uint32(b)), int64(r.order.Uint32(b[4:])), r.order.Uint32(b[8:]), r.order.Uint32(b[12:])
	if n > maxBlock {
		return Record{}, r.fail(at+8, "a packet of %d bytes", n)
	}
	if !r.nano {
		frac *= 1000
	}
	f, err := r.read(int(n), "a packet", false)
	if err != nil {
		return Record{}, err
	}
	r.good = r.at
	return Record{Time: sec*1e9 + frac, Frame: f, Cut: n < orig}, nil
}

// block reads a block of pcapng; ok tells that it is a packet.
func (r *Reader) block() (rec Record, ok bool, err error) {
	at := r.at
	h, err := r.read(8, "a block header", true)
	if err != nil {
		return rec, false, err
	}
	var head [8]byte
	copy(head[:], h)
	section := binary.BigEndian.Uint32(head[:]) == blockSection
	if section { // its byte order stands behind its length
		m, err := r.r.Peek(4)
		if err != nil {
			return rec, false, &FormatError{r.at, "the file ends in a section header", true}
		}
		switch {
		case binary.LittleEndian.Uint32(m) == magicOrder:
			r.order = binary.LittleEndian
		case binary.BigEndian.Uint32(m) == magicOrder:
			r.order = binary.BigEndian
		default:
			return rec, false, r.fail(r.at, "%#08x is no byte-order magic", binary.BigEndian.Uint32(m))
		}
	}
	typ, n := r.order.Uint32(head[:]), r.order.Uint32(head[4:])
	if n < 12 || n%4 != 0 || n > maxBlock {
		return rec, false, r.fail(at+4, "a block of %d bytes", n)
	}
	b, err := r.read(int(n)-8, "a block", false)
	if err != nil {
		return rec, false, err
	}
	if end := r.order.Uint32(b[len(b)-4:]); end != n {
		return rec, false, r.fail(r.at-4, "the block says %d bytes at its start and %d at its end", n, end)
	}
	b = b[:len(b)-4]
	switch {
	case section:
		if len(b) < 16 {
			return rec, false, r.fail(at, "a section header of %d bytes", n)
		}
		if v := r.order.Uint16(b[4:]); v != 1 {
			return rec, false, r.fail(at+12, "version %d of pcapng is not known, 1 is", v)
		}
		r.ifaces = r.ifaces[:0]
	case typ == blockInterface:
		err = r.describe(at, b)
	case typ == blockEnhanced, typ == blockPacket:
		rec, err = r.enhanced(at, typ, b)
		ok = err == nil
	case typ == blockSimple:
		rec, err = r.simple(at, b)
		ok = err == nil
	}
	if err == nil {
		r.good = r.at
	}
	return rec, ok, err
}

// describe takes an interface description.
func (r *Reader) describe(at int64, b []byte) error {
	if len(b) < 8 {
		return r.fail(at, "an interface description of %d bytes", len(b))
	}
	if len(r.ifaces) == 1<<12 {
		return r.fail(at, "more than %d interfaces", 1<<12)
	}
	i := ngIface{link: r.order.Uint16(b), snap: r.order.Uint32(b[4:]), tens: 6}
	for o := b[8:]; len(o) >= 4; {
		code, n := r.order.Uint16(o), int(r.order.Uint16(o[2:]))
		if code == optEnd {
			break
		}
		if len(o) < 4+n {
			return r.fail(at, "an option of %d bytes goes beyond its block", n)
		}
		v := o[4 : 4+n]
		switch {
		case code == optResolution && n == 1:
			if i.shift, i.tens = 0, int(v[0]); v[0]&0x80 != 0 {
				i.shift = uint(v[0] & 0x7f)
			}
			if i.shift > 63 || i.shift == 0 && i.tens > 19 {
				return r.fail(at, "a time resolution of %#02x", v[0])
			}
		case code == optOffset && n == 8:
			i.offset = int64(r.order.Uint64(v))
		}
		o = o[min(len(o), 4+(n+3)&^3):]
	}
	r.ifaces = append(r.ifaces, i)
	return nil
}

// enhanced takes an enhanced packet, or one of the kind before.
func (r *Reader) enhanced(at int64, typ uint32, b []byte) (rec Record, err error) {
	if len(b) < 20 {
		return rec, r.fail(at, "a packet block of %d bytes", len(b)+12)
	}
	k := r.order.Uint32(b)
	if typ == blockPacket {
		k = uint32(r.order.Uint16(b))
	}
	i, err := r.iface(at+8, k)
	if err != nil {
		return rec, err
	}
	n, orig := r.order.Uint32(b[12:]), r.order.Uint32(b[16:])
	if int64(n) > int64(len(b)-20) {
		return rec, r.fail(at+20, "a packet of %d bytes in a block of %d", n, len(b)+12)
	}
	t := uint64(r.order.Uint32(b[4:]))<<32 | uint64(r.order.Uint32(b[8:]))
	return Record{Time: i.time(t), Frame: b[20 : 20+n], Cut: n < orig}, nil
}

// simple takes a packet without a time.
func (r *Reader) simple(at int64, b []byte) (rec Record, err error) {
	i, err := r.iface(at, 0)
	if err != nil {
		return rec, err
	}
	if len(b) < 4 {
		return rec, r.fail(at, "a packet block of %d bytes", len(b)+12)
	}
	orig := r.order.Uint32(b)
	n := orig
	if i.snap != 0 {
		n = min(n, i.snap)
	}
	if int64(n) > int64(len(b)-4) {
		return rec, r.fail(at+8, "a packet of %d bytes in a block of %d", n, len(b)+12)
	}
	return Record{Frame: b[4 : 4+n], Cut: n < orig}, nil
}

func (r *Reader) iface(at int64, k uint32) (*ngIface, error) {
	if int64(k) >= int64(len(r.ifaces)) {
		return nil, r.fail(at, "a packet of interface %d, and %d are described", k, len(r.ifaces))
	}
	if i := &r.ifaces[k]; i.link == linkEthernet {
		return i, nil
	}
	return nil, r.fail(at, "link type %d: only Ethernet (1) can be replayed", r.ifaces[k].link)
}

// time turns an interface's units into nanoseconds.
func (i *ngIface) time(t uint64) int64 {
	var sec, ns uint64
	if i.shift > 0 {
		sec = t >> i.shift
		hi, lo := bits.Mul64(t&(1<<i.shift-1), 1e9)
		ns = hi<<(64-i.shift) | lo>>i.shift
	} else {
		unit := uint64(1)
		for range i.tens {
			unit *= 10
		}
		sec = t / unit
		hi, lo := bits.Mul64(t%unit, 1e9)
		ns, _ = bits.Div64(hi, lo, unit)
	}
	return (int64(sec)+i.offset)*1e9 + int64(ns)
}

// scan reads a whole capture for its errors.
func scan(r io.Reader) (packets int, good int64, err error) {
	x := NewReader(r)
	for {
		if _, err = x.Next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return packets, x.Good(), err
		}
		packets++
	}
}
