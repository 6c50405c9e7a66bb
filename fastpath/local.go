package fastpath

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/reass"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/pipeline"
	"vrouter/fastpath/worker"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// TicketLife is how long a prepared change waits to be published.
const TicketLife = 30 * time.Second

// Version of the fast path's configuration interface.
const Version = "1"

// ErrTicket: no such prepared change (any more).
var ErrTicket = errors.New("no such prepared change")

// ErrClosed: the engine has been stopped.
var ErrClosed = errors.New("the fast path is stopped")

// Options of an engine in this process. Zero fields take the defaults.
type Options struct {
	Registry *sal.Registry
	Buffers  int // packet buffers; 16384
	// Large is how many large buffers there are, for jumbo frames and
	// fragmented packets that are whole; 2048, negative: none. Memory is used
	// as they are.
	Large   int
	Workers int // poll loops; 1
	// CPUs are the cores of the workers, in order; missing or negative: any.
	// Usable are those that a change may name; nil: all that the process may use.
	// Reserve is told of new ones, to keep other threads off them, before workers
	// are bound to them; nil: nobody has to be.
	CPUs     []int
	Usable   []int
	Reserve  func(cpus []int) error
	StateDir string // for what must survive kill -9; "": nowhere
	// Flows4 and Flows6 size each worker's flow caches; 1 << 20 and 1 << 18;
	// negative: no cache. Memory is used as flows come.
	Flows4, Flows6 int
	Routes         int // of both families; 1 << 20
	Adjacencies    int // 1 << 18
	MaxSAs         int // ipsec's default
	Log            *slog.Logger
	// Manual: no goroutine is started. The caller turns the workers with Turn
	// and the control side with Step, for tests and benchmarks.
	Manual bool
	// Now replaces the clock (Unix nanoseconds, never going backwards).
	Now func() int64
	// Boottime replaces the time since the machine was booted (nanoseconds),
	// by which SAs live; nil: Now, where that is replaced, else the kernel's.
	Boottime func() int64
}

// Local is the engine in this process.
type Local struct {
	opt     Options
	started int64
	key     [16]byte
	env     *pipeline.Env
	pool    *sal.Pool
	f       features
	workers []*worker.Worker // all there are, at work or not
	crew    crew
	order   *pipeline.Order

	slot   chan struct{} // full while a change is prepared
	done   sync.WaitGroup
	notify chan struct{}
	quit   chan struct{}

	mu     sync.Mutex // the control side
	closed bool
	next   Ticket
	ticket *ticket
	label  string
	global Global
	kept   map[string]map[string]Digest // of objects whose Config is not kept: policy, sa, group, global
	slow   int64                        // when the slow part of Step is due
}

// ticket is a prepared change.
type ticket struct {
	id      Ticket
	change  *Change
	builder *pipeline.Builder
	parts   []pipeline.Prepared
	digests map[string]map[string]Digest
	timer   *time.Timer
}

var _ Engine = (*Local)(nil)

// New makes an engine and starts its workers.
func New(o Options) (*Local, error) {
	o.defaults()
	e := &Local{opt: o, slot: make(chan struct{}, 1), notify: make(chan struct{}, 1), quit: make(chan struct{}),
		kept: map[string]map[string]Digest{"policy": {}, "sa": {}, "group": {}, "global": {}}}
	rand.Read(e.key[:])
	if err := e.build(); err != nil {
		return nil, err
	}
	e.started = o.Now()
	e.start()
	return e, nil
}

func (o *Options) defaults() {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
		*p = max(*p, 0)
	}
	set(&o.Buffers, 16384)
	set(&o.Large, 2048)
	set(&o.Workers, 1)
	set(&o.Flows4, 1<<20)
	set(&o.Flows6, 1<<18)
	set(&o.Routes, 1<<20)
	set(&o.Adjacencies, 1<<18)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Boottime == nil {
		o.Boottime = o.Now
	}
	if o.Now == nil {
		wall, start := time.Now().UnixNano(), time.Now()
		o.Now = func() int64 { return wall + int64(time.Since(start)) }
	}
	if o.Registry == nil {
		o.Registry = &sal.Registry{}
	}
}

