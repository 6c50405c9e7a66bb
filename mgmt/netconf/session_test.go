package netconf

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/netconf/frame"
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
	c.gone()
}

// gone checks that the server closes the stream without another word.
func (c *client) gone() {
	c.t.Helper()
	if m, err := c.r.Next(nil); err != io.EOF {
		c.t.Errorf("%q %v, want the end of the stream", m, err)
	}
}

// RFC 6241 section 8.1: what both hellos say.
func TestHello(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	if c.id != "1" {
		t.Error("session-id", c.id)
	}
	have := strings.Join(c.caps, "\n") + "\n"
	s := schema(t)
	for _, want := range []string{
		base10, base11,
		capPrefix + "writable-running:1.0", capPrefix + "candidate:1.0", capPrefix + "confirmed-commit:1.1", capPrefix + "rollback-on-error:1.0",
		capPrefix + "validate:1.1", capPrefix + "startup:1.0", capPrefix + "xpath:1.0",
		capPrefix + "with-defaults:1.0?basic-mode=explicit&also-supported=report-all,report-all-tagged,trim",
		capPrefix + "yang-library:1.1?revision=2019-01-04&content-id=" + s.ID(),
		"urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring?module=ietf-netconf-monitoring&revision=2010-10-04&deviations=vrouter-deviations-ietf-netconf-monitoring",
		nsBase + "?module=ietf-netconf&revision=2011-06-01&features=candidate,confirmed-commit,rollback-on-error,startup,validate,writable-running,xpath",
	} {
		if !strings.Contains(have, want+"\n") {
			t.Errorf("the hello lacks %s\n%s", want, have)
		}
	}
	for _, not := range []string{"module=ietf-interfaces", "module=ietf-inet-types", "url:"} { // YANG 1.1; import only; not built
		if strings.Contains(have, not) {
			t.Errorf("the hello has %s", not)
		}
	}
	if d := b.open(bob); d.id != "2" {
		t.Error("session-id", d.id)
	}
}

func helloWith(s string) string {
	return `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">` + s + `</hello>`
}

// A bad hello ends the session without a reply (RFC 6241 section 8.1).
func TestBadHello(t *testing.T) {
	b := newBed(t, nil)
	caps := func(s ...string) string {
		return "<capabilities><capability>" + strings.Join(s, "</capability><capability>") + "</capability></capabilities>"
	}
	bad := map[string]string{
		"session-id":       helloWith(caps(base10) + "<session-id>7</session-id>"),
		"no base":          helloWith(caps("urn:x")),
		"no capabilities":  helloWith(""),
		"namespace":        `<hello xmlns="urn:x">` + caps(base10) + `</hello>`,
		"rpc":              `<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="1"><get/></rpc>`,
		"not well-formed":  helloWith("<capabilities>"),
		"not XML":          "SSH-2.0-OpenSSH_9.2",
		"document type":    `<!DOCTYPE hello>` + helloWith(caps(base10)),
		"two roots":        helloWith(caps(base10)) + helloWith(caps(base10)),
		"capability alone": helloWith("<capability>" + base10 + "</capability>"),
	}
	for name, text := range bad {
		c := b.pipe(alice)
		done := make(chan bool)
		go func() {
			c.read() // the server's hello
			c.gone()
			close(done)
		}()
		c.write(text + "]]>]]>")
		<-done
		if t.Failed() {
			t.Fatal(name)
		}
	}
	c := b.open(alice)
	if d := c.data(`<get><filter><netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><statistics><in-bad-hellos/><in-sessions/></statistics></netconf-state></filter></get>`); !strings.Contains(d, fmt.Sprintf("<in-bad-hellos>%d</in-bad-hellos><in-sessions>1</in-sessions>", len(bad))) {
		t.Error(d)
	}
}

