package iface

import (
	"slices"

	"vrouter/fastpath/event"
	"vrouter/pkg/sal"
)

// Devices come and go: a container ends, a module is loaded again. A port that
// has lost its device is taken out of the snapshot, closed when no worker can
// be using it, and opened again as soon as there is such a device.

// lose takes an interface's port away when its device is gone. Not while a
// change is prepared: that may have the port in its snapshot.
func (f *Feature) lose(e *entry, now int64) bool {
	l, ok := e.port.(sal.Loser)
	if !ok || f.pending > 0 || !l.Lost() {
		return false
	}
	f.env.Log.Warn("the port's device is gone", "interface", e.cfg.Name, "device", device(&e.cfg))
	f.tell(e, event.PortLost, "the device is gone")
	e.keepStats(e.port)
	f.lost = append(f.lost, e.port)
	e.port, e.link, e.changed = nil, false, now
	return true
}

// closeLost closes the ports that were lost at an earlier Tick: the snapshot
// without them has been published since.
func (f *Feature) closeLost() {
	for _, p := range f.lost {
		f.env.Grace.Retire(func() {
			if i := slices.Index(f.lost, p); i >= 0 {
				f.lost = slices.Delete(f.lost, i, i+1)
				// Not down first: the name may be another device's by now.
				if err := p.Close(); err != nil {
					f.env.Log.Error("port could not be closed", "port", p.Info().Name, "error", err)
				}
			}
		})
	}
}

// done says that a change is not pending any more.
func (p *prepared) done() {
	if p.ready {
		p.ready = false
		p.f.pending--
	}
}

// keepStats adds what a port counted before it goes.
func (e *entry) keepStats(p sal.Port) {
	if p != nil {
		e.past = sum(e.past, p.Stats())
	}
}

// stats are those of all the ports that the interface has had.
func (e *entry) stats() sal.PortStats {
	if e.port == nil {
		return e.past
	}
	return sum(e.past, e.port.Stats())
}

func sum(a, b sal.PortStats) sal.PortStats {
	return sal.PortStats{RxDropped: a.RxDropped + b.RxDropped, TxDropped: a.TxDropped + b.TxDropped, RxErrors: a.RxErrors + b.RxErrors,
		RxUncut: a.RxUncut + b.RxUncut, TxErrors: a.TxErrors + b.TxErrors}
}
