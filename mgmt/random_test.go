package mgmt

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"vrouter/mgmt/apply"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

// plane is a management plane without NETCONF and disk over a model of a data
// plane.
type plane struct {
	t      testing.TB
	schema *yang.Schema
	v      *validate.Validator
	refs   validate.Refs
	tree   *data.Container
	engine *enginetest.Engine
	apply  *apply.Applier
}

func newPlane(t testing.TB, s *yang.Schema, v *validate.Validator) *plane {
	p := &plane{t: t, schema: s, v: v, tree: data.New(s), engine: enginetest.New()}
	b, err := features(s, p.engine, nil, rules(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if p.apply, err = apply.New(s, p.engine, b, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	p.fill()
	return p
}

// fill fills the data plane from running, as after a start.
func (p *plane) fill() {
	p.t.Helper()
	w, err := p.apply.Prepare(context.Background(), data.New(p.schema), p.tree)
	if err != nil {
		p.t.Fatalf("running is refused as a whole: %v", err)
	}
	w.Publish()
}

// step makes an edit; publish false gives the change up when all have agreed.
// It tells whether running changed.
func (p *plane) step(edit string, publish bool) (error, bool) {
	next, err := codec.Edit(p.schema, p.tree, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:y="urn:ietf:params:xml:ns:yang:1">`+edit+`</config>`), data.Merge)
	if err != nil {
		return err, false
	}
	next, refs, errs := p.v.Change(p.tree, next, p.refs)
	if len(errs) > 0 {
		return errs, false
	}
	pending, err := p.apply.Prepare(context.Background(), p.tree, next)
	if err != nil {
		return err, false
	}
	if !publish {
		pending.Abort()
		return nil, false
	}
	pending.Publish()
	p.tree, p.refs = next, refs
	return nil, true
}

// However running came about, the data plane has what all of running says: an
// incremental translation equals a whole one. Refused and abandoned changes
// leave nothing behind, and filling the data plane again finds nothing to do.
func TestIncrementalEqualsWhole(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	steps := 1500
	if testing.Short() {
		steps = 60
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			r := edits{rand.New(rand.NewPCG(seed, 1))}
			p := newPlane(t, s, v)
			done, refused := 0, 0
			for i := range steps {
				edit := r.next()
				err, changed := p.step(edit, r.IntN(10) > 0)
				if err != nil {
					refused++
					if strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "was not there") || strings.Contains(err.Error(), ": no interface") {
						t.Fatalf("step %d: the data plane was told what it cannot be: %v\n%s", i, err, edit)
					}
				}
				if p.engine.Pending() {
					t.Fatalf("step %d left a prepared change behind", i)
				}
				if changed {
					done++
				}
				if i%7 != 0 {
					continue
				}
				whole := newPlane(t, s, v)
				whole.tree = p.tree
				whole.fill()
				if got, want := p.engine.Text(), whole.engine.Text(); got != want {
					t.Fatalf("step %d: after\n%s\nby steps:\n%s\nwhole:\n%s", i, edit, got, want)
				}
				_, before := p.engine.Last()
				p.fill()
				if _, after := p.engine.Last(); after != before {
					last, _ := p.engine.Last()
					t.Fatalf("step %d: filling a full data plane changed it:\n%s", i, enginetest.Text(last))
				}
			}
			if done < steps/4 || refused < steps/20 {
				t.Errorf("%d of %d edits were made and %d refused: the test has lost its teeth", done, steps, refused)
			}
		})
	}
}

// edits makes random edits over few names and addresses, so that they meet.
type edits struct{ *rand.Rand }

func (r edits) pick(of ...string) string { return of[r.IntN(len(of))] }

func (r edits) next() string {
	n := 1 + r.IntN(3)
	var b strings.Builder
	for range n {
		switch r.IntN(11) {
		case 10:
			b.WriteString(`<sal xmlns="urn:vrouter:yang:vrouter-sal">` + r.group() + `</sal>`)
		case 0, 1, 2:
			b.WriteString(r.iface())
		case 3, 4, 5:
			b.WriteString(r.route())
		case 6, 7:
			b.WriteString(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd>` + r.policy() + `</spd></ipsec-ikeless>`)
		case 8:
			b.WriteString(`<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad>` + r.sa() + `</sad></ipsec-ikeless>`)
		default:
			b.WriteString(`<fastpath xmlns="urn:vrouter:yang:vrouter-fastpath"><worker><polling>` + r.pick("busy", "adaptive") + `</polling></worker></fastpath>`)
		}
	}
	if r.IntN(60) == 0 {
		return `<` + r.pick(`routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"`, `interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"`,
			`ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"`) + ` nc:operation="remove"/>`
	}
	return b.String()
}

func (r edits) op() string {
	return r.pick("", "", "", "", ` nc:operation="replace"`, ` nc:operation="remove"`)
}

func (r edits) iface() string {
	op := r.op()
	x := `<interface` + op + `><name>` + r.pick("a", "b", "c", "d e") + `</name>`
	if !strings.Contains(op, "remove") {
		x += `<type xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">t:` + r.pick("ethernetCsmacd", "ethernetCsmacd", "ethernetCsmacd", "ethernetCsmacd", "softwareLoopback") + `</type>`
		if r.IntN(3) == 0 {
			x += `<enabled>` + r.pick("true", "true", "false") + `</enabled>`
		}
		if r.IntN(2) == 0 {
			x += `<port xmlns="urn:vrouter:yang:vrouter-port"><driver>` + r.pick("tap", "af-packet", "memory") + `</driver><device>` + r.pick("x", "y", "a", "b") + `</device></port>`
		}
		ip := func(family, addr, bits, neighbour string) string {
			f := `<` + family + ` xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"` + r.pick("", "", "", ` nc:operation="replace"`) + `>`
			if r.IntN(4) == 0 {
				f += `<enabled>` + r.pick("true", "false") + `</enabled>`
			}
			if r.IntN(4) == 0 {
				f += `<source-check xmlns="urn:vrouter:yang:vrouter-routing">` + r.pick("off", "loose", "strict") + `</source-check>`
			}
			f += `<address` + r.pick("", "", ` nc:operation="remove"`) + `><ip>` + addr + `</ip><prefix-length>` + bits + `</prefix-length></address>`
			if r.IntN(3) == 0 {
				f += `<neighbor` + r.pick("", "", ` nc:operation="remove"`) + `><ip>` + neighbour + `</ip><link-layer-address>02:00:00:00:00:0` + r.pick("1", "2") + `</link-layer-address></neighbor>`
			}
			if family == "ipv6" && r.IntN(3) == 0 {
				f += `<ipv6-router-advertisements xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing"><send-advertisements>` + r.pick("true", "true", "false") +
					`</send-advertisements><prefix-list><prefix` + r.pick("", ` nc:operation="remove"`) + `><prefix-spec>` + r.pick("2001:db8::/64", "2001:db8:1::/64") + `</prefix-spec></prefix></prefix-list></ipv6-router-advertisements>`
			}
			return f + `</` + family + `>`
		}
		if r.IntN(3) > 0 {
			x += ip("ipv4", r.pick("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "10.1.2.3", "172.16.0.1"), r.pick("8", "16", "24", "30", "32"), r.pick("10.0.0.9", "10.1.0.9"))
		}
		if r.IntN(3) == 0 {
			x += ip("ipv6", r.pick("2001:db8::1", "2001:db8::2", "2001:db8:1::1", "fe80::1"), r.pick("32", "48", "64", "128"), r.pick("2001:db8::9", "fe80::9"))
		}
	}
	return `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">` + x + `</interface></interfaces>`
}

func (r edits) route() string {
	op := r.op()
	v6 := r.IntN(3) == 0
	family, module, prefixes := "ipv4", "ietf-ipv4-unicast-routing", []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.1.0.0/16", "10.0.0.1/32", "20.0.0.0/8", "21.0.0.0/8"}
	hops := []string{"10.0.0.9", "10.0.1.9", "10.1.0.9", "10.1.2.9", "10.0.0.1", "172.16.0.2", "192.0.2.1"}
	if v6 {
		family, module, prefixes = "ipv6", "ietf-ipv6-unicast-routing", []string{"::/0", "2001:db8::/32", "2001:db8::/64", "2001:db8::1/128", "2001:db9::/32"}
		hops = []string{"2001:db8::9", "2001:db8:1::9", "2001:db8::1", "fe80::9"}
	}
	x := `<route` + op + `><destination-prefix>` + r.pick(prefixes...) + `</destination-prefix>`
	if !strings.Contains(op, "remove") {
		x += `<next-hop>` + r.pick(
			`<next-hop-address>`+r.pick(hops...)+`</next-hop-address>`, `<next-hop-address>`+r.pick(hops...)+`</next-hop-address>`,
			`<outgoing-interface>`+r.pick("a", "b", "c", "d e")+`</outgoing-interface>`,
			`<outgoing-interface>`+r.pick("a", "b")+`</outgoing-interface><next-hop-address>`+r.pick(hops...)+`</next-hop-address>`,
			`<next-hop-list>`+r.hop(hops)+r.hop(hops)+`</next-hop-list>`, `<next-hop-list>`+r.hop(hops)+r.hop(hops)+`</next-hop-list>`,
			`<special-next-hop>`+r.pick("blackhole", "unreachable", "prohibit", "receive")+`</special-next-hop>`) + `</next-hop>`
	}
	x += `</route>`
	return `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"><control-plane-protocols><control-plane-protocol><type>static</type><name>` + r.pick("p", "q") +
		`</name><static-routes><` + family + ` xmlns="urn:ietf:params:xml:ns:yang:` + module + `">` + x + `</` + family + `></static-routes></control-plane-protocol></control-plane-protocols></routing>`
}

// hop is one of several next hops.
func (r edits) hop(hops []string) string {
	x := `<next-hop` + r.pick("", "", "", ` nc:operation="remove"`) + `><index>` + r.pick("1", "2", "3") + `</index>`
	if strings.Contains(x, "remove") {
		return x + `</next-hop>`
	}
	x += r.pick("", `<outgoing-interface>`+r.pick("a", "b")+`</outgoing-interface>`) + r.pick("", `<next-hop-address>`+r.pick(hops...)+`</next-hop-address>`, `<next-hop-address>`+r.pick(hops...)+`</next-hop-address>`)
	return x + r.pick("", `<weight xmlns="urn:vrouter:yang:vrouter-routing">`+r.pick("1", "2", "255")+`</weight>`) + `</next-hop>`
}

const selector = `<traffic-selector><local-prefix>10.1.0.0/24</local-prefix><remote-prefix>10.2.0.0/24</remote-prefix></traffic-selector>`

// ends is mode and addresses of an SA or of the SAs of an entry, and a selector that
// goes with them, as a rule.
func (r edits) ends() (mode, tunnel, sel string) {
	if r.IntN(4) > 0 {
		return `<mode>tunnel</mode>`, `<tunnel><local>192.0.2.1</local><remote>192.0.2.` + r.pick("2", "2", "3") + `</remote></tunnel>`, selector
	}
	sel = `<traffic-selector><local-prefix>192.0.2.1/32</local-prefix><remote-prefix>192.0.2.` + r.pick("2", "2", "3") + `/32</remote-prefix></traffic-selector>`
	return r.pick(`<mode>transport</mode>`, `<mode>transport</mode>`, `<mode nc:operation="remove"/>`), "", r.pick(sel, sel, sel, selector)
}

// group is a tenant group, which SAs may name.
func (r edits) group() string {
	op := r.op()
	x := `<tenant-group` + op + `><name>` + r.pick("t", "u") + `</name>`
	if !strings.Contains(op, "remove") {
		x += r.pick("", `<max-sas>`+r.pick("100", "200")+`</max-sas>`) + r.pick("", `<packets-per-second>`+r.pick("100", "200")+`</packets-per-second>`, `<bytes-per-second>9000</bytes-per-second>`)
	}
	return x + `</tenant-group>`
}

func (r edits) policy() string {
	op := r.op()
	name := r.pick("p", "q", "r", "s")
	insert := r.pick("", "", ` y:insert="first"`, ` y:insert="last"`, ` y:insert="before" y:key="[name='`+r.pick("p", "q")+`']"`)
	if strings.Contains(op, "remove") {
		insert = ""
	}
	x := `<spd-entry` + op + insert + `><name>` + name + `</name>`
	if strings.Contains(op, "remove") {
		return x + `</spd-entry>`
	}
	x += `<direction>` + r.pick("inbound", "outbound") + `</direction><reqid>` + r.pick("1", "1", "2", "3", "0") + `</reqid><ipsec-policy-config>`
	if r.IntN(4) == 0 {
		x += `<anti-replay-window-size>` + r.pick("64", "128") + `</anti-replay-window-size>`
	}
	mode, tunnel, sel := r.ends()
	x += sel + `<processing-info>`
	if r.IntN(3) == 0 {
		return x + `<action>` + r.pick("bypass", "discard") + `</action></processing-info></ipsec-policy-config></spd-entry>`
	}
	x += `<action>protect</action><ipsec-sa-cfg>`
	if r.IntN(3) == 0 {
		x += `<ext-seq-num>` + r.pick("true", "false") + `</ext-seq-num>`
	}
	return x + mode + tunnel + `</ipsec-sa-cfg></processing-info></ipsec-policy-config></spd-entry>`
}

func (r edits) sa() string {
	op := r.op()
	n := r.IntN(4)
	x := fmt.Sprintf(`<sad-entry%s><name>sa%d</name>`, op, n)
	if strings.Contains(op, "remove") {
		return x + `</sad-entry>`
	}
	mode, tunnel, sel := r.ends()
	x += `<reqid>` + r.pick("1", "2", "3") + `</reqid><ipsec-sa-config><spi>` + fmt.Sprint(1000+n) + `</spi><ext-seq-num>` + r.pick("true", "true", "false") +
		`</ext-seq-num><anti-replay-window-size>` + r.pick("64", "64", "128") + `</anti-replay-window-size>` + sel + mode + `<esp-sa><encryption>` +
		`<encryption-algorithm>20</encryption-algorithm><key>` + strings.Repeat("00:", 19) + `0` + fmt.Sprint(n) + `</key></encryption></esp-sa>` +
		tunnel + r.encapsulation() + `</ipsec-sa-config>`
	if r.IntN(2) == 0 {
		x += `<direction xmlns="urn:vrouter:yang:vrouter-sal">` + r.pick("inbound", "outbound") + `</direction>`
	}
	if r.IntN(3) == 0 {
		x += `<mtu xmlns="urn:vrouter:yang:vrouter-mtu">`
		if tunnel != "" || r.IntN(8) == 0 {
			x += `<fragmentation>` + r.pick("before", "after") + `-encryption</fragmentation><tcp-mss>` + r.pick("off", "path-mtu", "1300") + `</tcp-mss>`
		}
		x += `<learn>` + r.pick("true", "false") + `</learn></mtu>`
	}
	if r.IntN(3) == 0 {
		x += `<nat-traversal xmlns="urn:vrouter:yang:vrouter-sal">`
		if tunnel != "" || r.IntN(8) == 0 {
			x += `<follow-peer>` + r.pick("true", "true", "false") + `</follow-peer>`
		}
		x += `<keep-alive-interval>` +
			r.pick("0", "20", "65535") + `</keep-alive-interval></nat-traversal>`
	}
	if r.IntN(3) == 0 {
		x += `<tenant-group xmlns="urn:vrouter:yang:vrouter-sal"` + r.pick("", "", ` nc:operation="remove"`) + `>` + r.pick("t", "u") + `</tenant-group>`
	}
	if r.IntN(4) == 0 {
		x += `<sequence-report xmlns="urn:vrouter:yang:vrouter-sal"` + r.pick(`>1000<`, ` nc:operation="remove"><`) + `/sequence-report>`
	}
	return x + `</sad-entry>`
}

// encapsulation is ESP in UDP, where it is: with ports of either side or without,
// one of them not to be had.
func (r edits) encapsulation() string {
	if r.IntN(2) == 0 {
		return ""
	}
	x := `<encapsulation-type` + r.pick("", "", "", ` nc:operation="replace"`, ` nc:operation="remove"`) + `>`
	if strings.Contains(x, "remove") {
		return x + `</encapsulation-type>`
	}
	x += `<espencap>` + r.pick("espinudp", "espinudp", "none") + `</espencap>`
	for _, port := range []string{"sport", "dport"} {
		if r.IntN(2) == 0 {
			x += `<` + port + `>` + r.pick("4500", "4500", "40500", "1", "65535", "0") + `</` + port + `>`
		}
	}
	return x + `</encapsulation-type>`
}
