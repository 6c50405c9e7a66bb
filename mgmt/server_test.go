package mgmt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vrouter/fastpath/rpc"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/schema"
)

// This test program is also the data plane that the servers under test start.
const envDataPlane = "VROUTER_TEST_DATA_PLANE"

// envSlow is how long that data plane takes to start.
const envSlow = "VROUTER_TEST_SLOW"

func TestMain(m *testing.M) {
	if os.Getenv(envDataPlane) != "" {
		dataPlane()
		return
	}
	os.Exit(m.Run())
}

// dataPlane serves a model of an engine on the socket that fastpathd would be
// given. Device "nosuch" is not there.
func dataPlane() {
	args := map[string]string{}
	for i := 1; i+1 < len(os.Args); i += 2 {
		args[os.Args[i]] = os.Args[i+1]
	}
	e := enginetest.New()
	e.Refuse = enginetest.WithoutDevice("nosuch")
	e.Answer = enginetest.Living(e)
	if err := os.WriteFile(args["-pid"], []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	slow, _ := time.ParseDuration(os.Getenv(envSlow))
	time.Sleep(slow)
	l, err := rpc.Listen(args["-socket"])
	if err != nil {
		panic(err)
	}
	panic(rpc.Serve(context.Background(), l, e))
}

// site is a server in a folder of its own.
type site struct {
	testing.TB
	opt    Options
	server *Server
	log    *logs
	stop   func() error
}

// logs keeps what a server logs.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newSite(t testing.TB) *site {
	dir := t.TempDir()
	s := &site{TB: t, log: &logs{}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envDataPlane, "1")
	s.opt = Options{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), Fastpathd: []string{self},
		Log: slog.New(slog.NewTextHandler(s.log, nil))}
	t.Cleanup(func() {
		if s.stop != nil {
			if err := s.stop(); err != nil {
				t.Errorf("the server ended with %v", err)
			}
		}
		if pid := holder(FastpathSocket(s.opt.RunDir)); pid > 0 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Log(s.log)
		}
	})
	return s
}

func (s *site) start() {
	s.Helper()
	var err error
	if s.server, err = New(s.opt); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.server.Run(ctx) }()
	s.stop = func() error { cancel(); s.stop = nil; return <-over }
}

func (s *site) until(what string, f func() bool) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("%s: not within 20 s\n%s", what, s.log)
		}
	}
}

// rpc sends one operation in a session of its own and gives the reply.
func (s *site) rpc(op string) string {
	s.Helper()
	c, err := net.Dial("unix", filepath.Join(s.opt.RunDir, "netconf.sock"))
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	const end = "]]>]]>"
	fmt.Fprint(c, `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`+end)
	fmt.Fprint(c, `<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="1">`+op+`</rpc>`+end)
	r := bufio.NewReader(c)
	message := func() string {
		var b strings.Builder
		for !strings.HasSuffix(b.String(), end) {
			x, err := r.ReadByte()
			if err != nil {
				s.Fatalf("after %q: %v", b.String(), err)
			}
			b.WriteByte(x)
		}
		return strings.TrimSuffix(b.String(), end)
	}
	message() // hello
	return message()
}

func (s *site) edit(config string) string {
	s.Helper()
	return s.rpc(`<edit-config><target><running/></target><config>` + config + `</config></edit-config>`)
}

func (s *site) get() string {
	s.Helper()
	return s.rpc(`<get/>`)
}

