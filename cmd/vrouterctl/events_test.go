package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// events runs "vrouterctl events" and gives its lines as they come; end stops it
// as Ctrl-C does and gives the exit code.
func (b *bed) follow(args ...string) (line func() string, end func() int) {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	a := newApp(strings.NewReader(""), w, io.Discard)
	a.until = ctx
	code := make(chan int, 1)
	go func() {
		code <- a.run(append([]string{"events"}, args...))
		w.Close()
	}()
	b.t.Cleanup(func() { stop(); r.Close() })
	lines := bufio.NewScanner(r)
	return func() string {
			lines.Scan()
			return lines.Text()
		}, func() int {
			stop()
			go io.Copy(io.Discard, r)
			return <-code
		}
}

func TestEvents(t *testing.T) {
	b := newBed(t)
	b.must("show", "interfaces")
	line, end := b.follow("--since", "1h")
	for _, want := range []string{"netconf-session-start username=alice session-id=1",
		"netconf-session-end username=alice session-id=1 termination-reason=closed",
		"netconf-session-start username=alice session-id=2", "replayComplete"} {
		if got := line(); !strings.HasSuffix(got, " "+want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if code := end(); code != 0 {
		t.Error("exit code", code)
	}
	line, end = b.follow("--json", "--since", "1h")
	for _, want := range []string{"ietf-netconf-notifications:netconf-session-start", "ietf-netconf-notifications:netconf-session-end"} {
		got := line()
		var n struct {
			N map[string]any `json:"ietf-restconf:notification"`
		}
		if err := json.Unmarshal([]byte(got), &n); err != nil {
			t.Fatal(got, err)
		}
		in, _ := n.N[want].(map[string]any)
		if n.N["eventTime"] == nil || in["username"] != "alice" || in["session-id"] != 1.0 {
			t.Errorf("%s: %v", want, n)
		}
	}
	if code := end(); code != 0 {
		t.Error("exit code", code)
	}
	line, end = b.follow("--stream", "data-plane", "--since", "1s", "--json")
	if got := line(); !strings.HasSuffix(got, `"nc-notifications:replayComplete":{}}}`) {
		t.Error(got)
	}
	if code := end(); code != 0 {
		t.Error("exit code", code)
	}
	if r := b.try("events", "--stream", "nowhere"); r.code != 4 || !strings.Contains(r.err, "no stream nowhere") {
		t.Error(r)
	}
	if r := b.try("events", "--since", "-1s"); r.code != 2 {
		t.Error(r)
	}
}
