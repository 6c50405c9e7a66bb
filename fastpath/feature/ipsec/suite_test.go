package ipsec_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"testing"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// suites are all combinations of encryption, key and integrity, as edits of an SA.
func suites(t *testing.T, f func(t *testing.T, edit func(*ipsec.SA))) {
	type suite struct {
		alg  sal.Algorithm
		bits int
		mac  sal.Integrity
	}
	var l []suite
	macs := []sal.Integrity{sal.HMACSHA1_96, sal.HMACSHA2_256_128, sal.HMACSHA2_384_192, sal.HMACSHA2_512_256}
	for _, bits := range []int{128, 192, 256} {
		l = append(l, suite{sal.AESGCM16, bits, 0})
		for _, m := range macs {
			l = append(l, suite{sal.AESCBC, bits, m}, suite{sal.AESCTR, bits, m})
		}
	}
	for _, m := range macs {
		l = append(l, suite{sal.Null, 0, m})
	}
	l = append(l, suite{sal.ChaCha20Poly1305, 256, 0})
	for _, s := range l {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v-%d/%v/esn=%v", s.alg, s.bits, s.mac, esn), func(t *testing.T) {
				f(t, func(a *ipsec.SA) { setSuite(a, s.alg, s.bits, s.mac, esn) })
			})
		}
	}
}

func setSuite(a *ipsec.SA, alg sal.Algorithm, bits int, mac sal.Integrity, esn bool) {
	shape, _ := alg.Shape()
	a.Algorithm, a.Integrity, a.ESN = alg, mac, esn
	a.Key, a.IntegrityKey = key(int(a.Direction)+77, bits/8+shape.Salt), nil
	if h, ok := mac.Shape(); ok {
		a.IntegrityKey = key(int(a.Direction)+99, h.Key)
	}
}

func (p *peer) align() int {
	if p.sa.Algorithm == sal.AESCBC {
		return 16
	}
	return 4
}

// sealESP makes an ESP packet around a text: RFC 4303 section 3.3.2, RFC 3602, RFC
// 3686, RFC 4106, RFC 7634.
func (p *peer) sealESP(seq uint64, text []byte) []byte {
	esp := binary.BigEndian.AppendUint32(nil, p.sa.SPI)
	esp = binary.BigEndian.AppendUint32(esp, uint32(seq))
	iv := binary.BigEndian.AppendUint64(nil, seq*0x9e3779b97f4a7c15) // any that does not repeat
	switch p.sa.Algorithm {
	case sal.Null:
		iv = nil
	case sal.AESCBC:
		iv = make([]byte, 16)
		rand.Read(iv)
	}
	esp = append(esp, iv...)
	if p.aead != nil {
		return p.aead.Seal(esp, p.nonce(iv), text, p.aad(seq))
	}
	text = bytes.Clone(text)
	switch p.sa.Algorithm {
	case sal.AESCBC:
		if len(text)%16 == 0 {
			b, _ := aes.NewCipher(p.sa.Key)
			cipher.NewCBCEncrypter(b, iv).CryptBlocks(text, text)
		}
	case sal.AESCTR:
		p.ctr(iv).XORKeyStream(text, text)
	}
	esp = append(esp, text...)
	return append(esp, p.mac(seq, esp)...)
}

func (p *peer) ctr(iv []byte) cipher.Stream {
	k := p.sa.Key
	b, _ := aes.NewCipher(k[:len(k)-4])
	return cipher.NewCTR(b, append(append(append([]byte(nil), k[len(k)-4:]...), iv...), 0, 0, 0, 1))
}

func (p *peer) mac(seq uint64, esp []byte) []byte {
	var h func() hash.Hash
	n := 0
	switch p.sa.Integrity {
	case sal.HMACSHA1_96:
		h, n = sha1.New, 12
	case sal.HMACSHA2_256_128:
		h, n = sha256.New, 16
	case sal.HMACSHA2_384_192:
		h, n = sha512.New384, 24
	case sal.HMACSHA2_512_256:
		h, n = sha512.New, 32
	}
	m := hmac.New(h, p.sa.IntegrityKey)
	m.Write(esp)
	if p.sa.ESN {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(seq>>32)))
	}
	return m.Sum(nil)[:n]
}

// unsealESP is sealESP backwards.
func (p *peer) unsealESP(seq uint64, esp []byte) ([]byte, error) {
	if p.aead != nil {
		if len(esp) < 16+16 {
			return nil, errors.New("short")
		}
		return p.aead.Open(nil, p.nonce(esp[8:16]), esp[16:], p.aad(seq))
	}
	ivLen := map[sal.Algorithm]int{sal.AESCBC: 16, sal.AESCTR: 8}[p.sa.Algorithm]
	n := len(p.mac(seq, nil))
	if len(esp) < 8+ivLen+2+n {
		return nil, errors.New("short")
	}
	end := len(esp) - n
	if !hmac.Equal(esp[end:], p.mac(seq, esp[:end])) {
		return nil, errors.New("bad ICV")
	}
	iv, text := esp[8:8+ivLen], bytes.Clone(esp[8+ivLen:end])
	switch p.sa.Algorithm {
	case sal.AESCBC:
		b, _ := aes.NewCipher(p.sa.Key)
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(text, text)
	case sal.AESCTR:
		p.ctr(iv).XORKeyStream(text, text)
	}
	return text, nil
}

// TestSuites is TestTunnel for every combination of algorithms: packets of all
// sizes in both directions.
func TestSuites(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		suites(t, func(t *testing.T, edit func(*ipsec.SA)) {
			if testing.Short() && (in6 || out6) {
				t.Skip("one family with -short")
			}
			tunnelBothWays(t, newSite(t, nil), in6, func(a *ipsec.SA) {
				edit(a)
				if out6 {
					over6(a)
				}
			})
		})
	})
}

