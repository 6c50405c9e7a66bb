package sal

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Bell wakes whoever polls queues that others in this process fill: one
// descriptor for any number of queues, and no system call while it has been
// rung already. The zero value rings nobody; Init gives it its descriptor.
//
// The one that polls calls Answer before it looks at its queues a last time and
// goes to sleep on the descriptor: what is put into a queue later than that
// look finds the bell silent, and rings it.
type Bell struct {
	rung atomic.Bool
	fd   int
}

// Init sets the eventfd that Ring makes readable. It stays the caller's.
func (b *Bell) Init(eventfd int) { b.fd = eventfd }

// Ring is called by any goroutine, after it has put something into a queue.
func (b *Bell) Ring() {
	if b.rung.Load() || b.rung.Swap(true) {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(b.fd, one[:]) // cannot fail but for being readable already
}

// Answer makes the bell silent and says whether it had been rung. It does not
// read the descriptor.
func (b *Bell) Answer() bool { return b.rung.Load() && b.rung.Swap(false) }

// A Ringer is a PortQueue whose frames come from this process, or an engine's
// Queue whose jobs are done by other threads of it. RingAt has whoever sends to it,
// or finishes a job, ring b, from now on; nil ends that. For a PortQueue the bell
// then does what Wake's descriptor would, which is not made. Like a queue's other
// methods it belongs to the goroutine that has the queue.
type Ringer interface{ RingAt(b *Bell) }
