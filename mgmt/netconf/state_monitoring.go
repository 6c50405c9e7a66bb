package netconf

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
)

// monitoring is the state of ietf-netconf-monitoring (RFC 6022 section 2).
type monitoring Server

// State adds /netconf-state.
func (m *monitoring) State(_ context.Context, w binding.Want, edit *data.Edit) error {
	s := (*Server)(m)
	e := &stateEdit{schema: s.schema, want: w, edit: edit, at: s.schema.Root}
	e.in("ietf-netconf-monitoring:netconf-state", func() {
		e.in("capabilities", func() {
			for _, c := range s.caps {
				e.set("capability", c)
			}
		})
		e.in("datastores", func() { s.datastoreState(e) })
		e.in("schemas", func() { s.schemaState(e) })
		e.in("sessions", func() {
			for _, c := range s.list() {
				e.entry("session", []string{idText(c.id)}, func() { c.state(e) })
			}
		})
		e.in("statistics", func() {
			e.set("netconf-start-time", stamp(s.start))
			count(e, "in-bad-hellos", &s.stats.badHellos)
			count(e, "in-sessions", &s.stats.sessions)
			count(e, "dropped-sessions", &s.stats.dropped)
			s.stats.state(e)
		})
	})
	return e.err
}

func (s *Server) datastoreState(e *stateEdit) {
	locks := s.ds.Info().Locks
	for _, ds := range []datastore.Name{datastore.Running, datastore.Candidate, datastore.Startup} {
		e.entry("datastore", []string{ds.String()}, func() {
			for _, l := range locks {
				if l.Datastore != ds {
					continue
				}
				e.in("locks", func() {
					e.in("global-lock", func() {
						e.set("locked-by-session", idText(l.By.ID))
						e.set("locked-time", stamp(l.Since))
					})
				})
			}
		})
	}
}

// schemaState lists what get-schema can give.
func (s *Server) schemaState(e *stateEdit) {
	add := func(name, revision, namespace string) {
		e.entry("schema", []string{name, revision, "ietf-netconf-monitoring:yang"}, func() {
			e.set("namespace", namespace)
			e.set("location", "NETCONF")
		})
	}
	for _, m := range s.schema.Sorted() {
		add(m.Name, m.Revision, m.Namespace)
		for _, sub := range m.Submodules {
			add(sub.Name, sub.Revision, m.Namespace)
		}
	}
}

func (c *session) state(e *stateEdit) {
	e.set("transport", c.peer.Transport)
	e.set("username", c.peer.User.Name)
	if c.peer.Host != "" {
		e.set("source-host", c.peer.Host)
	}
	e.set("login-time", stamp(c.since))
	c.stats.state(e)
}

func (c *counters) state(e *stateEdit) {
	count(e, "in-rpcs", &c.inRPCs)
	count(e, "in-bad-rpcs", &c.inBadRPCs)
	count(e, "out-rpc-errors", &c.outErrors)
	count(e, "out-notifications", &c.outNotifications)
}

func count(e *stateEdit, name string, n *atomic.Uint32) {
	e.set(name, strconv.FormatUint(uint64(n.Load()), 10))
}

// stamp writes a time as yang:date-and-time.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z") }
