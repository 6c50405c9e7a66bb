package codec_test

import (
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

const rpcHead = `<nc:rpc xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:e="urn:vrouter:test:example" message-id="1">`

// readRPC reads the operation in an rpc element, as a server does.
func readRPC(t *testing.T, body string) (*codec.Input, error) {
	t.Helper()
	s := loadExample(t)
	lx, err := codec.NewLexer([]byte(rpcHead+body+`</nc:rpc>`), s.ModuleByNS)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if k, err := lx.Next(); err != nil || k != codec.Start {
			t.Fatal(k, err)
		}
	}
	in, err := codec.ReadInput(s, lx)
	if err == nil {
		if k, err := lx.Next(); err != nil || k != codec.End {
			t.Fatal("the operation was not read to its end", k, err)
		}
	}
	return in, err
}

func TestReadInput(t *testing.T) {
	s := loadExample(t)
	in, err := readRPC(t, `<e:start><e:id>x</e:id><e:target><e:spare/></e:target>
		<e:config xmlns="urn:def" a="1" e:b="2"><y xmlns:z="urn:z">z:t</y> t <e:all/></e:config>
		<e:part><e:n>1</e:n><e:must-have>m</e:must-have></e:part><e:word>w</e:word><e:word>b</e:word><e:word>w</e:word>
		<e:filter type="subtree"/></e:start>`)
	if err != nil {
		t.Fatal(err)
	}
	if in.Op != s.Find("/example:start") || in.Target != nil {
		t.Fatal("op")
	}
	for path, want := range map[string]string{"/example:id": "x", "/example:target/spare": "", "/example:part[n='1']/must-have": "m"} {
		n, err := data.Find(in.Params, path)
		l, ok := n.(*data.Leaf)
		if err != nil || !ok || l.Value.Text != want {
			t.Error(path, n, err)
		}
	}
	times := in.Op.Input().ChildByName("times")
	if v, set, ok := in.Params.Value(times); v.Text != "1" || set || !ok {
		t.Error("a default of the input", v, set, ok)
	}
	if v, _ := in.Params.Values(in.Op.Input().ChildByName("word")); len(v) != 3 || v[0].Text != "w" || v[1].Text != "b" || v[2].Text != "w" {
		t.Error("an input's leaf-list is no set, and has an order", v)
	}
	raw, ok := in.Raw(in.Op.Input().ChildByName("config"))
	if !ok || !strings.HasPrefix(string(raw.XML), "<e:config ") || !strings.HasSuffix(string(raw.XML), "</e:config>") {
		t.Fatalf("raw: %v %s", ok, raw.XML)
	}
	if v, ok := raw.Attr("", "a"); v != "1" || !ok {
		t.Error("attribute a")
	}
	if v, ok := raw.Attr("urn:vrouter:test:example", "b"); v != "2" || !ok {
		t.Error("attribute b")
	}
	if _, ok := raw.Attr("", "b"); ok {
		t.Error("attribute b without its namespace")
	}
	if p := raw.Prefixes(); p["e"] != "urn:vrouter:test:example" || p[""] != "urn:def" || p["nc"] == "" {
		t.Error(p)
	}
	content, err := raw.Content()
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, "content", content)
	if _, err := codec.Read(s, []byte(`<d>`+content[strings.Index(content, "<e:all"):]+`</d>`)); err != nil {
		t.Error("the content does not stand alone:", err, content)
	}
	filter, ok := in.Raw(in.Op.Input().ChildByName("filter"))
	if !ok {
		t.Fatal("filter")
	}
	f, err := codec.ParseFilterRaw(s, filter)
	if err != nil || f.Subtree(s.Find("/example:all")) {
		t.Error("an empty filter wants nothing", err)
	}
	// The namespaces of the rpc element count in what stands inside.
	in, err = readRPC(t, `<e:start><e:id>x</e:id><e:target><e:spare/></e:target><e:config><e:all><e:mtu>1400</e:mtu><e:kind>e:cat</e:kind></e:all></e:config></e:start>`)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ = in.Raw(in.Op.Input().ChildByName("config"))
	tree, err := codec.EditRaw(s, data.New(s), raw, data.Merge)
	if err != nil || data.Text(tree, "/example:all/mtu") != "1400" || data.Text(tree, "/example:all/kind") != "example:cat" {
		t.Fatal(err, tree)
	}
}

