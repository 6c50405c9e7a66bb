package system

import (
	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/mgmt/binding"
)

// Event implements binding.EventSource.
func (b *Binding) Event(e *fastpath.Event) (string, func(binding.Content)) {
	if e.Kind != event.EngineLost {
		return "", nil
	}
	return "vrouter-sal:engine-lost", func(c binding.Content) {
		c.Text("engine", e.Object)
		c.Text("reason", e.Text)
	}
}
