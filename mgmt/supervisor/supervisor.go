// Package supervisor keeps a data plane process running and reachable. It
// finds one that runs already (the management plane may have restarted, the
// data plane went on forwarding), starts one where there is none, and starts
// another when it dies. Towards the rest it is a fastpath.Engine that is
// sometimes down.
//
// It never stops a data plane that works: ending vrouterd leaves packets
// flowing. Stop ends both, for those who want that.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
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
	// Dial connects to the data plane's socket.
	Dial func(ctx context.Context) (Conn, error)
	// Command starts a data plane; empty: never start one, only wait for it.
	Command []string
	// LogFile takes the data plane's standard error. A file, no pipe: the
	// process outlives its parent.
	LogFile string
	// Up is called each time a data plane has been found or started, before
	// the next attempt to find out that it died. It fills the data plane; on
	// error it is called again after a pause.
	Up  func(ctx context.Context) error
	Log *slog.Logger
}

// A Supervisor is made by New and works while Run runs.
type Supervisor struct {
	o    Options
	mu   sync.RWMutex
	conn Conn
	runs int // connections so far
	// started is the pid of the process this supervisor started, 0 none.
	started int
}

// New makes a Supervisor.
func New(o Options) *Supervisor { return &Supervisor{o: o} }

// retryPause is how long to wait between attempts to start or fill a data
// plane. The first attempt follows a death at once.
const retryPause = 200 * time.Millisecond

// Run keeps the data plane up until ctx ends. The data plane is left running.
func (s *Supervisor) Run(ctx context.Context) {
	var child chan struct{} // closed when the process we started has ended
	for ctx.Err() == nil {
		conn, err := s.o.Dial(ctx)
		if err != nil {
			if child == nil && len(s.o.Command) > 0 {
				if child, err = s.start(); err != nil {
					s.o.Log.Error("starting the data plane", "err", err)
				}
			}
			select {
			case <-child: // nil while there is none: waits for the pause
				s.o.Log.Error("the data plane ended before it answered; see its log", "log", s.o.LogFile)
				child = nil
				pause(ctx, retryPause)
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		s.up(conn)
		s.fill(ctx, conn)
		select {
		case <-conn.Done():
			s.o.Log.Error("the data plane is gone; starting another")
		case <-ctx.Done():
		}
		s.up(nil)
		conn.Close()
		if child != nil {
			select {
			case <-child:
				child = nil
			default: // the connection ended, the process did not: dial again
			}
		}
	}
}

// fill calls Up until it is content or the data plane is gone again.
func (s *Supervisor) fill(ctx context.Context, conn Conn) {
	for ctx.Err() == nil {
		err := s.o.Up(ctx)
		if err == nil {
			return
		}
		s.o.Log.Error("filling the data plane from running", "err", err)
		select {
		case <-conn.Done():
			return
		case <-ctx.Done():
		case <-time.After(5 * retryPause):
		}
	}
}

// start runs the command in a session of its own, so that no signal meant for
// this process reaches it.
func (s *Supervisor) start() (chan struct{}, error) {
	if err := os.MkdirAll(filepath.Dir(s.o.LogFile), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(s.o.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(s.o.Command[0], s.o.Command[1:]...)
	c.Stderr, c.Stdout = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("starting the data plane: %w", err)
	}
	s.mu.Lock()
	s.started = c.Process.Pid
	s.mu.Unlock()
	s.o.Log.Info("data plane started", "pid", c.Process.Pid)
	done := make(chan struct{})
	go func() {
		err := c.Wait()
		s.o.Log.Warn("data plane ended", "pid", c.Process.Pid, "err", err)
		close(done)
	}()
	return done, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *Supervisor) up(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	if c != nil {
		s.runs++
	}
}

// Restarts counts how often the data plane came back after the first time.
func (s *Supervisor) Restarts() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return max(0, s.runs-1)
}

func (s *Supervisor) engine() (fastpath.Engine, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.conn == nil {
		return nil, ErrDown
	}
	return s.conn, nil
}

// Caps implements fastpath.Engine, as do all below; each fails with ErrDown
// while there is no data plane.
func (s *Supervisor) Caps(ctx context.Context) (*fastpath.Caps, error) {
	e, err := s.engine()
	if err != nil {
		return nil, err
	}
	return e.Caps(ctx)
}

func (s *Supervisor) Inventory(ctx context.Context) (*fastpath.Inventory, error) {
	e, err := s.engine()
	if err != nil {
		return nil, err
	}
	return e.Inventory(ctx)
}

func (s *Supervisor) Prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	e, err := s.engine()
	if err != nil {
		return 0, err
	}
	return e.Prepare(ctx, c)
}

func (s *Supervisor) Publish(ctx context.Context, t fastpath.Ticket) error {
	e, err := s.engine()
	if err != nil {
		return err
	}
	return e.Publish(ctx, t)
}

func (s *Supervisor) Abort(ctx context.Context, t fastpath.Ticket) error {
	e, err := s.engine()
	if err != nil {
		return err
	}
	return e.Abort(ctx, t)
}

func (s *Supervisor) State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error) {
	e, err := s.engine()
	if err != nil {
		return nil, err
	}
	return e.State(ctx, q)
}

// Close is there for the interface; Run owns the connection.
func (s *Supervisor) Close() error { return nil }

// Stop ends the data plane process that answers now, politely, and waits until
// the connection is gone or ctx ends. Run must have ended.
func (s *Supervisor) Stop(ctx context.Context) error {
	conn, err := s.o.Dial(ctx)
	if err != nil {
		return nil // nothing to stop
	}
	defer conn.Close()
	caps, err := conn.Caps(ctx)
	if err != nil {
		return err
	}
	if err := syscall.Kill(caps.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending data plane %d: %w", caps.PID, err)
	}
	select {
	case <-conn.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
