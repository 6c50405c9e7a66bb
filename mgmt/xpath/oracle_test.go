package xpath

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// TestAgainstLibxml2 evaluates random XPath 1.0 expressions here and with
// libxml2 (by python3-lxml) on the same document.
func TestAgainstLibxml2(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import lxml").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs python3-lxml: ", err)
		}
		t.Skip("needs python3-lxml: ", err)
	}
	g := engine(t)
	top := g.schema.Find("/t:top")
	full := tree(t)
	p := data.Pick(full)
	p.Add(&data.Path{Schema: top})
	e := g.On(p.Tree())

	// the accessible tree as a document, nodes numbered in document order
	var doc strings.Builder
	index := map[string]int{}
	var write func(i *Instance)
	write = func(i *Instance) {
		index[i.Path().String()] = len(index)
		fmt.Fprintf(&doc, `<%s xmlns="%s">`, i.Schema.Name, i.Schema.Module.Namespace)
		if v, ok := e.Value(i); ok {
			xml.EscapeText(&doc, []byte(v.Text))
		}
		e.children(i, func(k *Instance) bool { write(k); return true })
		fmt.Fprintf(&doc, "</%s>", i.Schema.Name)
	}
	e.left = e.Steps
	e.children(e.root, func(k *Instance) bool { write(k); return true })

	n := 3000
	if testing.Short() {
		n = 300
	}
	r := generator{rand.New(rand.NewPCG(1, 2))}
	var texts []string
	for range n {
		text := r.top()
		for libxml2Errs.MatchString(text) {
			text = r.top()
		}
		texts = append(texts, text)
	}
	dir := t.TempDir()
	docFile, exprFile := filepath.Join(dir, "doc.xml"), filepath.Join(dir, "exprs")
	if err := os.WriteFile(docFile, []byte(doc.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exprFile, []byte(strings.Join(texts, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "testdata/oracle.py", docFile, exprFile).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := json.Unmarshal(out, &want); err != nil || len(want) != n {
		t.Fatal(err, len(want))
	}
	at := e.At(&data.Path{Schema: top}) // lxml begins at the root element
	nonEmpty, bad := 0, 0
	for i, text := range texts {
		c := &compiler{engine: g, text: text, at: top, ns: names(g), anyModule: true}
		x, err := c.compile()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		switch x.root.kind() {
		case kBool:
			v, _ := e.Bool(x, at)
			got = fmt.Sprint(v)
		case kNumber:
			v, _ := e.Number(x, at)
			var w float64
			fmt.Sscanf(want[i], "n:%g", &w)
			got = "n:" + fmt.Sprint(v)
			if v == w {
				got = want[i]
			}
		case kString:
			v, _ := e.String(x, at)
			got = "s:" + v
		default:
			var ids []string
			err := e.Each(x, at, func(m *Instance) bool {
				switch {
				case m.text:
					ids = append(ids, fmt.Sprint("t", index[m.Path().String()]))
				case m.Up != nil: // lxml does not show the root
					ids = append(ids, fmt.Sprint("e", index[m.Path().String()]))
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			got = strings.Join(ids, " ")
		}
		if want[i] != "" && want[i] != "false" {
			nonEmpty++
		}
		if want[i] == "error" { // position() and last() outside predicates
			continue
		}
		if got != want[i] {
			if bad++; bad < 6 {
				t.Errorf("%s\n    here %q\nlibxml2 %q", text, got, want[i])
			}
		}
	}
	t.Logf("%d of %d differ; %d say more than nothing", bad, n, nonEmpty)
	if nonEmpty < n/3 {
		t.Error("too few of the expressions find anything")
	}
}

// TestTouches: what Touches names is enough to answer a filter. The schema is
// testdata's without defaults and with presence everywhere, as state is.
func TestTouches(t *testing.T) {
	dir := t.TempDir()
	for _, m := range []string{"t.yang", "u.yang"} {
		b, err := os.ReadFile(filepath.Join("testdata", m))
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`default [^;]*;`).ReplaceAllString(string(b), "")
		text = regexp.MustCompile(`presence [^;]*;`).ReplaceAllString(text, "")
		text = regexp.MustCompile(`container [^{]*{`).ReplaceAllString(text, "$0 presence p;")
		if err := os.WriteFile(filepath.Join(dir, m), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := yang.Load(yang.Options{Dirs: []string{dir}}, "t", "u")
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/data.xml")
	if err != nil {
		t.Fatal(err)
	}
	full, err := codec.Edit(s, data.New(s), b, data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	w := codec.Writer{Schema: s}
	r := generator{rand.New(rand.NewPCG(5, 6))}
	parts := 0
	for range 3000 {
		text := r.set(3)
		x, err := g.Filter(text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		pk := data.Pick(full)
		for _, p := range x.Touches() {
			addAll(pk, full, p)
		}
		part := pk.Tree()
		a, err := g.Select(full, x, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Select(part, x, false)
		if err != nil {
			t.Fatal(err)
		}
		if string(w.Append(nil, a)) != string(w.Append(nil, b)) {
			t.Fatalf("%s: Touches %v is not all", text, x.Touches())
		}
		if part != full && len(a.Kids()) > 0 {
			parts++
		}
	}
	t.Log(parts, "of 3000 filters answered from a part of the tree")
	if parts < 300 {
		t.Error("too few")
	}
	for text, want := range map[string]string{
		"/t:top/t:a[t:name='one']/t:b": "/t:top/a[name='one']/b",
		"/top/a[name='one' or n > 1]":  "/t:top/a",
		"/top/ul[id='05'] | /other":    "/t:top/ul[id='5'] /t:other",
		"//t:b/t:v":                    "/t:top/a/b/v",
		"//t:k2":                       "/t:top/a/b/k2",
		"/t:top/t:ul/../t:order":       "/t:top/ul /t:top/order",
		"//*":                          "/t:top /t:other",
		"//*/preceding::t:a":           "all",
		"/nonsense":                    "",
		"/":                            "all",
	} {
		x, err := g.Filter(text, names(g))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range x.Touches() {
			if got = append(got, p.String()); p == nil {
				got[len(got)-1] = "all"
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s touches %s, want %s", text, got, want)
		}
	}
}

// libxml2Errs finds what libxml2 does not do as the standard says: it takes
// "//." for "/descendant::node()" and reads "1e" as a number.
var libxml2Errs = regexp.MustCompile(`//\.([^.]|$)|'1', 'e'`)

// addAll picks a path in which steps may mean all entries.
func addAll(p *data.Picker, c *data.Container, at *data.Path) {
	if at == nil {
		p.Add(nil)
		return
	}
	var steps []*data.Path
	for q := at; q != nil; q = q.Up {
		steps = append([]*data.Path{q}, steps...)
	}
	var walk func(c *data.Container, up *data.Path, steps []*data.Path)
	walk = func(c *data.Container, up *data.Path, steps []*data.Path) {
		st := steps[0]
		one := func(n data.Node, q *data.Path) {
			if sub, ok := n.(*data.Container); ok && len(steps) > 1 {
				walk(sub, q, steps[1:])
			} else if n != nil && len(steps) == 1 {
				p.Add(q)
			}
		}
		switch n := c.Child(st.Schema).(type) {
		case *data.List:
			n.Each(func(key string, k data.Node) bool {
				if !st.Entry || st.Key == key {
					one(k, &data.Path{Up: up, Schema: st.Schema, Key: key, Entry: true})
				}
				return true
			})
		case nil:
		default:
			one(n, &data.Path{Up: up, Schema: st.Schema})
		}
	}
	walk(c, nil, steps)
}

// generator makes random expressions over testdata/t.yang.
type generator struct{ r *rand.Rand }

func (g generator) pick(s ...string) string { return s[g.r.IntN(len(s))] }

func (g generator) top() string {
	if g.r.IntN(3) > 0 {
		return g.set(3)
	}
	return g.pick(g.boolean(3), g.number(3), g.str(2))
}

func (g generator) name() string {
	return g.pick("t:a", "t:a", "t:a", "t:b", "t:b", "t:n", "u:n", "t:name", "t:name", "u:name", "t:on", "t:tag", "t:level", "t:opt", "t:x", "t:y",
		"t:pres", "t:k1", "t:k2", "t:v", "t:ul", "t:id", "t:t", "t:order", "u:deep", "t:p", "t:q", "t:r", "*", "*", "t:*", "u:*", "node()", "text()")
}

func (g generator) set(d int) string {
	if d == 0 {
		return g.pick("/t:top/t:a", "//t:b", "//t:n", ".", "..", "*", "/t:top/t:ul")
	}
	var s string
	switch g.r.IntN(8) {
	case 0:
		return g.set(d-1) + " | " + g.set(d-1)
	case 1:
		s = "(" + g.set(d-1) + ")" + g.preds(d-1)
	case 2, 3, 4:
		s = "/t:top/" + g.step(d)
	case 5:
		s = "//" + g.step(d)
	case 6:
		s = "/t:top/t:a" + g.preds(d-1)
	default:
		s = g.step(d)
	}
	for range g.r.IntN(3) {
		s += g.pick("/", "/", "/", "//") + g.step(d)
	}
	return s
}

func (g generator) step(d int) string {
	switch g.r.IntN(10) {
	case 0:
		return ".."
	case 1:
		return "."
	case 2, 3, 4:
		return g.pick("child", "descendant", "descendant-or-self", "parent", "ancestor", "ancestor-or-self", "following", "preceding",
			"following-sibling", "preceding-sibling", "self") + "::" + g.name() + g.preds(d-1)
	}
	return g.name() + g.preds(d-1)
}

func (g generator) preds(d int) (s string) {
	if d <= 0 {
		return ""
	}
	for range g.r.IntN(5) / 2 {
		s += "[" + g.pick("1", "2", "last()", "position() > 1", g.boolean(d-1), g.boolean(d-1), g.set(d-1), "t:name='one'", "t:name='two'", "t:k1='x'", "t:k2=2", "t:n",
			"t:name='three' and t:n > 2", "t:id=1", "not(t:n)", ".='red'", "t:name = /t:top/t:a/t:peer") + "]"
	}
	return s
}

func (g generator) boolean(d int) string {
	if d <= 0 {
		return g.pick("true()", "t:n", "t:on='true'", ". = 'x'", "position()=1", "t:k2 < 2")
	}
	switch g.r.IntN(7) {
	case 0:
		return g.boolean(d-1) + g.pick(" and ", " or ") + g.boolean(d-1)
	case 1:
		return "not(" + g.boolean(d-1) + ")"
	case 2:
		return g.set(d-1) + g.pick(" = ", " != ", " < ", " <= ", " > ", " >= ") + g.pick(g.number(d-1), g.str(d-1), g.str(0), g.set(d-1))
	case 3:
		return g.number(d-1) + g.pick(" = ", " != ", " < ", " > ") + g.number(d-1)
	case 4:
		return g.pick("contains", "starts-with") + "(" + g.str(d-1) + ", " + g.str(d-1) + ")"
	case 5:
		return "boolean(" + g.set(d-1) + ")"
	}
	return g.set(d-1) + " = " + g.pick("'one'", "'two'", "'x'", "1", "'true'", "true()")
}

func (g generator) number(d int) string {
	if d <= 0 {
		return g.pick("1", "2", "3", "0.5", "30", "position()", "last()")
	}
	switch g.r.IntN(6) {
	case 0:
		return g.number(d-1) + g.pick(" + ", " - ", " * ") + g.number(d-1)
	case 1, 2:
		return "count(" + g.set(d-1) + ")"
	case 3:
		return g.pick("floor", "ceiling", "round") + "(" + g.number(d-1) + ")"
	case 4:
		return "string-length(" + g.str(d-1) + ")"
	}
	return "sum(" + g.pick("t:n", "//t:n", "/t:top/t:ul/t:id", "//t:v") + ")"
}

func (g generator) str(d int) string {
	if d <= 0 {
		return g.pick("'one'", "'two'", "'x'", "'1'", "'e'", "'true'", "string()", "local-name()")
	}
	switch g.r.IntN(5) {
	case 0:
		return "concat(" + g.str(d-1) + ", " + g.str(d-1) + ")"
	case 1:
		return "substring(" + g.str(d-1) + ", " + g.pick("1", "2", "0") + ", " + g.pick("1", "2", "9") + ")"
	case 2:
		return "translate(" + g.str(d-1) + ", 'eon', 'E')"
	case 3:
		return g.pick("substring-before", "substring-after") + "(" + g.str(d-1) + ", " + g.str(0) + ")"
	}
	return "string(" + g.set(d-1) + ")"
}
