package e2e

import (
	"bufio"
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
	InSPI  uint32   `json:"in_spi"`
	InKey  string   `json:"in_key"`
	OutSPI uint32   `json:"out_spi"`
	OutKey string   `json:"out_key"`
	ESN    bool     `json:"esn"`
	Local  string   `json:"local"`
	Remote string   `json:"remote"`
	Inner  []string `json:"inner"` // source and destination of what the peer sends

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

// allPairs is inner × outer family × ESN, key lengths in turn.
func allPairs() (l []peerPair) {
	for i := range 8 {
		p := peerPair{Name: fmt.Sprintf("p%d", i), InSPI: uint32(0x1000 + i), OutSPI: uint32(0x2000 + i), ESN: i&4 != 0, inner6: i&1 != 0}
		size := []int{20, 36}[i/2%2]
		p.InKey, p.OutKey = randomKey(size), randomKey(size)
		p.Local, p.Remote = "192.0.2.9", "192.0.2.1"
		if i&2 != 0 {
			p.Local, p.Remote = "2001:db8:ff::9", "2001:db8:ff::1"
		}
		p.prefix, p.own = fmt.Sprintf("10.%d.0.0/24", 20+i), "10.1.0.0/24"
		p.Inner = []string{fmt.Sprintf("10.%d.0.9", 20+i), "10.1.0.2"}
		if p.inner6 {
			p.prefix, p.own = fmt.Sprintf("2001:db8:%d::/64", 20+i), "2001:db8:1::/64"
			p.Inner = []string{fmt.Sprintf("2001:db8:%d::9", 20+i), "2001:db8:1::2"}
		}
		l = append(l, p)
	}
	return l
}

// config is the vRouter's side of the pairs.
func peerConfig(pairs []peerPair, peerMAC string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">
<interface><name>lan0</name><type>ianaift:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>10.1.0.1</ip><prefix-length>24</prefix-length></address></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>2001:db8:1::1</ip><prefix-length>64</prefix-length></address></ipv6></interface>
<interface><name>wan0</name><type>ianaift:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>192.0.2.1</ip><prefix-length>24</prefix-length></address>
<neighbor><ip>192.0.2.9</ip><link-layer-address>%[1]s</link-layer-address></neighbor></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>2001:db8:ff::1</ip><prefix-length>64</prefix-length></address>
<neighbor><ip>2001:db8:ff::9</ip><link-layer-address>%[1]s</link-layer-address></neighbor></ipv6></interface></interfaces>
<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless">`, peerMAC)
	selector := func(p *peerPair) string {
		return "<traffic-selector><local-prefix>" + p.own + "</local-prefix><remote-prefix>" + p.prefix + "</remote-prefix></traffic-selector>"
	}
	b.WriteString("<spd>")
	for i := range pairs {
		p := &pairs[i]
		for d, dir := range []string{"outbound", "inbound"} {
			fmt.Fprintf(&b, `<spd-entry><name>%s-%s</name><direction>%s</direction><reqid>%d</reqid><ipsec-policy-config><anti-replay-window-size>64</anti-replay-window-size>%s<processing-info><action>protect</action>
<ipsec-sa-cfg><ext-seq-num>%v</ext-seq-num><mode>tunnel</mode><esp-algorithms><encryption><id>1</id><algorithm-type>20</algorithm-type><key-length>%d</key-length></encryption></esp-algorithms>
<tunnel><local>%s</local><remote>%s</remote></tunnel></ipsec-sa-cfg></processing-info></ipsec-policy-config></spd-entry>`,
				p.Name, dir, dir, 100+100*d+i, selector(p), p.ESN, (len(p.InKey)/2-4)*8, p.Remote, p.Local)
		}
	}
	b.WriteString("</spd><sad>")
	for i := range pairs {
		p := &pairs[i]
		for d, sa := range []struct {
			dir, key string
			spi      uint32
		}{{"outbound", p.InKey, p.InSPI}, {"inbound", p.OutKey, p.OutSPI}} {
			fmt.Fprintf(&b, `<sad-entry><name>%s-%s</name><reqid>%d</reqid><ipsec-sa-config><spi>%d</spi><ext-seq-num>%v</ext-seq-num><anti-replay-window-size>64</anti-replay-window-size>%s<mode>tunnel</mode>
<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>%s</key></encryption></esp-sa><tunnel><local>%s</local><remote>%s</remote></tunnel></ipsec-sa-config></sad-entry>`,
				p.Name, sa.dir, 100+100*d+i, sa.spi, p.ESN, selector(p), colons(sa.key), p.Remote, p.Local)
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
// open what scapy sent: inner × outer × ESN × key length.
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
	pairs := allPairs()
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
		out, err := b.HostA.Run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-s", "133", p.Inner[0])
		if err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%s (inner IPv6 %v, outer %s, ESN %v): %v\n%s", p.Name, p.inner6, p.Local, p.ESN, err, out)
		}
		for i := range 3 {
			if f := next(); f.Name != p.Name || !f.OK || f.Scapy != true || f.Seq != uint32(i+1) {
				t.Errorf("%s: the peer found %+v", p.Name, f)
			}
		}
	}
	wan.Stop()
	b.noClear(wan)
	tshark(t, wan.File, pairs)
	faults(t, b, stdin, next, &pairs[0], 64)
	faults(t, b, stdin, next, &pairs[7], 64)
	b.buffersAccounted()
}

// tshark decrypts the SAs without ESN, both ways (4.0 has no ESN).
func tshark(t *testing.T, file string, pairs []peerPair) {
	t.Helper()
	args := []string{"-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
		"-T", "fields", "-e", "esp.spi", "-e", "esp.icv_good", "-e", "icmp.type", "-e", "icmpv6.type", "-Y", "esp"}
	for _, p := range pairs {
		if p.ESN {
			continue
		}
		family := "IPv4"
		if strings.Contains(p.Local, ":") {
			family = "IPv6"
		}
		for _, sa := range []struct {
			spi uint32
			key string
		}{{p.InSPI, p.InKey}, {p.OutSPI, p.OutKey}} {
			args = append(args, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","%#010x","AES-GCM with 16 octet ICV [RFC4106]","0x%s","NULL",""`, family, sa.spi, sa.key))
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
	if good != 4*2*3 {
		t.Errorf("tshark opened %d packets of 24 with a good ICV to an echo request or reply:\n%s", good, out)
	}
}

// faults sends one bad packet of each kind: each is dropped under its own
// reason, and no other counter moves.
func faults(t *testing.T, b *bed, stdin io.Writer, next func() found, p *peerPair, window int) {
	t.Helper()
	host, err := b.HostA.Capture("faults-"+p.Name, "eth0", "icmp or icmp6")
	if err != nil {
		t.Fatal(err)
	}
	// With ESN a number left of the window is taken for one of the next 2^32
	// (RFC 4303 appendix A2.2), so it is the ICV that fails.
	late := "esp-late"
	if p.ESN {
		late = "esp-bad-icv"
	}
	for _, c := range []struct {
		fault  string
		seq    int
		reason string // "" when it must arrive
	}{
		{"good", 1000, ""}, {"replay", 1000, "esp-replay"}, {"icv", 1001, "esp-bad-icv"}, {"cipher", 1002, "esp-bad-icv"},
		{"spi", 1003, "esp-no-sa"}, {"short", 1004, "esp-short"}, {"pad", 1005, "esp-bad-pad"}, {"next", 1006, "esp-bad-next"},
		{"replay", 1006 - window, late}, {"good", 1006 - window + 1, ""}, {"good", 1001, ""},
	} {
		before := b.drops(b.A)
		fmt.Fprintf(stdin, `{"name":%q,"fault":%q,"seq":%d}`+"\n", p.Name, c.fault, c.seq)
		for f := next(); f.Sent != c.fault; f = next() {
		}
		want := before
		if c.reason != "" {
			want[c.reason]++
		}
		var after map[string]int
		if err := lab.Until(3*time.Second, "counted", func() bool {
			after = b.drops(b.A)
			return after[c.reason] >= want[c.reason]
		}); err != nil || fmt.Sprint(after) != fmt.Sprint(want) {
			t.Errorf("%s, fault %s (sequence %d): drops %v, want %v", p.Name, c.fault, c.seq, after, want)
		}
	}
	host.Stop()
	if n, err := host.Count("icmp[0] == 8 or (icmp6 and ip6[40] == 128)"); err != nil || n != 3 {
		t.Errorf("%s: the host got %d echo requests of 3 good ones (%v)", p.Name, n, err)
	}
}
