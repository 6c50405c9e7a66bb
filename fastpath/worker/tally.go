package worker

import (
	"unsafe"

	"vrouter/fastpath/flow"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
)

// tally is what a burst has to count on counters of its flows. With many flows
// their lines are far away: they are asked for together, and written to after the
// last packet.
type tally struct {
	n       int
	handles [2 * pipeline.Burst]uint32
	lengths [2 * pipeline.Burst]uint16 // of the frames
}

// counterShift makes a handle the number of its line: four counters are one.
const (
	counterShift = 2
	_            = 64>>counterShift - unsafe.Sizeof(pipeline.Counter{})
	_            = unsafe.Sizeof(pipeline.Counter{}) - 64>>counterShift
)

// count counts a frame of l bytes on the counters of its flow, or notes that for
// settleCounts. It stands apart: inlined, it would take the loops their registers.
//
//go:noinline
func (w *Worker) count(m *flow.Meta, l uint16) {
	if h := m.Count[0]; h != 0 {
		w.countOne(h, l)
	}
	if h := m.Count[1]; h != 0 {
		w.countOne(h, l)
	}
}

func (w *Worker) countOne(h uint32, l uint16) {
	t := &w.tally
	if !w.far || t.n >= len(t.handles) {
		w.countNow(h, l)
		return
	}
	t.handles[t.n], t.lengths[t.n] = h, l
	t.n++
}

func (w *Worker) countNow(h uint32, l uint16) {
	x := (*pipeline.Counter)(unsafe.Add(w.counters, uintptr(h)*unsafe.Sizeof(pipeline.Counter{})))
	pipeline.Add(&x.Packets, 1)
	pipeline.Add(&x.Bytes, uint64(l-pipeline.EthLen))
}

// settleCounts counts what count has noted.
func (w *Worker) settleCounts() {
	t := &w.tally
	if t.n == 0 {
		return
	}
	burst.PrefetchShifted(uintptr(w.counters), t.handles[:t.n], counterShift)
	for k, h := range t.handles[:t.n] {
		w.countNow(h, t.lengths[k])
	}
	t.n = 0
}
