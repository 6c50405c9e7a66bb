package validate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// The tests here use the modules of the router itself.

var routerFixture = sync.OnceValues(func() (*Validator, error) {
	features := modules.Features()
	s, err := yang.Load(yang.Options{FS: modules.FS,
		Features: func(m, f string) bool { return slices.Contains(features[m], f) }}, modules.Implemented()...)
	if err != nil {
		return nil, err
	}
	return New(s)
})

func router(t testing.TB) *Validator {
	t.Helper()
	v, err := routerFixture()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRouterConfigs: the examples beside the modules, of which yanglint knows
// which are right, are judged the same here.
func TestRouterConfigs(t *testing.T) {
	v := router(t)
	if u := v.Unknown(); len(u) > 0 {
		t.Error("conditions name what is not there:", u)
	}
	for _, kind := range []string{"accepted", "refused"} {
		files, _ := filepath.Glob("../../yang/testdata/" + kind + "/*.xml")
		if len(files) == 0 {
			t.Fatal("no examples")
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			tree, err := codec.Edit(v.schema, data.New(v.schema), []byte(`<config>`+string(b)+`</config>`), data.Merge)
			var errs data.Errors
			by := "read"
			if err == nil {
				by = "validate"
				if _, errs = v.All(tree); len(errs) > 0 {
					err = errs
				}
			}
			if (err == nil) != (kind == "accepted") {
				t.Errorf("%s %s: %v", kind, filepath.Base(f), err)
			}
			if err != nil {
				t.Logf("%-30s %s: %v", filepath.Base(f), by, err)
			}
		}
	}
}

func TestRouterErrors(t *testing.T) {
	v := router(t)
	b, err := os.ReadFile("../../yang/testdata/accepted/tunnel.xml")
	if err != nil {
		t.Fatal(err)
	}
	start := edit(t, v, data.New(v.schema), string(b))
	refs, errs := v.All(start)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	const sad = `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>%s</name>%s</sad-entry></sad></ipsec-ikeless>`
	const spd = `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd><spd-entry><name>%s</name>%s</spd-entry></spd></ipsec-ikeless>`
	entry := func(list string) string {
		n, err := data.Find(start, "/ietf-i2nsf-ikeless:ipsec-ikeless/"+list)
		if err != nil || n == nil {
			t.Fatal(list, err)
		}
		name := ""
		n.(*data.List).Each(func(key string, _ data.Node) bool { name = key; return false })
		return name
	}
	sa, policy := entry("sad/sad-entry"), entry("spd/spd-entry")
	const key = "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f"
	const ifc = `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>wan0</name>%s</interface></interfaces>`
	saPath := "/ietf-i2nsf-ikeless:ipsec-ikeless/sad/sad-entry[name='" + sa + "']/ipsec-sa-config/"
	for _, c := range []struct{ name, xml, want string }{
		{"ports backwards", fmt.Sprintf(spd, policy, `<ipsec-policy-config><traffic-selector><local-ports><start>20</start><end>10</end></local-ports></traffic-selector></ipsec-policy-config>`),
			"operation-failed must-violation /ietf-i2nsf-ikeless:ipsec-ikeless/spd/spd-entry[name='" + policy + "']/ipsec-policy-config/traffic-selector/local-ports[start='20'][end='10']/end"},
		{"mtu above the port's", fmt.Sprintf(ifc, `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><mtu>1700</mtu></ipv4>`),
			"operation-failed must-violation /ietf-interfaces:interfaces/interface[name='wan0']/ietf-ip:ipv4/mtu"},
		{"the port's default mtu counts", fmt.Sprintf(ifc, `<port xmlns="urn:vrouter:yang:vrouter-port"><mtu xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete"/></port>`),
			"operation-failed must-violation /ietf-interfaces:interfaces/interface[name='wan0']/ietf-ip:ipv4/mtu"},
		{"interface in use", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface nc:operation="delete"><name>wan0</name></interface></interfaces>`, "data-missing instance-required"},
		{"no SPI", fmt.Sprintf(sad, sa, `<ipsec-sa-config><spi nc:operation="delete"/></ipsec-sa-config>`),
			"data-missing - " + saPath + "spi"},
		{"cut as no SA in transport mode is", fmt.Sprintf(sad, "x", `<ipsec-sa-config><spi>999</spi><traffic-selector><local-prefix>192.0.2.1/32</local-prefix><remote-prefix>192.0.2.2/32</remote-prefix></traffic-selector></ipsec-sa-config>
<mtu xmlns="urn:vrouter:yang:vrouter-mtu"><fragmentation>after-encryption</fragmentation></mtu>`),
			"unknown-element - /ietf-i2nsf-ikeless:ipsec-ikeless/sad/sad-entry[name='x']/vrouter-mtu:mtu/fragmentation"},
	} {
		new := edit(t, v, start, c.xml)
		_, _, errs := v.Change(start, new, refs)
		got := strings.Join(lines(errs), "\n")
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		for _, e := range errs { // no key in an error
			if strings.Contains(e.Msg, key) {
				t.Errorf("%s: %s", c.name, e.Msg)
			}
		}
	}
}

// scale gives n interfaces with a port and an address, and n SAs.
func scale(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`<config><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">`)
	for k := range n {
		fmt.Fprintf(&b, `<interface><name>e%d</name><description>number %d</description><type>i:ethernetCsmacd</type>`+
			`<port xmlns="urn:vrouter:yang:vrouter-port"><driver>memory</driver></port>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.%d</ip><prefix-length>24</prefix-length></address></ipv4></interface>`, k, k, k>>16&255, k>>8&255, k&255)
	}
	b.WriteString(`</interfaces><ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad>`)
	for k := range n {
		fmt.Fprintf(&b, `<sad-entry><name>sa%d</name><reqid>%d</reqid><ipsec-sa-config><spi>%d</spi>`+
			`<traffic-selector><local-prefix>10.0.0.0/8</local-prefix><remote-prefix>10.%d.%d.0/24</remote-prefix></traffic-selector>`+
			`<protocol-parameters>esp</protocol-parameters><mode>tunnel</mode>`+
			`<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f</key><iv>00:01:02:03</iv></encryption></esp-sa>`+
			`<tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-config></sad-entry>`, k, k+1, k+256, k>>8&255, k&255)
	}
	b.WriteString(`</sad></ipsec-ikeless></config>`)
	return b.Bytes()
}

func scaled(t testing.TB, n int) (*Validator, *data.Container, Refs) {
	t.Helper()
	v := router(t)
	root, err := codec.Edit(v.schema, data.New(v.schema), scale(n), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	refs, errs := v.All(root)
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	return v, root, refs
}

// changes are edits of one leaf among many, with the number of expressions
// that they may cost.
var changes = []struct {
	name, xml string
	max       int
}{
	{"description", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>e7</name><description>other</description></interface></interfaces>`, 0},
	{"port-mtu", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>e7</name><port xmlns="urn:vrouter:yang:vrouter-port"><mtu>1400</mtu></port></interface></interfaces>`, 6},
	{"sa-mode", `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>sa7</name><ipsec-sa-config><esp-sa><encryption><iv>01:02:03:04</iv></encryption></esp-sa></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`, 6},
	{"new-interface", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>new</name><type xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</type></interface></interfaces>`, 20},
}

// TestEvaluations counts: what a change evaluates does not depend on how much
// else there is.
func TestEvaluations(t *testing.T) {
	counted := map[int][]int{}
	for _, n := range []int{10, 1000} {
		v, root, refs := scaled(t, n)
		for _, c := range changes {
			new := edit(t, v, root, c.xml)
			_, _, errs, evals := v.change(root, new, refs)
			if len(errs) > 0 {
				t.Fatal(c.name, errs)
			}
			if evals > c.max {
				t.Errorf("%s: %d evaluations at %d entries, at most %d wanted", c.name, evals, n, c.max)
			}
			counted[n] = append(counted[n], evals)
		}
		_, _, errs, evals := v.change(root, edit(t, v, root, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface nc:operation="delete"><name>e3</name></interface></interfaces>`), refs)
		if len(errs) > 0 || evals > 2 {
			t.Errorf("an interface goes: %d evaluations, %v", evals, errs)
		}
		counted[n] = append(counted[n], evals)
	}
	if !slices.Equal(counted[10], counted[1000]) {
		t.Errorf("evaluations grow: %v", counted)
	}
	t.Log(counted)
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		v, root, refs := scaled(b, n)
		for _, c := range changes {
			new := edit(b, v, root, c.xml)
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, errs := v.Change(root, new, refs); len(errs) > 0 {
						b.Fatal(errs)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("all/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, errs := v.All(root); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}
