package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"vrouter/cmd/internal/lab"
)

// sequences reads the ESP sequence numbers of a capture by SPI, in order.
func sequences(t *testing.T, file string) map[uint32][]uint32 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	m := map[uint32][]uint32{}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return m
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
		if e, ok := p.Layer(layers.LayerTypeIPSecESP).(*layers.IPSecESP); ok {
			m[e.SPI] = append(m[e.SPI], e.Seq)
		}
		// In UDP (RFC 3948); four octets of 0 are IKE.
		if u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && (u.DstPort == 4500 || u.SrcPort == 4500) && len(u.Payload) >= 8 {
			if spi := binary.BigEndian.Uint32(u.Payload); spi != 0 {
				m[spi] = append(m[spi], binary.BigEndian.Uint32(u.Payload[4:]))
			}
		}
	}
}

// noneTwice fails when a sequence number of an SA was on the wire twice.
func noneTwice(t *testing.T, file string) (packets int) {
	t.Helper()
	for spi, l := range sequences(t, file) {
		seen := make(map[uint32]bool, len(l))
		for _, s := range l {
			if seen[s] {
				t.Errorf("SPI %#x: sequence number %d was sent twice", spi, s)
			}
			seen[s] = true
		}
		packets += len(l)
	}
	return packets
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestTunnelCarriesPingAndTCP(t *testing.T) {
	need(t, "iperf3", "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		for _, size := range []string{"56", "1000", "1350"} {
			if out, err := b.HostA.Run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-s", size, to); err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("ping %s with %s bytes: %v\n%s", to, size, err, out)
			}
		}
	}
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	for _, args := range [][]string{{"-c", "10.2.0.2"}, {"-c", "10.2.0.2", "-R"}, {"-c", "2001:db8:2::2"}} {
		if out, err := b.HostA.RunFor(40*time.Second, append([]string{"iperf3", "-t", "2"}, args...)...); err != nil {
			t.Errorf("iperf3 %v: %v\n%s", args, err, out)
		}
	}
	wan.Stop()
	b.noClear(wan)
	if n := noneTwice(t, wan.File); n < 100 {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	// Echo to own addresses, TTL: what traceroute users expect of a router.
	if out, err := b.HostA.Run("ping", "-n", "-c", "2", "-W", "1", "10.1.0.1"); err != nil {
		t.Errorf("ping to the vRouter: %v\n%s", err, out)
	}
	if out, _ := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", "-t", "1", "10.2.0.2"); !strings.Contains(out, "Time to live exceeded") {
		t.Errorf("no time exceeded:\n%s", out)
	}
	// Path MTU: the tunnel's overhead is told to the sender.
	if out, _ := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", "10.2.0.2"); !strings.Contains(out, "mtu") && !strings.Contains(out, "Frag needed") {
		t.Errorf("no fragmentation needed:\n%s", out)
	}
	b.buffersAccounted()
}

