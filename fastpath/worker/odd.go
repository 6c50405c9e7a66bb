package worker

import (
	"encoding/binary"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// odd looks carefully at an IP packet that the quick parse did not accept:
// broken, for somebody else, to a group, a fragment, with options or extension
// headers, of a protocol it does not know, or with its TTL used up. It says
// whether the packet walks; if not, it has been given away. Odd packets never
// make a flow.
func (w *Worker) odd(v *pipeline.Vec, i uint16) bool {
	c := w.ctx
	in := v.In[i]
	flags := pipeline.FlagNoCache
	if int(v.From[i])>>16 == 0 { // from a wire
		ok, group := w.toUs(v.Desc[i], in)
		if !ok {
			c.Drop(v.Desc[i], in, drop.RxOtherMAC)
			return false
		}
		if group {
			flags |= pipeline.FlagGroup
		}
	}
	frame := c.Pool.Bytes(v.Desc[i])
	o, bad := pkt.Parse(frame)
	switch bad {
	case pkt.OK, pkt.BadL4Len:
	case pkt.ShortL4:
		flags |= pipeline.FlagOpaque // not ours to judge, unless policy needs ports
	case pkt.BadOptions: // RFC 1812 section 4.3.3.5
		if flags&pipeline.FlagGroup != 0 {
			c.Drop(v.Desc[i], in, drop.IPOption)
		} else {
			c.Reject(v.IP(i), in, v.From[i], pipeline.RejectHeader, uint16(pkt.BadOption4(pkt.IPv4(frame[o.L3:]))))
		}
		return false
	default:
		c.Drop(v.Desc[i], in, reasonOf(bad))
		return false
	}
	if o.Has(pkt.HasOptions) {
		flags |= pipeline.FlagOptions
	}
	if o.Flags&(pkt.FirstFragment|pkt.LaterFragment) != 0 {
		flags |= pipeline.FlagFragment
	}
	l4 := frame[min(o.L4, o.End):o.End]
	if flags&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0 {
		l4 = nil
	}
	if w.clamps && o.Proto == pkt.ProtoTCP && pkt.TCPIsSYN(l4) {
		flags |= pipeline.FlagSYN
	}
	ports := portWord(o.Proto, l4)
	if v.V6 {
		ip := pkt.IPv6(frame[o.L3:])
		if o.Has(pkt.UnknownOption) && !w.option(v, i, ip, flags) {
			return false
		}
		if o.Has(pkt.SourceRoute) && pkt.RoutingType0(ip) && !w.own6(ip) {
			c.Drop(v.Desc[i], in, drop.IPSourceRoute) // to us: delivered, and refused there with an answer
			return false
		}
		if ip.HopLimit() <= 1 {
			flags |= pipeline.FlagLastHop
		}
		k := &v.K6[i]
		for j := range 4 {
			k[j] = binary.LittleEndian.Uint64(ip[8+8*j:])
		}
		k[4] = uint64(ports) | uint64(o.Proto)<<32 | uint64(v.From[i])<<40
		if flags&pipeline.FlagGroup != 0 && w.groupND(v, i, &o, frame) {
			return false
		}
	} else {
		ip := pkt.IPv4(frame[o.L3:])
		if o.Has(pkt.SourceRoute) {
			c.Drop(v.Desc[i], in, drop.IPSourceRoute)
			return false
		}
		if ip.TTL() <= 1 {
			flags |= pipeline.FlagLastHop
		}
		from := uint64(v.From[i])
		v.K4[i][0] = uint64(binary.LittleEndian.Uint32(ip[12:]))<<32 | from&0xffff<<16 | uint64(o.Proto)<<8 | from>>16
		v.K4[i][1] = uint64(ports)<<32 | uint64(binary.LittleEndian.Uint32(ip[16:]))
	}
	v.Flags[i] = flags
	return true
}

// option ends a packet with a hop-by-hop option that is unknown and may not be
// passed over; it may have to be told even if it went to a group (RFC 8200
// section 4.2).
func (w *Worker) option(v *pipeline.Vec, i uint16, ip pkt.IPv6, flags pipeline.Flags) bool {
	switch k, at, _ := pkt.Object6(ip, false); {
	case k == pkt.NoObjection:
		return true
	case k == pkt.TellAlways, k == pkt.Tell && flags&pipeline.FlagGroup == 0:
		w.ctx.Reject(v.IP(i), v.In[i], v.From[i], pipeline.RejectOption, uint16(at))
	default:
		w.ctx.Drop(v.Desc[i], v.In[i], drop.IPOption)
	}
	return false
}

// own6 tells whether a packet is addressed to the vRouter itself.
func (w *Worker) own6(ip pkt.IPv6) bool {
	h, _ := w.env.FIB.Path6(binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:]))
	return w.env.Adj.At(h).Kind() == pipeline.AdjReceive
}

