package ipsec_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// TestCommitsBesideTraffic runs workers and commits at the same time. A tunnel
// that no commit changes loses nothing; whatever leaves on the WAN is ESP under
// one of the keys there ever were, no number twice; whatever comes in comes
// through once.
func TestCommitsBesideTraffic(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		async   bool
	}{{"one worker", 1, false}, {"two workers on the same SAs", 2, false}, {"look-aside", 2, true}} {
		t.Run(c.name, func(t *testing.T) { commitsBesideTraffic(t, c.workers, c.async) })
	}
}

func commitsBesideTraffic(t *testing.T, workers int, async bool) {
	s := newSite(t, func(o *fastpath.Options) {
		o.Manual, o.Now, o.Workers, o.Buffers = false, nil, workers, 16384
		if async {
			o.Registry.AddDevice(saltest.NewFaulty(cpu.New("card"), saltest.Faults{Delay: 2}))
		}
	})
	steadyOut, steadyIn := s.tunnel(false, func(a *ipsec.SA) {
		a.ReplayWindow = 8192 // workers overtake each other
		if async {
			onCard(a)
		}
	})
	// The other tunnel, which changes all the time, is over IPv6.
	rest := ipsec.Policy{Name: "rest", Direction: sal.Outbound, Order: 1 << 40, ReqID: 40, Selector: between(true)}
	s.Apply(policies(rest))
	w := &wanSide{t: t, steady: steadyOut, in: steadyIn, seen: map[string]bool{}, keys: map[uint32][]*peer{}}
	l := &lanSide{t: t, in: map[uint32]int{}, wan: w}
	w.lan = l
	var stop atomic.Bool
	var done sync.WaitGroup
	done.Add(2)
	go func() { defer done.Done(); w.run(s, &stop) }()
	go func() { defer done.Done(); l.run(s, &stop) }()

	commits, until := 0, time.Now().Add(1500*time.Millisecond)
	for n := 0; time.Now().Before(until) && !t.Failed(); n++ {
		a, b := testSA(fmt.Sprint("o", n%3), sal.Outbound, true), testSA(fmt.Sprint("i", n%3), sal.Inbound, true)
		a.ReqID, a.SPI, a.Key = 40, 0x40000+uint32(n%5), key(20000+n, 20)
		if n%8 == 7 { // the same key again, under another SPI and name
			a.Key = key(20000+n-1, 20)
		}
		b.ReqID, b.SPI, b.Key, b.ReplayWindow = 41, 0x50000+uint32(n%5), key(40000+n, 36), []uint32{64, 128, 8192}[n%3]
		over6(&a)
		if async && n%2 == 0 {
			onCard(&a)
			onCard(&b)
		}
		w.add(a)
		ch := &fastpath.Change{IPsec: ipsec.Change{SetSA: []ipsec.SA{a, b}}}
		switch n % 4 {
		case 0:
			ch.IPsec.SetPolicy = []ipsec.Policy{protect(&a), protect(&b)}
		case 1:
			p := protect(&a)
			p.Order, p.Name = 1+uint64(n%7), fmt.Sprint("p-o", n%3)
			ch.IPsec.SetPolicy = []ipsec.Policy{p}
		case 2:
			ch.IPsec.SetSA = []ipsec.SA{b}
			for _, x := range s.names() {
				if x[0] == 'o' && x != "out" {
					ch.IPsec.DeleteSA = append(ch.IPsec.DeleteSA, x)
				}
			}
		}
		if err := s.Try(ch); err != nil {
			// The same key under two names, or an SPI that is taken, is refused.
			w.refused.Add(1)
		} else {
			commits++
		}
		if n%5 == 0 {
			s.State(&fastpath.Query{SAs: []string{}, Policies: []string{}, Process: true})
		}
		runtime.Gosched()
	}
	stop.Store(true)
	done.Wait()
	opened, got := w.opened.Load(), l.got.Load()
	if commits < 20 || opened == 0 || got == 0 || w.others == 0 {
		t.Errorf("the test has not done much")
	}
	if opened != l.sent.Load() {
		t.Errorf("%d packets of the steady tunnel left of %d", opened, l.sent.Load())
	}
	if got != w.sent.Load() {
		t.Errorf("%d packets of the steady tunnel came in of %d", got, w.sent.Load())
	}
	if t.Failed() {
		t.Logf("drops: %+v", s.State(&fastpath.Query{Drops: true}).Drops)
	}
	t.Logf("%d commits (%d refused), %d steady and %d other packets out, %d in", commits, w.refused.Load(), opened, w.others, got)
}

func (s *site) names() (l []string) {
	for _, a := range s.State(&fastpath.Query{SAs: []string{}}).SAs {
		l = append(l, a.Name)
	}
	return l
}

