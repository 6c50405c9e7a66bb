package gcm

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/mem"
)

// Edge cases in the manner of Project Wycheproof. What a random key hits once in
// 2^128 times is made on purpose: by solving for it, or with a hash key that no AES
// key is known for.

// elem is an element of GF(2^128) as in NIST SP 800-38D section 6.3: the highest
// bit of hi is the coefficient of x^0.
type elem struct{ hi, lo uint64 }

func element(b []byte) elem {
	return elem{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (e elem) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, e.hi), e.lo)
}

func (e elem) add(o elem) elem { return elem{e.hi ^ o.hi, e.lo ^ o.lo} }

// mul is algorithm 1 of the standard, bit by bit.
func (e elem) mul(o elem) (z elem) {
	for i := range 128 {
		bit := e.hi >> (63 - i&63)
		if i > 63 {
			bit = e.lo >> (127 - i)
		}
		if bit&1 != 0 {
			z = z.add(o)
		}
		carry := o.lo & 1
		o = elem{o.hi >> 1, o.lo>>1 | o.hi<<63}
		if carry != 0 {
			o.hi ^= 0xe1 << 56
		}
	}
	return z
}

// inverse is e^(2^128-2).
func (e elem) inverse() elem {
	z := elem{hi: 1 << 63}
	for range 127 {
		e = e.mul(e)
		z = z.mul(e)
	}
	return z
}

// ghash is GHASH over AAD, ciphertext and their lengths.
func ghash(h elem, aad, text []byte) (y elem) {
	for _, p := range [][]byte{aad, text} {
		for len(p) > 0 {
			var b [16]byte
			p = p[copy(b[:], p):]
			y = y.add(element(b[:])).mul(h)
		}
	}
	return y.add(elem{uint64(len(aad)) * 8, uint64(len(text)) * 8}).mul(h)
}

// naive seals by the standard's algorithm 4 with a hash key that need not be the
// key's own.
func naive(t *testing.T, key []byte, h elem, nonce, text, aad []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	stream := func(i int) []byte {
		b := binary.BigEndian.AppendUint32(bytes.Clone(nonce), uint32(i))
		c.Encrypt(b, b)
		return b
	}
	out := bytes.Clone(text)
	for i := 0; i < len(out); i += 16 {
		for k, s := range stream(2 + i/16) {
			if i+k < len(out) {
				out[i+k] ^= s
			}
		}
	}
	return append(out, ghash(h, aad, out).add(element(stream(1))).bytes()...)
}

// withHash is a context as Expand makes it, whose hash key is h.
func (a *arena) withHash(t *testing.T, key []byte, h elem) Key {
	k := a.key(t, key)
	setHash(unsafe.Slice((*byte)(at(uintptr(k)-below)), ContextSize(len(key)))[below:], h.bytes())
	return k
}

// TestHashKeys has hash keys whose bits drive carries and the reduction to their
// ends: none, all, single ones, the polynomial itself, 1 and x.
func TestHashKeys(t *testing.T) { levels(t, hashKeys) }

func hashKeys(t *testing.T, l Level) {
	hs := []elem{{}, {^uint64(0), ^uint64(0)}, {1 << 63, 0}, {1 << 62, 0}, {0, 1}, {1, 0}, {0, 1 << 63}, {0xe1 << 56, 0},
		{0xc2 << 56, 1}, {^uint64(0), 0}, {0, ^uint64(0)}, {0xaaaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa}, {0x5555555555555555, 0x5555555555555555}}
	a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{6})
	for _, h := range hs {
		a.n = 0
		for i, n := range []int{0, 1, 16, 17, 100, 128, 129, 255, 256, 257, 607, 608, 609, 640, 700, 1420, 5000} {
			key, nonce, aad := random(r, 16+8*(i%3)), random(r, NonceSize), random(r, i%(MaxAAD+1))
			for _, text := range [][]byte{random(r, n), make([]byte, n), bytes.Repeat([]byte{0xff}, n)} {
				want := naive(t, key, h, nonce, text, aad)
				buf := a.take(n + TagSize + room)
				copy(buf, text)
				jobs := []Job{job(a.withHash(t, key, h), buf, n, nonce, aad)}
				l.Seal(jobs)
				if !bytes.Equal(buf[:n+TagSize], want) {
					t.Fatalf("H %x, text of %d bytes: sealed wrong", h.bytes(), n)
				}
				if l.Open(jobs) != 0 || !bytes.Equal(buf[:n], text) {
					t.Fatalf("H %x, text of %d bytes: opened wrong", h.bytes(), n)
				}
			}
		}
	}
}

