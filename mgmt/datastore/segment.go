package datastore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	firstZeros = 1 << 20   // bytes written ahead in a new segment
	moreZeros  = 256 << 10 // and when those are used up
	keepBuffer = 1 << 20   // a buffer larger than this is not kept
)

// A segment is the journal file that records are appended to. It is used by
// one goroutine at a time.
type segment struct {
	no         int
	nonce      nonce
	f          File
	used, size int64 // bytes up to the last record, and with the zeros
	buf        []byte
	// broken is why this file is not trusted any more: after a failed fsync
	// nobody knows what the disk holds, and a second fsync may claim success.
	broken error
}

func segmentName(no int) string { return fmt.Sprintf("journal-%08d", no) }

func parseSegmentName(name string) (no int, ok bool) {
	s, ok := strings.CutPrefix(name, "journal-")
	if !ok || len(s) != 8 {
		return 0, false
	}
	no, err := strconv.Atoi(s)
	return no, err == nil && no > 0
}

// createSegment makes a segment that is durable, and empty, when it returns.
func createSegment(d FS, no int) (*segment, error) {
	var raw [8]byte
	rand.Read(raw[:])
	s := &segment{no: no}
	hex.Encode(s.nonce[:], raw[:])
	name := segmentName(no)
	f, err := d.Create(name + tmpSuffix)
	if err != nil {
		return nil, err
	}
	b := appendSegmentHead(make([]byte, 0, firstZeros), s.nonce)
	s.f, s.used, s.size = f, int64(len(b)), firstZeros
	if _, err = f.WriteAt(b[:firstZeros], 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.Rename(name+tmpSuffix, name)
	}
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		f.Close()
		d.Remove(name + tmpSuffix)
		return nil, err
	}
	return s, nil
}

// append writes a record and makes it durable; edit appends its XML. On an
// error the file is as it was, or broken says that this is not sure.
func (s *segment) append(r *record, edit func([]byte) []byte) (size int64, err error) {
	if s.buf == nil {
		s.buf = make([]byte, maxHead, 16<<10)
	}
	b := edit(s.buf[:maxHead])
	r.edit = b[maxHead:]
	var line [maxHead]byte
	head := r.appendHead(line[:0], s.nonce)
	b = append(b, '\n')
	if s.buf = b[:maxHead]; cap(b) > keepBuffer {
		s.buf = nil
	}
	from := maxHead - len(head)
	copy(b[from:], head)
	out := b[from:]
	size = int64(len(out))
	end := s.used + size
	if end > s.size { // the zeros are used up: more come with this record
		out = append(out, make([]byte, moreZeros)...)
	}
	if _, err = s.f.WriteAt(out, s.used); err == nil {
		if err = s.f.Sync(); err != nil {
			s.broken = err
		}
	}
	if err != nil {
		s.undo(err)
		return 0, err
	}
	s.size = max(s.size, s.used+int64(len(out)))
	s.used = end
	return size, nil
}

// undo takes back what a failed append may have written.
func (s *segment) undo(why error) {
	err := s.f.Truncate(s.used)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		s.broken = why
	}
	s.size = s.used
}
