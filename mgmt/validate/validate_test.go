package validate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

var fixture = sync.OnceValues(func() (*Validator, error) {
	s, err := yang.Load(yang.Options{Dirs: []string{"testdata"}}, "v")
	if err != nil {
		return nil, err
	}
	return New(s)
})

func validator(t testing.TB) *Validator {
	t.Helper()
	v, err := fixture()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func edit(t testing.TB, v *Validator, root *data.Container, xml string) *data.Container {
	t.Helper()
	r, err := codec.Edit(v.schema, root, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`+xml+`</config>`), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func print(v *Validator, root *data.Container) string {
	return string(codec.Writer{Schema: v.schema}.Append(nil, root))
}

// lines gives errors as the cases write them: tag, app-tag, path, info.
func lines(errs data.Errors) []string {
	var out []string
	for _, e := range errs {
		app := e.AppTag
		if app == "" {
			app = "-"
		}
		l := e.Tag + " " + app + " " + e.Path
		for _, i := range e.Info {
			if i.Name != "bad-element" {
				l += " " + i.Name + "=" + i.Value
			}
		}
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// TestCases runs testdata/cases: an edit on a valid start, and the errors or
// the tree wanted. The same errors must come from validating the whole.
func TestCases(t *testing.T) {
	v := validator(t)
	if u := v.Unknown(); len(u) > 0 {
		t.Error("unknown names:", u)
	}
	files, _ := filepath.Glob("testdata/cases/*.txt")
	if len(files) < 50 {
		t.Fatal("no cases")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, text, _ := strings.Cut(string(b), "-- start --\n")
			start, text, _ := strings.Cut(text, "-- edit --\n")
			change, want, _ := strings.Cut(text, "-- want --\n")
			old := edit(t, v, data.New(v.schema), start)
			refs, errs := v.All(old)
			if len(errs) > 0 {
				t.Fatal("start: ", errs)
			}
			new := edit(t, v, old, change)
			out, outRefs, errs := v.Change(old, new, refs)
			want, tree, hasTree := strings.Cut(strings.TrimSuffix(want, "\n"), "\ntree ")
			if want != "ok" {
				wanted := strings.Split(want, "\n")
				for i, w := range wanted {
					if wanted[i], _, _ = strings.Cut(w, " The "); wanted[i] != w && !strings.HasSuffix(w, errs[0].Msg) {
						t.Errorf("message %q", errs[0].Msg)
					}
				}
				slices.Sort(wanted)
				if got := lines(errs); !slices.Equal(got, wanted) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
				}
				_, all := v.All(new)
				got := lines(all)
				if errs[0].Tag == "unknown-element" { // to All everything is sent
					got = slices.DeleteFunc(got, func(l string) bool { return !slices.Contains(wanted, l) })
				}
				if !slices.Equal(got, lines(errs)) {
					t.Errorf("as a whole:\n%s", strings.Join(lines(all), "\n"))
				}
				return
			}
			if len(errs) > 0 {
				t.Fatal(lines(errs))
			}
			if hasTree {
				if w := print(v, edit(t, v, data.New(v.schema), tree)); print(v, out) != w {
					t.Errorf("got  %s\nwant %s", print(v, out), w)
				}
			} else if out != new {
				t.Errorf("changed to %s", print(v, out))
			}
			all, errs := v.All(out)
			if len(errs) > 0 {
				t.Error("as a whole:", lines(errs))
			}
			if fmt.Sprint(counts(all)) != fmt.Sprint(counts(outRefs)) {
				t.Errorf("refs %v\nas a whole %v", counts(outRefs), counts(all))
			}
		})
	}
}

// TestStateIsNotChecked: what the server reports is never refused.
func TestStateIsNotChecked(t *testing.T) {
	v := validator(t)
	st := v.schema.Find("/v:state")
	e := data.Begin(data.New(v.schema))
	if err := e.Enter(st, data.Merge); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ref", "off"} {
		if err := e.Set(st.ChildByName(name), "nobody"); err != nil {
			t.Fatal(err)
		}
	}
	e.Leave()
	root := e.Done()
	refs, errs := v.All(root)
	if len(errs) > 0 || len(counts(refs)) > 0 {
		t.Error(errs, counts(refs))
	}
	if out, _, errs := v.Change(root, data.New(v.schema), refs); len(errs) > 0 || out == nil {
		t.Error(errs)
	}
}

// TestWhen is a candidate that is edited step by step: each edit is judged by
// the conditions at once, the rest waits for the validation.
func TestWhen(t *testing.T) {
	v := validator(t)
	c := edit(t, v, data.New(v.schema), `<net xmlns="urn:v"><if><name>a</name><type>eth</type><speed>7</speed></if></net>`)
	for _, s := range []struct{ xml, errs, tree string }{
		{`<net xmlns="urn:v"><if><name>a</name><tag><id>1</id></tag></if></net>`, "unknown-element - /v:net/if[name='a']/tag", ""},
		// vlan needs a parent, which is no matter yet; the speed goes
		{`<net xmlns="urn:v"><if><name>a</name><type>vlan</type><tag><id>1</id></tag></if></net>`, "",
			`<net xmlns="urn:v"><if><name>a</name><type>vlan</type><tag><id>1</id></tag></if></net>`},
		{`<net xmlns="urn:v"><if><name>a</name><type>eth</type></if></net>`, "", `<net xmlns="urn:v"><if><name>a</name><type>eth</type></if></net>`},
	} {
		out, errs := v.When(c, edit(t, v, c, s.xml))
		if got := strings.Join(lines(errs), "\n"); got != s.errs {
			t.Errorf("%s: %s", s.xml, got)
		}
		if len(errs) == 0 {
			if c = out; print(v, c) != print(v, edit(t, v, data.New(v.schema), s.tree)) {
				t.Errorf("%s gives %s", s.xml, print(v, c))
			}
		}
	}
	if out, errs := v.When(c, c); out != c || len(errs) > 0 {
		t.Error("no change, no work")
	}
}

// TestConcurrent: one Validator serves any number of goroutines (run with
// -race).
func TestConcurrent(t *testing.T) {
	v := validator(t)
	old := edit(t, v, data.New(v.schema), start)
	refs, errs := v.All(old)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	new := edit(t, v, old, `<net xmlns="urn:v"><if><name>e0</name><type>loop</type><mtu>60</mtu></if></net>`)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, _, errs := v.Change(old, new, refs); len(errs) != 1 || !strings.HasSuffix(errs[0].Path, "/fast") {
					t.Error(errs)
					return
				}
			}
		})
	}
	wg.Wait()
}

func counts(r Refs) map[string]int {
	m := map[string]int{}
	r.Each(func(k string, n int) { m[k] = n })
	return m
}
