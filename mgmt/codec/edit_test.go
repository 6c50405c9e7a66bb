package codec_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
)

func TestRoundTrip(t *testing.T) {
	s := load(t)
	in := interfaces(500)
	a, err := codec.Edit(s, data.New(s), in, data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	out := write(t, a)
	b := edit(t, data.New(s), out)
	n := 0
	data.Diff(a, b, func(data.Change) { n++ })
	if n != 0 || write(t, b) != out {
		t.Fatalf("%d changes after a round trip", n)
	}
	if err := xml.Unmarshal([]byte("<x>"+out+"</x>"), new(struct{})); err != nil {
		t.Fatal(err)
	}
	if c, _ := codec.Edit(s, a, in, data.Merge); c != a {
		t.Fatal("an edit that changes nothing must give the same tree")
	}
}

func TestOperations(t *testing.T) {
	s := load(t)
	base := edit(t, data.New(s), wrap(`<interface><name>a</name><description>x &lt;&amp; y</description><type>i:other</type></interface><interface><type>i:atm</type><name>b</name></interface>`))
	before := write(t, base)
	if !strings.Contains(before, "x &lt;&amp; y") || !strings.Contains(before, "<name>b</name>") {
		t.Fatal(before)
	}
	for _, c := range []struct{ name, xml, tag, path string }{
		{"create existing", `<interface nc:operation="create"><name>a</name></interface>`, "data-exists", "/ietf-interfaces:interfaces/interface[name='a']"},
		{"delete missing", `<interface nc:operation="delete"><name>zz</name></interface>`, "data-missing", "/ietf-interfaces:interfaces/interface[name='zz']"},
		{"remove missing", `<interface nc:operation="remove"><name>zz</name></interface>`, "", ""},
		{"bad op", `<interface nc:operation="bogus"><name>a</name></interface>`, "bad-attribute", ""},
		{"no key", `<interface><enabled>true</enabled></interface>`, "missing-element", ""},
		{"unknown leaf", `<interface><name>a</name><bogus/></interface>`, "unknown-element", "/ietf-interfaces:interfaces/interface[name='a']"},
		{"unknown ns", `<interface xmlns="urn:nope"><name>a</name></interface>`, "unknown-namespace", ""},
		{"bad boolean", `<interface><name>a</name><enabled>1</enabled></interface>`, "invalid-value", "/ietf-interfaces:interfaces/interface[name='a']/enabled"},
		{"state leaf", `<interface><name>a</name><oper-status>up</oper-status></interface>`, "invalid-value", ""},
		{"nesting", `<interface><name>a</name></interfaces>`, "malformed-message", ""},
		{"doctype", `<!DOCTYPE x><interface/>`, "malformed-message", ""},
	} {
		r, err := codec.Edit(s, base, []byte(head+wrap(c.xml)+"</config>"), data.Merge)
		var e *data.Error
		if c.tag == "" {
			if err != nil || r != base {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.As(err, &e) || e.Tag != c.tag || c.path != "" && e.Path != c.path {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	gone := edit(t, base, wrap(`<interface nc:operation="delete"><name>a</name></interface><interface nc:operation="delete"><name>b</name></interface>`))
	if write(t, gone) != "" || write(t, base) != before {
		t.Fatal("delete: ", write(t, gone))
	}
	rep := edit(t, base, wrap(`<interface nc:operation="replace"><name>a</name><type>i:atm</type></interface>`))
	var got []string
	data.Diff(base, rep, func(c data.Change) { got = append(got, fmt.Sprintf("%d%s", c.Kind, c.Path)) })
	if len(got) != 2 || got[0] != "1/ietf-interfaces:interfaces/interface[name='a']/description" || got[1] != "2/ietf-interfaces:interfaces/interface[name='a']/type" {
		t.Fatal(got)
	}
	if _, err := codec.Edit(s, base, []byte(head+wrap(`<interface><name>zz</name></interface>`)+"</config>"), data.None); err == nil {
		t.Fatal("default-operation none must want the entry")
	}
}

const static = `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"><control-plane-protocols><control-plane-protocol><type>static</type><name>s</name><static-routes>`
const staticEnd = `</static-routes></control-plane-protocol></control-plane-protocols></routing>`

func route(nh string) string {
	return static + `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"><route><destination-prefix>10.9.9.9/8</destination-prefix><next-hop>` +
		nh + `</next-hop></route></ipv4>` + staticEnd
}

func TestChoiceAndFamilies(t *testing.T) {
	s := load(t)
	a := edit(t, data.New(s), route(`<next-hop-address>192.0.2.1</next-hop-address>`)+static+
		`<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing"><route><destination-prefix>2001:DB8::1/32</destination-prefix><next-hop><next-hop-address>FE80::1</next-hop-address></next-hop></route></ipv6>`+staticEnd)
	out := write(t, a)
	for _, w := range []string{"<destination-prefix>10.0.0.0/8<", "<destination-prefix>2001:db8::/32<", "<next-hop-address>fe80::1<", `xmlns:rt="urn:ietf:params:xml:ns:yang:ietf-routing">rt:static<`} {
		if !strings.Contains(out, w) {
			t.Errorf("no %s in %s", w, out)
		}
	}
	b := edit(t, a, route(`<special-next-hop>blackhole</special-next-hop>`))
	if strings.Contains(write(t, b), "192.0.2.1") {
		t.Fatal("the other case must go")
	}
}

func TestLeafref(t *testing.T) {
	s := load(t)
	v, _ := validate.New(s)
	empty := data.New(s)
	a := edit(t, empty, wrap(`<interface><name>a</name><type>i:other</type></interface><interface><name>b</name><type>i:other</type></interface>`)+
		route(`<outgoing-interface>a</outgoing-interface>`))
	_, refs, errs := v.Change(empty, a, validate.Refs{})
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	if _, _, errs = v.Change(a, edit(t, a, wrap(`<interface nc:operation="delete"><name>b</name></interface>`)), refs); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	_, _, errs = v.Change(a, edit(t, a, wrap(`<interface nc:operation="delete"><name>a</name></interface>`)), refs)
	if len(errs) != 1 || errs[0].AppTag != "instance-required" || !strings.HasSuffix(errs[0].Path, "/outgoing-interface") {
		t.Fatal(errs)
	}
	_, _, errs = v.Change(a, edit(t, a, route(`<outgoing-interface>zz</outgoing-interface>`)), refs)
	if len(errs) != 1 {
		t.Fatal(errs)
	}
	_, _, errs = v.Change(a, edit(t, a, wrap(`<interface><name>a</name><type nc:operation="delete"/></interface>`)), refs)
	if len(errs) != 1 || errs[0].Tag != "data-missing" {
		t.Fatal(errs)
	}
}

// Readers hold old trees while a writer goes on (run with -race).
func TestReadersNeverLock(t *testing.T) {
	s := load(t)
	root := build(t, 300)
	var cur atomic.Pointer[data.Container]
	cur.Store(root)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := codec.Writer{Schema: s}
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := cur.Load()
				if a, b := w.Append(nil, r), w.Append(nil, r); !bytes.Equal(a, b) {
					t.Error("a tree changed under its reader")
					return
				}
			}
		}()
	}
	for i := range 200 {
		n, err := codec.Edit(s, cur.Load(), oneLeaf(fmt.Sprintf("eth%d", i), fmt.Sprint("v", i)), data.Merge)
		if err != nil {
			t.Fatal(err)
		}
		cur.Store(n)
	}
	close(stop)
	wg.Wait()
}
