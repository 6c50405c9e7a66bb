package ipsec

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// Tenant groups share out what there is: how many SAs, packets and octets in a second.
// What is above a quota is dropped as esp-quota: outbound before the packet is given a
// number, inbound behind the replay check, before time is spent on its ICV. A packet
// whose ICV is wrong is given back to the group, which has not sent it.
//
// A quota is a token bucket that all workers draw from. A worker takes a lot of a
// thousandth of a second at a time into its purse and spends that by itself, so most
// packets cost no atomic operation; and who has more packets takes more often, so the
// quota goes to the workers by demand. What lies in a purse has been taken: that a
// worker keeps it for later never makes the group exceed its quota.
//
// Packets of an SA without a group do not come here (recMetered).

const (
	// maxGroups is how many groups there can be, and one.
	maxGroups = 1 << 12
	// depth is for how much time a quota that is not used is kept; longer only for
	// quotas that are so small that depthPackets, or a packet of the largest size,
	// would never fit.
	depth        = int64(100e6) // nanoseconds
	depthPackets = 32
	// lotsPerSecond is how often a worker that needs all of a quota takes from it.
	lotsPerSecond = 1000
)

// What a group has quotas of.
const (
	quotaPackets = iota
	quotaBytes
	quotas
)

// quota is how fast a bucket fills. The zero quota is none.
type quota struct {
	lot   int64 // tokens that are taken at once
	every int64 // in how much time a lot comes, nanoseconds, rounded up
	depth int64 // nanoseconds
}

// quotaOf makes a quota of so many tokens a second, that keeps room for least.
func quotaOf(rate, least uint64) (q quota) {
	if rate == 0 {
		return quota{}
	}
	lot := max(1, rate/lotsPerSecond)
	q.lot, q.every = int64(lot), timeOf(lot, rate)
	q.depth = max(depth, timeOf(least, rate)+q.every)
	return q
}

// timeOf is how long n tokens take to come, in nanoseconds, rounded up; n is at most
// 2^16 or a second's.
func timeOf(n, rate uint64) int64 {
	hi, lo := bits.Mul64(n, 1e9)
	if hi >= rate {
		return math.MaxInt64 // not with rates that checkGroup lets through
	}
	t, rest := bits.Div64(hi, lo, rate)
	if rest > 0 {
		t++
	}
	return int64(t)
}

// bucket is until when all tokens are taken, Unix nanoseconds: what is not taken is the
// time from there to now, of which no more counts than the quota's depth.
type bucket struct{ taken atomic.Int64 }

// take gives want tokens or more, in whole lots, or as many as there are. Where these
// are too few, dry is until when there is not one lot more.
func (b *bucket) take(q *quota, now, want int64) (got, dry int64) {
	for {
		old := b.taken.Load()
		from := max(old, now-q.depth)
		n := min((now-from)/q.every, (want+q.lot-1)/q.lot)
		if n <= 0 {
			return 0, from + q.every
		}
		if b.taken.CompareAndSwap(old, from+n*q.every) {
			return n * q.lot, from + (n+1)*q.every
		}
	}
}

// meter is what workers know of a group. The buckets are the group's for as long as it
// lives, the quotas those of its last configuration.
type meter struct {
	number uint64 // another one for each
	quota  [quotas]quota
	bucket *[quotas]bucket
}

// purse is what a worker has of a group, one line; that worker alone writes it.
type purse struct {
	have [quotas]int64 // tokens
	dry  [quotas]int64 // until then there are no others

	packets, bytes, dropped uint64 // by pipeline.Add; of what is given back, less

	of uint64 // the meter's number that dry is about
}

// afford tells whether the group of an SA may have one more packet, of so many octets
// with its outer header, and counts it.
//
//go:noinline
func (w *worker) afford(c *pipeline.Ctx, r *record, size uint32) bool {
	p := w.purses.At(uint32(r.group))
	m := w.f.meters[r.group].Load()
	if p.of != m.number {
		p.of, p.dry = m.number, [quotas]int64{}
	}
	need := [quotas]int64{1, int64(size)}
	for k := range need {
		q := &m.quota[k]
		if q.lot == 0 || p.have[k] >= need[k] {
			continue
		}
		if c.Now >= p.dry[k] {
			got, dry := m.bucket[k].take(q, c.Now, need[k]-p.have[k])
			if p.have[k] += got; p.have[k] < need[k] {
				p.dry[k] = dry
			}
		}
		if p.have[k] < need[k] {
			pipeline.Add(&p.dropped, 1)
			return false
		}
	}
	for k := range need {
		if m.quota[k].lot != 0 {
			p.have[k] -= need[k]
		}
	}
	pipeline.Add(&p.packets, 1)
	pipeline.Add(&p.bytes, uint64(size))
	return true
}

