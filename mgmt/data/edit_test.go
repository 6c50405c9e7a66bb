package data_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

func node(t testing.TB, path string) *yang.Node {
	t.Helper()
	n := load(t).Find(path)
	if n == nil {
		t.Fatal("no node ", path)
	}
	return n
}

// changes lists a diff as text.
func changes(a, b *data.Container) (r []string) {
	data.Diff(a, b, func(c data.Change) {
		r = append(r, []string{"created ", "deleted ", "modified ", "moved "}[c.Kind]+c.Path.String())
	})
	return r
}

// TestState: a server puts state into a tree that it shares with readers.
func TestState(t *testing.T) {
	running := read(t, `<all><name>n</name></all><server><name>a</name><port>1</port></server>`)
	e := data.Begin(running)
	server, stats, hits := node(t, "/example:server"), node(t, "/example:server/stats"), node(t, "/example:server/stats/hits")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "only-operational"} {
		keys := []yang.Value{{Text: name, Type: server.Keys[0].Type}, {Text: "1", Type: server.Keys[1].Type}}
		must(e.EnterEntry(server, keys, data.Merge, data.Where{}))
		must(e.Enter(stats, data.Merge))
		must(e.Set(hits, "12"))
		e.Leave()
		e.Leave()
	}
	must(e.Enter(node(t, "/example:all"), data.Merge))
	log, text := node(t, "/example:all/log"), node(t, "/example:all/log/text")
	for i := range 300 {
		must(e.EnterEntry(log, nil, data.Merge, data.Where{}))
		must(e.Set(text, fmt.Sprint("line ", i)))
		e.Leave()
	}
	must(e.Set(node(t, "/example:all/up"), "true"))
	must(e.Set(node(t, "/example:all/seen"), "x"))
	must(e.Set(node(t, "/example:all/seen"), "x"))
	must(e.Set(node(t, "/example:all/kind"), "example-more:dog"))
	err, _ := e.Set(node(t, "/example:all/up"), "maybe").(*data.Error)
	if err == nil || err.Tag != "invalid-value" || err.Path != "/example:all/up" {
		t.Fatal(err)
	}
	e.Leave()
	tree := e.Done()
	if data.Text(tree, "/example:all/log[300]/text") != "line 299" || data.Text(tree, "/example:server[name='only-operational'][port='1']/stats/hits") != "12" ||
		data.Text(tree, "/example:all/kind") != "example-more:dog" || data.Text(tree, "/example:all/name") != "n" {
		t.Fatal("what was put in is not there")
	}
	i := 0
	tree.Sub(node(t, "/example:all")).List(log).Each(func(_ string, n data.Node) bool {
		v, _, _ := n.(*data.Container).Value(text)
		if v.Text != fmt.Sprint("line ", i) {
			t.Fatalf("line %d is %q", i, v.Text)
		}
		i++
		return true
	})
	if got := changes(read(t, `<all><name>n</name></all><server><name>a</name><port>1</port></server>`), running); got != nil {
		t.Fatal("the running tree has changed", got)
	}
}

func TestValues(t *testing.T) {
	dns := node(t, "/example:all/dns")
	all := node(t, "/example:all")
	text := func(c *data.Container) (s string) {
		v, explicit := c.Values(dns)
		for _, x := range v {
			s += x.Text + " "
		}
		return fmt.Sprint(s, explicit)
	}
	if got := text(data.NewAt(all)); got != "192.0.2.1 192.0.2.2 false" {
		t.Error(got)
	}
	if got := text(read(t, `<all><dns>x</dns></all>`).Sub(all)); got != "x true" {
		t.Error(got)
	}
	// A union's default has the type of its member.
	mixed := node(t, "/example:all/mixed")
	if v, _, ok := data.NewAt(all).Value(mixed); !ok || v.Type.Base != yang.Enumeration {
		t.Error(v, ok)
	}
	// The default case counts while the choice is empty.
	left := node(t, "/example:all/left")
	for xml, want := range map[string]bool{"<name>x</name>": true, "<right>r</right>": false, "<left2>z</left2>": true} {
		if _, _, ok := read(t, "<all>"+xml+"</all>").Sub(all).Value(left); ok != want {
			t.Error(xml, ok)
		}
	}
}

