package modules_test

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// factsDir has the facts of the published modules, one a line, when they lie
// beside the checkout: a project that is built elsewhere does without.
const factsDir = "../../shared/yang-facts"

// xmlSchemas are the modules whose RFC has an XML schema and no YANG module to
// be compared with: RFC 5277.
var xmlSchemas = []string{"notifications", "nc-notifications"}

// meant are conditions that the published module writes so that they can never
// hold, and what they are meant to say. In RFC 6470 the condition stands in a
// uses, where the context node is the notification itself (RFC 7950 section
// 7.21.5): its ".." leads out of the notification.
var meant = map[string]map[string]string{"ietf-netconf-notifications": {
	squeeze("when", "(parent)../confirm-event != 'timeout'"): squeeze("when", "(parent)confirm-event != 'timeout'")}}

// A fact is one thing about a module: what it is about ("node /a/b", "typedef
// t") and its attributes in the order written. White space counts only where
// it parts words of a list, so that expressions may be broken as they please.
type fact struct {
	about string
	attrs map[string][]string
}

func (f fact) String() string {
	s := f.about
	for _, k := range slices.Sorted(maps.Keys(f.attrs)) {
		s += fmt.Sprintf(" %s=%q", k, f.attrs[k])
	}
	return s
}

func newFact(about string) fact { return fact{about, map[string][]string{}} }

func (f fact) add(key, value string) {
	if value != "" || key == "default" {
		f.attrs[key] = append(f.attrs[key], squeeze(key, value))
	}
}

func (f fact) has(key, value string) bool { return slices.Contains(f.attrs[key], value) }

func squeeze(key, v string) string {
	sep := ""
	if key == "key" || key == "unique" || key == "default" || key == "units" {
		sep = " "
	}
	return strings.Join(strings.Fields(v), sep)
}

// attrs reads "k=v k="quoted v" union={..}{..} #app-tag T".
func readAttrs(s string, add func(k, v string)) error {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if tag, ok := strings.CutPrefix(s, "#app-tag "); ok {
			tag, s, _ = strings.Cut(tag, " ")
			add("app-tag", tag)
			continue
		}
		k, rest, ok := strings.Cut(s, "=")
		if !ok || strings.ContainsAny(k, " \"{") {
			return fmt.Errorf("not an attribute: %s", s)
		}
		switch {
		case strings.HasPrefix(rest, `"`):
			q, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			v, _ := strconv.Unquote(q)
			add(k, v)
			s = rest[len(q):]
		case k == "union":
			for strings.HasPrefix(rest, "{") {
				n, depth := 0, 0
				for ; n < len(rest); n++ {
					if rest[n] == '"' {
						q, err := strconv.QuotedPrefix(rest[n:])
						if err != nil {
							return fmt.Errorf("%s: %w", s, err)
						}
						n += len(q) - 1
					} else if rest[n] == '{' {
						depth++
					} else if rest[n] == '}' {
						if depth--; depth == 0 {
							break
						}
					}
				}
				if n == len(rest) {
					return fmt.Errorf("braces: %s", s)
				}
				member := newFact("")
				if err := readAttrs(rest[1:n], member.add); err != nil {
					return err
				}
				add("union", member.String())
				rest = rest[n+1:]
			}
			s = rest
		default:
			v, tail, _ := strings.Cut(rest, " ")
			add(k, v)
			s = tail
		}
	}
	return nil
}

// named are the lines that are about something by name; the rest are
// properties of the module itself.
var named = []string{"import", "feature", "identity", "extension", "grouping", "typedef", "annotation", "node"}

func readFacts(t *testing.T, file string) (facts []fact) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		kind, rest, _ := strings.Cut(l, " ")
		if !slices.Contains(named, kind) {
			facts = append(facts, fact{kind, map[string][]string{"": {rest}}})
			continue
		}
		name, attrs, _ := strings.Cut(rest, " ")
		if kind == "typedef" || kind == "annotation" || kind == "node" {
			name, attrs = rest, ""
			if i := strings.IndexByte(rest, ' '); i >= 0 {
				name, attrs = rest[:i], rest[i:]
			}
		}
		f := newFact(kind + " " + name)
		if err := readAttrs(attrs, f.add); err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		facts = append(facts, f)
	}
	return facts
}

