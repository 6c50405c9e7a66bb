// Package afxdp is a SAL port driver over AF_XDP sockets (Linux 5.4 and newer):
// frames come out of the device's driver, before the kernel's own network stack
// has made anything of them, into the packet buffers of the SAL.
//
//	afxdp.go    the driver; opening a port
//	program.go  the XDP program that gives frames to the sockets
//	socket.go   a socket with its rings, for one of the device's queues
//	ring.go     a ring shared with the kernel
//	queue.go    receiving and sending
//	pieces.go   frames that do not fit one buffer
//	csum.go     checksums that senders on this machine have left to a device
//	pages.go    which buffers a zero-copy device takes
//
// # Buffers
//
// The pool itself is what the kernel is told to put frames into (UMEM): nothing
// is copied here. Each port registers it for itself, and the queues of a port
// share that: so one port can be zero-copy and another not, and a port that
// goes takes nothing along. Buffers are of 2112 bytes and follow one another,
// which the kernel calls unaligned chunks. It is told that they begin 128 bytes
// earlier than they do, so that its own 256 bytes of headroom and ours end in
// the same place; nobody writes into the overlap.
//
// Some buffers lie with the kernel and wait for frames, see fillSlots; the
// pool should be some thousands larger for each port.
//
// # Modes
//
// Zero-copy is tried first: the device then moves frames into and out of the
// buffers by itself. It is had when the device's driver can do it with unaligned
// chunks, and when most of the pool lies in huge pages, for a device takes no
// buffer that crosses pages which are not neighbours in physical memory. Else
// the kernel copies (veth always). A device whose driver knows no XDP gets the
// program into the kernel's general receive path. PortInfo.Mode tells which it
// is, and Why what stood against a better one. Zero-copy has been run on no device yet: the machines of the tests have
// none that can do it.
//
// # Against packet sockets
//
// Frames that come one by one cost less here: side by side on veth, one sender
// flat out, 1.0 to 1.2 µs of the forwarding thread's time a frame against 1.2 to
// 1.4 of af-packet, and 1.5 to 2 times as many got through (BenchmarkLoad of both
// packages). What is left is the kernel's: of the samples in a profile no 3 % are
// in this package; copying twice on the way in (the veth makes an XDP frame of the
// sender's packet, the socket a buffer of that), a packet made for each frame on
// the way out, one system call a burst. TCP between hosts on the same machine is
// another matter: with an XDP program on it a veth takes no super-frames from
// its peer, whose kernel then walks every segment of 1500 bytes through itself;
// af-packet gets 64 KiB at once, and sends it so. There af-packet is faster, up
// to twice. AF_XDP has no means for super-frames in either direction.
//
// Not done: busy polling (SO_PREFER_BUSY_POLL), which saves interrupts on a NIC,
// but wants workers that never sleep.
//
// # Queues
//
// Queue i of a port is queue i of the device. A device with more is told to have
// as many as the port (ethtool -L), since what the others receive would go to
// the kernel; where it refuses, so does Open. With fewer, the port's other
// queues only send, over a socket that shares one of the device's.
//
// # What is offloaded
//
// On veth and other devices without a wire senders leave checksums to the
// device, and AF_XDP does not tell: package gso cannot help here. They are
// found and finished, see csum.go for how and for what is not. The kernel stops
// the peer of a veth from sending super-frames while an XDP program is there; in
// generic mode it does not, and they are lost (RxDropped). VLAN tags that the
// kernel keeps beside the frame are put back by the XDP program (Linux 6.8, and
// drivers with that kind of metadata, veth among them), and a NIC is told to
// leave them in the frame. Where neither can be, a warning is logged: the frames
// would look untagged.
//
// # MTU
//
// Up to oneBuffer, which is 1902, a frame lies in one buffer. With a larger MTU the
// kernel hands frames over, and takes them, in several (Linux 6.6), see pieces.go:
// that costs a copy in both directions for frames that need it, and a device whose
// driver can have XDP programs that know of it, as veth's does. MaxMTU says what is
// possible here.
//
// # The end
//
// The program goes with the port and with the process, and the device is the
// kernel's again. When the device is removed the port is lost (sal.Loser).
package afxdp

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/netdev"
)

