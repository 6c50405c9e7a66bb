package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// TestLookAsideThreads: the IPv4 tunnel of the demo on an engine with threads of
// its own, which both vRouters require: outbound on A and in both directions on B.
// NETCONF lists the engine and says where the SAs are; packets go through in both
// directions while SAs move to the engine and away from it, in mode crypto and in mode
// protocol: by commits, and as an operator has it who migrates them or drains the engine.
func TestLookAsideThreads(t *testing.T) {
	need(t, "tcpdump")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	b := bedIn(t, l, "--fastpathd-arg=-crypto-threads=1")
	b.ctl(b.A, "edit", "../../testdata/demo/site-a.xml", "--commit")
	b.ctl(b.B, "edit", "../../testdata/demo/site-b.xml", "--commit")
	b.resolve()
	wan, err := b.Wan.Capture("wan", "a")
	if err != nil {
		t.Fatal(err)
	}
	if out := b.ctl(b.A, "show", "engines"); !strings.Contains(out, "pool0") || !strings.Contains(out, "look-aside") {
		t.Errorf("the engines are shown as\n%s", out)
	}
	names := map[*site.VRouter][]string{b.A: {"b-v4-out"}, b.B: b.v4SAs(b.B)}
	if len(names[b.B]) != 2 {
		t.Fatalf("B has the SAs %v over IPv4", names[b.B])
	}
	move := func(to, mode, leaves string) {
		t.Helper()
		for v, sas := range names {
			xml := ""
			for _, n := range sas {
				xml += "<sad-entry><name>" + n + `</name><offload xmlns="urn:vrouter:yang:vrouter-sal"><mode>` + mode + "</mode>" + leaves + "</offload></sad-entry>"
			}
			b.edit(v, fmt.Sprintf(sadXML, xml))
			for _, n := range sas {
				if p := b.placement(v, n); p.Engine != to || p.Mode != mode {
					t.Errorf("%s: %s is on %q (%s, %s), want %s, %s", v.Name, n, p.Engine, p.Mode, p.Reason, to, mode)
				}
			}
		}
	}
	there := b.stream(2000, 300)
	back := b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 2000, 300)
	time.Sleep(soak / 4)
	move("pool0", "crypto", "<policy>require</policy>")
	time.Sleep(soak / 4)
	move("cpu0", "software", "")
	move("pool0", "protocol", "")
	move("pool0", "crypto", "")
	move("cpu0", "software", "")
	move("pool0", "protocol", "<engine>pool0</engine>")
	was := b.placement(b.A, "b-v4-out").Packets
	time.Sleep(soak / 4)
	if now := b.placement(b.A, "b-v4-out").Packets; now <= was {
		t.Errorf("the SA on the engine has counted %d packets, and %d some time later", was, now)
	}
	b.operate(names)
	lostAll := 0
	for name, s := range map[string]*stream{"there": there, "back": back} {
		sent, lost, dup := s.end()
		if lostAll += lost; lost > 0 || dup > 0 || sent == 0 {
			t.Logf("%s: of %d packets %d were lost, %d came twice", name, sent, lost, dup)
		}
		if dup > 0 || sent == 0 {
			t.Errorf("%s: of %d packets %d came twice", name, sent, dup)
		}
	}
	// On a machine that is short of time the thread of an engine may have no processor for
	// 50 ms. Then the engine counts as lost for a moment, and what dies of that is counted.
	mayDie := 0
	for _, v := range []*site.VRouter{b.A, b.B} {
		if n := (&victim{b: b, v: v}).told("lost"); n > 0 {
			mayDie += b.drops(v)["sal-device"]
			t.Logf("%s: the watchdog has tripped %d times, nobody having done anything to the engine", v.Name, n)
		}
	}
	if lostAll > mayDie {
		t.Errorf("%d packets were lost", lostAll)
	}
	for _, v := range []*site.VRouter{b.A, b.B} {
		for _, reason := range []string{"esp-replay", "esp-late", "esp-bad-icv", "sal-queue-full", "sal-device"} {
			if n := b.drops(v)[reason]; n > 0 && !(mayDie > 0 && reason == "sal-device") {
				t.Errorf("%s: %d packets dropped as %s", v.Name, n, reason)
			}
		}
	}
	wan.Stop()
	b.noClear(wan)
	noneTwice(t, wan.File)
	b.buffersAccounted()
}