// window is how many packets of the steady tunnel are under way in a direction:
// less than a port holds, so that none may be lost.
const window = 100

// wanSide is the peer: it opens what comes, and sends.
type wanSide struct {
	t          *testing.T
	steady, in *peer
	mu         sync.Mutex
	keys       map[uint32][]*peer
	seen       map[string]bool // nonces by key
	opened     atomic.Int64
	others     int
	sent       atomic.Int64
	refused    atomic.Int64
	lan        *lanSide
}

func (w *wanSide) add(a ipsec.SA) {
	w.mu.Lock()
	w.keys[a.SPI] = append(w.keys[a.SPI], peerOf(a))
	w.mu.Unlock()
}

func (w *wanSide) run(s *site, stop *atomic.Bool) {
	p := s.Mem.Peer("wan")
	end := time.Time{}
	for ; !w.over(&end, stop); runtime.Gosched() {
		if !stop.Load() {
			if n := w.sent.Load(); n-w.lan.got.Load() < window {
				w.sent.Add(int64(p.InjectTo(int(n), frames(wanMAC, peerMAC, [][]byte{w.in.send(numbered(incoming(false, 100).IP(), int(n)))})...)))
			}
		}
		for _, g := range p.Collect(64) {
			w.open(g)
		}
	}
}

// over tells whether traffic is over: it was stopped, all has come that was sent,
// in both directions, or does not come for ten seconds.
func (w *wanSide) over(end *time.Time, stop *atomic.Bool) bool {
	switch {
	case !stop.Load():
		return false
	case end.IsZero():
		*end = time.Now()
	}
	all := w.sent.Load() == w.lan.got.Load() && w.lan.sent.Load() == w.opened.Load()
	return all && time.Since(*end) > 50*time.Millisecond || time.Since(*end) > 10*time.Second
}

// open finds the key of an ESP packet, and that its number is new under it.
func (w *wanSide) open(frame []byte) {
	ip := frame[14:]
	v6 := ip[0]>>4 == 6
	esp := ip[20:]
	switch {
	case v6 && ip[6] == 50:
		esp = ip[40:]
	case v6 && ip[6] == pkt.ProtoICMPv6 && ip[40] >= 133 && ip[40] <= 137, pkt.Ethernet(frame).Type() == pkt.TypeARP:
		return // neighbour discovery
	case v6 || ip[9] != 50:
		w.t.Errorf("in the clear: %x", frame)
		return
	}
	spi := binary.BigEndian.Uint32(esp)
	try := []*peer{w.steady}
	if spi != w.steady.sa.SPI {
		w.mu.Lock()
		try = append([]*peer(nil), w.keys[spi]...)
		w.mu.Unlock()
	}
	for _, q := range try {
		o, err := q.open(ip)
		if err != nil {
			continue
		}
		nonce := string(q.sa.Key) + string(esp[8:16])
		if w.seen[nonce] {
			w.t.Errorf("number %d twice under the key of %s", o.seq, q.sa.Name)
		}
		w.seen[nonce] = true
		if q == w.steady {
			w.opened.Add(1)
		} else {
			w.others++
		}
		return
	}
	w.t.Errorf("no key opens %x", frame)
}

// lanSide is the host.
type lanSide struct {
	t    *testing.T
	sent atomic.Int64
	in   map[uint32]int
	wan  *wanSide
	got  atomic.Int64
}

func (l *lanSide) run(s *site, stop *atomic.Bool) {
	p := s.Mem.Peer("lan")
	end := time.Time{}
	other := outgoing(true, 100).IP()
	for n := 0; !l.wan.over(&end, stop); n++ {
		if !stop.Load() {
			x := outgoing(false, 100)
			x.SPort = uint16(n)
			if l.sent.Load()-l.wan.opened.Load() < window {
				l.sent.Add(int64(p.InjectTo(n, frames(lanMAC, hostMAC, [][]byte{x.IP()})...)))
				p.InjectTo(n+1, frames(lanMAC, hostMAC, [][]byte{other})...)
			}
		}
		for _, g := range p.Collect(64) {
			if pkt.Ethernet(g).Type() != pkt.TypeIPv4 {
				continue
			}
			id := binary.BigEndian.Uint32(g[14+60:])
			if l.in[id]++; l.in[id] > 1 {
				l.t.Errorf("packet %d came in twice", id)
			}
			l.got.Add(1)
		}
		runtime.Gosched()
	}
}

// numbered writes a number into a packet's payload.
func numbered(ip []byte, n int) []byte {
	binary.BigEndian.PutUint32(ip[60:], uint32(n))
	return ip
}
