package afxdp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

const (
	minFrame = 14 // an Ethernet header
	tagLen   = 4
	// refillAt is how many buffers have to be missing before new ones are put
	// up for frames.
	refillAt = 32
	// nudgeEvery empty polls the kernel is reminded of what it was asked for.
	nudgeEvery = 64
)

// queue is one goroutine's part of a port. The first as many as the device has
// receive queues each have one of them; others only send, over one that is
// somebody else's too.
type queue struct {
	p  *port
	rx *socket // nil: there is no queue of the device to receive from
	tx *transmit

	bufs  [sal.Burst]uint32
	descs [sal.Burst]sal.Desc
}

// Wake is the socket.
func (q *queue) Wake() int { return q.tx.fd }

// Held counts what waits for frames, the frames that wait for RxBurst, and what
// is on its way out. Where queues share a socket, the first counts for all.
func (q *queue) Held() int {
	if q.rx == nil {
		return 0
	}
	return int(q.rx.held.Load())
}

// RxBurst takes frames off the receive ring, in the buffers where the kernel
// put them, and puts up new buffers in their place.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) (n int) {
	q.tx.s.reap(q, c)
	q.tx.nudge()
	s := q.rx
	if s == nil {
		return 0
	}
	up := q.p.up.Load()
	for {
		k := min(int(s.rx.waiting()), sal.Burst)
		if up {
			// A frame is handed out for a buffer that takes its place; without
			// one it stays, and the kernel drops when all its buffers are full.
			k = c.AllocBurst(q.bufs[:min(k, len(d)-n)])
			s.offer(q.p, q.bufs[:k])
		}
		for i := range uint32(k) {
			e := s.rx.slot(i)
			b, off := q.p.locate(e.Addr)
			if !q.p.unmark(b) { // cannot be: not a buffer that the kernel has
				q.p.rxErrors.Add(1)
				continue
			}
			x := sal.MakeDesc(b, off, uint16(e.Len))
			if more := e.Options&unix.XDP_PKT_CONTD != 0; more || s.part.on {
				if x, ok := q.join(c, x, more); ok {
					d[n] = x
					n++
				}
			} else if up && q.check(x, e.Len) {
				d[n] = x
				n++
			} else {
				c.Free(b)
			}
		}
		s.rx.take(uint32(k))
		s.filled -= uint32(k)
		s.held.Add(-int32(k))
		if k == 0 {
			break
		}
	}
	if n > 0 {
		s.empty = 0
	} else {
		s.empty++
	}
	if want := s.target - s.filled; want >= refillAt {
		s.offer(q.p, q.bufs[:c.AllocBurst(q.bufs[:min(want, sal.Burst)])])
	} else if s.empty%nudgeEvery == 1 && s.fill.wants() {
		s.wakeRx()
	}
	return n
}

// check judges a frame and finishes its checksum.
func (q *queue) check(x sal.Desc, n uint32) bool {
	if n < minFrame || n > uint32(q.p.maxLen) || x.Off() < sal.Headroom || int(x.Off())+int(n) > sal.BufSize-sal.Tailroom {
		q.p.rxErrors.Add(1)
		return false
	}
	if q.p.unfinished {
		finish(q.p.pool.Bytes(x))
	}
	return true
}

// offer puts up buffers for frames to come.
func (s *socket) offer(p *port, bufs []uint32) {
	if len(bufs) == 0 {
		return
	}
	n := uint32(0)
	for _, b := range bufs {
		p.mark(b)
		at := p.address(b, sal.Headroom) - headroom
		if p.pages.split(at, chunk) {
			continue // the kernel would throw it away: it stays with the port
		}
		*s.fill.slot(n) = at
		n++
	}
	s.fill.put(n)
	s.filled += n
	s.held.Add(int32(len(bufs)))
	if s.fill.wants() {
		s.wakeRx()
	}
}

// first gives a new socket its first buffers.
func (s *socket) first(p *port) {
	bufs := make([]uint32, s.target)
	s.offer(p, bufs[:p.pool.Take(bufs)])
}

// wakeRx tells a zero-copy driver that there are buffers again.
func (s *socket) wakeRx() {
	_, _, _ = unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}

// reap frees what has been sent, whoever sent it; one does it at a time.
func (s *socket) reap(q *queue, c *sal.Cache) {
	if s.sent.Load() == 0 || !s.reaping.CompareAndSwap(false, true) {
		return
	}
	for {
		n := min(s.done.waiting(), sal.Burst)
		if n == 0 {
			break
		}
		k := 0
		for i := range n {
			if b, _ := q.p.locate(*s.done.slot(i)); q.p.unmark(b) {
				q.descs[k] = sal.MakeDesc(b, 0, 0)
				k++
			}
		}
		s.done.take(n)
		c.FreeDescs(q.descs[:k])
		s.held.Add(-int32(k))
		s.sent.Add(-int32(n))
	}
	s.reaping.Store(false)
}