// TestNaive holds the field arithmetic of these tests against crypto/cipher.
func TestNaive(t *testing.T) {
	r := rand.NewChaCha8([32]byte{7})
	for n := range 70 {
		key, nonce, aad, text := random(r, 32), random(r, NonceSize), random(r, n%17), random(r, n)
		if got := naive(t, key, hashOf(t, key), nonce, text, aad); !bytes.Equal(got, reference(t, key).Seal(nil, nonce, text, aad)) {
			t.Fatalf("text of %d bytes", n)
		}
		if h := hashOf(t, key); h.mul(h.inverse()) != (elem{hi: 1 << 63}) {
			t.Fatal("inverse")
		}
	}
}

func hashOf(t *testing.T, key []byte) elem {
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	h := make([]byte, 16)
	c.Encrypt(h, h)
	return element(h)
}

// specialTags are those that a comparison gone wrong would take, or not take.
var specialTags = []string{
	"00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff", "80000000000000000000000000000000",
	"00000000000000000000000000000001", "00000000000000000100000000000000", "0000000000000000ffffffffffffffff",
	"ffffffffffffffff0000000000000000", "ffffffff000000000000000000000000", "00000000ffffffff00000000ffffffff",
	"7fffffffffffffffffffffffffffffff", "0123456789abcdef0123456789abcdef",
}

// TestSpecialTags solves for the first block of a ciphertext that has the tag
// wanted, then seals what that decrypts to.
func TestSpecialTags(t *testing.T) { levels(t, withSpecialTags) }

func withSpecialTags(t *testing.T, l Level) {
	a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{8})
	for i, s := range specialTags {
		tag, _ := hex.DecodeString(s)
		for _, n := range []int{16, 33, 128, 200, 608, 1424} {
			a.n = 0
			key, nonce, aad := random(r, 16+8*(i%3)), random(r, NonceSize), random(r, 8)
			h := hashOf(t, key)
			zero := reference(t, key).Seal(nil, nonce, make([]byte, n), aad) // the key stream, and a tag
			sealed := random(r, n)
			clear(sealed[:16])
			// The tag is ghash ^ E(J0); the first block goes in times H^(blocks+1).
			ek := ghash(h, aad, zero[:n]).add(element(zero[n:]))
			power := h
			for range (n + 15) / 16 {
				power = power.mul(h)
			}
			copy(sealed, ghash(h, aad, sealed).add(ek).add(element(tag)).mul(power.inverse()).bytes())
			plain := make([]byte, n)
			for k := range plain {
				plain[k] = sealed[k] ^ zero[k]
			}
			buf := a.take(n + TagSize + room)
			copy(buf, plain)
			jobs := []Job{job(a.key(t, key), buf, n, nonce, aad)}
			l.Seal(jobs)
			if !bytes.Equal(buf[:n], sealed) || !bytes.Equal(buf[n:n+TagSize], tag) {
				t.Fatalf("text of %d bytes, tag %x, want %s", n, buf[n:n+TagSize], s)
			}
			if l.Open(jobs) != 0 || !bytes.Equal(buf[:n], plain) {
				t.Fatalf("text of %d bytes, tag %s: not accepted", n, s)
			}
			wrongTags(t, l, jobs, buf, sealed, tag)
		}
	}
}

// wrongTags changes the tag of a packet in all the ways that Wycheproof does. None
// may be accepted, and nothing of the text may stay.
func wrongTags(t *testing.T, l Level, jobs []Job, buf, sealed, tag []byte) {
	t.Helper()
	n := len(sealed)
	check := func(how string, wrong []byte) {
		t.Helper()
		if bytes.Equal(wrong, tag) {
			return
		}
		copy(buf, sealed)
		copy(buf[n:], wrong)
		if l.Open(jobs) != 1 || jobs[0].Bad == 0 {
			t.Fatalf("text of %d bytes, tag %x: %s is accepted", n, tag, how)
		}
		if !bytes.Equal(buf[:n], make([]byte, n)) || !bytes.Equal(buf[n:n+TagSize], wrong) {
			t.Fatalf("text of %d bytes: %s: not wiped, or the tag has changed", n, how)
		}
	}
	change := func(f func(i int, b byte) byte) []byte {
		w := bytes.Clone(tag)
		for i := range w {
			w[i] = f(i, w[i])
		}
		return w
	}
	for bit := range 8 * TagSize {
		check(fmt.Sprint("bit ", bit), change(func(i int, b byte) byte {
			if i == bit/8 {
				b ^= 1 << (bit & 7)
			}
			return b
		}))
	}
	for k := range TagSize - 1 { // changes that a sum of differences would not see
		check("two bytes", change(func(i int, b byte) byte {
			if i == k || i == k+1 {
				b ^= 0x80
			}
			return b
		}))
	}
	check("all bits", change(func(_ int, b byte) byte { return ^b }))
	check("the highest bits", change(func(_ int, b byte) byte { return b ^ 0x80 }))
	check("the lowest bits", change(func(_ int, b byte) byte { return b ^ 1 }))
	check("plus one", change(func(_ int, b byte) byte { return b + 1 }))
	check("the tag turned", append(bytes.Clone(tag[8:]), tag[:8]...))
	check("zeros", make([]byte, TagSize))
	check("ones", bytes.Repeat([]byte{0xff}, TagSize))
	check("half of it", append(bytes.Clone(tag[:8]), make([]byte, 8)...))
	check("the other half", append(make([]byte, 8), tag[8:]...))
}

