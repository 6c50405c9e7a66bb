package yang

import (
	"slices"
	"strings"
)

// finish numbers the nodes, flattens choices and settles inherited properties.
func (s *Schema) finish(n, up *Node, config bool) {
	n.ID = s.N
	s.N++
	n.Up = up
	n.Config = config && n.config != 2
	switch n.Kind {
	case RPC, Action, Notification, Input, Output:
		n.Config = false
	}
	n.UserOrder = n.UserOrder && (n.Config || n.inInput()) // RFC 7950 7.7.7: ignored for state
	if n.Parent != nil {
		n.secret, n.guarded = n.Parent.secret, n.Parent.guarded
	}
	n.secret = n.secret || n.DenyAll
	n.guarded = n.guarded || n.DenyAll || n.DenyWrite
	for _, u := range n.unique {
		n.Unique = append(n.Unique, strings.Fields(u))
	}
	if n.Type != nil && n.Units == "" {
		n.Units = n.Type.Units
	}
	if n.Module != nil {
		slices.Sort(n.Module.Deviations)
		n.Open = []byte("<" + n.Name + ">")
		n.OpenNS = []byte("<" + n.Name + ` xmlns="` + n.Module.Namespace + `">`)
		n.Close = []byte("</" + n.Name + ">")
	}
	s.findKeys(n)
	if n.Kind == Choice && len(n.Default) > 0 {
		_, name := split(n.Default[0])
		n.DefaultCase = n.kid(nil, name) // nil when its feature is off
	}
	if n.Kind == Choice || n.Kind == Case {
		for _, k := range n.Kids {
			s.finish(k, up, n.Config)
		}
		return
	}
	n.byName = map[string]*Node{}
	n.Data = append(n.Data, n.Keys...)
	n.flatten(n.Kids)
	for i, d := range n.Data {
		d.Slot = i
		if old := n.byName[d.Name]; old != nil {
			for k := old; k != nil; k = k.twin {
				if k.Module == d.Module {
					fail(d.Module, d.st, "duplicate node")
				}
			}
			d.twin = old
		}
		n.byName[d.Name] = d
	}
	for _, k := range n.Kids {
		s.finish(k, n, n.Config)
	}
	for _, d := range n.Data {
		d.Conditional = len(d.When) > 0
		for c := d.Parent; c != n; c = c.Parent {
			d.Conditional = d.Conditional || len(c.When) > 0
			if c.Kind != Case {
				continue
			}
			for _, o := range n.Data {
				if o != d && !o.within(c) && o.within(c.Parent) {
					d.Rivals = append(d.Rivals, o.Slot)
				}
			}
		}
	}
}

// gatherEvents makes the root of Events.
func (s *Schema) gatherEvents() {
	r := &Node{Kind: Root, ID: s.N, byName: map[string]*Node{}}
	s.N++
	for _, n := range s.Root.Ops {
		if n.Kind != Notification {
			continue
		}
		n.Up, n.Slot, n.twin = r, len(r.Data), r.byName[n.Name]
		r.Data, r.Kids = append(r.Data, n), append(r.Kids, n)
		r.byName[n.Name] = n
	}
	s.events = r
}

func (n *Node) inInput() bool {
	for ; n != nil; n = n.Parent {
		if n.Kind == Input {
			return true
		}
	}
	return false
}

func (s *Schema) findKeys(n *Node) {
	if n.Kind != List {
		return
	}
	for _, k := range strings.Fields(n.keyArg) {
		_, name := split(k)
		kn := n.kid(nil, name)
		if kn == nil || kn.Kind != Leaf {
			fail(n.Module, n.st, "key %s is not a leaf", name)
		}
		n.Keys = append(n.Keys, kn)
	}
	if len(n.Keys) == 0 && n.Config {
		fail(n.Module, n.st, "config list without key")
	}
}

func (n *Node) within(a *Node) bool {
	for ; n != nil; n = n.Parent {
		if n == a {
			return true
		}
	}
	return false
}

// flatten gathers the data children of n and its operations.
func (n *Node) flatten(kids []*Node) {
	for _, k := range kids {
		switch k.Kind {
		case Choice, Case:
			n.flatten(k.Kids)
		case RPC, Action, Notification:
			n.Ops = append(n.Ops, k)
		case Input, Output:
		default:
			if !slices.Contains(n.Keys, k) {
				n.Data = append(n.Data, k)
			}
		}
	}
}

// setDefaults gives every leaf its defaults in canonical form: its own, else
// its type's; a mandatory leaf has none (RFC 7950 sections 7.6.1 and 7.7.2).
// It runs when leafrefs are bound, as theirs have the type of the target.
func (s *Schema) setDefaults(n *Node) {
	for _, d := range n.Kids {
		s.setDefaults(d)
		if d.Kind == Container && d.Presence {
			d.HasDefaults = false
		}
		n.HasDefaults = n.HasDefaults || d.HasDefaults && d.Kind != List
		if d.Kind != Leaf && d.Kind != LeafList {
			continue
		}
		if d.IsKey() {
			d.Default = nil // RFC 7950 section 7.8.2: of no meaning there
			continue
		}
		ctx := d.defCtx
		if d.Default == nil && d.Type.Default != "" && !d.Mandatory && d.Min == 0 {
			d.Default, ctx = []string{d.Type.Default}, d.Type.defCtx
		}
		if len(d.Default) > 1 && d.Kind == Leaf {
			fail(d.Module, d.st, "a leaf has one default")
		}
		text := make([]string, len(d.Default))
		for i, v := range d.Default {
			val, err := d.Type.parseModule(v, modPrefixes{ctx})
			if err != nil {
				fail(d.Module, d.st, "default %q: %v", v, err)
			}
			d.Defaults = append(d.Defaults, val)
			text[i] = val.Text
		}
		if d.Default != nil {
			d.Default, d.HasDefaults, n.HasDefaults = text, true, true
		}
	}
}

// mark computes Required, HasRefs and Checked bottom-up.
func (s *Schema) mark(n *Node) {
	for _, d := range n.Data {
		s.mark(d)
		if d.Config {
			n.HasRefs = n.HasRefs || d.HasRefs
			n.Checked = n.Checked || d.Checked || d.Max > 0
			n.Required = n.Required || d.Mandatory || d.Min > 0 || d.Kind == Container && !d.Presence && d.Required
		}
	}
	if n.Type != nil {
		n.HasRefs = n.Type.ref != nil
	}
	for _, k := range n.Kids {
		n.Required = n.Required || n.Kind != Choice && mandatoryChoice(k)
	}
	n.Checked = n.Checked || n.Required || n.HasRefs
}

func mandatoryChoice(n *Node) bool {
	if n.Kind == Choice && n.Mandatory {
		return true
	}
	if n.Kind == Choice && len(n.Default) > 0 {
		_, name := split(n.Default[0])
		n.DefaultCase = n.kid(nil, name) // nil when its feature is off
	}
	if n.Kind == Choice || n.Kind == Case {
		for _, k := range n.Kids {
			if mandatoryChoice(k) {
				return true
			}
		}
	}
	return false
}
