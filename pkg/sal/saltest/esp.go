package saltest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"vrouter/pkg/sal"
)

// The tests of this file run every combination of algorithms that an engine
// offers: encryption, length of key, integrity, ESN.

// suite is one combination.
type suite struct {
	sal.SAConfig
	sal.Layout
}

func (s *suite) String() string {
	return fmt.Sprintf("%v-%d/%v/ESN %v", s.Algorithm, s.KeyBits(), s.Integrity, s.ESN)
}

// suites are all combinations of the engine's capabilities.
func (b *bench) suites() (l []*suite) {
	b.Helper()
	for _, a := range b.caps.Algorithms {
		shape, ok := a.Algorithm.Shape()
		if !ok {
			continue
		}
		beside := b.caps.Integrity
		if shape.AEAD {
			beside = []sal.Integrity{sal.NoIntegrity}
		}
		for _, bits := range a.KeyBits {
			for _, i := range beside {
				for _, esn := range []bool{false, true} {
					if esn && !b.caps.ESN {
						continue
					}
					l = append(l, newSuite(uint32(len(l)), a.Algorithm, bits, i, esn))
				}
			}
		}
	}
	if len(l) == 0 {
		b.Skip("the engine has no algorithm that this suite knows")
	}
	return l
}

func newSuite(n uint32, a sal.Algorithm, bits int, i sal.Integrity, esn bool) *suite {
	shape, _ := a.Shape()
	key := make([]byte, bits/8+shape.Salt)
	for k := range key {
		key[k] = byte(n>>(8*(k&3))) + byte(3*k)
	}
	var ikey []byte
	if h, ok := i.Shape(); ok {
		ikey = make([]byte, h.Key)
		for k := range ikey {
			ikey[k] = byte(n) ^ byte(5*k+1)
		}
	}
	s := &suite{SAConfig: sal.SAConfig{SPI: 0x1000 + n, Direction: sal.Outbound, Mode: sal.ModeCrypto,
		Algorithm: a, Integrity: i, Key: key, IntegrityKey: ikey, ESN: esn}}
	var err error
	if s.Layout, err = s.SAConfig.Layout(); err != nil {
		panic(err)
	}
	return s
}

// espReference is what ESP makes of a text, by other means than an engine's: the
// packet from the IV on.
func espReference(c *sal.SAConfig, seq, hi uint32, iv, text []byte) []byte {
	shape, _ := c.Algorithm.Shape()
	key, salt := c.Key[:len(c.Key)-shape.Salt], c.Key[len(c.Key)-shape.Salt:]
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	if shape.AEAD {
		var a cipher.AEAD
		if c.Algorithm == sal.ChaCha20Poly1305 {
			x, err := chacha20poly1305.New(key)
			must(err)
			a = x
		} else {
			block, err := aes.NewCipher(key)
			must(err)
			a, err = cipher.NewGCM(block)
			must(err)
		}
		return a.Seal(bytes.Clone(iv), append(bytes.Clone(salt), iv...), text, aad(c.ESN, c.SPI, hi, seq))
	}
	out := bytes.Clone(text)
	switch c.Algorithm {
	case sal.AESCBC:
		block, err := aes.NewCipher(key)
		must(err)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	case sal.AESCTR:
		block, err := aes.NewCipher(key)
		must(err)
		cipher.NewCTR(block, slices.Concat(salt, iv, []byte{0, 0, 0, 1})).XORKeyStream(out, out)
	}
	h := hmac.New(map[sal.Integrity]func() hash.Hash{sal.HMACSHA1_96: sha1.New, sal.HMACSHA2_256_128: sha256.New,
		sal.HMACSHA2_384_192: sha512.New384, sal.HMACSHA2_512_256: sha512.New}[c.Integrity], c.IntegrityKey)
	h.Write(aad(false, c.SPI, 0, seq))
	h.Write(iv)
	h.Write(out)
	if c.ESN {
		h.Write(binary.BigEndian.AppendUint32(nil, hi))
	}
	i, _ := c.Integrity.Shape()
	return slices.Concat(iv, out, h.Sum(nil)[:i.ICV])
}

// sealJob lays a text out to be sealed; openJob a packet (from the IV on) to be
// opened.
func (b *bench) sealJob(s *suite, sa sal.SA, buf uint32, off int, seq, hi uint32, iv, text []byte) sal.Job {
	return b.espJob(s, sa, sal.Seal, buf, off, seq, hi, slices.Concat(iv, text), len(text))
}

func (b *bench) openJob(s *suite, sa sal.SA, buf uint32, off int, seq, hi uint32, packet []byte) sal.Job {
	return b.espJob(s, sa, sal.Open, buf, off, seq, hi, packet, len(packet)-s.IV-s.ICV)
}

