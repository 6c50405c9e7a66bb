package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/cmd/internal/lab"
)

// encapEnv tells this program that it is in a guest, to open the sockets there to
// which ESP in UDP comes.
const encapEnv = "VROUTER_E2E_ENCAP"

// openEncap opens a socket at port 4500 of each family and tells the kernel to take
// ESP from it (udp(7): UDP_ENCAP).
func openEncap() error {
	for _, x := range []struct {
		family int
		at     unix.Sockaddr
	}{{unix.AF_INET, &unix.SockaddrInet4{Port: 4500}}, {unix.AF_INET6, &unix.SockaddrInet6{Port: 4500}}} {
		s, err := unix.Socket(x.family, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		if x.family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return err
			}
		}
		if err := unix.Bind(s, x.at); err != nil {
			return err
		}
		const udpEncap, espInUDP = 100, 2 // linux/udp.h
		if err := unix.SetsockoptInt(s, unix.IPPROTO_UDP, udpEncap, espInUDP); err != nil {
			return err
		}
	}
	return nil
}

// transportPairs is each algorithm of the kernel with two of the combinations of
// family, ESN and encapsulation, in turn, the first with all.
func transportPairs() (l []kernelPair) {
	for a, alg := range kernelAlgs {
		for i := range 8 {
			if a > 0 && i != a%8 && i != 7-a%8 {
				continue
			}
			n := len(l)
			p := kernelPair{alg: alg, reqid: 100 + n, inInt: randomKey(alg.intKey), outInt: randomKey(alg.intKey), peerPair: peerPair{
				Name: fmt.Sprintf("%s-%d", alg.name, i), InSPI: uint32(0x1000 + n), OutSPI: uint32(0x2000 + n), InKey: randomKey(alg.encKey), OutKey: randomKey(alg.encKey),
				ESN: i&2 != 0, UDP: i&4 != 0, Local: "192.0.2.9", Remote: "192.0.2.1"}}
			if i&1 != 0 {
				p.Local, p.Remote = "2001:db8:ff::9", "2001:db8:ff::1"
			}
			p.toTransport(n)
			l = append(l, p)
		}
	}
	return l
}

