package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// kernelAlg is an algorithm as RFC 9061 and as the Linux kernel write it.
type kernelAlg struct {
	name   string
	enc    int // IKEv2 encryption transform id
	encKey int // bytes, with salt
	integ  int // IKEv2 integrity transform id; 0: AEAD
	intKey int
	linux  func(encKey, intKey string) string
}

func aead(name string) func(string, string) string {
	return func(k, _ string) string { return "aead '" + name + "' 0x" + k + " 128" }
}

func encAuth(enc, auth string, bits int) func(string, string) string {
	return func(k, a string) string {
		if k != "" {
			k = "0x" + k
		}
		return fmt.Sprintf("enc '%s' '%s' auth-trunc '%s' 0x%s %d", enc, k, auth, a, bits)
	}
}

// hasSalt: the last four octets of its key are no key to the cipher.
func (a *kernelAlg) hasSalt() bool { return a.enc == 13 || a.enc == 20 || a.enc == 28 }

// kernelAlgs × ESN × families is what the kernel and the vRouter exchange. A new
// algorithm is a line here.
var kernelAlgs = []kernelAlg{
	{"aes-gcm-16-128", 20, 20, 0, 0, aead("rfc4106(gcm(aes))")},
	{"aes-gcm-16-256", 20, 36, 0, 0, aead("rfc4106(gcm(aes))")},
	{"chacha20-poly1305", 28, 36, 0, 0, aead("rfc7539esp(chacha20,poly1305)")},
	{"aes-cbc-128+hmac-sha2-256-128", 12, 16, 12, 32, encAuth("cbc(aes)", "hmac(sha256)", 128)},
	{"aes-cbc-256+hmac-sha2-384-192", 12, 32, 13, 48, encAuth("cbc(aes)", "hmac(sha384)", 192)},
	{"aes-cbc-192+hmac-sha2-512-256", 12, 24, 14, 64, encAuth("cbc(aes)", "hmac(sha512)", 256)},
	{"aes-cbc-128+hmac-sha1-96", 12, 16, 2, 20, encAuth("cbc(aes)", "hmac(sha1)", 96)},
	{"aes-ctr-128+hmac-sha2-256-128", 13, 20, 12, 32, encAuth("rfc3686(ctr(aes))", "hmac(sha256)", 128)},
	{"aes-ctr-256+hmac-sha2-512-256", 13, 36, 14, 64, encAuth("rfc3686(ctr(aes))", "hmac(sha512)", 256)},
	{"null+hmac-sha2-256-128", 11, 0, 12, 32, encAuth("ecb(cipher_null)", "hmac(sha256)", 128)},
}

// large is a ping that is larger than the link. The guest's ESP around one comes
// in fragments, and fits no ordinary packet buffer when it is put together.
const large = 8000

// kernelPair is a pair of SAs with the guest.
type kernelPair struct {
	peerPair
	alg           kernelAlg
	reqid         int
	inInt, outInt string // integrity keys
}

// kernelPairs is the first algorithm with each combination of families and ESN,
// and each other one with two of them, in turn.
func kernelPairs() (l []kernelPair) {
	for a, alg := range kernelAlgs {
		for i := range 8 {
			if a > 0 && i != a%4 && i != 7-a%4 {
				continue
			}
			n := len(l)
			p := kernelPair{alg: alg, reqid: 100 + n, inInt: randomKey(alg.intKey), outInt: randomKey(alg.intKey), peerPair: peerPair{
				Name: fmt.Sprintf("%s-%d", alg.name, i), InSPI: uint32(0x1000 + n), OutSPI: uint32(0x2000 + n), InKey: randomKey(alg.encKey), OutKey: randomKey(alg.encKey),
				inner6: i&1 != 0, ESN: i&4 != 0, Local: "192.0.2.9", Remote: "192.0.2.1",
				prefix: fmt.Sprintf("10.%d.0.0/24", 20+n), own: "10.1.0.0/24", Inner: []string{fmt.Sprintf("10.%d.0.9", 20+n), "10.1.0.2"}}}
			if i&2 != 0 {
				p.Local, p.Remote = "2001:db8:ff::9", "2001:db8:ff::1"
			}
			if p.inner6 {
				p.prefix, p.own = fmt.Sprintf("2001:db8:%d::/64", 20+n), "2001:db8:1::/64"
				p.Inner = []string{fmt.Sprintf("2001:db8:%d::9", 20+n), "2001:db8:1::2"}
			}
			l = append(l, p)
		}
	}
	return l
}

