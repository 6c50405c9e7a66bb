package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/rpc"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/supervisor"
)

// This test program is also the data plane that it supervises: with these in
// its environment it serves an engine on a socket, or misbehaves.
const (
	envSocket = "VROUTER_TEST_DATA_PLANE"
	envModes  = "VROUTER_TEST_MODES" // one word for each start; the last one stays
)

func TestMain(m *testing.M) {
	if sock := os.Getenv(envSocket); sock != "" {
		dataPlane(sock)
		return
	}
	os.Exit(m.Run())
}

func dataPlane(sock string) {
	modes := strings.Fields(os.Getenv(envModes))
	n := count(sock + ".starts")
	switch mode := modes[min(n, len(modes))-1]; mode {
	case "dies":
		os.Exit(3)
	case "deaf": // never listens
		time.Sleep(time.Hour)
	case "mute": // listens and says nothing
		l, err := net.Listen("unix", sock)
		if err != nil {
			panic(err)
		}
		for {
			if _, err := l.Accept(); err != nil {
				panic(err)
			}
		}
	}
	l, err := rpc.Listen(sock)
	if err != nil {
		panic(err)
	}
	e := enginetest.New()
	go func() { // something happens all the time
		for {
			e.Log.Add(event.Event{Kind: event.PortUp})
			time.Sleep(2 * time.Millisecond)
		}
	}()
	panic(rpc.Serve(context.Background(), l, e))
}

// count adds one to a number in a file.
func count(file string) int {
	b, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(string(b))
	n++
	if err := os.WriteFile(file, []byte(strconv.Itoa(n)), 0o600); err != nil {
		panic(err)
	}
	return n
}

// bench is a supervisor over data planes in a folder of their own.
type bench struct {
	*testing.T
	sock string
	opt  supervisor.Options
	ups  atomic.Int32
	*supervisor.Supervisor
	stop func()
}

