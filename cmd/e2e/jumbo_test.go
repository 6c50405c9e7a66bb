package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// receiver is what iperf3 says at its end.
var receiver = regexp.MustCompile(`[\d.]+ \w?bits/sec.*receiver`)

// TestJumbo carries frames of 9000 bytes through the tunnel, over packet sockets
// and AF_XDP: ping of all sizes up to the largest, to hosts and to the vRouter
// itself, and TCP both ways. Behind that the WAN shrinks, and large datagrams still
// get through, in fragments.
func TestJumbo(t *testing.T) {
	for _, driver := range []string{"af-packet", "af-xdp"} {
		t.Run(driver, func(t *testing.T) { jumbo(t, driver) })
	}
}

func jumbo(t *testing.T, driver string) {
	need(t, "iperf3", "tcpdump", "ping")
	b := configured(t)
	mtu := func(lan, wan int) {
		for _, v := range []*site.VRouter{b.A, b.B} {
			xml := `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`
			for port, n := range map[string]int{"lan0": lan, "wan0": wan} {
				xml += fmt.Sprintf(`<interface><name>%s</name><port xmlns="urn:vrouter:yang:vrouter-port"><driver>%s</driver><mtu>%d</mtu></port></interface>`, port, driver, n)
			}
			b.edit(v, xml+`</interfaces>`)
		}
		for _, h := range []*lab.NS{b.HostA, b.HostB} {
			if err := h.IP(fmt.Sprintf("link set dev eth0 mtu %d", lan)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Wan.IP(fmt.Sprintf("link set dev a mtu %d\n link set dev b mtu %d\n link set dev wan mtu %d", wan, wan, wan)); err != nil {
			t.Fatal(err)
		}
		b.resolve()
	}
	ping := func(to string, size int, more ...string) {
		t.Helper()
		args := append([]string{"ping", "-n", "-c", "3", "-i", "0.2", "-W", "3", "-s", fmt.Sprint(size)}, more...)
		if out, err := b.HostA.Run(append(args, to)...); err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("ping %s with %d bytes: %v\n%s\ndrops %v and %v", to, size, err, out, b.drops(b.A), b.drops(b.B))
		}
	}
	mtu(9000, 9100)
	wan, err := b.Wan.Capture("jumbo", "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1850, 1900, 1950, 2000, 4000, 8900} {
		ping("10.2.0.2", size, "-M", "do")
		ping("2001:db8:2::2", size, "-M", "do")
	}
	ping("10.2.0.2", 60000)
	ping("2001:db8:2::2", 60000)
	ping("10.1.0.1", 60000)
	ping("2001:db8:1::1", 60000)
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	for _, args := range [][]string{{"-c", "10.2.0.2"}, {"-c", "10.2.0.2", "-R"}, {"-c", "2001:db8:2::2"}} {
		out, err := b.HostA.RunFor(40*time.Second, append([]string{"iperf3", "-t", "2"}, args...)...)
		if err != nil {
			t.Errorf("iperf3 %v: %v\n%s", args, err, out)
		}
		t.Log(driver, args, receiver.FindString(out))
	}
	for _, r := range []*site.VRouter{b.A, b.B} {
		for reason, n := range b.drops(r) {
			if strings.HasPrefix(reason, "esp-") || strings.HasPrefix(reason, "ipsec-") || strings.HasPrefix(reason, "reassembly-") || reason == "no-large-buffer" || reason == "rx-too-big" {
				t.Errorf("%s: %d packets died of %s", r.Name, n, reason)
			}
		}
	}
	wan.Stop()
	b.noClear(wan)

	mtu(9000, 1500)
	for _, size := range []int{1400, 2000, 8000, 60000} {
		ping("10.2.0.2", size, "-M", "dont")
	}
	b.buffersAccounted()
}
