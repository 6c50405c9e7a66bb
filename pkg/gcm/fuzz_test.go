package gcm

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// FuzzBurst holds bursts at every level against crypto/cipher. The input is a
// recipe: a byte for the keys, then six for each job:
//
//	0    key (lower 3 bits), how far off a line it begins (upper 5)
//	1    length of the AAD (lower 5 bits, at most 16), what is changed before Open (upper 3)
//	2-3  length of the text, of which the highest bits choose the range
//	4-5  which bit is changed
//
// Texts, nonces and keys are random, from a seed that the input sets.
func FuzzBurst(f *testing.F) {
	f.Add([]byte{0, 0, 8, 0, 64, 0, 0})
	f.Add([]byte{1, 0x21, 12, 5, 140, 0, 0, 0x42, 0x28, 0, 17, 0, 3, 0x82, 0x4c, 2, 96, 1, 0, 0x82, 0x6c, 2, 97, 0, 9})
	f.Add(bytes.Repeat([]byte{2, 0xe3, 0x30, 0, 255, 3, 7}, 9))
	f.Add([]byte{3, 7, 16, 0xff, 0xff, 0, 0, 7, 0x50, 0x40, 1, 2, 2, 6, 0x30, 0x42, 0, 0, 0})
	shapes := []byte{4} // as an IMIX of several SAs, some packets of it forged
	for i := range 64 {
		n := []uint16{66, 66, 66, 66, 66, 66, 66, 578, 578, 578, 578, 1422}[i%12]
		shapes = append(shapes, byte(i), 8|byte(i%9/8)<<5, byte(n>>8), byte(n), byte(i), byte(i))
	}
	f.Add(shapes)
	a := newArena(f, 1<<22)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 7 {
			return
		}
		var seed [32]byte
		copy(seed[:], in)
		binary.LittleEndian.PutUint32(seed[28:], uint32(len(in)))
		r := rand.NewChaCha8(seed)
		a.n = 0
		var keys [8]Key
		var refs [8]cipher.AEAD
		for i := range keys {
			k := random(r, 16+8*(i%3))
			if in[0]>>i&1 != 0 { // the same bytes in each place
				k = bytes.Repeat(k[:1], len(k))
			}
			keys[i], refs[i] = a.key(t, k), reference(t, k)
		}
		var jobs []Job
		var cases []fuzzed
		for p := in[1:]; len(p) >= 6 && len(jobs) < 256; p = p[6:] {
			n := int(binary.BigEndian.Uint16(p[2:]))
			switch { // few of the long ones: they are slow
			case n < 1<<14:
				n &= 2047
			case n < 1<<15:
				n &= 255
			case len(jobs) > 2:
				n &= 1023
			}
			k, off, aadLen := p[0]&7, int(p[0]>>3), min(int(p[1]&31), MaxAAD)
			if a.n+n+256 > len(a.b) {
				break
			}
			c := fuzzed{nonce: random(r, NonceSize), aad: random(r, aadLen), plain: random(r, n), how: p[1] >> 5, bit: int(binary.BigEndian.Uint16(p[4:]))}
			c.whole = a.take(off + n + TagSize + room)
			c.buf = c.whole[off : off+n+TagSize]
			c.around = random(r, len(c.whole))
			c.sealed = refs[k].Seal(nil, c.nonce, c.plain, c.aad)
			cases = append(cases, c)
			jobs = append(jobs, job(keys[k], c.buf, n, c.nonce, c.aad))
		}
		for _, l := range Levels() {
			for i := range cases {
				copy(cases[i].whole, cases[i].around)
				copy(cases[i].buf, cases[i].plain)
			}
			l.Seal(jobs)
			bad := 0
			for i := range cases {
				c := &cases[i]
				if c.changed(c.sealed) {
					t.Fatalf("%v: job %d of %d, text of %d bytes, AAD of %d: sealed wrong", l, i, len(jobs), len(c.plain), len(c.aad))
				}
				if c.spoil(&jobs[i]) {
					bad++
				}
			}
			if got := l.Open(jobs); got != bad {
				t.Fatalf("%v: %d bad, want %d", l, got, bad)
			}
			for i := range cases {
				c := &cases[i]
				want := append(bytes.Clone(c.plain), c.received[len(c.plain):]...)
				if c.bad {
					clear(want[:len(c.plain)]) // no plaintext is released
				}
				if (jobs[i].Bad != 0) != c.bad || c.changed(want) {
					t.Fatalf("%v: job %d of %d, text of %d bytes, AAD of %d: bad %d, spoilt %v, opened wrong", l, i, len(jobs), len(c.plain), len(c.aad), jobs[i].Bad, c.bad)
				}
				jobs[i] = job(jobs[i].Key, c.buf, len(c.plain), c.nonce, c.aad)
			}
		}
	})
}

// fuzzed is one job of a burst.
type fuzzed struct {
	nonce, aad, plain, sealed []byte
	whole, buf, around        []byte // around is what whole holds before, with another text in its middle
	how                       byte
	bit                       int
	received                  []byte // what Open was given
	bad                       bool
}

// changed tells whether the memory is anything but want in its place.
func (c *fuzzed) changed(want []byte) bool {
	off := cap(c.whole) - cap(c.buf)
	return !bytes.Equal(c.buf, want) || !bytes.Equal(c.whole[:off], c.around[:off]) || !bytes.Equal(c.whole[off+len(want):], c.around[off+len(want):])
}

// spoil changes one bit, in three cases of eight: of the packet, the AAD, or the
// nonce.
func (c *fuzzed) spoil(j *Job) bool {
	c.bad = true
	switch c.how {
	case 1:
		bit := c.bit % (8 * len(c.buf))
		c.buf[bit/8] ^= 1 << (bit & 7)
	case 2:
		bit := c.bit % (8 * NonceSize)
		j.Nonce[bit/8] ^= 1 << (bit & 7)
	case 3:
		if c.bad = len(c.aad) > 0; c.bad {
			bit := c.bit % (8 * len(c.aad))
			j.AAD[bit/8] ^= 1 << (bit & 7)
		}
	default:
		c.bad = false
	}
	c.received = bytes.Clone(c.buf)
	return c.bad
}
