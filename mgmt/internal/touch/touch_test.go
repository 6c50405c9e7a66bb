package touch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/internal/touch"
)

const ifs = `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">`

func one(name, rest string) string {
	return `<interface><name>` + name + `</name><type>t:ethernetCsmacd</type>` + rest + `</interface>`
}

func ipv4(rest string) string {
	return `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip">` + rest + `</ipv4>`
}

func near(ip, mac string) string {
	return `<neighbor><ip>` + ip + `</ip><link-layer-address>` + mac + `</link-layer-address></neighbor>`
}

func TestEntries(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	read := func(x string) *data.Container {
		tree, err := codec.Read(s, []byte("<config>"+x+"</config>"))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	const m1, m2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
	for _, c := range []struct{ name, old, new, interfaces, neighbours string }{
		{"all come", "", ifs + one("a", ipv4(near("10.0.0.1", m1)+near("10.0.0.2", m1))) + one("b", "") + `</interfaces>`, "+a +b", "+a/10.0.0.1 +a/10.0.0.2"},
		{"all go", ifs + one("a", ipv4(near("10.0.0.1", m1))) + `</interfaces>`, "", "-a", "-a/10.0.0.1"},
		{"one leaf", ifs + one("a", "") + one("b", "") + `</interfaces>`, ifs + one("a", "<enabled>false</enabled>") + one("b", "") + `</interfaces>`, "*a", ""},
		{"many leaves are one entry", ifs + one("a", "") + `</interfaces>`, ifs + one("a", "<enabled>false</enabled><description>x</description>"+ipv4("")) + `</interfaces>`, "*a", ""},
		{"inside the entry of an entry", ifs + one("a", ipv4(near("10.0.0.1", m1)+near("10.0.0.2", m1))) + `</interfaces>`,
			ifs + one("a", ipv4(near("10.0.0.1", m2)+near("10.0.0.2", m1))) + `</interfaces>`, "*a", "*a/10.0.0.1"},
		{"a container in between comes", ifs + one("a", "") + `</interfaces>`, ifs + one("a", ipv4(near("10.0.0.1", m1))) + `</interfaces>`, "*a", "+a/10.0.0.1"},
		{"the same key in two lists", ifs + one("a", ipv4(near("10.0.0.1", m1))) + one("b", "") + `</interfaces>`,
			ifs + one("a", "") + one("b", ipv4(near("10.0.0.1", m1))) + `</interfaces>`, "*a *b", "-a/10.0.0.1 +b/10.0.0.1"},
		{"something else", "", `<fastpath xmlns="urn:vrouter:yang:vrouter-fastpath"><worker><polling>busy</polling></worker></fastpath>`, "", ""},
	} {
		b := &binding.Commit{Old: read(c.old), New: read(c.new)}
		data.Diff(b.Old, b.New, func(ch data.Change) { b.Changes = append(b.Changes, ch) })
		show := func(path string) string {
			var l []string
			for _, e := range touch.Entries(b, s.Find(path)) {
				sign := "*"
				if e.Old == nil {
					sign = "+"
				} else if e.New == nil {
					sign = "-"
				}
				name := e.Key()
				if e.Path.Up.Up != nil && e.Path.Up.Up.Entry {
					name = fmt.Sprintf("%s/%s", e.Path.Up.Up.Key, name)
				}
				l = append(l, sign+name)
			}
			slices.SortFunc(l, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
			return strings.Join(l, " ")
		}
		if got := show("/ietf-interfaces:interfaces/interface"); got != c.interfaces {
			t.Errorf("%s: interfaces %q, want %q", c.name, got, c.interfaces)
		}
		if got := show("/ietf-interfaces:interfaces/interface/ietf-ip:ipv4/neighbor"); got != c.neighbours {
			t.Errorf("%s: neighbours %q, want %q", c.name, got, c.neighbours)
		}
	}
}