// Options of the driver; the zero value is good.
type Options struct {
	// Generic puts the program into the kernel's general receive path even where
	// the device's driver takes it.
	Generic bool
}

// maxQueues of a port.
const maxQueues = 64

// fillSlots is how many buffers the next queue keeps with the kernel for frames
// to come when so many are open already: a quarter of the pool each for the
// first two, so that a worker which does not get a processor for a while loses
// nothing, and less for those that follow. A power of two.
func fillSlots(pool, open int) int {
	part := 4
	switch {
	case open >= 6:
		part = 64
	case open >= 2:
		part = 32
	}
	n := 64
	for n < 4096 && 2*n <= pool/part {
		n *= 2
	}
	return n
}

// Driver opens ports. It is safe for concurrent use.
type Driver struct {
	o Options

	mu     sync.Mutex
	open   map[devKey]bool
	queues int // of all open ports

	once     sync.Once // of MaxMTU
	inPieces bool      // the kernel has frames in several buffers
}

// devKey is a device in a network namespace.
type devKey struct {
	ns    uint64
	index int
}

// New makes a driver.
func New(o Options) *Driver { return &Driver{o: o, open: map[devKey]bool{}} }

// oneBuffer is the largest MTU with which each frame fits a buffer.
const oneBuffer = sal.MaxFrame - 18

// MaxMTU implements sal.MTULimiter: it depends on the kernel.
func (d *Driver) MaxMTU() int {
	d.once.Do(func() { d.inPieces = kernelTakesPieces() })
	if d.inPieces {
		return sal.MaxMTU
	}
	return oneBuffer
}

// Name is "af-xdp".
func (d *Driver) Name() string { return "af-xdp" }

// port is an open device.
type port struct {
	d    *Driver
	cfg  sal.PortConfig
	dev  *netdev.Dev
	pool *sal.Pool
	key  devKey
	mac  [6]byte

	index      int
	first      uint64 // where buffer 0 begins in the pool's region
	maxLen     int    // of a frame received, its tag included
	unfinished bool   // checksums may be
	pieces     bool   // frames may lie in several buffers
	mode, why  string
	pages      *pages   // of a zero-copy port
	out        []uint32 // a bit for each buffer that the kernel has
	prog       *program
	filter     netdev.Listener
	socks      []*socket // one for each queue of the device
	extra      []*transmit
	queues     []*queue // in all, so that it grows beside Queue
	all        [maxQueues]*queue
	undo       []func() // what was changed of the device

	up atomic.Bool

	rxNoBuffer, rxErrors, txDropped, txErrors atomic.Uint64

	mu        sync.Mutex
	closed    bool
	rxDropped uint64 // when closed
	link      atomic.Bool
	linkAsked atomic.Int64 // Unix nanoseconds
	lost      atomic.Bool
}

// Open opens a device for Ethernet, in the network namespace of the calling
// thread, and sets its MTU. The port is down until SetUp.
func (d *Driver) Open(cfg sal.PortConfig, pool *sal.Pool) (sal.Port, error) {
	if cfg.Device == "" {
		cfg.Device = cfg.Name
	}
	if cfg.Queues < 1 || cfg.Queues > maxQueues {
		return nil, fmt.Errorf("device %s: %d queues, 1 to %d are possible: %w", cfg.Device, cfg.Queues, maxQueues, sal.ErrInvalid)
	}
	if most := d.MaxMTU(); cfg.MTU > most {
		return nil, fmt.Errorf("device %s: MTU %d, the largest with af-xdp on this kernel is %d: %w", cfg.Device, cfg.MTU, most, sal.ErrInvalid)
	}
	dev, err := netdev.Open(cfg.Device)
	if err != nil {
		return nil, err
	}
	p := &port{d: d, cfg: cfg, dev: dev, pool: pool, filter: -1, out: make([]uint32, pool.Size()/32+1)}
	p.first = uint64(pool.Base() - regionAt(pool))
	if err := p.claim(); err != nil {
		_ = p.Close()
		return nil, err
	}
	if err := p.open(); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("device %s: %w", cfg.Device, err)
	}
	return p, nil
}

