package datastore

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// The journal is text, so that it can be read with a pager when something is
// wrong. A segment begins with a line of its own:
//
//	#vrouter-journal version=1 nonce=5f0c… head=<crc>
//
// and goes on with records, each a line, an edit in XML (see appendDelta), and
// a line feed:
//
//	#commit seq=12 time=2026-… kind=commit tentative=false session=4 user="admin" len=312 crc=<crc> head=<crc>
//	<config …>…</config>
//
// Numbers are decimal, checksums CRC32C in hexadecimal. head covers the line up
// to itself, crc the line up to itself and the edit; both begin with the
// segment's nonce, so that nothing of another file passes for a record. Zeros
// follow the last record: they are written ahead so that the fsync of a commit
// has no metadata to write. A record never holds a zero byte, which is what
// tells one that was not written to its end from one that was damaged later.
type record struct {
	seq       uint64
	time      time.Time
	kind      Kind
	tentative bool
	by        Session
	edit      []byte
}

const (
	maxHead = 2048 // of a record's first line
	maxUser = 256  // bytes of a user name that are kept
	sector  = 512  // what a disk writes as one
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type nonce [16]byte

func (n nonce) sum(parts ...[]byte) uint32 {
	c := crc32.Update(0, castagnoli, n[:])
	for _, p := range parts {
		c = crc32.Update(c, castagnoli, p)
	}
	return c
}

func appendSegmentHead(b []byte, n nonce) []byte {
	from := len(b)
	b = fmt.Appendf(b, "#vrouter-journal version=1 nonce=%s", n[:])
	return fmt.Appendf(b, " head=%08x\n", nonce{}.sum(b[from:]))
}

func parseSegmentHead(b []byte) (n nonce, size int, err error) {
	line, _, ok := bytes.Cut(b[:min(len(b), 128)], []byte("\n"))
	if !ok {
		return n, 0, errors.New("it does not begin with the line of a journal")
	}
	f := fields{rest: string(line)}
	f.word("#vrouter-journal")
	v := f.get("version")
	copy(n[:], f.get("nonce"))
	sum := f.get("head")
	if f.bad || f.rest != "" || sum != fmt.Sprintf("%08x", nonce{}.sum(line[:len(line)-len(" head=")-8])) {
		return n, 0, errors.New("its first line is damaged")
	}
	if v != "1" {
		return n, 0, fmt.Errorf("it has version %s; this program reads version 1", v)
	}
	return n, len(line) + 1, nil
}

// appendHead writes the line of a record.
func (r *record) appendHead(b []byte, n nonce) []byte {
	from := len(b)
	b = r.appendFields(append(b, "#commit "...))
	b = fmt.Appendf(b, " crc=%08x", n.sum(b[from:], r.edit))
	return fmt.Appendf(b, " head=%08x\n", n.sum(b[from:]))
}

func (r *record) appendFields(b []byte) []byte {
	return fmt.Appendf(b, "seq=%d time=%s kind=%s tentative=%t session=%d user=%s len=%d",
		r.seq, r.time.UTC().Format(time.RFC3339Nano), r.kind, r.tentative, r.by.ID, quoteUser(r.by.User), len(r.edit))
}

// quoteUser makes a user name one word of ASCII that may stand in a comment
// of XML.
func quoteUser(s string) string {
	return strings.ReplaceAll(strconv.QuoteToASCII(s[:min(len(s), maxUser)]), "-", `\x2d`)
}

// parseHead reads a record's line, given from it on. n is the length of the
// edit that follows, crc the checksum over summed and that edit.
func (r *record) parseHead(b []byte, nc nonce) (line, summed []byte, n int, crc string, ok bool) {
	line, _, ok = bytes.Cut(b[:min(len(b), maxHead)], []byte("\n"))
	if !ok || len(line) < len(" crc=01234567 head=01234567") {
		return nil, nil, 0, "", false
	}
	f := fields{rest: string(line)}
	f.word("#commit")
	f.version(&r.seq, &r.time, &r.kind, &r.tentative, &r.by)
	length := f.number("len", 31)
	crc = f.get("crc")
	sum := f.get("head")
	if f.bad || f.rest != "" || sum != fmt.Sprintf("%08x", nc.sum(line[:len(line)-len(" head=")-8])) {
		return nil, nil, 0, "", false
	}
	return line, line[:len(line)-len(" crc=01234567 head=01234567")], int(length), crc, true
}

// decode reads the record that b begins with. The edit is a part of b.
func decode(b []byte, nc nonce) (r record, size int, ok bool) {
	line, summed, n, crc, ok := r.parseHead(b, nc)
	from, end := len(line)+1, len(line)+1+n
	if !ok || end >= len(b) || b[end] != '\n' {
		return r, 0, false
	}
	r.edit = b[from:end:end]
	if crc != fmt.Sprintf("%08x", nc.sum(summed, r.edit)) {
		return r, 0, false
	}
	return r, end + 1, true
}

// incomplete tells why the bytes at off, which are no record, do or do not
// look like a record whose writing was cut short. b ends where the zeros
// begin, which is after off.
func incomplete(b []byte, off int, nc nonce) (torn bool, why string) {
	for i := off + 1; ; i++ { // records are written one after the other
		j := bytes.Index(b[i:], []byte("#commit seq="))
		if j < 0 {
			break
		}
		i += j
		if r, _, ok := decode(b[i:], nc); ok {
			return false, fmt.Sprintf("the record with seq=%d follows whole at offset %d", r.seq, i)
		}
	}
	if hole(b, off) {
		return true, "parts of it were never written"
	}
	var r record
	line, _, n, _, ok := r.parseHead(b[off:], nc)
	switch {
	case ok && len(b)-off < len(line)+1+n+1:
		return true, "its end was never written"
	case ok:
		return false, "it was written to its end, but its checksum is wrong"
	case bytes.IndexByte(b[off:min(len(b), off+maxHead)], '\n') < 0 && len(b)-off < maxHead:
		return true, "its first line was never written to its end"
	}
	return false, "its first line is damaged"
}

// hole finds a sector whose end is zero in b from off on: a record holds no
// zero, so the sector was not written, or not wholly.
func hole(b []byte, off int) bool {
	for end := (off/sector + 1) * sector; end <= len(b); end += sector {
		if b[end-1] == 0 {
			return true
		}
	}
	return false
}

// fields reads name=value words.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) word(w string) {
	rest, ok := strings.CutPrefix(f.rest, w)
	f.bad = f.bad || !ok
	f.rest = strings.TrimPrefix(rest, " ")
}

