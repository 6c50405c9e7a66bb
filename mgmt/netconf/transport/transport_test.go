package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/netconf/users"
)

// A bed is an SSH server with users alice (key, admin) and bob (password,
// operator), whose sessions say who the client is and then echo.
type bed struct {
	addr   string
	dir    string
	key    ssh.Signer
	host   []ssh.Signer
	stop   context.CancelFunc
	ended  chan error
	inside atomic.Int32
	log    syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newBed(t *testing.T, change func(*SSH)) *bed {
	t.Helper()
	b := &bed{dir: t.TempDir(), ended: make(chan error, 1)}
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	b.key, _ = ssh.NewSignerFromKey(priv)
	pw, _ := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	path := filepath.Join(b.dir, "users.json")
	text := fmt.Sprintf(`{"users":[{"name":"alice","role":"admin","authorized-keys":[%q]},{"name":"bob","role":"operator","password":%q}]}`,
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(b.key.PublicKey()))), pw)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	us, err := users.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.host, err = HostKeys(b.dir); err != nil {
		t.Fatal(err)
	}
	s := &SSH{HostKeys: b.host, Users: us, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		Handle: func(ctx context.Context, rw io.ReadWriteCloser, p Peer) {
			b.inside.Add(1)
			defer b.inside.Add(-1)
			stop := context.AfterFunc(ctx, func() { rw.Close() })
			defer stop()
			fmt.Fprintf(rw, "%s %s %s\n", p.User.Name, p.User.Role, p.Host)
			io.Copy(rw, rw)
		}}
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	go func() { b.ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		b.stop()
		select {
		case err := <-b.ended:
			if err != nil {
				t.Error("Serve:", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end")
		}
		if n := b.inside.Load(); n != 0 {
			t.Error(n, "sessions outlive the server")
		}
		if strings.Contains(b.log.String(), "sesame") {
			t.Error("a password is in the log")
		}
	})
	return b
}

func (b *bed) config(user string, auth ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(b.host[0].PublicKey()),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: 5 * time.Second}
}

func (b *bed) dial(t *testing.T, user string, auth ...ssh.AuthMethod) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", b.addr, b.config(user, auth...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// open starts the subsystem and reads who the server takes us for.
func open(t *testing.T, c *ssh.Client) (s *ssh.Session, in io.WriteCloser, out io.Reader, greeting string) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ = s.StdinPipe()
	out, _ = s.StdoutPipe()
	if err := s.RequestSubsystem("netconf"); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
		line = append(line, b...)
	}
	return s, in, out, strings.TrimSpace(string(line))
}

func TestSSHLogin(t *testing.T) {
	b := newBed(t, nil)
	if _, _, _, g := open(t, b.dial(t, "alice", ssh.PublicKeys(b.key))); g != "alice admin 127.0.0.1" {
		t.Error(g)
	}
	if _, _, _, g := open(t, b.dial(t, "bob", ssh.Password("sesame"))); g != "bob operator 127.0.0.1" {
		t.Error(g)
	}
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	other, _ := ssh.NewSignerFromKey(priv)
	for _, c := range []*ssh.ClientConfig{
		b.config("alice", ssh.PublicKeys(other)), b.config("bob", ssh.PublicKeys(b.key)), b.config("alice", ssh.Password("sesame")),
		b.config("bob", ssh.Password("sesame2")), b.config("mallory", ssh.Password("sesame")), b.config("alice"),
	} {
		if cl, err := ssh.Dial("tcp", b.addr, c); err == nil {
			cl.Close()
			t.Errorf("%s is let in", c.User)
		}
	}
}

func TestSSHOnlyNetconf(t *testing.T) {
	b := newBed(t, nil)
	c := b.dial(t, "alice", ssh.PublicKeys(b.key))
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"exec": s.Run("id"), "pty": s.RequestPty("xterm", 24, 80, nil), "sftp": s.RequestSubsystem("sftp")} {
		if err == nil {
			t.Error(what, "is accepted")
		}
	}
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("port forwarding is accepted")
	}
	if x, err := c.Dial("tcp", b.addr); err == nil {
		x.Close()
		t.Error("direct-tcpip is accepted")
	}
	if _, _, _, g := open(t, c); g != "alice admin 127.0.0.1" { // and the connection still serves
		t.Error(g)
	}
}