// build makes everything that New starts.
func (e *Local) build() (err error) {
	o := &e.opt
	grace := mem.NewGrace()
	env := &pipeline.Env{Registry: o.Registry, Workers: o.Workers, Mesh: &pipeline.Mesh{}, StateDir: o.StateDir, Log: o.Log, Grace: grace, Now: o.Now,
		Events: event.NewLog(o.Now)}
	e.env = env
	env.Gen.Store(1)
	env.Snap.Store(&pipeline.Snapshot{Ifaces: &pipeline.Ifaces{}, Crew: &pipeline.Crew{}})
	if env.Pool, err = sal.NewPoolLarge(o.Buffers, o.Large); err != nil {
		return err
	}
	e.pool = env.Pool
	if env.Adj, err = pipeline.NewAdjTable(o.Adjacencies, grace); err != nil {
		return err
	}
	if env.Counters, err = pipeline.NewCounters(o.Workers, grace); err != nil {
		return err
	}
	if env.Control, err = pipeline.NewControl(env.Pool, env.Adj, func(w int) { e.workers[w].Kick() }); err != nil {
		return err
	}
	e.f.iface = iface.New(env, e.sum)
	if e.f.neigh, err = neigh.New(env); err != nil {
		return err
	}
	if e.f.route, err = route.New(env, o.Routes); err != nil {
		return err
	}
	if e.f.reass, err = reass.New(env, reass.Options{}); err != nil {
		return err
	}
	if e.f.ipsec, err = ipsec.New(env, ipsec.Options{MaxSAs: uint32(o.MaxSAs), BootID: bootID(), Boottime: o.Boottime}); err != nil {
		return err
	}
	e.order = e.f.order()
	return e.initCrew()
}

// bootID tells one boot of the machine from another; "" where the kernel does
// not say.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(b)
}

// start starts the workers and the control side.
func (e *Local) start() {
	for i := range e.crew.n {
		e.launch(i)
	}
	if e.opt.Manual {
		return
	}
	e.done.Add(1)
	go func() {
		defer e.done.Done()
		e.control()
	}()
}

// wake tells the control side that a worker has put something; any goroutine.
func (e *Local) wake() {
	select {
	case e.notify <- struct{}{}:
	default:
	}
}

// Caps implements Engine.
func (e *Local) Caps(context.Context) (*Caps, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	return &Caps{Version: Version, PID: os.Getpid(), Drivers: e.opt.Registry.Drivers(), Engines: e.engines(), DigestKey: e.key}, nil
}

// Prepare implements Engine. Only one change is prepared at a time; it waits
// for the one before to be published or aborted, as long as ctx lets it.
func (e *Local) Prepare(ctx context.Context, c *Change) (Ticket, error) {
	select {
	case e.slot <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("another change is being prepared: %w", ctx.Err())
	case <-e.quit:
		return 0, ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		<-e.slot
		return 0, ErrClosed
	}
	t := &ticket{change: c, builder: &pipeline.Builder{Env: e.env, Snap: *e.env.Snap.Load(), Workers: e.env.Workers}}
	err := e.prepareCrew(t.builder, c.Global)
	if err != nil {
		<-e.slot
		return 0, err
	}
	if t.parts, err = e.f.prepare(t.builder, c); err != nil {
		<-e.slot
		return 0, err
	}
	t.digests = e.digests(c)
	e.next++
	t.id = e.next
	t.timer = time.AfterFunc(TicketLife, func() { _ = e.Abort(context.Background(), t.id) })
	e.ticket = t
	return t.id, nil
}

// digests are those of objects whose configuration no feature keeps.
func (e *Local) digests(c *Change) map[string]map[string]Digest {
	d := map[string]map[string]Digest{"policy": {}, "sa": {}, "group": {}, "global": {}}
	for i := range c.IPsec.SetPolicy {
		p := &c.IPsec.SetPolicy[i]
		d["policy"][p.ObjectKey()] = DigestOf(e.key, p)
	}
	for i := range c.IPsec.SetSA {
		s := &c.IPsec.SetSA[i]
		d["sa"][s.ObjectKey()] = DigestOf(e.key, s)
	}
	for i := range c.IPsec.SetGroup {
		g := &c.IPsec.SetGroup[i]
		d["group"][g.ObjectKey()] = DigestOf(e.key, g)
	}
	if c.Global != nil {
		d["global"][""] = DigestOf(e.key, c.Global)
	}
	return d
}

// take gives the outstanding ticket; e.mu is held.
func (e *Local) take(id Ticket) (*ticket, error) {
	t := e.ticket
	if t == nil || t.id != id {
		return nil, fmt.Errorf("ticket %d: %w", id, ErrTicket)
	}
	t.timer.Stop()
	e.ticket = nil
	<-e.slot
	return t, nil
}

// Publish implements Engine: tables first, then the snapshot by one store, then
// the generation that makes flows ask again. When it returns, every worker
// works by the new configuration.
func (e *Local) Publish(_ context.Context, id Ticket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.take(id)
	if err != nil {
		return err
	}
	c, b := t.change, t.builder
	e.label = c.Label
	if c.Global != nil {
		e.global = *c.Global
		e.env.Busy.Store(c.Global.BusyPoll)
		e.f.ipsec.SetAlarms(c.Global.Alarms)
	}
	e.keep(t)
	moved := b.Snap.Ifaces != e.env.Snap.Load().Ifaces
	parted := false
	for _, p := range t.parts {
		if x, ok := p.(pipeline.Parter); ok {
			parted = x.Part() || parted
		}
	}
	if parted {
		e.flush()
	}
	// What the parts retire is still in the old snapshot and in current flows:
	// nothing of it may go before these two have changed.
	e.env.Grace.Hold()
	for _, p := range t.parts {
		p.Publish()
	}
	snap := b.Snap
	e.env.Snap.Store(&snap)
	if b.Flush() {
		e.env.BumpFlows()
	}
	e.env.Grace.Release()
	// First wait for those that work, then wake those that sleep: they take
	// everything over before they look at a packet, so nobody waits for them.
	e.quiesce()
	if moved || c.Global != nil {
		e.kickAll()
	}
	e.settle(t)
	if c.Global != nil {
		e.recrew(c.Global)
	}
	return nil
}

