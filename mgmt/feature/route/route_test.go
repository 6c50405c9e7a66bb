package route_test

import (
	"fmt"
	"strings"
	"testing"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/feature/route"
	"vrouter/mgmt/internal/bindtest"
)

func runner(t testing.TB) *bindtest.Runner {
	s := bindtest.Schema(t)
	r := bindtest.New(t, s)
	i, err := iface.New(s, r.Engine)
	if err != nil {
		t.Fatal(err)
	}
	b, err := route.New(s)
	if err != nil {
		t.Fatal(err)
	}
	r.Bindings = []binding.Binding{i, b}
	return r
}

func TestGolden(t *testing.T) {
	bindtest.Golden(t, func(t *testing.T) *bindtest.Runner { return runner(t) })
}

const (
	ifNS = `xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type"`
	ip   = `xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"`
	rtNS = `xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"`
	v4   = `xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"`
)

func link(name, addr string, bits int) string {
	return fmt.Sprintf(`<interface><name>%s</name><type>t:ethernetCsmacd</type><ipv4 %s><address><ip>%s</ip><prefix-length>%d</prefix-length></address></ipv4></interface>`,
		name, ip, addr, bits)
}

func statics(routes string) string {
	return `<routing ` + rtNS + `><control-plane-protocols><control-plane-protocol><type>static</type><name>main</name><static-routes><ipv4 ` + v4 + `>` +
		routes + `</ipv4></static-routes></control-plane-protocol></control-plane-protocols></routing>`
}

func via(prefix, hop string) string {
	return `<route><destination-prefix>` + prefix + `</destination-prefix><next-hop><next-hop-address>` + hop + `</next-hop-address></next-hop></route>`
}

// A changed interface re-resolves the routes that depend on it, not all.
func TestCostFollowsChange(t *testing.T) {
	r := runner(t)
	var ifs, routes strings.Builder
	for i := range 100 {
		ifs.WriteString(link(fmt.Sprintf("eth%d", i), fmt.Sprintf("10.%d.0.1", i), 16))
		for j := range 10 {
			routes.WriteString(via(fmt.Sprintf("20.%d.%d.0/24", i, j), fmt.Sprintf("10.%d.0.2", i)))
		}
	}
	if err := r.Edit(`<interfaces ` + ifNS + `>` + ifs.String() + `</interfaces>` + statics(routes.String())); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Out.Route.Set); n != 100*2+1000 {
		t.Fatalf("%d routes set", n)
	}
	if err := r.Edit(`<interfaces ` + ifNS + `><interface><name>eth7</name><enabled>false</enabled></interface></interfaces>`); err != nil {
		t.Fatal(err)
	}
	if s, d := len(r.Out.Route.Set), len(r.Out.Route.Delete); s != 0 || d != 12 {
		t.Errorf("an interface with 10 static routes went down: %d routes set, %d deleted", s, d)
	}
	// A more specific network: the next hop is reached by another interface.
	if err := r.Edit(`<interfaces ` + ifNS + `>` + link("a", "10.8.0.9", 24) + `</interfaces>`); err != nil {
		t.Fatal(err)
	}
	if s, d := len(r.Out.Route.Set), len(r.Out.Route.Delete); s != 12 || d != 0 {
		t.Errorf("10 static routes moved to a new network: %d routes set, %d deleted", s, d)
	}
	for _, x := range r.Out.Route.Set {
		if x.Iface != "a" {
			t.Errorf("%+v does not lead by the new network", x)
		}
	}
}

