package reass

import (
	"encoding/binary"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// deliver lets a whole datagram go round.
func (w *whole) deliver(c *pipeline.Ctx) {
	first := c.Pool.Bytes(w.piece[0].desc)
	head := int(w.piece[0].head)
	proto := w.key.proto
	if w.key.v6 {
		proto = first[head-8]
	}
	const ce = 1 << 3
	switch {
	case w.ecn&ce != 0 && w.ecn&1 != 0: // RFC 3168 section 5.3
		w.drop(c, 0, drop.ReassOverlap)
	case w.total+head-w.shrink() > w.most():
		w.drop(c, 0, drop.ReassTooBig)
	case proto == pkt.ProtoICMP && !w.key.v6, proto == pkt.ProtoICMPv6 && w.key.v6:
		w.icmp(c, first[head:], proto)
	case head-w.shrink()+w.total <= sal.MaxPacket:
		w.join(c, proto)
	case proto == pkt.ProtoESP:
		w.drop(c, 0, drop.ReassTooBig)
	default:
		w.answer(c)
	}
}

// shrink is by how much the headers are shorter without the fragment header.
func (w *whole) shrink() int {
	if w.key.v6 {
		return 8
	}
	return 0
}

// most is the largest packet that the header's length field can say.
func (w *whole) most() int {
	if w.key.v6 {
		return 0xffff + pkt.IPv6Len
	}
	return 0xffff
}

// drop ends all pieces from the k-th on.
func (w *whole) drop(c *pipeline.Ctx, k int, why drop.Reason) {
	for ; k < w.n; k++ {
		c.Drop(w.piece[k].desc, w.in, why)
	}
}

// origin is what the pieces go round as.
func (w *whole) origin() pipeline.Origin {
	if w.key.fromSA() {
		return pipeline.Origin(w.key.origin).AsWhole()
	}
	return pipeline.FromIface(w.in).AsWhole()
}

// answer lets the first piece go round alone, so that its sender hears that
// nobody is there.
func (w *whole) answer(c *pipeline.Ctx) {
	w.drop(c, 1, drop.ReassTooBig)
	c.Reinject(w.piece[0].desc, w.in, w.origin())
}

// icmp takes a whole ICMP message. An echo request goes round piece by piece,
// and is answered so, whatever its size. Nothing else that comes in pieces is of
// use: neighbour discovery must not (RFC 6980), errors never do.
func (w *whole) icmp(c *pipeline.Ctx, m []byte, proto uint8) {
	var sum pkt.Sum
	echo := uint8(pkt.ICMPv4Echo)
	if w.key.v6 {
		echo = pkt.ICMPv6Echo
		ip := pkt.IPv6(c.Pool.Bytes(w.piece[0].desc))
		sum = pkt.Pseudo6(ip.Src(), ip.Dst(), proto, w.total)
	}
	for k := range w.n {
		p := &w.piece[k]
		sum = sum.Add(c.Pool.Bytes(p.desc)[p.head : p.head+p.end-p.from])
	}
	switch {
	case sum.Fold() != 0xffff || len(m) < pkt.ICMPLen:
		w.drop(c, 0, drop.ICMPBad)
	case m[0] != echo || m[1] != 0:
		w.drop(c, 0, drop.ICMPIgnored)
	default:
		for k := range w.n {
			c.Reinject(w.piece[k].desc, w.in, w.origin())
		}
	}
}

// join copies all data behind that of the first piece, in its buffer if there is
// room, else in one that has it, and takes out of the headers that there were pieces. The packet's bytes
// are those that its sender cut, except TTL, ECN and, for IPv4, the header's
// checksum.
func (w *whole) join(c *pipeline.Ctx, proto uint8) {
	p := &w.piece[0]
	d, head := p.desc, int(p.head)
	size := head + w.total
	if int(d.Off())+size > c.Pool.End(d.Buf())-sal.Tailroom {
		b, why := c.AllocFor(pipeline.EthLen + size)
		if why != drop.None {
			w.drop(c, 0, why)
			return
		}
		to := sal.MakeDesc(b, sal.Headroom+pipeline.EthLen, d.Len())
		copy(c.Pool.Bytes(to), c.Pool.Bytes(d))
		c.Free(d)
		d = to
	}
	d = sal.MakeDesc(d.Buf(), d.Off(), uint16(size))
	b := c.Pool.Bytes(d)
	for k := 1; k < w.n; k++ {
		p := &w.piece[k]
		copy(b[head+int(p.from):], c.Pool.Bytes(p.desc)[p.head:p.head+p.end-p.from])
		c.Free(p.desc)
	}
	if !w.key.v6 {
		ip := pkt.IPv4(b)
		ip.SetTotalLen(size)
		ip.SetFrag(false, false, 0)
		ip.SetTOS(ip.TOS()&^3 | w.mark(ip.TOS()&3))
		ip.SetChecksum()
	} else {
		_, named, _ := fragmentHeader(b)
		b[named] = proto
		copy(b[8:head], b[:head-8]) // the fragment header is the last of them
		d = sal.MakeDesc(d.Buf(), d.Off()+8, uint16(size-8))
		b = b[8:]
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-pkt.IPv6Len))
		ip := pkt.IPv6(b)
		ip.SetTrafficClass(ip.TrafficClass()&^3 | w.mark(ip.TrafficClass()&3))
	}
	c.Reinject(d, w.in, w.origin())
}

// mark is the congestion mark of a datagram whose first piece has own: one piece
// that met congestion speaks for all (RFC 3168 section 5.3).
func (w *whole) mark(own uint8) uint8 {
	if w.ecn&(1<<3) != 0 {
		return 3
	}
	return own
}
