package ipsec_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	fp "vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/ipsec"
	"vrouter/mgmt/internal/bindtest"
	"vrouter/pkg/sal"
)

func runner(t testing.TB) *bindtest.Runner {
	s := bindtest.Schema(t)
	r := bindtest.New(t, s)
	b, err := ipsec.New(s, r.Engine)
	if err != nil {
		t.Fatal(err)
	}
	r.Bindings = []binding.Binding{b}
	return r
}

func TestGolden(t *testing.T) {
	bindtest.Golden(t, func(t *testing.T) *bindtest.Runner { return runner(t) })
}

const ns = `xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:y="urn:ietf:params:xml:ns:yang:1"`

func bypass(name, attrs string) string {
	return `<spd-entry` + attrs + `><name>` + name + `</name><direction>outbound</direction><ipsec-policy-config><traffic-selector>` +
		`<local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.2.0.0/24</remote-prefix></traffic-selector>` +
		`<processing-info><action>bypass</action></processing-info></ipsec-policy-config></spd-entry>`
}

func spd(entries string) string {
	return `<ipsec-ikeless ` + ns + `><spd>` + entries + `</spd></ipsec-ikeless>`
}

// Whatever is inserted and moved, the fast path has the policies in the order of
// the user: also when the places between two entries are used up and all are
// spread anew, which no change of the datastore tells of.
func TestOrderSurvivesSpreading(t *testing.T) {
	r := runner(t)
	if err := r.Edit(spd(bypass("a", "") + bypass("z", ""))); err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "z"}
	sets, most := 0, 0
	for i := range 200 {
		name := fmt.Sprintf("p%d", i)
		if err := r.Edit(spd(bypass(name, ` y:insert="after" y:key="[name='a']"`))); err != nil {
			t.Fatal(err)
		}
		want = append([]string{"a", name}, want[1:]...)
		n := len(r.Out.IPsec.SetPolicy)
		sets += n
		most = max(most, n)
		if got := r.Engine.Order(); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("after %s: %v, want %v", name, got, want)
		}
	}
	if most < 10 {
		t.Error("places were never spread anew: the test does not test it")
	}
	if sets > 200*12 {
		t.Errorf("%d policies were told for 200 insertions", sets)
	}
}

// One leaf of one SA among 1000 is one SA for the fast path.
func TestCostFollowsChange(t *testing.T) {
	r := runner(t)
	var x strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&x, `<sad-entry><name>sa%d</name><reqid>1</reqid><ipsec-sa-config><spi>%d</spi><traffic-selector>`+
			`<local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.2.0.0/24</remote-prefix></traffic-selector><mode>tunnel</mode>`+
			`<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>%s</key></encryption></esp-sa>`+
			`<tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-config>`+
			`<direction xmlns="urn:vrouter:yang:vrouter-sal">inbound</direction></sad-entry>`, i, 1000+i, strings.Repeat("00:", 19)+"00")
	}
	if err := r.Edit(`<ipsec-ikeless ` + ns + `><sad>` + x.String() + `</sad></ipsec-ikeless>`); err != nil {
		t.Fatal(err)
	}
	if err := r.Edit(`<ipsec-ikeless ` + ns + `><sad><sad-entry><name>sa7</name><ipsec-sa-config><anti-replay-window-size>128</anti-replay-window-size></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`); err != nil {
		t.Fatal(err)
	}
	if o := r.Out.IPsec; len(o.SetSA) != 1 || o.SetSA[0].ReplayWindow != 128 || len(o.DeleteSA)+len(o.SetPolicy)+len(o.DeletePolicy) != 0 {
		t.Errorf("one leaf told %d SAs", len(o.SetSA))
	}
}

