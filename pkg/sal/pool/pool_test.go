package pool_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
)

// gate is an engine whose queues tell of every run that they begin, and wait to
// be let through.
type gate struct {
	sal.Device
	begun chan int      // number of the inner queue
	pass  chan struct{} // one for a run; closed: all
	once  sync.Once
}

// open lets everything through, from now on.
func (g *gate) open() { g.once.Do(func() { close(g.pass) }) }

type gateSession struct {
	sal.Session
	g *gate
}

type gateQueue struct {
	sal.Queue
	g *gate
	i int
}

func (g *gate) Open(app string, exclusive bool) (sal.Session, error) {
	s, err := g.Device.Open(app, exclusive)
	return gateSession{s, g}, err
}

func (s gateSession) Queue(i int, p *sal.Pool) (sal.Queue, error) {
	q, err := s.Session.Queue(i, p)
	return gateQueue{q, s.g, i}, err
}

func (q gateQueue) Do(jobs []sal.Job) {
	q.g.begun <- q.i
	<-q.g.pass
	q.Queue.Do(jobs)
}

// rig is a pool of so many threads behind a gate, with a queue and an SA.
type rig struct {
	*testing.T
	g *gate
	e *pool.Engine
	s sal.Session
	q sal.Queue
	p *sal.Pool
	h sal.SA
}

func newRig(t *testing.T, threads int) *rig {
	r := &rig{T: t, g: &gate{Device: cpu.New("inner"), begun: make(chan int, 1000), pass: make(chan struct{}, 100)}}
	var err error
	if r.e, err = pool.New("pool0", r.g, pool.Options{Threads: threads}); err != nil {
		t.Fatal(err)
	}
	if r.s, err = r.e.Open("test", false); err != nil {
		t.Fatal(err)
	}
	if r.p, err = sal.NewPool(pool.Depth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // first the threads, then what they may be using
		r.g.open()
		r.e.Close()
		r.p.Close()
	})
	if r.q, err = r.s.Queue(0, r.p); err != nil {
		t.Fatal(err)
	}
	r.h = r.add()
	return r
}

func (r *rig) add() sal.SA {
	r.Helper()
	h, err := r.s.AddSA(0, &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: make([]byte, 20)})
	if err != nil {
		r.Fatal(err)
	}
	return h
}

// submit hands over n jobs with cookies from first on.
func (r *rig) submit(first, n int) {
	r.Helper()
	jobs := make([]sal.Job, n)
	for i := range jobs {
		jobs[i] = sal.Job{SA: r.h, Op: sal.Seal, Desc: sal.MakeDesc(uint32(first+i), 0, 0), Off: 128, Len: 64, Cookie: uint64(first + i)}
	}
	if k := r.q.Submit(jobs); k != n {
		r.Fatalf("%d of %d jobs were taken", k, n)
	}
}

const patience = 20 * time.Second

