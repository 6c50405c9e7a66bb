package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// dialSSH opens the subsystem netconf on a host (RFC 6242).
func (a *app) dialSSH() (*wire, error) {
	name, addr := a.address()
	d := net.Dialer{Timeout: a.timeout}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	limit := &patience{conn: conn, d: a.timeout}
	limit.begin()
	w, err := a.login(conn, name, addr, limit)
	if err != nil {
		conn.Close()
		return nil, limit.explain(err)
	}
	return w, nil
}

// address takes --host apart.
func (a *app) address() (user, addr string) {
	user, addr = a.user, a.host
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		user, addr = addr[:i], addr[i+1:]
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), "830")
	}
	return user, addr
}

func (a *app) login(conn net.Conn, user, addr string, limit *patience) (*wire, error) {
	hosts, err := a.hosts()
	if err != nil {
		return nil, here{err}
	}
	ways, err := a.logins(user, addr, limit)
	if err != nil {
		return nil, here{err}
	}
	cfg := &ssh.ClientConfig{User: user, Auth: ways, HostKeyCallback: hosts.check,
		HostKeyAlgorithms: hosts.algorithms(addr, conn.RemoteAddr())}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, cfg)
	var key *hostKeyError
	switch {
	case errors.As(err, &key):
		return nil, key
	case err != nil && strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, fmt.Errorf("%s has no host key of the kind that is in %s: somebody may be in between; if not, remove the old line (%w)", addr, hosts.file, err)
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, fmt.Errorf("%s does not let %q in (%w); a key is given by --key, the SSH agent or ~/.ssh, a password by VROUTER_PASSWORD or at the terminal", addr, user, err)
	case err != nil:
		return nil, err
	}
	s, err := ssh.NewClient(c, chans, reqs).NewSession()
	if err != nil {
		return nil, err
	}
	in, err1 := s.StdinPipe()
	out, err2 := s.StdoutPipe()
	if err := errors.Join(err1, err2, s.RequestSubsystem("netconf")); err != nil {
		return nil, fmt.Errorf("%s has no subsystem netconf: %w", addr, err)
	}
	return newWire(out, in, limit, c.Close), nil
}

// hosts are the host keys of --known-hosts.
type hosts struct {
	file   string
	addNew bool
	known  ssh.HostKeyCallback
}

func (a *app) hosts() (*hosts, error) {
	h := &hosts{file: a.knownHosts, addNew: a.acceptNew}
	var files []string
	if _, err := os.Stat(h.file); err == nil {
		files = append(files, h.file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var err error
	h.known, err = knownhosts.New(files...)
	return h, err
}

// A hostKeyError is why a host is not trusted.
type hostKeyError struct{ text string }

func (e *hostKeyError) Error() string { return e.text }

// check accepts the keys in the file; --accept-new adds an unknown host's key,
// as OpenSSH's StrictHostKeyChecking=accept-new. A key that changed is never
// accepted.
func (h *hosts) check(host string, remote net.Addr, key ssh.PublicKey) error {
	err := h.known(host, remote, key)
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	finger := key.Type() + " " + ssh.FingerprintSHA256(key)
	switch {
	case errors.As(err, &revoked):
		return &hostKeyError{fmt.Sprintf("the host key of %s (%s) is marked as revoked in %s", host, finger, h.file)}
	case !errors.As(err, &unknown):
		return err
	case len(unknown.Want) > 0:
		return &hostKeyError{fmt.Sprintf("the host key of %s has CHANGED, to %s: somebody may be in between; if not, remove line %d of %s", host, finger, unknown.Want[0].Line, h.file)}
	case !h.addNew:
		return &hostKeyError{fmt.Sprintf("the host key of %s (%s) is not in %s; compare it with the router's, then use --accept-new once", host, finger, h.file)}
	}
	if err := h.add(knownhosts.Line([]string{knownhosts.Normalize(host)}, key)); err != nil {
		return &hostKeyError{"the host key cannot be added: " + err.Error()}
	}
	return nil
}

// add appends a line to the file.
func (h *hosts) add(line string) error {
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(h.file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	line += "\n"
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	} else if end > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// algorithms are those of the keys that are known for a host. The client must
// ask for these: a host has keys of several kinds, and one of a kind that is
// not in the file would look like a changed key. nil, all of them, for a host
// that is not known.
func (h *hosts) algorithms(host string, remote net.Addr) (l []string) {
	none, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var known *knownhosts.KeyError
	if !errors.As(h.known(host, remote, none), &known) {
		return nil
	}
	for _, k := range known.Want {
		kinds := []string{k.Key.Type()}
		if kinds[0] == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, kind := range kinds {
			if !slices.Contains(l, kind) {
				l = append(l, kind)
			}
		}
	}
	return l
}
