package modules_test

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	modules "vrouter/yang"
)

// stmt is a YANG statement as it stands in the text: a small reader of our
// own, so that what is compared does not come from the compiler under the
// server (RFC 7950 section 6).
type stmt struct {
	keyword, arg string
	line         int
	subs         []*stmt
}

func (s *stmt) sub(keyword string) *stmt {
	for _, c := range s.subs {
		if c.keyword == keyword {
			return c
		}
	}
	return nil
}

// value is the argument of a substatement, "" without it.
func (s *stmt) value(keyword string) string {
	if c := s.sub(keyword); c != nil {
		return c.arg
	}
	return ""
}

func (s *stmt) all(keyword string) (r []*stmt) {
	for _, c := range s.subs {
		if c.keyword == keyword {
			r = append(r, c)
		}
	}
	return r
}

// walk visits s and all below it, with the statement above each.
func (s *stmt) walk(f func(up, s *stmt)) {
	for _, c := range s.subs {
		f(s, c)
		c.walk(f)
	}
}

type token struct {
	text   string
	quoted bool
	line   int
}

func tokens(src string) (out []token, err error) {
	line := 1
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(src[i:], "//"):
			if i = strings.IndexByte(src[i:], '\n') + i; i < 0 {
				return out, nil
			}
		case strings.HasPrefix(src[i:], "/*"):
			end := strings.Index(src[i:], "*/")
			if end < 0 {
				return nil, fmt.Errorf("line %d: comment without end", line)
			}
			line += strings.Count(src[i:i+end], "\n")
			i += end + 2
		case c == '\'':
			end := strings.IndexByte(src[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("line %d: string without end", line)
			}
			out = append(out, token{src[i+1 : i+1+end], true, line})
			line += strings.Count(src[i:i+end], "\n")
			i += end + 2
		case c == '"':
			start := line
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(src) {
					return nil, fmt.Errorf("line %d: string without end", start)
				}
				if src[i] == '"' {
					break
				}
				if src[i] == '\\' && i+1 < len(src) {
					i++
					b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '"': '"', '\\': '\\'}[src[i]])
					continue
				}
				if src[i] == '\n' {
					line++
				}
				b.WriteByte(src[i])
			}
			i++
			out = append(out, token{b.String(), true, start})
		case c == '{' || c == '}' || c == ';':
			out = append(out, token{string(c), false, line})
			i++
		default:
			n := strings.IndexAny(src[i:], " \t\r\n{};\"'")
			if n < 0 {
				n = len(src) - i
			}
			out = append(out, token{src[i : i+n], false, line})
			i += n
		}
	}
	return out, nil
}

// parse reads the one statement that a module is.
func parse(src string) (*stmt, error) {
	toks, err := tokens(src)
	if err != nil {
		return nil, err
	}
	root := &stmt{}
	up := []*stmt{root}
	for len(toks) > 0 {
		t := toks[0]
		toks = toks[1:]
		if !t.quoted && t.text == "}" {
			if len(up) == 1 {
				return nil, fmt.Errorf("line %d: } too many", t.line)
			}
			up = up[:len(up)-1]
			continue
		}
		s := &stmt{keyword: t.text, line: t.line}
		for first := true; len(toks) > 0; first = false {
			t := toks[0]
			if !t.quoted && (t.text == ";" || t.text == "{") {
				break
			}
			if !first { // only + and another string may follow
				if t.quoted || t.text != "+" || len(toks) < 2 || !toks[1].quoted {
					return nil, fmt.Errorf("line %d: %q is out of place", t.line, t.text)
				}
				toks = toks[1:]
			}
			s.arg += toks[0].text
			toks = toks[1:]
		}
		if len(toks) == 0 {
			return nil, fmt.Errorf("line %d: no end", s.line)
		}
		top := up[len(up)-1]
		top.subs = append(top.subs, s)
		if toks[0].text == "{" {
			up = append(up, s)
		}
		toks = toks[1:]
	}
	if len(up) != 1 || len(root.subs) != 1 {
		return nil, fmt.Errorf("not one whole statement")
	}
	return root.subs[0], nil
}

// source is a module's text, read by parse.
type source struct {
	file string // in modules.FS
	*stmt
}

