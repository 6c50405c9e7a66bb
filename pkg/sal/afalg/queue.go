//go:build linux

package afalg

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// espLen is the SPI and sequence number in front of the IV.
const espLen = 8

// queue is one goroutine's way in.
type queue struct {
	session.Inline
	r    *records
	i    int
	pool *sal.Pool
	area *mem.Region
	own  *own
	end  sync.Once
}

// own is what the kernel is pointed to, in mapped memory so that nothing of it is
// allocated for a packet.
type own struct {
	msg  unix.Msghdr
	iov  [2]unix.Iovec
	head [64]byte // SPI, upper half of the number with ESN, lower half, IV
	ctl  control
	back [64]byte // where the kernel copies that to
	ivs  [256]byte
	left int // of ivs
}

// control is the ancillary data of a packet: operation, length of associated data,
// IV. The kernel wants them in any order, each with a header, aligned to 8.
type control struct {
	opHdr    unix.Cmsghdr
	op       uint32
	_        uint32
	assocHdr unix.Cmsghdr
	assoc    uint32
	_        uint32
	ivHdr    unix.Cmsghdr
	ivLen    uint32
	iv       [16]byte
	_        uint32
}

const cmsgLen = uint64(unsafe.Sizeof(unix.Cmsghdr{}))

// Queue makes queue i over the buffers of pool.
func (r *records) Queue(i int, pool *sal.Pool) (session.Queue, error) {
	a, err := mem.Map(int(unsafe.Sizeof(own{})), mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("memory: %v: %w", err, sal.ErrFull)
	}
	q := &queue{r: r, i: i, pool: pool, area: a, own: (*own)(a.Ptr())}
	c := &q.own.ctl
	c.opHdr = unix.Cmsghdr{Len: cmsgLen + 4, Level: unix.SOL_ALG, Type: unix.ALG_SET_OP}
	c.assocHdr = unix.Cmsghdr{Len: cmsgLen + 4, Level: unix.SOL_ALG, Type: unix.ALG_SET_AEAD_ASSOCLEN}
	c.ivHdr = unix.Cmsghdr{Level: unix.SOL_ALG, Type: unix.ALG_SET_IV}
	q.Init(r.s, depth, q.work)
	return q, nil
}

// Close gives the number free. Jobs that are done can still be polled.
func (q *queue) Close() error {
	q.Shut()
	q.Forget()
	return nil
}

// Forget gives the queue's own memory back.
func (q *queue) Forget() { q.end.Do(func() { _ = q.area.Unmap() }) }

// work does the jobs in order, one by one.
func (q *queue) work(jobs []sal.Job) {
	for i := range jobs {
		j := &jobs[i]
		x := q.r.at(j.SA)
		// An SA does one operation only: sealing with an inbound key would use a
		// nonce twice.
		if x == nil || x.state.Load() != live || x.op != j.Op {
			j.Status = sal.StatusNoSA
			continue
		}
		switch end := int(j.Off) + espLen + x.iv + int(j.Len) + x.icv; {
		case end > q.pool.End(j.Desc.Buf()):
			x.end(j, sal.StatusNoRoom)
		case int(j.Len)%x.block != 0:
			x.end(j, sal.StatusShort)
		default:
			x.end(j, q.one(j, x))
		}
	}
}

// one has the kernel do a packet: the text goes there behind the associated data,
// and comes back in its place, with the ICV behind it or checked.
func (q *queue) one(j *sal.Job, x *record) sal.Status {
	fd := x.socket(q.i)
	if fd < 0 {
		return sal.StatusDevice
	}
	o := q.own
	esp := q.pool.Base() + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off)
	text := esp + espLen + uintptr(x.iv)
	in, out := uint64(j.Len), uint64(j.Len)
	if j.Op == sal.Seal {
		out += uint64(x.icv)
	} else {
		in += uint64(x.icv)
	}
	iv := mem.Bytes(esp+espLen, x.iv)
	if x.iv > 0 && !x.counter && j.Op == sal.Seal {
		copy(iv, q.iv()[:x.iv])
	}

	// What the ICV covers beside the text: SPI and number (RFC 4303 section 2; with
	// ESN the kernel's algorithms take the number's upper half in the middle and
	// know where it counts), and the IV.
	n := copy(o.head[:], mem.Bytes(esp, 4))
	if x.esn {
		binary.BigEndian.PutUint32(o.head[n:], j.SeqHi)
		n += 4
	}
	n += copy(o.head[n:], mem.Bytes(esp+4, 4))
	n += copy(o.head[n:], iv)

	c := &o.ctl
	c.op = unix.ALG_OP_ENCRYPT
	if j.Op == sal.Open {
		c.op = unix.ALG_OP_DECRYPT
	}
	c.assoc, c.ivLen = uint32(n), uint32(x.iv)
	copy(c.iv[:], iv)
	c.ivHdr.Len = cmsgLen + 4 + uint64(x.iv)
	o.iov[0] = unix.Iovec{Base: &o.head[0], Len: uint64(n)}
	o.iov[1] = unix.Iovec{Base: (*byte)(mem.At(text)), Len: in}
	o.msg = unix.Msghdr{Iov: &o.iov[0], Iovlen: 2, Control: (*byte)(unsafe.Pointer(c)), Controllen: uint64(unsafe.Offsetof(c.ivHdr)) + (c.ivHdr.Len+7)&^7}
	if sent, e := syscall3(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&o.msg))); e != 0 || sent != uint64(n)+in {
		return q.failed(fd, x, j)
	}
	o.iov[0] = unix.Iovec{Base: &o.back[0], Len: uint64(n)}
	o.iov[1].Len = out
	got, e := syscall3(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&o.iov)), 2)
	switch {
	case e == unix.EBADMSG:
		clear(mem.Bytes(text, int(j.Len))) // what the kernel has left there is not proved
		return sal.StatusBadICV
	case e != 0 || got != uint64(n)+out:
		return q.failed(fd, x, j)
	}
	return sal.StatusOK
}

// failed ends a packet that the kernel would not do. Its socket is given up, as
// nobody knows what is left in it.
func (q *queue) failed(fd int, x *record, j *sal.Job) sal.Status {
	_ = unix.Close(fd)
	x.ops[q.i].Store(0)
	clear(mem.Bytes(q.pool.Base()+uintptr(j.Desc.Buf())*sal.BufSize+uintptr(j.Off)+espLen+uintptr(x.iv), int(j.Len)))
	return sal.StatusDevice
}

// iv gives 16 bytes that nobody can predict (RFC 3602 section 3), taken from the
// kernel some at a time.
func (q *queue) iv() []byte {
	o := q.own
	if o.left == 0 {
		rand.Read(o.ivs[:]) // never fails
		o.left = len(o.ivs)
	}
	o.left -= 16
	return o.ivs[o.left : o.left+16]
}

// syscall3 repeats a call that a signal has interrupted.
func syscall3(nr uintptr, fd int, a ...uintptr) (uint64, syscall.Errno) {
	var b uintptr
	if len(a) > 1 {
		b = a[1]
	}
	for {
		n, _, e := unix.Syscall(nr, uintptr(fd), a[0], b)
		if e != unix.EINTR {
			return uint64(n), e
		}
	}
}
