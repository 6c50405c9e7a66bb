// Package supervisor keeps a data plane process running and reachable. It
// finds one that runs already (the management plane may have restarted, the
// data plane went on forwarding), starts one where there is none, and starts
// another when it dies. Towards the rest it is a fastpath.Engine that is
// sometimes down (engine.go).
//
// It never stops a data plane that works: ending vrouterd leaves packets
// flowing. One that holds the socket, or was started, and does not answer is
// ended after a while and replaced; Stop ends one that works, for those who want
// that.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"vrouter/fastpath"
)

// ErrDown says that there is no data plane at the moment.
var ErrDown = errors.New("the data plane is not running; it is being started")

// Conn is an Engine over a connection that may end.
type Conn interface {
	fastpath.Engine
	// Done is closed when the connection is lost.
	Done() <-chan struct{}
}

// Options of New.
type Options struct {
	// Dial connects to the data plane's socket. It fails with
	// syscall.ECONNREFUSED or ENOENT when nobody is there.
	Dial func(ctx context.Context) (Conn, error)
	// Command starts a data plane; empty: never start one, only wait for it.
	Command []string
	// LogFile takes the data plane's standard error. A file, no pipe: the
	// process outlives its parent.
	LogFile string
	// Holder tells the process that holds the socket, 0 for none or unknown.
	// May be nil; then one that does not answer and was not started here is
	// waited for.
	Holder func() int
	// Up is called each time a data plane has been found or started, and when
	// Refill asks for it. It fills the data plane; on error it is called again
	// after a pause. Its context ends with the connection.
	Up func(ctx context.Context) error
	// Event, when set, is given each event of the data plane, one at a time and
	// in order. What happened while nobody was connected comes then, as far as
	// the data plane has kept it; one that is being given while the connection
	// ends may come twice.
	Event func(e *fastpath.Event)
	Log   *slog.Logger

	// Answer is how long a process that was started, or that holds the socket,
	// may take to answer before it is killed; 0 is 10 s.
	Answer time.Duration
	// RetryMost is the longest pause between attempts to start a process that
	// dies at once, and between attempts to fill one; 0 is 10 s.
	RetryMost time.Duration
}

// A Supervisor is made by New and works while Run runs.
type Supervisor struct {
	o      Options
	refill chan struct{}

	mu       sync.RWMutex
	conn     Conn
	up       chan struct{} // closed when the next connection is there
	epoch    uint64        // counts connections
	restarts int           // processes started after the first connection
	why      error         // why there is no connection, as far as is known
}

// New makes a Supervisor.
func New(o Options) *Supervisor {
	if o.Answer == 0 {
		o.Answer = 10 * time.Second
	}
	if o.RetryMost == 0 {
		o.RetryMost = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{o: o, refill: make(chan struct{}, 1), up: make(chan struct{})}
}

// The pauses of Run: between looks at a process that is about to listen, and
// the first of those that grow. A death is followed by a start at once.
const (
	look       = 10 * time.Millisecond
	retryFirst = 200 * time.Millisecond
	dialLimit  = 2 * time.Second
	// settled is how long a process must live for its death to be followed by
	// a start without a pause.
	settled = 5 * time.Second
)

// Run keeps the data plane up until ctx ends. The data plane is left running.
func (s *Supervisor) Run(ctx context.Context) {
	var p *process // that we started, until it has ended
	var mute time.Time
	var retry backoff
	retry.most = s.o.RetryMost
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		if err == nil {
			mute = time.Time{}
			s.use(ctx, conn)
			continue
		}
		s.note(err)
		switch {
		case p != nil && p.ended():
			p = s.died(ctx, p, &retry)
		case p != nil && time.Since(p.started) > s.o.Answer:
			s.o.Log.Error("the data plane was started and does not answer: it is killed", "pid", p.pid(), "after", s.o.Answer, "err", err)
			p.kill()
		case p != nil:
			p.wait(ctx, look)
		case !absent(err): // somebody holds the socket
			if mute.IsZero() {
				mute = time.Now()
			}
			if time.Since(mute) > s.o.Answer {
				s.evict(err)
				mute = time.Now()
			}
			pause(ctx, 10*look)
		case len(s.o.Command) == 0:
			pause(ctx, retryFirst)
		default:
			mute = time.Time{}
			if p, err = start(s.o.Command, s.o.LogFile); err != nil {
				s.note(err)
				s.o.Log.Error("the data plane cannot be started", "err", err)
				pause(ctx, retry.next())
				continue
			}
			s.started(p)
		}
	}
}

func (s *Supervisor) dial(ctx context.Context) (Conn, error) {
	ctx, stop := context.WithTimeout(ctx, dialLimit)
	defer stop()
	return s.o.Dial(ctx)
}

// absent tells that nobody listens.
func absent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// died looks back at a process that has ended. One that lived is followed by
// another at once, one that did not after a pause.
func (s *Supervisor) died(ctx context.Context, p *process, retry *backoff) *process {
	lived := time.Since(p.started)
	s.o.Log.Error("the data plane has ended", "pid", p.pid(), "how", p.how, "after", lived.Round(time.Millisecond), "log", s.o.LogFile)
	if lived >= settled {
		retry.reset()
		return nil
	}
	pause(ctx, retry.next())
	return nil
}

