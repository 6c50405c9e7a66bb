// Package netconf is the NETCONF server (RFC 6241): sessions, and the
// operations on the datastores. It is driven by the schema and knows no
// feature of the router; what a commit does is the business of mgmt/txn.
//
// A message's way: mgmt/netconf/transport brings the stream and says who the
// peer is; mgmt/netconf/frame cuts it into messages; parse takes an rpc apart
// as far as its parameters and sees that it is well-formed to its end;
// dispatch asks access control (access.go) and finds the operation (op_*.go);
// the reply is written before the session's next request is read.
//
// Notifications (RFC 5277) come from mgmt/notify; a session with a subscription
// has a second goroutine, which writes them between the replies.
//
// Not done: subscribed notifications (RFC 8639), NMDA's get-data and edit-data
// (RFC 8526), partial locks (RFC 5717), and the url capability.
package netconf

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/netconf/frame"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// Options of New.
type Options struct {
	Schema  *yang.Schema
	Manager Datastores
	// Access has the access rules (RFC 8341). Nil: New makes one, whose counters
	// are then among the state.
	Access *nacm.Control
	// State is asked at <get>, in this order, after the server's own sources.
	State []binding.StateSource
	// Users and HostKeys are needed by ServeSSH only; without Users, ServeUnix
	// lets in root and the server's own user.
	Users    *users.Store
	HostKeys []ssh.Signer
	Log      *slog.Logger // nil: no log
	Limits   Limits
	// SSH sets limits of the SSH transport; its HostKeys, Users, Log and
	// Handle are set by the server.
	SSH transport.SSH
	// Events has the streams that clients subscribe to, and is told what
	// happens to sessions and datastores (Committed is for the Manager's
	// OnCommit). nil: there are no notifications.
	Events *notify.Hub
}

// Limits of the server. Zero values mean the defaults that stand beside them.
type Limits struct {
	MaxMessage   int           // bytes of a request: 64 MiB
	MaxSessions  int           // sessions of clients that are not on this machine: 64
	HelloTimeout time.Duration // from the transport's login to the client's hello: 30 s
	StateTimeout time.Duration // for all state of one <get>: 10 s
	StopGrace    time.Duration // for operations under way when the server stops: 5 s
}

// DefaultPort is the TCP port of NETCONF over SSH (RFC 6242 section 7).
const DefaultPort = 830

// A Server serves NETCONF sessions. It is safe for concurrent use.
type Server struct {
	schema *yang.Schema
	xpath  *xpath.Engine
	access *nacm.Control
	ds     Datastores
	state  []binding.StateSource
	opt    Options
	log    *slog.Logger
	limits Limits
	caps   []string
	hello  []byte
	start  time.Time

	mu       sync.Mutex
	rpcs     map[*yang.Node]RPC
	sessions map[uint32]*session
	remote   int // sessions that count for MaxSessions
	lastID   uint32

	stats struct {
		counters
		badHellos, sessions, dropped atomic.Uint32
	}
}

