package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
	"vrouter/mgmt/netconf/frame"
)

// A subscription of ncclient hears of commits and sessions, live and replayed,
// beside all other operations; and a client that stops reading slows no commit:
// it is cut off, with a line in the log, and counted.
func TestNotifications(t *testing.T) {
	need(t, "python3:ncclient")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	file, keyFile, _ := users(t, l)
	n, err := l.NS("notify", true)
	if err != nil {
		t.Fatal(err)
	}
	v := site.Single(l, n, "notify", binDir)
	v.Args = []string{"--users", file}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	t.Run("ncclient", func(t *testing.T) {
		script, err := filepath.Abs("testdata/subscribe.py")
		if err != nil {
			t.Fatal(err)
		}
		out, err := n.RunFor(time.Minute, "/usr/bin/python3", script, "830", keyFile)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(out)
	})
	t.Run("slow reader", func(t *testing.T) {
		slow, editor := dialRaw(t, v.Socket), dialRaw(t, v.Socket)
		slow.ok(`<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>`)
		var longest, all time.Duration
		edits := 0
		for ; edits < 20_000; edits++ {
			if edits%500 == 0 && strings.Contains(v.Proc.Output(), "session cut off") {
				break
			}
			start := time.Now()
			editor.ok(fmt.Sprintf(`<edit-config><target><running/></target><config><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">
				<interface><name>lo1</name><type xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">t:softwareLoopback</type><description>%d</description></interface>
				</interfaces></config></edit-config>`, edits))
			d := time.Since(start)
			longest, all = max(longest, d), all+d
		}
		t.Logf("%d commits beside a subscriber that does not read: %v each, %v at most", edits, all/time.Duration(edits), longest)
		if err := lab.Until(20*time.Second, "the slow reader is cut off", func() bool {
			return strings.Contains(v.Proc.Output(), "session cut off") && strings.Contains(v.Proc.Output(), "does not read its notifications")
		}); err != nil {
			t.Fatal(err)
		}
		for { // what the socket holds, and then the end
			if _, err := slow.r.Next(nil); err != nil {
				if err == os.ErrDeadlineExceeded {
					t.Error("the session lives on")
				}
				break
			}
		}
		op := l.Path("streams.xml")
		if err := os.WriteFile(op, []byte(`<get><filter><netconf xmlns="urn:ietf:params:xml:ns:netmod:notification"/></filter></get>`), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := v.Ctl("rpc", op)
		if err != nil || strings.Count(out, ">1</cut-off>") != 1 || strings.Count(out, ">0</subscriptions>") != 2 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// A rawClient speaks base:1.1 over a unix socket and reads what it likes.
type rawClient struct {
	t *testing.T
	r *frame.Reader
	w *frame.Writer
	n int
}

func dialRaw(t *testing.T, socket string) *rawClient {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	x := &rawClient{t: t, r: frame.NewReader(c, 1<<24), w: frame.NewWriter(c)}
	x.send(`<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.1</capability></capabilities></hello>`)
	if _, err := x.r.Next(nil); err != nil {
		t.Fatal(err)
	}
	x.r.Chunked()
	x.w.Chunked()
	return x
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	io.WriteString(c.w, text)
	if err := c.w.End(); err != nil {
		c.t.Fatal(err)
	}
}

// ok sends an operation and wants <ok/>.
func (c *rawClient) ok(op string) {
	c.t.Helper()
	c.n++
	c.send(fmt.Sprintf(`<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="%d">%s</rpc>`, c.n, op))
	m, err := c.r.Next(nil)
	if err != nil || !strings.Contains(string(m), "<ok/>") {
		c.t.Fatalf("%s: %v %s", op, err, m)
	}
}
