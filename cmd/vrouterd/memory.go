package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Between commits vrouterd needs little, and within one it makes garbage as fast
// as it can. A heap that may only double from a few MiB would be collected ten
// times while a large commit is read and translated, each time with a processor
// that the commit wants. So there is room for roomLeast of garbage at least, and
// for as much as is in use where that is more, as Go has it by default. The limit
// follows each collection; it is no limit of what may be in use.
const roomLeast = 72 << 20

// pace has the collector give the heap that room from now on.
func pace() {
	// The limit alone decides; a percentage that never does keeps the collection
	// that Go makes after two minutes without any.
	debug.SetGCPercent(10_000)
	follow()
}

// follow sets the limit, and again after each collection: the next one finds
// the mark that nobody holds.
func follow() {
	debug.SetMemoryLimit(limit(inUse()))
	type mark struct{ _ *byte }
	runtime.AddCleanup(new(mark), func(struct{}) { follow() }, struct{}{})
}

// limit is where the next collection comes, with live bytes found in use by the
// last one, and other bytes that the runtime has beside the heap.
func limit(live, other int64) int64 { return other + live + max(live, roomLeast) }

// inUse reads what limit wants to know.
func inUse() (live, other int64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	n := func(i int) int64 { return int64(s[i].Value.Uint64()) }
	return n(0), n(1) - n(2) - n(3) - n(4) - n(5)
}
