package system

import (
	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/mgmt/binding"
)

// Event implements binding.EventSource.
func (b *Binding) Event(e *fastpath.Event) (string, func(binding.Content)) {
	name := map[event.Kind]string{event.EngineLost: "vrouter-sal:engine-lost", event.EngineBack: "vrouter-sal:engine-back"}[e.Kind]
	if name == "" {
		return "", nil
	}
	return name, func(c binding.Content) {
		c.Text("engine", e.Object)
		c.Text("reason", e.Text)
	}
}
