package neigh

import (
	"container/list"

	"vrouter/fastpath/drop"
)

// Who scans a connected prefix (RFC 6583) makes entries of addresses that nobody
// has, and each waits seconds for an answer. What keeps that from harming others:
//
//   - Workers limit how many packets of one source, and by one interface, ask for
//     unknown neighbours (pipeline/ask.go), and leave half of their ring for
//     messages of neighbours themselves.
//   - Entries of which nobody has been heard give way to newer ones, those first
//     that have failed, then those that have been asked for longest. They never
//     take the place of a neighbour that was heard, nor of a next hop of a route.
//   - So do the packets that wait.
//   - The solicitations of a link are limited, with something left for next hops
//     and for neighbours to prove that they are still there, and for first
//     questions rather than for repeated ones.
//
// Not held off is who scans from many sources by the interface by which a packet
// to an unknown neighbour comes: such packets then share that interface's limit
// with the scan.

// Limits of the neighbour table.
const (
	MaxNeighbours = 1 << 16
	// maxUnheard bounds the entries of which nobody has been heard.
	maxUnheard = MaxNeighbours / 4
	// maxWait and maxWaitAll bound the packets that wait for one address, and
	// for all. RFC 4861 section 7.2.2 asks for a small queue.
	maxWait    = 16
	maxWaitAll = 1024
)

// wanted is why there is to be an entry, the least reason first.
type wanted uint8

const (
	unheard wanted = iota // a packet is to go there
	heardOf               // it has spoken to us
	named                 // a route or the configuration names it
)

// become sets the state of an entry.
func (f *Feature) become(e *entry, r Reach) {
	if e.reach == Incomplete {
		f.stats.Incomplete--
	}
	if r == Incomplete {
		f.stats.Incomplete++
	}
	e.reach = r
	f.place(e)
}

// place puts an entry where it belongs by its state and by who names it.
func (f *Feature) place(e *entry) {
	var to *list.List
	switch {
	case e.refs > 0 || f.byAdj[e.adj] != e:
	case e.reach == Incomplete:
		to = f.asking
	case e.reach == Failed:
		to = f.failed
	}
	if e.in == to {
		return
	}
	f.unlist(e)
	if to != nil {
		e.el, e.in = to.PushBack(e), to
	}
}

func (f *Feature) unlist(e *entry) {
	if e.in != nil {
		e.in.Remove(e.el)
		e.el, e.in = nil, nil
	}
}

// wantedAgain keeps an entry longer than others.
func (f *Feature) wantedAgain(e *entry) {
	if e.in != nil {
		e.in.MoveToBack(e.el)
	}
}

// room makes room for one entry; false: there is none for this reason.
func (f *Feature) room(why wanted) bool {
	full := f.count >= MaxNeighbours
	if !full && (why != unheard || f.asking.Len()+f.failed.Len() < maxUnheard) {
		return true
	}
	if x := f.failed.Front(); x != nil {
		f.drop(x.Value.(*entry))
		return true
	}
	if x := f.asking.Front(); x != nil {
		f.giveUp(x.Value.(*entry))
		return true
	}
	return !full || f.evict(why)
}

// evict takes one entry out that has been heard of: of a few drawn by the map's
// own disorder the one that has proved least. Only what is configured may take
// the place of what is not just stale.
func (f *Feature) evict(why wanted) bool {
	var worst *entry
	n := 0
	for _, e := range f.byAdj {
		if e.refs == 0 && (e.reach == Stale && why >= heardOf || why == named) && (worst == nil || e.reach == Stale) {
			worst = e
		}
		if n++; n == 64 {
			break
		}
	}
	if worst == nil {
		return false
	}
	f.drop(worst)
	return true
}

// roomToWait lets the packets of the entry that has been asked for longest give
// way to one of e.
func (f *Feature) roomToWait(e *entry) bool {
	x := f.asking.Front()
	if x == nil || x.Value == any(e) {
		return false
	}
	f.giveUp(x.Value.(*entry))
	return true
}

// giveUp takes out an entry that is still being asked for. Of what waits nobody
// is told: it is not known that there is no such neighbour.
func (f *Feature) giveUp(e *entry) {
	for _, w := range e.wait {
		f.env.Control.Drop(w.m.Desc, w.m.In, drop.NeighWaitFull)
	}
	f.waiting -= len(e.wait)
	e.wait = nil
	f.stats.Evicted++
	f.drop(e)
}

// Stats are what the table holds, and what has become of questions since the
// process began.
type Stats struct {
	Entries, Incomplete int
	// Created are questions begun, Evicted those given up before their time to
	// make room, Refused packets that could not wait, Withheld solicitations that
	// would have been too many on their link.
	Created, Evicted, Refused, Withheld uint64
}

// Stats reads them.
func (f *Feature) Stats() Stats {
	s := f.stats
	s.Entries = f.count
	return s
}