// A client that only speaks base:1.0 is served with end-of-message framing; so
// is white space in its hello, and a prefix on everything.
func TestBase10(t *testing.T) {
	b := newBed(t, nil)
	c := b.pipe(alice)
	done := make(chan string)
	go func() { done <- c.read() }()
	c.write("\n<?xml version=\"1.0\"?>\n<nc:hello xmlns:nc='" + nsBase + "'>\n<nc:capabilities>\n<nc:capability>\n  " + base10 + " </nc:capability><x xmlns='urn:x'/></nc:capabilities></nc:hello>\n]]>]]>\n")
	<-done
	c.ok(edit("running", iface("eth0", "<description>]]&gt;]]&gt;</description>")))
	if d := c.data(getRunning("")); !strings.Contains(d, "]]&gt;]]&gt;") {
		t.Error(d)
	}
	// The tag malformed-message must not be sent to base:1.0 (RFC 6241 appendix A).
	if r := c.message("<rpc>"); r.Errors[0].String() != "rpc/operation-failed" {
		t.Error(r.text)
	}
	c.ok(`<close-session/>`)
	c.gone()
}

func TestHelloTimeout(t *testing.T) {
	b := newBed(t, func(o *Options) { o.Limits.HelloTimeout = 30 * time.Millisecond })
	c := b.pipe(alice)
	c.read()
	c.gone()
	d := b.open(alice) // and in time it does not strike
	time.Sleep(60 * time.Millisecond)
	d.ok(`<discard-changes/>`)
}

// RFC 6242 section 4.2: broken chunks end the session; a last word may come first.
func TestBadChunks(t *testing.T) {
	b := newBed(t, nil)
	for _, s := range []string{"\n#0\n", "\n#012\n<rpc/>", "\n#x\n", "<rpc/>]]>]]>", "\n##\n", "\n#4294967296\n"} {
		c := b.open(alice)
		done := make(chan bool)
		go func() {
			if r := parseReply(t, c.read()); r.Errors[0].String() != "rpc/malformed-message" {
				t.Errorf("%q: %s", s, r.text)
			}
			c.gone()
			close(done)
		}()
		c.conn.Write([]byte(s)) // may fail half way, as the server stops reading
		<-done
	}
}

func TestTooBig(t *testing.T) {
	b := newBed(t, func(o *Options) { o.Limits.MaxMessage = 1000 })
	c := b.open(alice)
	done := make(chan bool)
	go func() {
		if r := parseReply(t, c.read()); r.Errors[0].String() != "rpc/too-big" {
			t.Error(r.text)
		}
		c.gone()
		close(done)
	}()
	c.conn.Write([]byte("\n#1001\n"))
	<-done
}

// Every attribute of rpc comes back, with the namespaces declared once
// (RFC 6241 section 4.1).
func TestEcho(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	for _, x := range []struct{ attrs, want string }{
		{`message-id="101"`, ` message-id="101"`},
		{`message-id=""`, ` message-id=""`},
		{`message-id='a&lt;b "c" &amp;&#10;d>'`, ` message-id="a&lt;b &quot;c&quot; &amp;&#10;d&gt;"`},
		{`xmlns:ex="http://example.net/content/1.0" ex:user-id="fred" message-id="1" ex:place="here" xmlns:unused="urn:u"`,
			` xmlns:ex="http://example.net/content/1.0" ex:user-id="fred" message-id="1" ex:place="here"`},
		{`message-id="1" xml:lang="de"`, ` message-id="1" xml:lang="de"`},
	} {
		r := c.message(`<rpc xmlns="` + nsBase + `" ` + x.attrs + `><discard-changes/></rpc>`)
		if want := `<rpc-reply xmlns="` + nsBase + `"` + x.want + `><ok/></rpc-reply>`; r.text != want {
			t.Errorf("%s\ngot  %s\nwant %s", x.attrs, r.text, want)
		}
	}
}

