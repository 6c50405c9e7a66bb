package drop

import (
	"strings"
	"testing"
)

// TestTable: every reason has a name of its own, a known severity and a
// sentence. The names are shown to people and compared by management planes.
func TestTable(t *testing.T) {
	seen := map[string]Reason{}
	for r := range N {
		i := r.Info()
		switch other, twice := seen[i.Name]; {
		case i.Name == "":
			t.Errorf("reason %d has no name", r)
		case twice:
			t.Errorf("reasons %d and %d are both called %s", other, r, i.Name)
		case strings.ToLower(i.Name) != i.Name || strings.ContainsAny(i.Name, " _"):
			t.Errorf("%q is no name", i.Name)
		case len(i.Text) < 10 || !strings.HasSuffix(i.Text, "."):
			t.Errorf("%s: %q is no sentence", i.Name, i.Text)
		}
		seen[i.Name] = r
		if i.Severity.String() == "" {
			t.Errorf("%s has no severity", i.Name)
		}
	}
	if N.String() != "none" {
		t.Error("an unknown reason is not called none")
	}
}
