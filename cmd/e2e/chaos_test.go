package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// chaosFor is how long TestEngineChaos runs.
func chaosFor(t *testing.T) time.Duration {
	text := os.Getenv("VROUTER_CHAOS")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		t.Fatalf("VROUTER_CHAOS=%s: it wants a time of a second or more", text)
	}
	return d
}

// TestEngineChaos: streams in both directions and TCP, all through one tunnel whose SAs
// are on a look-aside engine of each vRouter, in mode crypto on the one and in mode
// protocol on the other, while every second one of the two has the
// engine killed under its SAs, the SAs migrated, or the engine drained. Nothing is ever in
// the clear, no number is used twice, no packet is dropped as replayed, none is
// delivered twice, TCP gets on each second; and lost is only what was in a killed
// engine, counted by name.
func TestEngineChaos(t *testing.T) {
	need(t, "tcpdump", "iperf3")
	length := chaosFor(t)
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	b := bedIn(t, l, "--fastpathd-arg=-crypto-threads=1")
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	var both []*victim
	for i, v := range []*site.VRouter{b.A, b.B} {
		mode := []string{"crypto", "protocol"}[i]
		x := &victim{b: b, v: v, sas: b.v4SAs(v)}
		xml := ""
		for _, n := range x.sas {
			xml += "<sad-entry><name>" + n + `</name><offload xmlns="urn:vrouter:yang:vrouter-sal"><mode>` + mode + `</mode></offload></sad-entry>`
		}
		b.edit(v, fmt.Sprintf(sadXML, xml))
		x.on("pool0", "configured")
		if p := b.placement(v, x.sas[0]); p.Mode != mode {
			t.Errorf("%s: %s is served in mode %s: %s", v.Name, x.sas[0], p.Mode, p.Reason)
		}
		both = append(both, x)
	}
	if _, err := b.HostB.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := b.HostA.Start("iperf3-client", "iperf3", "-c", "10.2.0.2", "-i", "1", "-t", fmt.Sprint(int(length.Seconds())), "-b", "20M", "-J")
	if err != nil {
		t.Fatal(err)
	}
	there := b.stream(2000, 300)
	back := b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 2000, 300)

	deeds := []func(*victim){(*victim).kill, (*victim).migrate, (*victim).drain}
	start := time.Now()
	done := 0
	for ; time.Since(start) < length-time.Second; done++ {
		next := time.Now().Add(time.Second)
		deeds[done/2%len(deeds)](both[done%2])
		time.Sleep(time.Until(next))
	}
	for _, x := range both {
		x.healthy()
	}

	if err := tcp.Wait(time.Minute); err != nil {
		t.Errorf("TCP: %v\n%s", err, tail(tcp.Output(), 1000))
	}
	lostAll := 0
	for name, s := range map[string]*stream{"there": there, "back": back} {
		sent, lost, dup := s.end()
		t.Logf("%s: %d sent, %d lost, %d twice, longest gap %v", name, sent, lost, dup, s.maxGap.Round(time.Millisecond))
		if dup > 0 || sent == 0 {
			t.Errorf("%s: of %d packets %d came twice", name, sent, dup)
		}
		lostAll += lost
	}
	inKilled, starved := 0, false
	for _, x := range both {
		d := b.drops(x.v)
		inKilled += d["sal-device"] + d["sal-queue-full"]
		t.Logf("%s: %d kills, SAs elsewhere after %v; lost in the engine %d, for want of room in its queue %d; the watchdog tripped %d times",
			x.v.Name, x.kills, x.took, d["sal-device"], d["sal-queue-full"], x.told("lost"))
		starved = starved || x.told("lost") > x.kills
		for _, reason := range []string{"esp-replay", "esp-bad-icv", "esp-no-sa", "esp-seq-stale", "ipsec-policy-mismatch", "ipsec-no-sa"} {
			if n := d[reason]; n > 0 {
				t.Errorf("%s: %d packets dropped as %s", x.v.Name, n, reason)
			}
		}
		if x.kills == 0 || d["sal-device"] == 0 {
			t.Errorf("%s: the engine was killed %d times, and %d packets were in it", x.v.Name, x.kills, d["sal-device"])
		}
	}
	// An engine whose thread had no processor for 50 ms was as good as dead, though nobody
	// killed it, and its packets come late without being given up (lateFor).
	for _, x := range both {
		switch n := b.drops(x.v)["esp-late"]; {
		case n > 0 && starved:
			t.Logf("%s: %d packets dropped as esp-late; the machine was short of time", x.v.Name, n)
		case n > 0:
			t.Errorf("%s: %d packets dropped as esp-late", x.v.Name, n)
		}
	}
	t.Logf("%d deeds in %v; of the streams %d packets lost, of all %d in killed engines", done, length, lostAll, inKilled)
	if lostAll > inKilled {
		t.Errorf("of the streams %d packets were lost, but only %d are counted", lostAll, inKilled)
	}
	progress(t, tcp.Output(), int(length.Seconds()))
	wan.Stop()
	b.noClear(wan)
	t.Logf("%d ESP packets on the WAN", noneTwice(t, wan.File))
	b.buffersAccounted()
}

