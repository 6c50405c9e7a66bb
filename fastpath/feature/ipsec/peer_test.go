package ipsec_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// A peer is ESP written down a second time, from RFC 4303, RFC 4106 and RFC
// 6040 alone: it shares no line with what is tested. It makes what the other end
// of an inbound SA would send, and opens, strictly, what an outbound SA has sent.
type peer struct {
	sa   ipsec.SA
	aead cipher.AEAD // nil: see suite_test.go
	seq  uint64      // last one sent or seen

	// What may be told to be wrong or odd about the next packets.
	tos     byte
	ttl     byte
	padding int  // more than needed, a multiple of 4 (of the block, with AES-CBC)
	next    byte // instead of the right one; 0: right
	tfc     int  // bytes behind the inner packet (RFC 4303 section 2.7)
	spoil   func(esp []byte)
	badPad  bool
	options bool           // IP options, or an extension header
	at      netip.AddrPort // where it is, if the SA has UDP; invalid: where it was configured
	sum     uint16         // UDP checksum, of which the RFC says that nobody may mind
}

func peerOf(sa ipsec.SA) *peer {
	p := &peer{sa: sa, ttl: 61}
	switch sa.Algorithm {
	case sal.AESGCM16:
		k, err := aes.NewCipher(sa.Key[:len(sa.Key)-4])
		if err != nil {
			panic(err)
		}
		p.aead, _ = cipher.NewGCM(k)
	case sal.ChaCha20Poly1305:
		p.aead, _ = chacha20poly1305.New(sa.Key[:32])
	}
	return p
}

func (p *peer) nonce(iv []byte) []byte {
	return append(append([]byte(nil), p.sa.Key[len(p.sa.Key)-4:]...), iv...)
}

// aad is RFC 4106 section 5.
func (p *peer) aad(seq uint64) (b []byte) {
	b = binary.BigEndian.AppendUint32(b, p.sa.SPI)
	if p.sa.ESN {
		return binary.BigEndian.AppendUint64(b, seq)
	}
	return binary.BigEndian.AppendUint32(b, uint32(seq))
}

// send makes the outer packet of the next sequence number.
func (p *peer) send(inner []byte) []byte { p.seq++; return p.sendAs(p.seq, inner) }

// sendAs makes the outer packet of any sequence number.
func (p *peer) sendAs(seq uint64, inner []byte) []byte {
	next := byte(4)
	if len(inner) > 0 && inner[0]>>4 == 6 {
		next = 41
	}
	return p.wrap(p.around(seq, inner, next))
}

// around makes the ESP packet around what is protected.
func (p *peer) around(seq uint64, inner []byte, next byte) []byte {
	text := append(append([]byte(nil), inner...), make([]byte, p.tfc)...)
	align := p.align()
	pad := (align-(len(text)+2)%align)%align + p.padding*align/4
	for i := range pad {
		b := byte(i + 1)
		if p.badPad {
			b ^= 0x55
		}
		text = append(text, b)
	}
	if p.next != 0 {
		next = p.next
	}
	text = append(text, byte(pad), next)
	esp := p.sealESP(seq, text)
	if p.spoil != nil {
		p.spoil(esp)
	}
	return esp
}

// wrap puts what is outside of ESP around it: UDP (RFC 3948 section 2.1), IP.
func (p *peer) wrap(esp []byte) []byte {
	at := p.where()
	if p.sa.UDP == (ipsec.UDP{}) {
		return p.outer(at.Addr(), p.sa.Local, 50, esp)
	}
	return p.outer(at.Addr(), p.sa.Local, 17, p.udp(at.Port(), p.sa.UDP.Local, esp))
}

func (p *peer) udp(src, dst uint16, body []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, src)
	u = binary.BigEndian.AppendUint16(u, dst)
	u = binary.BigEndian.AppendUint16(u, uint16(8+len(body)))
	return append(binary.BigEndian.AppendUint16(u, p.sum), body...)
}

func (p *peer) where() netip.AddrPort {
	if p.at.IsValid() {
		return p.at
	}
	return netip.AddrPortFrom(p.sa.Remote, p.sa.UDP.Remote)
}

// outer puts an IP header in front.
func (p *peer) outer(src, dst netip.Addr, proto byte, body []byte) []byte {
	if src.Is6() {
		ext := []byte{}
		if p.options { // destination options: PadN
			ext, proto = []byte{proto, 0, 1, 4, 0, 0, 0, 0}, 60
		}
		b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(p.tos)<<20|0x12345)
		b = binary.BigEndian.AppendUint16(b, uint16(len(ext)+len(body)))
		b = append(b, proto, p.ttl)
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		return append(append(b, ext...), body...)
	}
	hl := 20
	if p.options {
		hl = 24
	}
	b := make([]byte, hl)
	b[0], b[1], b[8], b[9] = byte(0x40|hl/4), p.tos, p.ttl, proto
	binary.BigEndian.PutUint16(b[2:], uint16(hl+len(body)))
	binary.BigEndian.PutUint16(b[4:], 0x4711)
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	if p.options {
		copy(b[20:], []byte{1, 1, 1, 0})
	}
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	return append(b, body...)
}

