package afpacket

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

var ne = binary.NativeEndian

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// tx is a queue's sending socket, with the arrays for a burst.
type tx struct {
	fd  int
	msg [sal.Burst]mmsghdr
	iov [sal.Burst]unix.Iovec
}

// sndbuf bounds what waits in the device's queue on our account.
const sndbuf = 4 << 20

func (t *tx) open(o Options) (err error) {
	// Protocol 0: it never receives.
	if t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sndbuf); err != nil {
		return fmt.Errorf("packet socket: SO_SNDBUFFORCE: %w", err)
	}
	if o.QdiscBypass {
		if err := unix.SetsockoptInt(t.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return fmt.Errorf("packet socket: PACKET_QDISC_BYPASS: %w", err)
		}
	}
	for i := range t.msg {
		t.msg[i].hdr.Iov = &t.iov[i]
		t.msg[i].hdr.SetIovlen(1)
	}
	return nil
}

func (t *tx) close() {
	if t.fd >= 0 {
		unix.Close(t.fd)
		t.fd = -1
	}
}

// TxBurst sends a burst with one system call. What the kernel's queue has no
// room for stays the caller's; what it refuses is counted and gone.
func (q *queue) TxBurst(c *sal.Cache, d []sal.Desc) int {
	if len(d) > sal.Burst {
		d = d[:sal.Burst]
	}
	if !q.p.up.Load() {
		q.p.txDropped.Add(uint64(len(d)))
		c.FreeDescs(d)
		return len(d)
	}
	t := &q.tx
	for i, x := range d {
		b := q.p.pool.Bytes(x)
		t.iov[i].Base = unsafe.SliceData(b)
		t.iov[i].SetLen(len(b))
	}
	sent := 0
	for sent < len(d) {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&t.msg[sent])), uintptr(len(d)-sent), unix.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			sent += int(n)
			continue
		}
		switch e {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.FreeDescs(d[:sent])
			return sent
		case unix.ENOBUFS: // the queueing discipline dropped it
			q.p.txDropped.Add(1)
			sent++
		case unix.ENETDOWN, unix.ENXIO, unix.ENODEV: // and so it will the rest
			q.p.txErrors.Add(uint64(len(d) - sent))
			sent = len(d)
		default: // EMSGSIZE: longer than the device's MTU
			q.p.txErrors.Add(1)
			sent++
		}
	}
	c.FreeDescs(d)
	return len(d)
}
