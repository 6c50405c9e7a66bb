package route

import (
	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/pkt"
)

// lookup is the first stage: it drops addresses that no packet may have (RFC
// 1812 sections 5.3.7 and 4.2.2.11, RFC 4291 section 2) and finds the route of
// all others in one burst of the FIB. v.Adj gets the adjacency, packets to an
// own address FlagOwn.
type lookup struct{ f *Feature }

// What an address's first byte says.
const (
	plain = iota
	never
	multicast
	linkLocal4 // perhaps: 169.254.0.0/16
)

// class4 is by the first byte of an IPv4 address, class6 of an IPv6 address.
var class4, class6 = func() (c4, c6 [256]uint8) {
	c4[0], c4[127] = never, never
	c4[169] = linkLocal4
	for i := 224; i < 240; i++ {
		c4[i] = multicast
	}
	for i := 240; i < 256; i++ {
		c4[i] = never
	}
	c6[0] = never // ::, ::1, mapped and other addresses of no link
	c6[0xfe] = never
	c6[0xff] = multicast
	return
}()

// Walk implements pipeline.Stage.
func (s lookup) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.V6 {
		return s.walk6(c, v, idx)
	}
	if len(idx) == v.N && v.Same && v.Some == 0 && s.whole(c, v, idx) {
		return idx
	}
	n := 0
	own := s.f.own
	esp := uint32(0)
	for _, i := range idx {
		i &= 255
		src, dst := v.Src4(i), v.DstIP4(i)
		esp |= uint32(v.Proto4(i)^pkt.ProtoESP) - 1 // bit 31 when it is
		if class4[src>>24]|class4[dst>>24] != 0 || own.may(hash4(src)) || v.Flags[i]&pipeline.FlagGroup != 0 {
			if r := s.refuse4(v, i, src, dst); r != drop.None {
				v.Drop(i, r)
				continue
			}
		}
		v.Dst4[n&255] = dst
		idx[n&255] = i
		n++
	}
	v.ESP = esp>>31 != 0
	idx = idx[:n]
	s.f.v4.LookupBurst(v.Dst4[:n], v.Out[:n])
	adjs := c.Env.Adj
	kinds := uint16(0)
	for k, i := range idx {
		i &= 255
		h := v.Out[k&255]
		v.Adj[i] = h
		kind := adjs.At(h).Kind()
		kinds |= 1 << (kind & 15)
		if kind == pipeline.AdjReceive {
			v.Flags[i] |= pipeline.FlagOwn
			v.Some |= pipeline.FlagOwn
		}
	}
	if kinds&(1<<pipeline.AdjGroup) != 0 {
		kinds = s.f.groups.spread(c, v, idx, kinds)
	}
	v.Kinds = kinds
	return idx
}

// whole is Walk for a burst of which every packet is in the list and none is
// out of the ordinary; false: some is, and nothing has been done.
func (s lookup) whole(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) bool {
	n := v.N
	key, dst4, adj := v.K4[:n], v.Dst4[:n], v.Adj[:n]
	own := s.f.own
	odd, esp := uint8(0), uint32(0)
	for i := range key {
		src, dst := burst.SrcIP4(&key[i]), burst.DstIP4(&key[i])
		dst4[i] = dst
		odd |= class4[src>>24] | class4[dst>>24] | own.bit(hash4(src))
		esp |= uint32(uint8(key[i][0]>>8)^pkt.ProtoESP) - 1 // bit 31 when it is
	}
	if odd != 0 {
		return false
	}
	v.ESP = esp>>31 != 0
	s.f.v4.LookupBurst(dst4, adj)
	adjs := c.Env.Adj
	kinds := uint16(0)
	for i := range adj {
		kinds |= 1 << (adjs.At(adj[i]).Kind() & 15)
	}
	if kinds&(1<<pipeline.AdjReceive) != 0 {
		for i := range adj {
			if adjs.At(adj[i]).Kind() == pipeline.AdjReceive {
				v.Flags[i] |= pipeline.FlagOwn
			}
		}
		v.Some |= pipeline.FlagOwn
	}
	if kinds&(1<<pipeline.AdjGroup) != 0 {
		kinds = s.f.groups.spread(c, v, idx, kinds)
	}
	v.Kinds = kinds
	return true
}

