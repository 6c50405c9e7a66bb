package memory

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// idlePolls is how often a queue is found empty before its waker is reset: a
// polling worker shall not pay two system calls for each burst that arrives.
// Until then the descriptor may be readable with nothing waiting.
const idlePolls = 16

// waker is how a queue tells of frames: the bell of whoever polls it, and its
// own eventfd, made when Wake first asks for it.
type waker struct {
	bell  atomic.Pointer[sal.Bell]
	efd   atomic.Int32 // eventfd + 1; 0: none
	rung  atomic.Bool  // the eventfd is readable
	empty int          // consecutive empty polls, the consumer's
	_     [64 - 32]byte
}

// fd makes the eventfd at the first call; -1 when the kernel has none left, so
// that the queue can only be polled.
func (w *waker) fd() int {
	if f := w.efd.Load(); f != 0 {
		return int(f) - 1
	}
	f, err := unix.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return -1
	}
	// Frames may wait already: it begins readable.
	w.rung.Store(true)
	w.efd.Store(int32(f) + 1)
	return f
}

// ring tells of a frame that has been pushed.
func (w *waker) ring() {
	if b := w.bell.Load(); b != nil {
		b.Ring()
	}
	f := w.efd.Load()
	if f == 0 || w.rung.Load() || w.rung.Swap(true) {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(int(f)-1, one[:]) // cannot fail: the counter never overflows
}

// idle is called by the consumer that found nothing. waiting is asked again
// after the reset, so that a frame pushed meanwhile is not slept through: its
// sender has seen rung still set, or will see it reset.
func (w *waker) idle(waiting func() bool) {
	if !w.rung.Load() {
		return
	}
	if w.empty++; w.empty < idlePolls {
		return
	}
	w.empty = 0
	f := w.efd.Load()
	var b [8]byte
	_, _ = unix.Read(int(f)-1, b[:])
	w.rung.Store(false)
	if waiting() {
		w.ring()
	}
}

func (w *waker) close() {
	w.bell.Store(nil)
	if f := w.efd.Swap(0); f != 0 {
		unix.Close(int(f) - 1)
	}
}
