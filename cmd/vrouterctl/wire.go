package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/Juniper/go-netconf/netconf"

	"vrouter/mgmt/netconf/frame"
)

// The client stands on Juniper/go-netconf, for its sessions, messages and
// errors. Against scrapligo, which is better kept, speaks that it cannot use a
// unix socket, and that it finds the end of a reply by matching patterns over a
// growing buffer: slow for a whole configuration. go-netconf takes any
// Transport, so ours is below: over SSH or a unix socket, with the framing of
// base:1.1 where the server has it, and with errors and time limits where the
// library's own transport has none.

const (
	base10 = "urn:ietf:params:netconf:base:1.0"
	base11 = "urn:ietf:params:netconf:base:1.1"
)

// maxReply bounds one reply, in bytes.
const maxReply = 1 << 30

// wire is a go-netconf Transport over a byte stream. It is for one goroutine.
type wire struct {
	r     *frame.Reader
	w     *frame.Writer
	limit *patience
	close func() error
	fault error // why there is no session: go-netconf drops the error of a hello
	v11   bool
}

func newWire(r io.Reader, w io.Writer, limit *patience, close func() error) *wire {
	return &wire{r: frame.NewReader(limit.watch(r), maxReply), w: frame.NewWriter(w), limit: limit, close: close}
}

func (t *wire) Send(b []byte) error {
	t.limit.begin()
	defer t.limit.end()
	_, err := t.w.Write(b)
	return t.limit.explain(errors.Join(err, t.w.End()))
}

func (t *wire) Receive() ([]byte, error) {
	t.limit.begin()
	defer t.limit.end()
	b, err := t.r.Next(nil)
	return b, t.limit.explain(err)
}

func (t *wire) Close() error { return t.close() }

// ReceiveHello and SendHello are called in this order.

func (t *wire) ReceiveHello() (*netconf.HelloMessage, error) {
	h := &netconf.HelloMessage{}
	b, err := t.Receive()
	if err == nil {
		if err = xml.Unmarshal(b, h); err != nil {
			err = fmt.Errorf("no NETCONF hello but something else: %w", err)
		} else if t.v11 = slices.Contains(h.Capabilities, base11); !t.v11 && !slices.Contains(h.Capabilities, base10) {
			err = errors.New("the hello names no version of NETCONF that is known here")
		}
	}
	t.fault = err
	return h, err
}

func (t *wire) SendHello(h *netconf.HelloMessage) error {
	if t.fault != nil {
		return t.fault
	}
	h.Capabilities = []string{base10, base11}
	b, err := xml.Marshal(h)
	if err == nil {
		err = t.Send(b)
	}
	if t.v11 {
		t.r.Chunked()
		t.w.Chunked()
	}
	t.fault = err
	return err
}

// patience ends a connection on which nothing came for too long.
type patience struct {
	conn  net.Conn
	d     time.Duration // 0: for ever
	since time.Time
}

func (p *patience) begin() {
	if p.d > 0 {
		p.since = time.Now()
		_ = p.conn.SetDeadline(p.since.Add(p.d))
	}
}

func (p *patience) end() { _ = p.conn.SetDeadline(time.Time{}) }

// watch lets each byte that comes renew the patience.
func (p *patience) watch(r io.Reader) io.Reader { return watched{r, p} }

type watched struct {
	io.Reader
	p *patience
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.p.begin()
	}
	return n, err
}

// explain tells a silent peer from other errors: SSH turns a deadline into the
// end of its stream.
func (p *patience) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case p.d > 0 && time.Since(p.since) >= p.d:
		return fmt.Errorf("the vRouter was silent for %v (--timeout); what it was asked for may still be done", p.d)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the vRouter closed the connection")
	}
	return err
}