func TestLocate(t *testing.T) {
	r := runner(t)
	for prefix, want := range map[string]string{
		"20.0.0.0/8":  "/ietf-routing:routing/control-plane-protocols/control-plane-protocol[type='ietf-routing:static'][name='main']/static-routes/ietf-ipv4-unicast-routing:ipv4/route[destination-prefix='20.0.0.0/8']/next-hop/next-hop-address",
		"10.0.0.0/24": "/ietf-interfaces:interfaces/interface[name='a']/ietf-ip:ipv4/address[ip='10.0.0.1']",
		"10.0.0.1/32": "/ietf-interfaces:interfaces/interface[name='a']/ietf-ip:ipv4/address[ip='10.0.0.1']",
	} {
		r.Engine.Refuse = func(*fastpath.Change) error {
			return &fastpath.Refusal{Feature: "route", Object: prefix, Field: "NextHop", Reason: "the neighbour table is full"}
		}
		err := r.Edit(`<interfaces ` + ifNS + `>` + link("a", "10.0.0.1", 24) + `</interfaces>` + statics(via("20.0.0.0/8", "10.0.0.9")))
		if got := bindtest.Errors(err); got != "error "+want+" operation-failed : the neighbour table is full\n" {
			t.Errorf("%s: %s", prefix, got)
		}
	}
	// What was refused has left nothing behind.
	r.Engine.Refuse = nil
	if err := r.Edit(statics(via("20.0.0.0/8", "10.0.0.9"))); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Out.Route.Set); n != 0 {
		t.Errorf("a route resolves by an interface that was refused: %v", r.Out.Route.Set)
	}
}

func TestState(t *testing.T) {
	r := runner(t)
	err := r.Edit(`<interfaces ` + ifNS + `>` + link("a", "10.0.0.1", 24) + `</interfaces>` +
		statics(via("20.0.0.0/8", "10.0.0.9")+via("30.0.0.0/8", "172.16.0.1")+via("10.0.0.0/24", "10.0.0.9")))
	if err != nil {
		t.Fatal(err)
	}
	got, asked := bindtest.Get(t, r, `<routing `+rtNS+`><interfaces/><ribs><rib><name>ipv4-master</name></rib></ribs></routing>`)
	if len(asked) != 0 {
		t.Errorf("the RIB is the management plane's own, yet the data plane was asked %+v", asked)
	}
	routes := strings.Split(got, "<route>")
	if len(routes) != 6 {
		t.Fatalf("%d routes: %s", len(routes)-1, got)
	}
	for i, want := range []struct {
		parts  []string
		active bool
	}{
		{[]string{">10.0.0.0/24<", ">0<", "<outgoing-interface>a<", "ietf-routing:direct"}, true},
		{[]string{">10.0.0.0/24<", ">5<", "<outgoing-interface>a<", ">10.0.0.9<", "ietf-routing:static"}, false},
		{[]string{">10.0.0.1/32<", "<special-next-hop>receive<", "direct"}, true},
		{[]string{">20.0.0.0/8<", "<outgoing-interface>a<", ">10.0.0.9<", "static"}, true},
		{[]string{">30.0.0.0/8<", ">172.16.0.1<", "static"}, false},
	} {
		one := routes[i+1]
		for _, p := range append(want.parts, "<last-updated>2") {
			if p = strings.Replace(p, "ietf-routing:", "", 1); !strings.Contains(one, p) {
				t.Errorf("route %d: no %s in %s", i, p, one)
			}
		}
		if strings.Contains(one, "<active/>") != want.active {
			t.Errorf("route %d: active is %t in %s", i, !want.active, one)
		}
	}
	if strings.Contains(routes[5], "outgoing-interface") {
		t.Errorf("a route without a way has an interface: %s", routes[5])
	}
	for _, w := range []string{"<name>ipv4-master</name>", "ipv4-unicast</address-family>", "<interfaces><interface>a</interface></interfaces>"} {
		if !strings.Contains(got, w) {
			t.Errorf("no %s in %s", w, got)
		}
	}
	if strings.Contains(got, "ipv6") {
		t.Errorf("the RIB of IPv6 was not asked for: %s", got)
	}
}

// Filling the fast path from scratch keeps the times of what did not change.
func TestFullKeepsTimes(t *testing.T) {
	r := runner(t)
	if err := r.Edit(`<interfaces ` + ifNS + `>` + link("a", "10.0.0.1", 24) + `</interfaces>` + statics(via("20.0.0.0/8", "10.0.0.9"))); err != nil {
		t.Fatal(err)
	}
	before, _ := bindtest.Get(t, r, `<routing `+rtNS+`/>`)
	c, err := bindtest.Translate(nil, r.Tree, true, r.Bindings...)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Out.Route.Set) != 3 {
		t.Errorf("full: %v", c.Out.Route.Set)
	}
	c.Published()
	if after, _ := bindtest.Get(t, r, `<routing `+rtNS+`/>`); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}
