package xpath

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

type prefixes map[string]*yang.Module

func (p prefixes) ModuleOf(s string) *yang.Module { return p[s] }

var fixture = sync.OnceValues(func() (*Engine, error) {
	s, err := yang.Load(yang.Options{Dirs: []string{"testdata"}}, "t", "u")
	if err != nil {
		return nil, err
	}
	return New(s)
})

func engine(t testing.TB) *Engine {
	t.Helper()
	g, err := fixture()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tree(t testing.TB) *data.Container {
	t.Helper()
	b, err := os.ReadFile("testdata/data.xml")
	if err != nil {
		t.Fatal(err)
	}
	s := engine(t).schema
	root, err := codec.Edit(s, data.New(s), b, data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func names(g *Engine) prefixes {
	return prefixes{"t": g.schema.Modules["t"], "u": g.schema.Modules["u"]}
}

// show gives a result as the tables write it.
func show(e *Eval, x *Expr, at *Instance) (string, error) {
	switch x.root.kind() {
	case kBool:
		v, err := e.Bool(x, at)
		return fmt.Sprint(v), err
	case kNumber:
		v, err := e.Number(x, at)
		return fromNumber(v), err
	case kString:
		v, err := e.String(x, at)
		return fmt.Sprintf("%q", v), err
	}
	var out []string
	err := e.Each(x, at, func(n *Instance) bool {
		p := n.Path().String()
		if n.text {
			p += "/text()"
		}
		if p == "" {
			p = "/"
		}
		out = append(out, strings.TrimPrefix(p, "/t:top"))
		return true
	})
	return "{" + strings.Join(out, ", ") + "}", err
}

// TestTable evaluates the lines of testdata/eval.txt: a context path after @,
// then expressions with their results.
func TestTable(t *testing.T) {
	g := engine(t)
	e := g.On(tree(t))
	b, err := os.ReadFile("testdata/eval.txt")
	if err != nil {
		t.Fatal(err)
	}
	at := e.Root()
	n := 0
	for no, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if p, ok := strings.CutPrefix(line, "@ "); ok {
			dp, err := data.ParsePath(g.schema.Root, strings.TrimSuffix(p, "/"))
			if err != nil {
				t.Fatalf("line %d: %v", no+1, err)
			}
			if at = e.At(dp); at == nil {
				t.Fatalf("line %d: no %s", no+1, p)
			}
			continue
		}
		text, want, ok := strings.Cut(line, "  =>  ")
		if !ok {
			t.Fatalf("line %d: no =>", no+1)
		}
		n++
		x, err := g.Statement(yang.Expr{Text: text, Ctx: g.schema.Modules["t"]}, at.Schema)
		if at.Schema.Kind == yang.Root {
			c := &compiler{engine: g, text: text, at: at.Schema, ns: names(g), anyModule: true}
			x, err = c.compile()
		}
		if err != nil {
			if want != "error" {
				t.Errorf("line %d: %v", no+1, err)
			}
			continue
		}
		if got, err := show(e, x, at); err != nil || got != want {
			t.Errorf("line %d: %s\n got %s %v\nwant %s", no+1, text, got, err, want)
		}
	}
	t.Log(n, "expressions")
}

// TestErrors: what is no expression says where, and never panics.
func TestErrors(t *testing.T) {
	g := engine(t)
	deep := strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300)
	for _, c := range []struct{ text, say string }{
		{"", "an expression is wanted"},
		{"/t:top[", "an expression is wanted"},
		{"/t:top]", "unexpected"},
		{"/t:top/", "a step is wanted"},
		{"/nope:top", `the prefix "nope" means no module`},
		{"$x", "no variables"},
		{"foo(1)", `no function "foo"`},
		{"t:count(/)", "no function"},
		{"count(1)", "must be a node set"},
		{"count(/, /)", "does not take 2"},
		{"current(1)", "does not take 1"},
		{"1 2", "unexpected"},
		{"1 | 2", "must be node sets"},
		{"1[1]", "only a node set"},
		{"'open", "no end"},
		{"bogus::a", "no axis"},
		{"/t:top/t:", "no name after the prefix"},
		{"a b", "an operator is wanted"},
		{"1 +", "an expression is wanted"},
		{"!", "unexpected"},
		{"re-match('a', '(')", "missing closing"},
		{deep, "nested deeper"},
		{strings.Repeat("[", 70_000), "longer than"},
		{strings.Repeat("1+", 12_000) + "1", "more than"},
		{strings.Repeat("a[", 250), "nested deeper"},
		{"\xff", "not UTF-8"},
		{"true()", "not a node set"},
	} {
		_, err := g.Filter(c.text, names(g))
		var xe *Error
		if !errors.As(err, &xe) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%.40q: %v, want %s", c.text, err, c.say)
		}
	}
	if x, err := g.Filter(strings.Repeat("-", 60_000)+"1", names(g)); err == nil || x != nil {
		t.Error("a number is no filter")
	}
	if x, err := g.Filter("/t:top/t:a["+strings.Repeat("-", 60_000)+"1]", names(g)); err != nil || x == nil {
		t.Error("many signs are but one:", err)
	}
}

