package cbchmac

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/mem"
)

func TestMain(m *testing.M) {
	for l := SHANI; l <= VAES512; l++ {
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

// arena hands out mapped memory, which is given back all at once.
type arena struct {
	b []byte
	n int
	s *State
}

func newArena(t testing.TB, size int) *arena {
	r, err := mem.Map(size+int(unsafe.Sizeof(State{})), mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Unmap() })
	return &arena{s: (*State)(r.Ptr()), b: r.Bytes()[(unsafe.Sizeof(State{})+63)&^63:]}
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

// pair is an SA's keys.
type pair struct {
	k           Key
	cipher, mac []byte
}

func (a *arena) key(t testing.TB, key, mac []byte) pair {
	t.Helper()
	k, err := Expand(a.take(ContextSize), key, mac)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, key, mac}
}

// reference is what Seal has to make of a packet: head, nonce and text. The nonce
// becomes the IV.
func (p pair) reference(head, nonce, text, more []byte) []byte {
	b, err := aes.NewCipher(p.cipher)
	if err != nil {
		panic(err)
	}
	iv := make([]byte, BlockSize)
	b.Encrypt(iv, nonce)
	out := append(append(bytes.Clone(head), iv...), text...)
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(out[len(head)+BlockSize:], text)
	return append(out, p.icv(out, more)...)
}

func (p pair) icv(covered, more []byte) []byte {
	h := hmac.New(sha256.New, p.mac)
	h.Write(covered)
	h.Write(more)
	return h.Sum(nil)[:ICVSize]
}

// packet is a job with what it has to lead to.
type packet struct {
	pair
	head, nonce, text, more []byte
	sealed                  []byte // of head to ICV
	whole                   []byte // memory around it, and off where in that it begins
	around                  []byte
	off                     int
}

func (a *arena) packet(r *rand.ChaCha8, k pair, head, n, off int, more bool) *packet {
	p := &packet{pair: k, head: random(r, head), nonce: random(r, BlockSize), text: random(r, n), off: off}
	if more {
		p.more = random(r, 4)
	}
	p.sealed = p.reference(p.head, p.nonce, p.text, p.more)
	p.whole = a.take(off + len(p.sealed) + 64)
	p.around = random(r, len(p.whole))
	return p
}

// plain lays the packet out as Seal wants it; came as Open does.
func (p *packet) plain() {
	copy(p.whole, p.around)
	copy(p.whole[p.off:], p.head)
	copy(p.whole[p.off+len(p.head):], p.nonce)
	copy(p.whole[p.off+len(p.head)+BlockSize:], p.text)
}

func (p *packet) came() {
	copy(p.whole, p.around)
	copy(p.whole[p.off:], p.sealed)
}

func (p *packet) job() (j Job) {
	j = Job{Key: p.k, Text: uintptr(unsafe.Pointer(&p.whole[0])) + uintptr(p.off+len(p.head)+BlockSize),
		Len: uint32(len(p.text)), Head: uint32(len(p.head) + BlockSize)}
	if p.more != nil {
		j.HasMore = uint32(copy(j.More[:], p.more))
	}
	return j
}

// is tells whether the memory holds want as the packet, and what it held before
// around it.
func (p *packet) is(want []byte) bool {
	end := p.off + len(want)
	return bytes.Equal(p.whole[p.off:end], want) && bytes.Equal(p.whole[:p.off], p.around[:p.off]) && bytes.Equal(p.whole[end:], p.around[end:])
}

// opened is the packet after Open.
func (p *packet) opened() []byte {
	b := bytes.Clone(p.sealed)
	copy(b[len(p.head)+BlockSize:], p.text)
	return b
}

// roundTrip seals and opens a burst. Every third of spoilt has a bit changed.
func (a *arena) roundTrip(t *testing.T, l Level, r *rand.ChaCha8, ps []*packet, spoil bool) {
	t.Helper()
	jobs := make([]Job, len(ps))
	for i, p := range ps {
		p.plain()
		jobs[i] = p.job()
	}
	a.s.Seal(l, jobs)
	for i, p := range ps {
		if !p.is(p.sealed) {
			t.Fatalf("job %d of %d, text of %d bytes, %d in front, more %x: sealed wrong\n got %x\nwant %x", i, len(ps), len(p.text), len(p.head), p.more, p.whole[p.off:p.off+len(p.sealed)], p.sealed)
		}
	}
	a.clean(t)
	bad := 0
	came := make([][]byte, len(ps))
	for i, p := range ps {
		p.came()
		jobs[i] = p.job()
		came[i] = bytes.Clone(p.sealed)
		if spoil && i%3 == 0 {
			bit := int(r.Uint64() % uint64(8*len(p.sealed)))
			came[i][bit/8] ^= 1 << (bit % 8)
			p.whole[p.off+bit/8] ^= 1 << (bit % 8)
			bad++
		}
	}
	if got := a.s.Open(l, jobs); got != bad {
		t.Fatalf("%d bad of %d, want %d", got, len(ps), bad)
	}
	for i, p := range ps {
		want := p.opened()
		if spoil && i%3 == 0 {
			want = came[i] // nothing is decrypted
		}
		if jobs[i].Bad != 0 != (spoil && i%3 == 0) || !p.is(want) {
			t.Fatalf("job %d of %d, text of %d bytes, %d in front, more %x: bad %d, opened wrong", i, len(ps), len(p.text), len(p.head), p.more, jobs[i].Bad)
		}
	}
	a.clean(t)
}

// clean wants nothing of keys and texts left in the state.
func (a *arena) clean(t *testing.T) {
	t.Helper()
	s := a.s
	for name, b := range map[string][]byte{"states": wordsOf(s.sha.h[:]), "round keys": wordsOf(s.cbc.rk[:]), "tails": wordsOf(s.tails[:]),
		"keys": wordsOf(s.keys[:]), "idle": s.idle[:]} {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Fatalf("%s are left behind a burst", name)
		}
	}
}

