// Package fill puts a list entry or container of the data tree into the Go
// struct that ygot made of its schema: the typed view that bindings read.
//
// A plan per struct type, made once, says which field holds which node; what
// then happens for an entry is a look-up and a conversion per leaf. Values are
// canonical and of the right type since they were read, so nothing can fail.
package fill

import (
	"fmt"
	"reflect"
	"strconv"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Filler fills structs of type T. It is safe for concurrent use.
type Filler[T any] struct {
	plan     *plan
	explicit bool
}

// An Option of New.
type Option func(*options)

type options struct {
	explicit bool
	without  []string
}

// Explicit leaves out defaults: only what was set is there.
func Explicit() Option { return func(o *options) { o.explicit = true } }

// Without leaves children alone that the caller does not read, by their paths
// from the schema node (ietf-ip:ipv4/neighbor).
func Without(paths ...string) Option {
	return func(o *options) { o.without = append(o.without, paths...) }
}

// New makes a Filler of the entries of a list, or of a container. An error
// means that the struct was generated from another schema.
func New[T any](n *yang.Node, opts ...Option) (*Filler[T], error) {
	if n == nil {
		return nil, fmt.Errorf("fill: no schema node for %T", *new(T))
	}
	var o options
	for _, f := range opts {
		f(&o)
	}
	var without []*yang.Node
	for _, p := range o.without {
		w, err := below(n, p)
		if err != nil {
			return nil, fmt.Errorf("fill: %w", err)
		}
		without = append(without, w)
	}
	p, err := makePlan(reflect.TypeFor[T](), n, without)
	if err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	return &Filler[T]{p, o.explicit}, nil
}

// Fill gives the struct of c, which may be nil for a container that is not in
// the tree. Leaves that are not set have their default, where one is in use, or
// are nil. A container without presence is always there. That its when holds is
// not looked at: who reads below one reads first the leaf that the when is about.
// What the pointers lead to is shared with the tree and with other structs, and
// not to be changed.
func (f *Filler[T]) Fill(c *data.Container) *T {
	t := new(T)
	f.plan.fill(reflect.ValueOf(t).Elem(), c, f.explicit)
	return t
}

func (p *plan) fill(v reflect.Value, c *data.Container, explicit bool) {
	for i := range p.fields {
		f := &p.fields[i]
		dst := v.Field(f.index)
		switch f.node.Kind {
		case yang.Leaf:
			if l, set := c.Child(f.node).(*data.Leaf); set {
				f.set(dst, &l.Value)
			} else if !explicit && f.def.IsValid() && c.CaseInUse(f.node) {
				dst.Set(f.def)
			}
		case yang.LeafList:
			vals, set := c.Values(f.node)
			if explicit && !set || len(vals) == 0 {
				continue
			}
			s := reflect.MakeSlice(dst.Type(), len(vals), len(vals))
			for j := range vals {
				f.set(s.Index(j), &vals[j])
			}
			dst.Set(s)
		case yang.Container:
			sub := c.Sub(f.node)
			if sub == nil && f.node.Presence {
				continue
			}
			s := reflect.New(f.sub.typ)
			f.sub.fill(s.Elem(), sub, explicit)
			dst.Set(s)
		case yang.List:
			if l := c.List(f.node); l != nil {
				f.sub.entries(dst, l, explicit)
			}
		}
	}
}

// entries fills a map with the entries of a list.
func (p *plan) entries(dst reflect.Value, l *data.List, explicit bool) {
	m := reflect.MakeMapWithSize(dst.Type(), l.Len())
	key := reflect.New(dst.Type().Key()).Elem()
	l.Each(func(_ string, n data.Node) bool {
		e := reflect.New(p.typ)
		p.fill(e.Elem(), n.(*data.Container), explicit)
		if len(p.keys) == 1 {
			key.Set(value(e.Elem().Field(p.fields[p.keys[0]].index)))
		} else {
			for i, k := range p.keys { // fields of a key struct are in key order
				key.Field(i).Set(value(e.Elem().Field(p.fields[k].index)))
			}
		}
		m.SetMapIndex(key, e)
		return true
	})
	dst.Set(m)
}

func value(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}

var yes, no = true, false

// set converts a canonical value. The common types go without reflection, and
// without memory of their own where they can.
func (f *field) set(dst reflect.Value, v *yang.Value) {
	if f.enum != nil {
		dst.SetInt(f.enum[enumName(v.Text)])
		return
	}
	switch p := dst.Addr().Interface().(type) {
	case **string:
		*p = &v.Text
	case **bool:
		if *p = &no; v.Text == "true" || v.Type.Base == yang.Empty {
			*p = &yes
		}
	case **uint8:
		n := uint8(f.uint(v.Text))
		*p = &n
	case **uint16:
		n := uint16(f.uint(v.Text))
		*p = &n
	case **uint32:
		n := uint32(f.uint(v.Text))
		*p = &n
	case **uint64:
		n := f.uint(v.Text)
		*p = &n
	default:
		f.other(dst, v)
	}
}

func (f *field) other(dst reflect.Value, v *yang.Value) {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch {
	case dst.Kind() == reflect.String:
		dst.SetString(v.Text)
	case dst.Kind() == reflect.Bool:
		dst.SetBool(v.Text == "true" || v.Type.Base == yang.Empty)
	case dst.CanUint():
		dst.SetUint(f.uint(v.Text))
	default:
		n, err := strconv.ParseInt(v.Text, 10, 64)
		f.must(err)
		dst.SetInt(n)
	}
}

func (f *field) uint(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	f.must(err)
	return n
}

// must stops where a value is not of its type, which the reader of the data
// has seen to. It does not say the value.
func (f *field) must(err error) {
	if err != nil {
		panic("fill: a value of " + f.node.Path() + " is not canonical")
	}
}