// TestSteps: an evaluation that would take forever ends.
func TestSteps(t *testing.T) {
	g := engine(t)
	e := g.On(tree(t))
	e.Steps = 10_000
	for _, text := range []string{"//*[count(//*[count(//*) > 1]) > 1]", "//*[//*[//* = 'x'] = 'y']", "//*/preceding::*/following::*/preceding::*"} {
		x, err := g.Filter(text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Each(x, e.Root(), func(*Instance) bool { return true }); err != ErrSteps {
			t.Errorf("%s: %v", text, err)
		}
	}
	// these only look expensive
	for _, text := range []string{
		"/t:top/t:a" + strings.Repeat("/../t:a", 300),
		"/t:top" + strings.Repeat("//.", 100),
		"/t:top/t:a[" + strings.Repeat("1 + ", 3000) + "1 > 3000]",
		"/t:top/t:a[" + strings.Repeat("false() or ", 3000) + "true()]",
		strings.Repeat("(", 150) + "/t:top/t:a" + strings.Repeat(")", 150),
	} {
		x, err := g.Filter(text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := e.Each(x, e.Root(), func(*Instance) bool { n++; return true }); err != nil && !strings.Contains(text, "//.") || n < 3 && err == nil {
			t.Errorf("%.30s: %d nodes, %v", text, n, err)
		}
	}
	x, err := g.Filter("/t:top/t:a", names(g))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := e.Each(x, e.Root(), func(*Instance) bool { n++; return true }); err != nil || n != 3 {
		t.Error("the next evaluation has its own budget:", n, err)
	}
}

// TestReads: what an expression reads, and from which common ancestor.
func TestReads(t *testing.T) {
	g := engine(t)
	find := func(p string) *yang.Node {
		n := g.schema.Find(p)
		if n == nil {
			t.Fatal(p)
		}
		return n
	}
	for _, c := range []struct {
		at, text string
		want     string // schema name < anchor name
	}{
		{"/t:top/a/n", ". > ../on", "on<a n<n"},
		{"/t:top/a/n", "../../ul[id = current()]/t", "n<n ul<top id<top t<top"},
		{"/t:top/a/n", "/top/a[name = current()/../peer]/n", "top<(root) a<(root) name<(root) n<(root) peer<a"},
		{"/t:top/a", "b/v > 1 or count(b) = 0", "b<a v<a"},
		{"/t:top/a/opt", "string(.) = ''", "opt<opt x<opt y<opt"},
		{"/t:top/a", "not(pres)", "pres<a"},
		{"/t:top/a/peer", "deref(.)/../n", "top<(root) a<(root) name<(root) n<(root) peer<peer"},
		{"/t:top/a/tag", "preceding-sibling::tag = .", "tag<a"},
	} {
		x, err := g.Statement(yang.Expr{Text: c.text, Ctx: g.schema.Modules["t"]}, find(c.at))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, d := range x.Reads {
			name := func(n *yang.Node) string {
				if n.Kind == yang.Root {
					return "(root)"
				}
				return n.Name
			}
			got[name(d.Node)+"<"+name(d.Anchor)] = true
		}
		for _, w := range strings.Fields(c.want) {
			if !got[w] {
				t.Errorf("%s: %s is missing in %v", c.text, w, got)
			}
			delete(got, w)
		}
		if len(got) > 0 || x.ReadsAll || len(x.Unknown) > 0 {
			t.Errorf("%s: reads also %v %v %v", c.text, got, x.ReadsAll, x.Unknown)
		}
	}
	x, err := g.Statement(yang.Expr{Text: "deref(where)/x", Ctx: g.schema.Modules["t"]}, find("/t:top/a"))
	if err != nil || !x.ReadsAll {
		t.Error("an instance-identifier may lead anywhere:", err)
	}
	x, err = g.Statement(yang.Expr{Text: "nope = 1", Ctx: g.schema.Modules["t"]}, find("/t:top/a"))
	if err != nil || !slices.Equal(x.Unknown, []string{"nope"}) {
		t.Error("unknown names are told:", x.Unknown, err)
	}
}

// TestLookup: keys in predicates are looked up, not searched.
func TestLookup(t *testing.T) {
	g := engine(t)
	s := g.schema
	var b strings.Builder
	b.WriteString(`<config><top xmlns="urn:t">`)
	for i := range 5000 {
		fmt.Fprintf(&b, `<a><name>n%d</name><n>%d</n><peer>n%d</peer></a><ul><id>%d</id></ul><order>o%d</order>`, i, i, 4999-i, i, i)
	}
	b.WriteString(`</top></config>`)
	root, err := codec.Edit(s, data.New(s), []byte(b.String()), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	e := g.On(root)
	e.Steps = 60
	for _, text := range []string{
		"/t:top/t:a[t:name='n4711']/t:n",
		"/t:top/t:a['n4711' = t:name and t:n > 3]/t:n",
		"/t:top/t:a[t:n > 3][t:name='n4711'][1]/t:n",
		"/t:top/t:a[t:name = /t:top/t:a[t:name='n288']/t:peer]/t:n",
		"/t:top/t:a[t:name = concat('n', '4711')]/t:n",
		"/top/a[name='n4711']/t:n",
		"/t:top/t:ul[t:id = 4711]/t:id",
		"/t:top/t:ul[t:id = '04711']/t:id",
		"/t:top/t:order[. = 'o4711']",
	} {
		x, err := g.Filter(text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := e.Each(x, e.Root(), func(i *Instance) bool { n++; return strings.Contains(i.Path().String(), "4711") }); err != nil || n != 1 {
			t.Errorf("%s: %d nodes, %v", text, n, err)
		}
	}
	x, err := g.Filter("/t:top/t:a[t:n='4711']", names(g))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Each(x, e.Root(), func(*Instance) bool { return true }); err != ErrSteps {
		t.Error("the limit of this test sees no scan:", err)
	}
}

// TestConcurrent: one engine serves any number of goroutines (run with -race).
func TestConcurrent(t *testing.T) {
	g, root := engine(t), tree(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				x, err := g.Filter("//t:a[re-match(t:name, 't.*')]/t:peer | /t:top/t:a[t:name='one']", names(g))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := g.Select(root, x, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
