package mgmt

import (
	"time"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/notify"
)

// event takes an event of the data plane: into the log, and by the binding that
// knows it to the subscribers of notifications. Nobody waits for anybody here:
// the data plane keeps its events until they are asked for, one batch after the
// other, and the hub waits for no subscriber.
func (s *Server) event(e *fastpath.Event) {
	log := s.log.With("event", e.Kind.String(), "object", e.Object)
	if e.Alike > 0 {
		log = log.With("alike", e.Alike)
	}
	log.Info("data plane: " + e.Text)
	for _, b := range s.sources {
		if name, content := b.Event(e); name != "" {
			s.events.Tell(time.Unix(0, e.Time), notify.DataPlane, name, func(w *oper.Writer) { content(w) })
			return
		}
	}
}

// sources are the bindings that make notifications of events.
func sources(l []binding.Binding) (found []binding.EventSource) {
	for _, b := range l {
		if x, ok := b.(binding.EventSource); ok {
			found = append(found, x)
		}
	}
	return found
}