func newBench(t *testing.T, modes string) *bench {
	b := &bench{T: t, sock: filepath.Join(t.TempDir(), "s")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envSocket, b.sock)
	t.Setenv(envModes, modes)
	b.opt = supervisor.Options{
		Dial: func(ctx context.Context) (supervisor.Conn, error) {
			c, err := rpc.Dial(ctx, b.sock)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Command: []string{self},
		LogFile: b.sock + ".log",
		Holder:  b.holder,
		Up:      func(context.Context) error { b.ups.Add(1); return nil },
		Answer:  300 * time.Millisecond, RetryMost: 400 * time.Millisecond,
	}
	if !strings.Contains(modes, "deaf") && !strings.Contains(modes, "mute") {
		b.opt.Answer = 10 * time.Second // nothing is to be said of machines that are slow
	}
	// Whatever a test started and left behind goes with it.
	t.Cleanup(func() {
		if b.stop != nil {
			b.stop()
		}
		if pid := b.holder(); pid > 0 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return b
}

// holder asks the kernel who listens on the socket.
func (b *bench) holder() int {
	c, err := net.Dial("unix", b.sock)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// start runs a supervisor as a management plane would.
func (b *bench) start() {
	b.Supervisor = supervisor.New(b.opt)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	s := b.Supervisor
	go func() { s.Run(ctx); close(over) }()
	b.stop = func() { cancel(); <-over; b.stop = nil }
}

func (b *bench) starts() int {
	text, _ := os.ReadFile(b.sock + ".starts")
	n, _ := strconv.Atoi(string(text))
	return n
}

func (b *bench) until(what string, f func() bool) {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(b.opt.LogFile)
			b.Fatalf("%s: not within 20 s; the data plane's log:\n%s", what, log)
		}
	}
}

func (b *bench) pid() int {
	caps, err := b.Caps(context.Background())
	if err != nil {
		return 0
	}
	return caps.PID
}

func TestStartDeathAndRestart(t *testing.T) {
	b := newBench(t, "serves")
	b.start()
	b.until("the data plane answers", func() bool { return b.pid() != 0 && b.ups.Load() == 1 })
	first, epoch := b.pid(), b.Epoch()
	if first == os.Getpid() || b.Restarts() != 0 {
		t.Fatalf("pid %d, %d restarts", first, b.Restarts())
	}
	if _, err := b.Prepare(context.Background(), &fastpath.Change{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("the data plane is gone", func() bool {
		_, err := b.State(context.Background(), &fastpath.Query{})
		return errors.Is(err, supervisor.ErrDown)
	})
	b.until("another answers and is filled", func() bool { return b.pid() != 0 && b.ups.Load() == 2 })
	t.Logf("back after %v", time.Since(began))
	if b.pid() == first || b.Restarts() != 1 || b.Epoch() == epoch {
		t.Errorf("pid %d after %d, %d restarts, epoch %d after %d", b.pid(), first, b.Restarts(), b.Epoch(), epoch)
	}
}

// The management plane goes and comes back: the data plane lives, and is found.
// Who waits for a data plane gets one soon after it answers, and an error when
// the own time is up, or when nobody starts one.
func TestReady(t *testing.T) {
	b := newBench(t, "serves")
	b.start()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	for range 2 {
		if err := b.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		pid := b.pid()
		if pid == 0 {
			t.Fatal("it is ready and does not answer")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.until("it is gone", func() bool { return b.pid() != pid })
	}
	b.stop()
	over, end := context.WithCancel(context.Background())
	end()
	if err := supervisor.New(b.opt).Ready(over); !errors.Is(err, supervisor.ErrDown) {
		t.Errorf("out of time: %v", err)
	}
	b.opt.Command = nil
	if err := supervisor.New(b.opt).Ready(ctx); !errors.Is(err, supervisor.ErrDown) {
		t.Errorf("nobody starts one: %v", err)
	}
}

func TestFoundAgain(t *testing.T) {
	b := newBench(t, "serves")
	b.start()
	b.until("the data plane answers", func() bool { return b.pid() != 0 })
	pid := b.pid()
	b.stop()
	if _, err := b.Caps(context.Background()); !errors.Is(err, supervisor.ErrDown) {
		t.Errorf("after Run has ended: %v", err)
	}
	b.start()
	b.until("it is found again", func() bool { return b.pid() != 0 })
	if b.pid() != pid || b.starts() != 1 || b.Restarts() != 0 {
		t.Errorf("pid %d after %d, %d starts, %d restarts", b.pid(), pid, b.starts(), b.Restarts())
	}
	// The one that was found is watched like one's own child.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("another answers", func() bool { p := b.pid(); return p != 0 && p != pid })
	b.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	b.until("it is ended", func() bool { return b.holder() == 0 })
	if err := b.Stop(ctx); err != nil {
		t.Errorf("ending nothing: %v", err)
	}
}

// A process that was started and never answers is killed, and another started.
func TestDeafChild(t *testing.T) {
	b := newBench(t, "deaf serves")
	b.start()
	b.until("the second data plane answers", func() bool { return b.pid() != 0 })
	if b.starts() != 2 || b.Restarts() != 0 {
		t.Errorf("%d starts, %d restarts", b.starts(), b.Restarts())
	}
}

// So is one that holds the socket and was started by an earlier management
// plane.
func TestMuteOrphan(t *testing.T) {
	b := newBench(t, "mute serves")
	c := exec.Command(b.opt.Command[0])
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan struct{})
	go func() { _ = c.Wait(); close(died) }()
	t.Cleanup(func() { _ = c.Process.Kill(); <-died })
	b.until("the orphan listens", func() bool { return b.holder() == c.Process.Pid })
	b.start()
	b.until("another answers", func() bool { return b.pid() != 0 })
	select {
	case <-died:
	case <-time.After(10 * time.Second):
		t.Error("the orphan lives")
	}
}

// Without leave to know the holder nothing is killed.
func TestMuteStranger(t *testing.T) {
	b := newBench(t, "serves")
	b.opt.Holder, b.opt.Answer = nil, 300*time.Millisecond
	l, err := net.Listen("unix", b.sock)
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	time.Sleep(4 * b.opt.Answer)
	if b.starts() != 0 {
		t.Error("a second data plane was started beside one that holds the socket")
	}
	l.Close()
	b.until("one is started when the socket is free", func() bool { return b.pid() != 0 })
}

// One that dies at once is not started in a tight loop, and the reason is
// there to be read.
func TestDiesAtOnce(t *testing.T) {
	b := newBench(t, "dies dies dies serves")
	b.start()
	b.until("the fourth lives", func() bool { return b.pid() != 0 })
	if b.starts() != 4 {
		t.Errorf("%d starts", b.starts())
	}
	b2 := newBench(t, "dies")
	begun := time.Now()
	b2.start()
	b2.until("it was tried again", func() bool { return b2.starts() >= 4 })
	// At once, then never sooner than 200 ms after the last.
	if n, gone := b2.starts(), time.Since(begun); n > 2+int(gone/(200*time.Millisecond)) {
		t.Errorf("%d starts in %v", n, gone)
	}
	_, err := b2.Caps(context.Background())
	if !errors.Is(err, supervisor.ErrDown) {
		t.Errorf("got %v", err)
	}
}

// Nothing to start: it is waited for.
func TestNoCommand(t *testing.T) {
	b := newBench(t, "serves")
	command := b.opt.Command
	b.opt.Command = nil
	b.start()
	time.Sleep(50 * time.Millisecond)
	c := exec.Command(command[0])
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	b.until("the one that somebody else started is found", func() bool { return b.pid() == c.Process.Pid })
}

// A program that is not there is an error that says so, not a dead loop.
func TestNoProgram(t *testing.T) {
	b := newBench(t, "serves")
	b.opt.Command = []string{"/no/such/program"}
	b.start()
	b.until("the error is told", func() bool {
		_, err := b.Caps(context.Background())
		return err != nil && strings.Contains(err.Error(), "/no/such/program")
	})
}

// Filling is tried again until it succeeds, and again when asked for; a
// thousand requests at once are not a thousand fillings.
func TestFill(t *testing.T) {
	b := newBench(t, "serves")
	fail := atomic.Int32{}
	fail.Store(3)
	b.opt.Up = func(ctx context.Context) error {
		b.ups.Add(1)
		if fail.Add(-1) >= 0 {
			return errors.New("not yet")
		}
		return nil
	}
	b.start()
	b.until("it is filled", func() bool { return b.ups.Load() == 4 })
	slow := make(chan struct{})
	b.stop()
	b.ups.Store(0)
	b.opt.Up = func(ctx context.Context) error {
		b.ups.Add(1)
		select {
		case <-slow:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	b.start()
	b.until("filling has begun", func() bool { return b.ups.Load() == 1 })
	for range 1000 {
		b.Refill()
	}
	close(slow)
	b.until("it is filled once more", func() bool { return b.ups.Load() >= 2 })
	time.Sleep(50 * time.Millisecond)
	if n := b.ups.Load(); n != 2 {
		t.Errorf("filled %d times", n)
	}
}

// Filling ends with the connection, so that the next data plane does not wait
// for the last one.
func TestFillEndsWithConnection(t *testing.T) {
	b := newBench(t, "serves")
	b.opt.Up = func(ctx context.Context) error {
		if b.ups.Add(1) == 1 {
			<-ctx.Done() // as a call that nobody answers
			return ctx.Err()
		}
		return nil
	}
	b.start()
	b.until("filling has begun", func() bool { return b.ups.Load() == 1 && b.pid() != 0 })
	if err := syscall.Kill(b.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("the next one is filled", func() bool { return b.ups.Load() == 2 })
}

// The process outlives signals meant for its parent: it has a session of its
// own.
func TestOwnSession(t *testing.T) {
	b := newBench(t, "serves")
	b.start()
	b.until("the data plane answers", func() bool { return b.pid() != 0 })
	sid, err := unix.Getsid(b.pid())
	if err != nil || sid != b.pid() {
		t.Errorf("session %d of process %d: %v", sid, b.pid(), err)
	}
}

func Example() {
	fmt.Println(supervisor.ErrDown)
	// Output: the data plane is not running; it is being started
}
