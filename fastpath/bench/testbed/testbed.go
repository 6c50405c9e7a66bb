// Package testbed runs a whole fast path in the test's own goroutine: ports of
// the memory driver, a clock that stands still, workers and control side turned
// by hand. A test says what it sends, what comes out, and what moved; Moved
// compares every counter, so it fails as well when anything else has moved.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/memory"
)

// Bed is a fast path under test.
type Bed struct {
	T   testing.TB
	E   *fastpath.Local
	Mem *memory.Driver

	now  int64
	seen map[string]uint64
}

// New makes an empty fast path with a software crypto engine; opt may change
// the options. It is closed, and all buffers accounted for, when the test ends.
func New(t testing.TB, opt func(*fastpath.Options)) *Bed {
	t.Helper()
	b := &Bed{T: t, Mem: memory.New(memory.Options{}), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(), seen: map[string]uint64{}}
	reg := &sal.Registry{}
	reg.AddDriver(b.Mem)
	reg.AddDevice(cpu.New("cpu"))
	o := fastpath.Options{Registry: reg, Manual: true, Buffers: 4096, Flows4: 1 << 12, Flows6: 1 << 12, Routes: 1 << 12, Now: func() int64 { return b.now },
		Log: slog.New(slog.NewTextHandler(testWriter{b}, nil))}
	if opt != nil {
		opt(&o)
	}
	e, err := fastpath.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.E = e
	t.Cleanup(b.close)
	return b
}

type testWriter struct{ b *Bed }

func (w testWriter) Write(b []byte) (int, error) {
	w.b.T.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (b *Bed) close() {
	for _, n := range b.ports() {
		b.Mem.Peer(n).Close()
	}
	if err := b.E.Close(); err != nil {
		b.T.Errorf("closing the fast path: %v", err)
	}
}

func (b *Bed) ports() (l []string) {
	for _, i := range b.State(&fastpath.Query{Ifaces: []string{}}).Ifaces {
		l = append(l, i.Device)
	}
	return l
}

// Try commits a change and gives the error.
func (b *Bed) Try(c *fastpath.Change) error {
	b.T.Helper()
	t, err := b.E.Prepare(context.Background(), c)
	if err != nil {
		return err
	}
	return b.E.Publish(context.Background(), t)
}

// Apply commits a change.
func (b *Bed) Apply(c *fastpath.Change) {
	b.T.Helper()
	if err := b.Try(c); err != nil {
		b.T.Fatalf("commit refused: %v", err)
	}
}

// Refused commits a change that must be refused, for this object and field.
func (b *Bed) Refused(c *fastpath.Change, object, field string) {
	b.T.Helper()
	err := b.Try(c)
	var r *fastpath.Refusal
	if !errors.As(err, &r) {
		b.T.Fatalf("commit gave %v, want a refusal", err)
	}
	if r.Object != object || r.Field != field {
		b.T.Errorf("refused for %q %s (%s), want %q %s", r.Object, r.Field, r.Reason, object, field)
	}
}

// State asks for state.
func (b *Bed) State(q *fastpath.Query) *fastpath.State {
	b.T.Helper()
	s, err := b.E.State(context.Background(), q)
	if err != nil {
		b.T.Fatal(err)
	}
	return s
}

// MAC is what the bed gives an interface: 02:00:00:00:00:n.
func MAC(n byte) pkt.MAC { return pkt.MAC{2, 0, 0, 0, 0, n} }

// Iface is a memory interface with both families, forwarding, MTU 1500 and the
// MAC of its number.
func Iface(name string, n byte, addrs ...string) iface.Config {
	c := iface.Config{Name: name, Driver: "memory", Queues: 1, MTU: 1500, MAC: MAC(n), Enabled: true,
		V4: iface.IP{Enabled: true, Forwarding: true}, V6: iface.IP{Enabled: true, Forwarding: true}}
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParsePrefix(a))
	}
	return c
}

// Connected are the routes that addresses of interfaces bring: the prefix, and
// the address itself as Receive; that of all routers in an IPv6 subnet as well.
func Connected(ifs ...iface.Config) (l []route.Config) {
	for _, c := range ifs {
		for _, a := range c.Addrs {
			if !a.IsSingleIP() {
				l = append(l, route.Config{Prefix: a.Masked(), Iface: c.Name})
			}
			l = append(l, route.Config{Prefix: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), Kind: route.Receive, Iface: c.Name})
			if any, ok := pkt.SubnetRouter(a); ok && c.V6.Forwarding && !slices.ContainsFunc(l, func(r route.Config) bool { return r.Prefix.IsSingleIP() && r.Prefix.Addr() == any }) {
				l = append(l, route.Config{Prefix: netip.PrefixFrom(any, 128), Kind: route.Receive, Iface: c.Name})
			}
		}
	}
	return l
}

// Route is a unicast route.
func Route(prefix, via, dev string) route.Config {
	r := route.Config{Prefix: netip.MustParsePrefix(prefix), Iface: dev}
	if via != "" {
		r.NextHop = netip.MustParseAddr(via)
	}
	return r
}

