package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/pkg/sal"
)

// engine is a data plane that moves no packets. It takes every change, but for
// interfaces whose device is "nowhere", and tells the state it was given.
type engine struct {
	mu    sync.Mutex
	state *fastpath.State // nil: it is not running
}

var _ fastpath.Engine = (*engine)(nil)

func (e *engine) down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = nil
}

func (e *engine) Caps(context.Context) (*fastpath.Caps, error) { return &fastpath.Caps{}, nil }

func (e *engine) Inventory(context.Context) (*fastpath.Inventory, error) {
	return &fastpath.Inventory{}, nil
}

func (e *engine) Prepare(_ context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	for _, i := range c.Iface.Set {
		if i.Device == "nowhere" {
			return 0, &fastpath.Refusal{Feature: "iface", Object: i.Name, Field: "Device", Reason: "there is no device nowhere"}
		}
	}
	return 1, nil
}

func (e *engine) Publish(context.Context, fastpath.Ticket) error { return nil }
func (e *engine) Abort(context.Context, fastpath.Ticket) error   { return nil }
func (e *engine) Close() error                                   { return nil }

func (e *engine) Operate(_ context.Context, o *fastpath.Operation) error {
	switch {
	case o.What == fastpath.MigrateSA && o.SA != "out":
		return &fastpath.Refusal{Feature: "sa", Object: o.SA, Field: "Name", Reason: fmt.Sprintf("there is no SA %q", o.SA)}
	case o.Engine != "card0":
		return &fastpath.Refusal{Feature: "engine", Object: o.Engine, Field: "Name", Reason: fmt.Sprintf("there is no engine %q", o.Engine)}
	}
	return nil
}

func (e *engine) Events(ctx context.Context, _ uint64) (*fastpath.Events, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// State gives of the state what the query names.
func (e *engine) State(_ context.Context, q *fastpath.Query) (*fastpath.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &fastpath.State{}
	if e.state == nil {
		return s, nil
	}
	asked := func(names []string, name string) bool {
		return names != nil && (len(names) == 0 || slices.Contains(names, name))
	}
	for _, i := range e.state.Ifaces {
		if asked(q.Ifaces, i.Name) {
			s.Ifaces = append(s.Ifaces, i)
		}
	}
	for _, n := range e.state.Neighbours {
		if asked(q.Neighbours, n.Iface) {
			s.Neighbours = append(s.Neighbours, n)
		}
	}
	for _, x := range e.state.SAs {
		if asked(q.SAs, x.Name) {
			s.SAs = append(s.SAs, x)
		}
	}
	for _, p := range e.state.Policies {
		if asked(q.Policies, p.Name) {
			s.Policies = append(s.Policies, p)
		}
	}
	for _, g := range e.state.Groups {
		if asked(q.Groups, g.Name) {
			s.Groups = append(s.Groups, g)
		}
	}
	if q.Drops {
		s.Drops = e.state.Drops
	}
	if q.Process {
		s.Process = e.state.Process
	}
	return s, nil
}

// began is when everything made up began. What is counted from it, the age of
// an SA, is not looked at by the tests.
var began = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC).UnixNano()

