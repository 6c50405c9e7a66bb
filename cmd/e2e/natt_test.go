package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"vrouter/cmd/internal/lab"
)

// encapSockets gives the guest's port 4500 to its kernel, of both families: a
// socket whose option UDP_ENCAP (100 of UDP) is UDP_ENCAP_ESPINUDP (2). The shell
// goes on when they are there.
const encapSockets = `perl -e '
socket(S, 2, 2, 17) && setsockopt(S, 17, 100, pack("i", 2)) && bind(S, pack("Sna4x8", 2, 4500, "\0" x 4)) or die "IPv4: $!";
socket(T, 10, 2, 17) && setsockopt(T, 41, 26, pack("i", 1)) && setsockopt(T, 17, 100, pack("i", 2)) && bind(T, pack("SnNa16N", 10, 4500, 0, "\0" x 16, 0)) or die "IPv6: $!";
open(R, ">/tmp/encap"); close(R); sleep 100000' &
for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /tmp/encap ] && break; sleep 1; done
[ -e /tmp/encap ]
`

// masquerade is the NAT of the namespace beyond: another address, and ports of
// its own.
const masquerade = `table ip nat {
 chain post { type nat hook postrouting priority 100; oifname "eth0" udp dport 4500 masquerade to :20000-20999 fully-random; }
}
table ip6 nat {
 chain post { type nat hook postrouting priority 100; oifname "eth0" udp dport 4500 masquerade to :20000-20999 fully-random; }
}
`

// senders are the addresses and ports that a capture has UDP to port 4500 from,
// in order, each once in a row.
func senders(t *testing.T, file string) (l []netip.AddrPort) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return l
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
		if u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && u.DstPort == 4500 {
			a, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
			if at := netip.AddrPortFrom(a, uint16(u.SrcPort)); !slices.Contains(l[max(0, len(l)-2):], at) {
				l = append(l, at)
			}
		}
	}
}

// A moved is a packet of a capture that somebody else sends, from elsewhere.
type moved struct {
	ip  []byte // from the IP header on
	udp int    // where UDP begins
	spi uint32
}

// lastFrom is the last ESP in UDP of an address.
func lastFrom(t *testing.T, file string, from netip.AddrPort) (m moved) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
		u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || u.DstPort != 4500 || uint16(u.SrcPort) != from.Port() || len(u.Payload) < 40 {
			continue
		}
		if a, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw()); a != from.Addr() {
			continue
		}
		n := p.NetworkLayer()
		ip := append(slices.Clone(n.LayerContents()), n.LayerPayload()[:u.Length]...)
		m = moved{ip, len(n.LayerContents()), binary.BigEndian.Uint32(u.Payload)}
	}
	if m.ip == nil {
		t.Fatalf("nothing of %v in the capture", from)
	}
	return m
}

// from is the packet with another source. Nobody looks at the checksum of UDP.
func (m moved) from(a netip.AddrPort) []byte {
	b := slices.Clone(m.ip)
	if a.Addr().Is4() {
		copy(b[12:], a.Addr().AsSlice())
		b[10], b[11] = 0, 0
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	} else {
		copy(b[8:], a.Addr().AsSlice())
	}
	binary.BigEndian.PutUint16(b[m.udp:], a.Port())
	return b
}

