package cpu

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"vrouter/pkg/cbchmac"
	"vrouter/pkg/sal"
)

// The fields of the standard library's CTR are known here; where they are not,
// single blocks give the same.
func TestCTRWays(t *testing.T) {
	a, err := newArena(8192)
	if err != nil {
		t.Fatal(err)
	}
	defer a.r.Unmap()
	x := newCTR(a)
	if x.stream == nil {
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			t.Fatal("the standard library's CTR has changed: look at newCTR")
		}
		t.Skip("the standard library's CTR is not known on this platform")
	}
	r := &record{salt: [4]byte{1, 2, 3, 4}}
	block, _ := aes.NewCipher([]byte("a key of 16 byte"))
	b := r.take(block).(interface {
		BlockSize() int
		Encrypt(dst, src []byte)
		Decrypt(dst, src []byte)
	})
	for n := range 400 {
		iv := []byte{byte(n), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		one, two := bytes.Repeat([]byte{7}, n), bytes.Repeat([]byte{7}, n)
		x.xor(r, b, iv, one)
		y := ctr{block: x.block}
		y.xor(r, b, iv, two)
		if !bytes.Equal(one, two) || n > 16 && bytes.Equal(one, bytes.Repeat([]byte{7}, n)) {
			t.Fatalf("%d bytes: %x and %x", n, one, two)
		}
	}
}

func otherSA(t testing.TB, s sal.Session, alg sal.Algorithm, dir sal.Direction) (sal.SA, *sal.SAConfig) {
	key := []byte("a key that is easy to find in memory, whatever its length be now")
	shape, _ := alg.Shape()
	c := &sal.SAConfig{SPI: 256, Direction: dir, Algorithm: alg, Integrity: sal.HMACSHA2_512_256,
		Key: key[:shape.KeyBits[0]/8+shape.Salt], IntegrityKey: []byte("another key for integrity, also easy to find, of 64 bytes length")}
	if shape.AEAD {
		c.Integrity, c.IntegrityKey = 0, nil
	}
	h, err := s.AddSA(0, c)
	if err != nil {
		t.Fatal(err)
	}
	return h, c
}

// After a burst a queue's own memory holds no key, and after its deletion an SA's
// record holds nothing.
func TestNoOtherKeyLeft(t *testing.T) {
	for _, alg := range []sal.Algorithm{sal.Null, sal.AESCBC, sal.AESCTR, sal.ChaCha20Poly1305} {
		t.Run(alg.String(), func(t *testing.T) {
			s, r := open(t, New("cpu0"))
			pool, err := sal.NewPool(4)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			qq, err := s.Queue(0, pool)
			if err != nil {
				t.Fatal(err)
			}
			q := qq.(*queue)
			clean := func() []byte {
				m := bytes.Clone(q.own.mem.r.Bytes())
				// What is not a key: the counter of IVs, the last ICV.
				for _, b := range [][]byte{q.own.ivs.n, q.own.hi, q.own.macs[macSHA512].sum, q.own.ctr.block} {
					clear(m[uintptr(unsafe.Pointer(&b[0]))-q.own.mem.r.Addr():][:len(b)])
				}
				return m
			}
			h, cfg := otherSA(t, s, alg, sal.Outbound)
			rec := unsafe.Slice((*byte)(unsafe.Pointer(r.record(h))), recLen)
			inner := bytes.Clone(r.record(h).macKeys().inner[4:])
			if cfg.IntegrityKey != nil && bytes.Equal(inner, make([]byte, 64)) || bytes.Contains(rec, cfg.IntegrityKey[:min(16, len(cfg.IntegrityKey))]) && cfg.IntegrityKey != nil {
				t.Error("the states of HMAC are not in the record, or the key is")
			}
			jobs := []sal.Job{{SA: h, Op: sal.Seal, Desc: sal.MakeDesc(1, 0, 0), Off: 128, Len: 256}}
			for range 3 {
				q.Do(jobs)
			}
			if jobs[0].Status != sal.StatusOK {
				t.Fatal("status", jobs[0].Status)
			}
			after := clean()
			if len(cfg.IntegrityKey) > 0 && bytes.Contains(after, inner) {
				t.Error("the state of HMAC is left in the queue")
			}
			if len(cfg.Key) >= 16 && (bytes.Contains(after, cfg.Key[:16]) || alg == sal.AESCTR && !bytes.Equal(q.own.ctr.key, make([]byte, len(q.own.ctr.key)))) {
				t.Error("the cipher's key is left in the queue")
			}
			if err := s.DelSA(h); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(rec, make([]byte, recLen)) {
				t.Error("the record of a deleted SA is not wiped")
			}
		})
	}
}

