package fastpath_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/pkg/sal"
)

// plug is a driver whose devices can be pulled out.
type plug struct {
	there bool
	name  string // "plug" when it is ""
	// up is what was done last to the device that all ports are on.
	up    *bool
	ports []*plugPort
}

func (d *plug) Name() string {
	if d.name != "" {
		return d.name
	}
	return "plug"
}

func (d *plug) Open(cfg sal.PortConfig, pool *sal.Pool) (sal.Port, error) {
	if !d.there {
		return nil, sal.ErrNotFound
	}
	p := &plugPort{d: d, queues: 1, cfg: cfg, pool: pool, out: make([]uint32, 3)}
	p.out = p.out[:pool.Take(p.out)]
	d.ports = append(d.ports, p)
	return p, nil
}

type plugPort struct {
	queues, most         int // most: it can have as many while it is open
	d                    *plug
	cfg                  sal.PortConfig
	pool                 *sal.Pool
	out                  []uint32
	up, lost, closed     bool
	turns, downs, closes int
}

func (p *plugPort) Info() sal.PortInfo {
	return sal.PortInfo{Name: p.cfg.Name, Driver: "plug", Device: p.cfg.Name, Queues: p.queues, MAC: p.cfg.MAC}
}
func (p *plugPort) Queue(int) sal.PortQueue { return p }
func (p *plugPort) Link() bool              { return p.up && !p.lost }
func (p *plugPort) Lost() bool              { return p.lost }
func (p *plugPort) Stats() sal.PortStats    { return sal.PortStats{RxDropped: 5, RxUncut: 2} }
func (p *plugPort) Wake() int               { return -1 }
func (p *plugPort) Held() int               { return len(p.out) }

func (p *plugPort) SetUp(up bool) error {
	if p.up = up; !up {
		p.downs++
	}
	if p.d.up != nil {
		*p.d.up = up
	}
	return nil
}

func (p *plugPort) AddQueues(n int) error {
	p.queues = max(p.queues, min(n, p.most))
	if n > p.most {
		return sal.ErrNotSupported
	}
	return nil
}

func (p *plugPort) Close() error {
	p.closed = true
	p.closes++
	for _, b := range p.out {
		p.pool.Return([]sal.Desc{sal.MakeDesc(b, 0, 0)})
	}
	p.out = nil
	return nil
}

func (p *plugPort) RxBurst(*sal.Cache, []sal.Desc) int {
	if p.turns++; p.closed {
		panic("a closed port is used")
	}
	return 0
}

func (p *plugPort) TxBurst(c *sal.Cache, d []sal.Desc) int { c.FreeDescs(d); return len(d) }

// TestLost: a port whose device is gone is closed when no worker uses it, and
// opened again when there is a device; its counters and buffers are not lost.
func TestLost(t *testing.T) {
	d := &plug{there: true}
	b := testbed.New(t, func(o *fastpath.Options) { o.Registry.AddDriver(d) })
	c := testbed.Iface("a", 1, "10.0.0.1/24")
	c.Driver = "plug"
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	tick := func() {
		b.Advance(200 * time.Millisecond)
		b.E.Step()
		b.E.Turn(0)
	}
	state := func() iface.State { return b.State(&fastpath.Query{Ifaces: []string{"a"}}).Ifaces[0] }
	tick()
	if s := state(); !s.Link || s.Queues != 1 || s.Counters.RxDiscards != 5 || s.Counters.RxErrors != 2 || s.Counters.RxUncut != 2 {
		t.Fatalf("%+v", s)
	}
	first := d.ports[0]

	// A change that is prepared has the port in its snapshot: it stays till then.
	ticket, err := b.E.Prepare(context.Background(), &fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	if err != nil {
		t.Fatal(err)
	}
	first.lost, d.there = true, false
	for range 3 {
		tick()
	}
	if first.closed {
		t.Error("the port is closed while a change is prepared that has it")
	}
	if err := b.E.Abort(context.Background(), ticket); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		tick()
	}
	if !first.closed || first.closes != 1 || first.downs != 0 {
		t.Errorf("the lost port: %+v", first)
	}
	if s := state(); s.Link || s.Queues != 0 || s.Counters.RxDiscards != 5 || s.LastChange == 0 {
		t.Errorf("without a device: %+v", s)
	}
	if n := len(d.ports); n != 1 {
		t.Fatalf("%d ports opened without a device", n)
	}
	d.there = true
	tick()
	if s := state(); !s.Link || s.Queues != 1 || s.Counters.RxDiscards != 10 || s.Counters.RxErrors != 4 {
		t.Errorf("with a device again: %+v", s)
	}
	turns := d.ports[1].turns
	tick()
	if d.ports[1].turns <= turns {
		t.Error("the worker does not use the new port")
	}
}

