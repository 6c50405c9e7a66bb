package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// Reverse path checks by NETCONF against a kernel that sends from sources of all
// kinds: strict takes those that a route leads back to by that interface, one of
// several next hops being enough; loose those that any route leads back to.
func TestSourceChecks(t *testing.T) {
	b := newIPBed(t)
	b.configure("")
	// Sources of n1: its own, one behind both next hops, one that is n2's, and one
	// of nowhere.
	if err := b.n1.IP(`addr add 192.0.2.6/32 dev lo
addr add 203.0.113.7/32 dev lo
addr add 2001:db8:2:2::2/128 dev lo nodad
addr add 2001:db8:dead::7/128 dev lo nodad`); err != nil {
		t.Fatal(err)
	}
	check := func(how string) {
		t.Helper()
		leaf := `<source-check xmlns="urn:vrouter:yang:vrouter-routing">` + how + `</source-check>`
		b.edit(b.vr, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>wan1</name>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">`+leaf+`</ipv4><ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">`+leaf+`</ipv6></interface></interfaces>`)
	}
	b.answered("192.0.2.2")
	b.answered("2001:db8:2:1::2") // host and n1 are known to the vRouter
	// A datagram to a port that the host does not serve shows in its counters,
	// whoever it pretends to be from.
	arrives := func(src, dst string) bool {
		t.Helper()
		a4, a6 := unserved(t, b.host)
		before := b.drops(b.vr)["ip-reverse-path"]
		if err := b.n1.Do(func() error { return datagram(src, dst) }); err != nil {
			t.Fatal(err)
		}
		arrived := false
		if err := lab.Until(5*time.Second, "a datagram from "+src+" arrives or is dropped", func() bool {
			c4, c6 := unserved(t, b.host)
			arrived = c4+c6 == a4+a6+1
			return arrived || b.drops(b.vr)["ip-reverse-path"] == before+1
		}); err != nil {
			t.Errorf("%v: %v", err, b.drops(b.vr))
		}
		return arrived
	}
	for _, c := range []struct{ how, passes string }{
		{"off", "own both other nowhere"}, {"strict", "own both"}, {"loose", "own both other"}, {"off", "own both other nowhere"},
	} {
		check(c.how)
		for _, s := range []struct{ name, v4, v6 string }{
			{"own", "192.0.2.2", "2001:db8:2:1::2"}, {"both", "198.51.100.1", "2001:db8:f::1"},
			{"other", "192.0.2.6", "2001:db8:2:2::2"}, {"nowhere", "203.0.113.7", "2001:db8:dead::7"},
		} {
			want := strings.Contains(c.passes, s.name)
			if got := arrives(s.v4, "10.1.0.2"); got != want {
				t.Errorf("%s, %s: IPv4 arrives: %v", c.how, s.v4, got)
			}
			if got := arrives(s.v6, "2001:db8:1::2"); got != want {
				t.Errorf("%s, %s: IPv6 arrives: %v", c.how, s.v6, got)
			}
		}
	}
	out := b.ctl(b.vr, "show", "drops")
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "ip-reverse-path") && !strings.Contains(line, "wan1") {
			t.Errorf("not counted by its interface: %s", line)
		}
	}
}

// datagram sends one from an address of this network namespace.
func datagram(src, dst string) error {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(src)}, &net.UDPAddr{IP: net.ParseIP(dst), Port: 9})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("datagram"))
	return err
}