// within waits for something to become so.
func (r *rig) within(what string, is func() bool) {
	r.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			r.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// all polls n jobs, which must come in order, and gives their status.
func (r *rig) all(n int) (l []sal.Status) {
	r.Helper()
	var out [50]sal.Job
	r.within("all jobs are back", func() bool {
		for _, j := range out[:r.q.Poll(out[:])] {
			if j.Cookie != uint64(len(l)) || j.SA != r.h {
				r.Fatalf("job %d of SA %d came when %d of %d was due", j.Cookie, j.SA, len(l), r.h)
			}
			l = append(l, j.Status)
		}
		return len(l) >= n
	})
	if len(l) > n || r.q.InFlight() != 0 {
		r.Fatalf("%d jobs came back, %d are in flight; %d were submitted", len(l), r.q.InFlight(), n)
	}
	return l
}

func (r *rig) want(got []sal.Status, from, to int, s sal.Status) {
	r.Helper()
	for i := from; i < to; i++ {
		if got[i] != s {
			r.Fatalf("job %d has status %d, want %d", i, got[i], s)
		}
	}
}

// TestOrderRestored: two threads share the jobs of one SA; what is done first
// waits for what was submitted first.
func TestOrderRestored(t *testing.T) {
	r := newRig(t, 2)
	const n = 4 * pool.Run
	r.submit(0, n)
	if first, second := <-r.g.begun, <-r.g.begun; first == second {
		t.Fatal("one thread began two runs")
	}
	// Three of four runs get through: not all of them are by one thread, and while
	// the last is held only what was submitted before it comes back.
	for range 2 {
		r.g.pass <- struct{}{}
		<-r.g.begun
	}
	r.g.pass <- struct{}{}
	var out [n]sal.Job
	at := 0
	take := func() bool {
		for _, j := range out[:r.q.Poll(out[:])] {
			if j.Cookie != uint64(at) || j.Status != sal.StatusOK {
				t.Fatalf("job %d came with status %d when %d was due", j.Cookie, j.Status, at)
			}
			at++
		}
		return at == n
	}
	for range 100 {
		if take() {
			t.Fatal("all jobs are back, though a run was not let through")
		}
	}
	r.g.open()
	r.within("all jobs are back", take)
}

// TestFull: a queue takes as many as it says, and none more until some are polled.
func TestFull(t *testing.T) {
	r := newRig(t, 1)
	if d := r.e.Caps().QueueDepth; d != pool.Depth {
		t.Fatalf("depth %d", d)
	}
	for i := range pool.Depth / 128 {
		r.submit(128*i, 128)
	}
	more := []sal.Job{{SA: r.h, Op: sal.Seal, Off: 128}, {SA: r.h, Op: sal.Seal, Off: 128}}
	if k := r.q.Submit(more); k != 0 || r.q.InFlight() != pool.Depth {
		t.Errorf("a full queue took %d, %d in flight", k, r.q.InFlight())
	}
	r.g.open()
	var out [1]sal.Job
	r.within("a job is back", func() bool { return r.q.Poll(out[:]) == 1 })
	if k := r.q.Submit(more); k != 1 {
		t.Errorf("with room for one it took %d", k)
	}
}

// TestCloseMidBurst: what a thread was at is finished, the rest fails, all comes
// back, and who sleeps until then is woken.
func TestCloseMidBurst(t *testing.T) {
	r := newRig(t, 1)
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var bell sal.Bell
	bell.Init(fd)
	r.q.(sal.Ringer).RingAt(&bell)
	const n = 4*pool.Run + 7
	r.submit(0, n)
	<-r.g.begun
	closed := make(chan error)
	go func() { closed <- r.e.Close() }()
	r.within("the engine says that it is gone", func() bool { return !r.e.Info().Ready })
	select {
	case <-closed:
		t.Fatal("closed while a thread is using a queue")
	default:
	}
	r.g.open()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if !bell.Answer() {
		t.Error("nobody was told that the jobs are back")
	}
	got := r.all(n)
	r.want(got, 0, pool.Run, sal.StatusOK)
	r.want(got, pool.Run, n, sal.StatusDevice)
	if ev := <-r.s.Events(); ev.Kind != sal.EventGone {
		t.Errorf("%+v", ev)
	}
	// It goes on failing jobs, and giving them back.
	r.h = 99
	r.submit(0, 3)
	r.want(r.all(3), 0, 3, sal.StatusDevice)
}

// TestInnerGone: an engine whose threads have nothing to work with is gone.
func TestInnerGone(t *testing.T) {
	r := newRig(t, 2)
	r.g.open()
	if err := r.g.Device.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-r.s.Events():
		if ev.Kind != sal.EventGone {
			t.Errorf("%+v", ev)
		}
	case <-time.After(patience):
		t.Fatal("no event")
	}
	if _, err := r.s.NewGroup("x"); !errors.Is(err, sal.ErrGone) {
		t.Error(err)
	}
}

