package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/netconf/frame"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// theSchema is the router's own, all its modules, features and deviations,
// with the module behaviour of testdata/yang.
var theSchema = sync.OnceValues(func() (*yang.Schema, error) {
	on := map[string]bool{}
	for m, fs := range modules.Features() {
		for _, f := range fs {
			on[m+":"+f] = true
		}
	}
	return yang.Load(yang.Options{FS: modules.FS, Dirs: []string{"testdata/yang"}, Features: func(m, f string) bool { return on[m+":"+f] }},
		append(modules.Implemented(), "behaviour")...)
})

func schema(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := theSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// accept is a data plane that takes everything.
type accept struct{}

func (accept) Prepare(context.Context, *data.Container, *data.Container) (txn.Pending, error) {
	return accept{}, nil
}
func (accept) Publish() {}
func (accept) Abort()   {}

// A bed is a server over real datastores in a folder of their own.
type bed struct {
	t    testing.TB
	srv  *Server
	mgr  *txn.Manager
	hub  *notify.Hub
	ctx  context.Context
	stop context.CancelFunc // ends the server
	log  logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBed(t testing.TB, change func(*Options)) *bed {
	t.Helper()
	b := &bed{t: t}
	s := schema(t)
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := datastore.Open(datastore.Options{Dir: t.TempDir(), Schema: s, Validator: v, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if b.mgr, err = txn.New(txn.Options{Schema: s, Validator: v, Store: store, Applier: accept{}, Log: log,
		OnCommit: func(e txn.Event) { b.srv.Committed(e) }}); err != nil {
		t.Fatal(err)
	}
	if b.hub, err = notify.New(notify.Options{Schema: s, Log: log}); err != nil {
		t.Fatal(err)
	}
	o := Options{Schema: s, Manager: b.mgr, Log: log, Events: b.hub}
	if change != nil {
		change(&o)
	}
	if b.srv, err = New(o); err != nil {
		t.Fatal(err)
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		b.stop()
		for range 500 {
			if len(b.srv.list()) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(b.srv.list()); n != 0 {
			t.Error(n, "sessions outlive the server")
		}
		if err := b.mgr.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

var (
	alice = transport.Peer{User: users.User{Name: "alice", Role: users.Admin}, Transport: "ietf-netconf-monitoring:netconf-ssh", Host: "192.0.2.1"}
	bob   = transport.Peer{User: users.User{Name: "bob", Role: users.Operator}, Transport: "ietf-netconf-monitoring:netconf-ssh", Host: "2001:db8::1"}
)

// A client speaks raw NETCONF over a pipe.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *frame.Reader
	w    *frame.Writer
	id   string // session-id
	caps []string
	n    int
	bob  bool
}

// pipe connects a client that has said nothing yet.
func (b *bed) pipe(p transport.Peer) *client {
	b.t.Helper()
	here, there := net.Pipe()
	go b.srv.ServeStream(b.ctx, there, p)
	here.SetDeadline(time.Now().Add(20 * time.Second))
	b.t.Cleanup(func() { here.Close() })
	return &client{t: b.t, conn: here, r: frame.NewReader(here, 1<<28), w: frame.NewWriter(here)}
}

// open connects a client with base:1.1.
func (b *bed) open(p transport.Peer) *client {
	b.t.Helper()
	c := b.pipe(p)
	c.hello(base10, base11)
	return c
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() string {
	c.t.Helper()
	m, err := c.r.Next(nil)
	if err != nil {
		c.t.Fatal("read: ", err)
	}
	return string(m)
}

// hello exchanges hellos with these capabilities.
func (c *client) hello(caps ...string) {
	c.t.Helper()
	text := `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities>`
	for _, s := range caps {
		text += "<capability>" + s + "</capability>"
	}
	done := make(chan string)
	go func() { done <- c.read() }()
	c.write(text + "</capabilities></hello>]]>]]>")
	var h struct {
		XMLName xml.Name `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 hello"`
		Caps    []string `xml:"capabilities>capability"`
		ID      string   `xml:"session-id"`
	}
	if err := xml.Unmarshal([]byte(<-done), &h); err != nil {
		c.t.Fatal(err)
	}
	c.id, c.caps = h.ID, h.Caps
	for _, s := range caps {
		if s == base11 {
			c.r.Chunked()
			c.w.Chunked()
		}
	}
}

// A reply is an rpc-reply taken apart by the standard library.
type reply struct {
	XMLName xml.Name   `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 rpc-reply"`
	Attr    []xml.Attr `xml:",any,attr"`
	OK      *struct{}  `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 ok"`
	Errors  []rpcError `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 rpc-error"`
	Data    []inner    `xml:"data"`
	text    string
}

type inner struct {
	XMLName xml.Name
	XML     string `xml:",innerxml"`
	Text    string `xml:",chardata"`
}

type rpcError struct {
	Type     string   `xml:"error-type"`
	Tag      string   `xml:"error-tag"`
	Severity string   `xml:"error-severity"`
	AppTag   string   `xml:"error-app-tag"`
	Path     pathText `xml:"error-path"`
	Message  string   `xml:"error-message"`
	Info     struct {
		All []inner `xml:",any"`
	} `xml:"error-info"`
}

type pathText struct {
	Attr []xml.Attr `xml:",any,attr"`
	Text string     `xml:",chardata"`
}

// String gives an error as "type/tag app-tag path {info…}", in the words that
// tests compare; the path with module names for prefixes.
func (e rpcError) String() string {
	s := e.Type + "/" + e.Tag
	if e.AppTag != "" {
		s += " " + e.AppTag
	}
	if e.Path.Text != "" {
		p := e.Path.Text
		for _, a := range e.Path.Attr {
			if a.Name.Space == "xmlns" {
				p = strings.ReplaceAll(strings.ReplaceAll(p, "/"+a.Name.Local+":", "/"+short(a.Value)+":"), "["+a.Name.Local+":", "["+short(a.Value)+":")
			}
		}
		s += " " + p
	}
	for _, i := range e.Info.All {
		s += " {" + i.XMLName.Local + "=" + i.Text + "}"
	}
	return s
}

// short gives the last part of a namespace.
func short(ns string) string {
	if ns == nsBase {
		return "nc"
	}
	return ns[strings.LastIndexByte(ns, ':')+1:]
}

func parseReply(t testing.TB, text string) *reply {
	t.Helper()
	r := &reply{text: text}
	if err := xml.Unmarshal([]byte(text), r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, e := range r.Errors {
		if e.Severity != "error" || e.Type == "" || e.Tag == "" || e.Message == "" {
			t.Errorf("rpc-error lacks something: %s", text)
		}
	}
	return r
}

// message sends a whole message and reads the reply.
func (c *client) message(text string) *reply {
	c.t.Helper()
	done := make(chan *reply, 1)
	go func() {
		defer close(done)
		if m, err := c.r.Next(nil); err == nil {
			done <- parseReply(c.t, string(m))
		} else {
			c.t.Error("no reply: ", err)
		}
	}()
	io.WriteString(c.w, text)
	if err := c.w.End(); err != nil {
		c.t.Fatal(err)
	}
	r := <-done
	if r == nil {
		c.t.FailNow()
	}
	return r
}

// rpc sends an operation.
func (c *client) rpc(op string) *reply {
	c.t.Helper()
	c.n++
	r := c.message(fmt.Sprintf(`<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="%d">%s</rpc>`, c.n, op))
	if len(r.Attr) < 1 || !strings.Contains(r.text, fmt.Sprintf(`message-id="%d"`, c.n)) {
		c.t.Errorf("no message-id in %s", r.text)
	}
	return r
}

// ok sends an operation that must be answered by <ok/>.
func (c *client) ok(op string) {
	c.t.Helper()
	if r := c.rpc(op); r.OK == nil || len(r.Errors) > 0 {
		c.t.Fatalf("%s\n%s", op, r.text)
	}
}

// fails sends an operation that must be answered by this error, in the form of
// rpcError.String, and by no other.
func (c *client) fails(op, want string) *reply {
	c.t.Helper()
	r := c.rpc(op)
	if len(r.Errors) != 1 || r.Errors[0].String() != want || r.OK != nil {
		c.t.Errorf("%s\n%s\ngot  %v\nwant %s", op, r.text, r.Errors, want)
	}
	return r
}

// data sends an operation that must be answered by <data>, and gives what is in it.
func (c *client) data(op string) string {
	c.t.Helper()
	r := c.rpc(op)
	if len(r.Errors) > 0 || r.OK != nil || len(r.Data) != 1 {
		c.t.Fatalf("%s\n%s", op, r.text)
	}
	return r.Data[0].XML
}

// The text of common operations.

func edit(target, config string) string {
	return `<edit-config><target><` + target + `/></target><config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">` + config + `</config></edit-config>`
}

func editWith(target, options, config string) string {
	return `<edit-config><target><` + target + `/></target>` + options + `<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">` + config + `</config></edit-config>`
}

func interfaces(s string) string {
	return `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">` + s + `</interfaces>`
}

func iface(name, more string) string {
	return interfaces(`<interface><name>` + name + `</name><type>ianaift:ethernetCsmacd</type>` + more + `</interface>`)
}

// top wraps the content of module behaviour.
func top(s string) string { return `<top xmlns="urn:test:behaviour">` + s + `</top>` }

func getRunning(filter string) string {
	return `<get-config><source><running/></source>` + filter + `</get-config>`
}

func subtree(s string) string { return `<filter type="subtree">` + s + `</filter>` }

const commitOp = `<commit/>`

// slowState says when it is asked, and answers when it is let.
type slowState struct {
	root           *yang.Node
	entered, leave chan bool
}

func (s *slowState) State(ctx context.Context, w binding.Want, e *data.Edit) error {

	n := s.root.ChildByName("behaviour:top")
	if !w.Subtree(n) {
		return nil
	}
	s.entered <- true
	select {
	case <-s.leave:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := e.Enter(n, data.Merge); err != nil {
		return err
	}
	defer e.Leave()
	return e.Set(n.ChildByName("state"), "slow")
}

// unmarshal reads elements by the standard library.
func unmarshal(t testing.TB, text string, v any) {
	t.Helper()
	if err := xml.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
