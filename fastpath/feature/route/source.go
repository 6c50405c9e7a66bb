package route

import (
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
)

// sources is the second stage: unicast reverse path forwarding (RFC 3704, RFC
// 8704) where an interface has it. A packet whose source no route leads back to,
// or none by the interface that it came in on, is dropped in silence.
//
//   - Of several next hops any will do (the feasible paths of RFC 3704 section
//     2.3, as far as they are of equal cost).
//   - A default route counts as a route (RFC 3704 sections 2.2 and 2.4). One that
//     drops or refuses does not: so a black hole for a prefix ends what comes
//     from there as well (RFC 5635 section 4).
//   - Link-local IPv6 sources and neighbour discovery belong to their link and
//     are not asked for.
//   - What came out of an SA is not asked either: its source does not lie behind
//     the interface that the ESP packet came in on, and inbound policy says which
//     sources the SA may bring. The ESP packet itself is checked.
//
// A decision hangs on the route of the source, which no flow's adjacency guards:
// while an interface checks, every change of routes of the family makes all
// flows walk again (prepared.wayBack).
type sources struct{ f *Feature }

// Walk implements pipeline.Stage.
func (s sources) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	fam := pipeline.V4
	if v.V6 {
		fam = pipeline.V6
	}
	if v.Same && check(c, v.In[idx[0]&255], fam) == pipeline.SourceAny {
		return idx
	}
	n := 0 // how many are asked for; the scratch that the look-up leaves says which
	last, on := pipeline.IfIndex(0), false
	for _, i := range idx {
		i &= 255
		if v.From[i] != pipeline.FromIface(v.In[i]) {
			continue
		}
		if v.In[i] != last {
			last = v.In[i]
			on = check(c, last, fam) != pipeline.SourceAny
		}
		if !on {
			continue
		}
		if v.V6 {
			hi, lo := v.Src6(i)
			if linkLocal(hi) {
				continue
			}
			v.DstH[n&255], v.DstL[n&255], v.Dst4[n&255] = hi, lo, uint32(i)
		} else {
			v.Dst4[n&255], v.DstH[n&255] = v.Src4(i), uint64(i)
		}
		n++
	}
	if n == 0 {
		return idx
	}
	if v.V6 {
		s.f.v6.LookupBurst(v.DstH[:n], v.DstL[:n], v.Out[:n])
	} else {
		s.f.v4.LookupBurst(v.Dst4[:n], v.Out[:n])
	}
	bad := 0
	for k := range n {
		i := uint16(v.DstH[k&255]) & 255
		if v.V6 {
			i = uint16(v.Dst4[k&255]) & 255
		}
		if !s.f.leadsBack(v.Out[k&255], v.In[i], check(c, v.In[i], fam)) {
			v.Drop(i, drop.IPReversePath)
			bad++
		}
	}
	if bad == 0 {
		return idx
	}
	n = 0
	for _, i := range idx {
		if !v.Prog[i&255].Last().Ends() {
			idx[n&255] = i
			n++
		}
	}
	return idx[:n]
}

// check is what an interface asks of sources.
func check(c *pipeline.Ctx, in pipeline.IfIndex, fam int) pipeline.SourceCheck {
	if x := c.Snap.Ifaces.At(in); x != nil {
		return x.Sources[fam]
	}
	return pipeline.SourceAny
}

// leadsBack tells whether route h of a source allows packets by interface in.
func (f *Feature) leadsBack(h uint32, in pipeline.IfIndex, how pipeline.SourceCheck) bool {
	a := f.env.Adj.At(h)
	switch a.Kind() {
	case pipeline.AdjNeighbour, pipeline.AdjGlean, pipeline.AdjReceive: // own: tentative, see special6
		return how == pipeline.SourceLoose || a.If() == in
	case pipeline.AdjGroup:
		return how == pipeline.SourceLoose || f.groups.by(a, in)
	}
	return false
}

// by tells whether one of a group's members is by interface in.
func (t *groups) by(a *pipeline.Adj, in pipeline.IfIndex) bool {
	row := uint32(a.L2a())
	if row >= maxGroups { // see at
		return false
	}
	for _, i := range t.ways.At(row) {
		switch i {
		case in:
			return true
		case 0:
			return false
		}
	}
	return false
}

// recount follows an interface's checks.
func (p *prepared) recount(was, is *pipeline.Iface) {
	for fam := range p.checks {
		if was != nil && was.Sources[fam] != pipeline.SourceAny {
			p.checks[fam]--
		}
		if is != nil && is.Sources[fam] != pipeline.SourceAny {
			p.checks[fam]++
		}
	}
}

// wayBack tells whether the change can move a route by which sources are
// checked.
func (p *prepared) wayBack() bool {
	if p.checks == [2]int{} {
		return false
	}
	checked := func(v6 bool) bool { return v6 && p.checks[pipeline.V6] > 0 || !v6 && p.checks[pipeline.V4] > 0 }
	for _, d := range p.del {
		if checked(d.Addr().Is6()) {
			return true
		}
	}
	for _, t := range p.set {
		if checked(t.prefix.Addr().Is6()) {
			return true
		}
	}
	return false
}
