package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// netconf is a minimal client with base:1.0 framing, for measuring.
type netconfConn struct {
	r     *bufio.Reader
	w     io.Writer
	close func()
}

func dialNetconf(t testing.TB, n *lab.NS, signer ssh.Signer) *netconfConn {
	t.Helper()
	var c *ssh.Client
	if err := n.Do(func() (err error) {
		c, err = ssh.Dial("tcp", "127.0.0.1:830", &ssh.ClientConfig{User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err1 := s.StdinPipe()
	out, err2 := s.StdoutPipe()
	if err := errors.Join(err1, err2, s.RequestSubsystem("netconf")); err != nil {
		t.Fatal(err)
	}
	x := &netconfConn{bufio.NewReaderSize(out, 1<<20), in, func() { c.Close() }}
	if _, err := x.receive(); err != nil {
		t.Fatal(err)
	}
	x.send(`<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`)
	return x
}

func (c *netconfConn) send(s string) { io.WriteString(c.w, s+"]]>]]>") }

func (c *netconfConn) receive() ([]byte, error) {
	var msg []byte
	for {
		b, err := c.r.ReadSlice('>')
		msg = append(msg, b...)
		if bytes.HasSuffix(msg, []byte("]]>]]>")) {
			return msg[:len(msg)-6], nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return msg, err
		}
	}
}

// rpc runs an operation and gives the length of the reply.
func (c *netconfConn) rpc(t testing.TB, body string) int {
	t.Helper()
	c.send(`<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">` + body + "</rpc>")
	r, err := c.receive()
	if err != nil || bytes.Contains(r, []byte("rpc-error")) {
		t.Fatalf("%.100s: %v %.1000s", body, err, r)
	}
	return len(r)
}

// interfaces10k is 10 000 interfaces with one address each.
func interfaces10k() string {
	var b strings.Builder
	b.WriteString(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">`)
	for i := range 10000 {
		fmt.Fprintf(&b, `<interface><name>mem%d</name><description>interface number %d</description><type>ianaift:ethernetCsmacd</type><enabled>true</enabled>`+
			`<port xmlns="urn:vrouter:yang:vrouter-port"><driver>memory</driver></port>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.1</ip><prefix-length>24</prefix-length></address></ipv4></interface>`, i, i, i>>8, i&255)
	}
	b.WriteString("</interfaces>")
	return b.String()
}

// memory reads VmRSS of a process in MiB.
func memory(t testing.TB, pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		var kb float64
		if n, _ := fmt.Sscanf(l, "VmRSS: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// processor is the time that a process has had of the processors, in
// milliseconds, of which the kernel tells every tenth.
func processor(t testing.TB, pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold anything
	f := strings.Fields(rest)
	var user, system int
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return 10 * (user + system)
}

// TestScale measures management at 10 000 interfaces, over SSH, journalled to
// disk and in the data plane, and checks that all of it arrived. The figures
// are printed, not judged: machines differ.
func TestScale(t *testing.T) {
	need(t)
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	file, _, signer := users(t, l)
	n, err := l.NS("scale", true)
	if err != nil {
		t.Fatal(err)
	}
	v := site.Single(l, n, "scale", binDir)
	v.Args = []string{"--users", file}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	c := dialNetconf(t, n, signer)
	defer c.close()

	pid, err := v.FastPathPID()
	if err != nil {
		t.Fatal(err)
	}
	text := interfaces10k()
	mgmt, plane := processor(t, v.Proc.Process.Pid), processor(t, pid)
	start := time.Now()
	c.rpc(t, "<edit-config><target><candidate/></target><config>"+text+"</config></edit-config>")
	edit := time.Since(start)
	c.rpc(t, "<commit/>")
	t.Logf("10 000 interfaces in one edit (%.1f MB) and commit: %v (edit %v); processor time of vrouterd %d ms, of fastpathd %d ms", float64(len(text))/1e6,
		time.Since(start).Round(time.Millisecond), edit.Round(time.Millisecond), processor(t, v.Proc.Process.Pid)-mgmt, processor(t, pid)-plane)

	var best, sum time.Duration
	const rounds = 100
	for i := range rounds {
		start := time.Now()
		c.rpc(t, fmt.Sprintf(`<edit-config><target><candidate/></target><config><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>mem77</name>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><mtu>%d</mtu></ipv4></interface></interfaces></config></edit-config>`, 1000+i))
		c.rpc(t, "<commit/>")
		d := time.Since(start)
		sum += d
		if best == 0 || d < best {
			best = d
		}
	}
	t.Logf("one leaf, edit and commit: best %v, mean %v", best.Round(time.Microsecond), (sum / rounds).Round(time.Microsecond))

	var bestGet time.Duration
	size := 0
	for range 5 {
		start := time.Now()
		size = c.rpc(t, "<get-config><source><running/></source></get-config>")
		if d := time.Since(start); bestGet == 0 || d < bestGet {
			bestGet = d
		}
	}
	t.Logf("whole get-config (%.1f MB): best %v", float64(size)/1e6, bestGet.Round(time.Millisecond))
	if size < 3_000_000 {
		t.Errorf("get-config gave only %d bytes", size)
	}
	t.Logf("resident: vrouterd %.0f MiB, fastpathd %.0f MiB", memory(t, v.Proc.Process.Pid), memory(t, pid))

	out, err := v.Ctl("show", "interfaces", "mem77", "mem9999")
	if err != nil || strings.Count(out, "mem") < 2 || !strings.Contains(out, "10.39.15.1/24") {
		t.Errorf("state of two interfaces: %v\n%s", err, out)
	}
}
