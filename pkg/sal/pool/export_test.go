package pool

// Asleep counts the threads that sleep.
func (e *Engine) Asleep() (n int) {
	for _, t := range e.threads {
		if t.asleep.Load() {
			n++
		}
	}
	return n
}

// Threads are the threads' numbers in the system, 0 for one that has not begun.
func (e *Engine) Threads() (l []int) {
	for _, t := range e.threads {
		l = append(l, int(t.tid.Load()))
	}
	return l
}

const (
	Run   = run
	Depth = depth
)
