package netconf

import (
	"strings"
	"testing"
	"time"
)

// running tells which of our interfaces are there.
func (c *client) running() string {
	c.t.Helper()
	d := c.data(getRunning(`<filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name/></interface></interfaces></filter>`))
	var names []string
	for _, p := range strings.Split(d, "<name>")[1:] {
		n, _, _ := strings.Cut(p, "</name>")
		names = append(names, n)
	}
	return strings.Join(names, " ")
}

// until waits for running to be so.
func (c *client) until(want string) {
	c.t.Helper()
	for range 400 {
		if c.running() == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("running has %q, want %q", c.running(), want)
}

// Confirmed commit (RFC 6241 section 8.4).
func TestConfirmedCommit(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(edit("running", iface("base", "")))
	try := func(c *client, name, op string) {
		t.Helper()
		c.ok(edit("candidate", iface(name, "")))
		c.ok(op)
		if want := "base " + name; c.running() != want {
			t.Fatalf("%q, want %q", c.running(), want)
		}
	}
	const short, long = `<commit><confirmed/><confirm-timeout>1</confirm-timeout></commit>`, `<commit><confirmed/></commit>`

	try(c, "timeout", short)
	c.until("base")

	try(c, "cancel", long)
	c.ok(`<cancel-commit/>`)
	if c.running() != "base" {
		t.Error("cancelled: ", c.running())
	}
	r := c.rpc(`<cancel-commit/>`)
	if len(r.Errors) != 1 || r.Errors[0].Tag != "operation-failed" && r.Errors[0].Tag != "invalid-value" {
		t.Error("cancel of nothing: ", r.text)
	}
	c.ok(`<discard-changes/>`)

	// Without persist the end of the session reverts at once.
	d := b.open(alice)
	try(d, "session", long)
	d.conn.Close()
	c.until("base")
	c.ok(`<discard-changes/>`)

	// With persist it outlives the session, and any session with the token may
	// confirm or cancel.
	d = b.open(alice)
	try(d, "persist", `<commit><confirmed/><persist>token</persist></commit>`)
	d.ok(`<close-session/>`)
	d.gone()
	c.fails(`<commit/>`, "protocol/in-use")
	c.fails(`<commit><persist-id>other</persist-id></commit>`, "protocol/invalid-value")
	c.fails(`<cancel-commit><persist-id>other</persist-id></cancel-commit>`, "protocol/invalid-value")
	c.ok(`<cancel-commit><persist-id>token</persist-id></cancel-commit>`)
	if c.running() != "base" {
		t.Error("cancelled by token: ", c.running())
	}
	c.ok(`<discard-changes/>`)

	try(c, "extended", `<commit><confirmed/><confirm-timeout>1</confirm-timeout><persist>t1</persist></commit>`)
	c.ok(`<commit><confirmed/><confirm-timeout>60</confirm-timeout><persist-id>t1</persist-id><persist>t2</persist></commit>`)
	time.Sleep(1200 * time.Millisecond)
	if c.running() != "base extended" {
		t.Error("extended: ", c.running())
	}
	c.ok(`<commit><persist-id>t2</persist-id></commit>`)
	c.fails(`<commit><persist-id>t2</persist-id></commit>`, "protocol/invalid-value")
	if c.running() != "base extended" {
		t.Error("confirmed: ", c.running())
	}
}