// textFacts are the facts about what a module defines by name, from its text.
func textFacts(all map[string]source, name string) (facts []fact) {
	s := all[name]
	prop := func(k, v string) { facts = append(facts, fact{k, map[string][]string{"": {v}}}) }
	version := s.value("yang-version")
	if version == "" {
		version = "1"
	}
	prop("module", name)
	prop("yang-version", version)
	prop("namespace", s.value("namespace"))
	prop("prefix", s.value("prefix"))
	prop("revision", s.value("revision"))
	for _, c := range s.subs {
		f := newFact(c.keyword + " " + c.arg)
		switch c.keyword {
		case "import":
			f.add("prefix", c.value("prefix"))
			f.add("revision-date", c.value("revision-date"))
		case "feature", "grouping":
		case "identity":
			for _, b := range c.all("base") {
				f.add("base", s.qualify(b.arg))
			}
		case "extension":
			f.add("argument", c.value("argument"))
		case "typedef":
			typeFacts(all, s, c.sub("type"), f.add)
			for _, d := range c.all("default") {
				f.add("default", d.arg)
			}
			f.add("units", c.value("units"))
		default:
			continue
		}
		for _, i := range c.all("if-feature") {
			f.add("if-feature", i.arg)
		}
		f.add("status", c.value("status"))
		facts = append(facts, f)
	}
	return facts
}

var builtin = []string{"binary", "bits", "boolean", "decimal64", "empty", "enumeration", "identityref", "instance-identifier", "int8", "int16",
	"int32", "int64", "leafref", "string", "uint8", "uint16", "uint32", "uint64", "union"}

// typeFacts tells of a type statement of s.
func typeFacts(all map[string]source, s source, ty *stmt, add func(k, v string)) {
	if slices.Contains(builtin, ty.arg) {
		add("type", ty.arg)
	} else {
		add("type", s.qualify(ty.arg))
		at, base := s, ty.arg
		for !slices.Contains(builtin, base) {
			mod, local, _ := strings.Cut(at.qualify(base), ":")
			at = all[mod]
			i := slices.IndexFunc(at.all("typedef"), func(d *stmt) bool { return d.arg == local })
			if i < 0 {
				base = "?" + base
				break
			}
			base = at.all("typedef")[i].sub("type").arg
		}
		add("base", base)
	}
	for _, k := range []string{"range", "length", "fraction-digits", "require-instance"} {
		add(k, ty.value(k))
	}
	for _, p := range ty.all("pattern") {
		add("pattern", p.arg)
	}
	for _, b := range ty.all("base") {
		add("identity-base", s.qualify(b.arg))
	}
	if p := ty.value("path"); p != "" {
		var steps []string
		for _, step := range strings.Split(p, "/") {
			if strings.Contains(step, ":") {
				step = s.qualify(step)
			}
			steps = append(steps, step)
		}
		add("path", strings.Join(steps, "/"))
	}
	numbered := func(keyword, number string) string {
		var out []string
		next := 0
		for _, e := range ty.all(keyword) {
			if v := e.value(number); v != "" {
				next, _ = strconv.Atoi(v)
			}
			out = append(out, fmt.Sprintf("%s(%d)", e.arg, next))
			next++
		}
		return strings.Join(out, ",")
	}
	add("enum", numbered("enum", "value"))
	add("bits", numbered("bit", "position"))
	for _, m := range ty.all("type") {
		member := newFact("")
		typeFacts(all, s, m, member.add)
		add("union", member.String())
	}
}

