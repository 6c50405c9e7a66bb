package ipsec

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Path MTU between tunnel ends. The first link's is known; that of the others is
// learnt from ICMP "fragmentation needed" and "packet too big" (RFC 1191, RFC
// 8201), which anybody may send. So one counts only when it quotes an ESP packet
// that was really sent, and a short while ago (RFC 4301 section 8.2): its
// addresses and SPI are those of an outbound SA, and its sequence number is
// among the last recentNumbers that the SA has used. Then it lowers, and never
// raises, what the packets of all SAs between the two addresses may have: they go
// one way. After ten minutes it is forgotten (RFC 1191 section 6.3).
//
// The worker that a message came to looks for the proof, so that a flood of
// forged ones ends there. What is proved goes to the control side, which looks
// again and writes the records.
//
// Numbers and SPI are in the clear: who sees our packets can prove what is not
// true. What is gained by it is bounded: 576 octets for IPv4, 1280 for IPv6.

// noPathMTU stands in a record for "what the link takes".
const noPathMTU = math.MaxUint16

const (
	// recentNumbers is how far behind the last sequence number a quoted one may
	// be: what 10 Gbit/s of large packets use in 70 ms. At such a rate, on a longer
	// way, quotes come too late until senders notice that nothing arrives.
	recentNumbers = 1 << 16
	// minPath4 and minPath6 are the least that is believed: what every host of
	// IPv4 takes (RFC 791 section 3.1), and the minimum of IPv6 (RFC 8201 section
	// 4 has what says less ignored).
	minPath4, minPath6 = 576, 1280
	// learntFor is how long a path MTU counts.
	learntFor = int64(10 * time.Minute)
	// learnEvery is how often a worker tells of one, in nanoseconds.
	learnEvery = 1e6
)

// plateaus are likely MTUs, for routers that do not say which (RFC 1191 section
// 7).
var plateaus = [...]uint32{32000, 17914, 8166, 4352, 2002, 1492, 1006}

// paths is what the control side knows of the ways to peers.
type paths struct {
	all    map[pair]*path
	learnt map[*path]struct{} // those with an mtu
	bySPI  map[uint32][]*sa   // outbound SAs by outKey
}

// pair is the outer addresses of SAs.
type pair struct{ local, remote netip.Addr }

type path struct {
	mtu   uint32 // learnt; 0: not
	until int64  // since boot
	sas   map[*sa]struct{}
}

func newPaths() paths {
	return paths{map[pair]*path{}, map[*path]struct{}{}, map[uint32][]*sa{}}
}

// outKey is what outbound SAs are found by in a table of SPIs: peers choose
// these, so two may have the same. Never 0.
func outKey(spi uint32, remote addr) uint32 {
	k := spi ^ uint32(remote.hi>>32) ^ uint32(remote.hi) ^ uint32(remote.lo>>32) ^ uint32(remote.lo)
	return max(k, 1)
}

// join adds an SA to its path: inbound ones too, which clamp what comes out of
// them to what fits back. Its record is not known to workers yet.
func (f *Feature) join(s *sa) {
	k := pair{s.Local, s.at().Addr()}
	p := f.paths.all[k]
	if p == nil {
		p = &path{sas: map[*sa]struct{}{}}
		f.paths.all[k] = p
	}
	p.sas[s] = struct{}{}
	if p.mtu != 0 && !s.IgnoreICMP {
		atomic.StoreUint32(&f.sad.at(s.handle).path, p.mtu)
	}
	if s.MSS != pipeline.NoClamp {
		f.env.Clamps.Add(1)
	}
	if s.Direction != sal.Outbound {
		return
	}
	key := outKey(s.SPI, addrOf(s.at().Addr()))
	f.paths.bySPI[key] = append(f.paths.bySPI[key], s)
	f.chainOut(key)
}

// part takes an SA from its path; another may be about to take its
// place there (see unused).
func (f *Feature) part(s *sa) {
	delete(f.paths.all[pair{s.Local, s.at().Addr()}].sas, s)
	if s.MSS != pipeline.NoClamp {
		f.env.Clamps.Add(-1)
	}
	if s.Direction != sal.Outbound {
		return
	}
	key := outKey(s.SPI, addrOf(s.at().Addr()))
	l := slices.DeleteFunc(f.paths.bySPI[key], func(x *sa) bool { return x == s })
	if f.paths.bySPI[key] = l; len(l) == 0 {
		delete(f.paths.bySPI, key)
	}
	f.chainOut(key)
}

// unused forgets paths that no SA takes any more, once a commit is through.
func (f *Feature) unused(gone []*sa) {
	for _, s := range gone {
		f.unusedPath(pair{s.Local, s.at().Addr()})
	}
}

