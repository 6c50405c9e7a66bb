package netconf

import (
	"strings"
	"testing"
)

// The errors of edit-config (RFC 6241 section 7.2 and appendix A, RFC 7950
// sections 8.3 and 15): one error each, with its path, and nothing changed.
func TestEditErrors(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(edit("running", iface("eth0", "")))
	before := c.data(getRunning(""))
	const path0 = " /ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']"
	for _, x := range []struct{ name, options, config, want string }{
		{"create of existing", "", interfaces(`<interface nc:operation="create"><name>eth0</name></interface>`), "application/data-exists" + path0},
		{"delete of missing entry", "", interfaces(`<interface nc:operation="delete"><name>eth9</name></interface>`),
			"application/data-missing" + strings.ReplaceAll(path0, "eth0", "eth9")},
		{"delete of missing leaf", "", interfaces(`<interface><name>eth0</name><description nc:operation="delete"/></interface>`),
			"application/data-missing" + path0 + "/ietf-interfaces:description"},
		{"bad operation", "", interfaces(`<interface nc:operation="bogus"><name>eth0</name></interface>`),
			"application/bad-attribute /ietf-interfaces:interfaces/ietf-interfaces:interface {bad-attribute=operation} {bad-element=interface}"},
		{"operation none is no attribute", "", interfaces(`<interface nc:operation="none"><name>eth0</name></interface>`),
			"application/bad-attribute /ietf-interfaces:interfaces/ietf-interfaces:interface {bad-attribute=operation} {bad-element=interface}"},
		{"unknown attribute", "", interfaces(`<interface colour="red"><name>eth0</name></interface>`),
			"application/unknown-attribute /ietf-interfaces:interfaces/ietf-interfaces:interface {bad-attribute=colour} {bad-element=interface}"},
		{"operation without namespace", "", interfaces(`<interface operation="delete"><name>eth0</name></interface>`),
			"application/unknown-attribute /ietf-interfaces:interfaces/ietf-interfaces:interface {bad-attribute=operation} {bad-element=interface}"},
		{"unknown leaf", "", interfaces(`<interface><name>eth0</name><bogus/></interface>`), "application/unknown-element" + path0 + " {bad-element=bogus}"},
		{"leaf of another module", "", interfaces(`<interface><name>eth0</name><port/></interface>`), "application/unknown-element" + path0 + " {bad-element=port}"},
		{"node that a deviation took", "", interfaces(`<interface><name>eth0</name><link-up-down-trap-enable>enabled</link-up-down-trap-enable></interface>`),
			"application/unknown-element" + path0 + " {bad-element=link-up-down-trap-enable}"},
		{"unknown top element", "", `<bogus xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"/>`, "application/unknown-element {bad-element=bogus}"},
		{"unknown namespace", "", `<interfaces xmlns="urn:nobody"/>`, "application/unknown-namespace {bad-element=interfaces} {bad-namespace=urn:nobody}"},
		{"namespace forgotten", "", `<interfaces/>`, "application/unknown-namespace {bad-element=interfaces} {bad-namespace=" + nsBase + "}"},
		{"bad boolean", "", interfaces(`<interface><name>eth0</name><enabled>yes</enabled></interface>`), "application/invalid-value" + path0 + "/ietf-interfaces:enabled"},
		{"out of range", "", top(`<item><name>x</name><need>11</need><one/></item>`), "application/invalid-value /behaviour:top/behaviour:item[behaviour:name='x']/behaviour:need"},
		{"bad identity", "", interfaces(`<interface><name>eth0</name><type>ianaift:bogus</type></interface>`), "application/invalid-value" + path0 + "/ietf-interfaces:type"},
		{"identity with an undeclared prefix", "", interfaces(`<interface><name>eth0</name><type>zz:ethernetCsmacd</type></interface>`), "application/invalid-value" + path0 + "/ietf-interfaces:type"},
		{"identity of another base", "", top(`<item><name>x</name><kind xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</kind></item>`),
			"application/invalid-value /behaviour:top/behaviour:item[behaviour:name='x']/behaviour:kind"},
		{"element in a leaf", "", interfaces(`<interface><name>eth0</name><description><b/></description></interface>`),
			"application/bad-element" + path0 + "/ietf-interfaces:description {bad-element=b}"},
		{"state", "", interfaces(`<interface><name>eth0</name><oper-status>up</oper-status></interface>`), "application/invalid-value" + path0 + "/ietf-interfaces:oper-status"},
		{"state container", "", `<yang-library xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-library"/>`, "application/invalid-value /ietf-yang-library:yang-library"},
		{"no key", "", interfaces(`<interface><enabled>true</enabled></interface>`), "application/missing-element /ietf-interfaces:interfaces/ietf-interfaces:interface {bad-element=name}"},
		{"leaf twice", "", interfaces(`<interface><name>eth0</name><description>a</description><description>b</description></interface>`),
			"application/bad-element" + path0 + "/ietf-interfaces:description {bad-element=description}"},
		{"two cases", "", top(`<item><name>x</name><need>1</need><one/><two>2</two></item>`),
			"application/bad-element /behaviour:top/behaviour:item[behaviour:name='x']/behaviour:two {bad-element=two}"},
		{"none, entry absent", "<default-operation>none</default-operation>", interfaces(`<interface><name>eth9</name><description nc:operation="merge">x</description></interface>`),
			"application/data-missing" + strings.ReplaceAll(path0, "eth0", "eth9")},
		{"insert after nobody", "", top(`<step yang:insert="after" xmlns:yang="urn:ietf:params:xml:ns:yang:1" xmlns:b="urn:test:behaviour" yang:key="[b:name='q']"><name>x</name></step>`),
			"application/bad-attribute missing-instance /behaviour:top/behaviour:step[behaviour:name='x'] {bad-attribute=key} {bad-element=step}"},
		{"insert without key", "", top(`<step yang:insert="before" xmlns:yang="urn:ietf:params:xml:ns:yang:1"><name>x</name></step>`),
			"application/missing-attribute /behaviour:top/behaviour:step {bad-attribute=key} {bad-element=step}"},
	} {
		for _, target := range []string{"candidate", "running"} {
			r := c.rpc(editWith(target, x.options, x.config))
			if len(r.Errors) != 1 || r.Errors[0].String() != x.want {
				t.Errorf("%s in %s: %s\ngot  %v\nwant %s", x.name, target, r.text, r.Errors, x.want)
			}
		}
	}
	for _, ds := range []string{"candidate", "running"} {
		if after := c.data(`<get-config><source><` + ds + `/></source></get-config>`); after != before {
			t.Errorf("%s changed: %s", ds, after)
		}
	}
}

