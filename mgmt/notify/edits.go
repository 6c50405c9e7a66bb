package notify

import (
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// An Edit is one of netconf-config-change (RFC 6470): the node, as an
// instance-identifier with module names for prefixes, and what became of it.
type Edit struct{ Target, Operation string }

// MaxEdits bounds the edits of one event. A larger change is told by what is
// above: its lists, or the containers that hold them.
const MaxEdits = 256

// Edits tells what differs between two trees. A change of what is
// default-deny-all is told as one of the node that is so marked, or of what is
// above where its name has a key. Where there are more than MaxEdits they are
// joined, level by level, in the nodes above, as merge.
func Edits(old, new *data.Container) []Edit {
	f := &folder{depth: 1 << 30}
	data.Diff(old, new, f.change)
	out := make([]Edit, 0, len(f.edits))
	for _, e := range f.edits {
		out = append(out, Edit{target(e.path), e.op})
	}
	return out
}

type edit struct {
	path *data.Path
	op   string
}

// A folder gathers edits, the deepest of them depth steps long.
type folder struct {
	edits []edit
	depth int
}

var operations = [...]string{data.Created: "create", data.Deleted: "delete", data.Modified: "replace", data.Moved: "merge"}

func (f *folder) change(c data.Change) {
	e := edit{c.Path, operations[c.Kind]}
	if p := sayable(e.path); p != e.path {
		e = edit{p, "merge"}
	}
	f.add(e)
	for len(f.edits) > MaxEdits {
		deepest := 0
		for _, e := range f.edits {
			deepest = max(deepest, length(e.path))
		}
		all := f.edits
		f.depth, f.edits = deepest-1, nil
		for _, e := range all {
			f.add(e)
		}
	}
}

// add takes an edit in, cut to the depth. Diffs come in tree order, so what is
// alike follows each other.
func (f *folder) add(e edit) {
	for n := length(e.path); n > max(f.depth, 1); n-- {
		e = edit{e.path.Up, "merge"}
	}
	if n := len(f.edits); n > 0 && f.edits[n-1].op == e.op && equal(f.edits[n-1].path, e.path) {
		return
	}
	f.edits = append(f.edits, e)
}

func length(p *data.Path) (n int) {
	for ; p != nil; p = p.Up {
		n++
	}
	return n
}

func equal(a, b *data.Path) bool {
	for ; a != b; a, b = a.Up, b.Up {
		if a == nil || b == nil || a.Schema != b.Schema || a.Key != b.Key {
			return false
		}
	}
	return true
}

// sayable gives the part of a path that may be told: down to the first node
// that is default-deny-all, without its key, and not into keys that an
// instance-identifier cannot hold.
func sayable(p *data.Path) *data.Path {
	ok := p
	for q := p; q != nil; q = q.Up {
		if q.Schema.DenyAll && q != p {
			ok = q
		}
		if q.Entry && (q.Schema.DenyAll || strings.Contains(q.Key, "'") && strings.Contains(q.Key, `"`)) {
			ok = q.Up
		}
	}
	return ok
}

// target writes a path as an instance-identifier: all names with prefixes (RFC
// 7950 section 9.13).
func target(p *data.Path) string {
	var b strings.Builder
	var write func(p *data.Path)
	write = func(p *data.Path) {
		if p == nil {
			return
		}
		write(p.Up)
		n := p.Schema
		b.WriteString("/" + n.Module.Name + ":" + n.Name)
		if !p.Entry {
			return
		}
		if n.Kind == yang.LeafList {
			b.WriteString("[.=" + literal(p.Key) + "]")
			return
		}
		rest := p.Key
		for _, k := range n.Keys {
			var v string
			v, rest, _ = strings.Cut(rest, "\x00")
			b.WriteString("[" + k.Module.Name + ":" + k.Name + "=" + literal(v) + "]")
		}
	}
	write(p)
	return b.String()
}

// literal quotes a text that does not have both kinds of quotes.
func literal(s string) string {
	if strings.Contains(s, "'") {
		return `"` + s + `"`
	}
	return "'" + s + "'"
}