// claim finds the device and makes sure that no other port has it.
func (p *port) claim() (err error) {
	if p.index, err = p.dev.Index(); err != nil {
		return err
	}
	if p.mac, err = p.dev.MAC(); err != nil {
		return err
	}
	ns, err := netdev.Namespace()
	if err != nil {
		return err
	}
	key := devKey{ns, p.index}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.open[key] {
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrBusy)
	}
	p.d.open[key] = true
	p.key = key
	return nil
}

func (p *port) open() error {
	// Before Linux 5.11 maps and programs count as locked memory; the buffers
	// do on all.
	_ = rlimit.RemoveMemlock()
	if err := p.device(); err != nil {
		return err
	}
	if err := p.sockets(); err != nil {
		return err
	}
	// The program comes last: frames find their sockets from the first on.
	for i, s := range p.socks {
		if err := p.prog.socks.Put(uint32(i), uint32(s.fd)); err != nil {
			return fmt.Errorf("giving queue %d its socket: %w", i, explain(err))
		}
	}
	if err := p.prog.attach(p.index, p.d.o.Generic); err != nil {
		return err
	}
	if !p.prog.native {
		p.mode, p.why = sal.ModeGeneric, "copy: the device's driver takes no XDP program"
		if p.d.o.Generic {
			p.why = "copy: the driver of ports was told to be generic"
		}
	}
	if !p.prog.tags && p.mode != sal.ModeZeroCopy && p.dev.TakesTags() {
		slog.Warn("VLAN tags of frames cannot be seen on this port: tagged frames look untagged", "port", p.cfg.Name, "device", p.cfg.Device, "err", p.prog.why)
	}
	return nil
}

// device readies the device: MTU, addresses, queues, tags.
func (p *port) device() error {
	mtu, err := p.cfg.MTU, error(nil)
	if mtu == 0 {
		if mtu, err = p.dev.MTU(); err != nil {
			return err
		}
		mtu = min(mtu, oneBuffer)
	} else if err := p.dev.SetMTU(mtu); err != nil {
		return err
	}
	p.maxLen = mtu + 18
	p.pieces = mtu > oneBuffer
	promisc := p.cfg.MAC != [6]byte{} && p.cfg.MAC != p.mac
	if p.filter, err = netdev.Listen(p.index, promisc); err != nil {
		return err
	}
	if promisc {
		p.mac = p.cfg.MAC
	}
	virtual := hosted[p.dev.Driver()]
	p.unfinished = virtual
	ch, err := p.dev.Channels()
	if n := ch.Receive(); err == nil && n > p.cfg.Queues {
		now := ch
		if now.Combined >= n-p.cfg.Queues+1 || now.Rx == 0 {
			now.Combined -= n - p.cfg.Queues
		} else {
			now.Rx -= n - p.cfg.Queues
		}
		if err := p.dev.SetChannels(now); err != nil {
			return fmt.Errorf("it has %d receive queues, and what comes into those beyond the port's %d would be the kernel's; it does not take fewer, so set the port's queues to %d: %w",
				n, p.cfg.Queues, n, err)
		}
		p.undo = append(p.undo, func() { _ = p.dev.SetChannels(ch) })
	}
	if !virtual && p.dev.TakesTags() && p.dev.TakeTags(false) == nil {
		p.undo = append(p.undo, func() { _ = p.dev.TakeTags(true) })
	}
	return nil
}

// hosted are the kernel's drivers of devices that no cable leads to: their
// senders are on this machine.
var hosted = map[string]bool{"veth": true, "tun": true, "virtio_net": true, "netkit": true, "bridge": true, "dummy": true}

// sockets makes the sockets, zero-copy if that can be.
func (p *port) sockets() error {
	if !p.cfg.Params.Copy && !p.d.o.Generic {
		why := p.bind(unix.XDP_ZEROCOPY)
		if why == nil {
			p.mode = sal.ModeZeroCopy
			return p.queueUp()
		}
		p.release()
		if errors.Is(why, sal.ErrBusy) {
			return why
		}
		p.why = "zero-copy: " + why.Error()
	} else if p.cfg.Params.Copy {
		p.why = "zero-copy: the configuration forbids it"
	}
	p.mode = sal.ModeCopy
	if err := p.bind(unix.XDP_COPY); err != nil {
		return err
	}
	return p.queueUp()
}

