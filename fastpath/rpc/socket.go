package rpc

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the socket path, mode 0600. A socket that nobody answers any
// more is replaced; one that somebody does is an error.
func Listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: another process listens on it", path)
	}
	// Nobody may connect before the mode is set, so the socket is born under
	// another name.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(tmp, 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return &listener{UnixListener: l, path: path}, nil
}

// listener removes its socket when it closes.
type listener struct {
	*net.UnixListener
	path string
	once sync.Once // the path may be another process's later
}

func (l *listener) Close() error {
	// First: who waits in Accept goes on as soon as the listener is closed.
	l.once.Do(func() { _ = os.Remove(l.path) })
	return l.UnixListener.Close()
}

// allowed asks the kernel who is at the other end: the own user and root may
// connect.
func allowed(c net.Conn) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T tells no credentials: %w", c, ErrDenied)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("credentials: %v: %w", err, ErrDenied)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("credentials: %v: %w", err, ErrDenied)
	}
	if credErr != nil {
		return fmt.Errorf("credentials: %v: %w", credErr, ErrDenied)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d, process %d: %w", cred.Uid, cred.Pid, ErrDenied)
	}
	return nil
}