func (f *Feature) unusedPath(k pair) {
	if p := f.paths.all[k]; p != nil && len(p.sas) == 0 {
		delete(f.paths.all, k)
		delete(f.paths.learnt, p)
	}
}

// chainOut points the table at the SAs of a key. A worker that is on its way
// along them may miss one.
func (f *Feature) chainOut(key uint32) {
	next := uint32(0)
	for _, s := range f.paths.bySPI[key] {
		atomic.StoreUint32(&f.sad.at(s.handle).twin, next)
		next = s.handle
	}
	f.sad.outSPI.set(key, next)
}

// A quote is what an ICMP error tells of a packet that carried ESP.
type quote struct {
	v6       bool
	src, dst addr
	length   uint32 // by its header
	ports    uint32 // of UDP, as they lie on the wire; 0: none
	spi, seq uint32
}

// readQuote reads the head of a packet, of which there may not be more than 8
// octets behind the IP header. It is false for what is not ESP, or a fragment
// other than the first.
//
// Of ESP in UDP it needs 16 octets.
func readQuote(b []byte) (q quote, ok bool) {
	var esp []byte
	var proto uint8
	switch {
	case len(b) >= pkt.IPv4Len && b[0]>>4 == 4:
		hl := int(b[0]&15) * 4
		if hl < pkt.IPv4Len || len(b) < hl || b[9] != protoESP && b[9] != protoUDP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return q, false
		}
		q.src.hi, q.dst.hi = uint64(binary.BigEndian.Uint32(b[12:]))<<32, uint64(binary.BigEndian.Uint32(b[16:]))<<32
		q.length = uint32(binary.BigEndian.Uint16(b[2:]))
		proto, esp = b[9], b[hl:]
	case len(b) >= pkt.IPv6Len && b[0]>>4 == 6:
		q.v6 = true
		q.src = addr{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}
		q.dst = addr{binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])}
		q.length = pkt.IPv6Len + uint32(binary.BigEndian.Uint16(b[4:]))
		next := b[6]
		esp = b[pkt.IPv6Len:]
		if next == pkt.ProtoFragment && len(esp) >= 8 && binary.BigEndian.Uint16(esp[2:])&^7 == 0 {
			next, esp = esp[0], esp[8:]
		}
		if proto = next; next != protoESP && next != protoUDP {
			return q, false
		}
	}
	if proto == protoUDP && len(esp) >= udpLen {
		q.ports = binary.LittleEndian.Uint32(esp)
		esp = esp[udpLen:]
	}
	if len(esp) < espHeader {
		return q, false
	}
	q.spi, q.seq = binary.BigEndian.Uint32(esp), binary.BigEndian.Uint32(esp[4:])
	return q, true
}

// sender finds the outbound SA that has sent what is quoted: its handle, 0 when
// there is none or its number was not used, or not lately. Any goroutine that may
// read the SAD.
func (f *Feature) sender(q *quote) uint32 {
	for h := f.sad.outSPI.find(outKey(q.spi, q.dst)); h != 0; {
		r := f.sad.at(h)
		// outer compares with what comes in.
		if r.Flags&recOutbound != 0 && r.SPIBE == bits.ReverseBytes32(q.spi) && r.Ports == q.ports && r.outer(q.dst, q.src, q.v6) {
			last := atomic.LoadUint64(&f.sad.live.line(r.live).Seq)
			if uint64(uint32(last)-q.seq) < min(last, recentNumbers) {
				return h
			}
		}
		h = atomic.LoadUint32(&r.twin)
	}
	return 0
}

// tooBig is an ICMP error that says what fits.
type tooBig struct {
	quote
	mtu uint32
}

// readTooBig reads ICMP "fragmentation needed" or "packet too big" about a packet
// that may have been ESP of ours. The packet is whole and parsed; the checksum of
// ICMPv6 is verified here.
func readTooBig(b []byte, o *pkt.Offsets) (m tooBig, ok bool) {
	icmp := b[o.L4:o.End]
	if len(icmp) < pkt.ICMPLen {
		return m, false
	}
	if m.quote, ok = readQuote(icmp[pkt.ICMPLen:]); !ok || m.v6 != (o.Type == pkt.TypeIPv6) {
		return m, false
	}
	if !m.v6 {
		m.mtu = uint32(binary.BigEndian.Uint16(icmp[6:]))
		return m, true
	}
	ip := pkt.IPv6(b)
	m.mtu = min(binary.BigEndian.Uint32(icmp[4:]), noPathMTU)
	return m, pkt.Pseudo6(ip.Src(), ip.Dst(), pkt.ProtoICMPv6, len(icmp)).Add(icmp).Checksum() == 0
}

