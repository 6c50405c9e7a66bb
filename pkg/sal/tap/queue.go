package tap

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/gso"
)

const minFrame = 14

// queue is one descriptor of the device.
type queue struct {
	p  *port
	fd int

	spare    uint32 // a buffer to read into, when hasSpare
	hasSpare bool
	seg      gso.Segmenter
	super    []byte // a frame that does not fit a buffer, as a whole

	head [gso.HeaderLen]byte // virtio-net header read
	riov [3]unix.Iovec

	single bool // the kernel takes no super-frames
	join   gso.Joiner
	vnet   [gso.HeaderLen]byte // written with a super-frame
	heads  [gso.MaxHead]byte   // and its headers
	zero   [gso.HeaderLen]byte // written with a frame: nothing left to do
	wiov   [2 + sal.Burst]unix.Iovec
}

func newQueue(p *port, fd int) *queue {
	q := &queue{p: p, fd: fd, super: make([]byte, gso.MaxSuper)}
	// A frame goes into a buffer; what is longer than a buffer goes on behind
	// the place in super where the buffer's part is copied to.
	q.riov[0] = iovec(q.head[:])
	q.riov[2] = iovec(q.super[sal.MaxFrame:])
	q.single = p.d.o.Single
	return q
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

func (q *queue) close() {
	if q.hasSpare {
		q.p.pool.Return([]sal.Desc{sal.MakeDesc(q.spare, 0, 0)})
		q.hasSpare = false
	}
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
}

// Wake is the device's descriptor.
func (q *queue) Wake() int { return q.fd }

// Held is 1 while a buffer is kept to read into.
func (q *queue) Held() int {
	if q.hasSpare {
		return 1
	}
	return 0
}

// RxBurst reads frames one by one: into a buffer, and beyond it for those that
// do not fit: super-frames, and jumbo frames, which get a large buffer.
func (q *queue) RxBurst(c *sal.Cache, d []sal.Desc) int {
	up := q.p.up.Load()
	if !up {
		q.seg.End()
	}
	n := q.cut(c, d)
	for n < len(d) && !q.seg.Busy() {
		if !q.hasSpare {
			if q.spare, q.hasSpare = c.Alloc(); !q.hasSpare {
				break
			}
		}
		room := q.p.pool.Bytes(sal.MakeDesc(q.spare, sal.Headroom, sal.MaxFrame))
		q.riov[1] = iovec(room)
		got, _, e := unix.Syscall(unix.SYS_READV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.riov)), uintptr(len(q.riov)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 { // EAGAIN: empty; EBADFD: the device was deleted
			break
		}
		if !up {
			continue
		}
		if f, ok := q.frame(c, room, int(got)-gso.HeaderLen); ok {
			d[n] = f
			n++
		}
		n += q.cut(c, d[n:])
	}
	return n
}

// frame judges the frame of n bytes that was read; a super-frame becomes
// q.seg's.
func (q *queue) frame(c *sal.Cache, room []byte, n int) (f sal.Desc, ok bool) {
	if n < minFrame {
		q.p.rxErrors.Add(1)
		return 0, false
	}
	h := gso.ParseHeader(q.head[:])
	if h.Super() {
		copy(q.super, room[:min(n, len(room))])
		if n > len(q.super) || q.seg.Begin(h, q.super[:n]) != nil {
			q.p.rxUncut.Add(1)
		} else if q.seg.Len() > int(q.p.maxLen.Load()) {
			q.seg.End()
			q.p.rxUncut.Add(1)
		}
		return 0, false
	}
	if n > int(q.p.maxLen.Load()) {
		q.p.rxErrors.Add(1)
		return 0, false
	}
	if n > len(room) {
		return q.jumbo(c, h, room, n)
	}
	if h.Complete(room[:n]) != nil {
		q.p.rxErrors.Add(1)
		return 0, false
	}
	q.hasSpare = false
	return sal.MakeDesc(q.spare, sal.Headroom, uint16(n)), true
}

// jumbo puts a frame of n bytes, of which room has the beginning, into a large
// buffer. Without one it is lost: it is read already.
func (q *queue) jumbo(c *sal.Cache, h gso.Header, room []byte, n int) (f sal.Desc, ok bool) {
	b, ok := c.AllocLarge()
	if !ok {
		q.p.rxDropped.Add(1)
		return 0, false
	}
	f = sal.MakeDesc(b, sal.Headroom, uint16(n))
	whole := q.p.pool.Bytes(f)
	copy(whole[copy(whole, room):], q.super[len(room):n])
	if h.Complete(whole) != nil {
		q.p.rxErrors.Add(1)
		c.Free(b)
		return 0, false
	}
	return f, true
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

// TxBurst writes frames one by one, segments of TCP joined. A device whose other
// side is down refuses them: counted and gone.
func (q *queue) TxBurst(c *sal.Cache, d []sal.Desc) int {
	if !q.p.up.Load() {
		q.p.txDropped.Add(uint64(len(d)))
		c.FreeDescs(d)
		return len(d)
	}
	for i := 0; i < len(d); {
		n, parts := q.gather(d[i:])
		_, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.wiov)), uintptr(parts))
		switch e {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN: // our own send buffer is full
			c.FreeDescs(d[:i])
			return i
		case unix.EIO: // the device is down
			q.p.txDropped.Add(uint64(n))
		default:
			if n > 1 {
				q.single = true
				continue
			}
			q.p.txErrors.Add(1)
		}
		i += n
	}
	c.FreeDescs(d)
	return len(d)
}

// gather makes ready to write the first of some frames, or several joined ones. It
// says how many frames these are, and in how many parts they lie.
func (q *queue) gather(d []sal.Desc) (n, parts int) {
	pool := q.p.pool
	if n = 1; !q.single {
		n = q.join.Frames(pool, d[:min(len(d), sal.Burst)])
	}
	if n == 1 {
		q.wiov[0], q.wiov[1] = iovec(q.zero[:]), iovec(pool.Bytes(d[0]))
		return 1, 2
	}
	k := q.join.Head(&q.vnet, q.heads[:])
	q.wiov[0], q.wiov[1] = iovec(q.vnet[:]), iovec(q.heads[:k])
	for i, x := range d[:n] {
		q.wiov[2+i] = iovec(pool.Bytes(x)[k:])
	}
	return n, 2 + n
}
