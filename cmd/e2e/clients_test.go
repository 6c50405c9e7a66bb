package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	juniper "github.com/Juniper/go-netconf/netconf"
	"github.com/scrapli/scrapligo/driver/netconf"
	"github.com/scrapli/scrapligo/driver/options"
	"golang.org/x/crypto/ssh"

	"vrouter/cmd/internal/lab"
)

// users writes a users file with an administrator and an operator who log in
// with one key; it gives the file and the private key's.
func users(t *testing.T, l *lab.Lab) (file, keyFile string, signer ssh.Signer) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	keyFile = l.Path("id_ed25519")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p)))
	type user struct {
		Name string   `json:"name"`
		Role string   `json:"role"`
		Keys []string `json:"authorized-keys"`
	}
	b, err := json.Marshal(map[string]any{"users": []user{{"admin", "admin", []string{line}}, {"operator", "operator", []string{line}}}})
	if err != nil {
		t.Fatal(err)
	}
	file = l.Path("users.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return file, keyFile, signer
}

var comment = regexp.MustCompile(`(?s)<!--.*?-->`)

func siteConfig(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../testdata/demo/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return comment.ReplaceAllString(string(b), "")
}

const deleteAll = `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"/>
<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"/>
<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"/>`

// Three NETCONF clients that this project did not write each configure the
// tunnel over SSH; after each one it carries packets.
func TestClients(t *testing.T) {
	need(t, "tcpdump", "python3:ncclient")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	file, keyFile, signer := users(t, l)
	b := bedIn(t, l, "--users", file)
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")

	t.Run("ncclient", func(t *testing.T) {
		script, err := filepath.Abs("testdata/configure.py")
		if err != nil {
			t.Fatal(err)
		}
		conf, err := filepath.Abs("../../testdata/demo/site-a.xml")
		if err != nil {
			t.Fatal(err)
		}
		out, err := b.A.NS.RunFor(2*time.Minute, "/usr/bin/python3", script, "830", keyFile, conf)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(out)
		b.resolve()
	})
	t.Run("go-netconf", func(t *testing.T) {
		b.edit(b.A, deleteAll)
		var s *juniper.Session
		if err := b.A.NS.Do(func() (err error) {
			s, err = juniper.DialSSH("127.0.0.1:830", &ssh.ClientConfig{User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, rpc := range []string{
			"<edit-config><target><candidate/></target><config>" + siteConfig(t, "site-a.xml") + "</config></edit-config>",
			"<validate><source><candidate/></source></validate>", "<commit/>",
		} {
			if r, err := s.Exec(juniper.RawMethod(rpc)); err != nil {
				t.Fatalf("%.40s: %v %+v", rpc, err, r)
			}
		}
		b.resolve()
		r, err := s.Exec(juniper.RawMethod(`<get><filter type="subtree">` + `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad/></ipsec-ikeless></filter></get>`))
		if err != nil || !strings.Contains(r.Data, "seq-number-counter") {
			t.Errorf("SA state: %v\n%.2000s", err, r.Data)
		}
	})
	t.Run("scrapligo", func(t *testing.T) {
		b.edit(b.A, deleteAll)
		d, err := netconf.NewDriver("127.0.0.1", options.WithAuthNoStrictKey(), options.WithAuthUsername("admin"), options.WithAuthPrivateKey(keyFile, ""),
			options.WithPort(830), options.WithTransportType("standard"), options.WithTimeoutOps(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.A.NS.Do(d.Open); err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		check := func(what string, failed error, err error, result string) {
			t.Helper()
			if err != nil || failed != nil {
				t.Fatalf("%s: %v %v\n%.2000s", what, err, failed, result)
			}
		}
		r, err := d.EditConfig("candidate", "<config>"+siteConfig(t, "site-a.xml")+"</config>")
		check("edit-config", r.Failed, err, r.Result)
		r, err = d.Commit()
		check("commit", r.Failed, err, r.Result)
		b.resolve()
		r, err = d.Get(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"/>`)
		check("get", r.Failed, err, r.Result)
		if !strings.Contains(r.Result, "oper-status") {
			t.Errorf("interface state:\n%.2000s", r.Result)
		}
	})
	b.buffersAccounted()
}
