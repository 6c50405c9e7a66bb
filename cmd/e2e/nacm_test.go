package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// An ordinary user with ncclient, under rules that an administrator commits:
// keys are invisible, a forbidden edit is refused with its path, a permitted one
// is done; and root on this machine can always mend the rules.
func TestAccess(t *testing.T) {
	need(t, "tcpdump", "python3:ncclient")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	file, keyFile, _ := users(t, l)
	addUser(t, file, "carol", "user")
	b := bedIn(t, l, "--users", file, "--fastpathd-arg=-crypto-threads=1")
	script, err := filepath.Abs("testdata/access.py")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := filepath.Abs("../../testdata/demo/site-a.xml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.A.NS.RunFor(time.Minute, "/usr/bin/python3", script, "830", keyFile, conf)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)

	// The rules now deny everything to everyone; root on the unix socket is under
	// no rule (RFC 8341 section 3.3.3) and takes them away.
	away := l.Path("away.xml")
	if err := os.WriteFile(away, []byte(`<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"/>`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := b.A.Ctl("edit", away, "--commit"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// No key came into the log by any of this.
	text, err := os.ReadFile(b.A.Proc.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(t, conf) {
		if strings.Contains(string(text), key) {
			t.Error("a key is in the log")
		}
	}
}

// addUser adds one who logs in with the key of the first.
func addUser(t *testing.T, file, name, role string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Users []map[string]any `json:"users"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	f.Users = append(f.Users, map[string]any{"name": name, "role": role, "authorized-keys": f.Users[0]["authorized-keys"]})
	if b, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// keysOf gives the keys in a configuration.
func keysOf(t *testing.T, file string) (keys []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(string(b), "<key>")[1:] {
		key, _, _ := strings.Cut(s, "</key>")
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		t.Fatal("no keys in ", file)
	}
	return keys
}
