package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// TestEngineNotifications: what happens to engines and SAs as a client hears of it who
// is not ours (ncclient), with what is in it; and a checker who is not ours either
// (yanglint) finds each valid by its module.
func TestEngineNotifications(t *testing.T) {
	need(t, "tcpdump", "python3:ncclient", "yanglint")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	file, keyFile, _ := users(t, l)
	b := bedIn(t, l, "--users", file, "--fastpathd-arg=-crypto-threads=1")
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	const out = "b-v4-out"
	x := &victim{b: b, v: b.A, sas: []string{out}}
	b.edit(b.A, `<sal xmlns="urn:vrouter:yang:vrouter-sal"><alarm><bad-icv>20</bad-icv><replay>20</replay></alarm></sal>`)
	heard := b.subscribe(keyFile)
	notice := func(kind, what string) string {
		return "<" + kind + ` xmlns="urn:vrouter:yang:vrouter-sal">` + what + "</" + kind + ">"
	}
	seen := 0
	// expect waits for a notification behind those before, whose content is a pattern.
	expect := func(kind, pattern string) {
		t.Helper()
		re := regexp.MustCompile(notice(kind, pattern))
		if err := lab.Until(8*time.Second, kind+" "+pattern, func() bool {
			all := heard.proc.Output()
			at := re.FindStringIndex(all[seen:])
			if at != nil {
				seen += at[1]
			}
			return at != nil
		}); err != nil {
			t.Errorf("%v; heard\n%s", err, tail(heard.proc.Output()[seen:], 3000))
		}
	}
	leaf := func(name, pattern string) string { return "<" + name + ">" + pattern + "</" + name + ">" }
	moved := func(to, from, why string) {
		t.Helper()
		expect("sa-migrated", leaf("ipsec-sa-name", out)+leaf("engine", to)+leaf("previous-engine", from)+leaf("reason", why)+leaf("untold", "0"))
	}
	unmet := func(why string) {
		t.Helper()
		expect("offload-not-met", leaf("ipsec-sa-name", out)+leaf("engine", "cpu0")+leaf("reason", why)+leaf("untold", "0"))
	}

	// An SA that prefers an engine that is not there, and then one that is.
	offload := func(what string) {
		b.edit(b.A, fmt.Sprintf(sadXML, `<sad-entry><name>`+out+`</name><offload xmlns="urn:vrouter:yang:vrouter-sal">`+what+`</offload></sad-entry>`))
	}
	offload("<mode>crypto</mode><engine>card</engine>")
	unmet(`fallback to software: there is no engine "card"`)
	offload("<engine>pool0</engine>")
	x.on("pool0", "preferred")
	b.soon(b.A, "sal", "migrate", out, "cpu0")
	moved("cpu0", "pool0", "placed by an operator")
	b.soon(b.A, "sal", "migrate", out, "pool0")
	moved("pool0", "cpu0", "as configured: crypto")
	b.soon(b.A, "sal", "drain", "pool0")
	moved("cpu0", "pool0", "fallback to software: engine pool0 is drained")
	unmet("fallback to software: engine pool0 is drained")
	b.ctl(b.A, "sal", "undrain", "pool0")
	moved("pool0", "cpu0", "as configured: crypto")
	s := b.stream(500, 100)
	x.kill()
	// SAs are told of before the engine whose end has made them move.
	why := `it has given nothing back for \d+ ms`
	moved("cpu0", "pool0", "fallback to software: engine pool0 is not used since it failed: "+why)
	unmet("fallback to software: engine pool0 is not used since it failed: " + why)
	expect("engine-lost", leaf("engine", "pool0")+leaf("reason", why+": of its 1 SAs 1 have gone to other engines, 0 carry nothing"))
	moved("pool0", "cpu0", "as configured: crypto")
	expect("engine-back", leaf("engine", "pool0")+leaf("reason", "it works again: 1 SAs have come"))
	b.edit(b.A, fmt.Sprintf(sadXML, `<sad-entry><name>`+out+`</name><sequence-report xmlns="urn:vrouter:yang:vrouter-sal">100</sequence-report></sad-entry>`))
	for range 2 {
		expect("sequence-report", leaf("ipsec-sa-name", out)+leaf("sequence-number", `\d\d+`)+leaf("untold", "0"))
	}
	s.end()

	// Somebody sends again what B has sent, and spoils it.
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.HostA.Run("ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", "10.2.0.2"); err != nil {
		t.Fatal(err)
	}
	wan.Stop()
	frames := espFrames(t, wan.File, "192.0.2.1")
	if len(frames) == 0 {
		t.Fatal("no ESP to A")
	}
	for kind, frame := range map[string][]byte{"replay-alarm": frames[0], "icv-alarm": spoiled(frames[len(frames)-1])} {
		f := b.flood(b.Wan, "a", 200, func() []byte { return frame })
		seen = strings.LastIndex(heard.proc.Output(), "\n") + 1
		expect(kind, leaf("ipsec-sa-name", opens(b))+leaf("packets", `\d\d+`))
		f.end(t)
	}
	lint(t, heard.proc.Output())
}

// opens names the SA by which A opens what comes over IPv4.
func opens(b *bed) string {
	b.t.Helper()
	for _, n := range b.v4SAs(b.A) {
		if n != "b-v4-out" {
			return n
		}
	}
	b.t.Fatal("A has no inbound SA over IPv4")
	return ""
}

// spoiled is an ESP frame with another number, far ahead, and so with a wrong ICV.
func spoiled(frame []byte) []byte {
	f := append([]byte(nil), frame...)
	f[14+20+6]++
	return f
}

// lint has yanglint check each notification of vrouter-sal.
func lint(t *testing.T, heard string) {
	t.Helper()
	bin, err := exec.LookPath("yanglint")
	if err != nil {
		t.Fatal(err)
	}
	const yang = "../../yang"
	mods, err := filepath.Glob(yang + "/vrouter-sal@*.yang")
	if err != nil || len(mods) == 0 {
		t.Fatal("no vrouter-sal", err)
	}
	dir, kinds := t.TempDir(), map[string]int{}
	for i, line := range strings.Split(heard, "\n") {
		m := regexp.MustCompile(`</eventTime><([\w-]+) xmlns="urn:vrouter:yang:vrouter-sal">`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if kinds[m[1]]++; kinds[m[1]] > 2 {
			continue // like the others
		}
		f := filepath.Join(dir, fmt.Sprintf("%d.xml", i))
		if err := os.WriteFile(f, []byte(line[strings.Index(line, "<"):]), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(bin, "-p", yang, "-p", yang+"/ietf", "-t", "nc-notif", mods[len(mods)-1], f).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s\n%s", m[1], err, out, line)
		}
	}
	t.Logf("heard and found valid: %v", kinds)
	for _, k := range []string{"engine-lost", "engine-back", "sa-migrated", "offload-not-met", "icv-alarm", "replay-alarm", "sequence-report"} {
		if kinds[k] == 0 {
			t.Errorf("no %s", k)
		}
	}
}
