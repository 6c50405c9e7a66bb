package ipsec_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
)

const memoryEnv = "VROUTER_TEST_ESP_MEMORY"

// TestMemory: a process with 10 000 SAs, as many policies, and 100 000 routes,
// all of them in use, of the sizes that fastpathd has, never took 300 MiB.
func TestMemory(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryChild$", "-test.v")
	cmd.Env = append(os.Environ(), memoryEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`peak (\d+) KiB, now (\d+) KiB`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no figure in\n%s", out)
	}
	peak, _ := strconv.Atoi(string(m[1]))
	if peak >= 300<<10 && !raceEnabled {
		t.Errorf("peak of %d MiB, want less than 300", peak>>10)
	}
	t.Logf("peak %d MiB, at the end %s KiB", peak>>10, m[2])
}

// TestMemoryChild is the process that TestMemory looks at.
func TestMemoryChild(t *testing.T) {
	if os.Getenv(memoryEnv) == "" {
		t.Skip("runs as a child of TestMemory only")
	}
	debug.SetGCPercent(-1) // as fastpathd, which collects behind commits
	s := newSite(t, func(o *fastpath.Options) {
		o.Buffers, o.Flows4, o.Flows6, o.Routes, o.MaxSAs = 16384, 0, 0, 0, 0
		o.StateDir = t.TempDir()
	})
	const sasEach, nRoutes = 5000, 100_000
	ch := &fastpath.Change{}
	peers := make([]*peer, sasEach)
	for i := range sasEach {
		for _, dir := range []sal.Direction{sal.Outbound, sal.Inbound} {
			a := testSA(fmt.Sprint(dir, i), dir, false)
			a.SPI, a.ReqID, a.Key, a.ReplayWindow = 0x10000+uint32(i), uint64(dir)<<32|uint64(i), key(int(dir)<<14|i, 36), 1024
			a.Selector.Remote = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)
			ch.IPsec.SetSA = append(ch.IPsec.SetSA, a)
			ch.IPsec.SetPolicy = append(ch.IPsec.SetPolicy, protect(&a))
			if dir == sal.Inbound {
				peers[i] = peerOf(a)
			}
		}
	}
	for i := range nRoutes {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{100 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		ch.Route.Set = append(ch.Route.Set, route.Config{Prefix: p, Iface: "wan", NextHop: addr(peer4)})
	}
	s.Apply(ch)
	runtime.GC()
	const batch = 250
	passed := 0
	for i := 0; i < sasEach; i += batch {
		var lan, wan [][]byte
		for k := i; k < i+batch; k++ {
			out := testbed.Packet{Src: host4, Dst: fmt.Sprintf("11.%d.%d.9", k>>8, k&255), Len: 100}
			in := testbed.Packet{Src: out.Dst, Dst: host4, Len: 100}
			lan, wan = append(lan, out.From(hostMAC, lanMAC)), append(wan, testbed.Frame(testbed.MAC(wanMAC), testbed.MAC(peerMAC), peers[k].send(in.IP())))
		}
		s.Send("lan", lan...)
		s.Send("wan", wan...)
		s.Run()
		passed += len(s.Recv("lan")) + len(s.Recv("wan"))
	}
	for i := 0; i < nRoutes; i += 200 { // each route is used as well
		var l [][]byte
		for k := i; k < i+200; k++ {
			l = append(l, testbed.Packet{Src: host4, Dst: fmt.Sprintf("%d.%d.%d.1", 100+k>>16, k>>8&255, k&255), Len: 60}.From(hostMAC, lanMAC))
		}
		s.Send("lan", l...)
		s.E.Turn(0)
		passed += len(s.Recv("wan"))
	}
	if passed != 2*sasEach+nRoutes {
		t.Errorf("%d packets passed", passed)
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kib [2]int
	for i, f := range []string{"VmHWM:", "VmRSS:"} {
		at := bytes.Index(b, []byte(f))
		if at < 0 {
			t.Fatalf("no %s in /proc/self/status", f)
		}
		fmt.Sscan(string(b[at+len(f):]), &kib[i])
	}
	fmt.Printf("peak %d KiB, now %d KiB\n", kib[0], kib[1])
}
