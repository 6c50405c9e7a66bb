package ipsec_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// TestWorkersChange changes the number of workers while flows go both ways
// through SAs, over ports with a single queue: what is spread over workers, and
// what is not, keeps its order flow by flow, nothing is lost, no number is used
// twice and no replay window refuses anything.
func TestWorkersChange(t *testing.T) {
	t.Run("software", func(t *testing.T) { workersChange(t, false) })
	t.Run("look-aside", func(t *testing.T) { workersChange(t, true) })
}

// crewFlows is how many flows there are each way, and as many SAs: so many that of
// four workers none is left without by chance more often than once in 300 000 runs.
const crewFlows = 24

func workersChange(t *testing.T, async bool) {
	s := newSite(t, func(o *fastpath.Options) {
		o.Manual, o.Now, o.Workers, o.Buffers = false, nil, 1, 16384
		if async {
			o.Registry.AddDevice(saltest.NewFaulty(cpu.New("card"), saltest.Faults{Delay: 2}))
		}
	})
	// Outbound all flows share an SA, which is the harder way; inbound each has one.
	out := testSA("out", sal.Outbound, false)
	change := ipsec.Change{SetSA: []ipsec.SA{out}, SetPolicy: []ipsec.Policy{protect(&out)}}
	var in [crewFlows]*peer
	for i := range in {
		a := testSA(fmt.Sprint("in", i), sal.Inbound, false)
		a.ReqID, a.SPI, a.ReplayWindow = 100+uint64(i), 0x2000+uint32(i)*7, 64
		host := netip.AddrFrom4([4]byte{10, 2, 0, byte(10 + i)})
		a.Selector.Remote = netip.PrefixFrom(host, 32)
		p := protect(&a)
		p.Order += uint64(i)
		if async && i%2 == 0 {
			onCard(&a)
		}
		in[i] = peerOf(a)
		change.SetSA, change.SetPolicy = append(change.SetSA, a), append(change.SetPolicy, p)
	}
	if async {
		onCard(&change.SetSA[0])
	}
	s.Apply(&fastpath.Change{IPsec: change})
	far := peerOf(out)
	lan, wan := s.Mem.Peer("lan"), s.Mem.Peer("wan")

	var sent, got [2][crewFlows]int // outwards, inwards
	seen := map[string]bool{}
	total := func(x *[2][crewFlows]int) (n int) {
		for _, d := range x {
			for _, k := range d {
				n += k
			}
		}
		return n
	}
	came := func(way int, flow, n int) {
		if flow < 0 || flow >= crewFlows {
			t.Fatalf("a packet of no flow, %d", flow)
		}
		if n != got[way][flow] {
			t.Errorf("flow %d of way %d: packet %d came when %d was due", flow, way, n, got[way][flow])
		}
		got[way][flow] = n + 1
	}
	collect := func() {
		for _, g := range wan.Collect(256) {
			if pkt.Ethernet(g).Type() != pkt.TypeIPv4 {
				continue // neighbour discovery
			}
			o, err := far.open(g[14:])
			if err != nil {
				t.Fatalf("%x: %v", g, err)
			}
			if nonce := string(g[14+28 : 14+36]); seen[nonce] {
				t.Errorf("number %d twice", o.seq)
			} else {
				seen[nonce] = true
			}
			came(0, int(binary.BigEndian.Uint16(o.inner[20:]))-1000, int(binary.BigEndian.Uint32(o.inner[60:])))
		}
		for _, g := range lan.Collect(256) {
			if pkt.Ethernet(g).Type() == pkt.TypeIPv4 {
				came(1, int(g[14+15])-10, int(binary.BigEndian.Uint32(g[14+60:])))
			}
		}
	}
	// Bursts of a few flows at a time, never more under way than ports hold.
	traffic := func(until time.Time) {
		for k := 0; time.Now().Before(until); k++ {
			for range 8 {
				if total(&sent)-total(&got) >= window {
					break
				}
				f := k % crewFlows
				x := outgoing(false, 100)
				x.SPort = 1000 + uint16(f)
				sent[0][f] += lan.Inject(frames(lanMAC, hostMAC, [][]byte{numbered(x.IP(), sent[0][f])})...)
				y := incoming(false, 100)
				y.Src = fmt.Sprintf("10.2.0.%d", 10+f)
				sent[1][f] += wan.Inject(frames(wanMAC, peerMAC, [][]byte{in[f].send(numbered(y.IP(), sent[1][f]))})...)
			}
			collect()
			runtime.Gosched()
		}
	}
	steps := []int{1, 3, 2, 1, 3, 2, 4, 1}
	changed := make(chan error)
	for _, n := range steps {
		go func() { changed <- s.Try(&fastpath.Change{Global: &fastpath.Global{Workers: n}}) }()
		for more := true; more; {
			select {
			case err := <-changed:
				if err != nil {
					t.Fatal(err)
				}
				more = false
			default:
				traffic(time.Now().Add(time.Millisecond))
			}
		}
		// Each worker gets some of the flows, when it gets a processor.
		idle := func() (l []fastpath.Worker) {
			team := s.State(&fastpath.Query{Process: true}).Process.Workers
			if len(team) != n {
				t.Fatalf("%d workers, want %d", len(team), n)
			}
			for _, w := range team[1:] {
				if w.Taken == 0 || w.Sent == 0 {
					l = append(l, w)
				}
			}
			return l
		}
		traffic(time.Now().Add(60 * time.Millisecond))
		for end := time.Now().Add(20 * time.Second); len(idle()) > 0; traffic(time.Now().Add(10 * time.Millisecond)) {
			if time.Now().After(end) {
				t.Fatalf("workers without work: %+v", idle())
			}
		}
	}
	for end := time.Now().Add(10 * time.Second); total(&sent) > total(&got) && time.Now().Before(end); runtime.Gosched() {
		collect()
	}
	st := s.State(&fastpath.Query{Drops: true, Process: true, SAs: []string{}})
	if total(&sent) != total(&got) || total(&sent) < 1000 {
		t.Errorf("%d packets came of %d", total(&got), total(&sent))
	}
	for _, d := range st.Drops {
		t.Errorf("%d packets were dropped: %s", d.Packets, d.Reason)
	}
	for _, a := range st.SAs {
		if a.Name == "out" && a.Packets != uint64(total(&[2][crewFlows]int{sent[0]})) {
			t.Errorf("the outbound SA counts %d packets of %d", a.Packets, total(&[2][crewFlows]int{sent[0]}))
		}
	}
	if st.Process.Changes != uint64(len(steps)-1) { // the first changes nothing
		t.Errorf("%d changes, want %d", st.Process.Changes, len(steps)-1)
	}
	t.Logf("%d packets", total(&sent))
}