// bind makes a socket for each of the device's queues that the port wants.
func (p *port) bind(flags uint16) error {
	if p.pieces {
		flags |= unix.XDP_USE_SG
	}
	p.d.mu.Lock()
	slots := fillSlots(p.pool.Size(), p.d.queues)
	p.d.mu.Unlock()
	if want := p.cfg.Params.Ring; want > 0 {
		if slots = 1 << bits.Len32(want-1); slots*p.cfg.Queues > p.pool.Size()/2 {
			return fmt.Errorf("%d queues with a ring of %d packet buffers each, of %d that there are: %w", p.cfg.Queues, slots, p.pool.Size(), sal.ErrInvalid)
		}
	}
	for i := range p.cfg.Queues {
		s, err := newSocket(p, i, slots)
		if err != nil {
			return err
		}
		share := -1
		if i > 0 {
			share = p.socks[0].fd
		}
		if err = bind(s.fd, p.index, i, flags, share); err != nil {
			s.close()
			if i > 0 && errors.Is(err, unix.EINVAL) { // the device has no such queue
				break
			}
			return err
		}
		p.socks = append(p.socks, s)
		if i == 0 && flags&unix.XDP_ZEROCOPY != 0 {
			if err := p.paged(); err != nil {
				return err
			}
		}
	}
	var err error
	if p.prog, err = newProgram(p.index, len(p.socks), p.mode == sal.ModeCopy, p.pieces); err != nil {
		return err
	}
	p.d.mu.Lock()
	p.d.queues += len(p.socks)
	p.d.mu.Unlock()
	return nil
}

// paged looks whether a zero-copy device can use the pool.
func (p *port) paged() (err error) {
	if p.pages, err = lookAt(p.pool.Region()); err != nil {
		return err
	}
	bad := 0
	for b := range uint32(p.pool.Size()) {
		if p.pages.split(p.address(b, sal.Headroom)-headroom, chunk) {
			bad++
		}
	}
	if bad > p.pool.Size()/16 {
		return fmt.Errorf("%d of %d packet buffers lie on pages that are no neighbours: there are too few huge pages", bad, p.pool.Size())
	}
	return nil
}

// queueUp makes the queues: first those with a queue of the device, then those
// that only send.
func (p *port) queueUp() error {
	p.queues = p.all[:0]
	for _, s := range p.socks {
		s.first(p)
		p.queues = append(p.queues, &queue{p: p, rx: s, tx: &s.tx})
	}
	return p.addSenders(p.cfg.Queues)
}

// addSenders adds queues that only send, until there are n in all.
func (p *port) addSenders(n int) error {
	for i := len(p.queues); i < n; i++ {
		s := p.socks[i%len(p.socks)]
		t := &transmit{s: s}
		var err error
		if t.fd, err = newFD(); err != nil {
			return err
		}
		p.extra = append(p.extra, t)
		if err := t.open(); err != nil {
			return err
		}
		if err := bind(t.fd, p.index, s.queue, 0, s.fd); err != nil {
			return err
		}
		p.queues = append(p.queues, &queue{p: p, tx: t})
	}
	return nil
}

// AddQueues implements sal.QueueAdder with queues that only send: what the device
// receives stays with the queues of the device that there are, since giving it more
// resets it, and the program's map of sockets is as large as it was made.
func (p *port) AddQueues(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case n > maxQueues:
		return fmt.Errorf("device %s: %d queues, 1 to %d are possible: %w", p.cfg.Device, n, maxQueues, sal.ErrInvalid)
	case p.closed || p.lost.Load():
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrGone)
	}
	if ns, err := netdev.Namespace(); err != nil || ns != p.key.ns {
		return fmt.Errorf("device %s: not the network namespace that it was opened in: %w", p.cfg.Device, sal.ErrInvalid)
	}
	return p.addSenders(n)
}

