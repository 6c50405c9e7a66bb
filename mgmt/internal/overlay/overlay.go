// Package overlay holds what a binding keeps between commits with what a commit
// does to it on top. A commit may be refused after it was translated, so its
// changes stay beside the maps until it is published; what is made anew, and
// nobody sees yet, is written straight through.
package overlay

// A Table is a map with pending changes. Values are replaced, never changed.
type Table[K comparable, V any] struct {
	base map[K]V
	over map[K]entry[V] // nil: write through
}

// NewTable puts a Table on a map; direct writes straight to the map. About size
// changes are expected.
func NewTable[K comparable, V any](base map[K]V, direct bool, size int) Table[K, V] {
	t := Table[K, V]{base: base}
	if !direct {
		t.over = make(map[K]entry[V], size)
	}
	return t
}

type entry[V any] struct {
	v  V
	ok bool // false: deleted
}

// Get gives a value as it is with the changes.
func (t *Table[K, V]) Get(k K) (V, bool) {
	if e, ok := t.over[k]; ok {
		return e.v, e.ok
	}
	v, ok := t.base[k]
	return v, ok
}

// Put sets a value.
func (t *Table[K, V]) Put(k K, v V) {
	if t.over == nil {
		t.base[k] = v
		return
	}
	t.over[k] = entry[V]{v, true}
}

// Delete removes a value, if there is one.
func (t *Table[K, V]) Delete(k K) {
	if t.over == nil {
		delete(t.base, k)
		return
	}
	t.over[k] = entry[V]{}
}

// Each visits all values as they are with the changes, in no order.
func (t *Table[K, V]) Each(f func(k K, v V)) {
	for k, v := range t.base {
		if _, changed := t.over[k]; !changed {
			f(k, v)
		}
	}
	for k, e := range t.over {
		if e.ok {
			f(k, e.v)
		}
	}
}

// Apply makes the changes real.
func (t *Table[K, V]) Apply() {
	for k, e := range t.over {
		if e.ok {
			t.base[k] = e.v
		} else {
			delete(t.base, k)
		}
	}
}

// Sets is a map of sets with pending changes.
type Sets[K, M comparable] struct {
	base map[K]map[M]struct{}
	over map[K]map[M]bool // true: in, false: out; nil: write through
}

// NewSets puts Sets on a map; direct writes straight to the map.
func NewSets[K, M comparable](base map[K]map[M]struct{}, direct bool) Sets[K, M] {
	s := Sets[K, M]{base: base}
	if !direct {
		s.over = map[K]map[M]bool{}
	}
	return s
}

// Change puts m into the set of k, or takes it out.
func (s *Sets[K, M]) Change(k K, m M, in bool) {
	if s.over == nil {
		s.settle(k, m, in)
		return
	}
	o := s.over[k]
	if o == nil {
		o = map[M]bool{}
		s.over[k] = o
	}
	o[m] = in
}

func (s *Sets[K, M]) settle(k K, m M, in bool) {
	b := s.base[k]
	if in {
		if b == nil {
			b = map[M]struct{}{}
			s.base[k] = b
		}
		b[m] = struct{}{}
		return
	}
	if delete(b, m); len(b) == 0 {
		delete(s.base, k)
	}
}

// Members gives the set of k, in no order. It is the caller's.
func (s *Sets[K, M]) Members(k K) []M {
	base, over := s.base[k], s.over[k]
	out := make([]M, 0, len(base)+len(over))
	for m := range base {
		if in, ok := over[m]; !ok || in {
			out = append(out, m)
		}
	}
	for m, in := range over {
		if _, old := base[m]; in && !old {
			out = append(out, m)
		}
	}
	return out
}

// Any tells whether k may have a set that is not empty; it may be empty when it
// says yes.
func (s *Sets[K, M]) Any(k K) bool { return len(s.base[k])+len(s.over[k]) > 0 }

// Apply makes the changes real.
func (s *Sets[K, M]) Apply() {
	for k, o := range s.over {
		for m, in := range o {
			s.settle(k, m, in)
		}
	}
}