// The rpc layer: errors before any operation. The session goes on after each.
func TestRPCErrors(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	const open = `<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="9">`
	for _, x := range []struct{ name, text, want, id string }{
		{"no message-id", `<rpc xmlns="` + nsBase + `"><get/></rpc>`, "rpc/missing-attribute {bad-attribute=message-id} {bad-element=rpc}", ""},
		{"message-id of a namespace", `<rpc xmlns="` + nsBase + `" xmlns:n="` + nsBase + `" n:message-id="1"><get/></rpc>`, "rpc/missing-attribute {bad-attribute=message-id} {bad-element=rpc}", "1"},
		{"long message-id", `<rpc xmlns="` + nsBase + `" message-id="` + strings.Repeat("x", 4096) + `"><get/></rpc>`, "rpc/bad-attribute {bad-attribute=message-id} {bad-element=rpc}", ""},
		{"not well-formed", open + `<get></rpc>`, "rpc/malformed-message", ""},
		{"cut", open + `<get/>`, "rpc/malformed-message", ""},
		{"two roots", open + `<get/></rpc><x/>`, "rpc/malformed-message", ""},
		{"not XML", `hello`, "rpc/malformed-message", ""},
		{"not UTF-8", open + "<get>\xff</get></rpc>", "rpc/malformed-message", ""},
		{"document type", `<!DOCTYPE rpc [<!ENTITY a "b">]>` + open + `<get/></rpc>`, "rpc/malformed-message", ""},
		{"broken after the operation", open + `<edit-config><target><running/></target><config>` + iface("x", "") + `</config></edit-config>`, "rpc/malformed-message", ""},
		{"broken after a bad operation", open + `<bogus/><`, "rpc/malformed-message", ""},
		{"undeclared prefix", open + `<nc:get/></rpc>`, "rpc/malformed-message", ""},
		{"another root", `<hello xmlns="` + nsBase + `"/>`, "rpc/unknown-element {bad-element=hello}", ""},
		{"no namespace", `<rpc message-id="9"><get/></rpc>`, "rpc/unknown-namespace {bad-element=rpc} {bad-namespace=}", ""},
		{"no operation", open + `</rpc>`, "rpc/missing-element {bad-element=rpc}", "9"},
		{"text", open + `get</rpc>`, "rpc/bad-element {bad-element=rpc}", "9"},
		{"two operations", open + `<get-config><source><running/></source></get-config><get/></rpc>`, "rpc/unknown-element {bad-element=get}", "9"},
		{"unknown operation", open + `<bogus-op/></rpc>`, "protocol/operation-not-supported {bad-element=bogus-op}", "9"},
		{"operation without namespace", open + `<bogus-op xmlns=""/></rpc>`, "protocol/operation-not-supported {bad-element=bogus-op}", "9"},
		{"operation of nobody's namespace", open + `<get xmlns="urn:x"/></rpc>`, "protocol/operation-not-supported {bad-element=get}", "9"},
		{"operation nobody handles", open + `<unhandled xmlns="urn:test:behaviour"/></rpc>`, "protocol/operation-not-supported {bad-element=unhandled}", "9"},
	} {
		r := c.message(x.text)
		if len(r.Errors) != 1 || r.Errors[0].String() != x.want {
			t.Errorf("%s: %s\ngot  %v\nwant %s", x.name, r.text, r.Errors, x.want)
		}
		id := ""
		for _, a := range r.Attr {
			if a.Name.Local == "message-id" {
				id = a.Value
			}
		}
		if id != x.id {
			t.Errorf("%s: message-id %q, want %q", x.name, id, x.id)
		}
	}
	if d := c.data(getRunning("")); d != "" {
		t.Error("a broken message did something: ", d)
	}
}

