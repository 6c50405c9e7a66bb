// Package mgmt is the management plane: a Server wires schema, datastores,
// transactions, bindings and NETCONF together, and keeps a data plane filled
// with running. A commit's life is told in txn/commit.go, the order of bindings
// stands in features.go.
//
// NETCONF does not depend on the data plane: while that is started again,
// configuration can be read and edited, a commit that it would have to take is
// refused with operation-failed, and a <get> answers without its state.
package mgmt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"vrouter/fastpath"
	"vrouter/fastpath/rpc"
	"vrouter/mgmt/apply"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/history"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/netconf"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/supervisor"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

// Options of New.
type Options struct {
	// StateDir holds what must survive: datastores, host keys, users.
	StateDir string
	// RunDir holds sockets, the data plane's log and process id.
	RunDir string
	// Listen are the addresses of NETCONF over SSH, host:port; none: no SSH.
	Listen []string
	// Socket is the unix socket of NETCONF for this machine; "": RunDir's
	// netconf.sock.
	Socket string
	// UsersFile says who may log in; "": StateDir's users.json, which is made
	// without users where it is missing.
	UsersFile string
	// Fastpathd is the command that starts a data plane, without the arguments
	// that say where its socket and files are; empty: one that is started by
	// somebody else is waited for.
	Fastpathd []string
	// NoFastpath: there is no data plane; configuration is checked and kept.
	NoFastpath bool
	// StartupConfig is a file with the configuration to begin with, where
	// running is still empty and was never written.
	StartupConfig string
	Log           *slog.Logger // nil: the default one
}

// Server is the management plane. It is made by New and works while Run runs.
type Server struct {
	o          Options
	log        *slog.Logger
	schema     *yang.Schema
	store      *datastore.Store
	users      *users.Store
	manager    *txn.Manager
	applier    *apply.Applier
	supervisor *supervisor.Supervisor // nil without a data plane
	netconf    *netconf.Server
	events     *notify.Hub
	listeners  []net.Listener // SSH
	socket     net.Listener
	sources    []binding.EventSource
	first      *startup // nil: nothing to begin with
	failed     chan error
}

