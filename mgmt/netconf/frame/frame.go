// Package frame cuts a byte stream into NETCONF messages and back: by the
// end-of-message mark of base:1.0 (RFC 6242 section 4.3) and by the chunks of
// base:1.1 (section 4.2). It knows nothing of XML.
//
// One leniency: before the first chunk of a message more line feeds than the
// one of the grammar are passed over, as some clients send a line feed after
// each message. Between the chunks of a message the grammar is kept to the byte.
package frame

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
)

// mark ends a message of base:1.0. Well-formed XML cannot hold it.
var mark = []byte("]]>]]>")

// end ends a chunked message.
var end = []byte("\n##\n")

// MaxChunk is the largest chunk-size the grammar of RFC 6242 section 4.2 allows.
const MaxChunk = 4294967295

// ErrTooBig: the message is longer than the Reader's limit. Its rest is unread,
// so the stream is of no further use.
var ErrTooBig = errors.New("message exceeds the size limit")

// A SyntaxError is a breach of the chunk grammar. The peer and we no longer
// agree where messages begin, so the session has to end (RFC 6242 section 4.2).
type SyntaxError struct{ Msg string }

func (e *SyntaxError) Error() string { return "chunked framing: " + e.Msg }

// A Reader reads messages. It begins with end-of-message framing. It is for
// one goroutine.
type Reader struct {
	r       io.Reader
	limit   int
	chunked bool
	buf     []byte // read but not consumed: buf[lo:hi]
	lo, hi  int
}

// NewReader reads from r and refuses messages longer than limit bytes.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: r, limit: limit, buf: make([]byte, 16<<10)}
}

// Chunked switches to chunked framing, from the next message on.
func (r *Reader) Chunked() { r.chunked = true }

// Next appends the next message to msg, which may be nil or a used buffer cut
// to length 0. At a clean end of the stream it gives io.EOF, within a message
// io.ErrUnexpectedEOF. After an error the Reader is of no further use.
func (r *Reader) Next(msg []byte) ([]byte, error) {
	if r.chunked {
		return r.chunks(msg)
	}
	return r.marked(msg)
}

