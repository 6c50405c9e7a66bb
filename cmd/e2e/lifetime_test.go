package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// TestLifetimes lets SAs of a running tunnel reach their lifetimes, by packets
// and by seconds: soft ones stop nothing, hard ones all; nothing of it is ever in
// the clear; both survive the death of either process; and a NETCONF client that
// is not ours is told of each, once.
func TestLifetimes(t *testing.T) {
	need(t, "tcpdump", "python3:ncclient")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	file, keyFile, _ := users(t, l)
	b := bedIn(t, l, "--users", file)
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	heard := b.subscribe(keyFile)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	ping := func(n int, to string) (answered int) {
		out, _ := b.HostA.Run("ping", "-n", "-c", fmt.Sprint(n), "-i", "0.05", "-W", "1", to)
		answered = strings.Count(out, "bytes from")
		return answered
	}
	set := func(sa, more string) {
		b.edit(b.A, `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>`+sa+`</name><ipsec-sa-config>`+more+
			`</ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`)
	}
	lifetimes := func(what string, soft, hard int) string {
		return fmt.Sprintf("<sa-lifetime-soft><%s>%d</%s></sa-lifetime-soft><sa-lifetime-hard><%s>%d</%s></sa-lifetime-hard>", what, soft, what, what, hard, what)
	}
	key := func(n int) string {
		return "<esp-sa><encryption><key>" + strings.Repeat(fmt.Sprintf("%02x:", n), 35) + "00</key></encryption></esp-sa>"
	}

	// By packets, under a new key that the peer is not given: answers do not come,
	// but what leaves is counted.
	set("b-v4-out", "<spi>60001</spi>"+key(0x61)+lifetimes("packets", 5, 12))
	ping(5, "10.2.0.2")
	heard.expect("sadb-expire b-v4-out soft packets=5")
	if n := espOf(t, b, wan.File, 60001); n != 5 {
		t.Errorf("%d packets at the soft limit of 5", n)
	}
	ping(20, "10.2.0.2")
	heard.expect("sadb-expire b-v4-out hard packets=12")
	if d := b.drops(b.A)["esp-expired"]; d < 13 {
		t.Errorf("esp-expired counts %d: %v", d, b.drops(b.A))
	}

	// vrouterd dies, then the data plane: it stays so, and nobody is told again.
	b.A.Proc.Kill()
	if err := b.A.Start(); err != nil {
		t.Fatal(err)
	}
	heard = b.subscribe(keyFile)
	ping(5, "10.2.0.2")
	pid, err := b.A.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	kill(t, pid)
	if err := lab.Until(10*time.Second, "another data plane", func() bool {
		now, err := b.A.FastPathPID()
		return err == nil && now != pid && ping(1, "2001:db8:2::2") == 1
	}); err != nil {
		t.Fatal(err)
	}
	ping(5, "10.2.0.2")
	heard.nothingOf("b-v4-out")

	// By seconds, on both sides of the other tunnel.
	set("b-v6-in", "<spi>60002</spi>"+lifetimes("time", 2, 4))
	b.edit(b.B, strings.ReplaceAll(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>a-v6-out</name><ipsec-sa-config><spi>60002</spi></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`, "\n", ""))
	begun := time.Now()
	if ping(3, "2001:db8:2::2") != 3 {
		t.Error("the tunnel does not work with a lifetime")
	}
	heard.expect("sadb-expire b-v6-in soft")
	if ping(3, "2001:db8:2::2") != 3 && time.Since(begun) < 3*time.Second {
		t.Error("the tunnel does not work at its soft lifetime")
	}
	heard.expect("sadb-expire b-v6-in hard")
	if took := time.Since(begun); took < 3*time.Second {
		t.Errorf("the hard lifetime of 4 s came after %v", took)
	}
	if ping(2, "2001:db8:2::2") != 0 {
		t.Error("the tunnel works behind its hard lifetime")
	}

	// ESP for an SA that nobody has any more.
	b.edit(b.A, `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><sad><sad-entry nc:operation="delete"><name>b-v6-in</name></sad-entry></sad></ipsec-ikeless>`)
	ping(1, "2001:db8:2::2")
	heard.expect("sadb-bad-spi 60002")

	wan.Stop()
	b.noClear(wan)
	if n := len(sequences(t, wan.File)[60001]); n != 12 {
		t.Errorf("%d packets under the SA of 12", n)
	}
	b.buffersAccounted()
}

// espOf waits for packets of an SPI in a capture that goes on, and counts them.
func espOf(t *testing.T, b *bed, file string, spi uint32) (n int) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && n < 5; time.Sleep(50 * time.Millisecond) {
		n = len(sequences(t, file)[spi])
	}
	return n
}

// ears are what a subscriber at site A has heard.
type ears struct {
	t    *testing.T
	proc *lab.Proc
	seen int
}

func (b *bed) subscribe(keyFile string) *ears {
	b.t.Helper()
	script, err := filepath.Abs("testdata/events.py")
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := b.A.NS.Start(fmt.Sprint("events-", time.Now().UnixNano()), "/usr/bin/python3", script, "830", keyFile, "NETCONF", "admin")
	if err != nil {
		b.t.Fatal(err)
	}
	e := &ears{t: b.t, proc: p}
	if err := lab.Until(20*time.Second, "subscribed", func() bool { return strings.Contains(p.Output(), "subscribed") }); err != nil {
		b.t.Fatalf("%v\n%s", err, p.Output())
	}
	return e
}

// lines are the notifications so far, each in short.
func (e *ears) lines() (l []string) {
	value := func(x, tag string) string {
		_, x, ok := strings.Cut(x, "<"+tag+">")
		x, _, _ = strings.Cut(x, "</"+tag+">")
		if !ok {
			return ""
		}
		return x
	}
	for _, x := range strings.Split(e.proc.Output(), "\n") {
		switch {
		case strings.Contains(x, "<sadb-expire"):
			kind := map[string]string{"true": "soft", "false": "hard"}[value(x, "soft-lifetime-expire")]
			l = append(l, fmt.Sprintf("sadb-expire %s %s packets=%s", value(x, "ipsec-sa-name"), kind, value(x, "packets")))
		case strings.Contains(x, "<sadb-bad-spi"):
			l = append(l, "sadb-bad-spi "+value(x, "spi"))
		case strings.Contains(x, "<peer-moved"):
			at := func(which string) string { return net.JoinHostPort(value(x, which+"address"), value(x, which+"port")) }
			l = append(l, fmt.Sprintf("peer-moved %s from %s by %s", at(""), at("previous-"), value(x, "ipsec-sa-name")))
		case strings.Contains(x, "<sadb-"):
			l = append(l, x)
		}
	}
	return l
}

// expect waits for a notification that begins so, and wants it to be the next.
func (e *ears) expect(want string) {
	e.t.Helper()
	if err := lab.Until(8*time.Second, want, func() bool { return len(e.lines()) > e.seen }); err != nil {
		e.t.Fatalf("%v; heard %q\n%s", err, e.lines(), tail(e.proc.Output(), 2000))
	}
	if got := e.lines()[e.seen]; !strings.HasPrefix(got, want) {
		e.t.Errorf("heard %q, want %q", got, want)
	}
	e.seen++
}

// expectAll is expect for several, in any order.
func (e *ears) expectAll(want ...string) {
	e.t.Helper()
	if err := lab.Until(8*time.Second, strings.Join(want, ", "), func() bool { return len(e.lines()) >= e.seen+len(want) }); err != nil {
		e.t.Fatalf("%v; heard %q\n%s", err, e.lines(), tail(e.proc.Output(), 2000))
	}
	got := e.lines()[e.seen : e.seen+len(want)]
	for _, w := range want {
		if !slices.ContainsFunc(got, func(x string) bool { return strings.HasPrefix(x, w) }) {
			e.t.Errorf("heard %q, want %q", got, w)
		}
	}
	e.seen += len(want)
}

// nothingOf wants no notification to name an SA.
func (e *ears) nothingOf(sa string) {
	e.t.Helper()
	for _, x := range e.lines() {
		if strings.Contains(x, sa) {
			e.t.Errorf("heard %q", x)
		}
	}
	e.seen = len(e.lines())
}
