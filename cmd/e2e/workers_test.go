package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestWorkersChangeUnderTraffic changes the number of workers of both vRouters by
// commits, while a paced stream of one flow and TCP in several flows both ways go
// through the tunnel. The ports were opened with one queue and get more as there are
// more workers; at times flows are spread by software instead. Of the stream nothing
// may be lost, and no sequence number may be sent twice. A count that cannot be is
// refused with its path, and then nothing changes.
func TestWorkersChangeUnderTraffic(t *testing.T) {
	need(t, "iperf3", "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a", "esp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	counts := []int{3, 2, 1, 2, 1}
	each := soak / time.Duration(len(counts)+1)
	tcp, err := b.HostA.Start("iperf3-client", "iperf3", "-c", "10.2.0.2", "-t", fmt.Sprint(int(soak.Seconds())), "-P", "4", "-b", "4M", "--bidir")
	if err != nil {
		t.Fatal(err)
	}
	s := b.stream(4000, 200)
	time.Sleep(each)
	for i, n := range counts {
		spreading := [2]string{"auto", "software"}[i%2]
		b.edit(b.A, fmt.Sprintf(`<fastpath xmlns="urn:vrouter:yang:vrouter-fastpath"><worker><count>%d</count><spreading>%s</spreading></worker></fastpath>`, n, spreading))
		b.edit(b.B, fmt.Sprintf(`<fastpath xmlns="urn:vrouter:yang:vrouter-fastpath"><worker><count>%d</count></worker></fastpath>`, 2-i%2))
		time.Sleep(each)
		out := b.ctl(b.A, "show", "workers")
		if got := strings.Count(strings.TrimSpace(out), "\n"); got != n {
			t.Errorf("%d workers, want %d:\n%s", got, n, out)
		}
		if soft := strings.Contains(out, "lan0/0*"); soft != (n > 1 && spreading == "software") {
			t.Errorf("with %d workers lan0 is spread by software: %v\n%s", n, soft, out)
		}
		if !strings.Contains(out, "lan0/2") || !strings.Contains(out, "wan0/2") {
			t.Errorf("with %d workers the ports have not as many queues as they once got:\n%s", n, out)
		}
		t.Logf("\n%s", out)
	}
	for leaf, xml := range map[string]string{
		"count": `<worker><count>64</count></worker>`,
		"core":  `<worker><count>1</count><core>1000</core></worker>`,
	} {
		err := b.tryEdit(b.A, `<fastpath xmlns="urn:vrouter:yang:vrouter-fastpath">`+xml+`</fastpath>`)
		if err == nil || !strings.Contains(err.Error(), "worker/"+leaf) {
			t.Errorf("%s was not refused with the path of %s: %v", xml, leaf, err)
		}
	}
	if out := b.ctl(b.A, "show", "workers"); strings.Count(strings.TrimSpace(out), "\n") != counts[len(counts)-1] {
		t.Errorf("a refused commit has changed the workers:\n%s", out)
	}
	if err := tcp.Wait(60 * time.Second); err != nil {
		t.Errorf("TCP beside the changes: %v\n%s", err, tail(tcp.Output(), 1000))
	}
	sent, lost, dup := s.end()
	t.Logf("%d packets sent, %d lost, %d twice", sent, lost, dup)
	if lost != 0 || dup != 0 || sent < int(soak.Seconds())*2000 {
		t.Errorf("%d packets sent, %d lost, %d twice; drops at A %v, at B %v", sent, lost, dup, b.drops(b.A), b.drops(b.B))
		t.Log(b.lostBy())
	}
	wan.Stop()
	if n := noneTwice(t, wan.File); n < 1000 {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	b.buffersAccounted()
}
