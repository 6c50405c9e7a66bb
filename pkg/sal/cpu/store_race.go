//go:build race

package cpu

import "sync/atomic"

// store is atomic where the race detector watches.
func store(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
