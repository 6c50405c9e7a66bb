package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"vrouter/pkg/mem"
)

func TestMain(m *testing.M) {
	for l := AESNI; l <= VAES512; l++ {
		if !l.Supported() {
			fmt.Printf("not tested: this processor has no level %v\n", l)
		}
	}
	os.Exit(m.Run())
}

// levels runs a test at each level that the processor has.
func levels(t *testing.T, f func(t *testing.T, l Level)) {
	t.Helper()
	for _, l := range Levels() {
		t.Run(l.String(), func(t *testing.T) { f(t, l) })
	}
}

// room is the slack behind each packet, where nothing may change.
const room = 64

// arena hands out mapped memory, which is given back all at once.
type arena struct {
	b []byte
	n int
}

func newArena(t testing.TB, size int) *arena {
	r, err := mem.Map(size, mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Unmap() })
	return &arena{b: unsafe.Slice((*byte)(r.Ptr()), size)}
}

func (a *arena) take(n int) []byte {
	b := a.b[a.n : a.n+n : a.n+n]
	a.n += (n + 63) &^ 63
	return b
}

func random(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func (a *arena) key(t testing.TB, key []byte) Key {
	t.Helper()
	k, err := Expand(a.take(ContextSize(len(key))), key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func reference(t testing.TB, key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func job(k Key, text []byte, n int, nonce, aad []byte) (j Job) {
	j.Key, j.Text, j.Len, j.AADn = k, uintptr(unsafe.Pointer(unsafe.SliceData(text))), uint32(n), uint32(len(aad))
	copy(j.Nonce[:NonceSize], nonce)
	copy(j.AAD[:], aad)
	return j
}

// TestKnown has cases 1, 2, 3, 13 and 14 of the GCM specification. AADs are left to
// the comparison with crypto/cipher.
func TestKnown(t *testing.T) { levels(t, known) }

func known(t *testing.T, l Level) {
	a := newArena(t, 1<<20)
	for _, c := range []struct{ k, iv, p, c, tag string }{
		{"00000000000000000000000000000000", "000000000000000000000000", "", "", "58e2fccefa7e3061367f1d57a4e7455a"},
		{"00000000000000000000000000000000", "000000000000000000000000", "00000000000000000000000000000000", "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"},
		{"feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
			"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
			"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
			"4d5c2af327cd64a62cf35abd2ba6fab4"},
		{"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
	} {
		un := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
		p := un(c.p)
		buf := a.take(len(p) + TagSize + room)
		copy(buf, p)
		jobs := []Job{job(a.key(t, un(c.k)), buf, len(p), un(c.iv), nil)}
		l.Seal(jobs)
		if got := hex.EncodeToString(buf[:len(p)+TagSize]); got != c.c+c.tag {
			t.Errorf("%s\n got %s\nwant %s", c.k, got, c.c+c.tag)
		}
		if l.Open(jobs) != 0 || !bytes.Equal(buf[:len(p)], p) {
			t.Errorf("%s: open", c.k)
		}
	}
}

// TestExpand holds the schedule against FIPS 197 appendix A: the last round keys.
func TestExpand(t *testing.T) {
	for _, c := range []struct{ key, last string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"},
		{"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "e98ba06f448c773c8ecc720401002202"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "fe4890d1e6188d0b046df344706c631e"},
	} {
		k, _ := hex.DecodeString(c.key)
		var rk [15 * 16]byte
		expand(rk[:], k)
		if got := hex.EncodeToString(rk[16*rounds(len(k)):][:16]); got != c.last {
			t.Errorf("%d bits: %s, want %s", len(k)*8, got, c.last)
		}
	}
}

// want is what a job has to lead to.
type want struct {
	plain, sealed, whole []byte
	off                  int
}

// build makes one job at an odd place in a buffer full of other bytes.
func (a *arena) build(t *testing.T, r *rand.ChaCha8, keyLen, n, aadLen int) (Job, want) {
	key, iv, aad, p := random(r, keyLen), random(r, NonceSize), random(r, aadLen), random(r, n)
	off := int(r.Uint64()%64) + 16
	whole := a.take(off + n + TagSize + room)
	copy(whole, random(r, len(whole)))
	copy(whole[off:], p)
	exp := bytes.Clone(whole)
	copy(exp[off:], reference(t, key).Seal(nil, iv, p, aad))
	return job(a.key(t, key), whole[off:], n, iv, aad), want{p, exp, whole, off}
}

func roundTrip(t *testing.T, l Level, r *rand.ChaCha8, jobs []Job, ws []want) {
	t.Helper()
	l.Seal(jobs)
	for i, w := range ws {
		if !bytes.Equal(w.whole, w.sealed) {
			d := 0
			for w.whole[d] == w.sealed[d] {
				d++
			}
			t.Fatalf("job %d, text of %d bytes, AAD of %d: sealed text differs at %d", i, jobs[i].Len, jobs[i].AADn, d-w.off)
		}
	}
	bad := 0
	tampered := make([]bool, len(ws))
	for i, w := range ws {
		if r.Uint64()%3 == 0 {
			bit := r.Uint64() % uint64(8*(int(jobs[i].Len)+TagSize))
			w.whole[w.off+int(bit/8)] ^= 1 << (bit % 8)
			copy(w.sealed[w.off+int(jobs[i].Len):], w.whole[w.off+int(jobs[i].Len):][:TagSize])
			tampered[i] = true
			bad++
		}
	}
	if got := l.Open(jobs); got != bad {
		t.Fatalf("%d bad, want %d", got, bad)
	}
	for i, w := range ws {
		exp := w.plain
		if tampered[i] {
			exp = make([]byte, len(exp)) // no plaintext is released
		}
		if (jobs[i].Bad != 0) != tampered[i] || !bytes.Equal(w.whole[w.off:w.off+len(exp)], exp) {
			t.Fatalf("job %d, text of %d bytes: bad %d, tampered %v", i, jobs[i].Len, jobs[i].Bad, tampered[i])
		}
		if !bytes.Equal(w.whole[:w.off], w.sealed[:w.off]) || !bytes.Equal(w.whole[w.off+len(exp):], w.sealed[w.off+len(exp):]) {
			t.Fatalf("job %d: bytes around the text changed", i)
		}
	}
}

func TestAllLengths(t *testing.T) { levels(t, allLengths) }

func allLengths(t *testing.T, l Level) {
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{1})
	for _, keyLen := range []int{16, 24, 32} {
		for n := 0; n <= 2100; n++ {
			for _, aad := range []int{8, 12} {
				a.n = 0
				j, w := a.build(t, r, keyLen, n, aad)
				roundTrip(t, l, r, []Job{j}, []want{w})
			}
		}
	}
}

func TestLong(t *testing.T) { levels(t, long) }

func long(t *testing.T, l Level) {
	a, r := newArena(t, 1<<18), rand.NewChaCha8([32]byte{2})
	for i := range 200 {
		n := int(r.Uint64() % (MaxLen + 1))
		if i == 0 {
			n = MaxLen
		}
		a.n = 0
		j, w := a.build(t, r, 16+8*(i%3), n, i%(MaxAAD+1))
		roundTrip(t, l, r, []Job{j}, []want{w})
	}
}

func TestMixedBurst(t *testing.T) { levels(t, mixedBurst) }

func mixedBurst(t *testing.T, l Level) {
	a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{3})
	for range 200 {
		a.n = 0
		var jobs []Job
		var ws []want
		for range 1 + r.Uint64()%64 {
			n := int(r.Uint64() % 2049)
			if r.Uint64()%2 == 0 {
				n %= 200
			}
			j, w := a.build(t, r, 16+8*int(r.Uint64()%3), n, 8+4*int(r.Uint64()%2))
			if len(jobs) > 0 && r.Uint64()%2 == 0 { // the same key again
				j.Key = jobs[len(jobs)-1].Key
				c := bytes.Clone(w.plain)
				x := job(j.Key, a.take(len(c)+TagSize), len(c), j.Nonce[:NonceSize], j.AAD[:j.AADn])
				copy(unsafe.Slice((*byte)(at(x.Text)), len(c)), c)
				l.Seal([]Job{x}) // alone, which TestAllLengths holds against the reference
				copy(w.sealed[w.off:], unsafe.Slice((*byte)(at(x.Text)), len(c)+TagSize))
			}
			jobs, ws = append(jobs, j), append(ws, w)
		}
		roundTrip(t, l, r, jobs, ws)
	}
}

func TestTagBits(t *testing.T) { levels(t, tagBits) }

func tagBits(t *testing.T, l Level) {
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{4})
	j, w := a.build(t, r, 16, 100, 8)
	jobs := []Job{j}
	for bit := range 8 * TagSize {
		copy(w.whole, w.sealed)
		w.whole[w.off+100+bit/8] ^= 1 << (bit % 8)
		if l.Open(jobs) != 1 || jobs[0].Bad == 0 {
			t.Fatalf("tag bit %d changed and accepted", bit)
		}
	}
}

func TestRefused(t *testing.T) {
	a := newArena(t, 1<<16)
	for _, n := range []int{0, 15, 17, 33} {
		if _, err := Expand(a.take(2048), make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
	if _, err := Expand(a.take(2048)[8:], make([]byte, 16)); err == nil {
		t.Error("a context that is not aligned was taken")
	}
	if _, err := Expand(a.take(ContextSize(16)-1), make([]byte, 16)); err == nil {
		t.Error("a context that is too short was taken")
	}
	defer func() {
		if recover() == nil {
			t.Error("a text beyond MaxLen was taken")
		}
	}()
	Seal([]Job{job(a.key(t, make([]byte, 16)), a.take(32), MaxLen+1, nil, nil)})
}

func TestDoesNotAllocate(t *testing.T) { levels(t, doesNotAllocate) }

func doesNotAllocate(t *testing.T, l Level) {
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{5})
	j, _ := a.build(t, r, 16, 100, 8)
	jobs := []Job{j, j}
	if n := testing.AllocsPerRun(100, func() { l.Seal(jobs); l.Open(jobs[1:]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
