package validate

import (
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// A uniqueRule is a unique statement (RFC 7950 section 7.8.3). The values of
// each entry are counted per list instance, so that a change costs a look-up.
type uniqueRule struct {
	id     int
	list   *yang.Node
	leaves [][]*yang.Node // each the way from an entry to a leaf
}

// conflict is a combination of values that came to a list.
type conflict struct {
	rule *uniqueRule
	list *data.Path // without Entry
	key  string
}

// values gives the combination of an entry, false when a leaf has no value:
// such an entry is unlike any other. Defaults in use count; whether a when
// takes one away is not looked at.
func (u *uniqueRule) values(entry *data.Container) (string, bool) {
	var b strings.Builder
	for _, way := range u.leaves {
		c := entry
		for _, s := range way[:len(way)-1] {
			if c = c.Sub(s); c == nil && s.Presence {
				return "", false
			}
		}
		v, _, ok := c.Value(way[len(way)-1])
		if !ok {
			return "", false
		}
		b.WriteByte(0)
		b.WriteString(v.Text)
	}
	return b.String(), true
}

func (u *uniqueRule) key(list *data.Path, values string) string {
	return string([]byte{'u', byte(u.id >> 16), byte(u.id >> 8), byte(u.id)}) + list.String() + values
}

// unique handles that the leaf d below up changed, came or went.
func (r *run) unique(up *xpath.Instance, d *yang.Node) {
	if r.guards {
		return
	}
	for _, u := range r.v.info[d.ID].unique {
		entry := up
		for entry != nil && entry.Schema != u.list {
			entry = entry.Up
		}
		if entry != nil { // else it went, and tupleGone knows
			r.tuple(u, entry)
		}
	}
}

// tuple counts the new combination of an entry instead of the old one.
func (r *run) tuple(u *uniqueRule, entry *xpath.Instance) {
	if !r.once(seenUnique, entry, string(rune(u.id))) {
		return
	}
	p := entry.Path()
	list := &data.Path{Up: p.Up, Schema: p.Schema}
	if c, ok := p.In(r.old).(*data.Container); ok {
		if v, ok := u.values(c); ok {
			r.refs.Add(u.key(list, v), -1)
		}
	}
	if v, ok := u.values(entry.Node.(*data.Container)); ok {
		key := u.key(list, v)
		r.refs.Add(key, 1)
		r.conflict = append(r.conflict, conflict{u, list, key})
	}
}

// tupleGone takes the combination of an entry out that went.
func (r *run) tupleGone(u *uniqueRule, entry *data.Container, p *data.Path) {
	if v, ok := u.values(entry); ok {
		r.refs.Add(u.key(&data.Path{Up: p.Up, Schema: p.Schema}, v), -1)
	}
}

// conflicts reports combinations that occur twice, each once (RFC 7950 section
// 15.1).
func (r *run) conflicts() {
	told := map[string]bool{}
	for _, c := range r.conflict {
		if r.refs.Get(c.key) < 2 || told[c.key] {
			continue
		}
		told[c.key] = true
		var info []data.Info
		l, _ := c.list.In(r.new).(*data.List)
		l.Each(func(key string, n data.Node) bool {
			entry := n.(*data.Container)
			if v, ok := c.rule.values(entry); !ok || c.rule.key(c.list, v) != c.key {
				return true
			}
			for _, way := range c.rule.leaves {
				p := &data.Path{Up: c.list.Up, Schema: c.list.Schema, Key: key, Entry: true}
				for _, s := range way {
					p = &data.Path{Up: p, Schema: s}
				}
				info = append(info, data.Info{Name: "non-unique", Value: p.String()})
			}
			return true
		})
		r.fail(c.list, "operation-failed", "data-not-unique", "two entries have the same values", info...)
	}
}