func (b *bench) espJob(s *suite, sa sal.SA, op sal.Op, buf uint32, off int, seq, hi uint32, behind []byte, n int) sal.Job {
	m := b.buffer(buf)
	for i := range m {
		m[i] = guard(i)
	}
	binary.BigEndian.PutUint32(m[off:], s.SPI)
	binary.BigEndian.PutUint32(m[off+4:], seq)
	copy(m[off+espLen:], behind)
	return sal.Job{SA: sa, Op: op, Status: sal.StatusPending, Desc: sal.MakeDesc(buf, uint16(off), uint16(espLen+s.IV+n)),
		Off: uint16(off), Len: uint16(n), SeqHi: hi, Cookie: uint64(buf)<<32 | uint64(seq)}
}

// behind is a finished packet from the IV on, to the ICV for Seal; what is around
// it must be as it was.
func (b *bench) behind(s *suite, j *sal.Job) []byte {
	b.Helper()
	m := b.buffer(j.Desc.Buf())
	to := int(j.Off) + espLen + s.IV + int(j.Len) + s.ICV
	for i, x := range m {
		if (i < int(j.Off) || i >= to) && x != guard(i) {
			b.Fatalf("%v: byte %d of the buffer has changed; the packet is %d to %d", s, i, j.Off, to)
		}
	}
	if j.Op == sal.Open {
		to -= s.ICV
	}
	return m[int(j.Off)+espLen : to]
}

// iv is an IV as the caller writes it; what the engine writes begins as zeros.
func (s *suite) iv(n uint64) []byte {
	iv := make([]byte, s.IV)
	if shape, _ := s.Algorithm.Shape(); shape.Counter {
		binary.BigEndian.PutUint64(iv, n)
	}
	return iv
}

// checkSealed compares a sealed packet with the reference, under the IV that it
// has.
func (b *bench) checkSealed(s *suite, j *sal.Job, seq, hi uint32, iv, text []byte) {
	b.Helper()
	if j.Status != sal.StatusOK {
		b.Fatalf("%v: seal: status %d", s, j.Status)
	}
	got := b.behind(s, j)
	if shape, _ := s.Algorithm.Shape(); !shape.Counter && s.IV > 0 {
		iv = bytes.Clone(got[:s.IV])
		if bytes.Equal(iv, make([]byte, s.IV)) {
			b.Fatalf("%v: the engine wrote no IV", s)
		}
	}
	if want := espReference(&s.SAConfig, seq, hi, iv, text); !bytes.Equal(got, want) {
		b.Fatalf("%v, %d bytes: sealed to\n%x, want\n%x", s, len(text), got, want)
	}
}

//go:embed testdata/esp.txt
var espVectors string

// testESPKnownAnswers opens every vector, and seals it where its IV can be given.
// The reference, which judges all else, must agree.
func testESPKnownAnswers(b *bench) {
	b.start(4)
	done := 0
	for _, rec := range strings.Split(espVectors, "\n\n") {
		f := map[string]string{}
		for _, line := range strings.Split(rec, "\n") {
			if k, v, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
				f[k] = v
			}
		}
		if f["name"] == "" {
			continue
		}
		num := func(k string) int {
			n, _ := strconv.Atoi(f[k])
			return n
		}
		c := sal.SAConfig{SPI: 0x100, Mode: sal.ModeCrypto, Algorithm: sal.Algorithm(num("encryption")), Integrity: sal.Integrity(num("integrity")),
			Key: unhex(f["key"]), IntegrityKey: unhex(f["ikey"]), ESN: f["hi"] != ""}
		shape, _ := c.Algorithm.Shape()
		beside := []sal.Integrity{c.Integrity}
		if !shape.AEAD && c.Integrity == sal.NoIntegrity {
			beside = b.caps.Integrity
		}
		seq, hi := uint32(1), uint32(0)
		if e := unhex(f["esp"]); len(e) > 0 {
			c.SPI, seq = binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:])
		}
		if h := unhex(f["hi"]); len(h) > 0 {
			hi = binary.BigEndian.Uint32(h)
		}
		iv, text, want := unhex(f["iv"]), unhex(f["text"]), unhex(f["cipher"])
		if f["cipher"] == "" {
			want = text
		}
		for _, i := range beside {
			if c.Integrity = i; !b.caps.Does(c.Algorithm, c.KeyBits(), i) || c.ESN && !b.caps.ESN {
				continue
			}
			if h, ok := i.Shape(); ok && f["ikey"] == "" {
				c.IntegrityKey = pattern(h.Key)
			}
			s := &suite{SAConfig: c}
			var err error
			if s.Layout, err = c.Layout(); err != nil {
				b.Fatalf("%s: %v", f["name"], err)
			}
			packet := espReference(&c, seq, hi, iv, text)
			if got := packet[s.IV : s.IV+len(text)]; !bytes.Equal(got, want) {
				b.Fatalf("%s: the reference has cipher text\n%x, want\n%x", f["name"], got, want)
			}
			if icv := unhex(f["icv"]); len(icv) > 0 && !bytes.Equal(packet[s.IV+len(text):], icv) {
				b.Fatalf("%s: the reference has ICV\n%x, want\n%x", f["name"], packet[s.IV+len(text):], icv)
			}
			out, in := b.pair(c)
			for way, run := range b.ways() {
				j := []sal.Job{b.openJob(s, in, 1, espOff, seq, hi, packet)}
				if run(j); j[0].Status != sal.StatusOK || !bytes.Equal(b.behind(s, &j[0]), slices.Concat(iv, text)) {
					b.Errorf("%s %s: opened with status %d to\n%x", f["name"], way, j[0].Status, b.behind(s, &j[0]))
				}
				j = []sal.Job{b.sealJob(s, out, 1, espOff, seq, hi, iv, text)}
				run(j)
				b.checkSealed(s, &j[0], seq, hi, iv, text)
			}
			done++
		}
	}
	if done == 0 {
		b.Error("no vector fits the engine's capabilities")
	}
}

