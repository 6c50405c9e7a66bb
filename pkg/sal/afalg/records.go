//go:build linux

package afalg

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// record is an SA. Its sockets are made when it is installed, for all queues that
// there are, and by a queue that comes later when it first meets the SA.
type record struct {
	state   atomic.Uint32 // free, live or deleted
	op      sal.Op        // the one operation this SA does
	esn     bool
	aead    bool
	counter bool
	iv, icv int
	block   int
	key     int                     // socket that has the key, +1
	ops     [maxQueues]atomic.Int32 // socket of each queue, +1; -1: it could not be made

	packets, bytes atomic.Uint64
	errors         [16]atomic.Uint64
}

// States of a record.
const (
	free uint32 = iota
	live
	deleted
)

// records are the SAs of a session, by handle.
type records struct {
	e    *Engine
	s    *session.Session
	list [maxSAs + 1]atomic.Pointer[record]
}

// at is a record, nil for a handle that was never given out.
func (r *records) at(h sal.SA) *record {
	if h > maxSAs {
		return nil
	}
	return r.list[h].Load()
}

// Check holds a config against Caps.
func (r *records) Check(c *sal.SAConfig) error {
	if err := session.CheckCrypto(c); err != nil {
		return err
	}
	if !r.e.caps.Does(c.Algorithm, c.KeyBits(), c.Integrity) {
		return fmt.Errorf("the kernel has no %s: %w", nameOf(c.Algorithm, c.Integrity, c.ESN), sal.ErrNotSupported)
	}
	return nil
}

// Room makes a record.
func (r *records) Room(h sal.SA) error {
	r.list[h].Store(&record{})
	return nil
}

// Install gives the kernel the keys.
func (r *records) Install(h sal.SA, c *sal.SAConfig) error {
	shape, _ := c.Algorithm.Shape()
	lay, err := c.Layout()
	if err != nil {
		return err
	}
	name := nameOf(c.Algorithm, c.Integrity, c.ESN)
	fd, err := open(name)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", name, err, sal.ErrFull)
	}
	key := keyOf(c)
	err = unix.SetsockoptString(fd, unix.SOL_ALG, unix.ALG_SET_KEY, string(key))
	mem.Wipe(key)
	if err == nil {
		// The kernel takes the length of the ICV as the length of an option, not as its
		// value.
		_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_ALG, unix.ALG_SET_AEAD_AUTHSIZE, 0, uintptr(lay.ICV), 0)
		if e != 0 {
			err = e
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("%s: %w: %w", name, os.NewSyscallError("setsockopt", err), sal.ErrNotSupported)
	}
	x := r.at(h)
	x.op, x.esn, x.aead, x.counter = sal.Seal, c.ESN, shape.AEAD, shape.Counter
	if c.Direction == sal.Inbound {
		x.op = sal.Open
	}
	x.iv, x.icv, x.block = lay.IV, lay.ICV, 1
	if c.Algorithm == sal.AESCBC {
		x.block = 16
	}
	x.key = fd + 1
	x.state.Store(live)
	return nil
}

// socket is the one over which a queue's packets go, -1 if the kernel gives none.
func (x *record) socket(q int) int {
	if fd := x.ops[q].Load(); fd != 0 {
		return int(fd) - 1
	}
	fd, _, err := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(x.key-1), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	if err != 0 {
		return -1
	}
	x.ops[q].Store(int32(fd) + 1)
	return int(fd)
}

// Stop makes the record unusable.
func (r *records) Stop(h sal.SA) { r.at(h).state.Store(deleted) }

// Wipe closes the sockets, with which the kernel forgets the keys.
func (r *records) Wipe(h sal.SA) {
	x := r.at(h)
	// A late job may still ask whether the SA is live, and nothing else of it.
	x.state.Store(free)
	for q := range x.ops {
		if fd := x.ops[q].Swap(0); fd > 0 {
			_ = unix.Close(int(fd) - 1)
		}
	}
	if x.key > 0 {
		_ = unix.Close(x.key - 1)
		x.key = 0
	}
	x.packets.Store(0)
	x.bytes.Store(0)
	for i := range x.errors {
		x.errors[i].Store(0)
	}
}

// Stats reads the record's counters.
func (r *records) Stats(h sal.SA) (s sal.SAStats) {
	x := r.at(h)
	s.Packets, s.Bytes = x.packets.Load(), x.bytes.Load()
	for i := range s.Errors {
		s.Errors[i] = x.errors[i].Load()
	}
	return s
}

// Close closes all sockets.
func (r *records) Close() {
	for h := range r.list {
		if r.list[h].Load() != nil {
			r.Wipe(sal.SA(h))
		}
	}
}

// end books how a job went.
func (x *record) end(j *sal.Job, s sal.Status) {
	if j.Status = s; s != sal.StatusOK {
		x.errors[s&15].Add(1)
		return
	}
	x.packets.Add(1)
	x.bytes.Add(uint64(j.Len))
}
