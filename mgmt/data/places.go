package data

// Displaced names the entries of a user-ordered list that are new or have
// another place (Place) than in old, which may be nil. Places are spread anew
// when a gap between two is used up, so there may be more of them than entries
// that moved among the others. The cost follows their number.
func (l *List) Displaced(old *List, f func(key string)) {
	if l == nil || l.order == nil {
		return
	}
	var was order
	if old != nil && old.order != nil {
		was = *old.order
	}
	diffTrees(&was.pos, &l.order.pos, func(key, _, _ string, _, in bool) {
		if in {
			f(key)
		}
	})
}