func TestLocate(t *testing.T) {
	b := runner(t).Bindings[0]
	const sad = "/ietf-i2nsf-ikeless:ipsec-ikeless/sad/sad-entry[name='x']"
	for _, c := range []struct{ feature, field, want string }{
		{"sa", "Offload", sad + "/vrouter-sal:offload/mode"},
		{"sa", "SPI", sad + "/ipsec-sa-config/spi"},
		{"sa", "Key", sad + "/ipsec-sa-config/esp-sa/encryption/key"},
		{"sa", "Soft.Idle", sad + "/ipsec-sa-config/sa-lifetime-soft/idle"},
		{"sa", "", sad},
		{"sa", "SomethingNew", sad},
		{"policy", "Selector", "/ietf-i2nsf-ikeless:ipsec-ikeless/spd/spd-entry[name='x']/ipsec-policy-config/traffic-selector"},
		{"iface", "", ""},
	} {
		if got := b.Locate(nil, &fastpath.Refusal{Feature: c.feature, Object: "x", Field: c.field}); got != c.want {
			t.Errorf("%s %s: %s", c.feature, c.field, got)
		}
	}
}

// No error says anything of a key.
func TestErrorsKeepSecrets(t *testing.T) {
	r := runner(t)
	const secret = "de:ad:be:ef"
	err := r.Edit(`<ipsec-ikeless ` + ns + `><sad><sad-entry><name>x</name><ipsec-sa-config><spi>1000</spi><traffic-selector>` +
		`<local-prefix>10.1.0.0/24</local-prefix><remote-prefix>2001:db8::/32</remote-prefix></traffic-selector><mode>tunnel</mode>` +
		`<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>` + secret + strings.Repeat(":00", 16) + `</key></encryption></esp-sa>` +
		`<tunnel><local>192.0.2.1</local><remote>192.0.2.1</remote></tunnel></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`)
	if err == nil {
		t.Fatal("accepted")
	}
	if got := bindtest.Errors(err); strings.Contains(got, "de:ad") || strings.Contains(got, "deadbeef") || strings.Contains(got, "222") {
		t.Error(got)
	}
}

func TestState(t *testing.T) {
	r := runner(t)
	x := `<sad-entry><name>%s</name><reqid>1</reqid><ipsec-sa-config><spi>%d</spi><traffic-selector>` +
		`<local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.2.0.0/24</remote-prefix></traffic-selector><mode>tunnel</mode>` +
		`<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>` + strings.Repeat("00:", 19) + `00</key></encryption></esp-sa>` +
		`<tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-config>` +
		`<direction xmlns="urn:vrouter:yang:vrouter-sal">%s</direction></sad-entry>`
	err := r.Edit(`<ipsec-ikeless ` + ns + `><spd>` + bypass("p", "") + `</spd><sad>` + fmt.Sprintf(x, "i", 1000, "inbound") + fmt.Sprintf(x, "o", 1001, "outbound") + `</sad></ipsec-ikeless>`)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine.Answer = func(q *fastpath.Query) *fastpath.State {
		st := &fastpath.State{}
		if q.Policies != nil {
			st.Policies = []fp.PolicyState{{Name: "p", Packets: 3, Bytes: 300}, {Name: "gone"}}
		}
		if q.SAs != nil {
			st.SAs = []fp.SAState{
				{Name: "i", Direction: sal.Inbound, Age: time.Minute + 1, Idle: 2 * time.Second, Ended: true, Expired: []string{"soft-time", "hard-bytes"}, Packets: 1 << 33, Bytes: 1 << 40, Seq: 5000, Window: 1024,
					Replayed: 11, Errors: []fp.Error{{Reason: "esp-replay", Packets: 7}, {Reason: "esp-late", Packets: 4}}, Engine: "cpu", Mode: "software", Reason: "as configured: software"},
				{Name: "o", Direction: sal.Outbound, Age: time.Hour, Idle: time.Hour, Seq: 17, Engine: "cpu", Mode: "software",
					OuterMTU: 1400, InnerMTU: 1346, PathMTU: 1400, PathLeft: 59*time.Second + 1},
			}
		}
		return st
	}
	got, asked := bindtest.Get(t, r, `<ipsec-ikeless `+ns+`/>`)
	for _, w := range []string{
		"<w>1024</w><t>5000</t><b>3977</b>", "<packet-dropped>7</packet-dropped><failed>4</failed>", "<seq-number-counter>17<",
		"<time>60</time><bytes>1099511627776</bytes><packets>4294967295</packets><idle>2</idle>", "<time>3600</time><bytes>0</bytes><packets>0</packets><idle>3600</idle>",
		"<engine>cpu</engine><mode>software</mode><reason>as configured: software</reason>", "<error><reason>esp-late</reason><packets>4</packets></error>",
		"<packets>3</packets><bytes>300</bytes>", "<ended>true</ended><expired>hard-bytes</expired><expired>soft-time</expired>", "<ended>false</ended></lifetime>",
		"<outer>1400</outer><inner>1346</inner><learnt>1400</learnt><learnt-for>59</learnt-for>",
	} {
		if !strings.Contains(got, w) {
			t.Errorf("no %s in %s", w, got)
		}
	}
	if strings.Contains(got, "gone") || len(asked) != 1 {
		t.Errorf("%s, asked %+v", got, asked)
	}
	got, asked = bindtest.Get(t, r, `<ipsec-ikeless `+ns+`><sad><sad-entry><name>o</name><ipsec-sa-state/></sad-entry></sad></ipsec-ikeless>`)
	if len(asked) != 1 || asked[0].Policies != nil || fmt.Sprint(asked[0].SAs) != "[o]" || strings.Contains(got, "placement") {
		t.Errorf("%s, asked %+v", got, asked)
	}
	if _, asked = bindtest.Get(t, r, `<ipsec-ikeless `+ns+`><sad><sad-entry><name/></sad-entry></sad></ipsec-ikeless>`); len(asked) != 0 {
		t.Errorf("names alone asked %+v", asked)
	}
}