// testESPLengths runs texts of all lengths that a suite has, there and back.
func testESPLengths(b *bench) {
	suites := b.suites()
	b.start(4)
	for _, s := range suites {
		out, in := b.pair(s.SAConfig)
		for n := 0; n <= sal.BufSize-espOff-espLen-s.IV-s.ICV; n += s.Align {
			if n > 192 && n%496 != 0 && n < 1900 {
				continue
			}
			off, seq, hi, text := espOff-n&3*7, uint32(n), uint32(n)<<3, pattern(n)
			iv := s.iv(uint64(n)<<33 | 5)
			j := b.one(b.sealJob(s, out, 1, off, seq, hi, iv, text))
			b.checkSealed(s, &j, seq, hi, iv, text)
			sealed := bytes.Clone(b.behind(s, &j))
			j = b.one(b.openJob(s, in, 1, off, seq, hi, sealed))
			if j.Status != sal.StatusOK || !bytes.Equal(b.behind(s, &j)[s.IV:], text) {
				b.Fatalf("%v, %d bytes: opened with status %d", s, n, j.Status)
			}
		}
	}
}

// testESPMixed has SAs of all suites in the same bursts: nothing of one packet
// gets into the next.
func testESPMixed(b *bench) {
	suites := b.suites()
	b.start(sal.Burst)
	r := rand.New(rand.NewPCG(5, 6))
	type pair struct{ out, in sal.SA }
	var sas []pair
	for _, s := range suites {
		out, in := b.pair(s.SAConfig)
		sas = append(sas, pair{out, in})
	}
	for _, size := range []int{1, 3, 8, 64, sal.Burst, sal.Burst, sal.Burst} {
		for way, run := range b.ways() {
			type packet struct {
				s       *suite
				seq, hi uint32
				iv      []byte
				text    []byte
				bad     bool
			}
			jobs, want := make([]sal.Job, size), make([]packet, size)
			for i := range jobs {
				k := r.IntN(len(suites))
				s := suites[k]
				p := packet{s: s, seq: r.Uint32(), hi: r.Uint32(), text: pattern(r.IntN(1700/s.Align) * s.Align)}
				p.iv = s.iv(r.Uint64())
				off := 100 + r.IntN(100)
				if r.IntN(2) == 0 {
					jobs[i] = b.sealJob(s, sas[k].out, uint32(i), off, p.seq, p.hi, p.iv, p.text)
				} else {
					for x := range p.iv {
						p.iv[x] = byte(r.Uint32())
					}
					sealed := espReference(&s.SAConfig, p.seq, p.hi, p.iv, p.text)
					if p.bad = r.IntN(3) == 0; p.bad {
						sealed[r.IntN(len(sealed))] ^= 1 << r.IntN(8)
					}
					jobs[i] = b.openJob(s, sas[k].in, uint32(i), off, p.seq, p.hi, sealed)
				}
				jobs[i].Cookie, want[i] = uint64(i), p
			}
			run(jobs)
			for i := range jobs {
				j, p := &jobs[i], &want[i]
				switch {
				case j.Op == sal.Seal:
					b.checkSealed(p.s, j, p.seq, p.hi, p.iv, p.text)
				case p.bad && j.Status != sal.StatusBadICV:
					b.Fatalf("%s: %v: status %d for a bad packet", way, p.s, j.Status)
				case !p.bad && (j.Status != sal.StatusOK || !bytes.Equal(b.behind(p.s, j)[p.s.IV:], p.text)):
					b.Fatalf("%s: %v: opened with status %d", way, p.s, j.Status)
				}
			}
		}
	}
}