// TestEdges has the lengths at which kernels go another way, each with additional
// data of every length, and changes of one bit of it.
func TestEdges(t *testing.T) { levels(t, edges) }

func edges(t *testing.T, l Level) {
	a, r := newArena(t, 1<<19), rand.NewChaCha8([32]byte{9})
	var lens []int
	for _, n := range []int{16, 32, 64, 128, 256, 512, 16 * (Powers - 2), 16 * Powers, 1024, 9000, 1 << 15, MaxLen} {
		for d := -2; d <= 2; d++ {
			if n+d <= MaxLen {
				lens = append(lens, n+d)
			}
		}
	}
	for i, n := range lens {
		for aad := range MaxAAD + 1 {
			a.n = 0
			j, w := a.build(t, r, 16+8*((i+aad)%3), n, aad)
			roundTrip(t, l, r, []Job{j}, []want{w})
			if aad == 0 || n > 2048 {
				continue
			}
			copy(w.whole[w.off:], w.plain)
			jobs := []Job{j}
			l.Seal(jobs)
			jobs[0].AAD[int(r.Uint64())&0xff%aad] ^= 1 << (r.Uint64() & 7)
			if l.Open(jobs) != 1 || !bytes.Equal(w.whole[w.off:w.off+n], make([]byte, n)) {
				t.Fatalf("text of %d bytes, AAD of %d: a changed bit of AAD is accepted", n, aad)
			}
		}
	}
}

// TestContexts wants contexts that do not depend on the level: an SA may move.
func TestContexts(t *testing.T) {
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{10})
	key := random(r, 32)
	h := hashOf(t, key)
	k := a.key(t, key)
	// H times x is what the kernels multiply by, reflected: H^i in the standard's
	// order of bits is one to the left of what lies there.
	for i, p := 1, h; i <= Powers; i, p = i+1, p.mul(h) {
		b := unsafe.Slice((*byte)(at(uintptr(k)-uintptr(16*i))), 16)
		got := elem{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b)}
		if want := reflected(p); got != want {
			t.Fatalf("power %d is %x, want %x", i, got, want)
		}
	}
}

func reflected(e elem) elem {
	top := -(e.hi >> 63)
	return elem{(e.hi<<1 | e.lo>>63) ^ top&0xc200000000000000, e.lo<<1 ^ top&1}
}

// TestBounds puts packets between pages that cannot be read: a kernel that touches
// a byte before the text or behind the tag ends the test.
func TestBounds(t *testing.T) { levels(t, bounds) }

func bounds(t *testing.T, l Level) {
	page, pages := unix.Getpagesize(), 3
	m, err := mem.Map(pages*page, mem.Options{SmallPages: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Unmap() }()
	if uintptr(m.Ptr())%uintptr(page) != 0 {
		t.Fatal("not at a page")
	}
	for _, i := range []int{0, pages - 1} {
		p := m.Bytes()[i*page : (i+1)*page]
		if err := unix.Mprotect(p, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE) }()
	}
	mid := m.Bytes()[page : 2*page]
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{11})
	for n := 0; n <= 1000; n++ {
		key, nonce, aad, plain := random(r, 16), random(r, NonceSize), random(r, 8), random(r, n)
		a.n = 0
		k := a.key(t, key)
		want := reference(t, key).Seal(nil, nonce, plain, aad)
		for _, buf := range [][]byte{mid[:n+TagSize], mid[page-n-TagSize:]} {
			copy(buf, plain)
			jobs := []Job{job(k, buf, n, nonce, aad)}
			if l.Seal(jobs); !bytes.Equal(buf, want) {
				t.Fatalf("text of %d bytes: sealed wrong", n)
			}
			if l.Open(jobs) != 0 || !bytes.Equal(buf[:n], plain) {
				t.Fatalf("text of %d bytes: opened wrong", n)
			}
		}
	}
}
