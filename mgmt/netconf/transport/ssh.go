package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/netconf/users"
)

// An SSH serves NETCONF over SSH: a client opens a session channel and asks
// for the subsystem "netconf" (RFC 6242 section 3). Zero values of the limits
// mean the defaults that stand beside them.
type SSH struct {
	HostKeys []ssh.Signer
	Users    *users.Store
	Log      *slog.Logger // nil: no log
	Handle   Handler

	LoginGrace   time.Duration // from TCP connection to login, and from channel to subsystem: 30 s
	MaxAuthTries int           // failed logins of one connection: 6
	MaxStartups  int           // connections that are not logged in yet: 32; more are closed at once
	MaxChannels  int           // NETCONF sessions of one connection: 8
	KeepAlive    time.Duration // between keep-alive requests: 30 s; below 0: none
	KeepMisses   int           // requests without an answer until the connection is dead: 3
}

// Linger is how long a connection stays without a session, for the client to
// open the next one or to close it.
const linger = 5 * time.Second

// goodbye is how long a connection stays after the server has stopped, for the
// client to read its last replies: to close at once may throw them away.
const goodbye = 300 * time.Millisecond

func (s *SSH) defaults() *SSH {
	d := *s
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.LoginGrace == 0 {
		d.LoginGrace = 30 * time.Second
	}
	if d.MaxAuthTries == 0 {
		d.MaxAuthTries = 6
	}
	if d.MaxStartups == 0 {
		d.MaxStartups = 32
	}
	if d.MaxChannels == 0 {
		d.MaxChannels = 8
	}
	if d.KeepAlive == 0 {
		d.KeepAlive = 30 * time.Second
	}
	if d.KeepMisses == 0 {
		d.KeepMisses = 3
	}
	return &d
}

// Serve serves the clients of l until ctx ends, and then returns nil once all
// are gone. It closes l. It may run on several listeners at once.
func (s *SSH) Serve(ctx context.Context, l net.Listener) error {
	if len(s.HostKeys) == 0 || s.Users == nil || s.Handle == nil {
		return errors.New("transport.SSH: needs HostKeys, Users and Handle")
	}
	s = s.defaults()
	var startups atomic.Int32
	return accept(ctx, l, s.Log, func(ctx context.Context, c net.Conn) {
		defer c.Close()
		if int(startups.Add(1)) > s.MaxStartups {
			startups.Add(-1)
			s.Log.Warn("ssh: too many connections that are not logged in", "from", c.RemoteAddr().String(), "max", s.MaxStartups)
			return
		}
		conn := s.login(ctx, c)
		startups.Add(-1)
		if conn != nil {
			conn.serve(ctx)
		}
	})
}

// whom is the key of the user in ssh.Permissions.ExtraData.
type whom struct{}

var errRefused = errors.New("refused")

// config is made for each connection, for passwords are offered only while
// somebody has one.
func (s *SSH) config(log *slog.Logger) *ssh.ServerConfig {
	allow := func(u users.User, ok bool) (*ssh.Permissions, error) {
		if !ok {
			return nil, errRefused
		}
		return &ssh.Permissions{ExtraData: map[any]any{whom{}: u}}, nil
	}
	cfg := &ssh.ServerConfig{
		MaxAuthTries:  s.MaxAuthTries,
		ServerVersion: "SSH-2.0-vrouter",
		PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			return allow(s.Users.PublicKey(c.User(), k))
		},
		AuthLogCallback: func(c ssh.ConnMetadata, method string, err error) {
			if err != nil && method != "none" {
				log.Warn("ssh: login refused", "user", c.User(), "method", method)
			} else if err == nil {
				log.Info("ssh: login", "user", c.User(), "method", method)
			}
		},
	}
	if s.Users.HasPasswords() {
		cfg.PasswordCallback = func(c ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
			return allow(s.Users.Password(c.User(), pw))
		}
	}
	for _, k := range s.HostKeys {
		cfg.AddHostKey(k)
	}
	return cfg
}

// login runs the SSH handshake; nil when it failed.
func (s *SSH) login(ctx context.Context, c net.Conn) *sshConn {
	log := s.Log.With("from", c.RemoteAddr().String())
	// TCP_NODELAY is Go's default: replies go out at once.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	c.SetDeadline(time.Now().Add(s.LoginGrace))
	conn, chans, reqs, err := ssh.NewServerConn(c, s.config(log))
	if err != nil {
		stop()
		log.Info("ssh: no login", "err", err)
		return nil
	}
	if !stop() {
		conn.Close()
		return nil
	}
	c.SetDeadline(time.Time{})
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	u := conn.Permissions.ExtraData[whom{}].(users.User)
	return &sshConn{SSH: s, conn: conn, chans: chans, reqs: reqs, log: log.With("user", u.Name),
		peer: Peer{User: u, Transport: "ietf-netconf-monitoring:netconf-ssh", Host: host}}
}

