package netconf

import (
	"encoding/xml"
	"strings"
	"testing"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Paths on the wire: every step has a prefix, declared on the element itself
// (RFC 6241 section 4.3).
func TestAppendPath(t *testing.T) {
	a := &yang.Module{Name: "mod-a", Prefix: "p", Namespace: "urn:a?x=1&y=2"}
	b := &yang.Module{Name: "mod-b", Prefix: "p", Namespace: "urn:b"}
	s := &Server{schema: &yang.Schema{Modules: map[string]*yang.Module{"mod-a": a, "mod-b": b}}}
	const na, nb = ` xmlns:p="urn:a?x=1&amp;y=2"`, ` xmlns:mod-b="urn:b"`
	for _, c := range []struct{ in, want string }{
		{`/mod-a:x`, `<e` + na + `>/p:x</e>`},
		{`/mod-a:x/y/z-1.2`, `<e` + na + `>/p:x/p:y/p:z-1.2</e>`},
		{`/mod-a:x/mod-b:y/z`, `<e` + na + nb + `>/p:x/mod-b:y/mod-b:z</e>`},
		{`/mod-a:l[k='a/b:c[d]&<'][n="it's"]/y`, `<e` + na + `>/p:l[p:k='a/b:c[d]&amp;&lt;'][p:n="it's"]/p:y</e>`},
		{`/mod-a:l[mod-b:k='1']/y`, `<e` + na + nb + `>/p:l[mod-b:k='1']/p:y</e>`},
		{`/mod-a:l[.='1']`, `<e` + na + `>/p:l[.='1']</e>`},
		{`/mod-a:l[3]/x`, `<e` + na + `>/p:l[3]/p:x</e>`},
		{`/mod-c:x`, ``},
		{`/x`, ``},
		{`/mod-a:l[k='open`, ``},
	} {
		if got := string(s.appendPath(nil, "e", "", c.in)); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

func FuzzAppendPath(f *testing.F) {
	for _, s := range []string{`/mod-a:x/y[k='v']`, `/mod-a:l[.="]"]`, `[`, `'`, `/mod-a:`, ":::", "/mod-a:x/\x00\xff"} {
		f.Add(s)
	}
	s := &Server{schema: &yang.Schema{Modules: map[string]*yang.Module{"mod-a": {Name: "mod-a", Prefix: "p", Namespace: "urn:a"}}}}
	f.Fuzz(func(t *testing.T, path string) {
		var v struct {
			Path string `xml:"error-path"`
		}
		e := s.appendError(nil, &data.Error{Tag: "x", Path: path, Msg: path, AppTag: path, Info: []data.Info{{Name: "non-unique", Value: path}, {Name: "bad-element", Value: path}}}, true)
		if err := xml.Unmarshal(e, &v); err != nil {
			t.Fatalf("%v: %s", err, e)
		}
	})
}

// A reply bears no more than so many errors, and tags that a base:1.0 client
// knows.
func TestAppendErrors(t *testing.T) {
	s := &Server{schema: schema(t)}
	errs := make(data.Errors, 1000)
	for i := range errs {
		errs[i] = &data.Error{Tag: "invalid-value", Msg: "x"}
	}
	if n := strings.Count(string(s.appendErrors(nil, errs, true)), "<rpc-error>"); n != maxErrors+1 {
		t.Error(n)
	}
	if e := string(s.appendError(nil, &data.Error{Tag: "malformed-message"}, false)); strings.Contains(e, "malformed-message") {
		t.Error(e)
	}
}
