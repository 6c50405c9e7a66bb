package datastore

import (
	"slices"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

const (
	nsNetconf = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsYang    = "urn:ietf:params:xml:ns:yang:1"

	editOpen = `<config xmlns="` + nsNetconf + `" xmlns:nc="` + nsNetconf + `" xmlns:yang="` + nsYang + `">`
	treeOpen = `<config xmlns="` + nsNetconf + `">`
	treeEnd  = `</config>`
)

// appendDelta writes what turns old into new as the <config> of an edit-config
// (RFC 6241 section 7.2) for the default operation none, in time that follows
// the size of the difference. It is strict: applied to any other tree than one
// equal to old it is likely to fail, with data-missing or data-exists, which
// is how a replay notices that something is wrong.
func appendDelta(b []byte, w codec.Writer, old, new *data.Container) []byte {
	d := delta{b: append(b, editOpen...), w: w, old: old, new: new}
	data.Diff(old, new, d.change)
	d.enter(nil)
	for _, o := range d.ordered {
		d.placed(o)
	}
	d.enter(nil)
	return append(d.b, treeEnd...)
}

type delta struct {
	b        []byte
	w        codec.Writer
	old, new *data.Container
	open     []level
	ordered  []*reordered
}

// A level is an element that stands open: a container or a list entry.
type level struct {
	at       *data.Path
	old, new *data.Container
}

// reordered collects the entries of one user-ordered list that came or moved.
// They are written at the end: then every entry that they can stand after is
// there.
type reordered struct {
	list    *data.List
	up      *data.Path
	changes []data.Change
}

func (d *delta) change(c data.Change) {
	if cap(d.b)-len(d.b) < 4<<10 {
		d.b = slices.Grow(d.b, len(d.b)) // what append does for large ones copies five times as much
	}
	s := c.Path.Schema
	d.enter(c.Path.Up)
	if s.UserOrder && c.Path.Entry && (c.Kind == data.Moved || c.Kind == data.Created) {
		was, is := d.top()
		if was.List(s) != nil { // else all entries are new and come in their order
			d.put(is.List(s), c)
			return
		}
	}
	switch c.Kind {
	case data.Created:
		d.element(c.New, "create", "")
	case data.Modified:
		d.element(c.New, "merge", "")
	case data.Deleted:
		op := "delete"
		if s.Parent != nil && s.Parent.Kind == yang.Case {
			op = "remove" // the case that took its place may have removed it
		}
		d.short(c.Old, op, "")
	}
}

func (d *delta) put(l *data.List, c data.Change) {
	for _, o := range slices.Backward(d.ordered) {
		if o.list == l {
			o.changes = append(o.changes, c)
			return
		}
	}
	d.ordered = append(d.ordered, &reordered{l, c.Path.Up, []data.Change{c}})
}

// placed writes the entries of a user-ordered list that came or moved, each
// after the one that it follows in the new order, which is there by then.
// Entries that kept their place are the fixed points.
func (d *delta) placed(o *reordered) {
	d.enter(o.up)
	by := make(map[string]data.Change, len(o.changes))
	follows := make(map[string]string, len(o.changes)) // anchor to entry
	sayable := true
	for _, c := range o.changes {
		by[c.Path.Key] = c
		if a, ok := o.list.Before(c.Path.Key); ok {
			follows[a] = c.Path.Key
			sayable = sayable && (o.list.S.Kind == yang.LeafList || !strings.Contains(a, "'") || !strings.Contains(a, `"`))
		}
	}
	if !sayable { // no literal of a predicate can say that key
		d.rewrite(o, by)
		return
	}
	for _, c := range o.changes {
		key := c.Path.Key
		a, ok := o.list.Before(key)
		if _, later := by[a]; ok && later {
			continue // written in the run of its anchor
		}
		for more := true; more; key, more = follows[key] {
			d.place(o, by[key], a, ok)
			a, ok = key, true
		}
	}
}

func (d *delta) place(o *reordered, c data.Change, after string, ok bool) {
	attr := ` yang:insert="first"`
	if ok {
		attr = ` yang:insert="after"` + d.anchor(o.list.S, after)
	}
	d.entry(c, attr)
}

// rewrite moves every entry to the end in the new order. It is the way out
// where an anchor cannot be named.
func (d *delta) rewrite(o *reordered, by map[string]data.Change) {
	o.list.Each(func(key string, n data.Node) bool {
		c, ok := by[key]
		if !ok {
			c = data.Change{Kind: data.Moved, New: n}
		}
		d.entry(c, ` yang:insert="last"`)
		return true
	})
}

func (d *delta) entry(c data.Change, attr string) {
	if c.Kind == data.Created {
		d.element(c.New, "create", attr)
	} else {
		d.short(c.New, "merge", attr)
	}
}

// anchor names an entry in the yang:key or yang:value attribute (RFC 7950
// sections 7.7.9 and 7.8.6). Module names serve as prefixes.
func (d *delta) anchor(s *yang.Node, key string) string {
	var text, attr string
	if s.Kind == yang.LeafList {
		text, attr = key, "value"
	} else {
		attr = "key"
		for i, v := range strings.Split(key, "\x00") {
			q := "'"
			if strings.Contains(v, q) {
				q = `"`
			}
			text += "[" + s.Module.Name + ":" + s.Keys[i].Name + "=" + q + v + q + "]"
		}
	}
	out := " yang:" + attr + `="` + attrEscaper.Replace(text) + `"`
	for name, m := range d.w.Schema.Modules {
		if strings.Contains(text, name+":") {
			out += " xmlns:" + name + `="` + m.Namespace + `"`
		}
	}
	return out
}

var attrEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\t", "&#9;", "\n", "&#10;", "\r", "&#13;")

// element writes a node with all below it and an operation.
func (d *delta) element(n data.Node, op, attr string) {
	from := len(d.b)
	d.b = d.w.AppendNode(d.b, n, d.module())
	d.mark(from, n, op, attr)
}

// short writes a node without what is below it: of an entry just the keys.
func (d *delta) short(n data.Node, op, attr string) {
	c, ok := n.(*data.Container)
	if !ok {
		d.element(n, op, attr)
		return
	}
	from := len(d.b)
	d.start(c)
	d.b = append(d.b, c.S.Close...)
	d.mark(from, n, op, attr)
}

// mark puts attributes into the start tag at from.
func (d *delta) mark(from int, n data.Node, op, attr string) {
	at := from + len("<") + len(n.Schema().Name)
	d.b = slices.Insert(d.b, at, []byte(` nc:operation="`+op+`"`+attr)...)
}

// enter closes and opens elements until those of p stand open.
func (d *delta) enter(p *data.Path) {
	if n := len(d.open); n > 0 && d.open[n-1].at == p {
		return
	}
	n := 0
	for q := p; q != nil; q = q.Up {
		n++
	}
	path := make([]*data.Path, n)
	for q := p; q != nil; q = q.Up {
		n--
		path[n] = q
	}
	same := 0
	for same < len(path) && same < len(d.open) && equal(path[same], d.open[same].at) {
		same++
	}
	for i := len(d.open) - 1; i >= same; i-- {
		d.b = append(d.b, d.open[i].at.Schema.Close...)
	}
	d.open = d.open[:same]
	for _, q := range path[same:] {
		was, is := d.top()
		l := level{q, child(was, q), child(is, q)}
		c := l.new
		if c == nil {
			c = l.old
		}
		d.start(c)
		d.open = append(d.open, l)
	}
}

func equal(a, b *data.Path) bool {
	return a == b || a.Schema == b.Schema && a.Key == b.Key && a.Entry == b.Entry
}

func child(c *data.Container, p *data.Path) *data.Container {
	if p.Entry {
		e, _ := c.List(p.Schema).Get(p.Key).(*data.Container)
		return e
	}
	return c.Sub(p.Schema)
}

// top gives the innermost open container of both trees.
func (d *delta) top() (old, new *data.Container) {
	if len(d.open) == 0 {
		return d.old, d.new
	}
	l := d.open[len(d.open)-1]
	return l.old, l.new
}

func (d *delta) module() *yang.Module {
	if len(d.open) == 0 {
		return nil
	}
	return d.open[len(d.open)-1].at.Schema.Module
}

// start writes the start tag of a container, or of an entry with its keys.
func (d *delta) start(c *data.Container) {
	if c.S.Module == d.module() {
		d.b = append(d.b, c.S.Open...)
	} else {
		d.b = append(d.b, c.S.OpenNS...)
	}
	if c.S.Kind == yang.List {
		for _, k := range c.Kids()[:len(c.S.Keys)] {
			d.b = d.w.AppendNode(d.b, k, c.S.Module)
		}
	}
}
