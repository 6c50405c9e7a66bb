package fill

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/openconfig/ygot/ygot"

	"vrouter/mgmt/yang"
)

// A plan says how one struct type is filled from nodes of one schema node.
type plan struct {
	typ    reflect.Type // the struct
	fields []field
	keys   []int // for a list entry: index in fields of each key, in key order
}

// A field is one field of a struct.
type field struct {
	index int
	node  *yang.Node
	enum  map[string]int64 // names of an enumeration or identityref
	sub   *plan            // of a container or of a list's entries
	elem  reflect.Type     // of a leaf-list
	def   reflect.Value    // what a leaf has by default, if anything
}

// makePlan looks up the schema nodes of a struct's fields and sees that their
// types fit, so that filling cannot fail.
func makePlan(t reflect.Type, n *yang.Node, without []*yang.Node) (*plan, error) {
	p := &plan{typ: t}
	for i := range t.NumField() {
		sf := t.Field(i)
		name := sf.Tag.Get("path")
		if name == "" {
			return nil, fmt.Errorf("%s.%s has no path", t, sf.Name)
		}
		c, err := child(n, name)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		skip := false
		for _, w := range without {
			skip = skip || w == c
		}
		if skip {
			continue
		}
		f := field{index: i, node: c}
		if err := f.prepare(sf.Type, without); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		p.fields = append(p.fields, f)
	}
	for _, k := range n.Keys {
		for i, f := range p.fields {
			if f.node == k {
				p.keys = append(p.keys, i)
			}
		}
	}
	if len(p.keys) != len(n.Keys) {
		return nil, fmt.Errorf("%s lacks a key of %s", t, n.Path())
	}
	return p, nil
}

// child finds the configuration child of a name. There is one of them: the
// generator refuses views with two.
func child(n *yang.Node, name string) (*yang.Node, error) {
	for _, c := range n.Data {
		if c.Config && c.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s has no %s; run make generate", n.Path(), name)
}

func (f *field) prepare(t reflect.Type, without []*yang.Node) (err error) {
	switch f.node.Kind {
	case yang.Leaf:
		scalar := t
		if t.Kind() == reflect.Pointer {
			scalar = t.Elem()
		}
		if err := f.scalar(scalar); err != nil || len(f.node.Defaults) == 0 {
			return err
		}
		f.def = reflect.New(t).Elem()
		f.set(f.def, &f.node.Defaults[0])
		return nil
	case yang.LeafList:
		f.elem = t.Elem()
		return f.scalar(t.Elem())
	case yang.Container:
		f.sub, err = makePlan(t.Elem(), f.node, without)
	case yang.List:
		f.sub, err = makePlan(t.Elem().Elem(), f.node, without)
	default:
		err = fmt.Errorf("a %s has no field", f.node.Kind)
	}
	return err
}

// bits are the sizes of Go's integers by the YANG type they hold.
var bits = map[yang.Base]reflect.Kind{yang.Int8: reflect.Int8, yang.Int16: reflect.Int16, yang.Int32: reflect.Int32,
	yang.Int64: reflect.Int64, yang.Uint8: reflect.Uint8, yang.Uint16: reflect.Uint16, yang.Uint32: reflect.Uint32,
	yang.Uint64: reflect.Uint64, yang.Boolean: reflect.Bool, yang.Empty: reflect.Bool}

// scalar sees that values of the leaf fit into t.
func (f *field) scalar(t reflect.Type) error {
	y := f.node.Type
	for y.Base == yang.LeafRef {
		y = y.Target.Type
	}
	if g, ok := reflect.Zero(t).Interface().(ygot.GoEnum); ok && t.Kind() == reflect.Int64 {
		f.enum = map[string]int64{}
		for v, d := range g.ΛMap()[t.Name()] {
			f.enum[d.Name] = v
		}
		for _, e := range y.Enums {
			if _, ok := f.enum[e]; !ok {
				return fmt.Errorf("%s does not have %s of %s; run make generate", t, e, f.node.Path())
			}
		}
		return nil
	}
	if t.Kind() == reflect.String && y.Base != yang.Enumeration || t.Kind() == bits[y.Base] {
		return nil
	}
	return fmt.Errorf("%s cannot hold a %s; run make generate", t, y.Base)
}

// enumName is a value as the map of names has it: identities without their
// module, as a view has all of them side by side.
func enumName(text string) string {
	if i := strings.IndexByte(text, ':'); i >= 0 {
		return text[i+1:]
	}
	return text
}

// below finds a node by a path relative to n.
func below(n *yang.Node, path string) (*yang.Node, error) {
	at := n
	for _, step := range strings.Split(path, "/") {
		if at = at.ChildByName(step); at == nil {
			return nil, fmt.Errorf("%s has no %s", n.Path(), path)
		}
	}
	return at, nil
}