// settle does what has to wait until workers have taken over the snapshot.
func (e *Local) settle(t *ticket) {
	for _, p := range t.parts {
		if r, ok := p.(iface.Reopener); ok {
			e.replace(r.Reopen())
		}
		if s, ok := p.(pipeline.Settler); ok {
			s.Settle()
		}
	}
}

// replace publishes interfaces that changed by themselves.
func (e *Local) replace(set map[pipeline.IfIndex]*pipeline.Iface) {
	if len(set) == 0 {
		return
	}
	snap := *e.env.Snap.Load()
	snap.Ifaces = snap.Ifaces.With(set)
	for _, x := range set {
		e.f.neigh.Changed(x)
	}
	e.env.Snap.Store(&snap)
	e.env.BumpFlows()
	e.quiesce()
	e.kickAll()
}

// quiesce waits until every worker has begun a turn after what was published,
// and frees what was retired. A worker that takes longer than a second is
// stuck, and what it might still see stays.
func (e *Local) quiesce() {
	if !e.env.Grace.Synchronize(time.Second) {
		e.opt.Log.Error("a worker has not passed for a second")
	}
}

// flush lets the workers send what the control side has given them. A worker that
// has taken it sends it in the same turn.
func (e *Local) flush() {
	if e.opt.Manual {
		return
	}
	e.kickAll()
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		waiting := 0
		for _, w := range e.workers {
			waiting += w.Stats().FromControl
		}
		if waiting == 0 {
			break
		}
	}
	e.env.Grace.Synchronize(100 * time.Millisecond)
}

func (e *Local) kickAll() {
	for _, w := range e.workers {
		w.Kick()
	}
}

// keep updates the digests that Inventory gives.
func (e *Local) keep(t *ticket) {
	for _, n := range t.change.IPsec.DeletePolicy {
		delete(e.kept["policy"], n)
	}
	for _, n := range t.change.IPsec.DeleteSA {
		delete(e.kept["sa"], n)
	}
	for _, n := range t.change.IPsec.DeleteGroup {
		delete(e.kept["group"], n)
	}
	for f, m := range t.digests {
		for k, d := range m {
			e.kept[f][k] = d
		}
	}
}

// Abort implements Engine.
func (e *Local) Abort(_ context.Context, id Ticket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.take(id)
	if err != nil {
		return err
	}
	abort(t.parts)
	return nil
}

// Turn turns worker i once (Options.Manual) and says what it met.
func (e *Local) Turn(i int) int {
	w := e.workers[i]
	w.Online()
	n := w.Turn()
	w.Offline()
	return n
}

// Worker is worker i, for benchmarks that turn it themselves.
func (e *Local) Worker(i int) *worker.Worker { return e.workers[i] }

// Workers is the number of poll loops at work.
func (e *Local) Workers() int { return e.crew.n }

// Pool is the packet buffers.
func (e *Local) Pool() *sal.Pool { return e.pool }

// Close implements Engine: it stops the workers, closes all ports and engines,
// and reports buffers that are not accounted for.
func (e *Local) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	t := e.ticket
	e.mu.Unlock()
	if t != nil {
		_ = e.Abort(context.Background(), t.id)
	}
	e.mu.Lock()
	if e.f.neigh.Farewell() {
		e.flush()
	}
	e.crew.stop()
	e.mu.Unlock()
	close(e.quit)
	e.kickAll()
	e.done.Wait()

	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.workers {
		w.Drain(e.env.Control)
	}
	e.env.Grace.Synchronize(time.Second)
	e.f.iface.Close()
	e.f.neigh.Close()
	var errs []error
	errs = append(errs, e.f.ipsec.Close())
	e.f.reass.Close()
	e.f.route.Close()
	for _, w := range e.workers {
		errs = append(errs, w.Close())
	}
	errs = append(errs, e.env.Mesh.Close(e.env.Control), e.env.Control.Close())
	if s := e.pool.Stats(); s.Free != s.Total {
		errs = append(errs, fmt.Errorf("%d of %d packet buffers are not accounted for", s.Total-s.Free, s.Total))
	} else {
		errs = append(errs, e.pool.Close())
	}
	errs = append(errs, e.env.Counters.Close(), e.env.Adj.Close())
	return errors.Join(errs...)
}
