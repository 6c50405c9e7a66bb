// Package tap is a SAL port driver that makes TAP devices: the kernel, or a
// guest, at the other end of an Ethernet cable.
//
//	tap.go    the driver; making a device
//	queue.go  frames in and out
//
// The device gets its MTU from the configuration and is set up with the port.
// The port has a MAC address of its own, never the device's: they are two ends
// of a cable. When the port is down the device has no carrier.
//
// A device that was there before (ip tuntap add … mode tap multi_queue) is used
// and left behind; one that this driver made is gone with the process. What the
// host shall keep while the vRouter is away, addresses above all, belongs on a
// device of the first kind.
//
// A TAP device passes frames one by one, at 1 to 2 µs each. Super-frames save
// most of that for TCP: they are asked for, and cut here; and segments that follow
// each other are given to the device together (package gso). The write itself costs
// the same for each segment either way; what is saved is the receiving kernel's: TCP
// between two kernels over TAP devices was about twice as fast (TestTCP).
package tap

import (
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
	"vrouter/pkg/sal/internal/netdev"
)

// Options of the driver; the zero value is good.
type Options struct {
	// Device is the clone device; empty means /dev/net/tun.
	Device string
	// Single sends every frame by itself, where segments of a TCP connection
	// would go to the device together.
	Single bool
}

// Driver makes TAP devices. It is safe for concurrent use.
type Driver struct{ o Options }

// New makes a driver.
func New(o Options) *Driver {
	if o.Device == "" {
		o.Device = "/dev/net/tun"
	}
	return &Driver{o}
}

// Name is "tap".
func (d *Driver) Name() string { return "tap" }

// maxQueues is the kernel's limit (MAX_TAP_QUEUES).
const maxQueues = 256

type port struct {
	d    *Driver
	cfg  sal.PortConfig
	dev  *netdev.Dev
	pool *sal.Pool
	mac  [6]byte

	maxLen atomic.Int32
	up     atomic.Bool
	queues []*queue // in all, so that it grows beside Queue
	all    [maxQueues]*queue
	multi  bool // the device can have several queues

	rxDropped, rxErrors, rxUncut, txDropped, txErrors atomic.Uint64

	mu        sync.Mutex
	closed    bool
	link      atomic.Bool
	linkAsked atomic.Int64
}

// Open makes the device in the network namespace of the calling thread, or
// attaches to it. The port is down until SetUp.
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
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	dev, err := netdev.Open(cfg.Device)
	if err != nil {
		return nil, err
	}
	p := &port{d: d, cfg: cfg, dev: dev, pool: pool, mac: cfg.MAC}
	p.maxLen.Store(int32(cfg.MTU) + 18)
	if p.mac == ([6]byte{}) {
		p.mac = ownMAC(cfg.Device)
	}
	if err := p.open(); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// ownMAC is a locally administered address that depends on the device's name
// alone, so that hosts find the router again after its restart.
func ownMAC(name string) (m [6]byte) {
	h := fnv.New64a()
	_, _ = h.Write([]byte("vrouter tap " + name))
	s := h.Sum64()
	for i := range m {
		m[i] = byte(s >> (8 * i))
	}
	m[0] = m[0]&^1 | 2
	return m
}

func (p *port) open() error {
	// A device of several queues has all that the kernel knows, 256, and costs
	// megabytes of its memory: not where one is enough.
	p.queues, p.multi = p.all[:0], p.cfg.Queues > 1
	if err := p.addQueues(p.cfg.Queues); err != nil {
		return err
	}
	if err := p.carrier(false); err != nil {
		return err
	}
	return p.dev.SetMTU(p.cfg.MTU)
}

func (p *port) addQueues(n int) error {
	for len(p.queues) < n {
		q, err := p.attach()
		if err != nil {
			return err
		}
		p.queues = append(p.queues, q)
	}
	return nil
}

// AddQueues implements sal.QueueAdder. A device that was made for one queue keeps to
// that: the kernel makes it for one or for many, and it is the host's to lose.
func (p *port) AddQueues(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case n > maxQueues:
		return fmt.Errorf("device %s: %d queues, 1 to %d are possible: %w", p.cfg.Device, n, maxQueues, sal.ErrInvalid)
	case p.closed:
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrGone)
	case n > 1 && !p.multi:
		return fmt.Errorf("device %s: it was made with one queue: %w", p.cfg.Device, sal.ErrNotSupported)
	case !p.here():
		return fmt.Errorf("device %s: it was moved, or renamed: %w", p.cfg.Device, sal.ErrNotSupported)
	}
	return p.addQueues(n)
}

// here tells whether the device has its name in the namespace of the calling
// thread: only there more queues can be had, and elsewhere another device would be
// made.
func (p *port) here() bool {
	fd := uintptr(p.queues[0].fd)
	ns, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.TUNGETDEVNETNS, 0)
	if e != 0 {
		return false
	}
	defer unix.Close(int(ns))
	var st unix.Stat_t
	now, err := netdev.Namespace()
	if err != nil || unix.Fstat(int(ns), &st) != nil || st.Ino != now {
		return false
	}
	var r [40]byte
	_, _, e = unix.Syscall(unix.SYS_IOCTL, fd, unix.TUNGETIFF, uintptr(unsafe.Pointer(&r)))
	return e == 0 && unix.ByteSliceToString(r[:unix.IFNAMSIZ]) == p.cfg.Device
}