// progress checks that iperf3 has moved something in each of so many seconds.
func progress(t *testing.T, report string, seconds int) {
	t.Helper()
	var r struct {
		Intervals []struct {
			Sum struct {
				Bytes       int64 `json:"bytes"`
				Retransmits int   `json:"retransmits"`
			} `json:"sum"`
		} `json:"intervals"`
	}
	if err := json.Unmarshal([]byte(report), &r); err != nil {
		t.Errorf("the report of iperf3: %v\n%s", err, tail(report, 1000))
		return
	}
	least, again := int64(1<<62), 0
	for i, x := range r.Intervals {
		if x.Sum.Bytes == 0 {
			t.Errorf("TCP stood still in second %d", i)
		}
		least, again = min(least, x.Sum.Bytes), again+x.Sum.Retransmits
	}
	if len(r.Intervals) < seconds {
		t.Errorf("TCP was at work in %d of %d seconds", len(r.Intervals), seconds)
	}
	t.Logf("TCP: %d kB in the worst of %d seconds, %d segments sent again", least/1000, len(r.Intervals), again)
}

// victim is a vRouter whose SAs prefer the engine pool0, and what is done to it.
type victim struct {
	b     *bed
	v     *site.VRouter
	sas   []string
	kills int
	took  []time.Duration // from each kill until the SAs were elsewhere
}

// on waits until all SAs are on an engine.
func (x *victim) on(engine, why string) {
	x.b.t.Helper()
	var at []string
	if err := lab.Until(5*time.Second, "all SAs on "+engine, func() bool {
		at = nil
		for _, s := range x.b.sadOf(x.v) {
			for _, n := range x.sas {
				if s.Name == n && s.Placement.Engine != engine {
					at = append(at, fmt.Sprintf("%s on %s: %s", n, s.Placement.Engine, s.Placement.Reason))
				}
			}
		}
		return len(at) == 0
	}); err != nil {
		x.b.t.Errorf("%s, %s: %v: %v", x.v.Name, why, err, at)
	}
}

func (x *victim) drain() {
	x.healthy()
	x.b.soon(x.v, "sal", "drain", "pool0")
	x.on("cpu0", "drained")
	time.Sleep(100 * time.Millisecond)
	x.b.ctl(x.v, "sal", "undrain", "pool0")
	x.on("pool0", "undrained")
}

func (x *victim) migrate() {
	x.healthy()
	for _, to := range []string{"cpu0", "pool0"} {
		for _, n := range x.sas {
			x.b.soon(x.v, "sal", "migrate", n, to)
		}
		x.on(to, "migrated")
	}
}

