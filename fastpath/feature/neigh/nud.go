package neigh

import (
	"math/rand/v2"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// The states of an entry are those of RFC 4861 section 7.3, for ARP as well:
//
//	Incomplete ─answer→ Reachable ─30 s→ Stale ─used→ Delay ─5 s→ Probe ─answer→ Reachable
//	     └─3 × 1 s in vain→ Failed ←─3 × 1 s in vain─────────────────┘
//
// A packet to a failed entry begins anew. Stale costs the packet loop nothing:
// its adjacency is closed (MTU 0), so the first packet takes the slow path,
// opens it and reports the use.
const (
	reachableFor  = 30 * time.Second // RFC 4861 section 10, times 0.5 to 1.5
	retransmit    = time.Second
	delayFirst    = 5 * time.Second
	maxProbes     = 3
	staleFor      = 10 * time.Minute // an entry that nothing names is then removed
	failedFor     = 20 * time.Second
	solicitRate   = 1000 // a second and interface
	solicitBucket = 256
	// What must be left in the bucket, so that a scan of a connected prefix does
	// not keep others from being asked for.
	leftForFirst = 32  // for next hops of routes, and for neighbours to prove themselves
	leftForAgain = 128 // for addresses that are asked for the first time
)

// Tick looks at entries whose time has come.
func (f *Feature) Tick(now int64) {
	f.tickDAD(now)
	f.tickRA(now)
	for len(f.due) > 0 && f.due[0].at <= now {
		e := f.due[0]
		switch e.reach {
		case Incomplete, Probe:
			if e.probes < maxProbes {
				f.solicit(e, now)
				break
			}
			f.fail(e)
			f.schedule(e, now+int64(failedFor))
		case Delay:
			f.become(e, Probe)
			e.probes = 0
			f.solicit(e, now)
		case Reachable:
			f.stale(e, now)
		default: // Stale, Failed
			if e.refs == 0 {
				f.drop(e)
			} else {
				f.schedule(e, 0)
			}
		}
	}
}

// Next is when Tick has something to do, 0: never.
func (f *Feature) Next() (at int64) {
	if len(f.due) > 0 {
		at = f.due[0].at
	}
	for _, t := range [2]int64{f.nextDAD(), f.nextRA()} {
		if t != 0 && (at == 0 || t < at) {
			at = t
		}
	}
	return at
}

// solicit asks for an entry's address: everybody while it is unknown, the
// neighbour itself while it is to prove that it is still there.
func (f *Feature) solicit(e *entry, now int64) {
	e.probes++
	f.schedule(e, now+int64(retransmit))
	x := f.env.Snap.Load().Ifaces.At(e.link.index)
	if x == nil || x.Port == nil {
		return
	}
	left := 0
	if e.refs == 0 && e.reach == Incomplete {
		if left = leftForFirst; e.probes > 1 {
			left = leftForAgain
		}
	}
	if !e.link.take(now, left) {
		f.stats.Withheld++
		return
	}
	d, b, ok := f.env.Control.Frame()
	if !ok {
		return
	}
	var to *pkt.MAC
	if e.reach == Probe {
		m := pkt.MAC(e.mac)
		to = &m
	}
	n := 0
	if e.addr.Is4() {
		dst := pkt.Broadcast
		if to != nil {
			dst = *to
		}
		if src := source4(x, e.addr); src.IsValid() {
			n = pkt.ARPRequest(b, dst, x.MAC, src.As4(), e.addr.As4())
		}
	} else if src := f.source6(x, e.addr); src.IsValid() {
		n = pkt.NeighborSolicitation(b, to, x.MAC, src.As16(), e.addr.As16())
	}
	f.env.Control.Send(d, n, x.Index)
}

// take takes a token of the link's bucket, if it leaves as many.
func (l *link) take(now int64, left int) bool {
	l.tokens = min(solicitBucket, l.tokens+float64(now-l.filled)*solicitRate/1e9)
	l.filled = now
	if l.tokens < float64(1+left) {
		return false
	}
	l.tokens--
	return true
}

// begin starts to resolve an entry.
func (f *Feature) begin(e *entry, now int64) {
	if e.reach == Incomplete {
		return
	}
	f.become(e, Incomplete)
	f.stats.Created++
	e.probes = 0
	f.solicit(e, now)
}

// learn sets an entry's address.
func (f *Feature) learn(e *entry, mac [6]byte) {
	if e.mac != mac {
		e.mac = mac
		f.env.Adj.SetMAC(e.adj, mac)
	}
}

// confirm: the neighbour has proved that it is there.
func (f *Feature) confirm(e *entry, mac [6]byte, now int64) {
	f.learn(e, mac)
	f.become(e, Reachable)
	e.confirmed = now
	f.env.Adj.Open(e.adj)
	f.schedule(e, now+int64(reachableFor)/2+rand.Int64N(int64(reachableFor)))
	if e.static {
		f.schedule(e, 0)
	}
	f.release(e)
}

// stale: the address is known, but not that somebody is there.
func (f *Feature) stale(e *entry, now int64) {
	f.become(e, Stale)
	f.env.Adj.SetMTU(e.adj, 0)
	f.schedule(e, now+int64(staleFor))
	f.release(e)
}

// forget: nothing is known any more.
func (f *Feature) forget(e *entry) {
	f.fail(e)
	f.schedule(e, 0)
}

// fail closes an entry: what waits is told so.
func (f *Feature) fail(e *entry) {
	f.become(e, Failed)
	f.env.Adj.SetMTU(e.adj, 0)
	f.learn(e, [6]byte{})
	for _, w := range e.wait {
		f.env.Control.Reject(w.worker, w.m, pipeline.RejectNeighbour)
	}
	f.waiting -= len(e.wait)
	e.wait = nil
}

// release sends what waits.
func (f *Feature) release(e *entry) {
	for _, w := range e.wait {
		f.env.Control.Forward(w.worker, w.m, e.adj)
	}
	f.waiting -= len(e.wait)
	e.wait = nil
}

// used: a worker has sent to a stale neighbour.
func (f *Feature) used(e *entry, now int64) {
	switch e.reach {
	case Stale:
		f.become(e, Delay)
		f.schedule(e, now+int64(delayFirst))
	case Failed, Incomplete: // given up at the same moment
		f.env.Adj.SetMTU(e.adj, 0)
	}
}

// queue lets a packet wait for an entry and begins to resolve it if need be.
func (f *Feature) queue(worker int, e *entry, m pipeline.CtlMsg, now int64) {
	c := f.env.Control
	switch {
	case e.static || e.reach == Reachable || e.reach == Delay || e.reach == Probe || e.reach == Stale:
		c.Forward(worker, m, e.adj)
	case len(e.wait) >= maxWait || f.waiting >= maxWaitAll && !f.roomToWait(e):
		f.stats.Refused++
		c.Drop(m.Desc, m.In, drop.NeighWaitFull)
	default:
		f.begin(e, now)
		f.wantedAgain(e)
		e.wait = append(e.wait, waiter{worker, m})
		f.waiting++
	}
}