// The same for AES-CBC with HMAC-SHA2-256 over bursts: neither the keys nor what the
// hashes begin from are left in the queue, and IVs do not repeat.
func TestNoChainKeyLeft(t *testing.T) {
	e := New("cpu0")
	if e.cbc == cbchmac.None {
		t.Skip("no kernels for this processor: TestNoOtherKeyLeft is about what it has")
	}
	s, r := open(t, e)
	pool, err := sal.NewPool(64)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	qq, err := s.Queue(0, pool)
	if err != nil {
		t.Fatal(err)
	}
	q := qq.(*queue)
	c := &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESCBC, Integrity: sal.HMACSHA2_256_128,
		Key: []byte("a key that is ea"), IntegrityKey: []byte("sy to find, another as long as a")}
	h, err := s.AddSA(0, c)
	if err != nil {
		t.Fatal(err)
	}
	rec := unsafe.Slice((*byte)(unsafe.Pointer(r.record(h))), recLen)
	if r.record(h).how != isChained || !bytes.Contains(rec, c.Key) || bytes.Contains(rec, c.IntegrityKey[:8]) {
		t.Error("the round keys are not in the record, or the key of HMAC is")
	}
	inner := bytes.Clone(rec[lineLen+16:][:32]) // as package cbchmac has it
	ivs := map[string]bool{}
	for _, n := range []int{1, 2, 7, 40} {
		jobs := make([]sal.Job, n)
		for i := range jobs {
			jobs[i] = sal.Job{SA: h, Op: sal.Seal, Desc: sal.MakeDesc(uint32(i), 0, 0), Off: 128, Len: uint16(16 * i)}
		}
		q.Do(jobs)
		for i := range jobs {
			if jobs[i].Status != sal.StatusOK {
				t.Fatal("status", jobs[i].Status)
			}
			iv := string(pool.Bytes(sal.MakeDesc(uint32(i), 128+espLen, 16)))
			if ivs[iv] {
				t.Fatal("an IV twice")
			}
			ivs[iv] = true
		}
		for _, m := range [][]byte{q.vecMem.Bytes(), q.own.mem.r.Bytes()} {
			if bytes.Contains(m, c.Key) || bytes.Contains(m, inner) || bytes.Contains(m, c.IntegrityKey[:8]) {
				t.Errorf("after a burst of %d a key is left in the queue", n)
			}
		}
	}
	if err := s.DelSA(h); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rec, make([]byte, recLen)) {
		t.Error("the record of a deleted SA is not wiped")
	}
}

// BenchmarkOther is BenchmarkDo for the other algorithms, one SA.
func BenchmarkOther(b *testing.B) {
	for _, alg := range []sal.Algorithm{sal.Null, sal.AESCBC, sal.AESCTR, sal.ChaCha20Poly1305} {
		for _, integ := range []sal.Integrity{sal.HMACSHA1_96, sal.HMACSHA2_256_128, sal.HMACSHA2_384_192, sal.HMACSHA2_512_256} {
			shape, _ := alg.Shape()
			if shape.AEAD {
				if integ != sal.HMACSHA1_96 {
					continue
				}
				integ = sal.NoIntegrity
			}
			for _, op := range []sal.Op{sal.Seal, sal.Open} {
				for _, size := range []int{64, 1424} {
					b.Run(fmt.Sprintf("%v/%v/%s/%dB", alg, integ, [...]string{"seal", "open"}[op], size), func(b *testing.B) {
						benchOther(b, alg, integ, op, size+16)
					})
				}
			}
		}
	}
}

func benchOther(b *testing.B, alg sal.Algorithm, integ sal.Integrity, op sal.Op, text int) {
	pool, err := sal.NewPool(256)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	x, _ := New("cpu0").Open("bench", false)
	defer x.Close()
	shape, _ := alg.Shape()
	c := sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: alg, Integrity: integ, Key: make([]byte, shape.KeyBits[0]/8+shape.Salt)}
	if i, ok := integ.Shape(); ok {
		c.IntegrityKey = make([]byte, i.Key)
	}
	out, err := x.AddSA(0, &c)
	if err != nil {
		b.Fatal(err)
	}
	c.Direction = sal.Inbound
	in, _ := x.AddSA(0, &c)
	q, _ := x.Queue(0, pool)
	jobs := make([]sal.Job, sal.Burst)
	fill := func(op sal.Op, h sal.SA) {
		for i := range jobs {
			jobs[i] = sal.Job{SA: h, Op: op, Desc: sal.MakeDesc(uint32(i), 0, 0), Off: 128, Len: uint16(text)}
		}
	}
	spent := newSpent()
	for b.Loop() {
		h := out
		if op == sal.Open {
			fill(sal.Seal, out)
			q.Do(jobs)
			h = in
		}
		fill(op, h)
		t := time.Now()
		q.Do(jobs)
		spent.add(time.Since(t))
		if jobs[0].Status != sal.StatusOK {
			b.Fatal("status", jobs[0].Status)
		}
	}
	spent.report(b)
}
