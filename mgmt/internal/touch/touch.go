// Package touch tells which list entries the changes of a commit concern. A
// diff names the topmost node that came or went and single leaves that changed;
// bindings think in entries.
package touch

import (
	"slices"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// An Entry is a list entry that a commit touches.
type Entry struct {
	Path *data.Path
	// Old and New are the entry before and after, nil where it is not there.
	Old, New *data.Container
}

// Key gives the canonical key of the entry.
func (e Entry) Key() string { return e.Path.Key }

// Entries gives the entries of a list that c.Changes touch: themselves, or
// something in them, or something they stand in. Each comes once. The cost
// follows the changes and what came or went with them.
func Entries(c *binding.Commit, list *yang.Node) []Entry {
	w := walk{c: c, list: list, seen: make(map[string]bool, len(c.Changes))}
	for i := range c.Changes {
		ch := &c.Changes[i]
		if at := step(ch.Path, list); at != nil {
			w.add(at)
			continue
		}
		if !within(list, ch.Path.Schema) {
			continue
		}
		switch ch.Kind {
		case data.Created: // no other change names what is in there
			w.below(ch.Path, ch.New, func(p *data.Path, e *data.Container) { w.out = append(w.out, Entry{Path: p, New: e}) })
		case data.Deleted:
			w.below(ch.Path, ch.Old, func(p *data.Path, e *data.Container) { w.out = append(w.out, Entry{Path: p, Old: e}) })
		default:
			add := func(p *data.Path, _ *data.Container) { w.add(p) }
			w.below(ch.Path, ch.Old, add)
			w.below(ch.Path, ch.New, add)
		}
	}
	return w.out
}

type walk struct {
	c    *binding.Commit
	list *yang.Node
	seen map[string]bool
	out  []Entry
}

func (w *walk) add(p *data.Path) {
	k := id(p)
	if w.seen[k] {
		return
	}
	w.seen[k] = true
	e := Entry{Path: p}
	e.Old, _ = p.In(w.c.Old).(*data.Container)
	e.New, _ = p.In(w.c.New).(*data.Container)
	w.out = append(w.out, e)
}

// below finds the entries under a node that came or went.
func (w *walk) below(at *data.Path, n data.Node, add func(*data.Path, *data.Container)) {
	c, ok := n.(*data.Container)
	if !ok {
		return
	}
	for _, k := range c.Kids() {
		s := k.Schema()
		if s != w.list && !within(w.list, s) {
			continue
		}
		switch k := k.(type) {
		case *data.Container:
			w.below(&data.Path{Up: at, Schema: s}, k, add)
		case *data.List:
			if s == w.list {
				w.out = slices.Grow(w.out, k.Len())
			}
			k.Each(func(key string, e data.Node) bool {
				p := &data.Path{Up: at, Schema: s, Key: key, Entry: true}
				if s == w.list {
					add(p, e.(*data.Container))
				} else {
					w.below(p, e, add)
				}
				return true
			})
		}
	}
}

// id tells an entry from others of its list: the keys on the way.
func id(p *data.Path) string {
	k := p.Key
	for p = p.Up; p != nil; p = p.Up {
		if p.Entry {
			k += "\x01" + p.Key
		}
	}
	return k
}

// step gives the place at which a path goes through n, or nil.
func step(p *data.Path, n *yang.Node) *data.Path {
	for ; p != nil; p = p.Up {
		if p.Schema == n {
			return p
		}
	}
	return nil
}

// within tells whether n stands below a.
func within(n, a *yang.Node) bool {
	for n = n.Up; n != nil; n = n.Up {
		if n == a {
			return true
		}
	}
	return false
}
