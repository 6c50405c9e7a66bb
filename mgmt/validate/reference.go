package validate

import (
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// A reference is a leaf or leaf-list whose values need an instance elsewhere
// (RFC 7950 sections 9.9 and 9.13).
type reference struct {
	id     int
	leaf   *yang.Node
	ways   []way        // its leafrefs: one, or those of a union
	ids    bool         // it holds instance-identifiers
	others []*yang.Type // members of its union that need no instance
}

// way is one leafref type.
type way struct {
	expr   *xpath.Expr
	target *yang.Node
	// A path without predicates goes ups levels up (-1: to the root) and then
	// down. It is looked up without the evaluator.
	simple bool
	ups    int
	down   []*yang.Node
}

// compileRef finds what a leaf refers to. Values are counted where that
// suffices to know what a removed target leaves dangling; references with
// defaults, or to defaults, are conditions like must.
func (v *Validator) compileRef(n *yang.Node) {
	if n.Kind != yang.Leaf && n.Kind != yang.LeafList {
		return
	}
	ref := &reference{id: v.nRules, leaf: n}
	v.nRules++
	counted := len(n.Defaults) == 0
	for _, t := range members(n.Type) {
		expr := v.xp.Leafref(n, t)
		switch {
		case t.Base == yang.InstanceIdentifier && !t.NoInst:
			ref.ids = true
		case t.Base == yang.LeafRef && !t.NoInst && expr != nil:
			w := way{expr: expr, target: t.Target}
			w.plain(v.schema, n, t)
			ref.ways = append(ref.ways, w)
			counted = counted && len(t.Target.Defaults) == 0 && !expr.ReadsAll
		default:
			ref.others = append(ref.others, t)
		}
	}
	if len(ref.ways) == 0 && !ref.ids {
		return
	}
	if ref.ids {
		v.idRefs = append(v.idRefs, ref)
	}
	if counted {
		v.info[n.ID].ref = ref
	}
	for _, w := range ref.ways {
		if counted {
			in := &v.info[w.target.ID]
			in.targetOf = append(in.targetOf, ref)
			if w.simple {
				continue
			}
		}
		x := v.add(&rule{kind: ruleRef, ctx: n, expr: w.expr, ref: ref})
		for _, u := range w.expr.Unknown {
			v.unknown = append(v.unknown, n.Path()+": "+u)
		}
		for _, d := range w.expr.Reads {
			// counted: only what predicates compare with; targets are counted,
			// and with an entry on the way its target goes
			leaf := d.Node.Kind == yang.Leaf || d.Node.Kind == yang.LeafList
			if !counted || leaf && !d.Node.IsKey() && d.Node != w.target {
				v.read(x, d, false)
			}
		}
		if !counted {
			v.read(x, xpath.Dep{Node: n, Anchor: n}, true)
			if w.expr.ReadsAll {
				v.always = append(v.always, x)
			}
		}
	}
	if !counted && len(ref.ways) == 0 { // an instance-identifier with a default
		x := v.add(&rule{kind: ruleRef, ctx: n, ref: ref})
		v.read(x, xpath.Dep{Node: n, Anchor: n}, true)
		v.always = append(v.always, x)
	}
}

// plain recognises a path without predicates. A target with a default may
// exist without standing in the tree; only the evaluator sees that.
func (w *way) plain(s *yang.Schema, n *yang.Node, t *yang.Type) {
	text := t.RefPath().Text
	w.ups = -1
	top := s.Root
	if !strings.HasPrefix(text, "/") {
		w.ups, top = 0, n
		for strings.HasPrefix(text, "../") && top != nil {
			text = text[3:]
			w.ups++
			top = top.Up
		}
		if w.ups == 0 {
			return
		}
	}
	if strings.ContainsAny(text, "[( ") || strings.Contains(text, "./") || len(t.Target.Defaults) > 0 {
		return
	}
	for a := t.Target; a != top; a = a.Up {
		if a == nil {
			return
		}
	}
	w.simple, w.down = true, chain(top, t.Target)
}

// anyID counts all instance-identifiers.
const anyID = "i"

func idKey(p *data.Path) string { return "i" + p.String() }

func (ref *reference) key(value string) string {
	n := ref.leaf.ID
	return string([]byte{'r', byte(n >> 16), byte(n >> 8), byte(n)}) + value
}

// needed tells whether a value needs an instance: not when another member of
// the union takes it.
func (ref *reference) needed(v *Validator, value yang.Value) bool {
	for _, t := range ref.others {
		if _, err := t.Parse(value.Text, v.schema.Names()); err == nil {
			return false
		}
	}
	return true
}

// named gives the path that an instance-identifier means, nil when it is none
// or names nothing that the schema has.
func (r *run) named(value yang.Value) *data.Path {
	if value.Type.Base != yang.InstanceIdentifier {
		return nil
	}
	p, err := data.ParsePath(r.v.schema.Root, value.Text)
	if err != nil {
		return nil
	}
	return p
}

// leafCame handles a value that is new in its place.
func (r *run) leafCame(self *xpath.Instance) {
	ref := r.v.info[self.Schema.ID].ref
	if r.guards || ref == nil {
		return
	}
	value := self.Node.(*data.Leaf).Value
	if !ref.needed(r.v, value) {
		return
	}
	r.count(ref, value, 1)
	r.refers(ref, self)
}

func (r *run) count(ref *reference, value yang.Value, d int) {
	if len(ref.ways) > 0 {
		r.refs.Add(ref.key(value.Text), d)
	}
	if ref.ids {
		if p := r.named(value); p != nil {
			r.refs.Add(idKey(p), d)
			r.refs.Add(anyID, d)
		}
	}
}

// goneTarget is a value that left the target of references below up.
type goneTarget struct {
	up     *data.Path
	target *yang.Node
	value  string
}

// leafGone handles a value that left its place; up is still there.
func (r *run) leafGone(up *xpath.Instance, d *yang.Node, l *data.Leaf) {
	if r.guards {
		return
	}
	in := &r.v.info[d.ID]
	if in.ref != nil && in.ref.needed(r.v, l.Value) {
		r.count(in.ref, l.Value, -1)
	}
	if len(in.targetOf) > 0 {
		r.gone = append(r.gone, goneTarget{up.Path(), d, l.Value.Text})
	}
}

// idGone notes a node that went; n is nil for a default.
func (r *run) idGone(p *data.Path, n data.Node) {
	if n != nil || p.Schema.Kind != yang.LeafList {
		r.goneIDs = append(r.goneIDs, p)
		return
	}
	for _, v := range p.Schema.Defaults {
		r.goneIDs = append(r.goneIDs, &data.Path{Up: p.Up, Schema: p.Schema, Key: v.Text, Entry: true})
	}
}

// refers checks one reference.
func (r *run) refers(ref *reference, i *xpath.Instance) {
	value, ok := r.e.Value(i)
	if !ok || !ref.needed(r.v, value) {
		return
	}
	for _, w := range ref.ways {
		found, err := r.resolves(w, i, value.Text)
		if err != nil {
			r.tooMuch(i, err)
			return
		}
		if found {
			return
		}
	}
	if ref.ids {
		if p := r.named(value); p != nil {
			mark := r.e.Mark()
			found := r.e.At(p) != nil
			r.e.Free(mark)
			if found {
				return
			}
		}
	}
	if !r.once(ref.id, i, "") {
		return // told already
	}
	msg := "the instance that is referred to does not exist"
	if !ref.leaf.Secret() {
		msg = "there is no such instance: " + value.Text
		if len(ref.ways) == 1 {
			msg = "no " + ref.ways[0].target.Path() + " is " + value.Text
		}
	}
	r.fail(i.Path(), "data-missing", "instance-required", msg)
}

func (r *run) resolves(w way, i *xpath.Instance, value string) (bool, error) {
	if !w.simple {
		return r.e.Matches(w.expr, i, func(n *xpath.Instance) bool {
			v, ok := r.e.Value(n)
			return ok && v.Text == value
		})
	}
	from := r.e.Root()
	if w.ups > 0 {
		for from = i; from.Schema != w.down[0].Up; {
			from = from.Up
		}
	}
	c, _ := from.Node.(*data.Container)
	return exists(c, w.down, value), nil
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

// finish does what needs the counts of the whole change.
func (r *run) finish() {
	for _, t := range r.gone {
		for _, ref := range r.v.info[t.target.ID].targetOf {
			if r.refs.Get(ref.key(t.value)) > 0 {
				r.referrers(ref, t)
			}
		}
	}
	for _, p := range r.goneIDs {
		if r.refs.Get(idKey(p)) > 0 {
			r.identifiers(p.String())
		}
	}
	r.conflicts()
}

// referrers checks what may have pointed at a removed target.
func (r *run) referrers(ref *reference, t goneTarget) {
	for _, w := range ref.ways {
		if w.target != t.target || w.simple && w.ups < 0 && exists(r.new, w.down, t.value) {
			continue
		}
		base := r.at(t.up)
		anchor := r.v.schema.Root
		for _, d := range w.expr.Reads {
			if d.Node == t.target {
				anchor = d.Anchor
			}
		}
		for base != nil && base.Schema != anchor {
			base = base.Up
		}
		// no base: the anchor went, and with it all that pointed from below it
		if base == nil || !r.once(ref.id, base, "gone "+t.value) {
			continue
		}
		r.descend(base, chain(anchor, ref.leaf), func(i *xpath.Instance) {
			if v, ok := r.e.Value(i); ok && v.Text == t.value {
				r.refers(ref, i)
			}
		})
	}
}

// identifiers checks the instance-identifiers that named a removed node.
func (r *run) identifiers(path string) {
	root := r.e.Root()
	for _, ref := range r.v.idRefs {
		r.descend(root, chain(root.Schema, ref.leaf), func(i *xpath.Instance) {
			v, ok := r.e.Value(i)
			if !ok {
				return
			}
			if p := r.named(v); p != nil && p.String() == path {
				r.refers(ref, i)
			}
		})
	}
}
