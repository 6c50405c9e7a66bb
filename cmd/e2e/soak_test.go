package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// usage is what a vRouter holds at a moment.
type usage struct {
	vrouterd, fastpathd resident
	files               int   // open in both processes
	disk                int64 // bytes below the state directory, as allocated
	free, total         int   // packet buffers
}

// resident is memory in MiB: own, and pages of files. Among the latter is the
// table of SAs' sequence numbers, which keeps a place for every key that ever
// was until it is full, and so grows with new keys by intention.
type resident struct{ own, file float64 }

func (r resident) String() string { return fmt.Sprintf("%.1f+%.1f", r.own, r.file) }

func residentOf(t *testing.T, pid int) (r resident) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		var name string
		var kb float64
		if n, _ := fmt.Sscanf(l, "%s %f kB", &name, &kb); n == 2 {
			switch name {
			case "RssAnon:", "RssShmem:":
				r.own += kb / 1024
			case "RssFile:":
				r.file += kb / 1024
			}
		}
	}
	if r.own == 0 {
		t.Fatalf("no RssAnon of process %d", pid)
	}
	return r
}

func (u usage) String() string {
	return fmt.Sprintf("MiB own+files: vrouterd %v, fastpathd %v; %3d files open, %5.1f MiB of state on disk, %d of %d buffers free",
		u.vrouterd, u.fastpathd, u.files, float64(u.disk)/(1<<20), u.free, u.total)
}

func (b *bed) usage() (u usage) {
	b.t.Helper()
	pid, err := b.A.FastPathPID()
	if err != nil {
		b.t.Fatal(err)
	}
	// The process that was ip(8) first is vrouterd itself.
	u.vrouterd, u.fastpathd = residentOf(b.t, b.A.Proc.Process.Pid), residentOf(b.t, pid)
	for _, p := range []int{b.A.Proc.Process.Pid, pid} {
		l, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
		if err != nil {
			b.t.Fatal(err)
		}
		u.files += len(l)
	}
	err = filepath.WalkDir(filepath.Join(b.A.Dir, "state"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			if i, e := d.Info(); e == nil {
				u.disk += blocks(i)
			}
		}
		return nil // files come and go
	})
	if err != nil {
		b.t.Fatal(err)
	}
	m := b.fastpath(b.A)
	u.free, _ = strconv.Atoi(m["buffers free"])
	u.total, _ = strconv.Atoi(m["buffers total"])
	return u
}

