package data

import "encoding/binary"

// order keeps the places of a user-ordered list's entries.
type order struct {
	at  tree[string] // place to key
	pos tree[string] // key to place
}

func place(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// serial gives the number of an entry without keys.
func serial(key string) uint64 {
	if len(key) != 8 {
		return 0
	}
	return number(key)
}

func number(p string) uint64 {
	return binary.BigEndian.Uint64([]byte(p))
}

const gap = 1 << 32

// Where says where a user-ordered entry goes.
type Where struct {
	Insert string // "", first, last, before, after
	Key    string // of the entry before or after which
}

// stands tells whether key is where w wants it already.
func (o *order) stands(key string, w Where) bool {
	at, had := o.pos.get(key)
	if !had {
		return false
	}
	switch w.Insert {
	case "first":
		return at == o.edge(true)
	case "before", "after":
		a, ok := o.pos.get(w.Key)
		if !ok {
			return false
		}
		prev, next := o.at.near(a)
		return w.Insert == "before" && at == prev || w.Insert == "after" && at == next
	case "last":
		return at == o.edge(false)
	}
	return true
}

// put places key; false when the anchor does not exist.
func (o *order) put(edit uint64, key string, w Where) bool {
	old, had := o.pos.get(key)
	if had && w.Insert == "" {
		return true
	}
	var lo, hi uint64 // the new place lies between, both excluded
	switch w.Insert {
	case "first":
		hi = number(o.edge(true))
		lo = before(hi)
	case "before", "after":
		a, ok := o.pos.get(w.Key)
		if !ok || w.Key == key {
			return false
		}
		prev, next := o.around(a)
		if lo, hi = prev, number(a); w.Insert == "after" {
			lo, hi = number(a), next
		}
	default:
		lo = number(o.edge(false))
		hi = lo + 2*gap
	}
	if had {
		o.at.del(edit, old)
	}
	if hi-lo < 2 {
		o.spread(edit)
		return o.put(edit, key, w)
	}
	p := place(lo + (hi-lo)/2)
	o.at.set(edit, p, key)
	o.pos.set(edit, key, p)
	return true
}

func (o *order) edge(first bool) string {
	n := o.at.root
	if n == nil {
		return place(1 << 62)
	}
	for n.kids != nil {
		if first {
			n = n.kids[0]
		} else {
			n = n.kids[len(n.kids)-1]
		}
	}
	if first {
		return n.keys[0]
	}
	return n.keys[len(n.keys)-1]
}

// around gives the places next to p; beyond the ends there is room.
func (o *order) around(p string) (prev, next uint64) {
	l, r := o.at.near(p)
	if prev = before(number(p)); l != "" {
		prev = number(l)
	}
	if next = number(p) + 2*gap; r != "" {
		next = number(r)
	}
	return prev, next
}

func before(n uint64) uint64 {
	if n < 2*gap {
		return 0
	}
	return n - 2*gap
}

// spread renumbers everything when a gap is used up.
func (o *order) spread(edit uint64) {
	at := o.at
	o.at, o.pos = tree[string]{}, tree[string]{}
	n := uint64(1 << 62)
	at.each(func(_, key string) bool {
		o.at.set(edit, place(n), key)
		o.pos.set(edit, key, place(n))
		n += gap
		return true
	})
}

func (o *order) remove(edit uint64, key string) {
	if p, ok := o.pos.get(key); ok {
		o.at.del(edit, p)
		o.pos.del(edit, key)
	}
}
