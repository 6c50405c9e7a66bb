package codec_test

import (
	"flag"
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

var update = flag.Bool("update", false, "write what is found as what is wanted")

// standard is some of the standard modules, without deviations.
var standard = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{FS: modules.FS}, "ietf-interfaces", "ietf-ip", "ietf-routing",
		"ietf-ipv4-unicast-routing", "ietf-ipv6-unicast-routing", "iana-if-type")
})

// example is a module with a node of every kind, and one that augments it.
var example = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{FS: os.DirFS("testdata/modules")}, "example", "example-more")
})

func load(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadExample(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := example()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const head = `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`

// edit merges XML into a tree of the standard modules.
func edit(t testing.TB, root *data.Container, xml string) *data.Container {
	t.Helper()
	r, err := codec.Edit(load(t), root, []byte(head+xml+"</config>"), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t testing.TB, root *data.Container) string {
	return string(codec.Writer{Schema: load(t)}.Append(nil, root))
}

const ifs = `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">`

func wrap(s string) string { return ifs + s + `</interfaces>` }

// cases gives the folders below a folder of testdata.
func cases(t *testing.T, in string) (dirs []string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join("testdata", in))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.IsDir() {
			dirs = append(dirs, filepath.Join("testdata", in, d.Name()))
		}
	}
	if len(dirs) == 0 {
		t.Fatal("no cases in", in)
	}
	return dirs
}

// file reads a file of a case, or of the folder of all cases; "" when there is
// none.
func file(t *testing.T, dir, name string) string {
	t.Helper()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		b, err := os.ReadFile(filepath.Join(d, name))
		if err == nil {
			return string(b)
		}
		if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return ""
}

// golden compares with a file of a case; with -update it writes it. got "" means no file.
func golden(t *testing.T, dir, name, got string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if *update {
		if got == "" {
			os.Remove(path)
		} else if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(string(b), "\n"); want != got {
		t.Errorf("%s:\n got %s\nwant %s", path, got, want)
	}
}

// pretty writes a tree for people.
func pretty(s *yang.Schema, root *data.Container) string {
	return string(codec.Writer{Schema: s, Indent: "  "}.Append(nil, root))
}

// complain writes an error without its message: that is for people, and may
// change.
func complain(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := err.(*data.Error)
	if !ok {
		t.Fatalf("not a data.Error: %v", err)
	}
	if e.Msg == "" {
		t.Error("an error without a message")
	}
	s := "error-type " + e.Type
	if e.Type == "" {
		s += "application"
	}
	s += "\nerror-tag " + e.Tag
	if e.AppTag != "" {
		s += "\nerror-app-tag " + e.AppTag
	}
	if e.Path != "" {
		s += "\nerror-path " + e.Path
	}
	for _, i := range e.Info {
		s += "\n" + i.Name + " " + i.Value
	}
	return s
}