func (p *kernelPair) String() string {
	return fmt.Sprintf("%s, inner IPv6 %v, outer %s, ESN %v", p.alg.name, p.inner6, p.Local, p.ESN)
}

// guest is the script that makes the kernel the peer.
func guestScript(pairs []kernelPair) string {
	var b strings.Builder
	b.WriteString(`echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip -batch - <<END
link set eth0 up
addr add 192.0.2.9/24 dev eth0
addr add 2001:db8:ff::9/64 dev eth0 nodad
route add 10.1.0.0/24 via 192.0.2.1
route add 2001:db8:1::/64 via 2001:db8:ff::1
`)
	b.WriteString(guestSAs(pairs) + "END\n")
	return b.String()
}

// guestSAs is the guest's end of the pairs, for ip -batch.
func guestSAs(pairs []kernelPair) string {
	var b strings.Builder
	for i := range pairs {
		p := &pairs[i]
		nodad := ""
		if p.inner6 {
			nodad = "nodad"
		}
		flags := "replay-window 64"
		if p.Mode != "transport" {
			flags += " flag af-unspec"
		}
		if p.ESN {
			flags += " flag esn"
		}
		encap := ""
		if p.UDP {
			encap = " encap espinudp 4500 4500 0.0.0.0"
			if strings.Contains(p.Local, ":") {
				encap = " encap espinudp 4500 4500 ::"
			}
		}
		dev := "lo"
		if p.Mode == "transport" {
			dev = "eth0"
		}
		fmt.Fprintf(&b, "addr add %s dev %s %s\n", p.Inner[0], dev, nodad)
		for _, d := range []struct {
			src, dst, enc, integ string
			spi                  uint32
		}{{p.Remote, p.Local, p.InKey, p.inInt, p.InSPI}, {p.Local, p.Remote, p.OutKey, p.outInt, p.OutSPI}} {
			fmt.Fprintf(&b, "xfrm state add src %s dst %s proto esp spi %d reqid %d mode %s %s %s%s\n", d.src, d.dst, d.spi, p.reqid, p.mode(), flags, p.alg.linux(d.enc, d.integ), encap)
		}
		// In transport mode the guest's policies are of echo messages: those of all ICMPv6
		// would have it encrypt neighbour discovery.
		out, in := "", ""
		if p.Mode == "transport" {
			out, in = " proto 1 type 8 code 0", " proto 1 type 0 code 0"
			if p.inner6 {
				out, in = " proto 58 type 128 code 0", " proto 58 type 129 code 0"
			}
		}
		fmt.Fprintf(&b, "xfrm policy add src %s dst %s%s dir out tmpl src %s dst %s proto esp reqid %d mode %s\n", p.prefix, p.own, out, p.Local, p.Remote, p.reqid, p.mode())
		fmt.Fprintf(&b, "xfrm policy add src %s dst %s%s dir in tmpl src %s dst %s proto esp reqid %d mode %s\n", p.own, p.prefix, in, p.Remote, p.Local, p.reqid, p.mode())
	}
	return b.String()
}

