package netconf

import (
	"strings"
	"testing"
)

// Filters: what is empty, wrong, and hidden. What subtree filters select is
// tested with the codec, XPath with its evaluator; here is that they are used.
func TestFilter(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(edit("running", iface("eth0", `<enabled>true</enabled>`)+top(`<tag>a</tag><low>1</low>`)))
	const ns = ` xmlns="urn:test:behaviour"`
	tag := `<top` + ns + `><tag>a</tag></top>`
	for _, x := range []struct{ filter, want string }{
		{`<filter/>`, ``},
		{`<filter type="subtree"></filter>`, ``},
		{`<filter type="subtree"> <!-- nothing --> </filter>`, ``},
		{subtree(`<top` + ns + `><tag/></top>`), tag},
		{subtree(`<nobody xmlns="urn:nobody"/>`), ``},
		{subtree(`<top` + ns + `><bogus/></top>`), ``},
		{`<nc:filter xmlns:nc="` + nsBase + `" nc:type="subtree"><top` + ns + `><tag/></top></nc:filter>`, tag},
		{`<filter type="xpath" xmlns:b="urn:test:behaviour" select="/b:top/b:tag"/>`, tag},
		{`<filter type="xpath" xmlns:b="urn:test:behaviour" select="//b:tag | /b:top/b:bogus"/>`, tag},
		{`<filter xmlns:nc="` + nsBase + `" nc:type="xpath" nc:select="/b:top/b:tag" xmlns:b="urn:test:behaviour"/>`, tag},
		{`<filter type="xpath" select="/top/tag"/>`, tag},
		{`<filter type="xpath" xmlns:b="urn:test:behaviour" select="/b:top[b:low=2]/b:tag"/>`, ``},
		{`<filter type="xpath" xmlns:b="urn:test:behaviour" select="/b:bogus"/>`, ``},
		{`<filter type="xpath" xmlns:f="urn:ietf:params:xml:ns:yang:ietf-interfaces" select="/f:interfaces/f:interface[f:name='eth0']/f:enabled"/>`,
			`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>eth0</name><enabled>true</enabled></interface></interfaces>`},
	} {
		if d := c.data(getRunning(x.filter)); d != x.want {
			t.Errorf("%s\ngot  %s\nwant %s", x.filter, d, x.want)
		}
	}
	bad := func(tag string) string { return "protocol/" + tag + " {bad-attribute=select} {bad-element=filter}" }
	for _, x := range []struct{ filter, want string }{
		{`<filter type="xpath"/>`, bad("missing-attribute")},
		{`<filter type="xpath" select="/b:top["/>`, bad("invalid-value")},
		{`<filter type="xpath" select="/nope:top"/>`, bad("invalid-value")},
		{`<filter type="xpath" select="1 + 1"/>`, bad("invalid-value")},
		{`<filter type="xpath" select=""/>`, bad("invalid-value")},
		{`<filter type="xpath" select="bogus()"/>`, bad("invalid-value")},
		{`<filter type="xquery"/>`, "protocol/bad-attribute {bad-attribute=type} {bad-element=filter}"},
		{`<filter type="subtree" colour="red"/>`, "protocol/unknown-attribute {bad-attribute=colour} {bad-element=filter}"},
	} {
		c.fails(getRunning(x.filter), x.want)
		c.fails(`<get>`+x.filter+`</get>`, x.want)
	}
}

// What is default-deny-all is for role admin only, by no way round (RFC 8341
// section 3.4.5).
func TestSecrets(t *testing.T) {
	b := newBed(t, nil)
	a, o := b.open(alice), b.open(bob)
	o.fails(edit("running", top(`<vault><secret>sesame</secret></vault>`)), "application/access-denied /behaviour:top/behaviour:vault/behaviour:secret")
	a.ok(edit("running", top(`<vault><open>door</open><secret>sesame</secret><room><gold>bars</gold></room></vault>`)))
	sa := `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>out</name><ipsec-sa-config><spi>4096</spi>` +
		`<traffic-selector><local-prefix>10.1.0.0/16</local-prefix><remote-prefix>10.2.0.0/16</remote-prefix></traffic-selector><mode>tunnel</mode>` +
		`<esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>` + saKey + `</key></encryption></esp-sa>` +
		`<tunnel><local>192.0.2.1</local><remote>192.0.2.2</remote></tunnel></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`
	keyPath := "application/access-denied /ietf-i2nsf-ikeless:ipsec-ikeless/ietf-i2nsf-ikeless:sad/ietf-i2nsf-ikeless:sad-entry[ietf-i2nsf-ikeless:name='out']/ietf-i2nsf-ikeless:ipsec-sa-config/ietf-i2nsf-ikeless:esp-sa/ietf-i2nsf-ikeless:encryption/ietf-i2nsf-ikeless:key"
	o.fails(edit("candidate", sa), keyPath)
	a.ok(edit("candidate", sa))
	o.fails(commitOp, keyPath)
	a.ok(commitOp)

	const b7 = ` xmlns:b="urn:test:behaviour" xmlns:i="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"`
	filters := []string{"", subtree(`<top xmlns="urn:test:behaviour"/><ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"/>`),
		`<filter type="xpath" select="/b:top | /i:ipsec-ikeless"` + b7 + `/>`, `<filter type="xpath" select="//*"` + b7 + `/>`}
	for _, f := range filters {
		for _, op := range []string{`<get>` + f + `</get>`, getRunning(f)} {
			if d := o.data(op); strings.Contains(d, "sesame") || strings.Contains(d, "bars") || strings.Contains(d, "gold") || strings.Contains(d, saKey) || !strings.Contains(d, "door") || !strings.Contains(d, "<spi>4096</spi>") {
				t.Errorf("operator, %s: %s", op, d)
			}
			if d := a.data(op); !strings.Contains(d, "sesame") || !strings.Contains(d, "bars") || !strings.Contains(d, saKey) {
				t.Errorf("admin, %s: %s", op, d)
			}
		}
	}
	// Nor can an operator ask whether a secret has some value.
	for _, f := range []string{
		subtree(`<top xmlns="urn:test:behaviour"><vault><secret>sesame</secret><open/></vault></top>`),
		subtree(`<top xmlns="urn:test:behaviour"><vault><secret/><room/></vault></top>`),
		`<filter type="xpath" select="/b:top/b:vault[b:secret='sesame']/b:open"` + b7 + `/>`,
		`<filter type="xpath" select="/b:top/b:vault[starts-with(b:secret,'s')]/b:open"` + b7 + `/>`,
		`<filter type="xpath" select="/b:top/b:vault[b:room/b:gold]/b:open"` + b7 + `/>`,
		`<filter type="xpath" select="/b:top[.//*='bars']/b:vault/b:open"` + b7 + `/>`,
		`<filter type="xpath" select="/b:top[contains(string(.),'bars')]/b:vault/b:open"` + b7 + `/>`,
		`<filter type="xpath" select="/i:ipsec-ikeless/i:sad/i:sad-entry[.//i:key='` + saKey + `']"` + b7 + `/>`,
	} {
		if d := o.data(getRunning(f)); d != "" {
			t.Errorf("operator, %s: %s", f, d)
		}
		if d := a.data(getRunning(f)); d == "" {
			t.Errorf("admin, %s: nothing", f)
		}
	}
	log := b.log.String()
	for _, s := range []string{"sesame", "bars", saKey} {
		if strings.Contains(log, s) {
			t.Errorf("%s is in the log", s)
		}
	}
}

const saKey = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:01:02:03:04"
