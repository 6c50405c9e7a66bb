package apply_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/mgmt/apply"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/feature/ipsec"
	"vrouter/mgmt/feature/neigh"
	"vrouter/mgmt/feature/route"
	"vrouter/mgmt/internal/bindtest"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/supervisor"
	"vrouter/mgmt/yang"
)

// planes is an engine that may be another one from one moment to the next.
type planes struct {
	*enginetest.Engine
	epoch     uint64
	fail      error // of Prepare
	noPublish error
}

func (p *planes) Epoch() uint64 { return p.epoch }

// starting is planes of which the next is being started.
type starting struct {
	*planes
	start func(context.Context) error
}

func (s starting) Ready(ctx context.Context) error { return s.start(ctx) }

func (p *planes) Prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	if p.fail != nil {
		return 0, p.fail
	}
	return p.Engine.Prepare(ctx, c)
}

func (p *planes) Publish(ctx context.Context, t fastpath.Ticket) error {
	if p.noPublish != nil {
		_ = p.Engine.Abort(ctx, t)
		return p.noPublish
	}
	return p.Engine.Publish(ctx, t)
}

type fixture struct {
	*testing.T
	schema *yang.Schema
	engine *planes
	apply  *apply.Applier
	tree   *data.Container
	lost   int
}

func bindings(t *testing.T, s *yang.Schema, r binding.Reader) []binding.Binding {
	i, err1 := iface.New(s, r)
	n, err2 := neigh.New(s, r)
	o, err3 := route.New(s)
	p, err4 := ipsec.New(s, r)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return []binding.Binding{i, n, o, p}
}

func setup(t *testing.T) *fixture {
	s := bindtest.Schema(t)
	f := &fixture{T: t, schema: s, engine: &planes{Engine: enginetest.New()}, tree: data.New(s)}
	f.restart()
	return f
}

// restart makes a new management plane over the same data plane.
func (f *fixture) restart() {
	var err error
	if f.apply, err = apply.New(f.schema, f.engine, bindings(f.T, f.schema, f.engine), slog.New(slog.DiscardHandler)); err != nil {
		f.Fatal(err)
	}
	f.apply.Lost = func(error) { f.lost++ }
}