// kernelConfig is the vRouter's side.
func kernelConfig(pairs []kernelPair) string {
	var b strings.Builder
	b.WriteString(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">`)
	for _, i := range [][4]string{{"lan0", "10.1.0.1", "2001:db8:1::1"}, {"wan0", "192.0.2.1", "2001:db8:ff::1"}} {
		fmt.Fprintf(&b, `<interface><name>%s</name><type>ianaift:ethernetCsmacd</type><port xmlns="urn:vrouter:yang:vrouter-port"><driver>af-packet</driver></port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>%s</ip><prefix-length>24</prefix-length></address></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>%s</ip><prefix-length>64</prefix-length></address></ipv6></interface>`, i[0], i[1], i[2])
	}
	b.WriteString(`</interfaces><ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd>`)
	for i := range pairs {
		p := &pairs[i]
		bits := p.alg.encKey * 8
		if p.alg.hasSalt() {
			bits -= 32
		}
		algs := fmt.Sprintf("<encryption><id>1</id><algorithm-type>%d</algorithm-type><key-length>%d</key-length></encryption>", p.alg.enc, bits)
		if p.alg.integ != 0 {
			algs = fmt.Sprintf("<integrity>%d</integrity>", p.alg.integ) + algs
		}
		for d, dir := range []string{"outbound", "inbound"} {
			fmt.Fprintf(&b, `<spd-entry><name>%s-%s</name><direction>%s</direction><reqid>%d</reqid><ipsec-policy-config><anti-replay-window-size>64</anti-replay-window-size>%s<processing-info><action>protect</action>
<ipsec-sa-cfg><ext-seq-num>%v</ext-seq-num><mode>%s</mode><esp-algorithms>%s</esp-algorithms>%s</ipsec-sa-cfg></processing-info></ipsec-policy-config></spd-entry>`,
				p.Name, dir, dir, 2*p.reqid+d, p.selector(), p.ESN, p.mode(), algs, p.tunnel())
		}
	}
	b.WriteString("</spd><sad>")
	for i := range pairs {
		p := &pairs[i]
		for d, sa := range []struct {
			dir, key, integ string
			spi             uint32
		}{{"outbound", p.InKey, p.inInt, p.InSPI}, {"inbound", p.OutKey, p.outInt, p.OutSPI}} {
			integ, key, legacy := "", "", ""
			if sa.key != "" {
				key = "<key>" + colons(sa.key) + "</key>"
			}
			if p.alg.integ == 2 {
				legacy = `<allow-legacy xmlns="urn:vrouter:yang:vrouter-sal">true</allow-legacy>`
			}
			if p.alg.integ != 0 {
				integ = fmt.Sprintf("<integrity><integrity-algorithm>%d</integrity-algorithm><key>%s</key></integrity>", p.alg.integ, colons(sa.integ))
			}
			fmt.Fprintf(&b, `<sad-entry><name>%s-%s</name><reqid>%d</reqid><ipsec-sa-config><spi>%d</spi><ext-seq-num>%v</ext-seq-num><anti-replay-window-size>64</anti-replay-window-size>%s<mode>%s</mode>
<esp-sa><encryption><encryption-algorithm>%d</encryption-algorithm>%s</encryption>%s</esp-sa>%s%s</ipsec-sa-config>%s</sad-entry>`,
				p.Name, sa.dir, 2*p.reqid+d, sa.spi, p.ESN, p.selector(), p.mode(), p.alg.enc, key, integ, p.tunnel(), p.encapsulation(), legacy)
		}
	}
	b.WriteString("</sad></ipsec-ikeless>")
	return b.String()
}

// echo sends n octets to an echo server by TCP and wants them back.
func echo(n *lab.NS, to string, size int) error {
	var c net.Conn
	if err := n.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", net.JoinHostPort(to, "7"), 5*time.Second)
		return err
	}); err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	out, in := make([]byte, size), make([]byte, size)
	_, _ = rand.Read(out)
	sent := make(chan error, 1)
	go func() { _, err := c.Write(out); sent <- err }()
	if n, err := io.ReadFull(c, in); err != nil {
		return fmt.Errorf("after %d octets: %w", n, err)
	}
	if !bytes.Equal(in, out) {
		return errors.New("other octets came back")
	}
	return <-sent
}