// New makes a Server: it reads the datastores and opens the sockets. What is
// wrong on disk, in the arguments or on the network comes out here, before
// anything is served or started.
func New(o Options) (_ *Server, err error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{o: o, log: o.Log, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.schema, err = schema.Load(); err != nil {
		return nil, err
	}
	for _, dir := range []string{o.StateDir, o.RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	validator, err := validate.New(s.schema)
	if err != nil {
		return nil, err
	}
	s.store, err = datastore.Open(datastore.Options{Dir: filepath.Join(o.StateDir, "datastores"), Schema: s.schema, Validator: validator, Log: s.log})
	if err != nil {
		return nil, err
	}
	if s.first, err = s.readStartup(validator); err != nil {
		return nil, err
	}
	keys, err := s.access()
	if err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	var engine fastpath.Engine = noEngine{}
	var restarts func() int
	if !o.NoFastpath {
		s.supervisor = s.supervise()
		engine, restarts = s.supervisor, s.supervisor.Restarts
	}
	rules, err := nacm.New(s.schema, s.log)
	if err != nil {
		return nil, err
	}
	bindings, err := features(s.schema, reader{engine}, restarts, rules)
	if err != nil {
		return nil, err
	}
	s.sources = sources(bindings)
	if s.applier, err = apply.New(s.schema, engine, bindings, s.log); err != nil {
		return nil, err
	}
	if s.supervisor != nil {
		s.applier.Lost = func(error) { s.supervisor.Refill() }
	}
	s.manager, err = txn.New(txn.Options{Schema: s.schema, Validator: validator, Store: s.store, Applier: s.applier, Log: s.log,
		OnCommit: func(e txn.Event) { s.netconf.Committed(e) }}) // before Run there is no commit
	if err != nil {
		return nil, err
	}
	if s.events, err = notify.New(notify.Options{Schema: s.schema, Log: s.log}); err != nil {
		return nil, err
	}
	past := history.New(s.schema, s.manager)
	state := []binding.StateSource{past}
	for _, b := range bindings {
		state = append(state, b)
	}
	s.netconf, err = netconf.New(netconf.Options{Schema: s.schema, Manager: s.manager, Access: rules, State: state, Users: s.users, HostKeys: keys, Events: s.events, Log: s.log})
	if err != nil {
		return nil, err
	}
	if err := (operator{engine, bindings}).serve(s.netconf); err != nil {
		return nil, err
	}
	return s, s.netconf.HandleRPC(history.Module, "rollback", past.Rollback)
}

// access reads who may log in and the keys by which clients know this server.
func (s *Server) access() ([]ssh.Signer, error) {
	if len(s.o.Listen) == 0 && s.o.UsersFile == "" {
		return nil, nil // the kernel says who the peers are
	}
	path := s.o.UsersFile
	if path == "" {
		path = filepath.Join(s.o.StateDir, "users.json")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := os.WriteFile(path, []byte("{\"users\": []}\n"), 0o600); err != nil {
				return nil, err
			}
			s.log.Warn("nobody can log in over SSH yet: make a user by \"vrouterd user add NAME\"", "users", path)
		}
	}
	var err error
	if s.users, err = users.Open(path, s.log); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w\nMake it, with a first user, by: vrouterd user add NAME --users %s", err, path)
	} else if err != nil {
		return nil, err
	}
	if len(s.o.Listen) == 0 {
		return nil, nil
	}
	dir := filepath.Join(s.o.StateDir, "ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return transport.HostKeys(dir)
}

// listen opens the sockets.
func (s *Server) listen() error {
	for _, addr := range s.o.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("NETCONF over SSH: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	path := s.o.Socket
	if path == "" {
		path = filepath.Join(s.o.RunDir, "netconf.sock")
	}
	var err error
	if s.socket, err = transport.ListenUnix(path, 0o666); err != nil { // who may, the kernel and the users file say
		return fmt.Errorf("NETCONF on this machine: %w", err)
	}
	return nil
}

// FastpathSocket is the data plane's socket in a RunDir.
func FastpathSocket(runDir string) string { return filepath.Join(runDir, "fastpath.sock") }

func (s *Server) supervise() *supervisor.Supervisor {
	sock := FastpathSocket(s.o.RunDir)
	var command []string
	if len(s.o.Fastpathd) > 0 {
		command = append(command, s.o.Fastpathd...)
		command = append(command, "-socket", sock, "-state-dir", filepath.Join(s.o.StateDir, "fastpath"), "-pid", filepath.Join(s.o.RunDir, "fastpathd.pid"))
	}
	return supervisor.New(supervisor.Options{
		Dial: func(ctx context.Context) (supervisor.Conn, error) {
			c, err := rpc.Dial(ctx, sock)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Command: command,
		LogFile: filepath.Join(s.o.RunDir, "fastpathd.log"),
		Holder:  func() int { return holder(sock) },
		Up:      s.up,
		Event:   s.event,
		Log:     s.log,
	})
}

// up fills the data plane from running, and at the very first start gives it
// the configuration to begin with.
func (s *Server) up(ctx context.Context) error {
	if err := s.manager.Resync(apply.AllowPartial(ctx)); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		if ctx.Err() != nil { // the data plane went away: the next one is asked
			return err
		}
		s.fail(err)
	}
	if missing := s.applier.Without(); len(missing) > 0 { // it is tried again
		return fmt.Errorf("it works without: %s", strings.Join(missing, "; "))
	}
	return nil
}

// Run serves until ctx ends or something that is needed fails. The data plane
// is left running. A Server runs once.
//
// It ends from the outside to the inside: no new operations, those under way
// are finished, then the connection to the data plane goes, then the datastores.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	under, release := context.WithCancel(context.WithoutCancel(ctx))
	var plane sync.WaitGroup
	if s.supervisor != nil {
		plane.Go(func() { s.supervisor.Run(under) })
	} else if err := s.up(ctx); err != nil {
		release()
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	serve := func(f func(context.Context, net.Listener) error, l net.Listener) {
		clients.Go(func() {
			if err := f(ctx, l); err != nil {
				s.fail(err)
			}
		})
	}
	for _, l := range s.listeners {
		serve(s.netconf.ServeSSH, l)
		s.log.Info("NETCONF over SSH", "address", l.Addr().String())
	}
	serve(s.netconf.ServeUnix, s.socket)
	s.log.Info("NETCONF on this machine", "socket", s.socket.Addr().String())
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	stop()
	clients.Wait()
	err = errors.Join(err, s.manager.Close())
	release()
	plane.Wait()
	return err
}

// fail ends Run; of several errors the first counts.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// StopFastpath ends the data plane. Run must have ended.
func (s *Server) StopFastpath(ctx context.Context) error {
	if s.supervisor == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	return s.supervisor.Stop(ctx)
}

// Addrs gives the addresses of NETCONF over SSH.
func (s *Server) Addrs() []net.Addr {
	var l []net.Addr
	for _, x := range s.listeners {
		l = append(l, x.Addr())
	}
	return l
}

func (s *Server) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	if s.socket != nil {
		s.socket.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}