func TestAction(t *testing.T) {
	s := loadExample(t)
	in, err := readRPC(t, `<action xmlns="urn:ietf:params:xml:ns:yang:1"><e:server> <e:port>2</e:port><e:name>a</e:name><e:restart><e:delay>5</e:delay></e:restart></e:server></action>`)
	if err != nil {
		t.Fatal(err)
	}
	if in.Op.Path() != "/example:server/restart" || in.Target.String() != "/example:server[name='a'][port='2']" || data.Text(in.Params, "/delay") != "5" {
		t.Fatal(in.Op.Path(), in.Target, in.Params)
	}
	if n, err := codec.Read(s, []byte(`<d xmlns:e="urn:vrouter:test:example"><e:server><e:name>a</e:name><e:port>2</e:port></e:server></d>`)); err != nil || in.Target.In(n) == nil {
		t.Fatal("the target is not found", err)
	}
}

// TestReadInputErrors runs each folder of testdata/rpc: the operation in
// rpc.xml gives the error in the file of that name.
func TestReadInputErrors(t *testing.T) {
	for _, dir := range cases(t, "rpc") {
		_, err := readRPC(t, strings.TrimSpace(file(t, dir, "rpc.xml")))
		if err == nil {
			t.Error(dir, "accepted")
		}
		golden(t, dir, "error", complain(t, err))
	}
}

// TestRawScope: what Skip leaves out is read later as if it had been read then.
func TestRawScope(t *testing.T) {
	s := loadExample(t)
	msg := `<a xmlns="urn:vrouter:test:example" xmlns:k="urn:vrouter:test:example-more"><config><all><kind>k:dog</kind></all></config><b/></a>`
	lx, err := codec.NewLexer([]byte(msg), s.ModuleByNS)
	if err != nil {
		t.Fatal(err)
	}
	lx.Next()
	lx.Next()
	raw, err := lx.Skip()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := lx.Next(); k != codec.Start || err != nil || string(lx.Local) != "b" {
		t.Fatal(k, err)
	}
	if b, err := lx.Skip(); err != nil || string(b.XML) != "<b/>" {
		t.Fatal(err, string(b.XML))
	}
	tree, err := codec.EditRaw(s, data.New(s), raw, data.Merge)
	if err != nil || data.Text(tree, "/example:all/kind") != "example-more:dog" {
		t.Fatal(err)
	}
	// In place, by the message's own lexer.
	lx, _ = codec.NewLexer([]byte(msg), s.ModuleByNS)
	lx.Next()
	lx.Next()
	if tree, err = codec.EditLexer(lx, data.New(s), data.Merge); err != nil || data.Text(tree, "/example:all/kind") != "example-more:dog" {
		t.Fatal(err)
	}
	if k, _ := lx.Next(); k != codec.Start {
		t.Fatal("EditLexer read too far")
	}
}

func TestAppendPrefixes(t *testing.T) {
	s := loadExample(t)
	got := string(codec.AppendPrefixes(nil, s, `/example:all/example-more:name[x='ietf-netconf:no']/example:q`))
	if got != ` xmlns:example="urn:vrouter:test:example" xmlns:example-more="urn:vrouter:test:example-more"` {
		t.Error(got)
	}
}

// TestText: whatever a value holds, the XML stays well-formed.
func TestText(t *testing.T) {
	for in, want := range map[string]string{"a<b>&\"'": "a&lt;b&gt;&amp;\"'", "a\x01b\x7f": "a\uFFFDb\x7f", "\xff\xfeé\xc3": "\uFFFD\uFFFDé\uFFFD",
		"\uFFFE\uFFFF": "\uFFFD\uFFFD", "a\r\n\t": "a&#13;\n\t", "日本": "日本"} {
		got := string(codec.AppendText(nil, in))
		if got != want {
			t.Errorf("%q: %q want %q", in, got, want)
		}
		wellFormed(t, in, got)
	}
}
