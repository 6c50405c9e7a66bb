package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
)

// A data plane that is filled after its own or the machine's restart may find
// that a device of running is not there any more. One missing interface must not
// keep all others from forwarding, so who fills the data plane may allow (by
// AllowPartial) that such an object, with what stands on it, is left out. The
// next changes are then compared as a whole, and try it again each time.
//
// Only what is new to the data plane can be left out, never a policy: without
// it packets could leave in the clear. An SA that is left out is one that
// drops.

// object names an object as fastpath.Refusal does.
type object struct{ feature, key string }

type partialKey struct{}

// AllowPartial gives a context under which Prepare leaves out what the data
// plane refuses and can do without.
func AllowPartial(ctx context.Context) context.Context {
	return context.WithValue(ctx, partialKey{}, true)
}

// Without says which objects of running the data plane was last filled without,
// each with the reason; empty when it has all. It may be called from any
// goroutine.
func (a *Applier) Without() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var l []string
	for o, why := range a.without {
		l = append(l, fmt.Sprintf("%s %s: %s", o.feature, o.key, why))
	}
	slices.Sort(l)
	return l
}

// leaveOut takes what was refused out of a whole change, if that is allowed:
// because the caller says so, or because it was left out before and the commit
// is about something else. It tells whether the change is to be tried again.
func (a *Applier) leaveOut(ctx context.Context, p *pending, err error) bool {
	var r *fastpath.Refusal
	if !p.commit.Full || !errors.As(err, &r) {
		return false
	}
	o := object{r.Feature, r.Object}
	allowed, _ := ctx.Value(partialKey{}).(bool)
	if _, before := a.without[o]; !allowed && !before {
		return false
	}
	if _, has := p.have[o.feature][o.key]; has || !drop(p.commit.Out, o) {
		return false
	}
	if p.without == nil {
		p.without = map[object]string{}
	}
	p.without[o] = r.Reason
	a.log.Error("the data plane goes on without an object of running", "what", o.feature, "name", o.key, "field", r.Field, "why", strings.TrimSpace(r.Reason))
	return true
}

// drop removes an object and what stands on it from a change; false when it is
// not there, or none that can be done without.
func drop(c *fastpath.Change, o object) bool {
	switch o.feature {
	case "iface":
		n := len(c.Iface.Set)
		c.Iface.Set = slices.DeleteFunc(c.Iface.Set, func(x iface.Config) bool { return x.Name == o.key })
		c.Neigh.Set = slices.DeleteFunc(c.Neigh.Set, func(x neigh.Config) bool { return x.Iface == o.key })
		for i := range c.Route.Set {
			if x := &c.Route.Set[i]; x.Hops != "" { // the others do
				if x.Hops = x.Hops.Without(o.key); x.Hops == "" {
					x.Iface = o.key
				}
			}
		}
		c.Route.Set = slices.DeleteFunc(c.Route.Set, func(x route.Config) bool { return x.Iface == o.key })
		return len(c.Iface.Set) < n
	case "neigh":
		n := len(c.Neigh.Set)
		c.Neigh.Set = slices.DeleteFunc(c.Neigh.Set, func(x neigh.Config) bool { return x.ObjectKey() == o.key })
		return len(c.Neigh.Set) < n
	case "route":
		n := len(c.Route.Set)
		c.Route.Set = slices.DeleteFunc(c.Route.Set, func(x route.Config) bool { return x.ObjectKey() == o.key })
		return len(c.Route.Set) < n
	case "sa":
		n := len(c.IPsec.SetSA)
		c.IPsec.SetSA = slices.DeleteFunc(c.IPsec.SetSA, func(x ipsec.SA) bool { return x.Name == o.key })
		return len(c.IPsec.SetSA) < n
	}
	return false
}
