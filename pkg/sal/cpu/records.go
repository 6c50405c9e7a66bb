package cpu

import (
	"fmt"
	"sync/atomic"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// records are the SAs of a session: SA i is record i%chunkSAs of chunk i/chunkSAs.
type records struct {
	e      *Engine
	s      *session.Session
	chunks [maxChunks]atomic.Pointer[chunk]
}

// Check holds a config against Caps.
func (r *records) Check(c *sal.SAConfig) error { return session.CheckCrypto(c) }

// Room maps the chunk of a record.
func (r *records) Room(h sal.SA) error {
	if k := h / chunkSAs; r.chunks[k].Load() == nil {
		c, err := newChunk()
		if err != nil {
			return fmt.Errorf("memory for SAs: %v: %w", err, sal.ErrFull)
		}
		r.chunks[k].Store(c)
	}
	return nil
}

// Install expands the keys into the record.
func (r *records) Install(h sal.SA, c *sal.SAConfig) error {
	return r.chunks[h/chunkSAs].Load().install(int(h%chunkSAs), c, r.e)
}

// Stop makes the record unusable.
func (r *records) Stop(h sal.SA) { r.record(h).state.Store(deleted) }

// Wipe forgets what is in the record.
func (r *records) Wipe(h sal.SA) { r.chunks[h/chunkSAs].Load().wipe(int(h % chunkSAs)) }

// Stats reads the record's counters.
func (r *records) Stats(h sal.SA) sal.SAStats { return r.record(h).stats() }

// Close wipes all records.
func (r *records) Close() {
	for k := range r.chunks {
		if c := r.chunks[k].Swap(nil); c != nil {
			_ = c.region.Unmap() // wipes; memory that cannot be unmapped is no one's loss
		}
	}
}

// record is the SA's; h must have been given out once.
func (r *records) record(h sal.SA) *record {
	return &r.chunks[h/chunkSAs].Load().recs[h%chunkSAs]
}
