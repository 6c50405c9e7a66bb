package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/rpc"
	"vrouter/pkg/sal/ipsecmb"
)

// The test binary is fastpathd itself when it is told so: what runs below is a
// process of its own, with all that main does to it.
func TestMain(m *testing.M) {
	if os.Getenv("FASTPATHD_TEST_MAIN") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a running fastpathd.
type process struct {
	*testing.T
	dir string
	cmd *exec.Cmd
	log *os.File // the reading end of its standard error
	out chan string
}

func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{T: t, dir: dir, out: make(chan string, 1000)}
	p.cmd = exec.Command(os.Args[0], append([]string{"--socket", p.path("s"), "--state-dir", p.path("state"), "--pid", p.path("pid"), "--buffers", "4096"}, args...)...)
	p.cmd.Env = append(os.Environ(), "FASTPATHD_TEST_MAIN=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.log = r
	p.cmd.Stderr = w
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		r.Close()
	})
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.out <- s.Text()
		}
		close(p.out)
	}()
	return p
}

func (p *process) path(name string) string { return filepath.Join(p.dir, name) }

// dial waits until it answers.
func (p *process) dial() *rpc.Client {
	p.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := rpc.Dial(context.Background(), p.path("s"))
		if err == nil {
			p.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(end) {
			p.Fatalf("it does not answer: %v\n%s", err, p.lines())
		}
	}
}

// lines is what it has logged by now.
func (p *process) lines() string {
	var l []string
	for {
		select {
		case s, ok := <-p.out:
			if !ok {
				return strings.Join(l, "\n")
			}
			l = append(l, s)
		default:
			return strings.Join(l, "\n")
		}
	}
}