// needGuest is need for a Linux kernel in QEMU.
func needGuest(t *testing.T) {
	t.Helper()
	need(t)
	if err := lab.GuestUsable(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestLinuxKernel has Debian's kernel, in an emulator, as the other end: it opens
// what we seal and we open what it seals, without its IPsec complaining and
// without ours dropping.
func TestLinuxKernel(t *testing.T) {
	needGuest(t)
	need(t, "tcpdump", "ping")
	b := newBed(t)
	pairs := kernelPairs()
	start := time.Now()
	vm, err := b.Wan.VM("guest", "wan", "ping")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the guest took %v to boot", time.Since(start).Round(100*time.Millisecond))
	defer func() {
		if t.Failed() {
			out, _ := vm.Run(20*time.Second, "uname -a; ip -s xfrm state | grep -v 0x; grep -v ' 0$' /proc/net/xfrm_stat; ip neigh; ip addr; ip route; ip -6 route; dmesg | tail -n 20")
			t.Logf("guest:\n%s", tail(out, 6000))
		}
	}()
	if out, err := vm.Run(time.Minute, guestScript(pairs)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := vm.Run(20*time.Second, "nc -ll -p 7 -e cat &"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.edit(b.A, kernelConfig(pairs))
	if err := lab.Until(10*time.Second, "the guest answers", func() bool {
		_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", pairs[0].Inner[0])
		return err == nil
	}); err != nil {
		t.Fatalf("%v; drops %v", err, b.drops(b.A))
	}
	before := b.drops(b.A)
	wan, err := b.Wan.Capture("kernel", "a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range pairs {
		p := &pairs[i]
		t.Run(strings.ReplaceAll(p.String(), " ", "_"), func(t *testing.T) {
			// Odd sizes, and one that is cut into fragments: in front of the tunnel by
			// us for IPv4, by the host for IPv6, once it was told that it must. The
			// guest cuts its answers behind the tunnel, as IPv4's ESP.
			if p.inner6 {
				_, _ = b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", "-s", fmt.Sprint(large), p.Inner[0])
			}
			for _, size := range []string{"0", "133", "1300", fmt.Sprint(large)} {
				if out, err := b.HostA.Run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "3", "-s", size, p.Inner[0]); err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("ping with %s bytes: %v\n%s", size, err, out)
				}
			}
			for _, size := range []int{500, large} {
				if out, err := vm.Run(20*time.Second, fmt.Sprintf("ping -n -c 2 -i 0.1 -W 3 -s %d -I %s %s", size, p.Inner[0], p.Inner[1])); err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("the guest's ping with %d bytes: %v\n%s", size, err, out)
				}
			}
			if err := echo(b.HostA, p.Inner[0], 300_000); err != nil {
				t.Errorf("TCP: %v", err)
			}
		})
	}
	wan.Stop()
	b.noClear(wan)
	if n := noneTwice(t, wan.File); n < 100*len(pairs) {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	// The guest counts what its IPsec refuses; /proc/net/xfrm_stat has a line a
	// reason. XfrmInNoPols and the like concern what came outside of a tunnel.
	out, err := vm.Run(20*time.Second, "grep -v -w 0 /proc/net/xfrm_stat || true")
	if err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the guest's IPsec complains: %v\n%s", err, out)
	}
	after := b.drops(b.A)
	for reason, n := range after {
		if (strings.HasPrefix(reason, "esp-") || strings.HasPrefix(reason, "ipsec-")) && n != before[reason] {
			t.Errorf("%s went from %d to %d", reason, before[reason], n)
		}
	}
	b.buffersAccounted()
	t.Logf("%d pairs of SAs in %v", len(pairs), time.Since(start).Round(time.Second))
}
