// Package memory is a SAL port driver without a device: each port is one end
// of a wire made of descriptor rings in this process. It moves no bytes, which
// makes it the port of benchmarks and tests, and of two interfaces that shall
// be connected back to back.
//
// A wire has two ends. The port named "x" (sal.PortConfig.Device) holds one;
// the other belongs to whoever comes first: a test by [Driver.Peer], or a
// second port that opens "x:peer". [Driver.Connect] ties two ports of any
// names together. A port whose other end nobody holds has no link: what it
// sends is counted as PortStats.TxDropped and freed.
//
// Ten thousand ports cost little: rings get their slots at the first frame,
// there is no goroutine, and a descriptor for poll(2) only exists where
// PortQueue.Wake asked for it.
//
// Frames cross a wire without a copy where both ends use one pool; else the
// receiver copies them into its own buffers and gives the sender's back.
//
//	memory.go  the driver, wires
//	port.go    a port and its queues
//	peer.go    the end in the hands of a test or benchmark
//	ring.go    descriptors from one goroutine to another
package memory

import (
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"

	"vrouter/pkg/sal"
)

// DefaultDepth is the number of frames a queue holds in each direction unless
// Options say otherwise: two full bursts.
const DefaultDepth = 2 * sal.Burst

// PeerSuffix behind a port's device name names the other end of its wire.
const PeerSuffix = ":peer"

// Options of a driver; the zero value is good.
type Options struct {
	// Depth of each ring in frames, rounded up to a power of two; 0 means
	// DefaultDepth.
	Depth int
}

// Driver opens memory ports. It is safe for concurrent use.
type Driver struct {
	depth int

	mu   sync.Mutex
	ends map[string]*end
}

// New makes a driver. Ports of different drivers never meet.
func New(o Options) *Driver {
	d := o.Depth
	if d <= 0 {
		d = DefaultDepth
	}
	return &Driver{depth: 1 << bits.Len(uint(d-1)), ends: map[string]*end{}}
}

// Name is "memory".
func (d *Driver) Name() string { return "memory" }

// end is one end of a wire. It outlives the port or peer that holds it.
type end struct {
	name  string
	other *end

	// What the other end reads on the packet path. tx is nil while nobody
	// holds this end; a holder that leaves takes its rings along, with what is
	// in them.
	tx    atomic.Pointer[[]txRing]
	pool  atomic.Pointer[sal.Pool] // of the port holding it; nil for a peer
	up    atomic.Bool              // held, and set up
	wakes atomic.Pointer[[]waker]  // where senders to this end ring

	peer *Peer // who holds this end, if anyone: a peer
	port *port // or a port
}

// ring wakes the queue of this end that reads the sender's ring i.
func (e *end) ring(i int) {
	if w := e.wakes.Load(); w != nil {
		(*w)[i%len(*w)].ring()
	}
}

// txRing is what one queue sends into. The lock is taken once for a burst and
// protects the ring's end of life only: a port that closes empties its rings
// while the other end might be reading.
type txRing struct {
	ring
	life   sync.Mutex
	closed bool // a peer may not send any more
}

// take pops for the other end.
func (r *txRing) take(d []sal.Desc) int {
	if r.empty() {
		return 0
	}
	r.life.Lock()
	n := r.pop(d)
	r.life.Unlock()
	return n
}

// drain gives what is in the rings back to pool and says how much it was.
func drain(rings []txRing, pool *sal.Pool) (dropped int) {
	var d [sal.Burst]sal.Desc
	for i := range rings {
		r := &rings[i]
		r.life.Lock()
		r.closed = true
		for n := r.pop(d[:]); n > 0; n = r.pop(d[:]) {
			pool.Return(d[:n])
			dropped += n
		}
		r.life.Unlock()
	}
	return dropped
}

// Connect ties the ports a and b to one another: what one sends the other
// receives. Neither may have been named to this driver before.
func (d *Driver) Connect(a, b string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range []string{a, b} {
		if d.ends[n] != nil {
			return fmt.Errorf("memory port %q has a wire: %w", n, sal.ErrExists)
		}
	}
	if a == b {
		return fmt.Errorf("memory port %q connected to itself: %w", a, sal.ErrInvalid)
	}
	d.wire(a, b)
	return nil
}

// wire makes the two ends of a wire; d.mu is held.
func (d *Driver) wire(a, b string) {
	x, y := &end{name: a}, &end{name: b}
	x.other, y.other = y, x
	d.ends[a], d.ends[b] = x, y
}

// end finds the end of a device name, with a new wire if need be; d.mu is held.
func (d *Driver) end(name string) *end {
	if e := d.ends[name]; e != nil {
		return e
	}
	if base, isPeer := strings.CutSuffix(name, PeerSuffix); isPeer {
		d.wire(base, name)
	} else {
		d.wire(name, name+PeerSuffix)
	}
	return d.ends[name]
}

// Open opens the port cfg.Device, or cfg.Name where that is empty. It is down
// until SetUp. An end that a port or a peer holds already gives ErrBusy.
func (d *Driver) Open(cfg sal.PortConfig, pool *sal.Pool) (sal.Port, error) {
	name := cfg.Device
	if name == "" {
		name = cfg.Name
	}
	if name == "" || cfg.Queues < 1 || cfg.Queues > maxQueues {
		return nil, fmt.Errorf("memory port %q with %d queues: %w", name, cfg.Queues, sal.ErrInvalid)
	}
	if cfg.MTU < 0 || cfg.MTU > sal.MaxMTU {
		return nil, fmt.Errorf("memory port %q: MTU %d is above %d: %w", name, cfg.MTU, sal.MaxMTU, sal.ErrInvalid)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.end(name)
	if e.port != nil || e.peer != nil {
		return nil, fmt.Errorf("memory port %q: %w", name, sal.ErrBusy)
	}
	p := newPort(d, e, cfg, pool)
	e.port = p
	e.pool.Store(pool)
	e.wakes.Store(&p.wakes)
	e.tx.Store(&p.tx)
	if o := e.other; o.peer != nil {
		o.peer.attach(cfg.Queues)
	}
	return p, nil
}

// Peer takes the other end of the port named, which need not be open yet and
// may be closed and opened again. Asked twice, it gives the same peer. It
// panics when a port holds that end: a test that mistakes its wiring cannot go
// on.
func (d *Driver) Peer(name string) *Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.end(name).other
	if e.port != nil {
		panic(fmt.Sprintf("memory: the peer of %q is the open port %q", name, e.name))
	}
	if e.peer == nil {
		e.peer = &Peer{d: d, e: e}
		if o := e.other.port; o != nil {
			e.peer.attach(o.cfg.Queues)
		}
		e.up.Store(true)
	}
	return e.peer
}
