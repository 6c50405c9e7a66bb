package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
)

// echo is an engine that notes what it was asked and answers what the test
// put in.
type echo struct {
	mu      sync.Mutex
	change  *fastpath.Change
	query   *fastpath.Query
	state   *fastpath.State
	inv     *fastpath.Inventory
	next    fastpath.Ticket
	live    map[fastpath.Ticket]bool
	refuse  error
	hold    chan struct{} // Prepare waits for it, or for its context
	entered chan struct{}
	log     *event.Log

	operated fastpath.Operation
}

func newEcho() *echo {
	return &echo{live: map[fastpath.Ticket]bool{}, entered: make(chan struct{}, 8), log: event.NewLog(func() int64 { return 1e18 })}
}

func (e *echo) Caps(context.Context) (*fastpath.Caps, error) {
	return &fastpath.Caps{Version: "1", PID: 42, Drivers: []string{"memory"}, DigestKey: [16]byte{1, 15: 255}}, nil
}

func (e *echo) Operate(_ context.Context, o *fastpath.Operation) error {
	e.operated = *o
	if o.Engine == "none" {
		return &fastpath.Refusal{Feature: "engine", Object: o.Engine, Reason: "there is none"}
	}
	return nil
}

func (e *echo) Inventory(context.Context) (*fastpath.Inventory, error) { return e.inv, nil }

func (e *echo) Prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	e.entered <- struct{}{}
	if e.hold != nil {
		select {
		case <-e.hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.change = c
	if e.refuse != nil {
		return 0, e.refuse
	}
	e.next++
	e.live[e.next] = true
	return e.next, nil
}

func (e *echo) Publish(_ context.Context, t fastpath.Ticket) error {
	return e.Abort(context.Background(), t)
}

func (e *echo) Abort(_ context.Context, t fastpath.Ticket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.live[t] {
		return fmt.Errorf("ticket %d is not known", t)
	}
	delete(e.live, t)
	return nil
}

func (e *echo) State(_ context.Context, q *fastpath.Query) (*fastpath.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.query = q
	return e.state, nil
}

func (e *echo) Events(ctx context.Context, after uint64) (*fastpath.Events, error) {
	return e.log.Read(ctx, after)
}

func (e *echo) Close() error { return nil }

func (e *echo) tickets() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.live)
}

// serve runs a server over e and gives its socket and the way to end it.
func serve(t testing.TB, e fastpath.Engine) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fp.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, e) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return path, stop
}