// TestOtherDriver: when a device gets another driver's port, in the same interface
// or another one, it is not set down by the port that leaves it.
func TestOtherDriver(t *testing.T) {
	up := false
	one, two := &plug{there: true, name: "one", up: &up}, &plug{there: true, name: "two", up: &up}
	b := testbed.New(t, func(o *fastpath.Options) { o.Registry.AddDriver(one); o.Registry.AddDriver(two) })
	c := testbed.Iface("a", 1, "10.0.0.1/24")
	c.Driver, c.Device = "one", "dev"
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	b.Advance(time.Second)
	c.Driver = "two"
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	b.Advance(time.Second)
	if !one.ports[0].closed || two.ports[0].closed || !up {
		t.Errorf("another driver: the first port closed %v, the second %v, device up %v", one.ports[0].closed, two.ports[0].closed, up)
	}
	c.Name, c.Driver = "b", "one"
	b.Apply(&fastpath.Change{Iface: iface.Change{Delete: []string{"a"}, Set: []iface.Config{c}}})
	b.Advance(time.Second)
	if !two.ports[0].closed || one.ports[1].closed || !up {
		t.Errorf("another interface: the first port closed %v, the second %v, device up %v", two.ports[0].closed, one.ports[1].closed, up)
	}
	b.Apply(&fastpath.Change{Iface: iface.Change{Delete: []string{"b"}}})
	b.Advance(time.Second)
	if up || !one.ports[1].closed {
		t.Error("the last port leaves its device up")
	}
}

// TestAddQueues: with more workers open ports get more queues, as many as they can
// have; each has its worker, and with fewer workers again each still has one.
func TestAddQueues(t *testing.T) {
	d := &plug{there: true}
	b := testbed.New(t, func(o *fastpath.Options) { o.Registry.AddDriver(d); o.Buffers = 8192 })
	names := []string{"all", "two", "none"}
	for i, n := range names {
		c := testbed.Iface(n, byte(i+1), "10.0."+strconv.Itoa(i)+".1/24")
		c.Driver = "plug"
		b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
		d.ports[i].most = []int{64, 2, 1}[i]
	}
	for _, x := range []struct {
		workers int
		queues  []int
		who     string // by worker: its queues
	}{
		{1, []int{1, 1, 1}, "[all/0 two/0 none/0]"},
		{3, []int{3, 2, 1}, "[all/0 two/0 none/0] [all/1 two/1] [all/2]"},
		{2, []int{3, 2, 1}, "[all/0 all/2 two/0 none/0] [all/1 two/1]"},
		{4, []int{4, 2, 1}, "[all/0 two/0 none/0] [all/1 two/1] [all/2] [all/3]"},
		{1, []int{4, 2, 1}, "[all/0 all/1 all/2 all/3 two/0 two/1 none/0]"},
	} {
		b.Apply(&fastpath.Change{Global: &fastpath.Global{Workers: x.workers}})
		b.Run()
		s := b.State(&fastpath.Query{Ifaces: names, Process: true})
		for _, i := range s.Ifaces {
			if k := slices.Index(names, i.Name); i.Queues != x.queues[k] {
				t.Errorf("%d workers: %s has %d queues, want %d", x.workers, i.Name, i.Queues, x.queues[k])
			}
		}
		var who []string
		for _, w := range s.Process.Workers {
			var l []string
			for _, q := range w.Queues {
				l = append(l, fmt.Sprint(q.Iface, "/", q.Queue))
			}
			who = append(who, fmt.Sprint(l))
		}
		if got := strings.Join(who, " "); got != x.who {
			t.Errorf("%d workers: %s, want %s", x.workers, got, x.who)
		}
	}
}

// TestParams: what a driver alone knows reaches it, and a change of it makes the
// port anew; what it refuses is located there.
func TestParams(t *testing.T) {
	d := &plug{there: true}
	b := testbed.New(t, func(o *fastpath.Options) { o.Registry.AddDriver(d) })
	c := testbed.Iface("a", 1, "10.0.0.1/24")
	c.Driver, c.Params = "plug", sal.PortParams{Read: "one"}
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	c.Params.Repeat = 7
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	if len(d.ports) != 2 || !d.ports[0].closed || d.ports[1].cfg.Params != c.Params {
		t.Errorf("%d ports", len(d.ports))
	}
	d.there = false
	c.Name = "b"
	err := b.Try(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
	var r *fastpath.Refusal
	if !errors.As(err, &r) || r.Field != "Params" {
		t.Errorf("%v", err)
	}
}

// limited is a driver whose ports take smaller MTUs than others.
type limited struct{ *plug }

func (limited) MaxMTU() int { return 1902 }

// TestMTULimit: what a driver cannot take is refused at the interface's MTU, before
// a port is opened.
func TestMTULimit(t *testing.T) {
	d := limited{&plug{there: true}}
	b := testbed.New(t, func(o *fastpath.Options) { o.Registry.AddDriver(d) })
	c := testbed.Iface("a", 1, "10.0.0.1/24")
	c.Driver, c.MTU = "plug", 1903
	b.Refused(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}}, "a", "MTU")
	if len(d.ports) != 0 {
		t.Error("a port was opened")
	}
	c.MTU = 1902
	b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{c}}})
}