func (s *site) pid() int {
	b, err := os.ReadFile(filepath.Join(s.opt.RunDir, "fastpathd.pid"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(string(b))
	return n
}

// filled tells that the data plane has an interface.
func (s *site) filled(name string) bool {
	return strings.Contains(s.get(), `<name>`+name+`</name><type xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">ianaift:ethernetCsmacd</type><admin-status>up<`)
}

func linkXML(name string) string {
	return `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">` +
		`<interface><name>` + name + `</name><type>t:ethernetCsmacd</type><ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">` +
		`<address><ip>10.0.0.1</ip><prefix-length>24</prefix-length></address></ipv4></interface></interfaces>`
}

const ok = "<ok/>"

// One life: a first start with a configuration, a change, a refusal, the data
// plane killed, the management plane stopped and started.
func TestLife(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "first.xml")
	if err := os.WriteFile(file, []byte(`<?xml version="1.0"?>`+"\n<!-- to begin with -->\n"+linkXML("first")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.opt.StartupConfig = file
	s.start()
	s.until("the startup configuration is in the data plane", func() bool { return s.filled("first") })
	if got := s.edit(linkXML("second")); !strings.Contains(got, ok) {
		t.Fatal(got)
	}
	if !s.filled("second") {
		t.Errorf("no state of what was committed: %s", s.get())
	}
	got := s.edit(linkXML("nosuch"))
	for _, w := range []string{"operation-failed", "data-plane-refused", "vport:device", "no such device"} {
		if !strings.Contains(got, w) {
			t.Errorf("no %s in %s", w, got)
		}
	}

	// The data plane dies and comes back full.
	pid := s.pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("another data plane is full", func() bool { p := s.pid(); return p != pid && p != 0 && s.filled("first") && s.filled("second") })
	if !strings.Contains(s.get(), "<restarts>1</restarts>") {
		t.Error("the restart is not counted")
	}

	// The management plane goes; the data plane stays; running comes back, and
	// the startup configuration is not looked at again.
	pid = s.pid()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the data plane went with the management plane: %v", err)
	}
	if err := os.WriteFile(file, []byte(linkXML("third")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("the data plane is found again", func() bool { return s.filled("second") })
	if s.pid() != pid || strings.Contains(s.get(), "third") {
		t.Errorf("pid %d after %d; %s", s.pid(), pid, s.get())
	}
	// The versions of running, and the way back to one.
	if got := s.rpc(`<rollback xmlns="urn:vrouter:yang:vrouter-commit"><back>1</back></rollback>`); !strings.Contains(got, ok) {
		t.Fatal(got)
	}
	if got := s.rpc(`<get-config><source><candidate/></source></get-config>`); !strings.Contains(got, "first") || strings.Contains(got, "second") {
		t.Errorf("candidate after rollback: %s", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.server.StopFastpath(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.until("the data plane is ended", func() bool { return holder(FastpathSocket(s.opt.RunDir)) == 0 })
}

// A commit while the data plane is being started waits for it: right after the
// server's start, and after the death of one.
func TestCommitWhileStarting(t *testing.T) {
	s := newSite(t)
	t.Setenv(envSlow, "300ms")
	s.start()
	if got := s.edit(linkXML("a")); !strings.Contains(got, ok) {
		t.Fatalf("a commit at the start: %s", got)
	}
	if !s.filled("a") {
		t.Errorf("no state of what was committed: %s", s.get())
	}
	if err := syscall.Kill(s.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("it is gone", func() bool { return !strings.Contains(s.get(), "<buffers>") })
	if got := s.edit(linkXML("b")); !strings.Contains(got, ok) {
		t.Fatalf("a commit after a death: %s", got)
	}
	if !s.filled("a") || !s.filled("b") {
		t.Errorf("the next data plane does not hold running: %s", s.get())
	}
}

// NETCONF goes on without a data plane: reading, editing candidate; a commit is
// refused and says why.
func TestWithoutDataPlaneFor(t *testing.T) {
	s := newSite(t)
	s.opt.Fastpathd = nil // nobody starts one
	s.start()
	got := s.edit(linkXML("a"))
	if !strings.Contains(got, "operation-failed") || !strings.Contains(got, "the data plane is not running") {
		t.Errorf("a commit without a data plane: %s", got)
	}
	if got := s.rpc(`<edit-config><target><candidate/></target><config>` + linkXML("a") + `</config></edit-config>`); !strings.Contains(got, ok) {
		t.Error(got)
	}
	if got := s.get(); !strings.Contains(got, "<netconf-state") || strings.Contains(got, "<buffers>") {
		t.Error(got)
	}
}

// Without any data plane configuration is checked and kept.
func TestNoFastpath(t *testing.T) {
	s := newSite(t)
	s.opt.NoFastpath = true
	s.start()
	if got := s.edit(linkXML("a")); !strings.Contains(got, ok) {
		t.Fatal(got)
	}
	if got := s.edit(strings.Replace(linkXML("b"), "10.0.0.1", "224.0.0.1", 1)); !strings.Contains(got, "invalid-value") {
		t.Errorf("what no router can have was accepted: %s", got)
	}
	if got := s.get(); strings.Contains(got, "oper-status") || !strings.Contains(got, "10.0.0.0/24") {
		t.Errorf("%s", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("running and the RIB are back", func() bool { return strings.Contains(s.get(), "10.0.0.0/24") })
}

// What is wrong comes out before anything is served, and says what to do.
func TestErrorsAtStart(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := func(text string) string {
		f := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, c := range map[string]struct {
		change func(*site)
		want   []string
	}{
		"port in use": {func(s *site) { s.opt.Listen = []string{busy.Addr().String()} }, []string{"address already in use", busy.Addr().String()}},
		"no users file": {func(s *site) { s.opt.UsersFile = filepath.Join(s.TempDir(), "users.json") },
			[]string{"no such file", "vrouterd user add NAME --users"}},
		"users of others": {func(s *site) {
			f := file(`{"users": []}`)
			if err := os.Chmod(f, 0o666); err != nil {
				t.Fatal(err)
			}
			s.opt.UsersFile = f
		}, []string{"chmod 600"}},
		"startup config missing": {func(s *site) { s.opt.StartupConfig = "/no/such/file" }, []string{"startup configuration", "/no/such/file"}},
		"startup config not XML": {func(s *site) { s.opt.StartupConfig = file("<interfaces") }, []string{"startup configuration"}},
		"startup config unknown": {func(s *site) { s.opt.StartupConfig = file("<nonsense xmlns='urn:x'/>") }, []string{"startup configuration", "unknown-namespace"}},
		"startup config not valid": {func(s *site) {
			s.opt.StartupConfig = file(strings.Replace(linkXML("a"), "<type>t:ethernetCsmacd</type>", "", 1))
		}, []string{"startup configuration", "interface[name='a']/type"}},
		"datastores not a directory": {func(s *site) { s.opt.StateDir = file("") }, []string{"not a directory"}},
		"damaged datastore": {func(s *site) {
			s.opt.NoFastpath = true
			s.start()
			if got := s.edit(linkXML("a")); !strings.Contains(got, ok) {
				t.Fatal(got)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob(filepath.Join(s.opt.StateDir, "datastores", "journal-*"))
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)/2] ^= 0xff
				b = append(b, b...) // not the end of the file: no torn write
				if err := os.WriteFile(f, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"damaged at offset"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.change(s)
			server, err := New(s.opt)
			if err == nil {
				server.close()
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %v", w, err)
				}
			}
			// Whatever was opened is closed again.
			s.opt.Listen, s.opt.UsersFile, s.opt.StartupConfig = nil, "", ""
			if fi, err := os.Stat(s.opt.StateDir); name != "damaged datastore" && (err != nil || fi.IsDir()) {
				if server, err = New(s.opt); err != nil {
					t.Errorf("the next start fails: %v", err)
				} else {
					server.close()
				}
			}
		})
	}
}

// A startup configuration that the data plane refuses ends the server, with
// nothing kept, so that the next start tries again.
func TestStartupConfigRefused(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "first.xml")
	if err := os.WriteFile(file, []byte("<config>"+linkXML("nosuch")+"</config>"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.opt.StartupConfig = file
	server, err := New(s.opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = server.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "no such device") || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("it waited for its end")
	}
	s.opt.StartupConfig = ""
	s.start()
	if strings.Contains(s.get(), "nosuch") {
		t.Error("what was refused is running")
	}
}

// A missing device does not keep the rest down when the data plane comes back.
func TestDeviceGone(t *testing.T) {
	s := newSite(t)
	s.opt.NoFastpath = true // so that it can be committed
	s.start()
	if got := s.edit(linkXML("nosuch") + strings.Replace(linkXML("there"), "10.0.0.1", "10.0.1.1", 1)); !strings.Contains(got, ok) {
		t.Fatal(got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.opt.NoFastpath = false
	s.start()
	s.until("the data plane has the rest", func() bool { return s.filled("there") })
	if s.filled("nosuch") {
		t.Error("it has what is not there")
	}
	s.until("the log says so", func() bool { return strings.Contains(s.log.String(), "no such device") })
	if got := s.edit(strings.Replace(linkXML("more"), "10.0.0.1", "10.0.2.1", 1)); !strings.Contains(got, ok) || !s.filled("more") {
		t.Errorf("a commit about something else: %s", got)
	}
	if got := s.edit(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><interface nc:operation="delete"><name>nosuch</name></interface></interfaces>`); !strings.Contains(got, ok) {
		t.Errorf("it cannot be taken out of running: %s", got)
	}
}

// State may be read beside commits, by many at once.
func TestStateBesideCommits(t *testing.T) {
	s := newSite(t)
	s.start()
	s.until("the data plane is there", func() bool { return strings.Contains(s.edit(linkXML("first")), ok) })
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 15 {
				if got := s.get(); !strings.Contains(got, "<name>first</name>") || strings.Contains(got, "<rpc-error>") {
					t.Errorf("%s", got)
					return
				}
			}
		})
	}
	for i := range 30 {
		if got := s.edit(strings.Replace(linkXML(fmt.Sprintf("eth%d", i%5)), "10.0.0.1", fmt.Sprintf("10.%d.0.1", 1+i), 1)); !strings.Contains(got, ok) {
			t.Errorf("commit %d: %s", i, got)
		}
	}
	all.Wait()
}

// Whatever the file holds, it is read or refused.
func FuzzStartupConfig(f *testing.F) {
	for _, x := range []string{"", "<config/>", "<?xml version='1.0'?>" + linkXML("a"), "<data>" + linkXML("a") + "</data>", "<a", "<!-- -->", "<?x?><!DOCTYPE x><config/>"} {
		f.Add([]byte(x))
	}
	s, err := schema.Load()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := codec.Edit(s, data.New(s), wrap(text), data.Merge)
		if (tree == nil) == (err == nil) {
			t.Errorf("tree %v, error %v", tree, err)
		}
	})
}
