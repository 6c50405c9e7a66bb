package notify

import (
	"fmt"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

func tree(t *testing.T, xml string) *data.Container {
	t.Helper()
	s, err := theSchema()
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.Read(s, []byte("<data>"+xml+"</data>"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEdits(t *testing.T) {
	iface := func(name, more string) string {
		return `<interface><name>` + name + `</name><type xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</type>` + more + `</interface>`
	}
	all := func(s ...string) string {
		return `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">` + strings.Join(s, "") + `</interfaces>`
	}
	var many, changed []string
	for i := range 2 * MaxEdits {
		many = append(many, iface(fmt.Sprintf("e%d", i), ""))
		changed = append(changed, iface(fmt.Sprintf("e%d", i), "<description>x</description>"))
	}
	sad := func(spi, key string) string {
		return `<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"><sad><sad-entry><name>out</name><ipsec-sa-config><spi>` + spi +
			`</spi><esp-sa><encryption><encryption-algorithm>20</encryption-algorithm><key>` + key + `</key></encryption></esp-sa></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>`
	}
	key := func(b string) string { return strings.TrimSuffix(strings.Repeat(b+":", 20), ":") }
	const i = "ietf-interfaces:"
	const entry = "/ietf-i2nsf-ikeless:ipsec-ikeless/ietf-i2nsf-ikeless:sad/ietf-i2nsf-ikeless:sad-entry[ietf-i2nsf-ikeless:name='out']/ietf-i2nsf-ikeless:ipsec-sa-config"
	for _, c := range []struct{ what, old, new, want string }{
		{"nothing", all(iface("a", "")), all(iface("a", "")), ""},
		{"a leaf comes, goes and changes", all(iface("a", "<enabled>true</enabled><description>x</description>"), iface("b", "")),
			all(iface("a", "<description>y</description>"), iface("b", "<enabled>false</enabled>")),
			"replace /" + i + "interfaces/" + i + "interface[" + i + "name='a']/" + i + "description\n" +
				"delete /" + i + "interfaces/" + i + "interface[" + i + "name='a']/" + i + "enabled\n" +
				"create /" + i + "interfaces/" + i + "interface[" + i + "name='b']/" + i + "enabled"},
		{"entries", all(iface("a", "")), all(iface("b", ""), iface("it's", "")),
			"delete /" + i + "interfaces/" + i + "interface[" + i + "name='a']\n" +
				"create /" + i + "interfaces/" + i + "interface[" + i + "name='b']\n" +
				"create /" + i + "interfaces/" + i + "interface[" + i + `name="it's"]`},
		{"a key that cannot be said", all(iface("a", "")), all(iface("a", ""), iface(`'"`, "")), "merge /" + i + "interfaces"},
		{"too many leaves", all(many...), all(changed...), "merge /" + i + "interfaces"},
		{"too many entries", all(iface("a", "")), all(append(many, iface("a", ""))...), "merge /" + i + "interfaces"},
		{"many below a list, one beside it", sad("256", key("aa")) + all(many...), sad("257", key("aa")) + all(changed...),
			"merge /ietf-i2nsf-ikeless:ipsec-ikeless\nmerge /" + i + "interfaces"},
		{"an SA's key", sad("256", key("aa")), sad("256", key("bb")), "replace " + entry + "/ietf-i2nsf-ikeless:esp-sa/ietf-i2nsf-ikeless:encryption/ietf-i2nsf-ikeless:key"},
		{"a new SA", "", sad("256", key("aa")), "create /ietf-i2nsf-ikeless:ipsec-ikeless"},
	} {
		var got []string
		old := tree(t, c.old)
		for _, e := range Edits(old, tree(t, c.new)) {
			got = append(got, e.Operation+" "+e.Target)
		}
		text := strings.Join(got, "\n")
		if text != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.what, text, c.want)
		}
		if strings.Contains(text, "aa:") || strings.Contains(text, "bb:") {
			t.Errorf("%s: a key is told", c.what)
		}
	}
}