// canned is the state of the router in testdata/show.
func canned() *fastpath.State {
	addr := netip.MustParseAddr
	return &fastpath.State{
		Ifaces: []iface.State{
			{Name: "lan0", Driver: "af-packet", Device: "eth1", IfIndex: 1, Admin: true, Link: true, LastChange: began, MAC: [6]byte{2, 0, 0, 0, 1, 1}, MTU: 1500, Speed: 1e9, Duplicate: []netip.Addr{addr("2001:db8:1::1")},
				Counters: iface.Counters{CreatedAt: began, RxOctets: 123456789, RxUnicast: 98765, RxMulticast: 12, RxBroadcast: 3, RxDiscards: 7, RxErrors: 1,
					TxOctets: 987654321, TxUnicast: 87654, TxMulticast: 5, TxDiscards: 2}},
			{Name: "wan0", Driver: "tap", Device: "wan0", IfIndex: 2, Admin: true, LastChange: began, MAC: [6]byte{2, 0, 0, 0, 1, 2}, MTU: 1400,
				Counters: iface.Counters{CreatedAt: began}},
		},
		Neighbours: []neigh.State{
			{Key: neigh.Key{Iface: "lan0", Addr: addr("10.1.0.2")}, MAC: [6]byte{2, 0, 0, 0, 9, 2}, Origin: neigh.Dynamic, Reach: neigh.Reachable},
			{Key: neigh.Key{Iface: "lan0", Addr: addr("2001:db8:1::2")}, MAC: [6]byte{2, 0, 0, 0, 9, 2}, Origin: neigh.Dynamic, Reach: neigh.Stale},
			{Key: neigh.Key{Iface: "lan0", Addr: addr("2001:db8:1::3")}, Origin: neigh.Dynamic, Reach: neigh.Incomplete},
			{Key: neigh.Key{Iface: "wan0", Addr: addr("192.0.2.2")}, MAC: [6]byte{2, 0, 0, 0, 9, 9}, Origin: neigh.Static, Reach: neigh.Reachable},
		},
		SAs: []ipsec.SAState{
			{Name: "b-out", SPI: 4096, Direction: sal.Outbound, AddedAt: began, Packets: 1000, Bytes: 1500000, Seq: 4294967300, Engine: "cpu", Mode: "software", Reason: "asked for", AsWanted: true,
				OuterMTU: 1400, InnerMTU: 1346, PathMTU: 1400, PathLeft: 599 * time.Second, Expired: []string{"soft-packets"}},
			{Name: "c-out", SPI: 4098, Direction: sal.Outbound, AddedAt: began, Seq: 7, Packets: 7, Bytes: 700, Engine: "cpu", Mode: "software", Reason: "asked for", AsWanted: true,
				OuterMTU: 1500, InnerMTU: 1418, Peer: netip.MustParseAddrPort("[2001:db8:77::7]:20001"), MovedAt: began},
			{Name: "b-in", SPI: 4097, Direction: sal.Inbound, AddedAt: began, Packets: 900, Bytes: 1300000, Seq: 950, Window: 1024,
				Late:   []ipsec.Late{{Packets: 880}, {From: 1, To: 1, Packets: 17}, {From: 64, To: 127, Packets: 3}, {From: 1024, To: 2047, Dropped: 2}},
				Errors: []ipsec.Error{{Reason: "esp-icv", Packets: 3}, {Reason: "esp-replay", Packets: 12}}, Engine: "cpu", Mode: "software", Reason: "asked for", AsWanted: true},
		},
		Groups:   []ipsec.GroupState{{Name: "blue", SAs: 2, GroupUse: ipsec.GroupUse{Packets: 1900, Bytes: 2912000, Dropped: 77}}, {Name: "green"}},
		Policies: []ipsec.PolicyState{{Name: "b-out", Packets: 1000, Bytes: 1500000}, {Name: "b-in", Packets: 900, Bytes: 1300000}, {Name: "icmp", Packets: 4, Bytes: 336}},
		Drops: []fastpath.Drop{
			{Reason: "esp-replay", Severity: "attack?", Description: "the sequence number was seen already", Packets: 12, Ifaces: []fastpath.IfaceDrop{{Iface: "wan0", Packets: 12}}},
			{Reason: "no-route", Severity: "normal", Description: "no route leads to the destination", Packets: 5,
				Ifaces: []fastpath.IfaceDrop{{Iface: "lan0", Packets: 4}, {Iface: "wan0", Packets: 1}}},
		},
		Process: &fastpath.Process{PID: 4711, StartedAt: began, Label: "17",
			Workers: []fastpath.Worker{{ID: 0, CPU: 2, RunsOn: 2, Load: 37, Packets: 100000, Bursts: 5000, Turns: 900000, Idles: 40, Flows: 250, Given: 20000,
				Queues: []fastpath.WorkerQueue{{Iface: "lan0", Spread: true}, {Iface: "wan0"}}},
				{ID: 1, CPU: -1, RunsOn: -1, Packets: 7, Bursts: 7, Flows: 6, Taken: 20000, Sent: 9, Queues: []fastpath.WorkerQueue{{Iface: "wan0", Queue: 1}}}},
			Buffers: fastpath.Buffers{Total: 16384, Free: 16000, Cached: 128, Ports: 250, Waiting: 4, InFlight: 2, Large: sal.ClassStats{Total: 2048, Free: 2030, Cached: 16}},
			Flows:   fastpath.Flows{Size: 65536, Used: 256, Hits: 99744, Misses: 256},
			Engines: []fastpath.EngineInfo{{Name: "cpu", Kind: "software", ISA: "vaes", Ready: true, Modes: []string{"crypto"},
				Algorithms: []string{"aes-gcm-16-128", "aes-gcm-16-256"}, WindowMax: 8192, EngineState: ipsec.EngineState{SAs: 2}}}},
	}
}
