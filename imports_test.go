package vrouter

import (
	"encoding/json"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// The import rules keep the planes apart: the data plane must not drag YANG in,
// a feature must not know its neighbours, a driver must not lean on another.
// Test files may import what they like.

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

const module = "vrouter/"

// breach says what is wrong with one import, "" when nothing is.
func breach(from, to string) string {
	in := func(p, dir string) bool { return p == module+dir || strings.HasPrefix(p, module+dir+"/") }
	own := strings.HasPrefix(to, module)
	switch {
	case in(from, "pkg") && (in(to, "fastpath") || in(to, "mgmt") || in(to, "yang") || in(to, "cmd")):
		return "pkg imports neither fastpath nor mgmt"
	case in(from, "fastpath") && (in(to, "mgmt") || in(to, "yang") || in(to, "cmd")):
		return "fastpath never imports mgmt"
	case in(from, "mgmt") && in(to, "cmd"):
		return "nobody imports commands"
	case in(from, "yang") && own:
		return "yang imports nothing"
	}
	for _, side := range []string{"fastpath/feature/", "mgmt/feature/"} {
		if f, ok := strings.CutPrefix(from, module+side); ok {
			if g, ok := strings.CutPrefix(to, module+side); ok && top(f) != top(g) {
				return "a feature never imports a feature"
			}
		}
	}
	if d, ok := driver(to); ok {
		if e, isDriver := driver(from); isDriver && d != e {
			return "a SAL driver never imports a sibling driver"
		} else if !isDriver && !in(from, "cmd") && !in(from, "pkg/sal/saltest") && !in(from, "fastpath/bench") {
			return "only commands (and benchmarks) name SAL drivers"
		}
	}
	switch {
	case strings.HasPrefix(to, "github.com/openconfig/goyang") && !in(from, "mgmt/yang") && !in(from, "mgmt/internal/schema"):
		return "goyang is imported by mgmt/yang only"
	case strings.HasPrefix(to, "github.com/openconfig/ygot") && !in(from, "mgmt/internal"):
		return "ygot is imported by the generator, its output and what fills that"
	case strings.HasPrefix(to, "github.com/google/gopacket") && !in(from, "fastpath/bench/peers"):
		return "gopacket is for tests and tools"
	}
	return ""
}

func top(p string) string { d, _, _ := strings.Cut(p, "/"); return d }

// driver names the SAL driver a package belongs to. saltest and shared helpers
// are no drivers.
func driver(p string) (string, bool) {
	d, ok := strings.CutPrefix(p, module+"pkg/sal/")
	if !ok {
		return "", false
	}
	switch d = top(d); d {
	case "saltest", "gso", "internal":
		return "", false
	}
	return d, true
}

func TestImportRules(t *testing.T) {
	all := packages(t)
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	for _, p := range all {
		for _, to := range p.Imports {
			if why := breach(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

// The rules themselves must be able to find something.
func TestImportRulesBite(t *testing.T) {
	for _, c := range [][2]string{
		{"pkg/mem", "fastpath"}, {"fastpath/rpc", "mgmt/data"}, {"fastpath/feature/route", "fastpath/feature/ipsec"},
		{"mgmt/feature/iface", "mgmt/feature/route"}, {"pkg/sal/tap", "pkg/sal/afpacket"}, {"fastpath/worker", "pkg/sal/cpu"},
		{"yang", "mgmt/data"},
	} {
		if breach(module+c[0], module+c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	for _, to := range []string{"github.com/openconfig/ygot/ygot", "github.com/openconfig/goyang/pkg/yang", "github.com/google/gopacket"} {
		if breach(module+path.Join("mgmt", "data"), to) == "" {
			t.Errorf("mgmt/data may import %s", to)
		}
	}
	if why := breach(module+"cmd/fastpathd", module+"pkg/sal/cpu"); why != "" {
		t.Error(why)
	}
}