// refuse4 says why a packet is dropped for its addresses, None if it is not.
func (s lookup) refuse4(v *pipeline.Vec, i uint16, src, dst uint32) drop.Reason {
	c, d := class4[src>>24], class4[dst>>24]
	if src>>16 == 169<<8|254 || dst>>16 == 169<<8|254 {
		v.Flags[i] |= pipeline.FlagLinkLocal
		v.Some |= pipeline.FlagLinkLocal
	}
	switch {
	case dst == 0xffffffff:
		return drop.IPBroadcast
	case d == multicast:
		return drop.IPMulticast
	case d == never:
		return drop.IPDestination
	case c != plain && c != linkLocal4:
		return drop.IPSource
	case v.Flags[i]&pipeline.FlagGroup != 0:
		return drop.IPBroadcast
	case !v.From[i].Local() && s.f.env.Adj.At(s.f.v4.Lookup(src)).Kind() == pipeline.AdjReceive:
		return drop.IPSourceOwn
	}
	return drop.None
}

func (s lookup) walk6(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	n, m := 0, 0
	own := s.f.own
	v.ESP = true // not looked for
	adjs := c.Env.Adj
	for _, i := range idx {
		i &= 255
		shi, slo := v.Src6(i)
		hi, lo := v.DstIP6(i)
		if class6[shi>>56]|class6[hi>>56] != 0 || own.may(hash6(shi, slo)) || v.Flags[i]&pipeline.FlagGroup != 0 {
			r, done := s.special6(c, v, i, shi, slo, hi, lo)
			if r != drop.None {
				v.Drop(i, r)
				continue
			}
			if done { // link-local: not a matter of the FIB
				if nd(v, i) {
					v.End(i, action.Local, 0)
					continue
				}
				idx[n&255] = i
				n++
				continue
			}
		}
		v.DstH[m&255], v.DstL[m&255] = hi, lo
		v.Dst4[m&255] = uint32(n)
		idx[n&255] = i
		n++
		m++
	}
	idx = idx[:n]
	s.f.v6.LookupBurst(v.DstH[:m], v.DstL[:m], v.Out[:m])
	nds := 0
	for k := range m {
		i := idx[v.Dst4[k&255]&255] & 255
		h := v.Out[k&255]
		v.Adj[i] = h
		kind := adjs.At(h).Kind()
		v.Kinds |= 1 << (kind & 15)
		if kind == pipeline.AdjReceive {
			v.Flags[i] |= pipeline.FlagOwn
			v.Some |= pipeline.FlagOwn
			if nd(v, i) {
				nds++
			}
		}
	}
	if v.Kinds&(1<<pipeline.AdjGroup) != 0 {
		v.Kinds = s.f.groups.spread(c, v, idx, v.Kinds)
	}
	if nds == 0 {
		return idx
	}
	n = 0
	for _, i := range idx {
		if v.Flags[i&255]&pipeline.FlagOwn != 0 && nd(v, i) {
			v.End(i, action.Local, 0)
			continue
		}
		idx[n&255] = i
		n++
	}
	return idx[:n]
}

// nd tells whether a packet is neighbour discovery, which never leaves its link
// and passes IPsec's policies as IKE does: without it no protected packet could
// be sent. Hop limit 255 is checked where it is read.
func nd(v *pipeline.Vec, i uint16) bool {
	if v.Proto(i) != pkt.ProtoICMPv6 || v.From[i&255].Local() {
		return false
	}
	t := uint8(v.K6[i&255][4])
	return t >= pkt.ICMPv6RouterSol && t <= pkt.ICMPv6Redirect
}

// special6 says why a packet is dropped for its addresses; done: its
// destination is link-local, and v.Adj and FlagOwn are set.
func (s lookup) special6(c *pipeline.Ctx, v *pipeline.Vec, i uint16, shi, slo, hi, lo uint64) (r drop.Reason, done bool) {
	local := v.From[i].Local()
	switch {
	case hi>>56 == 0xff:
		return drop.IPMulticast, false
	case class6[hi>>56] == never && !linkLocal(hi) && !translated(hi):
		return drop.IPDestination, false
	case class6[shi>>56] != plain && !linkLocal(shi) && !translated(shi):
		return drop.IPSource, false
	case v.Flags[i]&pipeline.FlagGroup != 0:
		return drop.IPBroadcast, false
	case !local && !linkLocal(shi) && s.f.env.Adj.At(s.f.v6.Lookup(shi, slo)).Kind() == pipeline.AdjReceive && !s.f.env.Tentative.Load().HasAny(shi, slo):
		return drop.IPSourceOwn, false
	}
	if !linkLocal(hi) {
		return drop.None, false
	}
	x := c.Snap.Ifaces.At(v.In[i])
	if x == nil {
		return drop.Unconfigured, false
	}
	if is6(x.LinkLocal, hi, lo) || ownIn(x, hi, lo) {
		v.Flags[i] |= pipeline.FlagOwn
		v.Some |= pipeline.FlagOwn
		return drop.None, true
	}
	if !local {
		return drop.IPLinkLocal, false
	}
	v.Adj[i] = s.f.env.Neigh.Glean(x, true)
	v.Kinds |= 1 << pipeline.AdjGlean
	return drop.None, true
}

