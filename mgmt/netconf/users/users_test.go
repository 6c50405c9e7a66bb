package users

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
)

func newKey(t testing.TB) (ssh.PublicKey, string) {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func hash(t testing.TB, pw string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(pw), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestLogin(t *testing.T) {
	key, line := newKey(t)
	other, _ := newKey(t)
	path := filepath.Join(t.TempDir(), "users.json")
	write(t, path, fmt.Sprintf(`{"users":[
		{"name":"alice","role":"admin","authorized-keys":["no-pty %s alice@desk"]},
		{"name":"bob","role":"operator","password":%q}]}`, line, hash(t, "sesame")), 0o600)
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := s.PublicKey("alice", key); !ok || u != (User{"alice", Admin}) {
		t.Error("alice's key is refused")
	}
	if u, ok := s.Password("bob", []byte("sesame")); !ok || u != (User{"bob", Operator}) {
		t.Error("bob's password is refused")
	}
	for what, let := range map[string]func() bool{
		"another key":          func() bool { _, ok := s.PublicKey("alice", other); return ok },
		"alice's key for bob":  func() bool { _, ok := s.PublicKey("bob", key); return ok },
		"nobody's key":         func() bool { _, ok := s.PublicKey("mallory", key); return ok },
		"a wrong password":     func() bool { _, ok := s.Password("bob", []byte("sesam")); return ok },
		"no password":          func() bool { _, ok := s.Password("bob", nil); return ok },
		"a password for alice": func() bool { _, ok := s.Password("alice", []byte("sesame")); return ok },
		"nobody's password":    func() bool { _, ok := s.Password("mallory", []byte("")); return ok },
	} {
		if let() {
			t.Error(what, "is let in")
		}
	}
	if err := bcrypt.CompareHashAndPassword([]byte(nobody), nil); err != bcrypt.ErrMismatchedHashAndPassword {
		t.Error("the hash for unknown users costs no time:", err)
	}

	// A change of the file counts at the next login; a broken file does not.
	write(t, path, `{"users":[{"name":"bob","role":"admin","authorized-keys":["`+line+`"]}]}`, 0o644)
	if u, ok := s.PublicKey("bob", key); !ok || u.Role != Admin {
		t.Error("the change was not read")
	}
	if _, ok := s.PublicKey("alice", key); ok {
		t.Error("alice is gone from the file and still let in")
	}
	if s.HasPasswords() {
		t.Error("passwords are gone")
	}
	write(t, path, `{"users":[`, 0o600)
	if _, ok := s.PublicKey("bob", key); !ok {
		t.Error("a broken file locked bob out")
	}
	if err := s.Reload(); err == nil {
		t.Error("Reload accepted a broken file")
	}
}

func TestRefusedFiles(t *testing.T) {
	_, line := newKey(t)
	pw := hash(t, "x")
	user := func(s string) string { return `{"users":[{"name":"a","role":"admin",` + s + `}]}` }
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"writable by the group", user(`"authorized-keys":["` + line + `"]`), 0o660, "chmod 600"},
		{"readable hash", user(`"password":"` + pw + `"`), 0o644, "chmod 600"},
		{"clear-text password", user(`"password":"hunter2"`), 0o600, "bcrypt"},
		{"unknown field", user(`"passwd":"` + pw + `"`), 0o600, "unknown field"},
		{"no way in", user(`"authorized-keys":[]`), 0o600, "neither"},
		{"broken key", user(`"authorized-keys":["ssh-ed25519 AAAA"]`), 0o600, "authorized key number 1"},
		{"two keys in a line", user(`"authorized-keys":["` + line + `\n` + line + `"]`), 0o600, "one line"},
		{"an option with meaning", user(`"authorized-keys":["from=\"10.0.0.1\" ` + line + `"]`), 0o600, "option"},
		{"role", `{"users":[{"name":"a","role":"root","authorized-keys":["` + line + `"]}]}`, 0o600, "role"},
		{"no name", `{"users":[{"role":"admin","authorized-keys":["` + line + `"]}]}`, 0o600, "name"},
		{"null", `{"users":[null]}`, 0o600, "name"},
		{"twice", `{"users":[{"name":"a","role":"admin","password":"` + pw + `"},{"name":"a","role":"admin","password":"` + pw + `"}]}`, 0o600, "twice"},
		{"trailing", `{"users":[]} x`, 0o600, "after"},
		{"cut", `{"users":[`, 0o600, "ends"},
		{"type", `{"users":[{"name":7}]}`, 0o600, "type"},
		{"empty", ``, 0o600, "ends"},
	} {
		path := filepath.Join(t.TempDir(), "users.json")
		write(t, path, c.text, c.mode)
		_, err := Open(path, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the path", c.name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), pw) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: the error shows a secret: %v", c.name, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	_, line := newKey(f)
	f.Add([]byte(`{"users":[{"name":"a","role":"admin","authorized-keys":["` + line + `"]}]}`))
	f.Add([]byte(`{"users":[{"name":"a","role":"operator","password":"` + hash(f, "x") + `"}]}`))
	f.Add([]byte(`{"users":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		us, err := parse(b)
		if err != nil {
			return
		}
		for _, u := range us {
			if u.Name == "" || u.Role != Admin && u.Role != Operator || u.Password == "" && len(u.keys) == 0 {
				t.Fatalf("accepted %+v", u)
			}
		}
	})
}
