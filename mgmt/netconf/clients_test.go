package netconf

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	juniper "github.com/Juniper/go-netconf/netconf"
	scrapli "github.com/scrapli/scrapligo/driver/netconf"
	"github.com/scrapli/scrapligo/driver/opoptions"
	"github.com/scrapli/scrapligo/driver/options"
	"github.com/scrapli/scrapligo/response"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"vrouter/mgmt/netconf/frame"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
)

// An sshBed is a bed that serves SSH on loopback to alice (key, admin) and bob
// (password sesame, operator).
type sshBed struct {
	*bed
	host    string
	port    int
	key     ssh.Signer
	keyFile string
	hostKey ssh.PublicKey
}

func newSSHBed(t testing.TB) *sshBed {
	t.Helper()
	s := &sshBed{host: "127.0.0.1"}
	dir := t.TempDir()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.key, err = ssh.NewSignerFromKey(priv); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	s.keyFile = filepath.Join(dir, "id")
	if err := os.WriteFile(s.keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pw, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "users.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"users":[{"name":"alice","role":"admin","authorized-keys":[%q]},{"name":"bob","role":"operator","password":%q}]}`,
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.key.PublicKey()))), pw), 0o600); err != nil {
		t.Fatal(err)
	}
	s.bed = newBed(t, func(o *Options) {
		if o.Users, err = users.Open(file, nil); err != nil {
			t.Fatal(err)
		}
		if o.HostKeys, err = transport.HostKeys(dir); err != nil {
			t.Fatal(err)
		}
		s.hostKey = o.HostKeys[0].PublicKey()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.srv.ServeSSH(ctx, l) }()
	t.Cleanup(func() { // before the bed's own
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("ServeSSH does not end")
		}
	})
	return s
}

func (s *sshBed) addr() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

func (s *sshBed) config(user string, auth ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.FixedHostKey(s.hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: 5 * time.Second}
}

