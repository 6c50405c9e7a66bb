package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"vrouter/fastpath"
)

// Serve answers clients on l until ctx is done, then closes l and the
// connections and returns nil; any other end is an error. The engine is not
// closed. Serve logs who comes and goes, and no content, to slog's default.
//
// A client that disconnects takes its tickets along: what it prepared and did
// not publish is aborted.
func Serve(ctx context.Context, l net.Listener, e fastpath.Engine) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			cancel()
			return fmt.Errorf("accepting clients: %w", err)
		}
		clients.Go(func() {
			s := &serverConn{e: e, c: c, log: slog.Default()}
			s.serve(ctx)
		})
	}
}

// serverConn is one client.
type serverConn struct {
	e   fastpath.Engine
	c   net.Conn
	out *writer
	log *slog.Logger

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
	tickets map[fastpath.Ticket]bool // prepared by this client, not ended
}

// helloTimeout bounds how long a connection may say nothing at first.
const helloTimeout = 10 * time.Second

func (s *serverConn) serve(ctx context.Context) {
	defer s.c.Close()
	s.out = newWriter(s.c)
	in := newReader(s.c)
	_ = s.c.SetDeadline(time.Now().Add(helloTimeout))
	if err := allowed(s.c); err != nil { // nothing of theirs is even read
		s.log.Warn("fast path client refused", "err", err)
		_ = s.out.send(&answer{Err: newFailure(ErrDenied)})
		return
	}
	var hello request
	if err := in.receive(&hello); err != nil {
		return
	}
	a := answer{ID: hello.ID, Version: Version}
	if hello.Method != mHello || hello.Version != Version {
		s.log.Warn("fast path client speaks another version", "theirs", hello.Version, "ours", Version)
		a.Err = newFailure(fmt.Errorf("%w: %d, want %d", ErrVersion, hello.Version, Version))
	}
	if err := s.out.send(&a); err != nil || a.Err != nil {
		return
	}
	_ = s.c.SetDeadline(time.Time{})

	s.cancels, s.tickets = map[uint64]context.CancelFunc{}, map[fastpath.Ticket]bool{}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { s.c.Close() })
	defer stop()
	err := s.requests(ctx, cancel, in)
	s.forget()
	if err != nil && ctx.Err() == nil {
		s.log.Warn("fast path client lost", "err", err)
	}
}

// requests reads requests until the connection ends, and waits for the answers
// under way.
func (s *serverConn) requests(ctx context.Context, cancel func(), in *reader) error {
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	for {
		r := new(request)
		if err := in.receive(r); err != nil {
			if err == io.EOF || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if r.Method == mCancel {
			s.mu.Lock()
			if f := s.cancels[r.ID]; f != nil {
				f()
			}
			s.mu.Unlock()
			continue
		}
		rctx, done := context.WithCancel(ctx)
		s.mu.Lock()
		if s.cancels[r.ID] != nil {
			s.mu.Unlock()
			done()
			return fmt.Errorf("request %d sent twice", r.ID)
		}
		s.cancels[r.ID] = done
		s.mu.Unlock()
		busy.Go(func() {
			a := s.do(rctx, r)
			a.ID = r.ID
			s.mu.Lock()
			delete(s.cancels, r.ID)
			s.mu.Unlock()
			done()
			if err := s.out.send(a); err != nil {
				s.c.Close() // the reader notices
			}
		})
	}
}

// do has the engine serve a request.
func (s *serverConn) do(ctx context.Context, r *request) *answer {
	a := new(answer)
	var err error
	switch r.Method {
	case mCaps:
		a.Caps, err = s.e.Caps(ctx)
	case mInventory:
		var v *fastpath.Inventory
		if v, err = s.e.Inventory(ctx); err == nil {
			a.Inventory = newInventory(v)
		}
	case mPrepare:
		if r.Change == nil {
			r.Change = new(change)
		}
		var c *fastpath.Change
		if c, err = r.Change.change(); err == nil {
			a.Ticket, err = s.prepare(ctx, c)
		}
	case mPublish:
		// Once it has begun nobody may stop it halfway.
		err = s.e.Publish(context.WithoutCancel(ctx), r.Ticket)
		s.ended(r.Ticket)
	case mAbort:
		err = s.e.Abort(context.WithoutCancel(ctx), r.Ticket)
		s.ended(r.Ticket)
	case mState:
		if r.Query == nil {
			r.Query = new(query)
		}
		a.State, err = s.e.State(ctx, r.Query.query())
	case mEvents:
		a.Events, err = s.e.Events(ctx, r.After)
	case mOperate:
		if r.Operation == nil {
			r.Operation = new(fastpath.Operation)
		}
		err = s.e.Operate(ctx, r.Operation)
	default:
		err = fmt.Errorf("%v is not served", r.Method)
	}
	if err != nil {
		*a = answer{Err: newFailure(err)}
	}
	return a
}

// prepare notes the ticket, or gives it up when the client no longer wants it.
func (s *serverConn) prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	t, err := s.e.Prepare(ctx, c)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.tickets[t] = true
	s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		s.abort(t)
		return 0, err
	}
	return t, nil
}

func (s *serverConn) ended(t fastpath.Ticket) {
	s.mu.Lock()
	delete(s.tickets, t)
	s.mu.Unlock()
}

func (s *serverConn) abort(t fastpath.Ticket) {
	s.ended(t)
	if err := s.e.Abort(context.Background(), t); err != nil {
		s.log.Debug("aborting a change that nobody waits for", "ticket", uint64(t), "err", err)
	}
}

// forget aborts what a lost client has left prepared.
func (s *serverConn) forget() {
	s.mu.Lock()
	left := s.tickets
	s.tickets = map[fastpath.Ticket]bool{}
	s.mu.Unlock()
	for t := range left {
		s.abort(t)
	}
}
