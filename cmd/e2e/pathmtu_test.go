package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// beyond is a namespace whose kernel routes between the WAN and a network behind
// it, the bridge "far":
//
//	wan0 [vr-a] ── wan ── eth0 [beyond] far ── …
//	     192.0.2.1        192.0.2.7    198.51.100.1
//	 2001:db8:ff::1   2001:db8:ff::7   2001:db8:fe::1
func (b *bed) beyond() *lab.NS {
	b.t.Helper()
	n, err := b.Lab.NS("beyond", false)
	if err == nil {
		err = b.Lab.Link(n, "eth0", b.Wan, "beyond")
	}
	if err == nil {
		err = b.Wan.IP("link set dev beyond master wan")
	}
	if err == nil {
		err = n.IP(`link add far type bridge mcast_snooping 0
addr add 192.0.2.7/24 dev eth0
addr add 2001:db8:ff::7/64 dev eth0 nodad
addr add 198.51.100.1/24 dev far
addr add 2001:db8:fe::1/64 dev far nodad
link set far up`)
	}
	if err == nil {
		_, err = n.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// farNet is the guest's address on the network "far".
const farNet = `echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip -batch - <<END
link set eth0 up
addr add 198.51.100.9/24 dev eth0
addr add 2001:db8:fe::9/64 dev eth0 nodad
route add default via 198.51.100.1
route add default via 2001:db8:fe::1
`

// farRoutes leads site A there.
const farRoutes = `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"><control-plane-protocols><control-plane-protocol><type>static</type><name>main</name><static-routes>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"><route><destination-prefix>198.51.100.0/24</destination-prefix><next-hop><next-hop-address>192.0.2.7</next-hop-address></next-hop></route></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing"><route><destination-prefix>2001:db8:fe::/64</destination-prefix><next-hop><next-hop-address>2001:db8:ff::7</next-hop-address></next-hop></route></ipv6>
</static-routes></control-plane-protocol></control-plane-protocols></routing>`

// saState is of an SA what "show ipsec sa --json" tells.
type saState struct {
	Config struct {
		SPI uint32 `json:"spi"`
	} `json:"ipsec-sa-config"`
	State struct {
		Replay struct {
			Seq uint64 `json:"seq-number-counter,string"`
		} `json:"replay-stats"`
	} `json:"ipsec-sa-state"`
	MTU struct {
		Outer, Inner, Learnt int
	} `json:"vrouter-mtu:mtu"`
	Peer struct {
		Address string
		Port    int
		MovedAt string `json:"moved-at"`
	} `json:"vrouter-sal:peer"`
}

func (b *bed) sa(name string) (s saState) {
	b.t.Helper()
	var all struct {
		IPsec struct {
			SAD struct {
				Entries []saState `json:"sad-entry"`
			}
		} `json:"ietf-i2nsf-ikeless:ipsec-ikeless"`
	}
	out := b.ctl(b.A, "show", "ipsec", "sa", "--json", name)
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.IPsec.SAD.Entries) != 1 {
		b.t.Fatalf("%v in %s", err, out)
	}
	return all.IPsec.SAD.Entries[0]
}

// saEdit gives leaves to both SAs of a pair.
func saEdit(p *kernelPair, leaves string) (x string) {
	for _, dir := range []string{"outbound", "inbound"} {
		x += "<sad-entry><name>" + p.Name + "-" + dir + "</name>" + leaves + "</sad-entry>"
	}
	return x
}

const sadXML = `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad>%s</sad></ipsec-ikeless>`

// innerMTU is what fits into an outer packet with AES-GCM-16 around it: IP, SPI
// and number, IV, ICV; the text a multiple of four, two octets of it trailer (RFC
// 4303 section 2, RFC 4106).
func (p *kernelPair) innerMTU(outer int) int {
	outer -= 8 + 8 + 16 + 20
	if strings.Contains(p.Local, ":") {
		outer -= 20
	}
	if p.UDP {
		outer -= 8
	}
	return outer&^3 - 2
}

// A conversation is a connection to an echo server.
type conversation struct{ net.Conn }

func talk(n *lab.NS, to string) (c conversation, err error) {
	err = n.Do(func() (err error) {
		c.Conn, err = net.DialTimeout("tcp", net.JoinHostPort(to, "7"), 10*time.Second)
		return err
	})
	return c, err
}

// echo sends octets and wants them back.
func (c conversation) echo(size int) error {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	out, in := make([]byte, size), make([]byte, size)
	_, _ = rand.Read(out)
	sent := make(chan error, 1)
	go func() { _, err := c.Write(out); sent <- err }()
	if n, err := io.ReadFull(c, in); err != nil {
		return fmt.Errorf("after %d octets: %w", n, err)
	}
	if string(in) != string(out) {
		return fmt.Errorf("other octets came back")
	}
	return <-sent
}

var routeMTU = regexp.MustCompile(`\bmtu (\d+)`)

// TestPathMTU has a kernel behind the vRouter, one as a router on the way to the
// peer, and one as the peer, each of which believes ICMP for its own reasons.
func TestPathMTU(t *testing.T) {
	needGuest(t)
	need(t, "tcpdump", "ping", "python3:scapy.all")
	b := newBed(t)
	beyond := b.beyond()
	var pairs []kernelPair
	for i := range 8 {
		p := kernelPair{alg: kernelAlgs[0], reqid: 100 + i, peerPair: peerPair{
			Name: fmt.Sprintf("m%d", i), InSPI: uint32(0x1000 + i), OutSPI: uint32(0x2000 + i), InKey: randomKey(20), OutKey: randomKey(20),
			inner6: i&1 != 0, Local: "198.51.100.9", Remote: "192.0.2.1",
			prefix: fmt.Sprintf("10.%d.0.0/24", 40+i), own: "10.1.0.0/24", Inner: []string{fmt.Sprintf("10.%d.0.9", 40+i), "10.1.0.2"}}}
		if i&2 != 0 {
			p.Local, p.Remote = "2001:db8:fe::9", "2001:db8:ff::1"
		}
		if p.inner6 {
			p.prefix, p.own = fmt.Sprintf("2001:db8:%d::/64", 40+i), "2001:db8:1::/64"
			p.Inner = []string{fmt.Sprintf("2001:db8:%d::9", 40+i), "2001:db8:1::2"}
		}
		pairs = append(pairs, p)
	}
	before, behind := pairs[:4], pairs[4:] // where packets are cut
	vm, err := beyond.VM("guest", "far", "ping")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			out, _ := vm.Run(20*time.Second, "grep -v ' 0$' /proc/net/xfrm_stat; ip neigh; ip addr; ip route; ip -6 route; dmesg | tail -n 20")
			t.Logf("guest:\n%s", tail(out, 6000))
		}
	}()
	if out, err := vm.Run(time.Minute, farNet+guestSAs(pairs)+"END\nnc -ll -p 7 -e cat &"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.edit(b.A, kernelConfig(pairs)+farRoutes)
	more := ""
	for i := range before {
		more += saEdit(&before[i], `<ipsec-sa-config><tunnel><df-bit>copy</df-bit></tunnel></ipsec-sa-config>`)
		more += saEdit(&behind[i], `<mtu xmlns="urn:vrouter:yang:vrouter-mtu"><fragmentation>after-encryption</fragmentation></mtu>`)
	}
	b.edit(b.A, fmt.Sprintf(sadXML, more))
	for i := range pairs {
		if err := lab.Until(10*time.Second, "the guest answers by way of "+pairs[i].String(), func() bool {
			_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", pairs[i].Inner[0])
			return err == nil
		}); err != nil {
			t.Fatalf("%v; drops %v", err, b.drops(b.A))
		}
	}
	script, err := filepath.Abs("testdata/toobig.py")
	if err != nil {
		t.Fatal(err)
	}
	macOf := func(n *lab.NS, dev string) string {
		out, err := n.Run("cat", "/sys/class/net/"+dev+"/address")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	// told is what the sending kernel has learnt about the way to a host.
	told := func(to string) string {
		out, err := b.HostA.Run("ip", "route", "get", to)
		if m := routeMTU.FindStringSubmatch(out); err == nil && m != nil {
			return m[1]
		}
		return out
	}
	// fits wants an inner packet of so many octets, and none larger, to get
	// through, and its senders to be told so.
	fits := func(p *kernelPair, outer int) {
		t.Helper()
		mtu, router := p.innerMTU(outer), "10.1.0.1"
		if p.inner6 {
			router = "2001:db8:1::1"
		}
		for _, size := range []int{mtu, mtu + 1, 1500} {
			var r *struct {
				Error, Sum, Quote bool
				MTU               int
				Src               string
				Length            int
			}
			out, err := b.HostA.Run("/usr/bin/python3", script, "ask", "eth0", macOf(b.A.NS, "lan0"), p.Inner[1], p.Inner[0], fmt.Sprint(size))
			if err == nil {
				err = json.Unmarshal([]byte(out), &r)
			}
			switch {
			case err != nil || r == nil:
				t.Errorf("%v: nothing came back for %d octets: %v %s", p, size, err, out)
			case size <= mtu && (r.Error || r.Length != size):
				t.Errorf("%v: %d octets do not fit: %s", p, size, out)
			case size > mtu && (!r.Error || !r.Sum || !r.Quote || r.MTU != mtu || r.Src != router):
				t.Errorf("%v: %d octets of %d: %s", p, size, mtu, out)
			}
		}
		// The kernel that sends: too large, told, right.
		head := 28
		if p.inner6 {
			head = 48
		}
		_, _ = b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", fmt.Sprint(1500-head), p.Inner[0])
		if got := told(p.Inner[0]); got != fmt.Sprint(mtu) {
			t.Errorf("%v: the host learnt an MTU of %s, not %d", p, got, mtu)
		}
		if out, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "3", "-M", "do", "-s", fmt.Sprint(mtu-head), p.Inner[0]); err != nil {
			t.Errorf("%v: ping with %d octets: %v\n%s", p, mtu, err, out)
		}
		if s := b.sa(p.Name + "-outbound"); s.MTU.Outer != outer || s.MTU.Inner != mtu {
			t.Errorf("%v: the state says %+v", p, s.MTU)
		}
	}

	// The first link's MTU is all there is to know. The guest's kernel makes its own
	// of the other direction of the same tunnel, and comes to the same.
	for i := range before {
		p := &before[i]
		fits(p, 1500)
		out, _ := vm.Run(20*time.Second, fmt.Sprintf("ping -n -c 1 -W 1 -M do -s 1472 -I %s %s 2>&1 || true", p.Inner[0], p.Inner[1]))
		if want := fmt.Sprintf("mtu=%d", p.innerMTU(1500)); !strings.Contains(out, want) && !strings.Contains(out, strings.Replace(want, "=", ": ", 1)) {
			t.Errorf("%v: the guest does not find %s: %s", p, want, out)
		}
	}

	// In the middle of connections the link behind the next router takes less: it
	// says so, and they go on.
	var talks []conversation
	for i := range before {
		c, err := talk(b.HostA, before[i].Inner[0])
		if err == nil {
			defer c.Close()
			err = c.echo(200_000)
		}
		if err != nil {
			t.Fatalf("%v: %v", &before[i], err)
		}
		talks = append(talks, c)
	}
	icmp, err := beyond.Capture("icmp", "eth0", "icmp or icmp6")
	if err != nil {
		t.Fatal(err)
	}
	if err := beyond.IP("link set far mtu 1400"); err != nil {
		t.Fatal(err)
	}
	for i := range before {
		p := &before[i]
		if err := talks[i].echo(300_000); err != nil {
			t.Errorf("%v: the connection did not outlive a smaller MTU: %v", p, err)
		}
		if s := b.sa(p.Name + "-outbound"); s.MTU.Learnt != 1400 || s.MTU.Outer != 1400 {
			t.Errorf("%v: of 1400 octets the state says %+v", p, s.MTU)
		}
		if got, want := told(p.Inner[0]), fmt.Sprint(p.innerMTU(1400)); got != want {
			t.Errorf("%v: the host learnt an MTU of %s, not %s", p, got, want)
		}
		fits(p, 1400)
	}
	icmp.Stop()
	for _, filter := range []string{"src 192.0.2.7 and icmp[0] == 3 and icmp[1] == 4", "src 2001:db8:ff::7 and ip6[40] == 2"} {
		if n, err := icmp.Count(filter); err != nil || n == 0 {
			t.Errorf("the router on the way has sent %d of %q (%v)", n, filter, err)
		}
	}

	// What anybody may send: errors that quote numbers that were never used, SPIs
	// that are nobody's, ESP in UDP that is none. They are counted, and change
	// nothing; that which quotes the last one does.
	for i, mtu := range map[int]int{0: 1300, 2: 1320} {
		p := &pairs[i]
		from := map[int]string{0: "192.0.2.7", 2: "2001:db8:ff::7"}[i]
		now := b.sa(p.Name + "-outbound")
		tell := func(spi uint32, seq uint64, more ...string) {
			t.Helper()
			if out, err := beyond.Run(append([]string{"/usr/bin/python3", script, "tell", "eth0", macOf(b.A.NS, "wan0"), from, p.Remote, fmt.Sprint(mtu), p.Local, fmt.Sprint(spi), fmt.Sprint(seq)}, more...)...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		was := b.drops(b.A)["icmp-unproven"]
		for n, f := range []func(){
			func() { tell(now.Config.SPI, now.State.Replay.Seq+1) },
			func() { tell(now.Config.SPI, now.State.Replay.Seq+100_000) },
			func() { tell(now.Config.SPI, 0) },
			func() { tell(now.Config.SPI+0x5000, now.State.Replay.Seq) },
			func() { tell(now.Config.SPI, now.State.Replay.Seq, "4500") },
		} {
			f()
			if err := lab.Until(5*time.Second, "icmp-unproven counts", func() bool { return b.drops(b.A)["icmp-unproven"] == was+n+1 }); err != nil {
				t.Errorf("%v, forgery %d: %v: %v", p, n, err, b.drops(b.A))
			}
		}
		if s := b.sa(p.Name + "-outbound"); s.MTU != now.MTU {
			t.Errorf("%v: forgeries made of %+v %+v", p, now.MTU, s.MTU)
		}
		tell(now.Config.SPI, now.State.Replay.Seq)
		if err := lab.Until(5*time.Second, "a proved error counts", func() bool { return b.sa(p.Name+"-outbound").MTU.Learnt == mtu }); err != nil {
			t.Errorf("%v: %v: %+v", p, err, b.sa(p.Name+"-outbound").MTU)
		}
	}

	// Cut before the encryption, or behind it: the guest puts together and opens, and
	// cuts its answers behind it.
	for i := range pairs {
		p := &pairs[i]
		far, err := beyond.Capture("cut-"+p.Name, "far", "esp or ip6 proto 44 or (ip[6:2] & 0x3fff != 0)")
		if err != nil {
			t.Fatal(err)
		}
		if p.inner6 && i < len(before) { // the host cuts, once it was told that it must
			_, _ = b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", "-s", fmt.Sprint(large), p.Inner[0])
		}
		for _, size := range []int{1400, 2800, large} {
			if out, err := b.HostA.Run("ping", "-n", "-c", "3", "-i", "0.1", "-W", "3", "-M", "dont", "-s", fmt.Sprint(size), p.Inner[0]); err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("%v: ping with %d octets: %v\n%s", p, size, err, out)
			}
			if out, err := vm.Run(20*time.Second, fmt.Sprintf("ping -n -c 3 -i 0.1 -W 3 -M dont -s %d -I %s %s", size, p.Inner[0], p.Inner[1])); err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("%v: the guest's ping with %d octets: %v\n%s", p, size, err, out)
			}
		}
		far.Stop()
		ours := fmt.Sprintf("(src %s and (ip[6:2] & 0x3fff != 0)) or (ip6 src %s and ip6[6] == 44)", "192.0.2.1", "2001:db8:ff::1")
		n, err := far.Count(ours)
		if err != nil {
			t.Fatal(err)
		}
		// Of IPv6 the host makes pieces of 1280, as it must not be told to make
		// smaller ones; these are too large for the path by now.
		if cut := i >= len(before) || p.inner6; !cut && n != 0 {
			t.Errorf("%v: %d outer fragments, where packets are to be cut before the encryption", p, n)
		} else if cut && n < 30 {
			t.Errorf("%v: %d outer fragments, where packets are to be cut behind the encryption", p, n)
		}
		// The guest's kernel cuts behind it what is not IPv6.
		if n, err := far.Count("(src 198.51.100.9 and (ip[6:2] & 0x3fff != 0)) or (ip6 src 2001:db8:fe::9 and ip6[6] == 44)"); err != nil || !p.inner6 && n < 30 {
			t.Errorf("%v: the guest has sent %d outer fragments (%v)", p, n, err)
		}
	}
	out, err := vm.Run(20*time.Second, "grep -v -w 0 /proc/net/xfrm_stat || true")
	if err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the guest's IPsec complains: %v\n%s", err, out)
	}
	for reason, n := range b.drops(b.A) {
		if (strings.HasPrefix(reason, "esp-") || strings.HasPrefix(reason, "ipsec-") || strings.HasPrefix(reason, "reass") || reason == "control-full") && n != 0 {
			t.Errorf("%s counts %d", reason, n)
		}
	}
	b.buffersAccounted()
}
