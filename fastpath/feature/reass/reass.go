// Package reass puts fragments together: those to own addresses, before inbound
// policy looks at them (RFC 791, RFC 815, RFC 8200 section 4.5, RFC 4301 section
// 7). What is only forwarded stays in pieces.
//
//	stage.go  which packets come here, and what is done with each
//	table.go  datagrams that are not whole yet
//	join.go   whole ones
//
// What is bounded: datagrams, buffers, datagrams of one source, pieces of one
// datagram, time. Where a bound is met the oldest gives way to the newest, so
// that a flood of pieces that never become whole does not stop those that do.
//
// Pieces that overlap, or contradict each other, end their datagram, and so do
// all pieces of it that are yet to come (RFC 5722, here for IPv4 as well). An
// exact duplicate is dropped by itself.
//
// Pieces are copied together into the first one's buffer, or into a large one; how
// many of these there are bounds what is whole and under way. Echo requests are
// not: they are answered piece by piece, whatever their size.
//
// Not done: datagrams of more than sal.MaxPacket bytes, which is 14 short of what
// IPv4 can say, other than echo requests. ESP of that size is lost; of anything else
// the first piece goes on alone, for its sender to hear that nobody is there
// (drop.ReassTooBig).
package reass

import (
	"fmt"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
)

// How long the pieces of a datagram are waited for, from the first to arrive.
// IPv6: RFC 8200 section 4.5. IPv4: shorter than the minute of RFC 1122 section
// 3.3.2, because its 16-bit identifications come round quickly (RFC 4963).
const (
	Timeout4 = 30 * time.Second
	Timeout6 = 60 * time.Second
)

// Options are the bounds. Zero fields take the defaults.
type Options struct {
	Datagrams int // that are not whole yet, at once: 2048
	Buffers   int // that their pieces hold: a quarter of the pool, at most 4096
	PerSource int // datagrams of one IPv4 address or IPv6 /64: 32
}

// Feature is the reassembly. Its stage and sink run on workers, the other
// methods under the engine's lock.
type Feature struct {
	env     *pipeline.Env
	t       *table
	workers []*scratch
	// Stage sends fragments to own addresses to Sink.
	Stage pipeline.Stage
	Sink  pipeline.Sink
}

// scratch is what a worker needs beside the table.
type scratch struct{ whole whole }

// whole is a datagram of which all pieces are there, in order.
type whole struct {
	key   key
	in    pipeline.IfIndex
	ecn   uint8
	n     int
	total int // bytes of data
	piece [maxPieces]piece
}

// New makes the feature.
func New(env *pipeline.Env, o Options) (*Feature, error) {
	if o.Datagrams == 0 {
		o.Datagrams = 2048
	}
	if o.Buffers == 0 {
		o.Buffers = min(env.Pool.Size()/4, 4096)
	}
	if o.PerSource == 0 {
		o.PerSource = 32
	}
	t, err := newTable(o)
	if err != nil {
		return nil, fmt.Errorf("reassembly: %w", err)
	}
	f := &Feature{env: env, t: t}
	s, err := mem.NewTable[scratch](pipeline.MaxWorkers, mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("reassembly: %w", err)
	}
	for i := range uint32(pipeline.MaxWorkers) { // memory is used when one works
		f.workers = append(f.workers, s.At(i))
	}
	f.Stage, f.Sink = stage{}, sink{f}
	return f, nil
}

// Tick ends datagrams that were waited for in vain. Where the piece with the
// header is there, its sender is told (RFC 792, RFC 4443 section 3.3).
func (f *Feature) Tick(now int64) {
	told := 0
	for i := range f.t.shards {
		s := &f.t.shards[i]
		for {
			var w whole
			if !f.t.expired(s, now, &w) {
				break
			}
			for k := range w.n {
				d := w.piece[k].desc
				if w.piece[k].from == 0 && told < maxTold {
					told++
					f.env.Control.Reject(0, pipeline.CtlMsg{Desc: d, In: w.in, SA: w.key.fromSA()}, pipeline.RejectReassembly)
					continue
				}
				f.env.Control.Drop(d, w.in, drop.ReassTimeout)
			}
		}
	}
}

// maxTold bounds how many senders are told in one Tick.
const maxTold = 64

// Held is how many buffers wait for the rest of their datagram.
func (f *Feature) Held() int { return int(f.t.held.Load()) }

// Close gives all buffers back; no worker may be running.
func (f *Feature) Close() {
	for i := range f.t.shards {
		var w whole
		for f.t.oldestOut(&f.t.shards[i], &w) {
			for k := range w.n {
				f.env.Control.Drop(w.piece[k].desc, w.in, drop.Shutdown)
			}
		}
	}
	f.t.close()
}
