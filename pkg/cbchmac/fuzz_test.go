package cbchmac

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// FuzzBurst holds bursts at every level against crypto/cipher and crypto/hmac. The
// input is a recipe: a byte that no length comes from, then five for each job:
//
//	0    key (lower 3 bits), how far off a line it begins (upper 5)
//	1    bytes before the IV (lower 6 bits), with an upper half of a sequence number (bit 6), spoilt before Open (bit 7)
//	2-3  length of the text in blocks, of which the highest bits choose the range
//	4    which bit is changed, with those of the length
//
// Texts, nonces and keys are random, from a seed that the input sets.
func FuzzBurst(f *testing.F) {
	f.Add([]byte{0, 0, 8, 0, 4, 0})
	f.Add([]byte{1, 0x21, 0x48, 0, 0, 0, 0x42, 0x88, 0, 32, 9, 3, 0xc8, 0, 89, 7, 0x82, 8, 0, 1, 77})
	f.Add(bytes.Repeat([]byte{2, 0xe3, 0xb0, 0, 5, 3}, 9))
	f.Add([]byte{3, 7, 8, 0xff, 0xff, 0, 0, 8, 0x40, 1, 2, 6, 0x30, 0, 0, 0})
	shapes := []byte{4} // as an IMIX of several SAs, some packets of it forged
	for i := range 64 {
		n := []byte{4, 4, 4, 4, 4, 4, 4, 36, 36, 36, 36, 89}[i%12]
		shapes = append(shapes, byte(i), 8|byte(i%2)<<6|byte(i%9/8)<<7, 0, n, byte(i))
	}
	f.Add(shapes)
	a := newArena(f, 1<<21)
	if len(Levels()) == 0 {
		f.Skip("no kernels for this processor")
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 6 {
			return
		}
		var seed [32]byte
		copy(seed[:], in)
		binary.LittleEndian.PutUint32(seed[28:], uint32(len(in)))
		r := rand.NewChaCha8(seed)
		a.n = 0
		var keys [8]pair
		for i := range keys {
			keys[i] = a.key(t, random(r, 16+8*(i%3)), random(r, MACKeySize))
		}
		var ps []*packet
		var spoilt []int // which bit of the packet, -1: none
		for b := in[1:]; len(b) >= 5 && len(ps) < 256; b = b[5:] {
			n := int(binary.BigEndian.Uint16(b[2:]))
			switch { // few of the long ones: they are slow
			case n < 1<<14:
				n &= 127
			case n < 1<<15:
				n &= 15
			case len(ps) > 2:
				n &= 63
			default:
				n &= 4095
			}
			n *= BlockSize
			if a.n+n+512 > len(a.b) {
				break
			}
			ps = append(ps, a.packet(r, keys[b[0]&7], int(b[1]&63), n, int(b[0]>>3), b[1]&0x40 != 0))
			bit := -1
			if b[1]&0x80 != 0 {
				bit = (int(b[4]) + 256*n) % (8 * len(ps[len(ps)-1].sealed))
			}
			spoilt = append(spoilt, bit)
		}
		jobs := make([]Job, len(ps))
		for _, l := range Levels() {
			for i, p := range ps {
				p.plain()
				jobs[i] = p.job()
			}
			a.s.Seal(l, jobs)
			a.clean(t)
			bad := 0
			for i, p := range ps {
				if !p.is(p.sealed) {
					t.Fatalf("%v: job %d of %d, text of %d bytes, %d in front: sealed wrong", l, i, len(ps), len(p.text), len(p.head))
				}
				if bit := spoilt[i]; bit >= 0 {
					p.whole[p.off+bit/8] ^= 1 << (bit % 8)
					bad++
				}
			}
			if got := a.s.Open(l, jobs); got != bad {
				t.Fatalf("%v: %d bad, want %d", l, got, bad)
			}
			a.clean(t)
			for i, p := range ps {
				want := p.opened()
				if bit := spoilt[i]; bit >= 0 { // nothing is decrypted
					want = bytes.Clone(p.sealed)
					want[bit/8] ^= 1 << (bit % 8)
				}
				if (jobs[i].Bad != 0) != (spoilt[i] >= 0) || !p.is(want) {
					t.Fatalf("%v: job %d of %d, text of %d bytes, %d in front: bad %d, bit %d, opened wrong", l, i, len(ps), len(p.text), len(p.head), jobs[i].Bad, spoilt[i])
				}
			}
		}
	})
}
