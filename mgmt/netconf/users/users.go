// Package users knows who may open a management session, and as what. The
// users stand in a JSON file:
//
//	{
//	  "users": [
//	    {
//	      "name": "alice",
//	      "role": "admin",
//	      "authorized-keys": ["ssh-ed25519 AAAAC3Nz… alice@desk"]
//	    },
//	    {
//	      "name": "collector",
//	      "role": "operator",
//	      "password": "$2b$12$…"
//	    }
//	  ]
//	}
//
// An authorized key is one line of OpenSSH's authorized_keys format. A
// password is a bcrypt hash, as made by "mkpasswd -m bcrypt" or
// "htpasswd -nB". A user has at least one of the two.
//
// The file must belong to root or to the server's own user, must not be
// writable by group and others, and with a password hash in it must not be
// readable by them either. It is read again when it changes; sessions that
// are open then keep the role they were opened with.
package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
)

// Role is the group that the transport reports to access control (RFC 8341),
// under this name.
type Role string

// The roles. Behind all configured rules, Admin may do everything and Operator
// write what is neither default-deny-write nor default-deny-all. Plain has
// what the rules and their defaults give.
const (
	Admin    Role = "admin"
	Operator Role = "operator"
	Plain    Role = "user"
)

// Roles are all there are.
var Roles = []Role{Admin, Operator, Plain}

// A User is one who has shown who they are.
type User struct {
	Name string
	Role Role
}

// entry is a user as the file has it.
type entry struct {
	Name     string   `json:"name"`
	Role     Role     `json:"role"`
	Password string   `json:"password,omitempty"`
	Keys     []string `json:"authorized-keys,omitempty"`

	keys [][]byte // Keys in SSH wire format
}

// A Store is the users of one file. It is safe for concurrent use.
type Store struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	users map[string]*entry
	seen  stamp

	hashing sync.Mutex // bcrypt costs much time: one at a time, for the cores carry packets
}

// stamp tells one state of a file from another.
type stamp struct {
	mod  time.Time
	size int64
	ino  uint64
}

// Open reads the file. A file that is missing, readable by the wrong people or
// broken is an error that says what to do; errors.Is tells fs.ErrNotExist.
func Open(path string, log *slog.Logger) (*Store, error) {
	s := &Store{path: path, log: log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the file again. On an error the users stay as they were.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

func (s *Store) reload() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	s.seen = stampOf(fi) // also of a broken file: complain once, not at each login
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	users, err := parse(b)
	if err == nil {
		err = checkMode(fi, slices.ContainsFunc(users, func(e *entry) bool { return e.Password != "" }))
	}
	if err != nil {
		return fmt.Errorf("users file %s: %w", s.path, err)
	}
	m := make(map[string]*entry, len(users))
	for _, u := range users {
		m[u.Name] = u
	}
	s.users = m
	return nil
}

// maxFile bounds the users file, in bytes.
const maxFile = 16 << 20

func stampOf(fi os.FileInfo) stamp {
	st := stamp{mod: fi.ModTime(), size: fi.Size()}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.ino = sys.Ino
	}
	return st
}

func checkMode(fi os.FileInfo, secret bool) error {
	sys, ok := fi.Sys().(*syscall.Stat_t)
	if ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to uid %d; it must belong to root or to the server's own user (chown)", sys.Uid)
	}
	switch m := fi.Mode().Perm(); {
	case m&0o022 != 0:
		return fmt.Errorf("mode %04o lets others write it; use chmod 600", m)
	case secret && m&0o044 != 0:
		return fmt.Errorf("mode %04o lets others read its password hashes; use chmod 600", m)
	}
	return nil
}

