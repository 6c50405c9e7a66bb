// Package afpacket is a SAL port driver over packet sockets (packet(7)): any
// Ethernet device of the kernel, veth pairs above all.
//
//	afpacket.go  the driver; opening a port
//	rx.go        receiving: checksums, tags, super-frames
//	rx_v2.go     the receive ring of slots (TPACKET_V2)
//	rx_v3.go     the receive ring of blocks (TPACKET_V3)
//	tx.go        sending
//	isolate.go   keeping the kernel's own stack off the device
//
// # Receiving
//
// Frames come through a mapped ring, of one of two kinds:
//
//   - TPACKET_V2, the default: slots of 2 KiB, each to be read as soon as a
//     frame is in it. Frames larger than a slot (a sender's super-frames of up to
//     64 KiB) are queued on the socket beside the ring (PACKET_COPY_THRESH) and
//     fetched from there in their place.
//   - TPACKET_V3 (PortParams.Blocks): blocks of 128 KiB with frames of any length
//     one behind the other, handed over when they are full or a millisecond is
//     over (a tick of 4 ms on most kernels before 6.18). Super-frames are cut
//     where they lie.
//
// Measured on veth with Linux 6.18 on two cores that others used too, so that
// only what stands side by side compares. 20 000 frames a second, one at a time:
// a frame is received after 39 µs with V2 and 712 µs with V3 (medians), for 28
// against 5 µs of the forwarding thread's time, most of it for going to sleep and
// waking up. One sender flat out, in bursts of 32, 60 and 1400 bytes: 1.2 and 1.4
// against 0.65 and 1.0 µs a frame, sending included, and up to three times as
// many got through. While nobody reads, 20 000 frames a second fill 16 MiB of V2
// in 400 ms and of V3 in 128, for every millisecond takes a block: after 300 ms
// nothing was lost against 55 %. Delay and loss are what a router is judged by,
// so V2 is the default, and V3 for who wants throughput with small frames.
// BenchmarkPaced, Load, Stall and TCP measure.
//
// Senders on the same machine leave checksums and segmentation to the device;
// package gso does that work, with PACKET_VNET_HDR telling what is left to do.
// VLAN tags, which the kernel takes off, are put back.
//
// # Sending
//
// Frames go out by sendmmsg, which copies them. Consecutive segments of a TCP
// connection in a burst are joined to one super-frame (package gso), which the
// kernel or the device cuts into the same frames again: most of what sending
// costs in the kernel is by the frame. TCP through two ports got 1.4 times as
// much through, as much as through the kernel's own forwarding.
//
// The kernel's transmit ring (PACKET_TX_RING) saves no copy where it matters
// here: since Linux 4.20 a frame that would outlive its slot, as on a veth, is
// copied out of it. In bursts of 64, ns a frame of 60 bytes, the least of three
// runs: sendmmsg 1620, ring of V2 970, of V3 940; past the queueing discipline
// 900, 1160 and 950. Of 1400 bytes: 870, 1480 and 760; 820, 910 and 980. The
// runs differ among themselves by a factor of two, and no way is ahead in both
// sizes; the ring has no place for super-frames, and what the kernel refuses
// blocks it. BenchmarkSend measures.
//
// # The kernel beside the router
//
// A packet socket gets copies: the kernel's own network stack would see every
// frame too, answer for its addresses and, where it forwards, route around the
// vRouter's policies. While a port is open a filter drops everything that the
// device receives behind the packet sockets. Where the kernel lacks what that
// takes (clsact, BPF classifier), a warning is logged and PortInfo.Shared says
// so; then give the device no addresses and do not let the kernel forward. What
// the kernel itself sends on the device (IPv6 without being asked, say) is not
// held back.
package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/netdev"
)

// Options of the driver; the zero value is good.
type Options struct {
	// Slots of the receive ring of a queue, 2 KiB each; 0: as many as the
	// number of queues open allows, see ringSlots.
	Slots int
	// QdiscBypass sends past the device's queueing discipline: faster on a NIC
	// that keeps up, but what it cannot take at once is lost.
	QdiscBypass bool
	// Blocks makes TPACKET_V3 the receive ring of all ports.
	Blocks bool
	// Single sends every frame by itself, where segments of a TCP connection
	// are joined otherwise.
	Single bool
	// Share leaves the frames to the kernel's own network stack as well.
	Share bool
}

// ringSlots is how deep the receive ring of the next queue is when so many are
// open already. A worker that does not get a processor for a while loses
// nothing as long as the ring lasts: 400 ms of 20 000 packets a second for the
// first few, which are most machines' all. The rings cannot be swapped, so the
// many get less: a hundred queues take 230 MiB.
func ringSlots(open int) int {
	switch {
	case open < 4:
		return 8192
	case open < 16:
		return 4096
	case open < 64:
		return 1024
	}
	return 512
}