// testESPBadICV changes every byte of a packet, and the upper half of its number.
// Nothing is decrypted.
func testESPBadICV(b *bench) {
	suites := b.suites()
	b.start(4)
	for _, s := range suites {
		_, in := b.pair(s.SAConfig)
		const seq, hi = 77, 5
		text := pattern(64)
		sealed := espReference(&s.SAConfig, seq, hi, s.iv(1<<40), text)
		bad := uint64(0)
		try := func(what string, spoil func(p []byte, j *sal.Job)) {
			j := b.openJob(s, in, 1, espOff, seq, hi, sealed)
			p := b.buffer(1)[espOff:]
			spoil(p, &j)
			before := bytes.Clone(p[espLen+s.IV:][:j.Len])
			j = b.one(j)
			bad++
			if j.Status != sal.StatusBadICV {
				b.Fatalf("%v, %s changed: status %d", s, what, j.Status)
			}
			if left := p[espLen+s.IV:][:j.Len]; !bytes.Equal(left, before) && !bytes.Equal(left, make([]byte, j.Len)) {
				b.Fatalf("%v, %s changed: the bytes are neither wiped nor as they came", s, what)
			}
		}
		for i := range espLen + len(sealed) {
			try(fmt.Sprintf("byte %d", i), func(p []byte, _ *sal.Job) { p[i] ^= 1 << (i & 7) })
		}
		if s.ESN {
			for bit := range 32 {
				try("upper half", func(_ []byte, j *sal.Job) { j.SeqHi ^= 1 << bit })
			}
		}
		try("length", func(_ []byte, j *sal.Job) { j.Len -= uint16(s.Align) })
		j := b.openJob(s, in, 1, espOff, seq, hi, sealed)
		if !s.ESN {
			j.SeqHi = 0xffff // says nothing without ESN
		}
		if j = b.one(j); j.Status != sal.StatusOK || !bytes.Equal(b.behind(s, &j)[s.IV:], text) {
			b.Errorf("%v, the unchanged packet: status %d", s, j.Status)
		}
		if st, err := b.s.Stats(in); err != nil || st.Errors[sal.StatusBadICV] != bad || st.Packets != 1 {
			b.Errorf("%v, %d bad packets and a good one: %+v, %v", s, bad, st, err)
		}
	}
}

// testESPRoom has packets that are not whole blocks, or do not fit their buffers.
func testESPRoom(b *bench) {
	suites := b.suites()
	b.start(4)
	for _, s := range suites {
		out, in := b.pair(s.SAConfig)
		for sa, op := range map[sal.SA]sal.Op{out: sal.Seal, in: sal.Open} {
			for n := range uint16(33) {
				if s.Align < blockLen || n%blockLen == 0 {
					continue
				}
				j := b.espJob(s, sa, op, 1, espOff, 1, 0, pattern(80), 64)
				j.Len = n
				before := bytes.Clone(b.buffer(1))
				if j = b.one(j); j.Status != sal.StatusShort || !bytes.Equal(before, b.buffer(1)) {
					b.Fatalf("%v, %d bytes of text: status %d, or bytes changed", s, n, j.Status)
				}
			}
			last := sal.BufSize - espLen - s.IV - s.ICV
			for _, x := range []struct{ off, n int }{{last - 63, 64}, {last + 1, 0}, {espOff, 2000 &^ 15}, {65000, 64}, {espOff, 65520}, {65535, 65520}} {
				before := bytes.Clone(b.buffer(2))
				j := b.one(sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(1, 0, 64), Off: uint16(x.off), Len: uint16(x.n)})
				if j.Status != sal.StatusNoRoom || !bytes.Equal(before, b.buffer(2)) {
					b.Fatalf("%v, %d bytes at %d: status %d, or the next buffer changed", s, x.n, x.off, j.Status)
				}
			}
			if j := b.one(sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(1<<31, 0, 64), Off: espOff, Len: 64}); j.Status == sal.StatusOK {
				b.Errorf("%v: a buffer that is not in the pool", s)
			}
		}
	}
}

const blockLen = 16

