package bench

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/burst"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
)

// BenchmarkLookAside is ESP through the whole router with the crypto on threads of
// their own (in mode crypto, and in mode protocol, where they make the whole packets),
// beside the same with the software engine on the worker, some rounds of each in turn. One SA, IPv4 in IPv4, AES-128-GCM, anti-replay and counters on. A
// round is two bursts that wait in the port, until the last of their packets is out:
//
//	ns/pkt         of a round: what a stream of packets takes, with the time that
//	               the first and the last of them take alone
//	inline-ns/pkt  the same with the engine on the worker
//	worker-ns/pkt  the worker's own work, without looking in vain for completions:
//	               its core can do no more packets than that allows
//	crypto-ns/pkt  the threads' work, together; in mode protocol their ciphers' alone
//
// Before a round to decrypt, the generator encrypts for so long that the threads
// fall asleep; the round begins by waking them. Figures are medians.
func BenchmarkLookAside(b *testing.B) {
	for _, mode := range []string{"crypto", "protocol"} {
		for _, threads := range []int{1, 2} {
			for _, dir := range []sal.Direction{sal.Outbound, sal.Inbound} {
				for _, size := range espSizes {
					name := fmt.Sprintf("%dthread/%s/%dB", threads, [...]string{sal.Outbound: "encrypt", sal.Inbound: "decrypt"}[dir], size)
					if mode != "crypto" {
						name = mode + "/" + name
					}
					b.Run(name, func(b *testing.B) {
						if runtime.NumCPU() <= threads {
							b.Skipf("%d crypto threads and a worker on %d processors", threads, runtime.NumCPU())
						}
						lookAside(b, mode, threads, dir, size)
					})
				}
			}
		}
	}
}

func lookAside(b *testing.B, mode string, threads int, dir sal.Direction, size int) {
	work := &timed{Device: cpu.New("threads")}
	e, err := pool.New("pool0", work, pool.Options{Threads: threads})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	make := func(opt func(*fastpath.Options), offload ipsec.Offload) (*Rig, byte, Fill) {
		r := New(b, func(o *fastpath.Options) {
			o.StateDir = b.TempDir()
			opt(o)
		})
		keyedOn(r, 1, dir, espKey, offload)
		if dir == sal.Outbound {
			return r, 'a', sized(newGen4(espFlows(1)), size)
		}
		r.Apply(&fastpath.Change{Neigh: neighbourA(), Route: routes(testbed.Route("20.0.0.0/8", "10.0.1.2", "a"))})
		return r, 'b', newSealed(sized(newGen4(espFlows(1)), size), 1).fill
	}
	r, in, fill := make(func(o *fastpath.Options) { o.Registry.AddDevice(e) }, ipsec.Offload{Mode: mode, Policy: ipsec.Require})
	inline, _, fillInline := make(func(*fastpath.Options) {}, ipsec.Offload{})
	for range 64 {
		r.round(in, fill)
		inline.round(in, fillInline)
	}
	ns := 1e9 / Hz()
	var beside, own, theirs []float64
	const inARow = 16 // while the others have their turn, the threads fall asleep
	rounds := 0
	r.Measure(b, size, func() (uint64, int) {
		if rounds%inARow == 0 {
			r.E.Step() // allows the engine more numbers
		}
		was := work.cycles.Load()
		all, busy, n := r.round(in, fill)
		own = append(own, float64(busy)*ns/float64(n))
		theirs = append(theirs, float64(work.cycles.Load()-was)*ns/float64(n))
		if rounds++; rounds%inARow == 1 {
			for range inARow / 4 {
				x, _, k := inline.round(in, fillInline)
				beside = append(beside, float64(x)*ns/float64(k))
			}
		}
		return all, n
	})
	b.ReportMetric(median(beside), "inline-ns/pkt")
	b.ReportMetric(median(own), "worker-ns/pkt")
	b.ReportMetric(median(theirs), "crypto-ns/pkt")
}

// round sends two bursts and turns the worker until all of them are out. It gives
// the cycles until then, those of turns that met work, and the number of packets.
func (r *Rig) round(in byte, fill Fill) (all, busy uint64, packets int) {
	r.load(in, fill)
	r.load(in, fill)
	out := r.b
	if in == 'b' {
		out = r.a
	}
	packets = 2 * sal.Burst
	got := r.got[:0]
	end := time.Now().Add(20 * time.Second)
	t := burst.Rdtsc()
	for turns := 0; len(got) < packets; turns++ {
		t0 := burst.Rdtsc()
		n := r.W.Turn()
		t1 := burst.Rdtsc()
		if n > 0 {
			busy += t1 - t0
			got = got[:len(got)+out.Recv(r.got[len(got):])]
		} else if turns&0xfff == 0xfff && time.Now().After(end) {
			r.B.Fatalf("%d of %d packets came out; drops: %v", len(got), packets, r.drops())
		}
	}
	all = burst.Rdtsc() - t
	for _, d := range got {
		r.free = append(r.free, d.Buf())
	}
	return all, busy, packets
}

// timed is an engine that counts the cycles of its work, of all queues together.
type timed struct {
	sal.Device
	cycles atomic.Uint64
}

type timedSession struct {
	sal.Session
	d *timed
}

type timedQueue struct {
	sal.Queue
	d *timed
}

func (d *timed) Open(app string, exclusive bool) (sal.Session, error) {
	s, err := d.Device.Open(app, exclusive)
	return timedSession{s, d}, err
}

func (s timedSession) Queue(i int, p *sal.Pool) (sal.Queue, error) {
	q, err := s.Session.Queue(i, p)
	return timedQueue{q, s.d}, err
}

func (q timedQueue) Do(jobs []sal.Job) {
	t := burst.Rdtsc()
	q.Queue.Do(jobs)
	q.d.cycles.Add(burst.Rdtsc() - t)
}