// An sshConn is a connection after its login.
type sshConn struct {
	*SSH
	conn  *ssh.ServerConn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	log   *slog.Logger
	peer  Peer
}

// serve runs the connection's channels until the client leaves, ctx ends, or
// no channel has been open for a while.
func (c *sshConn) serve(ctx context.Context) {
	defer c.conn.Close()
	go ssh.DiscardRequests(c.reqs)
	gone := make(chan struct{})
	go func() { c.conn.Wait(); close(gone) }()
	if c.KeepAlive > 0 {
		go c.keepAlive(gone)
	}
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()

	done := make(chan struct{})
	idle := time.NewTimer(max(linger, c.LoginGrace))
	defer idle.Stop()
	for n := 0; ; {
		select {
		case ch, ok := <-c.chans:
			if !ok {
				return
			}
			if ch.ChannelType() != "session" {
				ch.Reject(ssh.UnknownChannelType, "only session channels")
				continue
			}
			if n == c.MaxChannels {
				ch.Reject(ssh.ResourceShortage, "too many sessions in this connection")
				continue
			}
			stream, reqs, err := ch.Accept()
			if err != nil {
				return
			}
			n++
			idle.Stop()
			open.Go(func() {
				c.channel(ctx, stream, reqs)
				select {
				case done <- struct{}{}:
				case <-ctx.Done():
				}
			})
		case <-done:
			if n--; n == 0 {
				idle.Reset(linger)
			}
		case <-idle.C:
			return
		case <-gone:
			return
		case <-ctx.Done():
			open.Wait()
			select {
			case <-gone:
			case <-time.After(goodbye):
			}
			return
		}
	}
}

// channel waits for the subsystem request and runs the session.
func (c *sshConn) channel(ctx context.Context, ch ssh.Channel, reqs <-chan *ssh.Request) {
	started := make(chan struct{})
	over := make(chan struct{}) // the client closed the channel
	go func() {
		defer close(over)
		running := false
		for r := range reqs {
			var sub struct{ Name string }
			ok := !running && r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &sub) == nil && sub.Name == "netconf"
			if !ok && !running {
				c.log.Debug("ssh: request refused", "type", r.Type, "subsystem", sub.Name)
			}
			r.Reply(ok, nil)
			if ok {
				running = true
				close(started)
			}
		}
	}()
	stream := &sshStream{Channel: ch, conn: c.conn, over: over}
	defer stream.Close()
	grace := time.NewTimer(c.LoginGrace)
	defer grace.Stop()
	select {
	case <-started:
		c.Handle(ctx, stream, c.peer)
	case <-over:
	case <-ctx.Done():
	case <-grace.C:
		c.log.Info("ssh: no subsystem was asked for in time")
	}
}

// parting is how long a client may take to agree to the end of a channel.
const parting = 5 * time.Second

// An sshStream closes its channel as a program that ended well.
type sshStream struct {
	ssh.Channel
	conn io.Closer
	over <-chan struct{} // closed once the client has closed the channel
	once sync.Once
	err  error
}

// Close ends the channel. A peer that reads nothing would hold a writer, and
// even this call, for ever: then the whole connection goes.
func (s *sshStream) Close() error {
	s.once.Do(func() {
		go func() {
			t := time.NewTimer(parting)
			defer t.Stop()
			select {
			case <-s.over:
			case <-t.C:
				s.conn.Close()
			}
		}()
		s.Channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
		if s.err = s.Channel.Close(); s.err == io.EOF {
			s.err = nil // the client closed first
		}
	})
	return s.err
}

// keepAlive asks for an answer at times, and closes a connection whose peer
// gave none to several requests.
func (c *sshConn) keepAlive(gone <-chan struct{}) {
	t := time.NewTicker(c.KeepAlive)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-gone:
			return
		}
		answer := make(chan error, 1)
		go func() {
			_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		patience := time.NewTimer(c.KeepAlive * time.Duration(c.KeepMisses))
		select {
		case err := <-answer:
			patience.Stop()
			if err != nil {
				return
			}
		case <-gone:
			patience.Stop()
			return
		case <-patience.C:
			c.log.Info("ssh: the peer no longer answers")
			c.conn.Close()
			return
		}
	}
}
