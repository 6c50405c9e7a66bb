// Package bindtest runs bindings on configurations in files and compares what
// the fast path is told with golden text.
//
// A case is a folder of numbered steps: 1.xml, 2.xml, … each the content of an
// edit-config (operation attributes and all), applied to what the steps before
// it made, validated, translated, and published to an engine of enginetest.
// 1.txt, 2.txt, … say what came of it: the change, or the errors, after which
// running is as before the step. VROUTER_UPDATE=1 in the environment writes them.
package bindtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

// Schema compiles the router's schema.
func Schema(t testing.TB) *yang.Schema {
	t.Helper()
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A Runner holds running and puts edits through one or more bindings.
type Runner struct {
	Schema    *yang.Schema
	Validator *validate.Validator
	Bindings  []binding.Binding
	Engine    *enginetest.Engine
	Tree      *data.Container
	refs      validate.Refs
	// Out is what the last step gave the fast path.
	Out *fastpath.Change
}

// New makes a Runner with an empty running.
func New(t testing.TB, s *yang.Schema, b ...binding.Binding) *Runner {
	t.Helper()
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Schema: s, Validator: v, Bindings: b, Engine: enginetest.New(), Tree: data.New(s)}
}

// Edit makes running what an edit-config would make of it, or leaves it and
// gives the errors.
func (r *Runner) Edit(config string) error {
	next, err := codec.Edit(r.Schema, r.Tree, []byte("<config>"+config+"</config>"), data.Merge)
	if err != nil {
		return err
	}
	return r.Set(next)
}

// Set makes a tree running, or leaves running and gives the errors.
func (r *Runner) Set(next *data.Container) error {
	next, refs, errs := r.Validator.Change(r.Tree, next, r.refs)
	if len(errs) > 0 {
		return errs
	}
	c, err := Translate(r.Tree, next, false, r.Bindings...)
	if err != nil {
		return err
	}
	ticket, err := r.Engine.Prepare(context.Background(), c.Out)
	if err != nil {
		return r.located(c, err)
	}
	if err := r.Engine.Publish(context.Background(), ticket); err != nil {
		return err
	}
	c.Published()
	r.Tree, r.refs, r.Out = next, refs, c.Out
	return nil
}

func (r *Runner) located(c *binding.Commit, err error) error {
	var refusal *fastpath.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	for _, b := range r.Bindings {
		if path := b.Locate(c, refusal); path != "" {
			return &data.Error{Tag: "operation-failed", Path: path, Msg: refusal.Reason}
		}
	}
	return err
}

// Translate runs bindings on the difference of two trees, as package apply does,
// each with the changes below what it owns and watches.
func Translate(old, new *data.Container, full bool, bindings ...binding.Binding) (*binding.Commit, error) {
	if full {
		old = data.NewAt(new.S)
	}
	c := &binding.Commit{Old: old, New: new, Full: full, Out: &fastpath.Change{}}
	var all []data.Change
	data.Diff(old, new, func(ch data.Change) { all = append(all, ch) })
	for _, b := range bindings {
		paths := b.Owns()
		if w, ok := b.(binding.Watcher); ok {
			paths = append(paths, w.Watches()...)
		}
		c.Changes = slices.DeleteFunc(slices.Clone(all), func(ch data.Change) bool { return !concerns(paths, ch.Path.Schema.Path()) })
		if len(c.Changes) == 0 && !full {
			continue
		}
		if err := b.Translate(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// concerns tells whether a node is at, below or above one of the paths.
func concerns(paths []string, at string) bool {
	for _, p := range paths {
		if at == p || strings.HasPrefix(at, p+"/") || strings.HasPrefix(p, at+"/") {
			return true
		}
	}
	return false
}

// Golden runs all cases in testdata with a fresh Runner each.
func Golden(t *testing.T, make func(t *testing.T) *Runner) {
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !d.IsDir() || d.Name() == "fuzz" {
			continue
		}
		t.Run(d.Name(), func(t *testing.T) { steps(t, make(t), filepath.Join("testdata", d.Name())) })
	}
}

func steps(t *testing.T, r *Runner, dir string) {
	for n := 1; ; n++ {
		config, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.xml", n)))
		if errors.Is(err, os.ErrNotExist) && n > 1 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := r.Edit(string(config)); err != nil {
			got = Errors(err)
		} else {
			got = enginetest.Text(r.Out)
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.txt", n))
		if os.Getenv("VROUTER_UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\ngot:\n%swant:\n%s", file, got, want)
		}
	}
}

// Errors writes rpc-errors as lines.
func Errors(err error) string {
	var many data.Errors
	var one *data.Error
	if !errors.As(err, &many) {
		if !errors.As(err, &one) {
			return "not an rpc-error: " + err.Error() + "\n"
		}
		many = data.Errors{one}
	}
	var l []string
	for _, e := range many {
		l = append(l, fmt.Sprintf("error %s %s %s: %s", e.Path, e.Tag, e.AppTag, e.Msg))
	}
	slices.Sort(l)
	return strings.Join(append(l, ""), "\n")
}

// Get answers a <get> with a subtree filter ("" for none) from running and the
// state of the bindings, and tells what they asked the data plane.
func Get(t testing.TB, r *Runner, filter string) (xml string, asked []fastpath.Query) {
	t.Helper()
	var f *codec.Filter
	if filter != "" {
		var err error
		if f, err = codec.ParseFilter(r.Schema, []byte("<filter>"+filter+"</filter>")); err != nil {
			t.Fatal(err)
		}
	}
	before := len(r.Engine.Queries())
	e := data.Begin(r.Tree)
	for _, b := range r.Bindings {
		if err := b.State(context.Background(), f, e); err != nil {
			t.Fatalf("state of %s: %v", b.Name(), err)
		}
	}
	tree := e.Done()
	// What the schema says of state must hold for what was written.
	w := codec.Writer{Schema: r.Schema}
	return string(w.AppendFiltered(nil, tree, f)), r.Engine.Queries()[before:]
}
