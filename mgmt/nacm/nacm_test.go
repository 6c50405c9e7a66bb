package nacm

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

var theSchema = sync.OnceValues(func() (*yang.Schema, error) {
	on := map[string]bool{}
	for m, fs := range modules.Features() {
		for _, f := range fs {
			on[m+":"+f] = true
		}
	}
	return yang.Load(yang.Options{FS: modules.FS, Dirs: []string{"testdata/yang"}, Features: func(m, f string) bool { return on[m+":"+f] }},
		append(modules.Implemented(), "guarded")...)
})

func schema(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := theSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read makes a tree of XML; the prefixes of the tests are declared around it.
func read(t testing.TB, xml string) *data.Container {
	t.Helper()
	tree, err := codec.Read(schema(t), []byte(`<config xmlns:g="urn:test:guarded">`+xml+`</config>`))
	if err != nil {
		t.Fatalf("%v in %s", err, xml)
	}
	return tree
}

func policy(t testing.TB, rules string) *Policy {
	t.Helper()
	c, err := New(schema(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := read(t, `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm">`+rules+`</nacm>`)
	if errs := c.Check(tree); len(errs) > 0 {
		t.Fatal(errs)
	}
	return c.Policy(tree)
}

func at(t testing.TB, path string) *data.Path {
	t.Helper()
	p, err := data.ParsePath(schema(t).Root, path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask is one line of a case, without its answer: "user (role): what of".
func ask(t *testing.T, p *Policy, line string) bool {
	t.Helper()
	who, rest, ok := strings.Cut(line, ": ")
	what, of, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		t.Fatalf("%q is no question", line)
	}
	u := User{Name: who}
	u.Name, u.Recovery = strings.CutSuffix(who, "!")
	if name, role, ok := strings.Cut(who, " ("); ok {
		u.Name, u.Groups = name, []string{strings.TrimSuffix(role, ")")}
	}
	v := p.View(u)
	s := schema(t)
	op := func() (*yang.Node, *data.Path) {
		if of[0] != '/' {
			m, name, _ := strings.Cut(of, ":")
			return s.Root.Op(s.Modules[m], []byte(name)), nil
		}
		i := strings.LastIndexByte(of, '/')
		p := at(t, of[:i])
		return p.Schema.Op(nil, []byte(of[i+1:])), p
	}
	for a, name := range map[Access]string{Create: "create", Update: "update", Delete: "delete"} {
		if what == name {
			return v.all || v.table(a).permits(at(t, of))
		}
	}
	switch what {
	case "read":
		return v.MayRead(at(t, of))
	case "exec":
		n, _ := op()
		return v.MayExec(n)
	case "act":
		return v.MayAct(op())
	case "notify":
		return v.MayNotify(op())
	}
	t.Fatalf("%q asks for nothing known", line)
	return false
}

// Rule sets × users × accesses, as folders have them.
func TestCases(t *testing.T) {
	files, _ := filepath.Glob("testdata/cases/*.txt")
	if len(files) < 8 {
		t.Fatal(files)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(b), "-- rules\n")
			rules, expect, ok := strings.Cut(rest, "-- expect\n")
			if !ok {
				t.Fatal("no expectations")
			}
			p := policy(t, rules)
			for _, line := range strings.Split(strings.TrimSpace(expect), "\n") {
				q, want, _ := cutLast(line, " ")
				if got := ask(t, p, q); got != (want == "permit") || want != "permit" && want != "deny" {
					t.Errorf("%s: got %t", line, got)
				}
			}
		})
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// A policy is compiled once for what /nacm holds, however running changes.
func TestPolicyFollowsRunning(t *testing.T) {
	s := schema(t)
	c, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	empty := c.Policy(data.New(s))
	tree := read(t, `<top xmlns="urn:test:guarded"><open>x</open></top>`)
	if c.Policy(tree) != empty {
		t.Error("compiled again for another leaf")
	}
	with, err := codec.Edit(s, tree, []byte(`<c><nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><read-default>deny</read-default></nacm></c>`), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	p := c.Policy(with)
	if p == empty || p.View(User{Name: "eve"}).MayRead(at(t, "/guarded:top")) {
		t.Error("the new rules are not in force")
	}
	again, err := codec.Edit(s, with, []byte(`<c><top xmlns="urn:test:guarded"><open>y</open></top></c>`), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	first := p.View(User{Name: "eve"})
	if second := p.View(User{Name: "eve"}); c.Policy(again) != p || first != second {
		t.Error("compiled again")
	}
}

// Rules that do not compile let nobody in but the recovery session.
func TestFailsClosed(t *testing.T) {
	c, err := New(schema(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := read(t, `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><rule-list><name>l</name><group>*</group>`+
		`<rule><name>r</name><path>/g:top/g:bogus</path><action>permit</action></rule></rule-list></nacm>`)
	errs := c.Check(tree)
	if len(errs) != 1 || errs[0].Path != "/ietf-netconf-acm:nacm/rule-list[name='l']/rule[name='r']/path" || errs[0].Tag != "invalid-value" {
		t.Fatal(errs)
	}
	p := c.Policy(tree)
	if len(c.Check(tree)) != 1 {
		t.Error("the second check says nothing")
	}
	s := schema(t)
	v := p.View(User{Name: "alice", Groups: []string{Admin}})
	if v.MayRead(at(t, "/guarded:top")) || v.MayExec(s.Find("/guarded:run")) || !v.MayExec(s.Find("/ietf-netconf:close-session")) || v.MayNotify(s.Root.Op(nil, []byte("told")), nil) {
		t.Error("somebody is let in")
	}
	if len(v.Writes(data.New(s), read(t, `<top xmlns="urn:test:guarded"><open>x</open></top>`))) != 1 || len(v.Prune(tree, nil, false).Kids()) != 0 {
		t.Error("something is let through")
	}
	if !p.View(User{Name: "root", Recovery: true}).Unrestricted() {
		t.Error("the recovery session is locked out")
	}
}

func TestBadPaths(t *testing.T) {
	for path, want := range map[string]string{
		"":                                            "is empty",
		"guarded:top":                                 "/ is wanted",
		"/top":                                        "prefix",
		"/nope:top":                                   "prefix",
		"/guarded:top/guarded:nope":                   "no node",
		"/guarded:top/":                               "prefix",
		"/guarded:run":                                "no node",
		"/guarded:top[open='1']":                      "no key",
		"/guarded:top/guarded:pair[text='1']":         "no key",
		"/guarded:top/guarded:pair[1]":                "key = value",
		"/guarded:top/guarded:pair[one='green']":      "identity",
		"/guarded:top/guarded:pair[two='a'":           "]",
		"/guarded:top/guarded:pair[two='a]":           "no end",
		"/guarded:top/guarded:pair[two=a]":            "quoted",
		"/guarded:top/guarded:pair[two=$user]":        "quoted",
		"/guarded:top/guarded:pair[two='a'][two='b']": "twice",
		"/guarded:top/guarded:pair/guarded:inner[id='300']":  "range",
		"/guarded:top/guarded:pair/guarded:reset/guarded:ro": "below",
	} {
		if _, err := parsePath(schema(t), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, wanted %q", path, err, want)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/guarded:top", "/guarded:top/guarded:pair[guarded:one='guarded:red'][two=$USER]/guarded:reset",
		`/guarded:top/guarded:word[.="x"]`, "/guarded:top/guarded:pair[", "/guarded:top/guarded:pair/guarded:inner[id=\t'7' ]"} {
		f.Add(s, "eve")
	}
	s, err := theSchema()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, user string) {
		p, err := parsePath(s, text)
		if err != nil {
			return
		}
		if p.target == nil && text != "/" {
			t.Fatalf("%q leads nowhere", text)
		}
		r := (&rule{module: "*", kind: dataKind, path: p}).of(s, user)
		for _, c := range r.conds {
			if r.never {
				break
			}
			if c.part == nil && c.node.Kind == yang.List && strings.Count(c.key, "\x00") != len(c.node.Keys)-1 {
				t.Fatalf("%q: key %q", text, c.key)
			}
		}
	})
}

// Rules come back from the text in which they are kept, in XML as in JSON.
func TestPathsAreKept(t *testing.T) {
	s := schema(t)
	tree := read(t, `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><rule-list><name>l</name><group>*</group>`+
		`<rule><name>a</name><path>/g:top/g:pair[g:one='g:red'][g:two=$USER]/g:inner[g:id="7"]</path><action>permit</action></rule>`+
		`<rule><name>b</name><path>/</path><action>permit</action></rule>`+
		`<rule><name>c</name><path>/g:top/g:word[.='a/b:c']</path><action>deny</action></rule></rule-list></nacm>`)
	text := codec.Writer{Schema: s}.Append([]byte("<config>"), tree)
	again, err := codec.Read(s, append(text, "</config>"...))
	if err != nil {
		t.Fatal(err)
	}
	same := func(how string, b *data.Container) {
		t.Helper()
		data.Diff(tree, b, func(c data.Change) { t.Errorf("%s: %s differs: %v", how, c.Path, c.New) })
	}
	same(string(text), again)
	js := codec.Writer{Schema: s}.AppendJSON(nil, tree)
	if again, err = codec.ReadJSON(s, js); err != nil {
		t.Fatal(err, string(js))
	}
	same(string(js), again)
}
