package validate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// editor makes random edit-configs over a schema, with few different values
// so that they meet.
type editor struct {
	r      *rand.Rand
	values func(n *yang.Node) []string
}

func (g editor) edit(top []*yang.Node) string {
	var b strings.Builder
	for range 1 + g.r.IntN(2) {
		n := top[g.r.IntN(len(top))]
		if n.Name == "few" && g.r.IntN(10) > 0 { // seldom right by chance
			continue
		}
		g.node(&b, n, 0)
	}
	return b.String()
}

func (g editor) node(b *strings.Builder, n *yang.Node, depth int) {
	if !n.Config {
		return
	}
	b.WriteString("<" + n.Name)
	if depth == 0 || n.Module != n.Up.Module {
		b.WriteString(` xmlns="` + n.Module.Namespace + `" xmlns:v="urn:v"`)
	}
	op := g.r.IntN(12)
	if depth == 0 { // else soon nothing is left
		op = g.r.IntN(600)
	}
	switch {
	case op < 2 && !n.IsKey():
		b.WriteString(` nc:operation="remove"`)
	case op == 2 && !n.IsKey():
		b.WriteString(` nc:operation="replace"`)
	}
	if n.UserOrder && g.r.IntN(3) == 0 {
		b.WriteString(` xmlns:y="urn:ietf:params:xml:ns:yang:1" y:insert="` + []string{"first", "last"}[g.r.IntN(2)] + `"`)
	}
	b.WriteString(">")
	switch n.Kind {
	case yang.Leaf, yang.LeafList:
		v := g.values(n)
		b.WriteString(v[g.r.IntN(len(v))])
	default:
		for _, k := range n.Keys {
			b.WriteString("<" + k.Name + ">")
			v := g.values(k)
			b.WriteString(v[g.r.IntN(len(v))] + "</" + k.Name + ">")
		}
		rest := n.Data[len(n.Keys):]
		for range g.r.IntN(4) {
			if len(rest) > 0 {
				k := rest[g.r.IntN(len(rest))]
				g.node(b, k, depth+1)
			}
		}
	}
	b.WriteString("</" + n.Name + ">")
}

func valuesOf(n *yang.Node) []string {
	t := n.Type
	for t.Base == yang.LeafRef {
		t = t.Target.Type
	}
	if n.Name == "mac" || n.Up.Name == "opt" {
		return []string{"1", "bee"}
	}
	switch t.Base {
	case yang.Boolean:
		return []string{"true", "true", "false"}
	case yang.Enumeration:
		return t.Enums
	case yang.IdentityRef:
		return []string{"v:gre", "v:plain"}
	case yang.Empty:
		return []string{""}
	case yang.InstanceIdentifier:
		return []string{"/v:net/v:if[v:name='e0']", "/v:net/v:if[v:name='e1']/v:mtu", "/v:net/v:if[v:name='e1']/v:mac", "/v:chain/v:d/v:e", "/v:net/v:backup[.='e1']"}
	case yang.Union:
		return []string{"e0", "e1", "7", "none"}
	case yang.String:
		return []string{"e0", "e1", "e2", "x", "one"}
	}
	switch n.Name {
	case "mtu", "max-mtu":
		return []string{"60", "1400", "1500", "1600"}
	case "speed":
		return []string{"3", "100"}
	case "total":
		return []string{"0", "1", "2", "3", "4"}
	}
	return []string{"1", "2", "7"}
}

const start = `<net xmlns="urn:v"><if><name>e0</name><type>eth</type><mtu>1400</mtu><speed>100</speed><speed-unit>M</speed-unit></if>
<if><name>e1</name><type>eth</type><mac>1</mac><addr><ip>x</ip></addr><addr><ip>e0</ip><peer>x</peer></addr></if>
<if><name>e2</name><type>vlan</type><parent>e1</parent><tag><id>1</id></tag><kind xmlns:v="urn:v">v:gre</kind><must-note>x</must-note></if>
<best>e1</best><best-addr>x</best-addr><backup>e2</backup><fast>e0</fast><where-u xmlns:v="urn:v">/v:net/v:if[v:name='e1']/v:mac</where-u></net>
<chain xmlns="urn:v"><a>true</a><b>true</b><c>true</c><d><f>x</f></d><g>x</g><h><k>x</k></h><i>x</i></chain>
<groups xmlns="urn:v"><group><name>x</name><member><id>1</id></member><member><id>2</id><port>2</port></member><leader>2</leader></group></groups>
<steps xmlns="urn:v"><step><id>1</id><value>1</value></step><step><id>2</id><value>2</value></step><total>3</total></steps>`

