package route

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// Several next hops for one prefix (equal-cost multipath, RFC 2991, RFC 2992).
//
// A group is an adjacency that stands for others. It has a row of buckets, each
// with the handle of a member; a flow's addresses, protocol and ports choose the
// bucket, so that its packets stay in order. Which member has a bucket is decided
// by rendezvous hashing: of all members the one whose score for this bucket is
// highest, weights counted. So when a member goes only its own buckets find
// another, and when one comes it takes its share and moves nothing else.
//
// Groups are shared by all routes with the same next hops.

const (
	// groupBuckets keeps the shares of equal members within some percent.
	groupBuckets = 1024
	maxGroups    = 4096
	// MaxHops bounds the next hops of a route.
	MaxHops = 64
)

// Hop is one of several next hops.
type Hop struct {
	Iface   string
	NextHop netip.Addr // invalid: the destination is on the link itself
	Weight  uint16     // its share among the others; at least 1
}

// Hops is several next hops in a comparable form: a line for each, in order.
// Equal sets are equal Hops. Make it with MakeHops.
type Hops string

// MakeHops puts next hops into their form. Of equal ones the weights are added.
func MakeHops(l []Hop) Hops {
	l = slices.Clone(l)
	slices.SortFunc(l, func(a, b Hop) int { return cmp.Or(cmp.Compare(a.Iface, b.Iface), a.NextHop.Compare(b.NextHop)) })
	var b strings.Builder
	for i := 0; i < len(l); {
		sum := 0
		k := i
		for ; k < len(l) && l[k].Iface == l[i].Iface && l[k].NextHop == l[i].NextHop; k++ {
			sum += int(max(l[k].Weight, 1))
		}
		a := "-"
		if l[i].NextHop.IsValid() {
			a = l[i].NextHop.String()
		}
		fmt.Fprintf(&b, "%s %d %q\n", a, min(sum, math.MaxUint16), l[i].Iface)
		i = k
	}
	return Hops(b.String())
}

var errHops = errors.New("the next hops are malformed")

// List takes them apart.
func (h Hops) List() (l []Hop, err error) {
	var err2 error
	for line := range strings.Lines(string(h)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(f) != 3 {
			return nil, errHops
		}
		var x Hop
		w, err := strconv.ParseUint(f[1], 10, 16)
		if x.Iface, err2 = strconv.Unquote(f[2]); err != nil || err2 != nil || w == 0 {
			return nil, errHops
		}
		x.Weight = uint16(w)
		if f[0] != "-" {
			if x.NextHop, err = netip.ParseAddr(f[0]); err != nil {
				return nil, errHops
			}
		}
		l = append(l, x)
	}
	if MakeHops(l) != h {
		return nil, errHops
	}
	return l, nil
}

// Without is the next hops that are not by an interface.
func (h Hops) Without(iface string) Hops {
	l, err := h.List()
	if err != nil {
		return h
	}
	return MakeHops(slices.DeleteFunc(l, func(x Hop) bool { return x.Iface == iface }))
}

// group is the adjacency of several next hops.
type group struct {
	key     groupKey
	adj     uint32
	row     uint32
	members []member
	refs    int // routes, prepared ones included
}

type groupKey struct {
	hops Hops
	v6   bool
}

type member struct {
	adj    uint32
	weight uint16
	held   bool // by neigh
	name   uint64
}

// groups are all groups.
type groups struct {
	rows  mem.Table[[groupBuckets]uint32]
	ways  mem.Table[[MaxHops]pipeline.IfIndex] // by row: the members' interfaces, then 0
	slots *mem.Slots
	byKey map[groupKey]*group
	byAdj map[uint32]*group
	seed  burst.Seed
}

func newGroups(g *mem.Grace) (*groups, error) {
	t, err := mem.NewTable[[groupBuckets]uint32](maxGroups, mem.Options{SmallPages: true})
	if err != nil {
		return nil, err
	}
	w, err := mem.NewTable[[MaxHops]pipeline.IfIndex](maxGroups, mem.Options{SmallPages: true})
	return &groups{rows: t, ways: w, slots: mem.NewSlots(maxGroups, g, nil), byKey: map[groupKey]*group{}, byAdj: map[uint32]*group{}, seed: burst.NewSeed()}, err
}

