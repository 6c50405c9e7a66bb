package gso

import "vrouter/pkg/pkt"

// Segmenter cuts one super-frame at a time. Its zero value is at rest. It keeps
// the frame it was given and does not change it.
type Segmenter struct {
	frame    []byte
	l3, l4   int // where the IP and the TCP or UDP header begin
	head     int // length of all headers: where the payload begins
	size     int // payload of each segment but the last
	at       int // payload cut so far
	tcp, six bool
	pseudo   pkt.Sum // of addresses and protocol; the length is added
	count    uint16  // segments made
}

const (
	fin, psh, cwr = 0x01, 0x08, 0x80
	protoTCP      = 6
	protoUDP      = 17
	tcpMin        = 20
	udpLen        = 8
)

// Begin takes a super-frame. frame must stay as it is until Next gives 0 or
// Begin is called again.
func (s *Segmenter) Begin(h Header, frame []byte) error {
	*s = Segmenter{}
	switch h.Type {
	case TCPv4, TCPv6:
		s.tcp = true
	case UDP:
	default:
		return ErrUnsupported
	}
	// Such a frame always leaves its checksum open, which tells where layer 4
	// begins.
	if !h.NeedsCsum || h.Size == 0 {
		return ErrMalformed
	}
	s.l4, s.size = int(h.CsumStart), int(h.Size)
	proto, err := s.network(frame)
	if err != nil {
		return err
	}
	if h.Type == TCPv4 && s.six || h.Type == TCPv6 && !s.six {
		return ErrMalformed
	}
	if s.tcp {
		if proto != protoTCP || len(frame) < s.l4+tcpMin {
			return ErrMalformed
		}
		n := int(frame[s.l4+12]>>4) * 4
		if n < tcpMin {
			return ErrMalformed
		}
		s.head = s.l4 + n
	} else {
		if proto != protoUDP {
			return ErrMalformed
		}
		s.head = s.l4 + udpLen
	}
	if s.head >= len(frame) {
		return ErrMalformed
	}
	s.frame = frame
	return nil
}

// network finds the IP header, takes the pseudo-header from it and gives the
// protocol at l4.
func (s *Segmenter) network(f []byte) (proto uint8, err error) {
	s.l3 = 14
	for {
		if len(f) < s.l3+2 {
			return 0, ErrMalformed
		}
		t := be.Uint16(f[s.l3-2:])
		if t == 0x8100 || t == 0x88a8 { // tags inside the one that the kernel took off
			s.l3 += 4
			continue
		}
		switch t {
		case 0x0800:
			return s.network4(f)
		case 0x86dd:
			s.six = true
			return s.network6(f)
		}
		return 0, ErrUnsupported
	}
}

func (s *Segmenter) network4(f []byte) (uint8, error) {
	if len(f) < s.l3+20 || f[s.l3]>>4 != 4 {
		return 0, ErrMalformed
	}
	ip := f[s.l3:]
	if s.l3+int(ip[0]&15)*4 != s.l4 {
		return 0, ErrUnsupported // layer 4 of an inner packet
	}
	if ip[0]&15 < 5 {
		return 0, ErrMalformed
	}
	proto := ip[9]
	s.pseudo = pkt.Sum(0).Add(ip[12:20]).AddUint(uint32(proto))
	return proto, nil
}

// network6 walks the extension headers (RFC 8200 section 4) to layer 4.
func (s *Segmenter) network6(f []byte) (uint8, error) {
	if len(f) < s.l3+40 || f[s.l3]>>4 != 6 {
		return 0, ErrMalformed
	}
	ip := f[s.l3:]
	proto := ip[6]
	for at := s.l3 + 40; at != s.l4; {
		// Hop-by-hop and destination options. With a routing header the
		// pseudo-header would hold another destination.
		if proto != 0 && proto != 60 {
			return 0, ErrUnsupported
		}
		if len(f) < at+8 || at > s.l4 {
			return 0, ErrMalformed
		}
		proto = f[at]
		at += int(f[at+1])*8 + 8
	}
	s.pseudo = pkt.Sum(0).Add(ip[8:40]).AddUint(uint32(proto))
	return proto, nil
}

// Busy tells whether segments are left.
func (s *Segmenter) Busy() bool { return s.frame != nil }

// End drops what is left.
func (s *Segmenter) End() { *s = Segmenter{} }

// Len is the length of the next segment, 0 when none is left.
func (s *Segmenter) Len() int {
	if s.frame == nil {
		return 0
	}
	return s.head + min(s.size, len(s.frame)-s.head-s.at)
}

// Next writes the next segment, a whole frame, to dst and gives its length: 0
// when none is left. dst must have room for Len bytes.
func (s *Segmenter) Next(dst []byte) int {
	n := s.Len()
	if n == 0 {
		return 0
	}
	dst = dst[:n]
	payload := n - s.head
	copy(dst, s.frame[:s.head])
	copy(dst[s.head:], s.frame[s.head+s.at:][:payload])
	last := s.head+s.at+payload == len(s.frame)

	ip, l4 := dst[s.l3:], dst[s.l4:]
	if s.six {
		be.PutUint16(ip[4:], uint16(n-s.l3-40))
	} else {
		be.PutUint16(ip[2:], uint16(n-s.l3))
		be.PutUint16(ip[4:], be.Uint16(ip[4:])+s.count) // as the kernel's own segmentation does
		ip[10], ip[11] = 0, 0
		be.PutUint16(ip[10:], pkt.Checksum(ip[:s.l4-s.l3]))
	}
	field := l4[6:8]
	if s.tcp {
		be.PutUint32(l4[4:], be.Uint32(l4[4:])+uint32(s.at))
		if !last {
			l4[13] &^= fin | psh
		}
		if s.at > 0 {
			l4[13] &^= cwr // RFC 3168 section 6.1.2: in the first segment only
		}
		field = l4[16:18]
	} else {
		be.PutUint16(l4[4:], uint16(len(l4)))
	}
	field[0], field[1] = 0, 0
	putSum(field, s.pseudo.AddUint(uint32(len(l4))).Add(l4))

	s.at += payload
	s.count++
	if last {
		s.frame = nil
	}
	return n
}
