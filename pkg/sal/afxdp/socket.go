package afxdp

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

const (
	// headroom is what the kernel leaves free in front of a received frame, and
	// chunk what it is told that a buffer is: with both, a frame received lies at
	// sal.Headroom of its buffer and ends before its Tailroom.
	headroom = unix.XDP_PACKET_HEADROOM
	chunk    = headroom + sal.MaxFrame

	// txSlots and doneSlots are the sizes of the rings for sending. What is on
	// its way never exceeds doneSlots, so the kernel always has room there.
	txSlots, doneSlots = 2048, 4096

	// bindFor is how long a device's queue may be busy: the kernel gives it free
	// some time after its last socket was closed.
	bindFor = 500 * time.Millisecond
)

// socket is the AF_XDP socket of one of the device's queues.
type socket struct {
	p     *port
	fd    int
	queue int

	fill, done ring[uint64]
	rx         ring[unix.XDPDesc]
	tx         transmit

	target uint32 // how many buffers shall wait for frames
	filled uint32 // how many do
	held   atomic.Int32
	// sent counts what is on its way out, by all who send on this queue.
	sent atomic.Int32
	// reaping is taken by who looks at done: those who send share it.
	reaping atomic.Bool
	empty   uint32 // polls in a row without a frame
	part    part
}

// transmit is a way to send: a socket's own, or that of a queue which has no
// queue of the device to itself.
type transmit struct {
	s    *socket
	fd   int
	ring ring[unix.XDPDesc]
	// dark: the kernel refuses to send.
	dark bool
}

// newSocket makes a socket with all its rings, in the namespace of the calling
// thread. The first of a port registers the packet buffers, and others share
// that.
func newSocket(p *port, queue, fillSlots int) (s *socket, err error) {
	s = &socket{p: p, fd: -1, queue: queue, target: uint32(fillSlots)}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	if s.fd, err = newFD(); err != nil {
		return s, err
	}
	s.tx.s, s.tx.fd = s, s.fd
	if queue == 0 {
		m := p.pool.Region()
		// Buffers are where the pool has them: any offset will do (Linux 5.4).
		switch err = register(s.fd, m, chunk, unix.XDP_UMEM_UNALIGNED_CHUNK_FLAG); err {
		case nil:
		case unix.ENOBUFS:
			return s, fmt.Errorf("registering %d MiB of packet buffers: RLIMIT_MEMLOCK is too small, and CAP_IPC_LOCK is missing: %w", len(m)>>20, err)
		case unix.EINVAL:
			return s, fmt.Errorf("registering the packet buffers: the kernel must be 5.4 or newer: %w", err)
		default:
			return s, fmt.Errorf("registering %d MiB of packet buffers: %w", len(m)>>20, err)
		}
	}
	return s, errors.Join(
		s.fill.open(s.fd, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_PGOFF_FILL_RING, s.target),
		s.done.open(s.fd, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_UMEM_PGOFF_COMPLETION_RING, doneSlots),
		s.rx.open(s.fd, unix.XDP_RX_RING, unix.XDP_PGOFF_RX_RING, s.target),
		s.tx.open())
}

// register tells the kernel the memory that a socket works in.
func register(fd int, m []byte, chunk, flags uint32) error {
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&m[0]))), Len: uint64(len(m)), Size: chunk, Flags: flags}
	err := setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
	if err == unix.EINVAL { // before Linux 6.8 the struct was shorter
		err = setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Offsetof(reg.Tx_metadata_len))
	}
	return err
}

// probe binds a socket with a page of memory to a queue, with a ring for
// sending and nothing to send.
func probe(fd, index, queue int, page []byte) error {
	if err := register(fd, page, 2048, 0); err != nil {
		return err
	}
	n := uint32(2)
	for _, o := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		if err := setsockopt(fd, o, unsafe.Pointer(&n), unsafe.Sizeof(n)); err != nil {
			return err
		}
	}
	return bind(fd, index, queue, unix.XDP_COPY, -1)
}

// newFD makes a socket without anything.
func newFD() (int, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case err == unix.EAFNOSUPPORT:
		return -1, fmt.Errorf("the kernel has no AF_XDP (CONFIG_XDP_SOCKETS): %w", err)
	case err == unix.EPERM:
		return -1, fmt.Errorf("AF_XDP socket: CAP_NET_RAW is needed: %w", err)
	case err != nil:
		return -1, fmt.Errorf("AF_XDP socket: %w", err)
	}
	// What waits in the device's queue on our account; the rings bound it too.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20)
	return fd, nil
}

// open makes the transmit ring.
func (t *transmit) open() error {
	if err := t.ring.open(t.fd, unix.XDP_TX_RING, unix.XDP_PGOFF_TX_RING, txSlots); err != nil {
		return err
	}
	// In copy mode, how many frames a system call sends: 32 before Linux 6.17.
	n := uint32(sal.Burst)
	_ = setsockopt(t.fd, unix.XDP_MAX_TX_SKB_BUDGET, unsafe.Pointer(&n), unsafe.Sizeof(n))
	return nil
}

// bind attaches a socket to a queue of a device, as one of its own or sharing
// what the socket with the descriptor share has.
func bind(fd, index, queue int, flags uint16, share int) (err error) {
	a := &unix.SockaddrXDP{Ifindex: uint32(index), QueueID: uint32(queue), Flags: flags | unix.XDP_USE_NEED_WAKEUP}
	if share >= 0 {
		a.Flags, a.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(share)
	}
	for end := time.Now().Add(bindFor); ; time.Sleep(5 * time.Millisecond) {
		if err = unix.Bind(fd, a); err != unix.EBUSY || time.Now().After(end) {
			break
		}
	}
	switch err {
	case nil:
		return nil
	case unix.EBUSY:
		return fmt.Errorf("queue %d has an AF_XDP socket already: %w", queue, sal.ErrBusy)
	}
	return fmt.Errorf("binding an AF_XDP socket to queue %d: %w", queue, err)
}

// regionAt is the address of a pool's region.
func regionAt(p *sal.Pool) uintptr { return uintptr(unsafe.Pointer(&p.Region()[0])) }

// statistics are what the kernel counts on the socket.
func (s *socket) statistics() (st unix.XDPStatistics) {
	_ = getsockopt(s.fd, unix.XDP_STATISTICS, unsafe.Pointer(&st), unsafe.Sizeof(st))
	return st
}

func (s *socket) close() {
	// The mappings keep the socket alive, so they go first.
	s.fill.close()
	s.done.close()
	s.rx.close()
	s.tx.ring.close()
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// An address in the rings is an offset in the pool's region; on the way back
// the upper 16 bits tell how far behind that the frame begins.
const (
	offsetShift = 48
	baseMask    = math.MaxUint64 >> (64 - offsetShift)
)

// address is where byte off of a buffer lies.
func (p *port) address(buf uint32, off uint32) uint64 {
	return p.first + uint64(buf)*sal.BufSize + uint64(off)
}

// locate is the buffer in which an address lies, and the offset in it.
func (p *port) locate(addr uint64) (buf uint32, off uint16) {
	at := addr&baseMask + addr>>offsetShift - p.first
	return uint32(at / sal.BufSize), uint16(at % sal.BufSize)
}