// hold finds or makes the group of a route's next hops and counts one more route.
func (p *prepared) hold(b *pipeline.Builder, r *Config, v6 bool) (*group, error) {
	k := groupKey{r.Hops, v6}
	if r.Kind != Unicast || r.Iface != "" || r.NextHop.IsValid() {
		return nil, refuse(r.Prefix, "Hops", "several next hops, and another way beside them")
	}
	g := p.groups[k]
	if g == nil {
		l, err := r.Hops.List()
		switch {
		case err != nil:
			return nil, refuse(r.Prefix, "Hops", err.Error())
		case len(l) > MaxHops:
			return nil, refuse(r.Prefix, "Hops", fmt.Sprintf("%d next hops, and a route can have %d", len(l), MaxHops))
		}
		if g = p.f.groups.byKey[k]; g == nil || !p.f.leadsBy(g, b, l) {
			if g, err = p.f.makeGroup(b, r, k, l); err != nil {
				return nil, err
			}
		}
		if p.groups == nil {
			p.groups = map[groupKey]*group{}
		}
		p.groups[k] = g
	}
	g.refs++
	return g, nil
}

// leadsBy tells whether a group's members are by the interfaces that have these
// names after the change: one may have been deleted and made again.
func (f *Feature) leadsBy(g *group, b *pipeline.Builder, l []Hop) bool {
	for i, h := range l {
		if x := b.Iface(h.Iface); x == nil || x.Index != f.env.Adj.At(g.members[i].adj).If() {
			return false
		}
	}
	return true
}

// makeGroup makes a group that no route has yet.
func (f *Feature) makeGroup(b *pipeline.Builder, r *Config, k groupKey, l []Hop) (*group, error) {
	g, v6 := &group{key: k}, k.v6
	for _, h := range l {
		x := b.Iface(h.Iface)
		if x == nil {
			f.letGo(g)
			return nil, refuse(r.Prefix, "Iface", fmt.Sprintf("no interface %q", h.Iface))
		}
		m := member{weight: h.Weight, name: nameOf(h)}
		if !h.NextHop.IsValid() {
			m.adj = f.env.Neigh.Glean(x, v6)
		} else if why := notHop(h.NextHop, v6); why != "" {
			f.letGo(g)
			return nil, refuse(r.Prefix, "NextHop", why)
		} else if m.adj, m.held = f.env.Neigh.Hold(x, h.NextHop.WithZone("")); !m.held {
			f.letGo(g)
			return nil, refuse(r.Prefix, "NextHop", "the neighbour table is full")
		}
		g.members = append(g.members, m)
	}
	var ok bool
	if g.row, ok = f.groups.slots.Alloc(); !ok {
		f.letGo(g)
		return nil, refuse(r.Prefix, "Hops", fmt.Sprintf("%d different sets of next hops, and no more", maxGroups-1))
	}
	if g.adj, ok = f.env.Adj.Alloc(pipeline.AdjSpec{L2a: uint64(g.row), Kind: pipeline.AdjGroup, V6: v6}); !ok {
		f.groups.slots.Free(g.row)
		f.letGo(g)
		return nil, refuse(r.Prefix, "", "the adjacency table is full")
	}
	g.fill(f.groups.rows.At(g.row))
	ways := f.groups.ways.At(g.row)
	clear(ways[:])
	for i, m := range g.members {
		ways[i] = f.env.Adj.At(m.adj).If()
	}
	f.groups.byKey[k], f.groups.byAdj[g.adj] = g, g
	return g, nil
}

// notHop says why an address cannot be a next hop, "" when it can.
func notHop(a netip.Addr, v6 bool) string {
	if a.Is6() != v6 || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() {
		return fmt.Sprintf("%v cannot be the next hop of this route", a)
	}
	return ""
}

// drop counts one route less, and ends the group with the last. shown: workers
// may have seen it.
func (f *Feature) drop(g *group, shown bool) {
	if g.refs--; g.refs > 0 {
		return
	}
	if f.groups.byKey[g.key] == g {
		delete(f.groups.byKey, g.key)
	}
	delete(f.groups.byAdj, g.adj)
	if shown {
		f.env.Adj.Retire(g.adj)
		f.groups.slots.Retire(g.row)
	} else {
		f.env.Adj.Free(g.adj)
		f.groups.slots.Free(g.row)
	}
	f.letGo(g)
}

