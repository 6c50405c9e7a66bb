package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// kills is how often TestKilledAtRandomMoments kills each process; an issue's
// "50 times each" is VROUTER_KILLS=50.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("VROUTER_KILLS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// committer changes an address of vr-a's LAN again and again. What was
// acknowledged must be there after any death; of what was not, either all or
// nothing.
type committer struct {
	b           *bed
	mu          sync.Mutex
	tried, done int
	failed      int
	stop        chan struct{}
	wg          sync.WaitGroup
}

func probeAddress(i int) string { return fmt.Sprintf("10.1.0.%d", 10+i%200) }

func probeEdit(i int) string {
	return fmt.Sprintf(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><interface><name>lan0</name><description>commit %d</description>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip" nc:operation="replace"><forwarding>true</forwarding><address><ip>10.1.0.1</ip><prefix-length>24</prefix-length></address>
<address><ip>%s</ip><prefix-length>24</prefix-length></address></ipv4></interface></interfaces>`, i, probeAddress(i))
}

func (b *bed) committing(every time.Duration) *committer {
	c := &committer{b: b, stop: make(chan struct{})}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		for {
			select {
			case <-c.stop:
				return
			case <-time.After(every):
			}
			c.mu.Lock()
			c.tried++
			i := c.tried
			c.mu.Unlock()
			err := b.tryEdit(b.A, probeEdit(i))
			c.mu.Lock()
			if err == nil {
				c.done = i
			} else {
				c.failed++
			}
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *committer) end() {
	close(c.stop)
	c.wg.Wait()
}

func (c *committer) state() (tried, done, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tried, c.done, c.failed
}

var commitNumber = regexp.MustCompile(`commit (\d+)<`)

// running tells which commit is in the running configuration, and whether the
// rest of it is the one that was there in the beginning.
func (c *committer) running(rest string) (int, error) {
	conf, err := c.b.A.Ctl("show", "config")
	if err != nil {
		return 0, err
	}
	m := commitNumber.FindStringSubmatch(conf)
	if m == nil {
		return 0, fmt.Errorf("no commit in running:\n%s", conf)
	}
	i, _ := strconv.Atoi(m[1])
	if got := withoutProbe(conf, i); got != rest {
		return i, fmt.Errorf("running is not what it was, but for the address:\n%s", conf)
	}
	return i, nil
}

func withoutProbe(conf string, i int) string {
	return strings.NewReplacer(fmt.Sprintf("commit %d<", i), "commit<", "<ip>"+probeAddress(i)+"</ip>", "<ip/>").Replace(conf)
}

// moving waits until packets of all streams arrive again and tells how long it
// took from a moment on.
func moving(from time.Time, streams ...*stream) (time.Duration, error) {
	var at []int
	for _, s := range streams {
		at = append(at, s.got())
	}
	err := lab.Until(20*time.Second, "traffic is back", func() bool {
		for i, s := range streams {
			if s.got() < at[i]+20 {
				return false
			}
		}
		return true
	})
	return time.Since(from), err
}

func times(l []time.Duration) string {
	if len(l) == 0 {
		return "none"
	}
	slices.Sort(l)
	r := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("%d times, best %v, median %v, worst %v", len(l), r(l[0]), r(l[len(l)/2]), r(l[len(l)-1]))
}

// kill -9 of the data plane, of the management plane and of both, at random
// moments under traffic in both directions and under commits: nothing in the
// clear, no sequence number twice, no acknowledged commit lost, none half done,
// no buffer lost.
func TestKilledAtRandomMoments(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	b.edit(b.A, probeEdit(0))
	first, err := b.A.Ctl("show", "config")
	if err != nil {
		t.Fatal(err)
	}
	rest := withoutProbe(first, 0)
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	there, back := b.stream(1000, 200), b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 1000, 200)
	commits := b.committing(20 * time.Millisecond)

	var plan []string
	for range kills() {
		plan = append(plan, "fastpathd", "vrouterd")
	}
	for range max(2, kills()/5) {
		plan = append(plan, "both")
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	took := map[string][]time.Duration{}
	seen := 0
	for i, what := range plan {
		time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
		_, acked, _ := commits.state()
		pid, err := b.A.FastPathPID()
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		died := time.Now()
		if what != "vrouterd" {
			kill(t, pid)
		}
		if what != "fastpathd" {
			b.A.Proc.Kill()
			time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
			died = time.Now() // what the test itself waited is no recovery
			if err := b.A.Start(); err != nil {
				t.Fatalf("kill %d of %s: %v", i, what, err)
			}
		}
		d, err := moving(died, there, back)
		if err != nil {
			t.Fatalf("kill %d of %s: %v; drops at A %v, at B %v", i, what, err, b.drops(b.A), b.drops(b.B))
		}
		took[what] = append(took[what], d)
		if now, err := b.A.FastPathPID(); err != nil || (now == pid) != (what == "vrouterd") {
			t.Errorf("kill %d of %s: the data plane had process id %d, then %d: %v", i, what, pid, now, err)
		}
		have, err := commits.running(rest)
		if err != nil {
			t.Fatalf("kill %d of %s: %v", i, what, err)
		}
		if tried, _, _ := commits.state(); have < acked || have < seen || have > tried {
			t.Fatalf("kill %d of %s: commit %d was acknowledged and %d seen, running has %d of %d", i, what, acked, seen, have, tried)
		}
		seen = have
	}
	commits.end()
	tried, done, failed := commits.state()
	for _, what := range []string{"fastpathd", "vrouterd", "both"} {
		t.Logf("traffic back after kill -9 of %s: %s", what, times(took[what]))
	}
	t.Logf("%d commits tried, %d refused or unanswered while something was dead", tried, failed)
	if done == 0 || failed == tried {
		t.Error("no commit was done at all")
	}

	// The data plane has what running says, and nothing from before.
	have, err := commits.running(rest)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(5*time.Second, "the address of the last commit answers", func() bool {
		_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", probeAddress(have))
		return err == nil
	}); err != nil {
		t.Errorf("commit %d: %v", have, err)
	}
	for _, other := range []int{have - 1, have + 1} {
		if _, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", probeAddress(other+200)); err == nil {
			t.Errorf("the address of commit %d answers, while running has %d", other, have)
		}
	}
	time.Sleep(200 * time.Millisecond)
	for _, s := range []*stream{there, back} {
		if sent, lost, dup := s.end(); dup != 0 || lost == sent {
			t.Errorf("%d sent, %d lost, %d twice", sent, lost, dup)
		}
	}
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