// Neigh is a static neighbour with the MAC of number n.
func Neigh(dev, addr string, n byte) neigh.Config {
	return neigh.Config{Key: neigh.Key{Iface: dev, Addr: netip.MustParseAddr(addr)}, MAC: MAC(n)}
}

// Advance moves the clock and lets timers run.
func (b *Bed) Advance(d time.Duration) {
	b.now += int64(d)
	b.Run()
}

// Send gives frames to a port, without running anything.
func (b *Bed) Send(port string, frames ...[]byte) {
	b.T.Helper()
	p := b.Mem.Peer(port)
	if n := p.Inject(frames...); n != len(frames) {
		b.T.Fatalf("port %s took %d of %d frames", port, n, len(frames))
	}
}

// Run turns everything until nothing moves any more.
func (b *Bed) Run() {
	for quiet := 0; quiet < 2; {
		n := 0
		for i := range max(1, b.workers()) {
			n += b.E.Turn(i)
		}
		b.E.Step()
		if n == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
}

func (b *Bed) workers() int { return b.E.Workers() }

// Recv takes what a port has sent.
func (b *Bed) Recv(port string) [][]byte {
	return b.Mem.Peer(port).Collect(1 << 16)
}

// Exchange sends frames to a port, runs, and takes what each of the ports out
// has sent, in their order.
func (b *Bed) Exchange(in string, frames [][]byte, out ...string) (got [][][]byte) {
	b.T.Helper()
	b.Send(in, frames...)
	b.Run()
	for _, o := range out {
		got = append(got, b.Recv(o))
	}
	return got
}

// counters are all counters by name.
func (b *Bed) counters() map[string]uint64 {
	s := b.State(&fastpath.Query{Ifaces: []string{}, Drops: true, SAs: []string{}, Policies: []string{}})
	m := map[string]uint64{}
	for _, i := range s.Ifaces {
		c := i.Counters
		for n, v := range map[string]uint64{"rx": c.RxPackets, "rx-octets": c.RxOctets, "rx-unicast": c.RxUnicast, "rx-multicast": c.RxMulticast,
			"rx-broadcast": c.RxBroadcast, "tx": c.TxPackets, "tx-octets": c.TxOctets, "tx-unicast": c.TxUnicast, "tx-multicast": c.TxMulticast,
			"tx-broadcast": c.TxBroadcast, "rx-discards": c.RxDiscards, "rx-errors": c.RxErrors, "tx-discards": c.TxDiscards,
			"tx-errors": c.TxErrors, "rx-unknown": c.RxUnknownProtos} {
			m[i.Name+" "+n] = v
		}
	}
	for _, d := range s.Drops {
		for _, i := range d.Ifaces {
			m[i.Iface+" drop "+d.Reason] = i.Packets
		}
	}
	for _, a := range s.SAs {
		m["sa "+a.Name+" packets"], m["sa "+a.Name+" bytes"] = a.Packets, a.Bytes
		for _, e := range a.Errors {
			m["sa "+a.Name+" drop "+e.Reason] = e.Packets
		}
	}
	for _, p := range s.Policies {
		m["policy "+p.Name+" packets"], m["policy "+p.Name+" bytes"] = p.Packets, p.Bytes
	}
	return m
}

// Forget takes all counters as seen.
func (b *Bed) Forget() { b.seen = b.counters() }

// Moved compares what has moved since the last call (or Forget) with want, as
// "a rx 1, b tx 1, a drop no-route 1". Octets and the split by unicast are only
// compared where want names some of them for that interface.
func (b *Bed) Moved(want string) {
	b.T.Helper()
	now := b.counters()
	got := map[string]uint64{}
	for n, v := range now {
		if d := v - b.seen[n]; d != 0 {
			got[n] = d
		}
	}
	b.seen = now
	exp := map[string]uint64{}
	for _, f := range strings.Split(want, ",") {
		if f = strings.TrimSpace(f); f == "" {
			continue
		}
		k := strings.LastIndexByte(f, ' ')
		var n uint64
		if _, err := fmt.Sscan(f[k+1:], &n); err != nil {
			b.T.Fatalf("%q: %v", f, err)
		}
		exp[f[:k]] = n
	}
	for n := range got {
		if strings.HasSuffix(n, "-octets") || strings.HasSuffix(n, "-unicast") || strings.HasSuffix(n, " bytes") ||
			strings.HasSuffix(n, "-multicast") || strings.HasSuffix(n, "-broadcast") {
			if _, named := exp[n]; !named {
				delete(got, n)
			}
		}
	}
	if maps.Equal(got, exp) {
		return
	}
	var lines []string
	for _, n := range slices.Sorted(maps.Keys(got)) {
		if exp[n] != got[n] {
			lines = append(lines, fmt.Sprintf("%s moved by %d, want %d", n, got[n], exp[n]))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(exp)) {
		if got[n] == 0 {
			lines = append(lines, fmt.Sprintf("%s did not move, want %d", n, exp[n]))
		}
	}
	b.T.Errorf("counters:\n\t%s", strings.Join(lines, "\n\t"))
}