func TestSSHMaxChannels(t *testing.T) {
	b := newBed(t, func(s *SSH) { s.MaxChannels = 2 })
	c := b.dial(t, "alice", ssh.PublicKeys(b.key))
	s, _, _, _ := open(t, c)
	open(t, c)
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Fatal(err)
	}
	s.Close()
	for range 200 { // the place becomes free soon
		if s, err := c.NewSession(); err == nil {
			s.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("a closed session keeps its place")
}

func TestSSHMaxStartups(t *testing.T) {
	b := newBed(t, func(s *SSH) { s.MaxStartups = 2 })
	for range 2 {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil { // "SSH-": it is counted
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 4)); err != io.EOF {
		t.Fatalf("%d bytes, %v: not refused", n, err)
	}
}

func TestSSHLoginGrace(t *testing.T) {
	b := newBed(t, func(s *SSH) { s.LoginGrace = 50 * time.Millisecond })
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal("a connection that says nothing is not closed:", err)
	}
	s, err := b.dial(t, "alice", ssh.PublicKeys(b.key)).NewSession() // and asks for no subsystem
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
}

// stuck is a TCP connection whose client stops reading when told to.
type stuck struct {
	net.Conn
	hold chan struct{}
}

func (s *stuck) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	select {
	case <-s.hold:
		select {} // the test's process ends it
	default:
	}
	return n, err
}

func stuckClient(t *testing.T, b *bed) (*ssh.Client, *stuck) {
	t.Helper()
	raw, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	sc := &stuck{raw, make(chan struct{})}
	conn, chans, reqs, err := ssh.NewClientConn(sc, b.addr, b.config("alice", ssh.PublicKeys(b.key)))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.NewClient(conn, chans, reqs), sc
}

func (b *bed) wait(t *testing.T, n int32) {
	t.Helper()
	for range 1000 {
		if b.inside.Load() == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d sessions inside, want %d", b.inside.Load(), n)
}

func TestSSHKeepAlive(t *testing.T) {
	b := newBed(t, func(s *SSH) { s.KeepAlive, s.KeepMisses = 30*time.Millisecond, 4 })
	c, sc := stuckClient(t, b)
	open(t, c)
	live := b.dial(t, "bob", ssh.Password("sesame"))
	_, in, out, _ := open(t, live)
	b.wait(t, 2)
	close(sc.hold)
	b.wait(t, 1) // the one that answers stays
	fmt.Fprint(in, "hi")
	got := make([]byte, 2)
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "hi" {
		t.Fatal(string(got), err)
	}
}

// A session whose client closed it ends; Serve ends when the server is stopped
// while clients are there (the bed checks it).
func TestSSHEnd(t *testing.T) {
	b := newBed(t, nil)
	c := b.dial(t, "alice", ssh.PublicKeys(b.key))
	_, in, out, _ := open(t, c)
	open(t, c)
	b.wait(t, 2)
	in.Close()
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Fatal(rest, err)
	}
	b.wait(t, 1)
	b.stop()
	b.wait(t, 0)
}

func TestHostKeys(t *testing.T) {
	dir := t.TempDir()
	a, err := HostKeys(dir)
	if err != nil || len(a) != 2 {
		t.Fatal(a, err)
	}
	path := filepath.Join(dir, "ssh_host_ed25519_key")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatal(fi.Mode(), err)
	}
	again, err := HostKeys(dir)
	if err != nil || string(again[0].PublicKey().Marshal()) != string(a[0].PublicKey().Marshal()) {
		t.Fatal("the key did not stay:", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := HostKeys(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o600)
	if _, err := HostKeys(dir); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "rubbish") {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "rubbish" {
		t.Error("a key that cannot be used was replaced")
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = ListenUnix(path, 0o600); err != nil {
		t.Fatal("a socket left behind:", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	got := make(chan Peer, 1)
	ended := make(chan error, 1)
	u := &Unix{Handle: func(ctx context.Context, rw io.ReadWriteCloser, p Peer) { got <- p; io.WriteString(rw, "x") }}
	go func() { ended <- u.Serve(ctx, l) }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "x" {
		t.Fatal(string(b), err)
	}
	if p := <-got; p.User.Role != users.Admin || p.Host != "" || !p.Recovery {
		t.Error(p)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	plain := filepath.Join(t.TempDir(), "f")
	os.WriteFile(plain, nil, 0o600)
	if _, err := ListenUnix(plain, 0o600); err == nil {
		t.Error("a plain file was taken for a socket")
	}
	if _, err := os.Stat(plain); err != nil {
		t.Error("the plain file is gone")
	}
}