// TestAgainstWhole: after any edit, what Change finds is what validating the
// whole finds, and the counts are the same.
func TestAgainstWhole(t *testing.T) {
	v := validator(t)
	top := v.schema.Root.Data
	accepted, refused, pruned, off := 0, 0, 0, 0
	kinds := map[string]int{}
	seeds, steps := uint64(120), 120
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		g := editor{rand.New(rand.NewPCG(seed, 3)), valuesOf}
		old := edit(t, v, data.New(v.schema), start)
		refs, errs := v.All(old)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for step := range steps {
			xml := g.edit(top)
			new, err := codec.Edit(v.schema, old, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`+xml+`</config>`), data.Merge)
			if err != nil {
				continue // a value that does not fit
			}
			where := func() string {
				return fmt.Sprintf("seed %d step %d\nold  %s\nedit %s\n", seed, step, print(v, old), xml)
			}
			before := print(v, new)
			out, outRefs, errs := v.Change(old, new, refs)
			if print(v, new) != before {
				t.Fatal(where(), "validation changed a tree")
			}
			all, allErrs := v.All(out)
			for _, e := range errs {
				kinds[e.Tag+" "+e.AppTag]++
			}
			got, want := lines(errs), lines(allErrs)
			switch {
			case slices.ContainsFunc(errs, func(e *data.Error) bool { return e.Tag == "unknown-element" }):
				off++
				// As a whole more is off, and the first level of it is told.
				if !slices.ContainsFunc(allErrs, func(e *data.Error) bool { return e.Tag == "unknown-element" }) {
					t.Fatalf("%s%s\nbut as a whole\n%s", where(), strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				continue
			case !slices.Equal(got, want):
				t.Fatalf("%sby change\n%s\nas a whole\n%s", where(), strings.Join(got, "\n"), strings.Join(want, "\n"))
			case len(errs) > 0:
				refused++
				continue
			}
			if a, b := fmt.Sprint(counts(all)), fmt.Sprint(counts(outRefs)); a != b {
				t.Fatalf("%srefs %s\nas a whole %s", where(), b, a)
			}
			if accepted++; out != new {
				pruned++
			}
			old, refs = out, outRefs
		}
	}
	t.Log(accepted, "accepted,", pruned, "of them with nodes taken out,", refused, "refused,", off, "for nodes under a false when")
	t.Log(kinds)
	if accepted < refused/10 || pruned == 0 || off == 0 || len(kinds) < 7 {
		t.Error("the edits are not varied enough")
	}
}

// TestSettled: where edits lead that have gone through When one by one, Settled
// says what Change says, which finds nothing to take out.
func TestSettled(t *testing.T) {
	v := validator(t)
	same, refused, pruned := 0, 0, 0
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		g := editor{rand.New(rand.NewPCG(seed, 5)), valuesOf}
		old := edit(t, v, data.New(v.schema), start)
		refs, errs := v.All(old)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for range 40 {
			at, script := old, ""
			for range 1 + g.r.IntN(4) {
				xml := g.edit(v.schema.Root.Data)
				new, err := codec.Edit(v.schema, at, []byte(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`+xml+`</config>`), data.Merge)
				if err != nil {
					continue // a value that does not fit
				}
				out, errs := v.When(at, new)
				if len(errs) > 0 {
					continue
				}
				if script += xml + "\n"; out != new {
					pruned++
				}
				at = out
			}
			out, wantRefs, want := v.Change(old, at, refs)
			gotRefs, got := v.Settled(old, at, refs)
			if a, b := lines(got), lines(want); out != at || !slices.Equal(a, b) {
				t.Fatalf("seed %d: old %s\nedits %s\nsettled: %s\nchange:  %s\ntook out: %t", seed, print(v, old), script, strings.Join(a, "\n"), strings.Join(b, "\n"), out != at)
			}
			if len(want) > 0 {
				refused++
				continue
			}
			if a, b := fmt.Sprint(counts(gotRefs)), fmt.Sprint(counts(wantRefs)); a != b {
				t.Fatalf("refs %s, want %s", a, b)
			}
			same++
			old, refs = out, wantRefs
		}
	}
	t.Log(same, "accepted,", refused, "refused,", pruned, "steps took something out")
	if same < refused/10 || pruned == 0 {
		t.Error("the edits are not varied enough")
	}
}
