package testbed

import (
	"bytes"
	"encoding/binary"
	"slices"

	"vrouter/pkg/pkt"
)

// Cut cuts an IP packet (without options or extension headers) into fragments of
// so many bytes of data, a multiple of eight. id is the IPv6 identification; IPv4
// packets have their own.
func Cut(ip []byte, size int, id uint32) (l [][]byte) {
	head := pkt.IPv4Len
	if ip[0]>>4 == 6 {
		head = pkt.IPv6Len
	}
	data := ip[head:]
	for at := 0; at < len(data); at += size {
		part := data[at:min(at+size, len(data))]
		l = append(l, Fragment(ip[:head], part, at, at+len(part) < len(data), id))
	}
	return l
}

// Fragment makes one fragment of a packet whose header is head.
func Fragment(head, data []byte, at int, more bool, id uint32) []byte {
	b := bytes.Clone(head)
	if len(head) == pkt.IPv6Len {
		f := make([]byte, 8)
		f[0] = head[6]
		binary.BigEndian.PutUint16(f[2:], uint16(at))
		if more {
			f[3] |= 1
		}
		binary.BigEndian.PutUint32(f[4:], id)
		b = append(append(b, f...), data...)
		b[6] = pkt.ProtoFragment
		pkt.IPv6(b).SetPayloadLen(8 + len(data))
		return b
	}
	b = append(b, data...)
	v4 := pkt.IPv4(b)
	v4.SetTotalLen(len(b))
	v4.SetFrag(false, more, at)
	v4.SetChecksum()
	return b
}

// Join puts the fragments of one packet, in any order, together: the plain way,
// as a second opinion. nil when some are missing.
func Join(l [][]byte) []byte {
	type part struct {
		at   int
		more bool
		data []byte
	}
	var parts []part
	var first []byte
	for _, b := range l {
		var p part
		if b[0]>>4 == 6 {
			if b[6] != pkt.ProtoFragment {
				return nil
			}
			w := binary.BigEndian.Uint16(b[42:])
			p = part{int(w &^ 7), w&1 != 0, b[48 : 40+pkt.IPv6(b).PayloadLen()]}
		} else {
			ip := pkt.IPv4(b)
			p = part{ip.FragOffset(), ip.MF(), ip.Payload()}
		}
		if p.at == 0 {
			first = b
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b part) int { return a.at - b.at })
	at, more := 0, true
	var data []byte
	for _, p := range parts {
		if p.at != at {
			return nil
		}
		data, at, more = append(data, p.data...), at+len(p.data), p.more
	}
	if more || first == nil {
		return nil
	}
	if first[0]>>4 == 6 {
		b := append(bytes.Clone(first[:40]), data...)
		b[6] = first[40]
		if len(data) <= 0xffff {
			pkt.IPv6(b).SetPayloadLen(len(data))
		}
		return b
	}
	b := append(bytes.Clone(first[:20]), data...)
	pkt.IPv4(b).SetTotalLen(len(b))
	pkt.IPv4(b).SetFrag(false, false, 0)
	pkt.IPv4(b).SetChecksum()
	return b
}
