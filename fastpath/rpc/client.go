package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"vrouter/fastpath"
)

// Dial connects to the fast path behind the socket path. The engine it gives
// may be used from any goroutine. Its calls end with ErrGone once the
// connection is lost, and with the context's error when that is done first;
// the call is then given up at the other side too, a Publish excepted, which
// always runs to its end there.
//
// Close ends the connection, not the fast path.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("fast path at %s: %w", path, err)
	}
	e := &Client{c: c, out: newWriter(c), wait: map[uint64]chan *answer{}, gone: make(chan struct{})}
	if err := e.hello(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("fast path at %s: %w", path, err)
	}
	return e, nil
}

// Client is a connection to a fast path: a fastpath.Engine.
type Client struct {
	c   net.Conn
	out *writer

	mu   sync.Mutex
	last uint64
	wait map[uint64]chan *answer // nil once the connection is lost
	why  error                   // of the loss
	gone chan struct{}           // closed with it
}

var _ fastpath.Engine = (*Client)(nil)

// hello agrees on the version, then starts the reader.
func (e *Client) hello(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = e.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := e.out.send(&request{Method: mHello, Version: Version}); err != nil {
		return first(ctx.Err(), err)
	}
	in := newReader(e.c)
	var a answer
	if err := in.receive(&a); err != nil {
		return first(ctx.Err(), fmt.Errorf("%w: %w", ErrGone, err))
	}
	if a.Err != nil {
		return a.Err.err()
	}
	if !stop() { // the deadline is set or about to be
		return ctx.Err()
	}
	go e.read(in)
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// read hands answers to those who wait for them.
func (e *Client) read(in *reader) {
	for {
		a := new(answer)
		if err := in.receive(a); err != nil {
			e.lose(err)
			return
		}
		e.mu.Lock()
		w := e.wait[a.ID]
		delete(e.wait, a.ID)
		if w != nil {
			w <- a // has room; under the lock, so that who gives up sees it or is seen
		}
		e.mu.Unlock()
		if w == nil && a.Ticket != 0 {
			// A Prepare that was given up and succeeded all the same: the other
			// side could not know. Nobody shall wait for its end.
			e.post(&request{Method: mAbort, Ticket: a.Ticket})
		}
	}
}

// post sends a request whose answer nobody wants. Its own goroutine keeps the
// reader from blocking on a full socket.
func (e *Client) post(r *request) {
	e.mu.Lock()
	e.last++
	r.ID = e.last
	e.mu.Unlock()
	go func() { _ = e.out.send(r) }()
}

// lose is the end of the connection.
func (e *Client) lose(why error) {
	e.c.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wait != nil {
		e.wait, e.why = nil, why
		close(e.gone)
	}
}

// call sends a request and waits for its answer.
func (e *Client) call(ctx context.Context, r *request) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := make(chan *answer, 1)
	e.mu.Lock()
	if e.wait == nil {
		e.mu.Unlock()
		return nil, e.lost()
	}
	e.last++
	r.ID = e.last
	e.wait[r.ID] = w
	e.mu.Unlock()
	if err := e.out.send(r); err != nil {
		e.lose(err)
		return nil, e.lost()
	}
	select {
	case a := <-w:
		return a, a.Err.orNil()
	case <-e.gone:
		select { // the answer may have come just before
		case a := <-w:
			return a, a.Err.orNil()
		default:
			return nil, e.lost()
		}
	case <-ctx.Done():
		e.mu.Lock()
		delete(e.wait, r.ID)
		e.mu.Unlock()
		go func() { _ = e.out.send(&request{ID: r.ID, Method: mCancel}) }()
		select {
		case a := <-w: // it came meanwhile; a ticket must not be lost
			return a, a.Err.orNil()
		default:
			return nil, ctx.Err()
		}
	}
}

func (f *failure) orNil() error {
	if f == nil {
		return nil
	}
	return f.err()
}

// lost is ErrGone with the cause, if there was one.
func (e *Client) lost() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why != nil && !errors.Is(e.why, net.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrGone, e.why)
	}
	return ErrGone
}

// Caps implements fastpath.Engine, as do the methods below.
func (e *Client) Caps(ctx context.Context) (*fastpath.Caps, error) {
	a, err := e.call(ctx, &request{Method: mCaps})
	if err != nil {
		return nil, err
	}
	if a.Caps == nil {
		return nil, errors.New("an answer without capabilities")
	}
	return a.Caps, nil
}

// Inventory implements fastpath.Engine.
func (e *Client) Inventory(ctx context.Context) (*fastpath.Inventory, error) {
	a, err := e.call(ctx, &request{Method: mInventory})
	if err != nil {
		return nil, err
	}
	if a.Inventory == nil {
		return nil, errors.New("an answer without inventory")
	}
	return a.Inventory.inventory()
}

// Prepare implements fastpath.Engine.
func (e *Client) Prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	a, err := e.call(ctx, &request{Method: mPrepare, Change: newChange(c)})
	if err != nil {
		return 0, err
	}
	return a.Ticket, nil
}

// Publish implements fastpath.Engine.
func (e *Client) Publish(ctx context.Context, t fastpath.Ticket) error {
	_, err := e.call(ctx, &request{Method: mPublish, Ticket: t})
	return err
}

// Abort implements fastpath.Engine.
func (e *Client) Abort(ctx context.Context, t fastpath.Ticket) error {
	_, err := e.call(ctx, &request{Method: mAbort, Ticket: t})
	return err
}

// State implements fastpath.Engine.
func (e *Client) State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error) {
	a, err := e.call(ctx, &request{Method: mState, Query: newQuery(q)})
	if err != nil {
		return nil, err
	}
	if a.State == nil {
		return nil, errors.New("an answer without state")
	}
	return a.State, nil
}

// Events implements fastpath.Engine.
func (e *Client) Events(ctx context.Context, after uint64) (*fastpath.Events, error) {
	a, err := e.call(ctx, &request{Method: mEvents, After: after})
	if err != nil {
		return nil, err
	}
	if a.Events == nil {
		return nil, errors.New("an answer without events")
	}
	return a.Events, nil
}

// Operate implements fastpath.Engine. Given up, it may still be done.
func (e *Client) Operate(ctx context.Context, o *fastpath.Operation) error {
	_, err := e.call(ctx, &request{Method: mOperate, Operation: o})
	return err
}

// Done is closed when the connection is lost or closed.
func (e *Client) Done() <-chan struct{} { return e.gone }

// Close ends the connection. Calls under way end with ErrGone.
func (e *Client) Close() error {
	e.lose(net.ErrClosed)
	return nil
}
