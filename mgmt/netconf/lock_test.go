package netconf

import (
	"io"
	"strings"
	"testing"
	"time"
)

func lockOp(ds string) string   { return `<lock><target><` + ds + `/></target></lock>` }
func unlockOp(ds string) string { return `<unlock><target><` + ds + `/></target></unlock>` }

// RFC 6241 sections 7.5 and 7.6: who holds a lock keeps others from writing,
// not from reading.
func TestLock(t *testing.T) {
	b := newBed(t, nil)
	a, o := b.open(alice), b.open(bob)
	a.ok(lockOp("running"))
	a.ok(lockOp("candidate"))
	a.ok(lockOp("startup"))
	held := "protocol/lock-denied {session-id=" + a.id + "}"
	for _, op := range []string{lockOp("running"), lockOp("candidate"), lockOp("startup")} {
		o.fails(op, held)
	}
	a.fails(lockOp("running"), held) // also to the holder itself
	for _, op := range []string{edit("running", iface("x", "")), edit("candidate", iface("x", "")), commitOp, `<discard-changes/>`,
		`<copy-config><target><startup/></target><source><running/></source></copy-config>`,
		`<copy-config><target><running/></target><source><config/></source></copy-config>`} {
		r := o.rpc(op)
		if len(r.Errors) != 1 || r.Errors[0].Tag != "in-use" && r.Errors[0].Tag != "access-denied" {
			t.Errorf("%s\n%s", op, r.text)
		}
	}
	o.fails(unlockOp("running"), "protocol/operation-failed")
	o.data(getRunning("")) // reading goes on
	a.ok(edit("candidate", iface("x", "")))
	a.ok(commitOp)
	a.ok(unlockOp("running"))
	a.fails(unlockOp("running"), "protocol/operation-failed")
	o.ok(lockOp("running"))
	o.ok(unlockOp("running"))

	// A modified candidate cannot be locked (section 8.3.5.2); unlocking drops
	// what was not committed.
	a.ok(edit("candidate", iface("y", "")))
	a.ok(unlockOp("candidate"))
	if d := o.data(`<get-config><source><candidate/></source></get-config>`); strings.Contains(d, "<name>y</name>") {
		t.Error("unlock left changes in candidate: ", d)
	}
	o.ok(edit("candidate", iface("z", "")))
	a.fails(lockOp("candidate"), "protocol/lock-denied {session-id=0}")
	o.ok(`<discard-changes/>`)
	a.ok(lockOp("candidate"))
}

// Locks, and what was not committed under one, go with the session
// (RFC 6241 sections 7.5 and 8.3.5.2), however it ends. When close-session or
// kill-session is answered or the stream closed, they are gone.
func TestLockEndsWithSession(t *testing.T) {
	b := newBed(t, nil)
	o := b.open(bob)
	for _, how := range []string{"close", "kill"} {
		a, k := b.open(alice), b.open(alice)
		a.ok(lockOp("running"))
		a.ok(lockOp("candidate"))
		a.ok(edit("candidate", iface("x", "")))
		if how == "close" {
			a.ok(`<close-session/>`)
			a.gone()
			for range 200 { // the stream closes first
				if r := o.rpc(lockOp("running")); r.OK != nil {
					o.ok(unlockOp("running"))
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		} else {
			k.ok(`<kill-session><session-id>` + a.id + `</session-id></kill-session>`)
			if _, err := a.r.Next(nil); err != io.EOF {
				t.Error(err)
			}
		}
		o.ok(lockOp("running"))
		o.ok(lockOp("candidate"))
		if d := o.data(`<get-config><source><candidate/></source></get-config>`); d != "" {
			t.Errorf("%s: %s", how, d)
		}
		o.ok(unlockOp("candidate"))
		o.ok(unlockOp("running"))
	}
}

// kill-session cuts an operation short that would take long.
func TestKillBusySession(t *testing.T) {
	slow := &slowState{root: schema(t).Root, entered: make(chan bool), leave: make(chan bool)}
	b := newBed(t, func(o *Options) { o.State = append(o.State, slow) })
	a, k := b.open(alice), b.open(alice)
	go func() {
		io.WriteString(a.w, `<rpc xmlns="`+nsBase+`" message-id="1"><get><filter><top xmlns="urn:test:behaviour"/></filter></get></rpc>`)
		a.w.End()
	}()
	<-slow.entered
	k.ok(`<kill-session><session-id>` + a.id + `</session-id></kill-session>`)
}

// A client that does not read its reply holds up nobody, and can be killed.
func TestSlowReader(t *testing.T) {
	b := newSSHBed(t)
	b.open(alice).ok(edit("running", many(10_000)))
	for name, slow := range map[string]*client{"pipe": b.open(alice), "ssh": b.raw()} {
		slow.w.Write(message(getRunning("")))
		if err := slow.w.End(); err != nil {
			t.Fatal(err)
		}
		k := b.open(alice)
		k.ok(edit("running", iface("eth0", "<description>meanwhile</description>")))
		k.ok(`<kill-session><session-id>` + slow.id + `</session-id></kill-session>`)
		if b.srv.session(1) == nil || len(b.srv.list()) == 0 {
			t.Error(name, ": the wrong session went")
		}
	}
}

// What role operator may not do: RFC 6241's YANG module marks two operations
// with nacm:default-deny-all; so may other modules.
func TestRoles(t *testing.T) {
	b := newBed(t, nil)
	a, o := b.open(alice), b.open(bob)
	o.fails(`<kill-session><session-id>`+a.id+`</session-id></kill-session>`, "protocol/access-denied")
	o.fails(`<delete-config><target><startup/></target></delete-config>`, "protocol/access-denied")
	o.fails(`<guarded xmlns="urn:test:behaviour"/>`, "protocol/access-denied")
	a.fails(`<guarded xmlns="urn:test:behaviour"/>`, "protocol/operation-not-supported {bad-element=guarded}")
	a.ok(`<discard-changes/>`) // it lives
}