func (f *fields) get(name string) (v string) {
	rest, ok := strings.CutPrefix(f.rest, name+"=")
	if !ok {
		f.bad = true
		return ""
	}
	if strings.HasPrefix(rest, `"`) {
		q, err := strconv.QuotedPrefix(rest)
		if err != nil {
			f.bad = true
			return ""
		}
		v, _ = strconv.Unquote(q)
		f.rest = strings.TrimPrefix(rest[len(q):], " ")
		return v
	}
	v, f.rest, _ = strings.Cut(rest, " ")
	return v
}

func (f *fields) number(name string, bits int) uint64 {
	n, err := strconv.ParseUint(f.get(name), 10, bits)
	f.bad = f.bad || err != nil
	return n
}

// version reads what a record and a file say about a version of running.
func (f *fields) version(seq *uint64, at *time.Time, kind *Kind, tentative *bool, by *Session) {
	*seq = f.number("seq", 64)
	var err error
	if *at, err = time.Parse(time.RFC3339Nano, f.get("time")); err != nil {
		f.bad = true
	}
	if *kind, err = parseKind(f.get("kind")); err != nil {
		f.bad = true
	}
	if *tentative, err = strconv.ParseBool(f.get("tentative")); err != nil {
		f.bad = true
	}
	by.ID = uint32(f.number("session", 32))
	by.User = f.get("user")
}
