package mgmt

import (
	"context"
	"os"
	"strings"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
	"vrouter/pkg/sal"

	"net/netip"
)

// ownState are the state trees of the NETCONF server itself, which fills and
// tests them.
var ownState = []string{"/ietf-netconf-monitoring:netconf-state", "/ietf-yang-library:yang-library", "/vrouter-commit:commits",
	"/nc-notifications:netconf"}

// withoutSource are state nodes that nobody fills, and why that is right.
var withoutSource = map[string]string{}

func rules(t testing.TB, s *yang.Schema) *nacm.Control {
	t.Helper()
	c, err := nacm.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every leaf that can be configured has one owner: what is accepted is acted
// upon. What is not built stands in a deviation, and so is not in the schema.
func TestEveryLeafHasOneOwner(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := features(s, enginetest.New(), nil, rules(t, s))
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	s.Root.Walk(func(n *yang.Node) bool {
		switch n.Kind {
		case yang.RPC, yang.Action, yang.Notification:
			return false
		case yang.Leaf, yang.LeafList, yang.AnyData:
		default:
			return true
		}
		if !n.Config {
			return true
		}
		leaves++
		var owners []string
		for _, b := range bindings {
			for _, p := range b.Owns() {
				if path := n.Path(); path == p || strings.HasPrefix(path, p+"/") {
					owners = append(owners, b.Name())
				}
			}
		}
		switch len(owners) {
		case 0:
			t.Errorf("%s has no binding and no deviation", n.Path())
		case 1:
		default:
			t.Errorf("%s has several owners: %v", n.Path(), owners)
		}
		return true
	})
	if leaves < 50 {
		t.Errorf("the schema has only %d leaves of configuration: the walk is wrong", leaves)
	}
	for _, b := range bindings {
		for _, p := range b.Owns() {
			if s.Find(p) == nil {
				t.Errorf("%s owns %s, which the schema does not have", b.Name(), p)
			}
		}
	}
}

// Every state leaf that the schema promises is filled by a source, when the
// data plane has something to tell.
func TestEveryStateLeafHasASource(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	engine := enginetest.New()
	engine.Answer = func(*fastpath.Query) *fastpath.State { return everything() }
	bindings, err := features(s, engine, func() int { return 1 }, rules(t, s))
	if err != nil {
		t.Fatal(err)
	}
	filled := map[*yang.Node]bool{}
	e := data.Begin(configured(t, s, bindings))
	for _, b := range bindings {
		if err := b.State(context.Background(), (*codec.Filter)(nil), e); err != nil {
			t.Fatalf("state of %s: %v", b.Name(), err)
		}
	}
	var see func(n data.Node)
	see = func(n data.Node) {
		filled[n.Schema()] = true
		switch n := n.(type) {
		case *data.Container:
			for _, k := range n.Kids() {
				see(k)
			}
		case *data.List:
			n.Each(func(_ string, x data.Node) bool { see(x); return true })
		}
	}
	see(e.Done())
	leaves := 0
	s.Root.Walk(func(n *yang.Node) bool {
		for _, p := range ownState {
			if n.Path() == p {
				return false
			}
		}
		switch n.Kind {
		case yang.RPC, yang.Action, yang.Notification:
			return false
		case yang.Leaf, yang.LeafList, yang.AnyData:
		default:
			return true
		}
		if n.Config {
			return true
		}
		leaves++
		why, excused := withoutSource[n.Path()]
		switch {
		case !filled[n] && !excused:
			t.Errorf("%s is promised and nobody fills it", n.Path())
		case filled[n] && excused:
			t.Errorf("%s is filled, although %s", n.Path(), why)
		}
		return true
	})
	if leaves < 80 {
		t.Errorf("the schema has only %d leaves of state: the walk is wrong", leaves)
	}
}

// configured makes a running with one of everything, which the bindings have
// seen.
func configured(t *testing.T, s *yang.Schema, bindings []binding.Binding) *data.Container {
	text, err := os.ReadFile("../yang/testdata/accepted/tunnel.xml")
	if err != nil {
		t.Fatal(err)
	}
	// Its SA "in" has the direction of an SPD entry that is for the other way.
	config := strings.Replace(string(text), "<name>in</name>", `<name>in</name><direction xmlns="urn:vrouter:yang:vrouter-sal">inbound</direction>`, 1)
	tree, err := codec.Read(s, []byte("<config>"+config+"</config>"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := v.All(tree); len(errs) > 0 {
		t.Fatal(errs)
	}
	p := newPlane(t, s, v)
	p.tree = tree
	p.fill()
	c := &binding.Commit{Old: data.New(s), New: tree, Full: true, Out: &fastpath.Change{}}
	data.Diff(c.Old, c.New, func(ch data.Change) { c.Changes = append(c.Changes, ch) })
	for _, b := range bindings {
		if err := b.Translate(c); err != nil {
			t.Fatal(err)
		}
	}
	c.Published()
	return tree
}

// everything is a data plane that has something to tell of all it can.
func everything() *fastpath.State {
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	at := netip.MustParseAddr
	return &fastpath.State{
		Ifaces: []iface.State{{Name: "wan0", Driver: "af-xdp", Device: "wan0", Queues: 2, Mode: sal.ModeCopy, Why: "x", IfIndex: 1, Admin: true, Link: true, LastChange: 1, MAC: mac, MTU: 1500, Speed: 1,
			Counters: iface.Counters{CreatedAt: 1}},
			{Name: "lan0", Driver: "tap", Device: "lan0", IfIndex: 2, Admin: true, Link: true, LastChange: 1, MAC: mac, MTU: 1500, Counters: iface.Counters{CreatedAt: 1}}},
		Neighbours: []neigh.State{{Key: neigh.Key{Iface: "wan0", Addr: at("192.0.2.7")}, MAC: mac, Origin: neigh.Dynamic, Reach: neigh.Stale},
			{Key: neigh.Key{Iface: "wan0", Addr: at("fe80::7")}, MAC: mac, Origin: neigh.Dynamic, Reach: neigh.Stale, IsRouter: true}},
		SAs: []ipsec.SAState{
			{Name: "in", Direction: sal.Inbound, AddedAt: 1, UsedAt: 1, Seq: 1, Window: 64, Late: []ipsec.Late{{From: 1, To: 1, Packets: 1, Dropped: 1}}, Errors: []ipsec.Error{{Reason: "esp-replay", Packets: 1}}, Engine: "cpu0", Mode: "software", Reason: "x", Expired: []string{"soft-time"},
				Peer: netip.MustParseAddrPort("192.0.2.2:4500"), MovedAt: 1},
			{Name: "out", Direction: sal.Outbound, AddedAt: 1, Seq: 1, OuterMTU: 1400, InnerMTU: 1300, PathMTU: 1400}},
		Policies: []ipsec.PolicyState{{Name: "to-b"}},
		Groups:   []ipsec.GroupState{{Name: "blue"}},
		Drops:    []fastpath.Drop{{Reason: "x", Severity: "fault", Description: "y", Packets: 1, Ifaces: []fastpath.IfaceDrop{{Iface: "wan0", Packets: 1}}}},
		Process: &fastpath.Process{PID: 1, StartedAt: 1, Label: "1", Workers: []fastpath.Worker{{CPU: 1, Queues: []fastpath.WorkerQueue{{Iface: "eth0"}}}},
			Engines: []fastpath.EngineInfo{{Name: "cpu0", Kind: "software", ISA: "x", Modes: []string{"crypto"}, Algorithms: []string{"x"}, MaxSAs: 1, WindowMax: 1, QueueDepth: 1,
				EngineState: ipsec.EngineState{LastFailure: "x", FailedAt: 1}}}},
	}
}
