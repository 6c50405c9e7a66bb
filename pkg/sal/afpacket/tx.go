package afpacket

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
)

var ne = binary.NativeEndian

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// tx is a queue's sending socket, with the arrays for a burst. A message is one
// frame, or several joined ones.
type tx struct {
	fd     int
	single bool // the kernel takes no super-frames

	msg   [sal.Burst]mmsghdr
	upTo  [sal.Burst]int            // how many frames of the burst are in this message and those before
	iov   [2 * sal.Burst]unix.Iovec // each message's virtio-net header, headers, payloads
	vnet  [sal.Burst / 2][gso.HeaderLen]byte
	heads [sal.Burst / 2][gso.MaxHead]byte
	plain [gso.HeaderLen]byte // a frame that is complete
	join  gso.Joiner
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
	if err := unix.SetsockoptInt(t.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("packet socket: PACKET_VNET_HDR: %w", err)
	}
	if o.QdiscBypass {
		if err := unix.SetsockoptInt(t.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return fmt.Errorf("packet socket: PACKET_QDISC_BYPASS: %w", err)
		}
	}
	t.single = o.Single
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
	sent := 0
	for sent < len(d) {
		n, again := q.send(d[sent:])
		if sent += n; !again {
			break
		}
	}
	c.FreeDescs(d[:sent])
	return sent
}

// send sends frames and says how many are gone. again: the rest shall be tried
// once more, one by one.
func (q *queue) send(d []sal.Desc) (gone int, again bool) {
	t := &q.tx
	m := t.messages(q.p.pool, d)
	for at := 0; at < m; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&t.msg[at])), uintptr(m-at), unix.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			at += int(n)
			gone = t.upTo[at-1]
			continue
		}
		frames := t.upTo[at] - gone
		switch e {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return gone, false
		case unix.ENOBUFS: // the queueing discipline dropped it
			q.p.txDropped.Add(uint64(frames))
		case unix.ENETDOWN, unix.ENXIO, unix.ENODEV: // and so it will the rest
			q.p.txErrors.Add(uint64(len(d) - gone))
			return len(d), false
		default: // EMSGSIZE: longer than the device's MTU
			if frames > 1 {
				t.single = true
				return gone, true
			}
			q.p.txErrors.Add(1)
		}
		gone = t.upTo[at]
		at++
	}
	return gone, false
}

// messages makes messages of frames, and gives their number. Consecutive
// segments of a TCP connection become one: the kernel's work for a message is
// the same for 64 KiB as for 60 bytes, and it cuts them again where the device
// does not.
func (t *tx) messages(pool *sal.Pool, d []sal.Desc) (m int) {
	supers, v := 0, 0
	for i := 0; i < len(d); m++ {
		from := v
		f := pool.Bytes(d[i])
		n := 1
		if !t.single {
			n = t.join.Frames(pool, d[i:])
		}
		if n == 1 {
			t.iov[v], t.iov[v+1] = iovec(t.plain[:]), iovec(f)
			v += 2
		} else {
			head := t.heads[supers][:]
			k := t.join.Head(&t.vnet[supers], head)
			t.iov[v], t.iov[v+1] = iovec(t.vnet[supers][:]), iovec(head[:k])
			v += 2
			for _, x := range d[i : i+n] {
				t.iov[v] = iovec(pool.Bytes(x)[k:])
				v++
			}
			supers++
		}
		i += n
		t.upTo[m] = i
		t.msg[m].hdr.Iov = &t.iov[from]
		t.msg[m].hdr.SetIovlen(v - from)
	}
	return m
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}
