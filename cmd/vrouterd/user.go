package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"

	"vrouter/mgmt/netconf/users"
)

// record is a user in the users file; see package users for its meaning.
type record struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Password string   `json:"password,omitempty"`
	Keys     []string `json:"authorized-keys,omitempty"`
}

type usersFile struct {
	Users []*record `json:"users"`
}

// cost of a password's hash: a quarter of a second for each guess.
const cost = 12

// minPassword is the shortest password in characters.
const minPassword = 8

func userCommand(c *config) *cobra.Command {
	user := &cobra.Command{Use: "user", Short: "the users who may log in over SSH"}
	var role, key string
	var password bool
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "add a user, or give one another role, key or password",
		Long: `Add a user to the users file, which is made when it is missing, or change one
that is there. A running vrouterd takes it over at once.

The user logs in by the SSH public key in the file of --key, which is added to
those that are there, or by a password, which is asked for (or is one line on
standard input).`,
		Example: `  vrouterd user add alice --key ~/.ssh/id_ed25519.pub
  vrouterd user add collector --role operator --password`,
		Args: cobra.ExactArgs(1), SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &record{Name: args[0], Role: role}
			if key != "" {
				line, err := publicKey(key)
				if err != nil {
					return err
				}
				r.Keys = []string{line}
			}
			if password || key == "" {
				hash, err := askPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				r.Password = hash
			}
			path := usersPath(c)
			if err := addUser(path, r); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s is in %s\n", r.Name, path)
			return nil
		},
	}
	add.Flags().StringVar(&role, "role", string(users.Admin), "admin: everything, keys and access rules too; operator: configure, but neither read nor write keys; user: what the access rules (/nacm) permit")
	add.Flags().StringVar(&key, "key", "", "file with an SSH public key")
	add.Flags().BoolVar(&password, "password", false, "ask for a password (the default without --key)")
	list := &cobra.Command{
		Use: "list", Short: "list the users", Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readUsers(usersPath(c))
			if err != nil {
				return err
			}
			for _, u := range f.Users {
				fmt.Fprintf(cmd.OutOrStdout(), "%-20s %-10s keys: %d, password: %t\n", u.Name, u.Role, len(u.Keys), u.Password != "")
			}
			return nil
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "remove a user", Args: cobra.ExactArgs(1), SilenceUsage: true,
		RunE: func(_ *cobra.Command, args []string) error {
			path := usersPath(c)
			f, err := readUsers(path)
			if err != nil {
				return err
			}
			n := len(f.Users)
			f.Users = slices.DeleteFunc(f.Users, func(u *record) bool { return u.Name == args[0] })
			if len(f.Users) == n {
				return fmt.Errorf("there is no user %q in %s", args[0], path)
			}
			return writeUsers(path, f)
		},
	}
	user.AddCommand(add, list, remove)
	return user
}

func usersPath(c *config) string {
	if c.UsersFile != "" {
		return c.UsersFile
	}
	return filepath.Join(c.StateDir, "users.json")
}

func readUsers(path string) (*usersFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &usersFile{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // what is not understood would be lost
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("users file %s: %w", path, err)
	}
	return f, nil
}

// addUser puts a user into the file, or what is said of one that is there.
func addUser(path string, r *record) error {
	f, err := readUsers(path)
	if errors.Is(err, os.ErrNotExist) {
		f, err = &usersFile{}, os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(f.Users, func(u *record) bool { return u.Name == r.Name })
	if i < 0 {
		f.Users = append(f.Users, r)
	} else {
		u := f.Users[i]
		u.Role = r.Role
		if r.Password != "" {
			u.Password = r.Password
		}
		for _, k := range r.Keys {
			if !slices.Contains(u.Keys, k) {
				u.Keys = append(u.Keys, k)
			}
		}
	}
	return writeUsers(path, f)
}

// writeUsers replaces the file in one step, and only by one that vrouterd would
// read.
func writeUsers(path string, f *usersFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".users-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if _, err := users.Open(tmp.Name(), nil); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), tmp.Name(), path))
	}
	return os.Rename(tmp.Name(), path)
}

// publicKey reads the one line of a public key file.
func publicKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if bytes.Contains(b, []byte("PRIVATE KEY")) {
		return "", fmt.Errorf("%s is a private key; the public one, %s.pub perhaps, is wanted", path, path)
	}
	line := strings.TrimSpace(string(b))
	if line == "" || strings.Contains(line, "\n") {
		return "", fmt.Errorf("%s does not hold one public key", path)
	}
	return line, nil
}

// askPassword reads a password and gives its hash.
func askPassword(in io.Reader, out io.Writer) (string, error) {
	var pw []byte
	f, _ := in.(*os.File)
	if f != nil && term.IsTerminal(int(f.Fd())) {
		ask := func(prompt string) ([]byte, error) {
			fmt.Fprint(out, prompt)
			defer fmt.Fprintln(out)
			return term.ReadPassword(int(f.Fd()))
		}
		var again []byte
		var err error
		if pw, err = ask("Password: "); err != nil {
			return "", err
		}
		if again, err = ask("Once more: "); err != nil {
			return "", err
		}
		if !bytes.Equal(pw, again) {
			return "", errors.New("the two are not the same")
		}
	} else {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", err
		}
		pw = []byte(strings.TrimRight(line, "\r\n"))
	}
	if len([]rune(string(pw))) < minPassword {
		return "", fmt.Errorf("a password needs at least %d characters", minPassword)
	}
	if len(pw) > 72 {
		return "", errors.New("a password can have 72 bytes at most (bcrypt)")
	}
	hash, err := bcrypt.GenerateFromPassword(pw, cost)
	return string(hash), err
}