// TestEvents: each event of an SA is its notification of RFC 9061, with what the
// model wants to have in it.
func TestEvents(t *testing.T) {
	b := runner(t).Bindings[0]
	sa := &event.SA{SPI: 4096, Age: 61*time.Second + 1, Idle: 2 * time.Second, Packets: 1 << 40, Bytes: 1 << 50}
	const lived = "lifetime-current{time=61 bytes=1125899906842624 packets=4294967295 idle=2}"
	for _, c := range []struct {
		event fastpath.Event
		want  string
	}{
		{fastpath.Event{Kind: event.SASoftExpired, Object: "o", SA: sa}, "sadb-expire: ipsec-sa-name=o soft-lifetime-expire=true " + lived},
		{fastpath.Event{Kind: event.SAHardExpired, Object: "o", SA: sa}, "sadb-expire: ipsec-sa-name=o soft-lifetime-expire=false " + lived},
		{fastpath.Event{Kind: event.SASeqNear, Object: "o", SA: sa}, "sadb-expire: ipsec-sa-name=o soft-lifetime-expire=true " + lived},
		{fastpath.Event{Kind: event.SASeqOverflow, Object: "o", SA: sa}, "sadb-seq-overflow: ipsec-sa-name=o"},
		{fastpath.Event{Kind: event.BadSPI, SPI: 1 << 31}, "sadb-bad-spi: spi=2147483648"},
		{fastpath.Event{Kind: event.PortUp, Object: "wan0"}, ""},
	} {
		if got := written(b, &c.event); got != c.want {
			t.Errorf("%v: %s, want %s", c.event.Kind, got, c.want)
		}
	}
}

// written is a notification as text.
func written(b binding.Binding, e *fastpath.Event) string {
	name, content := b.(binding.EventSource).Event(e)
	if name == "" {
		return ""
	}
	var c words
	content(&c)
	return strings.TrimPrefix(name, "ietf-i2nsf-ikeless:") + ": " + strings.Join(c, " ")
}

// words are a binding.Content.
type words []string

func (w *words) In(name string, f func()) {
	up := *w
	*w = nil
	f()
	*w = append(up, name+"{"+strings.Join(*w, " ")+"}")
}
func (w *words) Text(name, text string)           { *w = append(*w, name+"="+text) }
func (w *words) Uint(name string, v uint64)       { w.Text(name, fmt.Sprint(v)) }
func (w *words) Gauge(name string, v, max uint64) { w.Uint(name, min(v, max)) }
func (w *words) Bool(name string, v bool)         { w.Text(name, fmt.Sprint(v)) }
