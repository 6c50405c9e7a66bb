package codec_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// seed adds the files of that name in all cases of a folder of testdata.
func seed(f *testing.F, in, name string) {
	files, _ := filepath.Glob(filepath.Join("testdata", in, "*", name))
	if len(files) == 0 {
		f.Fatal("no seeds in ", in)
	}
	for _, p := range files {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// parses has another reader look at what was written.
func parses(t *testing.T, text []byte) {
	d := xml.NewDecoder(bytes.NewReader(append(append([]byte("<d>"), text...), "</d>"...)))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
	}
}

func equal(t *testing.T, what string, a, b *data.Container) {
	data.Diff(a, b, func(c data.Change) { t.Fatalf("%s: %s differs", what, c.Path) })
}

// FuzzEdit: an edit fails with an error that has a tag, or gives a tree that
// comes back from its XML and its JSON, and again from the same edit.
func FuzzEdit(f *testing.F) {
	seed(f, "edit", "edit.xml")
	f.Add(interfaces(2))
	s := loadExample(f)
	std := load(f)
	before, err := os.ReadFile("testdata/edit/before.xml")
	if err != nil {
		f.Fatal(err)
	}
	base, err := codec.Edit(s, data.New(s), before, data.Merge)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tryEdit(t, s, base, b)
		tryEdit(t, std, data.New(std), b)
	})
}

func tryEdit(t *testing.T, s *yang.Schema, base *data.Container, b []byte) {
	for _, op := range []data.Op{data.Merge, data.None, data.Replace} {
		tree, err := codec.Edit(s, base, b, op)
		if err != nil {
			var e *data.Error
			if !errors.As(err, &e) || e.Tag == "" || tree != nil {
				t.Fatalf("%T %v", err, err)
			}
			continue
		}
		w := codec.Writer{Schema: s}
		text := w.Append(nil, tree)
		parses(t, text)
		again, err := codec.Edit(s, data.New(s), append(append([]byte("<d>"), text...), "</d>"...), data.Merge)
		if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		equal(t, "XML", tree, again)
		j := w.AppendJSON(nil, tree)
		if again, err = codec.EditJSON(s, data.New(s), j); err != nil {
			t.Fatalf("%v in %q", err, j)
		}
		equal(t, "JSON", tree, again)
		data.Diff(base, tree, func(c data.Change) {
			if p, err := data.ParsePath(s.Root, c.Path.String()); err != nil || p.String() != c.Path.String() {
				t.Fatalf("path %s: %v", c.Path, err)
			}
		})
	}
}

// FuzzFilter: what a filter selects is well-formed, comes back when it is read,
// and is the same when all is taken away that the filter says it does not want.
func FuzzFilter(f *testing.F) {
	seed(f, "filter", "filter.xml")
	s := loadExample(f)
	b, err := os.ReadFile("testdata/filter/data.xml")
	if err != nil {
		f.Fatal(err)
	}
	tree, err := codec.Read(s, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fl, err := codec.ParseFilter(s, b)
		if err != nil {
			return
		}
		for _, m := range []codec.Mode{codec.Explicit, codec.ReportAll, codec.Trim, codec.ReportAllTagged} {
			w := codec.Writer{Schema: s, Mode: m, Hide: hideSecrets}
			out := w.AppendFiltered(nil, tree, fl)
			parses(t, out)
			if bytes.Contains(out, []byte("k1")) {
				t.Fatalf("a secret in %s", out)
			}
			if _, err := codec.Read(s, append(append([]byte("<d>"), out...), "</d>"...)); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
		}
		wanted(t, s, "filter", fl, tree)
	})
}

// FuzzInput: operations are read to their end or refused with a tag.
func FuzzInput(f *testing.F) {
	seed(f, "rpc", "rpc.xml")
	f.Add([]byte(`<e:start><e:id>x</e:id><e:target><e:spare/></e:target><e:config><a xmlns="q">t</a></e:config></e:start>`))
	s := loadExample(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		lx, err := codec.NewLexer([]byte(rpcHead+string(b)+`</nc:rpc>`), s.ModuleByNS)
		if err != nil {
			return
		}
		lx.Next()
		if k, err := lx.Next(); err != nil || k != codec.Start {
			return
		}
		in, err := codec.ReadInput(s, lx)
		if err != nil {
			var e *data.Error
			if !errors.As(err, &e) || e.Tag == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		for _, n := range in.Op.Input().Data {
			if raw, ok := in.Raw(n); ok {
				c, err := raw.Content()
				if err != nil {
					t.Fatal(err)
				}
				parses(t, []byte(c))
			}
		}
	})
}

// FuzzJSON: what is read comes back from XML and JSON.
func FuzzJSON(f *testing.F) {
	s := loadExample(f)
	for _, m := range []string{"explicit", "report-all"} {
		b, err := os.ReadFile("testdata/defaults/" + m + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"example:server":[{"port":2,"name":"b"}],"example:all":{"where":"/example:server[name='x'][port='1']/weight","mark":[null]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := codec.ReadJSON(s, b)
		if err != nil {
			var e *data.Error
			if !errors.As(err, &e) || e.Tag == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		w := codec.Writer{Schema: s}
		again, err := codec.ReadJSON(s, w.AppendJSON(nil, tree))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "JSON", tree, again)
		parses(t, w.Append(nil, tree))
	})
}