// release closes program and sockets, and gives the buffers they had back.
func (p *port) release() {
	if p.prog != nil {
		p.prog.close()
		p.prog = nil
		p.d.mu.Lock()
		p.d.queues -= len(p.socks)
		p.d.mu.Unlock()
	}
	for _, t := range p.extra {
		t.ring.close()
		unix.Close(t.fd)
	}
	queues := len(p.socks)
	var l []sal.Desc
	for _, s := range p.socks {
		s.close()
		if s.part.ok {
			l = append(l, s.part.to)
		}
	}
	if p.mode == sal.ModeZeroCopy {
		p.quiet(queues)
	}
	p.socks, p.extra, p.pages = nil, nil, nil
	for b := range uint32(p.pool.Size()) {
		if p.unmark(b) {
			l = append(l, sal.MakeDesc(b, 0, 0))
		}
	}
	p.pool.Return(l)
}

// quiet waits until the device has let go of the buffers. The kernel takes a
// zero-copy device's queue off some time after the sockets are closed, and a
// frame may be written until then; when the queue can be had again it has.
func (p *port) quiet(queues int) {
	for i := range queues {
		fd, err := newFD()
		if err != nil {
			return
		}
		m, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err == nil {
			err = probe(fd, p.index, i, m)
			_ = err // gone, or never to be had: either way nobody writes
			_ = unix.Munmap(m)
		}
		unix.Close(fd)
	}
}

// Info describes the port; Speed is asked now.
func (p *port) Info() sal.PortInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := sal.PortInfo{Name: p.cfg.Name, Driver: "af-xdp", Device: p.cfg.Device, Queues: len(p.queues), RxQueues: len(p.socks), MAC: p.mac, IfIndex: p.index, Mode: p.mode, Why: p.why}
	if !p.closed {
		i.Speed = p.dev.Speed()
	}
	return i
}

// Queue gives queue i.
func (p *port) Queue(i int) sal.PortQueue { return p.all[i] }

// linkEvery is how old an answer to Link may be.
const linkEvery = 20 * time.Millisecond

// Link tells whether the device is there, up and has a carrier. It asks the
// kernel at most every 20 ms.
func (p *port) Link() bool {
	if !p.up.Load() {
		return false
	}
	p.look()
	return p.link.Load()
}

// Lost tells whether the device is gone, or another one has its name.
func (p *port) Lost() bool {
	p.look()
	return p.lost.Load()
}

// look asks the kernel about the device.
func (p *port) look() {
	now := time.Now().UnixNano()
	then := p.linkAsked.Load()
	if now-then < int64(linkEvery) || !p.linkAsked.CompareAndSwap(then, now) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.link.Store(false)
		return
	}
	if i, err := p.dev.Index(); err == nil && i != p.index || errors.Is(err, sal.ErrNotFound) {
		p.lost.Store(true)
	}
	p.link.Store(!p.lost.Load() && p.dev.Running())
}

// SetUp sets the device's administrative state too.
func (p *port) SetUp(up bool) error {
	if !up {
		p.up.Store(false)
		p.link.Store(false)
	}
	if p.lost.Load() { // another device may have the name by now
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrGone)
	}
	if err := p.dev.SetUp(up); err != nil {
		return err
	}
	p.up.Store(up)
	p.linkAsked.Store(0)
	return nil
}

// Stats asks the kernel what it has lost.
func (p *port) Stats() sal.PortStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sal.PortStats{RxDropped: p.rxDropped + p.dropped() + p.rxNoBuffer.Load(), RxErrors: p.rxErrors.Load(), TxDropped: p.txDropped.Load(), TxErrors: p.txErrors.Load()}
}

// dropped is what the kernel counts on the sockets: no buffer, no room in the
// ring, too long.
func (p *port) dropped() (n uint64) {
	for _, s := range p.socks {
		st := s.statistics()
		n += st.Rx_dropped + st.Rx_ring_full
	}
	return n
}

// Close gives the device up. It stays as it is, the kernel's again.
func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.up.Store(false)
	p.link.Store(false)
	p.rxDropped = p.dropped()
	p.release()
	p.filter.Close()
	if i, err := p.dev.Index(); err == nil && i == p.index {
		for _, f := range p.undo {
			f()
		}
	}
	if p.key != (devKey{}) {
		p.d.mu.Lock()
		delete(p.d.open, p.key)
		p.d.mu.Unlock()
	}
	return p.dev.Close()
}
