package worker

import (
	"golang.org/x/sys/unix"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// rxQueue is a queue that this worker receives from.
type rxQueue struct {
	q        sal.PortQueue
	mac      uint64
	index    pipeline.IfIndex
	frameMax uint16
	empty    uint32 // polls in a row that found nothing
	fd       int    // in epoll; -1: not
	bell     bool   // whoever sends to it rings w.bell
	spread   bool   // its frames are spread over the workers
}

const (
	// hotPorts is how many queues are polled in each turn however quiet they
	// are. With more, those that were empty for coldAfter turns are polled in
	// one of coldEvery turns only.
	hotPorts  = 64
	coldAfter = 64
	coldEvery = 16
)

// adopt takes over the interfaces of a new snapshot. Its cost follows what
// changed; where ports go or change, that of one pass over those there are.
func (w *Worker) adopt(now *pipeline.Ifaces) {
	gone := false
	now.Changed(w.ifaces, func(i pipeline.IfIndex, was, is *pipeline.Iface) {
		if portOf(was) != nil && !samePort(was, is) {
			w.ctx.SetPort(i, nil) // what was sent is gone already: nothing waits here between turns
			w.touched[i/64] |= 1 << (i % 64)
			gone = true
		}
	})
	if gone {
		w.leave()
	}
	other := false
	now.Changed(w.ifaces, func(i pipeline.IfIndex, was, is *pipeline.Iface) {
		switch {
		case portOf(is) == nil:
		case !samePort(was, is):
			w.join(is)
		case was.MACWord != is.MACWord || was.FrameMax != is.FrameMax:
			w.touched[i/64] |= 1 << (i % 64)
			other = true
		}
	})
	if other {
		for k := range w.ports {
			if r := &w.ports[k]; w.touches(r.index) {
				f := now.At(r.index)
				r.mac, r.frameMax = f.MACWord, f.FrameMax
			}
		}
		clear(w.touched[:])
	}
	w.ifaces = now
}

// touches tells whether an interface is one of w.touched.
func (w *Worker) touches(i pipeline.IfIndex) bool { return w.touched[i/64]>>(i%64)&1 != 0 }

// portOf is an interface's port; nil where there is no interface, or it has none.
func portOf(f *pipeline.Iface) sal.Port {
	if f == nil {
		return nil
	}
	return f.Port
}

// samePort tells whether an interface goes on with the queues that it had.
func samePort(was, is *pipeline.Iface) bool {
	return was != nil && is != nil && was.Port == is.Port && was.Queues == is.Queues && was.Receive == is.Receive
}

// join begins to use an interface's port.
func (w *Worker) join(f *pipeline.Iface) {
	k := w.crew
	w.ctx.SetPort(f.Index, k.Queue(w.id, f))
	if k.Paused || w.id >= k.N {
		return
	}
	for q := w.id; q < f.Queues; q += k.N {
		r := rxQueue{q: f.Port.Queue(q), mac: f.MACWord, index: f.Index, frameMax: f.FrameMax, fd: -1, spread: k.Spreads(f)}
		if x, ok := r.q.(sal.Ringer); ok {
			x.RingAt(&w.bell)
			r.bell = true
			w.waking++
		}
		w.ports = append(w.ports, r)
	}
}

// leave stops using the ports of the interfaces in w.touched.
func (w *Worker) leave() {
	k := 0
	for i := range w.ports {
		r := &w.ports[i]
		if w.touches(r.index) {
			switch {
			case r.bell:
				r.q.(sal.Ringer).RingAt(nil)
				w.waking--
			case r.fd >= 0:
				_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, r.fd, nil)
				w.waking--
			}
			continue
		}
		w.ports[k] = *r
		k++
	}
	clear(w.ports[k:])
	w.ports = w.ports[:k]
	clear(w.touched[:])
}

// polled is how many of the first queues this turn polls for certain.
func (w *Worker) polled() int {
	if len(w.ports) <= hotPorts {
		return len(w.ports)
	}
	return 0
}

// pollCold polls many queues: the busy ones, and a part of the quiet ones.
func (w *Worker) pollCold() (work int) {
	if len(w.ports) <= hotPorts {
		return 0
	}
	w.cold++
	phase := w.cold % coldEvery
	for i := range w.ports {
		if q := &w.ports[i]; q.empty < coldAfter || i%coldEvery == phase {
			work += w.receive(q)
		}
	}
	return work
}

// warm makes the next turn poll every queue.
func (w *Worker) warm() {
	for i := range w.ports {
		w.ports[i].empty = 0
	}
}
