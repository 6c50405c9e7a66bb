package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/apply"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/feature/ipsec"
	"vrouter/mgmt/feature/neigh"
	"vrouter/mgmt/feature/route"
	"vrouter/mgmt/feature/system"
	"vrouter/mgmt/history"
	"vrouter/mgmt/netconf"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
)

// A bed is a vRouter without packets: NETCONF server, datastores on disk and
// bindings are the real ones; the data plane accepts everything but what the
// test says, and tells made-up state (engine_test.go).
type bed struct {
	t      testing.TB
	dir    string
	srv    *netconf.Server
	mgr    *txn.Manager
	events *notify.Hub
	engine *engine
	clock  *clock
	users  string // users file
	keys   []ssh.Signer
	ctx    context.Context
	all    sync.WaitGroup
}

func newBed(t testing.TB) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // short: the path of a unix socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bed{t: t, dir: dir, engine: &engine{state: canned()}, clock: &clock{}}
	// Nothing of the user's own gets in.
	t.Setenv("HOME", dir)
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("VROUTER_SOCKET", b.socket("alice"))
	t.Setenv("NO_COLOR", "")

	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	store, err := datastore.Open(datastore.Options{Dir: filepath.Join(dir, "state"), Schema: s, Validator: v, Log: log, Now: b.clock.Now, History: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	sys, err1 := system.New(s, b.engine, func() int { return 1 })
	ifs, err2 := iface.New(s, b.engine)
	nei, err3 := neigh.New(s, b.engine)
	rib, err4 := route.New(s)
	sec, err5 := ipsec.New(s, b.engine)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	app, err := apply.New(s, b.engine, []binding.Binding{sys, ifs, nei, rib, sec}, log)
	if err != nil {
		t.Fatal(err)
	}
	if b.mgr, err = txn.New(txn.Options{Schema: s, Validator: v, Store: store, Applier: app, Clock: b.clock, Log: log,
		OnCommit: func(e txn.Event) { b.srv.Committed(e) }}); err != nil {
		t.Fatal(err)
	}
	b.users = filepath.Join(dir, "users.json")
	b.writeUsers(`{"users": []}`)
	u, err := users.Open(b.users, log)
	if err != nil {
		t.Fatal(err)
	}
	if b.keys, err = transport.HostKeys(dir); err != nil {
		t.Fatal(err)
	}
	if b.events, err = notify.New(notify.Options{Schema: s}); err != nil {
		t.Fatal(err)
	}
	past := history.New(s, b.mgr)
	b.srv, err = netconf.New(netconf.Options{Schema: s, Manager: b.mgr, Users: u, HostKeys: b.keys, Events: b.events, Log: log,
		State: []binding.StateSource{sys, ifs, nei, rib, sec, past}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.srv.HandleRPC(history.Module, "rollback", past.Rollback); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.ctx = ctx
	t.Cleanup(func() {
		stop()
		b.all.Wait()
		if err := b.mgr.Close(); err != nil {
			t.Error(err)
		}
	})
	b.serve("alice", users.Admin)
	b.serve("bob", users.Operator)
	return b
}

func (b *bed) socket(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) writeUsers(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.users, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// serve listens on a unix socket on which everybody is that user.
func (b *bed) serve(name string, role users.Role) {
	b.t.Helper()
	l, err := net.Listen("unix", b.socket(name))
	if err != nil {
		b.t.Fatal(err)
	}
	context.AfterFunc(b.ctx, func() { l.Close() })
	peer := transport.Peer{User: users.User{Name: name, Role: role}, Transport: transport.LocalTransport}
	b.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.all.Go(func() { b.srv.ServeStream(b.ctx, c, peer) })
		}
	})
}

// A result is what a run of the command came to.
type result struct {
	out, err string
	code     int
}

// try runs the command as alice, unless the arguments say otherwise.
func (b *bed) try(args ...string) result {
	return run(nil, strings.NewReader(""), args...)
}

// run runs the command; change may prepare it.
func run(change func(*app), in io.Reader, args ...string) result {
	var out, errOut bytes.Buffer
	a := newApp(in, &out, &errOut)
	if change != nil {
		change(a)
	}
	code := a.run(args)
	return result{out.String(), errOut.String(), code}
}

// must runs the command, which must succeed, and gives its output.
func (b *bed) must(args ...string) string {
	b.t.Helper()
	r := b.try(args...)
	if r.code != 0 || r.err != "" {
		b.t.Fatalf("vrouterctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// clock stands still, and its timers go off when the test says so.
type clock struct {
	mu     sync.Mutex
	timers map[*func()]bool
}

func (c *clock) Now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func (c *clock) AfterFunc(_ time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timers == nil {
		c.timers = map[*func()]bool{}
	}
	c.timers[&f] = true
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.timers[&f]
		delete(c.timers, &f)
		return was
	}
}

// fire lets all timers go off.
func (c *clock) fire() {
	c.mu.Lock()
	due := c.timers
	c.timers = nil
	c.mu.Unlock()
	for f := range due {
		(*f)()
	}
}
