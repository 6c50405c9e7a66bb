package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"vrouter/mgmt/netconf/transport"
)

// An sshBed is a bed that serves SSH on loopback: alice (admin) comes in by the
// key in keyFile, bob (operator) by the password sesame.
type sshBed struct {
	*bed
	addr      string
	key       ed25519.PrivateKey
	keyFile   string
	knownFile string
}

func newSSHBed(t *testing.T) *sshBed {
	t.Helper()
	b := &sshBed{bed: newBed(t)}
	t.Setenv("VROUTER_SOCKET", "")
	var err error
	if _, b.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	b.keyFile = filepath.Join(b.dir, "key")
	b.knownFile = filepath.Join(b.dir, ".ssh", "known_hosts")
	b.writeKey(b.keyFile, b.key, "")
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b.writeUsers(fmt.Sprintf(`{"users": [{"name": "alice", "role": "admin", "authorized-keys": [%q]}, {"name": "bob", "role": "operator", "password": %q}]}`,
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer(t, b.key).PublicKey()))), hash))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	b.all.Go(func() {
		if err := b.srv.ServeSSH(b.ctx, l); err != nil {
			t.Error(err)
		}
	})
	return b
}

func signer(t testing.TB, k crypto.PrivateKey) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// writeKey writes a private key, under a passphrase if one is given.
func (b *sshBed) writeKey(file string, key crypto.PrivateKey, pass string) {
	b.t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if pass != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(pass))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// know writes a known_hosts file with this key for the server.
func (b *sshBed) know(key ssh.PublicKey) {
	b.t.Helper()
	b.writeKnown(knownhosts.Line([]string{b.addr}, key) + "\n")
}

func (b *sshBed) writeKnown(text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.knownFile), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.knownFile, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *sshBed) known() string {
	text, err := os.ReadFile(b.knownFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(text)
}

// wants compares what a run came to: its exit code, and a part of its output or
// error.
func wants(t *testing.T, r result, code int, part string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out+r.err, part) || code == 0 && r.err != "" {
		t.Errorf("exit code %d, wanted %d and %q\n%s%s", r.code, code, part, r.out, r.err)
	}
}

func TestHostKeys(t *testing.T) {
	b := newSSHBed(t)
	show := func(more ...string) result {
		return b.try(append([]string{"--host", "alice@" + b.addr, "--key", b.keyFile, "show", "config"}, more...)...)
	}

	// Unknown: refused, and nothing is written.
	wants(t, show(), 3, "is not in "+b.knownFile)
	if _, err := os.Stat(filepath.Dir(b.knownFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused host left something behind: ", err)
	}

	// Accepted once, and known from then on.
	wants(t, show("--accept-new"), 0, "")
	wants(t, show(), 0, "")
	added := b.known()
	if strings.Count(added, "\n") != 1 || !strings.Contains(added, "127.0.0.1") {
		t.Errorf("known_hosts: %q", added)
	}
	wants(t, show("--accept-new"), 0, "")
	if b.known() != added {
		t.Errorf("known_hosts grew: %q", b.known())
	}
	if fi, err := os.Stat(b.knownFile); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi.Mode(), err)
	}

	// Added to what is there, also where its last line is not ended.
	other := signer(t, ed25519.NewKeyFromSeed(make([]byte, 32))).PublicKey()
	b.writeKnown(knownhosts.Line([]string{"elsewhere"}, other))
	wants(t, show("--accept-new"), 0, "")
	if l := strings.Split(b.known(), "\n"); len(l) != 3 || !strings.HasPrefix(l[0], "elsewhere ") || !strings.HasPrefix(l[1], "[127.0.0.1]:") {
		t.Errorf("known_hosts: %q", b.known())
	}

	// Changed: refused whatever is said.
	b.know(other)
	before := b.known()
	wants(t, show(), 3, "CHANGED")
	wants(t, show("--accept-new"), 3, "CHANGED")
	if b.known() != before {
		t.Errorf("known_hosts changed: %q", b.known())
	}
	// So is a host of which only a key of another kind is known.
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b.know(signer(t, r).PublicKey())
	before = b.known()
	wants(t, show("--accept-new"), 3, "no host key of the kind")
	if b.known() != before {
		t.Errorf("known_hosts changed: %q", b.known())
	}
	b.writeKnown("@revoked * " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(b.keys[0].PublicKey()))) + "\n" +
		knownhosts.Line([]string{b.addr}, b.keys[0].PublicKey()) + "\n")
	wants(t, show(), 3, "revoked")

	// Whichever of the server's keys is known, it is the one that is asked for.
	for _, k := range b.keys {
		b.know(k.PublicKey())
		wants(t, show(), 0, "")
	}

	b.writeKnown("nonsense\n")
	wants(t, show(), 2, "known_hosts")
}

