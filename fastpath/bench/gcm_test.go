package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"vrouter/pkg/burst"
	kernels "vrouter/pkg/gcm"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// BenchmarkGCM is AES-128-GCM alone: bursts of 256 packets with an AAD of 8 bytes in
// buffers as the fast path has them, at each level of instructions that the processor
// has, and by the standard library a packet at a time. Sizes are of the text. With
// 10000keys each packet is under a key of its own, drawn at random.
func BenchmarkGCM(b *testing.B) {
	for _, op := range []string{"seal", "open"} {
		for _, size := range []int{64, 128, 256, 512, 1024, 1420} {
			for _, keys := range []int{1, 10000} {
				name := fmt.Sprintf("%s/%dB", op, size)
				if keys > 1 {
					if size != 64 && size != 512 && size != 1420 {
						continue
					}
					name += fmt.Sprintf("-%dkeys", keys)
				}
				for _, l := range kernels.Levels() {
					b.Run(name+"/"+l.String(), func(b *testing.B) { newKernel(b, l, size, keys).measure(b, op == "open") })
				}
				b.Run(name+"/standard", func(b *testing.B) { newKernel(b, kernels.None, size, keys).measure(b, op == "open") })
			}
		}
	}
}

// kernel is bursts for a level, or for the standard library at None.
type kernel struct {
	level      kernels.Level
	size       int
	keys       []kernels.Key
	aeads      []cipher.AEAD
	nonce, aad []byte
	jobs       []kernels.Job
	texts      [sal.Burst][]byte

	pick []uint16 // keys in random order
	at   int
	// sealed is what the bursts are for Open, which may not touch a key before it
	// is measured; as many as there are picks.
	sealed [][]byte
}

func newKernel(b *testing.B, l kernels.Level, size, keys int) *kernel {
	k := &kernel{level: l, size: size, nonce: make([]byte, 12), aad: make([]byte, 8)}
	region := func(n int) []byte {
		r, err := mem.Map(n, mem.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = r.Unmap() })
		return r.Bytes()
	}
	bufs := region(sal.Burst * sal.BufSize)
	for i := range k.texts {
		const head = 14 + 20 + 8 + 8 // Ethernet, IP, ESP
		k.texts[i] = bufs[i*sal.BufSize+sal.Headroom+head:][:size+16]
	}
	// An SA's record has a line of its own before the context.
	const stride = 17 * 64
	contexts := region(keys*stride + 64)
	key := make([]byte, 16)
	for i := range keys {
		binary.BigEndian.PutUint32(key, uint32(i))
		if l == kernels.None {
			c, _ := aes.NewCipher(key)
			a, _ := cipher.NewGCM(c)
			k.aeads = append(k.aeads, a)
			continue
		}
		x, err := kernels.Expand(contexts[i*stride+64:][:stride-64], key)
		if err != nil {
			b.Fatal(err)
		}
		k.keys = append(k.keys, x)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	bursts := 1
	if keys > 1 {
		bursts = 64
	}
	for range bursts * sal.Burst {
		k.pick = append(k.pick, uint16(rng.IntN(keys)))
	}
	k.jobs = make([]kernels.Job, sal.Burst)
	return k
}

// seal is one burst, and gives its cycles. So is open.
func (k *kernel) seal() uint64 {
	if k.level == kernels.None {
		t := burst.Rdtsc()
		for i, p := range k.texts {
			k.aeads[k.pick[k.at+i]].Seal(p[:0], k.nonce, p[:k.size], k.aad)
		}
		return burst.Rdtsc() - t
	}
	k.fill()
	t := burst.Rdtsc()
	k.level.Seal(k.jobs)
	return burst.Rdtsc() - t
}

func (k *kernel) open(b *testing.B) (cycles uint64) {
	for i, p := range k.texts {
		copy(p, k.sealed[k.at/sal.Burst][i*len(p):])
	}
	bad := 0
	if k.level == kernels.None {
		t := burst.Rdtsc()
		for i, p := range k.texts {
			if _, err := k.aeads[k.pick[k.at+i]].Open(p[:0], k.nonce, p, k.aad); err != nil {
				bad++
			}
		}
		cycles = burst.Rdtsc() - t
	} else {
		k.fill()
		t := burst.Rdtsc()
		bad = k.level.Open(k.jobs)
		cycles = burst.Rdtsc() - t
	}
	if bad > 0 {
		b.Fatalf("%d packets were not opened", bad)
	}
	return cycles
}

func (k *kernel) fill() {
	for i, p := range k.texts {
		k.jobs[i] = kernels.Job{Key: k.keys[k.pick[k.at+i]], Text: uintptr(unsafe.Pointer(&p[0])), Len: uint32(k.size), AADn: 8}
	}
}

// prepare seals what open opens.
func (k *kernel) prepare() {
	for k.at = 0; k.at < len(k.pick); k.at += sal.Burst {
		k.seal()
		var all []byte
		for _, p := range k.texts {
			all = append(all, p...)
		}
		k.sealed = append(k.sealed, all)
	}
	k.at = 0
}

func (k *kernel) measure(b *testing.B, open bool) {
	if open {
		k.prepare()
	}
	(&Rig{B: b}).Measure(b, k.size, func() (c uint64, n int) {
		if open {
			c = k.open(b)
		} else {
			c = k.seal()
		}
		if k.at += sal.Burst; k.at == len(k.pick) {
			k.at = 0
		}
		return c, sal.Burst
	})
}
