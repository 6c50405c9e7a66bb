package codec

import (
	"slices"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// AppendFiltered writes what a filter selects of a tree, each node once and in
// schema order, list entries with their keys. Content is matched against the
// values in use, defaults included; which of them are written is for the Mode.
func (w Writer) AppendFiltered(b []byte, root *data.Container, f *Filter) []byte {
	if f == nil {
		return w.Append(b, root)
	}
	x := xmlWriter{Writer: w, b: b, level: w.Level}
	x.selected(root, root.S, []*Filter{f}, nil)
	return x.b
}

// Selects tells whether a filter selects anything of a tree.
func (w Writer) Selects(root *data.Container, f *Filter) bool {
	x := xmlWriter{Writer: w}
	return f == nil || x.selected(root, root.S, []*Filter{f}, nil)
}

// selected writes the part of one container or entry that filters select
// whose content matches hold. It tells whether there was any; keys that stand
// there for the others only do not count.
func (w *xmlWriter) selected(c *data.Container, s *yang.Node, fs []*Filter, in *yang.Module) (some bool) {
	for _, f := range fs {
		if f.all {
			w.kids(c, s, in)
			return true
		}
	}
	for _, k := range s.Keys {
		if n := c.Child(k); n != nil {
			w.node(n, in)
		}
	}
	parts := fs[0].parts
	if len(fs) > 1 {
		parts = nil
		for _, f := range fs {
			parts = append(parts, f.parts...)
		}
		slices.SortStableFunc(parts, func(a, b part) int { return a.node.Slot - b.node.Slot })
	}
	for len(parts) > 0 {
		n := 1
		for n < len(parts) && parts[n].node == parts[0].node {
			n++
		}
		if w.child(c, parts[:n], in) {
			some = true
		}
		parts = parts[n:]
	}
	return some
}

// child writes what the parts of one schema node select of a child.
func (w *xmlWriter) child(c *data.Container, parts []part, in *yang.Module) bool {
	n := parts[0].node
	if n.IsKey() { // written already; asked for or matched on
		return true
	}
	if w.hidden(n) {
		return false
	}
	switch n.Kind {
	case yang.Leaf, yang.AnyData:
		return w.oneLeaf(c, n, in)
	case yang.LeafList:
		return w.leafList(c, parts, in)
	case yang.Container, yang.Notification:
		sub := c.Sub(n)
		if _, hidden := c.Child(n).(*data.Hidden); hidden {
			return false
		}
		if sub == nil && (n.Presence || !w.Mode.all() || !n.Config) {
			return false
		}
		if sub == nil && !(c.CaseInUse(n) && w.holdsWhen(n)) {
			return false
		}
		up := w.step(n, "")
		some := w.element(sub, n, holding(w, sub, parts), in)
		w.at = up
		return some
	case yang.List:
		return w.entries(c.List(n), parts, in)
	}
	return false
}

// oneLeaf writes a leaf that is matched on or selected.
func (w *xmlWriter) oneLeaf(c *data.Container, n *yang.Node, in *yang.Module) bool {
	from := w.pos()
	if l := c.Child(n); l != nil {
		w.node(l, in)
	} else if w.Mode.all() && n.Config {
		w.defaults(c, n, in)
	}
	return w.pos() > from
}

// leafList writes the entries that are matched on, or all.
func (w *xmlWriter) leafList(c *data.Container, parts []part, in *yang.Module) bool {
	n := parts[0].node
	whole := false
	for _, p := range parts {
		whole = whole || p.kid != nil && !p.kid.void
	}
	if whole {
		return w.oneLeaf(c, n, in)
	}
	some := false
	vals, set := c.Values(n)
	for _, v := range vals {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.kid == nil && p.value.Text == v.Text }) {
			continue
		}
		if some = true; set || w.Mode.all() {
			w.leaf(n, v, in, !set && w.Mode == ReportAllTagged)
		}
	}
	return some
}

// holding gives the filters among parts whose content matches hold.
func holding(w *xmlWriter, c *data.Container, parts []part) (fs []*Filter) {
	for _, p := range parts {
		if p.kid != nil && w.holds(c, p.kid) {
			fs = append(fs, p.kid)
		}
	}
	return fs
}

func (w *xmlWriter) holds(c *data.Container, f *Filter) bool {
	if f.void {
		return false
	}
	for _, m := range f.match {
		if w.hidden(m.node) { // whether it matches would tell its value
			return false
		}
		if m.node.Kind == yang.LeafList {
			vals, _ := c.Values(m.node)
			if !slices.ContainsFunc(vals, func(v yang.Value) bool { return v.Text == m.value.Text }) {
				return false
			}
		} else if v, _, ok := c.Value(m.node); !ok || v.Text != m.value.Text {
			return false
		}
	}
	return true
}

// element writes a container or entry with what is selected inside it.
func (w *xmlWriter) element(c *data.Container, n *yang.Node, fs []*Filter, in *yang.Module) bool {
	if len(fs) == 0 {
		return false
	}
	all := false
	for _, f := range fs {
		all = all || f.all
	}
	m := w.start(n, in)
	if !w.selected(c, n, fs, n.Module) {
		w.level--
		w.b = w.b[:m.from-w.done]
		return false
	}
	w.end(n, m, c == nil || !all || n.Kind == yang.Container && !n.Presence)
	return w.pos() > m.from
}

// entries writes the entries of a list that are selected, in list order.
func (w *xmlWriter) entries(l *data.List, parts []part, in *yang.Module) (some bool) {
	if l.Len() == 0 {
		return false
	}
	keyed := true
	for _, p := range parts {
		keyed = keyed && p.kid != nil && p.kid.keyed
	}
	if !keyed {
		l.Each(func(key string, e data.Node) bool {
			c := e.(*data.Container)
			up := w.step(l.S, key)
			if w.element(c, l.S, holding(w, c, parts), in) {
				some = true
				w.flush()
			}
			w.at = up
			return true
		})
		return some
	}
	var keys []string
	for _, p := range parts {
		if l.Get(p.kid.key) != nil && !slices.Contains(keys, p.kid.key) {
			keys = append(keys, p.kid.key)
		}
	}
	if len(keys) > 1 {
		slices.SortFunc(keys, func(a, b string) int { return strings.Compare(l.Place(a), l.Place(b)) })
	}
	for _, k := range keys {
		c := l.Get(k).(*data.Container)
		var fs []*Filter
		for _, p := range parts {
			if p.kid.key == k && w.holds(c, p.kid) {
				fs = append(fs, p.kid)
			}
		}
		up := w.step(l.S, k)
		if w.element(c, l.S, fs, in) {
			some = true
		}
		w.at = up
	}
	return some
}