// nodeFact tells of a node of the compiled schema. What it inherits of default
// and units from its type is not its own.
func nodeFact(n *yang.Node) fact {
	f := newFact("node " + n.SchemaPath())
	kind := n.Kind.String()
	if n.AnyXML {
		kind = "anyxml"
	}
	f.add("kind", kind)
	if n.Implied {
		f.add("implicit", "yes")
	}
	if n.Type != nil && n.Kind != yang.AnyData {
		compiledType(n.Type, f.add)
	}
	if n.Kind != yang.Case && !inOperation(n) {
		f.add("config", strconv.FormatBool(n.Config))
	}
	if n.Mandatory {
		f.add("mandatory", "true")
	}
	for _, d := range n.Default {
		f.add("default", d)
	}
	f.add("units", n.Units)
	var keys []string
	for _, k := range n.Keys {
		keys = append(keys, k.Name)
	}
	f.add("key", strings.Join(keys, " "))
	for _, u := range n.Unique {
		f.add("unique", strings.Join(u, " "))
	}
	if n.Min > 0 {
		f.add("min-elements", strconv.Itoa(n.Min))
	}
	if n.Max > 0 {
		f.add("max-elements", strconv.Itoa(n.Max))
	}
	if n.UserOrder {
		f.add("ordered-by", "user")
	}
	if n.Presence {
		f.add("presence", "yes")
	}
	f.add("status", status(n))
	for _, i := range n.IfFeature {
		f.add("if-feature", strings.ReplaceAll(i, n.Module.Name+":", ""))
	}
	for _, w := range n.When {
		text := expression(w)
		if w.OnParent {
			text = "(parent)" + text
		}
		f.add("when", text)
	}
	for _, m := range n.Must {
		f.add("must", expression(m))
		f.add("app-tag", m.AppTag)
	}
	for _, e := range n.Ext {
		f.add("ext", e.Module+":"+e.Name)
	}
	return f
}

var identityLiteral = regexp.MustCompile(`'([\w.-]+):([\w.-]+)'`)

// expression gives an expression with module names for prefixes, also in the
// literals that name identities.
func expression(x yang.Expr) string {
	return identityLiteral.ReplaceAllStringFunc(x.Qualified(), func(l string) string {
		prefix, name, _ := strings.Cut(strings.Trim(l, "'"), ":")
		if m := x.Ctx.Import(prefix); m != nil {
			prefix = m.Name
		}
		return "'" + prefix + ":" + name + "'"
	})
}

func compiledType(ty *yang.Type, add func(k, v string)) {
	add("type", ty.Name)
	if strings.Contains(ty.Name, ":") {
		if ty.Wild { // a string by its definition, which the compiler knows better
			add("base", yang.String.String())
		} else {
			add("base", ty.Base.String())
		}
	}
	add("range", ty.Range)
	add("length", ty.Length)
	for _, p := range ty.Patterns {
		add("pattern", p.Text)
	}
	if ty.Digits > 0 {
		add("fraction-digits", strconv.Itoa(ty.Digits))
	}
	switch ty.Name { // these are of the statement itself, not of a typedef
	case "enumeration":
		var out []string
		for _, e := range ty.Enums {
			v, _ := ty.EnumValue(e)
			out = append(out, fmt.Sprintf("%s(%d)", e, v))
		}
		add("enum", strings.Join(out, ","))
	case "bits":
		var out []string
		for i, b := range ty.Bit {
			out = append(out, fmt.Sprintf("%s(%d)", b, ty.BitPos[i]))
		}
		add("bits", strings.Join(out, ","))
	case "identityref":
		for _, b := range ty.Bases {
			add("identity-base", b.Text)
		}
	case "leafref":
		add("path", ty.RefPath().Qualified())
		if ty.NoInst {
			add("require-instance", "false")
		}
	case "union":
		for _, m := range ty.Members {
			member := newFact("")
			compiledType(m, member.add)
			add("union", member.String())
		}
	}
}

