package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Fragment4 cuts an IPv4 packet into fragments that fit adjacency adj and
// forwards them (RFC 791 section 3.2). The packet may be a fragment itself. Its
// "don't fragment" flag is not looked at: that is the caller's to judge.
//
// The first fragment stays where it is; each further one is a copy in a buffer
// of its own. Options whose copied flag is set are repeated in each. When a
// buffer is missing the whole packet is dropped: half of it is of use to nobody.
func (c *Ctx) Fragment4(d sal.Desc, in IfIndex, adj uint32) {
	ip := pkt.IPv4(c.Pool.Bytes(d))
	hl, total := ip.HeaderLen(), ip.TotalLen()
	var head [60]byte
	later := head[:laterHeader(head[:], ip[:hl])]
	room := int(c.MTU(adj))
	first, next := (room-hl)&^7, (room-len(later))&^7
	if total > int(d.Len()) || first <= 0 || next <= 0 || hl+first >= total {
		c.Drop(d, in, drop.NotFragmented)
		return
	}
	data, off, more := total-hl, ip.FragOffset(), ip.MF()
	n := (data - first + next - 1) / next
	var bufs [maxFragments]uint32
	if n > len(bufs) {
		c.Drop(d, in, drop.NotFragmented)
		return
	}
	for k := range n {
		b, ok := c.Alloc()
		if !ok {
			for _, x := range bufs[:k] {
				c.Free(sal.MakeDesc(x, 0, 0))
			}
			c.Drop(d, in, drop.NoBuffer)
			return
		}
		bufs[k] = b
	}
	for k := range n {
		at := first + k*next
		size := min(next, data-at)
		f := sal.MakeDesc(bufs[k], sal.Headroom, uint16(len(later)+size))
		p := pkt.IPv4(c.Pool.Bytes(f))
		copy(p, later)
		copy(p[len(later):], ip[hl+at:hl+at+size])
		p.SetTotalLen(len(later) + size)
		p.SetFrag(false, more || at+size < data, off+at)
		p.SetChecksum()
	}
	ip.SetTotalLen(hl + first)
	ip.SetFrag(false, true, off)
	ip.SetChecksum()
	c.Forward(sal.MakeDesc(d.Buf(), d.Off(), uint16(hl+first)), in, adj)
	for k, x := range bufs[:n] {
		size := min(next, data-first-k*next)
		c.Forward(sal.MakeDesc(x, sal.Headroom, uint16(len(later)+size)), in, adj)
	}
}

// maxFragments is enough for the largest frame on the smallest link (68 bytes,
// RFC 791).
const maxFragments = sal.MaxFrame / 8

// laterHeader writes the header of fragments other than the first: without the
// options that are not to be copied (RFC 791 section 3.1). It returns its length.
func laterHeader(to, head []byte) int {
	n := copy(to, head[:pkt.IPv4Len])
	for o := head[pkt.IPv4Len:]; len(o) > 0 && o[0] != 0; {
		size := 1
		if o[0] != 1 {
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				break
			}
			size = int(o[1])
		}
		if o[0]&0x80 != 0 {
			n += copy(to[n:], o[:size])
		}
		o = o[size:]
	}
	for n%4 != 0 {
		to[n] = 0
		n++
	}
	to[0] = 0x40 | byte(n/4)
	return n
}
