package ipsec

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"unsafe"

	"vrouter/pkg/replay"
)

// whereabouts is where the peer of an SA that follows it has come to be. It lies
// in the live table, in what a slot has behind the largest replay window, so that
// the next process sends there too: behind a NAT the peer can be reached by no
// other address, and may have nothing to say first. The control side alone reads
// and writes it.
//
// The sum over it, the key of the slot and the ends of the SA makes it believed.
// What an earlier version left there (zeros), what was written half when the process
// died, and what is of another SA, or of ends it had before, is none.
type whereabouts struct {
	addr  addr
	moved int64 // since boot
	port  uint16
	_     [6]byte
	sum   [16]byte
}

// Both are constants that overflow when the other place has no room.
const (
	whereWords = unsafe.Sizeof(whereabouts{}) / 8
	_          = windowWords - replay.MaxWords - whereWords
)

// where is a slot's whereabouts.
func (l *liveFile) where(i uint32) *whereabouts {
	return (*whereabouts)(unsafe.Add(l.windows(), (uintptr(i)*windowWords+replay.MaxWords)*8))
}

// sign is the sum. The time of the move is not in it: it changes with the boot
// (carry), and no packet depends on it.
func (x *whereabouts) sign(tag *[32]byte, k *between) (sum [16]byte) {
	b := append([]byte("vrouter SA peer 1"), tag[:]...)
	for _, a := range [...]netip.AddrPort{netip.AddrPortFrom(k.local, k.udp.Local), netip.AddrPortFrom(k.remote, k.udp.Remote)} {
		x := a.Addr().As16()
		b = binary.BigEndian.AppendUint16(append(b, x[:]...), a.Port())
	}
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, x.addr.hi), x.addr.lo)
	b = binary.BigEndian.AppendUint16(b, x.port)
	h := sha256.Sum256(b)
	return [16]byte(h[:])
}

// note keeps where the peer of an SA is, or forgets where that of this slot was.
func (l *liveFile) note(s *sa) {
	x := l.where(s.slot)
	*x = whereabouts{}
	if s.peer == nil || s.peer.moved == 0 {
		return
	}
	x.addr, x.port, x.moved = addrOf(s.peer.at.Addr()), s.peer.at.Port(), s.peer.moved
	k := s.between()
	x.sum = x.sign(&l.ident(s.slot).Tag, &k)
}

// recall gives where an SA's peer is noted to be, and since when.
func (l *liveFile) recall(s *sa) (at netip.AddrPort, moved int64, ok bool) {
	x, k := *l.where(s.slot), s.between()
	if x.port == 0 || x.sum != x.sign(&l.ident(s.slot).Tag, &k) {
		return at, 0, false
	}
	return netip.AddrPortFrom(x.addr.netip(s.Local.Is6()), x.port), x.moved, true
}

// recall has peers, before their SAs are back, where an earlier process has last
// seen them. It may have died in the middle of noting it in all of their slots.
func (p *prepared) recall() {
	f := p.f
	back := map[between]*peer{}
	for _, s := range p.setSA {
		k := s.between()
		if !s.FollowPeer || s.fresh || f.peers[k] != nil {
			continue
		}
		at, moved, ok := f.sad.live.recall(s)
		if q := back[k]; ok && (q == nil || moved > q.moved) {
			back[k] = &peer{at: at, moved: moved, sas: map[*sa]struct{}{}}
		}
	}
	for k, q := range back {
		f.peers[k] = q
		f.env.Log.Info("the peer is where it was before the start", "configured", netip.AddrPortFrom(k.remote, k.udp.Remote), "is", q.at)
	}
}