// raw connects the raw client over SSH.
func (s *sshBed) raw() *client {
	s.t.Helper()
	conn, err := ssh.Dial("tcp", s.addr(), s.config("alice", ssh.PublicKeys(s.key)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	sess, err := conn.NewSession()
	if err != nil {
		s.t.Fatal(err)
	}
	in, _ := sess.StdinPipe()
	out, _ := sess.StdoutPipe()
	if err := sess.RequestSubsystem("netconf"); err != nil {
		s.t.Fatal(err)
	}
	c := &client{t: s.t, conn: sshPipe{in, out, nil}, r: frame.NewReader(out, 1<<28), w: frame.NewWriter(in)}
	c.hello(base10, base11)
	return c
}

// sshPipe is as much of a net.Conn as the client needs.
type sshPipe struct {
	io.Writer
	io.Reader
	net.Conn
}

func (p sshPipe) Write(b []byte) (int, error) { return p.Writer.Write(b) }
func (p sshPipe) Read(b []byte) (int, error)  { return p.Reader.Read(b) }

// tunnel is a whole configuration with an IPsec tunnel.
func tunnel(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../yang/testdata/accepted/tunnel.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// configured checks that running has the tunnel, as the server itself sees it.
func (b *bed) configured() {
	b.t.Helper()
	d := b.open(alice).data(getRunning(subtree(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"/>`)))
	for _, want := range []string{"<spi>4096</spi>", "<spi>4097</spi>", "<key>00:01:02:03", "<remote>192.0.2.2</remote>"} {
		if !strings.Contains(d, want) {
			b.t.Errorf("running lacks %s: %s", want, d)
		}
	}
}

// Juniper's go-netconf: base:1.0, password. Its user may write keys, but not
// read them.
func TestGoNetconf(t *testing.T) {
	b := newSSHBed(t)
	b.open(alice).ok(edit("running", rules(`<rule-list><name>keys</name><group>operator</group><rule><name>write</name>`+
		`<path xmlns:i="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless">/i:ipsec-ikeless/i:sad</path><access-operations>create</access-operations><action>permit</action></rule></rule-list>`)))
	s, err := juniper.DialSSH(b.addr(), b.config("bob", ssh.Password("sesame")))
	if err != nil {
		t.Fatal(err)
	}
	if s.SessionID == 0 || len(s.ServerCapabilities) < 10 {
		t.Error(s.SessionID, s.ServerCapabilities)
	}
	exec := func(m juniper.RawMethod) string {
		t.Helper()
		r, err := s.Exec(m)
		if err != nil {
			t.Fatalf("%v: %s", err, m)
		}
		return r.Data
	}
	exec(juniper.MethodLock("candidate"))
	exec(juniper.RawMethod(edit("candidate", tunnel(t))))
	exec(`<validate><source><candidate/></source></validate>`)
	exec(commitOp)
	exec(juniper.MethodUnlock("candidate"))
	if d := exec(juniper.MethodGetConfig("running")); !strings.Contains(d, "<spi>4096</spi>") || strings.Contains(d, "a0:a1:a2:a3") {
		t.Error(d)
	}
	if _, err := s.Exec(juniper.RawMethod(edit("running", `<bogus/>`))); err == nil {
		t.Error("an error was not seen")
	}
	exec(juniper.MethodGetConfig("candidate"))
	exec(`<close-session/>`)
	if err := s.Close(); err != nil && err != io.EOF {
		t.Error(err)
	}
	b.configured()
}

// scrapligo: base:1.1 and base:1.0, its own SSH library and the ssh program.
func TestScrapligo(t *testing.T) {
	for _, c := range []struct{ transport, version string }{{"standard", "1.1"}, {"standard", "1.0"}, {"system", "1.1"}} {
		t.Run(c.transport+c.version, func(t *testing.T) {
			b := newSSHBed(t)
			if _, err := exec.LookPath("ssh"); c.transport == "system" && err != nil {
				needed(t, err)
			}
			d, err := scrapli.NewDriver(b.host, options.WithPort(b.port), options.WithAuthNoStrictKey(), options.WithTransportType(c.transport),
				options.WithAuthUsername("alice"), options.WithAuthPrivateKey(b.keyFile, ""), options.WithNetconfPreferredVersion(c.version), options.WithTimeoutOps(20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Open(); err != nil {
				t.Fatal(err)
			}
			if d.SelectedVersion != c.version || d.SessionID() == 0 || !d.ServerHasCapability(base11) {
				t.Error(d.SelectedVersion, d.SessionID())
			}
			ok := func(r *response.NetconfResponse, err error) string {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if r.Failed != nil {
					t.Fatal(r.Failed, r.Result)
				}
				return r.Result
			}
			ok(d.Lock("candidate"))
			ok(d.EditConfig("candidate", "<config>"+tunnel(t)+"</config>"))
			ok(d.Validate("candidate"))
			ok(d.Commit())
			ok(d.Unlock("candidate"))
			if s := ok(d.GetConfig("running")); !strings.Contains(s, "4097") {
				t.Error(s)
			}
			if s := ok(d.Get("/interfaces/interface[name='wan0']/port", opoptions.WithFilterType("xpath"))); !strings.Contains(s, "02:00:00:00:00:01") || strings.Contains(s, "lan0") {
				t.Error(s)
			}
			if s := ok(d.Get(`<netconf-state xmlns="` + nsMonitoring + `"><sessions/></netconf-state>`)); !strings.Contains(s, "alice") {
				t.Error(s)
			}
			if s := ok(d.GetConfig("running", opoptions.WithFilter(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name></interface></interfaces>`), opoptions.WithDefaultType("report-all"))); !strings.Contains(s, "<enabled") || strings.Contains(s, "wan0") {
				t.Error(s)
			}
			if r, err := d.EditConfig("candidate", `<config><bogus xmlns="urn:x"/></config>`); err != nil || r.Failed == nil || !strings.Contains(r.Result, "unknown-namespace") {
				t.Error(err, r)
			}
			ok(d.CopyConfig("running", "startup"))
			ok(d.DeleteConfig("startup"))
			ok(d.EditConfig("candidate", "<config>"+iface("eth9", "")+"</config>"))
			ok(d.Discard())
			if err := d.Close(); err != nil {
				t.Log(err) // closing twice is the client's way
			}
			b.configured()
		})
	}
}

// needed skips where a program may be absent, and fails where it may not.
func needed(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// OpenSSH's client, as in the examples of RFC 6242: ssh -s netconf.
func TestOpenSSH(t *testing.T) {
	prog, err := exec.LookPath("ssh")
	if err != nil {
		needed(t, err)
	}
	b := newSSHBed(t)
	known := filepath.Join(t.TempDir(), "known")
	line := fmt.Sprintf("[%s]:%d %s", b.host, b.port, ssh.MarshalAuthorizedKey(b.hostKey))
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prog, "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+known, "-o", "IdentitiesOnly=yes",
		"-i", b.keyFile, "-p", strconv.Itoa(b.port), "-s", "alice@"+b.host, "netconf")
	cmd.Stdin = strings.NewReader(`<hello xmlns="` + nsBase + `"><capabilities><capability>` + base11 + `</capability></capabilities></hello>]]>]]>` +
		fmt.Sprintf("\n#%d\n%s\n##\n", len(closeRPC), closeRPC))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hello, rest, _ := strings.Cut(string(out), "]]>]]>")
	want := `<rpc-reply xmlns="` + nsBase + `" message-id="1"><ok/></rpc-reply>`
	if !strings.Contains(hello, "<session-id>1</session-id>") || rest != fmt.Sprintf("\n#%d\n%s\n##\n", len(want), want) {
		t.Errorf("%s", out)
	}
}

// yangcli of yuma123: reads the capabilities, fetches schemas, gets and edits.
func TestYangcli(t *testing.T) {
	prog, err := exec.LookPath("yangcli")
	if err != nil {
		needed(t, err)
	}
	b := newSSHBed(t)
	b.open(alice).ok(edit("running", iface("eth77", "")))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, prog, "--server="+b.host, "--ncport="+strconv.Itoa(b.port), "--user=bob", "--password=sesame",
		"--batch-mode", "--run-command=get-config source=running")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // it keeps files there
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"(base:1.1)", "Default target set to: <candidate> (<running> also supported)", "Default with-defaults behavior: explicit", "eth77"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

const closeRPC = `<rpc xmlns="` + nsBase + `" message-id="1"><close-session/></rpc>`

// ncclient, as Debian has it, runs the behaviours in testdata/ncclient_test.py.
func TestNcclient(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's; python3-ncclient belongs to it
	if out, err := exec.Command(python, "-c", "import ncclient").CombinedOutput(); err != nil {
		needed(t, fmt.Errorf("python3-ncclient: %w: %s", err, out))
	}
	b := newSSHBed(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/ncclient_behaviour.py", b.host, strconv.Itoa(b.port), b.keyFile, "../../yang/testdata/accepted/tunnel.xml").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	b.configured()
}
