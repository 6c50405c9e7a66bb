package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/yang"
)

var theSchema = sync.OnceValues(schema.Load)

// A clock is set by the test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type bed struct {
	*Hub
	clock clock
	log   bytes.Buffer
}

func newBed(t testing.TB, l Limits) *bed {
	t.Helper()
	s, err := theSchema()
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{clock: clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	b.Hub, err = New(Options{Schema: s, Log: slog.New(slog.NewTextHandler(&b.log, nil)), Limits: l, Now: b.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start publishes a session-start of session n.
func (b *bed) start(n int) {
	b.Tell(time.Time{}, "", "ietf-netconf-notifications:netconf-session-start", func(w *oper.Writer) {
		w.Text("username", "u")
		w.Uint("session-id", uint64(n))
	})
}

// take reads what a subscription has at hand: session-ids, or names.
func take(t *testing.T, s *Subscription) string {
	t.Helper()
	var out []string
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for {
		if !s.ready() {
			return strings.Join(out, " ")
		}
		m, err := s.step(ctx)
		if m == nil && err == nil {
			continue
		}
		if err != nil {
			return strings.Join(append(out, "("+err.Error()+")"), " ")
		}
		text := string(m)
		if _, rest, ok := strings.Cut(text, "<session-id>"); ok {
			text, _, _ = strings.Cut(rest, "<")
		} else if _, rest, ok := strings.Cut(text, "</eventTime><"); ok {
			text, _, _ = strings.Cut(rest, " ")
		}
		out = append(out, text)
	}
}

// ready tells whether Next would give something that need not be waited for.
func (s *Subscription) ready() bool {
	if s.over || len(s.replay) > 0 || !s.told || len(s.live) > 0 || s.Err() != nil {
		return true
	}
	return s.stop != nil && !s.hub.now().Before(s.req.Stop)
}

func (b *bed) subscribe(t *testing.T, r Request) *Subscription {
	t.Helper()
	s, err := b.Subscribe(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestMessage(t *testing.T) {
	b := newBed(t, Limits{})
	s := b.subscribe(t, Request{})
	b.Tell(time.Date(2026, 1, 2, 4, 4, 5, 678900000, time.FixedZone("", 3600)), "", "ietf-netconf-notifications:netconf-config-change", func(w *oper.Writer) {
		w.In("changed-by", func() {
			w.Text("username", "a<b")
			w.Uint("session-id", 7)
			w.Text("source-host", "192.0.2.1")
		})
		w.Text("datastore", "startup")
		for _, name := range []string{"eth0", "eth1"} {
			w.Entry("edit", nil, func() {
				w.Text("target", "/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='"+name+"']/ietf-ip:ipv4")
				w.Text("operation", "create")
			})
		}
	})
	if b.log.Len() > 0 {
		t.Fatal(b.log.String())
	}
	m, err := s.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	edit := `<edit><target xmlns:ietf-interfaces="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ietf-ip="urn:ietf:params:xml:ns:yang:ietf-ip">/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='%s']/ietf-ip:ipv4</target><operation>create</operation></edit>`
	same(t, "message", string(m), `<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"><eventTime>2026-01-02T03:04:05.6789Z</eventTime>`+
		`<netconf-config-change xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications">`+
		`<changed-by><username>a&lt;b</username><session-id>7</session-id><source-host>192.0.2.1</source-host></changed-by>`+
		`<datastore>startup</datastore>`+fmt.Sprintf(edit, "eth0")+fmt.Sprintf(edit, "eth1")+`</netconf-config-change></notification>`)
}

func TestReplayThenLive(t *testing.T) {
	b := newBed(t, Limits{})
	for i := 1; i <= 5; i++ {
		b.start(i)
		b.clock.step(time.Second)
	}
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	live := b.subscribe(t, Request{})
	all := b.subscribe(t, Request{Start: t0.Add(-time.Hour)})
	some := b.subscribe(t, Request{Start: t0.Add(2 * time.Second)})
	part := b.subscribe(t, Request{Start: t0.Add(1 * time.Second), Stop: t0.Add(3 * time.Second)})
	later := b.subscribe(t, Request{Start: t0.Add(4 * time.Second), Stop: t0.Add(7 * time.Second)})
	b.start(6)
	b.clock.step(time.Second)
	b.start(7)
	same(t, "live", take(t, live), "6 7")
	same(t, "all", take(t, all), "1 2 3 4 5 replayComplete 6 7")
	same(t, "some", take(t, some), "3 4 5 replayComplete 6 7")
	same(t, "part", take(t, part), "2 3 4 replayComplete notificationComplete (EOF)")
	same(t, "later, before its end", take(t, later), "5 replayComplete 6 7")
	b.clock.step(2 * time.Second)
	b.start(8) // after stopTime
	same(t, "later", take(t, later), "notificationComplete (EOF)")
	if _, err := later.Next(context.Background()); err != io.EOF {
		t.Error("after the end:", err)
	}
	if n := b.Streams()[0].Subscriptions; n != 5 {
		t.Error(n, "subscriptions")
	}
	all.Close()
	same(t, "closed", take(t, all), "("+ErrClosed.Error()+")")
	if n := b.Streams()[0].Subscriptions; n != 4 {
		t.Error(n, "subscriptions")
	}
}

func TestStreams(t *testing.T) {
	b := newBed(t, Limits{})
	if _, err := b.Subscribe(Request{Stream: "nowhere"}); err != ErrStream {
		t.Error(err)
	}
	plane, every := b.subscribe(t, Request{Stream: DataPlane}), b.subscribe(t, Request{Stream: NETCONF})
	b.start(1)
	e, err := b.Compose("ietf-netconf-notifications:netconf-session-start", func(w *oper.Writer) {
		w.Text("username", "u")
		w.Uint("session-id", 2)
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Stream = DataPlane
	b.Publish(*e)
	same(t, "data-plane", take(t, plane), "2")
	same(t, "NETCONF", take(t, every), "1 2")
	b.Tell(time.Time{}, "nowhere", "ietf-netconf-notifications:netconf-session-start", nil)
	b.Publish(Event{})
	b.Publish(Event{Node: e.Node, Data: data.NewAt(b.events.Root)})
	if n := strings.Count(b.log.String(), "was not published"); n != 3 {
		t.Error(n, "complaints:", b.log.String())
	}
}

// What the log holds is bounded in number, size and age, and replayLogAgedTime
// says what is gone.
func TestLogIsBounded(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	replay := func(b *bed) string {
		s := b.subscribe(t, Request{Start: t0})
		defer s.Close()
		return take(t, s)
	}
	b := newBed(t, Limits{Events: 3})
	for i := 1; i <= 200; i++ {
		b.start(i)
		b.clock.step(time.Second)
		if i == 3 && !b.Streams()[0].Aged.IsZero() {
			t.Error("aged already")
		}
	}
	same(t, "by number", replay(b), "198 199 200 replayComplete")
	if i := b.Streams()[0]; !i.Aged.Equal(t0.Add(196*time.Second)) || i.Logged != 3 || i.Events != 200 {
		t.Errorf("%+v", i)
	}
	if n := cap(b.streams[0].log); n > 256 {
		t.Error("the log has room for", n)
	}
	b = newBed(t, Limits{Bytes: 1000})
	for i := 1; i <= 9; i++ {
		b.start(i)
	}
	if i := b.Streams()[0]; i.Logged == 0 || b.streams[0].bytes > 1000 || i.Logged == 9 {
		t.Errorf("%+v, %d bytes", i, b.streams[0].bytes)
	}
	b = newBed(t, Limits{Bytes: 1})
	b.start(1)
	b.start(2)
	same(t, "an event larger than the log", replay(b), "2 replayComplete")
	b = newBed(t, Limits{Age: time.Minute})
	b.start(1)
	b.clock.step(40 * time.Second)
	b.start(2)
	b.clock.step(40 * time.Second)
	same(t, "by age", replay(b), "2 replayComplete")
	b.clock.step(40 * time.Second)
	same(t, "all too old", replay(b), "replayComplete")
}

// A subscriber that does not read is ended, and nobody waits for it.
func TestSlowSubscriber(t *testing.T) {
	b := newBed(t, Limits{Queue: 10})
	slow, quick := b.subscribe(t, Request{}), b.subscribe(t, Request{})
	for i := range 11 {
		b.start(i)
		take(t, quick)
	}
	select {
	case <-slow.Done():
	default:
		t.Fatal("it is not behind")
	}
	if !errors.Is(slow.Err(), ErrBehind) {
		t.Error(slow.Err())
	}
	if _, err := slow.Next(context.Background()); err != ErrBehind {
		t.Error(err)
	}
	b.start(11)
	same(t, "the other", take(t, quick), "11")
	if i := b.Streams()[0]; i.CutOff != 1 || i.Subscriptions != 1 {
		t.Errorf("%+v", i)
	}
}

func TestFilters(t *testing.T) {
	b := newBed(t, Limits{})
	subtree := func(content string) *Filter {
		t.Helper()
		f, err := b.Subtree(codec.Raw{XML: []byte(`<filter>` + content + `</filter>`)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	path := func(text string) *Filter {
		t.Helper()
		f, err := b.XPath(text, b.events.Names())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const n, ncn = "ietf-netconf-notifications:", ` xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"`
	cases := []struct {
		what string
		f    *Filter
		want string
	}{
		{"nothing", nil, "1 2 3 netconf-config-change"},
		{"empty", subtree(""), ""},
		{"by name", subtree("<netconf-config-change" + ncn + "/>"), "netconf-config-change"},
		{"without namespace", subtree("<netconf-session-start/>"), "1 2 3"},
		{"two names", subtree("<netconf-session-start/><netconf-config-change/>"), "1 2 3 netconf-config-change"},
		{"by content", subtree("<netconf-session-start" + ncn + "><session-id>2</session-id></netconf-session-start>"), "2"},
		{"other content", subtree("<netconf-session-start" + ncn + "><session-id>9</session-id></netconf-session-start>"), ""},
		{"content and selection", subtree("<netconf-session-start" + ncn + "><username>u</username><session-id/></netconf-session-start>"), "1 2 3"},
		{"selection of what is not there", subtree("<netconf-session-start" + ncn + "><source-host/></netconf-session-start>"), ""},
		{"a default", subtree("<netconf-config-change" + ncn + "><datastore>running</datastore></netconf-config-change>"), ""}, // made explicit below
		{"inside", subtree("<netconf-config-change" + ncn + "><edit><operation>delete</operation></edit></netconf-config-change>"), "netconf-config-change"},
		{"inside, other", subtree("<netconf-config-change" + ncn + "><edit><operation>create</operation></edit></netconf-config-change>"), ""},
		{"unknown", subtree("<nonsense/>"), ""},
		{"data node", subtree(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"/>`), ""},
		{"attribute", subtree(`<netconf-session-start x="1"/>`), ""},
		{"xpath by name", path("/" + n + "netconf-session-start"), "1 2 3"},
		{"xpath without prefix", path("/netconf-session-start"), "1 2 3"},
		{"xpath any", path("/*"), "1 2 3 netconf-config-change"},
		{"xpath content", path("/" + n + "netconf-session-start[" + n + "session-id > 1]"), "2 3"},
		{"xpath relative", path(n + "netconf-session-start/" + n + "session-id[. = 3]"), "3"},
		{"xpath deep", path("//" + n + "operation[. = 'delete']"), "netconf-config-change"},
		{"xpath union", path("/" + n + "netconf-config-change | /" + n + "netconf-session-start[" + n + "session-id=1]"), "1 netconf-config-change"},
		{"xpath not there", path("//" + n + "source-host"), ""},
		{"xpath target", path("/" + n + "netconf-config-change[contains(" + n + "edit/" + n + "target, 'eth0')]"), "netconf-config-change"},
		{"xpath datastore", path("/ietf-interfaces:interfaces"), ""},
	}
	var subs []*Subscription
	for _, c := range cases {
		subs = append(subs, b.subscribe(t, Request{Filter: c.f}))
	}
	for i := 1; i <= 3; i++ {
		b.start(i)
	}
	b.Tell(time.Time{}, "", n+"netconf-config-change", func(w *oper.Writer) {
		w.In("changed-by", func() { w.Text("server", "") })
		w.Entry("edit", nil, func() {
			w.Text("target", "/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']")
			w.Text("operation", "delete")
		})
	})
	for i, c := range cases {
		if c.what == "a default" {
			c.want = "netconf-config-change" // datastore is not sent, and running all the same
		}
		same(t, c.what, take(t, subs[i]), c.want)
	}
	if b.log.Len() > 0 {
		t.Error(b.log.String())
	}
	for _, bad := range []string{"", "/a[", "1 + 1", "'x'", "/nowhere:x"} {
		if _, err := b.XPath(bad, b.events.Names()); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Who may not receive a notification gets none, live or replayed, but always
// hears the end.
func TestMay(t *testing.T) {
	b := newBed(t, Limits{})
	b.start(1)
	now := b.clock.now()
	may := false
	s := b.subscribe(t, Request{Start: now.Add(-time.Hour), Stop: now.Add(time.Second),
		May: func(n *yang.Node) bool { return may && n.Name == "netconf-session-start" }})
	b.start(2)
	same(t, "may not", take(t, s), "replayComplete")
	may = true
	b.start(3)
	same(t, "may", take(t, s), "3")
	b.clock.step(time.Second)
	b.start(4) // at stopTime
	may = false
	same(t, "at the end", take(t, s), "notificationComplete (EOF)")
}

// Events are published from many goroutines while subscriptions come and go:
// each sees one order, without gaps or twins.
func TestManyAtOnce(t *testing.T) {
	b := newBed(t, Limits{Queue: 10_000, Events: 10_000})
	b.clock.step(time.Hour)
	start := b.clock.now().Add(-time.Minute)
	var writers, readers sync.WaitGroup
	const each, n = 200, 4
	seen := make([][]string, 8)
	for i := range seen {
		readers.Go(func() {
			s, err := b.Subscribe(Request{Start: start})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for len(seen[i]) < each*n {
				m, err := s.Next(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Contains(m, []byte("replayComplete")) {
					seen[i] = append(seen[i], string(m))
				}
			}
		})
	}
	for w := range n {
		writers.Go(func() {
			for i := range each {
				b.start(w*each + i)
			}
		})
	}
	writers.Wait()
	readers.Wait()
	for i := range seen {
		if strings.Join(seen[i], "") != strings.Join(seen[0], "") {
			t.Errorf("subscriber %d saw another order", i)
		}
	}
}
