package notify

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// ErrBehind ends a subscription whose subscriber did not take its events in
// time.
var ErrBehind = errors.New("the subscriber does not read its notifications")

// ErrClosed is what Next gives after Close.
var ErrClosed = errors.New("the subscription is closed")

// ErrStream: there is no such stream.
var ErrStream = errors.New("there is no such stream")

// A Request says what is subscribed to, by the parameters of RFC 5277's
// create-subscription.
type Request struct {
	Stream string // "": NETCONF
	Filter *Filter
	// Start asks for a replay of what the log has since then; zero: none.
	Start time.Time
	// Stop ends the subscription; zero: it has no end.
	Stop time.Time
	// May tells whether the subscriber may receive a notification now (RFC 8341
	// section 3.4.6); nil: all. It is not asked about replayComplete and
	// notificationComplete.
	May func(n *yang.Node) bool
}

// A Subscription gives the events of a stream one after the other. Next is for
// one goroutine, the other methods for any.
type Subscription struct {
	hub    *Hub
	stream *stream
	req    Request

	replay []*record // what is left of it
	told   bool      // replayComplete was given, or there is no replay
	over   bool      // notificationComplete was given
	stop   *time.Timer
	live   chan *record

	once sync.Once
	done chan struct{} // closed by end
	err  error         // why; read after done
}

// Subscribe begins a subscription: nothing that is published from now on is
// missed, and nothing is given twice. It must be closed. The only error is
// ErrStream.
func (h *Hub) Subscribe(r Request) (*Subscription, error) {
	if r.Stream == "" {
		r.Stream = NETCONF
	}
	s := &Subscription{hub: h, req: r, told: r.Start.IsZero(), live: make(chan *record, h.limits.Queue), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.stream = h.stream(r.Stream); s.stream == nil {
		return nil, ErrStream
	}
	s.stream.age(h.now(), h.limits)
	if !s.told {
		s.replay = s.stream.since(r.Start, r.Stop)
	}
	if !r.Stop.IsZero() {
		s.stop = time.NewTimer(r.Stop.Sub(h.now()))
	}
	s.stream.subs[s] = true
	return s, nil
}

// Close ends the subscription; a Next that waits returns ErrClosed.
func (s *Subscription) Close() {
	s.end(ErrClosed)
	s.hub.mu.Lock()
	delete(s.stream.subs, s)
	s.hub.mu.Unlock()
	if s.stop != nil {
		s.stop.Stop()
	}
}

func (s *Subscription) end(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.done)
	})
}

// Done is closed when the subscription was closed or is too far behind; Err
// then says which. A client that does not read holds up the goroutine that
// writes to it, so somebody else has to watch.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err is ErrClosed or ErrBehind once Done is closed.
func (s *Subscription) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Next waits for the next notification and gives the whole message, which is
// shared and must not be changed. replayComplete and notificationComplete come
// where RFC 5277 section 2.1.1 wants them; after the latter it gives io.EOF.
// Other errors are ErrBehind, ErrClosed, the context's, and those of a filter.
func (s *Subscription) Next(ctx context.Context) ([]byte, error) {
	for {
		if m, err := s.step(ctx); m != nil || err != nil {
			return m, err
		}
	}
}

// step is Next for one event; it gives nothing for one that is not wanted.
func (s *Subscription) step(ctx context.Context) ([]byte, error) {
	r, err := s.next(ctx)
	switch {
	case err != nil:
		return nil, err
	case r == nil: // stopTime
		s.over = true
		return s.hub.complete("nc-notifications:notificationComplete"), nil
	case r == replayed:
		return s.hub.complete("nc-notifications:replayComplete"), nil
	}
	if ok, err := s.wants(r); !ok || err != nil {
		return nil, err
	}
	return r.msg, nil
}

// Over tells whether what Next gave last was notificationComplete.
func (s *Subscription) Over() bool { return s.over }

// replayed stands for the end of the replay.
var replayed = &record{}

// next gives the next event, replayed, or nil when stopTime has come.
func (s *Subscription) next(ctx context.Context) (*record, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if s.over {
		return nil, io.EOF
	}
	if len(s.replay) > 0 {
		r := s.replay[0]
		s.replay[0] = nil // it may have left the log
		s.replay = s.replay[1:]
		return r, nil
	}
	if !s.told {
		s.told, s.replay = true, nil
		return replayed, nil
	}
	var stop <-chan time.Time
	if s.stop != nil {
		stop = s.stop.C
	}
	for {
		select {
		case <-s.done:
			return nil, s.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-s.live:
			if s.timely(r) {
				return r, nil
			}
		case <-stop:
			s.stop.Reset(0) // for the next call, should there be events left
			for {
				select {
				case r := <-s.live:
					if s.timely(r) {
						return r, nil
					}
					continue
				default:
					return nil, nil
				}
			}
		}
	}
}

// timely leaves out what happened after stopTime.
func (s *Subscription) timely(r *record) bool {
	return s.req.Stop.IsZero() || !r.time.After(s.req.Stop)
}

func (s *Subscription) wants(r *record) (bool, error) {
	ok, err := s.req.Filter.match(s.hub, r.tree)
	return ok && err == nil && (s.req.May == nil || s.req.May(r.node)), err
}

// complete writes the notification that ends a replay or a subscription.
func (h *Hub) complete(name string) []byte {
	e, _ := h.Compose(name, nil)
	if e == nil { // the schema of a test may lack the module
		return nil
	}
	e.Time, e.Data = h.now(), data.NewAt(e.Node)
	return h.message(*e)
}
