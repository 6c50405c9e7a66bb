package netconf

import (
	"strings"
	"testing"

	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/netconf/users"
)

// rules wraps the content of /nacm.
func rules(s string) string {
	return `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm">` + s + `</nacm>`
}

var (
	carol = transport.Peer{User: users.User{Name: "carol", Role: users.Plain}, Transport: "ietf-netconf-monitoring:netconf-ssh", Host: "192.0.2.9"}
	root  = transport.Peer{User: users.User{Name: "root", Role: users.Admin}, Transport: transport.LocalTransport, Recovery: true}
)

const (
	ifNS   = ` xmlns:if="urn:ietf:params:xml:ns:yang:ietf-interfaces"`
	nacmNS = ` xmlns:n="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"`
	bNS    = ` xmlns:b="urn:test:behaviour"`
)

// rule writes a rule; what is its kind and the rest.
func rule(name, what, access, action string) string {
	if access != "" {
		access = "<access-operations>" + access + "</access-operations>"
	}
	return `<rule><name>` + name + `</name>` + what + access + `<action>` + action + `</action></rule>`
}

func ruleList(name, group, rules string) string {
	return `<rule-list><name>` + name + `</name><group>` + group + `</group>` + rules + `</rule-list>`
}

// Without rules: the roles, and the defaults of RFC 8341 for who has none.
func TestRoleRights(t *testing.T) {
	b := newBed(t, nil)
	a, o, c, r := b.open(alice), b.open(bob), b.open(carol), b.open(root)
	a.ok(edit("running", iface("eth0", "")))
	o.ok(edit("running", iface("eth0", "<description>by bob</description>")))
	c.fails(edit("running", iface("eth0", "<description>by carol</description>")), "application/access-denied /ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']/ietf-interfaces:description")
	c.ok(edit("running", iface("eth0", "<description>by bob</description>"))) // nothing changes, so nothing is needed
	if d := c.data(getRunning("")); !strings.Contains(d, "by bob") {
		t.Error(d)
	}
	for _, x := range []*client{o, c} {
		x.fails(`<kill-session><session-id>77</session-id></kill-session>`, "protocol/access-denied")
		x.fails(`<delete-config><target><startup/></target></delete-config>`, "protocol/access-denied")
		x.fails(`<guarded xmlns="urn:test:behaviour"/>`, "protocol/access-denied")
		x.ok(`<copy-config><source><running/></source><target><startup/></target></copy-config>`) // RFC 8341 section 3.2.6
		if d := x.data(`<get>` + subtree(rules("")) + `</get>`); d != "" {
			t.Error(d)
		}
		x.fails(edit("running", rules(`<enable-nacm>false</enable-nacm>`)), "application/access-denied /ietf-netconf-acm:nacm/ietf-netconf-acm:enable-nacm")
	}
	a.ok(`<delete-config><target><startup/></target></delete-config>`)
	if d := a.data(`<get>` + subtree(rules("")) + `</get>`); d != rules(`<denied-operations>6</denied-operations><denied-data-writes>3</denied-data-writes><denied-notifications>0</denied-notifications>`) {
		t.Error(d)
	}
	// Without external groups the roles are nothing; the recovery session is.
	a.ok(edit("running", rules(`<enable-external-groups>false</enable-external-groups>`)))
	a.fails(edit("running", iface("eth0", "<description>x</description>")), "application/access-denied /ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']/ietf-interfaces:description")
	r.ok(edit("running", rules(`<enable-nacm>false</enable-nacm>`)))
	c.ok(edit("running", iface("eth0", "<description>by carol</description>")))
}

