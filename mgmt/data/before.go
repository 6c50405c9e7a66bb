package data

// Before gives the key of the entry that stands before key in a user-ordered
// list or leaf-list; false when key is the first, is not there, or the order
// is the system's.
func (l *List) Before(key string) (string, bool) {
	if l == nil || l.order == nil {
		return "", false
	}
	p, ok := l.order.pos.get(key)
	if !ok {
		return "", false
	}
	prev, _ := l.order.at.near(p)
	if prev == "" {
		return "", false
	}
	return l.order.at.get(prev)
}