// letGo gives the members' neighbours up.
func (f *Feature) letGo(g *group) {
	for _, m := range g.members {
		if m.held {
			f.env.Neigh.Release(m.adj)
		}
	}
}

// nameOf tells next hops apart, in every group alike.
func nameOf(h Hop) uint64 {
	x := fnv.New64a()
	fmt.Fprintf(x, "%s\x00%s", h.NextHop, h.Iface)
	return x.Sum64()
}

// fill gives every bucket to the member with the highest score (weighted
// rendezvous hashing: weight / -ln of a random number in 0 to 1).
func (g *group) fill(row *[groupBuckets]uint32) {
	for b := range row {
		best := -1.0
		for _, m := range g.members {
			u := (float64(mix(m.name+uint64(b)*0x9e3779b97f4a7c15)>>11) + 0.5) / (1 << 53)
			if s := float64(m.weight) / -math.Log(u); s > best {
				best, row[b] = s, m.adj
			}
		}
	}
}

// mix spreads a number over all bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// The bits of a key that say what flow it is, whatever it came from.
const (
	flow4 = 0xffff_ffff_0000_ff00 // of its first word
	flow6 = 0xff_ffff_ffff        // of its last
)

// pick4 is the member for an IPv4 flow.
func (t *groups) pick4(a *pipeline.Adj, k *burst.Key4) uint32 {
	h, l := bits.Mul64(k[0]&flow4^t.seed[0], k[1]^t.seed[1])
	return t.at(a, h^l)
}

// pick6 is the member for an IPv6 flow. The flow label is not asked: not all
// senders keep it.
func (t *groups) pick6(a *pipeline.Adj, k *burst.Key6) uint32 {
	h, l := bits.Mul64(k[0]^t.seed[0], k[1]^t.seed[1])
	g, m := bits.Mul64(k[2]^t.seed[2], k[3]^t.seed[3])
	h, l = bits.Mul64(h^m^k[4]&flow6, g^l^t.seed[0]|1)
	return t.at(a, h^l)
}

// toward is the member for all that goes to one address, when nothing else is
// known.
func (t *groups) toward(a *pipeline.Adj, hi, lo uint64) uint32 {
	h, l := bits.Mul64(hi^t.seed[2], lo^t.seed[3])
	return t.at(a, h^l)
}

func (t *groups) at(a *pipeline.Adj, h uint64) uint32 {
	row := uint32(a.L2a())
	if row >= maxGroups { // the record is another's by now; the flow is not remembered
		return 0
	}
	h ^= h >> 32
	return t.rows.At(row)[h%groupBuckets]
}

// spread replaces groups by their members in v.Adj of the packets listed, and
// gives the kinds that are there then.
func (t *groups) spread(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16, kinds uint16) uint16 {
	adjs := c.Env.Adj
	for _, i := range idx {
		i &= 255
		a := adjs.At(v.Adj[i])
		if a.Kind() != pipeline.AdjGroup {
			continue
		}
		if v.V6 {
			v.Adj[i] = t.pick6(a, &v.K6[i])
		} else {
			v.Adj[i] = t.pick4(a, &v.K4[i])
		}
		kinds |= 1 << (adjs.At(v.Adj[i]).Kind() & 15)
	}
	return kinds &^ (1 << pipeline.AdjGroup)
}

// ifaces calls yield with each interface that a route by adjacency h names.
func (f *Feature) ifaces(h uint32, yield func(pipeline.IfIndex)) {
	if g := f.groups.byAdj[h]; g != nil {
		for _, m := range g.members {
			yield(f.env.Adj.At(m.adj).If())
		}
	} else if i := f.env.Adj.At(h).If(); i != 0 {
		yield(i)
	}
}

// release gives up what a route held.
func (f *Feature) release(h uint32) {
	switch f.env.Adj.At(h).Kind() {
	case pipeline.AdjNeighbour:
		f.env.Neigh.Release(h)
	case pipeline.AdjGroup:
		f.drop(f.groups.byAdj[h], true)
	}
}
