package binding

import "vrouter/fastpath"

// An EventSource is a Binding that knows what notification (RFC 7950 section
// 7.16) an event of the data plane makes.
type EventSource interface {
	// Event gives the notification's name, module:name, and what writes its
	// content below its root; "" for an event of somebody else. It may be called
	// from any goroutine and reads nothing but the event. Content is called once
	// or never, and at once.
	Event(e *fastpath.Event) (notification string, content func(Content))
}

// Content takes the nodes of a notification, by their names.
type Content interface {
	In(name string, f func())
	Text(name, text string)
	Uint(name string, v uint64)
	// Gauge writes a number that holds its largest value, max, rather than start
	// again.
	Gauge(name string, v, max uint64)
	Bool(name string, v bool)
}
