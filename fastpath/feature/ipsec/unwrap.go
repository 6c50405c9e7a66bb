package ipsec

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Unwrap is the sink of UDP packets to own addresses on a port where ESP in UDP
// comes. What a packet is (RFC 3948 section 2) its first octets say, and two
// packets of a flow may belong to different SAs, so each is looked at:
//
//	FF, alone         NAT keep-alive: dropped
//	00 00 00 00 …     IKE: to the vRouter itself
//	SPI, sequence …   ESP: to be opened, if its SA is one with encapsulation
//
// The UDP checksum is not looked at: over IPv4 it should be 0 and receivers must
// not depend on it (section 2.1), over IPv6 a tunnel may do without it (RFC
// 6935), and ESP has an ICV.
type Unwrap struct {
	F     *Feature
	Local pipeline.Sink // for IKE
}

// Burst implements pipeline.Sink.
func (s Unwrap) Burst(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) {
	w := s.F.worker(c)
	n, ike := 0, w.ike[:0]
	for _, i := range idx {
		i &= 255
		kind, h := s.F.unwrap(c, v, i)
		switch kind {
		case espPacket:
			v.Arg[i] = h
			idx[n] = i
			n++
		case ikePacket:
			ike = append(ike, i)
		case noSAPacket:
			w.badSPI(c, v, i, h)
			c.Drop(v.IP(i), v.In[i], drop.ESPNoSA)
		case wrongPacket:
			w.drop(c, v.IP(i), v.In[i], s.F.sad.at(h), drop.ESPEncapsulation)
		case keepAlivePacket:
			c.Drop(v.IP(i), v.In[i], drop.NATKeepAlive)
		default:
			c.Drop(v.IP(i), v.In[i], drop.ESPShort)
		}
	}
	if n > 0 {
		Open{s.F}.Burst(c, v, idx[:n])
	}
	if len(ike) > 0 {
		s.Local.Burst(c, v, ike)
	}
}

// What a packet to such a port can be.
const (
	badPacket = iota
	espPacket // for the SA with handle h
	ikePacket // any protocol behind a non-ESP marker
	keepAlivePacket
	noSAPacket  // ESP for SPI h, which no SA between these ends has
	wrongPacket // ESP for the SA with handle h, which has no encapsulation
)

// unwrap says what a packet is.
func (f *Feature) unwrap(c *pipeline.Ctx, v *pipeline.Vec, i uint16) (kind int, h uint32) {
	b := c.Pool.Bytes(v.IP(i))
	at := pkt.IPv6Len
	switch {
	case !v.V6:
		at = pkt.IPv4(b).HeaderLen()
	case v.Flags[i]&pipeline.FlagOptions != 0:
		o, _ := pkt.ParseIP(b)
		at = int(o.L4)
	}
	// Octets behind the UDP datagram would be no part of ESP: there must be none.
	if len(b) < at+udpLen || pkt.UDP(b[at:]).Len() != len(b)-at {
		return badPacket, 0
	}
	b = b[at+udpLen:]
	if len(b) == 1 && b[0] == 0xff {
		return keepAlivePacket, 0
	}
	if len(b) < 4 {
		return badPacket, 0
	}
	spi := binary.BigEndian.Uint32(b)
	if spi == 0 {
		return ikePacket, 0
	}
	h = f.sad.bySPI.find(spi)
	if h == 0 {
		return noSAPacket, spi
	}
	r := f.sad.at(h)
	src, dst := addrs(v, i)
	if r.Flags&recFollow != 0 {
		src = r.remote() // whoever it comes from: its ICV tells
	}
	_, port := v.Ports(i)
	switch {
	case !r.outer(src, dst, v.V6):
		return noSAPacket, spi
	case r.UDP == 0:
		return wrongPacket, h
	case bits.ReverseBytes16(uint16(r.Ports)) != port:
		return noSAPacket, spi
	}
	return espPacket, h
}

// remote is the SA's peer.
func (r *record) remote() addr {
	if r.Flags&recV6 != 0 {
		return addr{binary.BigEndian.Uint64(r.Hdr6[24:]), binary.BigEndian.Uint64(r.Hdr6[32:])}
	}
	return addr{uint64(binary.BigEndian.Uint32(r.Hdr4[16:])) << 32, 0}
}

// portSet is a set of UDP ports: those where ESP in UDP comes, at whichever own
// address. It is never changed once workers have it.
type portSet [(math.MaxUint16 + 1) / 64]uint64

func (s *portSet) add(port uint16) { s[port/64] |= 1 << (port % 64) }

// has tells whether a UDP packet, none of whose fragments is missing, is to a
// port of the set.
func (s *portSet) has(v *pipeline.Vec, i uint16) bool {
	if v.Flags[i&255]&(pipeline.FlagFragment|pipeline.FlagOpaque) != 0 {
		return false
	}
	_, port := v.Ports(i)
	return s[port/64]&(1<<(port%64)) != 0
}

// listen counts the inbound SAs at a port, whose number changes by n.
func (f *Feature) listen(s *sa, n int) {
	if s.Direction != sal.Inbound || s.UDP == (UDP{}) {
		return
	}
	if f.listens[s.UDP.Local] += n; f.listens[s.UDP.Local] == 0 {
		delete(f.listens, s.UDP.Local)
	}
}

// tune tells workers at which ports ESP in UDP comes.
func (f *Feature) tune() {
	var set *portSet
	for port := range f.listens {
		if set == nil {
			set = new(portSet)
		}
		set.add(port)
	}
	if old := f.ports.Load(); (old == nil) != (set == nil) || old != nil && *old != *set {
		f.ports.Store(set)
	}
}
