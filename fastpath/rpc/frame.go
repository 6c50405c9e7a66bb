package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
	"sync"

	"vrouter/pkg/mem"
)

// keepBuffer is what a connection keeps of its buffers between messages.
const keepBuffer = 64 << 10

// writer sends messages; any goroutine may.
type writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf bytes.Buffer
	enc *gob.Encoder
	err error // the stream is broken
}

func newWriter(w io.Writer) *writer {
	x := &writer{w: w}
	x.enc = gob.NewEncoder(&x.buf)
	return x
}

// send encodes and writes one message. After an error the stream is useless,
// for the encoder believes to have sent what the other side does not know.
func (x *writer) send(v any) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return x.err
	}
	x.err = x.sendLocked(v)
	return x.err
}

func (x *writer) sendLocked(v any) error {
	defer x.wipe()
	x.buf.Write(make([]byte, 4))
	if err := x.enc.Encode(v); err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	b := x.buf.Bytes()
	n := len(b) - 4
	if n > MaxFrame {
		return fmt.Errorf("a message of %d bytes, the largest is %d", n, MaxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(n))
	_, err := x.w.Write(b)
	return err
}

// wipe forgets what was sent, and gives a large buffer up.
func (x *writer) wipe() {
	b := x.buf.Bytes()
	mem.Wipe(b[:cap(b)])
	if x.buf.Reset(); x.buf.Cap() > keepBuffer {
		x.buf = bytes.Buffer{} // the encoder holds its address
	}
}

// reader takes messages off the stream; one goroutine may.
type reader struct {
	r   io.Reader
	in  bytes.Reader // the frame at hand
	dec *gob.Decoder
	buf []byte
}

func newReader(r io.Reader) *reader {
	x := &reader{r: r}
	x.dec = gob.NewDecoder(&x.in)
	return x
}

// receive decodes one message into v. io.EOF means that the other side closed
// the stream between two messages. After any error the stream is useless.
func (x *reader) receive(v any) error {
	var head [4]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n == 0 || n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes, the largest is %d", n, MaxFrame)
	}
	if err := x.fill(n); err != nil {
		return err
	}
	defer x.wipe()
	x.in.Reset(x.buf)
	if err := x.dec.Decode(v); err != nil {
		if err == io.EOF { // not the end of the stream
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("decoding a message: %w", err)
	}
	if x.in.Len() > 0 {
		return fmt.Errorf("%d bytes behind the message", x.in.Len())
	}
	return nil
}

// fill reads n bytes. The buffer grows with what arrives, not with what the
// frame promises.
func (x *reader) fill(n int) error {
	x.buf = x.buf[:0]
	for len(x.buf) < n {
		k := min(n-len(x.buf), max(keepBuffer, len(x.buf)))
		if len(x.buf)+k > cap(x.buf) {
			b := make([]byte, len(x.buf), len(x.buf)+k)
			copy(b, x.buf)
			mem.Wipe(x.buf)
			x.buf = b
		}
		m, err := io.ReadFull(x.r, x.buf[len(x.buf):len(x.buf)+k])
		x.buf = x.buf[:len(x.buf)+m]
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (x *reader) wipe() {
	mem.Wipe(x.buf[:cap(x.buf)])
	x.in.Reset(nil)
	if cap(x.buf) > keepBuffer {
		x.buf = nil
	}
}