func inOperation(n *yang.Node) bool {
	for ; n != nil; n = n.Parent {
		switch n.Kind {
		case yang.RPC, yang.Action, yang.Notification, yang.Input, yang.Output:
			return true
		}
	}
	return false
}

// status is that of n or what it inherits (RFC 7950 section 7.21.2).
func status(n *yang.Node) string {
	for ; n != nil; n = n.Parent {
		if n.Status != "" {
			return n.Status
		}
	}
	return ""
}

// inherit settles in the facts what the compiled schema has settled: the
// status of what stands below a deprecated node.
func inherit(facts map[string]fact) {
	for about, f := range facts {
		if !strings.HasPrefix(about, "node ") || f.attrs["status"] != nil {
			continue
		}
		up := about
		for i := strings.LastIndexByte(up, '/'); i > 0; i = strings.LastIndexByte(up, '/') {
			up = up[:i]
			if s := facts[up].attrs["status"]; s != nil {
				f.attrs["status"] = s
				break
			}
		}
	}
}

// compare tells how two descriptions of one module differ. Want is the facts;
// an attribute that got has from its type only is in typed.
func compare(want, got []fact, typed map[string]fact) (diffs []string) {
	index := func(fs []fact) map[string]fact {
		m := map[string]fact{}
		for _, f := range fs {
			m[f.about] = f
		}
		return m
	}
	w, g := index(want), index(got)
	for _, about := range slices.Sorted(maps.Keys(w)) {
		f, ok := g[about]
		if !ok {
			diffs = append(diffs, "missing: "+w[about].String())
			continue
		}
		keys := map[string]bool{}
		for k := range w[about].attrs {
			keys[k] = true
		}
		for k := range f.attrs {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			a, b := w[about].attrs[k], f.attrs[k]
			if k == "if-feature" && strings.HasPrefix(about, "node ") {
				continue // what a feature does is tried out, in TestFeatureFacts
			}
			if slices.Equal(a, b) || a == nil && slices.Equal(b, typed[about].attrs[k]) {
				continue
			}
			diffs = append(diffs, fmt.Sprintf("%s: %s is %q, should be %q", about, k, b, a))
		}
	}
	for _, about := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[about]; ok {
			continue
		}
		f := g[about]
		// input and output are there even when nobody wrote them, and a module
		// may import more than the published one where it writes a grouping out.
		if f.has("kind", "input") || f.has("kind", "output") || strings.HasPrefix(about, "import ") {
			continue
		}
		diffs = append(diffs, "should not be there: "+f.String())
	}
	return diffs
}