// operate has SAs that prefer pool0 migrate, and the engine drained, on each vRouter;
// and asks for what cannot be, first while they require it.
func (b *bed) operate(names map[*site.VRouter][]string) {
	t := b.t
	t.Helper()
	on := func(v *site.VRouter, engine, why string) {
		t.Helper()
		for _, n := range names[v] {
			if err := lab.Until(5*time.Second, n+" is on "+engine, func() bool { return b.placement(v, n).Engine == engine }); err != nil {
				t.Errorf("%s, %s: %v; it is at %+v", v.Name, why, err, b.placement(v, n))
			}
		}
	}
	for v, sas := range names {
		if _, err := v.Ctl("sal", "migrate", sas[0], "cpu0"); err == nil || !strings.Contains(err.Error(), "requires") {
			t.Errorf("an SA that requires pool0 was asked to leave it: %v", err)
		}
		if _, err := v.Ctl("sal", "drain", "pool0"); err == nil || !strings.Contains(err.Error(), "operation-failed") {
			t.Errorf("an engine that an SA requires was drained: %v", err)
		}
		xml := ""
		for _, n := range sas {
			xml += "<sad-entry><name>" + n + `</name><offload xmlns="urn:vrouter:yang:vrouter-sal"><policy>prefer</policy></offload></sad-entry>`
		}
		b.edit(v, fmt.Sprintf(sadXML, xml))
		on(v, "pool0", "preferred")
		for _, to := range []string{"cpu0", "pool0"} {
			for _, n := range sas {
				b.soon(v, "sal", "migrate", n, to)
			}
			on(v, to, "migrated")
		}
		b.soon(v, "sal", "drain", "pool0")
		on(v, "cpu0", "drained")
		if out := b.ctl(v, "show", "engines"); !strings.Contains(out, "drained") {
			t.Errorf("the engines are shown as\n%s", out)
		}
		if p := b.placement(v, sas[0]); p.Reason == "" {
			t.Errorf("no reason why %s is at %+v", sas[0], p)
		} else {
			t.Logf("%s: %s, %s", sas[0], p.Engine, p.Reason)
		}
		b.ctl(v, "sal", "undrain", "pool0")
		on(v, "pool0", "undrained")
		for path, args := range map[string][]string{
			"/vrouter-sal:migrate-sa/ipsec-sa-name": {"sal", "migrate", "nobody", "cpu0"},
			"/vrouter-sal:migrate-sa/engine":        {"sal", "migrate", sas[0], "card"},
			"/vrouter-sal:drain-engine/engine":      {"sal", "drain", "card"},
		} {
			if _, err := v.Ctl(args...); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "invalid-value") {
				t.Errorf("%v: %v, want invalid-value at %s", args, err, path)
			}
		}
		err := b.tryEdit(v, fmt.Sprintf(sadXML, "<sad-entry><name>"+sas[0]+`</name><offload xmlns="urn:vrouter:yang:vrouter-sal"><mode>crypto</mode><engine>card</engine><policy>require</policy></offload></sad-entry>`))
		if want := "sad-entry[name='" + sas[0] + "']/vrouter-sal:offload"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an engine that is not there was required: %v, want an error at %s", err, want)
		}
		on(v, "pool0", "after refusals")
	}
}

// soon has vrouterctl do what may have to wait for packets that are under way.
func (b *bed) soon(v *site.VRouter, args ...string) {
	b.t.Helper()
	var err error
	if e := lab.Until(5*time.Second, strings.Join(args, " "), func() bool {
		_, err = v.Ctl(args...)
		return err == nil || !strings.Contains(err.Error(), "try again in a moment")
	}); e != nil || err != nil {
		b.t.Errorf("%v: %v", args, err)
	}
}

// placement is where an SA is served, and what has passed it.
type placement struct {
	Engine, Mode, Reason string
	Packets              uint64
}

// sadOf reads the SAD of a vRouter.
func (b *bed) sadOf(v *site.VRouter) (l []struct {
	Name   string
	Config struct {
		Selector struct {
			Local string `json:"local-prefix"`
		} `json:"traffic-selector"`
	} `json:"ipsec-sa-config"`
	Placement struct{ Engine, Mode, Reason string } `json:"vrouter-sal:placement"`
	Counters  struct {
		Packets uint64 `json:"packets,string"`
	} `json:"vrouter-sal:counters"`
}) {
	b.t.Helper()
	out := b.ctl(v, "show", "ipsec", "sa", "--json")
	var all map[string]map[string]map[string]json.RawMessage
	err := json.Unmarshal([]byte(out), &all)
	if err == nil {
		err = json.Unmarshal(all["ietf-i2nsf-ikeless:ipsec-ikeless"]["sad"]["sad-entry"], &l)
	}
	if err != nil {
		b.t.Fatalf("%v in %s", err, out)
	}
	return l
}

func (b *bed) placement(v *site.VRouter, name string) placement {
	b.t.Helper()
	for _, s := range b.sadOf(v) {
		if s.Name == name {
			return placement{s.Placement.Engine, s.Placement.Mode, s.Placement.Reason, s.Counters.Packets}
		}
	}
	b.t.Fatalf("%s has no SA %s", v.Name, name)
	panic("not reached")
}

// v4SAs names the SAs of a vRouter whose inner packets are IPv4.
func (b *bed) v4SAs(v *site.VRouter) (l []string) {
	b.t.Helper()
	for _, s := range b.sadOf(v) {
		if strings.Contains(s.Config.Selector.Local, ".") {
			l = append(l, s.Name)
		}
	}
	return l
}
