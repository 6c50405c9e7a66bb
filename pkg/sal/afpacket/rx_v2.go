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
	slotLen  = 2048
	blockLen = 1 << 16 // the kernel maps the ring in blocks; a power of two of pages

	// Offsets in a slot: struct tpacket2_hdr, then struct sockaddr_ll.
	atStatus, atLen, atSnap, atMAC = 0, 4, 8, 12
	atTCI, atTPID                  = 24, 26
	atPktType                      = 32 + 10
)

// ring2 is a ring of TPACKET_V2: slots of one size, each the reader's as soon as
// a frame is in it. What does not fit a slot waits on the socket (fetch).
type ring2 struct {
	mapped
	at uint32 // next slot to read
	n  uint32 // slots
}

func (r *ring2) open(fd, slots int) (err error) {
	const perBlock = blockLen / slotLen
	blocks := (slots + perBlock - 1) / perBlock
	r.n = uint32(blocks * perBlock)
	req := unix.TpacketReq{Block_size: blockLen, Block_nr: uint32(blocks), Frame_size: slotLen, Frame_nr: r.n}
	if err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("receive ring of %d slots: %w", r.n, err)
	}
	return r.mapRing(fd, blocks*blockLen)
}

func (r *ring2) lost(fd int) uint64 {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}

func (r *ring2) read(q *queue, c *sal.Cache, d []sal.Desc, n int) int {
	for n < len(d) && !q.seg.Busy() {
		s := (*[slotLen]byte)(unsafe.Pointer(&r.mem[int(r.at)*slotLen]))
		word := (*uint32)(unsafe.Pointer(s))
		status := atomic.LoadUint32(word)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		v := view{status: status, tci: ne.Uint16(s[atTCI:]), tpid: ne.Uint16(s[atTPID:])}
		switch {
		case status&unix.TP_STATUS_COPY != 0:
			if !q.large(s, &v) || !q.p.up.Load() {
				break
			}
			k, ok := q.handOn(c, &v, d[n:])
			if n += k; !ok { // it cannot stay: it has left the socket
				q.p.rxNoBuffer.Add(1)
			}
		case q.p.up.Load() && q.look(s, &v):
			if v.head.Super() { // rare: one that fits a slot, which is given back
				f := q.super[superRoom+gso.HeaderLen:][:len(v.frame)]
				copy(f, v.frame)
				v.frame = f
			}
			k, ok := q.handOn(c, &v, d[n:])
			if n += k; !ok {
				return n
			}
		}
		atomic.StoreUint32(word, unix.TP_STATUS_KERNEL)
		if r.at++; r.at == r.n {
			r.at = 0
		}
	}
	return n
}

// look finds the frame in a slot; false when there is none to hand on.
func (q *queue) look(s *[slotLen]byte, v *view) bool {
	return s[atPktType] != pktOutgoing && q.at(v, s[:], ne.Uint32(s[atLen:]), int(ne.Uint32(s[atSnap:])), int(ne.Uint16(s[atMAC:])))
}

// large fetches a frame that did not fit its slot from the socket, a super-frame
// or a jumbo frame; false when there is none to hand on.
func (q *queue) large(s *[slotLen]byte, v *view) bool {
	n := q.fetch()
	if n < 0 || s[atPktType] == pktOutgoing {
		return false
	}
	if n < gso.HeaderLen+minFrame || n > gso.HeaderLen+gso.MaxSuper {
		q.p.rxErrors.Add(1)
		return false
	}
	v.head = gso.ParseHeader(q.super[superRoom:])
	v.frame = q.super[superRoom+gso.HeaderLen:][:n-gso.HeaderLen]
	return true
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