// exit waits for the process and gives its status.
func (p *process) exit() int {
	p.Helper()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		p.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestLife(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, "--crypto-threads", "1")
	c := p.dial()
	ctx := context.Background()

	caps, err := c.Caps(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if caps.PID != p.cmd.Process.Pid || !slices.Equal(caps.Drivers, []string{"af-packet", "af-xdp", "memory", "pcap", "tap"}) ||
		len(caps.Engines) < 2 || caps.Engines[0].Name != "cpu0" || !caps.Engines[0].Ready {
		t.Fatalf("%+v", caps)
	}
	if x := caps.Engines[len(caps.Engines)-1]; x.Name != "pool0" || x.Kind != "look-aside" || !x.Ready {
		t.Errorf("%+v", caps)
	}
	// An engine of a library is there if the library is.
	_, err = ipsecmb.New("")
	if n := len(caps.Engines); (n == 3) != (err == nil) || n == 3 && caps.Engines[1].Name != "ipsec-mb" {
		t.Errorf("%d engines; the library: %v", n, err)
	}
	if b, err := os.ReadFile(p.path("pid")); err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(caps.PID) {
		t.Errorf("pid file %q, %v", b, err)
	}
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(caps.PID) + "/limits"); err != nil || !strings.Contains(string(b), "Max core file size        0                    0") {
		t.Errorf("core files are possible, %v:\n%s", err, b)
	}

	if os.Geteuid() == 0 {
		tasks, err := filepath.Glob("/proc/" + strconv.Itoa(caps.PID) + "/task/*")
		if err != nil || len(tasks) < 3 {
			t.Error(tasks, err)
		}
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(caps.PID) + "/autogroup"); err == nil && !strings.HasSuffix(strings.TrimSpace(string(b)), "nice -10") {
			t.Errorf("its session: %s", b)
		}
		for _, f := range tasks {
			b, err := os.ReadFile(f + "/stat")
			if err != nil {
				continue // ended
			}
			if v := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):])); v[17] != "-10" {
				t.Errorf("%s has nice value %s", f, v[17])
			}
		}
	}

	// A change through the socket, and what it leads to.
	tk, err := c.Prepare(ctx, &fastpath.Change{Label: "one",
		Iface: iface.Change{Set: []iface.Config{{Name: "m0", Driver: "memory", Queues: 1, MTU: 1500, Enabled: true, V4: iface.IP{Enabled: true},
			Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(ctx, tk); err != nil {
		t.Fatal(err)
	}
	st, err := c.State(ctx, &fastpath.Query{Ifaces: []string{}, Process: true})
	if err != nil || len(st.Ifaces) != 1 || st.Ifaces[0].Name != "m0" || !st.Ifaces[0].Admin || st.Process.Label != "one" {
		t.Errorf("%+v, %v", st, err)
	}
	_, err = c.Prepare(ctx, &fastpath.Change{Route: route.Change{Set: []route.Config{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Iface: "nope"}}}})
	if r := (*fastpath.Refusal)(nil); !errors.As(err, &r) {
		t.Errorf("a route by no interface: %v", err)
	}

	// Nobody else may use its state.
	q := start(t, dir, "--socket", p.path("other"))
	if code := q.exit(); code != 1 {
		t.Errorf("a second process over one state directory ends with %d", code)
	}
	if l := strings.Join(slices.Collect(func(yield func(string) bool) {
		for s := range q.out {
			if !yield(s) {
				return
			}
		}
	}), "\n"); !strings.Contains(l, "another fastpathd uses it") {
		t.Errorf("it says: %s", l)
	}

	// The parent's terminal goes, then its end of the log.
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.log.Close()
	for range 3 { // each of these would log
		if x, err := net.Dial("unix", p.path("s")); err == nil {
			_, _ = x.Write([]byte{0, 0, 0, 1, 0})
			_, _ = io.ReadAll(x)
			x.Close()
		}
	}
	if _, err := c.Caps(ctx); err != nil {
		t.Errorf("it does not outlive its parent: %v", err)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	<-c.Done()
	for _, f := range []string{"s", "pid"} {
		if _, err := os.Stat(p.path(f)); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", f, err)
		}
	}
}

// TestKilled: after kill -9 the next process takes the socket over.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	c := p.dial()
	_ = p.cmd.Process.Kill()
	p.exit()
	<-c.Done()
	if _, err := c.Caps(context.Background()); !errors.Is(err, rpc.ErrGone) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(p.path("s")); err != nil {
		t.Fatal("the socket should have stayed:", err)
	}
	q := start(t, dir, "--log-level", "error")
	if caps, err := q.dial().Caps(context.Background()); err != nil || caps.PID != q.cmd.Process.Pid {
		t.Errorf("%+v, %v", caps, err)
	}
}

func TestFlags(t *testing.T) {
	c, err := parse([]string{"--socket=/s", "--state-dir", "/d", "--buffers=100", "--workers", "3", "--cpus", "1, 2", "--log-level=debug", "--pid", "/p", "--crypto-threads=2", "--crypto-cpus=0"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.socket != "/s" || c.stateDir != "/d" || c.buffers != 100 || c.workers != 3 || !slices.Equal(c.cpus, []int{1, 2}) || c.logLevel != slog.LevelDebug || c.pidFile != "/p" || c.cryptoThreads != 2 || !slices.Equal(c.cryptoCPUs, []int{0}) {
		t.Errorf("%+v", c)
	}
	for _, args := range [][]string{{"--nope"}, {"--buffers", "0"}, {"--workers", "0"}, {"--cpus", "x"}, {"--cpus", "0,1"}, {"--cpus", "-1"}, {"--nice", "-21"}, {"--log-level", "loud"}, {"--gcm-level", "avx"},
		{"--crypto-threads", "-1"}, {"--crypto-cpus", "0"}, {"word"}} {
		if _, err := parse(args, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%v is accepted", args)
		}
	}
	var help strings.Builder
	if _, err := parse([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "state-dir") {
		t.Errorf("%v\n%s", err, help.String())
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil {
		t.Error("locked twice")
	}
	unlock()
	unlock, err = lockDir(dir)
	if err != nil {
		t.Error(err)
	}
	unlock()
	if _, err := lockDir(filepath.Join(dir, "nope")); err == nil {
		t.Error("a directory that is not there")
	}
}

// litter is an engine whose State leaves garbage.
type litter struct {
	fastpath.Engine
	keep [][]byte
}

func (l *litter) State(context.Context, *fastpath.Query) (*fastpath.State, error) {
	for range 80 {
		l.keep = append(l.keep[:0], make([]byte, 1<<20))
	}
	return nil, nil
}

// TestCollecting: the collector runs when it is told to, and is told to when
// it is worth it.
func TestCollecting(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	c := &collecting{Engine: &litter{}}
	_, _ = c.State(context.Background(), nil)
	if c.kept == 0 {
		t.Error("80 MiB of garbage are left lying")
	}
	if h := heap(); h > 60<<20 {
		t.Errorf("%d MiB after the collection", h>>20)
	}
	before := c.kept
	c.Engine = &litter{}
	c.collect()
	if c.kept != before {
		t.Error("it collects though there is no garbage")
	}
}