// sources are all modules by name.
func sources(t testing.TB) map[string]source {
	all := map[string]source{}
	err := fs.WalkDir(modules.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(modules.FS, p)
		if err != nil {
			return err
		}
		s, err := parse(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if all[s.arg].stmt != nil {
			return fmt.Errorf("%s: %s is there twice", p, s.arg)
		}
		all[s.arg] = source{p, s}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// qualify gives a name with its module for the prefix: x:n, or n of the module
// itself.
func (s source) qualify(name string) string {
	prefix, local, has := strings.Cut(name, ":")
	if !has {
		return s.arg + ":" + name
	}
	if prefix == s.value("prefix") {
		return s.arg + ":" + local
	}
	for _, i := range s.all("import") {
		if i.value("prefix") == prefix {
			return i.arg + ":" + local
		}
	}
	return "?" + name
}

func TestParse(t *testing.T) {
	s, err := parse("module m { // c {\n prefix 'p'; /* } */\n  pattern \"a\\\\d\\\"\"\n + 'b\\d';\n list l { key \"a b\"; } }")
	if err != nil || s.value("prefix") != "p" || s.value("pattern") != `a\d"b\d` || s.sub("list").value("key") != "a b" || s.sub("list").line != 5 {
		t.Fatalf("%+v %v", s, err)
	}
	for _, bad := range []string{"module m {", "module m }", "a; b;", `module "m" "n" {}`, `module "m`, ""} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestText holds the files to the rules that let every tool read them and a
// reader find his way.
func TestText(t *testing.T) {
	all := sources(t)
	for name, s := range all {
		rev := s.value("revision")
		want := name + "@" + rev + ".yang"
		if path.Base(s.file) != want {
			t.Errorf("%s: should be called %s", s.file, want)
		}
		folder := "."
		switch {
		case strings.HasPrefix(name, "vrouter-deviations-"):
			folder = "deviations"
		case !strings.HasPrefix(name, "vrouter-"):
			folder = "ietf"
		}
		if path.Dir(s.file) != folder {
			t.Errorf("%s: should be in %s", s.file, folder)
		}
		if folder != "ietf" {
			if s.value("yang-version") != "1.1" || s.value("namespace") != "urn:vrouter:yang:"+name {
				t.Errorf("%s: version %q, namespace %q", s.file, s.value("yang-version"), s.value("namespace"))
			}
		}
		for _, k := range []string{"organization", "contact", "description", "prefix", "namespace"} {
			if s.value(k) == "" {
				t.Errorf("%s: no %s", s.file, k)
			}
		}
		s.walk(func(up, c *stmt) {
			for _, complaint := range textFaults(up, c) {
				t.Errorf("%s:%d: %s %s: %s", s.file, c.line, c.keyword, c.arg, complaint)
			}
		})
		text, _ := fs.ReadFile(modules.FS, s.file)
		for i, l := range strings.Split(string(text), "\n") {
			if len(l) > 80 || strings.ContainsRune(l, '\t') || strings.TrimRight(l, " ") != l {
				t.Errorf("%s:%d: too long, a tab, or a space at the end", s.file, i+1)
			}
		}
	}
	for _, name := range modules.Implemented() {
		if all[name].stmt == nil {
			t.Errorf("%s is implemented but not there", name)
		}
	}
	for name, on := range modules.Features() {
		if !slices.Contains(modules.Implemented(), name) {
			t.Errorf("features of %s, which is not implemented", name)
		}
		for _, f := range on {
			if !slices.ContainsFunc(all[name].all("feature"), func(s *stmt) bool { return s.arg == f }) {
				t.Errorf("%s has no feature %s", name, f)
			}
		}
	}
}

// described are the statements that say in words what they are.
var described = []string{"module", "revision", "typedef", "feature", "extension", "grouping", "augment", "deviation", "container", "list",
	"leaf", "leaf-list", "choice", "anyxml", "anydata", "rpc", "action", "notification", "enum", "bit"}

// textFaults are what a statement does that not every tool can read (goyang
// drops refine, and augment below uses, in silence), and words that are
// missing.
func textFaults(up, s *stmt) (r []string) {
	switch {
	case s.keyword == "refine":
		r = append(r, "write the grouping out instead")
	case s.keyword == "augment" && up.keyword == "uses":
		r = append(r, "write the grouping out instead")
	case s.keyword == "include" || s.keyword == "modifier":
		r = append(r, "not every tool knows this")
	}
	if slices.Contains(described, s.keyword) && len(s.value("description")) < 5 {
		r = append(r, "no description")
	}
	return r
}

func TestTextFaults(t *testing.T) {
	s, err := parse(`module m { container c { uses g { refine a { default "1"; } augment b { description "described"; } } }
		leaf l { type string; description "described"; } augment "/x" { description "described"; } }`)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.walk(func(up, c *stmt) { n += len(textFaults(up, c)) })
	if n != 3 { // refine, augment below uses, container without description
		t.Errorf("%d faults, not 3", n)
	}
}
