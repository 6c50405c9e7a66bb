package validate

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// required checks what must stand in a container that exists, and how many
// entries its lists have (RFC 7950 sections 7.6.5, 7.7.5, 7.9.4). An absent
// container without presence counts as there, so what is mandatory in it is.
func (r *run) required(i *xpath.Instance) {
	for i.Implied() {
		i = i.Up // what is missing in an implied container is missing there
	}
	if !r.v.info[i.Schema.ID].demands || !r.once(seenRequired, i, "") {
		return
	}
	r.demand(i, i.Schema.Kids)
}

func (r *run) demand(up *xpath.Instance, kids []*yang.Node) {
	c, _ := up.Node.(*data.Container)
	for _, k := range kids {
		if !k.Config {
			continue
		}
		switch k.Kind {
		case yang.Leaf, yang.AnyData:
			if k.Mandatory && !k.IsKey() && c.Child(k) == nil && r.allowed(up, k) {
				r.fail(below(up, k), "data-missing", "", "mandatory "+k.Kind.String()+" is missing")
			}
		case yang.List, yang.LeafList:
			n := c.List(k).Len()
			if n < k.Min && (n > 0 || r.allowed(up, k)) {
				r.fail(below(up, k), "operation-failed", "too-few-elements", "too few entries")
			}
			if k.Max > 0 && n > k.Max {
				r.fail(below(up, k), "operation-failed", "too-many-elements", "too many entries")
			}
		case yang.Container:
			if !k.Presence && c.Sub(k) == nil && needs(k) {
				r.e.Kids(up, k, func(i *xpath.Instance) bool { r.demand(i, k.Kids); return true })
			}
		case yang.Choice:
			r.choice(up, c, k)
		}
	}
}

func (r *run) choice(up *xpath.Instance, c *data.Container, k *yang.Node) {
	for _, cs := range k.Kids {
		if present(c, cs) {
			r.demand(up, cs.Kids)
			return
		}
	}
	if k.Mandatory && r.allowed(up, k) {
		r.fail(up.Path(), "data-missing", "missing-choice", "nothing of choice "+k.Name, data.Info{Name: "missing-choice", Value: k.Name})
	}
}

// allowed evaluates the conditions of an absent node.
func (r *run) allowed(up *xpath.Instance, n *yang.Node) bool {
	for _, g := range r.v.xp.Guards(n) {
		if ok, err := r.e.Allowed(g, up, nil); err != nil {
			r.tooMuch(up, err)
			return false
		} else if !ok {
			return false
		}
	}
	return true
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

func below(up *xpath.Instance, k *yang.Node) *data.Path {
	return &data.Path{Up: up.Path(), Schema: k}
}