// TestMoves: entries that have another place are reported; a list that is
// written anew in the same order has none.
func TestMoves(t *testing.T) {
	s := load(t)
	rank := node(t, "/example:all/rank")
	build := func(from *data.Container, order ...string) *data.Container {
		e := data.Begin(from)
		e.Enter(rank.Up, data.Replace)
		for _, o := range order {
			e.Leaf(rank, yang.Value{Text: o, Type: rank.Type}, data.Merge, data.Where{})
		}
		e.Leave()
		return e.Done()
	}
	a := build(data.New(s), "a", "b", "c", "d")
	for _, c := range []struct {
		order string
		want  []string
	}{
		{"abcd", nil},
		{"acd", []string{"deleted /example:all/rank[.='b']"}},
		{"xabcd", []string{"created /example:all/rank[.='x']"}},
		{"xacdy", []string{"deleted /example:all/rank[.='b']", "created /example:all/rank[.='x']", "created /example:all/rank[.='y']"}},
	} {
		if got := changes(a, build(a, strings.Split(c.order, "")...)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.order, got)
		}
	}
	if got := changes(a, build(a, "b", "a", "c", "d")); len(got) < 2 || !strings.HasPrefix(got[0], "moved ") {
		t.Errorf("%q", got)
	}
	// A move in place reports that entry alone.
	e := data.Begin(a)
	e.Enter(rank.Up, data.Merge)
	e.Leaf(rank, yang.Value{Text: "d", Type: rank.Type}, data.Merge, data.Where{Insert: "first"})
	e.Leave()
	if got := changes(a, e.Done()); !slices.Equal(got, []string{"moved /example:all/rank[.='d']"}) {
		t.Errorf("%q", got)
	}
}

// TestSamePointer: random edits that write what is there, in every way, give
// the same tree.
func TestSamePointer(t *testing.T) {
	root := read(t, `<all><name>n</name><rank>a</rank><rank>b</rank><rank>c</rank><tag>x</tag><present/><left>l</left></all><server><name>a</name><port>1</port><path><id>p</id></path></server>`)
	rank, tag, name, server, path := node(t, "/example:all/rank"), node(t, "/example:all/tag"), node(t, "/example:all/name"), node(t, "/example:server"), node(t, "/example:server/path")
	r := rand.New(rand.NewPCG(1, 2))
	val := func(n *yang.Node, s string) yang.Value { return yang.Value{Text: s, Type: n.Type} }
	for range 200 {
		e := data.Begin(root)
		steps := []func() error{
			func() error { return e.Leaf(rank, val(rank, "a"), data.Merge, data.Where{Insert: "first"}) },
			func() error { return e.Leaf(rank, val(rank, "b"), data.Merge, data.Where{Insert: "after", Key: "a"}) },
			func() error { return e.Leaf(rank, val(rank, "b"), data.Merge, data.Where{Insert: "before", Key: "c"}) },
			func() error { return e.Leaf(rank, val(rank, "c"), data.Replace, data.Where{Insert: "last"}) },
			func() error { return e.Leaf(rank, val(rank, "a"), data.Merge, data.Where{}) },
			func() error { return e.Leaf(tag, val(tag, "x"), data.Merge, data.Where{}) },
			func() error { return e.Leaf(tag, val(tag, "zz"), data.Remove, data.Where{}) },
			func() error { return e.Leaf(name, val(name, "n"), data.Replace, data.Where{}) },
			func() error { defer e.Leave(); return e.Enter(node(t, "/example:all/present"), data.Merge) },
			func() error { defer e.Leave(); return e.Enter(node(t, "/example:all/empty-one"), data.Merge) },
			func() error { defer e.Leave(); return e.Enter(node(t, "/example:all/right-box"), data.Merge) },
		}
		if err := e.Enter(rank.Up, data.Merge); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if err := steps[r.IntN(len(steps))](); err != nil {
				t.Fatal(err)
			}
		}
		e.Leave()
		e.EnterEntry(server, []yang.Value{val(server.Keys[0], "a"), val(server.Keys[1], "1")}, data.Merge, data.Where{})
		e.EnterEntry(path, []yang.Value{val(path.Keys[0], "p")}, data.Merge, data.Where{})
		e.Leave()
		e.Leave()
		if e.Done() != root {
			t.Fatal("an edit without effect gave another tree")
		}
	}
}