// standard loads the standard modules as published: no deviations, all
// features but the one that is off.
func standard(t *testing.T, off string) *yang.Schema {
	var names []string
	for _, m := range modules.Implemented() {
		if !strings.HasPrefix(m, "vrouter-") {
			names = append(names, m)
		}
	}
	s, err := yang.Load(yang.Options{FS: modules.FS,
		Features: func(m, f string) bool { return m+":"+f != off }}, names...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// found gives what is found here about each standard module, and the
// defaults and units that nodes have from their types.
func found(t *testing.T) (got map[string][]fact, typed map[string]fact) {
	all := sources(t)
	s := standard(t, "")
	got, typed = map[string][]fact{}, map[string]fact{}
	for name, src := range all {
		if strings.HasPrefix(src.file, "ietf/") {
			got[name] = textFacts(all, name)
		}
	}
	s.Root.Walk(func(n *yang.Node) bool {
		f := nodeFact(n)
		got[n.Module.Name] = append(got[n.Module.Name], f)
		if n.Type != nil {
			ty := newFact(f.about)
			if n.Type.Default != "" {
				ty.add("default", n.Type.Default)
			}
			ty.add("units", n.Type.Units)
			typed[f.about] = ty
		}
		return true
	})
	return got, typed
}

// published are the facts of the standard modules that are here.
func published(t *testing.T) map[string][]fact {
	if _, err := os.Stat(factsDir); err != nil {
		t.Skip("no facts beside the checkout")
	}
	want := map[string][]fact{}
	for name, src := range sources(t) {
		if strings.HasPrefix(src.file, "ietf/") && !slices.Contains(xmlSchemas, name) {
			want[name] = readFacts(t, filepath.Join(factsDir, name+"@"+src.value("revision")+".facts"))
			for _, f := range want[name] {
				for i, w := range f.attrs["when"] {
					if meant := meant[name][w]; meant != "" {
						f.attrs["when"][i] = meant
					}
				}
			}
		}
	}
	return want
}

// TestFeatureFacts turns features off, one at a time, and sees that just the
// nodes go that the facts tie to it, with what stands below them.
func TestFeatureFacts(t *testing.T) {
	tied := map[string]map[string]bool{} // module:feature to nodes
	for name, facts := range published(t) {
		for _, f := range facts {
			if feature, ok := strings.CutPrefix(f.about, "feature "); ok && tied[name+":"+feature] == nil {
				tied[name+":"+feature] = map[string]bool{}
			}
			for _, i := range f.attrs["if-feature"] {
				if path, ok := strings.CutPrefix(f.about, "node "); ok {
					if tied[name+":"+i] == nil {
						tied[name+":"+i] = map[string]bool{}
					}
					tied[name+":"+i][path] = true
				}
			}
		}
	}
	// RFC 6241: there is no confirmed commit without a candidate.
	maps.Copy(tied["ietf-netconf:candidate"], tied["ietf-netconf:confirmed-commit"])

	all := map[string]bool{}
	standard(t, "").Root.Walk(func(n *yang.Node) bool { all[n.SchemaPath()] = true; return true })
	for feature, nodes := range tied {
		left := map[string]bool{}
		standard(t, feature).Root.Walk(func(n *yang.Node) bool { left[n.SchemaPath()] = true; return true })
		for p := range all {
			goes := false
			for up := p; up != "" && !goes; up = up[:strings.LastIndexByte(up, '/')] {
				goes = nodes[up]
			}
			// A case that shorthand implies goes with the node in it.
			if goes == left[p] && !nodes[p+"/"+path.Base(p)] {
				t.Errorf("%s off: %s there %v", feature, p, left[p])
			}
		}
	}
}

// TestFacts compares every standard module with the facts of the published
// one: what it defines, every node with all its properties, and the order of
// the nodes below one parent.
func TestFacts(t *testing.T) {
	got, typed := found(t)
	want := published(t)
	every := map[string]fact{}
	for _, facts := range want {
		for _, f := range facts {
			if strings.HasPrefix(f.about, "node ") {
				every[f.about] = f
			}
		}
	}
	inherit(every)
	nodes := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		for _, d := range compare(want[name], got[name], typed) {
			t.Errorf("%s: %s", name, d)
		}
		for _, d := range misordered(want[name], got[name]) {
			t.Errorf("%s: %s", name, d)
		}
		nodes += len(want[name])
	}
	t.Logf("%d modules, %d facts", len(want), nodes)
}

// misordered tells of parents whose children stand in another order. Nodes
// that a module adds to a foreign parent keep their order within the module.
func misordered(want, got []fact) (diffs []string) {
	kids := func(fs []fact) map[string][]string {
		m := map[string][]string{}
		for _, f := range fs {
			path, ok := strings.CutPrefix(f.about, "node ")
			if !ok {
				continue
			}
			i := strings.LastIndexByte(path, '/')
			m[path[:i]] = append(m[path[:i]], path[i+1:])
		}
		return m
	}
	g := kids(got)
	for up, names := range kids(want) {
		have := slices.DeleteFunc(slices.Clone(g[up]), func(n string) bool { return !slices.Contains(names, n) })
		if !slices.Equal(names, have) {
			diffs = append(diffs, fmt.Sprintf("below %s: %v, should be %v", up, have, names))
		}
	}
	return diffs
}
