package route

import (
	"encoding/binary"
	"net/netip"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// An ICMP error that is sent for a Reject.
type message struct{ typ, code uint8 }

var (
	errors4 = [pipeline.Rejects]message{
		pipeline.RejectTTL:        {pkt.ICMPv4TimeExceeded, pkt.ICMPv4TTLExceeded},
		pipeline.RejectNoRoute:    {pkt.ICMPv4Unreachable, pkt.ICMPv4NetUnreachable},
		pipeline.RejectHost:       {pkt.ICMPv4Unreachable, pkt.ICMPv4HostUnreachable},
		pipeline.RejectNeighbour:  {pkt.ICMPv4Unreachable, pkt.ICMPv4HostUnreachable},
		pipeline.RejectProhibited: {pkt.ICMPv4Unreachable, pkt.ICMPv4AdminProhibited},
		pipeline.RejectTooBig:     {pkt.ICMPv4Unreachable, pkt.ICMPv4FragNeeded},
		pipeline.RejectProtocol:   {pkt.ICMPv4Unreachable, pkt.ICMPv4ProtoUnreachable},
		pipeline.RejectPort:       {pkt.ICMPv4Unreachable, pkt.ICMPv4PortUnreachable},
		pipeline.RejectPolicy:     {pkt.ICMPv4Unreachable, pkt.ICMPv4AdminProhibited},
		pipeline.RejectReassembly: {pkt.ICMPv4TimeExceeded, pkt.ICMPv4ReassemblyExceeded},
		pipeline.RejectHeader:     {pkt.ICMPv4ParamProblem, 0},
	}
	errors6 = [pipeline.Rejects]message{
		pipeline.RejectTTL:        {pkt.ICMPv6TimeExceeded, pkt.ICMPv6HopLimitExceeded},
		pipeline.RejectNoRoute:    {pkt.ICMPv6Unreachable, pkt.ICMPv6NoRoute},
		pipeline.RejectHost:       {pkt.ICMPv6Unreachable, pkt.ICMPv6AddrUnreachable},
		pipeline.RejectNeighbour:  {pkt.ICMPv6Unreachable, pkt.ICMPv6AddrUnreachable},
		pipeline.RejectProhibited: {pkt.ICMPv6Unreachable, pkt.ICMPv6AdminProhibited},
		pipeline.RejectTooBig:     {pkt.ICMPv6TooBig, 0},
		pipeline.RejectProtocol:   {pkt.ICMPv6ParamProblem, pkt.ICMPv6UnknownNextHeader},
		pipeline.RejectPort:       {pkt.ICMPv6Unreachable, pkt.ICMPv6PortUnreachable},
		pipeline.RejectPolicy:     {pkt.ICMPv6Unreachable, pkt.ICMPv6AdminProhibited},
		pipeline.RejectReassembly: {pkt.ICMPv6TimeExceeded, pkt.ICMPv6ReassemblyExceeded},
		pipeline.RejectHeader:     {pkt.ICMPv6ParamProblem, pkt.ICMPv6BadHeader},
		pipeline.RejectScope:      {pkt.ICMPv6Unreachable, pkt.ICMPv6BeyondScope},
		pipeline.RejectOption:     {pkt.ICMPv6ParamProblem, pkt.ICMPv6UnknownOption},
	}
)

// Errors turns rejected packets into ICMP errors where that may be (RFC 1812
// section 4.3.2, RFC 4443 section 2.4), and frees them. The errors then take
// the way of all packets that the vRouter makes: outbound policy, routing.
func (f *Feature) Errors(c *pipeline.Ctx) {
	e := &c.Error
	n := e.N
	for k := range n {
		d := e.Desc[k]
		if !e.From[k].Local() {
			b := c.Pool.Bytes(d)
			if len(b) > 0 && b[0]>>4 == 6 {
				f.error6(c, k, b)
			} else {
				f.error4(c, k, b)
			}
		}
		c.Free(d)
	}
	e.N = 0
}

func (f *Feature) error4(c *pipeline.Ctx, k int, b []byte) {
	e := &c.Error
	o, bad := pkt.ParseIP(b)
	ip := pkt.IPv4(b)
	switch {
	case o.Type != pkt.TypeIPv4:
		return
	case bad == pkt.BadOptions && e.Why[k] == pipeline.RejectHeader && ip.FragOffset() == 0 && int(o.End-o.L4) >= pkt.ICMPLen:
	case bad != pkt.OK && bad != pkt.BadL4Len:
		return // cut off: it may be an ICMP error itself
	}
	src := binary.BigEndian.Uint32(ip[12:])
	if !pkt.MayErrorV4(&o, ip) || class4[src>>24] != plain || f.receives4(src) || !f.limits[c.Worker].take(e.In[k], c.Now) {
		return
	}
	var from netip.Addr
	dst := binary.BigEndian.Uint32(ip[16:])
	if spokenTo(e.Why[k]) || f.receives4(dst) {
		from = ip.DstAddr() // who was spoken to answers (RFC 1122 section 3.2.1.3)
	} else {
		from = f.source(c, e.In[k], e.From[k], pipeline.V4, f.v4.Lookup(dst))
	}
	if !from.Is4() {
		return
	}
	rest := uint32(e.MTU[k])
	if e.Why[k] == pipeline.RejectHeader {
		rest <<= 24
	}
	m := errors4[e.Why[k]]
	buf, ok := c.Alloc()
	if !ok {
		return
	}
	d := sal.MakeDesc(buf, sal.Headroom, sal.MaxFrame)
	size := pkt.ICMPv4Error(c.Pool.Bytes(d), from.As4(), m.typ, m.code, rest, ip[:o.End])
	f.send(c, d, size, e.In[k], e.From[k])
}

// spokenTo tells errors of the packet's destination itself.
func spokenTo(r pipeline.Reject) bool {
	return r == pipeline.RejectPort || r == pipeline.RejectProtocol || r == pipeline.RejectReassembly
}

func (f *Feature) error6(c *pipeline.Ctx, k int, b []byte) {
	e := &c.Error
	o, bad := pkt.ParseIP(b)
	if bad != pkt.OK && bad != pkt.BadL4Len || o.Type != pkt.TypeIPv6 {
		return
	}
	ip := pkt.IPv6(b)
	hi, lo := binary.BigEndian.Uint64(ip[8:]), binary.BigEndian.Uint64(ip[16:])
	why := e.Why[k]
	if !pkt.MayErrorV6(&o, ip, why == pipeline.RejectTooBig || why == pipeline.RejectOption) || f.receives6(hi, lo) || !f.limits[c.Worker].take(e.In[k], c.Now) {
		return
	}
	var from netip.Addr
	dhi, dlo := binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:])
	if spokenTo(why) || f.receives6(dhi, dlo) {
		a, ok := speaker6(c, ip)
		if !ok {
			return
		}
		from = netip.AddrFrom16(a)
	} else {
		from = f.source(c, e.In[k], e.From[k], pipeline.V6, f.v6.Lookup(dhi, dlo))
	}
	if x := c.Snap.Ifaces.At(e.In[k]); linkLocal(hi) && x != nil {
		from = x.LinkLocal
	}
	if !from.Is6() || c.Env.Tentative.Load().HasAddr(e.In[k], from) {
		return
	}
	rest := uint32(0)
	switch why {
	case pipeline.RejectTooBig, pipeline.RejectHeader, pipeline.RejectOption:
		rest = uint32(e.MTU[k])
	case pipeline.RejectProtocol: // RFC 4443 section 3.4
		rest = uint32(o.NextHeaderAt(ip))
	}
	m := errors6[why]
	buf, ok := c.Alloc()
	if !ok {
		return
	}
	d := sal.MakeDesc(buf, sal.Headroom, sal.MaxFrame)
	size := pkt.ICMPv6Error(c.Pool.Bytes(d), from.As16(), m.typ, m.code, rest, ip[:o.End])
	f.send(c, d, size, e.In[k], e.From[k])
}

