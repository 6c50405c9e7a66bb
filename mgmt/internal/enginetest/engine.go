// Package enginetest is a fastpath.Engine for tests of the management plane: it
// moves no packets, and holds callers to the contract of the real one. What it
// holds can be read as text.
package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"

	"vrouter/fastpath/feature/ipsec"
)

// Engine is the engine. Its methods may be called from any goroutine.
type Engine struct {
	// Refuse, when set, is asked before a change is prepared.
	Refuse func(*fastpath.Change) error
	// Answer, when set, answers State.
	Answer func(*fastpath.Query) *fastpath.State

	// Log is what Events gives.
	Log *event.Log

	mu       sync.Mutex
	label    string
	global   *fastpath.Global
	ifaces   map[string]iface.Config
	neighs   map[neigh.Key]neigh.Config
	routes   map[netip.Prefix]route.Config
	policies map[string]ipsec.Policy
	sas      map[string]ipsec.SA
	groups   map[string]ipsec.Group
	ticket   fastpath.Ticket
	pending  *fastpath.Change
	last     *fastpath.Change
	prepares int
	queries  []fastpath.Query

	operations []fastpath.Operation
}

// New makes an engine that holds nothing.
func New() *Engine {
	return &Engine{Log: event.NewLog(func() int64 { return time.Now().UnixNano() }), ifaces: map[string]iface.Config{}, neighs: map[neigh.Key]neigh.Config{}, routes: map[netip.Prefix]route.Config{},
		policies: map[string]ipsec.Policy{}, sas: map[string]ipsec.SA{}, groups: map[string]ipsec.Group{}}
}

// ErrTicket is what an unknown ticket gives.
var ErrTicket = errors.New("no such prepared change")

// key is the same in all engines of this package: they have nothing to hide.
var key = [16]byte{1}

// Caps implements fastpath.Engine.
func (e *Engine) Caps(context.Context) (*fastpath.Caps, error) {
	return &fastpath.Caps{Version: "test", PID: os.Getpid(), DigestKey: key}, nil
}

// Inventory implements fastpath.Engine.
func (e *Engine) Inventory(context.Context) (*fastpath.Inventory, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	inv := &fastpath.Inventory{Label: e.label, Objects: map[string]map[string]fastpath.Digest{}}
	put := func(feature, k string, o any) {
		if inv.Objects[feature] == nil {
			inv.Objects[feature] = map[string]fastpath.Digest{}
		}
		inv.Objects[feature][k] = fastpath.DigestOf(key, o)
	}
	if e.global != nil {
		put("global", "", *e.global)
	}
	for k, o := range e.ifaces {
		put("iface", k, o)
	}
	for k, o := range e.neighs {
		put("neigh", k.ObjectKey(), o)
	}
	for k, o := range e.routes {
		put("route", k.String(), o)
	}
	for k, o := range e.policies {
		put("policy", k, o)
	}
	for k, o := range e.sas {
		put("sa", k, o)
	}
	for k, o := range e.groups {
		put("group", k, o)
	}
	return inv, nil
}

// Prepare implements fastpath.Engine. It refuses what the real one would for
// the sake of its references: the management plane must never ask for that.
func (e *Engine) Prepare(ctx context.Context, c *fastpath.Change) (fastpath.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if e.Refuse != nil {
		if err := e.Refuse(c); err != nil {
			return 0, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prepares++
	if e.pending != nil {
		return 0, errors.New("a change is prepared already")
	}
	after := e.clone()
	if err := after.apply(c); err != nil {
		return 0, err
	}
	if err := after.check(); err != nil {
		return 0, err
	}
	e.ticket++
	e.pending = c
	return e.ticket, nil
}

// Publish implements fastpath.Engine.
func (e *Engine) Publish(_ context.Context, t fastpath.Ticket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending == nil || t != e.ticket {
		return ErrTicket
	}
	if err := e.apply(e.pending); err != nil {
		panic(err) // it was prepared
	}
	e.last, e.pending = e.pending, nil
	return nil
}

// Abort implements fastpath.Engine.
func (e *Engine) Abort(_ context.Context, t fastpath.Ticket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending == nil || t != e.ticket {
		return ErrTicket
	}
	e.pending = nil
	return nil
}

// State implements fastpath.Engine.
func (e *Engine) State(_ context.Context, q *fastpath.Query) (*fastpath.State, error) {
	e.mu.Lock()
	e.queries = append(e.queries, *q)
	e.mu.Unlock()
	if e.Answer == nil {
		return &fastpath.State{}, nil
	}
	return e.Answer(q), nil
}

// Events implements fastpath.Engine.
func (e *Engine) Events(ctx context.Context, after uint64) (*fastpath.Events, error) {
	return e.Log.Read(ctx, after)
}

// Operate implements fastpath.Engine: an engine "none" and an SA "none" are not there.
func (e *Engine) Operate(_ context.Context, o *fastpath.Operation) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.operations = append(e.operations, *o)
	switch {
	case o.SA == "none":
		return &fastpath.Refusal{Feature: "sa", Object: o.SA, Field: "Name", Reason: "there is no such SA"}
	case o.Engine == "none":
		return &fastpath.Refusal{Feature: "engine", Object: o.Engine, Field: "Name", Reason: "there is no such engine"}
	}
	return nil
}

// Operations gives what was asked for by Operate so far.
func (e *Engine) Operations() []fastpath.Operation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.operations)
}