// The stream's packets must all arrive while commits that do not concern them
// run, and while vrouterd dies and comes back.
func TestStreamOutlivesCommitsAndVrouterd(t *testing.T) {
	need(t, "iperf3", "tcpdump")
	b := configured(t)
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	tcp, err := b.HostA.Start("iperf3-client", "iperf3", "-c", "10.2.0.2", "-t", fmt.Sprint(int(soak.Seconds())), "-b", "50M")
	if err != nil {
		t.Fatal(err)
	}
	before := b.drops(b.A)
	s := b.stream(20000, 200)
	end := time.Now().Add(soak)
	commits := 0
	for i := 0; time.Now().Before(end); i++ {
		next := time.Now().Add(100 * time.Millisecond)
		b.edit(b.A, fmt.Sprintf(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>wan0</name><description>commit %d</description></interface></interfaces>
<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"><control-plane-protocols><control-plane-protocol><type>static</type><name>main</name><static-routes>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"><route><destination-prefix>10.99.%d.0/24</destination-prefix><next-hop><special-next-hop>blackhole</special-next-hop></next-hop></route></ipv4>
</static-routes></control-plane-protocol></control-plane-protocols></routing>`, i, i%250))
		commits++
		time.Sleep(time.Until(next))
	}
	if err := tcp.Wait(30 * time.Second); err != nil {
		t.Errorf("TCP beside the commits: %v\n%s", err, tail(tcp.Output(), 1000))
	}
	sent, lost, dup := s.end()
	t.Logf("%d commits, %d packets sent, %d lost, %d twice", commits, sent, lost, dup)
	if lost != 0 || dup != 0 || sent < int(soak.Seconds())*15000 {
		t.Errorf("beside %d commits: %d packets sent, %d lost, %d twice; drops at A before %v and after %v, at B %v",
			commits, sent, lost, dup, before, b.drops(b.A), b.drops(b.B))
		t.Log(b.lostBy())
	}

	s = b.stream(20000, 200)
	time.Sleep(500 * time.Millisecond)
	pid, err := b.A.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	b.A.Proc.Kill()
	time.Sleep(500 * time.Millisecond)
	if err := b.A.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	sent, lost, dup = s.end()
	t.Logf("vrouterd killed and started again: %d packets sent, %d lost", sent, lost)
	if lost != 0 || dup != 0 {
		t.Errorf("vrouterd killed: %d of %d packets lost, %d twice; drops %v", lost, sent, dup, b.drops(b.A))
	}
	if now, _ := b.A.FastPathPID(); now != pid {
		t.Errorf("the data plane was replaced (pid %d, then %d)", pid, now)
	}
	if c := b.ctl(b.A, "show", "config"); !strings.Contains(c, fmt.Sprintf("commit %d<", commits-1)) {
		t.Error("the last commit is gone after kill -9")
	}
	b.buffersAccounted()
}

func TestFastpathdKilled(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	s := b.stream(2000, 200)
	for range 3 {
		time.Sleep(time.Second)
		pid, err := b.A.FastPathPID()
		if err != nil {
			t.Fatal(err)
		}
		n := s.got()
		killed := time.Now()
		kill(t, pid)
		if err := lab.Until(5*time.Second, "traffic is back", func() bool { return s.got() > n+100 }); err != nil {
			t.Fatal(err)
		}
		took := time.Since(killed)
		t.Logf("traffic back %v after fastpathd's death", took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("traffic came back only after %v", took)
		}
		if now, err := b.A.FastPathPID(); err != nil || now == pid {
			t.Errorf("the pid file still names %d: %v", now, err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	s.end()
	wan.Stop()
	b.noClear(wan)
	if n := noneTwice(t, wan.File); n < 1000 {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	if d := b.drops(b.B); d["esp-replay"]+d["esp-late"] > 0 {
		t.Errorf("the peer saw replays: %v", d)
	}
	b.buffersAccounted()
}

// Whatever is done to the SAs, nothing of the tunnel is ever in the clear.
func TestNeverInTheClear(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	s := b.stream(2000, 200)
	step := func(what string, do func(), flows bool) {
		t.Helper()
		do()
		time.Sleep(200 * time.Millisecond)
		n := s.got()
		time.Sleep(500 * time.Millisecond)
		if moved := s.got() > n; moved != flows {
			t.Errorf("%s: packets arrive: %v, want %v; drops at A: %v", what, moved, flows, b.drops(b.A))
		}
	}
	del := `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><sad><sad-entry nc:operation="delete"><name>b-v4-out</name></sad-entry></sad></ipsec-ikeless>`
	whole := func() { b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit") }
	step("as configured", func() {}, true)
	step("outbound SA deleted", func() { b.edit(b.A, del) }, false)
	if b.drops(b.A)["ipsec-no-sa"] == 0 {
		t.Errorf("no drop is counted as ipsec-no-sa: %v", b.drops(b.A))
	}
	step("SA back under the same key", whole, true)
	step("SA deleted by a confirmed commit", func() {
		f := b.Lab.Path("del.xml")
		if err := os.WriteFile(f, []byte(del), 0o600); err != nil {
			t.Fatal(err)
		}
		b.ctl(b.A, "edit", f)
		b.ctl(b.A, "commit", "confirmed", "--within", "60s")
	}, false)
	step("rolled back", func() { b.ctl(b.A, "rollback") }, true)
	step("policy to discard", func() {
		b.edit(b.A, `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd><spd-entry><name>b-v4-out</name><ipsec-policy-config><processing-info><action>discard</action></processing-info></ipsec-policy-config></spd-entry></spd>
<sad><sad-entry><name>b-v4-out</name><direction xmlns="urn:vrouter:yang:vrouter-sal">outbound</direction></sad-entry></sad></ipsec-ikeless>`)
	}, false)
	step("policy to protect", whole, true)
	step("inbound policy of the peer gone from B's SAD", func() {
		b.edit(b.B, strings.ReplaceAll(del, "b-v4-out", "a-v4-in"))
	}, false)
	if b.drops(b.B)["esp-no-sa"] == 0 {
		t.Errorf("B counts no esp-no-sa: %v", b.drops(b.B))
	}
	s.end()
	wan.Stop()
	b.noClear(wan)
	noneTwice(t, wan.File)

	// From the WAN, in the clear, with addresses that the policy protects.
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	if err := b.Wan.IP("addr add 10.1.0.77/32 dev wan\n addr add 192.0.2.77/24 dev wan\n route add 10.2.0.0/24 via 192.0.2.2 src 10.1.0.77"); err != nil {
		t.Fatal(err)
	}
	before := b.drops(b.B)["ipsec-unprotected"]
	if out, err := b.Wan.Run("ping", "-n", "-c", "2", "-W", "1", "-I", "10.1.0.77", "10.2.0.2"); err == nil {
		t.Errorf("a clear packet was let into the site:\n%s", out)
	}
	if after := b.drops(b.B)["ipsec-unprotected"]; after < before+2 {
		t.Errorf("ipsec-unprotected went from %d to %d", before, after)
	}
	b.buffersAccounted()
}

// What the fast path refuses fails the commit with the path, and nothing has
// changed: running, packets, counters.
func TestRefusedCommitChangesNothing(t *testing.T) {
	b := configured(t)
	for _, c := range []struct{ name, xml, path string }{
		{"engine that is not there", `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>b-v4-out</name>
<offload xmlns="urn:vrouter:yang:vrouter-sal"><mode>full</mode><policy>require</policy></offload></sad-entry></sad></ipsec-ikeless>`, "sad-entry[name='b-v4-out']"},
		{"no replay window with extended sequence numbers", `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>b-v4-in</name>
<ipsec-sa-config><anti-replay-window-size>0</anti-replay-window-size></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`, "sad-entry[name='b-v4-in']/ipsec-sa-config/anti-replay-window-size"},
		{"device that is not there", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>ghost0</name>
<type xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port></interface></interfaces>
<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><enabled>false</enabled></interface></interfaces>`, "interface[name='ghost0']"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := b.ctl(b.A, "show", "config")
			sas := b.ctl(b.A, "show", "ipsec", "sa")
			s := b.stream(2000, 200)
			time.Sleep(300 * time.Millisecond)
			err := b.tryEdit(b.A, c.xml)
			if err == nil || !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(err.Error(), `"`, "'"), "ietf-i2nsf-ikeless:", ""), strings.ReplaceAll(c.path, "ietf-interfaces:", "")) &&
				!strings.Contains(strings.ReplaceAll(err.Error(), "ietf-interfaces:", ""), c.path) {
				t.Errorf("the commit's error does not name %s: %v", c.path, err)
			}
			time.Sleep(300 * time.Millisecond)
			if sent, lost, _ := s.end(); lost != 0 {
				t.Errorf("%d of %d packets lost beside a refused commit", lost, sent)
			}
			if now := b.ctl(b.A, "show", "config"); now != config {
				t.Error("running has changed")
			}
			if now := b.ctl(b.A, "show", "ipsec", "sa"); strings.Count(now, "\n") != strings.Count(sas, "\n") {
				t.Errorf("SAs have changed:\n%s", now)
			}
			if i := b.ctl(b.A, "show", "interfaces"); strings.Contains(i, "ghost0") || !strings.Contains(i, "lan0       up") && !strings.Contains(i, "lan0") {
				t.Errorf("interfaces have changed:\n%s", i)
			}
		})
	}
	b.buffersAccounted()
}