// Rules as they are written by clients: prefixes of their own, keys, $USER.
func TestRules(t *testing.T) {
	b := newBed(t, nil)
	a, c := b.open(alice), b.open(carol)
	a.ok(edit("running", iface("eth0", "<description>zero</description>")+iface("eth1", "<description>one</description>")+iface("carol", "<description>hers</description>")))
	a.ok(edit("running", rules(`<groups><group><name>staff</name><user-name>carol</user-name></group></groups>`+
		ruleList("staff", "staff",
			rule("own", `<path`+ifNS+`>/if:interfaces/if:interface[if:name=$USER]</path>`, "", "permit")+
				rule("zero", `<path xmlns:x="urn:ietf:params:xml:ns:yang:ietf-interfaces">/x:interfaces/x:interface[x:name='eth0']/x:description</path>`, "update read", "permit")+
				rule("hide", `<path`+ifNS+`>/if:interfaces/if:interface[if:name="eth1"]</path>`, "*", "deny")+
				rule("no lock", `<rpc-name>lock</rpc-name>`, "exec", "deny")))))
	// What was written comes back, valid by itself.
	if d := a.data(getRunning(subtree(rules(`<rule-list><rule><path/></rule></rule-list>`)))); !strings.Contains(d, `<path xmlns:ietf-interfaces="urn:ietf:params:xml:ns:yang:ietf-interfaces">/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name=$USER]</path>`) {
		t.Error(d)
	}
	at := "application/access-denied /ietf-interfaces:interfaces/ietf-interfaces:interface"
	c.ok(edit("running", iface("eth0", "<description>new</description>")))
	c.fails(edit("running", iface("eth0", "<enabled>false</enabled>")), at+"[ietf-interfaces:name='eth0']/ietf-interfaces:enabled")
	c.ok(edit("running", iface("carol", "<enabled>false</enabled>")))
	c.ok(edit("running", interfaces(`<interface nc:operation="delete"><name>carol</name></interface>`)))
	c.ok(edit("running", iface("carol", "")))
	c.fails(lockOp("running"), "protocol/access-denied")
	for _, f := range []string{"", subtree(interfaces("")), `<filter type="xpath" select="/if:interfaces"` + ifNS + `/>`, `<filter type="xpath" select="//if:name/.."` + ifNS + `/>`} {
		for _, op := range []string{`<get>` + f + `</get>`, getRunning(f), getRunning(f + `<with-defaults xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults">report-all</with-defaults>`)} {
			if d := c.data(op); strings.Contains(d, "eth1") || strings.Contains(d, ">one<") || !strings.Contains(d, "<name>eth0</name>") || !strings.Contains(d, "<name>carol</name>") {
				t.Error(op, d)
			}
		}
	}
	for _, f := range []string{
		subtree(interfaces(`<interface><name>eth1</name></interface>`)),
		subtree(interfaces(`<interface><description>one</description></interface>`)),
		`<filter type="xpath" select="/if:interfaces[if:interface/if:description='one']"` + ifNS + `/>`,
		`<filter type="xpath" select="/if:interfaces/if:interface[if:name='eth1']"` + ifNS + `/>`,
		`<filter type="xpath" select="/if:interfaces[count(if:interface) = 3]"` + ifNS + `/>`,
	} {
		if d := c.data(getRunning(f)); d != "" {
			t.Error(f, d)
		}
	}
	// An entry that is hidden: neither its being there nor its keys are told.
	hidden := "application/access-denied /ietf-interfaces:interfaces"
	c.fails(edit("running", interfaces(`<interface nc:operation="create"><name>eth1</name></interface>`)), hidden)
	c.fails(edit("running", interfaces(`<interface nc:operation="delete"><name>eth1</name></interface>`)), hidden)
	r := c.rpc(edit("running", `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" nc:operation="delete"/>`))
	if len(r.Errors) != 2 || strings.Contains(r.text, "eth1") || !strings.Contains(r.text, "eth0") {
		t.Error(r.text)
	}
	// What cannot be read is not copied, which would be a deletion here.
	r = c.rpc(`<copy-config><source><candidate/></source><target><running/></target></copy-config>`)
	if len(r.Errors) != 3 || r.Errors[0].String() != hidden || strings.Contains(r.text, "eth1") || strings.Contains(r.text, "staff") {
		t.Error(r.text)
	}
	// A commit needs rights for what differs, whoever edited.
	a.ok(edit("candidate", iface("eth0", "<enabled>false</enabled>")))
	c.fails(commitOp, at+"[ietf-interfaces:name='eth0']/ietf-interfaces:enabled")
	c.ok(`<discard-changes/>`)
	c.ok(edit("candidate", iface("eth0", "<description>by commit</description>")))
	c.ok(commitOp)
}

