package datastore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// keepBuffer is the largest buffer that is kept for the next record.
const keepBuffer = 1 << 20

// A segment is the journal file that records are appended to. It is used by
// one goroutine at a time.
type segment struct {
	no         int
	nonce      nonce
	f          File
	used, size int64 // bytes up to the last record, and with the zeros
	ahead      int64 // zeros to write when those are used up
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

// createSegment makes a segment that is durable, and empty but for ahead zeros,
// when it returns.
func createSegment(d FS, no int, ahead int64) (*segment, error) {
	var raw [8]byte
	rand.Read(raw[:])
	s := &segment{no: no, ahead: ahead}
	hex.Encode(s.nonce[:], raw[:])
	name := segmentName(no)
	f, err := d.Create(name + tmpSuffix)
	if err != nil {
		return nil, err
	}
	b := appendSegmentHead(nil, s.nonce)
	s.f, s.used = f, int64(len(b))
	b = append(b, make([]byte, ahead)...)
	s.size = int64(len(b))
	if _, err = f.WriteAt(b, 0); err == nil {
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

// room gives a buffer with place for a record's head, to which its edit is
// appended. append takes it back.
func (s *segment) room() []byte {
	b := s.buf
	if s.buf = nil; b == nil {
		b = make([]byte, 0, 16<<10)
	}
	return b[:maxHead]
}

// append writes a record and makes it durable; b is room, then its edit. On an
// error the file is as it was, or broken says that this is not sure.
func (s *segment) append(r *record, b []byte) (size int64, err error) {
	r.edit = b[maxHead:]
	var line [maxHead]byte
	head := r.appendHead(line[:0], s.nonce)
	b = append(b, '\n')
	if cap(b) <= keepBuffer {
		s.buf = b
	}
	from := maxHead - len(head)
	copy(b[from:], head)
	out := b[from:]
	size = int64(len(out))
	if s.used+size > s.size { // the zeros are used up: more come with this record
		err = s.write(out, s.ahead)
		if full(err) && s.broken == nil { // there may be room for the record itself
			err = s.write(out, 0)
		}
	} else {
		err = s.write(out, 0)
	}
	if err != nil {
		return 0, err
	}
	s.used += size
	return size, nil
}

// full tells whether a disk has no room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// write puts bytes and zeros after the last record, durably, or takes them
// back.
func (s *segment) write(b []byte, zeros int64) error {
	end := s.used + int64(len(b))
	_, err := s.f.WriteAt(b, s.used)
	if err == nil && zeros > 0 {
		_, err = s.f.WriteAt(make([]byte, zeros), end)
	}
	if err == nil {
		if err = s.f.Sync(); err == nil {
			s.size = max(s.size, end+zeros)
			return nil
		}
		s.broken = err
	}
	s.undo(err)
	return err
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
