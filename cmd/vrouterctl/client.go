package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/Juniper/go-netconf/netconf"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/term"
)

// The client stands on Juniper/go-netconf, for its sessions, messages and
// errors. Against scrapligo, which is better kept and speaks base:1.1, speaks
// that it cannot use a unix socket, and that it finds the end of a reply by
// matching patterns over a growing buffer: slow for a whole configuration.
// go-netconf takes any Transport, so ours is below: the same end-of-message
// framing over SSH or a unix socket, with errors where the library's own
// transport ignores them.

// wire is a go-netconf Transport over a byte stream.
type wire struct {
	r     *bufio.Reader
	w     io.Writer
	close func() error
}

const endOfMessage = "]]>]]>"

func newWire(r io.Reader, w io.Writer, close func() error) *wire {
	return &wire{bufio.NewReaderSize(r, 64<<10), w, close}
}

func (t *wire) Send(b []byte) error {
	_, err := t.w.Write(append(b, endOfMessage...))
	return err
}

func (t *wire) Receive() ([]byte, error) {
	var msg []byte
	for {
		part, err := t.r.ReadSlice('>')
		msg = append(msg, part...)
		switch {
		case bytes.HasSuffix(msg, []byte(endOfMessage)):
			return bytes.TrimSpace(msg[:len(msg)-len(endOfMessage)]), nil
		case err == bufio.ErrBufferFull:
		case err == io.EOF:
			return nil, errors.New("the server closed the session")
		case err != nil:
			return nil, err
		}
	}
}

func (t *wire) Close() error { return t.close() }

func (t *wire) SendHello(h *netconf.HelloMessage) error {
	b, err := xml.Marshal(h)
	if err != nil {
		return err
	}
	return t.Send(b)
}

func (t *wire) ReceiveHello() (*netconf.HelloMessage, error) {
	h := &netconf.HelloMessage{}
	b, err := t.Receive()
	if err != nil {
		return h, err
	}
	return h, xml.Unmarshal(b, h)
}

// client is an open session.
type client struct{ s *netconf.Session }

// dial opens a session as the flags say.
func dial(f *flags) (*client, error) {
	var t *wire
	var err error
	if f.socket != "" {
		t, err = dialUnix(f.socket)
	} else {
		t, err = dialSSH(f)
	}
	if err != nil {
		return nil, err
	}
	s := netconf.NewSession(t)
	if len(s.ServerCapabilities) == 0 {
		_ = t.Close()
		return nil, errors.New("no NETCONF hello from the server")
	}
	return &client{s}, nil
}

func dialUnix(path string) (*wire, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w (is vrouterd running? choose its socket with --socket)", err)
	}
	return newWire(c, c, c.Close), nil
}

func dialSSH(f *flags) (*wire, error) {
	check, err := hostKeys(f)
	if err != nil {
		return nil, err
	}
	addr := f.host
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), "830")
	}
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: f.user, Auth: logins(f), HostKeyCallback: check, Timeout: f.timeout})
	if err != nil {
		return nil, err
	}
	s, err := c.NewSession()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	in, err1 := s.StdinPipe()
	out, err2 := s.StdoutPipe()
	if err := errors.Join(err1, err2, s.RequestSubsystem("netconf")); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return newWire(out, in, c.Close), nil
}

// hostKeys accepts the keys in known_hosts; --accept-new adds an unknown
// host's key, as OpenSSH's StrictHostKeyChecking=accept-new. A key that
// changed is never accepted.
func hostKeys(f *flags) (ssh.HostKeyCallback, error) {
	file := f.knownHosts
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	h, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	h.Close()
	known, err := knownhosts.New(file)
	if err != nil {
		return nil, err
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		var unknown *knownhosts.KeyError
		if !errors.As(err, &unknown) {
			return err
		}
		if len(unknown.Want) > 0 {
			return fmt.Errorf("the host key of %s has CHANGED (%s): someone may be in between; if not, remove the old line from %s", host, ssh.FingerprintSHA256(key), file)
		}
		if !f.acceptNew {
			return fmt.Errorf("the host key of %s (%s) is not in %s; compare it, then use --accept-new once", host, ssh.FingerprintSHA256(key), file)
		}
		out, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = fmt.Fprintln(out, knownhosts.Line([]string{knownhosts.Normalize(host)}, key))
		return err
	}, nil
}

// logins are the ways to log in: key file, agent, password.
func logins(f *flags) (l []ssh.AuthMethod) {
	l = append(l, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		var keys []ssh.Signer
		if sock := os.Getenv("SSH_AUTH_SOCK"); sock != "" && f.key == "" {
			if c, err := net.Dial("unix", sock); err == nil {
				if k, err := agent.NewClient(c).Signers(); err == nil {
					keys = append(keys, k...)
				}
			}
		}
		files := []string{f.key}
		if f.key == "" {
			home, _ := os.UserHomeDir()
			files = []string{filepath.Join(home, ".ssh/id_ed25519"), filepath.Join(home, ".ssh/id_ecdsa"), filepath.Join(home, ".ssh/id_rsa")}
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				if f.key != "" {
					return nil, err
				}
				continue
			}
			k, err := ssh.ParsePrivateKey(b)
			if err != nil {
				if f.key != "" {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				continue
			}
			keys = append(keys, k)
		}
		return keys, nil
	}))
	// Never on the command line, where every process list shows it.
	if p, ok := os.LookupEnv("VROUTER_PASSWORD"); ok {
		return append(l, ssh.Password(p))
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		l = append(l, ssh.PasswordCallback(func() (string, error) {
			fmt.Fprintf(os.Stderr, "%s@%s's password: ", f.user, f.host)
			b, err := term.ReadPassword(int(os.Stdin.Fd()))
			fmt.Fprintln(os.Stderr)
			return string(b), err
		}))
	}
	return l
}

// rpcError is all errors of one reply, for people.
type rpcError struct{ list []netconf.RPCError }

func (e *rpcError) Error() string {
	var b strings.Builder
	for i, x := range e.list {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s", x.Tag)
		if p := strings.TrimSpace(x.Path); p != "" {
			fmt.Fprintf(&b, " at %s", p)
		}
		if m := strings.TrimSpace(x.Message); m != "" {
			fmt.Fprintf(&b, ": %s", m)
		}
	}
	return b.String()
}

// call runs one operation and gives the reply whole.
func (c *client) call(body string) (string, error) {
	r, err := c.s.Exec(netconf.RawMethod(body))
	if r != nil && len(r.Errors) > 0 {
		return "", &rpcError{r.Errors}
	}
	if err != nil {
		return "", err
	}
	return r.RawReply, nil
}

// data runs a get or get-config and gives the <data> element.
func (c *client) data(body string) ([]byte, error) {
	reply, err := c.call(body)
	if err != nil {
		return nil, err
	}
	dec := xml.NewDecoder(strings.NewReader(reply))
	for {
		start := dec.InputOffset()
		tok, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("the reply has no data: %w", err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "data" {
			if err := dec.Skip(); err != nil {
				return nil, err
			}
			return []byte(reply[start:dec.InputOffset()]), nil
		}
	}
}

func (c *client) close() {
	_, _ = c.call("<close-session/>")
	_ = c.s.Close()
}

const defaultTimeout = 30 * time.Second