// Parameters of operations that are missing, unknown or wrong.
func TestParameterErrors(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	for _, x := range []struct{ op, want string }{
		{`<get-config/>`, "protocol/missing-element /nc:rpc/nc:get-config {bad-element=source}"},
		{`<get-config><source/></get-config>`, "protocol/missing-element /nc:rpc/nc:get-config {bad-element=source}"},
		{`<get-config><source><bogus/></source></get-config>`, "protocol/unknown-element /nc:rpc/nc:get-config/nc:source {bad-element=bogus}"},
		{`<get-config><source><url>ftp://x</url></source></get-config>`, "protocol/unknown-element /nc:rpc/nc:get-config/nc:source {bad-element=url}"},
		{`<get-config><source><running/><candidate/></source></get-config>`, "protocol/bad-element /nc:rpc/nc:get-config/nc:source/nc:candidate {bad-element=candidate}"},
		{`<get-config><source><running/></source><bogus/></get-config>`, "protocol/unknown-element /nc:rpc/nc:get-config {bad-element=bogus}"},
		{`<get-config><source><running>x</running></source></get-config>`, "protocol/invalid-value /nc:rpc/nc:get-config/nc:source/nc:running"},
		{`<edit-config><target><candidate/></target></edit-config>`, "protocol/missing-element /nc:rpc/nc:edit-config {bad-element=config}"},
		{`<edit-config><config/></edit-config>`, "protocol/missing-element /nc:rpc/nc:edit-config {bad-element=target}"},
		{`<edit-config><target><startup/></target><config/></edit-config>`, "protocol/unknown-element /nc:rpc/nc:edit-config/nc:target {bad-element=startup}"},
		{editWith("candidate", `<default-operation>delete</default-operation>`, ""), "protocol/invalid-value /nc:rpc/nc:edit-config/nc:default-operation"},
		{editWith("candidate", `<test-option>try</test-option>`, ""), "protocol/invalid-value /nc:rpc/nc:edit-config/nc:test-option"},
		{editWith("candidate", `<error-option>ignore</error-option>`, ""), "protocol/invalid-value /nc:rpc/nc:edit-config/nc:error-option"},
		{`<copy-config><target><running/></target><source><running/></source></copy-config>`, "protocol/invalid-value {bad-element=target}"},
		{`<delete-config><target><running/></target></delete-config>`, "protocol/unknown-element /nc:rpc/nc:delete-config/nc:target {bad-element=running}"},
		{`<delete-config><target><candidate/></target></delete-config>`, "protocol/unknown-element /nc:rpc/nc:delete-config/nc:target {bad-element=candidate}"},
		{`<commit><confirmed/><confirm-timeout>0</confirm-timeout></commit>`, "protocol/invalid-value /nc:rpc/nc:commit/nc:confirm-timeout"},
		{`<commit><confirm-timeout>5</confirm-timeout></commit>`, "protocol/missing-element {bad-element=confirmed}"},
		{`<commit><persist>x</persist></commit>`, "protocol/missing-element {bad-element=confirmed}"},
		{`<commit><confirmed/><persist/></commit>`, "protocol/invalid-value {bad-element=persist}"},
		{`<kill-session/>`, "protocol/missing-element /nc:rpc/nc:kill-session {bad-element=session-id}"},
		{`<kill-session><session-id>0</session-id></kill-session>`, "protocol/invalid-value /nc:rpc/nc:kill-session/nc:session-id"},
		{`<kill-session><session-id>me</session-id></kill-session>`, "protocol/invalid-value /nc:rpc/nc:kill-session/nc:session-id"},
		{`<kill-session><session-id>4000000000</session-id></kill-session>`, "protocol/invalid-value {bad-element=session-id}"},
		{`<kill-session><session-id>` + c.id + `</session-id></kill-session>`, "protocol/invalid-value {bad-element=session-id}"},
		{`<lock/>`, "protocol/missing-element /nc:rpc/nc:lock {bad-element=target}"},
		{`<validate/>`, "protocol/missing-element /nc:rpc/nc:validate {bad-element=source}"},
		{`<get-schema xmlns="` + nsMonitoring + `"/>`, "protocol/missing-element /nc:rpc/ietf-netconf-monitoring:get-schema {bad-element=identifier}"},
	} {
		c.fails(x.op, x.want)
	}
}