// parse reads the file's text. Its errors name the user, never a hash or key.
func parse(b []byte) ([]*entry, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	var file struct {
		Users []*entry `json:"users"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, clean(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("text after the JSON object")
	}
	seen := map[string]bool{}
	for i, u := range file.Users {
		if u == nil || u.Name == "" || len(u.Name) > 64 || strings.ContainsFunc(u.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return nil, fmt.Errorf("user number %d: needs a name of 1 to 64 bytes without spaces", i+1)
		}
		if seen[u.Name] {
			return nil, fmt.Errorf("user %q stands there twice", u.Name)
		}
		seen[u.Name] = true
		if !slices.Contains(Roles, u.Role) {
			return nil, fmt.Errorf("user %q: the role is %q; it must be one of %q", u.Name, u.Role, Roles)
		}
		if u.Password != "" {
			if c, err := bcrypt.Cost([]byte(u.Password)); err != nil || c > maxCost {
				return nil, fmt.Errorf("user %q: the password must be a bcrypt hash of cost %d or less", u.Name, maxCost)
			}
		}
		for j, line := range u.Keys {
			k, err := authorized(line)
			if err != nil {
				return nil, fmt.Errorf("user %q: authorized key number %d: %w", u.Name, j+1, err)
			}
			u.keys = append(u.keys, k)
		}
		if u.Password == "" && len(u.keys) == 0 {
			return nil, fmt.Errorf("user %q: has neither authorized-keys nor a password", u.Name)
		}
	}
	return file.Users, nil
}

// maxCost bounds the work of one bcrypt comparison: some seconds.
const maxCost = 15

// clean keeps the place of a JSON error and drops what stood there.
func clean(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d: %w", syntax.Offset, err)
	case errors.As(err, &typ):
		return fmt.Errorf("wrong type of %q at byte %d", typ.Field, typ.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("ends inside the JSON object")
	}
	return err
}

// authorized reads one authorized_keys line. Options that would restrict the
// key beyond what NETCONF offers are refused: to ignore them would be to let
// more people in than the line says.
func authorized(line string) ([]byte, error) {
	k, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one line of the authorized_keys format")
	}
	for _, o := range opts {
		if o != "restrict" && !strings.HasPrefix(o, "no-") || o == "no-touch-required" {
			return nil, errors.New("has an option that is not supported; only restrict and no-… are")
		}
	}
	if k.Type() == "ssh-dss" {
		return nil, errors.New("is a DSA key, which is no longer safe")
	}
	if _, cert := k.(*ssh.Certificate); cert {
		return nil, errors.New("is a certificate; only plain keys are supported")
	}
	return k.Marshal(), nil
}

// find gives a user of the file as it is now.
func (s *Store) find(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fi, err := os.Stat(s.path); err == nil && stampOf(fi) != s.seen {
		if err := s.reload(); err != nil {
			s.log.Error("users file changed but cannot be used; the users stay as they were", "err", err)
		} else {
			s.log.Info("users file read again", "users", len(s.users))
		}
	}
	return s.users[name]
}

// Lookup finds a user by name alone, for peers that the kernel vouches for.
func (s *Store) Lookup(name string) (User, bool) {
	e := s.find(name)
	if e == nil {
		return User{}, false
	}
	return User{e.Name, e.Role}, true
}

// PublicKey tells whether key is an authorized key of the user. That the peer
// has the private key is for SSH to see.
func (s *Store) PublicKey(name string, key ssh.PublicKey) (User, bool) {
	e := s.find(name)
	if e == nil {
		return User{}, false
	}
	wire := key.Marshal()
	for _, k := range e.keys {
		if bytes.Equal(k, wire) { // public values: no constant time needed
			return User{e.Name, e.Role}, true
		}
	}
	return User{}, false
}

// Password tells whether the password is that of the user. An unknown user
// costs as much time as a wrong password.
func (s *Store) Password(name string, password []byte) (User, bool) {
	e := s.find(name)
	hash := nobody
	if e != nil && e.Password != "" {
		hash = e.Password
	}
	s.hashing.Lock()
	err := bcrypt.CompareHashAndPassword([]byte(hash), password)
	s.hashing.Unlock()
	if err != nil || e == nil || e.Password == "" {
		return User{}, false
	}
	return User{e.Name, e.Role}, true
}

// nobody is the hash of a password that was thrown away, of bcrypt's default cost.
const nobody = "$2a$10$NOBODYNOBODYNOBODYNOBOEaBxQ9sXkk6RZ3rV2n0B1hV8u8Q1S1y"

// HasPasswords tells whether any user can log in by password.
func (s *Store) HasPasswords() bool {
	s.find("")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.users {
		if e.Password != "" {
			return true
		}
	}
	return false
}