// fill reads more when nothing is left.
func (r *Reader) fill() error {
	if r.lo < r.hi {
		return nil
	}
	for range 100 { // a Reader may give 0 bytes without error, but not for ever
		n, err := r.r.Read(r.buf)
		if n > 0 {
			r.lo, r.hi = 0, n
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// marked reads up to the end-of-message mark. White space before a message is
// dropped: clients put line feeds between messages, and an XML declaration
// may not follow white space.
func (r *Reader) marked(msg []byte) ([]byte, error) {
	start := len(msg)
	for {
		if err := r.fill(); err != nil {
			if err == io.EOF && len(msg) > start {
				err = io.ErrUnexpectedEOF
			}
			return msg, err
		}
		b := r.buf[r.lo:r.hi]
		if len(msg) == start {
			t := bytes.TrimLeft(b, " \t\r\n")
			r.lo += len(b) - len(t)
			if b = t; len(b) == 0 {
				continue
			}
		}
		from := max(start, len(msg)-len(mark)+1) // the mark may lie across two reads
		msg = add(msg, b)
		if i := bytes.Index(msg[from:], mark); i >= 0 {
			i += from
			r.lo = r.hi - (len(msg) - i - len(mark))
			if i-start > r.limit {
				return msg, ErrTooBig
			}
			return msg[:i], nil
		}
		r.lo = r.hi
		if len(msg)-start > r.limit+len(mark) {
			return msg, ErrTooBig
		}
	}
}

// add appends to a message that may become long: room is doubled, where append
// by itself copies a message of some MiB five times over.
func add(msg, b []byte) []byte {
	if cap(msg)-len(msg) < len(b) {
		msg = slices.Grow(msg, len(msg)+len(b))
	}
	return append(msg, b...)
}

// chunks reads  1*( LF "#" chunk-size LF chunk-data ) LF "##" LF.
func (r *Reader) chunks(msg []byte) ([]byte, error) {
	start := len(msg)
	for first := true; ; first = false {
		size, err := r.header(first)
		if err != nil {
			return msg, err
		}
		if size == 0 {
			return msg, nil
		}
		if size > r.limit-(len(msg)-start) {
			return msg, ErrTooBig
		}
		for size > 0 { // grows with what arrives, not with what is promised
			if err := r.fill(); err != nil {
				return msg, unexpected(err)
			}
			n := min(size, r.hi-r.lo)
			msg = add(msg, r.buf[r.lo:r.lo+n])
			r.lo += n
			size -= n
		}
	}
}

// header reads a chunk's header; 0 stands for the end of the chunks.
func (r *Reader) header(first bool) (size int, err error) {
	c, err := r.byte()
	if err != nil {
		if first {
			return 0, err // io.EOF between messages is a clean end
		}
		return 0, unexpected(err)
	}
	if c != '\n' {
		return 0, &SyntaxError{"no line feed before a chunk"}
	}
	for c == '\n' {
		if c, err = r.byte(); err != nil {
			if first && err == io.EOF {
				return 0, io.EOF // only line feeds since the last message
			}
			return 0, unexpected(err)
		}
		if !first {
			break
		}
	}
	if c != '#' {
		return 0, &SyntaxError{"no # before a chunk size"}
	}
	n := uint64(0)
	for digits := 0; ; digits++ {
		if c, err = r.byte(); err != nil {
			return 0, unexpected(err)
		}
		switch {
		case c == '#' && digits == 0:
			if first {
				return 0, &SyntaxError{"message without a chunk"}
			}
			if c, err = r.byte(); err != nil {
				return 0, unexpected(err)
			}
			if c != '\n' {
				return 0, &SyntaxError{"no line feed after the end of chunks"}
			}
			return 0, nil
		case c == '\n' && digits > 0:
			return int(n), nil
		case c == '0' && digits == 0:
			return 0, &SyntaxError{"chunk size begins with 0"}
		case c < '0' || c > '9':
			return 0, &SyntaxError{"chunk size is not a number"}
		}
		if n = n*10 + uint64(c-'0'); n > MaxChunk {
			return 0, &SyntaxError{"chunk size above " + strconv.Itoa(MaxChunk)}
		}
	}
}

func (r *Reader) byte() (byte, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	c := r.buf[r.lo]
	r.lo++
	return c, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// room is kept free before a chunk's data for its header.
const room = len("\n#4294967295\n")

// piece is how much data a Writer gathers before it writes: a short message
// is one write, a long one streams.
const piece = 64 << 10

// A Writer writes messages. It begins with end-of-message framing. It is for
// one goroutine.
type Writer struct {
	w       io.Writer
	chunked bool
	buf     []byte // room, then the data not yet written
	err     error
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, buf: make([]byte, room, 4<<10)}
}

// Chunked switches to chunked framing, from the next message on.
func (w *Writer) Chunked() { w.chunked = true }

// Write adds p to the current message. p may be used again at once. An error
// of the stream stays: all later calls give it.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for w.err == nil && len(p) > 0 {
		k := min(len(p), room+piece-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		if p = p[k:]; len(w.buf) == room+piece {
			w.flush(nil)
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	return n, nil
}

// End ends the message, which has at least one byte, and writes what is left
// of it.
func (w *Writer) End() error {
	if w.chunked {
		w.flush(end)
	} else {
		w.flush(mark)
	}
	return w.err
}

// flush writes the gathered data, as one chunk, and the tail.
func (w *Writer) flush(tail []byte) {
	n := len(w.buf) - room
	from := room
	if w.chunked && n > 0 {
		var h [room]byte
		head := append(strconv.AppendUint(append(h[:0], '\n', '#'), uint64(n), 10), '\n')
		from = room - len(head)
		copy(w.buf[from:], head)
	}
	w.buf = append(w.buf, tail...)
	if w.err == nil {
		_, w.err = w.w.Write(w.buf[from:])
	}
	w.buf = w.buf[:room]
}
