package nacm

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// naive is RFC 8341 section 3.4.5 step by step, over the configuration itself:
// paths are compared as texts.
type naive struct {
	s     *yang.Schema
	rules []naiveRule
	user  string
}

type naiveRule struct{ module, path, access, action string }

// steps are the prefixes of a path, in the form of data.Path.
func steps(at *data.Path) (list []*data.Path) {
	for ; at != nil; at = at.Up {
		list = append([]*data.Path{at}, list...)
	}
	return list
}

// matches tells whether a rule's path names the node or one above it.
func (n *naive) matches(rule string, at *data.Path) bool {
	if rule == "" || rule == "/" {
		return true
	}
	want := strings.Split(rule[1:], "/")
	have := steps(at)
	if len(want) > len(have) {
		return false
	}
	for i, w := range want {
		name, preds, _ := strings.Cut(w, "[")
		p := have[i]
		if name != "g:"+p.Schema.Name {
			return false
		}
		if preds == "" {
			continue
		}
		text := p.String()
		text = text[strings.LastIndexByte(text, '/'):]
		for _, pr := range strings.Split("["+preds, "[")[1:] {
			pr = strings.ReplaceAll(strings.ReplaceAll(pr, "$USER", "'"+n.user+"'"), "g:red", "guarded:red")
			if pr = "[" + pr; !p.Entry || !strings.Contains(text, pr) {
				return false
			}
		}
	}
	return true
}

func (n *naive) permits(a Access, at *data.Path) bool {
	for _, r := range n.rules {
		if (r.module == "*" || r.module == at.Schema.Module.Name) && n.matches(r.path, at) && (r.access == "*" || strings.Contains(r.access, a.String())) {
			return r.action == "permit"
		}
	}
	for s := at.Schema; s != nil; s = s.Up {
		if s.DenyAll || s.DenyWrite && a != Read {
			return false
		}
	}
	return a == Read
}

func (n *naive) reads(at *data.Path) bool {
	for _, p := range steps(at) {
		if !n.permits(Read, p) {
			return false
		}
		if p.Entry && p.Schema.Kind == yang.List {
			for _, k := range p.Schema.Keys {
				if !n.permits(Read, &data.Path{Up: p, Schema: k}) {
					return false
				}
			}
		}
	}
	return true
}

// each visits all nodes of a tree.
func each(c *data.Container, at *data.Path, f func(*data.Path, data.Node)) {
	for _, k := range c.Kids() {
		p := &data.Path{Up: at, Schema: k.Schema()}
		switch k := k.(type) {
		case *data.List:
			k.Each(func(key string, e data.Node) bool {
				p := &data.Path{Up: at, Schema: k.S, Key: key, Entry: true}
				f(p, e)
				if c, ok := e.(*data.Container); ok {
					each(c, p, f)
				}
				return true
			})
		case *data.Container:
			f(p, k)
			each(k, p, f)
		default:
			f(p, k)
		}
	}
}

func randomTree(r *rand.Rand) string {
	var b strings.Builder
	maybe := func(s string) {
		if r.IntN(2) == 0 {
			b.WriteString(s)
		}
	}
	b.WriteString(`<top xmlns="urn:test:guarded">`)
	maybe(fmt.Sprintf("<open>%d</open>", r.IntN(2)))
	maybe(fmt.Sprintf("<fixed>%d</fixed>", r.IntN(2)))
	maybe("<vault><gold>bars</gold></vault>")
	for _, two := range []string{"a", "b", "eve"} {
		if r.IntN(3) == 0 {
			continue
		}
		fmt.Fprintf(&b, "<pair><one>g:red</one><two>%s</two>", two)
		maybe(fmt.Sprintf("<text>%d</text>", r.IntN(2)))
		for id := range 3 {
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "<inner><id>%d</id>", id)
				maybe("<text>some</text>")
				b.WriteString("</inner>")
			}
		}
		b.WriteString("</pair>")
	}
	maybe("<word>one</word>")
	maybe("<word>two</word>")
	b.WriteString("</top>")
	return b.String()
}

var somePaths = []string{"", "/", "/g:top", "/g:top/g:open", "/g:top/g:fixed", "/g:top/g:vault", "/g:top/g:vault/g:gold", "/g:top/g:pair",
	"/g:top/g:pair[two='a']", "/g:top/g:pair[one='g:red'][two='b']", "/g:top/g:pair[two=$USER]", "/g:top/g:pair/g:text", "/g:top/g:pair[two='a']/g:text",
	"/g:top/g:pair/g:inner", "/g:top/g:pair/g:inner[id='1']", "/g:top/g:pair[two='b']/g:inner[id='1']", "/g:top/g:pair[two=$USER]/g:inner/g:text",
	"/g:top/g:pair/g:inner[id='2']/g:id", "/g:top/g:pair[two='b']/g:one", "/g:top/g:word", "/g:top/g:word[.='two']"}

func randomRules(r *rand.Rand) (n naive, xml string) {
	var b strings.Builder
	b.WriteString(`<rule-list><name>l</name><group>user</group>`)
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	for i := range 1 + r.IntN(6) {
		x := naiveRule{module: pick("*", "*", "*", "guarded", "ietf-interfaces"), path: somePaths[r.IntN(len(somePaths))],
			access: pick("*", "read", "read", "read", "create delete", "update read"), action: pick("permit", "deny")}
		n.rules = append(n.rules, x)
		fmt.Fprintf(&b, "<rule><name>%d</name><module-name>%s</module-name>", i, x.module)
		if x.path != "" {
			fmt.Fprintf(&b, "<path>%s</path>", strings.ReplaceAll(strings.ReplaceAll(x.path, "[two", "[g:two"), "[one", "[g:one"))
		}
		fmt.Fprintf(&b, "<access-operations>%s</access-operations><action>%s</action></rule>", x.access, x.action)
	}
	b.WriteString(`</rule-list>`)
	n.user = "eve"
	return n, b.String()
}

