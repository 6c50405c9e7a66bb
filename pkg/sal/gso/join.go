package gso

import (
	"bytes"

	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// Joiner finds frames that are consecutive segments of one TCP connection and
// makes the headers of a super-frame of them: the opposite of Segmenter, for a
// device that cuts them again, or is on the same machine as their receiver.
//
// It joins only what Segmenter, or the kernel, would cut into the very same
// frames again: headers equal but for lengths, sequence numbers and IPv4
// identifications, which count up; all of one size but the last, which may be
// shorter; PSH in the last only. Checksums are verified first: a segment that was
// damaged on its way goes on as it is, for its receiver to find out.
//
// The frames are read, not changed, and must stay as they are while they are
// joined. The zero value is ready for Start.
type Joiner struct {
	first  []byte
	l4     int // where the TCP header begins
	head   int // length of all headers
	size   int // payload of each but the last
	total  int // payload
	n      int
	next   uint32 // sequence number
	open   bool   // another segment may follow
	six    bool
	pseudo pkt.Sum
}

const (
	ipAt      = 14
	ack, ece  = 0x10, 0x40
	maxIP     = 1<<16 - 1
	maxJoined = 64 // segments: the kernel makes no more pieces of one either

	// MaxHead is the longest header that Head writes.
	MaxHead = ipAt + 60 + 60
)

// Start begins with a frame and tells whether others may be added: whether it is
// a whole TCP segment with payload and nothing out of the ordinary.
// Tagged frames, fragments and IPv6 with extension headers are left alone.
func (j *Joiner) Start(f []byte) bool {
	j.open, j.n = false, 0
	if len(f) < ipAt+20+tcpMin {
		return false
	}
	ip := f[ipAt:]
	switch {
	case f[12] == 0x08 && f[13] == 0 && ip[0]>>4 == 4:
		n := int(ip[0]&15) * 4
		if ip[9] != protoTCP || n < 20 || (be.Uint16(ip[6:])&0xbfff) != 0 || int(be.Uint16(ip[2:])) != len(ip) {
			return false
		}
		j.six, j.l4 = false, ipAt+n
	case f[12] == 0x86 && f[13] == 0xdd && ip[0]>>4 == 6:
		if len(ip) < 40 || ip[6] != protoTCP || int(be.Uint16(ip[4:]))+40 != len(ip) {
			return false
		}
		j.six, j.l4 = true, ipAt+40
	default:
		return false
	}
	if len(f) < j.l4+tcpMin {
		return false
	}
	tcp := f[j.l4:]
	n := int(tcp[12]>>4) * 4
	if n < tcpMin || len(tcp) <= n || tcp[13]&^(ack|psh|ece) != 0 || tcp[13]&ack == 0 || tcp[12]&15 != 0 {
		return false
	}
	if j.pseudo = pkt.Sum(0).AddUint(protoTCP); j.six {
		j.pseudo = j.pseudo.Add(ip[8:40])
	} else {
		j.pseudo = j.pseudo.Add(ip[12:20])
	}
	if tcp[13]&psh != 0 {
		return false
	}
	j.first, j.head, j.n = f, j.l4+n, 1
	j.size = len(tcp) - n
	j.total = j.size
	j.next = be.Uint32(tcp[4:]) + uint32(j.size)
	j.open = true
	return true
}

// whole verifies the checksums.
func (j *Joiner) whole(f []byte) bool {
	if !j.six && pkt.Sum(0).Add(f[ipAt:j.l4]).Fold() != 0xffff {
		return false
	}
	l4 := f[j.l4:]
	return j.pseudo.AddUint(uint32(len(l4))).Add(l4).Fold() == 0xffff
}

// Add joins the frame that follows, if it belongs there.
func (j *Joiner) Add(f []byte) bool {
	if !j.open || len(f) <= j.head || len(f) > j.head+j.size || j.n == maxJoined {
		return false
	}
	a, b := j.first[:j.head], f[:j.head]
	n := len(f) - j.head
	if j.head-ipAt+j.total+n > maxIP || be.Uint32(b[j.l4+4:]) != j.next {
		return false
	}
	// Ethernet and IP.
	if j.six {
		if !bytes.Equal(a[:ipAt+4], b[:ipAt+4]) || !bytes.Equal(a[ipAt+6:j.l4], b[ipAt+6:j.l4]) || int(be.Uint16(b[ipAt+4:]))+40 != len(f)-ipAt {
			return false
		}
	} else if !bytes.Equal(a[:ipAt+2], b[:ipAt+2]) || !bytes.Equal(a[ipAt+6:ipAt+10], b[ipAt+6:ipAt+10]) || !bytes.Equal(a[ipAt+12:j.l4], b[ipAt+12:j.l4]) ||
		int(be.Uint16(b[ipAt+2:])) != len(f)-ipAt || be.Uint16(b[ipAt+4:]) != be.Uint16(a[ipAt+4:])+uint16(j.n) {
		return false
	}
	// TCP: ports; acknowledgement and header length; flags; window; urgent
	// pointer and options.
	x, y := a[j.l4:], b[j.l4:]
	if !bytes.Equal(x[:4], y[:4]) || !bytes.Equal(x[8:13], y[8:13]) || x[13] != y[13]&^psh || !bytes.Equal(x[14:16], y[14:16]) || !bytes.Equal(x[18:], y[18:]) {
		return false
	}
	if j.n == 1 && !j.whole(j.first) { // not before: it is work
		j.open = false
		return false
	}
	if !j.whole(f) {
		return false
	}
	j.open = n == j.size && y[13]&psh == 0
	if y[13]&psh != 0 {
		j.first = f // its flags are those of the super-frame; see Head
	}
	j.n++
	j.total += n
	j.next += uint32(n)
	return true
}

// Frames begins with the first frame of a burst and tells how many of them from
// there on are one super-frame: 1 when it goes by itself, as the last one of a burst
// does.
func (j *Joiner) Frames(pool *sal.Pool, d []sal.Desc) int {
	n := 1
	if len(d) > 1 && d[1].Len() <= d[0].Len() && j.Start(pool.Bytes(d[0])) {
		for n < len(d) && j.Add(pool.Bytes(d[n])) {
			n++
		}
	}
	return n
}

// Joined is how many frames have been joined, 0 when Start has not begun.
func (j *Joiner) Joined() int { return j.n }

// Head writes the virtio-net header to v and the frame headers of the super-frame
// to dst, and gives their length: that much of each joined frame is to be left
// away behind them. dst has room for MaxHead bytes.
func (j *Joiner) Head(v *[HeaderLen]byte, dst []byte) int {
	h := dst[:copy(dst, j.first[:j.head])]
	ip, tcp := h[ipAt:], h[j.l4:]
	if l4 := j.head - j.l4 + j.total; j.six {
		be.PutUint16(ip[4:], uint16(l4))
	} else {
		be.PutUint16(ip[2:], uint16(j.l4-ipAt+l4))
		if j.first[j.l4+13]&psh != 0 { // the last one's identification
			be.PutUint16(ip[4:], be.Uint16(ip[4:])-uint16(j.n-1))
		}
		ip[10], ip[11] = 0, 0
		be.PutUint16(ip[10:], pkt.Checksum(ip[:j.l4-ipAt]))
	}
	be.PutUint32(tcp[4:], j.next-uint32(j.total))
	be.PutUint16(tcp[16:], j.pseudo.AddUint(uint32(j.head-j.l4+j.total)).Fold())

	*v = [HeaderLen]byte{0: needsCsum, 1: TCPv4}
	if j.six {
		v[1] = TCPv6
	}
	le.PutUint16(v[2:], uint16(j.head))
	le.PutUint16(v[4:], uint16(j.size))
	le.PutUint16(v[6:], uint16(j.l4))
	le.PutUint16(v[8:], 16)
	return j.head
}