// TestLinuxTransport has Debian's kernel as the other end of SAs in transport mode: it
// pings the vRouter from an address for each pair, in one piece and in many, and
// is told what the vRouter has to say about packets in transit. Neither's IPsec
// complains, and nothing of it is in the clear.
func TestLinuxTransport(t *testing.T) {
	needGuest(t)
	need(t, "tcpdump", "ping")
	b := newBed(t)
	pairs := transportPairs()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	encap := b.Lab.Path("encap") // a name that the guest's shell takes
	if err := os.Symlink(self, encap); err != nil {
		t.Fatal(err)
	}
	vm, err := b.Wan.VM("guest", "wan", "ping", encap)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			out, _ := vm.Run(20*time.Second, "uname -a; ip -s xfrm state | grep -v 0x; ip xfrm policy; grep -v ' 0$' /proc/net/xfrm_stat; ip neigh; ip addr; dmesg | tail -n 20")
			t.Logf("guest:\n%s", tail(out, 6000))
		}
	}()
	if out, err := vm.Run(time.Minute, guestScript(pairs)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := vm.Run(time.Minute, fmt.Sprintf("%s=1 %s >/tmp/encap & n=0; until grep -s encapsulation /tmp/encap || [ $n = 30 ]; do sleep 1; n=$((n+1)); done", encapEnv, encap)); err != nil || !strings.Contains(out, "<nil>") {
		t.Fatalf("no socket for ESP in UDP: %v\n%s", err, out)
	}
	b.edit(b.A, kernelConfig(pairs))
	ping := func(p *kernelPair, more string) (string, error) {
		return vm.Run(30*time.Second, fmt.Sprintf("ping -n -W 3 -I %s %s", p.Local, more))
	}
	// Both sides ask for each other's MAC addresses first.
	for i := range pairs {
		p := &pairs[i]
		if err := lab.Until(20*time.Second, "the vRouter answers "+p.Local, func() bool {
			_, err := ping(p, "-c 1 "+p.Remote)
			return err == nil
		}); err != nil {
			t.Fatalf("%v; drops %v", err, b.drops(b.A))
		}
	}
	before := b.drops(b.A)
	wan, err := b.Wan.Capture("transport", "a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range pairs {
		p := &pairs[i]
		t.Run(strings.ReplaceAll(p.String(), " ", "_"), func(t *testing.T) {
			for _, size := range []int{0, 133, 1300, 1400, 1440, large} {
				if out, err := ping(p, fmt.Sprintf("-c 2 -i 0.1 -s %d %s", size, p.Remote)); err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("ping with %d octets: %v\n%s", size, err, out)
				}
			}
		})
	}
	wan.Stop()
	for what, min := range map[string]int{"esp": 6 * len(pairs), "udp port 4500": 6 * len(pairs)} {
		if n, err := wan.Count(what); err != nil || n < min {
			t.Errorf("%d packets of %s on the WAN (%v)", n, what, err)
		}
	}
	// Any ICMP that is not neighbour discovery, whole or in pieces. (Those of UDP do not
	// show their ports.)
	if n, err := wan.Count("icmp or ip6[6] = 58 and (ip6[40] < 133 or ip6[40] > 137) or ip6[6] = 44 and ip6[40] = 58"); err != nil || n != 0 {
		t.Errorf("%d packets in the clear on the WAN (%v)", n, err)
	}
	noneTwice(t, wan.File)
	// A packet to the LAN, in the clear, whose TTL ends here: the error is the vRouter's
	// own, so it comes protected.
	sealed := func(p *kernelPair) uint64 { return b.sa(p.Name + "-outbound").State.Replay.Seq }
	for _, p := range []*kernelPair{&pairs[0], &pairs[1]} {
		n := sealed(p)
		to := map[bool]string{false: "10.1.0.2", true: "2001:db8:1::2"}[p.inner6]
		if out, _ := ping(p, "-c 1 -t 1 "+to); !strings.Contains(out, "From "+p.Remote) {
			t.Errorf("no error about a TTL of 1 to %s:\n%s", to, out)
		}
		if m := sealed(p); m != n+1 {
			t.Errorf("%v: %d packets went through the SA, %d before the error", p, m, n)
		}
	}
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
	// Without the SA nothing leaves, and what comes in the clear is not let in.
	p := &pairs[0]
	b.edit(b.A, `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><sad><sad-entry nc:operation="delete"><name>`+
		p.Name+`-outbound</name></sad-entry></sad></ipsec-ikeless>`)
	if wan, err = b.Wan.Capture("closed", "a"); err != nil {
		t.Fatal(err)
	}
	if out, err := ping(p, "-c 2 -i 0.2 -W 1 "+p.Remote); err == nil {
		t.Errorf("without an SA the vRouter answers:\n%s", out)
	}
	if _, err := vm.Run(20*time.Second, "ip xfrm policy flush"); err != nil {
		t.Fatal(err)
	}
	if out, err := ping(p, "-c 2 -i 0.2 -W 1 "+p.Remote); err == nil {
		t.Errorf("a ping in the clear is answered:\n%s", out)
	}
	wan.Stop()
	if n, err := wan.Count("icmp and src host " + p.Remote); err != nil || n != 0 {
		t.Errorf("%d answers in the clear (%v)", n, err)
	}
	last := b.drops(b.A)
	if last["ipsec-no-sa"] < after["ipsec-no-sa"]+2 || last["ipsec-unprotected"] < after["ipsec-unprotected"]+2 {
		t.Errorf("drops before %v, after %v", after, last)
	}
	b.buffersAccounted()
}
