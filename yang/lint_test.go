package modules_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	modules "vrouter/yang"
)

// yanglint runs libyang's checker, an implementation that is not ours, and
// gives what it says: nothing, if all is well.
func yanglint(t testing.TB, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("yanglint")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs yanglint (Debian: yang-tools or libyang-tools)")
		}
		t.Skip("needs yanglint (Debian: yang-tools or libyang-tools)")
	}
	cmd := exec.Command(bin, append([]string{"-p", "ietf", "-p", ".", "-p", "deviations"}, args...)...)
	var out bytes.Buffer
	cmd.Stderr = &out
	err = cmd.Run()
	if err != nil && out.Len() == 0 {
		return err.Error()
	}
	return out.String()
}

// serverArgs are the modules and features as the server has them.
func serverArgs(t testing.TB) []string {
	all := sources(t)
	var args []string
	features := modules.Features()
	for _, m := range modules.Implemented() {
		if on := features[m]; len(on) > 0 || len(all[m].all("feature")) > 0 {
			args = append(args, "-F", m+":"+strings.Join(on, ","))
		}
	}
	for _, m := range modules.Implemented() {
		args = append(args, all[m].file)
	}
	return args
}

func TestYanglintEachModule(t *testing.T) {
	for name, s := range sources(t) {
		if strings.HasPrefix(name, "vrouter-deviations-") {
			continue // with the rest, below: must expressions need their modules
		}
		var args []string
		if f := s.all("feature"); len(f) > 0 {
			var on []string
			for _, x := range f {
				on = append(on, x.arg)
			}
			args = append(args, "-F", name+":"+strings.Join(on, ","))
		}
		// What a must or when of the module looks at has to be implemented.
		for _, i := range s.all("import") {
			if imp := sources(t)[i.arg]; len(imp.all("container"))+len(imp.all("augment")) > 0 {
				args = append(args, imp.file)
			}
		}
		if out := yanglint(t, append(args, s.file)...); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestYanglintServer loads what the server implements, in the order in which
// it says so and in the opposite one: clients load in their own order.
func TestYanglintServer(t *testing.T) {
	args := serverArgs(t)
	if out := yanglint(t, args...); out != "" {
		t.Error(out)
	}
	first := slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, ".yang") })
	slices.Reverse(args[first:])
	out := yanglint(t, args...)
	for _, l := range strings.Split(out, "\n") {
		// libyang says this of a must whose module comes later, and looks
		// again when it does.
		if l != "" && !strings.Contains(l, "check skipped because referenced module") {
			t.Errorf("backwards: %s", l)
		}
	}
}

// TestInstances has yanglint judge configurations: it accepts those under
// testdata/accepted and refuses those under testdata/refused, saying what
// stands in the first line of the file.
func TestInstances(t *testing.T) {
	args := append([]string{"-t", "config"}, serverArgs(t)...)
	for _, verdict := range []string{"accepted", "refused"} {
		files, _ := filepath.Glob(filepath.Join("testdata", verdict, "*.xml"))
		if len(files) == 0 {
			t.Fatalf("no testdata/%s", verdict)
		}
		for _, f := range files {
			t.Run(verdict+"/"+strings.TrimSuffix(filepath.Base(f), ".xml"), func(t *testing.T) {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				first, _, _ := strings.Cut(string(text), "\n")
				want := strings.TrimSuffix(strings.TrimPrefix(first, "<!-- "), " -->")
				out := yanglint(t, append(slices.Clone(args), f)...)
				switch {
				case verdict == "accepted" && out != "":
					t.Error(out)
				case verdict == "refused" && !strings.Contains(out, want):
					t.Errorf("said %q, not %q", out, want)
				}
			})
		}
	}
}