// TxBurst puts a burst into the transmit ring and has the kernel send it. What
// the ring has no room for stays the caller's.
func (q *queue) TxBurst(c *sal.Cache, d []sal.Desc) int {
	t := q.tx
	t.s.reap(q, c)
	if t.dark {
		t.kick(q.p)
		t.dark = t.dark && t.ring.pending() > 0 // poll(2) sends too
	}
	if !q.p.up.Load() || t.dark {
		if t.dark {
			q.p.txErrors.Add(uint64(len(d)))
		} else {
			q.p.txDropped.Add(uint64(len(d)))
		}
		c.FreeDescs(d)
		return len(d)
	}
	n, slots := 0, 0
	for room := int(t.ring.room()); n < min(len(d), sal.Burst) && slots+q.p.slotsOf(d[n]) <= room; n++ {
		slots += q.p.slotsOf(d[n])
	}
	if now := int(t.s.sent.Add(int32(slots))); now > doneSlots { // others send here too
		was := slots
		for n > 0 && now-(was-slots) > doneSlots {
			n--
			slots -= q.p.slotsOf(d[n])
		}
		t.s.sent.Add(int32(slots - was))
	}
	if n == 0 {
		t.kick(q.p)
		return 0
	}
	k := uint32(0)
	for _, x := range d[:n] {
		if q.p.slotsOf(x) > 1 {
			k += q.cut(c, x, k)
			continue
		}
		x, ok := q.movable(c, x)
		if !ok {
			q.p.txDropped.Add(1)
			continue
		}
		q.p.mark(x.Buf())
		*t.ring.slot(k) = unix.XDPDesc{Addr: q.p.address(x.Buf(), uint32(x.Off())), Len: uint32(x.Len())}
		k++
	}
	t.s.sent.Add(int32(k) - int32(slots)) // less what was lost
	t.s.held.Add(int32(k))
	t.ring.put(k)
	t.kick(q.p)
	return n
}

// movable gives a packet that the kernel can send from where it lies: a
// zero-copy device wants it on one page, or on pages that follow each other in
// its own view of the memory, and no mode knows large buffers. Others are copied
// once.
func (q *queue) movable(c *sal.Cache, x sal.Desc) (sal.Desc, bool) {
	p := q.p
	if !p.pool.IsLarge(x.Buf()) && !p.pages.split(p.address(x.Buf(), uint32(x.Off())), uint32(x.Len())) {
		return x, true
	}
	n := 0
	if x.Len() <= sal.MaxFrame { // as no MTU lets it be longer, or cut takes it
		n = c.AllocBurst(q.bufs[:8]) // one of eight will do
	}
	to, ok := sal.Desc(0), false
	for _, b := range q.bufs[:n] {
		if y := sal.MakeDesc(b, sal.Headroom, x.Len()); !ok && !p.pages.split(p.address(b, sal.Headroom), uint32(x.Len())) {
			to, ok = y, true
			continue
		}
		c.Free(b)
	}
	if ok {
		copy(p.pool.Bytes(to), p.pool.Bytes(x))
	}
	c.Free(x.Buf())
	return to, ok
}

// kick has the kernel send what is in the ring, as long as it makes progress.
// In copy mode that is the work of sending itself.
func (t *transmit) kick(p *port) {
	for left := t.ring.pending(); left > 0 && t.ring.wants(); {
		_, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(t.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		now := t.ring.pending()
		switch e {
		case 0, unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
			t.dark = false
		case unix.EBUSY: // the driver dropped one, or has no room
			t.dark = false
			if now < left {
				p.txDropped.Add(1)
			}
		default: // ENETDOWN, ENXIO: the device is down or gone
			t.dark = true
			return
		}
		if now == left && e != unix.EINTR {
			return
		}
		left = now
	}
}

// nudge sends what an earlier kick left.
func (t *transmit) nudge() {
	if !t.dark && t.ring.pending() > 0 {
		t.kick(t.s.p)
	}
}

// mark notes that the kernel has a buffer, unmark that it has given it back;
// false when it had not.
func (p *port) mark(b uint32) { atomic.OrUint32(&p.out[b/32], 1<<(b%32)) }

func (p *port) unmark(b uint32) bool {
	if b >= uint32(p.pool.Size()) {
		return false
	}
	bit := uint32(1) << (b % 32)
	return atomic.AndUint32(&p.out[b/32], ^bit)&bit != 0
}
