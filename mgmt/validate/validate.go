// Package validate checks a changed tree, looking only at what the change can
// affect: mandatory nodes and choices, min- and max-elements, and leafrefs in
// both directions. Types and keys were checked when the data was read.
//
// Not checked yet: must, when, unique, leafrefs with predicates, leafrefs
// inside a union, instance-identifiers.
package validate

import (
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Validator holds what the schema alone tells.
type Validator struct {
	schema *yang.Schema
	by     map[*yang.Node][]*yang.Node // leafref target to the leaves that point at it
	paths  map[*yang.Node]refPath
}

type refPath struct {
	ups  int          // -1: absolute
	down []*yang.Node // data nodes from there, the target last
}

// New prepares a schema; the error names the expression that cannot be
// compiled.
func New(s *yang.Schema) (*Validator, error) {
	v := &Validator{s, map[*yang.Node][]*yang.Node{}, map[*yang.Node]refPath{}}
	for _, n := range s.LeafRefs {
		if !n.Config || n.Type.NoInst {
			continue
		}
		x := n.Type.RefPath().Text
		if strings.ContainsAny(x, "[(") {
			continue
		}
		p := refPath{ups: -1}
		top := s.Root
		if !n.Type.RefAbsolute() {
			p.ups = strings.Count(x, "..")
			top = n
			for range p.ups {
				top = top.Up
			}
		}
		for t := n.Type.Target; t != top && t != nil; t = t.Up {
			p.down = append([]*yang.Node{t}, p.down...)
		}
		v.paths[n] = p
		v.by[n.Type.Target] = append(v.by[n.Type.Target], n)
	}
	return v, nil
}

// Refs counts the leafref instances of a tree by leaf and value, so that the
// removal of a target finds at once whether anything still points at it. It
// belongs to one tree, shares structure with its predecessor, and is swapped
// with the tree.
type Refs struct{ data.Counts }

func refKey(n *yang.Node, value string) string {
	return string([]byte{byte(n.ID >> 8), byte(n.ID)}) + value
}

type run struct {
	v    *Validator
	root *data.Container
	refs *data.CountEdit
	errs data.Errors
	last *data.Container // the parent checked last
	now  []found         // leafref instances to check
	gone []data.Leaf     // removed targets
}

type found struct {
	at   *data.Path
	leaf *data.Leaf
}

// Change validates the step from old to new. refs belongs to old. It returns
// the tree to use, which is new without the nodes whose when turned false
// (the same pointer when there are none), and the Refs of that tree. With
// errors both results are not to be used.
func (v *Validator) Change(old, new *data.Container, refs Refs) (out *data.Container, outRefs Refs, errs data.Errors) {
	r := &run{v: v, root: new, refs: refs.Begin()}
	r.required(nil, new)
	data.Diff(old, new, r.change)
	for _, f := range r.now {
		r.resolves(f)
	}
	for _, t := range r.gone {
		r.referrers(t)
	}
	return new, Refs{r.refs.Done()}, r.errs
}

// All validates a whole tree, as read at the start, and gives its Refs.
func (v *Validator) All(tree *data.Container) (Refs, data.Errors) {
	_, refs, errs := v.Change(data.New(v.schema), tree, Refs{})
	return refs, errs
}

func (r *run) fail(p *data.Path, tag, app, msg string) {
	r.errs = append(r.errs, &data.Error{Tag: tag, AppTag: app, Path: p.String(), Msg: msg})
}

func (r *run) change(c data.Change) {
	if c.Kind == data.Moved {
		return
	}
	if c.Parent != nil && c.Parent != r.last && c.Kind != data.Modified {
		r.last = c.Parent
		r.required(c.Path.Up, c.Parent)
	}
	if c.Old != nil {
		r.walk(c.Path, c.Old, false)
	}
	if c.New != nil {
		r.walk(c.Path, c.New, true)
	}
}

// walk visits what came (in) or went.
func (r *run) walk(at *data.Path, n data.Node, in bool) {
	switch n := n.(type) {
	case *data.Leaf:
		if _, ok := r.v.paths[n.S]; ok && n.S.HasRefs {
			if in {
				r.refs.Add(refKey(n.S, n.Value.Text), 1)
				r.now = append(r.now, found{at, n})
			} else {
				r.refs.Add(refKey(n.S, n.Value.Text), -1)
			}
		}
		if !in && r.v.by[n.S] != nil {
			r.gone = append(r.gone, *n)
		}
	case *data.Container:
		if in {
			r.required(at, n)
		}
		for _, k := range n.Kids() {
			s := k.Schema()
			if in && !s.Checked {
				continue // nothing here to check
			}
			if l, ok := k.(*data.List); ok {
				l.Each(func(key string, e data.Node) bool {
					r.walk(&data.Path{Up: at, Schema: s, Key: key, Entry: true}, e, in)
					return true
				})
				continue
			}
			r.walk(&data.Path{Up: at, Schema: s}, k, in)
		}
	}
}

// required checks what must stand in a container that exists.
func (r *run) required(at *data.Path, c *data.Container) {
	r.kids(at, c, c.S, c.S.Kids)
	for _, k := range c.Kids() {
		if l, ok := k.(*data.List); ok && l.S.Max > 0 && l.Len() > l.S.Max {
			r.fail(&data.Path{Up: at, Schema: l.S}, "operation-failed", "too-many-elements", "too many entries")
		}
	}
}

func (r *run) kids(at *data.Path, c *data.Container, s *yang.Node, kids []*yang.Node) {
	if s.Kind != yang.Choice && s.Kind != yang.Case && !s.Required {
		return
	}
	for _, k := range kids {
		if !k.Config || len(k.When) > 0 { // a when may be false: not evaluated yet
			continue
		}
		switch k.Kind {
		case yang.Leaf:
			if k.Mandatory && c.Child(k) == nil && !k.IsKey() {
				r.fail(&data.Path{Up: at, Schema: k}, "data-missing", "", "mandatory leaf is missing")
			}
		case yang.List, yang.LeafList:
			if k.Min > 0 && c.List(k).Len() < k.Min {
				r.fail(&data.Path{Up: at, Schema: k}, "operation-failed", "too-few-elements", "too few entries")
			}
		case yang.Container:
			if !k.Presence && k.Required && c.Sub(k) == nil {
				r.kids(&data.Path{Up: at, Schema: k}, nil, k, k.Kids)
			}
			if sub := c.Sub(k); !k.Presence && k.Required && sub != nil {
				r.kids(&data.Path{Up: at, Schema: k}, sub, k, k.Kids)
			}
		case yang.Choice:
			var active *yang.Node
			for _, cs := range k.Kids {
				if present(c, cs) {
					active = cs
				}
			}
			if active != nil {
				r.kids(at, c, active, active.Kids)
			} else if k.Mandatory {
				r.fail(at, "data-missing", "missing-choice", "nothing of choice "+k.Name)
			}
		}
	}
}

func present(c *data.Container, s *yang.Node) bool {
	for _, k := range s.Kids {
		if k.Kind == yang.Choice || k.Kind == yang.Case {
			if present(c, k) {
				return true
			}
		} else if c.Child(k) != nil {
			return true
		}
	}
	return false
}

// resolves checks one leafref instance.
func (r *run) resolves(f found) {
	p := r.v.paths[f.leaf.S]
	var from data.Node = r.root
	if p.ups > 0 {
		at := f.at
		for range p.ups {
			at = at.Up
		}
		from = r.node(at)
	}
	if c, _ := from.(*data.Container); c == nil || !exists(c, p.down, f.leaf.Value.Text) {
		r.fail(f.at, "data-missing", "instance-required", "no "+f.leaf.S.Type.Target.Path()+" is "+f.leaf.Value.Text)
	}
}

func (r *run) node(p *data.Path) data.Node {
	if p == nil {
		return r.root
	}
	c, _ := r.node(p.Up).(*data.Container)
	n := c.Child(p.Schema)
	if l, ok := n.(*data.List); ok && p.Entry {
		return l.Get(p.Key)
	}
	return n
}

// exists looks for a value: by key where the target is the only key of a
// list, else through all entries.
func exists(c *data.Container, down []*yang.Node, value string) bool {
	switch n := c.Child(down[0]).(type) {
	case *data.Leaf:
		return n.Value.Text == value
	case *data.Container:
		return exists(n, down[1:], value)
	case *data.List:
		if len(down) == 1 || len(down) == 2 && down[1].IsKey() && len(down[0].Keys) == 1 {
			return n.Get(value) != nil
		}
		ok := false
		n.Each(func(_ string, e data.Node) bool {
			ok = exists(e.(*data.Container), down[1:], value)
			return !ok
		})
		return ok
	}
	return false
}

// referrers checks what pointed at a removed target.
func (r *run) referrers(t data.Leaf) {
	for _, l := range r.v.by[t.S] {
		p := r.v.paths[l]
		if r.refs.Get(refKey(l, t.Value.Text)) == 0 || p.ups < 0 && exists(r.root, p.down, t.Value.Text) {
			continue
		}
		r.instances(nil, r.root, l, t.Value.Text) // only now, to name them
	}
}

func (r *run) instances(at *data.Path, c *data.Container, l *yang.Node, value string) {
	for _, k := range c.Kids() {
		s := k.Schema()
		if !s.HasRefs {
			continue
		}
		switch k := k.(type) {
		case *data.Leaf:
			if s == l && k.Value.Text == value {
				r.resolves(found{&data.Path{Up: at, Schema: s}, k})
			}
		case *data.Container:
			r.instances(&data.Path{Up: at, Schema: s}, k, l, value)
		case *data.List:
			k.Each(func(key string, e data.Node) bool {
				if ec, ok := e.(*data.Container); ok {
					r.instances(&data.Path{Up: at, Schema: s, Key: key, Entry: true}, ec, l, value)
				}
				return true
			})
		}
	}
}
