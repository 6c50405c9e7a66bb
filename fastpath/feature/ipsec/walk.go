package ipsec

import (
	"sync/atomic"

	"vrouter/fastpath/action"
	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// In is the stage for packets that come in: ESP for an SA of ours is to be
// opened; what came out of an SA must be what the SA and the inbound SPD allow
// (RFC 4301 section 5.2); what came in the clear must not be what the inbound
// SPD wants protected.
type In struct{ F *Feature }

// Out is the stage for packets that will leave: the outbound SPD (RFC 4301
// section 5.1). It stands before the look-up of the inner route, because the
// packet that leaves is the outer one.
//
// Where no entry matches, packets pass in the clear, as with Linux and
// strongSwan: the vRouter's SPD is global and knows no protected side, so RFC
// 4301's "discard what does not match" would discard the packets of every
// other network. An entry Discard at the end of the SPD gives that behaviour.
//
// IKE of the vRouter itself, UDP from or to its ports 500 and 4500, passes such an
// entry in both directions, so that no SPD keeps its own SAs from being made
// (RFC 4301 section 4.4.1). Only an entry that names ports of UDP has a say in it.
type Out struct{ F *Feature }

// count has the packets of a flow counted for an entry.
func (q *policy) count(v *pipeline.Vec, i uint16) {
	if q.counter != 0 {
		v.Do(i, action.Count, q.counter)
	}
}

// see fills in what selectors look at. srcIsLocal tells which end is ours. All of it
// is in the key of the packet's flow: type and code of ICMP as well as ports.
func see(v *pipeline.Vec, i uint16, p *packet, srcIsLocal bool) {
	src, dst := addrs(v, i)
	p.v6, p.proto, p.ike = v.V6, v.Proto(i), false
	hidden := v.Flags[i]&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0
	p.noPorts, p.noProto = hidden, hidden && v.V6 && isExtension(p.proto)
	sp, dp := v.Ports(i)
	if isICMP(p.proto, p.v6) {
		dp = sp // type and code; in dp is the identifier
	}
	if srcIsLocal {
		p.local, p.remote, p.lport, p.rport = src, dst, sp, dp
	} else {
		p.local, p.remote, p.lport, p.rport = dst, src, dp, sp
	}
}

// addrs are a packet's addresses.
func addrs(v *pipeline.Vec, i uint16) (src, dst addr) {
	if v.V6 {
		src.hi, src.lo = v.Src6(i)
		dst.hi, dst.lo = v.DstIP6(i)
	} else {
		src.hi, dst.hi = uint64(v.Src4(i))<<32, uint64(v.DstIP4(i))<<32
	}
	return src, dst
}

// isExtension tells whether a next header is an IPv6 extension header: a later
// fragment that begins with one does not tell its upper protocol.
func isExtension(proto uint8) bool {
	switch proto {
	case 0, 43, 44, 51, 60, 135, 139, 140:
		return true
	}
	return false
}

// Walk implements pipeline.Stage.
func (s In) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	f := s.F
	spd := f.spd.Load()
	ports := f.ports.Load()
	if spd.n == 0 && v.Same && !v.ESP && ports == nil {
		if _, through := v.From[idx[0]&255].SA(); !through {
			return idx // no policy, no ESP, not out of an SA: nothing to see here
		}
	}
	n := 0
	var p packet
	for _, i := range idx {
		i &= 255
		from := v.From[i]
		if from.Local() {
			idx[n] = i
			n++
			continue
		}
		h, through := from.SA()
		esp := v.Proto(i) == protoESP
		if through {
			see(v, i, &p, false)
			if !f.allowed(v, i, h, &p, spd) {
				continue
			}
			f.clamp(c, v, i, h, f.sad.at(h))
		}
		if ports != nil && v.Proto(i) == protoUDP && v.Flags[i]&pipeline.FlagOwn != 0 && ports.has(v, i) {
			v.End(i, action.Unwrap, 0) // IKE as well: no policy may capture it
			continue
		}
		if esp {
			if f.esp(v, i) {
				continue
			}
			if v.Flags[i]&pipeline.FlagOwn != 0 {
				why := drop.ESPNoSA
				if v.Flags[i]&pipeline.FlagFragment != 0 {
					why = drop.ESPFragment
				} else {
					f.workers[c.Worker].badSPI(c, v, i, v.SPI(i))
				}
				v.Drop(i, why)
				continue
			}
		}
		if !through && spd.n > 0 {
			see(v, i, &p, false)
			p.ike = v.Flags[i]&pipeline.FlagOwn != 0 && p.isIKE()
			if !inClear(v, i, &p, spd) {
				continue
			}
		}
		idx[n] = i
		n++
	}
	return idx[:n]
}

// allowed tells whether a packet may have come through SA h: it must be inside
// the SA's selectors, and where the SPD has something to say that must be "protect
// it by this SA's ReqID, in its mode". It ends those that may not.
func (f *Feature) allowed(v *pipeline.Vec, i uint16, h uint32, p *packet, spd *spd) bool {
	r := f.sad.at(h)
	sel := f.sels[h]
	if sel != nil && sel.matches(p, false) && (sel.mode == Tunnel || v.Flags[i]&pipeline.FlagOwn != 0) {
		q := spd.match(sal.Inbound, p)
		if q == nil {
			return true
		}
		if q.Action == Protect && q.ReqID == r.reqid && q.Mode == sel.mode {
			q.count(v, i)
			return true
		}
	}
	if r.mismatch != 0 {
		v.Do(i, action.Count, r.mismatch)
	}
	v.Drop(i, drop.IPsecPolicyMismatch)
	return false
}

