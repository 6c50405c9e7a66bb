package reass

import (
	"encoding/binary"

	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// stage stands behind the look-up, which knows own addresses, and before inbound
// policy: a piece that is not the first has no ports, and ESP in pieces cannot be
// opened.
type stage struct{}

// Walk implements pipeline.Stage.
func (stage) Walk(_ *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.Some&pipeline.FlagFragment == 0 {
		return idx
	}
	const both = pipeline.FlagFragment | pipeline.FlagOwn
	n := 0
	for _, i := range idx {
		i &= 255
		if from := v.From[i]; v.Flags[i]&both == both && !from.Local() && !from.Whole() {
			v.End(i, action.Reassemble, 0)
			continue
		}
		idx[n&255] = i
		n++
	}
	return idx[:n]
}

// sink takes the fragments. A datagram that becomes whole goes round, once more
// through everything that decides about it.
type sink struct{ f *Feature }

// Burst implements pipeline.Sink.
func (s sink) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	for _, i := range idx {
		s.f.take(c, v.IP(i), v.From[i&255], v.In[i&255])
	}
}

// take takes one fragment.
func (f *Feature) take(c *pipeline.Ctx, d sal.Desc, from pipeline.Origin, in pipeline.IfIndex) {
	w := &f.workers[c.Worker].whole
	var x fragment
	if why := read(c.Pool.Bytes(d), from, in, &x); why != drop.None {
		c.Drop(d, in, why)
		return
	}
	x.desc = d
	switch o, why := f.t.add(c, &x, c.Now, w); o {
	case refused:
		c.Drop(d, in, why)
	case done:
		w.deliver(c)
	}
}

// read says what a fragment is.
func read(b []byte, from pipeline.Origin, in pipeline.IfIndex, x *fragment) drop.Reason {
	o, bad := pkt.ParseIP(b)
	switch {
	case bad != pkt.OK && bad != pkt.ShortL4 && bad != pkt.BadL4Len || !o.Has(pkt.FirstFragment|pkt.LaterFragment):
		return drop.IPLength
	case o.Type == pkt.TypeIPv6:
		return read6(b, o, bad, from, in, x)
	}
	ip := pkt.IPv4(b)
	hl := ip.HeaderLen()
	x.head, x.more, x.ecn, x.in = uint16(hl), ip.MF(), ip.TOS()&3, in
	x.from = uint16(ip.FragOffset())
	x.end = x.from + uint16(ip.TotalLen()-hl)
	x.key = key{srcLo: uint64(binary.BigEndian.Uint32(b[12:])), dstLo: uint64(binary.BigEndian.Uint32(b[16:])), id: uint32(ip.ID()), proto: ip.Proto(), origin: origin(from)}
	if x.from == x.end {
		return drop.IPLength
	}
	return drop.None
}

func read6(b []byte, o pkt.Offsets, bad pkt.Problem, from pipeline.Origin, in pipeline.IfIndex, x *fragment) drop.Reason {
	at, _, ok := fragmentHeader(b)
	if !ok {
		return drop.IPExtension
	}
	h := b[at : at+8]
	word := binary.BigEndian.Uint16(h[2:])
	if word&^7 == 0 && (bad == pkt.ShortL4 || h[0] == pkt.ProtoFragment) {
		return drop.IPExtension // the first must have all headers (RFC 8200 section 4.5)
	}
	ip := pkt.IPv6(b)
	x.head, x.more, x.ecn, x.in = uint16(at+8), word&1 != 0, ip.TrafficClass()&3, in
	x.from = word &^ 7
	x.end = x.from + uint16(int(o.End)-at-8)
	x.key = key{srcHi: binary.BigEndian.Uint64(b[8:]), srcLo: binary.BigEndian.Uint64(b[16:]), dstHi: binary.BigEndian.Uint64(b[24:]),
		dstLo: binary.BigEndian.Uint64(b[32:]), id: binary.BigEndian.Uint32(h[4:]), v6: true, origin: origin(from)}
	if x.key.origin == 0 && (x.key.srcHi>>54 == 0xfe80>>6 || x.key.dstHi>>54 == 0xfe80>>6) {
		x.key.origin = uint32(in)
	}
	if x.from == x.end {
		return drop.IPLength
	}
	return drop.None
}

// origin keeps pieces that came out of an SA apart. Those in the clear may take
// different interfaces.
func origin(o pipeline.Origin) uint32 {
	if _, through := o.SA(); through {
		return uint32(o)
	}
	return 0
}

// fragmentHeader finds the fragment header of an IPv6 packet, and the next header
// field that names it.
func fragmentHeader(b []byte) (at, named int, ok bool) {
	next := b[6]
	for at, named = pkt.IPv6Len, 6; at+8 <= len(b); {
		switch next {
		case pkt.ProtoFragment:
			return at, named, true
		case pkt.ProtoHopByHop, pkt.ProtoRouting, pkt.ProtoDestOpts:
			named, next = at, b[at]
			at += 8 + 8*int(b[at+1])
		default:
			return 0, 0, false
		}
	}
	return 0, 0, false
}
