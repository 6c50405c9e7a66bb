package datastore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

var schema = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{Dirs: []string{"testdata/yang"}}, "vr-store")
})

func load(t testing.TB) (*yang.Schema, *validate.Validator) {
	t.Helper()
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

const boxOpen = `<config xmlns:nc="` + nsNetconf + `" xmlns:yang="` + nsYang + `"><box xmlns="urn:vrouter:test:store" xmlns:st="urn:vrouter:test:store">`

// edit applies the content of <box>.
func edit(t testing.TB, root *data.Container, box string) *data.Container {
	t.Helper()
	s, _ := load(t)
	n, err := codec.Edit(s, root, []byte(boxOpen+box+`</box></config>`), data.Merge)
	if err != nil {
		t.Fatalf("%v\n%s", err, box)
	}
	return n
}

func text(t testing.TB, root *data.Container) string {
	t.Helper()
	s, _ := load(t)
	return string(codec.Writer{Schema: s}.Append(nil, root))
}

// replayed checks that the delta of two trees makes one of the other.
func replayed(t testing.TB, a, b *data.Container) string {
	t.Helper()
	s, _ := load(t)
	x := appendDelta(nil, codec.Writer{Schema: s}, a, b)
	got, err := codec.Edit(s, a, x, data.None)
	if err != nil {
		t.Fatalf("%v\nfrom %s\nto %s\nby %s", err, text(t, a), text(t, b), x)
	}
	if differ(got, b) || text(t, got) != text(t, b) {
		t.Fatalf("got %s\nwant %s\nfrom %s\nby %s", text(t, got), text(t, b), text(t, a), x)
	}
	return string(x)
}

func TestDelta(t *testing.T) {
	s, _ := load(t)
	empty := data.New(s)
	order := func(ids ...string) string {
		var b strings.Builder
		for _, id := range ids {
			fmt.Fprintf(&b, `<rule><id>%s</id></rule>`, strings.NewReplacer("<", "&lt;", "&", "&amp;").Replace(id))
		}
		return b.String()
	}
	for _, c := range []struct{ name, from, to string }{
		{"nothing", `<counter>1</counter>`, `<counter>1</counter>`},
		{"leaf", `<counter>1</counter>`, `<counter>2</counter>`},
		{"leaf goes", `<counter>1</counter><twin>1</twin>`, `<twin>1</twin>`},
		{"all goes", `<counter>1</counter>`, ``},
		{"entry", `<item><name>a</name></item>`, `<item><name>a</name></item><item><name>b</name><value>&lt;&amp;&gt;"'</value></item>`},
		{"deep", `<item><name>a</name><plain><deep><x>1</x><y>st:cat</y></deep></plain></item>`,
			`<item><name>a</name><plain><deep><x>1</x><y>st:cat</y><z/></deep><deep><x>1</x><y>st:dog</y></deep></plain></item>`},
		{"another case", `<item><name>a</name><a>x</a></item>`, `<item><name>a</name><b><x>1</x></b></item>`},
		{"the case before", `<item><name>a</name><d><y>1</y><z>1</z></d></item>`, `<item><name>a</name><a>x</a></item>`},
		{"leaf-list case", `<item><name>a</name><c>1</c><c>2</c></item>`, `<item><name>a</name><d><z>1</z></d></item>`},
		{"presence", `<item><name>a</name><opt><v>1</v></opt></item>`, `<item><name>a</name><opt/></item>`},
		{"identity", `<item><name>a</name><pet>st:cat</pet></item>`, `<item><name>a</name><pet>st:dog</pet></item>`},
		{"order turns round", order("1", "2", "3", "4"), order("4", "3", "2", "1")},
		{"first to last", order("1", "2", "3", "4"), order("2", "3", "4", "1")},
		{"new between", order("1", "2"), order("1", "a", "b", "2", "c")},
		{"new, gone and moved", order("1", "2", "3", "4", "5"), order("x", "5", "1", "y", "z", "4")},
		{"first ever", ``, order("3", "1", "2")},
		{"keys with quotes", order("it's", `"q"`, "plain"), order("plain", `"q"`, "n", "it's", "m")},
		{"a key that no literal can say", order(`'"`, "a", "b"), order("b", `'"`, "new", "a")},
		{"keys with blanks", order("a\tb", "c]d", "<&"), order("<&", "x", "c]d", "y", "a\tb", "z")},
		{"identity keys", `<pair><a>st:cat</a><b>1</b></pair><pair><a>st:dog</a><b>1</b></pair>`,
			`<pair><a>st:dog</a><b>1</b><v>w</v></pair><pair><a>st:cat</a><b>2</b></pair><pair><a>st:cat</a><b>1</b></pair>`},
		{"leaf-lists", `<order>1</order><order>2</order><set>b</set><pets>st:cat</pets><pets>st:dog</pets>`,
			`<order>2</order><order>it's "3"</order><order>1</order><set>a</set><pets>st:dog</pets><pets>st:cat</pets>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := edit(t, empty, c.from), edit(t, empty, c.to)
			replayed(t, a, b)
			replayed(t, b, a)
			replayed(t, empty, a)
		})
	}
}

// TestDeltaIsSmall: the edit holds what changed, whatever else is there.
func TestDeltaIsSmall(t *testing.T) {
	s, _ := load(t)
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, `<item><name>n%d</name><value>x</value></item><rule><id>r%d</id></rule>`, i, i)
	}
	a := edit(t, data.New(s), b.String())
	for _, change := range []string{
		`<item><name>n7</name><value>y</value></item>`,
		`<item nc:operation="delete"><name>n7</name></item>`,
		`<rule yang:insert="after" yang:key="[st:id='r5']"><id>new</id></rule>`,
		`<rule yang:insert="before" yang:key="[st:id='r5']"><id>r2999</id></rule>`,
	} {
		if x := replayed(t, a, edit(t, a, change)); len(x) > 600 {
			t.Errorf("%d bytes for %s:\n%.1000s", len(x), change, x)
		}
	}
}

// TestDeltaRandom walks through random edits and checks the way between any
// two states.
func TestDeltaRandom(t *testing.T) {
	s, _ := load(t)
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 2))
		states := []*data.Container{data.New(s)}
		for range 25 {
			n := states[r.IntN(len(states))]
			for range 1 + r.IntN(12) {
				n = edit(t, n, randomBox(r))
			}
			states = append(states, n)
		}
		for range 60 {
			replayed(t, states[r.IntN(len(states))], states[r.IntN(len(states))])
		}
	}
}

func randomBox(r *rand.Rand) string {
	var b strings.Builder
	ops := []string{"", "", "", ` nc:operation="replace"`, ` nc:operation="remove"`}
	op := func() string { return ops[r.IntN(len(ops))] }
	pet := func() string { return []string{"st:cat", "st:dog"}[r.IntN(2)] }
	value := func() string { return []string{"x", "y", "&lt;tag/&gt; &amp; \"q\" 'q'", " blank ", ""}[r.IntN(5)] }
	switch r.IntN(8) {
	case 0:
		fmt.Fprintf(&b, `<counter%s>%d</counter>`, op(), r.IntN(3))
	case 1, 2:
		fmt.Fprintf(&b, `<item%s><name>n%d</name>`, op(), r.IntN(9))
		switch r.IntN(9) {
		case 0:
			fmt.Fprintf(&b, `<value%s>%s</value>`, op(), value())
		case 1:
			fmt.Fprintf(&b, `<pet%s>%s</pet>`, op(), pet())
		case 2:
			fmt.Fprintf(&b, `<a%s>%s</a>`, op(), value())
		case 3:
			fmt.Fprintf(&b, `<b%s><x>%s</x></b>`, op(), value())
		case 4:
			fmt.Fprintf(&b, `<c%s>%d</c>`, op(), r.IntN(3))
		case 5:
			fmt.Fprintf(&b, `<d><y%s>%s</y><z>%s</z></d>`, op(), value(), value())
		case 6:
			fmt.Fprintf(&b, `<opt%s/>`, op())
		case 7:
			fmt.Fprintf(&b, `<plain%s><v>%s</v></plain>`, op(), value())
		case 8:
			fmt.Fprintf(&b, `<plain><deep%s><x>%d</x><y>%s</y></deep></plain>`, op(), r.IntN(3), pet())
		}
		b.WriteString(`</item>`)
	case 3, 4:
		id := []string{"1", "2", "3", "4", "5", "it's", "&quot;", "'&quot;"}[r.IntN(8)]
		where := []string{"", ` yang:insert="first"`, ` yang:insert="last"`}[r.IntN(3)]
		fmt.Fprintf(&b, `<rule%s%s><id>%s</id><act>%s</act></rule>`, where, op(), id, value())
	case 5:
		where := []string{"", ` yang:insert="first"`, ` yang:insert="last"`}[r.IntN(3)]
		fmt.Fprintf(&b, `<pair%s%s><a>%s</a><b>%d</b></pair>`, where, op(), pet(), r.IntN(3))
	case 6:
		where := []string{"", ` yang:insert="first"`, ` yang:insert="last"`}[r.IntN(3)]
		fmt.Fprintf(&b, `<order%s%s>%s</order>`, where, op(), value())
	case 7:
		fmt.Fprintf(&b, `<set%s>%s</set><pets yang:insert="first"%s>%s</pets>`, op(), value(), op(), pet())
	}
	return b.String()
}