// maxSlots bounds the receive ring of a queue: 512 MiB.
const maxSlots = 1 << 18

// maxQueues is what a fanout group takes with room to spare.
const maxQueues = 64

// Driver opens ports. It is safe for concurrent use.
type Driver struct {
	o Options

	mu     sync.Mutex
	open   map[devKey]bool
	queues int // of all open ports
}

// devKey is a device in a network namespace.
type devKey struct {
	ns    uint64
	index int
}

// New makes a driver.
func New(o Options) *Driver {
	return &Driver{o: o, open: map[devKey]bool{}}
}

// Name is "af-packet".
func (d *Driver) Name() string { return "af-packet" }

// port is an open device.
type port struct {
	d    *Driver
	cfg  sal.PortConfig
	dev  *netdev.Dev
	pool *sal.Pool
	key  devKey
	mac  [6]byte

	maxLen int // of a frame received, without a tag
	up     atomic.Bool
	queues []*queue // in all, so that it grows beside Queue
	all    [maxQueues]*queue
	slots  int // of a queue's ring
	group  int // of the queues' sockets, 0: it has one

	rxNoBuffer, rxErrors, rxUncut, txDropped, txErrors atomic.Uint64

	mu        sync.Mutex
	alone     *isolation // nil: the kernel's stack sees the frames too
	rxDropped uint64     // lost by the kernel; it counts since the last question
	closed    bool

	link      atomic.Bool
	linkAsked atomic.Int64 // Unix nanoseconds
	index     int          // what the sockets are bound to; under mu
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
	if cfg.MTU > sal.MaxMTU {
		return nil, fmt.Errorf("device %s: MTU %d, the largest is %d: %w", cfg.Device, cfg.MTU, sal.MaxMTU, sal.ErrInvalid)
	}
	dev, err := netdev.Open(cfg.Device)
	if err != nil {
		return nil, err
	}
	p := &port{d: d, cfg: cfg, dev: dev, pool: pool}
	if err := p.open(); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

func (p *port) open() (err error) {
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
	twice := p.d.open[key]
	p.d.open[key] = true
	p.slots = p.d.o.Slots
	if p.cfg.Params.Ring > 0 {
		p.slots = int(min(p.cfg.Params.Ring, maxSlots))
	}
	if p.slots <= 0 {
		p.slots = ringSlots(p.d.queues)
	}
	if !twice {
		p.d.queues += p.cfg.Queues
	}
	p.d.mu.Unlock()
	if twice {
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrBusy)
	}
	p.key = key

	mtu := p.cfg.MTU
	if mtu == 0 {
		if mtu, err = p.dev.MTU(); err != nil {
			return err
		}
		mtu = min(mtu, sal.MaxMTU)
	} else if err := p.dev.SetMTU(mtu); err != nil {
		return err
	}
	p.maxLen = mtu + 18

	if !p.d.o.Share {
		if err := p.isolate(); err != nil {
			slog.Warn("the kernel's own network stack sees the frames of a port too: give it no address there and do not let it forward",
				"port", p.cfg.Name, "device", p.cfg.Device, "err", err)
		}
	}
	p.queues = p.all[:0]
	for range p.cfg.Queues {
		if err := p.addQueue(p.cfg.Queues > 1); err != nil {
			return err
		}
	}
	return nil
}

// addQueue adds a queue, among whose like the frames are shared if there are to be
// several.
func (p *port) addQueue(several bool) error {
	q, err := newQueue(p, p.slots)
	if err != nil {
		return err
	}
	if err = q.bind(p.index); err != nil {
		err = fmt.Errorf("device %s: %w", p.cfg.Device, err)
	} else if several {
		err = p.share(q)
	}
	if err == nil && len(p.queues) == 0 {
		err = p.listen(q.fd)
	}
	if err != nil {
		q.close()
		return err
	}
	p.queues = append(p.queues, q)
	return nil
}

// share puts a queue into the port's group.
func (p *port) share(q *queue) error {
	group, err := q.join(p.group)
	if err != nil {
		return fmt.Errorf("device %s: sharing frames among several queues: %w", p.cfg.Device, err)
	}
	p.group = group
	return nil
}

// AddQueues implements sal.QueueAdder.
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
	if n > len(p.queues) && p.group == 0 {
		if err := p.share(p.queues[0]); err != nil {
			return err
		}
	}
	for len(p.queues) < n {
		if err := p.addQueue(true); err != nil {
			return err
		}
		p.cfg.Queues++
		p.d.mu.Lock()
		p.d.queues++
		p.d.mu.Unlock()
	}
	return nil
}

