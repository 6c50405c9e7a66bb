package neigh

import (
	"net/netip"
	"time"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// Duplicate address detection for own IPv6 addresses (RFC 4862 section 5.4). An
// address that is new on an interface is tentative: it is asked for as often as
// configured, a second apart, and when nobody claims it, it is used. While it is
// tentative, and for ever once somebody has claimed it, no packet is delivered to
// it, nothing is sent from it, and nobody is told its link-layer address.
const probeEvery = time.Second // RetransTimer, RFC 4861 section 10

// check is an address that is being checked, or was found to be a duplicate.
type check struct {
	link      *link
	addr      netip.Addr
	left      int   // solicitations to be sent yet
	at        int64 // when to go on
	duplicate bool
}

// own6 are the IPv6 addresses of an interface, the link-local one included.
func own6(x *pipeline.Iface) (l []netip.Addr) {
	if x == nil || !x.Enabled[pipeline.V6] {
		return nil
	}
	if x.LinkLocal.IsValid() {
		l = append(l, x.LinkLocal)
	}
	for _, p := range x.Addrs {
		if p.Addr().Is6() {
			l = append(l, p.Addr())
		}
	}
	return l
}

// checkNew makes the addresses of an interface that were not there tentative, and
// forgets checks of those that are gone. It runs before the interface is live;
// settleChecks follows.
func (f *Feature) checkNew(was, is *pipeline.Iface, i pipeline.IfIndex, now int64) {
	old, l := own6(was), f.ifs[i]
	var fresh []netip.Addr
	if is != nil {
		fresh = own6(is)
	}
	for _, a := range old {
		if !contains(fresh, a) {
			f.forgetCheck(l, a)
		}
	}
	if is == nil || is.DAD == 0 || l == nil {
		for _, a := range fresh {
			f.forgetCheck(l, a)
		}
		return
	}
	for _, a := range fresh {
		if !contains(old, a) && f.checks[checkKey{l, a}] == nil {
			c := &check{link: l, addr: a, left: int(is.DAD), at: now}
			f.checks[checkKey{l, a}] = c
			f.probes = append(f.probes, c)
			f.checksMoved = true
		}
	}
}

type checkKey struct {
	l *link
	a netip.Addr
}

func contains(l []netip.Addr, a netip.Addr) bool {
	for _, b := range l {
		if a == b {
			return true
		}
	}
	return false
}

func (f *Feature) forgetCheck(l *link, a netip.Addr) {
	if f.checks[checkKey{l, a}] != nil {
		delete(f.checks, checkKey{l, a})
		f.checksMoved = true
	}
}

// settleChecks shows workers which addresses must not be used.
func (f *Feature) settleChecks() {
	if !f.checksMoved {
		return
	}
	f.checksMoved = false
	t := &pipeline.Tentative{}
	for k, c := range f.checks {
		t.Add(k.l.index, k.a, c.duplicate)
	}
	f.env.Tentative.Store(t.Sort())
}

// maxProbesATick bounds the solicitations of one step, so that the rings to the
// workers take them.
const maxProbesATick = 256

// tickDAD goes on with checks whose time has come. They are in order of time,
// since all wait equally long.
func (f *Feature) tickDAD(now int64) {
	n := 0
	for len(f.probes) > 0 && f.probes[0].at <= now && n < maxProbesATick {
		c := f.probes[0]
		f.probes = f.probes[1:]
		if f.checks[checkKey{c.link, c.addr}] != c || c.duplicate {
			continue // gone meanwhile
		}
		n++
		x := f.env.Snap.Load().Ifaces.At(c.link.index)
		switch {
		case x == nil || x.Port == nil || !x.Port.Link(): // nobody could answer
		case c.left > 0:
			c.left--
			if d, b, ok := f.env.Control.Frame(); ok {
				f.env.Control.Send(d, pkt.NeighborSolicitation(b, nil, x.MAC, [16]byte{}, c.addr.As16()), x.Index)
			}
		default:
			f.forgetCheck(c.link, c.addr)
			f.announceOne(x, c.addr)
			continue
		}
		c.at = now + int64(probeEvery)
		f.probes = append(f.probes, c)
	}
	f.settleChecks()
}

// nextDAD is when tickDAD has something to do, 0: never.
func (f *Feature) nextDAD() int64 {
	if len(f.probes) == 0 {
		return 0
	}
	return f.probes[0].at
}

// tentative tells whether an own address must not be used (yet).
func (f *Feature) tentative(x *pipeline.Iface, a netip.Addr) bool {
	return f.checks[checkKey{f.ifs[x.Index], a}] != nil
}

// claimed: somebody else has, or wants, an address of ours that is tentative.
func (f *Feature) claimed(x *pipeline.Iface, a netip.Addr, mac pkt.MAC) {
	c := f.checks[checkKey{f.ifs[x.Index], a}]
	if c.duplicate {
		return
	}
	c.duplicate = true
	f.checksMoved = true
	f.settleChecks()
	f.env.Log.Error("address is not used: somebody else on the link has it", "interface", x.Name, "address", a.String(), "mac", mac.String())
}

// recheck begins the checks of an interface anew, when its link came back.
func (f *Feature) recheck(x *pipeline.Iface, now int64) {
	for _, a := range own6(x) {
		k := checkKey{f.ifs[x.Index], a}
		if c := f.checks[k]; c != nil && c.duplicate {
			n := &check{link: c.link, addr: a, left: int(x.DAD), at: now}
			f.checks[k] = n
			f.probes = append(f.probes, n)
			f.checksMoved = true
		}
	}
	f.settleChecks()
}