func (f *fixture) read(config string) *data.Container {
	f.Helper()
	tree, err := codec.Edit(f.schema, f.tree, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`+config+`</config>`), data.Merge)
	if err != nil {
		f.Fatal(err)
	}
	return tree
}

// commit makes an edit of running.
func (f *fixture) commit(config string) error {
	f.Helper()
	next := f.read(config)
	p, err := f.apply.Prepare(context.Background(), f.tree, next)
	if err != nil {
		return err
	}
	p.Publish()
	f.tree = next
	return nil
}

// fill is what txn.Manager.Resync does.
func (f *fixture) fill(ctx context.Context) error {
	p, err := f.apply.Prepare(ctx, data.New(f.schema), f.tree)
	if err == nil {
		p.Publish()
	}
	return err
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// told gives the last change as text, "" when none was made since n.
func (f *fixture) told(since int) string {
	c, n := f.engine.Last()
	if n == since {
		return ""
	}
	return enginetest.Text(c)
}

func (f *fixture) prepares() int { _, n := f.engine.Last(); return n }

const ns = `xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type"`

func link(name, addr string) string {
	return `<interfaces ` + ns + `><interface><name>` + name + `</name><type>t:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>memory</driver></port>` +
		`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>` + addr + `</ip><prefix-length>24</prefix-length></address>` +
		`<neighbor><ip>` + addr + `9</ip><link-layer-address>02:00:00:00:00:09</link-layer-address></neighbor></ipv4></interface></interfaces>`
}

// The first change after a start is whole whatever the caller believes, then
// differences are sent.
func TestFirstIsWhole(t *testing.T) {
	f := setup(t)
	f.tree = f.read(link("a", "10.0.0.1")) // as if running came from disk
	f.must(f.commit(link("b", "10.0.1.1")))
	for _, w := range []string{"iface set a ", "iface set b ", "route set 10.0.0.0/24", "neigh set a "} {
		if !strings.Contains(f.told(0), w) {
			t.Errorf("no %q in the first change:\n%s", w, f.told(0))
		}
	}
	f.must(f.commit(link("c", "10.0.2.1")))
	if got := f.told(0); strings.Contains(got, " a ") || !strings.Contains(got, "iface set c ") {
		t.Errorf("the second change is not the difference:\n%s", got)
	}
}

// A data plane that has what running says is not touched; what differs is.
func TestReconcile(t *testing.T) {
	f := setup(t)
	f.must(f.commit(link("a", "10.0.0.1") + link("b c", "10.0.1.1")))
	before, n := f.engine.Text(), f.prepares()
	f.restart()
	f.must(f.fill(context.Background()))
	if f.prepares() != n {
		t.Errorf("a full data plane was changed:\n%s", f.told(n))
	}
	// Meanwhile running changed: one interface went, one address came.
	f.tree = f.read(`<interfaces ` + ns + `><interface nc:operation="delete"><name>b c</name></interface></interfaces>`)
	f.tree = f.read(`<interfaces ` + ns + `><interface><name>a</name><ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.0.0.2</ip><prefix-length>24</prefix-length></address></ipv4></interface></interfaces>`)
	f.restart()
	f.must(f.fill(context.Background()))
	want := `iface delete b c
iface set a driver=memory device=a queues=1 mtu=1500 mac=000000000000 enabled=true v4=on v6=off addrs=[10.0.0.1/24 10.0.0.2/24]
neigh delete b c 10.0.1.19
route delete 10.0.1.0/24
route delete 10.0.1.1/32
route set 10.0.0.2/32 receive iface=a
`
	if got := f.told(n); got != want {
		t.Errorf("got:\n%swant:\n%sfrom:\n%s", got, want, before)
	}
}

// Another data plane holds nothing: the next commit fills it, whether or not
// somebody has asked for that.
func TestAnotherDataPlane(t *testing.T) {
	f := setup(t)
	f.must(f.commit(link("a", "10.0.0.1")))
	f.engine.Engine, f.engine.epoch = enginetest.New(), 1
	f.must(f.commit(link("b", "10.0.1.1")))
	if got := f.engine.Text(); !strings.Contains(got, "iface a ") || !strings.Contains(got, "iface b ") {
		t.Errorf("the new data plane has\n%s", got)
	}
	n := f.prepares()
	f.must(f.commit(link("c", "10.0.2.1")))
	if got := f.told(n); strings.Contains(got, " a ") {
		t.Errorf("it was filled again:\n%s", got)
	}
}

// A change waits for a data plane that is being started, which is another one,
// and no longer than whoever asks for it.
func TestStarting(t *testing.T) {
	f := setup(t)
	f.must(f.commit(link("a", "10.0.0.1")))
	with := func(start func(context.Context) error) {
		var err error
		e := starting{f.engine, start}
		if f.apply, err = apply.New(f.schema, e, bindings(t, f.schema, e), slog.Default()); err != nil {
			t.Fatal(err)
		}
	}
	down := fmt.Errorf("%w (why)", supervisor.ErrDown)
	f.engine.fail = down
	asked := 0
	with(func(context.Context) error {
		if asked++; asked == 2 {
			f.engine.Engine, f.engine.epoch, f.engine.fail = enginetest.New(), f.engine.epoch+1, nil
		}
		return nil
	})
	f.must(f.commit(link("b", "10.0.1.1")))
	if got := f.engine.Text(); asked != 2 || !strings.Contains(got, "iface a ") || !strings.Contains(got, "iface b ") {
		t.Errorf("asked %d times, the data plane has\n%s", asked, got)
	}

	f.engine.fail = down
	with(func(ctx context.Context) error {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > apply.StartTimeout {
			t.Error("it would wait for ever")
		}
		return down
	})
	if got := bindtest.Errors(f.commit(link("c", "10.0.2.1"))); !strings.Contains(got, "operation-failed") || !strings.Contains(got, "is not running") {
		t.Errorf("a data plane that does not come: %q", got)
	}

	// Whatever else goes wrong is told at once.
	f.engine.fail = &fastpath.Refusal{Feature: "iface", Object: "c", Field: "Device", Reason: "no such device"}
	with(func(context.Context) error { t.Error("a refusal waits"); return nil })
	if err := f.commit(link("c", "10.0.2.1")); err == nil {
		t.Error("refused and taken")
	}
}

// What was prepared and not taken is no failure of the commit, but the data
// plane is not trusted any more.
func TestPublishFails(t *testing.T) {
	f := setup(t)
	f.must(f.commit(link("a", "10.0.0.1")))
	f.engine.noPublish = errors.New("gone")
	f.must(f.commit(link("b", "10.0.1.1")))
	if f.lost != 1 {
		t.Errorf("Lost was called %d times", f.lost)
	}
	f.engine.noPublish = nil
	f.must(f.commit(link("c", "10.0.2.1")))
	if got := f.engine.Text(); !strings.Contains(got, "iface b ") || !strings.Contains(got, "iface c ") {
		t.Errorf("the data plane has\n%s", got)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fastpath.Refusal{Feature: "iface", Object: "a", Field: "Device", Reason: "no such device"},
			"error /ietf-interfaces:interfaces/interface[name='a']/vrouter-port:port/device operation-failed data-plane-refused: no such device\n"},
		{&fastpath.Refusal{Feature: "iface", Object: "a", Field: "Device", Reason: "no room for it", Full: true},
			"error /ietf-interfaces:interfaces/interface[name='a']/vrouter-port:port/device resource-denied data-plane-refused: no room for it\n"},
		{&fastpath.Refusal{Feature: "unheard-of", Object: "x", Reason: "no"},
			"error  operation-failed data-plane-refused: unheard-of \"x\": no\n"},
		{fmt.Errorf("%w (why)", supervisor.ErrDown),
			"error  operation-failed : nothing was changed, as the data plane did not take the change: the data plane is not running; it is being started (why)\n"},
		{context.DeadlineExceeded,
			"error  operation-failed : nothing was changed, as the data plane did not take the change: no answer within 10s\n"},
	} {
		f := setup(t)
		f.engine.fail = c.err
		if got := bindtest.Errors(f.commit(link("a", "10.0.0.1"))); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		f.engine.fail = nil
		f.must(f.commit(link("a", "10.0.0.1"))) // nothing of the first try is left
	}
}

// Numbers of changes ascend, and go on where the data plane is.
func TestLabels(t *testing.T) {
	f := setup(t)
	label := func() string { c, _ := f.engine.Last(); return c.Label }
	f.must(f.commit(link("a", "10.0.0.1")))
	first := label()
	f.must(f.commit(link("b", "10.0.1.1")))
	f.restart()
	f.must(f.fill(context.Background()))
	f.must(f.commit(link("c", "10.0.2.1")))
	if first != "1" || label() != "3" {
		t.Errorf("the first change has number %s, the third %s", first, label())
	}
}

// A device that is gone must not keep the rest from forwarding when the data
// plane comes back; a commit that brings a missing device is refused.
func TestPartial(t *testing.T) {
	f := setup(t)
	f.must(f.commit(link("a", "10.0.0.1") + link("b", "10.0.1.1")))
	gone := "b"
	refuse := func(c *fastpath.Change) error {
		for _, i := range c.Iface.Set {
			if i.Name == gone {
				return &fastpath.Refusal{Feature: "iface", Object: i.Name, Field: "Device", Reason: "no such device"}
			}
		}
		return nil
	}
	next := enginetest.New()
	next.Refuse = refuse
	f.engine.Engine, f.engine.epoch = next, 1
	if err := f.commit(link("c", "10.0.2.1")); err == nil {
		t.Error("a commit went on without an interface")
	}
	f.must(f.fill(apply.AllowPartial(context.Background())))
	if got := f.engine.Text(); !strings.Contains(got, "iface a ") || strings.Contains(got, " b ") || strings.Contains(got, "10.0.1.") {
		t.Errorf("the data plane has\n%s", got)
	}
	if got := f.apply.Without(); len(got) != 1 || got[0] != "iface b: no such device" {
		t.Errorf("without %q", got)
	}
	// A commit about something else goes through, one with another missing
	// device does not.
	f.must(f.commit(link("c", "10.0.2.1")))
	gone = "d"
	if err := f.commit(link("d", "10.0.3.1")); err == nil {
		t.Error("a new interface without a device was accepted")
	}
	// The device is back: the next fill, or commit, brings the interface.
	gone = ""
	f.must(f.fill(apply.AllowPartial(context.Background())))
	if got := f.engine.Text(); !strings.Contains(got, "iface b ") || !strings.Contains(got, "route 10.0.1.0/24") || len(f.apply.Without()) != 0 {
		t.Errorf("the data plane has\n%s", got)
	}
	n := f.prepares()
	f.must(f.commit(link("e", "10.0.4.1")))
	if got := f.told(n); strings.Contains(got, " a ") {
		t.Errorf("changes are still whole:\n%s", got)
	}
}

// Never without a policy: packets could leave in the clear.
func TestPartialNeverWithoutPolicy(t *testing.T) {
	f := setup(t)
	f.must(f.commit(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd><spd-entry><name>p</name><direction>outbound</direction><ipsec-policy-config><traffic-selector>` +
		`<local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.2.0.0/24</remote-prefix></traffic-selector></ipsec-policy-config></spd-entry></spd></ipsec-ikeless>`))
	next := enginetest.New()
	next.Refuse = func(*fastpath.Change) error {
		return &fastpath.Refusal{Feature: "policy", Object: "p", Field: "Selector", Reason: "too many"}
	}
	f.engine.Engine, f.engine.epoch = next, 1
	if err := f.fill(apply.AllowPartial(context.Background())); err == nil {
		t.Error("the data plane was filled without a policy")
	}
}

func TestUnknownPath(t *testing.T) {
	s := bindtest.Schema(t)
	if _, err := apply.New(s, enginetest.New(), []binding.Binding{claims{}}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "/no:such") {
		t.Errorf("got %v", err)
	}
}

type claims struct{ binding.Binding }

func (claims) Name() string   { return "claims" }
func (claims) Owns() []string { return []string{"/no:such"} }
