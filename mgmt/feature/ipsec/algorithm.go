package ipsec

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/ipsec"
	"vrouter/pkg/sal"
)

// algorithms reads what an SA encrypts and authenticates with: which algorithms
// go together, and how long their keys must be. No error says anything of a key
// but its length.
func (b *Binding) algorithms(at *problems, s *ipsec.SA, v *view.Ipsec_SadEntry, c *data.Container) {
	enc, mac := v.IpsecSaConfig.EspSa.Encryption, v.IpsecSaConfig.EspSa.Integrity
	s.Algorithm = sal.Algorithm(*enc.EncryptionAlgorithm)
	shape, ok := s.Algorithm.Shape()
	if !ok {
		at.add(saESP+"/encryption/encryption-algorithm", fmt.Sprintf("algorithm %d is not built", s.Algorithm))
		return
	}
	at.encryption(s, shape, enc.Key, enc.Iv)
	if shape.AEAD {
		// The default is an algorithm, but means something only beside what is no
		// AEAD: what counts is whether anything was said.
		said := b.explicitSAs.Fill(c).IpsecSaConfig.EspSa.Integrity
		if a := said.IntegrityAlgorithm; a != nil && *a != 0 {
			at.add(saESP+"/integrity/integrity-algorithm", fmt.Sprintf("%v has integrity in itself: leave this out, or 0 (RFC 9061)", s.Algorithm))
		}
		if said.Key != nil {
			at.add(saESP+"/integrity/key", fmt.Sprintf("%v has integrity in itself and takes no second key", s.Algorithm))
		}
		return
	}
	s.Integrity = sal.Integrity(*mac.IntegrityAlgorithm)
	at.integrity(s, mac.Key, *v.AllowLegacy)
}

// encryption puts the cipher key before the salt: as it came, or from key and iv
// (RFC 4106 section 8.1, RFC 3686 section 5.1, RFC 7634 section 2).
func (p *problems) encryption(s *ipsec.SA, shape sal.Shape, key, iv *string) {
	const at = saESP + "/encryption"
	switch {
	case len(shape.KeyBits) == 1 && shape.KeyBits[0] == 0:
		if key != nil {
			p.add(at+"/key", fmt.Sprintf("%v encrypts nothing and takes no key", s.Algorithm))
		}
		if iv != nil {
			p.add(at+"/iv", fmt.Sprintf("%v encrypts nothing and takes no salt", s.Algorithm))
		}
		return
	case key == nil:
		p.errs = append(p.errs, &data.Error{Tag: "data-missing", Path: p.path() + at + "/key", Msg: fmt.Sprintf("%v needs a key", s.Algorithm)})
		return
	case iv != nil && shape.Salt == 0:
		p.add(at+"/iv", fmt.Sprintf("%v has an IV for each packet, which the vRouter makes: leave this out", s.Algorithm))
		return
	}
	k, salt := octets(*key), []byte(nil)
	if iv != nil {
		salt = octets(*iv)
	} else if len(k) >= shape.Salt {
		k, salt = k[:len(k)-shape.Salt], k[len(k)-shape.Salt:]
	}
	if !slices.Contains(shape.KeyBits, len(k)*8) || len(salt) != shape.Salt {
		p.add(at+"/key", fmt.Sprintf("%v takes %s; here are %d octets%s", s.Algorithm, keyLengths(shape), len(octets(*key)), map[bool]string{true: " and iv"}[iv != nil]))
		return
	}
	s.Key = slices.Concat(k, salt)
}

// keyLengths is what keys an algorithm takes, in words.
func keyLengths(shape sal.Shape) string {
	var l []string
	for _, b := range shape.KeyBits {
		l = append(l, fmt.Sprint(b/8))
	}
	text := l[len(l)-1]
	if n := len(l) - 1; n > 0 {
		text = strings.Join(l[:n], ", ") + " or " + text
	}
	text += " octets of key"
	if shape.Salt > 0 {
		text += fmt.Sprintf(" and %d of salt, in key alone or with the salt in iv", shape.Salt)
	}
	return text
}

func (p *problems) integrity(s *ipsec.SA, key *string, legacy bool) {
	const at = saESP + "/integrity"
	shape, ok := s.Integrity.Shape()
	switch {
	case !ok && s.Integrity == sal.NoIntegrity:
		p.add(at+"/integrity-algorithm", fmt.Sprintf("%v without integrity protects nothing that can be relied on (RFC 8221 section 4): choose an algorithm", s.Algorithm))
	case !ok:
		p.add(at+"/integrity-algorithm", fmt.Sprintf("algorithm %d is not built", s.Integrity))
	case shape.Legacy && !legacy:
		p.add(at+"/integrity-algorithm", fmt.Sprintf("%v is for old peers only: set vrouter-sal:allow-legacy to have it", s.Integrity))
	case key == nil:
		p.errs = append(p.errs, &data.Error{Tag: "data-missing", Path: p.path() + at + "/key", Msg: fmt.Sprintf("%v needs a key", s.Integrity)})
	case len(octets(*key)) != shape.Key:
		p.add(at+"/key", fmt.Sprintf("%v takes a key of %d octets; here are %d", s.Integrity, shape.Key, len(octets(*key))))
	default:
		s.IntegrityKey = octets(*key)
	}
}

// keyBits is the length of an SA's cipher key.
func keyBits(s *ipsec.SA) int {
	return (&sal.SAConfig{Algorithm: s.Algorithm, Key: s.Key}).KeyBits()
}

// octets reads a hex-string, which is well-formed by its type.
func octets(text string) []byte {
	b, _ := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	return b
}
