package afpacket

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
)

const (
	slotLen   = 2048
	blockLen  = 1 << 16 // the kernel maps the ring in blocks; a power of two of pages
	minFrame  = 14      // an Ethernet header
	ethTypeAt = 12

	// Offsets in a slot: struct tpacket2_hdr, then struct sockaddr_ll.
	atStatus, atLen, atSnap, atMAC = 0, 4, 8, 12
	atTCI, atTPID                  = 24, 26
	atPktType                      = 32 + 10

	pktOutgoing = 4

	// superRoom is what may be put in front of a super-frame: a VLAN tag.
	superRoom = 16
)

// queue is one goroutine's pair of sockets. Receiving and sending share
// nothing but the port.
type queue struct {
	p    *port
	fd   int // receives
	ring []byte
	at   uint32 // next slot to read
	n    uint32 // slots

	seg   gso.Segmenter
	super []byte // superRoom, virtio-net header, super-frame
	idle  uint32 // empty polls

	tx
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
	// Protocol 0: nothing is received before bind names the device.
	if q.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return q, fmt.Errorf("packet socket (CAP_NET_RAW is needed): %w", err)
	}
	for _, o := range []struct {
		name     string
		level, o int
		v        int
	}{
		{"PACKET_VERSION", unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{"PACKET_COPY_THRESH", unix.SOL_PACKET, unix.PACKET_COPY_THRESH, slotLen},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16 << 20}, // for super-frames
	} {
		if err = unix.SetsockoptInt(q.fd, o.level, o.o, o.v); err != nil {
			return q, fmt.Errorf("packet socket: %s: %w", o.name, err)
		}
	}
	const perBlock = blockLen / slotLen
	blocks := (slots + perBlock - 1) / perBlock
	q.n = uint32(blocks * perBlock)
	req := unix.TpacketReq{Block_size: blockLen, Block_nr: uint32(blocks), Frame_size: slotLen, Frame_nr: q.n}
	if err = unix.SetsockoptTpacketReq(q.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return q, fmt.Errorf("receive ring of %d slots: %w", q.n, err)
	}
	if q.ring, err = unix.Mmap(q.fd, 0, blocks*blockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return q, fmt.Errorf("mapping the receive ring: %w", err)
	}
	_ = unix.Madvise(q.ring, unix.MADV_DONTDUMP)
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
func (q *queue) lost() uint64 {
	s, err := unix.GetsockoptTpacketStats(q.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}

func (q *queue) close() {
	if q.ring != nil {
		_ = unix.Munmap(q.ring)
		q.ring = nil
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
//  2. slot by slot what the kernel has put there: into a buffer, with its
//     checksum completed and its tag put back,
//  3. a super-frame among them: cut into as many buffers as it takes.
//
// Without a free buffer the frames stay where they are.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) int {
	if !q.p.up.Load() {
		q.seg.End()
	}
	n := q.cut(c, d)
	for n < len(d) && !q.seg.Busy() {
		s := unsafe.Pointer(&q.ring[int(q.at)*slotLen])
		status := atomic.LoadUint32((*uint32)(s))
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		if !q.p.up.Load() {
			q.skip(status)
		} else if status&unix.TP_STATUS_COPY != 0 {
			q.large((*[slotLen]byte)(s), status)
			n += q.cut(c, d[n:])
		} else if x, got := q.take(c, (*[slotLen]byte)(s), status); got == stay {
			break
		} else if got == frame {
			d[n] = x
			n++
		} else if got == super {
			n += q.cut(c, d[n:])
		}
		atomic.StoreUint32((*uint32)(s), unix.TP_STATUS_KERNEL)
		if q.at++; q.at == q.n {
			q.at = 0
		}
	}
	if n == 0 {
		q.rest()
	}
	return n
}

// skip drops a slot of a port that is down, with what belongs to it.
func (q *queue) skip(status uint32) {
	if status&unix.TP_STATUS_COPY != 0 {
		q.fetch()
	}
	q.seg.End()
}

// What take found in a slot.
type found int

const (
	stay  found = iota // no buffer: the frame stays in its slot
	frame              // a frame
	super              // a super-frame, which is now in q.super
	none               // nothing for the caller
)

// take copies the frame of a slot into a buffer.
func (q *queue) take(c *sal.Cache, s *[slotLen]byte, status uint32) (sal.Desc, found) {
	length, snap, mac := ne.Uint32(s[atLen:]), int(ne.Uint32(s[atSnap:])), int(ne.Uint16(s[atMAC:]))
	if s[atPktType] == pktOutgoing {
		return 0, none
	}
	if int(length) != snap || snap < minFrame || mac < gso.HeaderLen || mac+snap > slotLen {
		q.p.rxErrors.Add(1)
		return 0, none
	}
	h := gso.ParseHeader(s[mac-gso.HeaderLen:])
	f := s[mac : mac+snap]
	if h.Super() { // rare: one that fits a slot
		copy(q.super[superRoom+gso.HeaderLen:], f)
		q.begin(h, snap, s, status)
		return 0, super
	}
	if snap > q.p.maxLen {
		q.p.rxErrors.Add(1)
		return 0, none
	}
	b, ok := c.Alloc()
	if !ok {
		return 0, stay
	}
	x := sal.MakeDesc(b, sal.Headroom, uint16(snap))
	tag, tagged := vlan(s, status)
	if tagged {
		x = sal.MakeDesc(b, sal.Headroom+4, uint16(snap))
	}
	to := q.p.pool.Bytes(x)
	copy(to, f)
	if h.NeedsCsum && h.Complete(to) != nil {
		q.p.rxErrors.Add(1)
		c.Free(b)
		return 0, none
	}
	if tagged {
		x = sal.MakeDesc(b, sal.Headroom, uint16(snap+4))
		insertTag(q.p.pool.Bytes(x), tag)
	}
	return x, frame
}

// vlan is the tag that the kernel took off a frame.
func vlan(s *[slotLen]byte, status uint32) (tag [4]byte, ok bool) {
	if status&unix.TP_STATUS_VLAN_VALID == 0 {
		return tag, false
	}
	tpid := uint16(unix.ETH_P_8021Q)
	if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = ne.Uint16(s[atTPID:])
	}
	tci := ne.Uint16(s[atTCI:])
	return [4]byte{byte(tpid >> 8), byte(tpid), byte(tci >> 8), byte(tci)}, true
}

// insertTag moves the addresses of the frame at f[4:] to f and writes the tag
// behind them.
func insertTag(f []byte, tag [4]byte) {
	copy(f, f[4:4+ethTypeAt])
	copy(f[ethTypeAt:], tag[:])
}

// large fetches a frame that did not fit its slot from the socket.
func (q *queue) large(s *[slotLen]byte, status uint32) {
	n := q.fetch()
	if n < 0 || s[atPktType] == pktOutgoing {
		return
	}
	if n < gso.HeaderLen+minFrame || n > gso.HeaderLen+gso.MaxSuper {
		q.p.rxErrors.Add(1)
		return
	}
	h := gso.ParseHeader(q.super[superRoom:])
	if !h.Super() { // a plain frame larger than any MTU here
		q.p.rxErrors.Add(1)
		return
	}
	q.begin(h, n-gso.HeaderLen, s, status)
}

// fetch takes a frame off the socket's queue and gives its length with the
// header, which may be more than there is room for; -1 when there is none.
func (q *queue) fetch() int {
	room := q.super[superRoom:]
	for range 3 { // a pending error (device down) comes first
		n, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(q.fd), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)),
			unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		if e == 0 {
			return int(n)
		}
	}
	q.p.rxErrors.Add(1)
	return -1
}

// begin starts to cut the super-frame of n bytes in q.super.
func (q *queue) begin(h gso.Header, n int, s *[slotLen]byte, status uint32) {
	f := q.super[superRoom+gso.HeaderLen:][:n]
	if tag, ok := vlan(s, status); ok {
		f = q.super[superRoom+gso.HeaderLen-4:][:n+4]
		insertTag(f, tag)
		h.CsumStart += 4
	}
	if q.seg.Begin(h, f) != nil {
		q.p.rxUncut.Add(1)
	} else if q.seg.Len() > min(q.p.maxLen+4, sal.MaxFrame) {
		q.seg.End()
		q.p.rxUncut.Add(1)
	}
}

// cut writes segments of the super-frame at hand to buffers.
func (q *queue) cut(c *sal.Cache, d []sal.Desc) (n int) {
	for n < len(d) && q.seg.Busy() {
		b, ok := c.Alloc()
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
