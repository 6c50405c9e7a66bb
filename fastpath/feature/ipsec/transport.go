package ipsec

import (
	"encoding/binary"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// ESP in transport mode, inside a packet from or to the vRouter itself (RFC 4303
// section 3.1.1):
//
//	| IP, extension headers | UDP | SPI | sequence | IV | payload … | pad | pad length | next header | ICV |
//	                                                  '----------- encrypted ----------------------'
//
// The packet's own header stays, with its TTL, DSCP, ECN and DF: but for where it
// says what comes next and how long it is, nothing of it changes. All else, from
// sequence numbers to lifetimes, is as in tunnel mode; octets are those of the
// payload.
//
// What is too long leaves as fragments of the ESP packet, which is how section 3.3.4
// wants it, and fragments of one are put together before it is opened.

// insert puts ESP into a packet that the vRouter has made; the engine gets it with
// the next run. The header moves to the front, what it carries stays where it is.
func (w *worker) insert(c *pipeline.Ctx, p sal.Desc, in pipeline.IfIndex, from pipeline.Origin, h uint32, r *record, adj uint32) {
	b := c.Pool.Bytes(p)
	hl, next := place(b)
	gap := int(r.UDP) + int(r.Prefix)
	n := len(b) - hl
	text := int(r.TextLen(uint32(n)))
	size := hl + gap + text + int(r.ICV)
	how := cookie(0)
	if mtu := r.outerMTU(c, adj); size > int(mtu) {
		switch v6 := r.Flags&recV6 != 0; {
		case c.MTU(adj) == 0:
			w.nowhere(c, p, in, from, adj)
			return
		case !v6 && b[6]&esp.FlagDF != 0, v6 && hl != pkt.IPv6Len: // Cut6 puts its header behind the fixed one
			c.Reject(p, in, from, pipeline.RejectTooBig, uint16(r.InnerMTU(mtu)))
			return
		}
		how = cuttable
	}
	if int(p.Off()) < gap+pipeline.EthLen || int(p.Off())+len(b)+int(r.Tail()) > c.Pool.End(p.Buf()) || size > sal.MaxPacket {
		w.drop(c, p, in, r, drop.ESPNoRoom)
		return
	}
	if why := w.may(c, r); why != drop.None {
		w.drop(c, p, in, r, why)
		return
	}
	if r.group != 0 && !w.afford(c, r, uint32(size)) {
		w.drop(c, p, in, r, drop.ESPQuota)
		return
	}
	live := w.f.sad.live.line(r.live)
	seq, why := w.count(c, r.live, live, &live.Seq, uint64(n), c.Now-w.f.clock.base.Load())
	if why != drop.None {
		w.drop(c, p, in, r, why)
		return
	}
	d := sal.MakeDesc(p.Buf(), p.Off()-uint16(gap), uint16(size))
	out := c.Pool.Bytes(d)
	proto := out[gap+next]
	copy(out, b[:hl])
	r.frame(out, hl, next, text-espTrailer-n, proto, seq)
	l := w.lanes[r.engine]
	esp := p.Off() + uint16(hl) - uint16(r.Prefix)
	*l.job() = sal.Job{SA: r.sa, Op: sal.Seal, Desc: d, Off: esp, Len: uint16(text), SeqHi: uint32(seq >> 32),
		Cookie: uint64(makeCookie(h, 0, in, uint32(text-espTrailer-n)) | how)}
	if l.n == sal.Burst {
		l.run(c)
	}
}

// frame writes everything of an ESP packet b but the payload, which is in place,
// and what the engine writes: the header of hl octets, whose octet next says what
// comes behind it, UDP, SPI, sequence number, counter IV and a trailer with so many
// octets of padding.
func (r *record) frame(b []byte, hl, next, pad int, proto uint8, seq uint64) {
	trailer := b[len(b)-int(r.ICV)-espTrailer-pad:]
	for i := range pad {
		trailer[i] = uint8(i + 1)
	}
	trailer[pad], trailer[pad+1] = uint8(pad), proto
	esp := b[hl+int(r.UDP):]
	binary.NativeEndian.PutUint32(esp, r.SPIBE)
	binary.BigEndian.PutUint32(esp[4:], uint32(seq))
	if r.Prefix == espHeader+8 {
		binary.BigEndian.PutUint64(esp[8:], seq)
	}
	proto = protoESP
	if r.UDP != 0 {
		proto = protoUDP
		u := b[hl:]
		binary.NativeEndian.PutUint32(u, r.Ports)
		binary.BigEndian.PutUint32(u[4:], uint32(len(u))<<16)
	}
	header(b, hl, next, proto)
}

// header makes the IP header of b, which has hl octets, say what comes behind it, in
// its octet next, and how long b is.
func header(b []byte, hl, next int, proto uint8) {
	b[next] = proto
	if b[0]>>4 == 6 {
		pkt.IPv6(b).SetPayloadLen(len(b) - pkt.IPv6Len)
		return
	}
	pkt.IPv4(b).SetTotalLen(len(b))
	pkt.IPv4(b[:hl]).SetChecksum()
}

// place is where in an IP packet ESP goes, and the octet before it that says what
// comes there (RFC 4303 section 3.1.1): behind the header of IPv4 and its options;
// for IPv6 behind hop-by-hop options, routing headers and what belongs to these. Destination
// options for the last node are protected.
func place(b []byte) (hl, next int) {
	if b[0]>>4 == 4 {
		return pkt.IPv4(b).HeaderLen(), 9
	}
	hl, next = pkt.IPv6Len, 6
	for at, field := hl, next; at+8 <= len(b); {
		proto := b[field]
		if proto != pkt.ProtoHopByHop && proto != pkt.ProtoRouting && proto != pkt.ProtoDestOpts {
			break
		}
		field = at
		if at += 8 + 8*int(b[at+1]); at > len(b) {
			break
		}
		if proto != pkt.ProtoDestOpts || b[field] == pkt.ProtoRouting {
			hl, next = at, field
		}
	}
	return hl, next
}

// arrive goes on with a packet whose ICV was right and whose number is new, late by
// so many.
//
//go:noinline
func (w *worker) arrive(c *pipeline.Ctx, j *sal.Job, r *record, late uint64) {
	x := cookie(j.Cookie)
	off, size, octets, why := r.remove(c.Pool.Bytes(j.Desc), j)
	if why == drop.None {
		live := w.f.sad.live.line(r.live)
		_, why = w.count(c, r.live, live, &live.Packets, uint64(octets), c.Now-w.f.clock.base.Load())
	}
	if why != drop.None {
		w.drop(c, j.Desc, x.in(), r, why)
		return
	}
	if late != 0 {
		w.f.sad.late.At(r.live).accepted(late)
	}
	c.Reinject(sal.MakeDesc(j.Desc.Buf(), off, uint16(size)), x.in(), pipeline.FromSA(x.handle()))
}

// remove takes ESP out of a packet b that the engine has opened, the header moving
// to the payload. It gives where the packet begins now, its length, and the octets
// it carries; or why it must die: for its trailer, as in tunnel mode, or because of
// what is inside nothing can be made.
func (r *record) remove(b []byte, j *sal.Job) (off uint16, size, octets uint32, why drop.Reason) {
	hl := int(j.Off-j.Desc.Off()) - int(r.UDP)
	at := hl + int(r.UDP) + int(r.Prefix)
	text := b[at : at+int(j.Len)]
	n := len(text) - espTrailer // Open has seen that there is a trailer
	pad, proto := int(text[n]), text[n+1]
	if n -= pad; n < 0 {
		return 0, 0, 0, drop.ESPBadPad
	}
	for i, x := range text[n : n+pad] {
		if x != uint8(i+1) {
			return 0, 0, 0, drop.ESPBadPad
		}
	}
	v6 := r.Flags&recV6 != 0
	switch {
	case proto == nextDummy:
		return 0, 0, 0, drop.ESPDummy
	case v6 && (proto == pkt.ProtoHopByHop || proto == pkt.ProtoFragment): // their place is before ESP, and fragments are no whole packets
		return 0, 0, 0, drop.ESPBadNext
	}
	n = length(text[:n], proto)
	next := 9
	if v6 {
		o := pkt.Offsets{L4: uint16(hl)}
		next = o.NextHeaderAt(b)
	}
	copy(b[at-hl:at], b[:hl])
	b = b[at-hl : at+n]
	header(b, hl, next, proto)
	if r.UDP != 0 {
		mend(b, hl, proto)
	}
	return j.Desc.Off() + uint16(at-hl), uint32(len(b)), uint32(n), drop.None
}

// length is the length of a payload without the traffic-flow padding that may be
// behind it, where the payload tells (RFC 4303 section 2.7).
func length(b []byte, proto uint8) int {
	n := len(b)
	switch {
	case proto == protoUDP && n >= udpLen:
		n = int(pkt.UDP(b).Len())
	case proto == nextIPv4 && n >= pkt.IPv4Len:
		n = pkt.IPv4(b).TotalLen()
	case proto == nextIPv6 && n >= pkt.IPv6Len:
		n = pkt.IPv6Len + pkt.IPv6(b).PayloadLen()
	}
	if n > len(b) || n < udpLen { // whoever gets the packet will say what is wrong with it
		return len(b)
	}
	return n
}

// mend writes the checksum of what came in UDP: a NAT may have changed the
// addresses that are in it, and what they were before nobody says (RFC 3948 section
// 3.1.2 b). The ICV has told that the rest is as it was sent.
func mend(b []byte, hl int, proto uint8) {
	at, l4 := 0, b[hl:]
	switch proto {
	case pkt.ProtoTCP:
		at = 16
	case pkt.ProtoUDP:
		at = 6
	case pkt.ProtoICMPv6:
		at = 2
	}
	v6 := b[0]>>4 == 6
	if at == 0 || len(l4) < at+2 || proto == pkt.ProtoICMPv6 && !v6 {
		return
	}
	field := l4[at : at+2]
	if proto == pkt.ProtoUDP && binary.BigEndian.Uint16(field) == 0 {
		return // it had none
	}
	field[0], field[1] = 0, 0
	var sum pkt.Sum
	if v6 {
		sum = pkt.Pseudo6(pkt.IPv6(b).Src(), pkt.IPv6(b).Dst(), proto, len(l4))
	} else {
		sum = pkt.Pseudo4(pkt.IPv4(b).Src(), pkt.IPv4(b).Dst(), proto, len(l4))
	}
	x := sum.Add(l4).Checksum()
	if x == 0 && proto == pkt.ProtoUDP {
		x = 0xffff
	}
	binary.BigEndian.PutUint16(field, x)
}
