package codec_test

import (
	"encoding/json"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

// TestJSONRoundTrip takes the tree of each case, writes it as JSON in both
// forms, and reads it back.
func TestJSONRoundTrip(t *testing.T) {
	s := loadExample(t)
	texts := map[string]string{"testdata/defaults": file(t, "testdata/defaults", "data.xml")}
	for _, dir := range cases(t, "edit") {
		texts[dir] = "<data>" + file(t, dir, "want.xml") + "</data>"
	}
	for dir, text := range texts {
		tree, err := codec.Read(s, []byte(text))
		if err != nil {
			t.Fatal(dir, err)
		}
		for _, indent := range []string{"", "  "} {
			j := codec.Writer{Schema: s, Indent: indent}.AppendJSON(nil, tree)
			if !json.Valid(j) {
				t.Fatalf("%s: not JSON: %s", dir, j)
			}
			if indent == "" && strings.Contains(string(j), "\n") {
				t.Errorf("%s: lines without indent", dir)
			}
			again, err := codec.ReadJSON(s, j)
			if err != nil {
				t.Errorf("%s: %v\n%s", dir, err, j)
				continue
			}
			if a, b := pretty(s, tree), pretty(s, again); a != b {
				t.Errorf("%s:\n%s\nbecame\n%s", dir, a, b)
			}
		}
	}
}

func TestJSONValues(t *testing.T) {
	s := loadExample(t)
	for _, c := range []struct{ in, want string }{
		{`{"example:all":{"mtu":1500,"big":"18446744073709551615","deci":"1.50","on":true,"mark":[null],"kind":"cat","mixed":7}}`,
			`{"example:all":{"mtu":1500,"big":"18446744073709551615","deci":"1.5","on":true,"mark":[null],"kind":"cat","mixed":7}}`},
		{`{"example:all":{"mixed":"auto","example:kind":"example-more:dog","flags":"b a"}}`, `{"example:all":{"kind":"example-more:dog","mixed":"auto","flags":"a b"}}`},
		{`{"example:all":{"mixed":"example-more:dog"}}`, `{"example:all":{"mixed":"example-more:dog"}}`},
		{`{"example:all":{"big":5}}`, `{"example:all":{"big":"5"}}`},
		{`{"example:all":{"where":"/example:server[name='a:b'][port='1']/example-more:weight"}}`, `{"example:all":{"where":"/example:server[name='a:b'][port='1']/example-more:weight"}}`},
		{`{"example:all":{"where":"/example:server[name='x'][port='1']/weight"}}`, `{"example:all":{"where":"/example:server[name='x'][port='1']/weight"}}`},
		{`{"example:all":{"name":"q\"\\\n\té"}}`, `{"example:all":{"name":"q\"\\\n\té"}}`},
		{`{"example-more:all":{"name":"n"},"example:all":{"example-more:name":"theirs"}}`, `{"example:all":{"example-more:name":"theirs"},"example-more:all":{"name":"n"}}`},
		{`{"example:server":[{"port":2,"name":"b"},{"name":"a","port":1,"@name":{"x:y":1}}]}`, `{"example:server":[{"name":"a","port":1},{"name":"b","port":2}]}`},
	} {
		tree, err := codec.EditJSON(s, data.New(s), []byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if got := string(codec.Writer{Schema: s}.AppendJSON(nil, tree)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.in, got, c.want)
		}
	}
	for _, c := range []struct{ in, tag, path string }{
		{`{"example:all":{"mtu":"1500"}}`, "invalid-value", "/example:all/mtu"},
		{`{"example:all":{"mtu":67}}`, "invalid-value", "/example:all/mtu"},
		{`{"example:all":{"mtu":1e3}}`, "invalid-value", "/example:all/mtu"},
		{`{"example:all":{"on":"true"}}`, "invalid-value", "/example:all/on"},
		{`{"example:all":{"mark":null}}`, "invalid-value", "/example:all/mark"},
		{`{"example:all":{"up":true}}`, "invalid-value", "/example:all/up"},
		{`{"example:all":{"bogus":true}}`, "unknown-element", "/example:all"},
		{`{"all":{}}`, "unknown-element", ""},
		{`{"nope:all":{}}`, "unknown-element", ""},
		{`{"example:all":[]}`, "invalid-value", "/example:all"},
		{`{"example:server":{}}`, "invalid-value", "/example:server"},
		{`{"example:server":[1]}`, "invalid-value", "/example:server"},
		{`{"example:server":[{"name":"a"}]}`, "missing-element", "/example:server"},
		{`{"example:all":{"left":"l","right":"r"}}`, "bad-element", "/example:all/right"},
		{`{"example:all":{"name":"q\u0001"}}`, "invalid-value", "/example:all/name"},
		{`{"example:all":{"any":"<o"}}`, "invalid-value", "/example:all/any"},
		{`{"example:all":{"any":"</x><x>"}}`, "invalid-value", "/example:all/any"},
		{`{"example:all":{"any":"<q:x/>"}}`, "invalid-value", "/example:all/any"},
		{`[]`, "malformed-message", ""},
		{`{"a":`, "malformed-message", ""},
		{`{} {}`, "malformed-message", ""},
	} {
		_, err := codec.EditJSON(s, data.New(s), []byte(c.in))
		e, ok := err.(*data.Error)
		if !ok || e.Tag != c.tag || e.Path != c.path {
			t.Errorf("%s: %v", c.in, err)
		}
	}
}
