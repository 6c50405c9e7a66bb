package codec_test

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// TestEditCases runs each folder of testdata/edit: edit.xml on the tree of
// before.xml gives want.xml or the error in the file of that name. The file
// default-operation stands where it is not merge. An edit without effect must
// give the same tree, and has no want.xml.
func TestEditCases(t *testing.T) {
	s := loadExample(t)
	for _, dir := range cases(t, "edit") {
		before, err := codec.Edit(s, data.New(s), []byte(file(t, dir, "before.xml")), data.Merge)
		if err != nil {
			t.Fatal(err)
		}
		as := pretty(s, before)
		def := map[string]data.Op{"": data.Merge, "none": data.None, "replace": data.Replace}[strings.TrimSpace(file(t, dir, "default-operation"))]
		after, err := codec.Edit(s, before, []byte(file(t, dir, "edit.xml")), def)
		want := ""
		if err == nil && after != before {
			want = pretty(s, after)
		}
		golden(t, dir, "want.xml", want)
		golden(t, dir, "error", complain(t, err))
		if pretty(s, before) != as {
			t.Fatalf("%s: the tree before has changed", dir)
		}
		if err != nil {
			if after != nil {
				t.Fatalf("%s: a tree beside the error", dir)
			}
			continue
		}
		if again, err := codec.Read(s, []byte("<data>"+want+"</data>")); err != nil || want != "" && pretty(s, again) != want {
			t.Errorf("%s: does not come back as it was written: %v", dir, err)
		}
		wellFormed(t, dir, want)
	}
}

// wellFormed has another reader look at XML, for its namespaces as well.
func wellFormed(t *testing.T, where, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader("<data>" + text + "</data>"))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, text)
			return
		}
	}
}

// hideSecrets is what a user without special rights sees.
func hideSecrets(n *yang.Node) bool { return n.Secret() }

// TestFilterCases runs each folder of testdata/filter: filter.xml selects
// want.xml from data.xml. The file mode names a with-defaults mode. Secrets
// are hidden.
func TestFilterCases(t *testing.T) {
	s := loadExample(t)
	for _, dir := range cases(t, "filter") {
		tree, err := codec.Read(s, []byte(file(t, dir, "data.xml")))
		if err != nil {
			t.Fatal(err)
		}
		f, err := codec.ParseFilter(s, []byte(file(t, dir, "filter.xml")))
		if err != nil {
			t.Fatal(dir, err)
		}
		w := codec.Writer{Schema: s, Indent: "  ", Hide: hideSecrets}
		if m := strings.TrimSpace(file(t, dir, "mode")); m != "" {
			w.Mode, _ = codec.ParseMode(m)
		}
		got := string(w.AppendFiltered(nil, tree, f))
		golden(t, dir, "want.xml", got)
		if strings.Contains(got, "k1") {
			t.Errorf("%s: a secret is shown", dir)
		}
		wellFormed(t, dir, got)

		// The compact form says the same.
		w.Indent = ""
		flat := string(w.AppendFiltered(nil, tree, f))
		if again, err := codec.Read(s, []byte("<data>"+flat+"</data>")); err != nil {
			t.Errorf("%s: %v\n%s", dir, err, flat)
		} else if p := pretty(s, again); w.Mode == codec.Explicit && p != got {
			t.Errorf("%s: compact and indented differ:\n%s\n%s", dir, flat, p)
		}
		wanted(t, s, dir, f, tree)
	}
}

// wanted checks the answers for state sources: what a filter selects of a tree
// may not change when everything is taken out that nobody may want.
func wanted(t *testing.T, s *yang.Schema, dir string, f *codec.Filter, tree *data.Container) {
	e := data.Begin(data.New(s))
	var copyKids func(c *data.Container)
	copyNode := func(n data.Node) {
		sn := n.Schema()
		if !f.Subtree(sn) {
			return
		}
		switch n := n.(type) {
		case *data.Leaf:
			if !sn.IsKey() {
				e.Leaf(sn, n.Value, data.Merge, data.Where{})
			}
		case *data.Container:
			e.Enter(sn, data.Merge)
			copyKids(n)
			e.Leave()
		case *data.List:
			keys, all := f.Keys(sn)
			n.Each(func(key string, k data.Node) bool {
				if l, ok := k.(*data.Leaf); ok {
					e.Leaf(sn, l.Value, data.Merge, data.Where{})
					return true
				}
				in := all
				for _, x := range keys {
					in = in || x == key
				}
				if in {
					var vals []yang.Value
					for _, kn := range sn.Keys {
						v, _, _ := k.(*data.Container).Value(kn)
						vals = append(vals, v)
					}
					e.EnterEntry(sn, vals, data.Merge, data.Where{})
					copyKids(k.(*data.Container))
					e.Leave()
				}
				return true
			})
		}
	}
	copyKids = func(c *data.Container) {
		for _, k := range c.Kids() {
			copyNode(k)
		}
	}
	copyKids(tree)
	w := codec.Writer{Schema: s, Indent: "  "}
	if a, b := string(w.AppendFiltered(nil, tree, f)), string(w.AppendFiltered(nil, e.Done(), f)); a != b {
		t.Errorf("%s: with what is wanted only:\n%s\nwith everything:\n%s", dir, b, a)
	}
}

// TestDefaults writes one tree in all modes of RFC 6243.
func TestDefaults(t *testing.T) {
	s := loadExample(t)
	tree, err := codec.Read(s, []byte(file(t, "testdata/defaults", "data.xml")))
	if err != nil {
		t.Fatal(err)
	}
	on := s.Find("/example:all/on")
	for _, m := range []codec.Mode{codec.Explicit, codec.ReportAll, codec.Trim, codec.ReportAllTagged} {
		asked := 0
		w := codec.Writer{Schema: s, Indent: "  ", Mode: m, When: func(p *data.Path, n *yang.Node) bool {
			asked++ // the only condition: cond exists while on is true
			c := p.In(tree).(*data.Container)
			v, _, _ := c.Value(on)
			return n.Name == "cond" && v.Text == "true"
		}}
		got := string(w.Append(nil, tree))
		golden(t, "testdata/defaults", m.String()+".xml", got)
		golden(t, "testdata/defaults", m.String()+".json", string(w.AppendJSON(nil, tree)))
		wellFormed(t, m.String(), got)
		if all := m == codec.ReportAll || m == codec.ReportAllTagged; all != (asked > 0) {
			t.Errorf("%s: asked for conditions %d times", m, asked)
		}
		if parsed, ok := codec.ParseMode(m.String()); !ok || parsed != m {
			t.Error("mode", m)
		}
		// What is tagged or trimmed must not come back as set.
		if m == codec.ReportAllTagged {
			again, err := codec.Read(s, []byte("<data>"+got+"</data>"))
			if err != nil {
				t.Fatal(err)
			}
			data.Diff(tree, again, func(c data.Change) { t.Errorf("%s: %v", c.Path, c.Kind) })
		}
	}
	if _, ok := codec.ParseMode("all"); ok {
		t.Error("an unknown mode")
	}
	// Under conditions that nobody answers for, defaults are left out.
	if got := string(codec.Writer{Schema: s, Mode: codec.ReportAll}.Append(nil, data.New(s))); strings.Contains(got, "<cond") || !strings.Contains(got, "<mtu>1500") {
		t.Error(got)
	}
}
