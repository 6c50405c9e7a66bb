package modules_test

import (
	"slices"
	"strings"
	"testing"

	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// TestServerSchema compiles what the server has and looks whether every
// deviation took effect: a node that is not supported is gone, so that nobody
// can configure it in vain.
func TestServerSchema(t *testing.T) {
	features := modules.Features()
	s, err := yang.Load(yang.Options{FS: modules.FS,
		Features: func(m, f string) bool { return slices.Contains(features[m], f) }}, modules.Implemented()...)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]*yang.Node{}
	s.Root.Walk(func(n *yang.Node) bool { left[n.SchemaPath()] = n; return true })
	plain := map[string]bool{}
	standard(t, "").Root.Walk(func(n *yang.Node) bool { plain[n.SchemaPath()] = true; return true })

	gone := 0
	for name, src := range sources(t) {
		for _, d := range src.all("deviation") {
			path, module := "", ""
			for _, step := range strings.Split(strings.TrimPrefix(d.arg, "/"), "/") {
				m, local, _ := strings.Cut(src.qualify(step), ":")
				if m != module {
					local = m + ":" + local
				}
				path, module = path+"/"+local, m
			}
			if !plain[path] {
				t.Errorf("%s: %s is in no standard module", name, path)
			}
			for _, x := range d.all("deviate") {
				n := left[path]
				switch {
				case x.arg == "not-supported":
					gone++
					if n != nil {
						t.Errorf("%s: %s is still there", name, path)
					}
				case n == nil:
					t.Errorf("%s: %s is gone", name, path)
				case x.value("mandatory") == "true" && !n.Mandatory,
					x.value("config") == "false" && n.Config,
					x.arg == "delete" && len(n.Default) > 0,
					x.sub("must") != nil && len(n.Must) == 0:
					t.Errorf("%s: %s %s did nothing", name, path, x.arg)
				case x.sub("type") != nil:
					ty := x.sub("type")
					if r := ty.value("range"); r != "" && n.Type.Range != r {
						t.Errorf("%s: the range is %q", path, n.Type.Range)
					}
					if r := ty.value("length"); r != "" && n.Type.Length != r {
						t.Errorf("%s: the length is %q", path, n.Type.Length)
					}
					var enums []string
					for _, e := range ty.all("enum") {
						enums = append(enums, e.arg)
					}
					if len(enums) > 0 && !slices.Equal(n.Type.Enums, enums) {
						t.Errorf("%s: the enums are %v", path, n.Type.Enums)
					}
				}
			}
		}
	}
	t.Logf("%d nodes not supported", gone)

	for name, m := range s.Modules {
		if m.Implemented != slices.Contains(modules.Implemented(), name) {
			t.Errorf("%s implemented: %v", name, m.Implemented)
		}
	}
	// A key of an SA is hidden from whoever has no right to it, and the node
	// that holds it is where RFC 9061 has it.
	key := s.Find("/ietf-i2nsf-ikeless:ipsec-ikeless/sad/sad-entry/ipsec-sa-config/esp-sa/encryption/key")
	if key == nil || !key.Secret() {
		t.Error("the SA's key is no secret")
	}
}
