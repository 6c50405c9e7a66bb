package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"vrouter/mgmt/netconf/users"
)

// A Unix serves NETCONF on unix sockets, for tools on this machine. The kernel
// says who the peer is: root and the server's own user are admin and have a
// recovery session, as they could read and change the server's files anyway;
// others are looked up by their login name among the users, and refused if not
// there.
type Unix struct {
	Users  *users.Store // nil: nobody but root and the server's own user
	Log    *slog.Logger // nil: no log
	Handle Handler
}

// ListenUnix listens on a unix socket. A socket file left behind by a server
// that is gone is replaced; one that is in use is an error.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("socket %s: another server is listening there", path)
		}
		fi, serr := os.Lstat(path)
		if serr != nil || fi.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("socket %s: there is a file that is not a socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve serves the clients of l until ctx ends, and then returns nil once all
// are gone. It closes l.
func (u *Unix) Serve(ctx context.Context, l net.Listener) error {
	log := u.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return accept(ctx, l, log, func(ctx context.Context, c net.Conn) {
		defer c.Close()
		who, recovery, err := u.peer(c)
		if err != nil {
			log.Warn("unix peer refused", "err", err)
			return
		}
		log.Info("unix peer", "user", who.Name, "role", string(who.Role), "recovery", recovery)
		u.Handle(ctx, c, Peer{User: who, Transport: LocalTransport, Recovery: recovery})
	})
}

// LocalTransport is the transport identity of a unix socket. RFC 6022 has none
// of its own for it; netconf-ssh comes nearest of what readers know, as the
// peer is authenticated and the stream cannot be read by others.
const LocalTransport = "ietf-netconf-monitoring:netconf-ssh"

func (u *Unix) peer(c net.Conn) (who users.User, recovery bool, err error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return who, false, fmt.Errorf("%T is not a unix socket", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return who, false, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return who, false, errors.Join(e, err)
	}
	name := "uid-" + strconv.Itoa(int(cred.Uid))
	if a, err := user.LookupId(strconv.Itoa(int(cred.Uid))); err == nil {
		name = a.Username
	}
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
		return users.User{Name: name, Role: users.Admin}, true, nil
	}
	if u.Users != nil {
		if who, ok := u.Users.Lookup(name); ok {
			return who, false, nil
		}
	}
	return who, false, fmt.Errorf("user %s (uid %d) is neither root nor in the users file", name, cred.Uid)
}