// Close implements fastpath.Engine.
func (e *Engine) Close() error { return nil }

// Last gives the change that was published last, and how many were prepared.
func (e *Engine) Last() (last *fastpath.Change, prepares int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last, e.prepares
}

// Queries gives what State was asked for so far.
func (e *Engine) Queries() []fastpath.Query {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.queries)
}

// Pending tells whether a change is prepared and neither published nor aborted.
func (e *Engine) Pending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending != nil
}

// Text gives all that the engine holds, one line an object.
func (e *Engine) Text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &fastpath.Change{Global: e.global}
	c.Iface.Set = slices.Collect(maps.Values(e.ifaces))
	c.Neigh.Set = slices.Collect(maps.Values(e.neighs))
	c.Route.Set = slices.Collect(maps.Values(e.routes))
	c.IPsec.SetPolicy = slices.Collect(maps.Values(e.policies))
	c.IPsec.SetSA = slices.Collect(maps.Values(e.sas))
	c.IPsec.SetGroup = slices.Collect(maps.Values(e.groups))
	return strings.ReplaceAll(Text(c), " set ", " ")
}

func (e *Engine) clone() *Engine {
	return &Engine{global: e.global, ifaces: maps.Clone(e.ifaces), neighs: maps.Clone(e.neighs), routes: maps.Clone(e.routes),
		policies: maps.Clone(e.policies), sas: maps.Clone(e.sas), groups: maps.Clone(e.groups)}
}

func (e *Engine) apply(c *fastpath.Change) error {
	e.label = c.Label
	if c.Global != nil {
		e.global = c.Global
	}
	if err := change(e.ifaces, "iface", c.Iface.Delete, c.Iface.Set, func(o iface.Config) string { return o.Name }); err != nil {
		return err
	}
	if err := change(e.neighs, "neigh", c.Neigh.Delete, c.Neigh.Set, func(o neigh.Config) neigh.Key { return o.Key }); err != nil {
		return err
	}
	if err := change(e.routes, "route", c.Route.Delete, c.Route.Set, func(o route.Config) netip.Prefix { return o.Prefix }); err != nil {
		return err
	}
	if err := change(e.policies, "policy", c.IPsec.DeletePolicy, c.IPsec.SetPolicy, func(o ipsec.Policy) string { return o.Name }); err != nil {
		return err
	}
	if err := change(e.groups, "group", c.IPsec.DeleteGroup, c.IPsec.SetGroup, func(o ipsec.Group) string { return o.Name }); err != nil {
		return err
	}
	return change(e.sas, "sa", c.IPsec.DeleteSA, c.IPsec.SetSA, func(o ipsec.SA) string { return o.Name })
}

func change[K comparable, V any](m map[K]V, feature string, del []K, set []V, keyOf func(V) K) error {
	seen := map[K]bool{}
	for _, k := range del {
		if _, ok := m[k]; !ok {
			return fmt.Errorf("%s %v is deleted and was not there", feature, k)
		}
		delete(m, k)
		seen[k] = true
	}
	for _, o := range set {
		k := keyOf(o)
		if seen[k] {
			return fmt.Errorf("%s %v stands twice in one change", feature, k)
		}
		seen[k] = true
		m[k] = o
	}
	return nil
}

// check sees that references hold.
func (e *Engine) check() error {
	for k := range e.neighs {
		if _, ok := e.ifaces[k.Iface]; !ok {
			return fmt.Errorf("neigh %v: no interface", k)
		}
	}
	for p, r := range e.routes {
		if r.Hops != "" {
			l, err := r.Hops.List()
			if err != nil || r.Iface != "" || r.NextHop.IsValid() || r.Kind != route.Unicast {
				return fmt.Errorf("route %v: next hops %q: %v", p, r.Hops, err)
			}
			for _, h := range l {
				if _, ok := e.ifaces[h.Iface]; !ok {
					return fmt.Errorf("route %v: no interface %q", p, h.Iface)
				}
			}
		} else if _, ok := e.ifaces[r.Iface]; !ok && (r.Kind == route.Unicast || r.Kind == route.Receive) {
			return fmt.Errorf("route %v: no interface %q", p, r.Iface)
		}
		if p != p.Masked() {
			return fmt.Errorf("route %v has host bits", p)
		}
	}
	spis := map[uint32]string{}
	for n, s := range e.sas {
		if _, ok := e.groups[s.TenantGroup]; !ok && s.TenantGroup != "" {
			return fmt.Errorf("sa %s: no tenant group %q", n, s.TenantGroup)
		}
		if s.Direction != sal.Inbound {
			continue
		}
		if o := spis[s.SPI]; o != "" {
			return &fastpath.Refusal{Feature: "sa", Object: max(n, o), Field: "SPI", Reason: "another inbound SA has this SPI"}
		}
		spis[s.SPI] = n
	}
	return nil
}

// Order names the SPD entries in the order in which packets meet them.
func (e *Engine) Order() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Keys(e.policies), func(a, b string) int { return cmp.Compare(e.policies[a].Order, e.policies[b].Order) })
}
