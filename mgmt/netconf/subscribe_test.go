package netconf

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/notify"
)

// A listener is a client that reads all the time: replies and notifications
// come in one stream, in any mixture.
type listener struct {
	*client
	replies, notes chan string
}

func (c *client) listen() *listener {
	l := &listener{c, make(chan string, 1000), make(chan string, 100_000)}
	go func() {
		defer close(l.notes)
		defer close(l.replies)
		for {
			m, err := c.r.Next(nil)
			if err != nil {
				return
			}
			if strings.HasPrefix(string(m), "<notification") {
				l.notes <- string(m)
			} else {
				l.replies <- string(m)
			}
		}
	}()
	return l
}

func (l *listener) rpc(op string) *reply {
	l.t.Helper()
	l.n++
	fmt.Fprintf(l.w, `<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="%d">%s</rpc>`, l.n, op)
	if err := l.w.End(); err != nil {
		l.t.Fatal(err)
	}
	m, ok := <-l.replies
	if !ok || !strings.Contains(m, fmt.Sprintf(`message-id="%d"`, l.n)) {
		l.t.Fatalf("%s: reply %q", op, m)
	}
	return parseReply(l.t, m)
}

func (l *listener) ok(op string) {
	l.t.Helper()
	if r := l.rpc(op); r.OK == nil || len(r.Errors) > 0 {
		l.t.Fatalf("%s\n%s", op, r.text)
	}
}

var noise = regexp.MustCompile(`<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"><eventTime>[0-9T:.-]+Z</eventTime>|</notification>| xmlns(:[a-z-]+)?="[^"]*"`)

// note gives the next notification without its envelope and namespaces; ""
// when the session is over.
func (l *listener) note() string { return noise.ReplaceAllString(<-l.notes, "") }

func (l *listener) notesAre(want ...string) {
	l.t.Helper()
	for _, w := range want {
		if got := l.note(); got != w {
			l.t.Errorf("\n got %s\nwant %s", got, w)
		}
	}
}

func subscribeTo(params string) string {
	return `<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">` + params + `</create-subscription>`
}

// by is common-session-parms of alice or bob.
func by(c *client) string {
	name, host := "alice", "192.0.2.1"
	if c.bob {
		name, host = "bob", "2001:db8::1"
	}
	return "<username>" + name + "</username><session-id>" + c.id + "</session-id><source-host>" + host + "</source-host>"
}

func changed(who, datastore string, edits ...string) string {
	s := "<netconf-config-change><changed-by>" + who + "</changed-by><datastore>" + datastore + "</datastore>"
	for i := 0; i < len(edits); i += 2 {
		s += "<edit><target>" + edits[i+1] + "</target><operation>" + edits[i] + "</operation></edit>"
	}
	return s + "</netconf-config-change>"
}

const eth0 = "/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']"