// refund takes back afford for a packet that nobody of the group has sent.
func (w *worker) refund(r *record, size uint32) {
	p := w.purses.At(uint32(r.group))
	m := w.f.meters[r.group].Load()
	for k, n := range [quotas]int64{1, int64(size)} {
		if m.quota[k].lot != 0 {
			p.have[k] += n
		}
	}
	pipeline.Add(&p.packets, ^uint64(0))
	pipeline.Add(&p.bytes, -uint64(size))
}

// newPurses makes those of one worker.
func newPurses() (mem.Table[purse], error) {
	return mem.NewTable[purse](maxGroups, mem.Options{SmallPages: true})
}

// group is the writer's view of a group.
type group struct {
	Group
	index  uint32 // into purses and meters, not 0
	bucket *[quotas]bucket
	sas    int      // of Feature.sas
	before GroupUse // what the purses had counted when the group came
}

func (g *group) meter(number uint64) *meter {
	return &meter{number: number, quota: [quotas]quota{quotaOf(g.Packets, depthPackets), quotaOf(g.Bytes, largestESP)}, bucket: g.bucket}
}

// largestESP is no less than an ESP packet can have.
const largestESP = 1 << 16

// maxRate is the largest quota, in packets or octets per second.
const maxRate = 1e15

func checkGroup(g *Group) (field string, err error) {
	switch {
	case g.Name == "":
		return "Name", fmt.Errorf("a tenant group needs a name")
	case g.Packets > maxRate:
		return "Packets", fmt.Errorf("%d packets per second: at most %d", g.Packets, int64(maxRate))
	case g.Bytes > maxRate:
		return "Bytes", fmt.Errorf("%d octets per second: at most %d", g.Bytes, int64(maxRate))
	}
	return "", nil
}

// groups checks what a change does to groups, and how many SAs they have after it.
func (p *prepared) groups(ch *Change) error {
	f := p.f
	refuse := func(name, field, format string, a ...any) *pipeline.Refusal {
		return &pipeline.Refusal{Feature: "group", Object: name, Field: field, Reason: fmt.Sprintf(format, a...)}
	}
	touched := map[string]bool{}
	gone := map[string]bool{}
	for _, name := range ch.DeleteGroup {
		if g := f.groups[name]; g == nil || touched[name] {
			return refuse(name, "", "there is no such tenant group to delete")
		}
		touched[name], gone[name] = true, true
		p.delGroup = append(p.delGroup, f.groups[name])
	}
	p.group = map[string]*group{}
	for i := range ch.SetGroup {
		c := &ch.SetGroup[i]
		if field, err := checkGroup(c); err != nil {
			return refuse(c.Name, field, "%v", err)
		}
		if p.group[c.Name] != nil || gone[c.Name] {
			return refuse(c.Name, "", "set twice in one change")
		}
		touched[c.Name] = true
		g := &group{Group: *c}
		if old := f.groups[c.Name]; old != nil {
			g.index, g.bucket, g.before = old.index, old.bucket, old.before
		} else {
			h, ok := f.groupSlots.Alloc()
			if !ok {
				r := refuse(c.Name, "", "there are %d tenant groups already", f.groupSlots.InUse())
				r.Full = true
				return r
			}
			p.groupSlots = append(p.groupSlots, h)
			g.index, g.bucket = h, new([quotas]bucket)
		}
		p.group[c.Name] = g
	}
	return p.countSAs(ch, touched, gone)
}

// find is a group as it will be after the change, nil if it will not be there.
func (p *prepared) find(name string, gone map[string]bool) *group {
	if g := p.group[name]; g != nil {
		return g
	}
	if gone[name] {
		return nil
	}
	return p.f.groups[name]
}