// What is not valid as a whole: an edit of candidate takes it, validate and
// commit name it (RFC 7950 sections 8.3.3 and 15), and running refuses it.
func TestConstraints(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(edit("running", iface("eth0", "")))
	for _, x := range []struct{ name, config, want string }{
		{"mandatory leaf", top(`<item><name>x</name><one/></item>`), "application/data-missing /behaviour:top/behaviour:item[behaviour:name='x']/behaviour:need"},
		{"mandatory choice", top(`<item><name>x</name><need>1</need></item>`),
			"application/data-missing missing-choice /behaviour:top/behaviour:item[behaviour:name='x'] {missing-choice=way}"},
		{"must", top(`<low>5</low><high>3</high>`), "application/operation-failed high-below-low /behaviour:top/behaviour:high"},
		{"must without a tag", top(`<low>5</low><low2>3</low2>`), "application/operation-failed must-violation /behaviour:top/behaviour:low2"},
		{"leafref", top(`<ref>eth7</ref>`), "application/data-missing instance-required /behaviour:top/behaviour:ref"},
		{"max-elements", top(`<tag>a</tag><tag>b</tag><tag>c</tag>`), "application/operation-failed too-many-elements /behaviour:top/behaviour:tag"},
		{"max-elements of a list", top(`<step><name>a</name></step><step><name>b</name></step><step><name>c</name></step><step><name>d</name></step>`),
			"application/operation-failed too-many-elements /behaviour:top/behaviour:step"},
		{"min-elements", top(`<group/>`), "application/operation-failed too-few-elements /behaviour:top/behaviour:group/behaviour:member"},
		{"ports backwards (RFC 9061)", `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><spd><spd-entry><name>p</name><direction>inbound</direction><ipsec-policy-config>` +
			`<traffic-selector><local-prefix>10.0.0.0/8</local-prefix><remote-prefix>10.0.0.0/8</remote-prefix><local-ports><start>5</start><end>4</end></local-ports></traffic-selector>` +
			`<processing-info><action>bypass</action></processing-info></ipsec-policy-config></spd-entry></spd></ipsec-ikeless>`,
			"application/operation-failed must-violation /ietf-i2nsf-ikeless:ipsec-ikeless/ietf-i2nsf-ikeless:spd/ietf-i2nsf-ikeless:spd-entry[ietf-i2nsf-ikeless:name='p']" +
				"/ietf-i2nsf-ikeless:ipsec-policy-config/ietf-i2nsf-ikeless:traffic-selector/ietf-i2nsf-ikeless:local-ports[ietf-i2nsf-ikeless:start='5'][ietf-i2nsf-ikeless:end='4']/ietf-i2nsf-ikeless:end"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &client{t: t, conn: c.conn, r: c.r, w: c.w, id: c.id}
			c.ok(edit("candidate", x.config))
			for _, op := range []string{`<validate><source><candidate/></source></validate>`, commitOp, edit("running", x.config),
				`<copy-config><target><running/></target><source><candidate/></source></copy-config>`,
				`<copy-config><target><startup/></target><source><candidate/></source></copy-config>`,
				editWith("candidate", "<test-option>test-only</test-option>", x.config)} {
				c.fails(op, x.want)
			}
			c.ok(`<discard-changes/>`)
			c.fails(`<validate><source><config>`+iface("eth0", "")+x.config+`</config></source></validate>`, x.want)
		})
	}
	// A node under a false when is refused at the edit itself, of candidate too
	// (RFC 7950 section 8.3.1).
	for _, ds := range []string{"candidate", "running"} {
		c.fails(edit(ds, top(`<only-when>x</only-when>`)), "application/unknown-element /behaviour:top/behaviour:only-when {bad-element=only-when}")
	}
	// unique names the leaves, each an error-info element of YANG's namespace
	// (RFC 7950 section 15.1).
	r := c.rpc(edit("running", top(`<item><name>x</name><need>1</need><one/><a>1</a><b><c>2</c></b></item><item><name>y</name><need>1</need><one/><a>1</a><b><c>2</c></b></item>`)))
	if len(r.Errors) != 1 || r.Errors[0].Tag != "operation-failed" || r.Errors[0].AppTag != "data-not-unique" {
		t.Fatal(r.text)
	}
	n := 0
	for _, i := range r.Errors[0].Info.All {
		if i.XMLName.Local == "non-unique" && i.XMLName.Space == nsYang && strings.Contains(i.Text, "/b:item[b:name='") {
			n++
		}
	}
	if n == 0 {
		t.Error("no non-unique with a path: ", r.text)
	}
	// And the values that the errors above named are not in the log: they may be secrets.
	if d := c.data(getRunning(subtree(top("")))); d != "" {
		t.Error("something stayed: ", d)
	}
}

