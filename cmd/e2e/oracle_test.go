package e2e

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// peerPair is one pair of SAs as testdata/peer.py wants it.
type peerPair struct {
	Name   string   `json:"name"`
	Enc    int      `json:"enc"`   // IKEv2 transform numbers
	Integ  int      `json:"integ"` // 0: an AEAD
	InSPI  uint32   `json:"in_spi"`
	InKey  string   `json:"in_key"`
	InMAC  string   `json:"in_ikey"`
	OutSPI uint32   `json:"out_spi"`
	OutKey string   `json:"out_key"`
	OutMAC string   `json:"out_ikey"`
	ESN    bool     `json:"esn"`
	Local  string   `json:"local"`
	Remote string   `json:"remote"`
	Inner  []string `json:"inner"` // source and destination of what the peer sends
	UDP    bool     `json:"udp"`   // in UDP, from and to port 4500
	Mode   string   `json:"mode"`  // transport, or tunnel, also when empty

	suite  suite
	inner6 bool
	prefix string // the network behind the peer
	own    string // the network behind the vRouter
}

func colons(h string) string {
	var p []string
	for i := 0; i < len(h); i += 2 {
		p = append(p, h[i:i+2])
	}
	return strings.Join(p, ":")
}

func randomKey(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// suite is an algorithm, or two that go together, with lengths of keys in octets.
type suite struct {
	name           string
	enc, integ     int
	key, salt, mac int
}

var peerSuites = []suite{
	{"gcm-128", 20, 0, 16, 4, 0}, {"gcm-192", 20, 0, 24, 4, 0}, {"gcm-256", 20, 0, 32, 4, 0}, {"chacha20", 28, 0, 32, 4, 0},
	{"cbc-128/sha256", 12, 12, 16, 0, 32}, {"cbc-192/sha384", 12, 13, 24, 0, 48}, {"cbc-256/sha512", 12, 14, 32, 0, 64},
	{"cbc-256/sha256", 12, 12, 32, 0, 32}, {"cbc-128/sha1", 12, 2, 16, 0, 20},
	{"ctr-128/sha256", 13, 12, 16, 4, 32}, {"ctr-192/sha384", 13, 13, 24, 4, 48}, {"ctr-256/sha512", 13, 14, 32, 4, 64},
	{"null/sha1", 11, 2, 0, 0, 20}, {"null/sha256", 11, 12, 0, 0, 32}, {"null/sha384", 11, 13, 0, 0, 48}, {"null/sha512", 11, 14, 0, 0, 64},
}

// oraclePairs is suite × outer family × ESN × encapsulation × mode; the inner family
// goes with them in such a way that each suite has both in both.
func oraclePairs() (l []peerPair) {
	for n, s := range peerSuites {
		for k := range 16 {
			p := newPair(len(l), s, (k&1^k>>1^n)&1 != 0, k&1 != 0, k&2 != 0)
			p.UDP = k&4 != 0
			if k&8 != 0 {
				p.toTransport(len(l))
			}
			l = append(l, p)
		}
	}
	return l
}

// toTransport makes a pair one in transport mode, between the vRouter's address and
// one of the peer's that is only this pair's.
func (p *peerPair) toTransport(i int) {
	p.Mode, p.inner6 = "transport", strings.Contains(p.Local, ":")
	bits := "/32"
	if p.inner6 {
		p.Local, bits = fmt.Sprintf("2001:db8:ff::1:%x", i), "/128"
	} else {
		p.Local = fmt.Sprintf("192.0.%d.%d", 2+i/200, 20+i%200)
	}
	p.prefix, p.own = p.Local+bits, p.Remote+bits
	p.Inner = []string{p.Local, p.Remote}
}

func newPair(i int, s suite, inner6, outer6, esn bool) peerPair {
	p := peerPair{Name: fmt.Sprintf("p%d", i), Enc: s.enc, Integ: s.integ, suite: s,
		InSPI: uint32(0x1000 + i), OutSPI: uint32(0x2000 + i), ESN: esn, inner6: inner6}
	p.InKey, p.OutKey, p.InMAC, p.OutMAC = randomKey(s.key+s.salt), randomKey(s.key+s.salt), randomKey(s.mac), randomKey(s.mac)
	p.Local, p.Remote = "192.0.2.9", "192.0.2.1"
	if outer6 {
		p.Local, p.Remote = "2001:db8:ff::9", "2001:db8:ff::1"
	}
	p.prefix, p.own = fmt.Sprintf("10.%d.%d.0/24", 20+i/200, i%200), "10.1.0.0/24"
	p.Inner = []string{fmt.Sprintf("10.%d.%d.9", 20+i/200, i%200), "10.1.0.2"}
	if inner6 {
		p.prefix, p.own = fmt.Sprintf("2001:db8:%d::/64", 20+i), "2001:db8:1::/64"
		p.Inner = []string{fmt.Sprintf("2001:db8:%d::9", 20+i), "2001:db8:1::2"}
	}
	return p
}

func (p *peerPair) String() string {
	return fmt.Sprintf("%s %s (%s, inner IPv6 %v, outer %s, UDP %v, ESN %v)", p.Name, p.suite.name, p.mode(), p.inner6, p.Local, p.UDP, p.ESN)
}

func (p *peerPair) mode() string { return cmp.Or(p.Mode, "tunnel") }

// encapsulation, tunnel and selector are what a pair's SAs and policies say of it.
func (p *peerPair) encapsulation() string {
	if !p.UDP {
		return ""
	}
	return "<encapsulation-type><espencap>espinudp</espencap></encapsulation-type>"
}

func (p *peerPair) tunnel() string {
	if p.Mode == "transport" {
		return ""
	}
	return "<tunnel><local>" + p.Remote + "</local><remote>" + p.Local + "</remote></tunnel>"
}

func (p *peerPair) selector() string {
	proto := ""
	if p.Mode == "transport" { // of ICMP only, so that another protocol is a mismatch
		proto = "<inner-protocol>" + map[bool]string{false: "1", true: "58"}[p.inner6] + "</inner-protocol>"
	}
	return "<traffic-selector><local-prefix>" + p.own + "</local-prefix><remote-prefix>" + p.prefix + "</remote-prefix>" + proto + "</traffic-selector>"
}

// peerConfig is the vRouter's side of the pairs.
func peerConfig(pairs []peerPair, peerMAC string) string {
	var b strings.Builder
	neighbours := func(v6 bool) (text string) {
		seen := map[string]bool{}
		for i := range pairs {
			if a := pairs[i].Local; strings.Contains(a, ":") == v6 && !seen[a] {
				seen[a] = true
				text += "\n<neighbor><ip>" + a + "</ip><link-layer-address>" + peerMAC + "</link-layer-address></neighbor>"
			}
		}
		return text
	}
	fmt.Fprintf(&b, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">
<interface><name>lan0</name><type>ianaift:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>10.1.0.1</ip><prefix-length>24</prefix-length></address></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>2001:db8:1::1</ip><prefix-length>64</prefix-length></address></ipv6></interface>
<interface><name>wan0</name><type>ianaift:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>192.0.2.1</ip><prefix-length>23</prefix-length></address>%s</ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>2001:db8:ff::1</ip><prefix-length>64</prefix-length></address>%s</ipv6></interface></interfaces>
<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless">`, neighbours(false), neighbours(true))
	b.WriteString("<spd>")
	for i := range pairs {
		p := &pairs[i]
		for d, dir := range []string{"outbound", "inbound"} {
			fmt.Fprintf(&b, `<spd-entry><name>%s-%s</name><direction>%s</direction><reqid>%d</reqid><ipsec-policy-config><anti-replay-window-size>64</anti-replay-window-size>%s<processing-info><action>protect</action>
<ipsec-sa-cfg><ext-seq-num>%v</ext-seq-num><mode>%s</mode><esp-algorithms><integrity>%d</integrity><encryption><id>1</id><algorithm-type>%d</algorithm-type><key-length>%d</key-length></encryption></esp-algorithms>
%s</ipsec-sa-cfg></processing-info></ipsec-policy-config></spd-entry>`,
				p.Name, dir, dir, 1000+1000*d+i, p.selector(), p.ESN, p.mode(), p.Integ, p.Enc, p.suite.key*8, p.tunnel())
		}
	}
	b.WriteString("</spd><sad>")
	for i := range pairs {
		p := &pairs[i]
		for d, sa := range []struct {
			dir, key, mac string
			spi           uint32
		}{{"outbound", p.InKey, p.InMAC, p.InSPI}, {"inbound", p.OutKey, p.OutMAC, p.OutSPI}} {
			esp, legacy := fmt.Sprintf("<encryption><encryption-algorithm>%d</encryption-algorithm>", p.Enc), ""
			if sa.key != "" {
				esp += "<key>" + colons(sa.key) + "</key>"
			}
			esp += "</encryption>"
			if p.Integ != 0 {
				esp += fmt.Sprintf("<integrity><integrity-algorithm>%d</integrity-algorithm><key>%s</key></integrity>", p.Integ, colons(sa.mac))
			}
			if p.Integ == 2 {
				legacy = `<allow-legacy xmlns="urn:vrouter:yang:vrouter-sal">true</allow-legacy>`
			}
			fmt.Fprintf(&b, `<sad-entry><name>%s-%s</name><reqid>%d</reqid><ipsec-sa-config><spi>%d</spi><ext-seq-num>%v</ext-seq-num><anti-replay-window-size>64</anti-replay-window-size>%s<mode>%s</mode>
<esp-sa>%s</esp-sa>%s%s</ipsec-sa-config>%s</sad-entry>`,
				p.Name, sa.dir, 1000+1000*d+i, sa.spi, p.ESN, p.selector(), p.mode(), esp, p.tunnel(), p.encapsulation(), legacy)
		}
	}
	b.WriteString("</sad></ipsec-ikeless>")
	return b.String()
}

// found is a line of peer.py.
type found struct {
	Ready bool   `json:"ready"`
	Name  string `json:"name"`
	Seq   uint32 `json:"seq"`
	OK    bool   `json:"ok"`
	Inner string `json:"inner"`
	Scapy any    `json:"scapy"`
	Error string `json:"error"`
	Sent  string `json:"sent"`
}

// An independent peer opens what we sent, byte for byte as scapy does, and we
// open what scapy sent: algorithms × inner × outer × ESN × encapsulation × mode; and of
// each algorithm, with and without ESN, in each encapsulation and mode, each bad
// packet dies of its own reason.
func TestOracle(t *testing.T) {
	need(t, "tcpdump", "tshark", "python3:scapy.all", "python3:cryptography")
	b := newBed(t)
	mac := func(n *lab.NS, dev string) string {
		out, err := n.Run("cat", "/sys/class/net/"+dev+"/address")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	pairs := oraclePairs()
	b.edit(b.A, peerConfig(pairs, mac(b.Wan, "wan")))
	sas := b.Lab.Path("pairs.json")
	j, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sas, j, 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/peer.py")
	if err != nil {
		t.Fatal(err)
	}
	peer := b.Wan.Command("/usr/bin/python3", script, "wan", sas, mac(b.A.NS, "wan0"))
	stdin, err1 := peer.StdinPipe()
	stdout, err2 := peer.StdoutPipe()
	peer.Stderr = os.Stderr
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Process.Kill(); _ = peer.Wait() })
	lines := make(chan found, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			var f found
			if json.Unmarshal(s.Bytes(), &f) == nil {
				lines <- f
			}
		}
	}()
	next := func() found {
		select {
		case f := <-lines:
			return f
		case <-time.After(15 * time.Second):
			t.Fatal("the peer says nothing")
			return found{}
		}
	}
	if f := next(); !f.Ready {
		t.Fatalf("the peer did not start: %+v", f)
	}
	wan, err := b.Wan.Capture("oracle", "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		for i := range 3 {
			if p.Mode == "transport" { // the peer pings us, and judges the answer
				fmt.Fprintf(stdin, `{"name":%q,"fault":"good","seq":%d}`+"\n", p.Name, i+1)
				if f := next(); f.Sent != "good" {
					t.Fatalf("%v: the peer said %+v", &p, f)
				}
				if f := next(); f.Name != p.Name || !f.OK || f.Scapy != scapyOf(&p) || f.Seq != uint32(i+1) {
					t.Errorf("%v: the peer found %+v", &p, f)
				}
				continue
			}
			// One at a time: a ping of several does not wait for its last answer longer
			// than for those before.
			if out, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "5", "-s", "133", p.Inner[0]); err != nil {
				t.Errorf("%v: %v\n%s", &p, err, out)
			}
			if f := next(); f.Name != p.Name || !f.OK || f.Scapy != scapyOf(&p) || f.Seq != uint32(i+1) {
				t.Errorf("%v: the peer found %+v", &p, f)
			}
		}
	}
	wan.Stop()
	if n, err := wan.Count(inTheClear + " and not udp port 4500"); err != nil || n != 0 {
		t.Errorf("%d packets in the clear on the WAN (%v)", n, err)
	}
	tshark(t, wan.File, pairs)
	host, err := b.HostA.Capture("faults", "eth0", "icmp or icmp6")
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for i := range pairs {
		// Each suite with and without ESN, in each encapsulation and mode, over one
		// family each.
		if k := i % 4; k == i/4%2 || k == 2+(i/4+1)%2 {
			faults(t, b, stdin, next, &pairs[i], 64, i < 16)
			if pairs[i].mode() == "tunnel" {
				good += 3
			}
		}
	}
	host.Stop()
	if n, err := host.Count("icmp[0] == 8 or (icmp6 and ip6[40] == 128)"); err != nil || n != good {
		t.Errorf("the host got %d echo requests of %d good ones (%v)", n, good, err)
	}
	b.buffersAccounted()
}