func wordsOf[T any](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// TestLengths has every length of text up to 2048 bytes, and of what is in front,
// with and without the upper half of a sequence number, in bursts of mixed keys.
func TestLengths(t *testing.T) { levels(t, lengths) }

func lengths(t *testing.T, l Level) {
	a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{1})
	for first := 0; first <= 2048; first += 16 * 16 {
		a.n = 0
		var keys []pair
		for i := range 6 {
			keys = append(keys, a.key(t, random(r, 16+8*(i%3)), random(r, MACKeySize)))
		}
		var ps []*packet
		for i := range 128 {
			n := first + 16*(i%16)
			ps = append(ps, a.packet(r, keys[i%len(keys)], (first/16+i)%72, n, i%64, i/2%2 == 0))
		}
		a.roundTrip(t, l, r, ps, true)
	}
}

// TestShapes has bursts of every number of jobs, sizes mixed, one key and several.
func TestShapes(t *testing.T) { levels(t, shapes) }

func shapes(t *testing.T, l Level) {
	a, r := newArena(t, 1<<21), rand.NewChaCha8([32]byte{2})
	for n := 1; n <= 66; n++ {
		a.n = 0
		var keys []pair
		for i := range 1 + n%4 {
			keys = append(keys, a.key(t, random(r, 16+8*((i+n)%3)), random(r, MACKeySize)))
		}
		var ps []*packet
		for i := range n {
			size := int(r.Uint64()%6) * 16
			if i%5 == 0 {
				size = int(r.Uint64()%100) * 16
			}
			ps = append(ps, a.packet(r, keys[int(r.Uint64())&0xff%len(keys)], 8, size, int(r.Uint64()%64), n%2 == 0))
		}
		a.roundTrip(t, l, r, ps, n%3 == 0)
	}
}

// TestLongest has the longest text among short ones.
func TestLongest(t *testing.T) {
	levels(t, func(t *testing.T, l Level) {
		a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{3})
		k := a.key(t, random(r, 32), random(r, MACKeySize))
		var ps []*packet
		for i := range 40 {
			ps = append(ps, a.packet(r, k, 8, 16*(i%3), 0, false))
		}
		ps[5] = a.packet(r, k, 8, MaxLen, 3, true)
		a.roundTrip(t, l, r, ps, false)
	})
}

