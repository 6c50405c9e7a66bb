package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// ipBed is one vRouter between a host and two kernel routers, both of which lead
// to 198.51.100.0/24 and 2001:db8:f::/48:
//
//	host ── lan0 [vr] wan1 ── n1 ─ 198.51.100.1, 2001:db8:f::1
//	                  wan2 ── n2 ─ the same
type ipBed struct {
	*bed
	vr           *site.VRouter
	host, n1, n2 *lab.NS
}

func newIPBed(t *testing.T) *ipBed {
	t.Helper()
	need(t)
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	b := &ipBed{bed: &bed{t: t}}
	t.Cleanup(func() {
		if t.Failed() && b.vr != nil {
			for _, f := range []string{b.vr.Proc.Log, filepath.Join(b.vr.Dir, "run", "fastpathd.log")} {
				text, _ := os.ReadFile(f)
				t.Logf("%s:\n%s", filepath.Base(f), tail(string(text), 4000))
			}
			out, _ := b.vr.Ctl("show", "drops")
			t.Log(out)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ns := func(name string, quiet bool) *lab.NS {
		n, err := l.NS(name, quiet)
		must(err)
		return n
	}
	b.host, b.n1, b.n2 = ns("host", false), ns("n1", false), ns("n2", false)
	vr := ns("vr", true)
	must(l.Link(b.host, "eth0", vr, "lan0"))
	must(l.Link(b.n1, "eth0", vr, "wan1"))
	must(l.Link(b.n2, "eth0", vr, "wan2"))
	must(b.host.IP("addr add 10.1.0.2/24 dev eth0\n addr add 2001:db8:1::2/64 dev eth0 nodad\n route add default via 10.1.0.1\n route add default via 2001:db8:1::1"))
	for i, n := range []*lab.NS{b.n1, b.n2} {
		must(n.IP(fmt.Sprintf(`addr add 192.0.2.%d/30 dev eth0
addr add 2001:db8:2:%d::2/64 dev eth0 nodad
addr add 198.51.100.1/32 dev lo
addr add 2001:db8:f::1/128 dev lo nodad
route add 10.1.0.0/24 via 192.0.2.%d
route add 2001:db8:1::/64 via 2001:db8:2:%d::1`, 4*i+2, i+1, 4*i+1, i+1)))
	}
	b.Pair = &site.Pair{Lab: l}
	b.vr = site.Single(l, vr, "vr", binDir)
	b.Pair.A = b.vr
	must(b.vr.Start())
	return b
}

const ipHead = `xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type"`

func ipPort(name, v4 string, bits4 int, v6, more string) string {
	return fmt.Sprintf(`<interface><name>%s</name><type>t:ethernetCsmacd</type>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>%s</ip><prefix-length>%d</prefix-length></address></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>%s</ip><prefix-length>64</prefix-length></address>%s</ipv6></interface>`,
		name, v4, bits4, v6, more)
}

// ipRoutes are static routes by two next hops with weights 1 and 3; w2 0: by the
// first only.
func ipRoutes(w2 int) string {
	list := func(prefix, one, two string) string {
		s := `<route nc:operation="replace"><destination-prefix>` + prefix + `</destination-prefix><next-hop><next-hop-list><next-hop><index>1</index><next-hop-address>` + one + `</next-hop-address></next-hop>`
		if w2 > 0 {
			s += fmt.Sprintf(`<next-hop><index>2</index><next-hop-address>%s</next-hop-address><weight xmlns="urn:vrouter:yang:vrouter-routing">%d</weight></next-hop>`, two, w2)
		}
		return s + `</next-hop-list></next-hop></route>`
	}
	return `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing" ` + ipHead + `><control-plane-protocols><control-plane-protocol><type>static</type><name>main</name><static-routes>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing">` + list("198.51.100.0/24", "192.0.2.2", "192.0.2.6") + `</ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing">` + list("2001:db8:f::/48", "2001:db8:2:1::2", "2001:db8:2:2::2") + `</ipv6>
</static-routes></control-plane-protocol></control-plane-protocols></routing>`
}

func (b *ipBed) configure(lan string) {
	b.t.Helper()
	b.edit(b.vr, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" `+ipHead+`>`+
		ipPort("lan0", "10.1.0.1", 24, "2001:db8:1::1", lan)+
		ipPort("wan1", "192.0.2.1", 30, "2001:db8:2:1::1", "")+ipPort("wan2", "192.0.2.5", 30, "2001:db8:2:2::1", "")+
		`<interface><name>lo0</name><type>t:softwareLoopback</type>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.255.0.1</ip><prefix-length>32</prefix-length></address><address><ip>10.254.0.1</ip><prefix-length>24</prefix-length></address></ipv4>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>2001:db8:ff::1</ip><prefix-length>128</prefix-length></address></ipv6></interface></interfaces>`+ipRoutes(3))
}

// answered waits until a ping gets its answer.
func (b *ipBed) answered(args ...string) {
	b.t.Helper()
	out := ""
	if err := lab.Until(10*time.Second, "ping "+strings.Join(args, " ")+" answered", func() bool {
		var err error
		out, err = b.host.Run(append([]string{"ping", "-n", "-c", "1", "-W", "1"}, args...)...)
		return err == nil
	}); err != nil {
		b.t.Errorf("%v\n%s", err, out)
	}
}

// says expects that a ping fails in these words.
func (b *ipBed) says(words string, args ...string) {
	b.t.Helper()
	out := ""
	if err := lab.Until(10*time.Second, "ping "+strings.Join(args, " ")+" says "+words, func() bool {
		out, _ = b.host.Run(append([]string{"ping", "-n", "-c", "1", "-W", "1"}, args...)...)
		return strings.Contains(out, words)
	}); err != nil {
		b.t.Errorf("%v\n%s", err, out)
	}
}

var noPorts = regexp.MustCompile(`(?m)^(?:Udp: \d+ (\d+)|Udp6NoPorts\s+(\d+))`)

// unserved reads how many UDP packets to ports that nobody serves a kernel has got.
func unserved(t *testing.T, n *lab.NS) (v4, v6 int) {
	t.Helper()
	out, err := n.Run("cat", "/proc/net/snmp", "/proc/net/snmp6")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range noPorts.FindAllStringSubmatch(out, -1) {
		a, _ := strconv.Atoi(m[1])
		b, _ := strconv.Atoi(m[2])
		v4, v6 = v4+a, v6+b
	}
	return v4, v6
}

// flows sends a datagram from each of n ports.
func (b *ipBed) flows(to string, n int) {
	b.t.Helper()
	if err := b.host.Do(func() error {
		for i := range n {
			c, err := net.DialUDP("udp", &net.UDPAddr{Port: 20000 + i}, &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("flow"))
			c.Close()
			if err != nil {
				return err
			}
			if i%32 == 31 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

// TestIPWithTheKernel: the kernel's ping, fragments, errors and sockets against
// the vRouter's own addresses and its routes with two next hops.
func TestIPWithTheKernel(t *testing.T) {
	b := newIPBed(t)
	b.configure("")
	for _, to := range []string{"10.1.0.1", "10.255.0.1", "10.254.0.1", "192.0.2.5", "2001:db8:1::1", "2001:db8:1::", "2001:db8:2:1::", "2001:db8:ff::1", "198.51.100.1", "2001:db8:f::1"} {
		b.answered(to)
	}
	for _, size := range []string{"1473", "3000", "20000", "65000"} {
		for _, to := range []string{"10.1.0.1", "10.255.0.1", "2001:db8:1::1", "2001:db8:ff::1"} {
			b.answered("-s", size, to)
		}
	}
	b.says("From 10.1.0.1 icmp_seq=1 Time to live exceeded", "-t", "1", "198.51.100.1")
	b.says("From 2001:db8:1::1 icmp_seq=1 Time exceeded: Hop limit", "-t", "1", "2001:db8:f::1")
	b.says("From 10.1.0.1 icmp_seq=1 Destination Host Unreachable", "10.254.0.7") // the loopback's network has nobody else
	b.says("From 10.1.0.1 icmp_seq=1 Destination Net Unreachable", "203.0.113.1")
	b.says("No route", "2001:db8:dead::1")

	const n = 400
	b.flows("198.51.100.1", 12) // until both next hops are resolved
	b.flows("2001:db8:f::1", 12)
	time.Sleep(300 * time.Millisecond)
	count := func(what string, share1, share2 int) {
		t.Helper()
		a4, a6 := unserved(t, b.n1)
		c4, c6 := unserved(t, b.n2)
		b.flows("198.51.100.1", n)
		b.flows("2001:db8:f::1", n)
		var x, y [2]int
		if err := lab.Until(5*time.Second, "all flows arrive", func() bool {
			x[0], x[1] = unserved(t, b.n1)
			y[0], y[1] = unserved(t, b.n2)
			x[0], x[1], y[0], y[1] = x[0]-a4, x[1]-a6, y[0]-c4, y[1]-c6
			return x[0]+y[0] == n && x[1]+y[1] == n
		}); err != nil {
			t.Fatalf("%s: %v: %v and %v", what, err, x, y)
		}
		for f := range 2 {
			if want := n * share1 / (share1 + share2); x[f] < want-n/8 || x[f] > want+n/8 || share2 == 0 && y[f] != 0 {
				t.Errorf("%s: IPv%d: %d and %d flows, want shares of %d and %d", what, 4+2*f, x[f], y[f], share1, share2)
			}
		}
	}
	count("two next hops", 1, 3)
	b.edit(b.vr, ipRoutes(0))
	count("one next hop", 1, 0)
	b.edit(b.vr, ipRoutes(1))
	count("two again", 1, 1)
}

const ipRA = `<ipv6-router-advertisements xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing"><send-advertisements>%t</send-advertisements>
<max-rtr-adv-interval>600</max-rtr-adv-interval><link-mtu>1400</link-mtu>
<prefix-list><prefix><prefix-spec>2001:db8:77::/64</prefix-spec><valid-lifetime>7200</valid-lifetime><preferred-lifetime>3600</preferred-lifetime></prefix></prefix-list>
</ipv6-router-advertisements>`

// TestRouterAdvertisements: a Linux host makes its addresses and its default route
// from what the vRouter advertises, asks for it, and gives the route up when the
// vRouter stops.
func TestRouterAdvertisements(t *testing.T) {
	b := newIPBed(t)
	for _, s := range []string{"net.ipv6.conf.eth0.accept_ra=2", "net.ipv6.conf.eth0.autoconf=1", "net.ipv6.conf.eth0.router_solicitations=3"} {
		if _, err := b.host.Run("sysctl", "-qw", s); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.host.IP("-6 route del default"); err != nil {
		t.Fatal(err)
	}
	b.configure(fmt.Sprintf(ipRA, true))
	shown := func(what, cmd string, words ...string) {
		t.Helper()
		out := ""
		if err := lab.Until(15*time.Second, what, func() bool {
			out, _ = b.host.Run(strings.Fields(cmd)...)
			for _, w := range words {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return true
		}); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
	}
	shown("an address of the prefix configured", "ip -6 addr show dev eth0", "inet6 2001:db8:77:", "dynamic")
	shown("an address of the router's own prefix", "ip -6 addr show dev eth0 dynamic", "inet6 2001:db8:1:")
	shown("a default route", "ip -6 route show default", "via fe80::", "proto ra", "mtu 1400")
	if out, _ := b.host.Run("ip", "-6", "addr", "show", "dev", "eth0"); !regexp.MustCompile(`2001:db8:77:.*\n\s+valid_lft 7[12]\d\dsec preferred_lft 3[56]\d\dsec`).MatchString(out) {
		t.Errorf("lifetimes:\n%s", out)
	}
	b.answered("2001:db8:f::1") // by that route

	// Asked again, it answers: the interface down and up makes the host solicit.
	if err := b.host.IP("link set dev eth0 down\n link set dev eth0 up\n addr add 2001:db8:1::2/64 dev eth0 nodad"); err != nil {
		t.Fatal(err)
	}
	shown("a default route after asking", "ip -6 route show default", "via fe80::", "proto ra")

	b.edit(b.vr, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">`+
		fmt.Sprintf(ipRA, false)+`</ipv6></interface></interfaces>`)
	if err := lab.Until(5*time.Second, "the default route goes when the router says so", func() bool {
		out, err := b.host.Run("ip", "-6", "route", "show", "default")
		return err == nil && !strings.Contains(out, "via")
	}); err != nil {
		t.Error(err)
	}
	// And when its interface goes, or all of it.
	b.edit(b.vr, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">`+
		fmt.Sprintf(ipRA, true)+`</ipv6></interface></interfaces>`)
	shown("a default route again", "ip -6 route show default", "via fe80::")
	b.edit(b.vr, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><enabled>false</enabled></interface></interfaces>`)
	if err := lab.Until(5*time.Second, "the default route goes with the router's interface", func() bool {
		out, err := b.host.Run("ip", "-6", "route", "show", "default")
		return err == nil && !strings.Contains(out, "via")
	}); err != nil {
		t.Error(err)
	}
}

// TestDuplicateAddress: an address that a Linux host has is not taken; others are,
// once they have been asked for, and the host is kept from taking them.
func TestDuplicateAddress(t *testing.T) {
	b := newIPBed(t)
	if err := b.host.IP("addr add 2001:db8:1::1/64 dev eth0 nodad"); err != nil {
		t.Fatal(err)
	}
	b.configure(`<address><ip>2001:db8:1::9</ip><prefix-length>64</prefix-length></address>`)
	status := func() string {
		f := b.Lab.Path("get.xml")
		if err := os.WriteFile(f, []byte(`<get xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><filter type="subtree"><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name>
<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address/></ipv6></interface></interfaces></filter></get>`), 0o600); err != nil {
			t.Fatal(err)
		}
		out := b.ctl(b.vr, "rpc", f)
		var l []string
		for _, m := range regexp.MustCompile(`(?s)<ip>([^<]*)</ip>.*?<status>([^<]*)</status>`).FindAllStringSubmatch(out, -1) {
			l = append(l, m[1]+" "+m[2])
		}
		return strings.Join(l, ", ")
	}
	got := ""
	if err := lab.Until(10*time.Second, "the check ends", func() bool {
		got = status()
		return got == "2001:db8:1::1 duplicate, 2001:db8:1::9 preferred"
	}); err != nil {
		t.Errorf("%v: %s", err, got)
	}
	b.answered("-I", "2001:db8:1::2", "2001:db8:1::9")
	// The host asks before it takes the router's, and leaves it.
	if _, err := b.host.Run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"); err != nil {
		t.Fatal(err)
	}
	if err := b.host.IP("addr add 2001:db8:1::9/64 dev eth0"); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(10*time.Second, "the host finds its address taken", func() bool {
		out, _ := b.host.Run("ip", "-6", "addr", "show", "dev", "eth0")
		return strings.Contains(out, "dadfailed")
	}); err != nil {
		t.Error(err)
	}
}