// What edit-config does when it succeeds: every operation, on an example.
func TestEditOperations(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	only := func() string {
		return strings.ReplaceAll(c.data(getRunning(subtree(top("")))), ` xmlns="urn:test:behaviour"`, "")
	}
	item := func(name, more string) string { return `<item><name>` + name + `</name>` + more + `</item>` }
	for _, x := range []struct{ name, options, config, want string }{
		{"merge makes", "", top(item("x", `<need>1</need><one/><kind xmlns:k="urn:test:behaviour">k:cat</kind>`)),
			`<top><item><name>x</name><need>1</need><one/><kind xmlns:b="urn:test:behaviour">b:cat</kind></item></top>`},
		{"merge keeps", "", top(item("x", `<need>2</need>`)), `<top><item><name>x</name><need>2</need><one/><kind xmlns:b="urn:test:behaviour">b:cat</kind></item></top>`},
		{"another case takes over", "", top(item("x", `<two>b</two>`)), `<top><item><name>x</name><need>2</need><two>b</two><kind xmlns:b="urn:test:behaviour">b:cat</kind></item></top>`},
		{"replace drops the rest", "", top(`<item nc:operation="replace"><name>x</name><need>3</need><one/></item>`), `<top><item><name>x</name><need>3</need><one/></item></top>`},
		{"create", "", top(`<item nc:operation="create"><name>y</name><need>4</need><one/></item>`), `<top><item><name>x</name><need>3</need><one/></item><item><name>y</name><need>4</need><one/></item></top>`},
		{"remove of missing", "", top(`<item nc:operation="remove"><name>z</name></item>`), `<top><item><name>x</name><need>3</need><one/></item><item><name>y</name><need>4</need><one/></item></top>`},
		{"delete", "", top(`<item nc:operation="delete"><name>x</name></item>`), `<top><item><name>y</name><need>4</need><one/></item></top>`},
		{"none with merge inside", "<default-operation>none</default-operation>", top(item("y", `<need nc:operation="merge">5</need>`)), `<top><item><name>y</name><need>5</need><one/></item></top>`},
		{"default replace", "<default-operation>replace</default-operation>", top(`<tag>t</tag>`), `<top><tag>t</tag></top>`},
		{"user's order", "", top(`<step><name>a</name></step><step><name>b</name></step><step yang:insert="first" xmlns:yang="urn:ietf:params:xml:ns:yang:1"><name>c</name></step>`),
			`<top><step><name>c</name></step><step><name>a</name></step><step><name>b</name></step><tag>t</tag></top>`},
		{"move", "", top(`<step yang:insert="after" yang:key="[q:name='b']" xmlns:yang="urn:ietf:params:xml:ns:yang:1" xmlns:q="urn:test:behaviour"><name>c</name></step>`),
			`<top><step><name>a</name></step><step><name>b</name></step><step><name>c</name></step><tag>t</tag></top>`},
		{"test-only", "<test-option>test-only</test-option>", top(`<tag>u</tag>`), `<top><step><name>a</name></step><step><name>b</name></step><step><name>c</name></step><tag>t</tag></top>`},
		{"set", "<test-option>set</test-option><error-option>rollback-on-error</error-option>", top(`<tag nc:operation="remove">t</tag><step nc:operation="delete"><name>a</name></step>`),
			`<top><step><name>b</name></step><step><name>c</name></step></top>`},
		{"delete all", "", `<top xmlns="urn:test:behaviour" nc:operation="delete"/>`, ``},
	} {
		c.ok(editWith("running", x.options, x.config))
		if got := only(); got != x.want {
			t.Fatalf("%s:\ngot  %s\nwant %s", x.name, got, x.want)
		}
	}
	// The prefixed form that ncclient sends, with the namespace declared on rpc.
	r := c.message(`<nc:rpc xmlns:nc="` + nsBase + `" xmlns:w="urn:test:behaviour" message-id="urn:uuid:1"><nc:edit-config><nc:target><nc:running/></nc:target><nc:config><w:top><w:low>1</w:low></w:top></nc:config></nc:edit-config></nc:rpc>`)
	if r.OK == nil || only() != `<top><low>1</low></top>` {
		t.Error(r.text, only())
	}
}

