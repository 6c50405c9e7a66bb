package apply

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/neigh"
)

// reconcile reduces a change that says everything to what the engine does not
// have already, and adds the deletion of what it should not have. Objects that
// are as they should be are not touched: no packet of theirs is lost.
// It gives the number of the change that the engine works by, 0 where it has none.
func (a *Applier) reconcile(ctx context.Context, p *pending) (label uint64, err error) {
	out := p.commit.Out
	const why = "nothing was changed, as the data plane does not answer"
	caps, err := a.engine.Caps(ctx)
	if err != nil {
		return 0, &mute{why, err}
	}
	inv, err := a.engine.Inventory(ctx)
	if err != nil {
		return 0, &mute{why, err}
	}
	label, _ = strconv.ParseUint(inv.Label, 10, 64)
	p.have = inv.Objects
	r := reconciler{key: caps.DigestKey, have: inv.Objects}

	out.Iface.Set = keep(&r, "iface", out.Iface.Set)
	out.Neigh.Set = keep(&r, "neigh", out.Neigh.Set)
	out.Route.Set = keep(&r, "route", out.Route.Set)
	out.IPsec.SetPolicy = keep(&r, "policy", out.IPsec.SetPolicy)
	out.IPsec.SetSA = keep(&r, "sa", out.IPsec.SetSA)
	out.IPsec.SetGroup = keep(&r, "group", out.IPsec.SetGroup)
	if out.Global != nil && r.same("global", "", *out.Global) {
		out.Global = nil
	}

	out.Iface.Delete = r.surplus("iface")
	out.IPsec.DeletePolicy = r.surplus("policy")
	out.IPsec.DeleteSA = r.surplus("sa")
	out.IPsec.DeleteGroup = r.surplus("group")
	for _, k := range r.surplus("neigh") {
		i := strings.LastIndexByte(k, ' ') // the name of an interface may have spaces
		ip, err := netip.ParseAddr(k[i+1:])
		if err != nil {
			return 0, fmt.Errorf("the data plane names a neighbour %q: %w", k, err)
		}
		out.Neigh.Delete = append(out.Neigh.Delete, neigh.Key{Iface: k[:max(0, i)], Addr: ip})
	}
	for _, k := range r.surplus("route") {
		prefix, err := netip.ParsePrefix(k)
		if err != nil {
			return 0, fmt.Errorf("the data plane names a route %q: %w", k, err)
		}
		out.Route.Delete = append(out.Route.Delete, prefix)
	}
	return label, nil
}

type reconciler struct {
	key  [16]byte
	have map[string]map[string]fastpath.Digest
	want map[string]map[string]bool
}

// same notes that an object is wanted, and tells whether the engine has it so.
func (r *reconciler) same(feature, key string, obj any) bool {
	if r.want == nil {
		r.want = map[string]map[string]bool{}
	}
	if r.want[feature] == nil {
		r.want[feature] = map[string]bool{}
	}
	r.want[feature][key] = true
	d, ok := r.have[feature][key]
	return ok && d == fastpath.DigestOf(r.key, obj)
}

// surplus names what the engine has and nobody wants.
func (r *reconciler) surplus(feature string) (keys []string) {
	for k := range r.have[feature] {
		if !r.want[feature][k] {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// keep drops the objects that the engine has already.
func keep[T interface{ ObjectKey() string }](r *reconciler, feature string, set []T) []T {
	if len(r.have[feature]) == 0 {
		return set
	}
	var out []T
	for _, o := range set {
		if !r.same(feature, o.ObjectKey(), o) {
			out = append(out, o)
		}
	}
	return out
}
