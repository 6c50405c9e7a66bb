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
type Out struct{ F *Feature }

// count has the packets of a flow counted for an entry.
func (q *policy) count(v *pipeline.Vec, i uint16) {
	if q.counter != 0 {
		v.Do(i, action.Count, q.counter)
	}
}

// see fills in what selectors look at. local tells which end is ours.
func see(v *pipeline.Vec, i uint16, p *packet, srcIsLocal bool) {
	var src, dst addr
	if v.V6 {
		src.hi, src.lo = v.Src6(i)
		dst.hi, dst.lo = v.DstIP6(i)
	} else {
		src.hi, dst.hi = uint64(v.Src4(i))<<32, uint64(v.DstIP4(i))<<32
	}
	p.v6, p.proto = v.V6, v.Proto(i)
	sp, dp := v.Ports(i)
	switch p.proto {
	case 6, 17, 33, 132, 136:
		p.noPorts = v.Flags[i]&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0
	default: // no ports to speak of; entries that want some do not match it
		p.noPorts = v.Flags[i]&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0
		sp, dp = 0, 0
	}
	if srcIsLocal {
		p.local, p.remote, p.lport, p.rport = src, dst, sp, dp
	} else {
		p.local, p.remote, p.lport, p.rport = dst, src, dp, sp
	}
}

// Walk implements pipeline.Stage.
func (s In) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	f := s.F
	spd := f.spd.Load()
	if spd.n == 0 && v.Same && !v.ESP {
		if _, through := v.From[idx[0]&255].SA(); !through {
			return idx // nothing here concerns the burst
		}
	}
	sels := *f.sels.Load()
	n := 0
	var p packet
	for _, i := range idx {
		if v.From[i].Local() {
			idx[n] = i
			n++
			continue
		}
		if h, through := v.From[i].SA(); through {
			see(v, i, &p, false)
			if sel := sels[h]; sel == nil || !sel.matches(&p, false) {
				v.Drop(i, drop.IPsecPolicyMismatch)
				continue
			}
			if q := spd.match(sal.Inbound, &p); q != nil && !(q.Action == Protect && q.ReqID == f.sad.at(h).reqid) {
				v.Drop(i, drop.IPsecPolicyMismatch)
				continue
			} else if q != nil {
				q.count(v, i)
			}
			idx[n] = i
			n++
			continue
		}
		if v.Proto(i) == protoESP {
			if f.esp(v, i) {
				continue
			}
			if v.Flags[i]&pipeline.FlagOwn != 0 {
				why := drop.ESPNoSA
				if v.Flags[i]&pipeline.FlagFragment != 0 {
					why = drop.ESPFragment
				}
				v.Drop(i, why)
				continue
			}
		}
		if spd.n > 0 {
			see(v, i, &p, false)
			if q := spd.match(sal.Inbound, &p); q != nil {
				switch q.Action {
				case Protect:
					v.Drop(i, drop.IPsecUnprotected)
					continue
				case Discard:
					q.count(v, i)
					v.Drop(i, drop.IPsecPolicyDiscard)
					continue
				}
				q.count(v, i)
			}
		}
		idx[n] = i
		n++
	}
	return idx[:n]
}

// esp ends an ESP packet whose SPI and outer addresses are those of an SA.
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
	var src, dst addr
	if v.V6 {
		src.hi, src.lo = v.Src6(i)
		dst.hi, dst.lo = v.DstIP6(i)
	} else {
		src.hi, dst.hi = uint64(v.Src4(i))<<32, uint64(v.DstIP4(i))<<32
	}
	if !f.sad.at(h).outer(src, dst, v.V6) {
		return false
	}
	v.End(i, action.Decrypt, h)
	return true
}

// Walk implements pipeline.Stage. Packets to own addresses must not get here.
func (s Out) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	f := s.F
	spd := f.spd.Load()
	if spd.n == 0 {
		return idx
	}
	sels := *f.sels.Load()
	n := 0
	var p packet
	for _, i := range idx {
		see(v, i, &p, true)
		q := spd.match(sal.Outbound, &p)
		if q == nil {
			idx[n] = i
			n++
			continue
		}
		q.count(v, i)
		switch q.Action {
		case Bypass:
			idx[n] = i
			n++
		case Discard:
			v.Drop(i, drop.IPsecPolicyDiscard)
		default:
			f.protect(v, i, q, &p, sels)
		}
	}
	return idx[:n]
}

// protect ends a packet in the newest SA of the policy that may carry it. Where
// there is none it is dropped: never in the clear.
func (f *Feature) protect(v *pipeline.Vec, i uint16, q *policy, p *packet, sels []*compiled) {
	if v.Flags[i]&pipeline.FlagLastHop != 0 && !v.From[i].Local() {
		v.Reject(i, pipeline.RejectTTL)
		return
	}
	for h := q.sa.Load(); h != 0; {
		r := f.sad.at(h)
		if sel := sels[h]; sel != nil && sel.matches(p, false) && (q.noTunnel || r.outer(q.tunRemote, q.tunLocal, q.tunV6)) {
			v.End(i, action.Encrypt, h)
			return
		}
		h = atomic.LoadUint32(&r.next)
	}
	v.Drop(i, drop.IPsecNoSA)
}
