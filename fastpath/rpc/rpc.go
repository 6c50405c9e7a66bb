// Package rpc serves a fastpath.Engine over a unix socket and reaches one
// behind it.
//
//	rpc.go     what travels: requests, answers, errors
//	routes.go  how many routes travel
//	frame.go   messages on the stream
//	socket.go  the socket: who may connect
//	server.go  Serve
//	client.go  Dial
//
// Each direction of a connection is a stream of frames: four bytes of length
// (big endian), then one gob message. Encoder and decoder live as long as the
// connection, so the description of a type goes over the wire once. Requests
// carry a number, their answers the same; several are under way at a time, and
// the answers come in any order.
//
// Keys travel here. The socket belongs to one user (mode 0600) and the server
// asks the kernel who calls; nothing of a message is ever logged; the buffers
// of this package are wiped after use. Not wiped are the copies that
// encoding/gob makes while it works; the processes forbid core files and
// foreign eyes (cmd/fastpathd).
package rpc

import (
	"context"
	"errors"
	"fmt"

	"vrouter/fastpath"
)

// Version of the protocol. Fields may be added without a new one: gob leaves
// out what one side does not know.
const Version = 1

// MaxFrame is the largest message in bytes.
const MaxFrame = 256 << 20

var (
	// ErrGone: the connection was lost. What it means for a Publish under way
	// is open: ask the Inventory of the engine found next for its Label.
	ErrGone = errors.New("the fast path is gone")
	// ErrVersion: the other side speaks another version of the protocol.
	ErrVersion = errors.New("the fast path speaks another protocol version")
	// ErrDenied: the caller's user may not use this socket.
	ErrDenied = errors.New("permission denied")
)

// method names what a request asks for.
type method uint8

const (
	mHello method = iota + 1
	mCancel
	mCaps
	mInventory
	mPrepare
	mPublish
	mAbort
	mState
	mEvents
	mOperate
)

var methodNames = [...]string{mHello: "hello", mCancel: "cancel", mCaps: "caps", mInventory: "inventory",
	mPrepare: "prepare", mPublish: "publish", mAbort: "abort", mState: "state", mEvents: "events", mOperate: "operate"}

func (m method) String() string {
	if int(m) < len(methodNames) && methodNames[m] != "" {
		return methodNames[m]
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// request is what a client sends.
type request struct {
	ID      uint64 // of a cancel: the request to give up
	Method  method
	Version int // of a hello
	Change  *change
	Ticket  fastpath.Ticket
	Query   *query
	After   uint64 // of events

	Operation *fastpath.Operation
}

// answer is what the server sends for each request but a cancel.
type answer struct {
	ID        uint64
	Err       *failure
	Version   int // to a hello
	Caps      *fastpath.Caps
	Inventory *inventory
	Ticket    fastpath.Ticket
	State     *fastpath.State
	Events    *fastpath.Events
}

// failure is an error on the wire.
type failure struct {
	Text    string
	Kind    uint8 // index into kinds, 0: none of them
	Refusal *fastpath.Refusal
}

// kinds are the errors that keep their identity, for errors.Is. Their order is
// part of the protocol.
var kinds = []error{nil, context.Canceled, context.DeadlineExceeded, ErrVersion, ErrDenied, ErrGone,
	fastpath.ErrTicket, fastpath.ErrClosed}

// RemoteError is an error that the fast path reported.
type RemoteError struct {
	Text string
	kind error
}

func (e *RemoteError) Error() string { return e.Text }

// Unwrap is the error's kind, where both sides know it.
func (e *RemoteError) Unwrap() error { return e.kind }

func newFailure(err error) *failure {
	f := &failure{Text: err.Error()}
	if r := (*fastpath.Refusal)(nil); errors.As(err, &r) {
		f.Refusal = r
	}
	for i, k := range kinds {
		if k != nil && errors.Is(err, k) {
			f.Kind = uint8(i)
			break
		}
	}
	return f
}

// err is the failure as an error again.
func (f *failure) err() error {
	if f.Refusal != nil {
		return f.Refusal
	}
	e := &RemoteError{Text: f.Text}
	if int(f.Kind) < len(kinds) {
		e.kind = kinds[f.Kind]
	}
	return e
}

// query is a fastpath.Query. There a nil slice asks for nothing and an empty
// one for everything, a difference that gob does not carry.
type query struct {
	Ifaces, Neighbours, SAs, Policies, Groups names
	Routes, Drops, Process                    bool
}

type names struct {
	Asked bool
	Names []string
}

func newQuery(q *fastpath.Query) *query {
	n := func(s []string) names { return names{s != nil, s} }
	return &query{n(q.Ifaces), n(q.Neighbours), n(q.SAs), n(q.Policies), n(q.Groups), q.Routes, q.Drops, q.Process}
}

func (q *query) query() *fastpath.Query {
	n := func(s names) []string {
		if s.Asked && s.Names == nil {
			return []string{}
		}
		return s.Names
	}
	return &fastpath.Query{Ifaces: n(q.Ifaces), Neighbours: n(q.Neighbours), SAs: n(q.SAs), Policies: n(q.Policies), Groups: n(q.Groups),
		Routes: q.Routes, Drops: q.Drops, Process: q.Process}
}

// inventory is a fastpath.Inventory in columns: a hundred thousand digests as
// one string of bytes cost a tenth of what gob takes for a map of arrays.
type inventory struct {
	Label    string
	Features []column
}

type column struct {
	Feature string
	Keys    []string
	Digests []byte // those of Keys, one behind the other
}

const digestLen = len(fastpath.Digest{})

func newInventory(v *fastpath.Inventory) *inventory {
	w := &inventory{Label: v.Label}
	for f, objects := range v.Objects {
		c := column{f, make([]string, 0, len(objects)), make([]byte, 0, len(objects)*digestLen)}
		for k, d := range objects {
			c.Keys = append(c.Keys, k)
			c.Digests = append(c.Digests, d[:]...)
		}
		w.Features = append(w.Features, c)
	}
	return w
}

func (w *inventory) inventory() (*fastpath.Inventory, error) {
	v := &fastpath.Inventory{Label: w.Label, Objects: make(map[string]map[string]fastpath.Digest, len(w.Features))}
	for _, c := range w.Features {
		if len(c.Digests) != len(c.Keys)*digestLen {
			return nil, fmt.Errorf("inventory of %s: %d keys with %d bytes of digests", c.Feature, len(c.Keys), len(c.Digests))
		}
		m := make(map[string]fastpath.Digest, len(c.Keys))
		for i, k := range c.Keys {
			m[k] = fastpath.Digest(c.Digests[i*digestLen:])
		}
		v.Objects[c.Feature] = m
	}
	return v, nil
}
