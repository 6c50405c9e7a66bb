package e2e

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// TestClockSteps has site B's vRouter inside of the guest, whose clock can be
// changed without harm to anybody: hours forward, hours back, to 1970. Packets,
// neighbours, the timer of a confirmed commit and the sequence numbers after a
// death of the data plane do not care.
func TestClockSteps(t *testing.T) {
	needGuest(t)
	need(t, "tcpdump", "ping")
	b := newBed(t)
	vm, err := b.Wan.VM("guest", "wan", filepath.Join(binDir, "vrouterd"), filepath.Join(binDir, "fastpathd"), filepath.Join(binDir, "vrouterctl"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(limit time.Duration, script string) string {
		t.Helper()
		out, err := vm.Run(limit, script)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const ctl = "vrouterctl --socket /run/vrouter/netconf.sock "
	defer func() {
		if t.Failed() {
			out, _ := vm.Run(20*time.Second, "date; tail -n 20 /tmp/vrouterd.log /run/vrouter/fastpathd.log; "+ctl+"show drops; "+ctl+"show neighbours; "+ctl+"show ipsec sa")
			t.Logf("guest:\n%s", tail(out, 5000))
		}
	}()
	run(20*time.Second, `set -e
mkdir -p /var/run/netns /run/vrouter /var/lib/vrouter
ip link set eth0 name wan0
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip link set wan0 up
ip netns add h
ip link add lan0 type veth peer name h0 netns h
ip link set lan0 up
ip -n h link set h0 up
ip -n h addr add 10.2.0.2/24 dev h0
ip -n h addr add 10.2.0.3/24 dev h0
ip -n h addr add 10.2.0.4/24 dev h0
ip -n h addr add 10.2.0.5/24 dev h0
ip -n h route add default via 10.2.0.1
echo `+base64.StdEncoding.EncodeToString([]byte(siteConfig(t, "site-b.xml")))+` | base64 -d >/tmp/site-b.xml
vrouterd --listen none >/tmp/vrouterd.log 2>&1 &
`)
	if err := lab.Until(40*time.Second, "the guest's vRouter answers", func() bool {
		_, err := vm.Run(20*time.Second, ctl+"show fastpath | grep 'process id'")
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	run(20*time.Second, ctl+"edit /tmp/site-b.xml --commit")
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	answers := func(to string) bool {
		_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", to)
		return err == nil
	}
	if err := lab.Until(20*time.Second, "the host behind the guest answers", func() bool { return answers("10.2.0.2") }); err != nil {
		t.Fatalf("%v; drops at A %v", err, b.drops(b.A))
	}

	for i, step := range []string{"$(($(date +%s) + 36000))", "$(($(date +%s) - 72000))", "1000"} {
		// Goes back only by its timer, which was started before the step.
		clock := run(20*time.Second, fmt.Sprintf(`set -e
echo '<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><description>step %d</description></interface></interfaces>' >/tmp/edit.xml
%[2]s edit /tmp/edit.xml >/dev/null
%[2]s commit confirmed --within 2s >/dev/null
date +%%s
date -s @%[3]s >/dev/null
date +%%s
`, i, ctl, step))
		var before, after int
		if n, _ := fmt.Sscan(clock, &before, &after); n != 2 || before-after < 10000 && after-before < 10000 {
			t.Fatalf("the guest's clock was to be changed: %s", clock)
		}
		t.Logf("the clock jumps by %v", time.Duration(after-before)*time.Second)
		if out, err := b.HostA.Run("ping", "-n", "-c", "20", "-i", "0.05", "-W", "2", "10.2.0.2"); err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("step %d: %v\n%s", i, err, out)
		}
		if err := lab.Until(10*time.Second, "an address that was never asked for answers", func() bool { return answers(fmt.Sprintf("10.2.0.%d", 3+i)) }); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		if err := lab.Until(20*time.Second, "the confirmed commit goes back", func() bool {
			return !strings.Contains(run(20*time.Second, ctl+"show config"), fmt.Sprintf("step %d<", i))
		}); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		run(20*time.Second, "kill -9 $(cat /run/vrouter/fastpathd.pid)")
		if err := lab.Until(20*time.Second, "the tunnel is back after kill -9 of the data plane", func() bool { return answers("10.2.0.2") }); err != nil {
			t.Fatalf("step %d: %v; drops at A %v", i, err, b.drops(b.A))
		}
	}
	wan.Stop()
	b.noClear(wan)
	if n := noneTwice(t, wan.File); n < 100 {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	if d := b.drops(b.A); d["esp-replay"]+d["esp-late"]+d["esp-bad-icv"] > 0 {
		t.Errorf("replays: %v", d)
	}
	b.buffersAccounted()
}
