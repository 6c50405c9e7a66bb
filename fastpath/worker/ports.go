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
// changed.
func (w *Worker) adopt(now *pipeline.Ifaces) {
	now.Changed(w.ifaces, func(i pipeline.IfIndex, was, is *pipeline.Iface) {
		var had, has sal.Port
		if was != nil {
			had = was.Port
		}
		if is != nil {
			has = is.Port
		}
		if had != nil && had == has && was.Queues == is.Queues {
			for k := range w.ports {
				if w.ports[k].index == i {
					w.ports[k].mac, w.ports[k].frameMax = is.MACWord, is.FrameMax
				}
			}
			return
		}
		if had != nil {
			w.leave(i)
		}
		if has != nil {
			w.join(is)
		}
	})
	w.ifaces = now
}

// join begins to use an interface's port.
func (w *Worker) join(f *pipeline.Iface) {
	if w.id < f.Queues {
		w.ctx.SetPort(f.Index, f.Port.Queue(w.id))
	}
	for q := w.id; q < f.Queues; q += w.env.Workers {
		r := rxQueue{q: f.Port.Queue(q), mac: f.MACWord, index: f.Index, frameMax: f.FrameMax, fd: -1}
		if x, ok := r.q.(sal.Ringer); ok {
			x.RingAt(&w.bell)
			r.bell = true
			w.waking++
		}
		w.ports = append(w.ports, r)
	}
}

// leave stops using it. What was sent is gone already: nothing waits here
// between turns.
func (w *Worker) leave(i pipeline.IfIndex) {
	w.ctx.SetPort(i, nil)
	k := 0
	for _, r := range w.ports {
		if r.index == i {
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
		w.ports[k] = r
		k++
	}
	clear(w.ports[k:])
	w.ports = w.ports[:k]
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
