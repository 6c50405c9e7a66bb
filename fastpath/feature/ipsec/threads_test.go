package ipsec_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
)

// withThreads is a site that also has an engine of so many threads around inner.
// manual: the test turns the worker.
func withThreads(t testing.TB, inner sal.Device, threads int, manual bool) *site {
	e, err := pool.New("pool0", inner, pool.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() }) // after the site, whose clean-up comes later
	return newSite(t, func(o *fastpath.Options) {
		o.Registry.AddDevice(e)
		if o.Manual = manual; !manual {
			o.Now = nil
		}
	})
}

func onThreads(a *ipsec.SA) {
	a.Offload = ipsec.Offload{Mode: "crypto", Policy: ipsec.Require, Engine: "pool0"}
}

// until turns the workers until something is so.
func (s *site) until(what string, is func() bool) {
	s.T.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			s.T.Fatalf("not in 20 s: %s", what)
		}
		if s.manual {
			s.Run()
		}
	}
}

func (s *site) inFlight() int {
	return s.State(&fastpath.Query{Process: true}).Process.Buffers.InFlight
}

// TestThreads: one SA on two threads does what it does on the worker itself, in
// order, with nothing refused by the replay window.
func TestThreads(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		s := withThreads(t, cpu.New("threads"), 2, true)
		out, in := s.tunnel(in6, func(a *ipsec.SA) {
			onThreads(a)
			if out6 {
				over6(a)
			}
		})
		if st := s.sa("out"); st.Engine != "pool0" || st.Mode != "crypto" {
			t.Fatalf("on %s: %s", st.Engine, st.Reason)
		}
		const n = 300
		var p, q, want [][]byte
		for i := range n {
			b := outgoing(in6, 60+i)
			b.SPort = uint16(i)
			p = append(p, b.IP())
			c := incoming(in6, 60+i).IP()
			q, want = append(q, in.send(c)), append(want, hop(c))
		}
		var got, back [][]byte
		s.Send("lan", frames(lanMAC, hostMAC, p)...)
		s.Send("wan", frames(wanMAC, peerMAC, q)...)
		s.until("all packets are through", func() bool {
			got, back = append(got, s.Recv("wan")...), append(back, s.Recv("lan")...)
			return len(got) == n && len(back) == n
		})
		for i, g := range got {
			if o := out.must(t, g); o.seq != uint64(i+1) || !bytes.Equal(o.inner, hop(p[i])) {
				t.Fatalf("packet %d has number %d", i, o.seq)
			}
		}
		s.delivered(back, want...)
		s.Moved("lan rx 300, wan tx 300, sa out packets 300, policy p-out packets 300, wan rx 300, lan tx 300, sa in packets 300, policy p-in packets 300")
	})
}

// gate is an engine that waits to be let through before it works.
type gate struct {
	sal.Device
	begun, pass chan struct{}
	once        sync.Once
}

func (g *gate) open() { g.once.Do(func() { close(g.pass) }) }

type gateSession struct {
	sal.Session
	g *gate
}

type gateQueue struct {
	sal.Queue
	g *gate
}

func (g *gate) Open(app string, exclusive bool) (sal.Session, error) {
	s, err := g.Device.Open(app, exclusive)
	return gateSession{s, g}, err
}

func (s gateSession) Queue(i int, p *sal.Pool) (sal.Queue, error) {
	q, err := s.Session.Queue(i, p)
	return gateQueue{q, s.g}, err
}

func (q gateQueue) Do(jobs []sal.Job) {
	select {
	case q.g.begun <- struct{}{}:
	default:
	}
	<-q.g.pass
	q.Queue.Do(jobs)
}

// TestSleepsForEngine: a worker whose packets are in an engine that wakes it does
// not keep its core from that engine's threads.
func TestSleepsForEngine(t *testing.T) {
	g := &gate{Device: cpu.New("threads"), begun: make(chan struct{}, 1), pass: make(chan struct{})}
	s := withThreads(t, g, 1, false)
	t.Cleanup(g.open)
	out, _ := s.tunnel(false, onThreads)
	wan := s.Mem.Peer("wan")
	s.Mem.Peer("lan").Inject(frames(lanMAC, hostMAC, [][]byte{outgoing(false, 100).IP()})...)
	select {
	case <-g.begun:
	case <-time.After(20 * time.Second):
		t.Fatal("no thread has begun")
	}
	idles := func() uint64 { return s.State(&fastpath.Query{Process: true}).Process.Workers[0].Idles }
	was := idles()
	s.until("the worker sleeps", func() bool { return idles() > was })
	if n := s.inFlight(); n != 1 {
		t.Errorf("%d packets are in the engine", n)
	}
	g.open()
	var got [][]byte
	s.until("the packet is out", func() bool {
		for _, f := range wan.Collect(64) {
			if pkt.Ethernet(f).Type() == pkt.TypeIPv4 {
				got = append(got, f)
			}
		}
		return len(got) == 1 || len(s.sa("out").Errors) > 0
	})
	if len(got) == 0 { // a machine that is short of time: it took 100 ms to get here
		if e := s.sa("out").Errors; len(e) != 1 || e[0] != (ipsec.Error{Reason: "sal-device", Packets: 1}) || s.engineInfo("pool0").Trips == 0 {
			t.Errorf("the packet was lost: %v", e)
		}
		return
	}
	out.must(t, got[0])
}

// TestThreadsDie: the engine ends with packets inside: all of them are accounted
// for, nothing leaves in the clear, and SAs that it served carry nothing.
func TestThreadsDie(t *testing.T) {
	g := &gate{Device: cpu.New("threads"), begun: make(chan struct{}, 1), pass: make(chan struct{})}
	e, err := pool.New("pool0", g, pool.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(o *fastpath.Options) { o.Registry.AddDevice(e) })
	t.Cleanup(g.open)
	out, _ := s.tunnel(false, onThreads)
	var p [][]byte
	for i := range 200 {
		p = append(p, outgoing(false, 60+i).IP())
	}
	s.Send("lan", frames(lanMAC, hostMAC, p)...)
	s.Run()
	if n := s.inFlight(); n != len(p) {
		t.Fatalf("%d packets are in the engine, want %d", n, len(p))
	}
	<-g.begun
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	s.until("the engine is going", func() bool { return !e.Info().Ready })
	g.open()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	s.until("the engine holds nothing", func() bool { return s.inFlight() == 0 })
	left := 0
	for _, f := range s.Recv("wan") {
		out.must(t, f)
		left++
	}
	lost := 0
	for _, x := range s.sa("out").Errors {
		if x.Reason == "sal-device" {
			lost = int(x.Packets)
		}
	}
	if left == 0 || left+lost != len(p) {
		t.Errorf("of %d packets %d left and %d were lost with the engine", len(p), left, lost)
	}
}
