package iface

import (
	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/mgmt/binding"
)

// portStates are the words of vrouter-port for the kinds of events.
var portStates = map[event.Kind]string{event.PortUp: "up", event.PortDown: "down", event.PortLost: "lost"}

// Event implements binding.EventSource.
func (b *Binding) Event(e *fastpath.Event) (string, func(binding.Content)) {
	state, ok := portStates[e.Kind]
	if !ok {
		return "", nil
	}
	return "vrouter-port:port-state", func(c binding.Content) {
		c.Text("interface", e.Object)
		c.Text("state", state)
		c.Text("reason", e.Text)
	}
}