// inClear tells whether a packet may come in the clear, and ends it if not.
func inClear(v *pipeline.Vec, i uint16, p *packet, spd *spd) bool {
	q := spd.match(sal.Inbound, p)
	if q == nil {
		return true
	}
	switch q.Action {
	case Bypass:
		q.count(v, i)
		return true
	case Discard:
		q.count(v, i)
		v.Drop(i, drop.IPsecPolicyDiscard)
	default:
		v.Drop(i, drop.IPsecUnprotected)
	}
	return false
}

// esp ends an ESP packet whose SPI and outer addresses are those of an SA, which
// must be one of bare ESP. One in transport mode is only for packets to an own
// address (RFC 4301 section 4.1).
// Any other is dropped where it is for an own address, else it is somebody
// else's and is forwarded.
func (f *Feature) esp(v *pipeline.Vec, i uint16) bool {
	if v.Flags[i]&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0 {
		return false
	}
	h := f.sad.bySPI.find(v.SPI(i))
	if h == 0 {
		return false
	}
	src, dst := addrs(v, i)
	r := f.sad.at(h)
	if !r.outer(src, dst, v.V6) || r.Flags&recTransport != 0 && v.Flags[i]&pipeline.FlagOwn == 0 {
		return false
	}
	if r.UDP != 0 {
		v.Drop(i, drop.ESPEncapsulation)
		return true
	}
	v.End(i, action.Decrypt, h)
	return true
}

// badSPI tells the control side of an SPI that no SA has: one in a while only,
// so that no flood of them fills the way that others need.
func (w *worker) badSPI(c *pipeline.Ctx, v *pipeline.Vec, i uint16, spi uint32) {
	if v.Flags[i]&pipeline.FlagOpaque == 0 && c.Now >= w.mute {
		w.mute = c.Now + muteFor
		c.ToControl(pipeline.NoBuf, v.In[i], pipeline.CtlSPI, spi)
	}
}

// muteFor is how long a worker says nothing of further SPIs, in nanoseconds.
const muteFor = 10e6

// Walk implements pipeline.Stage. Packets to own addresses must not get here.
func (s Out) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	f := s.F
	spd := f.spd.Load()
	if spd.n == 0 && len(idx) > 0 && !v.From[idx[0]&255].Local() { // what is made here comes in bursts of its own
		return idx
	}
	n := 0
	var p packet
	for _, i := range idx {
		i &= 255
		see(v, i, &p, true)
		p.ike = v.From[i] == pipeline.FromLocal && p.isIKE()
		q := spd.match(sal.Outbound, &p)
		if q != nil {
			q.count(v, i)
		}
		switch {
		case q != nil && q.Action == Protect:
			f.protect(c, v, i, q, &p)
		case q != nil && q.Action == Discard:
			v.Drop(i, drop.IPsecPolicyDiscard)
		case v.From[i] == pipeline.FromLocalSA:
			// It answers or quotes a packet that came protected (RFC 4301 section
			// 6): nobody else may read it, whatever the SPD lets pass.
			v.Drop(i, drop.IPsecNoSA)
		default:
			idx[n] = i
			n++
		}
	}
	return idx[:n]
}

// protect ends a packet in the newest SA of the policy that may carry it and has
// not ended. Where there is none it is dropped: never in the clear.
//
// Transport mode is for whole packets that the vRouter itself has made (RFC 4301
// section 4.1, RFC 4303 section 3.3.4). Others that its policies match are dropped.
func (f *Feature) protect(c *pipeline.Ctx, v *pipeline.Vec, i uint16, q *policy, p *packet) {
	if q.Mode == Transport {
		switch {
		case !v.From[i].Local():
			v.Drop(i, drop.IPsecTransit)
			return
		case v.Flags[i]&pipeline.FlagFragment != 0:
			v.Drop(i, drop.IPsecFragment)
			return
		}
	}
	why, ended := drop.IPsecNoSA, uint32(0)
	for h := q.sa.Load(); h != 0; {
		r := f.sad.at(h)
		if sel := f.sels[h]; sel != nil && sel.mode == q.Mode && (q.noTunnel || sel.ends == q.ends) {
			switch {
			case !sel.matches(p, false):
			case atomic.LoadUint32(&r.down)&recEnded == 0:
				f.clamp(c, v, i, h, r)
				v.End(i, action.Encrypt, h)
				return
			case ended == 0:
				ended = h
			}
			if p.noPorts && sel.matches(p, true) {
				why = drop.IPsecOpaque
			}
		}
		h = atomic.LoadUint32(&r.next)
	}
	if ended != 0 {
		v.End(i, action.Encrypt, ended) // to be dropped there, and counted
		return
	}
	v.Drop(i, why)
}