// lowers gives what a proved message makes of a path MTU that is now is, false
// when it changes nothing.
func (m *tooBig) lowers(is uint32) (uint32, bool) {
	mtu := m.mtu
	switch {
	case m.v6 && mtu < minPath6:
		return 0, false
	case !m.v6 && mtu == 0: // RFC 1191 section 5
		mtu = minPath4
		for _, p := range plateaus {
			if p < m.length {
				mtu = p
				break
			}
		}
	case mtu >= m.length: // it would have fitted
		return 0, false
	case !m.v6:
		mtu = max(mtu, minPath4)
	}
	return mtu, mtu < is
}

// TooBig implements pipeline.Tunnels.
func (f *Feature) TooBig(c *pipeline.Ctx, d sal.Desc, in pipeline.IfIndex, o pkt.Offsets) {
	w := f.workers[c.Worker]
	m, ok := readTooBig(c.Pool.Bytes(d), &o)
	if !ok {
		c.Drop(d, in, drop.ICMPIgnored)
		return
	}
	h := f.sender(&m.quote)
	if h == 0 {
		c.Drop(d, in, drop.ICMPUnproven)
		return
	}
	r := f.sad.at(h)
	switch mtu, lower := m.lowers(atomic.LoadUint32(&r.path)); {
	case !lower || r.Flags&recDeaf != 0:
		c.Drop(d, in, drop.ICMPIgnored)
	case c.Now < w.learnt && h == w.toldOf && mtu >= w.told:
		// A path that shrinks answers each packet of a burst: this one adds nothing.
		c.Drop(d, in, drop.ICMPIgnored)
	case c.Now < w.learnt:
		c.Drop(d, in, drop.ControlFull)
	default:
		w.learnt, w.toldOf, w.told = c.Now+learnEvery, h, mtu
		c.ToControl(d, in, pipeline.CtlPathMTU, 0)
	}
}

// learn is the control side of TooBig. Whatever has changed since the worker
// looked: what is believed is proved by what is there now.
func (f *Feature) learn(b []byte) {
	o, bad := pkt.ParseIP(b)
	if bad != pkt.OK {
		return
	}
	m, ok := readTooBig(b, &o)
	if !ok {
		return
	}
	h := f.sender(&m.quote)
	if h == 0 {
		return
	}
	r := f.sad.at(h)
	s := f.bySlot[r.live]
	if s == nil || s.handle != h || s.IgnoreICMP {
		return
	}
	p := f.paths.all[pair{s.Local, s.at().Addr()}]
	if mtu, lower := m.lowers(atomic.LoadUint32(&r.path)); lower {
		p.mtu, p.until = mtu, f.clock.boot()+learntFor
		f.paths.learnt[p] = struct{}{}
		f.spread(p)
	}
}

// spread writes a path's MTU to the records of its SAs.
func (f *Feature) spread(p *path) {
	for s := range p.sas {
		mtu := uint32(noPathMTU)
		if p.mtu != 0 && !s.IgnoreICMP {
			mtu = p.mtu
		}
		atomic.StoreUint32(&f.sad.at(s.handle).path, mtu)
	}
}

// forget ends what was learnt too long ago. When it still holds, the next packet
// that is too big brings it back.
func (f *Feature) forget() {
	now := f.clock.boot()
	for p := range f.paths.learnt {
		if now >= p.until {
			p.mtu = 0
			delete(f.paths.learnt, p)
			f.spread(p)
		}
	}
}

// mtus are what outer and inner packets of an outbound SA may have now, 0 when
// there is no way to its peer; and what of it was learnt, for how long still.
func (f *Feature) mtus(s *sa) (outer, inner, learnt uint32, left time.Duration) {
	r := f.sad.at(s.handle)
	a := addrOf(s.at().Addr())
	h := uint32(0)
	if s.Remote.Is4() {
		h, _ = f.env.FIB.Path4(uint32(a.hi >> 32))
	} else {
		h, _ = f.env.FIB.Path6(a.hi, a.lo)
	}
	if m := f.env.Adj.At(h).LinkMTU(); m > pipeline.EthLen {
		outer = min(uint32(m-pipeline.EthLen), atomic.LoadUint32(&r.path))
		inner = r.InnerMTU(outer)
	}
	if p := f.paths.all[pair{s.Local, s.at().Addr()}]; p != nil && p.mtu != 0 && !s.IgnoreICMP {
		learnt, left = p.mtu, time.Duration(p.until-f.clock.boot())
	}
	return outer, inner, learnt, left
}