// testESPIVs: what the engine writes as IV repeats on no queue, and follows from
// nothing that is on the wire.
func testESPIVs(b *bench) {
	var s *suite
	for _, x := range b.suites() {
		if x.Algorithm == sal.AESCBC {
			s = x
		}
	}
	if s == nil {
		b.Skip("the engine writes no IVs")
	}
	b.start(sal.Burst)
	out, _ := b.pair(s.SAConfig)
	queues := []sal.Queue{b.q}
	if b.caps.Queues > 1 {
		q, err := b.s.Queue(1, b.pool)
		if err != nil {
			b.Fatal(err)
		}
		defer q.Close()
		queues = append(queues, q)
	}
	seen, ones := map[[16]byte]bool{}, 0
	text := pattern(16)
	const each = 2048
	for _, q := range queues {
		x := &bench{T: b.T, d: b.d, caps: b.caps, s: b.s, pool: b.pool, q: q}
		for range each {
			j := x.one(x.sealJob(s, out, 1, espOff, 7, 0, make([]byte, 16), text)) // the very same packet
			iv := [16]byte(x.behind(s, &j))
			if seen[iv] {
				b.Fatal("an IV was used twice")
			}
			seen[iv] = true
			for _, v := range iv {
				for ; v != 0; v &= v - 1 {
					ones++
				}
			}
		}
	}
	// 128 fair coins each: the mean is off by a hundredth of itself once in 10^20.
	if n := len(seen) * 128; ones < n*49/100 || ones > n*51/100 {
		b.Errorf("%d of %d bits are set: that is no random IV", ones, n)
	}
}

// testESPAllocations: no suite allocates on the packet path, in success or failure.
func testESPAllocations(b *bench) {
	if b.opt.Allocates != "" {
		b.Skip(b.opt.Allocates)
	}
	suites := b.suites()
	b.start(2 * len(suites))
	jobs := make([]sal.Job, 2*len(suites))
	for i, s := range suites {
		out, in := b.pair(s.SAConfig)
		jobs[2*i] = b.sealJob(s, out, uint32(2*i), espOff, 1, 0, s.iv(1), pattern(208))
		jobs[2*i+1] = b.openJob(s, in, uint32(2*i+1), espOff, 1, 0, espReference(&s.SAConfig, 1, 0, s.iv(1), pattern(208)))
	}
	back := make([]sal.Job, 64)
	if n := testing.AllocsPerRun(20, func() {
		if b.caps.Sync {
			b.q.Do(jobs)
		}
		for k := 0; k < len(jobs); {
			k += b.q.Submit(jobs[k:])
			b.q.Poll(back)
		}
		for b.q.InFlight() > 0 {
			b.q.Poll(back)
		}
	}); n != 0 {
		b.Errorf("%v allocations in a burst", n)
	}
}

// testESPRefusals has combinations and keys that must not be.
func testESPRefusals(b *bench) {
	suites := b.suites()
	b.start(4)
	for _, s := range suites {
		for what, spoil := range map[string]func(*sal.SAConfig){
			"shorter key":              func(c *sal.SAConfig) { c.Key = c.Key[:max(len(c.Key)-1, 0)] },
			"longer key":               func(c *sal.SAConfig) { c.Key = append(slices.Clone(c.Key), 0) },
			"shorter key of integrity": func(c *sal.SAConfig) { c.IntegrityKey = c.IntegrityKey[:max(len(c.IntegrityKey)-1, 0)] },
			"longer key of integrity":  func(c *sal.SAConfig) { c.IntegrityKey = append(slices.Clone(c.IntegrityKey), 0) },
			"integrity the other way": func(c *sal.SAConfig) {
				if c.Integrity == sal.NoIntegrity {
					c.Integrity, c.IntegrityKey = sal.HMACSHA2_256_128, make([]byte, 32)
				} else {
					c.Integrity, c.IntegrityKey = sal.NoIntegrity, nil
				}
			},
			"integrity that is none": func(c *sal.SAConfig) { c.Integrity = 999 },
		} {
			c := s.SAConfig
			if spoil(&c); len(c.Key) == len(s.Key) && len(c.IntegrityKey) == len(s.IntegrityKey) && c.Integrity == s.Integrity {
				continue // there is no shorter one than none
			}
			if _, err := b.s.AddSA(0, &c); !errors.Is(err, sal.ErrInvalid) && !errors.Is(err, sal.ErrNotSupported) {
				b.Errorf("%v, %s: %v", s, what, err)
			} else if err != nil && len(s.Key) > 0 && strings.Contains(err.Error(), string(s.Key)) {
				b.Errorf("%v, %s: the key is in the error", s, what)
			}
		}
	}
}