// blocks tells whether the port receives by TPACKET_V3.
func (p *port) blocks() bool { return p.d.o.Blocks || p.cfg.Params.Blocks }

// isolate keeps the kernel's stack off the device.
func (p *port) isolate() error {
	s, err := newIsolation()
	if err != nil {
		return err
	}
	if err := s.on(p.index); err != nil {
		s.close()
		return err
	}
	p.alone = s
	return nil
}

// listen opens the device's filter, for as long as the socket lives: all
// multicast, for a router hears protocols that the kernel here does not speak,
// and the own address where it is not the device's.
func (p *port) listen(fd int) error {
	add := func(typ uint16) error {
		return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(p.index), Type: typ, Alen: 6, Address: [8]byte(append(p.cfg.MAC[:], 0, 0))})
	}
	if err := add(unix.PACKET_MR_ALLMULTI); err != nil {
		return fmt.Errorf("device %s: receiving multicast: %w", p.cfg.Device, err)
	}
	if p.cfg.MAC != ([6]byte{}) && p.cfg.MAC != p.mac {
		if err := add(unix.PACKET_MR_PROMISC); err != nil {
			return fmt.Errorf("device %s: receiving for another MAC address: %w", p.cfg.Device, err)
		}
		p.mac = p.cfg.MAC
	}
	return nil
}

// Info describes the port; Speed is asked now.
func (p *port) Info() sal.PortInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sal.PortInfo{Name: p.cfg.Name, Driver: "af-packet", Device: p.cfg.Device, Queues: len(p.queues),
		MAC: p.mac, IfIndex: p.index, Speed: p.dev.Speed(), Shared: p.alone == nil}
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
	now := time.Now().UnixNano()
	then := p.linkAsked.Load()
	if now-then < int64(linkEvery) || !p.linkAsked.CompareAndSwap(then, now) {
		return p.link.Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	// A device that has come again is down, and follow sets it up.
	running := p.follow() == nil && p.dev.Running()
	p.link.Store(running)
	return running
}

// Lost tells that another device has come in the place of the one that was
// opened, with another address or several queues: the port cannot follow.
func (p *port) Lost() bool { return p.lost.Load() }

// follow binds the sockets again when the device was removed and another one
// came by its name, as when a container starts again. p.mu is held.
func (p *port) follow() error {
	i, err := p.dev.Index()
	if err != nil || i == p.index {
		return err
	}
	if p.group != 0 {
		p.lost.Store(true)
		return errors.New("the kernel does not bind a fanout group again") // close and open does
	}
	mac, err := p.dev.MAC()
	if err != nil {
		return err
	}
	if p.cfg.MAC == [6]byte{} && mac != p.mac {
		p.lost.Store(true)
		return errors.New("it has another address, of which those who asked for Info must know")
	}
	q := p.queues[0]
	if p.alone != nil {
		p.alone.qdisc = false // it went with the device
		if err := p.alone.on(i); err != nil {
			return err
		}
	}
	if err := q.bind(i); err != nil {
		return err
	}
	old := p.index
	p.index = i
	if p.cfg.MTU != 0 {
		if err := p.dev.SetMTU(p.cfg.MTU); err != nil {
			p.index = old
			return err
		}
	}
	if err := p.listen(q.fd); err != nil {
		p.index = old
		return err
	}
	return p.dev.SetUp(true)
}

// SetUp sets the device's administrative state too.
func (p *port) SetUp(up bool) error {
	if !up {
		p.up.Store(false)
	}
	if p.lost.Load() { // it is another port's by now
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
	if !p.closed {
		for _, q := range p.queues {
			p.rxDropped += q.lost()
		}
	}
	return sal.PortStats{
		RxDropped: p.rxDropped + p.rxNoBuffer.Load(), RxErrors: p.rxErrors.Load(), RxUncut: p.rxUncut.Load(),
		TxDropped: p.txDropped.Load(), TxErrors: p.txErrors.Load(),
	}
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
	for _, q := range p.queues {
		p.rxDropped += q.lost()
		q.close()
	}
	if p.alone != nil {
		p.alone.off(p.index)
		p.alone.close()
	}
	if p.key != (devKey{}) {
		p.d.mu.Lock()
		delete(p.d.open, p.key)
		p.d.queues -= p.cfg.Queues
		p.d.mu.Unlock()
	}
	return p.dev.Close()
}

// htons is the protocol number as packet sockets want it.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
