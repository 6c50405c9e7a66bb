package ipsec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"vrouter/fastpath/event"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// A NAT between the peer and us may give the peer another address and port at
// any time. Who sees that is the worker that opens a packet from there; who acts
// on it is the control side, and the SAs that follow the peer get new records over
// the same live lines, as by a commit that gave them another Remote. What a
// commit says later about such an SA leaves the peer where it is, until no SA
// with these ends is left; and so does the death of the process (whereabouts).
//
// A packet tells where the peer is only if its ICV is right and its number the
// highest so far, since others may be old, or copied and sent from elsewhere (RFC
// 7296 section 2.23). Somebody on the path who is faster than the peer can still
// do the latter, for as long as the peer says nothing.

// between is the ends of SAs as they are configured: those that have the same,
// have the same peer.
type between struct {
	local, remote netip.Addr
	udp           UDP
}

// peer is who sends and gets the packets of SAs that follow him.
type peer struct {
	at    netip.AddrPort
	moved int64 // since boot, 0: he is where he was configured
	sas   map[*sa]struct{}
}

// sighting is where a worker has seen a peer to be. Whoever holds the SA's live
// line may read and write it.
type sighting struct {
	addr  addr
	told  int64 // when the control side was, by pipeline.Ctx.Now
	port  uint16
	_     [6]byte
	asked int64 // when the control side was asked to look at the SA, by pipeline.Ctx.Now; atomic (ask)
	_     [24]byte
}

const (
	// tellEvery is how often a worker tells of one SA's peer. What is lost is made
	// up for by the next packet.
	tellEvery = int64(100 * time.Millisecond)
	// moveEvery is how often a peer may move: all flows are asked for again.
	moveEvery = int64(time.Second)
)

func (s *sa) between() between { return between{s.Local, s.Remote, s.UDP} }

// at is where an SA's peer is.
func (s *sa) at() netip.AddrPort {
	if s.peer != nil {
		return s.peer.at
	}
	return netip.AddrPortFrom(s.Remote, s.UDP.Remote)
}

// sight looks where a genuine packet came from; outer and udp are its headers.
//
//go:noinline
func (w *worker) sight(c *pipeline.Ctx, r *record, outer, udp unsafe.Pointer, seq uint64) {
	var src addr
	if r.Flags&recV6 != 0 {
		src = addr{bits.ReverseBytes64(mem.Load64(outer, 8)), bits.ReverseBytes64(mem.Load64(outer, 16))}
	} else {
		src.hi = uint64(bits.ReverseBytes32(mem.Load32(outer, 12))) << 32
	}
	port := mem.Load16(udp, 0)
	if port == uint16(r.Ports>>16) && src == r.remote() {
		return
	}
	live := w.f.sad.live.line(r.live)
	x := w.f.sad.seen.At(r.live)
	live.hold()
	tell := w.window(r).Top() == seq
	if tell {
		x.addr, x.port = src, bits.ReverseBytes16(port)
		if tell = c.Now-x.told >= tellEvery; tell {
			x.told = c.Now
		}
	}
	live.release()
	if tell {
		c.ToControl(pipeline.NoBuf, 0, pipeline.CtlPeer, r.live)
	}
}

// meet notes whom an SA follows and where it listens, before its record is made.
func (f *Feature) meet(s *sa) {
	f.listen(s, 1)
	defer f.sad.live.note(s)
	if !s.FollowPeer {
		return
	}
	k := s.between()
	p := f.peers[k]
	if p == nil {
		p = &peer{at: netip.AddrPortFrom(s.Remote, s.UDP.Remote), sas: map[*sa]struct{}{}}
		f.peers[k] = p
	}
	p.sas[s] = struct{}{}
	s.peer = p
}

// miss is the opposite of meet. The peer stays until settle, as another SA may
// be about to take over.
func (f *Feature) miss(s *sa) {
	f.listen(s, -1)
	if s.peer != nil {
		delete(s.peer.sas, s)
	}
}

// settle ends what meet and miss did for the SAs of a change.
func (p *prepared) settle() {
	f := p.f
	f.tune()
	for _, s := range p.delSA {
		if s.peer != nil && len(s.peer.sas) == 0 {
			if k := s.between(); f.peers[k] == s.peer {
				delete(f.peers, k)
			}
		}
	}
}

// sighted acts on what a worker has seen of an inbound SA's peer.
func (f *Feature) sighted(s *sa) {
	if s.peer == nil || s.Direction != sal.Inbound {
		return
	}
	l, x := f.sad.live.line(s.slot), f.sad.seen.At(s.slot)
	l.hold()
	a, port := x.addr, x.port
	l.release()
	at := netip.AddrPortFrom(a.netip(s.Local.Is6()), port)
	now := f.clock.boot()
	p := s.peer
	if at == p.at || port == 0 || p.moved != 0 && now-p.moved < moveEvery {
		return
	}
	before := p.at
	if !f.move(p, at) {
		return // no room for the records: another packet will come
	}
	p.moved = now
	for s := range p.sas {
		f.sad.live.note(s)
	}
	about := f.about(s)
	about.Peer, about.Before = at, before
	text := fmt.Sprintf("the peer has moved from %v to %v", before, at)
	f.env.Log.Info("SA: "+text, "sa", s.Name, "spi", fmt.Sprintf("%#x", s.SPI))
	if f.env.Events != nil {
		f.env.Events.Add(event.Event{Kind: event.SAPeerMoved, Object: s.Name, Text: text, SA: &about})
	}
}