// TestNATTraversal has Debian's kernel behind a kernel's NAT as the peer of ESP
// in UDP. The NAT gives it another address than the configured one, and yet
// another while packets flow; the death of the data plane changes nothing about
// it, and nobody else can.
func TestNATTraversal(t *testing.T) {
	needGuest(t)
	need(t, "tcpdump", "ping", "perl", "nft", "python3:ncclient")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	file, keyFile, _ := users(t, l)
	b := bedIn(t, l, "--users", file)
	beyond := b.beyond()
	rules := l.Path("nat")
	if err := os.WriteFile(rules, []byte(masquerade), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := beyond.Run("nft", "-f", rules); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	vm, err := beyond.VM("guest", "far", "ping", "perl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			out, _ := vm.Run(20*time.Second, "grep -v -w 0 /proc/net/xfrm_stat; ip -s xfrm state | grep -v 0x; grep Udp: /proc/net/snmp; ip neigh; dmesg | tail -n 5")
			t.Logf("guest:\n%s", tail(out, 6000))
		}
	}()

	// At the guest the tunnel begins at its own address; here it ends at that of the NAT.
	var pairs, here []kernelPair
	for a, alg := range []kernelAlg{kernelAlgs[0], kernelAlgs[2], kernelAlgs[3], kernelAlgs[8]} {
		for k := range 4 {
			n := len(pairs)
			p := kernelPair{alg: alg, reqid: 100 + n, inInt: randomKey(alg.intKey), outInt: randomKey(alg.intKey), peerPair: peerPair{
				Name: fmt.Sprintf("n%d", n), InSPI: uint32(0x1000 + n), OutSPI: uint32(0x2000 + n), InKey: randomKey(alg.encKey), OutKey: randomKey(alg.encKey),
				inner6: k&1 != 0, ESN: (a+k+k/2)&1 != 0, UDP: true, Local: "198.51.100.9", Remote: "192.0.2.1",
				prefix: fmt.Sprintf("10.%d.0.0/24", 40+n), own: "10.1.0.0/24", Inner: []string{fmt.Sprintf("10.%d.0.9", 40+n), "10.1.0.2"}}}
			if k&2 != 0 {
				p.Local, p.Remote = "2001:db8:fe::9", "2001:db8:ff::1"
			}
			if p.inner6 {
				p.prefix, p.own = fmt.Sprintf("2001:db8:%d::/64", 40+n), "2001:db8:1::/64"
				p.Inner = []string{fmt.Sprintf("2001:db8:%d::9", 40+n), "2001:db8:1::2"}
			}
			pairs = append(pairs, p)
			if p.Local = "192.0.2.7"; k&2 != 0 {
				p.Local = "2001:db8:ff::7"
			}
			here = append(here, p)
		}
	}
	if out, err := vm.Run(time.Minute, encapSockets+farNet+guestSAs(pairs)+"END\nnc -ll -p 7 -e cat &"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.edit(b.A, kernelConfig(here))
	more := ""
	for i := range here {
		more += saEdit(&here[i], `<ipsec-sa-config><tunnel><df-bit>copy</df-bit></tunnel></ipsec-sa-config><nat-traversal xmlns="urn:vrouter:yang:vrouter-sal"><follow-peer>true</follow-peer><keep-alive-interval>1</keep-alive-interval></nat-traversal>`)
	}
	b.edit(b.A, fmt.Sprintf(sadXML, more))
	heard := b.subscribe(keyFile)
	wan, err := b.Wan.Capture("wan", "beyond")
	if err != nil {
		t.Fatal(err)
	}
	both := []*kernelPair{&here[0], &here[2]} // of each outer family one
	guestPing := func(p *kernelPair, size int) error {
		_, err := vm.Run(30*time.Second, fmt.Sprintf("ping -n -c 2 -i 0.2 -W 3 -s %d -I %s %s", size, p.Inner[0], p.Inner[1]))
		return err
	}
	hostPing := func(p *kernelPair, size int) error {
		_, err := b.HostA.Run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "3", "-s", fmt.Sprint(size), p.Inner[0])
		return err
	}
	// seen is where the wire shows a pair's peer to be.
	seen := func(p *kernelPair, not ...netip.AddrPort) (at netip.AddrPort) {
		t.Helper()
		six := strings.Contains(p.Local, ":")
		if err := lab.Until(10*time.Second, "a packet of the peer's new address", func() bool {
			for _, x := range senders(t, wan.File) {
				if x.Addr().Is6() == six {
					at = x
				}
			}
			return at.IsValid() && !slices.Contains(not, at)
		}); err != nil {
			t.Fatalf("%v: %v: %v", p, err, senders(t, wan.File))
		}
		return at
	}
	// is wants the state of all SAs of the same family to say so.
	is := func(p *kernelPair, at netip.AddrPort) {
		t.Helper()
		for i := range here {
			if here[i].Local != p.Local {
				continue
			}
			for _, dir := range []string{"-inbound", "-outbound"} {
				if s := b.sa(here[i].Name + dir); s.Peer.Address != at.Addr().String() || s.Peer.Port != int(at.Port()) {
					t.Errorf("%v%s: the peer is at %+v, want %v", &here[i], dir, s.Peer, at)
				}
			}
		}
	}

	// The NAT's ports are not the configured one: the first packet tells. The
	// subscriber hears of each family's once.
	var at [2]netip.AddrPort
	for i, p := range both {
		if err := lab.Until(10*time.Second, "the guest's ping is answered", func() bool { return guestPing(p, 100) == nil }); err != nil {
			t.Fatalf("%v: %v; drops %v", p, err, b.drops(b.A))
		}
		at[i] = seen(p)
		if n := at[i].Port(); n < 20000 || n > 20999 {
			t.Fatalf("the NAT has given port %v", at[i])
		}
		heard.expect(fmt.Sprintf("peer-moved %v from %v", at[i], netip.AddrPortFrom(netip.MustParseAddr(p.Local), 4500)))
		is(p, at[i])
	}
	for i := range here {
		p := &here[i]
		for _, size := range []int{0, 133, 1300, large} {
			_ = p.inner6 && size == large && hostPing(p, size) == nil // it may have to be told first
			if err := hostPing(p, size); err != nil {
				t.Errorf("%v: ping with %d octets: %v", p, size, err)
			}
		}
		for _, size := range []int{500, large} {
			if err := guestPing(p, size); err != nil {
				t.Errorf("%v: the guest's ping with %d octets: %v", p, size, err)
			}
		}
		if err := echo(b.HostA, p.Inner[0], 200_000); err != nil {
			t.Errorf("%v: TCP: %v", p, err)
		}
		if got, want := b.sa(p.Name+"-outbound").MTU.Inner, p.innerMTU(1500); p.alg.name == kernelAlgs[0].name && got != want {
			t.Errorf("%v: inner packets of %d octets, want %d", p, got, want)
		}
	}

	// While connections are open and pings run from both sides, the NAT gets other
	// addresses: its kernel forgets what it had mapped to the old ones.
	var talks []conversation
	for _, p := range both {
		c, err := talk(b.HostA, p.Inner[0])
		if err == nil {
			defer c.Close()
			err = c.echo(50_000)
		}
		if err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		talks = append(talks, c)
	}
	for _, p := range both {
		if out, err := vm.Run(20*time.Second, fmt.Sprintf("ping -n -i 0.2 -c 1000 -I %s %s >/dev/null &", p.Inner[0], p.Inner[1])); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	flow, err := b.HostA.Start("flow", "ping", "-n", "-i", "0.1", "-c", "1000", both[0].Inner[0])
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := beyond.IP(`addr del 192.0.2.7/24 dev eth0
addr add 192.0.2.8/24 dev eth0
addr del 2001:db8:ff::7/64 dev eth0
addr add 2001:db8:ff::8/64 dev eth0 nodad`); err != nil {
		t.Fatal(err)
	}
	before := at
	var told []string
	for i, p := range both {
		at[i] = seen(p, before[i])
		if want := []string{"192.0.2.8", "2001:db8:ff::8"}[i]; at[i].Addr().String() != want {
			t.Fatalf("the NAT has given %v", at[i])
		}
		told = append(told, fmt.Sprintf("peer-moved %v from %v", at[i], before[i]))
	}
	heard.expectAll(told...)
	for i, p := range both {
		is(p, at[i])
		if err := talks[i].echo(100_000); err != nil {
			t.Errorf("%v: the connection did not follow: %v", p, err)
		}
		if err := hostPing(p, 1000); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	flow.Interrupt()
	if out := flow.Output(); strings.Count(out, "bytes from") < 20 || !strings.Contains(tail(out[:max(0, strings.Index(out, "\n--- "))], 200), "bytes from") {
		t.Errorf("pings beside the move:\n%s", tail(out, 1500))
	}
	if out, err := vm.Run(20*time.Second, "killall ping; sleep 1; ! pidof ping"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	// Who does not know the key moves nobody: copies of the peer's last packets from
	// elsewhere, and ones with a number that is to come.
	other := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.66:666"), netip.MustParseAddrPort("[2001:db8:ff::66]:666")}
	inject := b.inject()
	for i, p := range both {
		m := lastFrom(t, wan.File, at[i])
		copied := m.from(other[i])
		forged := slices.Clone(copied)
		seq := forged[m.udp+8+4:]
		binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+1)
		for reason, x := range map[string][]byte{"esp-replay": copied, "esp-bad-icv": forged} {
			was := b.drops(b.A)[reason]
			inject(x)
			if err := lab.Until(5*time.Second, reason, func() bool { return b.drops(b.A)[reason] == was+1 }); err != nil {
				t.Errorf("%v: %v: %v", p, err, b.drops(b.A))
			}
		}
		is(p, at[i])
		if err := hostPing(p, 100); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	if got := heard.lines(); len(got) != heard.seen {
		t.Errorf("heard %q", got[heard.seen:])
	}

	// The data plane dies: the next one sends to where the peer was last seen, though
	// the peer says nothing.
	since := [2]string{b.sa(both[0].Name + "-inbound").Peer.MovedAt, b.sa(both[1].Name + "-outbound").Peer.MovedAt}
	for range 2 {
		pid, err := b.A.FastPathPID()
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pid)
		for i, p := range both {
			if err := lab.Until(15*time.Second, "the guest answers another data plane", func() bool {
				_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", p.Inner[0])
				return err == nil
			}); err != nil {
				t.Errorf("%v: %v; drops %v", p, err, b.drops(b.A))
			}
			is(p, at[i])
			if got := b.sa(p.Name + "-outbound").Peer.MovedAt; got == "" || got != since[i] {
				t.Errorf("%v: moved at %q, before the death %q", p, got, since[i])
			}
		}
	}
	if got := heard.lines(); len(got) != heard.seen {
		t.Errorf("heard %q", got[heard.seen:])
	}

	// Behind the NAT the path takes less. What its kernel says of that quotes a packet
	// as it was before it was translated.
	if err := beyond.IP("link set far mtu 1400"); err != nil {
		t.Fatal(err)
	}
	for i, p := range both {
		if err := talks[i].echo(100_000); err != nil {
			t.Errorf("%v: the connection did not outlive a smaller MTU: %v", p, err)
		}
		if s := b.sa(p.Name + "-outbound"); s.MTU.Learnt != 1400 || s.MTU.Inner != p.innerMTU(1400) {
			t.Errorf("%v: of 1400 octets the state says %+v", p, s.MTU)
		}
	}

	// The NAT's mappings are kept alive, without a word of the guest's IPsec.
	time.Sleep(2500 * time.Millisecond)
	wan.Stop()
	for i, p := range both {
		filter := fmt.Sprintf("udp src port 4500 and dst host %v and dst port %d and %s", at[i].Addr(), at[i].Port(), []string{"udp[4:2] == 9 and udp[8] == 0xff", "ip6[44:2] == 9 and ip6[48] == 0xff"}[i])
		if n, err := wan.Count(filter); err != nil || n == 0 {
			t.Errorf("%v: %d keep-alives (%v)", p, n, err)
		}
	}
	if n, err := wan.Count("net 10.0.0.0/8 or net 2001:db8:1::/64"); err != nil || n != 0 {
		t.Errorf("%d packets in the clear (%v)", n, err)
	}
	if n := noneTwice(t, wan.File); n < 1000 {
		t.Errorf("only %d ESP packets on the WAN", n)
	}
	out, err := vm.Run(20*time.Second, "grep -v -w 0 /proc/net/xfrm_stat || true")
	if err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the guest's IPsec complains: %v\n%s", err, out)
	}
	b.buffersAccounted()
}

// inject sends IP packets to site A's WAN interface, as from another station.
func (b *bed) inject() func(ip []byte) {
	b.t.Helper()
	mac, err := b.A.NS.Run("cat", "/sys/class/net/wan0/address")
	if err != nil {
		b.t.Fatal(err)
	}
	dst, err := net.ParseMAC(strings.TrimSpace(mac))
	if err != nil {
		b.t.Fatal(err)
	}
	fd, err := rawSocket(b.Wan, "wan")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { unix.Close(fd) })
	return func(ip []byte) {
		b.t.Helper()
		typ := []byte{8, 0}
		if ip[0]>>4 == 6 {
			typ = []byte{0x86, 0xdd}
		}
		frame := append(append(append(slices.Clone([]byte(dst)), 2, 0, 0, 0, 0, 0x66), typ...), ip...)
		if _, err := unix.Write(fd, frame); err != nil {
			b.t.Fatal(err)
		}
	}
}