// onesSum is the ones' complement sum of RFC 1071.
func onesSum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// opened is what a peer found in an outer packet.
type opened struct {
	inner   []byte
	seq     uint64
	tos     byte
	df      bool
	padding int
}

// open checks everything about an outer packet (from the IP header on) and gives
// the inner one. The high half of an extended number is guessed to be that of
// the last, or one more.
func (p *peer) open(pkt []byte) (o opened, err error) {
	bad := func(format string, a ...any) (opened, error) {
		return opened{}, fmt.Errorf(format+": % x", append(a, pkt[:min(len(pkt), 60)])...)
	}
	var esp []byte
	at, proto := p.where(), byte(50)
	if p.sa.UDP != (ipsec.UDP{}) {
		proto = 17
	}
	switch {
	case len(pkt) < 20:
		return bad("short packet")
	case p.sa.Local.Is6():
		if pkt[0]>>4 != 6 || len(pkt) < 40 || int(binary.BigEndian.Uint16(pkt[4:])) != len(pkt)-40 {
			return bad("outer IPv6 header")
		}
		if netip.AddrFrom16([16]byte(pkt[8:24])) != p.sa.Local || netip.AddrFrom16([16]byte(pkt[24:40])) != at.Addr() {
			return bad("outer addresses")
		}
		if pkt[6] != proto || pkt[7] != 64 {
			return bad("next header %d, hop limit %d", pkt[6], pkt[7])
		}
		o.tos = byte(binary.BigEndian.Uint32(pkt) >> 20)
		if binary.BigEndian.Uint32(pkt)&0xfffff == 0 { // RFC 6438
			return bad("no flow label")
		}
		esp = pkt[40:]
	default:
		if pkt[0] != 0x45 || int(binary.BigEndian.Uint16(pkt[2:])) != len(pkt) || onesSum(pkt[:20]) != 0xffff {
			return bad("outer IPv4 header")
		}
		if netip.AddrFrom4([4]byte(pkt[12:16])) != p.sa.Local || netip.AddrFrom4([4]byte(pkt[16:20])) != at.Addr() {
			return bad("outer addresses")
		}
		if pkt[9] != proto || pkt[8] != 64 {
			return bad("protocol %d, TTL %d", pkt[9], pkt[8])
		}
		if f := binary.BigEndian.Uint16(pkt[6:]); f&^0x4000 != 0 {
			return bad("fragment")
		}
		o.tos, o.df = pkt[1], pkt[6]&0x40 != 0
		esp = pkt[20:]
	}
	if proto == 17 {
		be := binary.BigEndian
		if len(esp) < 8 || be.Uint16(esp) != p.sa.UDP.Local || be.Uint16(esp[2:]) != at.Port() || int(be.Uint16(esp[4:])) != len(esp) {
			return bad("UDP header")
		}
		switch sum := be.Uint16(esp[6:]); {
		case !at.Addr().Is6() && sum != 0:
			return bad("UDP checksum over IPv4")
		case at.Addr().Is6():
			x := append(append([]byte(nil), pkt[8:40]...), 0, 0, 0, 0, 0, 0, 0, 17)
			be.PutUint32(x[32:], uint32(len(esp)))
			x = append(x, esp...)
			if sum == 0 || onesSum(append(x, make([]byte, len(x)&1)...)) != 0xffff {
				return bad("UDP checksum over IPv6")
			}
		}
		esp = esp[8:]
	}
	if len(esp) < 8+2 || len(esp)%4 != 0 || binary.BigEndian.Uint32(esp) != p.sa.SPI {
		return bad("ESP header")
	}
	o.seq = p.seq&^0xffffffff | uint64(binary.BigEndian.Uint32(esp[4:]))
	if p.sa.ESN && o.seq < p.seq {
		o.seq += 1 << 32
	}
	text, err := p.unsealESP(o.seq, esp)
	if err != nil {
		return bad("number %d: %v", o.seq, err)
	}
	o.padding = int(text[len(text)-2])
	next := text[len(text)-1]
	if o.padding+2 > len(text) {
		return bad("pad length %d", o.padding)
	}
	for i, b := range text[len(text)-2-o.padding : len(text)-2] {
		if int(b) != i+1 {
			return bad("padding")
		}
	}
	o.inner = text[:len(text)-2-o.padding]
	if o.padding >= p.align() || len(text)%p.align() != 0 || next != map[byte]byte{4: 4, 6: 41}[o.inner[0]>>4] {
		return bad("padding %d, next header %d", o.padding, next)
	}
	p.seq = o.seq
	return o, nil
}

// must opens a frame that must be good.
func (p *peer) must(t testing.TB, frame []byte) opened {
	t.Helper()
	if len(frame) < 14 {
		t.Fatal("no frame came out")
	}
	o, err := p.open(frame[14:])
	if err != nil {
		t.Fatal(err)
	}
	return o
}
