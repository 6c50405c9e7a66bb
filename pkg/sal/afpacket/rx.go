package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
)

const (
	minFrame  = 14 // an Ethernet header
	ethTypeAt = 12

	pktOutgoing = 4 // sll_pkttype

	// superRoom is what may be put in front of a super-frame: a VLAN tag.
	superRoom = 16
)

// queue is one goroutine's pair of sockets. Receiving and sending share
// nothing but the port.
type queue struct {
	p    *port
	fd   int // receives
	ring ring

	seg   gso.Segmenter
	super []byte // superRoom, virtio-net header, super-frame
	idle  uint32 // empty polls

	tx
}

// ring is the memory in which the kernel leaves frames: ring2 or ring3.
type ring interface {
	// open makes and maps the ring of a socket, for so many frames of up to
	// slotLen bytes.
	open(fd int, slots int) error
	// read hands on what has come, from d[n] on, and gives the new n. It ends
	// when d is full, at an empty ring, for want of a buffer (the frame stays
	// where it is) and behind a super-frame that is not cut to its end.
	read(q *queue, c *sal.Cache, d []sal.Desc, n int) int
	// lost asks how many frames found no room since the last question.
	lost(fd int) uint64
	close()
}

// mapped is the memory of a ring.
type mapped struct{ mem []byte }

// mapRing maps a socket's ring, and keeps the packets in it out of core files.
func (r *mapped) mapRing(fd, length int) (err error) {
	if r.mem, err = unix.Mmap(fd, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping the receive ring: %w", err)
	}
	_ = unix.Madvise(r.mem, unix.MADV_DONTDUMP)
	return nil
}

func (r *mapped) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
}

func newQueue(p *port, slots int) (q *queue, err error) {
	q = &queue{p: p, fd: -1, super: make([]byte, superRoom+gso.HeaderLen+gso.MaxSuper)}
	q.tx.fd = -1
	defer func() {
		if err != nil {
			q.close()
			q = nil
		}
	}()
	version := unix.TPACKET_V2
	q.ring = new(ring2)
	if p.blocks() {
		version = unix.TPACKET_V3
		q.ring = new(ring3)
	}
	// Protocol 0: nothing is received before bind names the device.
	if q.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return q, fmt.Errorf("packet socket (CAP_NET_RAW is needed): %w", err)
	}
	for _, o := range []struct {
		name     string
		level, o int
		v        int
	}{
		{"PACKET_VERSION", unix.SOL_PACKET, unix.PACKET_VERSION, version},
		{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{"PACKET_COPY_THRESH", unix.SOL_PACKET, unix.PACKET_COPY_THRESH, slotLen}, // V2 alone looks at it
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16 << 20}, // for super-frames
	} {
		if err = unix.SetsockoptInt(q.fd, o.level, o.o, o.v); err != nil {
			return q, fmt.Errorf("packet socket: %s: %w", o.name, err)
		}
	}
	if err = q.ring.open(q.fd, slots); err != nil {
		return q, err
	}
	return q, q.tx.open(p.d.o)
}

// bind attaches both sockets to a device.
func (q *queue) bind(index int) error {
	if err := unix.Bind(q.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return fmt.Errorf("receiving: %w", err)
	}
	if err := unix.Bind(q.tx.fd, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	return nil
}

// join makes (group 0) or joins a group of sockets that share the frames by
// flow hash.
func (q *queue) join(group int) (int, error) {
	flags := unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if group == 0 {
		flags |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group|flags<<16); err != nil {
		return 0, err
	}
	v, err := unix.GetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	return v & 0xffff, err
}

// lost asks how many frames found no room since the last question.
func (q *queue) lost() uint64 { return q.ring.lost(q.fd) }

func (q *queue) close() {
	if q.ring != nil {
		q.ring.close()
	}
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
	q.tx.close()
}

// Wake is the receiving socket.
func (q *queue) Wake() int { return q.fd }

// Held is 0: both directions copy.
func (q *queue) Held() int { return 0 }

// RxBurst reads frames:
//
//  1. what is left of a super-frame,
//  2. one by one what the kernel has put into the ring: into a buffer, with its
//     checksum completed and its tag put back,
//  3. a super-frame among them: cut into as many buffers as it takes.
//
// Without a free buffer the frames stay where they are.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) int {
	if !q.p.up.Load() {
		q.seg.End()
	}
	n := q.ring.read(q, c, d, q.cut(c, d))
	if n == 0 {
		q.rest()
	}
	return n
}

