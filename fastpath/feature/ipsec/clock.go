package ipsec

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The lifetimes of SAs are measured by the time since the machine was booted
// (CLOCK_BOOTTIME): it goes on while the machine sleeps, outlives the process,
// and nobody sets it. So the live table has its times in that; what is shown to
// people is in Unix time.
//
// Between two boots only the wall clock tells how long the machine was off
// (carry). Where it does not, the SA counts as older than any lifetime: it is
// not trusted for what it may not be.

// clock converts between the time since boot and that of pipeline.Env.Now, which
// workers have at hand. All in nanoseconds.
type clock struct {
	boot func() int64
	now  func() int64
	wall func() int64 // as the machine's clock says now, Unix
	// base is now less boot. It changes when the machine has slept, which
	// Env.Now may not notice.
	base atomic.Int64
}

// slept is how far the two may drift apart before the base is taken anew.
const slept = int64(100 * time.Millisecond)

// newClock makes a clock; without a source of its own for the time since boot
// that is the kernel's.
func newClock(now, boot func() int64) *clock {
	if boot == nil {
		boot = sinceBoot
	}
	c := &clock{boot: boot, now: now, wall: func() int64 { return time.Now().UnixNano() }}
	c.base.Store(now() - boot())
	return c
}

func sinceBoot() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("ipsec: CLOCK_BOOTTIME: " + err.Error()) // every kernel since 2.6.39 has it
	}
	return t.Nano()
}

// look takes the base anew where it has moved.
func (c *clock) look() {
	if b := c.now() - c.boot(); b-c.base.Load() > slept || c.base.Load()-b > slept {
		c.base.Store(b)
	}
}

// unix is a time since boot as Unix nanoseconds, 0 as 0.
func (c *clock) unix(boot int64) int64 {
	if boot == 0 {
		return 0
	}
	return boot + c.base.Load()
}

// ancient is longer than any lifetime can be set to.
const ancient = int64(1<<32) * int64(time.Second)

// carry brings the times of a table that an earlier boot has left, or an earlier
// version, into the times of this boot. closed is when the earlier boot ended
// cleanly, in its time since boot and by the wall clock, 0 if it did not.
func (l *liveFile) carry(c *clock, v1 bool, closed, closedWall int64) {
	now, off := c.boot(), c.wall()-closedWall
	into := func(t int64) int64 {
		switch {
		case v1 && t > 1<<59: // Unix time, which no time since boot can be: not converted yet
			if t -= c.wall() - now; t > now { // in the future
				return now - ancient
			}
			return t
		case v1:
			return t
		case closedWall == 0 || off < 0:
			return now - ancient
		}
		return t - closed + now - off
	}
	for i := uint32(1); i < l.n; i++ {
		id, line := l.ident(i), l.line(i)
		if id.Use == slotFree {
			continue
		}
		id.AddedAt = into(id.AddedAt)
		if line.UsedAt != 0 {
			line.UsedAt = into(line.UsedAt)
		}
		if x := l.where(i); x.port != 0 {
			x.moved = into(x.moved)
		}
	}
}