// scapyOf is what scapy says of a good packet. It does not know HMAC with ESN: there
// the peer's own code judges alone.
func scapyOf(p *peerPair) any {
	if p.ESN && p.Integ != 0 {
		return nil
	}
	return true
}

// tshark decrypts the SAs without ESN, both ways (4.0 has no ESN).
func tshark(t *testing.T, file string, pairs []peerPair) {
	t.Helper()
	args := []string{"-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
		"-T", "fields", "-e", "esp.spi", "-e", "esp.icv_good", "-e", "icmp.type", "-e", "icmpv6.type", "-Y", "esp"}
	want := 0
	for _, p := range pairs {
		if p.ESN || p.Enc == 28 { // tshark 4.0 knows neither
			continue
		}
		want += 2 * 3
		family := "IPv4"
		if strings.Contains(p.Local, ":") {
			family = "IPv6"
		}
		for _, sa := range []struct {
			spi      uint32
			key, mac string
		}{{p.InSPI, p.InKey, p.InMAC}, {p.OutSPI, p.OutKey, p.OutMAC}} {
			args = append(args, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","%#010x","%s","%s","%s","%s"`, family, sa.spi,
				tsharkNames[p.Enc], hex0(sa.key), tsharkMACs[p.Integ], hex0(sa.mac)))
		}
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	good := 0
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Split(line, "\t"); len(f) == 4 && f[1] == "1" && (f[2] == "8" || f[2] == "0" || f[3] == "128" || f[3] == "129") {
			good++
		}
	}
	if good != want {
		t.Errorf("tshark opened %d packets of %d with a good ICV to an echo request or reply:\n%s", good, want, out)
	}
}