func TestLogin(t *testing.T) {
	b := newSSHBed(t)
	b.know(b.keys[0].PublicKey())
	asked := []string{}
	with := func(answer string, args ...string) result {
		asked = nil
		return run(func(a *app) {
			if answer != "" {
				a.ask = func(prompt string) (string, error) {
					asked = append(asked, prompt)
					if answer == "wrong" && strings.HasPrefix(prompt, "password of alice") {
						return "", errors.New("she has none")
					}
					return answer, nil
				}
			}
		}, strings.NewReader(""), append([]string{"--host", b.addr, "show", "config"}, args...)...)
	}

	t.Run("no key", func(t *testing.T) { wants(t, with("", "-u", "alice"), 3, `does not let "alice" in`) })
	t.Run("key file", func(t *testing.T) { wants(t, with("", "-u", "alice", "-i", b.keyFile), 0, "") })
	t.Run("not this user's key", func(t *testing.T) { wants(t, with("", "-u", "bob", "-i", b.keyFile), 3, `does not let "bob" in`) })
	t.Run("no key file", func(t *testing.T) { wants(t, with("", "-u", "alice", "-i", b.keyFile+"x"), 2, "no such file") })
	t.Run("not a key", func(t *testing.T) { wants(t, with("", "-u", "alice", "-i", b.users), 2, "is no private key") })

	locked := filepath.Join(b.dir, "locked")
	b.writeKey(locked, b.key, "open sesame")
	t.Run("passphrase", func(t *testing.T) {
		wants(t, with("open sesame", "-u", "alice", "-i", locked), 0, "")
		if len(asked) != 1 || !strings.Contains(asked[0], locked) {
			t.Error(asked)
		}
		wants(t, with("wrong", "-u", "alice", "-i", locked), 3, "she has none") // a password is the next way
		if len(asked) != 4 {
			t.Error("asked", len(asked), "times")
		}
		wants(t, with("", "-u", "alice", "-i", locked), 2, "no terminal")
	})

	t.Run("password", func(t *testing.T) {
		wants(t, with("sesame", "-u", "bob"), 0, "")
		if len(asked) != 1 || !strings.Contains(asked[0], "password of bob") {
			t.Error(asked)
		}
		wants(t, with("wrong", "-u", "bob"), 3, "does not let")
		if len(asked) != 3 {
			t.Error("asked", len(asked), "times")
		}
		t.Setenv("VROUTER_PASSWORD", "sesame")
		wants(t, with("", "-u", "bob"), 0, "")
		t.Setenv("VROUTER_PASSWORD", "wrong")
		r := with("", "-u", "bob")
		wants(t, r, 3, "does not let")
		if strings.Contains(r.err, "wrong") {
			t.Error("the password is in the error: ", r.err)
		}
	})

	t.Run("home", func(t *testing.T) {
		b.writeKey(filepath.Join(b.dir, ".ssh", "id_ed25519"), b.key, "")
		wants(t, with("", "-u", "alice"), 0, "")
		if err := os.Remove(filepath.Join(b.dir, ".ssh", "id_ed25519")); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("agent", func(t *testing.T) {
		ring := agent.NewKeyring()
		if err := ring.Add(agent.AddedKey{PrivateKey: b.key}); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", b.socket("agent"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go agent.ServeAgent(ring, c)
			}
		}()
		t.Setenv("SSH_AUTH_SOCK", b.socket("agent"))
		wants(t, with("", "-u", "alice"), 0, "")
	})
}

// Over SSH everything is as on the unix socket; only the session tells.
func TestOverSSH(t *testing.T) {
	b := newSSHBed(t)
	b.know(b.keys[0].PublicKey())
	base := []string{"--host", "alice@" + b.addr, "--key", b.keyFile}
	must := func(args ...string) string { t.Helper(); return b.must(append(base, args...)...) }
	must("edit", "testdata/show/config.xml", "--commit")
	for _, c := range []string{"show interfaces", "show ipsec sa", "show routes", "show drops", "show config"} {
		local := b.must(append([]string{"--socket", b.socket("alice")}, strings.Fields(c)...)...)
		if far := must(strings.Fields(c)...); far != local {
			t.Errorf("%s: over SSH\n%s\nlocally\n%s", c, far, local)
		}
	}
	// The server may still be taking leave of the session before.
	var sessions string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if sessions = must("show", "sessions"); strings.Count(sessions, "\n") == 2 {
			break
		}
	}
	if !strings.Contains(sessions, "alice") || !strings.Contains(sessions, "127.0.0.1") || strings.Count(sessions, "\n") != 2 {
		t.Error(sessions)
	}
	if c := b.try(append(base, "__complete", "show", "ipsec", "sa", "")...); !strings.Contains(c.out, "b-in\n") {
		t.Errorf("completion over SSH: %v", c)
	}
	var names struct {
		I struct {
			L []struct{ Name string } `json:"interface"`
		} `json:"ietf-interfaces:interfaces"`
	}
	if err := json.Unmarshal([]byte(must("show", "interfaces", "--json")), &names); err != nil || len(names.I.L) != 3 {
		t.Error(err, names)
	}
}

// On the socket that vrouterd has on a machine, the kernel says who comes.
func TestLocalSocket(t *testing.T) {
	b := newBed(t)
	l, err := transport.ListenUnix(b.socket("local"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	b.all.Go(func() {
		if err := b.srv.ServeUnix(b.ctx, l); err != nil {
			t.Error(err)
		}
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(strings.TrimSpace(b.must("--socket", b.socket("local"), "show", "sessions")))
	if len(f) != 8+7 || f[8+1] != "netconf-ssh" || f[8+2] != me.Username || f[8+3] != "local" {
		t.Error(f)
	}
}
