package xpath

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

// outline writes a picked tree: ~ marks defaults, … containers of which only a
// part was picked.
func outline(n data.Node) string {
	var kids []data.Node
	head := n.Schema().Name
	switch n := n.(type) {
	case *data.Implied:
		return "~" + head + "=" + n.Value.Text
	case *data.Leaf:
		return head + "=" + n.Value.Text
	case *data.List:
		var all []string
		n.Each(func(_ string, e data.Node) bool { all = append(all, outline(e)); return true })
		return strings.Join(all, " ")
	case *data.Container:
		kids = n.Kids()
		if n.Partial() {
			head += "…"
		}
	}
	var all []string
	for _, k := range kids {
		all = append(all, outline(k))
	}
	return head + "(" + strings.Join(all, " ") + ")"
}

func TestSelect(t *testing.T) {
	g, root := engine(t), tree(t)
	for _, c := range []struct{ text, set, all string }{
		{"/t:top/t:a/t:b[t:k2=2]", "…(top…(a…(name=one b(k1=x k2=2 v=2.25))))", "="},
		{"/t:top/t:a[t:name='two']/t:on", "…()", "…(top…(a…(name=two ~on=true)))"},
		{"/t:top/t:a[t:n=2]/t:n | //t:b[t:v<0]", "…(top…(a…(name=two n=2 b(k1=x k2=1 v=-3.0))))", "="},
		{"/t:top/t:ul[t:t]/t:id", "…(top…(ul…(id=9) ul…(id=1)))", "="},
		{"/t:top/t:ul[position() > 1]", "…(top…(ul(id=1 t=one) ul(id=5)))", "="},
		{"/t:top/t:order[. != 'middle']", "…(top…(order=first order=last))", "="},
		{"/t:top/t:a[t:name='three']/t:opt", "…()", "…(top…(a…(name=three opt…(~x=dx))))"},
		{"/t:top/t:a[t:name='three']/t:level", "…()", "…(top…(a…(name=three ~level=3 ~level=5)))"},
		{"/t:top/t:a/t:name[. = 'one']/text()", "…(top…(a…(name=one)))", "="},
		{"//t:v/.. | //t:v", "…(top…(a…(name=one b(k1=x k2=1 v=1.5) b(k1=x k2=2 v=2.25)) a…(name=two b(k1=x k2=1 v=-3.0))))", "="},
		{"/t:top/t:a[t:name='one']/t:b/t:v | /t:top/t:a[t:name='one']/t:b", "…(top…(a…(name=one b(k1=x k2=1 v=1.5) b(k1=x k2=2 v=2.25))))", "="},
		{"/nothing", "…()", "="},
		{"/t:other/t:ref[2]", "…(other…(ref=two))", "="}, // sorted by the system
	} {
		x, err := g.Filter(c.text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		if c.all == "=" {
			c.all = c.set
		}
		for _, defaults := range []bool{false, true} {
			got, err := g.Select(root, x, defaults)
			if err != nil {
				t.Fatal(err)
			}
			want := c.set
			if defaults {
				want = c.all
			}
			if o := outline(got); o != want {
				t.Errorf("%s defaults=%v\n got %s\nwant %s", c.text, defaults, o, want)
			}
		}
	}
	x, err := g.Filter("/", names(g))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := g.Select(root, x, true); err != nil || got != root {
		t.Error("the root is the tree itself", err)
	}
	x, _ = g.Filter("/t:top/t:a[t:name='one']", names(g))
	got, err := g.Select(root, x, true)
	if err != nil {
		t.Fatal(err)
	}
	find := func(r *data.Container) data.Node {
		n, err := data.Find(r, "/t:top/a[name='one']")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if find(got) == nil || find(got) != find(root) {
		t.Error("what is selected whole is shared")
	}
}

// FuzzCompile: any text gives an expression or an error; an expression ends.
func FuzzCompile(f *testing.F) {
	b, err := os.ReadFile("testdata/eval.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		if text, _, ok := strings.Cut(l, "  =>  "); ok {
			f.Add(text)
		}
	}
	for _, s := range []string{"((((1))))", "a[b[c[d]]]", "- - - 1", "$x", "'", "a::b", "//", "/.", ".//.", "@*", "a*b", "* * *", "and and and", "div div div", "1.", ".5", "t:*", "a:b:c", "\x00", "ä/ö"} {
		f.Add(s)
	}
	g := engine(f)
	root := tree(f)
	a := g.schema.Find("/t:top/a")
	f.Fuzz(func(t *testing.T, text string) {
		e := g.On(root)
		e.Steps = 20_000
		if x, err := g.Filter(text, names(g)); err == nil {
			x.Touches()
			if err := e.Each(x, e.Root(), func(*Instance) bool { return true }); err != nil && err != ErrSteps {
				t.Fatal(err)
			}
		} else if x != nil || err.Error() == "" {
			t.Fatal("an error and an expression")
		}
		c := &compiler{engine: g, text: text, at: a, ns: names(g), own: g.schema.Modules["t"]}
		x, err := c.compile()
		if err != nil {
			return
		}
		at := e.Child(e.At(&data.Path{Schema: a.Up}), a, "one")
		if _, err := e.Bool(x, at); err != nil && err != ErrSteps {
			t.Fatal(err)
		}
	})
}

func BenchmarkXPath(b *testing.B) {
	g := engine(b)
	var x strings.Builder
	x.WriteString(`<config><top xmlns="urn:t">`)
	for i := range 10_000 {
		fmt.Fprintf(&x, `<a><name>n%d</name><n>%d</n></a>`, i, i)
	}
	x.WriteString(`</top></config>`)
	root, err := codec.Edit(g.schema, data.New(g.schema), []byte(x.String()), data.Merge)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, text string }{
		{"compile+select/one-key", "/t:top/t:a[t:name='n5000']"},
		{"compile+select/scan", "/t:top/t:a[t:n=5000]"},
		{"compile+select/all", "//*"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, err := g.Filter(c.text, names(g))
				if err != nil {
					b.Fatal(err)
				}
				if _, err = g.Select(root, f, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