// A subscription hears of sessions and commits, live, while other operations go
// on in the same session, and another replays it.
func TestSubscription(t *testing.T) {
	b := newBed(t, nil)
	began := time.Now().UTC().Format(time.RFC3339Nano)
	l := b.open(alice).listen()
	l.ok(subscribeTo(""))
	other := b.open(bob)
	other.bob = true
	other.ok(edit("candidate", iface("eth0", "<description>x</description>")))
	other.ok(commitOp)
	l.ok(edit("running", iface("eth0", "<description>y</description>")))
	if r := l.rpc(getRunning("")); !strings.Contains(r.text, "<description>y</description>") {
		t.Error(r.text)
	}
	other.ok(`<copy-config><target><startup/></target><source><running/></source></copy-config>`)
	other.ok(edit("candidate", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" nc:operation="delete"/>`))
	other.ok(`<commit><confirmed/><confirm-timeout>300</confirm-timeout></commit>`)
	other.ok(`<commit><confirmed/><confirm-timeout>200</confirm-timeout></commit>`)
	other.ok(`<cancel-commit/>`)
	other.ok(edit("candidate", iface("eth0", "<description>z</description>")))
	other.ok(`<commit><confirmed/></commit>`)
	other.ok(commitOp)
	other.ok(`<close-session/>`)
	other.gone()
	bobs := by(other)
	confirmed := func(event, more string) string {
		return "<netconf-confirmed-commit>" + bobs + "<confirm-event>" + event + "</confirm-event>" + more + "</netconf-confirmed-commit>"
	}
	want := []string{
		"<netconf-session-start>" + bobs + "</netconf-session-start>",
		changed(bobs, "running", "create", "/ietf-interfaces:interfaces"),
		changed(by(l.client), "running", "replace", eth0+"/ietf-interfaces:description"),
		changed(bobs, "startup", "create", "/ietf-interfaces:interfaces"),
		changed(bobs, "running", "delete", "/ietf-interfaces:interfaces"),
		confirmed("start", "<timeout>300</timeout>"),
		confirmed("extend", "<timeout>200</timeout>"),
		changed(bobs, "running", "create", "/ietf-interfaces:interfaces"),
		confirmed("cancel", ""),
		changed(bobs, "running", "replace", eth0+"/ietf-interfaces:description"),
		confirmed("start", "<timeout>600</timeout>"),
		confirmed("complete", ""),
		"<netconf-session-end>" + bobs + "<termination-reason>closed</termination-reason></netconf-session-end>",
	}
	l.notesAre(want...)

	again := b.open(alice).listen()
	again.ok(subscribeTo("<startTime>" + began + "</startTime>"))
	again.notesAre("<netconf-session-start>" + by(l.client) + "</netconf-session-start>")
	again.notesAre(want...)
	again.notesAre("<netconf-session-start>"+by(again.client)+"</netconf-session-start>", "<replayComplete/>")
	again.ok(edit("running", iface("eth0", "<description>live</description>")))
	live := changed(by(again.client), "running", "replace", eth0+"/ietf-interfaces:description")
	again.notesAre(live)

	// The counters of RFC 6022, and /netconf/streams.
	r := again.rpc(`<get><filter type="subtree"><netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><sessions/></netconf-state></filter></get>`)
	if want := fmt.Sprintf("<out-notifications>%d</out-notifications>", 1+len(want)+3); !strings.Contains(r.text, want) {
		t.Errorf("no %s in %s", want, r.text)
	}
	r = again.rpc(`<get><filter type="subtree"><netconf xmlns="urn:ietf:params:xml:ns:netmod:notification"/></filter></get>`)
	got := noise.ReplaceAllString(r.Data[0].XML, "")
	got = regexp.MustCompile(`<replayLogCreationTime>[0-9T:.-]+Z`).ReplaceAllString(got, "<replayLogCreationTime>")
	got = regexp.MustCompile(`<description>[^<]+</description>`).ReplaceAllString(got, "")
	const log = "<replaySupport>true</replaySupport><replayLogCreationTime></replayLogCreationTime>"
	events := 1 + len(want) + 2
	if want := "<netconf><streams><stream><name>NETCONF</name>" + log + fmt.Sprintf("<events>%d</events><logged>%d</logged>", events, events) +
		"<subscriptions>2</subscriptions><cut-off>0</cut-off></stream><stream><name>data-plane</name>" + log +
		"<events>0</events><logged>0</logged><subscriptions>0</subscriptions><cut-off>0</cut-off></stream></streams></netconf>"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// What ends a session is told.
func TestSessionEnds(t *testing.T) {
	b := newBed(t, func(o *Options) { o.Limits = Limits{HelloTimeout: 200 * time.Millisecond, MaxMessage: 4000} })
	l := b.open(alice).listen()
	l.ok(subscribeTo(`<filter><netconf-session-end xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"/></filter>`))
	end := func(c *client, id, more string) string {
		return "<netconf-session-end><username>bob</username><session-id>" + id + "</session-id><source-host>2001:db8::1</source-host>" + more + "</netconf-session-end>"
	}
	c := b.open(bob)
	l.ok(`<kill-session><session-id>` + c.id + `</session-id></kill-session>`)
	l.notesAre(end(c, c.id, "<killed-by>"+l.id+"</killed-by><termination-reason>killed</termination-reason>"))
	c = b.open(bob)
	c.conn.Close()
	l.notesAre(end(c, c.id, "<termination-reason>dropped</termination-reason>"))
	c = b.open(bob)
	go io.Copy(io.Discard, c.conn)
	c.write("\n#0\n")
	l.notesAre(end(c, c.id, "<termination-reason>other</termination-reason>"))
	c = b.pipe(bob)
	go io.Copy(io.Discard, c.conn)
	l.notesAre(end(c, "5", "<termination-reason>timeout</termination-reason>"))
	c = b.pipe(bob)
	go io.Copy(io.Discard, c.conn)
	c.write("<hello/>]]>]]>")
	l.notesAre(end(c, "6", "<termination-reason>bad-hello</termination-reason>"))
}

// A subscription ends at stopTime, and the session may have another.
func TestStopTime(t *testing.T) {
	b := newBed(t, nil)
	l := b.open(alice).listen()
	now := time.Now().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339Nano) }
	l.ok(subscribeTo("<startTime>" + at(-time.Hour) + "</startTime><stopTime>" + at(-time.Minute) + "</stopTime>"))
	l.notesAre("<replayComplete/>", "<notificationComplete/>")
	l.ok(subscribeTo("<startTime>" + at(-time.Hour) + "</startTime><stopTime>" + at(300*time.Millisecond) + "</stopTime>"))
	l.notesAre("<netconf-session-start>"+by(l.client)+"</netconf-session-start>", "<replayComplete/>", "<notificationComplete/>")
	l.ok(subscribeTo(""))
	l.ok(`<close-session/>`)
	if n := l.note(); n != "" {
		t.Error("after close-session:", n)
	}
}

func TestSubscribeErrors(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	const at = "/nc:rpc/1.0:create-subscription"
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, x := range []struct{ params, want string }{
		{"<stream>nowhere</stream>", "protocol/invalid-value {bad-element=stream}"},
		{"<stopTime>2026-01-01T00:00:00Z</stopTime>", "protocol/missing-element {bad-element=startTime}"},
		{"<startTime>" + future + "</startTime>", "protocol/bad-element {bad-element=startTime}"},
		{"<startTime>2026-01-02T00:00:00Z</startTime><stopTime>2026-01-01T00:00:00Z</stopTime>", "protocol/bad-element {bad-element=stopTime}"},
		{"<startTime>2026-01-01T00:00:00+01:00</startTime><stopTime>2025-12-31T23:00:00Z</stopTime>", "protocol/bad-element {bad-element=stopTime}"},
		{"<startTime>2026-02-31T00:00:00Z</startTime>", "protocol/invalid-value {bad-element=startTime}"},
		{"<startTime>yesterday</startTime>", "protocol/invalid-value " + at + "/1.0:startTime"},
		{"<nonsense/>", "protocol/unknown-element " + at + " {bad-element=nonsense}"},
		{`<filter type="regexp"/>`, "protocol/bad-attribute {bad-attribute=type} {bad-element=filter}"},
		{`<filter type="xpath"/>`, "protocol/missing-attribute {bad-attribute=select} {bad-element=filter}"},
		{`<filter type="xpath" select="/["/>`, "protocol/invalid-value {bad-attribute=select} {bad-element=filter}"},
		{`<filter type="xpath" select="1+1"/>`, "protocol/invalid-value {bad-attribute=select} {bad-element=filter}"},
		{`<filter type="xpath" select="/no:such"/>`, "protocol/invalid-value {bad-attribute=select} {bad-element=filter}"},
		{`<filter x="y"/>`, "protocol/unknown-attribute {bad-attribute=x} {bad-element=filter}"},
	} {
		c.fails(subscribeTo(x.params), x.want)
	}
	c.ok(subscribeTo(`<filter type="xpath" xmlns:n="urn:ietf:params:xml:ns:netmod:notification" select="/n:replayComplete"/>`))
	c.fails(subscribeTo(""), "protocol/operation-failed") // RFC 5277 section 6.5
	b = newBed(t, func(o *Options) { o.Events = nil })
	c = b.open(alice)
	c.fails(subscribeTo(""), "protocol/operation-not-supported {bad-element=create-subscription}")
	if strings.Contains(strings.Join(c.caps, "\n"), "notification:1.0\n") {
		t.Error("announced all the same")
	}
}

// Filters are of the session's own prefixes, and by content.
func TestSubscribeFiltered(t *testing.T) {
	b := newBed(t, nil)
	l := b.open(alice).listen()
	l.ok(subscribeTo(`<filter type="xpath" xmlns:n="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications" select="/n:netconf-config-change[n:datastore='startup']"/>`))
	m := b.open(alice).listen() // the filter in NETCONF's namespace, as ncclient has it
	m.ok(subscribeTo(`<nc:filter xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" type="subtree"><netconf-config-change xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><edit><operation>delete</operation></edit></netconf-config-change></nc:filter>`))
	l.ok(edit("running", iface("eth0", "")))
	l.ok(`<copy-config><target><startup/></target><source><running/></source></copy-config>`)
	l.ok(edit("running", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" nc:operation="delete"/>`))
	l.notesAre(changed(by(l.client), "startup", "create", "/ietf-interfaces:interfaces"))
	m.notesAre(changed(by(l.client), "running", "delete", "/ietf-interfaces:interfaces"))
}

// The keys of an SA, and what lies in its secret parts, are in no event.
func TestEventsHoldNoSecrets(t *testing.T) {
	b := newBed(t, nil)
	l := b.open(alice).listen()
	l.ok(subscribeTo(""))
	const vault = "/behaviour:top/behaviour:vault"
	l.ok(edit("running", top(`<vault><open>o</open><secret>hunter1</secret></vault>`)))
	l.ok(edit("running", top(`<vault><secret>hunter2</secret><room><gold>hunter3</gold></room></vault>`)))
	l.ok(edit("running", top(`<vault><room><gold>hunter4</gold></room></vault>`)))
	alice := by(l.client)
	l.notesAre(changed(alice, "running", "create", "/behaviour:top"),
		changed(alice, "running", "replace", vault+"/behaviour:secret", "create", vault+"/behaviour:room"),
		changed(alice, "running", "merge", vault+"/behaviour:room"))
}

// A client stops reading while 100 000 events are published. Nobody waits for
// it: commits go on, other subscribers get all, and its session ends, counted
// and logged.
func TestSlowSubscriber(t *testing.T) {
	b := newBed(t, nil)
	quick := b.open(alice).listen()
	quick.ok(subscribeTo("<stream>data-plane</stream>"))
	slow := b.open(bob)
	slow.ok(subscribeTo(""))
	const events = 100_000
	quick.conn.SetDeadline(time.Now().Add(5 * time.Minute))
	got := make(chan int)
	ahead := make(chan bool, 2000) // within the quick one's queue
	go func() {
		n := 0
		for range quick.notes {
			if n++; n == events {
				break
			}
			<-ahead
		}
		got <- n
	}()
	for i := range events {
		b.hub.Tell(time.Time{}, notify.DataPlane, "ietf-netconf-notifications:netconf-session-start", func(w *oper.Writer) {
			w.Text("username", "nobody")
			w.Uint("session-id", uint64(i))
		})
		if i%10_000 == 0 {
			worker := b.open(alice)
			worker.ok(edit("running", iface("eth0", fmt.Sprintf("<description>%d</description>", i))))
			worker.ok(`<close-session/>`)
		}
		if i < events-1 {
			ahead <- true
		}
	}
	if n := <-got; n != events {
		t.Errorf("the one that reads got %d of %d", n, events)
	}
	// What the slow one was sent before it was cut off, and no more.
	slow.conn.SetDeadline(time.Now().Add(20 * time.Second))
	for {
		if _, err := slow.r.Next(nil); err != nil {
			break
		}
	}
	for b.srv.session(2) != nil { // it lets go of what it holds
		time.Sleep(time.Millisecond)
	}
	if log := b.log.String(); !strings.Contains(log, "session cut off") || !strings.Contains(log, "does not read its notifications") {
		t.Error("the log does not say so")
	}
	s := b.hub.Streams()
	if s[0].CutOff != 1 || s[1].CutOff != 0 {
		t.Errorf("%+v", s)
	}
	if r := quick.rpc(getRunning("")); !strings.Contains(r.text, "<description>90000</description>") {
		t.Error(r.text)
	}
}

// A session with a subscription whose client does not read can be killed, and
// its locks with it.
func TestKillBlockedSubscriber(t *testing.T) {
	b := newBed(t, nil)
	slow := b.open(bob)
	slow.ok(`<lock><target><candidate/></target></lock>`)
	slow.ok(subscribeTo(""))
	c := b.open(alice) // the event of its start fills the pipe
	c.ok(`<kill-session><session-id>` + slow.id + `</session-id></kill-session>`)
	c.ok(`<lock><target><candidate/></target></lock>`)
}

// Long replies and notifications do not mix within a message.
func TestInterleave(t *testing.T) {
	b := newBed(t, nil)
	l := b.open(alice).listen()
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, `<interface><name>i%d</name><type>ianaift:ethernetCsmacd</type></interface>`, i)
	}
	l.ok(edit("running", interfaces(many.String())))
	l.ok(subscribeTo("<stream>data-plane</stream>"))
	stop := make(chan bool)
	told := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				told <- n
				return
			default:
			}
			b.hub.Tell(time.Time{}, notify.DataPlane, "ietf-netconf-notifications:netconf-session-start", func(w *oper.Writer) {
				w.Text("username", "nobody")
				w.Uint("session-id", uint64(n))
			})
			n++
			time.Sleep(50 * time.Microsecond)
		}
	}()
	for range 20 {
		if r := l.rpc(getRunning("")); strings.Count(r.text, "<interface>") != 3000 {
			t.Fatal(len(r.text))
		}
	}
	close(stop)
	for i := range <-told {
		if n := l.note(); !strings.Contains(n, fmt.Sprintf("<session-id>%d</session-id>", i)) {
			t.Fatalf("%d: %s", i, n)
		}
	}
}

// base:1.0 clients are served as well.
func TestSubscribeBase10(t *testing.T) {
	b := newBed(t, nil)
	c := b.pipe(alice)
	c.hello(base10)
	l := c.listen()
	l.ok(subscribeTo(""))
	b.open(bob)
	if n := l.note(); !strings.HasPrefix(n, "<netconf-session-start>") {
		t.Error(n)
	}
}
