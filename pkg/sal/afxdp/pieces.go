package afxdp

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// A frame that does not fit a buffer lies in several, one entry of the ring each;
// all but the last say that the frame goes on. The fast path has packets in one
// piece, so they are put together in a large buffer when received, and copied to
// ordinary ones when sent: large ones are not the kernel's (sal.Pool.Region).

// part is a frame of which some pieces have been received.
type part struct {
	on bool     // there is one
	ok bool     // it is good so far
	to sal.Desc // what there is of it, if ok
}

// join puts a received piece of a frame behind those before it; the piece's buffer
// is given back. With the last one, for which more is false, the frame is whole. One
// for which there is no large buffer, or that is too long, is passed over to its
// end.
func (q *queue) join(c *sal.Cache, x sal.Desc, more bool) (whole sal.Desc, ok bool) {
	p, s := q.p, q.rx
	j := &s.part
	if !j.on {
		b, ok := c.AllocLarge()
		*j = part{on: true, ok: ok, to: sal.MakeDesc(b, sal.Headroom, 0)}
		if ok {
			s.held.Add(1)
		} else {
			p.rxNoBuffer.Add(1)
		}
	}
	if j.ok {
		n := int(j.to.Len())
		if now := n + int(x.Len()); now <= p.maxLen && int(x.Off())+int(x.Len()) <= sal.BufSize {
			j.to = sal.MakeDesc(j.to.Buf(), sal.Headroom, uint16(now))
			copy(p.pool.Bytes(j.to)[n:], p.pool.Bytes(x))
		} else {
			q.spoil(c)
		}
	}
	c.Free(x.Buf())
	if more {
		return 0, false
	}
	j.on = false
	if !j.ok {
		return 0, false
	}
	if !p.up.Load() || j.to.Len() < minFrame {
		q.spoil(c)
		return 0, false
	}
	j.ok = false
	s.held.Add(-1)
	if p.unfinished {
		finish(p.pool.Bytes(j.to))
	}
	return j.to, true
}

// spoil gives up what there is of a frame.
func (q *queue) spoil(c *sal.Cache) {
	j := &q.rx.part
	j.ok = false
	q.rx.held.Add(-1)
	c.Free(j.to.Buf())
	q.p.rxErrors.Add(1)
}

// slotsOf is how many entries of the ring a frame takes to be sent.
func (p *port) slotsOf(x sal.Desc) int {
	if n := int(x.Len()); p.pieces && n > sal.MaxFrame {
		return (n + sal.MaxFrame - 1) / sal.MaxFrame
	}
	return 1
}

// cut copies a frame to ordinary buffers and puts these into the transmit ring, from
// the k-th free entry on. It says how many they are, 0 when there are too few, and
// the frame is lost. The frame's own buffer is given back.
func (q *queue) cut(c *sal.Cache, x sal.Desc, k uint32) uint32 {
	p, n := q.p, q.p.slotsOf(x)
	spare := 0
	if p.pages != nil { // some may lie where the device cannot read them
		spare = 8
	}
	got := q.bufs[:c.AllocBurst(q.bufs[:n+spare])]
	good := 0
	for i, b := range got {
		if !p.pages.split(p.address(b, sal.Headroom), sal.MaxFrame) {
			got[good], got[i] = b, got[good]
			good++
		}
	}
	use := got[:min(good, n)]
	if good < n {
		use = nil
		p.txDropped.Add(1)
	}
	for _, b := range got[len(use):] {
		c.Free(b)
	}
	f := p.pool.Bytes(x)
	for i, b := range use {
		y := sal.MakeDesc(b, sal.Headroom, uint16(min(len(f), sal.MaxFrame)))
		f = f[copy(p.pool.Bytes(y), f):]
		p.mark(b)
		e := unix.XDPDesc{Addr: p.address(b, sal.Headroom), Len: uint32(y.Len()), Options: unix.XDP_PKT_CONTD}
		if len(f) == 0 {
			e.Options = 0
		}
		*q.tx.ring.slot(k + uint32(i)) = e
	}
	c.Free(x.Buf())
	return uint32(len(use))
}

// kernelTakesPieces tells whether the kernel has frames in several buffers: it
// refuses a socket that asks for them as it does any flag that it does not know.
func kernelTakesPieces() bool {
	const loopback = 1 // its index in every network namespace
	fd, err := newFD()
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	m, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(m) }()
	if register(fd, m, 2048, 0) != nil {
		return false
	}
	n := uint32(2)
	for _, o := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		if setsockopt(fd, o, unsafe.Pointer(&n), unsafe.Sizeof(n)) != nil {
			return false
		}
	}
	err = unix.Bind(fd, &unix.SockaddrXDP{Ifindex: loopback, Flags: unix.XDP_COPY | unix.XDP_USE_SG})
	return err == nil || err == unix.EBUSY // the queue is somebody's, and the flag was no matter
}
