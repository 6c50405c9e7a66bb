package main

import (
	"bytes"
	"fmt"
	"strings"

	"vrouter/mgmt/yang"
)

// flatten writes a view as a module of its own: configuration only; uses,
// augments, features and deviations applied; choices seen through; types
// resolved to built-in ones, leafrefs to what they point at, unions of unlike
// types to strings. Restrictions and defaults stay out: values were checked when
// they were read, and defaults in use come from the data tree.
func flatten(s *yang.Schema, v view) ([]byte, error) {
	f := &flattener{schema: s, bases: map[string]bool{}, ids: map[string]string{}}
	f.line("module %s {", v.pkg)
	f.line("yang-version 1.1;")
	f.line("namespace %q;", "urn:vrouter:view:"+v.pkg)
	f.line("prefix v;")
	for _, path := range v.roots {
		n := s.Find(path)
		if n == nil {
			return nil, fmt.Errorf("the schema has no %s", path)
		}
		if err := f.node(n); err != nil {
			return nil, err
		}
	}
	f.b.Write(f.identities.Bytes())
	f.line("}")
	return f.b.Bytes(), nil
}

type flattener struct {
	schema     *yang.Schema
	b          bytes.Buffer
	depth      int
	identities bytes.Buffer
	bases      map[string]bool
	ids        map[string]string // name to text of the identities that are written
}

func (f *flattener) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text == "}" {
		f.depth--
	}
	f.b.WriteString(strings.Repeat("  ", max(0, f.depth)))
	f.b.WriteString(text)
	f.b.WriteByte('\n')
	if strings.HasSuffix(text, "{") {
		f.depth++
	}
}

func (f *flattener) node(n *yang.Node) error {
	if !n.Config {
		return nil
	}
	f.line("%s %s {", n.Kind, n.Name)
	defer f.line("}")
	switch n.Kind {
	case yang.Leaf, yang.LeafList:
		return f.typ(n.Type, n)
	case yang.Container:
		if n.Presence {
			f.line("presence %q;", "It is there.")
		}
	case yang.List:
		var keys []string
		for _, k := range n.Keys {
			keys = append(keys, k.Name)
		}
		f.line("key %q;", strings.Join(keys, " "))
	default:
		return fmt.Errorf("%s: a %s has no place in a typed view", n.Path(), n.Kind)
	}
	seen := map[string]bool{}
	for _, k := range n.Data {
		if !k.Config {
			continue
		}
		if seen[k.Name] {
			return fmt.Errorf("%s has two children called %s: make two views", n.Path(), k.Name)
		}
		seen[k.Name] = true
		if err := f.node(k); err != nil {
			return err
		}
	}
	return nil
}

func (f *flattener) typ(t *yang.Type, at *yang.Node) error {
	for t.Base == yang.LeafRef {
		t = t.Target.Type
	}
	switch t.Base {
	case yang.Enumeration:
		f.line("type enumeration {")
		for _, e := range t.Enums {
			v, _ := t.EnumValue(e)
			f.line("enum %q { value %d; }", e, v)
		}
		f.line("}")
	case yang.Union:
		f.line("type %s;", unionOf(t))
	case yang.IdentityRef:
		return f.identityref(t, at)
	case yang.String, yang.Boolean, yang.Empty, yang.Binary,
		yang.Int8, yang.Int16, yang.Int32, yang.Int64, yang.Uint8, yang.Uint16, yang.Uint32, yang.Uint64:
		f.line("type %s;", t.Base)
	default:
		return fmt.Errorf("%s: type %s is not in the typed view yet", at.Path(), t.Base)
	}
	return nil
}

// unionOf gives the type of a union's values: that of its members where they
// have the same one, else string, for the canonical text.
func unionOf(t *yang.Type) yang.Base {
	var base yang.Base
	for i, m := range t.Members {
		b := m.Base
		for m.Base == yang.LeafRef {
			m = m.Target.Type
			b = m.Base
		}
		if b == yang.Union {
			b = unionOf(m)
		}
		if i == 0 {
			base = b
		}
		if b != base || b == yang.Enumeration || b == yang.IdentityRef || b == yang.Bits {
			return yang.String
		}
	}
	return base
}

// identityref writes the type, and once its base with all that is derived from
// it, as if they stood side by side in one module.
func (f *flattener) identityref(t *yang.Type, at *yang.Node) error {
	if len(t.Bases) != 1 {
		return fmt.Errorf("%s: an identityref with several bases is not in the typed view yet", at.Path())
	}
	base := t.Bases[0]
	f.line("type identityref {")
	f.line("base %q;", base.Name)
	f.line("}")
	if f.bases[base.Text] {
		return nil
	}
	f.bases[base.Text] = true
	fmt.Fprintf(&f.identities, "  identity %s;\n", base.Name)
	for _, i := range f.schema.Identities(t.Bases) {
		if other := f.ids[i.Name]; other != "" || i.Name == base.Name {
			return fmt.Errorf("%s: identity %s would stand twice", at.Path(), i.Name)
		}
		f.ids[i.Name] = i.Text
		fmt.Fprintf(&f.identities, "  identity %s { base %q; }\n", i.Name, base.Name)
	}
	return nil
}
