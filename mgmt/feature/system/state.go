package system

import (
	"context"
	"math"
	"strconv"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
)

var (
	// severities are the words of vrouter-fastpath for those of the fast path.
	severities = map[string]string{"normal": "info", "config": "warning", "resource": "warning", "fault": "error", "attack?": "attack"}
	// kinds are the words of vrouter-sal for those of the SAL.
	kinds = map[string]string{"software": "software", "look-aside": "look-aside", "inline": "full"}
)

// State adds what the data plane tells of itself. While it is not there only
// the number of restarts is.
func (b *Binding) State(ctx context.Context, want binding.Want, e *data.Edit) error {
	w := oper.New(b.schema, want, e)
	q := fastpath.Query{Process: want.Subtree(b.sal)}
	for _, n := range b.top.Data {
		if n.Name == "drops" {
			q.Drops = want.Subtree(n)
		} else {
			q.Process = q.Process || oper.AnyState(want, n)
		}
	}
	st := &fastpath.State{}
	if q.Drops || q.Process {
		var err error
		if st, err = b.state.State(ctx, &q); err != nil {
			return err
		}
	}
	w.In("vrouter-fastpath:fastpath", func() {
		w.In("process", func() {
			if b.restarts != nil {
				w.Counter32("restarts", uint64(b.restarts()))
			}
			if st.Process != nil {
				process(w, st.Process)
			}
		})
		if p := st.Process; p != nil {
			rest(w, p)
		}
		w.In("drops", func() {
			for i := range st.Drops {
				drop(w, &st.Drops[i])
			}
		})
	})
	w.In("vrouter-sal:sal", func() {
		if st.Process != nil {
			for i := range st.Process.Engines {
				engine(w, &st.Process.Engines[i])
			}
		}
	})
	return w.Err()
}

func process(w *oper.Writer, p *fastpath.Process) {
	w.Uint("pid", uint64(p.PID))
	w.Time("start-time", p.StartedAt)
	if _, err := strconv.ParseUint(p.Label, 10, 64); err == nil {
		w.Text("revision", p.Label)
	}
}

func rest(w *oper.Writer, p *fastpath.Process) {
	w.In("worker", func() {
		w.Uint("oper-count", uint64(len(p.Workers)))
		w.Uint("changes", p.Changes)
	})
	for i := range p.Workers {
		x := &p.Workers[i]
		w.Entry("workers", []string{strconv.Itoa(x.ID)}, func() {
			if x.CPU >= 0 {
				w.Uint("cpu", uint64(x.CPU))
			}
			w.Uint("packets", x.Packets)
			w.Uint("bursts", x.Bursts)
			w.Uint("turns", x.Turns)
			w.Uint("sleeps", x.Idles)
			if x.RunsOn >= 0 {
				w.Uint("runs-on", uint64(x.RunsOn))
			}
			w.Uint("load", uint64(x.Load))
			w.Uint("busy-time", x.Busy)
			w.Gauge("flows", uint64(max(0, x.Flows)), math.MaxUint32)
			w.Uint("given", x.Given)
			w.Uint("taken", x.Taken)
			w.Uint("sent-by-others", x.Sent)
			for _, q := range x.Queues {
				w.Entry("queue", []string{q.Iface, strconv.Itoa(q.Queue)}, func() { w.Bool("spread", q.Spread) })
			}
		})
	}
	gauge := func(name string, n int) { w.Gauge(name, uint64(max(0, n)), math.MaxUint32) }
	w.In("buffers", func() {
		n := &p.Buffers
		gauge("total", n.Total)
		gauge("free", n.Free)
		gauge("in-use", n.Ports+n.Waiting+n.InFlight)
		gauge("cached", n.Cached)
		gauge("ports", n.Ports)
		gauge("waiting", n.Waiting)
		gauge("in-flight", n.InFlight)
		w.In("large", func() {
			gauge("total", n.Large.Total)
			gauge("free", n.Large.Free)
			gauge("in-use", n.Large.Total-n.Large.Free-n.Large.Cached)
			gauge("cached", n.Large.Cached)
		})
	})
	w.In("flow-cache", func() {
		n := &p.Flows
		gauge("size", n.Size)
		gauge("entries", n.Used)
		w.Uint("hits", n.Hits)
		w.Uint("misses", n.Misses)
	})
	w.In("neighbours", func() {
		n := &p.Neigh
		gauge("entries", n.Entries)
		gauge("incomplete", n.Incomplete)
		w.Uint("created", n.Created)
		w.Uint("evicted", n.Evicted)
		w.Uint("refused", n.Refused)
		w.Uint("withheld", n.Withheld)
	})
	w.In("events", func() {
		n := &p.Events
		w.Uint("last", n.Last)
		w.Uint("taken", n.Taken)
		w.Uint("lost", n.Lost)
		w.Uint("limited", n.Limited)
	})
}

func drop(w *oper.Writer, d *fastpath.Drop) {
	w.Entry("drop", []string{d.Reason}, func() {
		if s, ok := severities[d.Severity]; ok {
			w.Text("severity", s)
		}
		w.Text("description", d.Description)
		w.Uint("packets", d.Packets)
		for _, i := range d.Ifaces {
			w.Entry("interface", []string{i.Iface}, func() { w.Uint("packets", i.Packets) })
		}
	})
}

func engine(w *oper.Writer, x *fastpath.EngineInfo) {
	w.Entry("engine", []string{x.Name}, func() {
		if k, ok := kinds[x.Kind]; ok {
			w.Text("kind", k)
		}
		w.Text("driver", x.Driver)
		w.Text("isa", x.ISA)
		if x.NUMANode >= 0 {
			w.Uint("numa-node", uint64(x.NUMANode))
		}
		w.Bool("ready", x.Ready)
		w.Gauge("queues", uint64(max(0, x.Queues)), math.MaxUint32)
		if x.QueueDepth > 0 {
			w.Gauge("queue-depth", uint64(x.QueueDepth), math.MaxUint32)
		}
		w.Bool("extended-sequence-numbers", x.ESN)
		for _, m := range x.Modes {
			if m == "crypto" && x.Kind == "software" {
				m = "software" // crypto on the worker's own core
			}
			w.Text("mode", m)
		}
		for _, a := range x.Algorithms {
			w.Text("algorithm", a)
		}
		if x.MaxSAs > 0 {
			w.Gauge("max-sas", uint64(x.MaxSAs), math.MaxUint32)
		}
		w.Gauge("sas", uint64(max(0, x.SAs)), math.MaxUint32)
		if x.WindowMax > 0 {
			w.Gauge("window-max", uint64(x.WindowMax), math.MaxUint32)
		}
		w.Uint("errors", x.Errors)
		w.In("load", func() {
			w.Uint("packets", x.Jobs)
			w.Gauge("in-flight", x.InFlight, math.MaxUint32)
			w.Uint("queue-full", x.Full)
		})
		w.In("health", func() {
			w.Bool("drained", x.Drained)
			w.Bool("failed", x.Failed)
			w.Uint("losses", x.Losses)
			w.Uint("watchdog-trips", x.Trips)
			if x.FailedAt != 0 {
				w.Text("last-failure", x.LastFailure)
				w.Time("last-failure-at", x.FailedAt)
			}
		})
	})
}