// An edit of several parts of which the last fails changes nothing, whatever
// error-option says.
func TestAtomic(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	for _, option := range []string{"stop-on-error", "continue-on-error", "rollback-on-error"} {
		for _, target := range []string{"running", "candidate"} {
			c.fails(editWith(target, "<error-option>"+option+"</error-option>", iface("eth0", "")+top(`<tag nc:operation="delete">x</tag>`)),
				"application/data-missing /behaviour:top/behaviour:tag[.='x']")
			if d := c.data(`<get-config><source><` + target + `/></source></get-config>`); d != "" {
				t.Errorf("%s, %s: %s", option, target, d)
			}
		}
	}
}

// copy-config, delete-config, validate: RFC 6241 sections 7.3, 7.4, 8.6.
func TestCopy(t *testing.T) {
	b := newBed(t, nil)
	c := b.open(alice)
	read := func(ds string) string { return c.data(`<get-config><source><` + ds + `/></source></get-config>`) }
	cp := func(to, from string) string {
		return `<copy-config><target><` + to + `/></target><source>` + from + `</source></copy-config>`
	}
	c.ok(cp("candidate", `<config>`+iface("eth0", "")+`</config>`))
	if read("running") != "" || !strings.Contains(read("candidate"), "eth0") {
		t.Error("candidate: ", read("candidate"))
	}
	c.ok(cp("running", `<candidate/>`))
	c.ok(cp("startup", `<running/>`))
	if !strings.Contains(read("running"), "eth0") || read("startup") != read("running") {
		t.Error("running: ", read("running"), "startup: ", read("startup"))
	}
	c.ok(cp("running", `<config>`+iface("eth1", "")+`</config>`))
	if d := read("running"); strings.Contains(d, "eth0") || !strings.Contains(d, "eth1") {
		t.Error("copy-config merges: ", d)
	}
	c.ok(`<delete-config><target><startup/></target></delete-config>`)
	if d := read("startup"); d != "" {
		t.Error(d)
	}
	c.ok(cp("startup", `<config/>`))
	c.ok(`<validate><source><startup/></source></validate>`)
	c.ok(`<validate><source><running/></source></validate>`)
	c.ok(`<validate><source><config>` + iface("eth1", "") + `</config></source></validate>`)
	c.fails(`<validate><source><config>`+top("<low>x</low>")+`</config></source></validate>`, "application/invalid-value /behaviour:top/behaviour:low")
	if d := read("running"); !strings.Contains(d, "eth1") {
		t.Error("validate changed something: ", d)
	}
}
