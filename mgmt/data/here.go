package data

// Here gives the container or entry at which the edit stands, with what it has
// changed so far, or nil when that is not there. It is to be read before the
// next change only.
func (e *Edit) Here() *Container { return e.stack[len(e.stack)-1].c }
