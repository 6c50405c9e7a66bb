package main

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/netconf/users"
)

// run runs the command line with a standard input.
func exec(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	c := command()
	var out bytes.Buffer
	c.SetArgs(args)
	c.SetIn(strings.NewReader(in))
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.Execute()
	return out.String(), err
}

func TestUsers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new", "users.json")
	if _, err := exec(t, "correct horse\n", "user", "add", "alice", "--users", file); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", fi, err)
	}
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "id.pub")
	if err := os.WriteFile(keyFile, ssh.MarshalAuthorizedKey(key), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := exec(t, "", "user", "add", "bob", "--role", "operator", "--key", keyFile, "--users", file); err != nil {
		t.Fatal(err)
	}
	// One more time for what is there: the key is added, the password stays.
	if _, err := exec(t, "", "user", "add", "alice", "--key", keyFile, "--users", file); err != nil {
		t.Fatal(err)
	}
	s, err := users.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := s.Password("alice", []byte("correct horse")); !ok || u.Role != users.Admin {
		t.Errorf("alice cannot log in by password: %v", u)
	}
	for name, role := range map[string]users.Role{"alice": users.Admin, "bob": users.Operator} {
		if u, ok := s.PublicKey(name, key); !ok || u.Role != role {
			t.Errorf("%s cannot log in by key: %v", name, u)
		}
	}
	if out, err := exec(t, "", "user", "list", "--users", file); err != nil || !strings.Contains(out, "bob") || strings.Contains(out, "$2") {
		t.Errorf("%s %v", out, err)
	}
	if _, err := exec(t, "", "user", "remove", "bob", "--users", file); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Lookup("bob"); ok {
		t.Error("bob is still there")
	}

	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "id")
	if err := os.WriteFile(secret, []byte("-----BEGIN "+block.Type+"-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in, want string
		args     []string
	}{
		{"short\n", "at least 8", []string{"carol"}},
		{strings.Repeat("x", 73) + "\n", "72 bytes", []string{"carol"}},
		{"", "private key", []string{"carol", "--key", secret}},
		{"", "no such file", []string{"carol", "--key", filepath.Join(dir, "none")}},
		{"long enough\n", "role", []string{"carol", "--role", "king"}},
		{"long enough\n", "without spaces", []string{"two words"}},
		{"", "arg", nil},
	} {
		out, err := exec(t, c.in, append([]string{"user", "add", "--users", file}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v %s", c.args, err, out)
		}
	}
	if _, err := exec(t, "", "user", "remove", "nobody", "--users", file); err == nil {
		t.Error("nobody was removed")
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("a refused command has changed the file")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "new", ".users-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "fastpathd")
	for _, c := range []struct{ path, want string }{
		{file, "--no-fastpathd"},
		{dir, "cannot be executed"},
	} {
		if _, err := program(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := program(file); err == nil {
		t.Error("a file that is no program was accepted")
	}
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if p, err := program(file); err != nil || p != file {
		t.Errorf("%s %v", p, err)
	}
}

// Without users there is nothing that starts or answers: what the command line
// says wrong comes out as an error.
func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"--log-level", "loud"}, {"--nonsense"}, {"argument"}, {"--fastpathd", "/no/such/file"}} {
		if out, err := exec(t, "", args...); err == nil {
			t.Errorf("%v: no error; %s", args, out)
		}
	}
}