// countSAs refuses what would have more SAs in a group than it may have. touched are
// the groups that the change is about.
func (p *prepared) countSAs(ch *Change, touched, gone map[string]bool) error {
	f := p.f
	more := map[string]int{}
	left := map[string]bool{} // SAs that are taken from where they are
	leave := func(name string) {
		if s := f.sas[name]; s != nil && s.TenantGroup != "" && !left[name] {
			left[name] = true
			more[s.TenantGroup]--
		}
	}
	for _, name := range ch.DeleteSA {
		leave(name)
	}
	for i := range ch.SetSA {
		leave(ch.SetSA[i].Name)
	}
	has := func(name string) int {
		n := more[name]
		if g := f.groups[name]; g != nil {
			n += g.sas
		}
		return n
	}
	for i := range ch.SetSA {
		c := &ch.SetSA[i]
		if c.TenantGroup == "" {
			continue
		}
		g := p.find(c.TenantGroup, gone)
		refuse := func(format string, a ...any) *pipeline.Refusal {
			return &pipeline.Refusal{Feature: "sa", Object: c.Name, Field: "TenantGroup", Reason: fmt.Sprintf(format, a...)}
		}
		if g == nil {
			return refuse("there is no tenant group %q", c.TenantGroup)
		}
		if n := has(g.Name); g.MaxSAs != 0 && n >= int(g.MaxSAs) {
			r := refuse("tenant group %q may have %d SAs, and this would be one more", g.Name, g.MaxSAs)
			r.Full = true
			return r
		}
		more[c.TenantGroup]++
	}
	names := make([]string, 0, len(touched))
	for name := range touched {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := has(name)
		r := &pipeline.Refusal{Feature: "group", Object: name, Full: true}
		switch g := p.find(name, gone); {
		case g == nil && n > 0:
			r.Full, r.Reason = false, fmt.Sprintf("%d SAs are in it", n)
		case g != nil && g.MaxSAs != 0 && n > int(g.MaxSAs):
			r.Field, r.Reason = "MaxSAs", fmt.Sprintf("it has %d SAs", n)
		default:
			continue
		}
		return r
	}
	return nil
}

// publishGroups makes the groups of a change live, before its SAs. Those that go are
// taken back by retireGroups.
func (p *prepared) publishGroups() {
	f := p.f
	for name, g := range p.group {
		if old := f.groups[name]; old != nil {
			g.sas = old.sas
		} else {
			g.before = f.used(g.index)
		}
		f.groups[name] = g
		f.metered++
		f.meters[g.index].Store(g.meter(f.metered))
	}
}

// retireGroups takes back groups that no SA names any more. What comes late under an
// old index is charged to whoever has it next.
func (p *prepared) retireGroups() {
	for _, g := range p.delGroup {
		delete(p.f.groups, g.Name)
		p.f.groupSlots.Retire(g.index)
	}
}

// used is what all workers' purses have counted.
func (f *Feature) used(index uint32) (u GroupUse) {
	for _, w := range f.workers[:f.made] {
		p := w.purses.At(index)
		u.Packets += atomic.LoadUint64(&p.packets)
		u.Bytes += atomic.LoadUint64(&p.bytes)
		u.Dropped += atomic.LoadUint64(&p.dropped)
	}
	return u
}

// GroupStates reads tenant groups by name, all for an empty list.
func (f *Feature) GroupStates(names []string) []GroupState {
	var out []GroupState
	each(names, f.groups, func(name string, g *group) {
		u := f.used(g.index)
		u.Packets -= g.before.Packets
		u.Bytes -= g.before.Bytes
		u.Dropped -= g.before.Dropped
		out = append(out, GroupState{Name: name, SAs: g.sas, GroupUse: u})
	})
	return out
}

// regroup notes that an SA has come to its group, or left it.
func (f *Feature) regroup(s *sa, n int) {
	if g := f.groups[s.TenantGroup]; g != nil {
		g.sas += n
	}
}

// giveBack refunds what was spent on a packet whose ICV is wrong.
func (l *lane) giveBack(j *sal.Job, r *record) {
	if r.group != 0 && (j.Op == sal.Open || j.Op == sal.Decap) && j.Status == sal.StatusBadICV {
		l.w.refund(r, uint32(j.Desc.Len()))
	}
}
