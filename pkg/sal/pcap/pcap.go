// Package pcap is a SAL port driver over capture files: it replays a capture as
// what the port receives, and writes what the port sends.
//
//	pcap.go   the driver, a port, its queues
//	replay.go reading ahead of RxBurst
//	record.go writing behind TxBurst
//	read.go   the formats pcap and pcapng, read
//	write.go  pcapng, written
//
// A capture is replayed from when the port is first set up, in its own time or as
// fast as the router takes it, once or more often. Frames that are due while the
// port is down are lost, as they would be on a cable. A file is read through
// before: one that is damaged does not open, with the place named. A named pipe
// is read as it comes.
//
// What is sent goes into a pcapng file with times in nanoseconds and the
// interface's name. A file that is there is gone on with, in a new section; when
// a process died while it wrote, what is left of its last packet is cut off
// first. The disk may be slower than the router: what finds no room in memory is
// the caller's, who drops it.
//
// Files are named without a directory, all are in that of Options: who may
// configure a port must not have every file of the machine.
package pcap

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"vrouter/pkg/sal"
)

// Options of the driver.
type Options struct {
	// Dir is where captures are read and written, and is made when one is
	// written. Empty: file names are paths.
	Dir string
}

// Driver opens captures. It is safe for concurrent use.
type Driver struct {
	o Options

	mu      sync.Mutex
	writing map[string]bool
}

// New makes a driver.
func New(o Options) *Driver { return &Driver{o: o, writing: map[string]bool{}} }

// Name is "pcap".
func (d *Driver) Name() string { return "pcap" }

const maxQueues = 64

type port struct {
	d      *Driver
	cfg    sal.PortConfig
	pool   *sal.Pool
	mac    [6]byte
	maxLen int
	in     *replay // nil: receives nothing
	out    *record // nil: what is sent is gone
	queues []*queue
	up     atomic.Bool

	rxErrors, txDropped, txErrors atomic.Uint64

	mu     sync.Mutex
	closed bool
}

// path is where a file of the configuration lies.
func (d *Driver) path(name string) (string, error) {
	if d.o.Dir == "" {
		return name, nil
	}
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("capture %q: a name without a directory is wanted, not beginning with a dot: %w", name, sal.ErrInvalid)
	}
	return filepath.Join(d.o.Dir, name), nil
}

// Open opens the files; the port is down until SetUp.
func (d *Driver) Open(cfg sal.PortConfig, pool *sal.Pool) (sal.Port, error) {
	if cfg.Queues < 1 || cfg.Queues > maxQueues {
		return nil, fmt.Errorf("port %s: %d queues, 1 to %d are possible: %w", cfg.Name, cfg.Queues, maxQueues, sal.ErrInvalid)
	}
	if cfg.MTU > sal.MaxMTU {
		return nil, fmt.Errorf("port %s: MTU %d, the largest is %d: %w", cfg.Name, cfg.MTU, sal.MaxMTU, sal.ErrInvalid)
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.Params.Read == "" && cfg.Params.Write == "" {
		return nil, fmt.Errorf("port %s: it has neither a capture to read nor one to write: %w", cfg.Name, sal.ErrInvalid)
	}
	p := &port{d: d, cfg: cfg, pool: pool, mac: cfg.MAC, maxLen: cfg.MTU + 18}
	if p.mac == ([6]byte{}) {
		h := fnv.New64a()
		_, _ = h.Write([]byte("vrouter pcap " + cfg.Name))
		for i, s := 0, h.Sum64(); i < 6; i++ {
			p.mac[i] = byte(s >> (8 * i))
		}
		p.mac[0] = p.mac[0]&^1 | 2
	}
	if err := p.open(); err != nil {
		_ = p.Close()
		return nil, err
	}
	for i := range cfg.Queues {
		p.queues = append(p.queues, &queue{p: p, receives: i == 0})
	}
	return p, nil
}

func (p *port) open() (err error) {
	c := &p.cfg.Params
	if c.Read != "" {
		path, err := p.d.path(c.Read)
		if err != nil {
			return err
		}
		if p.in, err = openReplay(path, p.maxLen, c.FlatOut, c.Repeat); err != nil {
			return fmt.Errorf("capture %s: %w", path, err)
		}
	}
	if c.Write != "" {
		path, err := p.d.path(c.Write)
		if err != nil {
			return err
		}
		p.d.mu.Lock()
		twice := p.d.writing[path]
		p.d.writing[path] = true
		p.d.mu.Unlock()
		if twice {
			return fmt.Errorf("capture %s is written by another port: %w", path, sal.ErrBusy)
		}
		if p.out, err = openRecord(path, p.cfg.Name, p.d.o.Dir); err != nil {
			p.d.mu.Lock()
			delete(p.d.writing, path)
			p.d.mu.Unlock()
			return fmt.Errorf("capture %s: %w", path, err)
		}
	}
	return nil
}

// Info describes the port.
func (p *port) Info() sal.PortInfo {
	return sal.PortInfo{Name: p.cfg.Name, Driver: "pcap", Device: p.cfg.Params.Read + ">" + p.cfg.Params.Write, Queues: p.cfg.Queues, MAC: p.mac}
}

// Queue gives queue i. Only the first receives.
func (p *port) Queue(i int) sal.PortQueue { return p.queues[i] }

// Link tells whether the port is up.
func (p *port) Link() bool { return p.up.Load() }

// SetUp begins the replay when it is the first time.
func (p *port) SetUp(up bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("port %s: %w", p.cfg.Name, sal.ErrGone)
	}
	p.up.Store(up)
	if up && p.in != nil {
		p.in.start()
	}
	return nil
}

// Stats are what was lost.
func (p *port) Stats() sal.PortStats {
	s := sal.PortStats{RxErrors: p.rxErrors.Load(), TxDropped: p.txDropped.Load(), TxErrors: p.txErrors.Load()}
	if p.out != nil {
		s.TxErrors += p.out.failed.Load()
	}
	return s
}

// Close ends the replay and writes what is left to write.
func (p *port) Close() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.up.Store(false)
	if p.in != nil {
		p.in.close()
	}
	if p.out != nil {
		err = p.out.close()
		p.d.mu.Lock()
		delete(p.d.writing, p.out.path)
		p.d.mu.Unlock()
	}
	return err
}

// queue is one goroutine's part.
type queue struct {
	p        *port
	receives bool
}

// Wake is -1: frames come by the clock.
func (q *queue) Wake() int { return -1 }

// Held is 0: both directions copy.
func (q *queue) Held() int { return 0 }

// RxBurst gives the frames that are due.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) (n int) {
	p := q.p
	if !q.receives || p.in == nil {
		return 0
	}
	up := p.up.Load()
	for now := p.in.now(); n < len(d) || !up; {
		f, cut, ok := p.in.peek(now)
		if !ok {
			break
		}
		switch {
		case !up:
		case cut || len(f) < 14 || len(f) > p.maxLen:
			p.rxErrors.Add(1)
		default:
			b, ok := c.AllocFor(len(f))
			if !ok {
				return n
			}
			d[n] = sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
			copy(p.pool.Bytes(d[n]), f)
			n++
		}
		p.in.drop()
	}
	return n
}

// TxBurst hands frames to the writer.
func (q *queue) TxBurst(c *sal.Cache, d []sal.Desc) int {
	p := q.p
	n := len(d)
	switch {
	case !p.up.Load():
		p.txDropped.Add(uint64(n))
	case p.out != nil:
		n = p.out.add(p.pool, d)
	}
	c.FreeDescs(d[:n])
	return n
}