// view is a frame in a ring.
type view struct {
	frame     []byte
	head      gso.Header
	status    uint32 // of the frame, as the kernel puts it
	tci, tpid uint16 // the VLAN tag taken off, where status says that there is one
}

// at finds the frame of snap bytes, out of length, that begins mac bytes behind the
// beginning of s, behind its virtio-net header; false when it is cut off or no frame.
func (q *queue) at(v *view, s []byte, length uint32, snap, mac int) bool {
	if int(length) != snap || snap < minFrame || mac < gso.HeaderLen || mac+snap > len(s) {
		q.p.rxErrors.Add(1)
		return false
	}
	v.head, v.frame = gso.ParseHeader(s[mac-gso.HeaderLen:]), s[mac:mac+snap]
	return true
}

// handOn puts a frame into d, or the first segments of a super-frame, and says how
// many. false: there is no buffer for it.
func (q *queue) handOn(c *sal.Cache, v *view, d []sal.Desc) (n int, ok bool) {
	switch x, got := q.take(c, v); got {
	case stay:
		return 0, false
	case frame:
		d[0] = x
		n = 1
	case super:
		q.begin(v)
		n = q.cut(c, d)
	}
	return n, true
}

// What take found in a slot.
type found int

const (
	stay  found = iota // no buffer: the frame stays in its slot
	frame              // a frame
	super              // a super-frame, still to be cut
	none               // nothing for the caller
)

// take copies a frame into a buffer.
func (q *queue) take(c *sal.Cache, v *view) (sal.Desc, found) {
	if v.head.Super() {
		return 0, super
	}
	n := len(v.frame)
	if n > q.p.maxLen {
		q.p.rxErrors.Add(1)
		return 0, none
	}
	tag, tagged := v.tag()
	front := 0
	if tagged {
		front = 4
	}
	b, ok := c.AllocFor(front + n)
	if !ok {
		return 0, stay
	}
	x := sal.MakeDesc(b, sal.Headroom+uint16(front), uint16(n))
	to := q.p.pool.Bytes(x)
	copy(to, v.frame)
	if v.head.NeedsCsum && v.head.Complete(to) != nil {
		q.p.rxErrors.Add(1)
		c.Free(b)
		return 0, none
	}
	if tagged {
		x = sal.MakeDesc(b, sal.Headroom, uint16(n+4))
		insertTag(q.p.pool.Bytes(x), tag)
	}
	return x, frame
}

// tag is the VLAN tag that the kernel took off a frame.
func (v *view) tag() (tag [4]byte, ok bool) {
	if v.status&unix.TP_STATUS_VLAN_VALID == 0 {
		return tag, false
	}
	tpid := uint16(unix.ETH_P_8021Q)
	if v.status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = v.tpid
	}
	return [4]byte{byte(tpid >> 8), byte(tpid), byte(v.tci >> 8), byte(v.tci)}, true
}

// insertTag moves the addresses of the frame at f[4:] to f and writes the tag
// behind them.
func insertTag(f []byte, tag [4]byte) {
	copy(f, f[4:4+ethTypeAt])
	copy(f[ethTypeAt:], tag[:])
}

// begin starts to cut a super-frame, which must stay where it is until that is
// done. One with a tag is copied to where there is room in front of it.
func (q *queue) begin(v *view) {
	f, h := v.frame, v.head
	if len(f) > gso.MaxSuper {
		q.p.rxErrors.Add(1)
		return
	}
	if tag, ok := v.tag(); ok {
		f = q.super[superRoom+gso.HeaderLen-4:][:len(f)+4]
		copy(f[4:], v.frame)
		insertTag(f, tag)
		h.CsumStart += 4
	}
	if q.seg.Begin(h, f) != nil {
		q.p.rxUncut.Add(1)
	} else if q.seg.Len() > q.p.maxLen+4 {
		q.seg.End()
		q.p.rxUncut.Add(1)
	}
}

// cut writes segments of the super-frame at hand to buffers.
func (q *queue) cut(c *sal.Cache, d []sal.Desc) (n int) {
	for n < len(d) && q.seg.Busy() {
		b, ok := c.AllocFor(q.seg.Len())
		if !ok {
			break
		}
		d[n] = sal.MakeDesc(b, sal.Headroom, uint16(q.seg.Len()))
		q.seg.Next(q.p.pool.Bytes(d[n]))
		n++
	}
	return n
}

// restEvery empty polls the socket's error is taken off: a device that went
// down leaves one, and poll(2) would not sleep on it.
const restEvery = 64

func (q *queue) rest() {
	if q.idle++; q.idle%restEvery == 0 {
		_, _ = unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	}
}
