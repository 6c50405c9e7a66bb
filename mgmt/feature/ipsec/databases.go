package ipsec

import (
	"net/netip"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/internal/overlay"
	"vrouter/pkg/sal"
)

// policy is what SAs must know of an SPD entry with a reqid. It is never changed.
type policy struct {
	dir           sal.Direction
	reqid         uint64
	mode          ipsec.Mode
	local, remote netip.Addr   // tunnel mode
	near, far     netip.Prefix // the sides of its traffic selector
	// What the entry says about its SAs; nil and empty where it says nothing.
	esn        *bool
	window     *uint32
	algorithms []algorithm
	integrity  []sal.Integrity
}

// algorithm is one that an SPD entry allows.
type algorithm struct {
	number sal.Algorithm
	bits   int
}

// sa is what policies must know of an SAD entry. It is never changed.
type sa struct {
	dir           sal.Direction
	derived       bool // dir follows from the SPD
	reqid         uint64
	mode          ipsec.Mode
	local, remote netip.Addr
	esn           bool
	window        uint32
	algorithm     algorithm
	integrity     sal.Integrity
}

// directions counts the SPD entries with a reqid.
type directions [2]int

// only gives the one direction that they have.
func (d directions) only() (dir sal.Direction, ok bool) {
	switch {
	case d[sal.Outbound] > 0 && d[sal.Inbound] == 0:
		return sal.Outbound, true
	case d[sal.Inbound] > 0 && d[sal.Outbound] == 0:
		return sal.Inbound, true
	}
	return 0, false
}

// databases is what is kept of the SPD and the SAD between commits, so that a
// change finds what it concerns on the other side.
type databases struct {
	policies map[string]*policy
	sas      map[string]*sa
	dirs     map[uint64]directions
	// byReqid are the names of SPD entries, users those of SAD entries.
	byReqid, users map[uint64]map[string]struct{}
}

func newDatabases() *databases {
	return &databases{map[string]*policy{}, map[string]*sa{}, map[uint64]directions{},
		map[uint64]map[string]struct{}{}, map[uint64]map[string]struct{}{}}
}

// change is the databases with what a commit does to them on top.
type change struct {
	policies overlay.Table[string, *policy]
	sas      overlay.Table[string, *sa]
	dirs     overlay.Table[uint64, directions]
	byReqid  overlay.Sets[uint64, string]
	users    overlay.Sets[uint64, string]
	// was is the directions of the reqids that the commit touches, as they were.
	was map[uint64]directions
}

func begin(d *databases, fresh bool) *change {
	return &change{
		policies: overlay.NewTable(d.policies, fresh, 0), sas: overlay.NewTable(d.sas, fresh, 0), dirs: overlay.NewTable(d.dirs, fresh, 0),
		byReqid: overlay.NewSets(d.byReqid, fresh), users: overlay.NewSets(d.users, fresh), was: map[uint64]directions{},
	}
}

func (c *change) apply() {
	c.policies.Apply()
	c.sas.Apply()
	c.dirs.Apply()
	c.byReqid.Apply()
	c.users.Apply()
}

// setPolicy replaces what is known of an SPD entry; nil: it has no reqid, or is
// not there.
func (c *change) setPolicy(name string, p *policy) {
	if old, ok := c.policies.Get(name); ok {
		c.count(old, -1)
		c.byReqid.Change(old.reqid, name, false)
		c.policies.Delete(name)
	}
	if p != nil {
		c.count(p, 1)
		c.byReqid.Change(p.reqid, name, true)
		c.policies.Put(name, p)
	}
}

func (c *change) count(p *policy, n int) {
	d, _ := c.dirs.Get(p.reqid)
	if _, seen := c.was[p.reqid]; !seen {
		c.was[p.reqid] = d
	}
	if d[p.dir] += n; d == (directions{}) {
		c.dirs.Delete(p.reqid)
	} else {
		c.dirs.Put(p.reqid, d)
	}
}

// setSA replaces what is known of an SAD entry; nil: it is not there.
func (c *change) setSA(name string, s *sa) {
	if old, ok := c.sas.Get(name); ok {
		c.users.Change(old.reqid, name, false)
		c.sas.Delete(name)
	}
	if s != nil {
		c.users.Change(s.reqid, name, true)
		c.sas.Put(name, s)
	}
}

// turned names the SAs whose direction follows from SPD entries that the
// commit has changed in such a way that it may be another one.
func (c *change) turned() (names []string) {
	for reqid, was := range c.was {
		is, _ := c.dirs.Get(reqid)
		a, okA := was.only()
		b, okB := is.only()
		if a == b && okA == okB {
			continue
		}
		for _, name := range c.users.Members(reqid) {
			if s, _ := c.sas.Get(name); s.derived {
				names = append(names, name)
			}
		}
	}
	return names
}
