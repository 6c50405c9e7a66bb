package data_test

import (
	"os"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

var example = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{FS: os.DirFS("../codec/testdata/modules")}, "example", "example-more")
})

func load(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := example()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read gives a tree with state.
func read(t testing.TB, xml string) *data.Container {
	t.Helper()
	root, err := codec.Read(load(t), []byte(`<d xmlns="urn:vrouter:test:example" xmlns:m="urn:vrouter:test:example-more">`+xml+`</d>`))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

const sample = `<all><name>n</name><m:name>theirs</m:name><tag>a</tag><tag>it's "b"</tag><log><text>1</text></log><log><text>2</text></log>
	<seen>x</seen><seen>y</seen><seen>x</seen></all>
	<server><name>a</name><port>1</port></server><server><name>'q'</name><port>1</port></server><server><name>both ' and "</name><port>1</port></server><server><name/><port>9</port></server>`

// TestPathsOfAll: every node of a tree is found again by its path, and the
// path by its text.
func TestPathsOfAll(t *testing.T) {
	s := load(t)
	root := read(t, sample)
	n := 0
	var walk func(up *data.Path, node data.Node)
	check := func(p *data.Path, node data.Node) {
		n++
		text := p.String()
		q, err := data.ParsePath(s.Root, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		if q.String() != text {
			t.Errorf("%s became %s", text, q)
		}
		found, err := data.Find(root, text)
		if err != nil || found != node && !strings.Contains(text, "seen[.='x']") { // two equal values have one path
			t.Errorf("%s: %v %v", text, found, err)
		}
		walk(p, node)
	}
	walk = func(up *data.Path, node data.Node) {
		c, ok := node.(*data.Container)
		if !ok {
			return
		}
		for _, k := range c.Kids() {
			if l, ok := k.(*data.List); ok {
				l.Each(func(key string, e data.Node) bool {
					check(&data.Path{Up: up, Schema: l.S, Key: key, Entry: true}, e)
					return true
				})
				continue
			}
			check(&data.Path{Up: up, Schema: k.Schema()}, k)
		}
	}
	walk(nil, root)
	if n < 20 {
		t.Fatalf("only %d nodes", n)
	}
	if p, err := data.ParsePath(s.Root, ""); p != nil || err != nil || p.In(root) != data.Node(root) {
		t.Error("the root")
	}
}

func TestFind(t *testing.T) {
	root := read(t, sample)
	for path, want := range map[string]string{
		"/example:all/name":                                                 "n",
		"/example:all/example-more:name":                                    "theirs",
		"/example:all/mtu":                                                  "1500", // in use, not set
		"/example:all/big":                                                  "",
		`/example:server[ port = "1" ][name='a']/port`:                      "1",
		`/example:server[name="'q'"][port='01']/name`:                       "'q'",
		`/example:server[name=concat('both ',"'",' and "')][port='1']/name`: `both ' and "`,
		"/example:server[name=''][port='9']/port":                           "9",
		"/example:all/log[2]/text":                                          "2",
		"/example:all/log[3]/text":                                          "",
	} {
		if got := data.Text(root, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"example:all":                         "/ is wanted",
		"/all":                                "unknown node",
		"/nope:all":                           "unknown node",
		"/example:all/nope":                   "unknown node",
		"/example:all//name":                  "unknown node",
		"/example:all/name/x":                 "unknown node",
		"/example:server/name":                "an entry of server is wanted",
		"/example:server[name='a']":           "key port is missing",
		"/example:server[name='a'][port='x']": "key port",
		"/example:server[weight='1']":         "no key weight",
		"/example:server[name=a][port='1']":   "a quoted text",
		"/example:server[name='a][port='1']":  "",
		"/example:server[name='a'":            "] is wanted",
		"/example:server[name'a']":            "= is wanted",
		"/example:server[name=concat('a'":     ", or )",
		"/example:all/log[x]":                 "the number",
		"/example:all/log[1":                  "the number",
		"/example:all[name='n']":              "no key name",
		"/example:all/tag[x='n']":             "no key x",
		"/example:all/name[.='n']":            "",
	} {
		if n, err := data.Find(root, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v, want %q", path, n, err, want)
		}
	}
	if n, err := data.Find(root, "/example:server[name='zz'][port='1']/weight"); n != nil || err != nil {
		t.Error("a node that is not there", n, err)
	}
	if n, err := data.Find(root, "/example:server"); err != nil || n.(*data.List).Len() != 4 {
		t.Error("a whole list", n, err)
	}
}

// FuzzPath: what is read as a path is written as one that means the same.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/example:all/name", `/example:server[name="'q'"][port='01']/name`, "/example:all/log[2]/text",
		`/example:server[name=concat('a',"'",'"')][port='1']/path[id='']`, "/example:all/tag[.='x']", "/example:all/where"} {
		f.Add(s)
	}
	s := load(f)
	root := read(f, sample)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := data.ParsePath(s.Root, text)
		if err != nil {
			return
		}
		q, err := data.ParsePath(s.Root, p.String())
		if err != nil || q.String() != p.String() {
			t.Fatalf("%q: %q: %v", text, p, err)
		}
		p.In(root)
		data.Text(root, text)
	})
}
