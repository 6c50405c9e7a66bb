// Package validate checks a configuration tree (RFC 7950 section 8): must and
// when, mandatory nodes and choices, min- and max-elements, unique, leafrefs
// and instance-identifiers in both directions. Types and keys were checked
// when the data was read; state is never checked.
//
// A change is checked in time that follows its size. For every schema node
// the Validator knows which conditions read it, and from which common
// ancestor; from a changed instance it finds the instances of those
// conditions, and evaluates no other. Conditions that are reached by an
// absolute path are evaluated for all their instances. References and unique
// values are counted, so that one that goes or comes costs a look-up.
package validate

import (
	"fmt"
	"slices"

	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// A Validator holds what the schema alone tells. It does not change after New,
// so any number of goroutines may use it.
type Validator struct {
	schema  *yang.Schema
	xp      *xpath.Engine
	info    []info  // by schema node ID
	always  []*rule // those that may read anything
	idRefs  []*reference
	nRules  int
	unknown []string
}

// Refs is what a tree's validation keeps for the next change: how often each
// referenced value and each unique combination occurs. It belongs to one
// tree, shares structure with its predecessor, and is swapped with the tree.
// The zero Refs belongs to the empty tree.
type Refs struct{ data.Counts }

// New prepares a schema. The error names the node whose expression cannot be
// compiled.
func New(s *yang.Schema) (*Validator, error) {
	xp, err := xpath.New(s)
	if err != nil {
		return nil, err
	}
	v := &Validator{schema: s, xp: xp, info: make([]info, s.N)}
	if err := v.compile(s.Root); err != nil {
		return nil, err
	}
	v.mark(s.Root)
	return v, nil
}

// XPath gives the engine that the conditions are compiled with; filters may
// share it.
func (v *Validator) XPath() *xpath.Engine { return v.xp }

// Unknown lists names in conditions that no schema node has, as "node: name".
// They are no error, since a feature may be off, but a module that is whole
// has none.
func (v *Validator) Unknown() []string { return slices.Clone(v.unknown) }

// Change validates the step from old to new. refs belongs to old, which is
// valid or empty. It returns the tree to use: new without the nodes whose when
// condition turned false by a change elsewhere (RFC 7950 section 8.2), the
// same pointer when there are none; and the Refs of that tree. Nodes that new
// adds or changes under a false condition are errors. With errors the other
// results are nothing to use.
func (v *Validator) Change(old, new *data.Container, refs Refs) (out *data.Container, outRefs Refs, errs data.Errors) {
	out, outRefs, errs, _ = v.change(old, new, refs)
	return out, outRefs, errs
}

// Settled is Change for a new that came of old by steps that went through When,
// each from what the one before gave: no node of it stands under a false condition,
// and that is not looked for again.
func (v *Validator) Settled(old, new *data.Container, refs Refs) (Refs, data.Errors) {
	outRefs, errs, _ := v.check(old, new, refs)
	return outRefs, errs
}

// All validates a whole tree, as read at the start, and gives its Refs.
func (v *Validator) All(tree *data.Container) (Refs, data.Errors) {
	_, refs, errs, _ := v.change(data.New(v.schema), tree, Refs{})
	return refs, errs
}

// When does only the part of Change that belongs to an edit of a candidate
// rather than to its validation: nodes whose condition an edit turns false go,
// and nodes that the edit sends under a false condition are refused (RFC 7950
// sections 8.2 and 8.3.1).
func (v *Validator) When(old, new *data.Container) (out *data.Container, errs data.Errors) {
	out, errs, _ = v.settle(old, new)
	return out, errs
}

// change also counts the evaluated expressions.
func (v *Validator) change(old, new *data.Container, refs Refs) (*data.Container, Refs, data.Errors, int) {
	out, errs, n := v.settle(old, new)
	if len(errs) > 0 {
		return new, refs, errs, n
	}
	outRefs, errs, m := v.check(old, out, refs)
	return out, outRefs, errs, n + m
}

// check is what Change does when the conditions of nodes hold.
func (v *Validator) check(old, new *data.Container, refs Refs) (Refs, data.Errors, int) {
	r := v.begin(old, new)
	r.refs = refs.Begin()
	r.noPrune = r.refs.Get(anyID) > 0
	r.walk()
	r.finish()
	return Refs{r.refs.Done()}, r.errs, r.e.Count
}

// run is one pass over a change.
type run struct {
	v        *Validator
	old, new *data.Container
	e        *xpath.Eval // on new
	errs     data.Errors

	full    bool // everything is new
	guards  bool // first pass: settle conditions of nodes, check nothing else
	noPrune bool // second pass: some instance-identifier may mean any deleted node
	refs    *data.CountEdit
	seen    map[seenKey]bool

	lastPath *data.Path
	lastAt   *xpath.Instance
	free     int // mark after lastAt

	off      []offNode    // first pass: nodes under a false condition
	gone     []goneTarget // removed targets of references
	goneIDs  []*data.Path // removed nodes
	conflict []conflict   // unique combinations that came
}

// seenKey names what was done already: a rule at an instance. An implied
// instance is named by the nearest one that is there.
type seenKey struct {
	rule int
	n    data.Node
	s    *yang.Node
	key  string
}

// pseudo rules for seenKey; real ones count from 0.
const (
	seenRequired = -1 - iota
	seenImplied
	seenUnique
	seenBase // minus the rule
)

func (v *Validator) begin(old, new *data.Container) *run {
	return &run{v: v, old: old, new: new, e: v.xp.On(new), seen: map[seenKey]bool{}}
}

func (r *run) fail(p *data.Path, tag, app, msg string, info ...data.Info) {
	r.errs = append(r.errs, &data.Error{Tag: tag, AppTag: app, Path: p.String(), Msg: msg, Info: info})
}

// once tells whether this is the first time for a rule at an instance; extra
// tells apart what pseudo rules do there.
func (r *run) once(rule int, i *xpath.Instance, extra string) bool {
	k := seenKey{rule: rule, n: i.Node, key: extra}
	if i.Implied() {
		k.s = i.Schema
		if extra == "" {
			k.key = i.Key
		}
		for k.n == nil {
			i = i.Up
			k.n = i.Node
		}
	}
	if r.seen[k] {
		return false
	}
	r.seen[k] = true
	return true
}

// at finds an instance by its path; that of the last one is kept, since
// changes come in groups.
func (r *run) at(p *data.Path) *xpath.Instance {
	if p == nil {
		return r.e.Root()
	}
	if p != r.lastPath {
		r.e.Free(0)
		r.lastPath, r.lastAt = p, r.e.At(p)
		r.free = r.e.Mark()
	}
	return r.lastAt
}

// walk visits everything that differs.
func (r *run) walk() {
	if len(r.old.Kids()) == 0 {
		r.full = true
		r.visit(r.e.Root(), 0)
		return
	}
	if r.old == r.new {
		return
	}
	any := false
	data.Diff(r.old, r.new, func(c data.Change) {
		any = true
		r.change(c)
	})
	if !any {
		return
	}
	root := r.e.Root()
	for _, x := range r.v.always {
		if x.kind == ruleGuard || !r.guards {
			r.contexts(root, &reader{rule: x, anchor: root.Schema, down: chain(root.Schema, x.ctx), id: "always"})
		}
	}
}

// change handles one report of the diff.
func (r *run) change(c data.Change) {
	d := c.Path.Schema
	if !d.Config || !r.affects(d, c.Kind == data.Created || c.Kind == data.Deleted) {
		return
	}
	up := r.at(c.Path.Up)
	if up == nil { // not reached: the container stands in both trees
		panic(fmt.Sprintf("validate: no %s", c.Path.Up))
	}
	level := levelOf(up) + 1
	switch c.Kind {
	case data.Moved:
		r.withSelf(up, d, c.Path.Key, func(self *xpath.Instance) { r.touch(up, d, self, maxLevel) })
	case data.Modified:
		r.leafGone(up, d, c.Old.(*data.Leaf))
		r.unique(up, d)
		r.withSelf(up, d, c.Path.Key, func(self *xpath.Instance) {
			r.touch(up, d, self, maxLevel)
			r.leafCame(self)
		})
	case data.Created:
		if r.v.info[d.ID].worth(r.guards) {
			r.withSelf(up, d, c.Path.Key, func(self *xpath.Instance) { r.visit(self, level) })
		}
	case data.Deleted:
		r.leave(up, d, c.Old, c.Path)
		if implicit(d) && r.v.info[d.ID].worth(r.guards) { // defaults take its place
			r.e.Kids(up, d, func(i *xpath.Instance) bool { r.visit(i, maxLevel); return true })
		}
	}
	if c.Kind == data.Created || c.Kind == data.Deleted {
		r.siblings(up, d)
		if !r.guards {
			r.required(up)
		}
	}
	r.e.Free(r.free)
}

// affects tells whether a change at d can matter at all; count tells that d
// came or went.
func (r *run) affects(d *yang.Node, count bool) bool {
	in := &r.v.info[d.ID]
	return r.noPrune || in.worth(r.guards) || count && (len(in.siblings) > 0 || !r.guards && r.v.info[d.Up.ID].demands)
}

func (r *run) withSelf(up *xpath.Instance, d *yang.Node, key string, f func(*xpath.Instance)) {
	if i := r.e.Child(up, d, key); i != nil {
		f(i)
	}
}

func levelOf(i *xpath.Instance) int {
	n := 0
	for ; i.Up != nil; i = i.Up {
		n++
	}
	return n
}

// maxLevel is deeper than any node.
const maxLevel = 1 << 20

// visit handles an instance that came, with everything below it. top is the
// level of the topmost one that came with it.
func (r *run) visit(self *xpath.Instance, top int) {
	d := self.Schema
	if self.Up != nil {
		r.touch(self.Up, d, self, top)
	}
	if d.Kind == yang.Leaf || d.Kind == yang.LeafList {
		r.unique(self.Up, d)
		if !self.Implied() {
			r.leafCame(self)
		}
		return
	}
	if !r.guards {
		for _, u := range r.v.info[d.ID].lists {
			r.tuple(u, self)
		}
		if top == maxLevel {
			r.required(self)
		} else if !self.Implied() && r.v.info[d.ID].demands {
			r.demand(self, d.Kids) // nothing else asks for it
		}
	}
	for _, k := range r.v.info[d.ID].kids(r.guards) {
		r.e.Kids(self, k, func(i *xpath.Instance) bool { r.visit(i, top); return true })
	}
}

// leave handles a node that went, with everything below it. up stands in the
// new tree.
func (r *run) leave(up *xpath.Instance, d *yang.Node, n data.Node, p *data.Path) {
	in := &r.v.info[d.ID]
	if n == nil && !implicit(d) || !r.noPrune && !in.worth(r.guards) {
		return
	}
	r.touchGone(up, d)
	if r.noPrune {
		r.idGone(p, n)
	}
	r.unique(up, d)
	switch n := n.(type) {
	case *data.Leaf:
		r.leafGone(up, d, n)
	case *data.Container:
		if !r.guards {
			for _, u := range in.lists {
				r.tupleGone(u, n, p)
			}
		}
		for _, k := range r.inside(d) {
			if l, ok := n.Child(k).(*data.List); ok {
				l.Each(func(key string, e data.Node) bool {
					r.leave(up, k, e, &data.Path{Up: p, Schema: k, Key: key, Entry: true})
					return true
				})
				continue
			}
			r.leave(up, k, n.Child(k), &data.Path{Up: p, Schema: k})
		}
	case nil: // defaults that were there
		for _, k := range r.inside(d) {
			r.leave(up, k, nil, &data.Path{Up: p, Schema: k})
		}
	}
}

// inside gives the children where there is something to do when d goes.
func (r *run) inside(d *yang.Node) []*yang.Node {
	if r.noPrune {
		return d.Data
	}
	return r.v.info[d.ID].kids(r.guards)
}

// touch finds the conditions that read d and evaluates them where the instance
// self below up can matter; self is nil when it is gone or unknown. In a
// subtree that came, whose topmost node is at level top, the conditions inside
// are evaluated once, as their own context is visited.
func (r *run) touch(up *xpath.Instance, d *yang.Node, self *xpath.Instance, top int) {
	for _, rd := range r.v.info[d.ID].readers(r.guards) {
		base := up
		if rd.anchor == d {
			if base = self; self == nil {
				continue
			}
		}
		switch {
		case rd.own && rd.rule.kind == ruleGuard && !r.guards:
			continue
		case rd.sole && rd.rule.lowest >= top:
			r.apply(rd.rule, base)
			continue
		case !rd.own && rd.level >= top:
			continue
		}
		for base.Schema != rd.anchor {
			base = base.Up
		}
		r.contexts(base, rd)
	}
}

func (r *run) touchGone(up *xpath.Instance, d *yang.Node) {
	level := levelOf(up)
	for _, rd := range r.v.info[d.ID].readers(r.guards) {
		if rd.level > level {
			continue // its instances went too
		}
		base := up
		for base.Schema != rd.anchor {
			base = base.Up
		}
		r.contexts(base, rd)
	}
}

// siblings handles what a node in a choice does to the others: with it their
// defaults come or go.
func (r *run) siblings(up *xpath.Instance, d *yang.Node) {
	all := r.v.info[d.ID].siblings
	if r.noPrune {
		all = r.v.info[d.ID].fellows
	}
	for _, k := range all {
		r.again(up, k)
	}
}

// isNew tells whether an instance came with this change, so that it is
// visited, or has been, with all its defaults.
func (r *run) isNew(i *xpath.Instance) bool {
	for i.Implied() {
		i = i.Up
	}
	return r.full || i.Path().In(r.old) == nil
}

// again handles that defaults of k below up may have come or gone.
func (r *run) again(up *xpath.Instance, k *yang.Node) {
	if !r.noPrune && !r.v.info[k.ID].worth(r.guards) || r.isNew(up) || !r.once(seenImplied, up, fmt.Sprint(k.ID)) {
		return
	}
	r.leave(up, k, nil, below(up, k))
	r.e.Kids(up, k, func(i *xpath.Instance) bool {
		if i.Implied() {
			r.visit(i, maxLevel)
		}
		return true
	})
}

// contexts evaluates a rule at all its instances below base.
func (r *run) contexts(base *xpath.Instance, rd *reader) {
	if len(rd.down) > 0 && !r.once(seenBase-rd.rule.id, base, rd.id) {
		return
	}
	r.descend(base, rd.down, func(i *xpath.Instance) {
		if r.once(rd.rule.id, i, "") {
			r.apply(rd.rule, i)
		}
		if rd.rule.kind == ruleGuard && !rd.own && r.once(rd.rule.id, i, "turned") {
			r.turned(rd.rule, i)
		}
	})
}

// descend visits the instances of the last schema node of a chain.
func (r *run) descend(i *xpath.Instance, down []*yang.Node, f func(*xpath.Instance)) {
	if len(down) == 0 {
		f(i)
		return
	}
	r.e.Kids(i, down[0], func(k *xpath.Instance) bool {
		r.descend(k, down[1:], f)
		return true
	})
}

// apply evaluates a rule at an instance of its context.
func (r *run) apply(x *rule, i *xpath.Instance) {
	switch x.kind {
	case ruleGuard:
		r.guard(x, i)
	case ruleMust:
		r.must(x, i)
	case ruleRef:
		r.refers(x.ref, i)
	}
}

func (r *run) must(x *rule, i *xpath.Instance) {
	ok, err := r.e.Bool(x.expr, i)
	switch {
	case err != nil:
		r.tooMuch(i, err)
	case !ok:
		app, msg := x.text.AppTag, x.text.Message
		if app == "" {
			app = "must-violation" // RFC 7950 section 15.4
		}
		if msg == "" {
			msg = "the condition does not hold: " + x.text.Text
		}
		r.fail(i.Path(), "operation-failed", app, msg)
	}
}

// tooMuch reports an evaluation that was cut off: what could not be checked is
// refused.
func (r *run) tooMuch(i *xpath.Instance, err error) {
	r.fail(i.Path(), "resource-denied", "", err.Error())
}
