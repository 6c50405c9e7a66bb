package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// Links that go down and up again, on either end and while packets are on the
// way: traffic comes back by itself, nothing is in the clear, no buffer is lost.
func TestLinkFlaps(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	there, back := b.stream(1000, 200), b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	pid, err := b.A.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for round := range 2 {
		for _, l := range []struct {
			n   *lab.NS
			dev string
			// a kernel forgets the routes of a link that is down
			again string
		}{
			{b.A.NS, "wan0", ""}, {b.A.NS, "lan0", ""}, {b.Wan, "b", ""}, {b.B.NS, "lan0", ""},
			{b.HostA, "eth0", "addr replace 2001:db8:1::2/64 dev eth0 nodad\n route replace default via 10.1.0.1\n route replace default via 2001:db8:1::1"},
		} {
			if err := l.n.IP("link set dev " + l.dev + " down"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond)
			if err := l.n.IP("link set dev " + l.dev + " up\n" + l.again); err != nil {
				t.Fatal(err)
			}
			d, err := moving(time.Now(), there, back)
			if err != nil {
				t.Fatalf("round %d, %s of %s: %v; drops at A %v, at B %v", round, l.dev, l.n.Name, err, b.drops(b.A), b.drops(b.B))
			}
			took = append(took, d)
		}
	}
	t.Logf("traffic back after a link is up again: %s", times(took))
	if now, err := b.A.FastPathPID(); err != nil || now != pid {
		t.Errorf("the data plane had process id %d, then %d: %v", pid, now, err)
	}
	there.end()
	back.end()
	b.resolve() // IPv6 as well
	wan.Stop()
	b.noClear(wan)
	noneTwice(t, wan.File)
	b.buffersAccounted()
}

// rekeyed is a site's configuration with other keys and SPIs in it.
func rekeyed(t *testing.T, site string) string {
	t.Helper()
	text := regexp.MustCompile(`<spi>(\d+)</spi>`).ReplaceAllStringFunc(siteConfig(t, site), func(s string) string {
		var n int
		if _, err := fmt.Sscanf(s, "<spi>%d</spi>", &n); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("<spi>%d</spi>", n+0x100000)
	})
	text = regexp.MustCompile(`<key>([0-9A-Fa-f]{2})`).ReplaceAllStringFunc(text, func(s string) string { return s[:len(s)-2] + "5a" })
	return text
}

// A peer that has lost its memory starts its numbers again: without new keys
// everything it sends is a replay and dies as one; with new keys on both sides
// traffic goes on. Nothing is delivered twice.
func TestPeerReboots(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	back := b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 5000, 200)
	time.Sleep(time.Second) // so that the numbers are far beyond any window
	back.end()

	pid, err := b.B.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	b.B.Proc.Kill()
	kill(t, pid)
	if err := lab.Until(5*time.Second, "fastpathd of vr-b is gone", func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); return err != nil }); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"state", "run"} {
		if err := os.RemoveAll(filepath.Join(b.B.Dir, d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.B.Start(); err != nil {
		t.Fatal(err)
	}
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	before := b.drops(b.A)
	back = b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	if err := lab.Until(5*time.Second, "vr-b sends again", func() bool {
		d := b.drops(b.A)
		return d["esp-replay"]+d["esp-late"]+d["esp-bad-icv"] > 100+before["esp-replay"]+before["esp-late"]+before["esp-bad-icv"]
	}); err != nil {
		t.Errorf("%v: drops at A were %v, are %v", err, before, b.drops(b.A))
	}
	if n := back.got(); n != 0 {
		t.Errorf("%d packets under numbers that were used before have arrived", n)
	}

	b.edit(b.A, rekeyed(t, "site-a.xml"))
	b.edit(b.B, rekeyed(t, "site-b.xml"))
	if _, err := moving(time.Now(), back); err != nil {
		t.Errorf("with new keys: %v; drops at A %v, at B %v", err, b.drops(b.A), b.drops(b.B))
	}
	if _, _, dup := back.end(); dup != 0 {
		t.Errorf("%d packets arrived twice", dup)
	}
	b.resolve()
	b.buffersAccounted()
}

// The outer address of a site changes by a commit on each side, under traffic:
// afterwards the tunnel runs between the new addresses, and at no moment was
// anything in the clear.
func TestOuterAddressChanges(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	there, back := b.stream(1000, 200), b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	old := "192.0.2.1"
	var took []time.Duration
	for i := range 3 {
		next := fmt.Sprintf("192.0.2.%d", 11+i)
		move := func(site string) string {
			text := siteConfig(t, site)
			text = strings.ReplaceAll(text, ">192.0.2.1<", ">"+next+"<")
			return text
		}
		from := time.Now()
		b.edit(b.B, move("site-b.xml"))
		b.edit(b.A, strings.Replace(move("site-a.xml"), "<address><ip>"+next+"</ip>",
			`<address xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete"><ip>`+old+`</ip></address><address><ip>`+next+"</ip>", 1))
		d, err := moving(from, there, back)
		if err != nil {
			t.Fatalf("with %s: %v; drops at A %v, at B %v", next, err, b.drops(b.A), b.drops(b.B))
		}
		took = append(took, d)
		old = next
	}
	t.Logf("traffic back, both commits included: %s", times(took))
	there.end()
	back.end()
	wan.Stop()
	b.noClear(wan)
	noneTwice(t, wan.File)
	for _, f := range []string{"src 192.0.2.11", "dst 192.0.2.12", "src 192.0.2.13"} {
		if n, err := wan.Count("ip proto 50 and " + f); err != nil || n == 0 {
			t.Errorf("no ESP with %s: %v", f, err)
		}
	}
	if n, err := wan.Count("ip proto 50 and host 192.0.2.1"); err != nil || n == 0 {
		t.Errorf("no ESP with the first address: %v", err)
	}
	b.buffersAccounted()
}

// A port's device is deleted and made anew under its name, as a container
// runtime or a driver reload does it: the data plane lives on, and traffic comes
// back without anybody's help.
func TestPortDeletedAndBack(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	pid, err := b.A.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	there, back := b.stream(1000, 200), b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	if _, err := moving(time.Now(), there, back); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for i := range 3 {
		if err := b.A.NS.IP("link del wan0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rand.IntN(700)) * time.Millisecond)
		if err := b.Lab.Link(b.A.NS, "wan0", b.Wan, "a"); err != nil {
			t.Fatal(err)
		}
		if err := b.Wan.IP("link set dev a master wan"); err != nil {
			t.Fatal(err)
		}
		d, err := moving(time.Now(), there, back)
		if err != nil {
			t.Fatalf("time %d: %v; drops at A %v", i, err, b.drops(b.A))
		}
		took = append(took, d)
	}
	t.Logf("traffic back after the device is there again: %s", times(took))
	if now, err := b.A.FastPathPID(); err != nil || now != pid {
		t.Errorf("the data plane had process id %d, then %d: %v", pid, now, err)
	}
	there.end()
	back.end()
	b.resolve()
	b.buffersAccounted()
}
