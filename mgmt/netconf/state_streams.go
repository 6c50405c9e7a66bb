package netconf

import (
	"context"
	"strconv"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
)

// streams is the state of nc-notifications (RFC 5277 section 3.2.5) with what
// vrouter-notify adds.
type streams Server

// State adds /netconf/streams.
func (x *streams) State(_ context.Context, w binding.Want, edit *data.Edit) error {
	s := (*Server)(x)
	e := &stateEdit{schema: s.schema, want: w, edit: edit, at: s.schema.Root}
	e.in("nc-notifications:netconf", func() {
		e.in("streams", func() {
			for _, i := range s.opt.Events.Streams() {
				e.entry("stream", []string{i.Name}, func() {
					e.set("description", i.Description)
					e.set("replaySupport", "true")
					e.set("replayLogCreationTime", stamp(i.Created))
					if !i.Aged.IsZero() {
						e.set("replayLogAgedTime", stamp(i.Aged))
					}
					e.set("vrouter-notify:events", strconv.FormatUint(i.Events, 10))
					e.set("vrouter-notify:logged", strconv.Itoa(i.Logged))
					e.set("vrouter-notify:subscriptions", strconv.Itoa(i.Subscriptions))
					e.set("vrouter-notify:cut-off", strconv.FormatUint(i.CutOff, 10))
				})
			}
		})
	})
	return e.err
}