func dial(t testing.TB, path string) *Client {
	t.Helper()
	c, err := Dial(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func fullChange() *fastpath.Change {
	p4, p6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")
	return &fastpath.Change{
		Label:  "commit 7",
		Global: &fastpath.Global{}, // present though all its fields are zero
		Iface: iface.Change{
			Set: []iface.Config{{Name: "wan", Driver: "af-packet", Device: "eth0", Queues: 2, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 1},
				Enabled: true, V4: iface.IP{Enabled: true, Forwarding: true, MTU: 1400}, Addrs: []netip.Prefix{p4, p6}}},
			Delete: []string{"lan"},
		},
		Neigh: neigh.Change{Set: []neigh.Config{{Key: neigh.Key{Iface: "wan", Addr: netip.MustParseAddr("fe80::1")}, MAC: [6]byte{2, 0, 0, 0, 0, 2}}},
			Delete: []neigh.Key{{Iface: "wan", Addr: netip.MustParseAddr("10.1.0.9")}}},
		Route: route.Change{Set: []route.Config{{Prefix: p4, Kind: route.Blackhole}, {Prefix: p6, Iface: "wan", NextHop: netip.MustParseAddr("2001:db8::1")}},
			Delete: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
		IPsec: ipsec.Change{
			SetPolicy: []ipsec.Policy{{Name: "p", Direction: sal.Outbound, Order: 1 << 60, Action: ipsec.Discard, ReqID: 3,
				Selector: ipsec.Selector{Local: p4, Remote: p6, Proto: -1, LocalPorts: []ipsec.PortRange{{First: 0, Last: 65535}}}}},
			DeletePolicy: []string{"q"},
			SetSA: []ipsec.SA{{Name: "s", ReqID: 3, SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: ipsec.Secret("0123456789abcdef0123"),
				ESN: true, ReplayWindow: 64, Local: netip.MustParseAddr("192.0.2.1"), Offload: ipsec.Offload{Mode: "crypto", Policy: ipsec.Require}}},
			DeleteSA: []string{"r"},
		},
	}
}

func TestValuesSurvive(t *testing.T) {
	e := newEcho()
	path, _ := serve(t, e)
	c := dial(t, path)
	ctx := context.Background()

	caps, err := c.Caps(ctx)
	want, _ := e.Caps(ctx)
	if err != nil || !reflect.DeepEqual(caps, want) {
		t.Errorf("caps %+v, %v", caps, err)
	}

	// Twice: the second time no type is described.
	for range 2 {
		want := fullChange()
		tk, err := c.Prepare(ctx, want)
		if err != nil || tk == 0 {
			t.Fatal(tk, err)
		}
		if !reflect.DeepEqual(e.change, want) {
			t.Errorf("change came as\n%+v, want\n%+v", e.change, want)
		}
		if err := c.Publish(ctx, tk); err != nil {
			t.Error(err)
		}
		if err := c.Publish(ctx, tk); err == nil {
			t.Error("published twice")
		}
	}
	if tk, err := c.Prepare(ctx, &fastpath.Change{}); err != nil {
		t.Error(err)
	} else if !e.change.Empty() {
		t.Errorf("an empty change came as %+v", e.change)
	} else if err := c.Abort(ctx, tk); err != nil {
		t.Error(err)
	}

	op := &fastpath.Operation{What: fastpath.MigrateSA, Engine: "card", SA: "out"}
	if err := c.Operate(ctx, op); err != nil || e.operated != *op {
		t.Errorf("operation came as %+v, %v", e.operated, err)
	}
	var no *fastpath.Refusal
	if err := c.Operate(ctx, &fastpath.Operation{What: fastpath.DrainEngine, Engine: "none"}); !errors.As(err, &no) || no.Object != "none" {
		t.Errorf("refused with %v", err)
	}

	e.inv = &fastpath.Inventory{Label: "x", Objects: map[string]map[string]fastpath.Digest{"route": {"a": {1}, "b": {15: 2}}, "sa": {}}}
	if inv, err := c.Inventory(ctx); err != nil || !reflect.DeepEqual(inv, e.inv) {
		t.Errorf("inventory %+v, %v", inv, err)
	}

	e.state = &fastpath.State{
		Ifaces:  []iface.State{{Name: "wan", Counters: iface.Counters{RxPackets: 1 << 63}}},
		Drops:   []fastpath.Drop{{Reason: "esp-replay", Ifaces: []fastpath.IfaceDrop{{Iface: "wan", Packets: 3}}}},
		SAs:     []ipsec.SAState{{Name: "s", Seq: 1 << 40, Late: []ipsec.Late{{From: 2, To: 3, Packets: 1, Dropped: 2}}, Errors: []ipsec.Error{{Reason: "r", Packets: 1}}}},
		Process: &fastpath.Process{},
	}
	for _, q := range []*fastpath.Query{{}, {Ifaces: []string{}, SAs: []string{"a", "b"}, Routes: true},
		{Neighbours: []string{}, Policies: []string{}, Drops: true, Process: true}} {
		st, err := c.State(ctx, q)
		if err != nil || !reflect.DeepEqual(st, e.state) {
			t.Errorf("state %+v, %v", st, err)
		}
		if !reflect.DeepEqual(e.query, q) {
			t.Errorf("query came as %+v, want %+v", e.query, q)
		}
	}
}

// TestRoutes: whatever a route can be comes back as it was.
func TestRoutes(t *testing.T) {
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, rs := range map[string][]route.Config{
		"none": nil,
		"ways": {{Prefix: netip.PrefixFrom(a4, 32), Iface: "a", NextHop: a6}, {Prefix: netip.PrefixFrom(a6, 0), Iface: "b", NextHop: a4},
			{Prefix: netip.PrefixFrom(a4, 0), Kind: route.Prohibit}, {Prefix: netip.PrefixFrom(a6, 128), Kind: route.Receive, Iface: "a"}},
		"invalid": {{}, {Prefix: netip.PrefixFrom(a4, 33)}, {Prefix: netip.PrefixFrom(netip.Addr{}, 8)}},
		"mapped":  {{Prefix: netip.MustParsePrefix("::ffff:192.0.2.0/120"), NextHop: netip.MustParseAddr("::ffff:1.2.3.4")}},
		"hops":    {{Prefix: netip.PrefixFrom(a4, 0), Hops: route.MakeHops([]route.Hop{{Iface: "a", NextHop: a4}, {Iface: "b", Weight: 7}})}, {Prefix: netip.PrefixFrom(a6, 0), Iface: "a"}},
		"zone":    {{Prefix: netip.PrefixFrom(a6, 64), NextHop: netip.MustParseAddr("fe80::1%wan")}},
	} {
		c := &fastpath.Change{Route: route.Change{Set: rs}}
		got, err := newChange(c).change()
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, w := range []change{{Rows: []byte{0}}, {Rows: []byte{5, 0, 0, 0}}, {Rows: []byte{0, 0, 0, 0, 0}}, {Rows: []byte{0, 0, 0, 0x80}}, {Rows: []byte{0, 0, 0, 0, 4, 1}, Ifaces: []string{"a"}}, {Rows: []byte{0, 0, 0, 0, 0}, Ifaces: []string{"a"}}, {Rows: []byte{0, 0, 0, 0, 0, 9, 1}, Ifaces: []string{"a"}}} {
		if _, err := w.change(); err == nil {
			t.Errorf("rows %x are accepted", w.Rows)
		}
	}
}

func TestErrors(t *testing.T) {
	e := newEcho()
	path, _ := serve(t, e)
	c := dial(t, path)
	e.refuse = fmt.Errorf("wrapped: %w", &fastpath.Refusal{Feature: "sa", Object: "s", Field: "Offload", Reason: "no such engine"})
	_, err := c.Prepare(context.Background(), fullChange())
	var r *fastpath.Refusal
	if !errors.As(err, &r) || r.Object != "s" || r.Field != "Offload" {
		t.Errorf("%#v", err)
	}
	e.refuse = errors.New("out of memory")
	if _, err = c.Prepare(context.Background(), fullChange()); err == nil || err.Error() != "out of memory" {
		t.Errorf("%v", err)
	}
	e.refuse = fmt.Errorf("late: %w", context.DeadlineExceeded)
	if _, err = c.Prepare(context.Background(), fullChange()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestCancel(t *testing.T) {
	e := newEcho()
	e.hold = make(chan struct{})
	path, _ := serve(t, e)
	c := dial(t, path)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error)
	go func() { _, err := c.Prepare(ctx, fullChange()); got <- err }()
	<-e.entered
	if _, err := c.Caps(context.Background()); err != nil {
		t.Errorf("a call beside one that waits: %v", err)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// The engine's Prepare ends too (its context is cancelled): with a ticket
	// if it were too late for that, which must not stay behind.
	close(e.hold)
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-e.entered; cancel() }()
	_, _ = c.Prepare(ctx, fullChange())
	_, err := c.Prepare(context.Background(), fullChange())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return e.tickets() <= 2 })
}

func TestClientLost(t *testing.T) {
	e := newEcho()
	path, _ := serve(t, e)
	a, b := dial(t, path), dial(t, path)
	ctx := context.Background()
	ta, err := a.Prepare(ctx, fullChange())
	if err != nil {
		t.Fatal(err)
	}
	tb, err := b.Prepare(ctx, fullChange())
	if err != nil || ta == tb {
		t.Fatal(ta, tb, err)
	}
	a.Close()
	eventually(t, func() bool { return e.tickets() == 1 })
	if err := b.Publish(ctx, tb); err != nil {
		t.Errorf("the other client's ticket: %v", err)
	}
	if _, err := a.Caps(ctx); !errors.Is(err, ErrGone) {
		t.Errorf("after Close: %v", err)
	}
}

func TestServerLost(t *testing.T) {
	e := newEcho()
	e.hold = make(chan struct{})
	path, stop := serve(t, e)
	c := dial(t, path)
	got := make(chan error, 3)
	for range cap(got) {
		go func() { _, err := c.Prepare(context.Background(), fullChange()); got <- err }()
	}
	for range cap(got) {
		<-e.entered
	}
	stop()
	for range cap(got) {
		select {
		case err := <-got:
			// Cancelled by the server on its way out, or cut off.
			if !errors.Is(err, ErrGone) && !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a call hangs though the server is gone")
		}
	}
	<-c.Done()
	if _, err := c.Caps(context.Background()); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestHungServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	path, _ := serve(t, newEcho())
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := newWriter(c).send(&request{Method: mHello, Version: Version + 1}); err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := newReader(c).receive(&a); err != nil || a.Err == nil || !errors.Is(a.Err.err(), ErrVersion) {
		t.Errorf("%+v, %v", a.Err, err)
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("two listen on one socket")
	}
	l.(*listener).UnixListener.Close() // as if killed: the file stays
	if l, err = Listen(path); err != nil {
		t.Errorf("a dead socket is not replaced: %v", err)
	}
	l.Close()
}

func TestBadFrames(t *testing.T) {
	path, _ := serve(t, newEcho())
	for name, b := range map[string][]byte{
		"zero":  {0, 0, 0, 0},
		"huge":  {0xff, 0xff, 0xff, 0xff},
		"trash": append([]byte{0, 0, 0, 8}, "trashing"...),
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server goes on: %d, %v", name, n, err)
		}
		c.Close()
	}
	if _, err := dial(t, path).Caps(context.Background()); err != nil {
		t.Error("the server has died:", err)
	}
}

// TestBuffersWiped: what was sent and received does not stay in buffers.
func TestBuffersWiped(t *testing.T) {
	a, b := net.Pipe()
	w, r := newWriter(a), newReader(b)
	secret := "a secret that is easy to find"
	go func() { _ = w.send(&request{Change: newChange(&fastpath.Change{Label: secret})}) }()
	var q request
	if err := r.receive(&q); err != nil || q.Change.Label != secret {
		t.Fatal(q, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, buf := range [][]byte{w.buf.AvailableBuffer(), r.buf} {
		for _, x := range buf[:cap(buf)] {
			if x != 0 {
				t.Fatal("a buffer still holds the message")
			}
		}
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
	}
}

// FuzzReceive: no stream of bytes makes the reader panic or allocate beyond
// what it was sent.
func FuzzReceive(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, z := net.Pipe()
		go func() { _, _ = z.Write(b); z.Close() }()
		r := newReader(a)
		for {
			var q request
			if r.receive(&q) != nil {
				break
			}
			if q.Change != nil {
				_, _ = q.Change.change()
			}
		}
		a.Close()
	})
}

// FuzzRows: rows that are accepted come back as the same rows.
func FuzzRows(f *testing.F) {
	f.Fuzz(func(t *testing.T, rows []byte) {
		w := change{Rows: rows, Ifaces: []string{"a", "b"}}
		c, err := w.change()
		if err != nil {
			return
		}
		again, err := newChange(c).change()
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

// TestSeeds holds the fuzzer's corpus against the messages it was made from;
// VROUTER_UPDATE=1 writes it anew.
func TestSeeds(t *testing.T) {
	for name, q := range map[string]*request{
		"hello":  {Method: mHello, Version: Version},
		"change": {ID: 1, Method: mPrepare, Change: newChange(fullChange())},
		"state":  {ID: 2, Method: mState, Query: newQuery(&fastpath.Query{SAs: []string{}})},
	} {
		path := filepath.Join("testdata", "fuzz", "FuzzReceive", name)
		if os.Getenv("VROUTER_UPDATE") != "" {
			var b bytes.Buffer
			if err := newWriter(&b).send(q); err != nil {
				t.Fatal(err)
			}
			seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b.Bytes())
			if err := os.WriteFile(path, []byte(seed), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		seed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var b string
		if _, err := fmt.Sscanf(string(seed), "go test fuzz v1\n[]byte(%q)", &b); err != nil {
			t.Fatal(err)
		}
		var got request
		if err := newReader(strings.NewReader(b)).receive(&got); err != nil || got.Method != q.Method {
			t.Errorf("%s no longer decodes: %v", name, err)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	e := newEcho()
	path, _ := serve(b, e)
	c := dial(b, path)
	ctx := context.Background()
	one := &fastpath.Change{Route: route.Change{Set: []route.Config{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Iface: "wan"}}}}
	many := &fastpath.Change{}
	for i := range 100000 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i))
		many.Route.Set = append(many.Route.Set, route.Config{Prefix: netip.PrefixFrom(netip.AddrFrom4(a), 32), Iface: "wan", NextHop: netip.AddrFrom4(a)})
	}
	sas := &fastpath.Change{}
	for i := range 10000 {
		s := fullChange().IPsec.SetSA[0]
		s.Name = fmt.Sprint("sa-", i)
		sas.IPsec.SetSA = append(sas.IPsec.SetSA, s)
	}
	e.inv = &fastpath.Inventory{Objects: map[string]map[string]fastpath.Digest{"route": {}}}
	for _, r := range many.Route.Set {
		e.inv.Objects["route"][r.ObjectKey()] = fastpath.Digest{1, 2, 3}
	}
	for _, bc := range []struct {
		name string
		c    *fastpath.Change
	}{{"one-route", one}, {"100000-routes", many}, {"10000-sas", sas}} {
		b.Run("Prepare/"+bc.name, func(b *testing.B) {
			for b.Loop() {
				t, err := c.Prepare(ctx, bc.c)
				if err != nil {
					b.Fatal(err)
				}
				<-e.entered
				b.StopTimer()
				_ = c.Abort(ctx, t)
				b.StartTimer()
			}
		})
	}
	b.Run("Inventory/100000-routes", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Inventory(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