// What a pruned tree shows, and what a write is refused for, equals what the
// steps of the RFC say node by node.
func TestLikeTheRFC(t *testing.T) {
	s := schema(t)
	r := rand.New(rand.NewPCG(8341, 1))
	refused, hidden := 0, 0
	for i := range 1000 {
		n, rules := randomRules(r)
		n.s = s
		v := policy(t, rules).View(User{Name: "eve", Groups: []string{"user"}})
		old, new := read(t, randomTree(r)), read(t, randomTree(r))

		want := map[string]bool{}
		each(old, nil, func(p *data.Path, _ data.Node) {
			if n.reads(p) {
				want[p.String()] = true
			} else {
				hidden++
			}
			if v.MayRead(p) != n.reads(p) {
				t.Fatalf("%s\n%s: MayRead is %t", rules, p, v.MayRead(p))
			}
		})
		for _, marks := range []bool{false, true} {
			got := map[string]bool{}
			pruned := v.Prune(old, nil, marks)
			each(pruned, nil, func(p *data.Path, x data.Node) {
				if _, mark := x.(*data.Hidden); !mark {
					got[p.String()] = true
				}
			})
			for p := range got {
				if !want[p] {
					t.Fatalf("%s\n%s is shown, marks %t", rules, p, marks)
				}
			}
			for p := range want { // a container without presence goes when nothing is left in it
				if !got[p] && data.Text(old, p) != "" {
					t.Fatalf("%s\n%s is not shown, marks %t", rules, p, marks)
				}
			}
			// Nor do defaults speak for what is hidden.
			text := string(codec.Writer{Schema: s, Mode: codec.ReportAll, Hide: hide(v)}.Append(nil, pruned))
			if open := at(t, "/guarded:top/open"); marks && strings.Contains(text, "<open>yes") && !n.reads(open) {
				t.Fatalf("%s\na default in the place of what is hidden: %s", rules, text)
			}
		}

		var denied []string
		data.Diff(old, new, func(c data.Change) {
			check := func(a Access, p *data.Path, x data.Node) {
				implied := p.Schema.Kind == yang.Container && !p.Schema.Presence
				if !implied && !n.permits(a, p) {
					denied = append(denied, p.String())
				}
			}
			switch c.Kind {
			case data.Modified:
				check(Update, c.Path, c.New)
			case data.Created, data.Deleted:
				a, x := Create, c.New
				if c.Kind == data.Deleted {
					a, x = Delete, c.Old
				}
				check(a, c.Path, x)
				if sub, ok := x.(*data.Container); ok {
					each(sub, c.Path, func(p *data.Path, x data.Node) { check(a, p, x) })
				}
			}
		})
		errs := v.Writes(old, new)
		if (len(errs) > 0) != (len(denied) > 0) {
			t.Fatalf("%s\ndenied %v, wanted %v", rules, errs, denied)
		}
		for _, e := range errs {
			refused++
			if e.Tag != "access-denied" || e.Path == "" {
				t.Fatal(e)
			}
			p, err := data.ParsePath(s.Root, e.Path)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range steps(p) {
				if x.Entry && !n.reads(x) {
					t.Fatalf("%s\nthe error names %s, which may not be read", rules, x)
				}
			}
		}
		if i == 0 && len(errs) == 0 && hidden == 0 {
			continue
		}
	}
	if refused < 500 || hidden < 500 {
		t.Errorf("only %d refusals and %d hidden nodes: the test is too tame", refused, hidden)
	}
}

func hide(v *View) func(*yang.Node) bool {
	h, _ := v.Hidden()
	return h
}

// Who is under no rule that says no has no tables, and a tree that may be read
// whole costs nothing to prune.
func TestUnrestrictedCostsNothing(t *testing.T) {
	tree := read(t, randomTree(rand.New(rand.NewPCG(1, 1))))
	v := policy(t, "").View(User{Name: "alice", Groups: []string{Admin}})
	if !v.Unrestricted() || v.tables[1].t != nil {
		t.Error("an admin without rules has tables")
	}
	if n := testing.AllocsPerRun(10, func() { v.Prune(tree, nil, true); v.Hidden(); v.Writes(tree, nil) }); n != 0 {
		t.Error(n, "allocations")
	}
}

func BenchmarkPrune(b *testing.B) {
	var x strings.Builder
	x.WriteString(`<top xmlns="urn:test:guarded">`)
	for i := range 10_000 {
		fmt.Fprintf(&x, "<pair><one>g:red</one><two>%d</two><text>t</text></pair>", i)
	}
	x.WriteString("</top>")
	tree := read(b, x.String())
	v := policy(b, `<rule-list xmlns:g="urn:test:guarded"><name>l</name><group>user</group><rule><name>r</name><path>/g:top/g:pair[g:two='77']</path><action>deny</action></rule></rule-list>`).
		View(User{Name: "eve", Groups: []string{"user"}})
	for b.Loop() {
		v.Prune(tree, nil, true)
	}
}
