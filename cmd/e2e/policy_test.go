package e2e

import (
	"strings"
	"testing"
)

// TestMessageTypes: an SPD entry for echo requests stops the pings of one site, and
// not its answers to those of the other.
func TestMessageTypes(t *testing.T) {
	b := configured(t)
	ping := func(from, what, to string, works bool) {
		t.Helper()
		ns := b.HostA
		if from == "B" {
			ns = b.HostB
		}
		out, err := ns.Run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", to)
		if (err == nil) != works {
			t.Errorf("%s: ping from site %s to %s: %v\n%s", what, from, to, err, out)
		}
	}
	ping("A", "before", "10.2.0.2", true)
	ping("A", "before", "2001:db8:2::2", true)
	const entry = `<spd-entry y:insert="first"><name>NAME</name><direction>outbound</direction><ipsec-policy-config><traffic-selector>
<local-prefix>LOCAL</local-prefix><remote-prefix>REMOTE</remote-prefix><inner-protocol>PROTO</inner-protocol><local-ports><start>FIRST</start><end>LAST</end></local-ports>
</traffic-selector><processing-info><action>discard</action></processing-info></ipsec-policy-config></spd-entry>`
	b.edit(b.A, `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:y="urn:ietf:params:xml:ns:yang:1"><spd>`+
		strings.NewReplacer("NAME", "no-echo", "LOCAL", "10.1.0.0/24", "REMOTE", "10.2.0.0/24", "PROTO", "1", "FIRST", "2048", "LAST", "2303").Replace(entry)+
		strings.NewReplacer("NAME", "no-echo6", "LOCAL", "2001:db8:1::/64", "REMOTE", "2001:db8:2::/64", "PROTO", "58", "FIRST", "32768", "LAST", "33023").Replace(entry)+`</spd></ipsec-ikeless>`)
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		ping("A", "requests discarded", to, false)
	}
	for _, to := range []string{"10.1.0.2", "2001:db8:1::2"} {
		ping("B", "requests of A discarded", to, true)
	}
	if n := b.drops(b.A)["ipsec-policy-discard"]; n < 4 {
		t.Errorf("%d packets discarded by policy", n)
	}
	if out := b.ctl(b.A, "show", "ipsec", "policy"); !strings.Contains(out, "types 8 ") || !strings.Contains(out, "types 128 ") {
		t.Errorf("the SPD is shown as\n%s", out)
	}
	// What came through the tunnel came in order.
	if out := b.ctl(b.A, "show", "ipsec", "lateness"); !strings.Contains(out, "b-v4-in") || strings.Contains(out, "b-v4-out") {
		t.Errorf("lateness is shown as\n%s", out)
	}
	b.buffersAccounted()
}
