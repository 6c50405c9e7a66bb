package pipeline

import (
	"fmt"
	"sync/atomic"

	"vrouter/pkg/mem"
)

// MaxCounters bounds the handles of counters (exclusive).
const MaxCounters = 1 << 18

// Counter counts packets and octets of IP.
type Counter struct{ Packets, Bytes uint64 }

// Counters are counters by handle that ops name (action.Count): one table for
// each worker, summed when read. Handles come from the control side; 0 is
// never given.
//
// Workers add with Add, and State reads with atomic loads.
type Counters struct {
	slots *mem.Slots
	w     []mem.Table[Counter]
	base  []Counter // what had been counted when the handle was given
}

// NewCounters makes the tables for so many workers.
func NewCounters(workers int, g *mem.Grace) (*Counters, error) {
	c := &Counters{slots: mem.NewSlots(MaxCounters, g, nil)}
	return c, c.grow(workers)
}

// grow makes the tables of workers that come later.
func (c *Counters) grow(workers int) error {
	for len(c.w) < workers {
		t, err := mem.NewTable[Counter](MaxCounters, mem.Options{SmallPages: true})
		if err != nil {
			return fmt.Errorf("counters: %w", err)
		}
		c.w = append(c.w, t)
	}
	return nil
}

// Alloc gives a handle whose counts begin at 0; false when all are out.
// Control side only.
func (c *Counters) Alloc() (uint32, bool) {
	h, ok := c.slots.Alloc()
	if !ok {
		return 0, false
	}
	for int(h) >= len(c.base) {
		c.base = append(c.base, Counter{})
	}
	c.base[h] = c.sum(h)
	return h, true
}

// Free gives back a handle that was never published.
func (c *Counters) Free(h uint32) { c.slots.Free(h) }

// Retire gives a handle back when no worker can count on it any more.
func (c *Counters) Retire(h uint32) { c.slots.Retire(h) }

// Read is what was counted since Alloc. Control side only.
func (c *Counters) Read(h uint32) Counter {
	s, b := c.sum(h), c.base[h]
	return Counter{s.Packets - b.Packets, s.Bytes - b.Bytes}
}

func (c *Counters) sum(h uint32) (s Counter) {
	for _, t := range c.w {
		x := t.At(h)
		s.Packets += atomic.LoadUint64(&x.Packets)
		s.Bytes += atomic.LoadUint64(&x.Bytes)
	}
	return s
}

// Worker is one worker's table.
func (c *Counters) Worker(i int) mem.Table[Counter] { return c.w[i] }

// Close unmaps the tables.
func (c *Counters) Close() error {
	for i := range c.w {
		if err := c.w[i].Unmap(); err != nil {
			return err
		}
	}
	return nil
}
