package netconf

import (
	"strings"
	"testing"
)

// The thinnest way through all of it: hello, edit, commit, read back.
func TestEndToEnd(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(edit("candidate", iface("eth0", "<description>to the north</description>")))
	if d := c.data(getRunning("")); d != "" {
		t.Fatal("before the commit:", d)
	}
	c.ok(commitOp)
	if d := c.data(getRunning("")); !strings.Contains(d, "<description>to the north</description>") {
		t.Fatal(d)
	}
	c.ok(`<close-session/>`)
}