// move gives the SAs of a peer who is somewhere else new records, all or none.
func (f *Feature) move(p *peer, to netip.AddrPort) bool {
	var handles []uint32
	for range p.sas {
		h, ok := f.handles.Alloc()
		if !ok {
			for _, h := range handles {
				f.handles.Free(h)
			}
			return false
		}
		handles = append(handles, h)
	}
	all := func(do func(*sa)) {
		for s := range p.sas {
			do(s)
		}
	}
	all(f.part) // from the path to where he was
	before := p.at
	p.at = to
	touched := map[reqKey]bool{}
	for s := range p.sas {
		old := s.held
		s.handle, handles = handles[0], handles[1:]
		f.renew(s, &old)
		f.pass(s, &old)
		if s.Direction == sal.Inbound {
			f.sad.bySPI.set(s.SPI, s.handle)
		}
		touched[reqKey{s.ReqID, s.Direction}] = true
		f.parted = append(f.parted, parting{held: old})
	}
	all(f.join)
	all(func(s *sa) { f.unusedPath(pair{s.Local, before.Addr()}) })
	for k := range touched {
		f.relink(k)
	}
	return true
}

// renew writes the record of an SA that has a new handle; old is the SA as it was.
func (f *Feature) renew(s *sa, old *held) {
	f.sad.live.busy[s.slot]++
	f.keys.move(s.handle, old.handle)
	r, was := f.sad.at(s.handle), f.sad.at(old.handle)
	r.fill(s)
	r.down, r.was = atomic.LoadUint32(&was.down), was.was
	f.sels[s.handle] = s.sel
}

// pass has packets of an SA go by the record that renew has made, and its numbers be
// given by whoever has it now.
func (f *Feature) pass(s *sa, old *held) {
	live := f.sad.live.line(s.slot)
	live.hold()
	lim := *f.sad.limits[s.slot].Load()
	f.hand(s, old, live, &lim)
	f.sad.limits[s.slot].Store(&lim)
	atomic.StoreUint64(&live.Limit, 0) // whoever comes next, looks
	live.release()
}

// release lets flows ask again for SAs that have new records, and takes the old ones
// back.
func (f *Feature) release() {
	if len(f.parted) == 0 {
		return
	}
	f.env.BumpFlows()
	for len(f.parted) > 0 {
		e, n := f.parted[0].engine, 1
		for n < len(f.parted) && f.parted[n].engine == e {
			n++
		}
		f.leave(e, false, f.parted[:n:n]...)
		f.parted = f.parted[n:]
	}
	f.parted = nil
}

// keepAlive sends a keep-alive if an SA is due for one, and says when it may be
// due next, since boot.
func (f *Feature) keepAlive(s *sa, now int64) int64 {
	if s.KeepAlive == 0 || s.Direction != sal.Outbound || s.UDP == (UDP{}) {
		return math.MaxInt64
	}
	every := int64(s.KeepAlive) * int64(time.Second)
	last := max(s.added, s.alive, atomic.LoadInt64(&f.sad.live.line(s.slot).UsedAt))
	if now-last < every {
		return last + every
	}
	s.alive = now
	f.sendAlive(s)
	return now + every
}

// sendAlive sends a keep-alive (RFC 3948 section 2.3) to where an SA sends.
func (f *Feature) sendAlive(s *sa) {
	frame, b, ok := f.env.Control.Frame()
	if !ok {
		return // and the next one may do
	}
	b = b[pipeline.EthLen:]
	const n = udpLen + 1
	at := s.at()
	var adj uint32
	var size int
	if s.Local.Is4() {
		size = 20 + n
		src, dst := s.Local.As4(), at.Addr().As4()
		pkt.IPv4(b).Set(src, dst, protoUDP, esp.TTL, 0, size)
		adj, _ = f.env.FIB.Path4(binary.BigEndian.Uint32(dst[:]))
	} else {
		size = 40 + n
		src, dst := s.Local.As16(), at.Addr().As16()
		pkt.IPv6(b).Set(src, dst, protoUDP, esp.TTL, 0, n)
		adj, _ = f.env.FIB.Path6(binary.BigEndian.Uint64(dst[:]), binary.BigEndian.Uint64(dst[8:]))
	}
	u := pkt.UDP(b[size-n : size])
	u.Set(s.UDP.Local, at.Port(), n)
	u[udpLen] = 0xff
	if s.Local.Is6() {
		esp.SumUDP6(b[:size], pkt.IPv6Len)
	}
	f.env.Control.Forward(0, pipeline.CtlMsg{Desc: sal.MakeDesc(frame.Buf(), frame.Off()+pipeline.EthLen, uint16(size))}, adj)
}
