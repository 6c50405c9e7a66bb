package netconf

import (
	"net/netip"
	"strconv"
	"time"

	"vrouter/mgmt/datastore"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/txn"
)

// The events of RFC 6470. netconf-capability-change is not among them: the
// capabilities of a server never change.
const baseEvents = "ietf-netconf-notifications:netconf-"

// tellStart tells that a session has begun.
func (s *Server) tellStart(c *session) {
	s.tell(time.Now(), "session-start", func(w *oper.Writer) { c.parms(w) })
}

// tellEnd tells that a session has ended. One that never began, for its hello
// was bad, is told of too.
func (s *Server) tellEnd(c *session, end ending) {
	s.tell(time.Now(), "session-end", func(w *oper.Writer) {
		c.parms(w)
		if end.why == killed {
			w.Uint("killed-by", uint64(c.killer.Load()))
		}
		w.Text("termination-reason", string(end.why))
	})
}

func (s *Server) tell(t time.Time, name string, f func(w *oper.Writer)) {
	if s.opt.Events != nil {
		s.opt.Events.Tell(t, notify.NETCONF, baseEvents+name, f)
	}
}

// parms writes the grouping common-session-parms.
func (c *session) parms(w *oper.Writer) { sessionParms(w, c.by(), c.peer.Host) }

func sessionParms(w *oper.Writer, by txn.Session, host string) {
	w.Text("username", by.User)
	w.Uint("session-id", uint64(by.ID))
	if _, err := netip.ParseAddr(host); err == nil {
		w.Text("source-host", host)
	}
}

// byWhom writes common-session-parms of somebody who acts on the datastores.
func (s *Server) byWhom(w *oper.Writer, by txn.Session) {
	host := ""
	if c := s.session(by.ID); c != nil {
		host = c.peer.Host
	}
	sessionParms(w, by, host)
}

// Committed tells the subscribers of a change of running or startup and of what
// becomes of a confirmed commit. It is for txn.Options.OnCommit, and waits for
// nobody; its cost follows the change.
func (s *Server) Committed(e txn.Event) {
	if s.opt.Events == nil || e.Step == txn.Failed {
		return
	}
	// The end of a confirmed commit's time has no author.
	server := e.By.ID == 0 || e.Step == txn.Timeout
	if edits := notify.Edits(e.Old, e.New); len(edits) > 0 {
		s.tell(e.Time, "config-change", func(w *oper.Writer) {
			w.In("changed-by", func() {
				if server {
					w.Text("server", "")
				} else {
					s.byWhom(w, e.By)
				}
			})
			ds := "running"
			if e.Datastore == datastore.Startup {
				ds = "startup"
			}
			w.Text("datastore", ds)
			for _, x := range edits {
				w.Entry("edit", nil, func() {
					if x.Target != "" { // else it cannot be said
						w.Text("target", x.Target)
					}
					w.Text("operation", x.Operation)
				})
			}
		})
	}
	step, known := map[txn.Step]string{txn.Start: "start", txn.Extend: "extend", txn.Complete: "complete",
		txn.Cancel: "cancel", txn.Timeout: "timeout"}[e.Step]
	if !known {
		return
	}
	s.tell(e.Time, "confirmed-commit", func(w *oper.Writer) {
		if e.Step != txn.Timeout {
			s.byWhom(w, e.By)
		}
		w.Text("confirm-event", step)
		if e.Step == txn.Start || e.Step == txn.Extend {
			w.Text("timeout", strconv.FormatInt(int64(e.Timeout/time.Second), 10))
		}
	})
}