// Rules that cannot work are refused with their path.
func TestBadRules(t *testing.T) {
	b := newBed(t, nil)
	a := b.open(alice)
	path := "application/invalid-value /ietf-netconf-acm:nacm/ietf-netconf-acm:rule-list[ietf-netconf-acm:name='l']/ietf-netconf-acm:rule[ietf-netconf-acm:name='r']/ietf-netconf-acm:path"
	for _, p := range []string{"/interfaces", "if:interfaces", "/if:interfaces/if:interface[2]", "/if:interfaces[", "//if:interfaces", "/if:interfaces | /if:x", "/no:interfaces", ""} {
		a.fails(edit("running", rules(ruleList("l", "*", rule("r", `<path`+ifNS+`>`+p+`</path>`, "", "deny")))), path)
	}
}

// Nodes that a choice takes away need no right, and what a filter or an error
// says of unique values and references does not lead to what is hidden.
func TestSideEffects(t *testing.T) {
	b := newBed(t, nil)
	a, c := b.open(alice), b.open(carol)
	a.ok(edit("running", top(`<item><name>x</name><need>1</need><a>same</a><b><c>same</c></b><one/></item><ref>eth7</ref>`)+iface("eth7", "")))
	a.ok(edit("running", rules(ruleList("l", "user",
		rule("two", `<path`+bNS+`>/b:top/b:item/b:two</path>`, "create read", "permit")+
			rule("y", `<path`+bNS+`>/b:top/b:item[b:name='y']</path>`, "", "permit")+
			rule("x", `<path`+bNS+`>/b:top/b:item</path>`, "read", "deny")+
			rule("ref", `<path`+bNS+`>/b:top/b:ref</path>`, "read", "deny")+
			rule("if", `<module-name>ietf-interfaces</module-name>`, "", "permit")))))
	c.ok(edit("running", top(`<item><name>x</name><two>2</two></item>`)))
	if d := a.data(getRunning(subtree(top(`<item/>`)))); strings.Contains(d, "<one/>") || !strings.Contains(d, "<two>2</two>") {
		t.Error(d)
	}
	r := c.rpc(edit("running", top(`<item><name>y</name><need>1</need><a>same</a><b><c>same</c></b><two>2</two></item>`)))
	if len(r.Errors) == 0 || strings.Contains(r.text, "'x'") || !strings.Contains(r.text, "data-not-unique") {
		t.Error(r.text)
	}
	r = c.rpc(edit("running", interfaces(`<interface nc:operation="delete"><name>eth7</name></interface>`)))
	if len(r.Errors) != 1 || strings.Contains(r.text, "eth7") || !strings.Contains(r.text, "instance-required") {
		t.Error(r.text)
	}
}

// A deny of one leaf with a default: the default is not shown instead.
func TestHiddenDefaults(t *testing.T) {
	b := newBed(t, nil)
	a, c := b.open(alice), b.open(carol)
	a.ok(edit("running", top(`<low>1</low><with-default>9</with-default>`)+iface("eth0", "<enabled>false</enabled>")+iface("eth1", "")))
	a.ok(edit("running", rules(ruleList("l", "user",
		rule("d", `<path`+bNS+`>/b:top/b:with-default</path>`, "read", "deny")+
			rule("e", `<path`+ifNS+`>/if:interfaces/if:interface[if:name='eth0']/if:enabled</path>`, "read", "deny")))))
	all := `<with-defaults xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults">report-all</with-defaults>`
	for _, f := range []string{"", subtree(top("") + interfaces("")), `<filter type="xpath" select="/b:top | /if:interfaces"` + bNS + ifNS + `/>`,
		`<filter type="xpath" select="/b:top/* | /if:interfaces/if:interface/*"` + bNS + ifNS + `/>`} {
		d := c.data(getRunning(f + all))
		if strings.Contains(d, "with-default>") || strings.Contains(d, "<enabled>false") || strings.Count(d, "<enabled>true") != 1 || !strings.Contains(d, "<low>1</low>") {
			t.Error(f, d)
		}
	}
	for _, f := range []string{`<filter type="xpath" select="/b:top[b:with-default=7]"` + bNS + `/>`, `<filter type="xpath" select="/b:top[b:with-default=9]"` + bNS + `/>`,
		subtree(top(`<with-default>7</with-default><low/>`)), subtree(interfaces(`<interface><name>eth0</name><enabled>true</enabled><type/></interface>`))} {
		if d := c.data(getRunning(f)); d != "" {
			t.Error(f, d)
		}
	}
}