// SetMTU changes the device's MTU and the largest frame received, while the port
// is open: closing it would take the device, and its addresses, from the host.
func (p *port) SetMTU(mtu int) error {
	if mtu > sal.MaxMTU {
		return fmt.Errorf("device %s: MTU %d, the largest is %d: %w", p.cfg.Device, mtu, sal.MaxMTU, sal.ErrInvalid)
	}
	if err := p.dev.SetMTU(mtu); err != nil {
		return err
	}
	p.maxLen.Store(int32(mtu) + 18)
	return nil
}

// attach opens one queue of the device; the first makes it.
func (p *port) attach() (*queue, error) {
	fail := func(what string, err error) (*queue, error) {
		if errors.Is(err, unix.EBUSY) {
			err = sal.ErrBusy
		}
		return nil, fmt.Errorf("device %s: %s: %w", p.cfg.Device, what, err)
	}
	fd, err := unix.Open(p.d.o.Device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("opening "+p.d.o.Device, err)
	}
	q := newQueue(p, fd)
	r, err := unix.NewIfreq(p.cfg.Device)
	if err != nil {
		q.close()
		return fail("name", sal.ErrInvalid)
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if p.multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	r.SetUint16(flags)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		q.close()
		if errors.Is(err, unix.EINVAL) {
			return fail("attaching", fmt.Errorf("it exists and is no TAP device with this number of queues: %w", sal.ErrInvalid))
		}
		return fail("attaching", err)
	}
	if err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, gso.HeaderLen); err != nil {
		q.close()
		return fail("virtio-net header", err)
	}
	offload := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload|unix.TUN_F_USO4|unix.TUN_F_USO6) != nil { // USO: Linux 6.2
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
			q.close()
			return fail("offloads", err)
		}
	}
	return q, nil
}

// carrier plugs the cable in or out.
func (p *port) carrier(on bool) error {
	v := 0
	if on {
		v = 1
	}
	if err := unix.IoctlSetPointerInt(p.queues[0].fd, unix.TUNSETCARRIER, v); err != nil {
		return fmt.Errorf("device %s: carrier: %w", p.cfg.Device, err)
	}
	return nil
}

// Info describes the port.
func (p *port) Info() sal.PortInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := p.dev.Index()
	return sal.PortInfo{Name: p.cfg.Name, Driver: "tap", Device: p.cfg.Device, Queues: len(p.queues), MAC: p.mac, IfIndex: i}
}

// Queue gives queue i.
func (p *port) Queue(i int) sal.PortQueue { return p.all[i] }

const linkEvery = 20 * time.Millisecond

// Link tells whether the port is up and the device's other side too. It asks
// the kernel at most every 20 ms.
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
	if _, err := p.dev.Index(); err != nil {
		p.follow()
	}
	up := p.dev.Running()
	p.link.Store(up)
	return up
}

// follow looks for the device in the namespace that it was moved to, into a
// container for instance, possibly under another name. p.mu is held.
func (p *port) follow() {
	ns, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(p.queues[0].fd), unix.TUNGETDEVNETNS, 0)
	if e != 0 {
		return
	}
	defer unix.Close(int(ns))
	var r [40]byte
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(p.queues[0].fd), unix.TUNGETIFF, uintptr(unsafe.Pointer(&r))); e != 0 {
		return
	}
	done := make(chan *netdev.Dev)
	go func() {
		// Not unlocked: a thread in the wrong namespace ends with its goroutine.
		runtime.LockOSThread()
		var d *netdev.Dev
		if unix.Setns(int(ns), unix.CLONE_NEWNET) == nil {
			d, _ = netdev.Open(unix.ByteSliceToString(r[:unix.IFNAMSIZ]))
		}
		done <- d
	}()
	if d := <-done; d != nil {
		p.dev.Close()
		p.dev = d
	}
}

// Lost tells that somebody has deleted the device.
func (p *port) Lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return true
	}
	var r [40]byte
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(p.queues[0].fd), unix.TUNGETIFF, uintptr(unsafe.Pointer(&r)))
	return e == unix.EBADFD
}

// SetUp plugs the cable in or out; plugging in sets the device up as well.
func (p *port) SetUp(up bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("device %s: %w", p.cfg.Device, sal.ErrGone)
	}
	if !up {
		p.up.Store(false)
		p.link.Store(false)
		return p.carrier(false)
	}
	if err := p.carrier(true); err != nil {
		return err
	}
	if err := p.dev.SetUp(true); err != nil && !errors.Is(err, sal.ErrNotFound) { // moved elsewhere: theirs to set up
		return err
	}
	p.linkAsked.Store(0)
	p.up.Store(true)
	return nil
}

// Stats are the port's. What the device's own queue lost stands among the
// device's counters as "tx dropped".
func (p *port) Stats() sal.PortStats {
	return sal.PortStats{RxDropped: p.rxDropped.Load(), RxErrors: p.rxErrors.Load(), RxUncut: p.rxUncut.Load(), TxDropped: p.txDropped.Load(), TxErrors: p.txErrors.Load()}
}

// Close lets go of the device, which is then gone unless it was there before.
func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.up.Store(false)
	for _, q := range p.queues {
		q.close()
	}
	return p.dev.Close()
}
