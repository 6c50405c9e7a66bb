package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"vrouter/fastpath"
)

// A collection takes processors away from the workers for milliseconds, so the
// collector does not run when it likes. It is called after a request, when the
// garbage has grown by collectAt; the memory limit is for what nobody foresaw.
const collectAt = 64 << 20

// quiet turns the collector off below a limit in MiB.
func quiet(limit int) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(int64(limit) << 20)
}

// collecting is an Engine that collects garbage after requests that make some.
type collecting struct {
	fastpath.Engine

	mu   sync.Mutex
	kept uint64 // heap after the last collection
}

func (c *collecting) Publish(ctx context.Context, t fastpath.Ticket) error {
	defer c.collect()
	return c.Engine.Publish(ctx, t)
}

func (c *collecting) Abort(ctx context.Context, t fastpath.Ticket) error {
	defer c.collect()
	return c.Engine.Abort(ctx, t)
}

func (c *collecting) State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error) {
	defer c.collect()
	return c.Engine.State(ctx, q)
}

func (c *collecting) Inventory(ctx context.Context) (*fastpath.Inventory, error) {
	defer c.collect()
	return c.Engine.Inventory(ctx)
}

func (c *collecting) collect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if heap() < c.kept+collectAt {
		return
	}
	runtime.GC()
	c.kept = heap()
}

// heap is the bytes of objects on the heap, garbage included. Reading it stops
// nobody.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