// kill has the engine die by stopping the thread that does its work, as a device stops
// that hangs, until the data plane has noticed.
func (x *victim) kill() {
	t := x.b.t
	t.Helper()
	x.healthy()
	pid, err := x.v.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	was := x.told("lost")
	resume, err := pause(pid, "pool0/0")
	if err != nil {
		t.Fatalf("stopping the thread of the engine: %v", err)
	}
	stopped := time.Now()
	err = lab.Until(5*time.Second, "the death of the engine is noticed", func() bool { return x.told("lost") > was })
	if err != nil {
		t.Errorf("%s: %v", x.v.Name, err)
	} else {
		x.took = append(x.took, x.lastTold().Sub(stopped).Round(time.Millisecond))
	}
	x.on("cpu0", "killed")
	time.Sleep(100 * time.Millisecond) // what it has is late beyond hope by now
	if err := resume(); err != nil {
		t.Fatalf("waking the thread of the engine: %v", err)
	}
	x.kills++
}

// healthy waits until the engine is back whenever it was lost.
func (x *victim) healthy() {
	x.b.t.Helper()
	if err := lab.Until(90*time.Second, "pool0 is back", func() bool { return x.told("back") >= x.told("lost") }); err != nil {
		x.b.t.Errorf("%s: %v", x.v.Name, err)
	}
	x.on("pool0", "in health")
}

var engineLine = regexp.MustCompile(`time=(\S+) level=\w+ msg="crypto engine (lost|back)" engine=pool0`)

func (x *victim) log() [][]string {
	x.b.t.Helper()
	text, err := os.ReadFile(filepath.Join(x.v.Dir, "run", "fastpathd.log"))
	if err != nil {
		x.b.t.Fatal(err)
	}
	return engineLine.FindAllStringSubmatch(string(text), -1)
}

// told is how often the data plane has said that the engine was lost, or back.
func (x *victim) told(what string) (n int) {
	for _, m := range x.log() {
		if m[2] == what {
			n++
		}
	}
	return n
}

// lastTold is when it said so last.
func (x *victim) lastTold() time.Time {
	l := x.log()
	at, err := time.Parse(time.RFC3339Nano, l[len(l)-1][1])
	if err != nil {
		x.b.t.Error(err)
	}
	return at
}

// pause stops one thread of a process, by name, and no other, as a debugger does: a
// signal would stop them all. It waits for a moment at which the thread sleeps in
// read(2), where it holds nothing of Go's runtime that other threads would wait for.
func pause(pid int, name string) (resume func() error, err error) {
	tid, err := threadOf(pid, name)
	if err != nil {
		return nil, err
	}
	stopped, goOn, ended := make(chan error), make(chan struct{}), make(chan error)
	go func() { // a tracer is a thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := unix.PtraceSeize(tid)
		if err == nil {
			err = catchAsleep(pid, tid)
		}
		stopped <- err
		if err != nil {
			return // and with the thread's end, if not before, the other goes on
		}
		<-goOn
		ended <- unix.PtraceDetach(tid)
	}()
	if err := <-stopped; err != nil {
		return nil, err
	}
	return func() error { close(goOn); return <-ended }, nil
}

func catchAsleep(pid, tid int) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if err := unix.PtraceInterrupt(tid); err != nil {
			return err
		}
		for {
			var s unix.WaitStatus
			if _, err := unix.Wait4(tid, &s, unix.WALL, nil); err == unix.EINTR {
				continue
			} else if err != nil {
				return err
			}
			if !s.Stopped() {
				return fmt.Errorf("thread %d has ended: %#x", tid, s)
			}
			if s>>16 == unix.PTRACE_EVENT_STOP {
				break
			}
			if err := unix.PtraceCont(tid, int(s.StopSignal())); err != nil { // a signal to it
				return err
			}
		}
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_READ, " ")) {
			return nil
		}
		if err := unix.PtraceCont(tid, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("thread %d never sleeps", tid)
}

func threadOf(pid int, name string) (int, error) {
	l, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range l {
		if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == name {
			tid := 0
			_, err := fmt.Sscan(filepath.Base(filepath.Dir(f)), &tid)
			return tid, err
		}
	}
	return 0, fmt.Errorf("process %d has no thread %q", pid, name)
}