// groupND hands neighbour solicitations and advertisements that came to a group
// to the control side. (Those to an own address are delivered as local.)
func (w *Worker) groupND(v *pipeline.Vec, i uint16, o *pkt.Offsets, frame []byte) bool {
	if o.Proto != pkt.ProtoICMPv6 || o.L4 >= o.End {
		return false
	}
	c := w.ctx
	switch frame[o.L4] {
	case pkt.ICMPv6NeighborSol, pkt.ICMPv6NeighborAdv:
		if f := c.Snap.Ifaces.At(v.In[i]); f == nil || !f.Enabled[pipeline.V6] {
			c.Drop(v.Desc[i], v.In[i], drop.FamilyOff)
			return true
		}
		c.ToControl(v.Desc[i], v.In[i], pipeline.CtlND, 0)
		return true
	case pkt.ICMPv6RouterSol:
		c.ToControl(v.Desc[i], v.In[i], pipeline.CtlRS, 0)
		return true
	case pkt.ICMPv6RouterAdv, pkt.ICMPv6Redirect:
		c.Drop(v.Desc[i], v.In[i], drop.NDIgnored)
		return true
	}
	return false
}

// portWord is what burst.Key4 keeps of the bytes behind the IP header.
func portWord(proto uint8, l4 []byte) uint32 {
	if len(l4) < 8 {
		return 0
	}
	switch proto {
	case pkt.ProtoTCP, pkt.ProtoUDP, pkt.ProtoSCTP, pkt.ProtoUDPLite, pkt.ProtoESP, 33: // DCCP
		return binary.LittleEndian.Uint32(l4)
	case pkt.ProtoICMP, pkt.ProtoICMPv6: // type, code, identifier
		return uint32(binary.LittleEndian.Uint16(l4)) | uint32(binary.LittleEndian.Uint16(l4[4:]))<<16
	}
	return 0
}

// toUs tells whether a frame is addressed to the interface or to a group, and
// counts the latter.
func (w *Worker) toUs(d sal.Desc, in pipeline.IfIndex) (ok, group bool) {
	c := w.ctx
	if d.Len() < pkt.EthernetLen {
		return true, false // the parse will say that it is too short
	}
	dst := mem.Load64(mem.At(c.Pool.Addr(d)), 0) & 0xffff_ffff_ffff
	if dst&1 != 0 {
		cnt := c.Ifs().Count.At(uint32(in))
		if dst == 0xffff_ffff_ffff {
			pipeline.Add(&cnt.RxBroadcast, 1)
		} else {
			pipeline.Add(&cnt.RxMulticast, 1)
		}
		return true, true
	}
	f := c.Snap.Ifaces.At(in)
	return f != nil && f.MACWord == dst, false
}

// other takes a frame that is neither IPv4 nor IPv6 by its type.
func (w *Worker) other(d sal.Desc, q *rxQueue) {
	c := w.ctx
	ok, _ := w.toUs(d, q.index)
	if !ok {
		c.Drop(d, q.index, drop.RxOtherMAC)
		return
	}
	o, bad := pkt.Parse(c.Pool.Bytes(d))
	switch {
	case bad == pkt.ShortFrame:
		c.Drop(d, q.index, drop.RxTooShort)
	case o.Tags > 0 || bad == pkt.TooManyTags:
		c.Drop(d, q.index, drop.RxVLAN)
	case bad != pkt.OK:
		c.Drop(d, q.index, reasonOf(bad))
	case o.Type == pkt.TypeARP:
		if f := c.Snap.Ifaces.At(q.index); f == nil || !f.Enabled[pipeline.V4] {
			c.Drop(d, q.index, drop.FamilyOff)
			return
		}
		c.ToControl(d, q.index, pipeline.CtlARP, 0)
	default:
		c.Drop(d, q.index, drop.RxEtherType)
	}
}

// reasonOf is the drop reason for what the parser found.
func reasonOf(p pkt.Problem) drop.Reason {
	switch p {
	case pkt.ShortFrame, pkt.ShortIP:
		return drop.RxTooShort
	case pkt.LongFrame:
		return drop.RxTooBig
	case pkt.TooManyTags:
		return drop.RxVLAN
	case pkt.BadARP:
		return drop.ARPBad
	case pkt.BadVersion:
		return drop.IPVersion
	case pkt.BadHeaderLen, pkt.BadOptions:
		return drop.IPHeaderLength
	case pkt.BadTotalLen, pkt.BadFragment:
		return drop.IPLength
	case pkt.BadHeaderChecksum:
		return drop.IPChecksum
	case pkt.BadExtension:
		return drop.IPExtension
	}
	return drop.IPLength
}