// TestQueueClosed: of a queue that is closed everything comes back as well.
func TestQueueClosed(t *testing.T) {
	r := newRig(t, 1)
	const n = 2 * pool.Run
	r.submit(0, n)
	<-r.g.begun
	time.AfterFunc(5*time.Millisecond, func() { r.g.open() })
	if err := r.q.Close(); err != nil {
		t.Fatal(err)
	}
	got := r.all(n)
	r.want(got, 0, pool.Run, sal.StatusOK)
	for _, s := range got {
		if s != sal.StatusOK && s != sal.StatusDevice {
			t.Errorf("status %d", s)
		}
	}
}

// TestDelSAWaits: no thread uses a key after DelSA has returned, and what was
// submitted before ends without an SA.
func TestDelSAWaits(t *testing.T) {
	r := newRig(t, 1)
	const n = 3 * pool.Run
	r.submit(0, n)
	<-r.g.begun
	deleted := make(chan error)
	go func() { deleted <- r.s.DelSA(r.h) }()
	select {
	case <-deleted:
		t.Fatal("deleted while a thread is using the key")
	case <-time.After(20 * time.Millisecond): // as likely to be seen as not
	}
	r.g.open()
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if h := r.add(); h == r.h {
			t.Fatal("the handle was given out while jobs name it")
		}
	}
	got := r.all(n)
	r.want(got, 0, pool.Run, sal.StatusOK)
	r.want(got, 2*pool.Run, n, sal.StatusNoSA)
	for seen, i := false, 0; !seen; i++ {
		if seen = r.add() == r.h; i > 200 {
			t.Fatal("the handle is not given out again")
		}
	}
}

// TestBell: the worker that sleeps until its jobs are done is woken.
func TestBell(t *testing.T) {
	r := newRig(t, 2)
	r.g.open()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var bell sal.Bell
	bell.Init(fd)
	r.q.(sal.Ringer).RingAt(&bell)
	for i := range 200 {
		r.within("the threads sleep", func() bool { return i%10 > 0 || r.e.Asleep() == 2 })
		bell.Answer()
		r.submit(0, 1)
		// As a worker does: answer, look, sleep on the descriptor, look again.
		var out [1]sal.Job
		for bell.Answer(); r.q.Poll(out[:]) == 0; bell.Answer() {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			if err == nil && n == 0 {
				t.Fatal("the bell was not rung")
			}
			var b [8]byte
			_, _ = unix.Read(fd, b[:])
		}
	}
	r.q.(sal.Ringer).RingAt(nil)
	bell.Answer()
	r.submit(0, 1)
	r.all(1)
	if bell.Answer() {
		t.Error("a bell was rung that had been taken away")
	}
}

// TestPin: threads run where they are told to, again after somebody moved them.
func TestPin(t *testing.T) {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	cpu0 := 0
	for !may.IsSet(cpu0) {
		cpu0++
	}
	e, err := pool.New("pool0", cpu.New("inner"), pool.Options{Threads: 1, CPUs: []int{cpu0}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s, err := e.Open("test", false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sal.NewPool(8)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err = s.Queue(0, p); err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, e: e}
	r.within("the thread sleeps", func() bool { return e.Asleep() == 1 })
	id := e.Threads()[0]
	for range 2 {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(id, &set); err != nil || set.Count() != 1 || !set.IsSet(cpu0) {
			t.Errorf("it may run on %d processors, %v", set.Count(), err)
		}
		if err := unix.SchedSetaffinity(id, &may); err != nil {
			t.Fatal(err)
		}
		e.Pin()
	}
}

// TestRefused: what cannot be is said at once.
func TestRefused(t *testing.T) {
	in := cpu.New("inner")
	defer in.Close()
	for name, o := range map[string]pool.Options{"threads": {Threads: 17}, "processors": {Threads: 1, CPUs: []int{0, 1}}} {
		if _, err := pool.New("p", in, o); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	e, err := pool.New("p", in, pool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := pool.New("q", e, pool.Options{}); !errors.Is(err, sal.ErrInvalid) {
		t.Errorf("threads around threads: %v", err)
	}
	if i := e.Info(); i.Kind != sal.LookAside || i.Threads != 1 || i.Name != "p" {
		t.Errorf("%+v", i)
	}
}
