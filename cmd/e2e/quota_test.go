package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTenantQuotas: two tenants, each with a tunnel of its own and with equal quotas. One
// sends ten times what it may. The other one sends what it may, and loses nothing.
func TestTenantQuotas(t *testing.T) {
	b := configured(t)
	const rate = 500
	sal := func(groups string) string { return `<sal xmlns="urn:vrouter:yang:vrouter-sal">` + groups + `</sal>` }
	member := func(sa, group string) string {
		return `<sad-entry><name>` + sa + `</name><tenant-group xmlns="urn:vrouter:yang:vrouter-sal">` + group + `</tenant-group></sad-entry>`
	}
	quota := fmt.Sprintf("<max-sas>1</max-sas><packets-per-second>%d</packets-per-second>", rate)
	b.edit(b.A, sal("<tenant-group><name>quiet</name>"+quota+"</tenant-group><tenant-group><name>loud</name>"+quota+"</tenant-group>")+
		fmt.Sprintf(sadXML, member("b-v4-out", "quiet")+member("b-v6-out", "loud")))
	if err := b.tryEdit(b.A, fmt.Sprintf(sadXML, member(opens(b), "quiet"))); err == nil || !strings.Contains(err.Error(), "resource-denied") ||
		!strings.Contains(err.Error(), "/sad-entry[name='"+opens(b)+"']/vrouter-sal:tenant-group") {
		t.Errorf("one SA more than the group may have: %v", err)
	}
	start := time.Now()
	quiet := b.stream(rate*19/20, 200)
	loud := b.streamFrom(b.HostA, "[2001:db8:1::2]:9003", b.HostB, "[2001:db8:2::2]:9002", 10*rate, 200)
	time.Sleep(1200 * time.Millisecond)
	out := b.ctl(b.A, "show", "tenants")
	took := time.Since(start).Seconds()
	sentQ, lostQ, _ := quiet.end()
	sentL, lostL, _ := loud.end()
	took = max(took, time.Since(start).Seconds()-0.5)
	t.Logf("quiet: %d sent, %d lost; loud: %d sent, %d lost, in %.1f s\n%s", sentQ, lostQ, sentL, lostL, took, out)
	if lostQ > sentQ/10 {
		t.Errorf("the quiet tenant has lost %d of %d packets", lostQ, sentQ)
	}
	// Its quota, and a tenth of a second that it had not used before.
	if got := sentL - lostL; float64(got) > rate*(took+0.1)*1.1 || float64(got) < rate*took*0.5 {
		t.Errorf("of the loud tenant's %d packets %d have arrived in %.1f s", sentL, got, took)
	}
	if n := b.drops(b.A)["esp-quota"]; n == 0 || n > lostL {
		t.Errorf("%d packets dropped as esp-quota, %d were lost", n, lostL)
	}
	if !regexp.MustCompile(`(?m)^loud\s+1\s+1\s+500\s+any\s`).MatchString(out) {
		t.Errorf("the tenants are shown as\n%s", out)
	}
	b.buffersAccounted()
}
