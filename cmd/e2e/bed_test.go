package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// soak is how long the tests under traffic run; an issue's "60 s" is
// VROUTER_SOAK=60s.
var soak = 12 * time.Second

var binDir string

func TestMain(m *testing.M) {
	if os.Getenv(encapEnv) != "" { // in a guest
		err := openEncap()
		fmt.Println("encapsulation:", err)
		if err != nil {
			os.Exit(1)
		}
		for { // select {} would be a deadlock to the runtime, and the end, without cgo
			time.Sleep(time.Hour)
		}
	}
	flag.Parse()
	if d, err := time.ParseDuration(os.Getenv("VROUTER_SOAK")); err == nil {
		soak = d
	}
	code := func() int {
		if testing.Short() || lab.Usable() != nil {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "vrouter-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		out, err := exec.Command("go", "build", "-o", dir, "vrouter/cmd/vrouterd", "vrouter/cmd/fastpathd", "vrouter/cmd/vrouterctl").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "building the commands: %v\n%s", err, out)
			return 1
		}
		binDir = dir
		return m.Run()
	}()
	os.Exit(code)
}

// need skips a test outside CI when something is missing; in CI it fails.
func need(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	if testing.Short() {
		t.Skip("end-to-end tests are left out with -short")
	}
	if err := lab.Usable(); err != nil {
		missing = err.Error()
	}
	for _, p := range programs {
		if mod, ok := strings.CutPrefix(p, "python3:"); ok {
			if exec.Command("/usr/bin/python3", "-c", "import "+mod).Run() != nil {
				missing = "the Python module " + mod + " is missing (Debian: python3-" + mod + ")"
			}
		} else if _, err := exec.LookPath(p); err != nil {
			missing = "the program " + p + " is missing"
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// bed is a pair of sites that ends with the test.
type bed struct {
	*site.Pair
	t *testing.T
}

// newBed starts both vRouters without configuration.
func newBed(t *testing.T) *bed {
	t.Helper()
	need(t, "tcpdump")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	return bedIn(t, l)
}

// bedIn is newBed in a lab, with more arguments for both vrouterds.
func bedIn(t *testing.T, l *lab.Lab, args ...string) *bed {
	t.Helper()
	var err error
	b := &bed{t: t}
	t.Cleanup(func() {
		if t.Failed() && b.Pair != nil {
			b.logs()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if b.Pair, err = site.New(l, binDir); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*site.VRouter{b.A, b.B} {
		v.Args = args
		if err := v.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// configured is newBed with the demo's tunnels.
func configured(t *testing.T) *bed {
	b := newBed(t)
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	return b
}

// resolve sends pings until both neighbours and the tunnel answer, so that
// later counts are not disturbed by what waits for ARP.
func (b *bed) resolve() {
	b.t.Helper()
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		if err := lab.Until(10*time.Second, "ping "+to+" answered", func() bool {
			_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", to)
			return err == nil
		}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bed) ctl(v *site.VRouter, args ...string) string {
	b.t.Helper()
	out, err := v.Ctl(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// edit sends XML into the candidate and commits it.
func (b *bed) edit(v *site.VRouter, xml string) {
	b.t.Helper()
	if err := b.tryEdit(v, xml); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) tryEdit(v *site.VRouter, xml string) error {
	f := b.Lab.Path(fmt.Sprintf("edit-%d.xml", time.Now().UnixNano()))
	if err := os.WriteFile(f, []byte(xml), 0o600); err != nil {
		return err
	}
	_, err := v.Ctl("edit", f, "--commit")
	if err != nil {
		_, _ = v.Ctl("discard")
	}
	return err
}

// logs shows what the daemons wrote.
func (b *bed) logs() {
	for _, v := range []*site.VRouter{b.A, b.B} {
		for _, f := range []string{v.Proc.Log, filepath.Join(v.Dir, "run", "fastpathd.log")} {
			if text, err := os.ReadFile(f); err == nil {
				b.t.Logf("%s %s:\n%s", v.Name, filepath.Base(f), tail(string(text), 4000))
			}
		}
		for _, what := range []string{"drops", "interfaces"} {
			if out, err := v.Ctl("show", what); err == nil {
				b.t.Logf("%s %s:\n%s", v.Name, what, out)
			}
		}
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// lostBy tells what the kernels of the hosts lost: not the vRouter's fault, but
// the first suspect on a machine that is short of time.
func (b *bed) lostBy() string {
	var out strings.Builder
	for name, n := range map[string]*lab.NS{"host-a": b.HostA, "host-b": b.HostB} {
		s, _ := n.Run("cat", "/proc/net/snmp")
		for _, l := range strings.Split(s, "\n") {
			if strings.HasPrefix(l, "Udp:") {
				fmt.Fprintf(&out, "%s %s\n", name, l)
			}
		}
	}
	return out.String()
}

// fastpath reads "show fastpath" as a map.
func (b *bed) fastpath(v *site.VRouter) map[string]string {
	b.t.Helper()
	m := map[string]string{}
	for _, line := range strings.Split(b.ctl(v, "show", "fastpath"), "\n") {
		if i := regexp.MustCompile(`\s{2,}`).FindStringIndex(line); i != nil {
			m[line[:i[0]]] = line[i[1]:]
		}
	}
	return m
}

// drops reads the drop counters by reason.
func (b *bed) drops(v *site.VRouter) map[string]int {
	b.t.Helper()
	m := map[string]int{}
	for _, line := range strings.Split(b.ctl(v, "show", "drops"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[0] != "REASON" {
			if n, err := strconv.Atoi(f[2]); err == nil {
				m[f[0]] = n
			}
		}
	}
	return m
}

// buffersAccounted waits until every buffer of the vRouters is accounted for:
// what is in use lies in ports, waits for a neighbour, or is in an engine.
func (b *bed) buffersAccounted() {
	b.t.Helper()
	for _, v := range []*site.VRouter{b.A, b.B} {
		if v == nil { // a bed of one
			continue
		}
		var m map[string]string
		if err := lab.Until(10*time.Second, v.Name+" accounts for all buffers", func() bool {
			m = b.fastpath(v)
			n := func(k string) int { x, _ := strconv.Atoi(m["buffers "+k]); return x }
			return n("total") > 0 && n("total") == n("free")+n("cached")+n("ports")+n("waiting")+n("in-flight")
		}); err != nil {
			b.t.Errorf("%v: %v", err, m)
		}
	}
}

// inTheClear is what must not be on the WAN: all but ESP and what a link's own
// stations tell each other, ARP, neighbour discovery, and reports of multicast
// listeners (a kernel that starts on the link sends some).
const inTheClear = "not ip proto 50 and not ip6 proto 50 and not arp and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137) and not ip6 dst host ff02::16"

// noClear tells whether a capture of the WAN holds anything but ESP, ARP and
// neighbour discovery.
func (b *bed) noClear(c *lab.Capture) {
	b.t.Helper()
	n, err := c.Count(inTheClear)
	if err != nil {
		b.t.Fatal(err)
	}
	if n > 0 {
		out, _ := exec.Command("tcpdump", "-n", "-c", "5", "-r", c.File, inTheClear).Output()
		b.t.Errorf("%d packets in the clear on the WAN, the first of them:\n%s", n, out)
	}
}

// stream sends numbered UDP packets at a rate from one host to the other and
// counts what arrives.
type stream struct {
	sent   int
	seen   []bool
	maxGap time.Duration
	dup    int
	stop   chan struct{}
	wg     sync.WaitGroup
	rx, tx net.PacketConn
	mu     sync.Mutex
}

// stream sends from host A to host B.
func (b *bed) stream(rate int, size int) *stream {
	b.t.Helper()
	return b.streamFrom(b.HostA, "10.1.0.2:9001", b.HostB, "10.2.0.2:9000", rate, size)
}

func (b *bed) streamFrom(from *lab.NS, src string, to *lab.NS, dst string, rate, size int) *stream {
	b.t.Helper()
	s := &stream{stop: make(chan struct{})}
	open := func(n *lab.NS, addr string) (c net.PacketConn) {
		if err := n.Do(func() (err error) { c, err = net.ListenPacket("udp", addr); return err }); err != nil {
			b.t.Fatal(err)
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				for _, o := range []int{syscall.SO_RCVBUFFORCE, syscall.SO_SNDBUFFORCE} {
					_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, o, 16<<20)
				}
			})
		}
		if err != nil {
			b.t.Fatal(err)
		}
		return c
	}
	s.rx, s.tx = open(to, dst), open(from, src)
	s.wg.Add(2)
	go s.receive()
	go s.send(rate, size)
	b.t.Cleanup(func() { s.rx.Close(); s.tx.Close() })
	return s
}

func (s *stream) send(rate, size int) {
	defer s.wg.Done()
	to := s.rx.LocalAddr()
	p := make([]byte, size)
	start := time.Now()
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		select {
		case <-s.stop:
			tick.Stop()
			return
		default:
		}
		due := int(time.Since(start).Seconds() * float64(rate))
		for n := 0; s.sent < due && n < rate/100; n++ { // after a stall never more than 10 ms' worth at once
			p[0], p[1], p[2], p[3] = byte(s.sent>>24), byte(s.sent>>16), byte(s.sent>>8), byte(s.sent)
			if _, err := s.tx.WriteTo(p, to); errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				break // the host has no way at the moment
			}
			s.sent++
		}
		if s.sent < due-rate/10 { // the sender itself was held up: forget the backlog
			start = time.Now().Add(-time.Duration(float64(s.sent) / float64(rate) * float64(time.Second)))
		}
	}
}

func (s *stream) receive() {
	defer s.wg.Done()
	p := make([]byte, 2048)
	last := time.Now()
	for {
		n, _, err := s.rx.ReadFrom(p)
		if err != nil {
			return
		}
		if n < 4 {
			continue
		}
		i := int(p[0])<<24 | int(p[1])<<16 | int(p[2])<<8 | int(p[3])
		s.mu.Lock()
		for len(s.seen) <= i {
			s.seen = append(s.seen, false)
		}
		if s.seen[i] {
			s.dup++
		}
		s.seen[i] = true
		if g := time.Since(last); g > s.maxGap {
			s.maxGap = g
		}
		last = time.Now()
		s.mu.Unlock()
	}
}

// got is how many have arrived so far.
func (s *stream) got() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		if x {
			n++
		}
	}
	return n
}

// end stops sending and tells how many were lost.
func (s *stream) end() (sent, lost, dup int) {
	close(s.stop)
	time.Sleep(500 * time.Millisecond)
	s.rx.Close()
	s.wg.Wait()
	s.tx.Close()
	return s.sent, s.sent - s.got(), s.dup
}