// soakEdit is commit i of a soak: an address, a route, and SAs with policies
// for networks that nobody asks for, each with keys that were never used.
func soakEdit(i int) string {
	var b strings.Builder
	b.WriteString(probeEdit(i))
	for k, op := range []string{"merge", "remove"} {
		fmt.Fprintf(&b, `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><control-plane-protocols><control-plane-protocol><type>static</type><name>main</name><static-routes>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"><route nc:operation="%s"><destination-prefix>10.99.%d.0/24</destination-prefix><next-hop><special-next-hop>blackhole</special-next-hop></next-hop></route></ipv4>
</static-routes></control-plane-protocol></control-plane-protocols></routing>`, op, (i+250-100*k)%250)
	}
	b.WriteString(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><spd>`)
	const each = 10
	for k := range each {
		fmt.Fprintf(&b, `<spd-entry nc:operation="replace"><name>soak-%d</name><direction>outbound</direction><reqid>%d</reqid><ipsec-policy-config><traffic-selector><local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.77.%d.0/24</remote-prefix></traffic-selector><processing-info><action>protect</action>
<ipsec-sa-cfg><ext-seq-num>true</ext-seq-num><mode>tunnel</mode><esp-algorithms><encryption><id>1</id><algorithm-type>20</algorithm-type><key-length>128</key-length></encryption></esp-algorithms>
<tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-cfg></processing-info></ipsec-policy-config></spd-entry>`, k, 1000+k, (i+k)%256)
	}
	b.WriteString("</spd><sad>")
	for k := range each {
		fmt.Fprintf(&b, `<sad-entry nc:operation="replace"><name>soak-%d</name><reqid>%d</reqid><ipsec-sa-config><spi>%d</spi><ext-seq-num>true</ext-seq-num><traffic-selector><local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.77.%d.0/24</remote-prefix></traffic-selector><mode>tunnel</mode>
<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>%s</key></encryption></esp-sa><tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-config></sad-entry>`,
			k, 1000+k, 0x100000+i*each+k, (i+k)%256, colons(randomKey(20)))
	}
	b.WriteString("</sad></ipsec-ikeless>")
	return b.String()
}

// TestSoak is the demo's network under traffic in both directions, TCP, commits
// and reads, for as long as SOAK says ("make soak": 30 minutes; a few seconds
// otherwise, so that it does not rot). What both processes hold is printed each
// minute; memory, files and buffers must be flat.
func TestSoak(t *testing.T) {
	need(t, "tcpdump", "iperf3", "ping")
	length, every := 8*time.Second, 500*time.Millisecond
	if d, err := time.ParseDuration(os.Getenv("SOAK")); err == nil && d > 0 {
		length, every = d, min(time.Minute, d/20)
	}
	b := configured(t)
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	tcp, err := b.HostA.Start("iperf3-client", "iperf3", "-c", "2001:db8:2::2", "-t", fmt.Sprint(int(length.Seconds())), "-b", "20M", "-J")
	if err != nil {
		t.Fatal(err)
	}
	there, back := b.stream(1000, 200), b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	start := time.Now()
	var log []usage
	commits := 0
	for next := start; time.Since(start) < length; {
		turn := time.Now().Add(250 * time.Millisecond)
		b.edit(b.A, soakEdit(commits))
		commits++
		for _, what := range [][]string{{"interfaces"}, {"ipsec", "sa"}, {"routes"}} {
			b.ctl(b.A, append([]string{"show"}, what...)...)
		}
		// Whom nobody has: entries in the neighbour tables, packets that wait.
		if commits%10 == 0 {
			_, _ = b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", fmt.Sprintf("192.0.2.%d", 20+commits/10%200))
		}
		if time.Now().After(next) {
			u := b.usage()
			log = append(log, u)
			t.Logf("%8v  %v; %d commits", time.Since(start).Round(time.Second), u, commits)
			next = next.Add(every)
		}
		time.Sleep(time.Until(turn))
	}
	if err := tcp.Wait(time.Minute); err != nil {
		t.Errorf("TCP: %v\n%s", err, tail(tcp.Output(), 1000))
	}
	for name, s := range map[string]*stream{"A to B": there, "B to A": back} {
		sent, lost, dup := s.end()
		t.Logf("%s: %d sent, %d lost, %d twice, longest gap %v", name, sent, lost, dup, s.maxGap.Round(time.Millisecond))
		if dup != 0 || lost > sent/100 {
			t.Errorf("%s: %d of %d lost, %d twice", name, lost, sent, dup)
		}
	}
	b.buffersAccounted()
	flat(t, log, length)
}

// flat compares the last quarter of a soak with an earlier one: memory may be
// higher by a tenth and what heaps breathe. What fills up first and then stays:
// fastpathd lets 64 MiB of garbage lie before it collects; vrouterd 48 MiB, and
// keeps as much as 16 MiB of events for each of two streams. That takes some
// minutes, so a long soak compares with its second quarter, and a short one
// allows for it.
func flat(t *testing.T, log []usage, length time.Duration) {
	t.Helper()
	if len(log) < 12 {
		return // too short to tell
	}
	mean := func(l []usage, f func(usage) float64) (m float64) {
		for _, u := range l {
			m += f(u) / float64(len(l))
		}
		return m
	}
	q := len(log) / 4
	early, vrouterd, fastpathd := log[q:2*q], 8.0, 8.0
	if length < 20*time.Minute {
		vrouterd, fastpathd = vrouterd+48+2*16, fastpathd+64
	}
	for _, w := range []struct {
		name  string
		slack float64
		f     func(usage) float64
	}{
		{"vrouterd, MiB", vrouterd, func(u usage) float64 { return u.vrouterd.own }},
		{"fastpathd, MiB", fastpathd, func(u usage) float64 { return u.fastpathd.own }},
		{"open files", 8, func(u usage) float64 { return float64(u.files) }},
	} {
		first, last := mean(early, w.f), mean(log[len(log)-q:], w.f)
		t.Logf("%s: %.1f in the second quarter, %.1f in the last", w.name, first, last)
		if last > first*1.1+w.slack {
			t.Errorf("%s has grown from %.1f to %.1f", w.name, first, last)
		}
	}
}

// blocks is how much room a file has on the disk; the table of SAs has holes.
func blocks(i fs.FileInfo) int64 {
	if s, ok := i.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return i.Size()
}
