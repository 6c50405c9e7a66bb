package afpacket

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

const (
	// block3 is the length of a block: a power of two of pages, with room for a
	// super-frame and its headers.
	block3 = 1 << 17
	// retire3 is after how many milliseconds a block that is not full is handed
	// over all the same: the least that there is. Linux has kept to it since
	// 6.18; before, it waited for the next tick of its clock, up to 4 ms.
	retire3 = 1

	// Offsets in a block (struct tpacket_block_desc) and, from a frame's own
	// beginning, of struct tpacket3_hdr and struct sockaddr_ll.
	atBlockStatus, atBlockPackets, atBlockFirst = 8, 12, 16
	atNext3, atSnap3, atLen3, atStatus3, atMAC3 = 0, 12, 16, 20, 24
	atTCI3, atTPID3                             = 32, 36
	atPktType3                                  = 48 + 10
	headLen3                                    = 48 + 20
)

// ring3 is a ring of TPACKET_V3: blocks with frames of any length behind one
// another. A block is the reader's when it is full or its time is up. Frames,
// super-frames too, are read where they lie, and then the whole block is given
// back.
//
// What TPACKET_V3 can tell besides, the hash of each frame's flow, is not asked
// for: the fast path has a hash of its own, whose seed nobody outside knows.
type ring3 struct {
	mapped
	n     int    // blocks
	block int    // being read, or next to be
	mine  bool   // it is being read
	left  uint32 // frames in it that are not read
	off   int    // of the first of them, in mem
}

func (r *ring3) open(fd, slots int) (err error) {
	r.n = max(2, slots*slotLen/block3)
	req := unix.TpacketReq3{Block_size: block3, Block_nr: uint32(r.n), Frame_size: slotLen, Frame_nr: uint32(r.n * (block3 / slotLen)),
		Retire_blk_tov: retire3}
	if err = unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("receive ring of %d blocks: %w", r.n, err)
	}
	return r.mapRing(fd, r.n*block3)
}

// lost: a frame that found all blocks full is among the drops; how often that
// began (the freezes) says nothing more.
func (r *ring3) lost(fd int) uint64 {
	s, err := unix.GetsockoptTpacketStatsV3(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}

func (r *ring3) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[r.block*block3+at])) }

// more makes sure that there is a frame to read: the block that was read to its
// end goes back to the kernel, and the next one is opened if it is there.
func (r *ring3) more() bool {
	for r.left == 0 {
		if r.mine {
			atomic.StoreUint32(r.word(atBlockStatus), unix.TP_STATUS_KERNEL)
			r.mine = false
			if r.block++; r.block == r.n {
				r.block = 0
			}
		}
		if atomic.LoadUint32(r.word(atBlockStatus))&unix.TP_STATUS_USER == 0 {
			return false
		}
		r.mine = true
		r.left = *r.word(atBlockPackets)
		r.off = r.block*block3 + int(*r.word(atBlockFirst))
	}
	return true
}

func (r *ring3) read(q *queue, c *sal.Cache, d []sal.Desc, n int) int {
	for n < len(d) && !q.seg.Busy() && r.more() {
		s := r.mem[r.off : (r.block+1)*block3]
		if v := (view{}); q.p.up.Load() && q.look3(s, &v) {
			k, ok := q.handOn(c, &v, d[n:])
			if n += k; !ok {
				return n
			}
		}
		r.left--
		r.off += int(ne.Uint32(s[atNext3:]))
	}
	return n
}

// look3 finds the frame that s begins with; false when there is none to hand on.
func (q *queue) look3(s []byte, v *view) bool {
	h := s[:headLen3]
	v.status, v.tci, v.tpid = ne.Uint32(h[atStatus3:]), ne.Uint16(h[atTCI3:]), ne.Uint16(h[atTPID3:])
	return h[atPktType3] != pktOutgoing && q.at(v, s, ne.Uint32(h[atLen3:]), int(ne.Uint32(h[atSnap3:])), int(ne.Uint16(h[atMAC3:])))
}