// New makes a server. It serves nothing before ServeSSH or ServeUnix.
func New(o Options) (*Server, error) {
	if o.Schema == nil || o.Manager == nil {
		return nil, errors.New("netconf: Schema and Manager are needed")
	}
	if m := o.Schema.Modules["ietf-netconf"]; m == nil || !m.Implemented {
		return nil, errors.New("netconf: the schema does not implement ietf-netconf")
	}
	l := o.Limits
	l.MaxMessage = cmp.Or(l.MaxMessage, 64<<20)
	l.MaxSessions = cmp.Or(l.MaxSessions, 64)
	l.HelloTimeout = cmp.Or(l.HelloTimeout, 30*time.Second)
	l.StateTimeout = cmp.Or(l.StateTimeout, 10*time.Second)
	l.StopGrace = cmp.Or(l.StopGrace, 5*time.Second)
	s := &Server{schema: o.Schema, ds: o.Manager, opt: o, log: o.Log, limits: l, start: time.Now(),
		rpcs: map[*yang.Node]RPC{}, sessions: map[uint32]*session{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.xpath, err = xpath.New(o.Schema); err != nil {
		return nil, err
	}
	if s.access = o.Access; s.access == nil {
		if s.access, err = nacm.New(o.Schema, s.log); err != nil {
			return nil, err
		}
		s.opt.State = append([]binding.StateSource{s.access}, o.State...)
	}
	o.Manager.SetAuthorize(s.authorize)
	s.caps = capabilities(o.Schema, o.Events != nil)
	s.hello = helloText(s.caps)
	s.state = append(s.builtinState(), s.opt.State...)
	return s, nil
}

// Capabilities gives what the server announces in its hello.
func (s *Server) Capabilities() []string { return slices.Clone(s.caps) }

// ServeSSH serves NETCONF over SSH on l until ctx ends, and then returns nil
// once its sessions are gone. It closes l. It may run on several listeners.
func (s *Server) ServeSSH(ctx context.Context, l net.Listener) error {
	t := s.opt.SSH
	t.HostKeys, t.Users, t.Log, t.Handle = s.opt.HostKeys, s.opt.Users, s.log, s.ServeStream
	return t.Serve(ctx, l)
}

// ServeUnix is ServeSSH for a unix socket, where the kernel says who the peer is.
func (s *Server) ServeUnix(ctx context.Context, l net.Listener) error {
	t := transport.Unix{Users: s.opt.Users, Log: s.log, Handle: s.ServeStream}
	return t.Serve(ctx, l)
}

// ServeStream runs one session on a stream whose peer is known, until it ends.
// When ctx ends the operation under way is finished and answered first, for at
// most Limits.StopGrace. It closes the stream.
func (s *Server) ServeStream(ctx context.Context, stream io.ReadWriteCloser, p transport.Peer) {
	c := s.open(stream, p)
	if c == nil {
		stream.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		c.retire(serverStops, other)
		select {
		case <-c.over:
		case <-time.After(s.limits.StopGrace):
			c.cut(serverStops, other)
		}
	})
	c.run()
	stop()
	s.close(c)
}

// open makes a session; nil when there are too many.
func (s *Server) open(stream io.ReadWriteCloser, p transport.Peer) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Clients on this machine do not count, so that an operator can come in
	// and kill sessions when all places are taken.
	if p.Host != "" {
		if s.remote == s.limits.MaxSessions {
			s.log.Warn("netconf: too many sessions", "max", s.limits.MaxSessions, "user", p.User.Name, "host", p.Host)
			return nil
		}
		s.remote++
	}
	for {
		if s.lastID++; s.lastID != 0 && s.sessions[s.lastID] == nil { // 0 is no session
			break
		}
	}
	c := &session{srv: s, id: s.lastID, peer: p, user: userOf(p), stream: stream, since: time.Now(), over: make(chan struct{}),
		r: frame.NewReader(stream, s.limits.MaxMessage), w: frame.NewWriter(stream),
		log: s.log.With("session", s.lastID, "user", p.User.Name)}
	// Not the context of the transport: that one ends as soon as the server
	// stops, and an operation under way has a grace then.
	c.ctx, c.cancel = context.WithCancel(context.Background())
	s.sessions[c.id] = c
	return c
}

// close forgets a session that has ended: what it held is let go first, so
// that who waits for its end finds the locks free (RFC 6241 sections 7.5, 7.8).
func (s *Server) close(c *session) {
	c.cancel()
	c.stream.Close()
	c.unsubscribe()
	s.ds.SessionEnded(c.by())
	s.mu.Lock()
	delete(s.sessions, c.id)
	if c.peer.Host != "" {
		s.remote--
	}
	s.mu.Unlock()
	c.mu.Lock()
	end := c.end
	c.mu.Unlock()
	if end.dropped {
		s.stats.dropped.Add(1)
	}
	c.log.Info("netconf: session over", "reason", end.reason)
	s.tellEnd(c, end)
	close(c.over)
}

// session finds an open session.
func (s *Server) session(id uint32) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// list gives the open sessions in the order of their ids.
func (s *Server) list() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := make([]*session, 0, len(s.sessions))
	for _, c := range s.sessions {
		r = append(r, c)
	}
	slices.SortFunc(r, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return r
}

// idText is how session ids are written.
func idText(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
