package sal

import (
	"fmt"
	"slices"
)

// Algorithm is a combined-mode or encryption algorithm by its IKEv2 transform
// number (IANA "Encryption Algorithm Transform IDs").
type Algorithm uint16

// Algorithms.
const (
	Null             Algorithm = 11 // RFC 2410: no encryption
	AESCBC           Algorithm = 12 // RFC 3602
	AESCTR           Algorithm = 13 // RFC 3686
	AESGCM16         Algorithm = 20 // RFC 4106, 16-byte ICV
	ChaCha20Poly1305 Algorithm = 28 // RFC 7634
)

// Integrity is an integrity algorithm by its IKEv2 transform number (IANA
// "Integrity Algorithm Transform IDs"): HMAC with the ICV cut to so many bits.
type Integrity uint16

// Integrity algorithms.
const (
	NoIntegrity      Integrity = 0  // the algorithm is an AEAD
	HMACSHA1_96      Integrity = 2  // RFC 2404; legacy
	HMACSHA2_256_128 Integrity = 12 // RFC 4868
	HMACSHA2_384_192 Integrity = 13 // RFC 4868
	HMACSHA2_512_256 Integrity = 14 // RFC 4868
)

// Shape is what an algorithm needs and adds to a packet. Lengths are in bytes.
type Shape struct {
	Name    string
	KeyBits []int // without the salt
	Salt    int   // behind the key: RFC 4106 section 8.1, RFC 3686 section 5.1, RFC 7634 section 2
	IV      int   // on the wire
	ICV     int   // of an AEAD; 0: an Integrity gives it
	// Align is what the length of text and trailer must be a multiple of (RFC
	// 4303 section 2.4): 4, or the cipher's block.
	Align int
	AEAD  bool
	// Counter tells that the IV is a counter: it must never be used twice under
	// one key, and the caller writes it (the sequence number). The others' IV
	// is written by the engine.
	Counter bool
}

var shapes = map[Algorithm]Shape{
	Null:             {Name: "null", KeyBits: []int{0}, Align: 4},
	AESCBC:           {Name: "aes-cbc", KeyBits: []int{128, 192, 256}, IV: 16, Align: 16},
	AESCTR:           {Name: "aes-ctr", KeyBits: []int{128, 192, 256}, Salt: 4, IV: 8, Align: 4, Counter: true},
	AESGCM16:         {Name: "aes-gcm-16", KeyBits: []int{128, 192, 256}, Salt: 4, IV: 8, ICV: 16, Align: 4, AEAD: true, Counter: true},
	ChaCha20Poly1305: {Name: "chacha20-poly1305", KeyBits: []int{256}, Salt: 4, IV: 8, ICV: 16, Align: 4, AEAD: true, Counter: true},
}

// Shape gives what is known of an algorithm; false when it is none of ours.
func (a Algorithm) Shape() (Shape, bool) {
	s, ok := shapes[a]
	return s, ok
}

// String is the name, or the number of what is not known.
func (a Algorithm) String() string {
	if s, ok := shapes[a]; ok {
		return s.Name
	}
	return fmt.Sprintf("encryption-%d", uint16(a))
}

// IntegrityShape is what an integrity algorithm needs and adds, in bytes. The
// key is as long as the hash, never longer or shorter (RFC 4868 section 2.1.1).
type IntegrityShape struct {
	Name     string
	Key, ICV int
	Legacy   bool // only for peers that have nothing better (RFC 8221 section 6)
}

var integrityShapes = map[Integrity]IntegrityShape{
	HMACSHA1_96:      {Name: "hmac-sha1-96", Key: 20, ICV: 12, Legacy: true},
	HMACSHA2_256_128: {Name: "hmac-sha2-256-128", Key: 32, ICV: 16},
	HMACSHA2_384_192: {Name: "hmac-sha2-384-192", Key: 48, ICV: 24},
	HMACSHA2_512_256: {Name: "hmac-sha2-512-256", Key: 64, ICV: 32},
}

// Shape gives what is known of an integrity algorithm; false when it is none
// of ours, NoIntegrity included.
func (i Integrity) Shape() (IntegrityShape, bool) {
	s, ok := integrityShapes[i]
	return s, ok
}

// String is the name, or the number of what is not known.
func (i Integrity) String() string {
	if s, ok := integrityShapes[i]; ok {
		return s.Name
	}
	if i == NoIntegrity {
		return "none"
	}
	return fmt.Sprintf("integrity-%d", uint16(i))
}

// Longest of what any SA has, in bytes.
const (
	MaxIV    = 16
	MaxICV   = 32
	MaxAlign = 16
)

// Layout is what an SA adds to a packet, in bytes.
type Layout struct{ IV, ICV, Align int }

// LayoutOf gives the layout of an algorithm with its integrity algorithm. It
// fails with ErrNotSupported for algorithms that are not known, with ErrInvalid
// for a combination that must not be: an AEAD with integrity beside it (RFC
// 7296 section 3.3), or anything else without (RFC 4303 section 3.2.1 allows
// encryption without integrity; RFC 8221 section 4 forbids it).
func LayoutOf(a Algorithm, i Integrity) (Layout, error) {
	s, ok := a.Shape()
	if !ok {
		return Layout{}, fmt.Errorf("encryption algorithm %d: %w", a, ErrNotSupported)
	}
	if s.AEAD {
		if i != NoIntegrity {
			return Layout{}, fmt.Errorf("%v has integrity in itself and takes none beside it: %w", a, ErrInvalid)
		}
		return Layout{s.IV, s.ICV, s.Align}, nil
	}
	if i == NoIntegrity {
		return Layout{}, fmt.Errorf("%v without integrity: %w", a, ErrInvalid)
	}
	h, ok := i.Shape()
	if !ok {
		return Layout{}, fmt.Errorf("integrity algorithm %d: %w", i, ErrNotSupported)
	}
	return Layout{s.IV, h.ICV, s.Align}, nil
}

// Layout is the layout of an SA whose algorithms and lengths of keys are right;
// else it says what is not, as LayoutOf, or with ErrInvalid for a length. No
// error says anything else of a key.
func (c *SAConfig) Layout() (Layout, error) {
	l, err := LayoutOf(c.Algorithm, c.Integrity)
	if err != nil {
		return l, err
	}
	if s := shapes[c.Algorithm]; !slices.Contains(s.KeyBits, c.KeyBits()) || len(c.Key) < s.Salt {
		return l, fmt.Errorf("key and salt of %v have %d bytes: %w", c.Algorithm, len(c.Key), ErrInvalid)
	}
	if h := integrityShapes[c.Integrity]; len(c.IntegrityKey) != h.Key {
		return l, fmt.Errorf("key of %v has %d bytes: %w", c.Integrity, len(c.IntegrityKey), ErrInvalid)
	}
	return l, nil
}

// KeyBits is the length of the cipher key without its salt, in bits.
func (c *SAConfig) KeyBits() int { return (len(c.Key) - shapes[c.Algorithm].Salt) * 8 }
