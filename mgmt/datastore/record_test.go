package datastore

import (
	"bytes"
	"testing"
	"time"
)

// FuzzRecord: what was written is read back; anything else is refused and
// never a panic.
func FuzzRecord(f *testing.F) {
	f.Add(uint64(12), int64(1764000000), uint8(1), true, uint32(4), "operator", []byte("<config/>"), 30, byte(1))
	f.Add(uint64(1<<63), int64(0), uint8(5), false, uint32(0), "a \"b\"-- \n\xff", []byte("#commit seq=13 time="), 0, byte(0))
	f.Add(uint64(0), int64(-1), uint8(3), false, uint32(1<<31), "", []byte{}, 200, byte(0x80))
	f.Fuzz(func(t *testing.T, seq uint64, at int64, kind uint8, tentative bool, id uint32, user string, edit []byte, off int, x byte) {
		var nc nonce
		copy(nc[:], "0123456789abcdef")
		if bytes.IndexByte(edit, 0) >= 0 { // XML has none
			return
		}
		r := record{seq: seq, time: time.Unix(at%(1<<36), 5).UTC(), kind: Kind(int(kind) % len(kinds)), tentative: tentative, by: Session{id, user}, edit: edit}
		b := append(append(r.appendHead(nil, nc), edit...), '\n')
		if bytes.IndexByte(b, 0) >= 0 || bytes.Contains(b[:len(b)-len(edit)-1], []byte("--")) {
			t.Fatalf("%q", b)
		}
		got, n, ok := decode(b, nc)
		if !ok || n != len(b) || got.seq != r.seq || !got.time.Equal(r.time) || got.kind != r.kind || got.tentative != tentative ||
			got.by.ID != id || got.by.User != user[:min(len(user), maxUser)] || !bytes.Equal(got.edit, edit) {
			t.Fatalf("%+v from %q", got, b)
		}
		if _, _, ok := decode(b, nonce{}); ok {
			t.Fatal("a record of another file")
		}
		if x == 0 || off < 0 || off >= len(b) {
			if off > 0 && off < len(b) { // cut short
				if torn, why := incomplete(b[:off], 0, nc); !torn {
					t.Fatalf("%s: %q", why, b[:off])
				}
			}
			return
		}
		b[off] ^= x
		if _, _, ok := decode(b, nc); ok {
			t.Fatalf("byte %d changed and not noticed: %q", off, b)
		}
		if torn, _ := incomplete(b, 0, nc); torn && b[off] != 0 {
			t.Fatalf("byte %d changed and taken for a crash: %q", off, b)
		}
	})
}

// FuzzFiles: whatever stands in the files, it is read or refused.
func FuzzFiles(f *testing.F) {
	var nc nonce
	copy(nc[:], "0123456789abcdef")
	r := record{seq: 1, edit: []byte(editOpen + treeEnd)}
	seg := append(append(r.appendHead(appendSegmentHead(nil, nc), nc), r.edit...), '\n')
	f.Add(seg)
	f.Add([]byte("<!-- vrouter running segment=1 seq=1 time=2026-11-23T12:00:00Z kind=commit tentative=false session=1 user=\"x\" len=10 crc=01234567 -->\n<config/>\n"))
	f.Add([]byte("#vrouter-journal version=2 nonce=0123456789abcdef head=00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseSnapshot(b)
		n, off, err := parseSegmentHead(b)
		if err != nil {
			off = 0
		}
		decode(b[off:], n)
		if off < len(b) {
			incomplete(b, off, n)
		}
	})
}
