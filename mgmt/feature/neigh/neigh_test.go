package neigh_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"vrouter/fastpath"
	fp "vrouter/fastpath/feature/neigh"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/feature/neigh"
	"vrouter/mgmt/internal/bindtest"
)

func runner(t testing.TB) *bindtest.Runner {
	s := bindtest.Schema(t)
	r := bindtest.New(t, s)
	i, err := iface.New(s, r.Engine)
	if err != nil {
		t.Fatal(err)
	}
	n, err := neigh.New(s, r.Engine)
	if err != nil {
		t.Fatal(err)
	}
	r.Bindings = []binding.Binding{i, n}
	return r
}

func TestGolden(t *testing.T) {
	bindtest.Golden(t, func(t *testing.T) *bindtest.Runner { return runner(t) })
}

const ns = `xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type"`

func TestLocate(t *testing.T) {
	b := runner(t).Bindings[1]
	for _, c := range []struct{ object, field, want string }{
		{"a b 10.0.0.2", "MAC", "/ietf-interfaces:interfaces/interface[name='a b']/ietf-ip:ipv4/neighbor[ip='10.0.0.2']/link-layer-address"},
		{"eth0 fe80::1", "", "/ietf-interfaces:interfaces/interface[name='eth0']/ietf-ip:ipv6/neighbor[ip='fe80::1']"},
		{"nonsense", "", ""},
	} {
		if got := b.Locate(nil, &fastpath.Refusal{Feature: "neigh", Object: c.object, Field: c.field}); got != c.want {
			t.Errorf("%s %s: %s", c.object, c.field, got)
		}
	}
}

func TestState(t *testing.T) {
	r := runner(t)
	err := r.Edit(`<interfaces ` + ns + `>
	<interface><name>a</name><type>t:ethernetCsmacd</type>
	  <ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><neighbor><ip>10.0.0.2</ip><link-layer-address>02:00:00:00:00:02</link-layer-address></neighbor></ipv4>
	  <ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"/></interface>
	<interface><name>b</name><type>t:ethernetCsmacd</type></interface></interfaces>`)
	if err != nil {
		t.Fatal(err)
	}
	key := func(i, a string) fp.Key { return fp.Key{Iface: i, Addr: netip.MustParseAddr(a)} }
	r.Engine.Answer = func(q *fastpath.Query) *fastpath.State {
		if q.Neighbours == nil {
			return &fastpath.State{}
		}
		return &fastpath.State{Neighbours: []fp.State{
			{Key: key("a", "10.0.0.2"), MAC: [6]byte{2, 0, 0, 0, 0, 2}, Reach: fp.Reachable},
			{Key: key("a", "10.0.0.7"), MAC: [6]byte{2, 0, 0, 0, 0, 7}, Origin: fp.Dynamic, Reach: fp.Stale},
			{Key: key("a", "10.0.0.8"), Origin: fp.Dynamic, Reach: fp.Incomplete},
			{Key: key("a", "10.0.0.9"), Reach: fp.Reachable}, // static, and just taken away
			{Key: key("a", "fe80::7"), MAC: [6]byte{2, 0, 0, 0, 0, 7}, Origin: fp.Dynamic, Reach: fp.Stale, IsRouter: true},
			{Key: key("a", "fe80::8"), Origin: fp.Dynamic, Reach: fp.Incomplete},
			{Key: key("a", "fe80::9"), Origin: fp.Dynamic, Reach: fp.Failed},
			{Key: key("b", "10.0.0.7"), MAC: [6]byte{2, 0, 0, 0, 0, 7}, Origin: fp.Dynamic, Reach: fp.Stale}, // IPv4 was just turned off
		}}
	}
	got, asked := bindtest.Get(t, r, `<interfaces `+ns+`><interface><name>a</name><ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"/><ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"/></interface></interfaces>`)
	for _, w := range []string{
		"<neighbor><ip>10.0.0.2</ip><link-layer-address>02:00:00:00:00:02</link-layer-address><origin>static</origin></neighbor>",
		"<neighbor><ip>10.0.0.7</ip><link-layer-address>02:00:00:00:00:07</link-layer-address><origin>dynamic</origin></neighbor>",
		"<neighbor><ip>fe80::7</ip><link-layer-address>02:00:00:00:00:07</link-layer-address><origin>dynamic</origin><is-router/><state>stale</state></neighbor>",
		"<neighbor><ip>fe80::8</ip><origin>dynamic</origin><state>incomplete</state></neighbor>",
	} {
		if !strings.Contains(got, w) {
			t.Errorf("no %s in %s", w, got)
		}
	}
	for _, w := range []string{"10.0.0.8", "10.0.0.9", "fe80::9", "<name>b<"} {
		if strings.Contains(got, w) {
			t.Errorf("%s in %s", w, got)
		}
	}
	n := 0
	for _, q := range asked {
		if q.Neighbours != nil {
			n++
			if fmt.Sprint(q.Neighbours) != "[a]" {
				t.Errorf("asked for %v", q.Neighbours)
			}
		}
	}
	if n != 1 {
		t.Errorf("asked %d times for neighbours", n)
	}
	if _, asked = bindtest.Get(t, r, `<interfaces `+ns+`><interface><name/><oper-status/></interface></interfaces>`); len(asked) != 1 || asked[0].Neighbours != nil {
		t.Errorf("asked for neighbours that nobody wants: %+v", asked)
	}
}
