package iface_test

import (
	"fmt"
	"strings"
	"testing"

	"vrouter/fastpath"
	fp "vrouter/fastpath/feature/iface"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/internal/bindtest"
)

func runner(t testing.TB) *bindtest.Runner {
	s := bindtest.Schema(t)
	r := bindtest.New(t, s)
	b, err := iface.New(s, r.Engine)
	if err != nil {
		t.Fatal(err)
	}
	r.Bindings = []binding.Binding{b}
	return r
}

func TestGolden(t *testing.T) {
	bindtest.Golden(t, func(t *testing.T) *bindtest.Runner { return runner(t) })
}

const ns = `xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type"`

// The cost of a commit follows the change: one address among 1000 interfaces
// is one interface that the fast path hears of.
func TestCostFollowsChange(t *testing.T) {
	r := runner(t)
	var x strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&x, `<interface><name>eth%d</name><type>t:ethernetCsmacd</type></interface>`, i)
	}
	if err := r.Edit(`<interfaces ` + ns + `>` + x.String() + `</interfaces>`); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Out.Iface.Set); n != 1000 {
		t.Fatalf("%d interfaces set", n)
	}
	err := r.Edit(`<interfaces ` + ns + `><interface><name>eth500</name><ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">` +
		`<address><ip>10.0.0.1</ip><prefix-length>24</prefix-length></address></ipv4></interface></interfaces>`)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Out.Iface.Set); n != 1 || r.Out.Iface.Set[0].Name != "eth500" || len(r.Out.Iface.Delete) != 0 {
		t.Errorf("one address changed %d interfaces: %v", n, r.Out.Iface)
	}
}

func TestLocate(t *testing.T) {
	r := runner(t)
	r.Engine.Refuse = func(c *fastpath.Change) error {
		return &fastpath.Refusal{Feature: "iface", Object: c.Iface.Set[0].Name, Field: "Device", Reason: "no such device"}
	}
	err := r.Edit(`<interfaces ` + ns + `><interface><name>it's</name><type>t:ethernetCsmacd</type></interface></interfaces>`)
	want := `error /ietf-interfaces:interfaces/interface[name="it's"]/vrouter-port:port/device operation-failed : no such device` + "\n"
	if got := bindtest.Errors(err); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b := r.Bindings[0]
	if p := b.Locate(nil, &fastpath.Refusal{Feature: "route", Object: "10.0.0.0/8"}); p != "" {
		t.Errorf("a route is located at %s", p)
	}
}

func TestState(t *testing.T) {
	r := runner(t)
	err := r.Edit(`<interfaces ` + ns + `>
	<interface><name>a</name><type>t:ethernetCsmacd</type>
	  <ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.0.0.1</ip><prefix-length>24</prefix-length></address></ipv4>
	  <ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>2001:db8::1</ip><prefix-length>64</prefix-length></address></ipv6></interface>
	<interface><name>b</name><type>t:ethernetCsmacd</type></interface></interfaces>`)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine.Answer = func(q *fastpath.Query) *fastpath.State {
		st := &fastpath.State{Ifaces: []fp.State{
			{Name: "a", Driver: "tap", Device: "a", Queues: 3, Mode: "copy", Why: "zero-copy: no", Shared: true, IfIndex: 7, Admin: true, Link: true, LastChange: 1e9, MAC: [6]byte{2, 0, 0, 0, 0, 0xab},
				MTU: 1500, Speed: 1e10, Counters: fp.Counters{CreatedAt: 2e9, RxPackets: 1, RxOctets: 60, RxUnicast: 1, RxDiscards: 1<<32 + 5, RxErrors: 9, RxUncut: 9, TxOctets: 1 << 40}},
			{Name: "gone"}, // a commit takes it away just now
		}}
		if len(q.Ifaces) == 0 {
			st.Ifaces = append(st.Ifaces, fp.State{Name: "b", IfIndex: 8})
		}
		return st
	}
	for _, c := range []struct {
		filter string
		query  []string // nil: the data plane is not asked
		want   []string
		not    []string
	}{
		{`<interfaces ` + ns + `><interface><name>a</name></interface></interfaces>`, []string{"a"},
			[]string{"<oper-status>up<", "<admin-status>up<", "<if-index>7<", "<phys-address>02:00:00:00:00:ab<", "<speed>10000000000<",
				"<last-change>1970-01-01T00:00:01Z<", "<in-discards>5<", "<out-octets>1099511627776<", "<oper-driver>tap<",
				"<oper-queues>3<", "<oper-mode>copy<", "<oper-mode-reason>zero-copy: no<", "<shared>true<", "<in-uncut>9<", "<in-errors>9<",
				"<origin>static</origin><status>preferred</status>", "<discontinuity-time>1970-01-01T00:00:02Z<"},
			[]string{"<name>b<", "gone"}},
		{`<interfaces ` + ns + `/>`, []string{}, []string{"<if-index>8<", "<oper-status>down<"}, []string{"gone"}},
		{`<interfaces ` + ns + `><interface><name/></interface></interfaces>`, nil, []string{"<name>b<"}, []string{"status"}},
		{`<interfaces ` + ns + `><interface><name/><oper-status/></interface></interfaces>`, []string{}, []string{"<oper-status>up<"}, []string{"statistics", "if-index", "oper-driver"}},
	} {
		got, asked := bindtest.Get(t, r, c.filter)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %s in %s", c.filter, w, got)
			}
		}
		for _, w := range c.not {
			if strings.Contains(got, w) {
				t.Errorf("%s: %s in %s", c.filter, w, got)
			}
		}
		if c.query == nil && len(asked) > 0 || c.query != nil && (len(asked) != 1 || fmt.Sprint(asked[0].Ifaces) != fmt.Sprint(c.query)) {
			t.Errorf("%s: the data plane was asked %+v", c.filter, asked)
		}
	}
}

// Without a data plane there is no state, and no error.
func TestStateWithoutDataPlane(t *testing.T) {
	r := runner(t)
	if err := r.Edit(`<interfaces ` + ns + `><interface><name>a</name><type>t:ethernetCsmacd</type></interface></interfaces>`); err != nil {
		t.Fatal(err)
	}
	if got, _ := bindtest.Get(t, r, `<interfaces `+ns+`/>`); !strings.Contains(got, "<name>a<") || strings.Contains(got, "status") {
		t.Error(got)
	}
}