// evict ends a process that holds the socket and does not answer.
func (s *Supervisor) evict(why error) {
	pid := 0
	if s.o.Holder != nil {
		pid = s.o.Holder()
	}
	if pid <= 0 {
		s.o.Log.Error("somebody holds the data plane's socket and does not answer", "err", why)
		return
	}
	s.o.Log.Error("a data plane that does not answer is killed", "pid", pid, "after", s.o.Answer, "err", why)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.o.Log.Error("it cannot be killed", "pid", pid, "err", err)
	}
}

func (s *Supervisor) started(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch > 0 {
		s.restarts++
	}
	s.o.Log.Info("data plane started", "pid", p.pid())
}

// use serves one connection until it or ctx ends.
func (s *Supervisor) use(ctx context.Context, conn Conn) {
	select { // of an earlier connection; this one is filled anyhow
	case <-s.refill:
	default:
	}
	s.set(conn)
	ears, deaf := context.WithCancel(ctx)
	var listening sync.WaitGroup
	if s.o.Event != nil {
		listening.Go(func() { s.listen(ears, conn) })
	}
	s.keepFilled(ctx, conn)
	deaf()
	listening.Wait()
	select {
	case <-conn.Done():
		s.note(errors.New("it went away"))
		s.o.Log.Error("the data plane is gone")
	default:
	}
	s.set(nil)
	conn.Close()
}

// keepFilled calls Up until it is content, and again when Refill was called.
func (s *Supervisor) keepFilled(ctx context.Context, conn Conn) {
	up, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-conn.Done():
			stop()
		case <-up.Done():
		}
	}()
	retry := backoff{most: s.o.RetryMost}
	for {
		var again <-chan time.Time
		if err := s.o.Up(up); err == nil {
			retry.reset()
		} else if up.Err() == nil {
			d := retry.next()
			s.o.Log.Error("the data plane could not be filled from running; it will be tried again", "in", d, "err", err)
			t := time.NewTimer(d)
			defer t.Stop()
			again = t.C
		}
		select {
		case <-up.Done():
			return
		case <-s.refill:
		case <-again:
		}
	}
}

// listen hands on the data plane's events until ctx or the connection ends.
func (s *Supervisor) listen(ctx context.Context, conn Conn) {
	after := fastpath.EventsResume
	retry := backoff{most: s.o.RetryMost}
	for {
		l, err := conn.Events(ctx, after)
		if err != nil {
			select {
			case <-conn.Done():
				return
			default:
			}
			if ctx.Err() != nil {
				return
			}
			s.o.Log.Error("the data plane does not tell its events; it will be asked again", "err", err)
			pause(ctx, retry.next())
			continue
		}
		retry.reset()
		if l.Lost > 0 {
			s.o.Log.Warn("events of the data plane are lost: it keeps only so many", "events", l.Lost)
		}
		for i := range l.Events {
			s.o.Event(&l.Events[i])
			after = l.Events[i].Number
		}
	}
}

// Refill has Up called once more: the data plane may not hold what it should.
// It does not wait, and many calls at once are one.
func (s *Supervisor) Refill() {
	select {
	case s.refill <- struct{}{}:
	default:
	}
}

func (s *Supervisor) set(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn = c; c == nil {
		return
	}
	s.epoch++
	s.why = nil
	close(s.up)
	s.up = make(chan struct{})
}

// Ready waits until a data plane answers; it may not be filled yet. It fails
// with ErrDown when ctx ends before, and at once when there is none and none is
// started here.
func (s *Supervisor) Ready(ctx context.Context) error {
	s.mu.RLock()
	conn, up, why := s.conn, s.up, s.why
	s.mu.RUnlock()
	if conn != nil {
		select {
		case <-conn.Done(): // Run has not noticed yet
		default:
			return nil
		}
	}
	if len(s.o.Command) == 0 {
		return down(why)
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return down(ctx.Err())
	}
}

func (s *Supervisor) note(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

// Restarts counts how often a data plane had to be started after the first one.
func (s *Supervisor) Restarts() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.restarts
}

// Epoch counts connections: while it stays the same, so does the data plane.
func (s *Supervisor) Epoch() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// Stop ends the data plane that answers now, politely, and when ctx ends
// before it has, by force. Run must have ended.
func (s *Supervisor) Stop(ctx context.Context) error {
	conn, err := s.dial(ctx)
	if absent(err) {
		return nil // nothing to stop
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	caps, err := conn.Caps(ctx)
	if err != nil {
		return err
	}
	if caps.PID <= 0 {
		return errors.New("the data plane does not tell its process number")
	}
	if err := syscall.Kill(caps.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending data plane %d: %w", caps.PID, err)
	}
	select {
	case <-conn.Done():
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("data plane %d did not end by itself and was killed", caps.PID), syscall.Kill(caps.PID, syscall.SIGKILL))
	}
}

// backoff gives pauses that grow.
type backoff struct{ last, most time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, retryFirst), b.most)
	return b.last
}

func (b *backoff) reset() { b.last = 0 }

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