// translated tells addresses that stand for IPv4 ones (64:ff9b::/96 and
// 64:ff9b:1::/48, RFC 6052 and 8215): the one part of ::/8 that is routed.
func translated(hi uint64) bool { return hi>>32 == 0x0064ff9b }

func linkLocal(hi uint64) bool { return hi>>54 == 0xfe80>>6 }

// local is the second half of the look-up, behind the inbound policy: it takes
// what is for the vRouter itself, and refuses what may not be forwarded.
type local struct{}

// Walk implements pipeline.Stage.
func (local) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	fam := pipeline.V4
	if v.V6 {
		fam = pipeline.V6
	}
	if i := idx[0] & 255; v.Same && !v.V6 && v.Some&(pipeline.FlagOwn|pipeline.FlagLastHop|pipeline.FlagLinkLocal) == 0 && v.From[i] == pipeline.FromIface(v.In[i]) {
		if x := c.Snap.Ifaces.At(v.In[i]); x != nil && x.Forward[fam] {
			return idx
		}
	}
	n := 0
	last, forward := pipeline.IfIndex(0), false
	for _, i := range idx {
		i &= 255
		flags, from := v.Flags[i], v.From[i]
		switch {
		case from.Local():
			if flags&pipeline.FlagOwn != 0 {
				v.Drop(i, drop.IPDestination)
				continue
			}
		case flags&pipeline.FlagOwn != 0:
			v.End(i, action.Local, 0)
			continue
		default:
			if _, through := from.SA(); !through {
				if v.In[i] != last {
					last = v.In[i]
					x := c.Snap.Ifaces.At(last)
					forward = x != nil && x.Forward[fam]
				}
				if !forward {
					v.Drop(i, drop.ForwardingOff)
					continue
				}
			}
			if flags&pipeline.FlagLinkLocal != 0 {
				v.Drop(i, drop.IPLinkLocal)
				continue
			}
			if flags&pipeline.FlagLastHop != 0 {
				v.Reject(i, pipeline.RejectTTL)
				continue
			}
			if v.V6 {
				if hi, _ := v.Src6(i); linkLocal(hi) { // RFC 4291 section 2.5.6, RFC 4443 section 3.1
					v.Reject(i, pipeline.RejectScope)
					continue
				}
			}
		}
		idx[n&255] = i
		n++
	}
	return idx[:n]
}

// reach is the third: routes that lead nowhere.
type reach struct{}

// Walk implements pipeline.Stage.
func (reach) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.Kinds&^(1<<pipeline.AdjNeighbour|1<<pipeline.AdjGlean) == 0 {
		return idx
	}
	adjs := c.Env.Adj
	n := 0
	for _, i := range idx {
		i &= 255
		if k := adjs.At(v.Adj[i]).Kind(); k == pipeline.AdjNeighbour || k == pipeline.AdjGlean {
			idx[n&255] = i
			n++
			continue
		} else {
			nowhere(v, i, k)
		}
	}
	return idx[:n]
}

func nowhere(v *pipeline.Vec, i uint16, k pipeline.AdjKind) {
	switch k {
	case pipeline.AdjBlackhole:
		v.Drop(i, drop.Blackhole)
	case pipeline.AdjUnreachable:
		v.Reject(i, pipeline.RejectHost)
	case pipeline.AdjProhibit:
		v.Reject(i, pipeline.RejectProhibited)
	case pipeline.AdjReceive:
		v.Drop(i, drop.IPDestination)
	default:
		v.Reject(i, pipeline.RejectNoRoute)
	}
}