func un(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// TestKnown has cases 1 and 4 of RFC 3602 section 4, a case of NIST SP 800-38A section F.2 for each size of key, whose IVs are what the
// nonces given encrypt to, and the ICVs of RFC 4868 section 2.7.2.1 (of the
// authentication test cases, which have keys as long as the hash).
func TestKnown(t *testing.T) { levels(t, known) }

func known(t *testing.T, l Level) {
	a := newArena(t, 1<<16)
	macKey := un("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b")
	nist := "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	for _, c := range []struct{ key, iv, text, want string }{
		{"06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41", hex.EncodeToString([]byte("Single block msg")), "e353779c1079aeb82708942dbe77181a"},
		{"56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9",
			"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
			"c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"},
		{"2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f", nist,
			"7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
		{"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f", nist,
			"4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f", nist,
			"f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
	} {
		a.n = 0
		b, _ := aes.NewCipher(un(c.key))
		nonce := make([]byte, BlockSize)
		b.Decrypt(nonce, un(c.iv))
		text := un(c.text)
		buf := a.take(BlockSize + len(text) + ICVSize)
		copy(buf, nonce)
		copy(buf[BlockSize:], text)
		k := a.key(t, un(c.key), macKey)
		jobs := []Job{{Key: k.k, Text: uintptr(unsafe.Pointer(&buf[BlockSize])), Len: uint32(len(text)), Head: BlockSize}}
		a.s.Seal(l, jobs)
		if got := hex.EncodeToString(buf[:len(buf)-ICVSize]); got != c.iv+c.want {
			t.Errorf("key %s\n got %s\nwant %s", c.key, got, c.iv+c.want)
		}
		if a.s.Open(l, jobs) != 0 || !bytes.Equal(buf[BlockSize:][:len(text)], text) {
			t.Errorf("key %s: opened wrong", c.key)
		}
	}
	// RFC 4868: HMAC-SHA-256-128 over data that is no multiple of a block; only the
	// ICV can be had, from what is covered and no text.
	for _, c := range []struct{ key, data, icv string }{
		{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265", "198a607eb44bfbc69903a0f1cf2bbdc5"},
		{"4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665", hex.EncodeToString([]byte("what do ya want for nothing?")), "167f928588c5cc2eef8e3093caa0e87c"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", hex.EncodeToString(bytes.Repeat([]byte{0xdd}, 50)), "cdcb1220d1ecccea91e53aba3092f962"},
		{"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", hex.EncodeToString(bytes.Repeat([]byte{0xcd}, 50)), "372efcf9b40b35c2115b1346903d2ef4"},
	} {
		a.n = 0
		data := un(c.data)
		buf := a.take(len(data) + ICVSize)
		copy(buf, data)
		copy(buf[len(data):], un(c.icv))
		k := a.key(t, make([]byte, 16), un(c.key))
		jobs := []Job{{Key: k.k, Text: uintptr(unsafe.Pointer(&buf[0])) + uintptr(len(data)), Head: uint32(len(data))}}
		if a.s.mac(l, jobs, true) != 0 {
			t.Errorf("HMAC under %s is not %s", c.key, c.icv)
		}
	}
}

// TestBounds puts packets between pages that cannot be read: a kernel that touches
// a byte before what is covered or behind the ICV ends the test.
func TestBounds(t *testing.T) { levels(t, bounds) }

func bounds(t *testing.T, l Level) {
	page, pages := unix.Getpagesize(), 3
	m, err := mem.Map(pages*page, mem.Options{SmallPages: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Unmap() }()
	for _, i := range []int{0, pages - 1} {
		p := m.Bytes()[i*page : (i+1)*page]
		if err := unix.Mprotect(p, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE) }()
	}
	mid := m.Bytes()[page : 2*page]
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{11})
	k := a.key(t, random(r, 16), random(r, MACKeySize))
	keep := a.n
	for n := 0; n <= 400; n += 16 {
		for _, copies := range []int{1, 20} { // as many jobs as choose the other kernels
			a.n = keep
			whole := 8 + BlockSize + n + ICVSize
			p := a.packet(r, k, 8, n, 0, false)
			var others []*packet
			for range copies - 1 {
				others = append(others, a.packet(r, k, 8, n, 0, false))
			}
			for _, buf := range [][]byte{mid[:whole:whole], mid[page-whole:]} {
				p.whole, p.around = buf, make([]byte, whole)
				a.roundTrip(t, l, r, append([]*packet{p}, others...), false)
			}
		}
	}
}

// TestICV changes each bit of ICV, IV, header and upper half of the sequence number,
// and the ICV in ways that a comparison gone wrong would not see.
func TestICV(t *testing.T) { levels(t, icvs) }

func icvs(t *testing.T, l Level) {
	a, r := newArena(t, 1<<16), rand.NewChaCha8([32]byte{4})
	p := a.packet(r, a.key(t, random(r, 16), random(r, MACKeySize)), 8, 48, 5, true)
	check := func(how string, change func(b []byte, j *Job)) {
		t.Helper()
		p.came()
		jobs := []Job{p.job()}
		b := p.whole[p.off:][:len(p.sealed)]
		change(b, &jobs[0])
		want := bytes.Clone(b)
		if a.s.Open(l, jobs) != 1 || jobs[0].Bad != 1 {
			t.Fatalf("%s is accepted", how)
		}
		if !p.is(want) {
			t.Fatalf("%s: the packet has changed", how)
		}
	}
	for bit := range 8 * len(p.sealed) {
		check(fmt.Sprint("bit ", bit), func(b []byte, _ *Job) { b[bit/8] ^= 1 << (bit % 8) })
	}
	for bit := range 32 {
		check(fmt.Sprint("bit of the sequence number ", bit), func(_ []byte, j *Job) { j.More[bit/8] ^= 1 << (bit % 8) })
	}
	check("no upper half", func(_ []byte, j *Job) { j.HasMore = 0 })
	icv := func(f func(x []byte)) func(b []byte, _ *Job) {
		return func(b []byte, _ *Job) { f(b[len(b)-ICVSize:]) }
	}
	check("the ICV turned", icv(func(x []byte) { copy(x, append(bytes.Clone(x[8:]), x[:8]...)) }))
	check("zeros", icv(func(x []byte) { clear(x) }))
	check("half of it", icv(func(x []byte) { clear(x[8:]) }))
	check("the other half", icv(func(x []byte) { clear(x[:8]) }))
	check("the same in both halves", icv(func(x []byte) {
		for i := range 8 {
			x[i] ^= 0x80
			x[8+i] ^= 0x80
		}
	}))
	p.came()
	if jobs := []Job{p.job()}; a.s.Open(l, jobs) != 0 || !p.is(p.opened()) {
		t.Fatal("the packet itself is not accepted")
	}
}

// TestRefused wants lengths that cannot be and levels that are not there to stop
// before anything is touched.
func TestRefused(t *testing.T) {
	if _, err := Expand(make([]byte, 2*ContextSize), make([]byte, 17), make([]byte, 32)); err == nil {
		t.Error("a key of 17 bytes is taken")
	}
	if _, err := Expand(make([]byte, 2*ContextSize), make([]byte, 16), make([]byte, 20)); err == nil {
		t.Error("20 bytes are taken for a key of HMAC-SHA-256-128")
	}
	if _, err := Expand(make([]byte, ContextSize-1), make([]byte, 16), make([]byte, 32)); err == nil {
		t.Error("too small a context is taken")
	}
	a := newArena(t, 1<<16)
	good := Job{Head: 24, Len: 16}
	for _, c := range []struct {
		l      Level
		change func(j *Job)
	}{
		{None, func(*Job) {}}, {VAES512 + 1, func(*Job) {}},
		{SHANI, func(j *Job) { j.Len = 15 }}, {SHANI, func(j *Job) { j.Len = MaxLen + 16 }},
		{SHANI, func(j *Job) { j.Head = 15 }}, {SHANI, func(j *Job) { j.Head = MaxLen + 1 }},
	} {
		j := good
		c.change(&j)
		for name, f := range map[string]func(){"seal": func() { a.s.Seal(c.l, []Job{j}) }, "open": func() { a.s.Open(c.l, []Job{j}) }} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: %v %+v is taken", name, c.l, j)
					}
				}()
				f()
			}()
		}
	}
}

func TestAllocations(t *testing.T) {
	levels(t, func(t *testing.T, l Level) {
		a, r := newArena(t, 1<<20), rand.NewChaCha8([32]byte{5})
		k := []pair{a.key(t, random(r, 16), random(r, MACKeySize)), a.key(t, random(r, 32), random(r, MACKeySize))}
		jobs := make([]Job, 64)
		for i := range jobs {
			jobs[i] = a.packet(r, k[i%2], 8, 16*(i%20), 0, i%3 == 0).job()
		}
		if n := testing.AllocsPerRun(20, func() {
			a.s.Seal(l, jobs)
			if a.s.Open(l, jobs) != 0 {
				t.Fatal("bad")
			}
		}); n != 0 {
			t.Errorf("%v allocations for a burst", n)
		}
	})
}