var (
	tsharkNames = map[int]string{20: "AES-GCM with 16 octet ICV [RFC4106]", 12: "AES-CBC [RFC3602]", 13: "AES-CTR [RFC3686]", 11: "NULL"}
	tsharkMACs  = map[int]string{0: "NULL", 2: "HMAC-SHA-1-96 [RFC2404]", 12: "HMAC-SHA-256-128 [RFC4868]",
		13: "HMAC-SHA-384-192 [RFC4868]", 14: "HMAC-SHA-512-256 [RFC4868]"}
)

func hex0(key string) string {
	if key == "" {
		return ""
	}
	return "0x" + key
}

// faults sends one bad packet of each kind: each is dropped under its own
// reason, and no other counter moves. With single the counters are looked at behind
// each, else behind all.
func faults(t *testing.T, b *bed, stdin io.Writer, next func() found, p *peerPair, window int, single bool) {
	t.Helper()
	// With ESN a number left of the window is taken for one of the next 2^32
	// (RFC 4303 appendix A2.2), so it is the ICV that fails.
	late := "esp-late"
	if p.ESN {
		late = "esp-bad-icv"
	}
	drops := func() map[string]int {
		m := b.drops(b.A)
		delete(m, "ip-multicast") // what the host's kernel says by itself
		return m
	}
	// In transport mode any upper protocol can be next, but it must be the selector's.
	other := "esp-bad-next"
	if p.Mode == "transport" {
		other = "ipsec-policy-mismatch"
	}
	want := drops()
	counted := func(what string) {
		var after map[string]int
		if err := lab.Until(3*time.Second, "counted", func() bool {
			after = drops()
			for reason, n := range want {
				if after[reason] < n {
					return false
				}
			}
			return true
		}); err != nil || fmt.Sprint(after) != fmt.Sprint(want) {
			t.Errorf("%v, %s: drops %v, want %v", p, what, after, want)
		}
		want = after
	}
	for _, c := range []struct {
		fault  string
		seq    int
		reason string // "" when it must arrive
	}{
		{"good", 1000, ""}, {"replay", 1000, "esp-replay"}, {"icv", 1001, "esp-bad-icv"}, {"cipher", 1002, "esp-bad-icv"},
		{"iv", 1002, "esp-bad-icv"}, {"length", 1003, "esp-short"},
		{"spi", 1003, "esp-no-sa"}, {"short", 1004, "esp-short"}, {"pad", 1005, "esp-bad-pad"}, {"next", 1006, other}, {"encapsulation", 1007, "esp-encapsulation"}, {"clear", 0, "ipsec-unprotected"},
		{"replay", 1006 - window, late}, {"good", 1006 - window + 1, ""}, {"good", 1001, ""},
	} {
		if c.fault == "iv" && p.Enc == 11 {
			continue // it has none
		}
		if c.seq == 1006-window {
			counted("so far") // the window is where it is only when the others are through
		}
		fmt.Fprintf(stdin, `{"name":%q,"fault":%q,"seq":%d}`+"\n", p.Name, c.fault, c.seq)
		for f := next(); f.Sent != c.fault; f = next() {
		}
		if c.reason != "" {
			want[c.reason]++
		}
		if single {
			counted(fmt.Sprintf("fault %s (sequence %d)", c.fault, c.seq))
		}
	}
	counted("all faults")
}