// send lets an error go the way of what the vRouter makes. One that quotes a
// packet out of an SA must not show it to anybody else.
func (f *Feature) send(c *pipeline.Ctx, d sal.Desc, size int, in pipeline.IfIndex, about pipeline.Origin) {
	if size == 0 {
		c.Free(d)
		return
	}
	c.Reinject(sal.MakeDesc(d.Buf(), d.Off(), uint16(size)), in, about.Answer())
}

// source is the own address that an error comes from: that of the interface on
// which the packet came in. A packet that came through an SA is answered from
// the side it was going to, whose addresses the SA's selectors usually cover,
// so that the answer goes back protected.
func (f *Feature) source(c *pipeline.Ctx, in pipeline.IfIndex, from pipeline.Origin, fam int, towards uint32) netip.Addr {
	if _, through := from.SA(); through {
		if x := c.Snap.Ifaces.At(c.Env.Adj.At(towards).If()); x != nil && x.Src[fam].IsValid() {
			return x.Src[fam]
		}
	}
	if x := c.Snap.Ifaces.At(in); x != nil {
		return x.Src[fam]
	}
	return netip.Addr{}
}

func (f *Feature) receives4(a uint32) bool {
	return f.own.may(hash4(a)) && f.env.Adj.At(f.v4.Lookup(a)).Kind() == pipeline.AdjReceive
}

func (f *Feature) receives6(hi, lo uint64) bool {
	return f.own.may(hash6(hi, lo)) && f.env.Adj.At(f.v6.Lookup(hi, lo)).Kind() == pipeline.AdjReceive
}

// The rate of ICMP errors for each interface on which the packets came in, and
// worker (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
const (
	errorRate   = 1000 // a second
	errorBucket = 100
)

// limiter is one worker's token buckets by interface.
type limiter struct {
	all  mem.Table[tokens] // of all workers
	base uint32
}

type tokens struct {
	at   int64  // when it was last filled
	have uint64 // billionths of a message
}

// newLimiters makes those of all workers that there can be; memory is used as
// errors are sent.
func newLimiters() (l []*limiter, err error) {
	t, err := mem.NewTable[tokens](pipeline.MaxWorkers*pipeline.MaxIfaces, mem.Options{SmallPages: true})
	if err != nil {
		return nil, err
	}
	for i := range uint32(pipeline.MaxWorkers) {
		l = append(l, &limiter{t, i * pipeline.MaxIfaces})
	}
	return l, nil
}

func (l *limiter) take(in pipeline.IfIndex, now int64) bool {
	b := l.all.At(l.base + uint32(in&(pipeline.MaxIfaces-1)))
	const one = 1e9
	if gone := uint64(now - b.at); gone > errorBucket*one/errorRate {
		b.have = errorBucket * one
	} else {
		b.have = min(errorBucket*one, b.have+gone*errorRate)
	}
	b.at = now
	if b.have < one {
		return false
	}
	b.have -= one
	return true
}
