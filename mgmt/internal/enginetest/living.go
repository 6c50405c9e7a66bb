package enginetest

import (
	"slices"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
)

// WithoutDevice is a Refuse for a machine that lacks a network device.
func WithoutDevice(name string) func(*fastpath.Change) error {
	return func(c *fastpath.Change) error {
		for _, i := range c.Iface.Set {
			if i.Device == name && i.Driver != "memory" {
				return &fastpath.Refusal{Feature: "iface", Object: i.Name, Field: "Device", Reason: "no such device"}
			}
		}
		return nil
	}
}

// Living is an Answer by what the engine holds: all its interfaces are up.
func Living(e *Engine) func(*fastpath.Query) *fastpath.State {
	return func(q *fastpath.Query) *fastpath.State {
		e.mu.Lock()
		defer e.mu.Unlock()
		st := &fastpath.State{}
		if q.Ifaces != nil {
			for _, c := range e.ifaces {
				if len(q.Ifaces) == 0 || slices.Contains(q.Ifaces, c.Name) {
					st.Ifaces = append(st.Ifaces, iface.State{Name: c.Name, Driver: c.Driver, Device: c.Device, IfIndex: 1, Admin: c.Enabled, Link: true, MTU: c.MTU,
						Counters: iface.Counters{CreatedAt: 1}})
				}
			}
		}
		if q.Process {
			st.Process = &fastpath.Process{PID: 1, StartedAt: 1, Label: e.label}
		}
		return st
	}
}
