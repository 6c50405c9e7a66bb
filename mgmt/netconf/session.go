package netconf

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vrouter/mgmt/nacm"
	"vrouter/mgmt/netconf/frame"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/txn"
)

// A session is one client's. One goroutine reads its requests, carries them
// out one after the other, and writes the replies (RFC 6241 section 4.4).
type session struct {
	srv    *Server
	id     uint32
	peer   transport.Peer
	user   nacm.User // peer, as access control sees it
	log    *slog.Logger
	stream io.ReadWriteCloser
	r      *frame.Reader
	w      *frame.Writer
	base11 bool
	since  time.Time

	in      []byte // the request, used again
	out     []byte // the reply, or what of it is not yet handed to w; used again
	flushed bool   // a part of the reply is handed over: it can no longer become an error

	// writing is held while a message is written, by the session's goroutine
	// or by that of its subscription.
	writing sync.Mutex
	sub     *subscriber // under mu; nil: none
	next    *subscriber // begins once the reply is written
	killer  atomic.Uint32

	stats counters
	over  chan struct{} // closed when the session has ended and let go of all it held

	ctx    context.Context // of the operations; ends when the session is to be cut short
	cancel context.CancelFunc

	mu       sync.Mutex
	opened   bool // both hellos were good
	busy     bool // an operation is under way
	stopping bool
	end      ending
}

// An ending is why a session ended. A session is dropped when neither
// close-session nor kill-session ended it (RFC 6022 section 2.1.5).
type ending struct {
	reason  string // "" while the session lasts
	why     termination
	dropped bool
}

// A termination is a termination-reason of RFC 6470.
type termination string

// The reasons. The server ends a session for reasons that are other: when it
// stops, for bytes that are no messages, and when notifications are not read.
const (
	closed   termination = "closed"
	killed   termination = "killed"
	dropped  termination = "dropped"
	timeout  termination = "timeout"
	badHello termination = "bad-hello"
	other    termination = "other"
)

// serverStops is the reason of sessions that end with the server.
const serverStops = "the server stops"

// by is who acts, for the datastores.
func (c *session) by() txn.Session { return txn.Session{ID: c.id, User: c.peer.User.Name} }

// counters are those of RFC 6022 section 2.1.5.
type counters struct {
	inRPCs, inBadRPCs, outErrors, outNotifications atomic.Uint32
}

// keep is the largest buffer that stays with an idle session.
const keep = 256 << 10

// run is the life of a session.
func (c *session) run() {
	patience := time.AfterFunc(c.srv.limits.HelloTimeout, func() { c.cut("no hello in time", timeout) })
	err := c.hello()
	if !patience.Stop() || err != nil {
		if err != nil {
			c.cut(err.Error(), badHello)
		}
		return
	}
	c.mu.Lock()
	c.opened = true
	c.mu.Unlock()
	c.srv.stats.sessions.Add(1)
	c.srv.tellStart(c)
	c.log.Info("netconf: session open", "base11", c.base11)
	for {
		c.in, err = c.r.Next(c.in[:0])
		if err != nil {
			c.lost(err)
			return
		}
		if !c.begin() {
			return
		}
		c.serve(c.in)
		c.subscribed()
		if !c.finish() {
			return
		}
	}
}

// lost ends the session after a failed read, with a last word where the
// client may still hear it.
func (c *session) lost(err error) {
	var syntax *frame.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		c.cut("closed by the client", dropped)
	case errors.As(err, &syntax):
		c.bad(&request{}, rpcErr("malformed-message", err.Error()))
		c.cut(err.Error(), other)
	case errors.Is(err, frame.ErrTooBig):
		c.bad(&request{}, rpcErr("too-big", "the message exceeds the server's limit"))
		c.cut(err.Error(), other)
	default:
		c.cut("lost: "+err.Error(), dropped)
	}
}

// begin marks that an operation is under way; false when the session is to end.
func (c *session) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = true
	return !c.stopping
}

func (c *session) finish() bool {
	if cap(c.in) > keep {
		c.in = nil
	}
	if cap(c.out) > keep {
		c.out = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	return !c.stopping
}

// stop notes that the session is to end. The first reason counts.
func (c *session) stop(reason string, why termination) (busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.end.reason == "" {
		c.end = ending{reason, why, c.opened && why != closed && why != killed && reason != serverStops}
	}
	return c.busy
}

// cut ends the session at once: the operation under way is cut short and the
// stream closed. The goroutine of the session then leaves.
func (c *session) cut(reason string, why termination) {
	c.stop(reason, why)
	c.cancel()
	c.stream.Close()
}

// retire ends the session once the operation under way, if any, is answered.
func (c *session) retire(reason string, why termination) {
	if !c.stop(reason, why) {
		c.stream.Close()
	}
}

// serve answers one message.
func (c *session) serve(msg []byte) {
	req, badRPC := &request{}, true
	err := c.srv.guard(func() (err error) {
		req, badRPC, err = parse(c.srv.schema, msg)
		return err
	})
	if badRPC {
		c.bad(req, err)
		return
	}
	c.stats.inRPCs.Add(1)
	c.srv.stats.inRPCs.Add(1)
	c.open(req)
	head := len(c.out)
	name := "?"
	if err == nil {
		name = req.in.Op.Name
		err = c.srv.dispatch(c.ctx, &call{session: c, in: req.in})
	}
	if err != nil {
		errs := c.srv.asErrors(err)
		c.log.Debug("netconf: rpc failed", "op", name, "tag", errs[0].Tag, "path", errs[0].Path)
		c.out = c.srv.appendErrors(c.out[:head], errs, c.base11)
		c.stats.outErrors.Add(1)
		c.srv.stats.outErrors.Add(1)
	} else {
		c.log.Debug("netconf: rpc", "op", name)
		if len(c.out) == head && !c.flushed {
			c.out = append(c.out, "<ok/>"...)
		}
	}
	c.send()
}

// bad answers a message that is not a correct rpc.
func (c *session) bad(req *request, err error) {
	c.stats.inBadRPCs.Add(1)
	c.srv.stats.inBadRPCs.Add(1)
	c.stats.outErrors.Add(1)
	c.srv.stats.outErrors.Add(1)
	c.open(req)
	c.out = c.srv.appendErrors(c.out, c.srv.asErrors(err), c.base11)
	c.send()
}

// flush hands over a part of a long reply.
func (c *session) flush(b []byte) []byte {
	if !c.flushed {
		c.writing.Lock()
		c.flushed = true
	}
	c.w.Write(b) // an error stays, and send finds it
	return b[:0]
}

// open begins a reply.
func (c *session) open(req *request) {
	c.flushed = false
	c.out = append(c.out[:0], `<rpc-reply xmlns="`+nsBase+`"`...)
	c.out = append(append(c.out, req.echo...), '>')
}

// send closes the reply and writes it.
func (c *session) send() {
	c.out = append(c.out, "</rpc-reply>"...)
	if !c.flushed {
		c.writing.Lock()
	}
	c.w.Write(c.out)
	err := c.w.End()
	c.writing.Unlock()
	if err != nil {
		c.cut("lost: "+err.Error(), dropped)
	}
}
