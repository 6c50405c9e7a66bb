package pipeline

import (
	"encoding/binary"

	"vrouter/fastpath/drop"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Fragments are the pieces of one packet.
type Fragments struct {
	N    int
	Desc [maxFragments + 1]sal.Desc
}

// Fragment4 cuts an IPv4 packet into fragments that fit adjacency adj and
// forwards them.
func (c *Ctx) Fragment4(d sal.Desc, in IfIndex, from Origin, adj uint32) {
	var f Fragments
	c.Cut4(d, in, int(c.MTU(adj)), &f)
	for _, x := range f.Desc[:f.N] {
		c.Forward(x, in, from, adj)
	}
}

// Cut4 cuts an IPv4 packet into fragments of at most mtu bytes (RFC 791 section
// 3.2). The packet may be a fragment itself. Its "don't fragment" flag is not
// looked at: that is the caller's to judge.
//
// The first fragment stays where it is; each further one is a copy in a buffer
// of its own. Options whose copied flag is set are repeated in each. When it
// cannot be cut or a buffer is missing, the whole packet is dropped and f.N is
// 0: half of it is of use to nobody.
func (c *Ctx) Cut4(d sal.Desc, in IfIndex, mtu int, f *Fragments) {
	f.N = 0
	ip := pkt.IPv4(c.Pool.Bytes(d))
	hl, total := ip.HeaderLen(), ip.TotalLen()
	var head [60]byte
	later := head[:laterHeader(head[:], ip[:hl])]
	first, next := (mtu-hl)&^7, (mtu-len(later))&^7
	if total > int(d.Len()) || first <= 0 || next <= 0 || hl+first >= total {
		c.Drop(d, in, drop.NotFragmented)
		return
	}
	data, off, more := total-hl, ip.FragOffset(), ip.MF()
	n := (data - first + next - 1) / next
	if n > maxFragments {
		c.Drop(d, in, drop.NotFragmented)
		return
	}
	if why := c.allocate(n, len(later)+next, f); why != drop.None {
		c.Drop(d, in, why)
		return
	}
	for k := range n {
		at := first + k*next
		size := min(next, data-at)
		x := sal.MakeDesc(f.Desc[k+1].Buf(), sal.Headroom, uint16(len(later)+size))
		f.Desc[k+1] = x
		p := pkt.IPv4(c.Pool.Bytes(x))
		copy(p, later)
		copy(p[len(later):], ip[hl+at:hl+at+size])
		p.SetTotalLen(len(later) + size)
		p.SetFrag(false, more || at+size < data, off+at)
		p.SetChecksum()
	}
	ip.SetTotalLen(hl + first)
	ip.SetFrag(false, true, off)
	ip.SetChecksum()
	f.Desc[0] = sal.MakeDesc(d.Buf(), d.Off(), uint16(hl+first))
	f.N = n + 1
}

// Cut6 cuts an IPv6 packet without extension headers into fragments of at most mtu
// bytes, as its source (RFC 8200 section 4.5), with the given identification. It is
// as Cut4 in everything else; the first fragment moves 8 bytes to the front.
func (c *Ctx) Cut6(d sal.Desc, in IfIndex, mtu int, id uint32, f *Fragments) {
	const fragHeader, head = 8, pkt.IPv6Len + 8
	f.N = 0
	ip := pkt.IPv6(c.Pool.Bytes(d))
	size := (mtu - head) &^ 7
	data := ip.PayloadLen()
	if pkt.IPv6Len+data > int(d.Len()) || size <= 0 || size >= data || d.Off() < fragHeader {
		c.Drop(d, in, drop.NotFragmented)
		return
	}
	n := (data - 1) / size
	why := drop.NotFragmented
	if n <= maxFragments {
		why = c.allocate(n, head+size, f)
	}
	if why != drop.None {
		c.Drop(d, in, why)
		return
	}
	next := ip.NextHeader()
	fragment := func(p pkt.IPv6, at int) {
		p.SetNextHeader(pkt.ProtoFragment)
		p.SetPayloadLen(fragHeader + min(size, data-at))
		x := p[pkt.IPv6Len:head]
		x[0], x[1] = next, 0
		binary.BigEndian.PutUint16(x[2:], uint16(at))
		if at+size < data {
			x[3] |= 1
		}
		binary.BigEndian.PutUint32(x[4:], id)
	}
	for k := 1; k <= n; k++ {
		at := k * size
		part := min(size, data-at)
		f.Desc[k] = sal.MakeDesc(f.Desc[k].Buf(), sal.Headroom, uint16(head+part))
		p := c.Pool.Bytes(f.Desc[k])
		copy(p, ip[:pkt.IPv6Len])
		copy(p[head:], ip[pkt.IPv6Len+at:pkt.IPv6Len+at+part])
		fragment(p, at)
	}
	first := sal.MakeDesc(d.Buf(), d.Off()-fragHeader, uint16(head+size))
	p := c.Pool.Bytes(first)
	copy(p, ip[:pkt.IPv6Len]) // to the front
	fragment(p, 0)
	f.Desc[0] = first
	f.N = n + 1
}

// allocate takes n buffers for fragments 1 to n of at most size bytes each, or
// none.
func (c *Ctx) allocate(n, size int, f *Fragments) drop.Reason {
	for k := range n {
		b, why := c.AllocFor(size)
		if why != drop.None {
			for _, x := range f.Desc[1 : k+1] {
				c.Free(x)
			}
			return why
		}
		f.Desc[k+1] = sal.MakeDesc(b, sal.Headroom, 0)
	}
	return drop.None
}

// maxFragments is enough for a frame of the usual size on the smallest link (68
// bytes, RFC 791), a jumbo frame on one of 128 and the longest packet on one of
// 300: more pieces than that nobody would put together.
const maxFragments = 240

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
