package neigh

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// Router Advertisements (RFC 4861 section 6.2): at random times between those
// configured, soon after they begin, when a host asks, and with a lifetime of 0
// when they end. Redirects are not sent.
const (
	initialAdverts  = 3 // RFC 4861 section 10, as those below
	initialInterval = 16 * time.Second
	answerDelay     = 500 * time.Millisecond
	betweenAdverts  = 3 * time.Second
)

// adverts is the sending of advertisements on a link.
type adverts struct {
	next    int64 // when the next one goes out; 0: none do
	last    int64 // when the last one went out
	initial int   // how many go out in quick succession
}

// advertise begins, goes on with or ends the advertisements of an interface as it
// is now.
func (f *Feature) advertise(x *pipeline.Iface, now int64) {
	l := f.ifs[x.Index]
	if l == nil {
		return
	}
	if x.RA == nil || x.Port == nil {
		l.ra = adverts{}
		delete(f.advertising, l)
		return
	}
	f.advertising[l] = struct{}{}
	l.ra.initial = initialAdverts
	l.ra.next = max(now, l.ra.last+int64(betweenAdverts))
}

// tickRA sends what is due.
func (f *Feature) tickRA(now int64) {
	for l := range f.advertising {
		x := f.env.Snap.Load().Ifaces.At(l.index)
		if now < l.ra.next || x == nil || x.RA == nil {
			continue
		}
		if x.Port == nil || !x.Port.Link() || f.env.Tentative.Load().HasAddr(x.Index, x.LinkLocal) {
			l.ra.next = now + int64(time.Second)
			continue
		}
		f.sendRA(x, x.RA, x.Forward[pipeline.V6])
		l.ra.last = now
		least, most := int64(x.RA.Min)*int64(time.Second), int64(x.RA.Max)*int64(time.Second)
		wait := least + rand.Int64N(max(most-least, 0)+1)
		if l.ra.initial > 0 {
			l.ra.initial--
			wait = min(wait, int64(initialInterval))
		}
		l.ra.next = now + max(wait, int64(betweenAdverts))
	}
}

// nextRA is when tickRA has something to do, 0: never.
func (f *Feature) nextRA() (at int64) {
	for l := range f.advertising {
		if at == 0 || l.ra.next < at {
			at = l.ra.next
		}
	}
	return at
}

// sendRA sends one advertisement. Who does not forward is no default router (RFC
// 4861 section 6.2.5).
func (f *Feature) sendRA(x *pipeline.Iface, r *pipeline.RouterAdvert, router bool) {
	d, b, ok := f.env.Control.Frame()
	if !ok {
		return
	}
	ra := pkt.RA{HopLimit: r.HopLimit, Managed: r.Managed, Other: r.Other, Reachable: r.Reachable, Retrans: r.Retrans, MTU: r.LinkMTU}
	if router {
		ra.Lifetime = r.Lifetime
	}
	n := pkt.RouterAdvertisement(b, x.MAC, x.LinkLocal.As16(), &ra, func(i int) (p pkt.RAPrefix, ok bool) {
		if i < len(r.Prefixes) {
			q := &r.Prefixes[i]
			return pkt.RAPrefix{Prefix: q.Prefix, OnLink: q.OnLink, Autonomous: q.Autonomous, Valid: q.Valid, Preferred: q.Preferred}, true
		}
		return p, false
	})
	f.env.Control.Send(d, n, x.Index)
}

// farewell says that the router is none any more.
func (f *Feature) farewell(x *pipeline.Iface) bool {
	if x == nil || x.RA == nil || x.Port == nil || !x.Port.Link() || f.ifs[x.Index] == nil || f.ifs[x.Index].ra.last == 0 {
		return false
	}
	f.sendRA(x, x.RA, false)
	return true
}

// Part implements pipeline.Parter: hosts are told before the interface goes, or
// stops advertising, that they must look for another router.
func (p *prepared) Part() (sent bool) {
	for _, i := range append(slices.Clone(p.gone), p.changed...) {
		was, is := p.f.env.Snap.Load().Ifaces.At(i), p.now.At(i)
		if is == nil || is.RA == nil || is.Port == nil {
			sent = p.f.farewell(was) || sent
		}
	}
	return sent
}

// Farewell says on all links that the router is none any more: the fast path is
// about to stop. It says whether there was anything to say.
func (f *Feature) Farewell() (sent bool) {
	for l := range f.advertising {
		sent = f.farewell(f.env.Snap.Load().Ifaces.At(l.index)) || sent
	}
	return sent
}

// solicited takes a Router Solicitation (RFC 4861 section 6.2.6): all are told,
// after a moment, so that many who ask at once are answered together.
func (f *Feature) solicited(m pipeline.CtlMsg, now int64) {
	c := f.env.Control
	x := f.env.Snap.Load().Ifaces.At(m.In)
	if x == nil || x.RA == nil || f.ifs[x.Index] == nil {
		c.Drop(m.Desc, m.In, drop.NDIgnored)
		return
	}
	frame := c.Bytes(m.Desc)
	o, bad := pkt.Parse(frame)
	s, ok := pkt.ParseRS(frame, &o)
	if bad != pkt.OK || !ok {
		c.Drop(m.Desc, m.In, drop.NDBad)
		return
	}
	if src := netip.AddrFrom16(s.Src); s.HasLink && (src.IsLinkLocalUnicast() || onLink(x, src)) && !own(x, src) {
		f.heard(x, src, s.LinkAddr, true, false, now)
	}
	l := f.ifs[x.Index]
	at := max(now+rand.Int64N(int64(answerDelay)), l.ra.last+int64(betweenAdverts))
	l.ra.next = min(l.ra.next, at)
	c.Free(m.Desc)
}