// TestSuiteFaults: with every combination of algorithms a bad packet dies of the
// right reason.
func TestSuiteFaults(t *testing.T) {
	suites(t, func(t *testing.T, edit func(*ipsec.SA)) {
		s := newSite(t, nil)
		_, in := s.tunnel(false, edit)
		good := incoming(false, 100)
		good.TTL = 9
		s.delivered(s.fromPeer(in.sendAs(5, good.IP())), hop(good.IP()))
		s.Forget()
		bad := func(what, reason string, packet []byte) {
			t.Helper()
			s.silent(s.fromPeer(packet))
			s.Moved(fmt.Sprintf("wan rx 1, wan drop %s 1, sa in drop %s 1", reason, reason))
			if t.Failed() {
				t.Fatal(what)
			}
		}
		ip, hl := good.IP(), 20
		for i := range 8 + 16 { // every byte in front, but the SPI
			p := in.sendAs(6, ip)
			if i >= 8 {
				p[hl+i] ^= 0x10
				bad(fmt.Sprintf("byte %d", i), "esp-bad-icv", p)
			}
		}
		p := in.sendAs(6, ip)
		p[len(p)-1] ^= 1
		bad("last byte of the ICV", "esp-bad-icv", p)
		p = in.sendAs(7, ip)
		p[hl+7]++ // another number
		bad("number", "esp-bad-icv", p)
		bad("replay", "esp-replay", in.sendAs(5, ip))
		in.next = 6
		bad("next header", "esp-bad-next", in.sendAs(9, ip))
		in.next, in.badPad = 0, true
		in.padding = 4
		bad("padding", "esp-bad-pad", in.sendAs(10, ip))
		in.badPad, in.padding = false, 0
		// What is no multiple of the block, and what is too short, are not even tried.
		cut := func(n int) []byte {
			esp := in.sealESP(11, ip[:n])
			return in.outer(in.sa.Remote, in.sa.Local, 50, esp)
		}
		bad("no whole words", "esp-short", cut(99))
		if in.align() == 16 {
			bad("no whole blocks", "esp-short", cut(100))
		}
		bad("nothing inside", "esp-short", cut(0))
		s.delivered(s.fromPeer(in.sendAs(12, ip)), hop(ip))
	})
}

// TestSameKeyOtherMode: AES-CTR and AES-GCM of one key and salt make the same
// counter blocks, so the one goes on counting where the other was, and two SAs
// cannot have it.
func TestSameKeyOtherMode(t *testing.T) {
	s := newSite(t, nil)
	gcm, _ := s.tunnel(false)
	for range 3 {
		gcm.must(t, s.fromHost(outgoing(false, 100).IP())[0])
	}
	a := gcm.sa
	a.Algorithm, a.Integrity, a.IntegrityKey = sal.AESCTR, sal.HMACSHA2_256_128, key(1, 32)
	s.Apply(sas(a))
	ctr := peerOf(a)
	if o := ctr.must(t, s.fromHost(outgoing(false, 100).IP())[0]); o.seq != 4 {
		t.Errorf("after three packets of AES-GCM, AES-CTR sent number %d", o.seq)
	}
	a.IntegrityKey = key(2, 32) // another key of integrity, the same key stream
	s.Apply(sas(a))
	if o := peerOf(a).must(t, s.fromHost(outgoing(false, 100).IP())[0]); o.seq != 5 {
		t.Errorf("under another key of integrity: number %d", o.seq)
	}
	b := gcm.sa
	b.Name, b.SPI, b.ReqID = "twin", 0x9999, 77
	s.Refused(sas(b), "twin", "Key")
	// AES-CBC has no nonces: the same key with another SPI is another SA.
	cbc := a
	cbc.Name, cbc.SPI, cbc.ReqID, cbc.Algorithm, cbc.Key = "cbc1", 0x7001, 78, sal.AESCBC, key(3, 16)
	two := cbc
	two.Name, two.SPI = "cbc2", 0x7002
	s.Apply(sas(cbc, two))
}

// TestSuiteRefusals: what cannot be is refused with the field at fault.
func TestSuiteRefusals(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		want string
		edit func(*ipsec.SA)
	}{
		{"Algorithm", func(a *ipsec.SA) { a.Algorithm = 3 }},
		{"Integrity", func(a *ipsec.SA) { a.Integrity, a.IntegrityKey = sal.HMACSHA2_256_128, key(1, 32) }},
		{"Integrity", func(a *ipsec.SA) { a.Algorithm, a.Key = sal.Null, nil }},
		{"Integrity", func(a *ipsec.SA) { a.Algorithm, a.Key = sal.AESCBC, key(1, 16) }},
		{"Integrity", func(a *ipsec.SA) { a.Algorithm, a.Key, a.Integrity = sal.AESCBC, key(1, 16), 7 }},
		{"Key", func(a *ipsec.SA) { a.Key = key(1, 24) }},
		{"Key", func(a *ipsec.SA) { a.Algorithm, a.Key = sal.ChaCha20Poly1305, key(1, 20) }},
		{"Key", func(a *ipsec.SA) { setSuite(a, sal.AESCBC, 128, sal.HMACSHA2_256_128, false); a.Key = key(1, 20) }},
		{"Key", func(a *ipsec.SA) { setSuite(a, sal.Null, 0, sal.HMACSHA2_256_128, false); a.Key = key(1, 4) }},
		{"IntegrityKey", func(a *ipsec.SA) {
			setSuite(a, sal.AESCTR, 128, sal.HMACSHA2_512_256, false)
			a.IntegrityKey = key(1, 32)
		}},
	} {
		a := testSA("x", sal.Outbound, false)
		c.edit(&a)
		s.Refused(sas(a), "x", c.want)
	}
}