// Requests that are sent without waiting are answered in order.
func TestPipelining(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	const n = 50
	done := make(chan bool)
	go func() {
		for i := range n {
			if r := parseReply(t, c.read()); !strings.Contains(r.text, fmt.Sprintf(`message-id="%d"`, i)) || r.OK == nil {
				t.Errorf("reply %d: %s", i, r.text)
			}
		}
		close(done)
	}()
	for i := range n {
		fmt.Fprintf(c.w, `<rpc xmlns="%s" message-id="%d">%s</rpc>`, nsBase, i, edit("candidate", iface(fmt.Sprint("eth", i), "")))
		if err := c.w.End(); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}

// A large reply comes in several chunks, and whole.
func TestLargeReply(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	text := strings.Repeat("0123456789", 40_000)
	c.ok(edit("running", iface("eth0", "<description>"+text+"</description>")))
	if d := c.data(getRunning("")); !strings.Contains(d, text) {
		t.Fatal("the reply lacks something")
	}
	c.ok(edit("candidate", many(3000)))
	for _, f := range []string{"", subtree(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface/></interfaces>`), `<filter type="xpath" select="//interface"/>`} {
		if d := c.data(`<get-config><source><candidate/></source>` + f + `</get-config>`); strings.Count(d, "<interface>") != 3000 || strings.Count(d, "</interface>") != 3000 {
			t.Fatal("entries are missing")
		}
	}
}

func TestMaxSessions(t *testing.T) {
	b := newBed(t, func(o *Options) { o.Limits.MaxSessions = 2 })
	c := b.open(alice)
	b.open(bob)
	b.pipe(alice).gone()
	local := alice
	local.Host = "" // who is on the machine can always come in
	l := b.open(local)
	l.ok(`<kill-session><session-id>` + c.id + `</session-id></kill-session>`)
	b.open(bob).ok(`<discard-changes/>`)
}

// The server stops: an operation under way is answered, an idle session is
// closed.
func TestStop(t *testing.T) {
	slow := &slowState{root: schema(t).Root, entered: make(chan bool), leave: make(chan bool)}
	b := newBed(t, func(o *Options) { o.State = append(o.State, slow) })
	idle, busy := b.open(alice), b.open(alice)
	got := make(chan string)
	go func() { got <- busy.rpc(`<get><filter><top xmlns="urn:test:behaviour"/></filter></get>`).text }()
	<-slow.entered
	b.stop()
	idle.gone()
	close(slow.leave)
	if r := <-got; !strings.Contains(r, "<state>slow</state>") {
		t.Error(r)
	}
	busy.gone()
}

// A client that vanishes leaves nothing behind.
func TestVanish(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(`<lock><target><running/></target></lock>`)
	c.conn.Close()
	d := b.open(bob)
	for range 500 {
		if r := d.rpc(`<lock><target><running/></target></lock>`); r.OK != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if s := d.data(`<get><filter><netconf-state xmlns="` + nsMonitoring + `"><statistics><dropped-sessions/></statistics></netconf-state></filter></get>`); !strings.Contains(s, "<dropped-sessions>1<") {
		t.Error(s)
	}
}

func FuzzMessage(f *testing.F) {
	s := schema(f)
	for _, m := range []string{
		`<rpc xmlns="` + nsBase + `" message-id="1"><get/></rpc>`,
		`<rpc xmlns="` + nsBase + `" message-id="1" xmlns:a="urn:a" a:b="c">` + edit("candidate", iface("a", "")) + `</rpc>`,
		`<nc:rpc xmlns:nc="` + nsBase + `" message-id="1"><nc:get-config><nc:source><nc:running/></nc:source><nc:filter nc:type="xpath" select="/a:b" xmlns:a="urn:a"/></nc:get-config></nc:rpc>`,
		`<rpc xmlns="` + nsBase + `"><add xmlns="urn:test:behaviour"><x>1</x></add></rpc>`,
		`<rpc>`, `<!DOCTYPE x>`, `<a><b/></a>`,
	} {
		f.Add([]byte(m))
	}
	srv, err := New(Options{Schema: s, Manager: newBed(f, nil).mgr})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		var out writes
		c := &session{srv: srv, log: srv.log, w: frame.NewWriter(&out), base11: true}
		req, badRPC, err := parse(s, msg)
		if err == nil && req.in == nil {
			t.Fatal("neither request nor error")
		}
		if err != nil { // whatever it was, the answer is a message of its own
			if badRPC {
				c.bad(req, err)
			} else {
				c.open(req)
				c.out = srv.appendErrors(c.out, srv.asErrors(err), true)
				c.send()
			}
			text, ok := strings.CutSuffix(string(out.b), "]]>]]>")
			if !ok {
				t.Fatalf("%q", out.b)
			}
			parseReply(t, text)
		}
	})
}

type writes struct{ b []byte }

func (w *writes) Write(p []byte) (int, error) { w.b = append(w.b, p...); return len(p), nil }
